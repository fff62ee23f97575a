//! The way back by the command line, as the documentation shows it: a hospital sends, the recipient enriches and returns, the
//! hospital reads everything in clear.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const HOSPITAL: &str = "NIHII-HOSPITAL:71000436";
const RESEARCHER: &str = "CBE:0123456749";
const DOCUMENT: &str = r#"
name = "lab-registry"
senders = ["NIHII-HOSPITAL:71000436"]
recipient = "CBE:0123456749"
valid = { from = "2026-01-01", until = "2099-12-31" }
direction = "with-return"
returns = { fields = ["score"], within_days = 30 }
[[fields]]
path = "niss"
kind = "ssin"
action = "pseudonym"
[[fields]]
path = "lab_value"
action = "keep"
"#;

struct World(tempfile::TempDir);

/// A running platform; ended with the test, however that ends.
struct Platform(Child);

impl Drop for Platform {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _status = self.0.wait();
    }
}

impl World {
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, text: &str) -> String {
        fs::write(self.path(name), text).unwrap();
        self.path(name).to_str().unwrap().to_owned()
    }

    fn run(&self, arguments: &[&str]) -> (Option<i32>, Value) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_zegel"));
        let output = command.args(arguments).args(["--json", "--data"]).arg(self.path("data")).output().unwrap();
        let value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{arguments:?}: {}", String::from_utf8_lossy(&output.stderr)));
        (output.status.code(), value)
    }

    fn ok(&self, arguments: &[&str]) -> Value {
        let (status, value) = self.run(arguments);
        assert_eq!(status, Some(0), "{arguments:?}: {value}");
        value
    }

    fn up(&self) -> Platform {
        let mut child = Command::new(env!("CARGO_BIN_EXE_zegel"))
            .args(["up", "--listen", "127.0.0.1:0", "--data"])
            .arg(self.path("data"))
            .env("ZEGEL_LOG__LEVEL", "error")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("listening on "), "{line}");
        Platform(child)
    }

    /// The newest document in a mailbox, written to a folder: what was said of it.
    fn newest(&self, address: &str, folder: &str) -> Value {
        let found = self.ok(&["inbox", address]);
        let documents = found["items"].as_array().unwrap().iter().filter(|item| item["content_type"] == "DOCUMENT");
        let id = documents.map(|item| item["id"].as_str().unwrap().to_owned()).next().expect("a document");
        let out = self.path(folder);
        self.ok(&["inbox", "get", &id, "--out", out.to_str().unwrap(), "--address", address])
    }
}

fn rows(path: &Value) -> Vec<String> {
    let text = fs::read_to_string(path.as_str().unwrap()).unwrap();
    text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[test]
fn a_recipient_enriches_and_returns_and_the_hospital_reads_it_in_clear() {
    let world = World(tempfile::tempdir().unwrap());
    let document = world.file("lab.toml", DOCUMENT);
    let checked = world.ok(&["project", "check", &document]);
    assert!(checked.to_string().contains("one sender"), "{checked}");
    world.ok(&["project", "activate", &document, "--trial"]);
    let _platform = world.up();
    for address in [HOSPITAL, RESEARCHER] {
        world.ok(&["mailbox", "open", address]);
    }
    let batch = world.file("batch.csv", "niss,lab_value\n85061511796,7.7\n85061511895,8.1\n");
    world.ok(&["send", "--sender", HOSPITAL, "--project", "lab-registry", "--wait", "60", &batch]);

    let got = world.newest(RESEARCHER, "received");
    assert_eq!((&got["project"], got["parts"].as_array().unwrap().len()), (&Value::from("lab-registry"), 1));
    let handle = got["handle"].as_str().unwrap();
    let mut delivered = rows(&got["parts"][0]);
    assert_eq!(delivered.remove(0), "niss,lab_value,zegel_row");
    let scored: String = delivered.iter().map(|row| format!("{row},0.5\n")).collect();
    let scored = world.file("scored.csv", &format!("niss,lab_value,zegel_row,score\n{scored}"));
    let twisted = fs::read_to_string(&scored).unwrap().replacen("score", "diagnosis", 1);
    let twisted = world.file("twisted.csv", &twisted);

    let back = |file: &str| {
        let (status, answer) = world.run(&["return", handle, "--batch", file, "--address", RESEARCHER, "--wait", "60"]);
        let code = answer.pointer("/life/recipients/0/state/reason/code").and_then(Value::as_str);
        (status, code.unwrap_or_default().to_owned())
    };
    assert_eq!(back(&twisted), (Some(3), "ZGL-TTP-UNLISTED".to_owned()));
    // What was received may have been worked on: a second delivery is not written over it.
    let again = world.0.path().join("received");
    let id = got["message"]["id"].as_str().unwrap().to_owned();
    let over = ["inbox", "get", &id, "--out", again.to_str().unwrap(), "--address", RESEARCHER];
    assert_eq!(world.run(&over).0, Some(3), "a file is written over");
    // As a spreadsheet in Belgium saves it.
    let scored = world.file("scored.csv", &fs::read_to_string(&scored).unwrap().replace(',', ";"));
    assert_eq!(back(&scored), (Some(0), String::new()));
    // The same file is the same submission; another one under a handle that was used is refused.
    assert_eq!(back(&scored), (Some(0), String::new()));
    let replay = world.file("replay.csv", &fs::read_to_string(&scored).unwrap());
    assert_eq!(back(&replay), (Some(3), "ZGL-RETURN-USED".to_owned()));

    let home = world.newest(HOSPITAL, "home");
    let mut enriched = rows(&home["parts"][0]);
    assert_eq!(enriched.remove(0), "niss,lab_value,score");
    enriched.sort();
    assert_eq!(enriched, ["85061511796,7.7,0.5", "85061511895,8.1,0.5"]);
    let told = world.ok(&["receipts", RESEARCHER]).to_string();
    assert!(!told.contains("71000436") && !told.contains("READ\"") && !told.contains("RECEIVED"), "{told}");
}

const SPLIT: &str = r#"
name = "cohort"
senders = ["NIHII-HOSPITAL:71000436"]
recipient = "CBE:0123456749"
valid = { from = "2026-01-01", until = "2099-12-31" }
[[fields]]
path = "row"
kind = "row-number"
action = "keep"
required = true
[[fields]]
path = "niss"
kind = "ssin"
action = "pseudonym"
[split]
row = "row"
columns = ["diagnosis", "ward"]
sealed_for = """
"#;

/// Whether a file anywhere below the folder has the word in clear.
fn is_anywhere(folder: &Path, word: &str) -> bool {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).any(|path| match path.is_dir() {
        true => is_anywhere(&path, word),
        false => fs::read(path).unwrap().windows(word.len()).any(|window| window == word.as_bytes()),
    })
}

#[test]
fn a_split_batch_is_cut_by_the_sender_and_joined_by_the_recipient_and_by_nobody_between() {
    let world = World(tempfile::tempdir().unwrap());
    let role = world.path("registry");
    world.ok(&["project", "key", "registry", "--out", role.to_str().unwrap()]);
    let [key, pem] = ["key", "pem"].map(|ending| role.with_extension(ending).to_str().unwrap().to_owned());
    let document = format!("{SPLIT}{}\"\"\"\n", fs::read_to_string(&pem).unwrap());
    let document = world.file("cohort.toml", &document);
    world.ok(&["project", "activate", &document, "--trial"]);
    let _platform = world.up();
    for address in [HOSPITAL, RESEARCHER] {
        world.ok(&["mailbox", "open", address]);
    }
    let batch = world.file("batch.csv", "niss,diagnosis,ward\n85061511796,canary-one,A\n85061511895,canary-two,B\n");
    world.ok(&["send", "--sender", HOSPITAL, "--project", "cohort", "--dry-run", &batch]);
    let wrong = world.file("wrong.csv", "niss,diagnosis,ward\n85061511796,x,A\n85061511797,y,B\n");
    let (status, told) = world.run(&["send", "--sender", HOSPITAL, "--project", "cohort", "--dry-run", &wrong]);
    let row = told.pointer("/files/0/reason/rows/0/row").and_then(Value::as_u64);
    assert_eq!((status, row), (Some(3), Some(2)), "{told}");
    let sent = world.ok(&["send", "--sender", HOSPITAL, "--project", "cohort", "--wait", "60", &batch]);
    assert_eq!(sent.pointer("/sent/0/answer"), Some(&Value::from("delivered")), "{sent}");
    assert!(!is_anywhere(&world.path("data"), "canary-"), "the platform has the sealed part in clear");
    // Cut again, its bytes are others; it is the same file all the same.
    let again = world.ok(&["send", "--sender", HOSPITAL, "--project", "cohort", "--wait", "60", &batch]);
    assert_eq!(again.pointer("/sent/0/submission"), sent.pointer("/sent/0/submission"), "{again}");
    assert_eq!(world.ok(&["inbox", RESEARCHER])["items"].as_array().unwrap().len(), 1, "a split batch came twice");
    let other = world.file("other.csv", "niss,diagnosis,ward\n85061511796,x,A\n");
    let id = sent.pointer("/sent/0/publication_id").and_then(Value::as_str).unwrap();
    let words = ["send", "--sender", HOSPITAL, "--project", "cohort", "--publication-id", id, &other];
    assert_eq!(world.run(&words).0, Some(3), "another file under the same publication id is taken for the first");

    let id = world.ok(&["inbox", RESEARCHER])["items"][0]["id"].as_str().unwrap().to_owned();
    let out = world.path("received").to_str().unwrap().to_owned();
    let get = ["inbox", "get", &id, "--out", &out, "--address", RESEARCHER, "--key", &key, "--certificate", &pem];
    let got = world.ok(&get);
    let mut joined = rows(&got["parts"][2]);
    assert_eq!(joined.remove(0), "row,niss,diagnosis,ward");
    joined.sort_by_key(|row| row.split(',').nth(2).map(str::to_owned));
    assert_eq!(joined.len(), 2);
    for (row, rest) in joined.iter().zip([",canary-one,A", ",canary-two,B"]) {
        assert!(row.ends_with(rest) && row.contains(",P1.1-") && !row.contains("85061511"), "{row}");
    }
    // The recipient needs no zegel for it.
    let sealed = world.path("received").join("medical.p7m");
    let mut openssl = Command::new("openssl");
    openssl.args(["cms", "-decrypt", "-binary", "-inform", "DER", "-recip", &pem, "-inkey", &key, "-in"]).arg(sealed);
    let Ok(opened) = openssl.output() else {
        assert!(std::env::var_os("ZEGEL_ORACLES").is_none(), "openssl is needed");
        eprintln!("SKIPPED: openssl is absent");
        return;
    };
    assert!(
        String::from_utf8_lossy(&opened.stdout).contains("canary-one"),
        "{}",
        String::from_utf8_lossy(&opened.stderr)
    );
}
