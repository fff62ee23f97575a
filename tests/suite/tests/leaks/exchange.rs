//! What every bait goes through on one platform: sent, spoilt, broken, delivered, returned.

use crate::world::{HOSPITAL, REGISTRY, Sent, World, is_refused, wait_final, whole};
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};
use zegel_suite::canary::Search;
use zegel_suite::history::whole_folder;
use zegel_suite::server::Client;

/// Sends what is good and what is not, of every bait; with `only_good` nothing else.
pub fn send_all(world: &mut World, hospital: &Client, only_good: bool) -> Vec<Sent> {
    let mut all = Vec::new();
    for bait in world.baits.iter().map(|bait| bait.name.clone()).collect::<Vec<_>>() {
        let of = |world: &World| world.baits.iter().position(|one| one.name == bait).unwrap();
        let at = of(world);
        let mut batches = vec![("good", world.baits[at].good.clone(), false)];
        if !only_good {
            batches.push(("a bad row", world.baits[at].bad.clone(), !world.baits[at].leaves_rows_out));
            batches.extend(world.baits[at].broken.clone());
        }
        let project = world.baits[at].project.clone();
        for (what, batch, must_refuse) in batches {
            all.push(world.sent(hospital, &project, &format!("{bait}: {what}"), &batch, must_refuse));
        }
    }
    all
}

/// Sends the batches with a bad row to the projects that refuse them for it.
pub fn send_whole(world: &mut World, hospital: &Client) -> Vec<Sent> {
    let listed = hospital_projects(world);
    let mut all = Vec::new();
    for (project, bad) in listed {
        all.push(world.sent(hospital, &project, "a bad row", &bad, true));
    }
    all
}

fn hospital_projects(world: &World) -> Vec<(String, Vec<u8>)> {
    let is_there = |name: &String| world.data.join("projects").join(name).exists();
    let all = world.baits.iter().map(|bait| (whole(bait), bait.bad.clone()));
    all.filter(|(name, _)| is_there(name)).collect()
}

/// Waits until each has its answer, and searches what is told of it. How many were refused.
pub fn judge(world: &World, hospital: &Client, all: &[Sent]) -> usize {
    let patients = world.of_patients();
    let search = Search::new(patients);
    let mut refused = 0;
    for Sent { what, submission, must_refuse } in all {
        let life = wait_final(hospital, submission);
        search.clear(life.to_string().as_bytes(), &format!("the answer to {what}"));
        let is_refused = is_refused(&life);
        assert!(is_refused || !must_refuse, "{what} is delivered: {life}");
        assert!(!is_refused || !what.ends_with(": good"), "{what} is refused: {life}");
        refused += usize::from(is_refused);
    }
    refused
}

/// One delivery in the recipient's box.
pub struct Delivery {
    pub project: String,
    pub handle: String,
    pub parts: Vec<Vec<u8>>,
}

/// What the recipient's box lists, answers of the TTP included: nothing of a patient or of the sender.
pub fn listed(world: &World, registry: &Client) {
    let search = Search::new(world.not_for_recipient());
    for item in whole_folder(registry, REGISTRY) {
        search.clear(item.to_string().as_bytes(), "the recipient's list");
    }
    let (_, sent) = registry.ask("GET", &format!("/v1/boxes/{REGISTRY}/sent?limit=100"), &[], &[]).unwrap();
    search.clear(&sent, "what the recipient sent");
}

/// Everything that the recipient can get: the list, the messages, their parts, with headers. Nothing of a patient or of the sender is
/// there, medical values are, and sizes are buckets.
pub fn receive(world: &World, registry: &Client) -> Vec<Delivery> {
    let hidden = world.not_for_recipient();
    let search = Search::new(hidden);
    let mut found = BTreeSet::new();
    let mut ask = |path: &str| {
        let (status, bytes) = registry.ask("GET", path, &[], &[]).unwrap();
        assert_eq!(status, 200, "{path}");
        found.extend(search.every(&bytes));
        bytes
    };
    ask(&format!("/v1/boxes/{REGISTRY}"));
    ask(&format!("/v1/boxes/{REGISTRY}/inbox?limit=100"));
    let mut deliveries = Vec::new();
    for item in whole_folder(registry, REGISTRY) {
        let id = item["id"].as_str().unwrap();
        ask(&format!("/v1/boxes/{REGISTRY}/items/{id}"));
        let Some(handle) = item["from"]["handle"].as_str() else { continue };
        let count = item["parts"].as_array().map_or(1, Vec::len);
        let parts: Vec<Vec<u8>> = (0..count)
            .map(|part| {
                let bytes = ask(&format!("/v1/boxes/{REGISTRY}/items/{id}/parts/{part}"));
                let head = bytes.iter().position(|byte| *byte == b'\n').unwrap();
                bytes[head + 1..].to_vec()
            })
            .collect();
        let size = parts[0].len() as u64;
        assert_eq!(zegel_ttp::padding::bucket(size), size, "a size that is no bucket");
        let title = item["title"].as_str().unwrap_or_default();
        let project = title.strip_suffix(" batch").expect("it says of which project it is").to_owned();
        deliveries.push(Delivery { project, handle: handle.to_owned(), parts });
    }
    assert_eq!(found, BTreeSet::new(), "the recipient has it");
    deliveries
}

/// Whether the recipient of every bait has the medical values: what is not there cannot leak.
pub fn medical_arrived(world: &World, deliveries: &[Delivery]) {
    let search = Search::new(&world.canaries.medical);
    let found: BTreeSet<&str> = deliveries.iter().flat_map(|one| search.every(&one.parts[0])).collect();
    for bait in &world.baits {
        let is_sealed = ["leak-split", "leak-sealed-values"].contains(&bait.name.as_str());
        let own = format!("{}: medical value", bait.name);
        assert!(is_sealed || found.contains(own.as_str()), "{}: nothing to search", bait.name);
    }
    let (identity, medical) = &world.opens;
    let sealed = deliveries.iter().find(|one| one.project == "leak-split").expect("a split delivery");
    let opened = zegel_crypto::envelope::open(identity, &sealed.parts[1]).unwrap();
    assert_eq!(&opened[..], medical.as_bytes(), "the sealed part is another one");
}

/// Gives back what was delivered: first as nobody may, then as it came, then again. What the recipient is told names nobody.
pub fn give_back(world: &mut World, registry: &Client, deliveries: &[Delivery]) -> usize {
    let mut first: HashMap<&str, &Delivery> = HashMap::new();
    for one in deliveries {
        first.entry(&one.project).or_insert(one);
    }
    let takes = |bait: &&crate::bait::Bait| bait.terms.contains("with-return");
    let projects: BTreeSet<String> = world.baits.iter().filter(takes).map(|bait| bait.project.clone()).collect();
    let projects: Vec<String> = projects.into_iter().collect();
    let (mut accepted, mut asked) = (Vec::new(), Vec::new());
    for (number, project) in projects.iter().enumerate() {
        let Delivery { handle, parts, .. } = first[project.as_str()];
        let other = first[projects[(number + 1) % projects.len()].as_str()];
        let batch = &parts[0];
        for (what, handle, batch) in [
            ("rows changed places", handle, swapped(batch)),
            ("another's handle", &other.handle, batch.clone()),
            ("another's rows", handle, other.parts[0].clone()),
            ("cut", handle, batch[..batch.iter().rposition(|byte| !byte.is_ascii_whitespace()).unwrap() / 2].to_vec()),
        ] {
            asked.push((format!("{project}, {what}"), post(world, registry, project, handle, &batch)));
        }
        accepted.push((project.clone(), handle.clone(), batch.clone()));
    }
    let hidden = world.not_for_recipient();
    let search = Search::new(hidden);
    let told = |what: &str, id: &str| {
        let life = wait_final(registry, id);
        search.clear(life.to_string().as_bytes(), &format!("the answer to a return, {what}"));
        is_refused(&life)
    };
    for (what, id) in &asked {
        assert!(told(what, id), "a return is taken: {what}");
    }
    let sent: Vec<(String, String)> = accepted
        .iter()
        .map(|(project, handle, batch)| (project.clone(), post_known(registry, project, handle, batch)))
        .collect();
    for (project, id) in &sent {
        assert!(!told(project, id), "{project}: a return is refused: {:?}", wait_final(registry, id));
    }
    for (project, handle, batch) in &accepted {
        let again = post_known(registry, project, handle, &[batch, &b"\n"[..]].concat());
        assert!(told("a replay", &again), "{project}: a handle serves twice");
    }
    sent.len()
}

/// The batch with its first two tokens exchanged.
fn swapped(batch: &[u8]) -> Vec<u8> {
    let text = String::from_utf8(batch.to_vec()).unwrap();
    let token = |from: usize| {
        let start = from + text[from..].find("P1.").expect("a token");
        let length = text[start..].find(|c: char| !c.is_ascii_alphanumeric() && !"._-".contains(c)).unwrap();
        (start, start + length)
    };
    let one = token(0);
    let mut two = token(one.1);
    while text[two.0..two.1] == text[one.0..one.1] || text[two.0..two.1].len() != text[one.0..one.1].len() {
        two = token(two.1);
    }
    let (first, second) = (&text[one.0..one.1], &text[two.0..two.1]);
    [&text[..one.0], second, &text[one.1..two.0], first, &text[two.1..]].concat().into_bytes()
}

fn post(world: &mut World, registry: &Client, project: &str, handle: &str, batch: &[u8]) -> String {
    let _drawn = world.words.word("");
    post_known(registry, project, handle, batch)
}

/// A return whose publication id is made from what it is.
fn post_known(registry: &Client, project: &str, handle: &str, batch: &[u8]) -> String {
    let id = hex::encode(&zegel_crypto::hash::sha256(&[handle.as_bytes(), batch].concat()).0[..6]);
    let path =
        format!("/v1/returns/{handle}?sender={REGISTRY}&project={project}&publication_id={id}&title=r&file_name=r");
    let (status, answer) = registry.post_bytes(&path, "application/octet-stream", batch).unwrap();
    assert_eq!(status, 202, "{project}: {answer}");
    answer["submission"].as_str().unwrap().to_owned()
}

/// What came back to the hospital is in clear: so many of its messages have somebody's number.
pub fn came_back(world: &World, hospital: &Client) -> usize {
    let search = Search::new(world.canaries.patients.iter().filter(|canary| canary.what.ends_with(": niss")));
    let items = whole_folder(hospital, HOSPITAL);
    let returned = items.iter().filter(|item| item["meta"]["returns"].is_string());
    let is_clear = |item: &&Value| {
        let path = format!("/v1/boxes/{HOSPITAL}/items/{}/parts/0", item["id"].as_str().unwrap());
        search.first(&hospital.get_bytes(&path).unwrap()).is_some()
    };
    returned.filter(is_clear).count()
}
