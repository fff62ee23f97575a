//! The way back by the command line, as the documentation shows it: a hospital sends, the recipient enriches and returns, the
//! hospital reads everything in clear.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
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
