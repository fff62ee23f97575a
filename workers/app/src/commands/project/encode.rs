//! One-way projects in a process of their own: `zegel project encode-keys` writes keys that cannot decode, `zegel project encode` works
//! with them and with nothing else.

use super::preview;
use crate::cli::Encode;
use crate::commands::{Place, address};
use crate::failed::{Failed, at};
use crate::folder::write_private;
use crate::register::FileRegister;
use crate::term::Report;
use serde_json::json;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use zegel_core::clock::SystemClock;
use zegel_crypto::pseudonym::{EncodeKeys, PseudonymRoot};
use zegel_ttp::{CompiledProject, ProjectDocument, one_way_keys};

/// Writes the keys with which batches of one sender are encoded, from the key file of the data folder.
///
/// # Errors
/// The project does not hold, the sender is not its, or a field needs keys that decode.
pub fn write_keys(place: &Place, name: &str, sender: &str, out: &Path) -> Result<Report, Failed> {
    let sender = address(sender)?;
    let folder = place.folder()?;
    let register = FileRegister::new(folder.projects(), Arc::new(folder.open_keys()?), Arc::new(SystemClock));
    let held = register.held(name)?;
    if !held.document().senders.contains(&sender) {
        return Err(Failed::refused("ZGL-TTP-SENDER", "the sender does not belong to the project"));
    }
    let refused = |error: zegel_ttp::ProjectError| Failed::refused("ZGL-TTP-FILING", error.to_string());
    let (recipient, sender) = (held.document().recipient.to_string(), sender.to_string());
    let needed = one_way_keys(held.document(), &sender).map_err(refused)?;
    let mut scopes: Vec<_> = needed.into_iter().map(|(_, needed)| needed).collect();
    // Of two that differ only in that, the one whose tokens hold the value serves both.
    scopes.sort_unstable_by_key(|needed| (needed.domain, needed.sender, !needed.is_escrow));
    scopes.dedup_by_key(|needed| (needed.domain, needed.sender));
    let count = scopes.len();
    let keys = PseudonymRoot::new(held.root.expose()).encode_keys(&recipient, held.epoch, scopes);
    write_private(out, &keys.to_toml())?;
    let told =
        format!("{count} keys in {}: they encode and cannot decode, but who has them can try values", out.display());
    Ok(Report::new(json!({ "keys": count, "epoch": held.epoch }), told))
}

/// Encodes a batch; no data folder is read.
///
/// # Errors
/// The document or its keys cannot be used, or a file not be read or written.
pub fn encode(wanted: &Encode) -> Result<Report, Failed> {
    let text = fs::read_to_string(&wanted.project).map_err(at(&wanted.project))?;
    let document = ProjectDocument::parse(&text).map_err(|error| Failed::Usage(error.to_string()))?;
    let keys = zeroize::Zeroizing::new(fs::read_to_string(&wanted.keys).map_err(at(&wanted.keys))?);
    let keys =
        EncodeKeys::from_toml(&keys).map_err(|rule| Failed::Usage(format!("{}: {rule}", wanted.keys.display())))?;
    let sender = address(&wanted.sender)?;
    let mut input = preview::opened(&document, &wanted.batch)?;
    let project = CompiledProject::encode_only(document, keys, &sender);
    let project = project.map_err(|error| Failed::refused("ZGL-TTP-FILING", error.to_string()))?;
    let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&wanted.out);
    let mut file = created.map_err(at(&wanted.out))?;
    let outcome = preview::run(project, (&wanted.batch, &mut *input), &sender, &mut file);
    if !matches!(outcome, Ok(Ok(_))) {
        // A part of a batch is no batch.
        fs::remove_file(&wanted.out).map_err(at(&wanted.out))?;
    }
    Ok(preview::report(outcome?, &format!("encoded in {}", wanted.out.display())))
}
