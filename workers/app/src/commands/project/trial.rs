//! A trial: one person holds every key, so that a project can be tried before anybody has signed anything.
//!
//! The parties' keys are made, used once, and forgotten. The officer's is kept beside the papers, because the next trial in
//! this folder needs it. A folder that has officers of its own takes no trial (I8), and a document that names certificates
//! neither: its parties sign it.

use super::decide::{self, Decision};
use super::papers::failure;
use super::target::Target;
use crate::failed::Failed;
use crate::folder::private_folder;
use crate::register::OFFICERS;
use schemas::Millis;
use std::fs;
use std::path::Path;
use zegel_crypto::signed::{self, Identity};
use zegel_ttp::ProjectDocument;
use zegel_ttp::project::agreement::SignedDocument;
use zegel_ttp::project::desk::Overview;

const KEY: &str = "trial-officer.key";
const CERTIFICATE: &str = "trial-officer.pem";

/// Signs a document for everybody and activates it. `projects` is the data folder's folder of projects.
///
/// # Errors
/// When it is no project document, names certificates, or the folder has officers of its own.
pub fn activate(target: &Target, projects: &Path, text: &str, now: Millis) -> Result<Overview, Failed> {
    let document = ProjectDocument::parse(text).map_err(|error| Failed::Usage(error.to_string()))?;
    if !document.certificates.is_empty() {
        let text = "the document names certificates, so its parties sign it: a trial is for documents without";
        return Err(Failed::refused("ZGL-TTP-FILING", text));
    }
    let officer = officer(projects, now)?;
    let bytes = text.as_bytes().to_vec();
    let sign = |place: usize| {
        let party = Identity::create(&format!("trial party {}", place + 1), now).map_err(failure)?;
        party.sign(&bytes, now).map(Some).map_err(failure)
    };
    let signatures = (0..document.parties().len()).map(sign).collect::<Result<_, Failed>>()?;
    let signed = SignedDocument { document: bytes.clone(), signatures };
    let effective = decide::earliest(target, &document.name, None, now)?;
    let decision = Decision { name: &document.name, effective, officer: &officer, now };
    decide::activate(target, &decision, &document, signed, true)
}

/// The folder's trial officer, made with the first trial.
fn officer(projects: &Path, now: Millis) -> Result<Identity, Failed> {
    private_folder(projects)?;
    let [officers, key, certificate] = [OFFICERS, KEY, CERTIFICATE].map(|name| projects.join(name));
    if !officers.exists() {
        let officer = Identity::create("trial officer", now).map_err(failure)?;
        for leftover in [&key, &certificate] {
            // Of a trial that was cut off before its officer was known.
            let _absent = fs::remove_file(leftover);
        }
        officer.write(&key, &certificate).map_err(failure)?;
        crate::folder::write_private(&officers, &officer.certificate_pem().map_err(failure)?)?;
    }
    let own = "this folder has officers of its own: a trial is for a folder without";
    if !key.exists() {
        return Err(Failed::refused("ZGL-TTP-FILING", own));
    }
    let officer = Identity::load(&key, &certificate).map_err(failure)?;
    let known = signed::certificates(&fs::read_to_string(&officers)?).map_err(failure)?;
    // Beside a real officer, the trial's key, which lies about in the folder, must not decide.
    if known.len() > 1 || !known.contains(&officer.certificate().map_err(failure)?) {
        return Err(Failed::refused("ZGL-TTP-FILING", own));
    }
    Ok(officer)
}
