//! Compares two archives of one hospital and says of each difference what it is.
//!
//! Segments are compared by their content digests, bags of segments that differ by their items, entries of bags that differ
//! by their trees of digests ([`crate::summary`]), and only groups that differ are read. With `d` differences among `n`
//! entries this reads one line a segment, the indexes of segments that differ, the trees of bags that differ and about
//! `64 · d` entries; [`Compared`] says how much it was.
//! It believes both archives' indexes: the audit of each archive is what checks them.

use crate::error::{ArchiveError, at};
use crate::finding::{Class, Findings, Place, utc};
use crate::frame;
use crate::reader::Archive;
use crate::record::kinds;
use crate::segment::{self, Segment, Slot};
use crate::summary::{Node, Summary};
use schemas::{Millis, Sha256};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use zegel_crypto::bag::Header;
use zegel_crypto::tsa::gen_time;
use zegel_timestamp::xml::{Entry, read_bag_bytes, read_entries};

/// A token that comes more than a window after its bag's end is late.
const LATE_MS: i64 = 300_000;

/// What the comparison cost, and what it found in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Compared {
    /// Digests that were compared: of segments, bags and groups of entries.
    pub digests: u64,
    /// Bytes of records that were read, on both sides together.
    pub bytes: u64,
    /// Bags that differ or are on one side only.
    pub bags: u64,
}

/// Which bags an audit found faults in.
pub type Faulty = BTreeSet<u64>;

/// The bags of which an audit says that they contradict what was stamped.
#[must_use]
pub fn faulty(findings: &Findings) -> Faulty {
    let classes = [Class::Altered, Class::Damaged, Class::Untrusted];
    let faults = findings.list().iter().filter(|finding| classes.contains(&finding.class));
    faults.filter_map(|finding| finding.place.bag).collect()
}

/// Compares two archives; differences go to `findings`. What the audits of each found tells whose word to doubt.
///
/// # Errors
/// When a file cannot be read.
pub fn archives(
    here: (&Archive, &Faulty),
    there: (&Archive, &Faulty),
    findings: &mut Findings,
) -> Result<Compared, ArchiveError> {
    let mut comparison = Comparison { here, there, names: names(here.0, there.0), findings, cost: Compared::default() };
    if here.0.hospital != there.0.hospital {
        let text = "the two archives are of different hospitals: nothing was compared";
        comparison.findings.add(Class::Differs, "other-hospital", Place::default(), text);
        return Ok(comparison.cost);
    }
    comparison.run()?;
    Ok(comparison.cost)
}

/// What the two archives are called in sentences.
fn names(here: &Archive, there: &Archive) -> [&'static str; 2] {
    use crate::manifest::Side::{Hospital, Platform};
    match (here.side(), there.side()) {
        (Some(Platform), Some(Hospital)) => ["the platform's archive", "the hospital's archive"],
        (Some(Hospital), Some(Platform)) => ["the hospital's archive", "the platform's archive"],
        _ => ["the first archive", "the second archive"],
    }
}

struct Comparison<'a> {
    here: (&'a Archive, &'a Faulty),
    there: (&'a Archive, &'a Faulty),
    names: [&'static str; 2],
    findings: &'a mut Findings,
    cost: Compared,
}

type Bags<'a> = BTreeMap<u64, (&'a Segment, &'a Slot)>;

impl Comparison<'_> {
    fn run(&mut self) -> Result<(), ArchiveError> {
        let (here, there) = (self.here.0, self.there.0);
        let common = common_segments(here, there);
        self.cost.digests += (here.segments.len() + there.segments.len()) as u64;
        let (ours, theirs) = (rest(here, &common), rest(there, &common));
        self.cost.digests += (ours.len() + theirs.len()) as u64;
        let all: BTreeSet<u64> = ours.keys().chain(theirs.keys()).copied().collect();
        for sequence in &all {
            match (ours.get(sequence), theirs.get(sequence)) {
                (Some(a), Some(b)) if a.1.item == b.1.item => {}
                (Some(a), Some(b)) => self.bag(*a, *b)?,
                (Some(a), None) => self.alone(*sequence, a.1.end, "missing-there", [0, 1]),
                (None, Some(b)) => self.alone(*sequence, b.1.end, "missing-here", [1, 0]),
                (None, None) => {}
            }
        }
        self.absent();
        Ok(())
    }

    fn alone(&mut self, sequence: u64, end: Millis, name: &'static str, [has, lacks]: [usize; 2]) {
        self.cost.bags += 1;
        let text = format!(
            "{} holds the bag whose window ended at {}; {} does not",
            self.names[has],
            utc(end),
            self.names[lacks]
        );
        self.findings.add(Class::Differs, name, Place::bag(sequence), text);
    }

    /// Windows that neither archive has a bag for.
    fn absent(&mut self) {
        let numbers = |archive: &Archive| archive.bags().map(|(_, slot)| slot.sequence).collect::<BTreeSet<_>>();
        let all: BTreeSet<u64> = &numbers(self.here.0) | &numbers(self.there.0);
        for (before, after) in all.iter().zip(all.iter().skip(1)).filter(|(before, after)| **before + 1 < **after) {
            let text = format!("neither archive has bags {} to {}: their windows are absent", before + 1, after - 1);
            self.findings.add(Class::Differs, "window-absent", Place::bag(before + 1), text);
        }
    }

    /// Two bags under one number that are not the same.
    fn bag(&mut self, here: (&Segment, &Slot), there: (&Segment, &Slot)) -> Result<(), ArchiveError> {
        self.cost.bags += 1;
        let sequence = here.1.sequence;
        let (a, b) = (Parts::read(self.here.0, here)?, Parts::read(self.there.0, there)?);
        self.cost.bytes += a.read + b.read;
        let (Some(a), Some(b)) = (a.found, b.found) else {
            let text = "the bag cannot be read on both sides, so it was not compared";
            self.findings.add(Class::Differs, "bag-unreadable", Place::bag(sequence), text);
            return Ok(());
        };
        let before = self.findings.total();
        if a.header != b.header {
            self.headers(sequence, &a.header, &b.header);
        }
        self.entries(sequence, &a, &b)?;
        if a.tsr != b.tsr {
            self.tokens(sequence, &a, &b);
        }
        if self.findings.total() == before {
            let text = format!("the bag's bytes differ, its entries and token do not{}", self.doubt(sequence));
            self.findings.add(Class::Differs, "bag-bytes-differ", Place::bag(sequence), text);
        }
        Ok(())
    }

    /// Whose version of a bag contradicts itself, as a part of a sentence.
    fn doubt(&self, sequence: u64) -> String {
        match (self.here.1.contains(&sequence), self.there.1.contains(&sequence)) {
            (true, false) => format!("; {} contradicts itself", self.names[0]),
            (false, true) => format!("; {} contradicts itself", self.names[1]),
            (true, true) => "; both contradict themselves".to_owned(),
            (false, false) => String::new(),
        }
    }

    fn headers(&mut self, sequence: u64, a: &[u8], b: &[u8]) {
        let both_hold = !self.here.1.contains(&sequence) && !self.there.1.contains(&sequence);
        let chained = [a, b].map(|bytes| Header::decode(bytes).ok());
        let same_window = matches!(&chained, [Some(a), Some(b)] if (a.start, a.end) == (b.start, b.end));
        if both_hold {
            let text = format!(
                "two bags with this number were bound and stamped{}: somebody was shown another history",
                if same_window { " for the same window" } else { "" }
            );
            self.findings.add(Class::Altered, "two-views", Place::bag(sequence), text);
        } else {
            let text = format!("the headers differ{}", self.doubt(sequence));
            self.findings.add(Class::Differs, "header-differs", Place::bag(sequence), text);
        }
    }

    fn tokens(&mut self, sequence: u64, a: &Found, b: &Found) {
        let end = Header::decode(&a.header).map_or(Millis(i64::MAX), |header| header.end);
        let (one, other) = (gen_time(&a.tsr).ok(), gen_time(&b.tsr).ok());
        let late = [one, other].into_iter().flatten().any(|at| at.since(end) > LATE_MS);
        let at = |time: Option<Millis>| time.map_or_else(|| "at an unreadable time".to_owned(), utc);
        let text = format!(
            "{} has a token of {}, {} one of {}{}",
            self.names[0],
            at(one),
            self.names[1],
            at(other),
            self.doubt(sequence)
        );
        let name = if late { "late-token" } else { "token-differs" };
        self.findings.add(Class::Differs, name, Place::bag(sequence), text);
    }

    fn entries(&mut self, sequence: u64, a: &Found, b: &Found) -> Result<(), ArchiveError> {
        let difference = a.tree.compare(&b.tree);
        self.cost.digests += difference.visited;
        let (ours, mine) = a.entries(&difference.here)?;
        let (theirs, other) = b.entries(&difference.there)?;
        self.cost.bytes += mine + other;
        let place = |reference: u64| Place::bag(sequence).at(reference);
        let doubt = self.doubt(sequence);
        let hashes = |all: &[Entry]| all.iter().map(|entry| (entry.reference, entry.hash)).collect::<HashMap<_, _>>();
        let (left, right) = (hashes(&ours), hashes(&theirs));
        let [first, second] = self.names;
        for entry in &ours {
            match right.get(&entry.reference) {
                Some(hash) if *hash == entry.hash => {}
                Some(_) => {
                    let text = format!("the hashes under this reference differ{doubt}");
                    self.findings.add(Class::Differs, "entry-differs", place(entry.reference), text);
                }
                None => {
                    let text = format!("{first} has the entry, {second} does not{doubt}");
                    self.findings.add(Class::Differs, "entry-missing-there", place(entry.reference), text);
                }
            }
        }
        for entry in theirs.iter().filter(|entry| !left.contains_key(&entry.reference)) {
            let text = format!("{second} has the entry, {first} does not{doubt}");
            self.findings.add(Class::Differs, "entry-missing-here", place(entry.reference), text);
        }
        let kept = |all: &[Entry], other: &HashMap<u64, Sha256>| -> Vec<u64> {
            all.iter().map(|entry| entry.reference).filter(|reference| other.contains_key(reference)).collect()
        };
        if difference.reordered || kept(&ours, &right) != kept(&theirs, &left) {
            let text = format!("the same entries stand in another order{doubt}");
            self.findings.add(Class::Differs, "order-differs", Place::bag(sequence), text);
        }
        Ok(())
    }
}

/// Content digests of segments that both have.
fn common_segments(here: &Archive, there: &Archive) -> HashSet<Sha256> {
    let contents = |archive: &Archive| -> HashSet<Sha256> {
        archive.segments.iter().map(|segment| segment::content(&segment.slots)).collect()
    };
    contents(here).intersection(&contents(there)).copied().collect()
}

fn rest<'a>(archive: &'a Archive, common: &HashSet<Sha256>) -> Bags<'a> {
    let differing = archive.segments.iter().filter(|segment| !common.contains(&segment::content(&segment.slots)));
    differing
        .flat_map(|segment| segment.slots.iter().map(move |slot| (segment, slot)))
        .filter(|(_, slot)| slot.kind == kinds::BAG)
        .map(|(segment, slot)| (slot.sequence, (segment, slot)))
        .collect()
}

/// What is read of a bag's record: everything but the XML.
struct Parts<'a> {
    found: Option<Found<'a>>,
    read: u64,
}

struct Found<'a> {
    archive: &'a Archive,
    segment: &'a Segment,
    header: Vec<u8>,
    tsr: Vec<u8>,
    tree: Summary,
    /// Where the XML lies in the file.
    xml: std::ops::Range<u64>,
}

/// Bytes that surely hold a record's fields before the XML: a header has under 200 bytes.
const PREFIX: u64 = 1_024;

impl<'a> Parts<'a> {
    fn read(archive: &'a Archive, (segment, slot): (&'a Segment, &'a Slot)) -> Result<Parts<'a>, ArchiveError> {
        let path = archive.folder.join(&segment.name);
        let failed = at(&path);
        let body = slot.offset + frame::HEAD as u64..(slot.offset + slot.length).saturating_sub(frame::DIGEST as u64);
        let prefix = segment.range(body.start, body.end.min(body.start + PREFIX)).map_err(&failed)?;
        let mut read = prefix.len() as u64;
        let Some((header, xml)) = before_xml(&prefix) else { return Ok(Parts { found: None, read }) };
        let xml = body.start + xml.0..body.start.saturating_add(xml.0).saturating_add(xml.1);
        if xml.end > body.end {
            return Ok(Parts { found: None, read });
        }
        let tail = segment.range(xml.end, body.end).map_err(&failed)?;
        read += tail.len() as u64;
        let found = after_xml(&tail).map(|(tsr, tree)| Found { archive, segment, header, tsr, tree, xml });
        Ok(Parts { found, read })
    }
}

impl Found<'_> {
    /// The entries of some groups, and how many bytes were read for them.
    fn entries(&self, groups: &[Node]) -> Result<(Vec<Entry>, u64), ArchiveError> {
        let path = self.archive.folder.join(&self.segment.name);
        let failed = at(&path);
        let mut found = Vec::new();
        let mut bytes = 0;
        let known = groups.iter().all(|group| group.offset.is_some());
        if !known {
            // Another writer's XML: its entries are where they are.
            let xml = self.segment.range(self.xml.start, self.xml.end).map_err(&failed)?;
            let read = read_bag_bytes(&xml, |entry| {
                if entry.reference > 0 {
                    found.push(*entry);
                }
            });
            // A fault of the XML is the audit's finding; entries before it are compared.
            let _found_by_the_audit = read;
            return Ok((found, xml.len() as u64));
        }
        for group in groups {
            let from = self.xml.start.saturating_add(group.offset.unwrap_or_default());
            // The longest entry of our own form has 123 bytes.
            let to = from.saturating_add(u64::from(group.count) * 123).min(self.xml.end);
            let piece = self.segment.range(from, to).map_err(&failed)?;
            bytes += piece.len() as u64;
            found.extend(read_entries(&piece, 0, group.count as usize));
        }
        Ok((found, bytes))
    }
}

/// The header, and offset and length of the XML in the body.
fn before_xml(prefix: &[u8]) -> Option<(Vec<u8>, (u64, u64))> {
    let mut input = minicbor::Decoder::new(prefix);
    input.map().ok().filter(|fields| *fields == Some(6))?;
    (input.u8().ok()? == 1).then_some(())?;
    input.u64().ok()?;
    (input.u8().ok()? == 2).then_some(())?;
    let header = input.bytes().ok()?.to_vec();
    (input.u8().ok()? == 3).then_some(())?;
    // The byte string's own head: major type 2, and a length in 0 to 8 bytes.
    let at = input.position();
    let first = *prefix.get(at)?;
    let extra = match first & 0x1f {
        direct @ 0..=23 => return (first >> 5 == 2).then_some((header, (at as u64 + 1, u64::from(direct)))),
        24 => 1,
        25 => 2,
        26 => 4,
        27 => 8,
        _ => return None,
    };
    let length = prefix.get(at + 1..at + 1 + extra)?.iter().fold(0, |length, byte| length << 8 | u64::from(*byte));
    (first >> 5 == 2).then_some((header, ((at + 1 + extra) as u64, length)))
}

fn after_xml(tail: &[u8]) -> Option<(Vec<u8>, Summary)> {
    let mut input = minicbor::Decoder::new(tail);
    (input.u8().ok()? == 4).then_some(())?;
    let tsr = input.bytes().ok()?.to_vec();
    (input.u8().ok()? == 5).then_some(())?;
    input.skip().ok()?;
    (input.u8().ok()? == 6).then_some(())?;
    let tree = Summary::decode(input.bytes().ok()?)?;
    Some((tsr, tree))
}
