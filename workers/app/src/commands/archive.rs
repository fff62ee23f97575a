//! Archives of a hospital's bags: written out of the running platform or out of the hospital's mailbox, and evidence files out
//! of them.
//!
//! An archive grows: a second export goes on after the last bag that is there. Each bag is durable before the next page is
//! asked for.

use super::{Place, address, every, every_after, every_item};
use crate::cli::{Server, Side};
use crate::client::{Client, list, number, text};
use crate::failed::{Failed, at};
use crate::term::Report;
use base64::{Engine, engine::general_purpose::STANDARD};
use schemas::{MailboxAddress, Sha256};
use serde_json::json;
use std::fs;
use std::path::Path;
use zegel_archive::evidence::{self, Wanted};
use zegel_archive::finding::utc;
use zegel_archive::manifest;
use zegel_archive::reader::Archive;
use zegel_archive::record::Foreign;
use zegel_archive::trust::Trust;
use zegel_archive::writer::{NewBag, Writer};
use zegel_core::clock::{Clock, SystemClock};
use zegel_crypto::hash::sha256;

/// A mean Gregorian year.
const YEAR_MS: i64 = 31_556_952_000;

/// Writes or continues an archive.
///
/// # Errors
/// The platform refuses or is away; the archive cannot be written, or is another hospital's.
pub fn export(place: &Place, server: &Server, hospital: &str, out: &Path, side: Side) -> Result<Report, Failed> {
    let hospital = address(hospital)?;
    let folder = place.folder()?;
    let (client, kept_by) = match side {
        Side::Platform => (folder.owner_or_operator(server, &hospital)?, manifest::Side::Platform),
        Side::Hospital => (folder.owner(server, &hospital)?, manifest::Side::Hospital),
    };
    let Added { bags: written, before, last, proofs } = go_on(&client, &hospital, out, kept_by)?;
    let mut told = match written {
        0 => format!("no new bag after bag {before} in {}", out.display()),
        _ => format!("{written} bags added to {}, up to bag {last}", out.display()),
    };
    if proofs > 0 {
        told.push_str(&format!("\n{proofs} proofs added that bags stand in the platform's log"));
    }
    Ok(Report::new(json!({ "bags": written, "last": last, "log_proofs": proofs }), told))
}

/// What was added to an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Added {
    /// How many bags.
    pub bags: u64,
    /// The last bag before.
    pub before: u64,
    /// The last bag now.
    pub last: u64,
    /// How many proofs that bags stand in the log.
    pub proofs: u64,
}

/// Begins an archive or goes on with it: bags, certificates, revocation lists, proofs of the log, and hospitals' own bags.
///
/// # Errors
/// As [`export`].
pub fn go_on(client: &Client, hospital: &MailboxAddress, out: &Path, kept_by: manifest::Side) -> Result<Added, Failed> {
    let mut writer = Writer::open(out, hospital, kept_by)?;
    writer.append_material("ca.pem", &fetched(client, "/v1/timestamp/ca.pem")?)?;
    if let Some(list) = offered(client, "/v1/timestamp/ca.crl")? {
        writer.append_material("ca.crl", &list)?;
    }
    let before = writer.last();
    let bags = match kept_by {
        manifest::Side::Platform => from_platform(client, hospital, &mut writer)?,
        manifest::Side::Hospital => from_mailbox(client, hospital, &mut writer)?,
    };
    let last = writer.last();
    writer.sync()?;
    let proofs = super::archive_log::export(client, out, &mut writer)?;
    if kept_by == manifest::Side::Platform {
        own_bags(client, hospital, out, &mut writer)?;
    }
    writer.finish()?;
    Ok(Added { bags, before, last, proofs })
}

fn from_platform(client: &Client, hospital: &MailboxAddress, writer: &mut Writer) -> Result<u64, Failed> {
    let mut written = 0;
    let from = writer.last() + 1;
    let pages = format!("/v1/timestamp/bags/{hospital}");
    every_after(client, &pages, "bags", ("from", Some(from.to_string())), |bag| {
        let xml = fetched(client, text(bag, "xml"))?;
        let tsr = fetched(client, text(bag, "tsr"))?;
        let header = fetched(client, text(bag, "header"))?;
        written += 1;
        archived(writer, number(bag, "sequence"), &header, &xml, &tsr)
    })?;
    Ok(written)
}

/// Bags that the hospital made itself, once a bag of the platform that is in the archive holds their hash.
fn own_bags(client: &Client, hospital: &MailboxAddress, out: &Path, writer: &mut Writer) -> Result<(), Failed> {
    writer.sync()?;
    let archive = Archive::open(out)?;
    let known = archive.own_bags_kept()?;
    // Read once, and only where there is something to look for.
    let mut held = None;
    every(client, &format!("/v1/timestamp/own-bags/{hospital}"), "bags", "after", |bag| {
        let unreadable = |_| Failed::Failure("the platform lists a bag without its digest".to_owned());
        let digest: Sha256 = text(bag, "digest").parse().map_err(unreadable)?;
        if known.contains(&digest) {
            return Ok(());
        }
        let held = match &mut held {
            Some(held) => held,
            nothing => nothing.insert(archive.own_bags_held()?),
        };
        if let Some(held_by) = held.get(&digest).copied() {
            let (bytes, tsr) = (fetched(client, text(bag, "xml"))?, fetched(client, text(bag, "tsr"))?);
            writer.append_foreign(&Foreign { tsr: &tsr, bytes: &bytes, held_by })?;
        }
        Ok(())
    })?;
    Ok(writer.sync()?)
}

/// The copies that the platform delivered: XML and response are documents, the header stands in the metadata.
fn from_mailbox(client: &Client, hospital: &MailboxAddress, writer: &mut Writer) -> Result<u64, Failed> {
    let mut items = Vec::new();
    let last = writer.last();
    every_item(client, hospital, "inbox", |item| {
        let meta = item.get("meta");
        let field = |name: &str| meta.and_then(|meta| meta.get(name)).and_then(|value| value.as_str());
        // Only the platform itself sends bags; a message that says so of itself is somebody's letter.
        let ours = text(item, "from") == "platform";
        if let (true, Some(sequence), Some(header)) = (ours, field("bag-sequence"), field("bag-header")) {
            let sequence: u64 = sequence.parse().unwrap_or(0);
            if sequence > last && list(item, "parts").len() == 2 {
                items.push((sequence, text(item, "id").to_owned(), header.to_owned()));
            }
        }
        Ok(())
    })?;
    items.sort();
    items.dedup_by_key(|(sequence, ..)| *sequence);
    for (sequence, id, header) in &items {
        let part = |place: usize| fetched(client, &format!("/v1/boxes/{hospital}/items/{id}/parts/{place}"));
        let unreadable = |_| Failed::Failure(format!("bag {sequence}: its header is not base64"));
        let header = STANDARD.decode(header).map_err(unreadable)?;
        archived(writer, *sequence, &header, &part(0)?, &part(1)?)?;
    }
    Ok(items.len() as u64)
}

fn archived(writer: &mut Writer, sequence: u64, header: &[u8], xml: &[u8], tsr: &[u8]) -> Result<(), Failed> {
    writer.append(&NewBag { sequence, header, xml, tsr, request: None })?;
    Ok(writer.sync()?)
}

/// What the platform may have; none where it has not.
///
/// # Errors
/// The platform is away.
pub fn offered(client: &Client, path: &str) -> Result<Option<Vec<u8>>, Failed> {
    match fetched(client, path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(Failed::Refused { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Downloads something small.
///
/// # Errors
/// The platform refuses or is away.
pub fn fetched(client: &Client, path: &str) -> Result<Vec<u8>, Failed> {
    let mut bytes = Vec::new();
    client.download(path, &mut bytes)?;
    Ok(bytes)
}

/// Deletes what is older than the policy keeps.
///
/// # Errors
/// The archive cannot be read or written.
pub fn expire(folder: &Path, years: u32, dry_run: bool) -> Result<Report, Failed> {
    let before = SystemClock.now().plus(-i64::from(years) * YEAR_MS);
    let archive = Archive::open(folder)?;
    let (hospital, side) = match &archive.manifest {
        Some(manifest) if archive.findings.total() == 0 => (manifest.hospital.clone(), manifest.side),
        _ => return Err(Failed::Failure(format!("{}: the archive is damaged: run `zegel audit`", folder.display()))),
    };
    let gone = match dry_run {
        true => archive.expirable(before),
        false => Writer::open(folder, &hospital, side)?.expire(before)?,
    };
    let verb = if dry_run { "would go" } else { "deleted" };
    let told = format!("{gone} bags whose windows ended before {} {verb}", utc(before));
    Ok(Report::new(json!({ "bags": gone, "before": before, "dry_run": dry_run }), told))
}

/// Which document an evidence file is about, as the command line says it.
pub struct Asked<'a> {
    /// The archive.
    pub archive: &'a Path,
    /// Its reference.
    pub reference: Option<u64>,
    /// The document's file.
    pub document: Option<&'a Path>,
    /// Leave the document's bytes out.
    pub digest_only: bool,
    /// In hexadecimal.
    pub salt: Option<&'a str>,
    /// The trust file.
    pub trust: &'a Path,
    /// Where to.
    pub out: &'a Path,
}

/// Writes an evidence file.
///
/// # Errors
/// No bag holds the document; a file cannot be read or written.
pub fn evidence(asked: &Asked<'_>) -> Result<Report, Failed> {
    let salt = super::audit::salt(asked.salt)?;
    evidence_of(asked, &Trust::read(asked.trust)?, salt.as_deref())
}

/// The same with trust and salt at hand.
///
/// # Errors
/// As [`evidence`].
pub fn evidence_of(asked: &Asked<'_>, trust: &Trust, salt: Option<&[u8]>) -> Result<Report, Failed> {
    let document = asked.document.map(|path| fs::read(path).map_err(at(path))).transpose()?;
    let digest = document.as_deref().map(sha256);
    let wanted = Wanted {
        reference: asked.reference,
        document: document.as_deref().filter(|_| !asked.digest_only),
        digest,
        salt,
    };
    let bytes = evidence::make(&Archive::open(asked.archive)?, &wanted, trust)?;
    // What is handed out is checked first, as its reader will.
    let (view, findings) = evidence::check(&bytes, document.as_deref(), trust);
    if !findings.clean() {
        let first = findings.list().first().map_or_else(String::new, |found| format!("{}: {}", found.name, found.text));
        return Err(Failed::Failure(format!("the archive's evidence does not hold ({first}): run `zegel audit`")));
    }
    fs::write(asked.out, &bytes).map_err(at(asked.out))?;
    let told = format!("{}\n{} written, {} bytes", view.sentence, asked.out.display(), bytes.len());
    Ok(Report::new(json!({ "evidence": view, "bytes": bytes.len() }), told))
}
