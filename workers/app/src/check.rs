//! `zegel check`: a data folder is read, never written, and every invariant that its rows can show is checked by name.
//!
//! It runs while no platform does: what is on its way would look like what is missing. Rows are opened with the folder's own keys, so a row that was moved or changed shows.
//! Failure behaviour: what is wrong is a finding with the invariant's name and the place (space, number), never a value;
//! only what keeps the check from looking at all is an error.

mod bags;
mod boxes;
mod contents;
mod feeds;
mod files;
mod rows;
mod submissions;

use self::rows::Rows;
use crate::backend;
use crate::commands::Place;
use crate::config::Config;
use crate::demo::needles::Needles;
use crate::failed::Failed;
use crate::folder::Folder;
use crate::platform;
use crate::term::{Report, row, table};
use schemas::Sha256;
use schemas::messages::ObjectRef;
use serde_json::{Value, json};
use std::io::Read;
use zegel_core::objects::{ObjectSink, StoredObject};
use zegel_core::store::DeadFilter;
use zegel_core::{Objects, ObjectsError};

/// Most findings that one check reports; the rest are counted.
const FINDINGS_MAX: usize = 50;

/// One check and what it found.
pub struct Line {
    /// The invariant's name.
    pub invariant: &'static str,
    /// What was looked at.
    pub what: &'static str,
    /// How many of them.
    pub looked_at: u64,
    /// What is wrong.
    pub findings: Vec<String>,
}

impl Line {
    /// A check that has not found anything yet.
    fn new(invariant: &'static str, what: &'static str) -> Line {
        Line { invariant, what, looked_at: 0, findings: Vec::new() }
    }

    /// Notes a finding, up to the bound.
    fn fault(&mut self, what: impl Into<String>) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(what.into());
        }
    }
}

/// Checks the data folder of the settings and reports.
///
/// # Errors
/// When it cannot be looked at.
pub fn run(place: &Place) -> Result<Report, Failed> {
    let config = place.config()?;
    let folder = Folder::at(&config.data);
    if !folder.database().exists() {
        return Err(Failed::Usage(format!("{} is no data folder", folder.root().display())));
    }
    if folder.is_served() {
        return Err(Failed::refused("folder-in-use", "a platform runs on this folder: stop it, then check"));
    }
    let lines = self::folder(&config)?;
    let mut rows = vec![row(["CHECK", "WHAT", "LOOKED AT", ""])];
    let mut found = Vec::new();
    for line in &lines {
        // A check that met nothing has shown nothing.
        let said = match (line.findings.is_empty(), line.looked_at) {
            (false, _) => "FAILED",
            (true, 0) => "none there",
            (true, _) => "ok",
        };
        rows.push(row([line.invariant, line.what, &line.looked_at.to_string(), said]));
        found.extend(line.findings.iter().map(|finding| format!("{}: {finding}", line.invariant)));
    }
    let checks: Vec<Value> = lines
        .iter()
        .map(|line| {
            json!({
                "invariant": line.invariant, "what": line.what, "looked_at": line.looked_at,
                "ok": line.findings.is_empty(), "findings": line.findings,
            })
        })
        .collect();
    let text = format!("{}{}", table(&rows), found.join("\n"));
    Ok(Report { json: json!({ "ok": found.is_empty(), "checks": checks }), text, status: u8::from(!found.is_empty()) })
}

/// Every check of the settings' folder, and of its objects where they are kept.
///
/// # Errors
/// When it cannot be looked at.
pub fn folder(config: &Config) -> Result<Vec<Line>, Failed> {
    let folder = &Folder::at(&config.data);
    let mut lines = vec![store(folder)?];
    if !lines[0].findings.is_empty() {
        // Rows of a damaged file say nothing more.
        return Ok(lines);
    }
    lines.extend(files::check(folder));
    let rows = Rows::open(folder)?;
    lines.push(rows.all_open()?);
    lines.push(dead(&rows)?);
    lines.push(submissions::check(&rows)?);
    lines.extend(boxes::check(&rows)?);
    let (feeds, identifiers) = feeds::check(&rows)?;
    lines.extend(feeds);
    let runtime = platform::runtime()?;
    let objects = backend::kept_objects(config, folder, rows.keys(), runtime.handle().clone())?;
    let objects: &dyn Objects = objects.as_ref().map_or(&NoObjects, |objects| objects);
    lines.extend(contents::check(&rows, objects)?);
    lines.push(bags::check(&rows, objects, folder)?);
    lines.push(leaks(folder, &identifiers)?);
    Ok(lines)
}

/// Where the folder of the objects is gone: all of them are missing, and a check makes no new one.
struct NoObjects;

impl Objects for NoObjects {
    fn create(&self) -> Result<Box<dyn ObjectSink>, ObjectsError> {
        Err(ObjectsError::Missing)
    }

    fn open(&self, _: &ObjectRef) -> Result<Box<dyn Read + Send>, ObjectsError> {
        Err(ObjectsError::Missing)
    }

    fn delete(&self, _: &Sha256) -> Result<(), ObjectsError> {
        Err(ObjectsError::Missing)
    }

    fn list(&self) -> Result<Vec<StoredObject>, ObjectsError> {
        Err(ObjectsError::Missing)
    }
}

/// Every page and rule of the store itself.
fn store(folder: &Folder) -> Result<Line, Failed> {
    let mut line = Line::new("I1", "pages and rules of the store");
    let found = zegel_embedded::check(folder.database()).map_err(|error| Failed::Failure(error.to_string()))?;
    line.looked_at = 1;
    found.into_iter().for_each(|finding| line.fault(format!("{}: {}", finding.rule, finding.what)));
    Ok(line)
}

/// Dead letters are not lost, but somebody has to look at them.
fn dead(rows: &Rows) -> Result<Line, Failed> {
    let mut line = Line::new("I1", "dead letters that nobody replayed or dropped");
    let mut after = None;
    loop {
        let filter = DeadFilter { after, limit: 100, ..DeadFilter::default() };
        let page = rows.offline().dead(filter).map_err(|error| Failed::Failure(error.to_string()))?;
        for letter in &page {
            line.looked_at += 1;
            line.fault(format!("{} number {} is dead ({})", letter.slot, letter.number, letter.code));
        }
        match page.last() {
            Some(last) if page.len() == 100 => after = Some((last.slot.channel, last.slot.partition, last.number)),
            _ => return Ok(line),
        }
    }
}

/// I4: the persons' numbers that are known from sealed rows stand nowhere in clear. A demo's hospitals may hold them.
fn leaks(folder: &Folder, identifiers: &[String]) -> Result<Line, Failed> {
    let mut line = Line::new("I4", "persons' numbers searched in every file");
    let needles = Needles::new(identifiers.iter().map(String::as_str));
    line.looked_at = needles.len() as u64;
    for path in needles.search(folder.root(), &[folder.root().join("hospitals")])? {
        let place = path.strip_prefix(folder.root()).unwrap_or(&path);
        line.fault(format!("a number stands in clear in {}", place.display()));
    }
    Ok(line)
}
