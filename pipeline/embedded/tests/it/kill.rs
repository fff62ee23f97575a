//! Kill -9, again and again: what was acknowledged is there, once and whole, and numbers have no gaps.
//!
//! The child is this test program itself. It publishes, commits and consumes, and tells each acknowledgement on its
//! output before it goes on; the parent kills it at an instant of its choosing and looks at the file.

use crate::place::Place;
use bytes::Bytes;
use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use zegel_conformance::fixture::{
    Fixture as _, SINGLE, SPREAD, WIDE, claim, expect_numbers, id_number, key, message, owner, sealed, slot, subscribe,
};
use zegel_conformance::runner::Backend;
use zegel_core::slot::spaces::TEST;
use zegel_core::{Broker as _, Read, Slot, Step, Store as _, Write};
use zegel_embedded::{Embedded, Options, check};

const KILLS: u64 = 20;
/// Its messages are consumed and trimmed; another channel than [`SINGLE`], whose messages all stay.
const CONSUMED: &str = "receipts.due";
/// Ids of messages that steps produce begin here.
const STEPS: u64 = 1 << 40;

/// Writes a whole line or, when it is killed, a part of one, which the parent ignores.
fn tell(line: String) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("\n{line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

async fn work(file: &Path, run: u64) {
    // A small log limit, so that restarts of the log are among what is interrupted.
    let options = Options { wal_bytes: 1 << 20, ..Options::default() };
    let store = Embedded::open(file, options).unwrap();
    let backend = Backend { broker: store.clone(), store: store.clone() };
    let channel = topology::channels::by_name(CONSUMED).unwrap();
    for slot in Slot::all(channel, &channel.groups[0]) {
        let mut stream = subscribe(&backend, slot, 0).await;
        tokio::spawn(async move {
            while let Ok(batch) = stream.next(WIDE).await {
                stream.settle(batch.settlement).await.unwrap();
            }
        });
    }
    for task in 0..8u64 {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            for n in 0.. {
                let n = (run << 24) | (task << 20) | n;
                let outcomes = store.publish(vec![message(SINGLE, n), message(CONSUMED, n << 40)]).await;
                assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
                tell(format!("published {n}"));
            }
        });
    }
    let held = claim(&backend, slot(SPREAD, 0), owner(1)).await;
    for n in held.position + 1.. {
        let value = Some(sealed(&n.to_string()));
        let step = Step {
            position: Some(n),
            writes: vec![Write { space: TEST, owner: key(0), sub: Bytes::new(), value }],
            produced: vec![message(SINGLE, STEPS + n)],
            ..Step::empty(held.slot, held.epoch)
        };
        store.commit(step).await.unwrap();
        tell(format!("committed {n}"));
    }
}

/// Ends the process when it comes to this fail point for the third time.
#[cfg(feature = "failpoints")]
fn die_at(point: &str) {
    let visits = std::sync::atomic::AtomicU32::new(0);
    let die = move || {
        if visits.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 2 {
            std::process::abort();
        }
    };
    fail::cfg_callback(point, die).unwrap();
}

#[cfg(feature = "failpoints")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_between_any_two_durable_actions_is_survived() {
    const POINTS: [&str; 10] = [
        "embedded::before-begin",
        "embedded::after-requests",
        "embedded::before-commit",
        "embedded::after-commit",
        "embedded::before-trim",
        "embedded::after-trim",
        "embedded::before-checkpoint",
        "embedded::after-checkpoint",
        "embedded::before-restart",
        "embedded::after-restart",
    ];
    if let (Ok(file), Ok(point)) = (std::env::var("ZEGEL_TEST_KILL"), std::env::var("ZEGEL_TEST_POINT")) {
        die_at(&point);
        work(Path::new(&file), std::env::var("ZEGEL_TEST_RUN").unwrap().parse().unwrap()).await;
        return;
    }
    let place = Place::fresh();
    let (mut published, mut committed) = (Vec::new(), 0);
    for (run, point) in (0..).zip(POINTS) {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kill::a_stop_between_any_two_durable_actions_is_survived", "--nocapture"])
            .env("ZEGEL_TEST_KILL", place.file())
            .env("ZEGEL_TEST_RUN", run.to_string())
            .env("ZEGEL_TEST_POINT", point)
            .stderr(Stdio::null())
            .output()
            .unwrap();
        use std::os::unix::process::ExitStatusExt as _;
        assert_eq!(child.status.signal(), Some(6), "the child never came to {point} three times");
        let told: Vec<String> = String::from_utf8_lossy(&child.stdout).lines().map(str::to_owned).collect();
        published.extend(numbers(&told, "published"));
        committed = numbers(&told, "committed").max().unwrap_or(0).max(committed);
        verify(&place, &published, committed).await;
    }
}

/// Starts the child, kills it after `after`, and returns what it was told.
async fn run_and_kill(file: &Path, run: u64, after: Duration) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill::acknowledged_work_survives_twenty_kills", "--nocapture"])
        .env("ZEGEL_TEST_KILL", file)
        .env("ZEGEL_TEST_RUN", run.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    let reader = std::thread::spawn(move || out.lines().map_while(Result::ok).collect::<Vec<_>>());
    tokio::time::sleep(after).await;
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap()
}

fn numbers<'a>(told: &'a [String], word: &'a str) -> impl Iterator<Item = u64> + 'a {
    told.iter().filter_map(move |line| line.strip_prefix(word)?.trim().parse().ok())
}

async fn verify(place: &Place, published: &[u64], committed: u64) {
    assert_eq!(check(place.file()).unwrap().iter().filter(|f| f.rule != "position").count(), 0, "damage after a kill");
    let store = place.embedded(Options::default());
    let backend = Backend { broker: store.clone(), store: store.clone() };
    let lines = store.stats().await.unwrap();
    let line = |slot: Slot| *lines.iter().find(|line| line.slot == slot).unwrap();
    let count = usize::try_from(line(slot(SINGLE, 0)).last).unwrap();
    let mut stream = store.subscribe(slot(SINGLE, 0), 0).await.unwrap();
    let mut got = Vec::new();
    while got.len() < count {
        got.extend(stream.next(WIDE).await.unwrap().deliveries);
    }
    expect_numbers(&got, 1);
    let mut times: HashMap<u64, u32> = HashMap::new();
    for one in &got {
        *times.entry(id_number(one.id)).or_default() += 1;
    }
    assert!(times.values().all(|times| *times == 1), "a message is there twice");
    let lost = published.iter().filter(|n| !times.contains_key(n)).count();
    assert_eq!(lost, 0, "acknowledged messages are lost");
    let position = line(slot(SPREAD, 0)).position;
    assert!(position >= committed, "an acknowledged step is lost: at {position}, acknowledged {committed}");
    let steps = times.keys().filter(|n| **n >= STEPS).count();
    assert_eq!(u64::try_from(steps).unwrap(), position, "steps and their messages do not agree");
    if position > 0 {
        let read = Read::One { space: TEST, owner: key(0), sub: Bytes::new() };
        let rows = store.read(vec![read]).await.unwrap();
        assert_eq!(rows[0][0].1, sealed(&position.to_string()), "a step and its row do not agree");
    }
    drop((stream, store, backend));
    place.shut().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_work_survives_twenty_kills() {
    if let Ok(file) = std::env::var("ZEGEL_TEST_KILL") {
        let run = std::env::var("ZEGEL_TEST_RUN").unwrap().parse().unwrap();
        work(Path::new(&file), run).await;
        return;
    }
    let place = Place::fresh();
    let (mut published, mut committed) = (Vec::new(), 0);
    for run in 0..KILLS {
        // From before the file is open to well into the work.
        let told = run_and_kill(&place.file(), run, Duration::from_millis(20 + run * 37 % 230)).await;
        published.extend(numbers(&told, "published"));
        committed = numbers(&told, "committed").max().unwrap_or(0).max(committed);
        if run % 5 == 4 {
            verify(&place, &published, committed).await;
        }
    }
    assert!(published.len() > 100 && committed > 10, "the child did nothing worth killing it for");
}
