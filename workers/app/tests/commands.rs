//! Every command against a running platform, as an operator and two hospitals use them.

#![allow(clippy::unwrap_used, clippy::expect_used)]
#![allow(clippy::disallowed_methods)] // a test's thread may sleep

use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const SENDER: &str = "NIHII-HOSPITAL:71000436";
const RECIPIENT: &str = "CBE:0123456749";
const PROJECT: &str = r#"
name = "p"
senders = ["NIHII-HOSPITAL:71000436"]
recipient = "CBE:0123456749"
valid = { from = "2026-01-01", until = "2099-12-31" }
[[fields]]
path = "niss"
kind = "ssin"
action = "pseudonym"
[[fields]]
path = "value"
action = "keep"
"#;

/// Activates the project for a trial, before any platform runs.
fn activate(folder: &Path, data: &Path) {
    let document = folder.join("p.toml");
    fs::write(&document, PROJECT).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_zegel"));
    let status = command.args(["project", "activate", "--trial"]).arg(&document).arg("--data").arg(data).status();
    assert!(status.unwrap().success());
}

/// A platform in a child process; killed when the test ends badly.
struct Platform {
    child: Child,
    data: PathBuf,
}

impl Platform {
    fn start(data: &Path) -> Platform {
        Platform::start_with_log(data, "warn", Stdio::inherit())
    }

    fn start_with_log(data: &Path, level: &str, log: Stdio) -> Platform {
        let mut child = Command::new(env!("CARGO_BIN_EXE_zegel"))
            .args(["up", "--listen", "127.0.0.1:0", "--data"])
            .arg(data)
            .env("ZEGEL_TIMESTAMP__WINDOW", "*/1 * * * * *")
            .env("ZEGEL_LOG__LEVEL", level)
            .stderr(log)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("listening on http://127.0.0.1:"), "{line}");
        Platform { child, data: data.to_owned() }
    }

    /// Runs a command with `--json`; its exit status and its answer.
    fn run(&self, arguments: &[&str]) -> (Option<i32>, Value) {
        self.run_with_input(arguments, "")
    }

    fn run_with_input(&self, arguments: &[&str], input: &str) -> (Option<i32>, Value) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_zegel"))
            .args(arguments)
            .args(["--json", "--data"])
            .arg(&self.data)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{arguments:?}: {}", String::from_utf8_lossy(&output.stderr)));
        (output.status.code(), value)
    }

    fn ok(&self, arguments: &[&str]) -> Value {
        let (status, value) = self.run(arguments);
        assert_eq!(status, Some(0), "{arguments:?}: {value}");
        value
    }

    /// SIGTERM, and the exit status.
    fn stop(mut self) -> Option<i32> {
        let pid = i32::try_from(self.child.id()).unwrap();
        rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::TERM)
            .unwrap();
        self.child.wait().unwrap().code()
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "gave up waiting for {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_day_by_hand_from_opening_a_mailbox_to_a_drained_stop_and_a_clean_check() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    activate(folder.path(), &data);
    let platform = Platform::start(&data);
    for address in [SENDER, RECIPIENT] {
        platform.ok(&["mailbox", "open", address]);
    }
    assert_eq!(platform.ok(&["mailbox", "list"])["mailboxes"].as_array().map(Vec::len), Some(2));
    batches(&platform, folder.path());
    stamps(&platform, folder.path());
    mutations(&platform);
    assert_eq!(platform.ok(&["mailbox", "open", RECIPIENT])["was_open"], true, "a second opening gives a token");
    assert_eq!(platform.run(&["mailbox", "open", RECIPIENT, "--print-token"]).0, Some(3));
    assert!(platform.ok(&["mailbox", "token", RECIPIENT])["token_file"].is_string());
    let told = wait_for("the notice of a new token", || {
        let inbox = platform.ok(&["inbox", RECIPIENT]);
        (inbox["items"].as_array().map(Vec::len) == Some(3)).then_some(inbox)
    });
    assert!(told["items"][0]["title"].as_str().is_some_and(|title| title.contains("token")), "{told}");

    assert_eq!(platform.ok(&["dead", "list"])["dead"].as_array().map(Vec::len), Some(0));
    let (status, refusal) = platform.run(&["dead", "replay", "ttp.inbound/0/1", "--dry-run"]);
    assert_eq!((status, refusal["error"]["code"].as_str()), (Some(3), Some("ZGL-NOT-FOUND")));
    let (status, refusal) = platform.run(&["check"]);
    assert_eq!((status, refusal["error"]["code"].as_str()), (Some(3), Some("folder-in-use")));
    assert_eq!(platform.stop(), Some(0), "a drained stop");
    assert!(!data.join("zegel.address").exists());

    // Offline: the data folder is whole, and commands say that nobody is there.
    let offline = Command::new(env!("CARGO_BIN_EXE_zegel")).args(["check", "--data"]).arg(&data).output().unwrap();
    assert!(offline.status.success(), "{}", String::from_utf8_lossy(&offline.stdout));
    for away in [data, folder.path().join("never-made")] {
        let nobody =
            Command::new(env!("CARGO_BIN_EXE_zegel")).args(["dead", "list", "--data"]).arg(&away).output().unwrap();
        assert_eq!(nobody.status.code(), Some(4), "{}", away.display());
    }
}

fn batches(platform: &Platform, folder: &Path) {
    let good = folder.join("good.csv");
    fs::write(&good, "niss,value\n85061511796,1\n85061511697,2\n").unwrap();
    let to_project = ["send", "--sender", SENDER, "--project", "p", "--wait", "60"];
    let sent = platform.ok(&[&to_project[..], &[good.to_str().unwrap()]].concat());
    assert_eq!(sent["sent"][0]["answer"], "delivered");
    let bad = folder.join("bad.csv");
    fs::write(&bad, "niss,value\n85061511790,1\n").unwrap();
    let (status, refused) = platform.run(&[&to_project[..], &[bad.to_str().unwrap()]].concat());
    assert_eq!((status, refused["sent"][0]["answer"].as_str()), (Some(3), Some("refused")));

    // The same file may go elsewhere too; what is too large gets its reason, not a broken connection, and does not hide
    // what became of the others.
    let big = folder.join("big");
    fs::File::create(&big).unwrap().set_len(20 << 20).unwrap();
    let to_box = ["send", "--sender", SENDER, "--to", RECIPIENT, "--wait", "60"];
    let (status, refused) = platform.run(&[&to_box[..], &[big.to_str().unwrap()]].concat());
    assert_eq!((status, refused["error"]["code"].as_str()), (Some(3), Some("801")), "{refused}");
    let (status, both) = platform.run(&[&to_box[..], &[big.to_str().unwrap(), good.to_str().unwrap()]].concat());
    assert_eq!((status, both["sent"][0]["error"]["code"].as_str()), (Some(3), Some("801")), "{both}");
    assert_eq!(both["sent"][1]["answer"], "delivered", "{both}");

    // The drop folder sends each file once; the answer lies beside it.
    let outbox = folder.join("outbox");
    fs::create_dir(&outbox).unwrap();
    fs::copy(&good, outbox.join("dropped.csv")).unwrap();
    let drop = ["send", "--sender", SENDER, "--project", "p", "--folder", outbox.to_str().unwrap(), "--once"];
    assert_eq!(platform.ok(&drop)["delivered"], 1);
    assert!(outbox.join("dropped.csv.receipt.json").exists());

    let inbox = platform.ok(&["inbox", RECIPIENT]);
    assert_eq!(inbox["items"].as_array().map(Vec::len), Some(3), "{inbox}");
    let item = inbox["items"][0]["id"].as_str().unwrap();
    let received = folder.join("received");
    platform.ok(&["inbox", RECIPIENT, "--read", item, "--out", received.to_str().unwrap()]);
    let batch = fs::read_to_string(received.join("batch.csv")).unwrap();
    assert!(batch.trim_end().lines().count() == 3 && !batch.contains("85061511796"), "{batch}");
    assert_eq!(platform.ok(&["inbox", RECIPIENT, "--move-to", "bin", "--items", item])["applied"][0], item);

    let receipts = wait_for("receipts", || {
        let receipts = platform.ok(&["receipts", SENDER]);
        (receipts["receipts"].as_array().map(Vec::len) == Some(4)).then_some(receipts)
    });
    let reasons = receipts["receipts"].as_array().unwrap().iter().filter(|receipt| receipt["reason"].is_object());
    assert_eq!(reasons.count(), 1, "{receipts}");
}

fn stamps(platform: &Platform, folder: &Path) {
    platform.ok(&["timestamp", "enrol", SENDER]);
    let lines = "1,ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\n";
    let (status, answer) = platform.run_with_input(&["timestamp", "add", SENDER, "-"], lines);
    assert_eq!((status, answer["answers"][0]["is"].as_str()), (Some(0), Some("accepted")), "{answer}");
    let (status, answer) = platform.run_with_input(&["timestamp", "add", SENDER, "-"], &lines.replace("ba78", "ba79"));
    assert_eq!((status, answer["answers"][0]["is"].as_str()), (Some(3), Some("conflict")), "{answer}");
    wait_for("a bag", || {
        let bags = platform.ok(&["timestamp", "bags", SENDER]);
        bags["bags"].as_array().is_some_and(|bags| bags.iter().any(|bag| bag["count"] == 1)).then_some(())
    });
    let out = folder.join("bags");
    platform.ok(&["timestamp", "fetch", SENDER, "--out", out.to_str().unwrap()]);
    let (ca, listing) = (out.join("ca.pem"), out.join("bags.ndjson"));
    let verify = ["timestamp", "verify", SENDER, out.to_str().unwrap(), "--ca", ca.to_str().unwrap()];
    let audited = platform.ok(&[&verify[..], &["--listing", listing.to_str().unwrap()]].concat());
    assert_eq!((audited["bags"].as_u64(), audited["entries"].as_u64()), (audited["tokens_verified"].as_u64(), Some(1)));
    let lines = fs::read_to_string(&listing).unwrap();
    let with_listing = [&verify[..], &["--listing", listing.to_str().unwrap()]].concat();
    fs::write(&listing, lines.replacen("\"stamped\":1", "\"stamped\":2", 1)).unwrap();
    assert_eq!(platform.run(&with_listing).0, Some(1), "a listing that says another time is found");
    fs::write(&listing, &lines).unwrap();
    let last = lines.lines().count();
    fs::rename(out.join(format!("{last}.xml")), out.join("last")).unwrap();
    assert_eq!(platform.run(&with_listing).0, Some(1), "a listed bag that is not there is found");
    fs::rename(out.join("last"), out.join(format!("{last}.xml"))).unwrap();
    assert_eq!(platform.run(&with_listing).0, Some(0));
    let mut xml = fs::read(out.join("1.xml")).unwrap();
    let middle = xml.len() / 2;
    xml[middle] ^= 1;
    fs::write(out.join("1.xml"), xml).unwrap();
    assert_eq!(platform.run(&verify).0, Some(1), "a changed byte is found");
}

fn mutations(platform: &Platform) {
    let (status, answer) = platform.run_with_input(
        &["mutations", "inscribe", RECIPIENT, "-", "--from", "2026-01-01"],
        "85061511796\n85061511697\n",
    );
    assert_eq!((status, answer["accepted"].as_u64()), (Some(0), Some(2)));
    let event = |n: u8, ssin: &str| {
        format!(r#"{{"feed":"f","event":"{n}","ssin":"{ssin}","kind":"address","date":"2026-06-30"}}"#)
    };
    let events = [event(1, "85061511796"), event(2, "85061511697"), event(1, "85061511796")].join("\n");
    let (status, _) = platform.run_with_input(&["mutations", "feed", "-"], &events);
    assert_eq!(status, Some(0));
    let pulled = wait_for("notifications", || {
        let page = platform.ok(&["mutations", "pull", RECIPIENT]);
        (page["notifications"].as_array().map(Vec::len) == Some(2)).then_some(page)
    });
    assert_eq!(pulled["notifications"][1]["number"], 2, "{pulled}");
    platform.ok(&["mutations", "ack", RECIPIENT, "2"]);
}

#[test]
fn a_log_that_cannot_be_written_stops_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let platform = Platform::start_with_log(&data, "debug", full.into());
    for address in [SENDER, RECIPIENT] {
        platform.ok(&["mailbox", "open", address]);
    }
    let note = folder.path().join("note.txt");
    fs::write(&note, "a note").unwrap();
    let sent = platform.ok(&["send", "--sender", SENDER, "--to", RECIPIENT, "--wait", "60", note.to_str().unwrap()]);
    assert_eq!(sent["sent"][0]["answer"], "delivered", "{sent}");
    assert_eq!(platform.stop(), Some(0));
}

/// Runs `zegel check`; its exit status and what it found, as one text.
fn check(data: &Path) -> (Option<i32>, String) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_zegel")).args(["check", "--json", "--data"]).arg(data).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn content_and_bags_that_are_gone_or_changed_are_found_offline() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let platform = Platform::start(&data);
    for address in [SENDER, RECIPIENT] {
        platform.ok(&["mailbox", "open", address]);
    }
    let scan = folder.path().join("scan.bin");
    fs::write(&scan, vec![7; 100_000]).unwrap();
    platform.ok(&["send", "--sender", SENDER, "--to", RECIPIENT, "--wait", "60", scan.to_str().unwrap()]);
    stamps(&platform, folder.path());
    assert_eq!(platform.stop(), Some(0));
    assert_eq!(check(&data).0, Some(0), "{}", check(&data).1);

    let shelf = fs::read_dir(data.join("objects/objects")).unwrap().next().unwrap().unwrap().path();
    let object = fs::read_dir(shelf).unwrap().next().unwrap().unwrap().path();
    let whole = fs::read(&object).unwrap();
    let mut changed = whole.clone();
    changed[50_000] ^= 1;
    for damaged in [Some(&changed[..]), Some(&whole[..50_000]), None] {
        match damaged {
            Some(bytes) => fs::write(&object, bytes).unwrap(),
            None => fs::remove_file(&object).unwrap(),
        }
        let (status, found) = check(&data);
        assert!(status == Some(1) && found.contains("document 0 of item"), "{found}");
    }
    fs::write(&object, whole).unwrap();
    assert_eq!(check(&data).0, Some(0));

    for (name, finding) in [("tokens", "token file"), ("tsa/ca.key", "key file"), ("tsa/tsa.key", "key file")] {
        let whole = fs::read(data.join(name)).unwrap();
        let damaged = [&whole[..], b"garbage\n"].concat();
        let damaged = if name == "tokens" { &damaged[..] } else { &whole[..whole.len() / 2] };
        fs::write(data.join(name), damaged).unwrap();
        let (status, found) = check(&data);
        assert!(status == Some(1) && found.contains(finding), "{name}: {found}");
        fs::write(data.join(name), whole).unwrap();
    }
    assert_eq!(check(&data).0, Some(0));

    delete_first_bag(&data);
    let (status, found) = check(&data);
    assert!(status == Some(1) && found.contains("bag 1 of hospital"), "{found}");
}

/// Takes the first bag's row out of the archive.
fn delete_first_bag(data: &Path) {
    use zegel_core::{Slot, Step, Store, Write, names, slot::spaces};
    let keys = zegel_crypto::Keyring::load(&data.join("keys.toml")).unwrap();
    let owner = names::address_key(&keys, &SENDER.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = zegel_embedded::Embedded::open(data.join("zegel.db"), zegel_embedded::Options::default()).unwrap();
        let slot = Slot { channel: 9, group: 9, partition: 0 };
        let claim = store.claim(slot, zegel_core::OwnerId([9; 16]), schemas::Millis(0), 1).await.unwrap().unwrap();
        let mut step = Step::empty(slot, claim.epoch);
        let sub = zegel_timestamp::rows::bag_sub(1);
        step.writes.push(Write { space: spaces::ARCHIVE, owner, sub, value: None });
        store.commit(step).await.unwrap();
        store.close().await;
    });
}

#[test]
fn a_platform_makes_nothing_in_a_new_folder_that_another_one_has_taken() {
    let folder = tempfile::tempdir().unwrap();
    let lock = fs::File::create(folder.path().join("zegel.db.lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_zegel"))
        .args(["up", "--listen", "127.0.0.1:0", "--data"])
        .arg(folder.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("in use"));
    assert!(!folder.path().join("keys.toml").exists() && !folder.path().join("tsa").exists());
}

#[test]
fn roles_are_refused_on_the_embedded_store_with_that_reason() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_zegel"))
        .args(["up", "--roles", "ttp", "--data"])
        .arg(folder.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("PostgreSQL"));
}
