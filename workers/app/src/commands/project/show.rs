//! What is known of projects, and what differs between documents.

use super::target::Target;
use crate::cli::Server;
use crate::commands::Place;
use crate::failed::{Failed, at};
use crate::term::{Report, row, table};
use serde_json::json;
use std::fs;
use std::path::Path;
use zegel_ttp::project::desk::{Overview, State};
use zegel_ttp::project::diff::{Change, diff};

/// `zegel project status`: exit status 1 where a project is barred.
///
/// # Errors
/// When the platform or the folder cannot be asked.
pub fn status(target: &Target) -> Result<Report, Failed> {
    let projects = target.list()?;
    let mut rows = vec![row(["PROJECT", "STATE", "VERSION", "EPOCH", "UNTIL", "SENDERS", "NOTE"])];
    rows.extend(projects.iter().map(line));
    let is_barred = projects.iter().any(|project| project.state == State::Barred);
    let text = if projects.is_empty() { "no projects".to_owned() } else { table(&rows) };
    Ok(Report { json: json!({ "projects": projects }), text, status: u8::from(is_barred) })
}

fn line(project: &Overview) -> Vec<String> {
    let note = match &project.barred {
        Some(barred) => format!("{}: {}", barred.code, barred.why),
        None => project.warnings.join("; "),
    };
    row([
        &project.name,
        project.state.name(),
        &project.version.to_string(),
        &project.epoch.to_string(),
        project.until.as_deref().unwrap_or_default(),
        &project.senders.to_string(),
        &note,
    ])
}

/// `zegel project show`.
///
/// # Errors
/// When there is no such project.
pub fn show(target: &Target, name: &str) -> Result<Report, Failed> {
    let details = target.show(name)?;
    let mut text =
        table(&[row(["PROJECT", "STATE", "VERSION", "EPOCH", "UNTIL", "SENDERS", "NOTE"]), line(&details.overview)]);
    let mut rows = vec![row(["ENTRY", "DECISION", "EFFECTIVE", "SIGNED", "OFFICER"])];
    for decision in &details.decisions {
        let officer = decision.officer.to_string();
        let short = officer.get(..16).unwrap_or_default();
        rows.push(row([
            &decision.sequence.to_string(),
            &decision.deed,
            &decision.effective,
            &decision.signed_at,
            short,
        ]));
    }
    text.push_str(&format!("\n{}\n{}", table(&rows), details.document.as_deref().unwrap_or_default()));
    Ok(Report::new(serde_json::to_value(&details)?, text))
}

/// `zegel project diff`.
///
/// # Errors
/// When one of them cannot be read.
pub fn differences(place: &Place, server: &Server, old: &str, new: &Path) -> Result<Report, Failed> {
    let before = match Path::new(old) {
        path if path.is_file() => fs::read_to_string(path).map_err(at(path))?,
        _ => {
            let document = Target::choose(place, server)?.show(old)?.document;
            document.ok_or_else(|| Failed::refused("ZGL-NOT-FOUND", "the project has no document"))?
        }
    };
    let after = fs::read_to_string(new).map_err(at(new))?;
    let changes = diff(&before, &after).map_err(|error| Failed::Usage(error.to_string()))?;
    let lines: Vec<String> = changes.iter().map(change_line).collect();
    let text = if lines.is_empty() { "nothing differs".to_owned() } else { lines.join("\n") };
    Ok(Report::new(json!({ "changes": changes }), text))
}

/// A change in one line.
pub fn change_line(change: &Change) -> String {
    let said = match (&change.before, &change.after) {
        (Some(before), Some(after)) => format!("~ {}: {before} -> {after}", change.place),
        (None, Some(after)) => format!("+ {}: {after}", change.place),
        (Some(before), None) => format!("- {}: {before}", change.place),
        (None, None) => change.place.clone(),
    };
    change.note.map_or(said.clone(), |note| format!("{said}   ({note})"))
}
