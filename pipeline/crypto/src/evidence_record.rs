//! Evidence records (RFC 4998): later time stamps over earlier ones, so that evidence outlives certificates and digests.
//!
//! A record is a sequence of chains. In a chain, each archive time stamp is over the digest of the token before it, together with
//! others of its group in a hash tree (section 4.2), so that one token renews thousands: *time-stamp renewal* (section 5.2),
//! before a certificate ends. The first time stamp of the first chain is the token over the data itself. Before a digest
//! weakens, *hash-tree renewal* (section 5.3) begins the next chain, in another digest, over `H(H(data) ‖ H(all chains before))`.
//! All of a chain is in one digest, that of its tokens' imprints. From its second chain on a record may be about a group of data
//! objects (section 4.2), such as a document and its salt, whose first chain bound them in another way. Records with
//! attributes or with encryption are refused and not half understood.
//! Failure behaviour: [`RecordError`] names the rule that is broken.

mod tree;

#[cfg(test)]
mod tests;

use crate::tsa::{Digest, TokenInfo, imprint_digest, response_of};
use der::asn1::OctetString;
use der::{Any, Decode, Encode, Sequence};
use spki::AlgorithmIdentifierOwned;
pub use tree::{Reduced, above, climb, node, tree};
use tree::{joins, root};

/// Largest record that is read: a token of some kilobytes for each few years.
const RECORD_MAX: usize = 1 << 20;
/// Most archive time stamps in a record.
const STAMPS_MAX: usize = 100;

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

/// Time stamps in one digest.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Chain {
    digest: Digest,
    stamps: Vec<ArchiveTimeStamp>,
}

/// A record of at least one chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvidenceRecord(Vec<Chain>);

impl EvidenceRecord {
    /// A record that begins with a token over the data itself, DER.
    ///
    /// # Errors
    /// [`RecordError::Form`] when it is not DER of a token.
    pub fn begin(token: &[u8]) -> Result<EvidenceRecord, RecordError> {
        let stamp = ArchiveTimeStamp { reduced: None, time_stamp: Any::from_der(token)? };
        Ok(EvidenceRecord(vec![Chain { digest: digest_of(&stamp)?, stamps: vec![stamp] }]))
    }

    /// The digest of the last chain, in which time stamps are renewed.
    ///
    /// # Errors
    /// [`RecordError::Form`].
    pub fn digest(&self) -> Result<Digest, RecordError> {
        self.0.last().map(|chain| chain.digest).ok_or(RecordError::Form)
    }

    /// What a time-stamp renewal has to stamp: the digest of the last token.
    ///
    /// # Errors
    /// [`RecordError::Form`] when it does not encode.
    pub fn renewed_digest(&self) -> Result<Vec<u8>, RecordError> {
        let chain = self.0.last().ok_or(RecordError::Form)?;
        let last = chain.stamps.last().ok_or(RecordError::Form)?;
        Ok(chain.digest.of(&last.time_stamp.to_der()?))
    }

    /// What a hash-tree renewal has to stamp; `data` is the digest of the data in the new algorithm.
    ///
    /// # Errors
    /// [`RecordError::Form`] when it does not encode.
    pub fn rehashed(&self, digest: Digest, data: &[u8]) -> Result<Vec<u8>, RecordError> {
        rehashed(digest, data, &self.0)
    }

    /// The digest of all chains so far, `H(ArchiveTimeStampSequence)` of section 5.3: [`EvidenceRecord::rehashed`] of much data is
    /// `digest.of(data ‖ this)`.
    ///
    /// # Errors
    /// [`RecordError::Form`] when it does not encode.
    pub fn chains_digest(&self, digest: Digest) -> Result<Vec<u8>, RecordError> {
        chains_digest(digest, &self.0)
    }

    /// The last token, DER.
    ///
    /// # Errors
    /// [`RecordError::Form`].
    pub fn last_token(&self) -> Result<Vec<u8>, RecordError> {
        Ok(self.stamps().last().ok_or(RecordError::Form)?.time_stamp.to_der()?)
    }

    /// Every token, DER, the first first.
    ///
    /// # Errors
    /// [`RecordError::Form`].
    pub fn tokens(&self) -> Result<Vec<Vec<u8>>, RecordError> {
        self.stamps().map(|stamp| Ok(stamp.time_stamp.to_der()?)).collect()
    }

    fn stamps(&self) -> impl Iterator<Item = &ArchiveTimeStamp> {
        self.0.iter().flat_map(|chain| &chain.stamps)
    }

    /// Adds a token over the root of a tree in which [`EvidenceRecord::renewed_digest`] is a member.
    ///
    /// # Errors
    /// [`RecordError::Form`] when the token is not DER; [`RecordError::Refused`] when it is over another digest.
    pub fn renew(&mut self, reduced: &Reduced, token: &[u8]) -> Result<(), RecordError> {
        let stamp = archive_time_stamp(reduced, token)?;
        let chain = self.0.last_mut().ok_or(RecordError::Form)?;
        if digest_of(&stamp)? != chain.digest {
            return Err(RecordError::Refused("a time stamp is over another digest than its chain"));
        }
        chain.stamps.push(stamp);
        Ok(())
    }

    /// Begins a chain with a token over the root of a tree in which [`EvidenceRecord::rehashed`] is a member.
    ///
    /// # Errors
    /// [`RecordError::Form`] when the token is not DER.
    pub fn begin_chain(&mut self, reduced: &Reduced, token: &[u8]) -> Result<(), RecordError> {
        let stamp = archive_time_stamp(reduced, token)?;
        self.0.push(Chain { digest: digest_of(&stamp)?, stamps: vec![stamp] });
        Ok(())
    }

    /// How many tokens it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.stamps().count()
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
        Ok(Record { version: 1, digest_algorithms: self.algorithms(), chains: plain(&self.0) }.to_der()?)
    }

    /// Each digest once, in the order of its first chain.
    fn algorithms(&self) -> Vec<AlgorithmIdentifierOwned> {
        let mut used: Vec<Digest> = Vec::new();
        for chain in &self.0 {
            if !used.contains(&chain.digest) {
                used.push(chain.digest);
            }
        }
        used.into_iter().map(Digest::identifier).collect()
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
        let stamps: usize = record.chains.iter().map(Vec::len).sum();
        if record.chains.iter().any(Vec::is_empty) || stamps == 0 || stamps > STAMPS_MAX {
            return Err(RecordError::Refused("it has a chain without time stamps, or too many of them"));
        }
        let begins = record.chains.first().and_then(|chain| chain.first());
        if begins.is_none_or(|first| first.reduced.is_some()) {
            return Err(RecordError::Refused("its first time stamp is not over the data itself"));
        }
        let chain = |stamps: Vec<ArchiveTimeStamp>| {
            let digest = stamps.first().ok_or(RecordError::Form).and_then(digest_of)?;
            Ok::<_, RecordError>(Chain { digest, stamps })
        };
        let chains = record.chains.into_iter().map(chain).collect::<Result<_, _>>()?;
        let read = EvidenceRecord(chains);
        if record.version != 1 || record.digest_algorithms != read.algorithms() {
            return Err(RecordError::Refused("it is not of version 1, or names other digests than it uses"));
        }
        Ok(read)
    }

    /// Verifies every token: the first over the data, each later one of a chain over the token before it, the first of a later
    /// chain over the data and all chains before it. `data` gives the data's digest; `verify` judges a `TimeStampResp` over a
    /// digest. Times must rise.
    ///
    /// # Errors
    /// See [`RecordError`].
    pub fn verify<E: std::fmt::Display>(
        &self,
        data: impl Fn(Digest) -> Vec<u8>,
        verify: impl FnMut(&[u8], Digest, &[u8]) -> Result<TokenInfo, E>,
    ) -> Result<Vec<TokenInfo>, RecordError> {
        self.verify_group(&data, |digest| vec![data(digest)], verify)
    }

    /// The same for data objects that stand in the record from its second chain on; `data` is what the first token is over.
    ///
    /// # Errors
    /// See [`RecordError`].
    pub fn verify_group<E: std::fmt::Display>(
        &self,
        data: impl Fn(Digest) -> Vec<u8>,
        later: impl Fn(Digest) -> Vec<Vec<u8>>,
        mut verify: impl FnMut(&[u8], Digest, &[u8]) -> Result<TokenInfo, E>,
    ) -> Result<Vec<TokenInfo>, RecordError> {
        let mut tokens: Vec<TokenInfo> = Vec::new();
        for (at, chain) in self.0.iter().enumerate() {
            for (within, stamp) in chain.stamps.iter().enumerate() {
                let imprint = match (at, within) {
                    (0, 0) => data(chain.digest),
                    _ => self.imprint((at, within), stamp, &later)?,
                };
                let response = response_of(&stamp.time_stamp.to_der()?);
                let failed = |error: E| RecordError::Token { index: tokens.len(), text: error.to_string() };
                let token = verify(&response, chain.digest, &imprint).map_err(failed)?;
                if tokens.last().is_some_and(|before| before.gen_time > token.gen_time) {
                    return Err(RecordError::Refused("a renewal is older than the token before it"));
                }
                tokens.push(token);
            }
        }
        Ok(tokens)
    }

    /// What a token that renews must be over: the root that its hash tree leads to.
    fn imprint(
        &self,
        (at, within): (usize, usize),
        stamp: &ArchiveTimeStamp,
        data: &impl Fn(Digest) -> Vec<Vec<u8>>,
    ) -> Result<Vec<u8>, RecordError> {
        let chain = &self.0[at];
        let members = match within.checked_sub(1) {
            Some(before) => vec![chain.digest.of(&chain.stamps[before].time_stamp.to_der()?)],
            None => {
                let rehashed = |one: &Vec<u8>| rehashed(chain.digest, one, &self.0[..at]);
                data(chain.digest).iter().map(rehashed).collect::<Result<_, _>>()?
            }
        };
        let lists = stamp.reduced.as_ref().ok_or(RecordError::Refused("a renewal has no hash tree"))?;
        let reduced = hashes(lists);
        let root = root(chain.digest, &reduced).filter(|_| joins(&members, &reduced));
        root.ok_or(RecordError::Refused("a renewal is not over what it renews"))
    }

    /// How many chains it has.
    #[must_use]
    pub fn chains(&self) -> usize {
        self.0.len()
    }

    /// The digest of a chain, counted from 0, and what leads to its first token; none where there is no such chain.
    #[must_use]
    pub fn path(&self, chain: usize) -> Option<(Digest, Reduced)> {
        let chain = self.0.get(chain)?;
        let lists = chain.stamps.first().and_then(|stamp| stamp.reduced.as_deref());
        Some((chain.digest, hashes(lists.unwrap_or_default())))
    }

    /// Its first chains alone, at least one.
    #[must_use]
    pub fn until(&self, chains: usize) -> EvidenceRecord {
        EvidenceRecord(self.0.iter().take(chains.max(1)).cloned().collect())
    }

    /// The chain of another record after those of this one, its first token reached by another path: the record of something
    /// else in the same hash tree.
    ///
    /// # Errors
    /// [`RecordError::Form`] when the other record has no such chain, or a hash cannot be encoded.
    pub fn follow(&mut self, other: &EvidenceRecord, chain: usize, reduced: &Reduced) -> Result<(), RecordError> {
        let mut chain = other.0.get(chain).cloned().ok_or(RecordError::Form)?;
        let first = chain.stamps.first_mut().ok_or(RecordError::Form)?;
        first.reduced = Some(octets(reduced)?);
        self.0.push(chain);
        Ok(())
    }
}

/// `H(H(data) ‖ H(ArchiveTimeStampSequence))` of section 5.3.
fn rehashed(digest: Digest, data: &[u8], chains: &[Chain]) -> Result<Vec<u8>, RecordError> {
    Ok(digest.of(&[data, chains_digest(digest, chains)?.as_slice()].concat()))
}

fn chains_digest(digest: Digest, chains: &[Chain]) -> Result<Vec<u8>, RecordError> {
    Ok(digest.of(&plain(chains).to_der()?))
}

/// The chains as they are encoded.
fn plain(chains: &[Chain]) -> Vec<Vec<ArchiveTimeStamp>> {
    chains.iter().map(|chain| chain.stamps.clone()).collect()
}

fn archive_time_stamp(reduced: &Reduced, token: &[u8]) -> Result<ArchiveTimeStamp, RecordError> {
    Ok(ArchiveTimeStamp { reduced: Some(octets(reduced)?), time_stamp: Any::from_der(token)? })
}

fn octets(reduced: &Reduced) -> Result<Vec<Vec<OctetString>>, RecordError> {
    let octets = |hash: &Vec<u8>| OctetString::new(hash.as_slice());
    Ok(reduced.iter().map(|list| list.iter().map(octets).collect()).collect::<Result<_, _>>()?)
}

/// The digest that a token is over.
fn digest_of(stamp: &ArchiveTimeStamp) -> Result<Digest, RecordError> {
    imprint_digest(&response_of(&stamp.time_stamp.to_der()?)).map_err(|_| RecordError::Form)
}

fn hashes(lists: &[Vec<OctetString>]) -> Reduced {
    lists.iter().map(|list| list.iter().map(|octets| octets.as_bytes().to_vec()).collect()).collect()
}
