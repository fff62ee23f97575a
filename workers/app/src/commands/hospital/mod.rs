//! `zegel timestamp agent|add|prove|status|export --journal`: the hospital's own side.
//!
//! A journal folder serves one process. While an agent has it, the other commands ask that agent, over the address and with
//! the token that it wrote into the folder; without an agent they open the journal themselves.

mod agent;
mod desk;
mod remote;

pub use agent::run as agent;

use super::address;
use super::archive::{Asked, evidence_of};
use crate::cli::hospital::{Add, Prove};
use crate::failed::{Failed, at};
use crate::folder::write_private_bytes;
use crate::term::Report;
use desk::Desk;
use schemas::Sha256;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use zegel_archive::manifest::Side;
use zegel_archive::reader::Archive;
use zegel_archive::record::{Bag, Foreign, Leaves, LogProof, Renewal, kinds};
use zegel_archive::trust::Trust;
use zegel_archive::writer::{NewBag, Writer};
use zegel_crypto::hash::sha256;
use zegel_hospital::drop_folder;
use zegel_hospital::journal::Begin;
use zegel_hospital::{Entry, HospitalError, Offer, State};

/// The archive in a journal folder.
const ARCHIVE: &str = "archive";
/// The certificate that the agent holds to.
const CA: &str = "ca.pem";

impl From<HospitalError> for Failed {
    fn from(error: HospitalError) -> Failed {
        match error {
            HospitalError::OtherHospital | HospitalError::OtherForm(_) | HospitalError::NoJournal => {
                Failed::Usage(error.to_string())
            }
            other => Failed::Failure(other.to_string()),
        }
    }
}

/// Writes documents into the journal.
///
/// # Errors
/// The journal or a file fails; then what was reported before is durable, and nothing else.
pub fn add(wanted: &Add) -> Result<Report, Failed> {
    let folder = wanted.journal.as_deref().unwrap_or(Path::new("."));
    let mut offers = Vec::new();
    for file in &wanted.files {
        match wanted.hashes {
            true => offers.extend(listed(file)?),
            false => offers.push(Offer { reference: wanted.reference, document: digest(file)? }),
        }
    }
    if wanted.reference.is_some() && offers.len() != 1 {
        return Err(Failed::Usage("--ref goes with one document".to_owned()));
    }
    let desk = Desk::open(folder, Begin { hospital: Some(address(&wanted.hospital)?), salted: None, first: 1 })?;
    let answers = desk.add(&offers)?;
    desk.close();
    let is = |answer: &Value, wanted: &str| answer["is"] == wanted;
    let count = |wanted: &str| answers.iter().filter(|answer| is(answer, wanted)).count();
    let (new, known, conflicts) = (count("journaled"), count("known"), count("conflict"));
    let invalid = answers.len() - new - known - conflicts;
    let mut told = format!("{new} in the journal, {known} there before, {} refused", conflicts + invalid);
    if let (1, Some(reference)) = (answers.len(), answers.first().and_then(|answer| answer["ref"].as_u64())) {
        told.push_str(&format!("; reference {reference}"));
    }
    for answer in answers.iter().filter(|answer| is(answer, "conflict")).take(20) {
        told.push_str(&format!("\nreference {}: conflict: it stands for another document", answer["ref"]));
    }
    let status = if conflicts + invalid > 0 { 3 } else { 0 };
    Ok(Report { json: json!({ "answers": answers }), text: told, status })
}

/// How many documents are where.
///
/// # Errors
/// There is no journal, or it fails.
pub fn status(folder: &Path) -> Result<Report, Failed> {
    let desk = Desk::open(folder, Begin { hospital: None, salted: None, first: 1 })?;
    let tally = desk.tally()?;
    desk.close();
    Ok(Report { text: sentence(&tally), status: status_of(&tally), json: tally })
}

/// Writes a document's evidence file.
///
/// # Errors
/// The document is not in the journal, or in no archived bag; a file cannot be read or written.
pub fn prove(wanted: &Prove) -> Result<Report, Failed> {
    let desk = Desk::open(&wanted.journal, Begin { hospital: None, salted: None, first: 1 })?;
    let found = desk.find(&digest(&wanted.document)?)?;
    desk.close();
    let entry = one_of(&found, wanted.reference)?;
    let State::Stamped { .. } = entry.state else {
        let text = match &entry.state {
            State::Lost { bag } => format!("the platform accepted it and left it out of bag {bag}: keep the journal"),
            State::Refused { why } => format!("the platform refused it ({why})"),
            _ => "it is on its way: no bag with it came back yet".to_owned(),
        };
        return Err(Failed::Failure(text));
    };
    let pinned = wanted.journal.join(CA);
    let trust = match &wanted.trust {
        Some(file) => Trust::read(file)?,
        None => {
            let pem = fs::read(&pinned).map_err(at(&pinned))?;
            Trust::parse("[[ca]]\nfile = \"ca.pem\"\n", |_| Ok(pem.clone()))?
        }
    };
    let asked = Asked {
        archive: &wanted.journal.join(ARCHIVE),
        reference: Some(entry.reference),
        document: Some(&wanted.document),
        digest_only: wanted.digest_only,
        salt: None,
        trust: &pinned,
        out: &wanted.out,
    };
    evidence_of(&asked, &trust, entry.salt.map(|salt| salt.0.to_vec()).as_deref())
}

/// Copies the agent's archive, sealed, for whoever audits it.
///
/// # Errors
/// There is no archive, or a file cannot be read or written.
pub fn export(folder: &Path, out: &Path, list: Option<&Path>) -> Result<Report, Failed> {
    let documents = list.map(|list| write_list(folder, list)).transpose()?;
    let archive = Archive::open(&folder.join(ARCHIVE))?;
    let hospital =
        archive.hospital.clone().ok_or_else(|| Failed::Failure("the archive does not say whose it is".to_owned()))?;
    let mut writer = Writer::open(out, &hospital, Side::Hospital)?;
    for (name, bytes) in archive.materials()? {
        writer.append_material(&name, &bytes)?;
    }
    let (before, mut bags) = (writer.last(), 0);
    for (_, slot) in archive.bags().filter(|(_, slot)| slot.sequence > before) {
        let body = archive.bag_body(slot.sequence)?;
        let bag = Bag::decode(&body).map_err(|_| damaged())?;
        let Bag { sequence, header, xml, tsr, request, .. } = bag;
        writer.append(&NewBag { sequence, header, xml, tsr, request })?;
        bags += 1;
    }
    copy_others(&archive, out, &mut writer)?;
    let last = writer.last();
    writer.finish()?;
    let mut told = format!("{bags} bags added to {}, up to bag {last}", out.display());
    if let (Some(count), Some(list)) = (documents, list) {
        told.push_str(&format!(
            "\n{count} documents with their salts in {}: for whoever may know them",
            list.display()
        ));
    }
    Ok(Report::new(json!({ "bags": bags, "last": last, "documents": documents }), told))
}

/// Proofs, renewals and the hospital's own bags that the copy does not have.
fn copy_others(archive: &Archive, out: &Path, writer: &mut Writer) -> Result<(), Failed> {
    writer.sync()?;
    let there = Archive::open(out)?;
    let bodies = |archive: &Archive, kind: u8| -> Result<Vec<Vec<u8>>, Failed> {
        let mut found = Vec::new();
        for (segment, slot) in archive.records(kind) {
            found.push(segment.body(slot).map_err(at(&archive.folder.join(&segment.name)))?);
        }
        Ok(found)
    };
    // Documents that were hashed anew come before the renewals that they belong to.
    for kind in [kinds::LOG_PROOF, kinds::LEAVES, kinds::RENEWAL, kinds::FOREIGN] {
        let known: HashSet<Sha256> = bodies(&there, kind)?.iter().map(|body| sha256(body)).collect();
        for body in bodies(archive, kind)?.iter().filter(|body| !known.contains(&sha256(body))) {
            match kind {
                kinds::LOG_PROOF => {
                    let LogProof { sequence, text } = LogProof::decode(body).map_err(|_| damaged())?;
                    writer.append_log_proof(sequence, text)?;
                }
                kinds::LEAVES => writer.append_leaves(&Leaves::decode(body).map_err(|_| damaged())?)?,
                kinds::RENEWAL => {
                    let Renewal { sequence, record } = Renewal::decode(body).map_err(|_| damaged())?;
                    writer.append_renewal(sequence, record)?;
                }
                _ => writer.append_foreign(&Foreign::decode(body).map_err(|_| damaged())?)?,
            }
        }
    }
    Ok(())
}

/// Writes the journal's documents as an auditor's list; how many.
fn write_list(folder: &Path, list: &Path) -> Result<u64, Failed> {
    let desk = Desk::open(folder, Begin { hospital: None, salted: None, first: 1 })?;
    let (mut text, mut count, mut from) = (String::new(), 0, Some(0));
    while let Some(first) = from {
        let (entries, next) = desk.page(first)?;
        for Entry { reference, document, salt, state, .. } in &entries {
            if matches!(state, State::Stamped { .. }) {
                let salt = salt.map(|salt| format!(",{}", hex::encode(salt.0))).unwrap_or_default();
                text.push_str(&format!("{reference},{document}{salt}\n"));
                count += 1;
            }
        }
        from = next;
    }
    desk.close();
    write_private_bytes(list, text.as_bytes())?;
    Ok(count)
}

fn one_of(found: &[Entry], reference: Option<u64>) -> Result<&Entry, Failed> {
    let mut matching = found.iter().filter(|entry| reference.is_none_or(|reference| reference == entry.reference));
    match (matching.next(), matching.next()) {
        (Some(entry), None) => Ok(entry),
        (Some(_), Some(_)) => Err(Failed::Usage("it was stamped under several references: say --ref".to_owned())),
        _ => Err(Failed::Failure("the journal does not have this document".to_owned())),
    }
}

/// What people are told of a tally.
pub(super) fn sentence(tally: &Value) -> String {
    let mut text = format!(
        "{} stamped, {} accepted and in no bag yet, {} waiting, {} refused, up to bag {}",
        tally["stamped"], tally["owed"], tally["waiting"], tally["refused"], tally["bag"]
    );
    if tally["lost"].as_u64() > Some(0) {
        text.push_str(&format!("\nALARM: {} that the platform accepted are not in their bags", tally["lost"]));
    }
    if let Some(why) = tally["halted"].as_str() {
        text.push_str(&format!("\nALARM: {why}; see rejected/"));
    }
    if tally["strangers"].as_u64() > Some(0) {
        text.push_str(&format!("\n{} entries in the bags are not of this journal", tally["strangers"]));
    }
    text
}

/// 1 when the platform broke its word, 3 when it refused something.
pub(super) fn status_of(tally: &Value) -> u8 {
    match (tally["lost"].as_u64(), tally["halted"].is_string(), tally["refused"].as_u64()) {
        (Some(0), false, Some(0)) => 0,
        (Some(0), false, _) => 3,
        _ => 1,
    }
}

fn digest(file: &Path) -> Result<Sha256, Failed> {
    if file == Path::new("-") {
        return Ok(drop_folder::digest_of(std::io::stdin().lock())?);
    }
    Ok(drop_folder::digest(file)?)
}

fn listed(file: &PathBuf) -> Result<Vec<Offer>, Failed> {
    let named = |why: String| Failed::Usage(format!("{}: {why}", file.display()));
    if file == Path::new("-") {
        return drop_folder::offers(&super::read_text(file)?).map_err(named);
    }
    drop_folder::list(file)?.map_err(named)
}

fn damaged() -> Failed {
    Failed::Failure("the archive is damaged: run `zegel audit`".to_owned())
}
