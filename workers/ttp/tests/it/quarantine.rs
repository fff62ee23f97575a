//! What stands still: kept in the step that refuses, released as a new submission, dropped, and gone after its time.

use crate::{SENDER, sender};
use bytes::Bytes;
use schemas::messages::{Content, Inbound, Opened, Part, QuarantineOrder, QuarantineReply};
use schemas::{Envelope, Key, MessageId, Millis, Payload, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use zegel_core::slot::spaces::QUARANTINE;
use zegel_core::{Context, Decision, Effects, Interrupt, Message, Read, View, Worker, names};
use zegel_crypto::Keyring;
use zegel_ttp::project::book::{Barred, Listed, altered};
use zegel_ttp::quarantine::{HELD_MAX, Head, HeldRow, KEPT_MS, number};
use zegel_ttp::{CompiledProject, ProjectBook, ProjectDocument, Ttp};

/// 2026-11-22, inside the project's period.
const NOW: Millis = Millis(1_795_305_600_000);
const GOOD: &str = "niss,value\n85061511796,7\n";
const BAD: &str = "niss,value\n85061511796,7\n85061511797,8\n";

/// A worker over the state of one project's key.
struct Bench {
    ttp: Ttp,
    keys: Keyring,
    rows: BTreeMap<(u16, Bytes), Bytes>,
    number: u64,
    _scratch: tempfile::TempDir,
}

impl Bench {
    fn new() -> Bench {
        let bench = Bench::without_projects();
        bench.with_project(true)
    }

    /// The project as a document without papers, or barred for this reason.
    fn with_project(self, holds: bool) -> Bench {
        let text = format!(
            "name = \"lab\"\nsenders = [\"{SENDER}\"]\nrecipient = \"CBE:0123456749\"\n\
             valid = {{ from = \"2026-01-01\", until = \"2027-12-31\" }}\n\
             [[fields]]\npath = \"niss\"\nkind = \"ssin\"\naction = \"pseudonym\"\n[[fields]]\npath = \"value\"\naction = \"keep\"\n"
        );
        let document = ProjectDocument::parse(&text).unwrap();
        let root = self.keys.ensure_project_root(&document.root_name()).unwrap();
        let listed = match holds {
            true => Listed::Unconditional(Arc::new(CompiledProject::new(document, root.expose()).unwrap())),
            false => Listed::Barred(Barred { reason: altered(), documents: vec![document] }),
        };
        let book = ProjectBook::default();
        book.replace(HashMap::from([("lab".to_owned(), listed)]));
        Bench { ttp: Ttp::with_book(Arc::new(book), self._scratch.path().to_owned()), ..self }
    }

    fn without_projects() -> Bench {
        let scratch = tempfile::tempdir().unwrap();
        let ttp = Ttp::new(Vec::new(), scratch.path().to_owned()).unwrap();
        Bench { ttp, keys: Keyring::generate_in_memory(), rows: BTreeMap::new(), number: 0, _scratch: scratch }
    }

    fn key(&self) -> Key {
        names::project_key(&self.keys, "lab")
    }

    fn found(&self, read: &Read) -> Vec<(Bytes, Bytes)> {
        let wanted = |space: u16, from: &Bytes, to: &dyn Fn(&Bytes) -> bool| {
            let all = self.rows.iter().filter(|((code, sub), _)| *code == space && sub >= from && to(sub));
            all.map(|((_, sub), value)| (sub.clone(), value.clone())).collect::<Vec<_>>()
        };
        match read {
            Read::One { space, sub, .. } => wanted(space.code, sub, &|found| found == sub),
            Read::Range { space, from, to, limit, .. } => {
                let mut rows = wanted(space.code, from, &|sub| to.as_ref().is_none_or(|to| sub < to));
                rows.truncate(*limit);
                rows
            }
        }
    }

    /// Decides as the runner does, and applies the changes.
    fn step(&mut self, mut message: Message, now: Millis) -> Effects {
        self.number += 1;
        message.number = self.number;
        let context = Context { now, keys: &self.keys };
        let mut view = View::default();
        for read in self.ttp.reads(&message, &context) {
            let rows = self.found(&read);
            view.load(read, rows);
        }
        let effects = loop {
            match self.ttp.decide(&message, &view, &context) {
                Err(Interrupt::Missing(read)) => {
                    let rows = self.found(&read);
                    view.load(read, rows);
                }
                Ok(Decision::Done(effects)) => break effects,
                other => panic!("expected effects: {other:?}"),
            }
        };
        for change in &effects.changes {
            assert_eq!(change.owner, self.key());
            let place = (change.space.code, change.sub.clone());
            match &change.value {
                Some(value) => self.rows.insert(place, value.clone()),
                None => self.rows.remove(&place),
            };
        }
        effects
    }

    fn message<P: Payload>(&self, payload: &P, attachment: &str) -> Message {
        let mut envelope = Envelope::new(MessageId([1; 16]), "/t", self.key(), NOW, payload).unwrap();
        envelope.attachment = Bytes::copy_from_slice(attachment.as_bytes());
        Message { number: 0, envelope, attempt: 0, job: None }
    }

    fn send(&mut self, inbound: &Inbound, batch: &str, now: Millis) -> Effects {
        let message = self.message(inbound, batch);
        self.step(message, now)
    }

    fn order(&mut self, order: QuarantineOrder, now: Millis) -> (Option<QuarantineReply>, Effects) {
        let message = self.message(&order, "");
        let effects = self.step(message, now);
        (effects.reply.as_ref().map(|reply| serde_json::from_slice(reply).unwrap()), effects)
    }

    fn held(&self) -> Vec<(u64, HeldRow)> {
        let rows = self.rows.iter().filter(|((space, _), _)| *space == QUARANTINE.code);
        rows.filter_map(|((_, sub), value)| Some((number(sub)?, serde_json::from_slice(value).unwrap()))).collect()
    }

    fn head(&self) -> Head {
        serde_json::from_slice(&self.rows[&(QUARANTINE.code, Bytes::new())]).unwrap()
    }
}

fn inbound() -> Inbound {
    Inbound {
        submission: MessageId([9; 16]),
        sender: sender(),
        recipient: "CBE:0206653946".parse().unwrap(),
        project: "lab".to_owned(),
        part: Part {
            file_name: "JANSSENS-EVA.csv".to_owned(),
            mime: "text/csv".to_owned(),
            size: 1,
            digest: Sha256([3; 32]),
            content: Content::Attached,
        },
        publication_id: "P1".to_owned(),
        handle: None,
    }
}

#[test]
fn a_refused_batch_stands_still_with_its_reason_and_a_delivered_one_does_not() {
    let mut bench = Bench::new();
    bench.send(&inbound(), GOOD, NOW);
    assert!(bench.held().is_empty());
    let effects = bench.send(&inbound(), BAD, NOW);
    assert_eq!(effects.produced.len(), 1, "something was forwarded");
    let [(1, row)] = &bench.held()[..] else { panic!("not one batch") };
    assert_eq!((row.reason.code.as_str(), row.reason.rows[0].row), ("ZGL-TTP-ROWS", 2));
    assert_eq!((row.publication_id.as_str(), row.kept), ("P1", true));
    assert!(effects.timers.iter().any(|timer| timer.due == NOW.plus(KEPT_MS)), "nothing will ever clear it");
}

#[test]
fn a_released_batch_is_judged_anew_as_a_submission_that_is_answered() {
    let mut bench = Bench::new();
    bench.send(&inbound(), BAD, NOW);
    let later = NOW.plus(86_400_000);
    let (reply, effects) = bench.order(QuarantineOrder::Release { number: 1 }, later);
    let Some(QuarantineReply::Released { submission }) = reply else { panic!("not released: {reply:?}") };
    assert_ne!(submission, MessageId([9; 16]), "the old submission has its final answer");
    let [due, again] = &effects.produced[..] else { panic!("expected two messages") };
    let opened: Opened = due.envelope.payload().unwrap();
    assert_eq!((opened.submission, opened.publication_id.as_str(), opened.accepted), (submission, "P1", later));
    let judged: Inbound = again.envelope.payload().unwrap();
    assert_eq!((again.channel.name, judged.submission), ("ttp.inbound", submission));
    assert_eq!(&again.envelope.attachment[..], BAD.as_bytes());
    assert_eq!(again.envelope.deadline, Some(later.plus(2 * 60 * 60 * 1_000)));
    assert!(bench.held().is_empty() && bench.head().held == 0);
    assert_eq!(bench.order(QuarantineOrder::Release { number: 1 }, later).0, Some(QuarantineReply::Unknown));
    // The project is as it was, so the batch stands still again, under a number of its own.
    let message = Message { number: 0, envelope: again.envelope.clone(), attempt: 0, job: None };
    bench.step(message, later);
    assert_eq!(bench.held()[0].0, 2);
}

#[test]
fn what_a_stranger_sent_is_remembered_without_its_content_and_what_is_for_no_project_not_at_all() {
    let mut bench = Bench::new();
    let stranger = Inbound { sender: "NIHII-HOSPITAL:71000931".parse().unwrap(), ..inbound() };
    bench.send(&stranger, GOOD, NOW);
    let text: Vec<u8> = bench.rows.values().flat_map(|value| value.to_vec()).collect();
    assert!(!String::from_utf8_lossy(&text).contains("85061511796"), "the content was kept");
    assert_eq!(bench.order(QuarantineOrder::Release { number: 1 }, NOW).0, Some(QuarantineReply::Empty));
    assert!(matches!(bench.order(QuarantineOrder::Drop { number: 1 }, NOW).0, Some(QuarantineReply::Dropped { .. })));
    let before = bench.rows.clone();
    let key = bench.key();
    let mut message = bench.message(&Inbound { project: "nothing".to_owned(), ..inbound() }, GOOD);
    message.envelope.partitionkey = key;
    bench.step(message, NOW);
    assert_eq!(bench.rows, before, "anybody fills the store with names that are no projects");
}

#[test]
fn strangers_push_nothing_out_that_an_officer_may_release() {
    let mut bench = Bench::new();
    bench.send(&inbound(), BAD, NOW);
    let stranger = Inbound { sender: "NIHII-HOSPITAL:71000931".parse().unwrap(), ..inbound() };
    for _ in 0..=HELD_MAX {
        bench.send(&stranger, GOOD, NOW);
    }
    assert_eq!(bench.held()[0].0, 1, "the batch that stood still is gone");
    assert!((bench.held().len() as u64) < HELD_MAX / 2, "strangers fill the list");
    bench.send(&inbound(), BAD, NOW);
    assert!(bench.held().last().unwrap().1.kept, "there is no room for a sender of the project");
}

#[test]
fn batches_are_gone_after_their_time_and_the_oldest_make_room() {
    let mut bench = Bench::new();
    for second in 0..105 {
        bench.send(&inbound(), BAD, NOW.plus(second * 1_000));
    }
    let (_, effects) = bench.order(QuarantineOrder::Clear, NOW.plus(KEPT_MS + 102_500));
    assert_eq!(
        (bench.held().len(), effects.timers[0].due),
        (5, NOW.plus(KEPT_MS + 102_500)),
        "a full look is the last"
    );
    let (_, effects) = bench.order(QuarantineOrder::Clear, NOW.plus(KEPT_MS + 102_500));
    assert_eq!((bench.held().len(), bench.head().held), (2, 2));
    assert_eq!(effects.timers[0].due, NOW.plus(KEPT_MS + 103_000), "the rest has no timer");
    bench.order(QuarantineOrder::Clear, NOW.plus(2 * KEPT_MS));
    assert!(bench.held().is_empty());
    assert_eq!(bench.rows.keys().filter(|(space, _)| *space == QUARANTINE.code).count(), 1, "contents were left");
    let first = bench.head().last + 1;
    for _ in 0..=HELD_MAX {
        bench.send(&inbound(), BAD, NOW.plus(2 * KEPT_MS));
    }
    assert_eq!((bench.held().len() as u64, bench.head().held), (HELD_MAX, HELD_MAX));
    assert_eq!(bench.held()[0].0, first + 1);
}

/// 2025-06-01 and 2029-06-01: before and after the project's period.
const EARLY: Millis = Millis(1_748_736_000_000);
const LATE: Millis = Millis(1_874_966_400_000);

#[test]
fn nothing_of_a_stranger_is_kept_whatever_else_is_wrong_with_the_project_or_the_batch() {
    let stranger = Inbound { sender: "NIHII-HOSPITAL:71000931".parse().unwrap(), ..inbound() };
    let is_kept = |bench: &Bench| {
        let text: Vec<u8> = bench.rows.values().flat_map(|value| value.to_vec()).collect();
        String::from_utf8_lossy(&text).contains("85061511796")
    };
    for (at, code) in [(EARLY, "ZGL-TTP-EARLY"), (LATE, "ZGL-TTP-EXPIRED")] {
        let mut bench = Bench::new();
        bench.send(&stranger, GOOD, at);
        assert_eq!((bench.held()[0].1.reason.code.as_str(), is_kept(&bench)), ("ZGL-TTP-SENDER", false), "{code}");
        bench.send(&inbound(), GOOD, at);
        assert_eq!((bench.held()[1].1.reason.code.as_str(), is_kept(&bench)), (code, true));
    }
    let mut late = Bench::new();
    let mut message = late.message(&stranger, GOOD);
    message.envelope.deadline = Some(NOW);
    late.step(message, NOW);
    assert!(!is_kept(&late), "a deadline that has passed");
    let mut barred = Bench::without_projects().with_project(false);
    barred.send(&stranger, GOOD, NOW);
    assert_eq!((barred.held()[0].1.reason.code.as_str(), is_kept(&barred)), ("ZGL-TTP-ALTERED", false));
    barred.send(&inbound(), GOOD, NOW);
    assert!(is_kept(&barred), "what a party sent is lost with the papers");
}
