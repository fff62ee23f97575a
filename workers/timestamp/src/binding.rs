//! The heavy half of sealing, outside the step: bind a closed bag's entries, write its XML, have it stamped.
//!
//! Two passes over the chunk rows, a page at a time, so memory is the same for one entry and for a million: the first
//! makes the Merkle root, without which the header (entry 0, the XML's first) does not exist; the second writes.
//! XML of at most [`INLINE_MAX`] bytes comes back in the result; above, it goes into two objects at once, because the
//! archive and the hospital's box each own their content.
//! Failure behaviour: entries that are not the ones that were counted, or a chain that does not continue, stop the bag
//! for good (I6, I8); everything else is worth another attempt.

use crate::queries;
use crate::rows::{self, Head, RECORD, base64_bytes};
use crate::stamper::Stamper;
use crate::xml::BagWriter;
use schemas::envelope::ATTACHMENT_MAX;
use schemas::messages::{BagClosed, ObjectRef};
use schemas::{Key, Millis, Sha256};
use serde::{Deserialize, Serialize};
use std::io::{self, Write};
use zegel_core::objects::ObjectSink;
use zegel_core::rows::V1;
use zegel_core::slot::spaces;
use zegel_core::worker::{JobError, JobIo};
use zegel_core::{Objects, Read};
use zegel_crypto::bag::{Form, Header};
use zegel_crypto::hash::{Hasher, sha256};
use zegel_crypto::merkle::Tree;
use zegel_crypto::tsa::token_of;

/// XML up to here is a payload row, above it objects.
pub(crate) const INLINE_MAX: usize = ATTACHMENT_MAX;
/// Chunk rows read at once: 2.5 MB when each is full.
const PAGE: usize = 64;

/// What a job is to do.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Spec {
    pub v: V1,
    pub owner: Key,
    pub bag: BagClosed,
}

/// What a job brought.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Bound {
    pub v: V1,
    #[serde(with = "base64_bytes")]
    pub header: Vec<u8>,
    pub header_hash: Sha256,
    pub previous: Option<Sha256>,
    pub xml: Xml,
    pub xml_size: u64,
    pub imprint: Sha256,
    #[serde(with = "base64_bytes")]
    pub tsr: Vec<u8>,
    /// SHA-256 of the token in it.
    pub token: Sha256,
    pub gen_time: Millis,
    /// Chunk rows of the bag.
    pub chunks: u32,
}

/// Where the XML is.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Xml {
    /// Here.
    Inline(#[serde(with = "base64_bytes")] Vec<u8>),
    /// In two objects with the same content.
    Objects { archive: ObjectRef, hospital: ObjectRef },
}

/// Binds, writes and stamps one bag.
pub(crate) fn bind(spec: &Spec, form: Form, stamper: &dyn Stamper, io: &dyn JobIo) -> Result<Bound, JobError> {
    let Spec { owner, bag, .. } = spec;
    let query = queries::head(*owner);
    let head = query.answer(io.read(query.read.clone())?).map_err(|_| broken())?;
    let previous = link(head.as_ref(), bag)?;
    let (root, chunks) = root(*owner, bag, io)?;
    let header = Header {
        hospital: bag.hospital.clone(),
        sequence: bag.sequence,
        start: bag.start,
        end: bag.end,
        count: bag.count,
        root,
        previous,
        form: if bag.salted { Form::Salted } else { form },
    };
    header.check().map_err(|_| broken())?;
    let header_hash = header.hash();
    let (xml, xml_size, imprint) = write(*owner, bag, &header_hash, io)?;
    // After every entry of the bag and after the token before it, whatever the clock does. A foreign authority's clock may
    // be a little behind ours, so the present instant is asked for and not required.
    let earliest = bag.end.max(head.map_or(bag.end, |head| head.gen_time));
    let stamped = stamper.stamp(&imprint, io.now().max(earliest)).map_err(|_| again("ZGL-TS-AUTHORITY"))?;
    if stamped.gen_time < earliest {
        return Err(again("ZGL-TS-AUTHORITY"));
    }
    let token = sha256(&token_of(&stamped.response).map_err(|_| again("ZGL-TS-AUTHORITY"))?);
    let (tsr, gen_time, header) = (stamped.response, stamped.gen_time, header.encode());
    Ok(Bound { v: V1, header, header_hash, previous, xml, xml_size, imprint, tsr, token, gen_time, chunks })
}

/// The header hash that the bag continues from; none for the first.
pub(crate) fn link(head: Option<&Head>, bag: &BagClosed) -> Result<Option<Sha256>, JobError> {
    match head {
        None if bag.sequence == 1 => Ok(None),
        Some(head) if head.sequence.checked_add(1) == Some(bag.sequence) && head.end == bag.start => {
            Ok(Some(head.header_hash))
        }
        _ => Err(broken()),
    }
}

fn root(owner: Key, bag: &BagClosed, io: &dyn JobIo) -> Result<(Sha256, u32), JobError> {
    let mut tree = Tree::new();
    let chunks = each_chunk(owner, bag.sequence, io, |chunk| {
        chunk.chunks_exact(RECORD).for_each(|record| tree.push(record));
        Ok(())
    })?;
    if tree.size() == bag.count { Ok((tree.root(), chunks)) } else { Err(broken()) }
}

fn write(owner: Key, bag: &BagClosed, header: &Sha256, io: &dyn JobIo) -> Result<(Xml, u64, Sha256), JobError> {
    let away = |_: io::Error| again("ZGL-OBJECTS-AWAY");
    let mut writer = BagWriter::new(Spool::new(io.objects()), bag.sequence).map_err(away)?;
    writer.entry(0, header).map_err(away)?;
    each_chunk(owner, bag.sequence, io, |chunk| {
        rows::records(chunk).try_for_each(|(reference, hash, _)| writer.entry(reference, &hash)).map_err(away)
    })?;
    writer.finish().and_then(Spool::finish).map_err(away)
}

/// Shows each chunk of a bag, in order, and returns how many there are.
fn each_chunk(
    owner: Key,
    sequence: u64,
    io: &dyn JobIo,
    mut show: impl FnMut(&[u8]) -> Result<(), JobError>,
) -> Result<u32, JobError> {
    let mut next = 0;
    loop {
        if io.stopping() {
            return Err(again("ZGL-STOPPING"));
        }
        let page = io.read(Read::Range {
            space: spaces::ENTRIES,
            owner,
            from: rows::chunk_sub(sequence, next),
            to: Some(rows::chunk_sub(sequence.saturating_add(1), 0)),
            limit: PAGE,
            reverse: false,
        })?;
        for (sub, chunk) in &page {
            if *sub != rows::chunk_sub(sequence, next) || chunk.len() % RECORD != 0 {
                return Err(broken());
            }
            show(chunk)?;
            next += 1;
        }
        if page.len() < PAGE {
            return Ok(next);
        }
    }
}

/// Takes the XML: in memory while it is small, into two objects from then on.
struct Spool<'a> {
    objects: &'a dyn Objects,
    buffer: Vec<u8>,
    sinks: Vec<Box<dyn ObjectSink>>,
    hasher: Hasher,
    size: u64,
}

impl<'a> Spool<'a> {
    fn new(objects: &'a dyn Objects) -> Spool<'a> {
        Spool { objects, buffer: Vec::with_capacity(4_096), sinks: Vec::new(), hasher: Hasher::new(), size: 0 }
    }

    fn spill(&mut self) -> io::Result<()> {
        if self.sinks.is_empty() {
            self.sinks = vec![
                self.objects.create().map_err(io::Error::other)?,
                self.objects.create().map_err(io::Error::other)?,
            ];
        }
        for sink in &mut self.sinks {
            sink.write_all(&self.buffer)?;
        }
        self.buffer.clear();
        Ok(())
    }

    fn finish(mut self) -> io::Result<(Xml, u64, Sha256)> {
        let xml = if self.sinks.is_empty() {
            Xml::Inline(self.buffer)
        } else {
            self.spill()?;
            let mut names = self.sinks.into_iter().map(|sink| sink.finish().map_err(io::Error::other));
            match (names.next(), names.next()) {
                (Some(archive), Some(hospital)) => Xml::Objects { archive: archive?, hospital: hospital? },
                _ => return Err(io::ErrorKind::Other.into()),
            }
        };
        Ok((xml, self.size, self.hasher.finish()))
    }
}

impl Write for Spool<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() + bytes.len() > INLINE_MAX {
            self.spill()?;
        }
        self.hasher.update(bytes);
        self.buffer.extend_from_slice(bytes);
        self.size += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn again(code: &str) -> JobError {
    JobError { code: code.to_owned(), retryable: true }
}

fn broken() -> JobError {
    JobError { code: "ZGL-TS-CHAIN".to_owned(), retryable: false }
}
