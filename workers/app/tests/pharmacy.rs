//! The hospital pharmacy's page, command by command; and an agent that is killed wherever it can be.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]
#![allow(clippy::disallowed_methods)] // a test's thread may sleep

use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const HOSPITAL: &str = "NIHII-HOSPITAL:71000436";
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/pharmacy.md");
/// Where the agent may die, between two durable steps.
const POINTS: [&str; 7] = [
    "hospital::before-journal",
    "hospital::after-journal",
    "hospital::before-offer",
    "hospital::after-offer",
    "hospital::before-archive",
    "hospital::after-archive",
    "hospital::between-pages",
];

struct Running {
    child: Child,
    url: String,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

impl Running {
    /// A program that says where it listens.
    fn start(mut command: Command) -> Running {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("listening on ").unwrap_or_default().to_owned();
        Running { child, url }
    }
}

fn command(folder: &Path, program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).args(arguments).env("ZEGEL_DATA", folder.join("data")).env("ZEGEL_LOG__LEVEL", "error");
    command
}

fn zegel(folder: &Path, arguments: &[&str]) -> (Option<i32>, Value) {
    let output = command(folder, env!("CARGO_BIN_EXE_zegel"), arguments).arg("--json").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    // The agent says where it listens first.
    let last = output.stdout.split(|byte| *byte == b'\n').rfind(|line| !line.is_empty()).unwrap_or_default();
    (output.status.code(), serde_json::from_slice(last).unwrap_or_else(|_| panic!("{arguments:?}: {said}")))
}

fn ok(folder: &Path, arguments: &[&str]) -> Value {
    let (status, value) = zegel(folder, arguments);
    assert_eq!(status, Some(0), "{arguments:?}: {value}");
    value
}

fn platform(folder: &Path) -> Running {
    let mut up = command(folder, env!("CARGO_BIN_EXE_zegel"), &["up", "--listen", "127.0.0.1:0"]);
    if folder.join("zegel.toml").exists() {
        up.args(["--config", "zegel.toml"]);
    }
    up.env("ZEGEL_TIMESTAMP__WINDOW", "*/1 * * * * *").env("ZEGEL_TIMESTAMP__ALGORITHM", "ecdsa-p256");
    let running = Running::start(up);
    assert!(running.url.starts_with("http://"), "the platform does not start");
    running
}

#[test]
fn every_command_on_the_pharmacys_page_does_what_the_page_says() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    // The platform knows the hospital as a witness before it starts, and waits for it with every checkpoint.
    let made = ok(folder, &["timestamp", "witness", "key", "hospital.example/witness", "--state", "witness"]);
    let settings = format!("[timestamp]\nwitnesses = [{}]\nquorum = 1\ncheckpoint_s = 1\n", made["key"]);
    fs::write(folder.join("zegel.toml"), settings).unwrap();
    let platform = platform(folder);
    fs::copy(folder.join("data/tsa/log.vkey"), folder.join("platform.vkey")).unwrap();
    ok(folder, &["mailbox", "open", HOSPITAL]);
    for number in 1..=5 {
        let text = format!("<prescription number=\"{number}\">10 mg</prescription>\n");
        fs::write(folder.join(format!("rx-{number}.xml")), text).unwrap();
    }
    let own = "<TimeStampBag xmlns=\"urn:be:fgov:ehealth:timestamping:protocol:v2\" Hash=\"SHA-256\" SequenceNumber=\"17\">\
               <JournalEntry><Hash>any text</Hash><Ref>5</Ref></JournalEntry></TimeStampBag>";
    fs::write(folder.join("bag-17.xml"), own).unwrap();
    let program = PathBuf::from(env!("CARGO_BIN_EXE_zegel"));
    let path = format!("{}:{}", program.parent().unwrap().display(), std::env::var("PATH").unwrap_or_default());
    let text = fs::read_to_string(PAGE).unwrap();
    let blocks: Vec<&str> = text.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(blocks.len() >= 6, "the page has lost its commands");
    for block in blocks {
        let authority = format!("{}/timestamp", platform.url);
        let output =
            command(folder, "sh", &["-e", "-c", block]).env("PATH", &path).env("TSA", authority).output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{block}\n{said}");
    }
    let tally = ok(folder, &["timestamp", "status", "--journal", "stamps"]);
    assert_eq!((tally["stamped"].as_u64(), tally["waiting"].as_u64()), (Some(5), Some(0)));
    let report: Value = serde_json::from_slice(&fs::read(folder.join("own.json")).unwrap()).unwrap();
    assert_eq!(report["verdict"], "clean");
    let report: Value = serde_json::from_slice(&fs::read(folder.join("later.json")).unwrap()).unwrap();
    assert_eq!(
        (&report["verdict"], &report["evidence"]["document_in"]),
        (&json!("clean"), &json!("sha-512")),
        "{report}"
    );
    witnessed(folder);
    refusals(folder);
    drop(platform);
    let checked = ok(folder, &["check"]);
    assert!(checked.to_string().contains("\"I6\""), "{checked}");
}

/// The quorum counts in an audit, and a witness does not sign a second history.
fn witnessed(folder: &Path) {
    let key = |name: &str| fs::read_to_string(folder.join(name)).unwrap().trim().to_owned();
    let (log, witness) = (key("platform.vkey"), key("witness/witness.vkey"));
    let trust =
        format!("[[ca]]\nfile = \"ca.pem\"\n\n[log]\nkey = \"{log}\"\nwitnesses = [\"{witness}\"]\nquorum = 1\n");
    fs::write(folder.join("strict.toml"), trust).unwrap();
    // The hospital's own bag is in the platform's archive, byte for byte, once a bag that holds its hash is.
    let begun = Instant::now();
    let archived = loop {
        ok(folder, &["timestamp", "export", HOSPITAL, "--out", "witnessed"]);
        let archive = zegel_archive::reader::Archive::open(&folder.join("witnessed")).unwrap();
        if archive.records(zegel_archive::record::kinds::FOREIGN).next().is_some() {
            break archive;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "the own bag is not exported");
        std::thread::sleep(Duration::from_millis(200));
    };
    let (segment, slot) = archived.records(zegel_archive::record::kinds::FOREIGN).next().unwrap();
    let body = segment.body(slot).unwrap();
    let foreign = zegel_archive::record::Foreign::decode(&body).unwrap();
    assert_eq!(foreign.bytes, fs::read(folder.join("bag-17.xml")).unwrap());
    assert!(foreign.held_by > 0 && foreign.tsr == fs::read(folder.join("bag-17.tsr")).unwrap());
    // And in the hospital's own archive, once the agent has looked again.
    let begun = Instant::now();
    loop {
        ok(folder, &["timestamp", "agent", HOSPITAL, "--journal", "stamps", "--once", "--wait", "60"]);
        let own = zegel_archive::reader::Archive::open(&folder.join("stamps/archive")).unwrap();
        if own.own_bags_kept().unwrap().contains(&zegel_crypto::hash::sha256(foreign.bytes)) {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "the own bag is not in the hospital's archive");
    }
    // Bags of the last seconds wait for their checkpoint; the first ones stand in the cosigned log.
    let (_, report) = zegel(folder, &["audit", "--archive", "witnessed", "--trust", "strict.toml"]);
    let log = &report["archives"][0]["log"];
    assert_eq!(
        (&log["state"], &log["witnesses"], &log["quorum"]),
        (&json!("checked"), &json!(1), &json!(1)),
        "{report}"
    );
    assert!(log["bags"].as_u64() > Some(0), "{log}");
    let sign = ["timestamp", "witness", "sign", "--state", "witness", "--log", "platform.vkey"];
    ok(folder, &sign);
    // Another log under the same name is not this one.
    let other =
        zegel_crypto::log::NoteSigner::generate("zegel.localhost/log", zegel_crypto::log::Purpose::Log).unwrap();
    fs::write(folder.join("other.vkey"), other.public().to_string()).unwrap();
    let status = zegel(folder, &["timestamp", "witness", "sign", "--state", "witness", "--log", "other.vkey"]).0;
    assert_eq!(status, Some(3));
    // What the witness saw last is not the beginning of what it is shown now.
    let seen = fs::read_dir(folder.join("witness")).unwrap().map(|entry| entry.unwrap().path());
    let seen = seen.into_iter().find(|path| path.file_name().unwrap().to_string_lossy().starts_with("seen-")).unwrap();
    let note: zegel_crypto::log::Note = fs::read_to_string(&seen).unwrap().parse().unwrap();
    let mut shown: zegel_crypto::log::Checkpoint = note.text.parse().unwrap();
    shown.root = schemas::Sha256([7; 32]);
    let signer = fs::read_to_string(folder.join("data/tsa/log.key")).unwrap();
    let name = shown.origin.clone();
    let signer = zegel_crypto::log::NoteSigner::from_pem(&name, zegel_crypto::log::Purpose::Log, &signer).unwrap();
    fs::write(&seen, shown.sign(&signer).to_string()).unwrap();
    let (status, said) = zegel(folder, &sign);
    assert_eq!(status, Some(1), "{said}");
    let forks = fs::read_dir(folder.join("witness")).unwrap();
    assert!(forks.into_iter().any(|entry| entry.unwrap().file_name().to_string_lossy().starts_with("fork-")));
}

/// What the page does not do, and what comes of it.
fn refusals(folder: &Path) {
    let status = |arguments: &[&str]| zegel(folder, arguments).0;
    assert_eq!(status(&["timestamp", "prove", "--journal", "stamps", "trust.toml", "--out", "x.tar"]), Some(1));
    assert_eq!(status(&["timestamp", "status", "--journal", "nowhere"]), Some(2));
    assert!(!folder.join("nowhere").exists());
    assert_eq!(status(&["timestamp", "add", HOSPITAL, "--journal", "stamps", "--ref", "1002", "rx-1.xml"]), Some(3));
    assert_eq!(status(&["timestamp", "add", "NIHII-HOSPITAL:71000337", "--journal", "stamps", "rx-1.xml"]), Some(2));
    assert_eq!(
        status(&["timestamp", "agent", HOSPITAL, "--journal", "stamps", "--listen", "0.0.0.0:0", "--once"]),
        Some(2)
    );
    // Asking again does not help a wrong token: it is told at once, and not after the wait.
    ok(folder, &["timestamp", "add", HOSPITAL, "--journal", "denied", "rx-1.xml"]);
    let wrong = ["timestamp", "agent", HOSPITAL, "--journal", "denied", "--once", "--wait", "600", "--token", "wrong"];
    let (status_of_wrong, told) = zegel(folder, &wrong);
    assert_eq!((status_of_wrong, &told["error"]["code"]), (Some(3), &json!("ZGL-AUTH-TOKEN")), "{told}");
    // The bags say that their hashes are salted: without its salt a document is not found altered, but asked for its salt.
    let evidence = [
        "timestamp",
        "evidence",
        "--archive",
        "own-archive",
        "--ref",
        "1002",
        "--document",
        "rx-2.xml",
        "--trust",
        "trust.toml",
        "--out",
        "y.tar",
    ];
    assert_ne!(status(&evidence), Some(0));
    // A bit of the evidence.
    let mut bytes = fs::read(folder.join("rx-1.tar")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(folder.join("bent.tar"), bytes).unwrap();
    assert_ne!(status(&["audit", "--evidence", "bent.tar", "--trust", "trust.toml"]), Some(0));
}

/// Hands in one document; its reference, when it was acknowledged.
fn hand_in(url: &str, token: &str, text: &str) -> Option<u64> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(10)))
        .build()
        .into();
    let request = agent.post(format!("{url}/v1/documents")).header("authorization", format!("Bearer {token}"));
    let mut response = request.send(text.as_bytes()).ok()?;
    if response.status() != 202 {
        return None;
    }
    let answer: Value = serde_json::from_str(&response.body_mut().read_to_string().ok()?).ok()?;
    answer["answers"][0]["ref"].as_u64()
}

#[test]
fn an_agent_that_is_killed_anywhere_loses_nothing_and_has_nothing_stamped_twice() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut up = Some(platform(folder));
    ok(folder, &["mailbox", "open", HOSPITAL]);
    let mut acknowledged = BTreeSet::new();
    let mut number = 0;
    let kills = POINTS.iter().map(|point| Some(*point)).chain([None, None, None]);
    for (round, point) in kills.enumerate() {
        if round == 8 {
            up = None; // killed, and away for the rest of this round
        }
        let mut agent =
            command(folder, env!("CARGO_BIN_EXE_zegel"), &["timestamp", "agent", HOSPITAL, "--journal", "st"]);
        if let Some(point) = point {
            agent.env("ZEGEL_CRASH_AT", point).env("ZEGEL_CRASH_PASSES", "1");
        }
        let mut agent = Running::start(agent);
        let token = fs::read_to_string(folder.join("st/agent.token")).unwrap();
        assert_eq!(hand_in(&agent.url, "guessed", "somebody else's"), None);
        let begun = Instant::now();
        let patience = Duration::from_secs(if cfg!(feature = "failpoints") && point.is_some() { 30 } else { 1 });
        while agent.child.try_wait().unwrap().is_none() && begun.elapsed() < patience {
            number += 1;
            acknowledged.extend(hand_in(&agent.url, token.trim(), &format!("prescription {number}")));
            std::thread::sleep(Duration::from_millis(20));
        }
        let died = agent.child.try_wait().unwrap().is_some();
        assert!(died || !cfg!(feature = "failpoints") || point.is_none(), "{point:?} is never reached");
        drop(agent); // SIGKILL, where it still lives
        if round == 8 {
            up = Some(platform(folder));
        }
    }
    assert!(up.is_some() && acknowledged.len() > 20, "{} documents were acknowledged", acknowledged.len());
    let tally = ok(folder, &["timestamp", "agent", HOSPITAL, "--journal", "st", "--once", "--wait", "120"]);
    assert_eq!((&tally["lost"], &tally["strangers"], &tally["refused"]), (&json!(0), &json!(0), &json!(0)), "{tally}");
    assert!(tally["stamped"].as_u64().unwrap() >= acknowledged.len() as u64);
    ok(folder, &["timestamp", "export", "--journal", "st", "--out", "own", "--list", "list.csv"]);
    let list = fs::read_to_string(folder.join("list.csv")).unwrap();
    let stamped: BTreeSet<u64> = list.lines().filter_map(|line| line.split(',').next()?.parse().ok()).collect();
    assert!(acknowledged.is_subset(&stamped), "acknowledged and not stamped");
    // The audit finds a reference that stands in two bags, a bag that is missing, a document that is not there.
    fs::write(folder.join("trust.toml"), "[[ca]]\nfile = \"st/ca.pem\"\n").unwrap();
    ok(folder, &["audit", "--archive", "own", "--documents", "list.csv", "--trust", "trust.toml"]);
    ok(folder, &["timestamp", "export", HOSPITAL, "--out", "theirs"]);
    let (status, report) =
        zegel(folder, &["audit", "--archive", "theirs", "--against", "own", "--trust", "trust.toml"]);
    let names: Vec<&String> = report["names"].as_object().unwrap().keys().collect();
    // A window may have ended between the two exports.
    assert!(status == Some(0) || (status == Some(14) && names == ["missing-there"]), "{status:?} {names:?}");
    exports_that_die(folder);
}

/// Where an archive's writer may die.
const ARCHIVE_POINTS: [&str; 5] = [
    "archive::before-record",
    "archive::after-record",
    "archive::after-index",
    "archive::after-rename",
    "archive::after-manifest",
];

/// The platform's archive, while its export dies between every two durable steps.
fn exports_that_die(folder: &Path) {
    for (number, point) in ARCHIVE_POINTS.iter().enumerate() {
        let out = format!("torn-{number}");
        for passes in ["0", "2"] {
            let mut export =
                command(folder, env!("CARGO_BIN_EXE_zegel"), &["timestamp", "export", HOSPITAL, "--out", &out]);
            let ended = export.env("ZEGEL_CRASH_AT", point).env("ZEGEL_CRASH_PASSES", passes).output().unwrap();
            let dies = cfg!(feature = "failpoints") && passes == "0";
            assert!(!dies || ended.status.code().is_none(), "{point} is never reached");
        }
        ok(folder, &["timestamp", "export", HOSPITAL, "--out", &out]);
        ok(folder, &["audit", "--archive", &out, "--trust", "trust.toml"]);
    }
}
