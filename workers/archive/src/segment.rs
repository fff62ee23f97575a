//! One segment file: written front to back, sealed with an index, never changed again.
//!
//! ```text
//! "ZGLSEG1\n" · record 0 (head) · records … · index record · offset of the index (u64) · "ZGLEND1\n"
//! ```
//! The index is a record like the others (kind 255): `count (u32)` and a [`Slot`] of 105 bytes for each record before it. A
//! segment that is still being written lacks index and end; its records are found by walking from frame to frame.
//! Every byte is covered: records by their own digest and by the index, the index by its own and by the manifest, the fixed
//! words by being fixed.
//! Failure behaviour: damage is a finding with the range of bytes, and what can still be read is read.

use crate::error::{ArchiveError, at};
use crate::finding::{Class, Findings, Place};
use crate::frame;
use crate::record::{self, Bag, Head, kinds};
use schemas::{Millis, Sha256};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use zegel_crypto::bag::Header;
use zegel_crypto::hash::{Hasher, sha256};

pub(crate) const MAGIC: &[u8; 8] = b"ZGLSEG1\n";
pub(crate) const END: &[u8; 8] = b"ZGLEND1\n";
/// Index offset and end word.
pub(crate) const TRAILER: u64 = 16;
/// Bytes of a slot in the index.
const SLOT: usize = 105;
/// The name of the segment that is being written.
pub const OPEN_NAME: &str = "open.zseg";

/// Where a record lies, and what can be said of it without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// See [`kinds`].
    pub kind: u8,
    /// The bag's sequence, also of its renewals and proofs; 0 for what belongs to no bag.
    pub sequence: u64,
    /// First byte of the frame.
    pub offset: u64,
    /// Bytes of the frame.
    pub length: u64,
    /// The frame's digest.
    pub digest: Sha256,
    /// [`record::item`] of a bag; zeros for others.
    pub item: Sha256,
    /// Entries of a bag, as its header says.
    pub entries: u64,
    /// End of a bag's window, as its header says.
    pub end: Millis,
}

/// A segment file that was opened.
#[derive(Debug)]
pub struct Segment {
    /// The file's name.
    pub name: String,
    /// Its records but the index.
    pub slots: Vec<Slot>,
    /// Its first record.
    pub head: Option<Head>,
    /// Whether it has an index; an open segment has none.
    pub sealed: bool,
    /// Digest of the index record.
    pub index: Sha256,
    /// Bytes of the file.
    pub length: u64,
    file: File,
}

/// The name of a sealed segment.
#[must_use]
pub fn name(number: u32) -> String {
    format!("{number:06}.zseg")
}

/// What names all bags of a segment, whatever else stands between them.
#[must_use]
pub fn content(slots: &[Slot]) -> Sha256 {
    let mut hasher = Hasher::new();
    slots.iter().filter(|slot| slot.kind == kinds::BAG).for_each(|slot| hasher.update(&slot.item.0));
    hasher.finish()
}

impl Slot {
    /// What is known of a bag that is written at `offset`; the frame's own values come from its writer.
    pub(crate) fn of_bag(bag: &Bag<'_>, xml: &Sha256, header: &Header) -> Slot {
        Slot {
            kind: kinds::BAG,
            sequence: bag.sequence,
            offset: 0,
            length: 0,
            digest: Sha256::default(),
            item: record::item(bag.sequence, bag.header, xml, bag.tsr),
            entries: header.count,
            end: header.end,
        }
    }

    /// What is known of another record.
    pub(crate) fn of_other(kind: u8, sequence: u64) -> Slot {
        let zero = Sha256::default();
        Slot { kind, sequence, offset: 0, length: 0, digest: zero, item: zero, entries: 0, end: Millis(0) }
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(self.kind);
        for number in [self.sequence, self.offset, self.length] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        out.extend_from_slice(&self.digest.0);
        out.extend_from_slice(&self.item.0);
        out.extend_from_slice(&self.entries.to_be_bytes());
        out.extend_from_slice(&self.end.0.to_be_bytes());
    }

    fn read(bytes: &[u8]) -> Option<Slot> {
        let number = |from: usize| bytes.get(from..)?.first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
        let digest = |from: usize| bytes.get(from..)?.first_chunk().map(|bytes| Sha256(*bytes));
        Some(Slot {
            kind: *bytes.first()?,
            sequence: number(1)?,
            offset: number(9)?,
            length: number(17)?,
            digest: digest(25)?,
            item: digest(57)?,
            entries: number(89)?,
            end: Millis(i64::from_be_bytes(*bytes.get(97..)?.first_chunk()?)),
        })
    }

    /// The bytes that it covers.
    pub(crate) fn place(&self, file: &str) -> Place {
        let place = Place::bytes(file, self.offset, self.offset.saturating_add(self.length));
        if self.sequence > 0 { place.of_bag(self.sequence) } else { place }
    }
}

/// The body of an index.
pub(crate) fn encode_index(slots: &[Slot]) -> Vec<u8> {
    let mut body = Vec::with_capacity(4 + slots.len() * SLOT);
    body.extend_from_slice(&u32::try_from(slots.len()).unwrap_or(u32::MAX).to_be_bytes());
    slots.iter().for_each(|slot| slot.write(&mut body));
    body
}

fn decode_index(body: &[u8]) -> Option<Vec<Slot>> {
    let (count, rest) = body.split_first_chunk::<4>()?;
    let count = u32::from_be_bytes(*count) as usize;
    if rest.len() != count.checked_mul(SLOT)? {
        return None;
    }
    rest.chunks_exact(SLOT).map(Slot::read).collect()
}

impl Segment {
    /// Opens a file and finds its records; whatever does not hold is added to `findings`.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn open(folder: &Path, name: &str, findings: &mut Findings) -> Result<Segment, ArchiveError> {
        let path = folder.join(name);
        let failed = at(&path);
        let file = File::open(&path).map_err(&failed)?;
        let length = file.metadata().map_err(&failed)?.len();
        let mut segment = Segment {
            name: name.to_owned(),
            slots: Vec::new(),
            head: None,
            sealed: false,
            index: Sha256::default(),
            length,
            file,
        };
        let mut magic = [0; 8];
        let begins = length >= 8 && segment.file.read_exact_at(&mut magic, 0).is_ok() && magic == *MAGIC;
        if !begins {
            findings.add(
                Class::Damaged,
                "segment-begin",
                Place::bytes(name, 0, 8),
                "the file does not begin as a segment",
            );
        }
        segment.sealed = name != OPEN_NAME;
        if !segment.sealed || !segment.read_index(findings).map_err(&failed)? {
            segment.walk(findings).map_err(&failed)?;
        }
        segment.read_head(findings).map_err(&failed)?;
        Ok(segment)
    }

    /// Reads a record's frame into the buffer.
    ///
    /// # Errors
    /// What the system says.
    pub fn read(&self, slot: &Slot, into: &mut Vec<u8>) -> std::io::Result<()> {
        let length =
            usize::try_from(slot.length).unwrap_or(usize::MAX).min(frame::HEAD + frame::BODY_MAX + frame::DIGEST);
        into.resize(length, 0);
        self.file.read_exact_at(into, slot.offset)
    }

    /// Reads some bytes of the file; none from `to` on, even where there are more.
    ///
    /// # Errors
    /// What the system says, and when the range is longer than a record can be.
    pub fn range(&self, from: u64, to: u64) -> std::io::Result<Vec<u8>> {
        let length = usize::try_from(to.saturating_sub(from)).unwrap_or(usize::MAX);
        if length > frame::BODY_MAX {
            return Err(std::io::ErrorKind::InvalidData.into());
        }
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, from)?;
        Ok(bytes)
    }

    /// Reads a record's body, whatever its digest says.
    ///
    /// # Errors
    /// What the system says.
    pub fn body(&self, slot: &Slot) -> std::io::Result<Vec<u8>> {
        let mut frame = Vec::new();
        self.read(slot, &mut frame)?;
        frame.truncate(frame.len().saturating_sub(frame::DIGEST));
        frame.drain(..frame::HEAD.min(frame.len()));
        Ok(frame)
    }

    /// Reads the slots from the index; whether that was possible.
    fn read_index(&mut self, findings: &mut Findings) -> std::io::Result<bool> {
        let mut damaged = |from: u64, to: u64, text: &str| {
            findings.add(Class::Damaged, "segment-index", Place::bytes(&self.name, from, to), text);
            Ok(false)
        };
        let Some(trailer_at) = self.length.checked_sub(TRAILER).filter(|at| *at > MAGIC.len() as u64) else {
            return damaged(0, self.length, "the segment is too short to have an index");
        };
        let mut trailer = [0; 16];
        self.file.read_exact_at(&mut trailer, trailer_at)?;
        let (offset, end) = trailer.split_at(8);
        let end_at = trailer_at + 8;
        if end != END {
            return damaged(end_at, self.length, "the segment does not end as it must");
        }
        let offset = offset.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        let length = trailer_at.checked_sub(offset).filter(|length| *length <= frame::BODY_MAX as u64);
        let Some(length) = length.and_then(|length| usize::try_from(length).ok()) else {
            return damaged(trailer_at, end_at, "the place of the index is not in the segment");
        };
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, offset)?;
        // The index, or its place in the trailer, which may say another one.
        let Ok(index) = frame::read(&bytes) else {
            return damaged(offset, end_at, "the index is not what was written");
        };
        let slots = decode_index(index.body).filter(|_| index.kind == kinds::INDEX);
        let Some(slots) = slots.filter(|slots| fills(slots, offset)) else {
            return damaged(offset, end_at, "the index does not cover the segment's bytes");
        };
        self.index = index.digest;
        self.slots = slots;
        Ok(true)
    }

    /// Finds records from frame to frame.
    fn walk(&mut self, findings: &mut Findings) -> std::io::Result<()> {
        let mut from = MAGIC.len() as u64;
        let end = self.length;
        let mut bytes = Vec::new();
        self.slots.clear();
        while from < end {
            let mut head = [0; frame::HEAD];
            let left = usize::try_from(end - from).unwrap_or(usize::MAX);
            let readable = left >= frame::HEAD;
            if readable {
                self.file.read_exact_at(&mut head, from)?;
            }
            let Some(length) = frame::length(&head).filter(|length| readable && *length <= left) else {
                if !self.ends_here(from, left)? {
                    let text = "no record begins here; it is the rest of one, or its length was changed";
                    findings.add(Class::Damaged, "record-broken", Place::bytes(&self.name, from, end), text);
                }
                return Ok(());
            };
            let slot = Slot { offset: from, length: length as u64, ..Slot::of_other(head[4], 0) };
            self.read(&slot, &mut bytes)?;
            match frame::read(&bytes) {
                Ok(frame) if frame.kind == kinds::INDEX => self.index = frame.digest,
                Ok(frame) => self.slots.push(known(slot, &frame)),
                Err(_) => {
                    let text = "the record is not what was written";
                    findings.add(Class::Damaged, "record-digest", slot.place(&self.name), text);
                }
            }
            from += length as u64;
        }
        Ok(())
    }

    /// Whether what is left is the end of a sealed segment.
    fn ends_here(&self, from: u64, left: usize) -> std::io::Result<bool> {
        let mut trailer = [0; 16];
        if !self.sealed || left as u64 != TRAILER {
            return Ok(false);
        }
        self.file.read_exact_at(&mut trailer, from)?;
        // A trailer that is broken was found already, with the reason for walking.
        Ok(true)
    }

    fn read_head(&mut self, findings: &mut Findings) -> std::io::Result<()> {
        let first = self.slots.first().filter(|slot| slot.kind == kinds::HEAD).copied();
        if let Some(slot) = first {
            self.head = Head::decode(&self.body(&slot)?).ok();
        }
        if self.head.is_none() && self.length > MAGIC.len() as u64 {
            let text = "the segment does not say whose it is";
            findings.add(Class::Damaged, "segment-head", Place::file(&self.name), text);
        }
        Ok(())
    }
}

/// Whether the slots follow each other from the beginning to the index.
fn fills(slots: &[Slot], index: u64) -> bool {
    let end = slots
        .iter()
        .try_fold(MAGIC.len() as u64, |at, slot| (slot.offset == at).then(|| at.checked_add(slot.length)).flatten());
    end == Some(index)
}

/// A slot as the index would have it, from the record itself.
pub(crate) fn known(slot: Slot, frame: &frame::Frame<'_>) -> Slot {
    let place = Slot { kind: frame.kind, digest: frame.digest, ..slot };
    match frame.kind {
        kinds::BAG => match Bag::decode(frame.body).map(|bag| (bag, Header::decode(bag.header))) {
            Ok((bag, Ok(header))) => {
                let found = Slot::of_bag(&bag, &sha256(bag.xml), &header);
                Slot { offset: place.offset, length: place.length, digest: place.digest, ..found }
            }
            Ok((bag, Err(_))) => Slot { sequence: bag.sequence, ..place },
            Err(_) => place,
        },
        kinds::RENEWAL => {
            let sequence = record::Renewal::decode(frame.body).map_or(0, |renewal| renewal.sequence);
            Slot { sequence, ..place }
        }
        kinds::LOG_PROOF => {
            let sequence = record::LogProof::decode(frame.body).map_or(0, |proof| proof.sequence);
            Slot { sequence, ..place }
        }
        _ => place,
    }
}
