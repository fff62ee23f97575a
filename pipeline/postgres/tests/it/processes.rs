//! Two processes on one schema: messages cross over, and one that was stopped and comes back is fenced.
//!
//! The child is this test program itself; it tells on its output what it did.

use crate::cluster;
use crate::place::Place;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use zegel_conformance::fixture::{SINGLE, SPREAD, WIDE, claim, expect_numbers, id_number, message, owner, slot};
use zegel_conformance::runner::Backend;
use zegel_conformance::service::send;
use zegel_core::{Broker as _, Step, Store as _, StoreError};
use zegel_postgres::{Options, Postgres};

const NAME: &str = "processes::a_process_that_was_stopped_and_comes_back_is_fenced";

/// Commits steps until it is fenced.
async fn child(url: &str, schema: &str) {
    let store = Postgres::open(url, Options { schema: schema.to_owned(), ..Options::default() }).await.unwrap();
    let backend = Backend { broker: store.clone(), store: store.clone() };
    let held = claim(&backend, slot(SPREAD, 0), owner(1)).await;
    for n in held.position + 1.. {
        let produced = vec![message(SINGLE, n)];
        let step = Step { position: Some(n), produced, ..Step::empty(held.slot, held.epoch) };
        match store.commit(step).await {
            Ok(()) => println!("\ncommitted {n}"),
            Err(error) => {
                println!("\nended {}", matches!(error, StoreError::Fenced { .. }));
                return;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_was_stopped_and_comes_back_is_fenced() {
    if let (Ok(url), Ok(schema)) = (std::env::var("ZEGEL_TEST_URL"), std::env::var("ZEGEL_TEST_SCHEMA")) {
        return child(&url, &schema).await;
    }
    let Some(url) = cluster::shared() else { return };
    let place = Place::on(url);
    let store = place.postgres(place.options()).await;
    // A subscriber here sees what the other process produces.
    let mut stream = store.subscribe(slot(SINGLE, 0), 0).await.unwrap();
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", NAME, "--nocapture"])
        .env("ZEGEL_TEST_URL", &place.url)
        .env("ZEGEL_TEST_SCHEMA", &place.schema)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = process.id().to_string();
    let told = Arc::new(Mutex::new(Vec::new()));
    let reader = {
        let (told, out) = (Arc::clone(&told), BufReader::new(process.stdout.take().unwrap()));
        std::thread::spawn(move || out.lines().map_while(Result::ok).for_each(|line| told.lock().unwrap().push(line)))
    };
    let mut got = Vec::new();
    while got.len() < 50 {
        let batch = tokio::time::timeout(Duration::from_secs(30), stream.next(WIDE)).await;
        got.extend(batch.expect("nothing comes of another process's commits").unwrap().deliveries);
    }
    send("-STOP", std::slice::from_ref(&pid));
    // Its lease has run out by the clock of the new owner.
    let taken = store.claim(slot(SPREAD, 0), owner(2), schemas::Millis(7_200_000), 3_600_000).await.unwrap().unwrap();
    let from = taken.position;
    assert!(from >= 50, "the new owner begins before what was committed");
    for n in from + 1..=from + 50 {
        let produced = vec![message(SINGLE, n)];
        store.commit(Step { position: Some(n), produced, ..Step::empty(taken.slot, taken.epoch) }).await.unwrap();
    }
    send("-CONT", std::slice::from_ref(&pid));
    let since = Instant::now();
    while process.try_wait().unwrap().is_none() {
        assert!(since.elapsed() < Duration::from_secs(30), "the old owner does not end");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    reader.join().unwrap();
    let told = told.lock().unwrap().clone();
    assert!(told.iter().any(|line| line == "ended true"), "the old owner was not fenced");
    let last = told.iter().filter_map(|line| line.strip_prefix("committed ")?.parse::<u64>().ok()).max().unwrap();
    assert!(last <= from, "the old owner committed {last} after the new one began at {from}");
    while u64::try_from(got.len()).unwrap() < from + 50 {
        got.extend(stream.next(WIDE).await.unwrap().deliveries);
    }
    expect_numbers(&got, 1);
    assert!((1..).zip(&got).all(|(n, one)| id_number(one.id) == n), "a step was applied twice, or not at all");
    drop((stream, store));
    place.shut().await;
}
