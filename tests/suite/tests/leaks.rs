//! I4 from outside: canaries in every identifying column and in everything that names the sender, searched in every
//! encoding, in everything that the platform keeps, prints or hands over, while it runs, after kill -9, and afterwards.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]
#![allow(clippy::disallowed_methods, clippy::cast_possible_truncation)] // threads of a test may sleep; its numbers are small

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde_json::Value;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};
use zegel_suite::server::{Address, Client, Server};
use zegel_suite::zegel;

const HOSPITAL: &str = "NIHII-HOSPITAL:71000436";
const CITIZEN: &str = "SSIN:85061511796";
const REGISTRY: &str = "CBE:0123456749";
const TTP: &str = "CBE:0199999944";

const PROJECT: &str = r#"
name = "canary-registry"
senders = ["NIHII-HOSPITAL:71000436"]
recipient = "CBE:0123456749"
valid = { from = "2020-01-01", until = "2099-12-31" }
unlisted = "refuse"
[[fields]]
path = "niss"
kind = "ssin"
action = "pseudonym"
[[fields]]
path = "patient_no"
action = "pseudonym"
domain = "hospital-patient"
scope = "sender"
[[fields]]
path = "record_no"
action = "one-way"
domain = "record"
[[fields]]
path = "name"
action = "drop"
[[fields]]
path = "value"
action = "keep"
"#;

/// One canary in every form in which it could show itself.
struct Canary {
    what: String,
    forms: Vec<Vec<u8>>,
}

impl Canary {
    fn new(what: &str, text: &str) -> Canary {
        let mut forms = vec![
            text.as_bytes().to_vec(),
            hex::encode(text).into_bytes(),
            hex::encode_upper(text).into_bytes(),
            text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
            text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
            text.bytes().rev().collect(),
        ];
        let json = serde_json::to_string(text).unwrap();
        forms.push(json.as_bytes()[1..json.len() - 1].to_vec());
        let ascii: String = text
            .encode_utf16()
            .map(|unit| if unit < 128 { char::from(unit as u8).to_string() } else { format!("\\u{unit:04x}") })
            .collect();
        forms.push(ascii.into_bytes());
        // Base64 depends on where in its group of three the text begins; the groups at both ends are left out.
        for lead in 0..3 {
            let padded = [vec![b'_'; lead], text.as_bytes().to_vec()].concat();
            for encoded in [STANDARD_NO_PAD.encode(&padded), URL_SAFE_NO_PAD.encode(&padded)] {
                forms.push(encoded.as_bytes()[4..encoded.len() - 4].to_vec());
            }
        }
        // A form that is shorter would be found anywhere by chance.
        forms.retain(|form| form.len() >= HEAD);
        Canary { what: what.to_owned(), forms }
    }

    fn is_in(&self, bytes: &[u8]) -> bool {
        Search::new(std::slice::from_ref(self)).first(bytes).is_some()
    }
}

/// Bytes by which a form is found; the rest is compared.
const HEAD: usize = 8;

/// Finds any form of many canaries in one pass.
struct Search<'a> {
    /// Whether some form begins with these two bytes.
    begins: Vec<bool>,
    forms: HashMap<[u8; HEAD], Vec<(&'a str, &'a [u8])>>,
}

impl<'a> Search<'a> {
    fn new(canaries: &'a [Canary]) -> Search<'a> {
        let mut search = Search { begins: vec![false; 1 << 16], forms: HashMap::new() };
        for (canary, form) in canaries.iter().flat_map(|canary| canary.forms.iter().map(move |form| (canary, form))) {
            search.begins[usize::from(u16::from_be_bytes([form[0], form[1]]))] = true;
            let head: [u8; HEAD] = form[..HEAD].try_into().unwrap();
            search.forms.entry(head).or_default().push((&canary.what, form));
        }
        search
    }

    /// What the first canary found is.
    fn first(&self, bytes: &[u8]) -> Option<&'a str> {
        for at in 0..bytes.len().saturating_sub(HEAD - 1) {
            if self.begins[usize::from(bytes[at]) << 8 | usize::from(bytes[at + 1])] {
                let found = self.forms.get(&bytes[at..at + HEAD]).into_iter().flatten();
                if let Some((what, _)) = found.into_iter().find(|(_, form)| bytes[at..].starts_with(form)) {
                    return Some(what);
                }
            }
        }
        None
    }
}

struct Bait {
    patients: Vec<Canary>,
    sender: Vec<Canary>,
    batch: String,
    bad_batch: String,
    title: String,
    file_name: String,
    meta: String,
}

fn bait() -> Bait {
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(20_261_122);
    let mut word = |prefix: &str| {
        let mut bytes = [0u8; 12];
        random.fill_bytes(&mut bytes);
        format!("{prefix}{}", URL_SAFE_NO_PAD.encode(bytes).replace(['-', '_'], "q"))
    };
    let mut patients = Vec::new();
    let mut rows = String::from("niss,patient_no,record_no,name,value\n");
    for n in 0..40u64 {
        let (number, record, name) = (word("Pn"), word("Rc"), format!("Zoé {}", word("Nm")));
        let stem = 850_615_001 + n * 2;
        let niss = format!("{stem}{:02}", 97 - stem % 97);
        rows.push_str(&format!("{niss},{number},{record},\"{name}\",{n}\n"));
        for (what, text) in [("niss", &niss), ("patient_no", &number), ("record_no", &record), ("name", &name)] {
            patients.push(Canary::new(what, text));
        }
    }
    patients.push(Canary::new("the citizen's mailbox address", &CITIZEN[5..]));
    let bad = word("Bad");
    patients.push(Canary::new("a bad row's value", &bad));
    let bad_batch = format!("{rows}{bad},{bad},{bad},{bad},1\n");
    let (title, file_name, meta) = (word("Ti"), word("Fi"), word("Me"));
    let sender = vec![
        Canary::new("the title", &title),
        Canary::new("the file name", &file_name),
        Canary::new("the metadata", &meta),
        Canary::new("the sender's number", "71000436"),
        Canary::new("the sender's publication id", "CANARYPUB0001"),
    ];
    Bait { patients, sender, batch: rows, bad_batch, title, file_name, meta }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

/// Searches every file (name and content) below a folder, and a log beside it.
fn scan(folder: &Path, canaries: &[Canary], when: &str) {
    let mut all = files(folder);
    all.push(folder.with_extension("log"));
    assert!(all.len() > 5, "there is nothing to search");
    let search = Search::new(canaries);
    for file in all {
        let Ok(bytes) = fs::read(&file) else { continue };
        assert!(
            !bytes.starts_with(&[0x1f, 0x8b]) && !bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]),
            "{}: compressed, cannot be searched",
            file.display()
        );
        let name = file.to_string_lossy().into_owned();
        assert_eq!(search.first(&bytes), None, "{when}: found in {}", file.display());
        assert_eq!(search.first(name.as_bytes()), None, "{when}: found in the name {}", file.display());
    }
}

fn scan_answers(operator: &Client, canaries: &[Canary], when: &str) {
    for path in ["/metrics", "/v1/stats", "/v1/dead?limit=100", "/v1/alerts", "/v1/quarantine/canary-registry"] {
        let bytes = operator.get_bytes(path).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(Search::new(canaries).first(&bytes), None, "{when}: found in {path}");
    }
}

fn submit(client: &Client, bait: &Bait, id: &str, batch: &str) -> String {
    let path = format!(
        "/v1/messages?sender={HOSPITAL}&to={TTP}&project=canary-registry&publication_id={id}&title={}&file_name={}&mime=text/csv&receipts=published&meta.note={}",
        bait.title, bait.file_name, bait.meta
    );
    let (status, answer) = client.post_bytes(&path, "text/csv", batch.as_bytes()).unwrap();
    assert_eq!(status, 202, "{answer}");
    answer["submission"].as_str().unwrap().to_owned()
}

fn wait_final(client: &Client, id: &str) -> Value {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let life = client.get(&format!("/v1/submissions/{id}")).unwrap_or_default();
        let state = &life["recipients"][0]["state"];
        let is = state["is"].as_str().or(state.as_str()).unwrap_or("");
        if is == "done" || is == "refused" {
            return life;
        }
        assert!(Instant::now() < deadline, "no final answer: {life}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Everything that the recipient can get: lists, messages, headers are in JSON; parts are bytes.
fn received(client: &Client) -> Vec<Vec<u8>> {
    let list = client.get(&format!("/v1/boxes/{REGISTRY}/inbox?limit=100")).unwrap();
    let mut all = vec![list.to_string().into_bytes()];
    for item in list["items"].as_array().unwrap() {
        let id = item["item"].as_str().or(item["id"].as_str()).expect("an item has an id");
        all.push(client.get_bytes(&format!("/v1/boxes/{REGISTRY}/items/{id}")).unwrap());
        all.push(client.get_bytes(&format!("/v1/boxes/{REGISTRY}/items/{id}/parts/0")).unwrap());
    }
    all
}

#[test]
fn no_identifier_leaks_at_rest_in_telemetry_or_to_the_recipient() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    zegel_suite::activate(&data, PROJECT);
    let bait = bait();
    let address = Address::default();
    let env = [("ZEGEL_LOG__LEVEL", "debug")];
    let server = Server::start(&zegel(), &data, &address, &env).expect("starts");
    let hospital = server.open_box(HOSPITAL).unwrap();
    let registry = server.open_box(REGISTRY).unwrap();
    let citizen = server.open_box(CITIZEN).unwrap();
    for n in 0..20 {
        submit(&hospital, &bait, &format!("RUN{n}"), &bait.batch);
        let body = serde_json::json!({ "organisation": REGISTRY, "ssin": CITIZEN[5..], "from": "2020-01-01" });
        registry.post("/v1/inscriptions", &body).unwrap();
        let body = serde_json::json!({ "feed": "r", "event": format!("e{n}"), "ssin": CITIZEN[5..], "kind": "address", "date": "2026-11-01", "details": { "street": "Rue Zoé" } });
        server.operator().post("/v1/mutations", &body).unwrap();
        if n % 5 == 0 {
            scan(&data, &bait.patients, "while it runs");
        }
    }
    let path = format!(
        "/v1/messages?sender={CITIZEN}&to={HOSPITAL}&publication_id=FROMCITIZEN&title=t&file_name=f&mime=text/plain"
    );
    assert_eq!(citizen.post_bytes(&path, "text/plain", bait.batch.as_bytes()).unwrap().0, 202);
    server.kill();
    scan(&data, &bait.patients, "after kill -9");
    let server = Server::start(&zegel(), &data, &address, &env).expect("starts again");
    let good = submit(&hospital, &bait, "CANARYPUB0001", &bait.batch);
    let bad = submit(&hospital, &bait, "CANARYPUB0002", &bait.bad_batch);
    let large: String = bait
        .batch
        .lines()
        .take(1)
        .chain(bait.batch.lines().skip(1).cycle().take(5_000))
        .map(|line| format!("{line}\n"))
        .collect();
    let by_reference = submit(&hospital, &bait, "CANARYPUB0003", &large);
    assert!(wait_final(&hospital, &good).to_string().contains("done"), "a good batch is refused");
    assert!(wait_final(&hospital, &by_reference).to_string().contains("done"), "a large batch is refused");
    let refusal = wait_final(&hospital, &bad).to_string();
    assert!(refusal.contains("refused"), "a bad batch is not refused: {refusal}");
    for canary in &bait.patients {
        assert!(!canary.is_in(refusal.as_bytes()), "the refusal shows {}", canary.what);
    }
    scan(&data, &bait.patients, "afterwards");
    scan_answers(&server.operator(), &bait.patients, "afterwards");
    let got = received(&registry);
    assert!(got.len() > 40, "the registry received nothing to search: {}", got.len());
    let patients = bait.patients.len();
    let hidden: Vec<Canary> = bait.sender.into_iter().chain(bait.patients).collect();
    let search = Search::new(&hidden);
    for bytes in &got {
        assert_eq!(search.first(bytes), None, "the recipient got it");
    }
    assert_eq!(server.stop(), Some(0), "the process does not drain");
    scan(&data, &hidden[hidden.len() - patients..], "after the end");
}

#[test]
fn the_search_finds_what_it_looks_for() {
    let canary = Canary::new("x", "Zoé Canary12345");
    let forms: [Vec<u8>; 4] = [
        "..Zoé Canary12345..".as_bytes().to_vec(),
        format!("..{}..", hex::encode("Zoé Canary12345")).into_bytes(),
        format!("..{}..", STANDARD_NO_PAD.encode("a Zoé Canary12345 b")).into_bytes(),
        b"..Zo\\u00e9 Canary12345..".to_vec(),
    ];
    for form in forms {
        assert!(canary.is_in(&form), "{} is not found", String::from_utf8_lossy(&form));
    }
    assert!(!canary.is_in(b"Zoe Canary12345 is another one"));
}
