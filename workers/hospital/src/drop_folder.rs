//! Takes documents from a folder: every complete file is written into the journal, and what became of it is written beside it.
//!
//! A file is complete when its size and time of change were the same for a second; whoever writes slowly renames into place.
//! A file whose name ends in `.hashes` is a list with a line `[REF,]SHA-256` a document, taken whole or not at all. Hidden files,
//! folders and names that end in `.part`, `.tmp`, `.stamp.json` or `.error.json` are left alone. Nothing is moved or deleted.
//! When a document stands in an archived bag, `<file>.stamp.json` says so; a file with an answer that is younger than itself is
//! not looked at again, so a restart reads only what is still on its way.
//! Failure behaviour: a list with a bad line gets `<file>.error.json` with the line's number, never its text.

use crate::agent::durable;
use crate::entry::{Answer, Offer, State, View};
use crate::error::{HospitalError, at};
use crate::journal::{ENTRIES_MAX, Journal};
use schemas::{Millis, Sha256};
use serde::Serialize;
use serde_json::json;
use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use zegel_crypto::hash::Hasher;

/// A file that did not change for so long is complete.
const STABLE_MS: i64 = 1_000;
/// Names that are not documents.
const NOT_DOCUMENTS: [&str; 4] = [".part", ".tmp", ".stamp.json", ".error.json"];
/// Longest list: two million lines without references.
const LIST_BYTES: u64 = 128 << 20;
/// Bytes hashed at once.
const PIECE: usize = 64 * 1024;

/// Watches one folder.
pub struct DropFolder {
    folder: PathBuf,
    seen: HashMap<PathBuf, Seen>,
}

/// A file as it was seen last.
struct Seen {
    size: u64,
    changed: SystemTime,
    since: Millis,
    /// What it held, once it was taken.
    taken: Option<Taken>,
}

/// What a file held, and how far its answer has come.
struct Taken {
    references: Vec<u64>,
    /// So many of them have their end; they are not read again.
    ended: usize,
    stamped: usize,
    /// The first of those that are stamped, and the first of those that are not.
    told: Vec<View>,
    failed: Vec<View>,
}

/// What is in the folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Look {
    /// Files that are not complete yet.
    pub growing: usize,
    /// Files that are in the journal and not wholly stamped.
    pub waiting: usize,
    /// Files with their answer beside them.
    pub answered: usize,
}

impl DropFolder {
    /// Watches a folder that is there.
    #[must_use]
    pub fn new(folder: &Path) -> DropFolder {
        DropFolder { folder: folder.to_owned(), seen: HashMap::new() }
    }

    /// Looks once: journals what is complete and new, writes answers that are known now.
    ///
    /// # Errors
    /// When the folder or the journal fails.
    pub fn look(&mut self, journal: &Journal) -> Result<Look, HospitalError> {
        let (mut look, now) = (Look::default(), journal.now());
        let files = self.files()?;
        self.seen.retain(|path, _| files.contains_key(path));
        for (path, (size, changed)) in files {
            if is_answered(&path, changed) {
                self.seen.remove(&path);
                look.answered += 1;
                continue;
            }
            let fresh = || Seen { size, changed, since: now, taken: None };
            let seen = self.seen.entry(path.clone()).or_insert_with(fresh);
            if (seen.size, seen.changed) != (size, changed) || now < seen.since {
                *seen = fresh();
            }
            if now.since(seen.since) < STABLE_MS {
                look.growing += 1;
                continue;
            }
            let taken = match &mut seen.taken {
                Some(taken) => taken,
                None => match take(&path, journal)? {
                    Ok(references) => seen.taken.insert(Taken::new(references)),
                    Err(why) => {
                        beside(&path, "error", &json!({ "error": why }))?;
                        look.answered += 1;
                        continue;
                    }
                },
            };
            if answer(&path, taken, journal)? { look.answered += 1 } else { look.waiting += 1 }
        }
        Ok(look)
    }

    fn files(&self) -> Result<HashMap<PathBuf, (u64, SystemTime)>, HospitalError> {
        let mut files = HashMap::new();
        for entry in fs::read_dir(&self.folder).map_err(at(&self.folder))? {
            let entry = entry.map_err(at(&self.folder))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with('.') || NOT_DOCUMENTS.iter().any(|end| name.ends_with(end)) {
                continue;
            }
            // A file that was taken away between the two looks is none.
            let Ok(found) = entry.metadata() else { continue };
            if found.is_file() {
                files.insert(entry.path(), (found.len(), found.modified().map_err(at(&entry.path()))?));
            }
        }
        Ok(files)
    }
}

impl Taken {
    fn new(references: Vec<u64>) -> Taken {
        Taken { references, ended: 0, stamped: 0, told: Vec::new(), failed: Vec::new() }
    }

    /// Looks at the entries that had no end yet; whether all have one now.
    fn follow(&mut self, journal: &Journal) -> Result<bool, HospitalError> {
        while let Some(reference) = self.references.get(self.ended) {
            let entry = journal.entry(*reference)?.ok_or(HospitalError::Gone)?;
            match entry.state {
                State::Waiting | State::Accepted { .. } => return Ok(false),
                State::Stamped { .. } => {
                    self.stamped += 1;
                    keep(&mut self.told, entry.view());
                }
                State::Refused { .. } | State::Lost { .. } => keep(&mut self.failed, entry.view()),
            }
            self.ended += 1;
        }
        Ok(true)
    }
}

/// An answer lists so many entries of each kind, and counts the rest.
fn keep(list: &mut Vec<View>, view: View) {
    if list.len() < ENTRIES_MAX {
        list.push(view);
    }
}

/// Journals a file; its references, or why it cannot be taken.
fn take(path: &Path, journal: &Journal) -> Result<Result<Vec<u64>, String>, HospitalError> {
    let offers = if path.extension().is_some_and(|ending| ending == "hashes") {
        match list(path)? {
            Ok(offers) => offers,
            Err(why) => return Ok(Err(why)),
        }
    } else {
        vec![Offer { reference: None, document: digest(path)? }]
    };
    let mut references = Vec::with_capacity(offers.len());
    for (page, offered) in offers.chunks(ENTRIES_MAX).enumerate() {
        for (place, answer) in journal.add(offered)?.into_iter().enumerate() {
            let line = page * ENTRIES_MAX + place + 1;
            match answer {
                Answer::Journaled(view) | Answer::Known(view) => references.push(view.reference),
                Answer::Conflict { .. } => {
                    return Ok(Err(format!("entry {line}: its reference stands for another document")));
                }
                Answer::Invalid => return Ok(Err(format!("entry {line}: a reference is a number from 1 on"))),
            }
        }
    }
    Ok(Ok(references))
}

/// Reads a list of `[REF,]SHA-256`; or which line is none.
///
/// # Errors
/// When the file cannot be read.
pub fn list(path: &Path) -> Result<Result<Vec<Offer>, String>, HospitalError> {
    let mut text = String::new();
    let read = fs::File::open(path).and_then(|file| file.take(LIST_BYTES + 1).read_to_string(&mut text));
    match read {
        Ok(length) if length as u64 > LIST_BYTES => return Ok(Err("the list is longer than 128 MiB".to_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => return Ok(Err("not a text".to_owned())),
        other => other.map_err(at(path))?,
    };
    Ok(offers(&text))
}

/// Reads lines of `[REF,]SHA-256`.
///
/// # Errors
/// The number of the first line that is none; its text is not repeated.
pub fn offers(text: &str) -> Result<Vec<Offer>, String> {
    let one = |line: &str| {
        let (reference, hash) = match line.split_once(',') {
            Some((reference, hash)) => (Some(reference.trim().parse().ok()?), hash),
            None => (None, line),
        };
        Some(Offer { reference, document: hash.trim().to_ascii_lowercase().parse().ok()? })
    };
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(index, line)| {
            one(line).ok_or_else(|| format!("line {}: must be SHA-256 in hexadecimal, or REF,SHA-256", index + 1))
        })
        .collect()
}

/// The SHA-256 of a file, read in pieces.
///
/// # Errors
/// When it cannot be read.
pub fn digest(path: &Path) -> Result<Sha256, HospitalError> {
    digest_of(fs::File::open(path).map_err(at(path))?).map_err(at(path))
}

/// The SHA-256 of what a reader gives.
///
/// # Errors
/// What the reader says.
pub fn digest_of(mut source: impl Read) -> std::io::Result<Sha256> {
    let (mut hasher, mut piece) = (Hasher::new(), vec![0; PIECE]);
    loop {
        match source.read(&mut piece) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(length) => hasher.update(&piece[..length]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Writes the answer when every entry of the file has its end; whether it has.
fn answer(path: &Path, taken: &mut Taken, journal: &Journal) -> Result<bool, HospitalError> {
    if !taken.follow(journal)? {
        return Ok(false);
    }
    let Taken { references, stamped, told, failed, .. } = taken;
    let kind = if *stamped == references.len() { "stamp" } else { "error" };
    let answer = json!({ "count": references.len(), "stamped": stamped, "entries": told, "failed": failed });
    beside(path, kind, &answer)?;
    Ok(true)
}

fn beside(path: &Path, kind: &str, value: &serde_json::Value) -> Result<(), HospitalError> {
    durable(&answer_path(path, kind), format!("{value:#}\n").as_bytes())
}

fn answer_path(path: &Path, kind: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{kind}.json"));
    path.with_file_name(name)
}

fn is_answered(path: &Path, changed: SystemTime) -> bool {
    ["stamp", "error"].iter().any(|kind| {
        let answer = fs::metadata(answer_path(path, kind)).and_then(|found| found.modified());
        answer.is_ok_and(|answered| answered >= changed)
    })
}
