//! SIGKILL at random points, 200 times in one run, under load; then a history checker.
//!
//! Clients write down what was acknowledged to them and repeat what was not, as a hospital's software does. Afterwards
//! the checker asks the platform for everything: I1 (every acknowledged thing is there), I2 (once), I3 (in order), I5
//! (one final answer per recipient), I6 (each hash in one bag, windows contiguous, every token verified by openssl).
//! `ZEGEL_KILLS` sets another number of kills, `ZEGEL_SEED` repeats a run.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]
#![allow(clippy::disallowed_methods, clippy::cast_possible_truncation)] // threads of a test may sleep; its numbers are small

use rand_chacha::rand_core::{Rng, SeedableRng};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use zegel_suite::server::{Address, Client, Server};
use zegel_suite::{zegel, zegel_with_failpoints};

const KILLS: u32 = 200;
const HOSPITAL: &str = "NIHII-HOSPITAL:71000436";
const SECOND: &str = "NIHII-HOSPITAL:71099812";
const REGISTRY: &str = "CBE:0123456749";
const TTP: &str = "CBE:0199999944";
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
struct History {
    /// (submission id, title) of each acknowledged submission.
    submissions: Vec<(String, String)>,
    /// Reference → (hash, bag promised at the earliest).
    entries: BTreeMap<u64, ([u8; 32], u64)>,
    /// Mutation events that were taken.
    events: Vec<String>,
}

/// Repeats a call until it is answered for good, through kills and restarts; none when the run ends first.
fn until_answered<T>(stop: &AtomicBool, mut call: impl FnMut() -> Result<Option<T>, String>) -> Option<T> {
    loop {
        match call() {
            Ok(Some(answer)) => return Some(answer),
            Ok(None) | Err(_) if stop.load(Ordering::SeqCst) => return None,
            Ok(None) | Err(_) => thread::sleep(Duration::from_millis(5)),
        }
    }
}

fn submitter(
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
            let Some(answer) = answer else { return history };
            history.submissions.push((answer["submission"].as_str().expect("an id").to_owned(), title));
            if stop.load(Ordering::SeqCst) {
                break;
            }
            thread::sleep(Duration::from_millis(12));
        }
        history
    })
}

fn stamper(client: Client, hospital: &'static str, stop: Arc<AtomicBool>) -> JoinHandle<History> {
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
            let Some(answers) = answers else { return history };
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
            let taken = until_answered(&stop, || client.post("/v1/mutations", &body).map(Some));
            if taken.is_none() || stop.load(Ordering::SeqCst) {
                return history;
            }
            history.events.push(event);
            thread::sleep(Duration::from_millis(12));
        }
        history
    })
}

#[test]
fn two_hundred_kills_lose_nothing_and_do_nothing_twice() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let seed = std::env::var("ZEGEL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_122);
    let kills = std::env::var("ZEGEL_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(KILLS);
    println!("{kills} kills, seed {seed}");
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let address = Address::default();
    let env = [("ZEGEL_TIMESTAMP__WINDOW", "*/2 * * * * *")];
    prepare(&data);
    let mut server = Server::start(&zegel(), &data, &address, &env).expect("starts");
    let clients = open_boxes(&server);
    let stop = Arc::new(AtomicBool::new(false));
    let loads = vec![
        submitter(clients[HOSPITAL].clone(), HOSPITAL, format!("to={SECOND}"), 'A', stop.clone()),
        submitter(clients[SECOND].clone(), SECOND, format!("to={REGISTRY}&to={HOSPITAL}"), 'B', stop.clone()),
        submitter(clients[HOSPITAL].clone(), HOSPITAL, format!("project=crash-registry&to={TTP}"), 'P', stop.clone()),
        stamper(clients[HOSPITAL].clone(), HOSPITAL, stop.clone()),
        mutator(server.operator(), stop.clone()),
    ];
    for kill in 1..=kills {
        thread::sleep(Duration::from_millis(u64::from(random.next_u32() % 300)));
        server.kill();
        server = Server::start(&zegel(), &data, &address, &env).unwrap_or_else(|log| panic!("kill {kill}: {log}"));
    }
    thread::sleep(Duration::from_millis(500));
    stop.store(true, Ordering::SeqCst);
    let mut histories: Vec<History> =
        loads.into_iter().map(|load| load.join().expect("a client found a broken promise")).collect();
    let mutations = histories.pop().unwrap();
    let stamps = histories.pop().unwrap();
    let submitted: usize = histories.iter().map(|history| history.submissions.len()).sum();
    println!(
        "acknowledged: {submitted} submissions, {} entries, {} mutations",
        stamps.entries.len(),
        mutations.events.len()
    );
    assert!(submitted > 100 && stamps.entries.len() > 100 && mutations.events.len() > 50, "there was hardly any load");
    check_answers(&clients, &histories);
    check_boxes(&clients, &histories);
    check_feeds(&clients, &mutations);
    check_bags(&clients[HOSPITAL], &data, &stamps);
    assert_eq!(server.stop(), Some(0), "the process does not drain");
}

fn prepare(data: &Path) {
    std::fs::create_dir_all(data.join("projects")).unwrap();
    std::fs::write(data.join("projects/crash-registry.toml"), PROJECT).unwrap();
}

fn open_boxes(server: &Server) -> HashMap<&'static str, Client> {
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

fn is_done(recipient: &Value) -> bool {
    recipient["state"] == "done" || recipient["state"]["is"] == "done"
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
    assert_eq!(at_second, titles(&histories[0]), "the second hospital's box lost, doubled or reordered messages");
    let at_hospital: Vec<String> =
        documents(HOSPITAL).iter().filter_map(document_title).filter(|t| t.starts_with('B')).collect();
    assert_eq!(at_hospital, titles(&histories[1]), "the hospital's box lost, doubled or reordered messages");
    let registry = documents(REGISTRY);
    let direct: Vec<String> = registry.iter().filter_map(document_title).filter(|t| t.starts_with('B')).collect();
    assert_eq!(direct, titles(&histories[1]), "the registry's box lost, doubled or reordered messages");
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

fn whole_folder(client: &Client, owner: &str) -> Vec<Value> {
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
fn check_bags(client: &Client, data: &Path, history: &History) {
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

/// Every fail point of the program is reached and survived: the process aborts there, is started again, and answers.
#[test]
fn every_fail_point_is_visited_and_survived() {
    let Some(program) = zegel_with_failpoints() else {
        println!("SKIPPED: no program built with fail points (make end-to-end builds it)");
        assert!(std::env::var_os("ZEGEL_ORACLES").is_none(), "the program with fail points was not built");
        return;
    };
    let points = fail_points();
    assert!(points.len() >= 12, "fail points are missing: {points:?}");
    let mut unvisited = Vec::new();
    for point in &points {
        if !crash_at(&program, point) {
            unvisited.push(point);
        }
    }
    assert!(unvisited.is_empty(), "fail points that nothing reaches: {unvisited:?}");
}

/// Every fail point that the source names.
fn fail_points() -> BTreeSet<String> {
    let mut points = BTreeSet::new();
    let mut folders = vec![zegel_suite::root().join("pipeline"), zegel_suite::root().join("workers")];
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let named = text.split("fail_point!(\"").skip(1).filter_map(|rest| rest.split('"').next());
                points.extend(named.map(str::to_owned));
            }
        }
    }
    points
}

/// Runs load until the process aborts at the point; then starts it without and checks that what was acknowledged is
/// answered. False when the point was not reached within the time limit.
fn crash_at(program: &Path, point: &str) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    prepare(&data);
    let address = Address::default();
    let window = ("ZEGEL_TIMESTAMP__WINDOW", "* * * * * *");
    let small_log = ("ZEGEL_WAL_BYTES", "200000");
    let server = Server::start(program, &data, &address, &[window]).expect("starts");
    let clients = open_boxes(&server);
    server.kill();
    let crash = [window, small_log, ("ZEGEL_CRASH_AT", point)];
    let mut server = Server::start(program, &data, &address, &crash).unwrap_or_else(|log| panic!("{point}: {log}"));
    let stop = Arc::new(AtomicBool::new(false));
    let loads = vec![
        submitter(clients[HOSPITAL].clone(), HOSPITAL, format!("to={SECOND}"), 'A', stop.clone()),
        submitter(clients[HOSPITAL].clone(), HOSPITAL, format!("project=crash-registry&to={TTP}"), 'P', stop.clone()),
        stamper(clients[HOSPITAL].clone(), HOSPITAL, stop.clone()),
    ];
    let deadline = Instant::now() + Duration::from_secs(20);
    while !server.has_ended() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(20));
    }
    let mut visited = server.has_ended();
    if !visited {
        visited = server.stop() != Some(0); // points on the way out are reached when draining
    }
    let server = Server::start(program, &data, &address, &[window]).unwrap_or_else(|log| panic!("{point}: {log}"));
    thread::sleep(Duration::from_millis(200));
    stop.store(true, Ordering::SeqCst);
    let histories: Vec<History> =
        loads.into_iter().map(|load| load.join().expect("a client found a broken promise")).collect();
    let deadline = Instant::now() + Duration::from_secs(30);
    for (id, title) in histories.iter().flat_map(|history| &history.submissions) {
        loop {
            let life = clients[HOSPITAL].get(&format!("/v1/submissions/{id}"));
            if life.is_ok_and(|life| {
                life["recipients"].as_array().is_some_and(|all| !all.is_empty() && all.iter().all(is_done))
            }) {
                break;
            }
            assert!(Instant::now() < deadline, "{point}: submission {title} has no final answer after the restart");
            thread::sleep(Duration::from_millis(20));
        }
    }
    server.kill();
    println!("{point}: {}", if visited { "visited" } else { "NOT VISITED" });
    visited
}
