//! Writes an archive: appends records to the open segment, seals it when it is full, deletes the oldest by policy.
//!
//! A segment is cut after a bag whose sequence is a multiple of [`BAGS`], or when it would grow beyond [`BYTES`]; both sides
//! cut alike, so equal archives have equal segments.
//! Crash safety: [`Writer::sync`] is when records are durable. A torn record at the end of the open segment was never
//! acknowledged and is cut off when the archive is opened again. Sealing is: index and end, fsync, rename, manifest; each
//! step is finished or repeated by the next opening. One writer at a time (a lock on the folder).
//! Failure behaviour: what is damaged in the middle is left as it is and refused ([`ArchiveError::Unusable`]); nothing that
//! was acknowledged is ever cut off.

use crate::error::{ArchiveError, at};
use crate::finding::Findings;
use crate::frame;
use crate::manifest::{Expired, Line, Manifest, Side};
use crate::record::{Bag, Foreign, Head, Leaves, LogProof, Material, Renewal, kinds};
use crate::segment::{self, END, MAGIC, OPEN_NAME, Segment, Slot};
use crate::summary;
use schemas::{MailboxAddress, Millis, Sha256};
use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use zegel_crypto::bag::Header;
use zegel_crypto::hash::sha256;
use zegel_timestamp::xml::read_bag_bytes;

/// A segment ends after a bag whose sequence is a multiple of this: a day of five-minute windows is 288 bags.
pub const BAGS: u64 = 256;
/// A segment ends before it grows beyond this, unless one bag alone is larger.
pub const BYTES: u64 = 64 << 20;

/// A bag to be archived.
#[derive(Debug, Clone, Copy)]
pub struct NewBag<'a> {
    /// 1, 2, 3 …; higher than the last one.
    pub sequence: u64,
    /// Its header, CBOR.
    pub header: &'a [u8],
    /// Its XML, the very bytes that were stamped.
    pub xml: &'a [u8],
    /// The RFC 3161 response.
    pub tsr: &'a [u8],
    /// The RFC 3161 request, where there is one.
    pub request: Option<&'a [u8]>,
}

/// Appends to one archive.
pub struct Writer {
    folder: PathBuf,
    manifest: Manifest,
    open: File,
    /// Bytes of the open segment.
    length: u64,
    slots: Vec<Slot>,
    number: u32,
    last: u64,
    /// Digests of the certificates and lists that the archive holds, once somebody asked.
    materials: Option<HashSet<Sha256>>,
    /// The folder, locked.
    lock: File,
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Said aloud: a child process that was being started just now holds a copy of the handle, and would keep the lock.
        let _closing_unlocks_too = self.lock.unlock();
    }
}

impl Writer {
    /// Opens an archive to go on with it, or begins one.
    ///
    /// # Errors
    /// [`ArchiveError::Unusable`] when another writer is at work, when the archive is another hospital's or side's, or when
    /// it is damaged; [`ArchiveError::Io`].
    pub fn open(folder: &Path, hospital: &MailboxAddress, side: Side) -> Result<Writer, ArchiveError> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(at(folder))?;
        let lock = File::open(folder).map_err(at(folder))?;
        lock.try_lock().map_err(|_| unusable(folder, "another program writes into this archive"))?;
        let manifest = match Manifest::text(folder) {
            Ok(text) => read_manifest(folder, &text)?,
            Err(ArchiveError::NoArchive(_)) => begin(folder, hospital, side)?,
            Err(error) => return Err(error),
        };
        if manifest.hospital != *hospital || manifest.side != side {
            return Err(unusable(folder, "the archive is of another hospital or side"));
        }
        let mut writer = Writer {
            number: manifest.segments.last().map_or(1, |line| line.number + 1),
            last: last(&manifest),
            folder: folder.to_owned(),
            manifest,
            open: lock.try_clone().map_err(at(folder))?,
            length: 0,
            slots: Vec::new(),
            materials: None,
            lock,
        };
        writer.adopt_renamed()?;
        writer.recover()?;
        Ok(writer)
    }

    /// The last bag in the archive; 0 while there is none.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Appends a bag; durable after [`Writer::sync`].
    ///
    /// # Errors
    /// [`ArchiveError::Order`] when its sequence is not higher than the last one, or its header cannot be read;
    /// [`ArchiveError::Io`].
    pub fn append(&mut self, new: &NewBag<'_>) -> Result<(), ArchiveError> {
        let order = |rule| ArchiveError::Order { last: self.last, found: new.sequence, rule };
        if new.sequence <= self.last {
            return Err(order("sequences rise"));
        }
        let header = Header::decode(new.header).map_err(|_| order("its header cannot be read"))?;
        let mut builder = summary::Builder::default();
        let read = read_bag_bytes(new.xml, |entry| {
            if entry.reference > 0 {
                let leaf = zegel_crypto::bag::leaf(entry.reference, &entry.hash);
                builder.push(&zegel_crypto::merkle::leaf_hash(&leaf), entry.offset);
            }
        });
        let digest = read.map_or_else(|_| sha256(new.xml), |bag| bag.digest);
        let tree = builder.finish().encode();
        let NewBag { sequence, header: header_bytes, xml, tsr, request } = *new;
        let bag = Bag { sequence, header: header_bytes, xml, tsr, request, summary: &tree };
        let body = bag.encode()?;
        if self.length + body.len() as u64 > BYTES && self.slots.len() > 1 {
            self.seal()?;
        }
        self.push(Slot::of_bag(&bag, &digest, &header), &body)?;
        self.last = sequence;
        if sequence % BAGS == 0 { self.seal() } else { Ok(()) }
    }

    /// Appends a certificate or certificate list that the archive does not hold yet.
    ///
    /// # Errors
    /// [`ArchiveError::Io`]
    pub fn append_material(&mut self, name: &str, bytes: &[u8]) -> Result<(), ArchiveError> {
        let known = match self.materials.take() {
            Some(known) => known,
            None => self.know_materials()?,
        };
        if !self.materials.insert(known).insert(sha256(bytes)) {
            return Ok(());
        }
        self.push(Slot::of_other(kinds::MATERIAL, 0), &Material { name, bytes }.encode())
    }

    /// Appends a renewed time stamp.
    ///
    /// # Errors
    /// [`ArchiveError::Io`]
    pub fn append_renewal(&mut self, sequence: u64, record: &[u8]) -> Result<(), ArchiveError> {
        self.push(Slot::of_other(kinds::RENEWAL, sequence), &Renewal { sequence, record }.encode())
    }

    /// Appends the documents of a bag that were hashed anew with it; before the bag's renewal, which they belong to.
    ///
    /// # Errors
    /// [`ArchiveError::Io`], [`ArchiveError::TooLarge`].
    pub fn append_leaves(&mut self, leaves: &Leaves) -> Result<(), ArchiveError> {
        self.push(Slot::of_other(kinds::LEAVES, leaves.sequence), &leaves.encode()?)
    }

    /// Appends the proof that a bag stands in the log.
    ///
    /// # Errors
    /// [`ArchiveError::Io`]
    pub fn append_log_proof(&mut self, sequence: u64, text: &str) -> Result<(), ArchiveError> {
        self.push(Slot::of_other(kinds::LOG_PROOF, sequence), &LogProof { sequence, text }.encode())
    }

    /// Appends a bag that the hospital made itself, byte for byte.
    ///
    /// # Errors
    /// [`ArchiveError::Io`], [`ArchiveError::TooLarge`].
    pub fn append_foreign(&mut self, foreign: &Foreign<'_>) -> Result<(), ArchiveError> {
        if foreign.bytes.len() + foreign.tsr.len() > frame::BODY_MAX / 2 {
            return Err(ArchiveError::TooLarge("bag"));
        }
        self.push(Slot::of_other(kinds::FOREIGN, 0), &foreign.encode())
    }

    /// Makes everything that was appended durable.
    ///
    /// # Errors
    /// [`ArchiveError::Io`]: whether it is durable is not known, so the archive must be opened again.
    pub fn sync(&mut self) -> Result<(), ArchiveError> {
        self.open.sync_data().map_err(at(&self.folder.join(OPEN_NAME)))
    }

    /// Seals the open segment, so that the archive can be handed out; a later bag begins the next one.
    ///
    /// # Errors
    /// [`ArchiveError::Io`]
    pub fn finish(mut self) -> Result<(), ArchiveError> {
        if self.slots.len() > 1 { self.seal() } else { self.sync() }
    }

    /// Deletes the oldest sealed segments whose last bag's window ended before this instant; how many bags went.
    ///
    /// # Errors
    /// [`ArchiveError::Io`]
    pub fn expire(&mut self, before: Millis) -> Result<u64, ArchiveError> {
        let mut gone = 0;
        while let Some(line) = self.manifest.segments.first().copied() {
            let name = segment::name(line.number);
            let segment = Segment::open(&self.folder, &name, &mut Findings::default())?;
            let Some(last) = segment.slots.iter().rfind(|slot| slot.kind == kinds::BAG) else { break };
            if last.end >= before {
                break;
            }
            let body = segment.body(last).map_err(at(&self.folder.join(&name)))?;
            let bag =
                Bag::decode(&body).map_err(|_| unusable(&self.folder.join(&name), "its last bag cannot be read"))?;
            let expired = Expired { sequence: last.sequence, header: sha256(bag.header), end: last.end };
            // The manifest first: a crash leaves a file that the next expiry deletes, never a line without its file.
            self.manifest.expired = Some(expired);
            self.manifest.segments.remove(0);
            self.manifest.store(&self.folder)?;
            remove(&self.folder.join(&name))?;
            gone += line.bags;
        }
        Ok(gone)
    }

    /// Writes one record behind the others.
    fn push(&mut self, slot: Slot, body: &[u8]) -> Result<(), ArchiveError> {
        let path = self.folder.join(OPEN_NAME);
        let mut bytes = Vec::with_capacity(body.len() + frame::HEAD + frame::DIGEST);
        let digest = frame::append(&mut bytes, slot.kind, body);
        fail::fail_point!("archive::before-record");
        self.open.write_all(&bytes).map_err(at(&path))?;
        fail::fail_point!("archive::after-record");
        let slot = Slot { offset: self.length, length: bytes.len() as u64, digest, ..slot };
        self.length += slot.length;
        self.slots.push(slot);
        Ok(())
    }

    fn seal(&mut self) -> Result<(), ArchiveError> {
        let offset = self.length;
        let index = segment::encode_index(&self.slots);
        let mut bytes = Vec::with_capacity(index.len() + 64);
        let digest = frame::append(&mut bytes, kinds::INDEX, &index);
        bytes.extend_from_slice(&offset.to_be_bytes());
        bytes.extend_from_slice(END);
        let path = self.folder.join(OPEN_NAME);
        self.open.write_all(&bytes).and_then(|()| self.open.sync_all()).map_err(at(&path))?;
        fail::fail_point!("archive::after-index");
        let sealed = self.folder.join(segment::name(self.number));
        fs::rename(&path, &sealed).and_then(|()| sync_folder(&self.folder)).map_err(at(&sealed))?;
        fail::fail_point!("archive::after-rename");
        let line = line(self.number, &self.slots, offset + bytes.len() as u64, digest);
        self.enter(line)?;
        fail::fail_point!("archive::after-manifest");
        self.begin_segment()
    }

    /// Adds a sealed segment to the manifest.
    fn enter(&mut self, line: Line) -> Result<(), ArchiveError> {
        self.last = self.last.max(line.last);
        self.number = line.number + 1;
        self.manifest.segments.push(line);
        self.manifest.store(&self.folder)
    }

    /// Begins the next segment; its head makes the file one.
    fn begin_segment(&mut self) -> Result<(), ArchiveError> {
        let path = self.folder.join(OPEN_NAME);
        self.open =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path).map_err(at(&path))?;
        self.open.write_all(MAGIC).map_err(at(&path))?;
        self.length = MAGIC.len() as u64;
        self.slots.clear();
        let head = Head { hospital: self.manifest.hospital.clone(), number: self.number };
        self.push(Slot::of_other(kinds::HEAD, 0), &head.encode())?;
        self.sync()?;
        sync_folder(&self.folder).map_err(at(&self.folder))
    }

    /// Enters a segment that was renamed before a crash, and whose line is not in the manifest yet; removes what an
    /// interrupted expiry left.
    fn adopt_renamed(&mut self) -> Result<(), ArchiveError> {
        remove(&self.folder.join("MANIFEST.new"))?;
        if let Some(first) = self.manifest.segments.first().filter(|_| self.manifest.expired.is_some()) {
            remove(&self.folder.join(segment::name(first.number.saturating_sub(1))))?;
        }
        let name = segment::name(self.number);
        if !self.folder.join(&name).exists() {
            return Ok(());
        }
        let mut findings = Findings::default();
        let segment = Segment::open(&self.folder, &name, &mut findings)?;
        if findings.total() > 0 {
            return Err(unusable(&self.folder.join(&name), "the segment is damaged: run `zegel audit`"));
        }
        self.enter(line(self.number, &segment.slots, segment.length, segment.index))
    }

    /// Goes on with the open segment: cuts off a torn record, finishes a sealing that was begun.
    fn recover(&mut self) -> Result<(), ArchiveError> {
        let path = self.folder.join(OPEN_NAME);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return self.begin_segment(),
            Err(error) => return Err(at(&path)(error)),
        };
        let (slots, index, end) = frames(&bytes);
        if slots.is_empty() {
            // Not even the head was durable: nothing was acknowledged.
            return if bytes.len() < 1_024 {
                self.begin_segment()
            } else {
                Err(unusable(&path, "it does not begin as a segment"))
            };
        }
        if holds_a_frame(&bytes[end..]) {
            return Err(unusable(&path, "it is damaged before its end: run `zegel audit`"));
        }
        self.open = OpenOptions::new().append(true).open(&path).map_err(at(&path))?;
        // The index is written again: without its end it says nothing.
        let end = index.unwrap_or(end);
        self.open.set_len(end as u64).and_then(|()| self.open.sync_all()).map_err(at(&path))?;
        self.length = end as u64;
        let bags = slots.iter().filter(|slot| slot.kind == kinds::BAG);
        self.last = self.last.max(bags.map(|slot| slot.sequence).max().unwrap_or(0));
        self.slots = slots;
        Ok(())
    }

    fn know_materials(&self) -> Result<HashSet<Sha256>, ArchiveError> {
        let mut known = HashSet::new();
        let sealed = self.manifest.segments.iter().map(|line| segment::name(line.number));
        for name in sealed.chain([OPEN_NAME.to_owned()]) {
            let segment = Segment::open(&self.folder, &name, &mut Findings::default())?;
            for slot in segment.slots.iter().filter(|slot| slot.kind == kinds::MATERIAL) {
                let body = segment.body(slot).map_err(at(&self.folder.join(&name)))?;
                known.extend(Material::decode(&body).map(|material| sha256(material.bytes)).ok());
            }
        }
        Ok(known)
    }
}

/// The records from the beginning on that hold, where an index begins, and where they end.
fn frames(bytes: &[u8]) -> (Vec<Slot>, Option<usize>, usize) {
    let mut slots = Vec::new();
    let mut from = MAGIC.len();
    if !bytes.starts_with(MAGIC) {
        return (slots, None, 0);
    }
    while let Some(Ok(found)) = bytes.get(from..).map(frame::read) {
        if found.kind == kinds::INDEX {
            return (slots, Some(from), bytes.len());
        }
        let length = frame::HEAD + found.body.len() + frame::DIGEST;
        let slot = Slot { offset: from as u64, length: length as u64, ..Slot::of_other(found.kind, 0) };
        slots.push(segment::known(slot, &found));
        from += length;
    }
    (slots, None, from)
}

/// Whether a whole record stands behind the broken one: then it was not torn, but damaged.
fn holds_a_frame(rest: &[u8]) -> bool {
    let behind = frame::length(rest).and_then(|length| rest.get(length..));
    behind.is_some_and(|behind| frame::read(behind).is_ok())
}

fn line(number: u32, slots: &[Slot], bytes: u64, index: Sha256) -> Line {
    let bags = || slots.iter().filter(|slot| slot.kind == kinds::BAG);
    Line {
        number,
        first: bags().next().map_or(0, |slot| slot.sequence),
        last: bags().next_back().map_or(0, |slot| slot.sequence),
        bags: bags().count() as u64,
        bytes,
        content: segment::content(slots),
        index,
    }
}

fn begin(folder: &Path, hospital: &MailboxAddress, side: Side) -> Result<Manifest, ArchiveError> {
    let foreign = fs::read_dir(folder).map_err(at(folder))?.filter_map(Result::ok).any(|entry| {
        let name = entry.file_name();
        name != OPEN_NAME && name != "MANIFEST.new"
    });
    if foreign {
        return Err(unusable(folder, "the folder holds something else than an archive"));
    }
    let manifest = Manifest { hospital: hospital.clone(), side, expired: None, segments: Vec::new() };
    manifest.store(folder)?;
    Ok(manifest)
}

/// The last bag of the sealed segments. The last segment may hold renewals or proofs alone.
fn last(manifest: &Manifest) -> u64 {
    let sealed = manifest.segments.iter().map(|line| line.last).max();
    sealed.max(manifest.expired.map(|expired| expired.sequence)).unwrap_or(0)
}

fn read_manifest(folder: &Path, text: &[u8]) -> Result<Manifest, ArchiveError> {
    let read = std::str::from_utf8(text).ok().and_then(Manifest::decode);
    match read {
        Some((manifest, true)) => Ok(manifest),
        _ => Err(unusable(folder, "its MANIFEST is damaged: run `zegel audit`")),
    }
}

fn remove(path: &Path) -> Result<(), ArchiveError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(at(path)(error)),
        _ => Ok(()),
    }
}

fn sync_folder(folder: &Path) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}

fn unusable(path: &Path, rule: &'static str) -> ArchiveError {
    ArchiveError::Unusable { path: path.to_owned(), rule }
}
