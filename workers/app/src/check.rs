//! `zegel check`: a data folder and the store of its settings are read, never written, and every invariant that their rows
//! can show is checked by name.
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

use self::rows::{Rows, Source};
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
use zegel_core::clock::SystemClock;
use zegel_core::objects::{ObjectSink, StoredObject};
use zegel_core::store::DeadFilter;
use zegel_core::{Clock as _, Objects, ObjectsError};

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
    let folder = Folder::of(&config);
    let needed = if backend::is_shared(&config) { folder.keys() } else { folder.database() };
    if !needed.exists() {
        return Err(Failed::Usage(format!("{} is no data folder", folder.root().display())));
    }
    if folder.is_served() {
        return Err(Failed::refused("folder-in-use", "a platform runs on this folder: stop it, then check"));
    }
    let lines = platform(&config, true)?;
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

/// Every check of the settings' folder, and of store and objects where they are kept. Where `alone` is asked, a store
/// that a process of another machine serves is refused.
///
/// # Errors
/// When it cannot be looked at.
pub fn platform(config: &Config, alone: bool) -> Result<Vec<Line>, Failed> {
    let folder = &Folder::of(config);
    let runtime = platform::runtime()?;
    let mut lines = Vec::new();
    if !backend::is_shared(config) {
        lines.push(pages(folder)?);
        if !lines[0].findings.is_empty() {
            // Rows of a damaged file say nothing more.
            return Ok(lines);
        }
    }
    let source = Source::open(config, folder, runtime.handle())?;
    if let Source::Postgres(offline, runtime) = &source {
        if alone && runtime.block_on(offline.is_served(SystemClock.now())).map_err(rows::failure)? {
            let text = "a process works on this store: stop all of them, wait until their leases end, then check";
            return Err(Failed::refused("store-in-use", text));
        }
        lines.push(rules(runtime.block_on(offline.check()).map_err(rows::failure)?));
    }
    lines.extend(files::check(folder));
    let rows = Rows::open(source, folder)?;
    lines.push(rows.all_open()?);
    lines.push(dead(&rows)?);
    lines.push(submissions::check(&rows)?);
    lines.extend(boxes::check(&rows)?);
    let (feeds, identifiers) = feeds::check(&rows)?;
    lines.extend(feeds);
    let objects = backend::kept_objects(config, folder, rows.keys(), runtime.handle().clone())?;
    let objects: &dyn Objects = objects.as_ref().map_or(&NoObjects, |objects| objects);
    lines.extend(contents::check(&rows, objects)?);
    lines.push(bags::check(&rows, objects, folder, &config.timestamp)?);
    let needles = Needles::new(identifiers.iter().map(String::as_str));
    lines.push(leaks(folder, &needles)?);
    if let Source::Postgres(offline, runtime) = rows.source() {
        lines.push(leaks_in_rows(offline, runtime, &needles)?);
    }
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

/// Every page and rule of the embedded store itself.
fn pages(folder: &Folder) -> Result<Line, Failed> {
    let mut line = Line::new("I1", "pages and rules of the store");
    let found = zegel_embedded::check(folder.database()).map_err(rows::failure)?;
    line.looked_at = 1;
    found.into_iter().for_each(|finding| line.fault(format!("{}: {}", finding.rule, finding.what)));
    Ok(line)
}

/// Every rule of a store in PostgreSQL; its pages are the server's.
fn rules(found: Vec<zegel_postgres::Finding>) -> Line {
    let mut line = Line::new("I1", "rules of the store");
    line.looked_at = 1;
    found.into_iter().for_each(|finding| line.fault(format!("{}: {}", finding.rule, finding.what)));
    line
}

/// Dead letters are not lost, but somebody has to look at them.
fn dead(rows: &Rows) -> Result<Line, Failed> {
    let mut line = Line::new("I1", "dead letters that nobody replayed or dropped");
    let mut after = None;
    loop {
        let filter = DeadFilter { after, limit: 100, ..DeadFilter::default() };
        let page = rows.source().dead(filter)?;
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
fn leaks(folder: &Folder, needles: &Needles) -> Result<Line, Failed> {
    let mut line = Line::new("I4", "persons' numbers searched in every file");
    line.looked_at = needles.len() as u64;
    for path in needles.search(folder.root(), &[folder.root().join("hospitals")])? {
        let place = path.strip_prefix(folder.root()).unwrap_or(&path);
        line.fault(format!("a number stands in clear in {}", place.display()));
    }
    Ok(line)
}

/// I4, where the rows are in no file of ours.
fn leaks_in_rows(
    offline: &zegel_postgres::Offline,
    runtime: &tokio::runtime::Handle,
    needles: &Needles,
) -> Result<Line, Failed> {
    let mut line = Line::new("I4", "persons' numbers searched in every row");
    line.looked_at = needles.len() as u64;
    let each = |table: &str, value: &[u8]| {
        if needles.in_bytes(value) {
            line.fault(format!("a number stands in clear in a row of {table}"));
        }
    };
    runtime.block_on(offline.each_value(each)).map_err(rows::failure)?;
    Ok(line)
}
