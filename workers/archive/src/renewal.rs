//! Renews the time stamps of an archive before their certificates end (RFC 4998 section 5.2); see [`crate::rehash`] for what is
//! done before a digest weakens.
//!
//! Bags whose last token's certificate ends soon ([`due`]) are put into groups; one new token over a group's hash tree renews all
//! of them, and each bag gets its evidence record as a further record of the archive. What was there stays as it was.
//! Crash safety: a group is stamped, appended and synced; what a crash interrupts is due again at the next run, so this may be
//! started by cron as often as one likes.

use crate::error::{ArchiveError, at};
use crate::reader::Archive;
use crate::record::{self, Bag, kinds};
use crate::writer::Writer;
use schemas::Millis;
use std::collections::HashMap;
use zegel_crypto::evidence_record::{EvidenceRecord, tree};
use zegel_crypto::tsa::{Digest, response_of, token_of, unit_ends};

/// Bags that one token renews: the path to the root then has ten hashes.
pub const GROUP: usize = 1_000;

/// A bag whose evidence should be renewed.
#[derive(Debug, Clone)]
pub struct Due {
    /// Which bag.
    pub sequence: u64,
    /// When the certificate of its last token ends.
    pub ends: Millis,
    pub(crate) record: EvidenceRecord,
}

/// The latest evidence record of each bag that has one.
///
/// # Errors
/// When a file cannot be read.
pub fn records(archive: &Archive) -> Result<HashMap<u64, Vec<u8>>, ArchiveError> {
    let mut found = HashMap::new();
    for (segment, slot) in archive.records(kinds::RENEWAL) {
        let body = segment.body(slot).map_err(at(&archive.folder.join(&segment.name)))?;
        found.extend(record::Renewal::decode(&body).map(|one| (one.sequence, one.record.to_vec())).ok());
    }
    Ok(found)
}

/// The bags whose last token's certificate ends before this instant.
///
/// # Errors
/// When a file, a bag or its evidence record cannot be read.
pub fn due(archive: &Archive, before: Millis) -> Result<Vec<Due>, ArchiveError> {
    select(archive, |due| due.ends < before)
}

/// The bags, with their latest evidence records, that are wanted.
pub(crate) fn select(archive: &Archive, wanted: impl Fn(&Due) -> bool) -> Result<Vec<Due>, ArchiveError> {
    let renewed = records(archive)?;
    let mut found = Vec::new();
    for sequence in archive.bags().map(|(_, slot)| slot.sequence) {
        let unreadable =
            |what: &str| ArchiveError::input(format!("bag {sequence}"), format!("its {what} cannot be read"));
        let record = match renewed.get(&sequence) {
            Some(record) => EvidenceRecord::decode(record).map_err(|_| unreadable("evidence record"))?,
            None => {
                let body = archive.bag_body(sequence)?;
                let bag = Bag::decode(&body).map_err(|_| unreadable("record"))?;
                let token = token_of(bag.tsr).map_err(|_| unreadable("token"))?;
                EvidenceRecord::begin(&token).map_err(|_| unreadable("token"))?
            }
        };
        let last = record.last_token().map_err(|_| unreadable("token"))?;
        let ends = unit_ends(&response_of(&last)).map_err(|_| unreadable("token's certificate"))?;
        found.extend(Some(Due { sequence, ends, record }).filter(|due| wanted(due)));
    }
    Ok(found)
}

/// Renews bags, a group at a time; how many. `stamp` gives a verified `TimeStampResp` over a hash of that kind.
///
/// # Errors
/// What `stamp` says, and [`ArchiveError::Io`]; groups before it are renewed and durable.
pub fn renew(
    due: Vec<Due>,
    writer: &mut Writer,
    mut stamp: impl FnMut(Digest, &[u8]) -> Result<Vec<u8>, ArchiveError>,
) -> Result<u64, ArchiveError> {
    let mut renewed = 0;
    for digest in Digest::ALL {
        let of_digest: Vec<&Due> = due.iter().filter(|due| due.record.digest() == Ok(digest)).collect();
        for group in of_digest.chunks(GROUP) {
            let members = group.iter().map(|due| due.record.renewed_digest()).collect::<Result<Vec<_>, _>>();
            let (root, paths) = tree(digest, &members.map_err(failed)?);
            let token = token_of(&stamp(digest, &root)?).map_err(failed)?;
            for (due, path) in group.iter().zip(&paths) {
                let mut record = due.record.clone();
                record.renew(path, &token).map_err(failed)?;
                writer.append_renewal(due.sequence, &record.encode().map_err(failed)?)?;
                renewed += 1;
            }
            writer.sync()?;
        }
    }
    Ok(renewed)
}

pub(crate) fn failed(error: impl std::fmt::Display) -> ArchiveError {
    ArchiveError::input("renewal", error.to_string())
}
