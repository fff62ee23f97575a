//! SIGKILL at random points, 200 times in one run, under load; then the history checker ([`zegel_suite::history`]).
//!
//! Every fail point is visited once under load, and those around a commit in each step of a return ([`returns`]).
//!
//! `ZEGEL_KILLS` sets another number of kills, `ZEGEL_SEED` repeats a run.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]
#![allow(clippy::disallowed_methods)] // threads of a test may sleep

#[path = "crash/returns.rs"]
mod returns;

use rand_chacha::rand_core::{Rng, SeedableRng};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use zegel_suite::history::{
    HOSPITAL, History, Load, SECOND, TTP, check_bags, check_log, is_done, open_boxes, prepare, stamper, submitter,
};
use zegel_suite::server::{Address, Server};
use zegel_suite::{zegel, zegel_with_failpoints};

const KILLS: u32 = 200;

#[test]
fn two_hundred_kills_lose_nothing_and_do_nothing_twice() {
    let _alone = zegel_suite::alone();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let seed = std::env::var("ZEGEL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_122);
    let kills = std::env::var("ZEGEL_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(KILLS);
    println!("{kills} kills, seed {seed}");
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let address = Address::default();
    // Kills come faster here than a poison's: no job may be taken for one.
    let env = [("ZEGEL_TIMESTAMP__WINDOW", "*/2 * * * * *"), ("ZEGEL_RUNNER__CRASH_ATTEMPTS", "1000")];
    prepare(&data);
    let mut server = Server::start(&zegel(), &data, &address, &env).expect("starts");
    let clients = open_boxes(&server);
    let load = Load::start(&clients, server.operator());
    for kill in 1..=kills {
        thread::sleep(Duration::from_millis(u64::from(random.next_u32() % 300)));
        server.kill();
        server = Server::start(&zegel(), &data, &address, &env).unwrap_or_else(|log| panic!("kill {kill}: {log}"));
    }
    thread::sleep(Duration::from_millis(500));
    let acknowledged = load.stop();
    let (submitted, entries, mutations) = acknowledged.counts();
    println!("acknowledged: {submitted} submissions, {entries} entries, {mutations} mutations");
    // Entries come 20 at a time, and their answer waits for the state: few get it between two kills on a slow machine.
    assert!(submitted > 100 && entries >= 20 && mutations > 50, "there was hardly any load");
    acknowledged.check(&clients, &data);
    assert_eq!(server.stop(), Some(0), "the process does not drain");
}

/// Every fail point of the program is reached and survived: the process aborts there, is started again, and answers.
#[test]
fn every_fail_point_is_visited_and_survived() {
    let _alone = zegel_suite::alone();
    let Some(program) = zegel_with_failpoints() else {
        println!("SKIPPED: no program built with fail points (make end-to-end builds it)");
        assert!(std::env::var_os("ZEGEL_ORACLES").is_none(), "the program with fail points was not built");
        return;
    };
    let points = fail_points();
    assert!(points.len() >= 12, "fail points are missing: {points:?}");
    let mut unvisited = Vec::new();
    for point in &points {
        if !crash_at(&program, point) {
            unvisited.push(point);
        }
    }
    assert!(unvisited.is_empty(), "fail points that nothing reaches: {unvisited:?}");
}

/// Every fail point that the source names.
fn fail_points() -> BTreeSet<String> {
    let mut points = BTreeSet::new();
    let mut folders = vec![zegel_suite::root().join("pipeline"), zegel_suite::root().join("workers")];
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let named = text.split("fail_point!(\"").skip(1).filter_map(|rest| rest.split('"').next());
                // What a foreign broker, a move, a hospital's agent and an export pass through is killed in tests of their own.
                let elsewhere = |name: &&str| {
                    ["intake::", "migrate::", "hospital::", "archive::"].iter().any(|part| name.starts_with(part))
                };
                points.extend(named.filter(|name| !elsewhere(name)).map(str::to_owned));
            }
        }
    }
    points
}

/// Runs load until the process aborts at the point; then starts it without and checks that what was acknowledged is
/// answered. False when the point was not reached within the time limit.
fn crash_at(program: &Path, point: &str) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    prepare(&data);
    let address = Address::default();
    let window = ("ZEGEL_TIMESTAMP__WINDOW", "* * * * * *");
    let checkpoint = ("ZEGEL_TIMESTAMP__CHECKPOINT_S", "1");
    let small_log = ("ZEGEL_WAL_BYTES", "200000");
    let server = Server::start(program, &data, &address, &[window]).expect("starts");
    let clients = open_boxes(&server);
    server.kill();
    let crash = [window, checkpoint, small_log, ("ZEGEL_CRASH_AT", point)];
    let Ok(mut server) = Server::start(program, &data, &address, &crash) else {
        // It was reached before the program could say where it listens; nothing was acknowledged by then.
        let again = Server::start(program, &data, &address, &[window]).unwrap_or_else(|log| panic!("{point}: {log}"));
        assert_eq!(again.stop(), Some(0), "{point}: does not drain after the restart");
        println!("{point}: visited at the start");
        return true;
    };
    let stop = Arc::new(AtomicBool::new(false));
    let loads = vec![
        submitter(clients[HOSPITAL].clone(), HOSPITAL, format!("to={SECOND}"), 'A', stop.clone()),
        submitter(clients[HOSPITAL].clone(), HOSPITAL, format!("project=crash-registry&to={TTP}"), 'P', stop.clone()),
        stamper(clients[HOSPITAL].clone(), HOSPITAL, stop.clone()),
    ];
    let deadline = Instant::now() + Duration::from_secs(20);
    while !server.has_ended() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(20));
    }
    let mut visited = server.has_ended();
    if !visited {
        visited = server.stop() != Some(0); // points on the way out are reached when draining
    }
    let env = [window, checkpoint];
    let server = Server::start(program, &data, &address, &env).unwrap_or_else(|log| panic!("{point}: {log}"));
    thread::sleep(Duration::from_millis(200));
    stop.store(true, Ordering::SeqCst);
    let histories: Vec<History> =
        loads.into_iter().map(|load| load.join().expect("a client found a broken promise")).collect();
    let deadline = Instant::now() + Duration::from_secs(30);
    for (id, title) in histories.iter().flat_map(|history| &history.submissions) {
        loop {
            let life = clients[HOSPITAL].get(&format!("/v1/submissions/{id}"));
            if life.is_ok_and(|life| {
                life["recipients"].as_array().is_some_and(|all| !all.is_empty() && all.iter().all(is_done))
            }) {
                break;
            }
            assert!(Instant::now() < deadline, "{point}: submission {title} has no final answer after the restart");
            thread::sleep(Duration::from_millis(20));
        }
    }
    // What sealing, stamping and the log had begun when the process died is done once.
    check_bags(&clients[HOSPITAL], &data, &histories[2]);
    check_log(&clients[HOSPITAL]);
    server.kill();
    println!("{point}: {}", if visited { "visited" } else { "NOT VISITED" });
    visited
}
