//! The chain of an archive's bags: 1, 2, 3 … without a gap, each naming the one before, windows that touch, times that rise.
//!
//! A gap is told as what it is, a bag and a window that are absent; the bags behind it are then checked by themselves.

use super::Options;
use super::bag::{Checked, NO_TIME, finding};
use crate::finding::{Class, Findings, Place, utc};
use crate::reader::Archive;
use schemas::{Millis, Sha256};
use std::collections::HashMap;
use zegel_crypto::bag::Header;
use zegel_timestamp::audit::{self, Link};

/// Follows the chain over bags in the order of their sequence.
pub(super) fn follow(archive: &Archive, checked: &[Checked], options: &Options<'_>, findings: &mut Findings) {
    let mut walk = Walk { archive, findings, previous: None, last: None, serials: HashMap::new() };
    walk.beginning(checked, options);
    for bag in checked {
        walk.bag(bag);
    }
}

struct Walk<'a> {
    archive: &'a Archive,
    findings: &'a mut Findings,
    /// The bag before, with the latest time of a token so far.
    previous: Option<Link>,
    /// The number of the bag before, readable or not.
    last: Option<u64>,
    /// Units and serial numbers of tokens, with their bags.
    serials: HashMap<(Sha256, Vec<u8>), u64>,
}

impl Walk<'_> {
    /// What must come first: bag 1, or the one after what was deleted by policy.
    fn beginning(&mut self, checked: &[Checked], options: &Options<'_>) {
        let expired = self.archive.manifest.as_ref().and_then(|manifest| manifest.expired);
        let gone = expired.map_or(0, |expired| expired.sequence);
        let Some(first) = checked.first() else { return };
        if let Some(expired) = expired {
            let text = format!("bags 1 to {gone}, up to {}, were deleted by policy", utc(expired.end));
            let early = options.now.since(expired.end) < options.trust.retention_ms;
            let class = if early { Class::Missing } else { Class::Notice };
            self.findings.add(
                class,
                if early { "archive-expired-early" } else { "archive-expired" },
                Place::default(),
                text,
            );
            let header = first.header.as_ref().filter(|header| header.sequence == gone.saturating_add(1));
            if header.is_some_and(|header| header.previous != Some(expired.header) || header.start != expired.end) {
                let text = "the first bag does not go on where the deleted ones ended";
                self.findings.add(Class::Altered, "bag-link", first.place.clone(), text);
            }
        }
        if first.sequence > gone.saturating_add(1) {
            self.missing(gone + 1, first.sequence - 1, None, first.header.as_ref());
        }
    }

    fn bag(&mut self, bag: &Checked) {
        let before = self.previous.take();
        let gap = self.last.replace(bag.sequence).filter(|last| last.saturating_add(1) < bag.sequence);
        if let Some(last) = gap {
            self.missing(last + 1, bag.sequence - 1, before.as_ref().map(|before| &before.header), bag.header.as_ref());
        }
        let Some(header) = &bag.header else { return };
        if self.archive.hospital.as_ref().is_some_and(|hospital| *hospital != header.hospital) {
            self.findings.add(Class::Altered, "bag-hospital", bag.place.clone(), "the bag is another hospital's");
        }
        let follows = before.as_ref().filter(|before| before.header.sequence.checked_add(1) == Some(bag.sequence));
        let gen_time = bag.token.as_ref().map(|token| token.gen_time);
        if follows.is_some() || bag.sequence == 1 {
            let faults = audit::chain(header, gen_time, follows);
            faults.iter().for_each(|fault| self.findings.push(finding(fault, &bag.place)));
        } else if gen_time.is_some_and(|at| at < header.end || before.as_ref().is_some_and(|b| at < b.gen_time)) {
            self.findings.push(finding(&audit::Finding::GenTime, &bag.place));
        }
        self.serial(bag);
        let latest = before.map_or(NO_TIME, |before| before.gen_time).max(gen_time.unwrap_or(NO_TIME));
        // What the chain is followed by is the number that the archive keeps the bag under.
        let header = Header { sequence: bag.sequence, ..header.clone() };
        self.previous = Some(Link { header, gen_time: latest });
    }

    /// One unit gives each serial number once.
    fn serial(&mut self, bag: &Checked) {
        let Some(token) = &bag.token else { return };
        if let Some(first) = self.serials.insert((token.unit, token.serial.clone()), bag.sequence) {
            let text = format!("the token has the serial number of the token of bag {first}");
            self.findings.add(Class::Altered, "token-serial-twice", bag.place.clone(), text);
        }
    }

    fn missing(&mut self, first: u64, last: u64, before: Option<&Header>, after: Option<&Header>) {
        let which = if first == last { format!("bag {first} is") } else { format!("bags {first} to {last} are") };
        let instant = |at: Option<Millis>| at.map_or_else(|| "the enrolment".to_owned(), utc);
        let (from, to) = (before.map(|header| header.end), after.map(|header| header.start));
        let text = match to {
            Some(to) => format!("{which} absent, and with it the window from {} to {}", instant(from), utc(to)),
            None => format!("{which} absent"),
        };
        self.findings.add(Class::Missing, "bag-missing", Place::bag(first), text);
    }
}
