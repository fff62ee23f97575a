//! Renewed time stamps: each chain of tokens must hold, begin with the bag's own token, and go on before a certificate ended.

use super::bag::Checked;
use crate::error::ArchiveError;
use crate::finding::{Class, Findings};
use crate::reader::Archive;
use crate::record::{Bag, Leaves};
use crate::trust::Trust;
use crate::{rehash, renewal};
use schemas::Sha256;
use std::collections::HashMap;
use zegel_crypto::evidence_record::{EvidenceRecord, RecordError};
use zegel_crypto::tsa::{Digest, TokenInfo, response_of, unit_ends};

/// What of an archive was renewed and holds.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Renewed {
    /// Bags.
    pub bags: u64,
    /// Documents that were hashed anew with them, in the latest chain.
    pub documents: u64,
}

/// Checks the latest record of each bag, and the documents that were hashed anew with it. `references` are the bags' own.
pub(super) fn check(
    archive: &Archive,
    (checked, references): (&[Checked], &[Vec<u64>]),
    trust: &Trust,
    findings: &mut Findings,
) -> Result<Renewed, ArchiveError> {
    let (records, leaves) = (renewal::records(archive)?, rehash::leaves(archive)?);
    let mut held = Renewed::default();
    for (bag, references) in checked.iter().zip(references) {
        let (Some(record), Some(imprint)) = (records.get(&bag.sequence), &bag.imprint) else { continue };
        let data = |digest| data(archive, bag.sequence, imprint, digest);
        match chain(record, data, trust) {
            Ok(tokens) if tokens.first() == bag.token.as_ref() => held.bags += 1,
            Ok(_) => {
                let text = "the renewal begins with another token than the bag's";
                findings.add(Class::Altered, "renewal-other", bag.place.clone(), text);
                continue;
            }
            Err(broken) => {
                findings.add(broken.class, "renewal", bag.place.clone(), broken.rule.to_string());
                continue;
            }
        }
        let Ok(record) = EvidenceRecord::decode(record) else { continue };
        for leaves in leaves.get(&bag.sequence).into_iter().flat_map(HashMap::values) {
            held.documents += documents(&record, leaves, bag, references, findings);
        }
    }
    Ok(held)
}

/// Checks the documents of one chain; how many hold, where it is the last one.
fn documents(
    record: &EvidenceRecord,
    leaves: &Leaves,
    bag: &Checked,
    references: &[u64],
    findings: &mut Findings,
) -> u64 {
    let chains = record.chains() as u64;
    if leaves.chain >= chains {
        let text = "documents were hashed anew, and no time stamp came of it";
        findings.add(Class::Notice, "renewal-documents-unused", bag.place.clone(), text);
        return 0;
    }
    match rehash::check(record, leaves, references) {
        Ok(()) if leaves.chain + 1 == chains => leaves.documents.len() as u64,
        Ok(()) => 0,
        Err(error) => {
            findings.add(Class::Altered, "renewal-documents", bag.place.clone(), error.to_string());
            0
        }
    }
}

/// A digest of a bag's XML: the one that is known, or another from the archive's bytes; nothing where they cannot be read.
fn data(archive: &Archive, sequence: u64, imprint: &Sha256, digest: Digest) -> Vec<u8> {
    if digest == Digest::Sha256 {
        return imprint.0.to_vec();
    }
    let body = archive.bag_body(sequence).unwrap_or_default();
    Bag::decode(&body).map(|bag| digest.of(bag.xml)).unwrap_or_default()
}

/// Why a record does not hold: it contradicts what it is about, or the signer of one of its tokens does not count.
pub(crate) struct Broken {
    pub class: Class,
    pub rule: RecordError,
}

impl From<RecordError> for Broken {
    fn from(rule: RecordError) -> Broken {
        Broken { class: Class::Altered, rule }
    }
}

/// Runs a record's check with the trust file as judge of its tokens. A token that does not count ends the check, and its class
/// is that of the whole: a stolen key is no alteration.
pub(crate) fn judged<T>(
    trust: &Trust,
    check: impl FnOnce(&mut dyn FnMut(&[u8], Digest, &[u8]) -> Result<TokenInfo, String>) -> Result<T, RecordError>,
) -> Result<T, Broken> {
    let mut class = Class::Altered;
    let mut judge = |response: &[u8], digest, hash: &[u8]| {
        trust.verify_over(response, digest, hash).map_err(|fault| {
            class = fault.class;
            fault.text
        })
    };
    let checked = check(&mut judge);
    checked.map_err(|rule| Broken { class, rule })
}

/// The tokens of a record over data with these digests.
pub(crate) fn chain(record: &[u8], data: impl Fn(Digest) -> Vec<u8>, trust: &Trust) -> Result<Vec<TokenInfo>, Broken> {
    let record = EvidenceRecord::decode(record)?;
    let tokens = judged(trust, |judge| record.verify(data, judge))?;
    for (der, next) in record.tokens()?.iter().zip(tokens.iter().skip(1)) {
        let ends = unit_ends(&response_of(der)).map_err(|_| RecordError::Form)?;
        if next.gen_time > ends {
            return Err(RecordError::Refused("a renewal came after the certificate before it had ended").into());
        }
    }
    Ok(tokens)
}
