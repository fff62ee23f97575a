//! `zegel project`: papers of TTP projects, from the first draft to the end.

mod cells;
mod convert;
mod decide;
pub mod decode_role;
mod encode;
mod papers;
pub mod preview;
mod show;
pub mod target;
pub mod trial;

use self::papers::failure;
use self::target::Target;
use super::Place;
use crate::cli::{OptionalIdentity, Project, Server};
use crate::failed::{Failed, at};
use crate::register::OFFICERS;
use crate::term::Report;
use serde_json::json;
use std::fs;
use std::path::Path;
use zegel_core::Clock;
use zegel_core::clock::SystemClock;
use zegel_crypto::signed::{self, Identity};

/// Does what the command line says.
///
/// # Errors
/// See the functions of each.
pub fn run(place: &Place, wanted: &Project) -> Result<Report, Failed> {
    match wanted {
        Project::Key { name, out } => papers::key(name, out),
        Project::Officer { certificate } => officer(place, certificate),
        Project::Draft(wanted) => papers::write_draft(wanted),
        Project::Check { document } => papers::check(document),
        Project::Sign { document, party, identity } => papers::sign(document, party, identity),
        Project::Activate { server, document, identity, effective, trial } => {
            activate(place, (server, document), identity, effective.as_deref(), *trial)
        }
        Project::Show { server, name } => show::show(&Target::choose(place, server)?, name),
        Project::Diff { server, old, new } => show::differences(place, server, old, new),
        Project::Retire { server, name, reason, identity, effective, destroy_keys } => {
            let target = Target::choose(place, server)?;
            decide::retire(&target, (name, reason), identity, effective.as_deref(), *destroy_keys)
        }
        Project::Rotate(wanted) => match &wanted.convert {
            Some(input) => convert::convert(place, wanted, input),
            None => decide::rotate(&Target::choose(place, &wanted.server)?, wanted),
        },
        Project::Try { project, batch, out, sender } => preview::preview(project, batch, out, sender.as_deref()),
        Project::EncodeKeys { name, sender, out } => encode::write_keys(place, name, sender, out),
        Project::Encode(wanted) => encode::encode(wanted),
        Project::DecodeKey { out } => decode_role::make(out),
        Project::Decode(wanted) => decode_role::decode(wanted),
        Project::Cells { server, name } => cells::show(&place.folder()?.operator(server)?, name),
        Project::Status { server } => show::status(&Target::choose(place, server)?),
    }
}

/// Adds an officer's certificate to those who decide in this data folder.
fn officer(place: &Place, certificate: &Path) -> Result<Report, Failed> {
    let folder = place.folder()?;
    folder.create()?;
    let pem = fs::read_to_string(certificate).map_err(at(certificate))?;
    let new = signed::certificates(&pem).map_err(failure)?;
    let now = SystemClock.now();
    if new.iter().any(|one| !one.is_valid_at(now)) {
        let text = format!(
            "{}: the certificate is not valid today, so nothing that it signs would count",
            certificate.display()
        );
        return Err(Failed::refused("ZGL-TTP-FILING", text));
    }
    let path = folder.projects().join(OFFICERS);
    let known = if path.exists() { fs::read_to_string(&path).map_err(at(&path))? } else { String::new() };
    let before = if known.is_empty() { Vec::new() } else { signed::certificates(&known).map_err(failure)? };
    let added = new.iter().filter(|one| !before.contains(one)).count();
    if added > 0 {
        let text =
            format!("{}{pem}", if known.is_empty() { String::new() } else { known.trim_end().to_owned() + "\n" });
        signed::certificates(&text).map_err(failure)?;
        crate::folder::write_private(&path, &text)?;
    }
    let count = before.len() + added;
    let told = format!("{count} officers decide in {}", folder.root().display());
    Ok(Report::new(json!({ "officers": count, "added": added }), told))
}

fn activate(
    place: &Place,
    (server, path): (&Server, &Path),
    identity: &OptionalIdentity,
    effective: Option<&str>,
    trial: bool,
) -> Result<Report, Failed> {
    let target = Target::choose(place, server)?;
    if trial {
        let text = fs::read_to_string(path).map_err(at(path))?;
        let overview = trial::activate(&target, &place.folder()?.projects(), &text, SystemClock.now())?;
        let told = decide::told(&overview, &format!("version {} is in force for a trial", overview.version));
        return Ok(Report::new(json!({ "project": overview }), told));
    }
    let (Some(key), Some(certificate)) = (&identity.key, &identity.certificate) else {
        return Err(Failed::Usage("--key and --certificate are needed, or --trial".to_owned()));
    };
    let officer = Identity::load(key, certificate).map_err(failure)?;
    decide::activate_files(&target, path, &officer, effective)
}
