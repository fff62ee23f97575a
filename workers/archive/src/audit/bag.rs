//! One bag of an archive: its record's digest, what was stamped, the tree of digests, and the documents in it.

use super::{Options, log};
use crate::error::{ArchiveError, at};
use crate::finding::{Class, Finding, Findings, Place};
use crate::frame;
use crate::list::{Met, SALT_HINT};
use crate::reader::Archive;
use crate::record::{self, Bag};
use crate::segment::{Segment, Slot};
use crate::summary::{Builder, Summary};
use crate::trust::TokenFault;
use schemas::{Millis, Sha256};
use zegel_crypto::bag::{Form, Header};
use zegel_crypto::tsa::{TokenInfo, TsaError};
use zegel_timestamp::audit::{self, Finding as Fault, Report};
use zegel_timestamp::rows::OWN_REFERENCES;

/// A token that comes more than a window after its bag's end is late.
const LATE_MS: i64 = 300_000;

/// What the check of a bag gave.
pub(super) struct Checked {
    pub sequence: u64,
    pub place: Place,
    pub header: Option<Header>,
    pub token: Option<TokenInfo>,
    /// SHA-256 of the XML, when it could be read.
    pub imprint: Option<Sha256>,
    pub entries: u64,
    /// What the log must hold for it, where a log is trusted.
    pub log_entry: Option<Vec<u8>>,
    /// Every reference, in the order of the bag.
    pub references: Vec<u64>,
    /// References and digests of bags that the hospital made itself.
    pub own: Vec<(u64, Sha256)>,
    pub findings: Findings,
}

/// Reads a record's frame.
pub(super) fn read(archive: &Archive, segment: &Segment, slot: &Slot, into: &mut Vec<u8>) -> Result<(), ArchiveError> {
    segment.read(slot, into).map_err(at(&archive.folder.join(&segment.name)))
}

/// Whether a frame is what was written; if not, which part of it is another.
pub(super) fn check_frame(segment: &Segment, slot: &Slot, frame: &[u8], findings: &mut Findings) -> bool {
    let place = slot.place(&segment.name);
    let mut damaged = |text: &str| {
        findings.add(Class::Damaged, "record-digest", place.clone(), text);
        false
    };
    let Some((covered, stored)) = frame.split_last_chunk::<{ frame::DIGEST }>() else {
        return damaged("the record is too short");
    };
    let (Some(head), Some(body)) = (covered.get(..frame::HEAD), covered.get(frame::HEAD..)) else {
        return damaged("the record is too short");
    };
    let whole = frame::head(slot.kind, body.len()) == head && frame::digest(slot.kind, body) == slot.digest;
    match (whole, *stored == slot.digest.0) {
        (true, true) => true,
        (true, false) => damaged("the record's own digest is not what was written"),
        (false, _) => damaged("the record is not what was written"),
    }
}

/// Checks one bag.
pub(super) fn check(
    archive: &Archive,
    segment: &Segment,
    slot: &Slot,
    buffer: &mut Vec<u8>,
    options: &Options<'_>,
) -> Result<Checked, ArchiveError> {
    read(archive, segment, slot, buffer)?;
    let mut checked = Checked {
        sequence: slot.sequence,
        place: slot.place(&segment.name),
        header: None,
        token: None,
        imprint: None,
        entries: 0,
        log_entry: None,
        references: Vec::new(),
        own: Vec::new(),
        findings: Findings::default(),
    };
    let whole = check_frame(segment, slot, buffer, &mut checked.findings);
    let body = buffer.get(frame::HEAD..buffer.len().saturating_sub(frame::DIGEST)).unwrap_or_default();
    match Bag::decode(body) {
        Ok(bag) => checked.look_into(&bag, slot, whole, options),
        Err(_) if !whole => {}
        Err(_) => checked.add(Class::Damaged, "record-form", "the record cannot be read as a bag"),
    }
    Ok(checked)
}

impl Checked {
    fn add(&mut self, class: Class, name: &'static str, text: impl Into<String>) {
        self.findings.add(class, name, self.place.clone(), text);
    }

    fn look_into(&mut self, bag: &Bag<'_>, slot: &Slot, whole: bool, options: &Options<'_>) {
        let mut tree = Builder::default();
        let mut cursor = 0;
        let mut fault: Option<TokenFault> = None;
        let mut others = Vec::new();
        let verify = |imprint: &_| {
            options.trust.verify(bag.tsr, imprint).map_err(|found| {
                fault = Some(found);
                TsaError::Refused("token does not count")
            })
        };
        self.references.reserve(usize::try_from(slot.entries).unwrap_or(0).min(bag.xml.len() / 64));
        let (references, own) = (&mut self.references, &mut self.own);
        let report = audit::check_alone(bag.xml, bag.header, verify, |entry, leaf| {
            tree.push(leaf, entry.offset);
            references.push(entry.reference);
            if entry.reference >= OWN_REFERENCES {
                own.push((entry.reference, entry.hash));
            }
            let met = options.documents.map(|all| all.meet(entry.reference, &entry.hash, &mut cursor));
            others.extend(met.filter(|met| *met != Met::Same).map(|met| (entry.reference, met)));
        });
        let salted = report.header.as_ref().is_some_and(|header| header.form == Form::Salted);
        for (reference, met) in others {
            let (class, name, text) = match (salted, met) {
                (true, Met::OtherWithoutSalt) => (Class::Missing, "salt-missing", SALT_HINT),
                _ => {
                    let text = "the document is another one than the one that was stamped under this reference";
                    (Class::Altered, "document-differs", text)
                }
            };
            self.findings.add(class, name, self.place.clone().at(reference), text);
        }
        self.bag_faults(&report, fault);
        self.check_slot(bag, slot, &report);
        self.check_tree(bag, &tree.finish(), whole);
        self.check_time(bag, &report);
        self.log_entry = options.trust.log.as_ref().and_then(|_| log::entry(bag.header, bag.tsr));
        self.entries = report.entries;
        self.imprint = report.imprint;
        self.header = report.header;
        self.token = report.token;
    }

    fn bag_faults(&mut self, report: &Report, fault: Option<TokenFault>) {
        for found in &report.findings {
            match (found, &fault) {
                (Fault::Token(_), Some(fault)) => self.add(fault.class, fault.name, fault.text.clone()),
                (found, _) => self.add(Class::Altered, found.name(), sentence(found)),
            }
        }
    }

    /// Whether the bag is the one that the index means.
    fn check_slot(&mut self, bag: &Bag<'_>, slot: &Slot, report: &Report) {
        let item = report.imprint.map(|imprint| record::item(bag.sequence, bag.header, &imprint, bag.tsr));
        let header = report.header.as_ref();
        let meant = bag.sequence == slot.sequence
            && header.is_none_or(|header| header.end == slot.end && header.count == slot.entries)
            && item.is_none_or(|item| item == slot.item);
        if !meant {
            self.add(Class::Altered, "bag-index", "the index says something else about the bag");
        }
        if header.is_some_and(|header| header.sequence != slot.sequence) {
            self.add(Class::Altered, "bag-renumbered", "the bag is kept under another number than its header says");
        }
    }

    /// Compares the stored tree with the entries; where the record is damaged this says which entries are.
    fn check_tree(&mut self, bag: &Bag<'_>, tree: &Summary, whole: bool) {
        let stored = Summary::decode(bag.summary);
        if stored.as_ref() == Some(tree) {
            return;
        }
        let (class, name) = if whole { (Class::Altered, "bag-tree") } else { (Class::Damaged, "bag-entries") };
        let Some(stored) = stored else {
            return self.add(class, name, "the tree of digests over the entries cannot be read");
        };
        let difference = stored.compare(tree);
        if difference.here.is_empty() && difference.there.is_empty() {
            return self.add(class, name, "the tree of digests over the entries is another");
        }
        for group in difference.there.iter().take(16) {
            let (first, last) = (u64::from(group.first) + 1, u64::from(group.first) + u64::from(group.count));
            self.add(class, name, format!("entries {first} to {last} of the bag are not those that were written"));
        }
        if difference.there.is_empty() {
            self.add(class, name, format!("{} groups of entries that were written are gone", difference.here.len()));
        }
    }

    fn check_time(&mut self, bag: &Bag<'_>, report: &Report) {
        let (Some(header), Some(token)) = (&report.header, &report.token) else { return };
        let late = token.gen_time.since(header.end);
        if late > LATE_MS {
            let text = format!("the token came {} s after the bag's end", late / 1_000);
            self.add(Class::Notice, "token-late", text);
        }
        if let Some(nonce) = bag.request.map(zegel_crypto::tsa::request_nonce) {
            match nonce {
                Ok(nonce) if nonce == token.nonce => {}
                Ok(_) => self.add(Class::Altered, "token-nonce", "the token does not carry the nonce of the request"),
                Err(_) => self.add(Class::Altered, "request-form", "the time-stamp request cannot be read"),
            }
        }
    }
}

/// A fault of a bag, for readers.
pub(crate) fn sentence(fault: &Fault) -> String {
    match fault {
        Fault::Xml(rule) | Fault::Header(rule) | Fault::Token(rule) => rule.clone(),
        Fault::Entry0 => "the first entry is not the header's, or the header's stands elsewhere".to_owned(),
        Fault::HeaderHash => "entry 0 is not the hash of the header".to_owned(),
        Fault::Sequence => "XML and header have different sequence numbers".to_owned(),
        Fault::Count => "the bag has more or fewer entries than its header says".to_owned(),
        Fault::Root => "an entry was altered, added, left out or moved".to_owned(),
        Fault::Link => "the header does not name the bag before it".to_owned(),
        Fault::Window => "the window does not begin where the one before it ended".to_owned(),
        Fault::GenTime => "the token's time is before the bag's end, or before the token of the bag before".to_owned(),
    }
}

/// A finding for [`chain`](super::chain).
pub(super) fn finding(fault: &Fault, place: &Place) -> Finding {
    Finding { class: Class::Altered, name: fault.name(), place: place.clone(), text: sentence(fault) }
}

/// The time that stands for a token which does not verify: it constrains nothing.
pub(super) const NO_TIME: Millis = Millis(i64::MIN);
