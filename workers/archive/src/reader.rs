//! Opens an archive to read it: manifest, segments, and where each bag lies.
//!
//! Reading never changes anything. Whatever does not hold is a finding, and what can still be read is read: an archive
//! whose manifest is lost is read from its segments, a segment whose index is lost from its records.

use crate::error::{ArchiveError, at};
use crate::finding::{Class, Findings, Place};
use crate::manifest::{self, Line, Manifest, Side};
use crate::record::{Bag, Foreign, LogProof, Material, kinds};
use crate::segment::{self, OPEN_NAME, Segment, Slot};
use schemas::{MailboxAddress, Millis, Sha256};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use zegel_crypto::hash::sha256;
use zegel_timestamp::rows::OWN_REFERENCES;
use zegel_timestamp::xml::read_bag_bytes;

/// Most files that a folder is searched for.
const FILES_MAX: usize = 1_000_000;

/// An archive that was opened.
#[derive(Debug)]
pub struct Archive {
    /// Where it is.
    pub folder: PathBuf,
    /// What its manifest says, when it can be read.
    pub manifest: Option<Manifest>,
    /// Its segments in order, the open one last.
    pub segments: Vec<Segment>,
    /// Whose bags, when anything says so.
    pub hospital: Option<MailboxAddress>,
    /// What was found while opening.
    pub findings: Findings,
    /// Each bag, by sequence: index of the segment, and its slot.
    bags: Vec<(usize, Slot)>,
}

impl Archive {
    /// Opens the archive in a folder.
    ///
    /// # Errors
    /// [`ArchiveError::NoArchive`] when there is neither a manifest nor a segment; [`ArchiveError::Io`].
    pub fn open(folder: &Path) -> Result<Archive, ArchiveError> {
        let mut findings = Findings::default();
        let present = files(folder)?;
        let manifest = read_manifest(folder, &present, &mut findings)?;
        let listed: Vec<String> = match &manifest {
            Some(manifest) => manifest.segments.iter().map(|line| segment::name(line.number)).collect(),
            None => present.iter().filter(|name| name.ends_with(".zseg") && *name != OPEN_NAME).cloned().collect(),
        };
        let mut archive = Archive {
            folder: folder.to_owned(),
            manifest,
            segments: Vec::new(),
            hospital: None,
            findings,
            bags: Vec::new(),
        };
        for name in &listed {
            archive.open_segment(name, &present)?;
        }
        if present.contains(OPEN_NAME) {
            archive.open_segment(OPEN_NAME, &present)?;
        }
        for name in
            present.iter().filter(|name| !listed.contains(name) && *name != OPEN_NAME && *name != manifest::NAME)
        {
            let text = "the file does not belong to the archive";
            archive.findings.add(Class::Damaged, "file-unknown", Place::file(name), text);
        }
        archive.compare_with_manifest();
        archive.find_bags();
        Ok(archive)
    }

    /// Each bag in the order of its sequence: the segment that holds it, and its slot.
    pub fn bags(&self) -> impl ExactSizeIterator<Item = (&Segment, &Slot)> {
        self.bags.iter().map(|(segment, slot)| (&self.segments[*segment], slot))
    }

    /// The bag with this sequence.
    #[must_use]
    pub fn bag(&self, sequence: u64) -> Option<(&Segment, &Slot)> {
        let at = self.bags.binary_search_by_key(&sequence, |(_, slot)| slot.sequence).ok()?;
        self.bags.get(at).map(|(segment, slot)| (&self.segments[*segment], slot))
    }

    /// Every record of a kind, in order.
    pub fn records(&self, kind: u8) -> impl Iterator<Item = (&Segment, &Slot)> {
        self.segments.iter().flat_map(move |segment| {
            segment.slots.iter().filter(move |slot| slot.kind == kind).map(move |slot| (segment, slot))
        })
    }

    /// The certificates and certificate lists that the archive holds: name and bytes. What cannot be read is left out; the
    /// audit of the records finds it.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn materials(&self) -> Result<Vec<(String, Vec<u8>)>, ArchiveError> {
        let mut found = Vec::new();
        for (segment, slot) in self.records(kinds::MATERIAL) {
            let body = segment.body(slot).map_err(at(&self.folder.join(&segment.name)))?;
            found.extend(
                Material::decode(&body).map(|material| (material.name.to_owned(), material.bytes.to_vec())).ok(),
            );
        }
        Ok(found)
    }

    /// Proofs that bags stand in the log, as text by the bag's sequence; of several the latest.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn log_proofs(&self) -> Result<HashMap<u64, String>, ArchiveError> {
        let mut found = HashMap::new();
        for (segment, slot) in self.records(kinds::LOG_PROOF) {
            let body = segment.body(slot).map_err(at(&self.folder.join(&segment.name)))?;
            found.extend(LogProof::decode(&body).map(|proof| (proof.sequence, proof.text.to_owned())).ok());
        }
        Ok(found)
    }

    /// The digests of the bags that the hospital made itself and whose hashes stand in bags of the platform, with those bags. Reads
    /// every bag.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn own_bags_held(&self) -> Result<BTreeMap<Sha256, u64>, ArchiveError> {
        let mut found = BTreeMap::new();
        for (segment, slot) in self.bags() {
            let body = segment.body(slot).map_err(at(&self.folder.join(&segment.name)))?;
            let Ok(bag) = Bag::decode(&body) else { continue };
            let _faults_are_for_the_audit = read_bag_bytes(bag.xml, |entry| {
                if entry.reference >= OWN_REFERENCES {
                    found.insert(entry.hash, slot.sequence);
                }
            });
        }
        Ok(found)
    }

    /// The digests of the bags that the hospital made itself and that the archive holds.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn own_bags_kept(&self) -> Result<HashSet<Sha256>, ArchiveError> {
        let mut found = HashSet::new();
        for (segment, slot) in self.records(kinds::FOREIGN) {
            let body = segment.body(slot).map_err(at(&self.folder.join(&segment.name)))?;
            found.extend(Foreign::decode(&body).map(|foreign| sha256(foreign.bytes)).ok());
        }
        Ok(found)
    }

    /// The body of a bag's record; [`Bag::decode`] reads it.
    ///
    /// # Errors
    /// When the file cannot be read, or there is no such bag.
    pub fn bag_body(&self, sequence: u64) -> Result<Vec<u8>, ArchiveError> {
        let missing =
            || ArchiveError::input(self.folder.display().to_string(), format!("there is no bag {sequence} in it"));
        let (segment, slot) = self.bag(sequence).ok_or_else(missing)?;
        let body = segment.body(slot).map_err(at(&self.folder.join(&segment.name)))?;
        Bag::decode(&body).map_err(|_| ArchiveError::input(format!("bag {sequence}"), "its record cannot be read"))?;
        Ok(body)
    }

    /// How many bags [`crate::writer::Writer::expire`] would delete.
    #[must_use]
    pub fn expirable(&self, before: Millis) -> u64 {
        let bags = |segment: &Segment| {
            segment.slots.iter().filter(|slot| slot.kind == kinds::BAG).copied().collect::<Vec<_>>()
        };
        let old = |bags: &Vec<Slot>| bags.last().is_some_and(|last| last.end < before);
        let sealed = self.segments.iter().filter(|segment| segment.sealed);
        sealed.map(bags).take_while(old).map(|bags| bags.len() as u64).sum()
    }

    /// Bytes of all segments.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.length).sum()
    }

    /// Who kept it, if that is known.
    #[must_use]
    pub fn side(&self) -> Option<Side> {
        self.manifest.as_ref().map(|manifest| manifest.side)
    }

    fn open_segment(&mut self, name: &str, present: &BTreeSet<String>) -> Result<(), ArchiveError> {
        if !present.contains(name) {
            let text = "the segment stands in the manifest and is not there";
            self.findings.add(Class::Missing, "segment-missing", Place::file(name), text);
            return Ok(());
        }
        self.segments.push(Segment::open(&self.folder, name, &mut self.findings)?);
        Ok(())
    }

    /// Whether each segment is the one that the manifest means.
    fn compare_with_manifest(&mut self) {
        let named = self.manifest.as_ref().map(|manifest| manifest.hospital.clone());
        let by_head = self.segments.iter().find_map(|segment| segment.head.as_ref().map(|head| head.hospital.clone()));
        self.hospital = named.or(by_head);
        for segment in &self.segments {
            let line = self.manifest.iter().flat_map(|manifest| &manifest.segments);
            let line = line.into_iter().find(|line| segment::name(line.number) == segment.name);
            if let Some(line) = line.filter(|line| segment.sealed && !is_meant(segment, line)) {
                let text = format!("segment {} is not the one that the manifest means", line.number);
                self.findings.add(Class::Damaged, "segment-other", Place::file(&segment.name), text);
            }
            let foreign = segment.head.as_ref().is_some_and(|head| Some(&head.hospital) != self.hospital.as_ref());
            if foreign {
                let text = "the segment is of another hospital";
                self.findings.add(Class::Altered, "segment-hospital", Place::file(&segment.name), text);
            }
        }
    }

    fn find_bags(&mut self) {
        for (index, segment) in self.segments.iter().enumerate() {
            let bags = segment.slots.iter().filter(|slot| slot.kind == kinds::BAG);
            self.bags.extend(bags.map(|slot| (index, *slot)));
        }
        // A stable sort: of two bags with one sequence, the first stays first.
        self.bags.sort_by_key(|(_, slot)| slot.sequence);
        let twice: Vec<(usize, Slot)> =
            self.bags.windows(2).filter(|pair| pair[0].1.sequence == pair[1].1.sequence).map(|pair| pair[1]).collect();
        for (index, slot) in twice {
            let place = slot.place(&self.segments[index].name);
            self.findings.add(Class::Altered, "bag-twice", place, "the archive holds two bags with this sequence");
        }
    }
}

fn is_meant(segment: &Segment, line: &Line) -> bool {
    segment.index == line.index
        && segment.length == line.bytes
        && segment::content(&segment.slots) == line.content
        && segment.head.as_ref().is_some_and(|head| head.number == line.number)
}

fn read_manifest(
    folder: &Path,
    present: &BTreeSet<String>,
    findings: &mut Findings,
) -> Result<Option<Manifest>, ArchiveError> {
    let text = match Manifest::text(folder) {
        Ok(text) => text,
        Err(ArchiveError::NoArchive(_)) if present.iter().any(|name| name.ends_with(".zseg")) => {
            findings.add(
                Class::Missing,
                "manifest-missing",
                Place::file(manifest::NAME),
                "the archive has no manifest",
            );
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let place = || Place::bytes(manifest::NAME, 0, text.len() as u64);
    match std::str::from_utf8(&text).ok().and_then(Manifest::decode) {
        Some((manifest, exact)) => {
            if !exact {
                findings.add(Class::Damaged, "manifest-digest", place(), "the manifest is not what was written");
            }
            Ok(Some(manifest))
        }
        None => {
            findings.add(Class::Damaged, "manifest-form", place(), "the manifest cannot be read");
            Ok(None)
        }
    }
}

/// The names in a folder.
fn files(folder: &Path) -> Result<BTreeSet<String>, ArchiveError> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder).map_err(at(folder))? {
        names.insert(entry.map_err(at(folder))?.file_name().to_string_lossy().into_owned());
        if names.len() > FILES_MAX {
            return Err(ArchiveError::TooLarge("folder"));
        }
    }
    Ok(names)
}
