//! A project's whole life by the command line: drafted, signed by each party, countersigned, used, amended, altered, ended.

#![allow(clippy::unwrap_used, clippy::expect_used)]
#![allow(clippy::disallowed_methods)] // a test's thread may sleep

mod seals;

use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const SENDER: &str = "NIHII-HOSPITAL:71000436";
const RECIPIENT: &str = "CBE:0123456749";
const BATCH: &str = "niss,birth_date,lab_value\n85061511796,1985-06-15,7.7\n";

struct World {
    folder: TempDir,
}

/// A running platform; killed when the test ends badly.
struct Platform(Child);

impl Drop for Platform {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _status = self.0.wait();
    }
}

impl World {
    /// A folder with keys for the hospital, the registry and an officer, who decides in its data folder.
    fn new() -> World {
        let world = World { folder: tempfile::tempdir().unwrap() };
        for who in ["hospital", "registry", "officer", "stranger"] {
            world.ok(&["project", "key", who, "--out", &world.path(who)]);
        }
        world.ok(&["project", "officer", &world.path("officer.pem")]);
        fs::write(world.path("sample.csv"), BATCH).unwrap();
        world
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn run(&self, arguments: &[&str]) -> (Option<i32>, Value) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_zegel"));
        let output = command.args(arguments).args(["--json", "--data"]).arg(self.data()).output().unwrap();
        let value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{arguments:?}: {}", String::from_utf8_lossy(&output.stderr)));
        (output.status.code(), value)
    }

    fn ok(&self, arguments: &[&str]) -> Value {
        let (status, value) = self.run(arguments);
        assert_eq!(status, Some(0), "{arguments:?}: {value}");
        value
    }

    fn refused(&self, arguments: &[&str]) -> String {
        let (status, value) = self.run(arguments);
        assert_eq!(status, Some(3), "{arguments:?}: {value}");
        value["error"]["text"].as_str().unwrap_or_default().to_owned()
    }

    fn up(&self) -> Platform {
        let mut child = Command::new(env!("CARGO_BIN_EXE_zegel"))
            .args(["up", "--listen", "127.0.0.1:0", "--data"])
            .arg(self.data())
            .env("ZEGEL_LOG__LEVEL", "error")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("listening on "), "{line}");
        Platform(child)
    }

    /// A draft with both parties' certificates, in which the value is kept.
    fn draft(&self, name: &str) -> String {
        let certificates =
            [format!("{SENDER}={}", self.path("hospital.pem")), format!("{RECIPIENT}={}", self.path("registry.pem"))];
        let sample = self.path("sample.csv");
        let draft = ["project", "draft", name, "--sender", SENDER, "--recipient", RECIPIENT, "--batch", &sample];
        let certified = [
            "--from",
            "2026-01-01",
            "--until",
            "2099-12-31",
            "--certificate",
            &certificates[0],
            "--certificate",
            &certificates[1],
        ];
        let text = self.ok(&[&draft[..], &certified[..]].concat())["document"].as_str().unwrap().to_owned();
        text.replace("action = \"drop\"   # not recognised: decide what becomes of it", "action = \"keep\"")
    }

    fn sign(&self, document: &str, party: &str, who: &str) -> (Option<i32>, Value) {
        let [key, certificate] = ["key", "pem"].map(|ending| self.path(&format!("{who}.{ending}")));
        self.run(&["project", "sign", document, "--party", party, "--key", &key, "--certificate", &certificate])
    }

    fn officer(&self, arguments: &[&str]) -> (Option<i32>, Value) {
        let [key, certificate] = ["officer.key", "officer.pem"].map(|name| self.path(name));
        self.run(&[&["project"], arguments, &["--key", &key, "--certificate", &certificate]].concat())
    }

    fn state(&self, name: &str) -> (String, String) {
        let (_, status) = self.run(&["project", "status"]);
        let all = status["projects"].as_array().unwrap();
        let project = all.iter().find(|project| project["name"] == name).expect("it is listed");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (text(&project["state"]), text(&project["barred"]["code"]))
    }

    /// Sends a batch and returns the answer, and the refusal's code.
    fn send(&self, name: &str, file: &str) -> (String, String) {
        let (_, sent) = self.run(&["send", "--sender", SENDER, "--project", name, "--wait", "60", file]);
        let one = &sent["sent"][0];
        let code = one.pointer("/life/recipients/0/state/reason/code").and_then(Value::as_str).unwrap_or_default();
        (one["answer"].as_str().unwrap_or_default().to_owned(), code.to_owned())
    }

    fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let begun = Instant::now();
        while !holds() {
            assert!(begun.elapsed() < Duration::from_secs(60), "gave up waiting for {what}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn batch(&self, name: &str, content: &str) -> String {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path
    }
}

#[test]
fn an_officer_whose_certificate_has_ended_is_not_taken_in() {
    let world = World::new();
    let old = zegel_crypto::signed::Identity::create("an officer of old", schemas::Millis(0)).unwrap();
    let (key, certificate) = (world.path("old.key"), world.path("old.pem"));
    old.write(key.as_ref(), certificate.as_ref()).unwrap();
    assert!(world.refused(&["project", "officer", &certificate]).contains("not valid today"));
}

#[test]
fn a_project_takes_batches_only_as_every_party_signed_it_and_as_long_as_its_papers_hold() {
    let world = World::new();
    let document = world.batch("lab.toml", &world.draft("lab"));
    // Nobody, then one, then a stranger, then both.
    let missing = world.officer(&["activate", &document]);
    assert_eq!(missing.0, Some(3), "an unsigned document is activated: {}", missing.1);
    assert_eq!(world.sign(&document, SENDER, "hospital").0, Some(0));
    assert_eq!(world.sign(&document, RECIPIENT, "stranger").0, Some(3), "a stranger signs for the registry");
    assert_eq!(world.officer(&["activate", &document]).0, Some(3), "one signature is enough");
    assert_eq!(world.sign(&document, RECIPIENT, "registry").0, Some(0));
    assert_eq!(world.ok(&["project", "check", &document])["complete"], true);
    let [key, certificate] = ["stranger.key", "stranger.pem"].map(|name| world.path(name));
    let forged = world.refused(&["project", "activate", &document, "--key", &key, "--certificate", &certificate]);
    assert!(forged.contains("not signed by an officer"), "{forged}");

    let platform = world.up();
    for address in [SENDER, RECIPIENT] {
        world.ok(&["mailbox", "open", address]);
    }
    assert_eq!(world.send("lab", &world.batch("0.csv", BATCH)).1, "ZGL-TTP-PROJECT");
    let activated = world.officer(&["activate", &document]);
    assert_eq!(activated.0, Some(0), "{}", activated.1);
    assert_eq!(world.state("lab").0, "in-force");
    assert_eq!(world.send("lab", &world.batch("1.csv", BATCH)).0, "delivered");
    check_rehearsal(&world);

    // An amendment over HTTP: the diff says what changes, tokens stay.
    let amended =
        fs::read_to_string(&document).unwrap().replace("version = 1 ", "version = 2 ").replace("\"year\"", "\"month\"");
    let second = world.batch("lab-2.toml", &amended);
    let changes = world.ok(&["project", "diff", "lab", &second]);
    assert_eq!(changes["changes"].as_array().unwrap().len(), 2, "{changes}");
    assert_eq!(world.officer(&["activate", &second]).0, Some(3), "signatures of version 1 count for version 2");
    world.sign(&second, SENDER, "hospital");
    world.sign(&second, RECIPIENT, "registry");
    let activated = world.officer(&["activate", &second]);
    assert_eq!(activated.0, Some(0), "{}", activated.1);
    assert_eq!(world.officer(&["activate", &second]).0, Some(3), "a version is activated twice");
    assert_eq!(world.send("lab", &world.batch("2.csv", BATCH)).0, "delivered");

    // One character of a paper on the disk, while it runs.
    let paper = world.data().join("projects/lab/v2.toml");
    let text = fs::read_to_string(&paper).unwrap();
    fs::write(&paper, text.replace("\"month\"", "\"year\"")).unwrap();
    assert_eq!(world.state("lab"), ("barred".to_owned(), "ZGL-TTP-ALTERED".to_owned()));
    assert_eq!(world.send("lab", &world.batch("3.csv", BATCH)).1, "ZGL-TTP-ALTERED");
    fs::write(&paper, text).unwrap();
    assert_eq!(world.state("lab").0, "in-force");
    assert_eq!(world.send("lab", &world.batch("4.csv", BATCH)).0, "delivered");
    check_quarantine(&world);
    drop(platform);
}

/// What was refused while the papers were altered stands still, is shown without its content, and is delivered when an officer
/// releases it; what is dropped is gone.
fn check_quarantine(world: &World) {
    let delivered = || world.ok(&["inbox", RECIPIENT])["items"].as_array().unwrap().len();
    let before = delivered();
    let list = world.ok(&["quarantine", "list"]);
    assert_eq!(list["batches"].as_array().unwrap().len(), 1, "{list}");
    assert_eq!(list["batches"][0]["reason"]["code"], "ZGL-TTP-ALTERED");
    assert!(!list.to_string().contains("3.csv"), "a file name may name a patient: {list}");
    let submission = world.ok(&["quarantine", "release", "lab/1"])["submission"].as_str().unwrap().to_owned();
    world.until("the released batch", || delivered() == before + 1);
    world.until("its answer", || {
        world.ok(&["receipts", SENDER, "--submission", &submission]).to_string().contains("done")
    });
    assert!(world.refused(&["quarantine", "release", "lab/1"]).contains("no such batch"));
    assert_eq!(
        world.send("lab", &world.batch("5.csv", "niss,birth_date,lab_value\n1,1985-06-15,7\n")).1,
        "ZGL-TTP-ROWS"
    );
    let shown = world.ok(&["quarantine", "show", "lab/2"]);
    assert_eq!(shown["reason"]["rows"][0]["field"], "niss", "{shown}");
    world.ok(&["quarantine", "drop", "lab/2"]);
    assert_eq!(world.ok(&["quarantine", "list", "--project", "lab"])["batches"].as_array().unwrap().len(), 0);
    let lines = world.refused(&["project", "cells", "lab"]);
    assert!(lines.contains("no quasi-identifiers"), "{lines}");
}

/// `send --dry-run` names every bad row, and `project try` shows what would be delivered, without anything being sent.
fn check_rehearsal(world: &World) {
    let bad: String = (0..150).map(|n| format!("8506151179{},1985-06-15,{n}\n", n % 6)).collect();
    let bad = world.batch("bad.csv", &format!("niss,birth_date,lab_value\n{bad}"));
    let dry = ["send", "--sender", SENDER, "--project", "lab", "--dry-run"];
    let (status, told) = world.run(&[&dry[..], &[&bad]].concat());
    assert_eq!(status, Some(3), "{told}");
    assert_eq!(told["files"][0]["reason"]["rows"].as_array().unwrap().len(), 150, "not every bad row is named");
    let good = world.batch("good.csv", BATCH);
    assert_eq!(world.ok(&[&dry[..], &[&good]].concat())["files"][0]["would_be"], "delivered");
    let (document, out) = (world.path("lab.toml"), world.path("preview.csv"));
    let preview = ["project", "try", "--project", &document, "--batch", &good, "--out", &out];
    world.ok(&preview);
    let first = fs::read_to_string(&out).unwrap();
    assert!(first.contains(",1985,7.7") && !first.contains("85061511796"), "{first}");
    world.ok(&preview);
    assert_ne!(fs::read_to_string(&out).unwrap(), first, "a preview shows the project's own tokens");
    let inbox = world.ok(&["inbox", RECIPIENT]);
    assert_eq!(inbox["items"].as_array().unwrap().len(), 1, "a rehearsal was delivered");
}

#[test]
fn keys_rotate_and_a_retired_project_can_lose_them_for_good_with_proof() {
    let world = World::new();
    let document = world.batch("study.toml", &world.draft("study"));
    world.sign(&document, SENDER, "hospital");
    world.sign(&document, RECIPIENT, "registry");
    // While no platform runs the papers go into the folder itself.
    assert_eq!(world.officer(&["activate", &document]).0, Some(0));
    let rotated = world.officer(&["rotate", "study"]);
    assert_eq!((rotated.0, rotated.1["epoch"].as_u64()), (Some(0), Some(2)), "{}", rotated.1);
    check_conversion(&world);
    let keys = || fs::read_to_string(world.data().join("keys.toml")).unwrap();
    assert!(keys().contains("study"));
    let early = world.officer(&["retire", "study", "--reason", "over", "--effective", "2026-01-01"]);
    assert_eq!(early.0, Some(3), "a decision takes effect in the past: {}", early.1);
    let platform = world.up();
    let retired = world.officer(&["retire", "study", "--reason", "the study has ended", "--destroy-keys"]);
    assert_eq!(retired.0, Some(0), "{}", retired.1);
    assert!(!keys().contains("study"), "the root is still in the key file");
    assert_eq!(world.state("study").0, "keys-destroyed");
    let shown = world.ok(&["project", "show", "study"]);
    let deeds: Vec<&str> =
        shown["decisions"].as_array().unwrap().iter().map(|one| one["deed"].as_str().unwrap()).collect();
    assert_eq!(deeds, ["activate version 1", "rotate to epoch 2", "retire: the study has ended", "destroy keys"]);
    // The proof: entries that openssl verifies with the officer's certificate.
    for number in 1..=4 {
        let at = |ending: &str| world.data().join(format!("projects/study/{number:04}.{ending}"));
        let mut openssl = Command::new("openssl");
        let verify = openssl.args("cms -verify -binary -inform DER -purpose any -out /dev/null -in".split(' '));
        let Ok(output) = verify
            .arg(at("p7s"))
            .arg("-content")
            .arg(at("toml"))
            .arg("-CAfile")
            .arg(world.path("officer.pem"))
            .output()
        else {
            assert!(std::env::var_os("ZEGEL_ORACLES").is_none(), "ZEGEL_ORACLES is set and openssl is absent");
            return;
        };
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(world.officer(&["rotate", "study"]).0, Some(3), "something follows the destruction");
    drop(platform);
}

/// A data set of before the rotation becomes one of after it, with a manifest that openssl verifies; what was changed does not.
fn check_conversion(world: &World) {
    let text = fs::read_to_string(world.data().join("keys.toml")).unwrap();
    let keys: toml::Table = toml::from_str(&text).unwrap();
    let root = keys["projects"]["study"].as_str().unwrap();
    let root: [u8; 32] = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, root).unwrap().try_into().unwrap();
    let token = |epoch, value: &[u8]| {
        let scope = zegel_crypto::pseudonym::Scope { recipient: RECIPIENT, domain: "ssin", epoch, sender: None };
        let mut out = Vec::new();
        zegel_crypto::pseudonym::PseudonymRoot::new(&root).reversible(&scope).encode(value, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    let set = |epoch| format!("niss,value\n{},7\n{},8\n", token(epoch, b"85061511796"), token(epoch, b"85061511895"));
    let (old, new) = (world.batch("old.csv", &set(1)), world.path("new.csv"));
    let dry = world.officer(&["rotate", "study", "--convert", &old, "--dry-run"]);
    assert_eq!((dry.0, dry.1["tokens"]["reversible"].as_u64()), (Some(0), Some(2)), "{}", dry.1);
    let convert = ["rotate", "study", "--convert", &old, "--out", &new];
    let done = world.officer(&convert);
    assert_eq!(done.0, Some(0), "{}", done.1);
    assert_eq!(fs::read_to_string(&new).unwrap(), set(2));
    assert_eq!(world.officer(&convert).0, Some(2), "a data set is replaced");
    let manifest = fs::read_to_string(format!("{new}.manifest.toml")).unwrap();
    let digest = |text: String| zegel_crypto::hash::sha256(text.as_bytes()).to_string();
    assert!(manifest.contains(&digest(set(1))) && manifest.contains(&digest(set(2))), "{manifest}");
    let mut openssl = Command::new("openssl");
    openssl.args("cms -verify -binary -inform DER -purpose any -out /dev/null -in".split(' '));
    openssl.arg(format!("{new}.manifest.toml.p7s")).arg("-content").arg(format!("{new}.manifest.toml"));
    match openssl.arg("-CAfile").arg(world.path("officer.pem")).output() {
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr)),
        Err(_) => assert!(std::env::var_os("ZEGEL_ORACLES").is_none(), "ZEGEL_ORACLES is set and openssl is absent"),
    }
    let [key, certificate] = ["stranger.key", "stranger.pem"].map(|name| world.path(name));
    let strange =
        ["project", "rotate", "study", "--convert", &old, "--dry-run", "--key", &key, "--certificate", &certificate];
    assert_eq!(world.run(&strange).0, Some(3), "a stranger signs a manifest");
    let text = set(1);
    let damaged = world.batch("damaged.csv", &text.replace(",7", "A,7"));
    let gone = world.path("gone.csv");
    assert_eq!(world.officer(&["rotate", "study", "--convert", &damaged, "--out", &gone]).0, Some(3));
    assert!(!std::path::Path::new(&gone).exists(), "a half of a data set is left");
}

#[test]
fn a_one_way_project_is_encoded_without_any_key_that_decodes() {
    let world = World::new();
    fs::remove_dir_all(world.data()).unwrap();
    let fields = "[[fields]]\npath = \"niss\"\nkind = \"ssin\"\naction = \"one-way\"\n[[fields]]\npath = \"no\"\naction = \"one-way\"\n\
        domain = \"no\"\nscope = \"sender\"\n[[fields]]\npath = \"value\"\naction = \"keep\"\n\
        [[fields]]\npath = \"trace\"\nkind = \"ssin\"\naction = \"escrow\"\n";
    let role = world.path("tracing-office");
    assert_eq!(world.run(&["project", "decode-key", "--out", &role]).0, Some(0));
    let role_key = fs::read_to_string(format!("{role}.pub")).unwrap();
    let head = |name: &str| {
        format!(
            "decode_key = \"\"\"\n{role_key}\"\"\"\nname = \"{name}\"\nsenders = [\"{SENDER}\"]\nrecipient = \"{RECIPIENT}\"\nrows = \"keep\"\n\
             valid = {{ from = \"2026-01-01\", until = \"2099-12-31\" }}\n"
        )
    };
    let document = world.batch("counts.toml", &(head("counts") + fields));
    world.ok(&["project", "activate", "--trial", &document]);
    let keys = world.path("encode.keys");
    assert_eq!(world.ok(&["project", "encode-keys", "counts", "--sender", SENDER, "--out", &keys])["keys"], 2);
    let stranger = ["project", "encode-keys", "counts", "--sender", "NIHII-HOSPITAL:71000931", "--out", &keys];
    assert_eq!(world.run(&stranger).0, Some(3));
    let platform = world.up();
    for address in [SENDER, RECIPIENT] {
        world.ok(&["mailbox", "open", address]);
    }
    let batch = world.batch("batch.csv", "niss,no,value,trace\n85061511796,A1,7,85061511895\n");
    assert_eq!(world.send("counts", &batch).0, "delivered");
    let item = world.ok(&["inbox", RECIPIENT])["items"][0]["id"].as_str().unwrap().to_owned();
    let received = world.path("received");
    world.ok(&["inbox", RECIPIENT, "--read", &item, "--out", &received]);
    let delivered = fs::read_dir(&received).unwrap().next().unwrap().unwrap().path();
    drop(platform);
    // Without data folder, key file and platform.
    fs::remove_dir_all(world.data()).unwrap();
    let out = world.path("encoded.csv");
    let words = |line: String| world.run(&line.split(' ').collect::<Vec<_>>());
    let encode = |document: &str, out: &str| {
        words(format!(
            "project encode --project {document} --keys {keys} --sender {SENDER} --batch {batch} --out {out}"
        ))
    };
    let encoded = encode(&document, &out);
    assert_eq!(encoded.0, Some(0), "{}", encoded.1);
    // What is handed over ends with filler.
    assert_eq!(fs::read_to_string(&out).unwrap().trim_end(), fs::read_to_string(delivered).unwrap().trim_end());
    // Whoever has the decode role's key, and nothing else, reads what was escrowed, and nothing else.
    let named = world.path("named.csv");
    let decode = |key: &str| {
        words(format!("project decode --project {document} --key {role}.{key} --batch {out} --out {named}"))
    };
    assert_eq!((decode("pub").0, decode("key").0), (Some(2), Some(0)));
    let (encoded, named) = (fs::read_to_string(&out).unwrap(), fs::read_to_string(&named).unwrap());
    assert!(encoded.contains(",E1.1-") && !encoded.contains("85061511"), "{encoded}");
    assert!(named.contains(",85061511895") && named.contains("\nH1.1-") && !named.contains("85061511796"), "{named}");
    // Another file, copied as it is, would look as if it had been decoded.
    let (other, none) = (world.batch("other.csv", "name,ward\nJan,3\n"), world.path("nothing.csv"));
    let refused = words(format!("project decode --project {document} --key {role}.key --batch {other} --out {none}"));
    assert_eq!((refused.0, refused.1.to_string().contains("ZGL-TTP-MISSING")), (Some(3), true), "{}", refused.1);
    assert!(!std::path::Path::new(&none).exists(), "something was decoded of nothing");
    let reversible = world.batch("other.toml", &(head("counts") + &fields.replacen("one-way", "pseudonym", 1)));
    let refused = encode(&reversible, &world.path("none.csv"));
    assert_eq!(refused.0, Some(3), "{}", refused.1);
}

#[test]
fn the_key_file_is_sealed_exchanged_and_useless_without_its_passphrase() {
    let world = World::new();
    let document = world.batch("study.toml", &world.draft("study"));
    world.sign(&document, SENDER, "hospital");
    world.sign(&document, RECIPIENT, "registry");
    assert_eq!(world.officer(&["activate", &document]).0, Some(0));
    let file = || fs::read_to_string(world.data().join("keys.toml")).unwrap();
    assert!(file().contains("study"));
    let places = [("first", "correct horse battery"), ("second", "another battery horse")].map(|(name, text)| {
        let path = world.batch(name, &format!("{text}\n"));
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        format!("file:{path}")
    });
    let with = |place: &str, arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_zegel"));
        command.args(arguments).args(["--json", "--data"]).arg(world.data()).env("ZEGEL_KEYS__PASSPHRASE", place);
        let output = command.output().unwrap();
        (output.status.code(), serde_json::from_slice::<Value>(&output.stdout).unwrap())
    };
    assert_eq!(world.run(&["keys", "seal"]).0, Some(2), "it is sealed under nothing");
    assert_eq!(with(&places[0], &["keys", "status"]).1["sealed"], false, "a file of before does not open");
    assert_eq!(with(&places[0], &["keys", "seal"]).0, Some(0));
    assert!(!file().contains("study") && file().contains("argon2id"), "{}", file());
    assert_eq!(with(&places[1], &["keys", "status"]).0, Some(1), "another passphrase opens it");
    let without = world.run(&["keys", "status"]);
    assert!(without.1["error"]["text"].as_str().is_some_and(|text| text.contains("keys.passphrase")), "{}", without.1);
    assert_eq!(with(&places[0], &["keys", "passphrase", "--new", &places[1]]).0, Some(0));
    assert_eq!(with(&places[0], &["keys", "status"]).0, Some(1), "the old passphrase opens it");
    let now = with(&places[1], &["keys", "status"]);
    assert_eq!((now.1["sealed"].as_bool(), now.1["project_roots"].as_u64()), (Some(true), Some(1)), "{}", now.1);
    let (_, status) = with(&places[1], &["project", "status"]);
    assert_eq!(status["projects"][0]["state"], "in-force", "{status}");
}

#[test]
fn a_trial_works_in_a_folder_without_officers_and_nowhere_else() {
    let world = World::new();
    let text = world.draft("lab");
    let start = text.find("[certificates]").unwrap();
    let bare = format!("{}{}", &text[..start], &text[text.find("[[fields]]").unwrap()..]);
    let (certified, bare) = (world.batch("lab.toml", &text), world.batch("bare.toml", &bare));
    let refused = world.refused(&["project", "activate", "--trial", &bare]);
    assert!(refused.contains("officers of its own"), "{refused}");
    fs::remove_dir_all(world.data()).unwrap();
    let refused = world.refused(&["project", "activate", "--trial", &certified]);
    assert!(refused.contains("names certificates"), "{refused}");
    let trial = world.ok(&["project", "activate", "--trial", &bare]);
    assert_eq!(trial["project"]["trial"], true);
    // A document that merely lies there takes no batches.
    fs::write(world.data().join("projects/other.toml"), text.replace("name = \"lab\"", "name = \"other\"")).unwrap();
    assert_eq!(world.state("other"), ("barred".to_owned(), "ZGL-TTP-INACTIVE".to_owned()));
    assert_eq!(world.state("lab").0, "in-force");
}
