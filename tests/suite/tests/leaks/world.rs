//! A data folder with a project for every bait, a platform over it, and what everybody does with it.

use crate::bait::{Bait, Canaries, Words};
use crate::{modes, tables, trees};
use serde_json::Value;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};
use zegel_crypto::signed::Identity;
use zegel_suite::canary::Canary;
use zegel_suite::server::{Address, Client, Server};

pub const HOSPITAL: &str = "NIHII-HOSPITAL:71000436";
pub const SECOND: &str = "NIHII-HOSPITAL:71099812";
/// Belongs to no project.
pub const STRANGER: &str = "NIHII-HOSPITAL:71011720";
pub const REGISTRY: &str = "CBE:0123456749";
pub const TTP: &str = "CBE:0199999944";
/// Of a machine that is five times slower than usual.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a sender says of a batch beside it, percent-encoded for a query: a canary each.
pub struct Letter {
    query: String,
    pub canaries: Vec<Canary>,
    trace: String,
}

impl Letter {
    fn new(words: &mut Words) -> Letter {
        let [title, file, key, meta, mime] = ["Title", "File", "key", "Meta", "mime"].map(|head| words.word(head));
        let trace = hex::encode(words.word("trc")).chars().take(32).collect::<String>();
        let query = format!(
            "title={title}&file_name={file}.csv&mime=application/x-{mime}&receipts=published,received,read&meta.{key}={meta}"
        );
        let numbers = [HOSPITAL, SECOND].map(|address| address.split_once(':').unwrap().1.to_owned());
        let all = [
            ("title", &title),
            ("file name", &file),
            ("name of the metadata", &key),
            ("metadata", &meta),
            ("media type", &mime),
            ("trace", &trace),
            ("sender's number", &numbers[0]),
            ("other sender's number", &numbers[1]),
        ];
        let canaries = all.map(|(what, text)| Canary::new(&format!("letter: {what}"), text)).to_vec();
        Letter { query, canaries, trace }
    }
}

/// Everything of one run.
pub struct World {
    pub folder: tempfile::TempDir,
    pub data: PathBuf,
    pub address: Address,
    pub words: Words,
    pub baits: Vec<Bait>,
    pub letter: Letter,
    /// Of the recipient of split batches, and what is in the sealed part.
    pub opens: (Identity, String),
    pub canaries: Canaries,
    /// What is known of senders only while it runs: ids of publications and submissions.
    pub ids: Vec<Canary>,
}

/// One batch on its way.
pub struct Sent {
    pub what: String,
    pub submission: String,
    pub must_refuse: bool,
}

impl World {
    /// A folder with every project in force, nobody serving it.
    pub fn new(seed: u64) -> World {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let mut words = Words::new(seed);
        let role = folder.path().join("role");
        run(&data, &["project", "decode-key", "--out", role.to_str().unwrap()]);
        let key = std::fs::read_to_string(role.with_extension("pub")).unwrap();
        let (split, recipient, medical) = modes::split(&mut words);
        let w = &mut words;
        let mut baits = vec![
            tables::delimited(w, &key, ',', "utf-8", None),
            tables::delimited(w, &key, ';', "latin-1", Some("csv")),
            tables::delimited(w, &key, '\t', "utf-8", Some("csv")),
            tables::delimited(w, &key, '|', "windows-1252", Some("csv")),
            tables::fixed_width(w, &key),
            tables::json(w, &key, None),
            tables::json(w, &key, Some("ndjson")),
            tables::json(w, &key, Some("json")),
            trees::fhir(w, &key, true),
            trees::fhir(w, &key, false),
            trees::kmehr(w, &key),
            trees::other_xml(w, &key),
            trees::hl7(w, &key),
            split,
            modes::sealed_values(w),
            modes::small_cells(w),
            modes::signed(w, folder.path()),
        ];
        let mut canaries = Canaries::default();
        baits.iter_mut().for_each(|bait| canaries.extend(std::mem::take(&mut bait.canaries)));
        let (letter, address) = (Letter::new(w), Address::default());
        World { data, address, baits, letter, opens: (recipient, medical), canaries, ids: Vec::new(), words, folder }
    }

    pub fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    pub fn file(&self, name: &str, bytes: &[u8]) -> String {
        std::fs::write(self.path(name), bytes).unwrap();
        self.path(name)
    }

    /// Puts documents into force: under the policy that leaves bad rows out, and where `both` says so under the other one too.
    pub fn activate(&self, both: impl Fn(&Bait) -> bool) {
        let trial = |name: &str, text: String| {
            let file = self.file(&format!("{name}.toml"), text.as_bytes());
            run(&self.data, &["project", "activate", "--trial", &file]);
        };
        let mut known = HashSet::new();
        for bait in self.baits.iter().filter(|bait| known.insert(&bait.project)) {
            let policy = if bait.leaves_rows_out { "refuse-row" } else { "refuse-batch" };
            if bait.name != "leak-signed" {
                trial(&bait.project, bait.document(&bait.project, policy));
            }
            if bait.leaves_rows_out && both(bait) && bait.name != "leak-signed" {
                let name = whole(bait);
                trial(&name, bait.document(&name, "refuse-batch"));
            }
        }
        // Where the process dies, there are fewer baits and no other projects.
        if self.baits.iter().all(|bait| bait.name != "leak-small-cells") {
            return self.activate_signed();
        }
        let pool = "release = { min_senders = 2, max_age_minutes = 30, at_limit = \"refuse\" }\n";
        let text = self.baits[0].document("leak-pool", "refuse-row");
        trial("leak-pool", text.replacen("bad_rows", &format!("{pool}bad_rows"), 1));
        let over = self.baits[0].document("leak-over", "refuse-row").replace("2099-12-31", "2020-12-31");
        trial("leak-over", over);
        self.activate_signed();
    }

    fn activate_signed(&self) {
        let [key, certificate, paper] = ["officer.key", "officer.pem", "signed.toml"].map(|name| self.path(name));
        run(&self.data, &["project", "officer", &certificate]);
        run(&self.data, &["project", "activate", &paper, "--key", &key, "--certificate", &certificate]);
    }

    /// Starts the platform, which tells as much as it can.
    pub fn start(&self, program: &Path, more: &[(&str, &str)]) -> Result<Server, String> {
        let role = format!("[\"{}\"]", self.path("role.key"));
        let env = [&[("ZEGEL_LOG__LEVEL", "trace"), ("ZEGEL_KEYS__DECODE", role.as_str())], more].concat();
        Server::start(program, &self.data, &self.address, &env)
    }

    /// Sends a batch for a project.
    pub fn send(&mut self, client: &Client, who: &str, to: (&str, &str), batch: &[u8]) -> (u16, Value) {
        self.try_send(client, who, to, batch).unwrap()
    }

    /// Sends a batch to a platform that may die over it.
    ///
    /// # Errors
    /// When no answer came.
    pub fn try_send(
        &mut self,
        client: &Client,
        who: &str,
        to: (&str, &str),
        batch: &[u8],
    ) -> Result<(u16, Value), String> {
        let (project, id) = (to.0, self.words.word(""));
        self.ids.push(Canary::new("a publication id", &id));
        let path = format!(
            "/v1/messages?sender={who}&to={TTP}&project={project}&publication_id={id}&{}{}",
            self.letter.query, to.1
        );
        let trace = format!("00-{}-00f067aa0ba902b7-01", self.letter.trace);
        let state = format!("zegel={}", self.letter.trace);
        let headers = [("traceparent", trace.as_str()), ("tracestate", state.as_str())];
        let (status, answer) = client.ask("POST", &path, &headers, batch)?;
        let at = answer.iter().position(|byte| *byte == b'\n').unwrap();
        let answer: Value = serde_json::from_slice(&answer[at + 1..]).unwrap_or_default();
        if let Some(submission) = answer["submission"].as_str() {
            self.ids.push(Canary::new("a submission", submission));
        }
        Ok((status, answer))
    }

    /// Sends a batch that is taken.
    pub fn sent(&mut self, client: &Client, project: &str, what: &str, batch: &[u8], must_refuse: bool) -> Sent {
        let (status, answer) = self.send(client, HOSPITAL, (project, ""), batch);
        assert_eq!(status, 202, "{project}, {what}: {answer}");
        Sent {
            what: format!("{project}, {what}"),
            submission: answer["submission"].as_str().unwrap().to_owned(),
            must_refuse,
        }
    }

    /// What nobody but recipients may have: in files, telemetry, and what is told of batches.
    pub fn hidden(&self) -> Vec<&Canary> {
        let letter = self.letter.canaries.iter().filter(|canary| !canary.what.contains("number"));
        self.canaries.patients.iter().chain(&self.canaries.medical).chain(letter).collect()
    }

    /// What is not told of patients, to whomever.
    pub fn of_patients(&self) -> Vec<&Canary> {
        self.canaries.patients.iter().chain(&self.canaries.medical).collect()
    }

    /// What the recipient may not have.
    pub fn not_for_recipient(&self) -> Vec<&Canary> {
        let Canaries { patients, sender, .. } = &self.canaries;
        patients.iter().chain(sender).chain(&self.letter.canaries).chain(&self.ids).collect()
    }
}

/// The project with the other policy for bad rows.
pub fn whole(bait: &Bait) -> String {
    format!("{}-whole", bait.project)
}

/// Runs the program on the data folder; it must succeed.
pub fn run(data: &Path, arguments: &[&str]) -> Output {
    let output = command(data, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Runs the program on the data folder.
pub fn command(data: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(zegel_suite::zegel());
    command.args(arguments).arg("--data").arg(data).env("ZEGEL_LOG__LEVEL", "trace").output().unwrap()
}

/// The final answer of a submission.
pub fn wait_final(client: &Client, id: &str) -> Value {
    let deadline = Instant::now() + PATIENCE;
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

/// Whether a final answer is a refusal.
pub fn is_refused(life: &Value) -> bool {
    let state = &life["recipients"][0]["state"];
    state["is"].as_str().or(state.as_str()) == Some("refused")
}
