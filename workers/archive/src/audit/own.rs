//! Bags that the hospital made itself: each by its bytes, its token, and the platform's bag that holds its hash.
//!
//! What is checked: the bytes are a `TimeStampBag` of the schema; the token is over exactly these bytes, under a certificate that
//! counted at that time; the bag that the record names holds the SHA-256 of these bytes under the reference that follows from it,
//! and was stamped after; no unit gave the token's serial number to another token. And the other way round: an archive of the
//! platform holds each bag whose hash stands in one of its own.
//! Memory: the largest record, and 40 bytes for each such hash.

use super::Options;
use super::bag::{self, Checked};
use crate::error::ArchiveError;
use crate::finding::{Class, Findings, Place};
use crate::frame;
use crate::manifest::Side;
use crate::reader::Archive;
use crate::record::{Foreign, kinds};
use base64::{Engine, engine::general_purpose::STANDARD};
use schemas::Sha256;
use std::collections::{HashMap, HashSet};
use zegel_crypto::hash::sha256;
use zegel_crypto::tsa::TokenInfo;
use zegel_timestamp::own_bag;
use zegel_timestamp::rows::own_reference;

/// What was verified.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Own {
    /// Bags whose bytes and token hold.
    pub bags: u64,
    /// Entries in them.
    pub entries: u64,
}

/// Checks every bag that the hospital made itself.
pub(super) fn check(
    archive: &Archive,
    checked: &[Checked],
    options: &Options<'_>,
    findings: &mut Findings,
) -> Result<Own, ArchiveError> {
    let serials = checked.iter().filter_map(|bag| bag.token.as_ref()).map(serial).collect();
    let holders = checked.iter().flat_map(|bag| bag.own.iter().map(move |entry| (*entry, bag))).collect();
    let (seen, own) = (HashMap::new(), Own::default());
    let mut walk = Walk { archive, checked, options, findings, serials, holders, seen, own };
    let mut buffer = Vec::new();
    for (segment, slot) in archive.records(kinds::FOREIGN) {
        bag::read(archive, segment, slot, &mut buffer)?;
        let whole = bag::check_frame(segment, slot, &buffer, walk.findings);
        let place = slot.place(&segment.name);
        let body = buffer.get(frame::HEAD..buffer.len().saturating_sub(frame::DIGEST)).unwrap_or_default();
        match Foreign::decode(body) {
            Ok(foreign) => walk.bag(&foreign, &place),
            Err(_) if !whole => {}
            Err(_) => {
                let text = "the record cannot be read as a bag of the hospital's own";
                walk.findings.add(Class::Damaged, "record-form", place, text);
            }
        }
        (options.progress)(slot.length);
    }
    walk.absent();
    Ok(walk.own)
}

fn serial(token: &TokenInfo) -> (Sha256, Vec<u8>) {
    (token.unit, token.serial.clone())
}

struct Walk<'a> {
    archive: &'a Archive,
    checked: &'a [Checked],
    options: &'a Options<'a>,
    findings: &'a mut Findings,
    serials: HashSet<(Sha256, Vec<u8>)>,
    /// The platform's bag that holds a hospital's bag, by reference and hash of its entry.
    holders: HashMap<(u64, Sha256), &'a Checked>,
    /// The token of each bag that was met, by the digest of the bag's bytes.
    seen: HashMap<Sha256, Sha256>,
    own: Own,
}

impl Walk<'_> {
    fn bag(&mut self, foreign: &Foreign<'_>, place: &Place) {
        let (digest, response) = (sha256(foreign.bytes), sha256(foreign.tsr));
        match self.seen.insert(digest, response) {
            // Archived twice, as after a crash: nothing new.
            Some(before) if before == response => return,
            Some(_) => {
                let text = "the archive holds the hospital's bag twice, with different tokens";
                self.findings.add(Class::Altered, "own-bag-twice", place.clone(), text);
            }
            None => {}
        }
        let (mut others, documents) = (0_u64, self.options.documents);
        let shape = own_bag::check_with(foreign.bytes, |reference, hash| {
            let hash: Option<[u8; 32]> = STANDARD.decode(hash).ok().and_then(|bytes| bytes.try_into().ok());
            match (hash, documents) {
                (None, _) => others += 1,
                (Some(hash), Some(documents)) => documents.meet_own(reference, &Sha256(hash)),
                _ => {}
            }
        });
        if let Err(rule) = &shape {
            self.findings.add(Class::Altered, "own-bag-xml", place.clone(), rule.to_string());
        }
        if others > 0 {
            let text = format!("{others} hashes of the hospital's bag are no SHA-256: they bind no document");
            self.findings.add(Class::Notice, "own-bag-hashes", place.clone(), text);
        }
        match self.options.trust.verify(foreign.tsr, &digest) {
            Ok(token) => {
                self.held(foreign.held_by, &digest, &token, place);
                if !self.serials.insert(serial(&token)) {
                    let text = "the token has the serial number of another token";
                    self.findings.add(Class::Altered, "token-serial-twice", place.clone(), text);
                }
                if let Ok(shape) = shape {
                    self.own.bags += 1;
                    self.own.entries += shape.entries;
                }
            }
            Err(fault) => {
                let name = if fault.class == Class::Altered { "own-bag-token" } else { fault.name };
                self.findings.add(fault.class, name, place.clone(), fault.text);
            }
        }
    }

    /// Whether the bag that is named holds the hash, and was stamped after.
    fn held(&mut self, held_by: u64, digest: &Sha256, token: &TokenInfo, place: &Place) {
        let place = place.clone().of_bag(held_by);
        let named = self.checked.binary_search_by_key(&held_by, |bag| bag.sequence).is_ok();
        match self.holders.get(&(own_reference(digest), *digest)) {
            Some(bag) if bag.sequence == held_by => {
                if bag.token.as_ref().is_some_and(|holder| holder.gen_time < token.gen_time) {
                    let text = "the token of the hospital's bag is later than the platform's bag that holds its hash";
                    self.findings.add(Class::Altered, "own-bag-time", place, text);
                }
            }
            None if !named => {
                // A bag that is absent is told of by the chain; one that a policy deleted was checked while it was there.
                let text = "the platform's bag that holds the hash of the hospital's bag is not in the archive";
                self.findings.add(Class::Notice, "own-bag-not-held", place, text);
            }
            _ => {
                let text = "another bag, or none, holds the hash of the hospital's bag than its record says";
                self.findings.add(Class::Altered, "own-bag-held", place, text);
            }
        }
    }

    /// Bags whose hashes stand in the platform's, and which its archive does not hold.
    fn absent(&mut self) {
        if self.archive.side() != Some(Side::Platform) {
            return;
        }
        for bag in self.checked {
            for (reference, _) in bag.own.iter().filter(|(_, digest)| !self.seen.contains_key(digest)) {
                let text = "the bag that the hospital made itself, whose hash stands here, is not in the archive";
                self.findings.add(Class::Missing, "own-bag-missing", bag.place.clone().at(*reference), text);
            }
        }
    }
}
