//! Evidence records (RFC 4998): later time stamps over earlier ones, so that evidence outlives certificates.
//!
//! A record here is one chain: the first archive time stamp is the token over the data itself, each further one is over the
//! SHA-256 of the token before it, together with others of its group in a hash tree (section 4.2), so that one token renews
//! thousands. This is *time-stamp renewal* (section 5.2); a record with several chains, which a change of the digest would
//! need (*hash-tree renewal*), with attributes or with encryption, is refused and not half understood.
//! Failure behaviour: [`RecordError`] names the rule that is broken.

use crate::hash::{Hasher, sha256};
use crate::tsa::{TokenInfo, response_of};
use const_oid::db::rfc5912::ID_SHA_256;
use der::asn1::OctetString;
use der::{Any, Decode, Encode, Sequence};
use schemas::Sha256;
use spki::AlgorithmIdentifierOwned;

/// Largest record that is read: a token of some kilobytes for each few years.
const RECORD_MAX: usize = 1 << 20;
/// Most archive time stamps in a chain.
const CHAIN_MAX: usize = 100;

/// Why bytes are no evidence record, or not one that holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Not DER of the shapes that are understood.
    #[error("evidence record cannot be read")]
    Form,
    /// Read, and it breaks a rule.
    #[error("evidence record is refused: {0}")]
    Refused(&'static str),
    /// One of its tokens does not count.
    #[error("token {index} of the evidence record does not count: {text}")]
    Token {
        /// Which, from 0.
        index: usize,
        /// Why.
        text: String,
    },
}

impl From<der::Error> for RecordError {
    fn from(_: der::Error) -> RecordError {
        RecordError::Form
    }
}

/// `EvidenceRecord` with the optional parts left out.
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
struct Record {
    version: u8,
    digest_algorithms: Vec<AlgorithmIdentifierOwned>,
    chains: Vec<Vec<ArchiveTimeStamp>>,
}

/// `ArchiveTimeStamp` without attributes.
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
struct ArchiveTimeStamp {
    #[asn1(context_specific = "2", tag_mode = "IMPLICIT", optional = "true")]
    reduced: Option<Vec<Vec<OctetString>>>,
    time_stamp: Any,
}

/// The part of a group's hash tree that leads from one leaf to the root (`reducedHashtree`).
pub type Reduced = Vec<Vec<Sha256>>;

/// A record of one chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvidenceRecord(Vec<ArchiveTimeStamp>);

/// The root over a group, and what leads to it from each of its members.
#[must_use]
pub fn tree(leaves: &[Sha256]) -> (Sha256, Vec<Reduced>) {
    let mut paths: Vec<Reduced> = vec![Vec::new(); leaves.len()];
    // Each node, with the leaves under it.
    let mut level: Vec<(Sha256, std::ops::Range<usize>)> =
        leaves.iter().enumerate().map(|(at, leaf)| (*leaf, at..at + 1)).collect();
    if let [(leaf, _)] = level.as_slice() {
        // A group of one is hashed once all the same, so that every renewal has the same form.
        return (joined(&[*leaf]), vec![vec![vec![*leaf]]]);
    }
    while level.len() > 1 {
        level = level.chunks(2).map(|pair| pair_of(pair, &mut paths)).collect();
    }
    (level.first().map_or_else(|| sha256(&[]), |(root, _)| *root), paths)
}

fn pair_of(pair: &[(Sha256, std::ops::Range<usize>)], paths: &mut [Reduced]) -> (Sha256, std::ops::Range<usize>) {
    let [(left, one), (right, other)] = pair else { return pair[0].clone() };
    for (node, sibling, under) in [(left, right, one), (right, left, other)] {
        for path in &mut paths[under.clone()] {
            // The first list holds the member itself, later ones only what is put to the hash below.
            path.push(if path.is_empty() { sorted(&[*node, *sibling]) } else { vec![*sibling] });
        }
    }
    (joined(&[*left, *right]), one.start..other.end)
}

fn sorted(hashes: &[Sha256]) -> Vec<Sha256> {
    let mut hashes = hashes.to_vec();
    hashes.sort_unstable();
    hashes
}

/// The hash over hashes in binary ascending order (section 4.2).
fn joined(hashes: &[Sha256]) -> Sha256 {
    let mut hasher = Hasher::new();
    sorted(hashes).iter().for_each(|hash| hasher.update(&hash.0));
    hasher.finish()
}

/// Where a reduced tree leads from a member; none when the member is not in it (section 4.3).
fn root(member: &Sha256, reduced: &Reduced) -> Option<Sha256> {
    let (first, rest) = reduced.split_first()?;
    let start = first.contains(member).then(|| joined(first))?;
    Some(rest.iter().fold(start, |hash, list| joined(&[list.as_slice(), &[hash]].concat())))
}

impl EvidenceRecord {
    /// A record that begins with a token over the data itself, DER.
    ///
    /// # Errors
    /// [`RecordError::Form`] when it is not DER.
    pub fn begin(token: &[u8]) -> Result<EvidenceRecord, RecordError> {
        Ok(EvidenceRecord(vec![ArchiveTimeStamp { reduced: None, time_stamp: Any::from_der(token)? }]))
    }

    /// What a renewal has to stamp: the SHA-256 of the last token.
    ///
    /// # Errors
    /// [`RecordError::Form`] when it does not encode.
    pub fn renewed_digest(&self) -> Result<Sha256, RecordError> {
        self.0.last().map_or(Err(RecordError::Form), digest)
    }

    /// The last token, DER.
    ///
    /// # Errors
    /// [`RecordError::Form`].
    pub fn last_token(&self) -> Result<Vec<u8>, RecordError> {
        Ok(self.0.last().ok_or(RecordError::Form)?.time_stamp.to_der()?)
    }

    /// Every token, DER, the first first.
    ///
    /// # Errors
    /// [`RecordError::Form`].
    pub fn tokens(&self) -> Result<Vec<Vec<u8>>, RecordError> {
        self.0.iter().map(|stamp| Ok(stamp.time_stamp.to_der()?)).collect()
    }

    /// Adds a token over the root of a tree in which [`EvidenceRecord::renewed_digest`] is a member.
    ///
    /// # Errors
    /// [`RecordError::Form`] when the token is not DER.
    pub fn renew(&mut self, reduced: &Reduced, token: &[u8]) -> Result<(), RecordError> {
        let octets = |hash: &Sha256| OctetString::new(hash.0.as_slice());
        let lists = reduced.iter().map(|list| list.iter().map(octets).collect()).collect::<Result<_, _>>()?;
        self.0.push(ArchiveTimeStamp { reduced: Some(lists), time_stamp: Any::from_der(token)? });
        Ok(())
    }

    /// How many tokens it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it holds no token, which is never so.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The DER of the record.
    ///
    /// # Errors
    /// [`RecordError::Form`].
    pub fn encode(&self) -> Result<Vec<u8>, RecordError> {
        let digest = AlgorithmIdentifierOwned { oid: ID_SHA_256, parameters: None };
        Ok(Record { version: 1, digest_algorithms: vec![digest], chains: vec![self.0.clone()] }.to_der()?)
    }

    /// Reads a record.
    ///
    /// # Errors
    /// See [`RecordError`].
    pub fn decode(der: &[u8]) -> Result<EvidenceRecord, RecordError> {
        if der.len() > RECORD_MAX {
            return Err(RecordError::Form);
        }
        let record = Record::from_der(der)?;
        let sha256_alone = matches!(record.digest_algorithms.as_slice(), [one] if one.oid == ID_SHA_256);
        if record.version != 1 || !sha256_alone {
            return Err(RecordError::Refused("it is not of version 1 over SHA-256"));
        }
        let Ok([chain]) = <[_; 1]>::try_from(record.chains) else {
            return Err(RecordError::Refused("it has not exactly one chain"));
        };
        if chain.is_empty() || chain.len() > CHAIN_MAX || chain[0].reduced.is_some() {
            return Err(RecordError::Refused("its first time stamp is not over the data itself"));
        }
        Ok(EvidenceRecord(chain))
    }

    /// Verifies every token, the first over the data with this digest, each later one over the token before it; `verify`
    /// judges a `TimeStampResp` over a digest. Times must rise.
    ///
    /// # Errors
    /// See [`RecordError`].
    pub fn verify<E: std::fmt::Display>(
        &self,
        data: &Sha256,
        mut verify: impl FnMut(&[u8], &Sha256) -> Result<TokenInfo, E>,
    ) -> Result<Vec<TokenInfo>, RecordError> {
        let mut tokens: Vec<TokenInfo> = Vec::new();
        for (index, stamp) in self.0.iter().enumerate() {
            let imprint = match (&stamp.reduced, index.checked_sub(1)) {
                (None, None) => *data,
                (Some(lists), Some(before)) => {
                    let leads = root(&digest(&self.0[before])?, &hashes(lists)?);
                    leads.ok_or(RecordError::Refused("a renewal is not over the token before it"))?
                }
                _ => return Err(RecordError::Refused("a renewal has no hash tree")),
            };
            let response = response_of(&stamp.time_stamp.to_der()?);
            let token =
                verify(&response, &imprint).map_err(|error| RecordError::Token { index, text: error.to_string() })?;
            if tokens.last().is_some_and(|before| before.gen_time > token.gen_time) {
                return Err(RecordError::Refused("a renewal is older than the token before it"));
            }
            tokens.push(token);
        }
        Ok(tokens)
    }
}

fn digest(stamp: &ArchiveTimeStamp) -> Result<Sha256, RecordError> {
    Ok(sha256(&stamp.time_stamp.to_der()?))
}

fn hashes(lists: &[Vec<OctetString>]) -> Result<Reduced, RecordError> {
    let one = |octets: &OctetString| octets.as_bytes().try_into().map(Sha256).map_err(|_| RecordError::Form);
    lists.iter().map(|list| list.iter().map(one).collect()).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use crate::tsa::{Algorithm, Authority, TrustAnchor, token_of, verify};
    use proptest::prelude::*;
    use schemas::Millis;

    /// 2025-12-01T00:00:00Z
    const BEGIN: Millis = Millis(1_764_547_200_000);
    const DAY: i64 = 86_400_000;

    fn authority() -> (tempfile::TempDir, Authority, TrustAnchor) {
        let folder = tempfile::tempdir().unwrap();
        let made = Authority::create_with(&folder.path().join("tsa"), "Zegel test", BEGIN, Algorithm::P256).unwrap();
        let anchor = TrustAnchor::from_pem(made.ca_pem()).unwrap();
        (folder, made, anchor)
    }

    fn token(authority: &Authority, imprint: &Sha256, day: i64) -> Vec<u8> {
        token_of(&authority.stamp(imprint, None, BEGIN.plus(day * DAY)).unwrap()).unwrap()
    }

    #[test]
    fn a_renewed_record_survives_its_encoding_and_holds_for_its_data_alone() {
        let (_folder, authority, anchor) = authority();
        let data: Vec<Sha256> = (0..5u8).map(|n| sha256(&[n])).collect();
        let mut records: Vec<_> =
            data.iter().map(|data| EvidenceRecord::begin(&token(&authority, data, 1)).unwrap()).collect();
        for day in [2, 3] {
            let members: Vec<Sha256> = records.iter().map(|record| record.renewed_digest().unwrap()).collect();
            let (root, paths) = tree(&members);
            let renewal = token(&authority, &root, day);
            for (record, path) in records.iter_mut().zip(&paths) {
                record.renew(path, &renewal).unwrap();
            }
        }
        let check = |record: &EvidenceRecord, data: &Sha256| {
            record.verify(data, |response, imprint| verify(response, imprint, &anchor))
        };
        for (record, data) in records.iter().zip(&data) {
            let read = EvidenceRecord::decode(&record.encode().unwrap()).unwrap();
            assert_eq!(&read, record);
            let times: Vec<i64> = check(&read, data).unwrap().iter().map(|t| t.gen_time.since(BEGIN) / DAY).collect();
            assert_eq!(times, [1, 2, 3]);
            assert!(matches!(check(&read, &sha256(b"other")), Err(RecordError::Token { index: 0, .. })));
        }
        // Another's tree, a renewal left out, and times that fall.
        let mut mixed = records[0].clone();
        mixed.0[1] = records[2].0[1].clone();
        assert_eq!(check(&mixed, &data[0]), Err(RecordError::Refused("a renewal is not over the token before it")));
        let mut short = records[0].clone();
        short.0.remove(1);
        assert!(check(&short, &data[0]).is_err());
    }

    #[test]
    fn every_flipped_bit_of_a_record_is_refused() {
        let (_folder, authority, anchor) = authority();
        let data = sha256(b"data");
        let mut record = EvidenceRecord::begin(&token(&authority, &data, 1)).unwrap();
        let (root, paths) = tree(&[record.renewed_digest().unwrap(), sha256(b"neighbour")]);
        record.renew(&paths[0], &token(&authority, &root, 2)).unwrap();
        let good = record.encode().unwrap();
        for bit in (0..good.len() * 8).step_by(61) {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let held = EvidenceRecord::decode(&bytes)
                .and_then(|record| record.verify(&data, |response, imprint| verify(response, imprint, &anchor)));
            assert!(held.is_err(), "bit {bit}");
        }
    }

    proptest! {
        #[test]
        fn every_member_of_a_group_leads_to_its_root_and_nothing_else_does(count in 1usize..70, other: [u8; 32]) {
            let leaves: Vec<Sha256> = (0..count).map(|n| sha256(&n.to_be_bytes())).collect();
            let (top, paths) = tree(&leaves);
            for (leaf, path) in leaves.iter().zip(&paths) {
                prop_assert_eq!(root(leaf, path), Some(top));
                prop_assert_eq!(root(&Sha256(other), path), None);
            }
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _record = EvidenceRecord::decode(&bytes);
        }
    }
}
