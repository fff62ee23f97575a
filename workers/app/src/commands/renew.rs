//! `zegel timestamp renew`: new time stamps over old ones, before their certificates end.
//!
//! Each run renews what is due and is not renewed yet, so cron may start it as often as one likes, and a run that was cut off is
//! finished by the next one. A token that does not count under the trust file is not archived.

use crate::failed::Failed;
use crate::term::Report;
use schemas::{Millis, Sha256};
use serde_json::json;
use std::io::Read;
use std::path::Path;
use std::time::Duration;
use ureq::Agent;
use zegel_archive::ArchiveError;
use zegel_archive::finding::utc;
use zegel_archive::reader::Archive;
use zegel_archive::renewal::{self, Due};
use zegel_archive::trust::Trust;
use zegel_archive::writer::Writer;
use zegel_core::clock::{Clock, SystemClock};
use zegel_crypto::tsa::{Digest, Request, request_nonce};

const DAY_MS: i64 = 86_400_000;
/// Largest response that is read: a token with a chain of certificates has some kilobytes.
const RESPONSE_MAX: u64 = 64 * 1024;
/// An authority answers within seconds.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Renews what ends within so many days.
///
/// # Errors
/// The archive cannot be read or written; the authority is away or its tokens do not count.
pub fn run(folder: &Path, tsa: &str, trust: &Path, days: u32, dry_run: bool) -> Result<Report, Failed> {
    let trust = Trust::read(trust)?;
    let archive = Archive::open(folder)?;
    let (hospital, side) = match &archive.manifest {
        Some(manifest) if archive.findings.total() == 0 => (manifest.hospital.clone(), manifest.side),
        _ => return Err(Failed::Failure(format!("{}: the archive is damaged: run `zegel audit`", folder.display()))),
    };
    let due = renewal::due(&archive, SystemClock.now().plus(i64::from(days) * DAY_MS))?;
    let (count, first) = (due.len(), due.iter().map(|due: &Due| due.ends).min());
    let ends = first.map_or_else(String::new, |at: Millis| format!("; the first certificate ends at {}", utc(at)));
    if dry_run || due.is_empty() {
        let told = format!("{count} bags are due{ends}");
        return Ok(Report::new(json!({ "due": count, "renewed": 0 }), told));
    }
    let agent: Agent = Agent::config_builder().timeout_global(Some(TIMEOUT)).build().into();
    let mut writer = Writer::open(folder, &hospital, side)?;
    let renewed = renewal::renew(due, &mut writer, |root| stamp(&agent, tsa, &trust, root))?;
    writer.finish()?;
    let told = format!("{renewed} bags renewed{ends}");
    Ok(Report::new(json!({ "due": count, "renewed": renewed }), told))
}

/// Asks for a token over a digest.
fn stamp(agent: &Agent, tsa: &str, trust: &Trust, root: &Sha256) -> Result<Vec<u8>, ArchiveError> {
    let failed = |rule: String| ArchiveError::Input { what: "time-stamp authority".to_owned(), rule };
    // The low 64 bits of what is stamped are as good as a random nonce: they belong to this request alone.
    let nonce = u64::from_be_bytes(*root.0.last_chunk().unwrap_or(&[0; 8]));
    let request = Request::over(Digest::Sha256, &root.0, Some(nonce)).map_err(|error| failed(error.to_string()))?;
    let request = request.encode();
    let mut response = agent
        .post(tsa)
        .header("content-type", "application/timestamp-query")
        .send(request.as_slice())
        .map_err(|error| failed(error.to_string()))?;
    let mut bytes = Vec::new();
    let read = response.body_mut().as_reader().take(RESPONSE_MAX).read_to_end(&mut bytes);
    read.map_err(|error| failed(error.to_string()))?;
    let token = trust.verify(&bytes, root).map_err(|fault| failed(fault.text))?;
    if request_nonce(&request).ok() != Some(token.nonce) {
        return Err(failed("its token does not carry the request's nonce".to_owned()));
    }
    Ok(bytes)
}
