//! Drafting, signing and checking documents, where the parties are: no platform is needed.
//!
//! The signature of the i-th party of `FILE` lies beside it as `FILE.<i>.p7s`.

use crate::cli::{Draft, IdentityFiles};
use crate::commands::address;
use crate::failed::{Failed, at};
use crate::folder::{shown, write_private_bytes};
use crate::register::papers;
use crate::term::{Report, row, table};
use chrono::{Months, NaiveDate};
use schemas::{MailboxAddress, Millis, Sha256};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use zegel_core::Clock;
use zegel_core::clock::SystemClock;
use zegel_crypto::signed::{self, Identity};
use zegel_ttp::ProjectDocument;
use zegel_ttp::project::agreement::{PartyState, SignedDocument, party_states};
use zegel_ttp::project::book::day_of;
use zegel_ttp::project::draft;

/// The first line of a sample batch is not longer.
const HEADER_MAX: u64 = 1 << 20;
/// Years of a draft that names no last day.
const YEARS: u32 = 5;

/// A document as it lies on the disk, with the signatures beside it.
pub struct Papers {
    /// What it says.
    pub document: ProjectDocument,
    /// Its bytes and signatures.
    pub signed: SignedDocument,
}

impl Papers {
    /// Reads a document and its signatures.
    ///
    /// # Errors
    /// When it cannot be read, or is no project document.
    pub fn read(path: &Path) -> Result<Papers, Failed> {
        let text = fs::read_to_string(path).map_err(at(path))?;
        let document =
            ProjectDocument::parse(&text).map_err(|error| Failed::Usage(format!("{}: {error}", path.display())))?;
        let signatures = papers::read_signatures(|place| signature_path(path, place))?;
        Ok(Papers { document, signed: SignedDocument { document: text.into_bytes(), signatures } })
    }

    /// The first party without a good signature, in words.
    pub fn missing(&self) -> Option<String> {
        let states = party_states(&self.document, &self.signed);
        self.document.parties().into_iter().zip(states).find_map(|(party, state)| match state {
            PartyState::Signed { .. } => None,
            PartyState::Missing => Some(format!("{} has not signed", shown(party))),
            PartyState::Wrong(rule) => Some(format!("the signature of {}: {rule}", shown(party))),
        })
    }
}

/// Makes a key.
///
/// # Errors
/// When the files are there already, or cannot be written.
pub fn key(name: &str, out: &Path) -> Result<Report, Failed> {
    let identity = Identity::create(name, SystemClock.now()).map_err(failure)?;
    let [key, certificate] = ["key", "pem"].map(|ending| with_ending(out, ending));
    identity.write(&key, &certificate).map_err(failure)?;
    let fingerprint = identity.certificate().map_err(failure)?.fingerprint;
    let told = format!(
        "{}  private: keep it\n{}  certificate: give it to the others\nSHA-256 {fingerprint}",
        key.display(),
        certificate.display()
    );
    Ok(Report::new(json!({ "key": key, "certificate": certificate, "fingerprint": fingerprint }), told))
}

/// Prints a draft.
///
/// # Errors
/// An address, day, certificate or sample cannot be read.
pub fn write_draft(wanted: &Draft) -> Result<Report, Failed> {
    let today = day_of(SystemClock.now());
    let from = wanted.from.as_deref().map_or(Ok(today), day)?;
    let later = from.checked_add_months(Months::new(12 * YEARS)).unwrap_or(from);
    let until = wanted.until.as_deref().map_or(Ok(later), day)?;
    let text = draft::draft(&draft::Wanted {
        name: wanted.name.clone(),
        senders: wanted.sender.iter().map(|text| address(text)).collect::<Result<_, _>>()?,
        recipient: address(&wanted.recipient)?,
        deliberation: wanted.deliberation.clone(),
        valid: (from, until),
        certificates: wanted.certificate.iter().map(|text| certificate(text)).collect::<Result<_, _>>()?,
        columns: wanted.batch.as_deref().map_or(Ok(Vec::new()), columns)?,
    });
    // A draft may lack certificates; everything else that is wrong with it is said now.
    let partial = !wanted.certificate.is_empty() && wanted.certificate.len() < wanted.sender.len() + 1;
    match ProjectDocument::parse(&text) {
        Err(error) if !partial => Err(Failed::Usage(error.to_string())),
        _ => Ok(Report::new(json!({ "document": text }), text)),
    }
}

fn certificate(text: &str) -> Result<(MailboxAddress, Sha256), Failed> {
    let (party, file) =
        text.split_once('=').ok_or_else(|| Failed::Usage("--certificate must be ADDRESS=FILE.pem".to_owned()))?;
    let path = Path::new(file);
    let pem = fs::read_to_string(path).map_err(at(path))?;
    let fingerprint =
        signed::fingerprint(&pem).map_err(|error| Failed::Usage(format!("{}: {error}", path.display())))?;
    Ok((address(party)?, fingerprint))
}

/// The columns of a CSV file.
fn columns(path: &Path) -> Result<Vec<String>, Failed> {
    let file = File::open(path).map_err(at(path))?;
    let mut line = String::new();
    BufReader::new(file.take(HEADER_MAX)).read_line(&mut line).map_err(at(path))?;
    let line = line.trim_start_matches('\u{feff}');
    let delimiter = if line.matches(';').count() > line.matches(',').count() { b';' } else { b',' };
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).has_headers(false).from_reader(line.as_bytes());
    let record = reader.records().next().and_then(Result::ok);
    let record = record.ok_or_else(|| Failed::Usage(format!("{}: has no header", path.display())))?;
    Ok(record.iter().map(|name| name.trim().to_owned()).collect())
}

/// Signs as a party.
///
/// # Errors
/// When the party is none of the document's, or its key is not the one that the document names.
pub fn sign(path: &Path, party: &str, files: &IdentityFiles) -> Result<Report, Failed> {
    let papers = Papers::read(path)?;
    let party = address(party)?;
    let parties = papers.document.parties();
    let place = parties.iter().position(|known| **known == party);
    let place = place.ok_or_else(|| Failed::Usage("--party is none of the document's parties".to_owned()))? + 1;
    let identity = Identity::load(&files.key, &files.certificate).map_err(failure)?;
    let own = identity.certificate().map_err(failure)?.fingerprint;
    match papers.document.certificates.get(&party) {
        Some(named) if *named != own => {
            return Err(Failed::refused("ZGL-TTP-FILING", "the document names another certificate for this party"));
        }
        None => {
            let text = "the document names no certificates: add this party's, and every other's, before anybody signs";
            return Err(Failed::refused("ZGL-TTP-FILING", text));
        }
        Some(_) => {}
    }
    let signature = identity.sign(&papers.signed.document, SystemClock.now()).map_err(failure)?;
    let out = signature_path(path, place);
    write_private_bytes(&out, &signature)?;
    let told = format!("{}: give it to the TTP together with the document", out.display());
    Ok(Report::new(json!({ "signature": out, "party": place }), told))
}

/// Checks a document and its signatures.
///
/// # Errors
/// When it is no project document.
pub fn check(path: &Path) -> Result<Report, Failed> {
    let papers = Papers::read(path)?;
    let states = party_states(&papers.document, &papers.signed);
    let mut rows = vec![row(["PARTY", "SIGNATURE", "CERTIFICATE", "STATE"])];
    let mut values = Vec::new();
    for (place, (party, state)) in papers.document.parties().into_iter().zip(&states).enumerate() {
        let file = signature_path(path, place + 1);
        let named = papers.document.certificates.get(party).map(Sha256::to_string).unwrap_or_default();
        let said = match state {
            PartyState::Missing => "missing".to_owned(),
            PartyState::Signed { at, .. } => format!("signed {}", day_of(*at)),
            PartyState::Wrong(rule) => format!("WRONG: {rule}"),
        };
        let short = named.get(..16).unwrap_or("not named");
        rows.push(row([&shown(party), &file.display().to_string(), short, &said]));
        values.push(json!({ "party": shown(party), "signature": file, "certificate": named, "state": said }));
    }
    let is_complete = papers.missing().is_none() && !papers.document.certificates.is_empty();
    let is_wrong = states.iter().any(|state| matches!(state, PartyState::Wrong(_)));
    let mut told = format!("{}: the document is good\n{}", path.display(), table(&rows));
    if is_complete {
        told.push_str("every party has signed: an officer can activate it");
    } else if papers.document.certificates.is_empty() {
        told.push_str("it names no certificates yet: only a trial can activate it");
    }
    let warnings = papers.document.exchange_warnings();
    warnings.iter().for_each(|warning| told.push_str(&format!("\nnote: {warning}")));
    let json = json!({ "ok": !is_wrong, "complete": is_complete, "parties": values, "warnings": warnings });
    Ok(Report { json, text: told, status: u8::from(is_wrong) })
}

/// A day of the command line.
///
/// # Errors
/// [`Failed::Usage`].
pub fn day(text: &str) -> Result<NaiveDate, Failed> {
    NaiveDate::parse_from_str(text, "%Y-%m-%d").map_err(|_| Failed::Usage("a day is written YYYY-MM-DD".to_owned()))
}

/// The present day, or the one that is named.
///
/// # Errors
/// [`Failed::Usage`].
pub fn day_or_today(text: Option<&str>, now: Millis) -> Result<NaiveDate, Failed> {
    text.map_or(Ok(day_of(now)), day)
}

fn signature_path(document: &Path, place: usize) -> PathBuf {
    let mut name = document.as_os_str().to_owned();
    name.push(format!(".{place}.p7s"));
    PathBuf::from(name)
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{ending}"));
    PathBuf::from(name)
}

/// Values of JSON for a list of warnings.
pub fn texts(warnings: &[String]) -> Value {
    warnings.iter().map(|text| Value::String(text.clone())).collect()
}

pub(super) fn failure(error: impl std::fmt::Display) -> Failed {
    Failed::Failure(error.to_string())
}
