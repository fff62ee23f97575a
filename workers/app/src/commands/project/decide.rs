//! Decisions of an officer: written as the next entry of the register, signed here, handed in.

use super::papers::{Papers, day_or_today, failure, texts};
use super::target::Target;
use crate::cli::{IdentityFiles, Rotate};
use crate::failed::Failed;
use crate::term::Report;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chrono::NaiveDate;
use schemas::Millis;
use serde_json::json;
use std::path::Path;
use zegel_core::Clock;
use zegel_core::clock::SystemClock;
use zegel_crypto::hash::sha256;
use zegel_crypto::signed::Identity;
use zegel_ttp::ProjectDocument;
use zegel_ttp::project::agreement::{Dossier, SignedDocument, check_amendment};
use zegel_ttp::project::desk::{Filing, Overview};
use zegel_ttp::project::diff;
use zegel_ttp::project::entry::{Deed, Entry};

/// Who decides what from when.
pub struct Decision<'a> {
    /// Which project.
    pub name: &'a str,
    /// From which day.
    pub effective: NaiveDate,
    /// Who.
    pub officer: &'a Identity,
    /// The present instant.
    pub now: Millis,
}

/// The first day that a decision may take effect: today, the day that is named, or that of the decision ahead.
///
/// # Errors
/// When the day cannot be read, or the platform not be asked.
pub fn earliest(target: &Target, name: &str, day: Option<&str>, now: Millis) -> Result<NaiveDate, Failed> {
    let wanted = day_or_today(day, now)?;
    let ahead = target.find(name)?.and_then(|details| details.earliest).and_then(|text| text.parse().ok());
    Ok(ahead.filter(|ahead: &NaiveDate| day.is_none() && *ahead > wanted).unwrap_or(wanted))
}

/// Signs a deed as the register's next entry and hands it in.
fn file(
    target: &Target,
    decision: &Decision<'_>,
    deed: Deed,
    papers: Option<&SignedDocument>,
) -> Result<Overview, Failed> {
    let known = target.find(decision.name)?;
    let (sequence, previous) = known.map_or((1, None), |details| (details.decisions.len() + 1, details.head));
    let entry = Entry {
        form: 1,
        project: decision.name.to_owned(),
        sequence: u32::try_from(sequence).map_err(failure)?,
        previous,
        effective: decision.effective,
        deed,
    };
    let text = entry.to_toml().map_err(failure)?;
    let countersignature = decision.officer.sign(text.as_bytes(), decision.now).map_err(failure)?;
    let encode = |bytes: &Vec<u8>| BASE64_STANDARD.encode(bytes);
    target.file(&Filing {
        entry: text,
        countersignature: encode(&countersignature),
        document: papers.map(|papers| String::from_utf8_lossy(&papers.document).into_owned()),
        signatures: papers.map(|p| p.signatures.iter().flatten().map(encode).collect()).unwrap_or_default(),
    })
}

/// Activates a document that every party has signed.
///
/// # Errors
/// A signature is missing or wrong, or the register refuses.
pub fn activate(
    target: &Target,
    decision: &Decision<'_>,
    document: &ProjectDocument,
    signed: SignedDocument,
    trial: bool,
) -> Result<Overview, Failed> {
    let mut dossier = Dossier::default();
    let digest = sha256(&signed.document);
    dossier.documents.insert(document.version, signed);
    let refused = |text: String| Failed::refused("ZGL-TTP-FILING", text);
    let signatures = dossier.signatures_of(document.version, document).map_err(|fault| refused(fault.to_string()))?;
    let root = target.root(&document.root_name())?;
    let deed = Deed::Activate { version: document.version, document: digest, root, trial, signatures };
    file(target, decision, deed, dossier.documents.get(&document.version))
}

/// `zegel project activate`, with an officer's key.
///
/// # Errors
/// See [`activate`].
pub fn activate_files(
    target: &Target,
    path: &Path,
    officer: &Identity,
    effective: Option<&str>,
) -> Result<Report, Failed> {
    let papers = Papers::read(path)?;
    if let Some(missing) = papers.missing() {
        return Err(Failed::refused("ZGL-TTP-FILING", format!("{missing}: see zegel project check")));
    }
    let name = papers.document.name.clone();
    let before = target.find(&name)?.filter(|details| !details.decisions.is_empty()).and_then(|d| d.document);
    let mut changes = Vec::new();
    if let Some(old) = &before {
        let read = ProjectDocument::parse(old).map_err(failure)?;
        check_amendment(&read, &papers.document).map_err(|rule| Failed::refused("ZGL-TTP-FILING", rule))?;
        changes = diff::diff(old, &String::from_utf8_lossy(&papers.signed.document)).map_err(failure)?;
    }
    let now = SystemClock.now();
    let effective = earliest(target, &name, effective, now)?;
    let decision = Decision { name: &name, effective, officer, now };
    let overview = activate(target, &decision, &papers.document, papers.signed, false)?;
    let mut told = told(&overview, &format!("version {} takes effect on {effective}", papers.document.version));
    changes.iter().for_each(|change| told.push_str(&format!("\n{}", super::show::change_line(change))));
    Ok(Report::new(json!({ "project": overview, "effective": effective.to_string(), "changes": changes }), told))
}

/// What is said after a decision.
pub fn told(overview: &Overview, what: &str) -> String {
    let mut told = format!("{}: {what}", overview.name);
    overview.warnings.iter().for_each(|warning| told.push_str(&format!("\nnote: {warning}")));
    told
}

/// `zegel project retire`.
///
/// # Errors
/// The register refuses, or the keys are another project's too.
pub fn retire(
    target: &Target,
    (name, reason): (&str, &str),
    files: &IdentityFiles,
    effective: Option<&str>,
    destroy_keys: bool,
) -> Result<Report, Failed> {
    let officer = Identity::load(&files.key, &files.certificate).map_err(failure)?;
    let now = SystemClock.now();
    let details = target.show(name)?;
    let effective = earliest(target, name, effective, now)?;
    let decision = Decision { name, effective, officer: &officer, now };
    let mut overview = details.overview.clone();
    let is_retired = details.decisions.last().is_some_and(|last| last.deed.starts_with("retire"));
    if !is_retired {
        overview = file(target, &decision, Deed::Retire { reason: reason.to_owned() }, None)?;
    }
    let mut what = format!("retired from {effective} on");
    if destroy_keys {
        let root = details.root.ok_or_else(|| Failed::refused("ZGL-TTP-FILING", "nothing was activated"))?;
        overview = file(target, &decision, Deed::DestroyKeys { root }, None)?;
        what.push_str(&format!(
            "; its keys are destroyed (commitment {root}): destroy every copy of the key file that still holds them"
        ));
    }
    let json = json!({ "project": overview, "effective": effective.to_string(), "keys_destroyed": destroy_keys });
    Ok(Report::new(json, told(&overview, &what)))
}

/// `zegel project rotate`.
///
/// # Errors
/// The register refuses.
pub fn rotate(target: &Target, wanted: &Rotate) -> Result<Report, Failed> {
    let officer = Identity::load(&wanted.identity.key, &wanted.identity.certificate).map_err(failure)?;
    let now = SystemClock.now();
    let details = target.show(&wanted.name)?;
    let epoch = details.decisions.iter().filter(|one| one.deed.starts_with("rotate")).count() + 2;
    let effective = earliest(target, &wanted.name, wanted.effective.as_deref(), now)?;
    let decision = Decision { name: &wanted.name, effective, officer: &officer, now };
    let deed = Deed::Rotate { epoch: u32::try_from(epoch).map_err(failure)? };
    let overview = file(target, &decision, deed, None)?;
    let what = format!("tokens are made with epoch {epoch} from {effective} on");
    let json = json!({ "project": overview, "epoch": epoch, "effective": effective.to_string(),
        "warnings": texts(&overview.warnings) });
    Ok(Report::new(json, told(&overview, &what)))
}
