//! What a sender hands over: once per PublicationId, to boxes or to the TTP, or refused with a reason.

use crate::{HOSPITAL, REGISTRY, TTP, address, answers, key, part, payloads};
use bytes::Bytes;
use schemas::messages::{Content, ContentType, Deliver, Inbound, ObjectRef, Opened, ReceiptsWanted, Submission};
use schemas::{Envelope, MessageId, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use zegel_core::slot::spaces;
use zegel_core::testing::Bench;
use zegel_core::{Effects, names};
use zegel_mailbox::{ANSWER_WITHIN_MS, PublicationRow, Submissions, queries};

const GP: &str = "SSIN:85061511796";

fn bench() -> Bench<Submissions> {
    Bench::new(Submissions::new(address(TTP)))
}

fn submission(bench: &Bench<Submissions>, recipients: &[&str]) -> Submission {
    Submission {
        submission: names::submission_id(&bench.keys, &address(HOSPITAL), "PUB1"),
        sender: address(HOSPITAL),
        recipients: recipients.iter().map(|recipient| address(recipient)).collect(),
        publication_id: "PUB1".into(),
        title: "results".into(),
        part: part(3, Content::Attached),
        receipts: ReceiptsWanted { published: true, received: true, read: false },
        meta: BTreeMap::from([("ward".into(), "4".into())]),
        project: None,
        handle: None,
        accepted: bench.now,
    }
}

fn envelope(bench: &Bench<Submissions>, submission: &Submission) -> Envelope {
    let mut envelope = bench.envelope(key(bench, HOSPITAL), submission);
    envelope.attachment = Bytes::from_static(b"abc");
    envelope.traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().ok();
    envelope
}

fn submit(bench: &mut Bench<Submissions>, submission: &Submission) -> Effects {
    let envelope = envelope(bench, submission);
    bench.deliver_envelope(envelope)
}

fn channels(effects: &Effects) -> Vec<&'static str> {
    effects.produced.iter().map(|produced| produced.channel.name).collect()
}

#[test]
fn a_submission_is_opened_before_it_is_delivered_to_each_recipient() {
    let mut bench = bench();
    let sent = submission(&bench, &[REGISTRY, GP, REGISTRY]);
    let effects = submit(&mut bench, &sent);
    assert_eq!(channels(&effects), ["receipts.due", "mailbox.deliver", "mailbox.deliver"]);
    let opened = &payloads::<Opened>(&effects, "receipts.due")[0];
    assert_eq!(opened.recipients, [address(REGISTRY), address(GP)]);
    let delivered: Vec<Deliver> = payloads(&effects, "mailbox.deliver");
    assert_ne!(delivered[0].item, delivered[1].item);
    assert_eq!(delivered[0].answers, Some(sent.submission));
    for produced in &effects.produced {
        assert_eq!(produced.envelope.deadline, Some(sent.accepted.plus(ANSWER_WITHIN_MS)));
        assert!(produced.envelope.traceparent.is_some());
    }
    assert_eq!(effects.produced[0].envelope.attachment.len(), 0);
    assert_eq!(&effects.produced[2].envelope.attachment[..], b"abc");
    assert_eq!(effects.produced[2].envelope.partitionkey, key(&bench, GP));
    assert_eq!((bench.rows(spaces::SENT), bench.rows(spaces::PUBLICATIONS)), (1, 1));
}

#[test]
fn a_repeated_submission_changes_nothing() {
    let mut bench = bench();
    let sent = submission(&bench, &[REGISTRY]);
    submit(&mut bench, &sent);
    let object = ObjectRef { name: Sha256([1; 32]), salt: Sha256([2; 32]), key_version: 1, size: 3 };
    let moved = Submission { part: part(3, Content::Object(object)), accepted: sent.accepted.plus(9), ..sent.clone() };
    let effects = submit(&mut bench, &moved);
    assert!(effects.produced.is_empty() && effects.changes.is_empty());
    let row: PublicationRow =
        queries::row(&bench.read(&queries::publication(key(&bench, HOSPITAL), sent.submission))).unwrap().unwrap();
    assert_eq!((row.submission, row.accepted), (sent.submission, sent.accepted));
}

#[test]
fn nothing_that_a_sender_chose_stands_in_the_place_of_a_row() {
    let mut bench = bench();
    let mut sent = submission(&bench, &[REGISTRY]);
    sent.publication_id = "85061511796".into();
    sent.submission = names::submission_id(&bench.keys, &sent.sender, &sent.publication_id);
    let effects = submit(&mut bench, &sent);
    assert_eq!(effects.changes.len(), 2);
    for change in &effects.changes {
        assert!(!change.sub.windows(11).any(|part| part == b"85061511796"), "in clear in {}", change.space.name);
    }
    assert!(submit(&mut bench, &sent).changes.is_empty(), "the row is not found again");
}

#[test]
fn a_publication_id_used_for_other_content_brings_one_error_each_and_nothing_else() {
    let mut bench = bench();
    let sent = submission(&bench, &[REGISTRY]);
    submit(&mut bench, &sent);
    let mut errors = BTreeSet::new();
    let changes: [fn(&mut Submission); 4] = [
        |other| other.part.digest = Sha256([9; 32]),
        |other| other.title.push('!'),
        |other| other.recipients = vec![address(GP)],
        |other| other.receipts.read = true,
    ];
    for change in changes {
        let mut other = sent.clone();
        change(&mut other);
        let effects = submit(&mut bench, &other);
        assert!(effects.changes.is_empty());
        assert_eq!(channels(&effects), ["mailbox.deliver"]);
        let error: &Deliver = &payloads(&effects, "mailbox.deliver")[0];
        assert_eq!((error.content_type, &error.recipient), (ContentType::Error, &address(HOSPITAL)));
        assert_eq!(error.notice.as_ref().unwrap().reason.as_ref().unwrap().code, "ZGL-PUB-REUSED");
        assert!(errors.insert(error.item), "two losers share one error message");
        let again: Vec<Deliver> = payloads(&submit(&mut bench, &other), "mailbox.deliver");
        assert_eq!(again[0].item, error.item, "one loser gets two error messages");
    }
}

#[test]
fn the_same_message_decided_twice_makes_the_same_error_item() {
    let (mut first, mut second) = (bench(), bench());
    let items = [&mut first, &mut second].map(|bench| {
        let sent = submission(bench, &[]);
        let mut envelope = envelope(bench, &sent);
        envelope.id = MessageId([5; 16]);
        let effects = bench.deliver_envelope(envelope);
        payloads::<Deliver>(&effects, "mailbox.deliver")[0].item
    });
    assert_eq!(items[0], items[1]);
}

#[test]
fn work_for_the_ttp_goes_to_its_project_with_its_content() {
    let mut bench = bench();
    let sent = Submission { project: Some("lab".into()), ..submission(&bench, &[TTP]) };
    let effects = submit(&mut bench, &sent);
    assert_eq!(channels(&effects), ["receipts.due", "ttp.inbound"]);
    let inbound: &Inbound = &payloads(&effects, "ttp.inbound")[0];
    assert_eq!((inbound.submission, &inbound.recipient), (sent.submission, &address(TTP)));
    assert_eq!(effects.produced[1].envelope.partitionkey, names::project_key(&bench.keys, "lab"));
    assert_eq!(&effects.produced[1].envelope.attachment[..], b"abc");
}

#[test]
fn what_breaks_a_rule_is_answered_negatively_for_each_recipient() {
    type Break = fn(&mut Submission);
    let rules: [(&str, Break); 9] = [
        ("ZGL-IN-FIELD", |s| s.project = Some("lab".into())),
        ("ZGL-IN-FIELD", |s| s.title = String::new()),
        ("ZGL-IN-FIELD", |s| s.title = "é".repeat(401)),
        ("ZGL-IN-FIELD", |s| s.publication_id = "12345678901234".into()),
        ("ZGL-IN-FIELD", |s| s.part.file_name = "x".repeat(256)),
        ("ZGL-IN-FIELD", |s| s.meta = BTreeMap::from([("k".into(), "v".repeat(251))])),
        ("ZGL-IN-FIELD", |s| s.meta = (0..101).map(|n| (n.to_string(), String::new())).collect()),
        ("ZGL-IN-FIELD", |s| s.part.content = Content::Stored(MessageId([1; 16]))),
        ("801", |s| s.part.size = 10 * 1024 * 1024 + 1),
    ];
    for (code, break_rule) in rules {
        let mut bench = bench();
        let mut sent = submission(&bench, &[REGISTRY, GP]);
        break_rule(&mut sent);
        let effects = submit(&mut bench, &sent);
        assert_eq!(channels(&effects), ["receipts.due"; 3], "{code}");
        let codes: Vec<String> = answers(&effects).into_iter().map(|(_, code)| code).collect();
        assert_eq!(codes, [code, code]);
        assert_eq!(bench.rows(spaces::SENT), 1);
    }
}

#[test]
fn limits_themselves_are_allowed_and_a_batch_may_be_large() {
    let mut bench = bench();
    let mut sent = submission(&bench, &[HOSPITAL]);
    sent.title = "é".repeat(400);
    sent.part.size = 10 * 1024 * 1024;
    assert_eq!(channels(&submit(&mut bench, &sent)), ["receipts.due", "mailbox.deliver"]);
    let mut batch = Submission { project: Some("lab".into()), ..submission(&bench, &[TTP]) };
    batch.publication_id = "PUB2".into();
    batch.part.size = 10_000_000_000;
    assert_eq!(channels(&submit(&mut bench, &batch)), ["receipts.due", "ttp.inbound"]);
}

#[test]
fn a_submission_that_is_given_up_is_answered_for_each_recipient() {
    let mut bench = bench();
    let sent = submission(&bench, &[REGISTRY, GP]);
    let given_up = envelope(&bench, &sent);
    let effects = bench.give_up(given_up.clone(), "ZGL-PANIC").unwrap();
    assert_eq!(channels(&effects), ["receipts.due"; 3]);
    assert!(answers(&effects).iter().all(|(_, code)| code == "ZGL-PANIC"));
    // Given up again, or after it had its effect, it says nothing more.
    assert!(bench.give_up(given_up, "ZGL-PANIC").unwrap().produced.is_empty());
}
