//! What is exported is everything that is there, piece by piece.

use crate::place::Place;
use std::collections::BTreeMap;
use std::sync::Arc;
use zegel_conformance::fixture::{Fixture as _, SINGLE, SPREAD, claim, key, message, owner, publish, sealed, slot};
use zegel_conformance::runner::Backend;
use zegel_core::moving::{self, Cell, Export, TABLES};
use zegel_core::slot::spaces::TEST;
use zegel_core::store::{Parked, TimerChange};
use zegel_core::{Step, Store as _, Write};
use zegel_embedded::{Embedded, Offline, Options};

async fn fill(store: &Arc<Embedded>) {
    let backend = Backend { broker: store.clone(), store: store.clone() };
    publish(&backend, (1..=40).map(|n| message(SINGLE, n)).collect()).await;
    let held = claim(&backend, slot(SINGLE, 0), owner(1)).await;
    let write = |n: u64| Write {
        space: TEST,
        owner: key(n % 3),
        sub: n.to_be_bytes().to_vec().into(),
        value: Some(sealed(&"v".repeat(usize::try_from(n).unwrap() * 10))),
    };
    let park = |number| Parked {
        number,
        key: key(number),
        id: zegel_conformance::fixture::id(number),
        body: sealed("parked"),
        due: schemas::Millis(7),
        attempt: 1,
        job: None,
    };
    let timer =
        |n: u64, name| TimerChange::Set { key: key(n), name, due: schemas::Millis(9), message: message(SPREAD, n) };
    let step = Step {
        position: Some(30),
        writes: (1..=50).map(write).collect(),
        parked: vec![park(3), park(5)],
        timers: vec![timer(1, "a"), timer(1, "b"), timer(2, "a")],
        produced: vec![message(SPREAD, 8)],
        ..Step::empty(held.slot, held.epoch)
    };
    store.commit(step).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_row_is_exported_once_in_order_and_pieces_keep_their_limits() {
    let place = Place::fresh();
    let store = place.embedded(Options::default());
    fill(&store).await;
    for (rows, bytes) in [(1_000, 1 << 20), (3, 1 << 20), (1_000, 300), (1, 1)] {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        let mut at = moving::Place::default();
        let mut last: Option<Vec<Cell>> = None;
        while let Some(table) = at.table() {
            let piece = store.export(&at, rows, bytes).await.unwrap();
            assert!(piece.len() <= rows || table.name == "partitions", "a piece is larger than asked for");
            let weight: usize = piece.iter().flatten().map(Cell::weight).sum();
            assert!(weight <= bytes || piece.len() <= 1 || table.name == "partitions", "a piece is heavier");
            assert!(piece.iter().all(|row| row.len() == table.columns.len()));
            assert!(last.is_none() || piece.first() != last.as_ref(), "a row came twice");
            *counts.entry(table.name).or_default() += piece.len();
            last = piece.last().cloned();
            at = at.past(&piece);
        }
        assert_eq!((counts["state"], counts["timers"], counts["parked"], counts["dead"]), (50, 3, 2, 0));
        assert!(counts["messages"] >= 11, "messages that nobody has applied are missing: {counts:?}");
        assert_eq!(counts.len(), TABLES.len());
    }
    let last = |rows: Vec<Vec<Cell>>, code: i64| rows.into_iter().find(|row| row[0] == Cell::Int(code)).unwrap();
    let partitions = moving::Place { table: TABLES.len() - 1, after: None };
    let offline = Offline::open(place.file()).unwrap();
    let single = i64::from(slot(SINGLE, 0).channel) << 8;
    let rows = offline.export(&partitions, 1, 1).unwrap();
    assert_eq!(last(rows, single)[1], Cell::Int(40), "the last number of a partition is another");
    drop(store);
    place.shut().await;
}
