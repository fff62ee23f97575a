//! `zegel timestamp renew`: new time stamps over old ones, before their certificates end or their digest weakens.
//!
//! Each run renews what is due and is not renewed yet, so cron may start it as often as one likes, and a run that was cut off is
//! finished by the next one. A token that does not count under the trust file is not archived.

use crate::failed::{Failed, at};
use crate::term::Report;
use schemas::Millis;
use serde_json::json;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::time::Duration;
use ureq::Agent;
use zegel_archive::ArchiveError;
use zegel_archive::finding::utc;
use zegel_archive::list;
use zegel_archive::reader::Archive;
use zegel_archive::rehash::{self, Done, Originals};
use zegel_archive::renewal::{self, Due};
use zegel_archive::trust::Trust;
use zegel_archive::writer::Writer;
use zegel_core::clock::{Clock, SystemClock};
use zegel_crypto::hash::sha256;
use zegel_crypto::tsa::{Digest, Request, request_nonce};

const DAY_MS: i64 = 86_400_000;
/// Largest response that is read: a token with a chain of certificates has some kilobytes.
const RESPONSE_MAX: u64 = 64 * 1024;
/// An authority answers within seconds.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What to renew.
#[derive(Debug, Clone, Copy)]
pub enum What<'a> {
    /// Time stamps whose certificates end within so many days.
    EndingWithin(u32),
    /// All evidence that rests on a shorter digest, and the documents that are at hand.
    NotIn(Digest, AtHand<'a>),
}

/// Documents that are at hand.
#[derive(Debug, Clone, Copy)]
pub struct AtHand<'a> {
    /// The folder that they lie in.
    pub folder: Option<&'a Path>,
    /// The list with their salts.
    pub list: Option<&'a Path>,
}

/// Who stamps anew, and who says that it counts.
#[derive(Debug, Clone, Copy)]
pub struct By<'a> {
    /// RFC 3161 over HTTP.
    pub tsa: &'a str,
    /// The trust file.
    pub trust: &'a Path,
}

/// Renews.
///
/// # Errors
/// The archive cannot be read or written; the authority is away or its tokens do not count.
pub fn run(folder: &Path, by: By<'_>, what: What<'_>, dry_run: bool) -> Result<Report, Failed> {
    let trust = Trust::read(by.trust)?;
    let agent: Agent = Agent::config_builder().timeout_global(Some(TIMEOUT)).build().into();
    let stamp = |digest: Digest, root: &[u8]| stamp(&agent, by.tsa, &trust, (digest, root));
    // Before the archive is read: what is due must not change meanwhile.
    let writer = (!dry_run).then(|| writer(folder)).transpose()?;
    let archive = whole(folder)?;
    match what {
        What::EndingWithin(days) => {
            let due = renewal::due(&archive, SystemClock.now().plus(i64::from(days) * DAY_MS))?;
            let (count, ends) = (due.len(), first_end(&due));
            let renewed = match writer {
                Some(mut writer) if count > 0 => {
                    let renewed = renewal::renew(due, &mut writer, stamp)?;
                    writer.finish()?;
                    renewed
                }
                _ => 0,
            };
            let told = if renewed > 0 { format!("{renewed} bags renewed") } else { format!("{count} bags are due") };
            Ok(Report::new(json!({ "due": count, "renewed": renewed }), format!("{told}{ends}")))
        }
        What::NotIn(digest, at_hand) => {
            let originals = originals(&archive, digest, at_hand)?;
            let due = rehash::due(&archive, digest)?;
            let would = rehash::count(&archive, &due, &originals)?;
            if at_hand.folder.is_some() && would.documents == 0 && would.absent > 0 {
                // It cannot be mended afterwards: what is hashed anew without its documents stays so.
                let text = "no file of --documents is one that was stamped: give --list with the salts, or leave --documents out";
                return Err(Failed::refused("documents-unknown", text));
            }
            let done = match writer {
                Some(mut writer) if !due.is_empty() => {
                    let done = rehash::rehash(&archive, &due, &originals, &mut writer, stamp)?;
                    writer.finish()?;
                    done
                }
                _ => would,
            };
            Ok(rehashed(digest, done, dry_run))
        }
    }
}

fn rehashed(digest: Digest, done: Done, dry_run: bool) -> Report {
    let Done { bags, documents, absent } = done;
    let verb = if dry_run { "would be" } else { "were" };
    let mut told = format!("{bags} bags and {documents} documents {verb} hashed anew in {digest}");
    if absent > 0 {
        told.push_str(&format!(
            "\n{absent} entries stay bound by their old digest alone: their documents were not at hand"
        ));
    }
    let counts = json!({ "bags": bags, "documents": documents, "absent": absent, "dry_run": dry_run });
    Report::new(counts, told)
}

fn first_end(due: &[Due]) -> String {
    let first = due.iter().map(|due: &Due| due.ends).min();
    first.map_or_else(String::new, |at: Millis| format!("; the first certificate ends at {}", utc(at)))
}

/// The archive, when nothing of it is damaged.
fn whole(folder: &Path) -> Result<Archive, Failed> {
    let archive = Archive::open(folder)?;
    if archive.manifest.is_some() && archive.findings.total() == 0 {
        return Ok(archive);
    }
    Err(Failed::Failure(format!("{}: the archive is damaged: run `zegel audit`", folder.display())))
}

fn writer(folder: &Path) -> Result<Writer, Failed> {
    let archive = whole(folder)?;
    let manifest = archive.manifest.ok_or_else(|| Failed::Failure("the archive has no manifest".to_owned()))?;
    Ok(Writer::open(folder, &manifest.hospital, manifest.side)?)
}

/// Reads the documents, and the bags that the hospital made itself.
fn originals(archive: &Archive, digest: Digest, at_hand: AtHand<'_>) -> Result<Originals, Failed> {
    let salts = at_hand.list.map(|list| Ok::<_, Failed>(list::salts(&super::read_text(list)?)?)).transpose()?;
    let salts = salts.unwrap_or_default();
    let mut originals = Originals::new(digest);
    originals.add_own_bags(archive)?;
    let Some(folder) = at_hand.folder else { return Ok(originals) };
    for entry in fs::read_dir(folder).map_err(at(folder))? {
        let path = entry.map_err(at(folder))?.path();
        if path.is_file() {
            let document = fs::read(&path).map_err(at(&path))?;
            originals.add(&document, salts.get(&sha256(&document)).map_or(&[], Vec::as_slice));
        }
    }
    Ok(originals)
}

/// Asks for a token over a digest.
fn stamp(agent: &Agent, tsa: &str, trust: &Trust, (digest, root): (Digest, &[u8])) -> Result<Vec<u8>, ArchiveError> {
    let failed = |rule: String| ArchiveError::Input { what: "time-stamp authority".to_owned(), rule };
    // The low 64 bits of what is stamped are as good as a random nonce: they belong to this request alone.
    let nonce = u64::from_be_bytes(*root.last_chunk().unwrap_or(&[0; 8]));
    let request = Request::over(digest, root, Some(nonce)).map_err(|error| failed(error.to_string()))?;
    let request = request.encode();
    let mut response = agent
        .post(tsa)
        .header("content-type", "application/timestamp-query")
        .send(request.as_slice())
        .map_err(|error| failed(error.to_string()))?;
    let mut bytes = Vec::new();
    let read = response.body_mut().as_reader().take(RESPONSE_MAX).read_to_end(&mut bytes);
    read.map_err(|error| failed(error.to_string()))?;
    let token = trust.verify_over(&bytes, digest, root).map_err(|fault| failed(fault.text))?;
    if request_nonce(&request).ok() != Some(token.nonce) {
        return Err(failed("its token does not carry the request's nonce".to_owned()));
    }
    Ok(bytes)
}
