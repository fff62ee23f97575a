//! The process dies at fail points that an exchange passes, under every format at once; what lies there is searched as it was left, after the
//! next start has finished the work, and once more when a message that kills the process was given up.
//!
//! `ZEGEL_LEAK_POINTS=all` takes every point, a number so many of them.

use crate::exchange;
use crate::world::{HOSPITAL, REGISTRY, World, command, wait_final};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};
use zegel_suite::canary::Search;
use zegel_suite::server::{Client, Server};
use zegel_suite::zegel_with_failpoints;

/// Points that steps, jobs and commits of an exchange pass, those where a batch is at work first.
const POINTS: [&str; 14] = [
    "runner::job-begins",
    "runner::job-ends",
    "runner::before-commit",
    "embedded::after-requests",
    "runner::after-commit",
    "runner::after-settle",
    "embedded::before-begin",
    "embedded::before-commit",
    "embedded::after-commit",
    "embedded::fsync",
    "embedded::before-checkpoint",
    "embedded::after-checkpoint",
    "embedded::before-restart",
    "embedded::after-restart",
];
/// Around the job in which a batch is in clear in the process.
const FEW: usize = 2;
/// A machine that is five times slower than usual.
const PATIENCE: Duration = Duration::from_secs(60);

fn points() -> usize {
    let wanted = std::env::var("ZEGEL_LEAK_POINTS").unwrap_or_default();
    if wanted == "all" { POINTS.len() } else { wanted.parse().unwrap_or(FEW).min(POINTS.len()) }
}

#[test]
fn no_identifier_leaks_where_the_process_dies_in_an_exchange() {
    let Some(program) = zegel_with_failpoints() else {
        println!("SKIPPED: no program built with fail points (make end-to-end builds it)");
        assert!(std::env::var_os("ZEGEL_ORACLES").is_none(), "the program with fail points was not built");
        return;
    };
    let mut world = World::new(20_261_123);
    // A batch that is an object, and too large for one piece of memory in its job.
    let large = large(&world);
    // A kind of row each; the dialects of tables are one at rest.
    let few = ["leak-csv", "leak-json", "leak-fhir-bundle", "leak-kmehr", "leak-hl7v2", "leak-split", "leak-signed"];
    world.baits.retain(|bait| crate::is_full() || few.contains(&bait.name.as_str()));
    world.activate(|_| false);
    let server = world.start(&program, &[]).expect("starts");
    let [hospital, registry] = [HOSPITAL, REGISTRY].map(|owner| server.open_box(owner).unwrap());
    server.kill();
    let mut searched = 0;
    let visited: Vec<&str> = POINTS[..points()]
        .iter()
        .copied()
        .filter(|point| crash_at(&mut world, &program, point, [&hospital, &registry], &large, &mut searched))
        .collect();
    println!("died at {} of {} points, {searched} bytes searched: {visited:?}", visited.len(), points());
    assert_eq!(visited.len(), points(), "points that nothing reaches");
    given_up(&mut world, &program, &hospital, &large);
}

/// Rows enough for the object store.
fn large(world: &World) -> Vec<u8> {
    let batch = String::from_utf8(world.baits[0].good.clone()).unwrap();
    let (head, rows) = batch.split_once('\n').unwrap();
    format!("{head}\n{}", rows.repeat(100)).into_bytes()
}

/// Sends everything to a process that dies at the point; whether it did.
fn crash_at(
    world: &mut World,
    program: &Path,
    point: &str,
    [hospital, registry]: [&Client; 2],
    large: &[u8],
    searched: &mut u64,
) -> bool {
    let crash = [("ZEGEL_CRASH_AT", point), ("ZEGEL_CRASH_PASSES", "2"), ("ZEGEL_WAL_BYTES", "200000")];
    let mut sent = Vec::new();
    let died = match world.start(program, &crash) {
        Err(_) => true,
        Ok(mut server) => {
            let all: Vec<(String, Vec<u8>)> = batches(world, large);
            let deadline = Instant::now() + PATIENCE;
            while !server.has_ended() && Instant::now() < deadline {
                for (project, batch) in &all {
                    let Some(submission) = send(hospital, world, project, batch) else { break };
                    sent.push(submission);
                }
            }
            let died = server.has_ended();
            server.kill();
            died
        }
    };
    *searched += crate::scan(world, &format!("dead at {point}"));
    let server = world.start(program, &[]).unwrap_or_else(|log| panic!("{point}: {log}"));
    let told = world.of_patients();
    let search = Search::new(told);
    for submission in &sent {
        search.clear(wait_final(hospital, submission).to_string().as_bytes(), &format!("an answer after {point}"));
    }
    exchange::receive(world, registry);
    assert_eq!(server.stop(), Some(0), "{point}: does not drain after the restart");
    *searched += crate::scan(world, &format!("after the restart from {point}"));
    died
}

fn batches(world: &World, large: &[u8]) -> Vec<(String, Vec<u8>)> {
    let both =
        world.baits.iter().flat_map(|bait| [&bait.good, &bait.bad].map(|batch| (bait.project.clone(), batch.clone())));
    both.chain([("leak-no-format".to_owned(), large.to_vec())]).collect()
}

/// Sends while the process lives; the submission, where it was acknowledged.
fn send(hospital: &Client, world: &mut World, project: &str, batch: &[u8]) -> Option<String> {
    let (status, answer) = world.try_send(hospital, HOSPITAL, (project, ""), batch).ok()?;
    (status == 202).then(|| answer["submission"].as_str().unwrap().to_owned())
}

/// A message whose job kills the process each time is given up: its dead letter shows nothing.
fn given_up(world: &mut World, program: &Path, hospital: &Client, large: &[u8]) {
    let crash =
        [("ZEGEL_CRASH_AT", "runner::job-begins"), ("ZEGEL_CRASH_PASSES", "0"), ("ZEGEL_RUNNER__CRASH_ATTEMPTS", "1")];
    let deadline = Instant::now() + PATIENCE;
    let mut sent = None;
    let server: Server = loop {
        assert!(Instant::now() < deadline, "the message is never given up");
        let Ok(mut server) = world.start(program, &crash) else { continue };
        if sent.is_none() {
            sent = send(hospital, world, "leak-no-format", large);
        }
        let dead = |server: &Server| server.operator().get("/v1/dead?limit=100").ok();
        while !server.has_ended() && dead(&server).is_none_or(|dead| !dead.to_string().contains("ZGL-POISON")) {
            assert!(Instant::now() < deadline, "the process neither dies nor gives the message up");
            thread::sleep(Duration::from_millis(20));
        }
        if !server.has_ended() {
            break server;
        }
    };
    let search = Search::new(world.hidden());
    let (_, letters) = server.operator().ask("GET", "/v1/dead?limit=100", &[], &[]).unwrap();
    search.clear(&letters, "dead letters");
    for arguments in [&["dead", "list"][..], &["dead", "list", "--json"], &["quarantine", "list"]] {
        let output = command(&world.data, arguments);
        search.clear(&[output.stdout, output.stderr].concat(), &format!("{arguments:?}"));
    }
    let life = wait_final(hospital, &sent.expect("it was sent"));
    search.clear(life.to_string().as_bytes(), "the answer to what was given up");
    server.kill();
    crate::scan(world, "after it was given up");
}
