//! Clients that write down what was acknowledged to them, and a checker that asks the platform for everything afterwards.
//!
//! Clients repeat what was not acknowledged, as a hospital's software does. The checker: I1 (every acknowledged thing is
//! there), I2 (once), I3 (in order), I5 (one final answer per recipient), I6 (each hash in one bag, windows contiguous,
//! every token verified by openssl).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::missing_panics_doc)] // a broken promise is a panic that says so
#![allow(clippy::cast_possible_truncation)] // the numbers of a test are small

use crate::server::{Client, Server};
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// One of the addresses of the load.
pub const HOSPITAL: &str = "NIHII-HOSPITAL:71000436";
/// One of the addresses of the load.
pub const SECOND: &str = "NIHII-HOSPITAL:71099812";
/// One of the addresses of the load.
pub const REGISTRY: &str = "CBE:0123456749";
/// One of the addresses of the load.
pub const TTP: &str = "CBE:0199999944";
const ORGANISATIONS: [&str; 3] = ["CBE:0809394427", "EHP:1990001916", "NIHII-PHARMACY:80000551"];
/// Synthetic persons that pass the check digits.
const PERSONS: [&str; 4] = ["85061511796", "85061511697", "03040500166", "78420310588"];

const PROJECT: &str = r#"
name = "crash-registry"
senders = ["NIHII-HOSPITAL:71000436"]
recipient = "CBE:0123456749"
valid = { from = "2020-01-01", until = "2099-12-31" }
unlisted = "refuse"
[[fields]]
path = "niss"
kind = "ssin"
action = "pseudonym"
[[fields]]
path = "n"
action = "keep"
"#;

/// What one client was acknowledged, in order.
#[derive(Default)]
pub struct History {
    /// (submission id, title) of each acknowledged submission.
    pub submissions: Vec<(String, String)>,
    /// Reference → (hash, bag promised at the earliest).
    pub entries: BTreeMap<u64, ([u8; 32], u64)>,
    /// Mutation events that were taken.
    pub events: Vec<String>,
}

/// How long a call may stay without an answer after the load was told to stop: then the troubles are over.
const SETTLE: Duration = Duration::from_secs(120);

/// Repeats a call until it is answered, also after the load was told to stop: what was sent and not answered may have been taken, and
/// the check could not say whether it belongs into a box.
fn until_answered<T>(stop: &AtomicBool, mut call: impl FnMut() -> Result<Option<T>, String>) -> T {
    let mut stopped = None;
    loop {
        let why = match call() {
            Ok(Some(answer)) => return answer,
            Ok(None) => "it was not accepted".to_owned(),
            Err(error) => error,
        };
        if stop.load(Ordering::SeqCst) {
            let since: Instant = *stopped.get_or_insert_with(Instant::now);
            assert!(since.elapsed() < SETTLE, "nothing is answered {SETTLE:?} after the troubles: {why}");
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Submits one message after the other.
#[must_use]
pub fn submitter(
    client: Client,
    sender: &'static str,
    target: String,
    letter: char,
    stop: Arc<AtomicBool>,
) -> JoinHandle<History> {
    thread::spawn(move || {
        let mut history = History::default();
        for n in 1u64.. {
            let title = format!("{letter}{n}");
            let project = target.starts_with("project");
            let body =
                if project { format!("niss,n\n{},{n}\n", PERSONS[n as usize % 4]) } else { format!("body of {title}") };
            let path = format!(
                "/v1/messages?sender={sender}&{target}&publication_id={title}&title={title}&file_name=f.csv&mime=text/csv&receipts=published"
            );
            let answer = until_answered(&stop, || {
                let (status, answer) = client.post_bytes(&path, "text/csv", body.as_bytes())?;
                assert!(
                    status != 409 && status != 400 && status != 422,
                    "a repeated submission is refused: {status} {answer}"
                );
                Ok((status == 202).then_some(answer))
            });
            history.submissions.push((answer["submission"].as_str().expect("an id").to_owned(), title));
            if stop.load(Ordering::SeqCst) {
                break;
            }
            thread::sleep(Duration::from_millis(12));
        }
        history
    })
}

/// Offers entries, 20 at a time.
#[must_use]
pub fn stamper(client: Client, hospital: &'static str, stop: Arc<AtomicBool>) -> JoinHandle<History> {
    thread::spawn(move || {
        let mut history = History::default();
        let mut next = 1u64;
        while !stop.load(Ordering::SeqCst) {
            let offered: Vec<(u64, [u8; 32])> =
                (next..next + 20).map(|reference| (reference, hash_of(reference))).collect();
            let body: Vec<u8> = offered.iter().flat_map(|(r, h)| [&r.to_be_bytes()[..], h].concat()).collect();
            let path = format!("/v1/timestamp/entries?hospital={hospital}");
            let answers = until_answered(&stop, || {
                let (status, answer) = client.post_bytes(&path, "application/octet-stream", &body)?;
                assert!(status != 409, "a repeated entry is refused: {answer}");
                Ok(answer["answers"].as_array().cloned())
            });
            for ((reference, hash), answer) in offered.into_iter().zip(answers) {
                assert_eq!(answer["is"], "accepted", "an entry is not accepted: {answer}");
                history.entries.insert(reference, (hash, answer["earliest_bag"].as_u64().expect("a bag")));
            }
            next += 20;
            thread::sleep(Duration::from_millis(12));
        }
        history
    })
}

fn hash_of(reference: u64) -> [u8; 32] {
    let mut hash = [0; 32];
    rand_chacha::ChaCha8Rng::seed_from_u64(reference).fill_bytes(&mut hash);
    hash
}

fn mutator(client: Client, stop: Arc<AtomicBool>) -> JoinHandle<History> {
    thread::spawn(move || {
        let mut history = History::default();
        for n in 1u64.. {
            let event = format!("event-{n}");
            let body = serde_json::json!({
                "feed": "registry", "event": event, "ssin": PERSONS[n as usize % 4], "kind": "address", "date": "2026-11-01"
            });
            until_answered(&stop, || client.post("/v1/mutations", &body).map(Some));
            history.events.push(event);
            if stop.load(Ordering::SeqCst) {
                return history;
            }
            thread::sleep(Duration::from_millis(12));
        }
        history
    })
}

/// The owners' clients by address.
pub type Clients = HashMap<&'static str, Client>;

/// The load of all clients.
pub struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<History>>,
}

/// What was acknowledged.
pub struct Acknowledged {
    submitters: Vec<History>,
    stamps: History,
    mutations: History,
}

impl Load {
    /// Everything at once: letters between two hospitals and a registry, batches for the TTP, entries, mutations.
    #[must_use]
    pub fn start(clients: &Clients, operator: Client) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let hospital = || clients[HOSPITAL].clone();
        let project = format!("project=crash-registry&to={TTP}");
        let threads = vec![
            submitter(hospital(), HOSPITAL, format!("to={SECOND}"), 'A', stop.clone()),
            submitter(clients[SECOND].clone(), SECOND, format!("to={REGISTRY}&to={HOSPITAL}"), 'B', stop.clone()),
            submitter(hospital(), HOSPITAL, project, 'P', stop.clone()),
            stamper(hospital(), HOSPITAL, stop.clone()),
            mutator(operator, stop.clone()),
        ];
        Load { stop, threads }
    }

    /// Stops the clients once what each has in hand is acknowledged.
    #[must_use]
    pub fn stop(self) -> Acknowledged {
        self.stop.store(true, Ordering::SeqCst);
        let mut histories: Vec<History> =
            self.threads.into_iter().map(|load| load.join().expect("a client found a broken promise")).collect();
        let mutations = histories.pop().expect("five clients");
        let stamps = histories.pop().expect("five clients");
        Acknowledged { submitters: histories, stamps, mutations }
    }
}

impl Acknowledged {
    /// How many submissions, entries and mutations.
    #[must_use]
    pub fn counts(&self) -> (usize, usize, usize) {
        let submitted = self.submitters.iter().map(|history| history.submissions.len()).sum();
        (submitted, self.stamps.entries.len(), self.mutations.events.len())
    }

    /// Asks the platform for all of it. `data` is the folder with the authority's certificate.
    pub fn check(&self, clients: &Clients, data: &Path) {
        check_answers(clients, &self.submitters);
        check_boxes(clients, &self.submitters);
        check_feeds(clients, &self.mutations);
        check_bags(&clients[HOSPITAL], data, &self.stamps);
    }
}

/// Makes a data folder with the load's project.
pub fn prepare(data: &Path) {
    crate::activate(data, PROJECT);
}

/// Opens the boxes of the load, and the organisations' inscriptions.
#[must_use]
pub fn open_boxes(server: &Server) -> Clients {
    let mut clients = HashMap::new();
    for owner in [HOSPITAL, SECOND, REGISTRY].into_iter().chain(ORGANISATIONS) {
        clients.insert(owner, server.open_box(owner).expect("a box opens"));
    }
    for organisation in ORGANISATIONS {
        for ssin in PERSONS {
            let body = serde_json::json!({ "organisation": organisation, "ssin": ssin, "from": "2020-01-01" });
            clients[organisation].post("/v1/inscriptions", &body).expect("an inscription is taken");
        }
    }
    clients
}

/// I1 and I5: every acknowledged submission has exactly one final answer for each recipient.
fn check_answers(clients: &HashMap<&str, Client>, histories: &[History]) {
    let deadline = Instant::now() + Duration::from_secs(120);
    for (history, owner) in histories.iter().zip([HOSPITAL, SECOND, HOSPITAL]) {
        for (id, title) in &history.submissions {
            loop {
                let life = clients[owner].get(&format!("/v1/submissions/{id}"));
                let recipients =
                    life.as_ref().ok().and_then(|life| life["recipients"].as_array().cloned()).unwrap_or_default();
                if !recipients.is_empty() && recipients.iter().all(is_done) {
                    assert_eq!(
                        life.as_ref().map(|life| life["ignored"].as_u64().unwrap_or(0)),
                        Ok(0),
                        "{title} was answered twice"
                    );
                    break;
                }
                assert!(Instant::now() < deadline, "I5: submission {title} has no final answer: {life:?}");
                thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

/// Whether a recipient has its final answer.
#[must_use]
pub fn is_done(recipient: &Value) -> bool {
    recipient["state"] == "done" || recipient["state"]["is"] == "done"
}

/// Fails with what is lost, doubled, or at the first place in another order: whole lists of thousands say nothing.
fn assert_same(found: &[String], acknowledged: &[String], place: &str) {
    if found == acknowledged {
        return;
    }
    let there: HashSet<&String> = found.iter().collect();
    let lost: Vec<_> = acknowledged.iter().filter(|title| !there.contains(title)).take(20).collect();
    let known: HashSet<&String> = acknowledged.iter().collect();
    let strange: Vec<_> = found.iter().filter(|title| !known.contains(title)).take(20).collect();
    let first = found.iter().zip(acknowledged).position(|(one, other)| one != other).unwrap_or(0);
    let around = |titles: &[String]| titles[first.min(titles.len())..titles.len().min(first + 10)].to_vec();
    panic!(
        "{place} lost, doubled or reordered messages: {} there ({} distinct), {} acknowledged; lost {lost:?}, never \
         acknowledged {strange:?}, from place {first} on {:?} instead of {:?}",
        found.len(),
        there.len(),
        acknowledged.len(),
        around(found),
        around(acknowledged)
    );
}

/// I1, I2, I3: the boxes hold each message once and in the order in which its sender was acknowledged.
fn check_boxes(clients: &HashMap<&str, Client>, histories: &[History]) {
    let titles = |history: &History| history.submissions.iter().map(|(_, title)| title.clone()).collect::<Vec<_>>();
    let documents = |owner: &str| {
        let mut items = whole_folder(&clients[owner], owner);
        items.reverse(); // listed newest first
        items
    };
    let at_second: Vec<String> = documents(SECOND).iter().filter_map(document_title).collect();
    assert_same(&at_second, &titles(&histories[0]), "the second hospital's box");
    let at_hospital: Vec<String> =
        documents(HOSPITAL).iter().filter_map(document_title).filter(|t| t.starts_with('B')).collect();
    assert_same(&at_hospital, &titles(&histories[1]), "the hospital's box");
    let registry = documents(REGISTRY);
    let direct: Vec<String> = registry.iter().filter_map(document_title).filter(|t| t.starts_with('B')).collect();
    assert_same(&direct, &titles(&histories[1]), "the registry's box");
    let handles: Vec<&Value> = registry.iter().filter(|item| item["from"]["handle"].is_string()).collect();
    let distinct: HashSet<String> = handles.iter().map(|item| item["from"]["handle"].to_string()).collect();
    assert_eq!(handles.len(), histories[2].submissions.len(), "the TTP lost or doubled batches");
    assert_eq!(distinct.len(), handles.len(), "a sender handle was used twice");
    let wanted = histories[0].submissions.len() + histories[2].submissions.len();
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let acknowledged = acknowledgements(&documents(HOSPITAL));
        assert!(acknowledged.values().all(|count| *count == 1), "an acknowledgement came twice");
        if acknowledged.len() == wanted {
            break;
        }
        // The notice follows the final answer by one step.
        assert!(Instant::now() < deadline, "{} of {wanted} acknowledgements are in the box", acknowledged.len());
        thread::sleep(Duration::from_millis(100));
    }
}

/// How often each submission is acknowledged.
fn acknowledgements(items: &[Value]) -> HashMap<String, u32> {
    items.iter().filter(|item| item["content_type"] == "ACKNOWLEDGMENT").fold(HashMap::new(), |mut counts, item| {
        *counts.entry(item["notice"]["submission"].to_string()).or_default() += 1;
        counts
    })
}

fn document_title(item: &Value) -> Option<String> {
    (item["content_type"] == "DOCUMENT" && item["from"]["sender"].is_string())
        .then(|| item["title"].as_str().map(str::to_owned))?
}

/// Every item of an inbox, newest first.
///
/// # Panics
/// When it cannot be listed.
#[must_use]
pub fn whole_folder(client: &Client, owner: &str) -> Vec<Value> {
    let mut items: Vec<Value> = Vec::new();
    loop {
        // Newest first; the cursor is the last one's place, so that what arrives meanwhile moves nothing.
        let cursor = items.last().map_or(String::new(), |last| format!("&before={}", last["sequence"]));
        let page = client.get(&format!("/v1/boxes/{owner}/inbox?limit=100{cursor}")).expect("the box is listed");
        let found = page["items"].as_array().cloned().unwrap_or_default();
        if found.is_empty() {
            return items;
        }
        items.extend(found);
    }
}

/// I2, I3: each subscriber's feed has the numbers 1, 2, 3 … and each event once.
fn check_feeds(clients: &HashMap<&str, Client>, history: &History) {
    for organisation in ORGANISATIONS {
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut events: Vec<(u64, String)> = Vec::new();
        while Instant::now() < deadline && events.len() < history.events.len() {
            let after = events.last().map_or(0, |(sequence, _)| *sequence);
            let page = clients[organisation]
                .get(&format!("/v1/feeds/{organisation}?after={after}&limit=100"))
                .expect("the feed is read");
            let found = page["notifications"].as_array().cloned().unwrap_or_default();
            events.extend(found.iter().map(|one| {
                (
                    one["number"].as_u64().expect("a number"),
                    one["mutation"]["event"].as_str().unwrap_or_default().to_owned(),
                )
            }));
        }
        let sequences: Vec<u64> = events.iter().map(|(sequence, _)| *sequence).collect();
        assert_eq!(sequences, (1..=events.len() as u64).collect::<Vec<_>>(), "a feed has a gap");
        let found: HashSet<&String> = events.iter().map(|(_, event)| event).collect();
        assert_eq!(found.len(), events.len(), "a mutation was told twice");
        let missing: Vec<_> = history.events.iter().filter(|event| !found.contains(event)).collect();
        assert!(missing.is_empty(), "mutations were lost: {missing:?}");
    }
}

/// I6: each accepted hash is in exactly one bag, not before the promised one; windows are contiguous; openssl says OK.
pub fn check_bags(client: &Client, data: &Path, history: &History) {
    let last_promised = history.entries.values().map(|(_, bag)| *bag).max().unwrap_or(0);
    let deadline = Instant::now() + Duration::from_secs(60);
    let bags = loop {
        let bags = all_bags(client);
        if bags.last().is_some_and(|bag| bag["sequence"].as_u64() >= Some(last_promised)) {
            break bags;
        }
        assert!(Instant::now() < deadline, "bag {last_promised} was never sealed");
        thread::sleep(Duration::from_millis(200));
    };
    let mut found: BTreeMap<u64, ([u8; 32], u64)> = BTreeMap::new();
    let mut end = None;
    for (index, bag) in bags.iter().enumerate() {
        let sequence = bag["sequence"].as_u64().unwrap();
        assert_eq!(sequence, index as u64 + 1, "a bag is missing");
        assert!(end.is_none() || end == bag["start"].as_i64(), "windows are not contiguous at bag {sequence}");
        end = bag["end"].as_i64();
        let xml = client.get_bytes(&format!("/v1/timestamp/bags/{HOSPITAL}/{sequence}.xml")).expect("a bag's XML");
        let tsr = client.get_bytes(&format!("/v1/timestamp/bags/{HOSPITAL}/{sequence}.tsr")).expect("a bag's token");
        verify_with_openssl(data, &xml, &tsr);
        for (reference, hash) in journal(&xml) {
            let before = found.insert(reference, (hash, sequence));
            assert!(before.is_none(), "reference {reference} is in two bags");
        }
    }
    for (reference, (hash, promised)) in &history.entries {
        let (stamped, bag) = found.get(reference).unwrap_or_else(|| panic!("reference {reference} is in no bag"));
        assert_eq!(stamped, hash, "reference {reference} was stamped with another hash");
        assert!(bag >= promised, "reference {reference} is in an earlier bag than promised");
    }
}

/// Every bag stands in the public log once: as many entries as bags, some seconds after the last one.
pub fn check_log(client: &Client) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        // The log is asked first: it may not be ahead of the bags.
        let note = client.get_bytes("/log/latest").unwrap_or_default();
        let size = String::from_utf8_lossy(&note).lines().nth(1).and_then(|size| size.parse().ok()).unwrap_or(0);
        let bags = all_bags(client).len();
        assert!(size <= bags, "a bag stands in the log twice: {size} entries of {bags} bags");
        if size == bags {
            return;
        }
        assert!(Instant::now() < deadline, "the log has {size} entries of {bags} bags");
        thread::sleep(Duration::from_millis(100));
    }
}

fn all_bags(client: &Client) -> Vec<Value> {
    let mut bags: Vec<Value> = Vec::new();
    loop {
        let page = client
            .get(&format!("/v1/timestamp/bags/{HOSPITAL}?from={}&limit=100", bags.len() + 1))
            .expect("bags are listed");
        let found = page["bags"].as_array().cloned().unwrap_or_default();
        if found.is_empty() {
            return bags;
        }
        bags.extend(found);
    }
}

/// (reference, hash) of every entry but the reserved 0. A reader of our own, so that the checker shares no code.
fn journal(xml: &[u8]) -> Vec<(u64, [u8; 32])> {
    let text = std::str::from_utf8(xml).unwrap();
    let inner = |entry: &str, tag: &str| -> String {
        let start = entry.find(&format!("{tag}>")).unwrap() + tag.len() + 1;
        entry[start..start + entry[start..].find('<').unwrap()].trim().to_owned()
    };
    text.split("JournalEntry>")
        .filter(|entry| entry.contains("Ref>"))
        .map(|entry| (inner(entry, "Ref").parse().unwrap(), inner(entry, "Hash")))
        .filter(|(reference, _)| *reference > 0)
        .map(|(reference, hash)| {
            use base64::Engine;
            (reference, base64::engine::general_purpose::STANDARD.decode(hash).unwrap().try_into().unwrap())
        })
        .collect()
}

fn verify_with_openssl(data: &Path, xml: &[u8], tsr: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    let (bag, token) = (folder.path().join("bag.xml"), folder.path().join("bag.tsr"));
    std::fs::write(&bag, xml).unwrap();
    std::fs::write(&token, tsr).unwrap();
    let run = Command::new("openssl")
        .args(["ts", "-verify", "-data"])
        .arg(&bag)
        .arg("-in")
        .arg(&token)
        .arg("-CAfile")
        .arg(data.join("tsa/ca.pem"))
        .output()
        .expect("openssl runs");
    let said = String::from_utf8_lossy(&run.stdout).into_owned() + &String::from_utf8_lossy(&run.stderr);
    assert!(said.contains("Verification: OK"), "openssl refuses a token: {said}");
}
