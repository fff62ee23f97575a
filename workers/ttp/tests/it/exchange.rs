//! What is handed over and comes back, through the worker: handles, row numbers, the return policy, pools.

use crate::worker::MemoryObjects;
use crate::{SENDER, sender};
use bytes::Bytes;
use schemas::Key;
use schemas::messages::{Answer, Answered, Content, Deliver, From, Inbound, Part};
use schemas::{Envelope, MessageId, Millis, Sha256};
use std::io::{Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use zegel_core::slot::spaces::{EXCHANGES, PAYLOADS};
use zegel_core::testing::Bench;
use zegel_core::worker::{JobError, JobIo};
use zegel_core::{Decision, Effects, Keys, KeysError, Objects, Sealed, Worker, names};
use zegel_crypto::Keyring;
use zegel_ttp::{CompiledProject, ProjectDocument, Ttp};

pub(crate) const RECIPIENT: &str = "CBE:0123456749";
pub(crate) const OTHER: &str = "NIHII-HOSPITAL:71011720";
const TTP_ADDRESS: &str = "CBE:0206653946";
const TERMS: &str = "direction = \"with-return\"\nreturns = { fields = [\"score\"], within_days = 10 }";
const FIELDS: &str = r#"
[[fields]]
path = "niss"
kind = "ssin"
action = "pseudonym"
[[fields]]
path = "name"
action = "drop"
[[fields]]
path = "value"
action = "keep"
"#;
const BATCH: &str = "niss,name,value\n85061511796,Janssens,7\n85061511895,Peeters,8\n85061511994,Maes,9\n";
const DAY_MS: i64 = 86_400_000;

/// Keys whose randomness is the same in every run, so that a game has one outcome.
pub(crate) struct Seeded {
    ring: Keyring,
    state: AtomicU64,
}

impl Keys for Seeded {
    fn blind(&self, domain: &str, identifier: &[u8]) -> Key {
        self.ring.blind(domain, identifier)
    }

    fn seal(&self, context: &[u8], plain: &[u8]) -> Sealed {
        self.ring.seal(context, plain)
    }

    fn open(&self, context: &[u8], sealed: &Sealed) -> Result<Vec<u8>, KeysError> {
        self.ring.open(context, sealed)
    }

    fn random(&self, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            let next = mixed(self.state.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed));
            chunk.copy_from_slice(&next.to_be_bytes()[..chunk.len()]);
        }
    }
}

/// The output function of splitmix64.
pub(crate) fn mixed(state: u64) -> u64 {
    let mut mixed = state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// A worker on a bench, and its project's key.
pub(crate) struct World {
    pub(crate) bench: Bench<Ttp, Seeded>,
    objects: MemoryObjects,
    key: Key,
    submissions: u64,
    _scratch: tempfile::TempDir,
}

fn id_of(submission: u64) -> MessageId {
    MessageId(u128::from(submission).to_be_bytes())
}

pub(crate) struct Delivered {
    pub(crate) handle: MessageId,
    pub(crate) deliver: Deliver,
    pub(crate) text: String,
}

impl World {
    pub(crate) fn new(terms: &str) -> World {
        World::with_fields(terms, FIELDS)
    }

    pub(crate) fn with_fields(terms: &str, fields: &str) -> World {
        World::with_root(terms, fields, [7; 32])
    }

    pub(crate) fn with_root(terms: &str, fields: &str, root: [u8; 32]) -> World {
        let text = format!(
            "name = \"lab-registry\"\nsenders = [\"{SENDER}\", \"{OTHER}\"]\nrecipient = \"{RECIPIENT}\"\n\
             valid = {{ from = \"2026-01-01\", until = \"2030-12-31\" }}\n{terms}\n{fields}"
        );
        let document = ProjectDocument::parse(&text).unwrap_or_else(|error| panic!("{error}"));
        let scratch = tempfile::tempdir().unwrap();
        let project = CompiledProject::new(document, &root).unwrap();
        let ttp = Ttp::new(vec![project], scratch.path().to_owned()).unwrap();
        let keys = Seeded { ring: Keyring::generate_in_memory(), state: AtomicU64::new(7) };
        let key = names::project_key(&keys, "lab-registry");
        World {
            bench: Bench::with_keys(ttp, keys),
            objects: MemoryObjects::default(),
            key,
            submissions: 0,
            _scratch: scratch,
        }
    }

    /// The submission before the latest, or the latest.
    pub(crate) fn submission(&self, is_earlier: bool) -> MessageId {
        id_of(self.submissions - u64::from(is_earlier))
    }

    fn give(&mut self, from: &str, batch: &str, handle: Option<MessageId>) -> Effects {
        self.submissions += 1;
        let inbound = self.inbound(from, batch, handle);
        self.hand_in(inbound, batch)
    }

    fn inbound(&self, from: &str, batch: &str, handle: Option<MessageId>) -> Inbound {
        Inbound {
            submission: id_of(self.submissions),
            sender: from.parse().unwrap(),
            recipient: TTP_ADDRESS.parse().unwrap(),
            project: "lab-registry".to_owned(),
            part: Part {
                file_name: "batch.csv".to_owned(),
                mime: "text/csv".to_owned(),
                size: batch.len() as u64,
                digest: Sha256([0; 32]),
                content: Content::Attached,
            },
            publication_id: "P1".to_owned(),
            handle,
        }
    }

    /// Gives the worker a message, and runs the job that it may ask for.
    fn hand_in(&mut self, inbound: Inbound, batch: &str) -> Effects {
        let mut envelope = self.bench.envelope(self.key, &inbound);
        if inbound.part.content == Content::Attached {
            envelope.attachment = Bytes::copy_from_slice(batch.as_bytes());
        }
        envelope.deadline = Some(self.bench.now.plus(7_200_000));
        let mut decision = self.bench.decide(envelope.clone()).unwrap();
        if let Decision::Job { spec } = decision {
            let every = zegel_core::Read::Range {
                space: EXCHANGES,
                owner: self.key,
                from: Bytes::new(),
                to: None,
                limit: 1_000,
                reverse: false,
            };
            let rows = self.bench.read(&every);
            let io = Io { rows, keys: &self.bench.keys, objects: &self.objects, now: self.bench.now };
            let outcome = self.bench.worker.run_job(&spec, &io).map(Bytes::from);
            decision = self.bench.decide_after(envelope, Some(outcome)).unwrap();
        }
        match decision {
            Decision::Done(effects) | Decision::Dead { effects, .. } => effects,
            other => panic!("not decided: {other:?}"),
        }
    }

    pub(crate) fn send(&mut self, from: &str, batch: &str) -> Effects {
        self.give(from, batch, None)
    }

    pub(crate) fn exchange(&mut self, batch: &str) -> Delivered {
        let effects = self.send(SENDER, batch);
        let delivered = self.delivered(&effects).pop();
        delivered.unwrap_or_else(|| panic!("{:?}", self.codes(&effects)))
    }

    pub(crate) fn back(&mut self, handle: MessageId, batch: &str) -> Effects {
        self.give(RECIPIENT, batch, Some(handle))
    }

    /// Every batch that goes to the recipient.
    pub(crate) fn delivered(&mut self, effects: &Effects) -> Vec<Delivered> {
        let batches = effects.produced.iter().filter(|produced| produced.channel.name == "mailbox.deliver");
        let batches: Vec<&Envelope> = batches.map(|produced| &produced.envelope).collect();
        batches
            .into_iter()
            .map(|envelope| {
                let deliver: Deliver = envelope.payload().unwrap();
                let From::Handle(handle) = deliver.from else { panic!("not from a handle") };
                let bytes: Bytes = match deliver.parts[0].content.clone() {
                    Content::Attached => envelope.attachment.clone(),
                    Content::Stored(payload) => {
                        let read = zegel_core::Read::One { space: PAYLOADS, owner: Key(payload.0), sub: Bytes::new() };
                        self.bench.read(&read)[0].1.clone()
                    }
                    Content::Object(object) => {
                        let mut bytes = Vec::new();
                        self.objects.open(&object).unwrap().read_to_end(&mut bytes).unwrap();
                        bytes.into()
                    }
                };
                assert_eq!(deliver.parts[0].size, bytes.len() as u64);
                let text = String::from_utf8(bytes.to_vec()).unwrap();
                Delivered { handle, deliver, text }
            })
            .collect()
    }

    /// As [`World::back`], with the batch in the object store.
    fn back_large(&mut self, handle: MessageId, batch: &str) -> Effects {
        self.submissions += 1;
        let mut sink = self.objects.create().unwrap();
        sink.write_all(batch.as_bytes()).unwrap();
        let content = Content::Object(sink.finish().unwrap());
        let inbound = self.inbound(RECIPIENT, batch, Some(handle));
        self.hand_in(Inbound { part: Part { content, ..inbound.part.clone() }, ..inbound }, batch)
    }

    /// The codes of every refusal.
    pub(crate) fn codes(&self, effects: &Effects) -> Vec<String> {
        let answers = effects.produced.iter().filter(|produced| produced.channel.name == "receipts.due");
        let codes = answers.filter_map(|produced| match produced.envelope.payload::<Answered>().unwrap().answer {
            Answer::Refused { reason } => {
                let row = reason.rows.first().map(|row| format!(" {}", row.code));
                Some(reason.code + &row.unwrap_or_default())
            }
            _ => None,
        });
        codes.collect()
    }

    /// The one code, after checking that nothing else leaves and nothing changes.
    fn refused(&mut self, handle: MessageId, batch: &str) -> String {
        let effects = self.back(handle, batch);
        self.nothing_but_a_refusal(&effects)
    }

    fn nothing_but_a_refusal(&mut self, effects: &Effects) -> String {
        assert_eq!((effects.produced.len(), effects.changes.len(), effects.timers.len()), (1, 0, 0));
        let wire = effects.produced[0].envelope.encode().unwrap();
        for secret in ["85061511", "Janssens", "71000436", "P1.", "canary"] {
            assert!(!wire.windows(secret.len()).any(|window| window == secret.as_bytes()), "{secret}");
        }
        let mut codes = self.codes(effects);
        assert_eq!(codes.len(), 1);
        codes.remove(0)
    }
}

struct Io<'a> {
    rows: Vec<(Bytes, Bytes)>,
    keys: &'a Seeded,
    objects: &'a MemoryObjects,
    now: Millis,
}

impl JobIo for Io<'_> {
    fn objects(&self) -> &dyn Objects {
        self.objects
    }
    fn read(&self, read: zegel_core::Read) -> Result<Vec<(Bytes, Bytes)>, JobError> {
        let zegel_core::Read::One { sub, .. } = read else { panic!("the job reads one row") };
        Ok(self.rows.iter().filter(|(found, _)| *found == sub).cloned().collect())
    }
    fn keys(&self) -> &dyn Keys {
        self.keys
    }
    fn now(&self) -> Millis {
        self.now
    }
    fn stopping(&self) -> bool {
        false
    }
}

/// The delivered rows with a column more, and without the filler.
pub(crate) fn enriched(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.is_empty());
    let line = |(number, line)| if number == 0 { format!("{line},score\n") } else { format!("{line},0.{number}\n") };
    lines.enumerate().map(line).collect()
}

/// The sender's rows as they come back, without what was added.
pub(crate) fn restored(effects: &Effects) -> (Deliver, Vec<String>) {
    let deliver: Deliver = effects.produced[0].envelope.payload().unwrap();
    let text = String::from_utf8(effects.produced[0].envelope.attachment.to_vec()).unwrap();
    (deliver, text.lines().map(str::to_owned).collect())
}

#[test]
fn what_comes_back_reaches_the_sender_in_clear_and_the_recipient_hears_the_ttp_alone() {
    let mut world = World::new(TERMS);
    let one = world.exchange(BATCH);
    assert_eq!(one.deliver.recipient, RECIPIENT.parse().unwrap());
    assert_eq!((one.deliver.meta["project"].as_str(), one.deliver.meta.len()), ("lab-registry", 2));
    assert!(one.text.starts_with("niss,value,zegel_row\nP1."), "{}", one.text);
    assert_eq!(one.text.len(), 1_024, "the size is a bucket");
    let effects = world.back(one.handle, &enriched(&one.text));
    assert_eq!(world.codes(&effects), Vec::<String>::new());
    let (deliver, mut rows) = restored(&effects);
    assert_eq!((deliver.recipient.clone(), deliver.from, deliver.answers), (sender(), From::Platform, None));
    assert_eq!(deliver.meta["returns"], id_of(1).to_string());
    assert_eq!(rows.remove(0), "niss,value,score");
    rows.sort();
    let heads: Vec<&str> = rows.iter().map(|row| row.rsplit_once(',').unwrap().0).collect();
    assert_eq!(heads, ["85061511796,7", "85061511895,8", "85061511994,9"]);
    // One answer, positive, of the TTP; the delivery owes none, so whatever becomes of it is never told.
    assert_eq!(effects.produced.len(), 2);
    let answered: Answered = effects.produced[1].envelope.payload().unwrap();
    assert_eq!((answered.submission, answered.recipient), (id_of(2), TTP_ADDRESS.parse().unwrap()));
    assert_eq!(answered.answer, Answer::Done);
    assert_eq!((effects.produced[0].envelope.deadline, effects.produced[0].envelope.traceparent), (None, None));
    assert_eq!(deliver.receipts, schemas::messages::ReceiptsWanted::default());
}

#[test]
fn whatever_was_not_delivered_in_this_exchange_is_refused_whole_and_uses_nothing_up() {
    let mut world = World::new(TERMS);
    let (one, two) = (world.exchange(BATCH), world.exchange(BATCH));
    let lines: Vec<&str> = one.text.lines().filter(|line| !line.is_empty()).collect();
    let others: Vec<&str> = two.text.lines().filter(|line| !line.is_empty()).collect();
    let parts = |line: &str| line.split(',').map(str::to_owned).collect::<Vec<_>>();
    let (a, b) = (parts(lines[1]), parts(lines[2]));
    let batch = |rows: &[String]| format!("niss,value,zegel_row\n{}\n", rows.join("\n"));
    let swapped = [format!("{},{},{}", b[0], a[1], a[2]), format!("{},{},{}", a[0], b[1], b[2])];
    let strange = World::with_root(TERMS, FIELDS, [9; 32]).exchange(BATCH).text;
    for (rows, code) in [
        (batch(&swapped), "ZGL-ROW-FOREIGN"),
        (batch(&[lines[1].to_owned(), lines[1].to_owned()]), "ZGL-ROW-TWICE"),
        (batch(&[others[1].to_owned()]), "ZGL-ROW-FOREIGN"),
        (strange, "ZGL-ROW-TOKEN"),
        (batch(&[format!("{},{},", a[0], a[1])]), "ZGL-ROW-UNNUMBERED"),
        (batch(&[format!("canary,{},{}", a[1], a[2])]), "ZGL-ROW-"),
        (batch(&[format!(",{},{}", a[1], a[2])]), "ZGL-ROW-FOREIGN"),
        (batch(&[lines[1].replace("P1.1-", "P1.2-")]), "ZGL-ROW-"),
        // One bad row among good ones: nothing is forwarded.
        (batch(&[lines[1].to_owned(), others[2].to_owned()]), "ZGL-ROW-FOREIGN"),
    ] {
        let found = world.refused(one.handle, &rows);
        assert!(found.starts_with(&format!("ZGL-TTP-ROWS {code}")), "{found} for {rows}");
    }
    for (rows, code) in [
        (one.text.replacen("zegel_row", "number", 1), "ZGL-TTP-UNLISTED"),
        (format!("niss,value\n{},{}\n", a[0], a[1]), "ZGL-TTP-MISSING"),
        (enriched(&one.text).replacen("score", "canary", 1), "ZGL-TTP-UNLISTED"),
        (enriched(&one.text).replacen("score", "name", 1), "ZGL-TTP-UNLISTED"),
        (String::new(), "ZGL-TTP-EMPTY"),
        ("niss,value,zegel_row\n".to_owned(), "ZGL-TTP-EMPTY"),
        ("{\"niss\":1}\n".to_owned(), "ZGL-TTP-ROWS ZGL-ROW-"),
    ] {
        assert!(world.refused(one.handle, &rows).starts_with(code), "{code} for {rows}");
    }
    // The handle is as good as before, for rows in any order, some of them left out.
    let effects = world.back(one.handle, &batch(&[lines[3].to_owned(), lines[1].to_owned()]));
    assert_eq!(restored(&effects).1.len(), 3);
}

#[test]
fn a_handle_is_for_its_recipient_and_serves_once_until_it_expires() {
    let mut world = World::new(TERMS);
    let (one, late) = (world.exchange(BATCH), world.exchange(BATCH));
    assert_eq!(world.refused(MessageId([5; 16]), &one.text), "ZGL-RETURN-HANDLE");
    for from in [SENDER, OTHER] {
        let effects = world.give(from, &one.text, Some(one.handle));
        assert_eq!(world.nothing_but_a_refusal(&effects), "ZGL-RETURN-RECIPIENT");
    }
    let accepted = world.back(one.handle, &one.text);
    assert_eq!(accepted.produced.len(), 2);
    assert_eq!(world.refused(one.handle, &one.text), "ZGL-RETURN-USED", "a replay");
    world.bench.now = world.bench.now.plus(10 * DAY_MS);
    assert_eq!(world.refused(late.handle, &late.text), "ZGL-RETURN-EXPIRED");
    let mut one_way = World::new("");
    let sent = one_way.exchange(BATCH);
    assert!(sent.deliver.meta.is_empty() && !sent.text.contains("zegel_row"), "nothing of the way back is said");
    assert_eq!(one_way.refused(sent.handle, &sent.text), "ZGL-RETURN-DIRECTION");
}

#[test]
fn a_large_return_goes_from_object_to_object_and_a_refused_one_leaves_nothing() {
    let mut world = World::new(TERMS);
    let rows: String = (0..3_000).map(|row| format!("85061511796,canary,{row}\n")).collect();
    let one = world.exchange(&format!("niss,name,value\n{rows}"));
    assert!(matches!(one.deliver.parts[0].content, Content::Object(_)) && !one.text.contains("canary"));
    let good = enriched(&one.text);
    let effects = world.back_large(one.handle, &good.replacen("P1.1-", "P1.2-", 1));
    assert_eq!(world.nothing_but_a_refusal(&effects), "ZGL-TTP-ROWS ZGL-ROW-TOKEN");
    assert_eq!(world.objects.list().unwrap().len(), 2, "what was delivered and what came back, nothing restored");
    let effects = world.back_large(one.handle, &good);
    assert_eq!(world.codes(&effects), Vec::<String>::new());
    let deliver: Deliver = effects.produced[0].envelope.payload().unwrap();
    let Content::Object(object) = &deliver.parts[0].content else { panic!("an object") };
    let mut text = String::new();
    world.objects.open(object).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!((text.lines().count(), text.matches("\n85061511796,").count()), (3_001, 3_000));
    assert_eq!(world.refused(one.handle, &good), "ZGL-RETURN-USED");
}

#[test]
fn exchanges_are_forgotten_when_they_are_long_over_and_none_before() {
    let mut world = World::new(TERMS);
    let one = world.exchange(BATCH);
    let begin = world.bench.now;
    world.bench.now = begin.plus(DAY_MS);
    let two = world.exchange(BATCH);
    assert_eq!((world.bench.rows(EXCHANGES), world.bench.timers.len()), (4, 1));
    world.bench.fire(world.key, "tidy");
    assert_eq!(world.bench.now, begin.plus(40 * DAY_MS), "ten days to come back, thirty to be told that it is late");
    assert_eq!(world.refused(one.handle, &one.text), "ZGL-RETURN-HANDLE");
    assert_eq!(world.refused(two.handle, &two.text), "ZGL-RETURN-EXPIRED");
    world.bench.fire(world.key, "tidy");
    assert_eq!((world.bench.rows(EXCHANGES), world.bench.timers.len()), (0, 0));
}

#[test]
fn nothing_in_the_store_can_be_used_as_a_handle_or_names_a_patient() {
    let mut world = World::new(TERMS);
    let one = world.exchange(BATCH);
    let rows = world.bench.read(&zegel_core::Read::Range {
        space: EXCHANGES,
        owner: world.key,
        from: Bytes::new(),
        to: None,
        limit: 100,
        reverse: false,
    });
    assert_eq!(rows.len(), 2);
    for (sub, value) in rows {
        assert!(!sub.windows(16).any(|window| window == one.handle.0));
        assert!(!String::from_utf8_lossy(&value).contains("85061511"));
    }
}

const POOL: &str = "direction = \"with-return\"\nrelease = { min_senders = 2, max_age_minutes = 30 }";

#[test]
fn batches_wait_for_another_sender_and_are_released_together() {
    let mut world = World::new(POOL);
    let held: Vec<Effects> = (0..3).map(|_| world.send(SENDER, BATCH)).collect();
    assert!(held.iter().all(|effects| effects.produced.is_empty()), "one sender alone is not hidden");
    world.bench.now = world.bench.now.plus(600_000);
    let effects = world.send(OTHER, BATCH);
    let all = world.delivered(&effects);
    assert_eq!(all.len(), 4);
    let submissions: Vec<_> = all.iter().map(|one| one.deliver.answers.unwrap()).collect();
    for number in 1..=4 {
        assert!(submissions.contains(&id_of(number)), "each answers its own submission");
    }
    assert!(effects.produced.iter().all(|produced| produced.envelope.time == world.bench.now), "one instant for all");
    assert!(world.bench.timers.keys().all(|(_, name)| *name != "release"), "nobody waits any more");
    // What was released can come back.
    let back = world.back(all[0].handle, &all[0].text);
    assert_eq!(world.codes(&back), Vec::<String>::new());
    assert_eq!(world.send(SENDER, BATCH).produced.len(), 0, "the next waits again");
}

#[test]
fn at_the_age_limit_too_few_are_refused_or_released_with_a_report_as_the_project_says() {
    let mut strict = World::new(POOL);
    strict.send(SENDER, BATCH);
    strict.bench.now = strict.bench.now.plus(60_000);
    strict.send(SENDER, BATCH);
    let key = strict.key;
    for _ in 0..2 {
        let effects = strict.bench.fire(key, "release");
        assert_eq!(strict.codes(&effects), ["ZGL-TTP-FEW"], "the old one alone");
        assert_eq!(effects.produced.len(), 1);
    }
    assert_eq!((strict.bench.rows(PAYLOADS), strict.bench.timers.len()), (0, 0), "nothing is left of them");

    let mut open = World::new(&POOL.replace("= 30", "= 30, at_limit = \"release\""));
    open.send(SENDER, BATCH);
    open.send(SENDER, BATCH);
    let key = open.key;
    let effects = open.bench.fire(key, "release");
    assert_eq!(open.delivered(&effects).len(), 2);
    let report = open.bench.read(&zegel_ttp::pool::report_read(key)).remove(0).1;
    let report: zegel_ttp::pool::ReleaseReport = serde_json::from_slice(&report).unwrap();
    assert_eq!((report.releases, report.batches, report.below, report.latest_senders), (1, 2, 1, 1));
}

#[test]
fn a_sender_cannot_fill_a_pool() {
    let mut world = World::new(POOL);
    for _ in 0..50 {
        assert!(world.send(SENDER, BATCH).produced.is_empty());
    }
    let effects = world.send(SENDER, BATCH);
    assert_eq!(world.codes(&effects), ["ZGL-TTP-POOL"]);
    let effects = world.send(OTHER, BATCH);
    assert_eq!(world.delivered(&effects).len(), 51);
}

#[test]
fn the_senders_address_reaches_nobody_but_the_store() {
    let mut world = World::new(POOL);
    world.send(SENDER, BATCH);
    let effects = world.send(OTHER, BATCH);
    for produced in &effects.produced {
        let wire = produced.envelope.encode().unwrap();
        for secret in ["71000436", "71011720", "85061511", "Janssens"] {
            assert!(!wire.windows(secret.len()).any(|window| window == secret.as_bytes()), "{secret}");
        }
    }
}
