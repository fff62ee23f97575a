//! Format version 1, as SQL text in `golden/v1.sql`: what we write has not changed by accident, and what was written stays
//! readable. `ZEGEL_GOLDEN=write` writes the file anew; a change in a released version needs a new version instead.

use crate::place::Place;
use bytes::Bytes;
use rusqlite::Connection;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use zegel_conformance::fixture::{
    ALL, Fixture as _, SPREAD, claim, id, key, message, owner, publish, sealed, slot, subscribe, take,
};
use zegel_conformance::runner::Backend;
use zegel_core::slot::spaces::TEST;
use zegel_core::store::{DeadFilter, DeadLetter, Parked, ParkedJob, TimerChange};
use zegel_core::{Read, Step, Store as _, Write};
use zegel_embedded::{Embedded, Options};

/// What the golden file was written with.
const SINGLE: &str = "alerts.raised";

fn golden() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden/v1.sql")
}

fn parked() -> Parked {
    let job = Some(ParkedJob { spec: sealed("spec"), result: Some(sealed("result")), starts: 2 });
    Parked { number: 2, key: key(2), id: id(2), body: sealed("parked"), due: schemas::Millis(20), attempt: 1, job }
}

fn dead() -> DeadLetter {
    DeadLetter {
        slot: slot(SPREAD, 0),
        number: 1,
        key: key(1),
        id: id(1),
        body: sealed("dead"),
        code: "ZGL-TEST".to_owned(),
        attempts: 5,
        at: schemas::Millis(30),
    }
}

/// One of everything.
fn step(epoch: u64) -> Step {
    let value = Some(sealed("value"));
    Step {
        position: Some(2),
        writes: vec![Write { space: TEST, owner: key(7), sub: Bytes::from_static(b"sub"), value }],
        produced: vec![message(SINGLE, 3)],
        timers: vec![TimerChange::Set {
            key: key(8),
            name: "timer",
            due: schemas::Millis(10),
            message: message(SINGLE, 4),
        }],
        parked: vec![parked()],
        dead: vec![dead()],
        ..Step::empty(slot(SPREAD, 0), epoch)
    }
}

/// Every table and row as SQL, in a fixed order.
fn dump(file: &std::path::Path) -> String {
    let connection = Connection::open(file).unwrap();
    let application: i64 = connection.query_row("PRAGMA application_id", [], |row| row.get(0)).unwrap();
    let mut text = format!("PRAGMA application_id = {application};\n");
    let mut schema =
        connection.prepare("SELECT name, type, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name").unwrap();
    let objects: Vec<(String, String, String)> =
        schema.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap().map(Result::unwrap).collect();
    for (_, _, sql) in objects.iter().filter(|object| object.1 == "table") {
        writeln!(text, "{sql};").unwrap();
    }
    for (_, _, sql) in objects.iter().filter(|object| object.1 == "index") {
        writeln!(text, "{sql};").unwrap();
    }
    for (name, _, _) in objects.iter().filter(|object| object.1 == "table") {
        let mut columns = connection.prepare("SELECT 'quote(' || name || ')' FROM pragma_table_info(?)").unwrap();
        let quoted: Vec<String> = columns.query_map([name], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        let sql = format!("SELECT {} FROM {name} ORDER BY 1", quoted.join(" || ', ' || "));
        let mut rows = connection.prepare(&sql).unwrap();
        for row in rows.query_map([], |row| row.get::<_, String>(0)).unwrap() {
            writeln!(text, "INSERT INTO {name} VALUES({});", row.unwrap()).unwrap();
        }
    }
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_is_still_version_1() {
    let place = Place::fresh();
    let store = place.embedded(Options::default());
    let backend = Backend { broker: store.clone(), store: store.clone() };
    let held = claim(&backend, slot(SPREAD, 0), owner(1)).await;
    publish(&backend, (1..=3).map(|n| message(SPREAD, n << 61)).collect()).await;
    store.commit(step(held.epoch)).await.unwrap();
    store.begin_attempt(held.slot, held.epoch, 3).await.unwrap();
    // What the slot has passed is deleted when the writer has nothing else to do.
    while store.metrics().trimmed.load(std::sync::atomic::Ordering::Relaxed) < 2 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    drop((store, backend));
    place.shut().await;
    let text = dump(&place.file());
    if std::env::var("ZEGEL_GOLDEN").is_ok_and(|wish| wish == "write") {
        std::fs::write(golden(), &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(golden()).unwrap(), "the stored format changed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_version_1_wrote_is_still_read() {
    let place = Place::fresh();
    let text = std::fs::read_to_string(golden()).unwrap();
    Connection::open(place.file()).unwrap().execute_batch(&text).unwrap();
    let store: Arc<Embedded> = place.embedded(Options::default());
    let spread = slot(SPREAD, 0);
    let backend = Backend { broker: store.clone(), store: store.clone() };
    let read = Read::One { space: TEST, owner: key(7), sub: Bytes::from_static(b"sub") };
    assert_eq!(store.read(vec![read]).await.unwrap()[0], [(Bytes::from_static(b"sub"), sealed("value"))]);
    assert_eq!(store.parked(spread, vec![2]).await.unwrap(), [parked()]);
    let all = DeadFilter { limit: ALL, ..DeadFilter::default() };
    assert_eq!(store.dead(all).await.unwrap(), [dead()]);
    let (timers, _) = store.due_timers(spread, schemas::Millis(10), 9).await.unwrap();
    assert_eq!((timers.len(), timers[0].key, &timers[0].message), (1, key(8), &message(SINGLE, 4)));
    let mut stream = subscribe(&backend, slot(SINGLE, 0), 0).await;
    assert_eq!(take(&mut *stream, 1).await[0].id, id(3));
    let held = claim(&backend, spread, owner(1)).await;
    assert_eq!((held.epoch, held.position, held.clean), (2, 2, false));
    assert_eq!(store.begin_attempt(spread, held.epoch, 3).await.unwrap(), 2);
    place.shut().await;
}
