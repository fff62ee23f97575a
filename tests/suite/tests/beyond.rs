//! Beyond one machine: the same day on every pair of store and broker, kills of processes and servers under load, a stage
//! shared by several processes, and the move of an embedded store.
//!
//! `POSTGRES_URL`, `AMQP_URL`, `KAFKA_URL` and `S3_URL` name servers (`deploy/dev/services run …` sets them). Where one is not set a
//! test says SKIPPED, except with `ZEGEL_ORACLES=1`, where it fails. `ZEGEL_ROUNDS` sets another number of kills.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]
#![allow(clippy::disallowed_methods)] // threads of a test may sleep

use rand_chacha::rand_core::{Rng, SeedableRng};
use serde_json::Value;
use std::collections::VecDeque;
use std::path::Path;
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};
use zegel_conformance::service::Services;
use zegel_suite::history::{HOSPITAL, Load, open_boxes, prepare, whole_folder};
use zegel_suite::server::{Address, Server};
use zegel_suite::{zegel, zegel_with_failpoints};

/// Kills of a process on each pair; `make chaos` asks for 50.
const ROUNDS: u32 = 4;
const WINDOW: (&str, &str) = ("ZEGEL_TIMESTAMP__WINDOW", "*/2 * * * * *");

/// A backend that this run has, by the name of its variable.
fn url(name: &str) -> Option<String> {
    let found = std::env::var(name).ok().filter(|url| !url.is_empty());
    if found.is_none() {
        println!("SKIPPED: {name} is not set");
        assert!(std::env::var_os("ZEGEL_ORACLES").is_none(), "{name} is not set");
    }
    found
}

/// An installation of its own for each scenario.
fn installation(name: &str) -> String {
    format!("t{}{name}", std::process::id())
}

fn run(data: &Path, arguments: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = Command::new(zegel());
    command.args(arguments).arg("--data").arg(data).envs(env.iter().copied()).output().expect("zegel runs")
}

fn json(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(text.lines().last().unwrap_or_default()).unwrap_or_else(|_| {
        panic!("no JSON came: {text} {}", String::from_utf8_lossy(&output.stderr));
    })
}

fn rounds(usual: u32) -> u32 {
    std::env::var("ZEGEL_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(usual)
}

/// Brokers beside PostgreSQL, by name and URL.
fn brokers() -> Vec<(&'static str, String)> {
    let mut brokers = vec![("store", "store".to_owned())];
    brokers.extend(url("AMQP_URL").map(|url| ("amqp", url)));
    brokers.extend(url("KAFKA_URL").map(|url| ("kafka", url)));
    brokers
}

#[test]
fn the_same_day_gives_the_same_report_on_every_pair_of_store_and_broker() {
    let _alone = zegel_suite::alone();
    let Some(postgres) = url("POSTGRES_URL") else { return };
    let folder = tempfile::tempdir().unwrap();
    let day = |name: &str, env: &[(&str, &str)]| {
        let output = run(&folder.path().join(name), &["demo", "--json"], env);
        let mut report = json(&output);
        assert!(output.status.success(), "{name}: {report}");
        assert!(report["ok"] == true, "{name}: {report}");
        // How windows fall, and how long it took, is another one each time.
        for timed in ["seconds", "peak_rss_mib", "bags", "tokens_verified"] {
            report.as_object_mut().unwrap().remove(timed);
        }
        report
    };
    let embedded = day("embedded", &[]);
    for (name, broker) in brokers() {
        let installation = installation(&format!("day{name}"));
        let env = [("ZEGEL_STORE", &*postgres), ("ZEGEL_BROKER", &*broker), ("ZEGEL_INSTALLATION", &*installation)];
        assert_eq!(day(name, &env), embedded, "postgres + {name} does another day than the embedded store");
        println!("postgres + {name}: the same report");
    }
    if let Some(bucket) = url("S3_URL") {
        let objects = format!("{bucket}/day/{}", std::process::id());
        assert_eq!(day("s3", &[("ZEGEL_OBJECTS", &objects)]), embedded, "objects in a bucket make another day");
        println!("embedded, objects in a bucket: the same report");
    }
}

#[test]
fn kills_of_the_process_lose_nothing_on_any_pair() {
    let _alone = zegel_suite::alone();
    let Some(postgres) = url("POSTGRES_URL") else { return };
    for (name, broker) in brokers() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let installation = installation(&format!("kill{name}"));
        let env = [
            WINDOW,
            ("ZEGEL_STORE", &*postgres),
            ("ZEGEL_BROKER", &*broker),
            ("ZEGEL_INSTALLATION", &*installation),
            ("ZEGEL_RUNNER__LEASE_MS", "1500"),
            ("ZEGEL_RUNNER__CRASH_ATTEMPTS", "1000"), // kills come faster here than a poison's
        ];
        declare(&data, &broker, &env);
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(7);
        let address = Address::default();
        prepare(&data);
        let mut server = Server::start(&zegel(), &data, &address, &env).expect("starts");
        let clients = open_boxes(&server);
        let load = Load::start(&clients, server.operator());
        for kill in 1..=rounds(ROUNDS) {
            thread::sleep(Duration::from_millis(u64::from(random.next_u32() % 2_000)));
            server.kill();
            server = Server::start(&zegel(), &data, &address, &env).unwrap_or_else(|log| panic!("kill {kill}: {log}"));
        }
        thread::sleep(Duration::from_secs(2));
        let acknowledged = load.stop();
        println!("postgres + {name}: {} kills, acknowledged {:?}", rounds(ROUNDS), acknowledged.counts());
        acknowledged.check(&clients, &data);
        assert_eq!(server.stop(), Some(0), "the process does not drain");
        let checked = run(&data, &["check", "--json"], &env);
        assert!(checked.status.success(), "postgres + {name}: {}", String::from_utf8_lossy(&checked.stdout));
    }
}

fn declare(data: &Path, broker: &str, env: &[(&str, &str)]) {
    if broker != "store" {
        let applied = run(data, &["topology", "apply"], env);
        assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
        let verified = run(data, &["topology", "verify"], env);
        assert!(verified.status.success(), "what was applied is not as declared");
    }
}

/// Four processes share the stages of one installation: one is killed, one drained, load goes on; in every round again.
#[test]
fn processes_share_the_stages_and_take_over_a_killed_ones_work() {
    let _alone = zegel_suite::alone();
    let Some(postgres) = url("POSTGRES_URL") else { return };
    for (name, broker) in brokers() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let installation = installation(&format!("share{name}"));
        let env = [
            WINDOW,
            ("ZEGEL_STORE", &*postgres),
            ("ZEGEL_BROKER", &*broker),
            ("ZEGEL_INSTALLATION", &*installation),
            ("ZEGEL_RUNNER__LEASE_MS", "3000"),
        ];
        declare(&data, &broker, &env);
        prepare(&data);
        let address = Address::default();
        let front = Server::start(&zegel(), &data, &address, &env).expect("starts");
        let clients = open_boxes(&front);
        let load = Load::start(&clients, front.operator());
        let workers =
            [env.as_slice(), &[("ZEGEL_ROLES", r#"["mailbox","ttp","receipts","timestamp","mutations","relays"]"#)]]
                .concat();
        let worker = || Server::start(&zegel(), &data, &Address::default(), &workers).expect("a worker starts");
        let mut others = VecDeque::from([worker(), worker(), worker()]);
        for hand_over in 1..=rounds(1) {
            wait_until_even(&front, &others, name);
            others.pop_front().expect("three others").kill();
            let killed = Instant::now();
            while owned(&front, &others).iter().sum::<u64>() < 8 {
                assert!(killed.elapsed() < Duration::from_secs(20), "a killed process's slots are not taken over");
                thread::sleep(Duration::from_millis(50));
            }
            println!("postgres + {name}: taken over {:?} after the kill, with a lease of 3 s", killed.elapsed());
            let drained = others.pop_front().expect("two others");
            assert_eq!(drained.stop(), Some(0), "a worker does not drain");
            if hand_over < rounds(1) {
                others.extend([worker(), worker()]);
            }
        }
        thread::sleep(Duration::from_secs(2));
        let acknowledged = load.stop();
        println!("postgres + {name}: acknowledged {:?}", acknowledged.counts());
        acknowledged.check(&clients, &data);
        for other in others {
            assert_eq!(other.stop(), Some(0), "a worker does not drain");
        }
        assert_eq!(front.stop(), Some(0), "the front does not drain");
    }
}

/// How many of the boxes' eight slots each process has.
fn owned(front: &Server, others: &VecDeque<Server>) -> Vec<u64> {
    std::iter::once(front).chain(others).map(|one| one.owned("box")).collect()
}

/// Processes hand slots over one by one, each after what it has in hand.
fn wait_until_even(front: &Server, others: &VecDeque<Server>, name: &str) {
    let since = Instant::now();
    loop {
        let shares = owned(front, others);
        if shares == [2, 2, 2, 2] {
            println!("postgres + {name}: shares of the boxes' slots {shares:?} after {:?}", since.elapsed());
            return;
        }
        assert!(since.elapsed() < Duration::from_secs(120), "the slots are not divided evenly: {shares:?}");
        thread::sleep(Duration::from_millis(100));
    }
}

/// The move of a folder under load that was killed, killed again at every step of the move.
#[test]
fn a_move_to_postgresql_is_killed_at_every_step_and_takes_everything_along() {
    let _alone = zegel_suite::alone();
    let (Some(postgres), Some(program)) = (url("POSTGRES_URL"), zegel_with_failpoints()) else {
        assert!(std::env::var_os("ZEGEL_ORACLES").is_none(), "the program with fail points was not built");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    prepare(&data);
    let address = Address::default();
    let server = Server::start(&program, &data, &address, &[WINDOW]).expect("starts");
    let clients = open_boxes(&server);
    let load = Load::start(&clients, server.operator());
    thread::sleep(Duration::from_secs(4));
    let acknowledged = load.stop();
    // Too large for a row.
    let large = vec![b'x'; 300_000];
    let path = format!(
        "/v1/messages?sender={HOSPITAL}&to={HOSPITAL}&publication_id=large&title=large&file_name=f&mime=text/plain"
    );
    assert_eq!(clients[HOSPITAL].post_bytes(&path, "text/plain", &large).expect("an answer").0, 202);
    thread::sleep(Duration::from_secs(1));
    server.kill(); // with work on its way
    let bucket = url("S3_URL").map(|bucket| format!("{bucket}/move/{}", std::process::id()));
    let installation = installation("move");
    let env = [("ZEGEL_INSTALLATION", &*installation)];
    let migrate = |crash: Option<&str>| {
        let mut command = Command::new(&program);
        command.args(["migrate", "--json", "--store", &postgres, "--data"]).arg(&data).envs(env);
        if let Some(bucket) = &bucket {
            command.args(["--objects", bucket]);
        }
        if let Some(point) = crash {
            command.env("ZEGEL_CRASH_AT", point).env("ZEGEL_CRASH_PASSES", "0");
        }
        command.output().expect("zegel runs")
    };
    let dry = run(&data, &["migrate", "--json", "--dry-run", "--store", &postgres], &env);
    assert!(json(&dry)["rows"]["state"].as_u64() > Some(100), "hardly anything would be moved");
    let mut points = vec!["migrate::before-piece", "migrate::after-piece", "migrate::before-end"];
    points.extend(bucket.as_ref().map(|_| "migrate::after-object"));
    points.push("migrate::before-mark");
    for point in points {
        for _ in 0..3 {
            let cut = migrate(Some(point));
            assert!(!cut.status.success(), "{point} was not reached");
        }
        if !["migrate::after-object", "migrate::before-mark"].contains(&point) {
            let early = Server::start(&program, &data, &address, &[("ZEGEL_STORE", &postgres), env[0]]);
            assert!(early.is_err(), "a platform starts on a store that is being filled");
        }
    }
    let moved = migrate(None);
    assert!(moved.status.success(), "{}", String::from_utf8_lossy(&moved.stderr));
    assert!(!migrate(None).status.success(), "a folder is moved twice");
    assert!(Server::start(&program, &data, &address, &[]).is_err(), "a marked folder starts on its old store");
    let objects = bucket.as_deref().unwrap_or("folder");
    if bucket.is_some() {
        assert!(json(&moved)["rows"]["objects"].as_u64() >= Some(1), "large content was not copied");
        std::fs::remove_dir_all(data.join("objects")).expect("the folder is needed no more");
    }
    let there = [WINDOW, ("ZEGEL_STORE", &*postgres), env[0], ("ZEGEL_OBJECTS", objects)];
    let server = Server::start(&program, &data, &address, &there).expect("starts on the new store");
    acknowledged.check(&clients, &data);
    let items = whole_folder(&clients[HOSPITAL], HOSPITAL);
    let found = items.iter().find(|item| item["title"] == "large").expect("the large message is in its box");
    let id = found["id"].as_str().or(found["item"].as_str()).expect("an id");
    let content = clients[HOSPITAL].get_bytes(&format!("/v1/boxes/{HOSPITAL}/items/{id}/parts/0"));
    assert_eq!(content.expect("its content"), large, "large content did not move");
    assert_eq!(server.stop(), Some(0));
}

/// PostgreSQL and the broker are killed and fall silent in turn, while the platform runs on and clients keep sending.
fn troubled(broker: &str, variable: &str, names: &'static [&'static str]) {
    let _alone = zegel_suite::alone();
    let Some(servers) = Services::start(names) else { return };
    let (postgres, broker_url) = (servers.url("POSTGRES_URL"), servers.url(variable));
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let env = [WINDOW, ("ZEGEL_STORE", postgres), ("ZEGEL_BROKER", broker_url), ("ZEGEL_RUNNER__LEASE_MS", "3000")];
    declare(&data, broker_url, &env);
    prepare(&data);
    let address = Address::default();
    let server = Server::start(&zegel(), &data, &address, &env).expect("starts");
    let clients = open_boxes(&server);
    let load = Load::start(&clients, server.operator());
    let troubles = [("postgres", "-KILL"), (broker, "-KILL"), ("postgres", "-STOP"), (broker, "-STOP")];
    for round in 0..rounds(ROUNDS).max(4) {
        let (name, signal) = troubles[round as usize % troubles.len()];
        thread::sleep(Duration::from_secs(2));
        servers.signal(name, signal);
        if signal == "-STOP" {
            // Longer than a heartbeat's patience and than every call's.
            thread::sleep(Duration::from_secs(13));
            servers.signal(name, "-CONT");
        } else {
            servers.restart();
        }
    }
    thread::sleep(Duration::from_secs(5));
    let acknowledged = load.stop();
    let rounds = rounds(ROUNDS).max(4);
    println!("{rounds} rounds of killed and silent postgres and {broker}, acknowledged {:?}", acknowledged.counts());
    acknowledged.check(&clients, &data);
    assert_eq!(server.stop(), Some(0), "the process does not drain");
}

#[test]
fn killed_and_silent_postgresql_and_rabbitmq_lose_nothing_end_to_end() {
    troubled("rabbitmq", "AMQP_URL", &["postgres", "rabbitmq"]);
}

#[test]
fn killed_and_silent_postgresql_and_kafka_lose_nothing_end_to_end() {
    troubled("kafka", "KAFKA_URL", &["postgres", "kafka"]);
}
