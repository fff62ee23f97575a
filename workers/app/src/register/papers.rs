//! How a project's papers lie in its folder.
//!
//! ```text
//! projects/officers.pem              certificates of the TTP's officers
//! projects/<name>/v<N>.toml          version N of the document, byte by byte as it was signed
//! projects/<name>/v<N>.<i>.p7s       detached signature of its i-th party, from 1
//! projects/<name>/<number>.toml      an entry of the register, 0001 and on, and
//! projects/<name>/<number>.p7s       the officer's detached signature over it
//! ```
//! An entry counts once its text is there, which is written last: a crash leaves a decision or none.
//! Bounds: papers over their largest size are not read, and make the project one that does not verify.

use crate::failed::Failed;
use crate::folder::{private_folder, write_private_bytes};
use std::fs;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use zegel_crypto::signed::SIGNATURE_MAX;
use zegel_ttp::project::agreement::{DOCUMENT_MAX, Dossier, ENTRIES_MAX, SignedDocument, SignedEntry};
use zegel_ttp::project::entry::ENTRY_MAX;

/// Most versions of one document: one for every entry.
const VERSIONS_MAX: u32 = 10_000;
/// Most parties of one document: senders, callers that encode and callers that decode, a thousand each, and the recipient.
const PARTIES_MAX: usize = 3_001;

/// A file's bytes; none where it is missing, and at most one byte more than `most`, which no reader of it accepts.
pub fn read(path: &Path, most: usize) -> io::Result<Option<Vec<u8>>> {
    let file = match fs::File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let mut bytes = Vec::new();
    file.take(most as u64 + 1).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// All papers in a project's folder.
///
/// # Errors
/// When something there cannot be read.
pub fn read_dossier(folder: &Path) -> io::Result<Dossier> {
    let mut dossier = Dossier::default();
    for version in 1..=VERSIONS_MAX {
        let Some(document) = read(&document_path(folder, version), DOCUMENT_MAX)? else { break };
        let signatures = read_signatures(|place| signature_path(folder, version, place))?;
        dossier.documents.insert(version, SignedDocument { document, signatures });
    }
    for number in 1..=ENTRIES_MAX + 1 {
        let Some(text) = read(&entry_path(folder, number, "toml"), ENTRY_MAX)? else { break };
        let signature = read(&entry_path(folder, number, "p7s"), SIGNATURE_MAX)?.unwrap_or_default();
        dossier.entries.push(SignedEntry { text, signature });
    }
    Ok(dossier)
}

/// Signatures of parties at the paths that `path` gives for their places from 1, up to the last one that is there.
///
/// # Errors
/// When one of them cannot be read.
pub fn read_signatures(path: impl Fn(usize) -> PathBuf) -> io::Result<Vec<Option<Vec<u8>>>> {
    let mut found = Vec::new();
    // Not every party has signed a draft yet: a gap does not end the list.
    for place in 1..=PARTIES_MAX {
        let signature = read(&path(place), SIGNATURE_MAX)?;
        let is_gap_too_long =
            signature.is_none() && found.len() > 64 && found.iter().rev().take(64).all(Option::is_none);
        if is_gap_too_long {
            break;
        }
        found.push(signature);
    }
    while found.last().is_some_and(Option::is_none) {
        found.pop();
    }
    Ok(found)
}

/// Writes a version of the document with its signatures, durable on return.
///
/// # Errors
/// When the system refuses.
pub fn write_document(folder: &Path, version: u32, signed: &SignedDocument) -> Result<(), Failed> {
    private_folder(folder)?;
    for (place, signature) in signed.signatures.iter().enumerate() {
        if let Some(signature) = signature {
            write_private_bytes(&signature_path(folder, version, place + 1), signature)?;
        }
    }
    write_private_bytes(&document_path(folder, version), &signed.document)
}

/// Writes an entry with its signature, durable on return.
///
/// # Errors
/// When the system refuses.
pub fn write_entry(folder: &Path, number: usize, entry: &SignedEntry) -> Result<(), Failed> {
    private_folder(folder)?;
    write_private_bytes(&entry_path(folder, number, "p7s"), &entry.signature)?;
    write_private_bytes(&entry_path(folder, number, "toml"), &entry.text)
}

fn document_path(folder: &Path, version: u32) -> PathBuf {
    folder.join(format!("v{version}.toml"))
}

fn signature_path(folder: &Path, version: u32, place: usize) -> PathBuf {
    folder.join(format!("v{version}.{place}.p7s"))
}

fn entry_path(folder: &Path, number: usize, ending: &str) -> PathBuf {
    folder.join(format!("{number:04}.{ending}"))
}

/// What changes when a paper does: name, size and time of a file.
pub type Mark = (PathBuf, u64, Option<std::time::SystemTime>);

/// The marks of everything in the folder and in the folders there.
///
/// # Errors
/// When the folder cannot be read.
pub fn look(folder: &Path) -> io::Result<Vec<Mark>> {
    let mut found = marks(folder)?;
    for (path, ..) in found.clone() {
        if path.is_dir() {
            found.extend(marks(&path)?);
        }
    }
    found.sort();
    Ok(found)
}

fn marks(folder: &Path) -> io::Result<Vec<Mark>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        // A file that went away meanwhile is a change that the next look sees.
        if let Ok(data) = path.metadata() {
            found.push((path, data.len(), data.modified().ok()));
        }
    }
    Ok(found)
}
