//! `zegel migrate`: takes everything in an embedded store along into PostgreSQL, offline, sealed as it is.
//!
//! State, messages that somebody has yet to apply (with their numbers), timers, parked and dead messages and positions are
//! copied; idempotency keys are state. Large content is copied to a bucket where `--objects` names one. Keys, tokens, projects,
//! the authority and otherwise large content stay where they are, in the data folder, which the new platform goes on using. The source is read and never changed, until its end is marked: a marked folder
//! starts on the embedded store no more.
//! Failure behaviour: a move that was cut off goes on where it was when the command is given again.

use super::Place;
use crate::backend;
use crate::cli::Migrate;
use crate::config::Config;
use crate::failed::Failed;
use crate::folder::{Folder, write_private};
use crate::platform;
use crate::term::{Report, row, spinner, table};
use indicatif::ProgressBar;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use zegel_core::moving::{self, Import, TABLES};
use zegel_core::{Keys, Objects};
use zegel_embedded::{Lock, Offline};
use zegel_objects::EncryptedObjects;
use zegel_postgres::Postgres;

/// Rows of one piece.
const ROWS: usize = 2_000;
/// Bytes of one piece: a few of them fit anywhere.
const BYTES: usize = 4 << 20;

/// Moves a data folder's store, or with `--dry-run` counts what would move.
///
/// # Errors
/// A folder that is served, marked or damaged; a target that holds anything else.
pub fn run(place: &Place, wanted: &Migrate) -> Result<Report, Failed> {
    let folder = place.folder()?;
    if !folder.database().exists() {
        return Err(Failed::Usage(format!("{} holds no embedded store", folder.root().display())));
    }
    if let Some(target) = folder.moved_to() {
        return Err(Failed::refused("folder-moved", format!("this folder was moved to {target} already")));
    }
    if !["postgres", "postgresql"].contains(&wanted.store.scheme()) {
        return Err(Failed::Usage("--store must be postgres://user:password@host/database".to_owned()));
    }
    if wanted.objects.as_ref().is_some_and(|objects| objects.scheme() != "s3") {
        return Err(Failed::Usage("--objects must be s3://bucket/prefix".to_owned()));
    }
    // Held to the end: no platform may work on the folder meanwhile.
    let _lock = Lock::take(&folder.database()).map_err(failure)?;
    let damaged = zegel_embedded::check(folder.database()).map_err(failure)?;
    if let Some(finding) = damaged.first() {
        return Err(Failed::Failure(format!("the store is damaged ({}): zegel check says more", finding.rule)));
    }
    let source = Offline::open(folder.database()).map_err(failure)?;
    let config = place.config()?;
    let keys = Arc::new(folder.open_keys()?);
    let runtime = platform::runtime()?;
    let objects = match &wanted.objects {
        Some(_) => backend::kept_objects(&config, &folder, keys.clone(), runtime.handle().clone())?,
        None => None,
    };
    if wanted.dry_run {
        let mut counts = count(&source)?;
        if let Some(objects) = &objects {
            counts.insert(OBJECTS, objects.list().map_err(failure)?.len() as u64);
        }
        return Ok(report(&counts, "would be moved; nothing was changed"));
    }
    let options = zegel_postgres::Options { schema: config.installation.clone(), ..Default::default() };
    let bar = spinner(place.json);
    let mut moved = runtime.block_on(async {
        let target = Postgres::open(wanted.store.expose(), options).await.map_err(failure)?;
        let moved = copy(&source, &target, keys.blind("migration", b"source").0, |table, rows| {
            bar.set_message(format!("{table}: {rows} rows"));
            bar.tick();
        });
        let moved = moved.await;
        target.close().await;
        moved
    })?;
    if let (Some(from), Some(to)) = (objects, &wanted.objects) {
        let config = Config { objects: to.clone(), ..config };
        let to = backend::objects(&config, &folder, keys, runtime.handle().clone())?;
        moved.insert(OBJECTS, copy_objects(&from, &to, &bar)?);
    }
    fail::fail_point!("migrate::before-mark");
    mark(&folder, &wanted.store.masked())?;
    bar.finish_and_clear();
    let objects = wanted.objects.as_ref().map(|objects| format!(" --objects {}", objects.masked())).unwrap_or_default();
    Ok(report(&moved, &format!("moved; start with: zegel up --store {}{objects}", wanted.store.masked())))
}

/// Copies what is not there yet, so that a copy that was cut off goes on; how many there are.
fn copy_objects(from: &EncryptedObjects, to: &EncryptedObjects, bar: &ProgressBar) -> Result<u64, Failed> {
    let all = from.list().map_err(failure)?;
    for (done, object) in all.iter().enumerate() {
        bar.set_message(format!("{OBJECTS}: {done} of {}", all.len()));
        bar.tick();
        from.copy_to(to, object).map_err(failure)?;
        fail::fail_point!("migrate::after-object");
    }
    Ok(all.len() as u64)
}

/// What large content is called in the report.
const OBJECTS: &str = "objects";

type Counts = BTreeMap<&'static str, u64>;

async fn copy(
    source: &Offline,
    target: &Arc<Postgres>,
    id: [u8; 16],
    mut progress: impl FnMut(&str, u64),
) -> Result<Counts, Failed> {
    let mut counts = Counts::new();
    let mut place = target.begin_import(id).await.map_err(failure)?;
    while let Some(table) = place.table() {
        let rows = source.export(&place, ROWS, BYTES).map_err(failure)?;
        let next = place.past(&rows);
        let moved = counts.entry(table.name).or_default();
        *moved += rows.len() as u64;
        progress(table.name, *moved);
        fail::fail_point!("migrate::before-piece");
        target.import(&place, rows, &next).await.map_err(failure)?;
        fail::fail_point!("migrate::after-piece");
        place = next;
    }
    fail::fail_point!("migrate::before-end");
    target.end_import().await.map_err(failure)?;
    Ok(counts)
}

fn count(source: &Offline) -> Result<Counts, Failed> {
    let mut counts = Counts::new();
    let mut place = moving::Place::default();
    while let Some(table) = place.table() {
        let rows = source.export(&place, ROWS, BYTES).map_err(failure)?;
        *counts.entry(table.name).or_default() += rows.len() as u64;
        place = place.past(&rows);
    }
    Ok(counts)
}

/// Says in the folder where its store has gone.
fn mark(folder: &Folder, target: &str) -> Result<(), Failed> {
    write_private(&folder.moved(), &format!("{target}\n"))
}

fn report(counts: &Counts, said: &str) -> Report {
    let mut rows = vec![row(["WHAT", "ROWS"])];
    let objects = counts.contains_key(OBJECTS).then_some(OBJECTS);
    rows.extend(TABLES.iter().map(|table| table.name).chain(objects).map(|name| {
        let count = counts.get(name).copied().unwrap_or(0);
        row([name, &count.to_string()])
    }));
    let json: serde_json::Map<String, Value> =
        counts.iter().map(|(table, rows)| ((*table).to_owned(), (*rows).into())).collect();
    Report::new(json!({ "rows": json }), format!("{}{said}", table(&rows)))
}

fn failure(error: impl std::fmt::Display) -> Failed {
    Failed::Failure(error.to_string())
}
