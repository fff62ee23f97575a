//! Boxes: entering once, content, folders, commands, receipts, what may not be shown.

use crate::{
    HOSPITAL, REGISTRY, TTP, address, answers, box_row, deliver, document, key, notice, numbers, open_box, part,
    payloads, said, shelf,
};
use bytes::Bytes;
use schemas::messages::{AckType, BoxCommand, CommandReply, Content, Deliver, Folder, OpenBox, Seen};
use schemas::{Key, MessageId};
use zegel_core::slot::spaces;
use zegel_core::testing::Bench;
use zegel_core::{Decision, Effects, Failure, Interrupt};
use zegel_mailbox::{Boxes, INLINE_MAX, PartContent, Shelf, TOO_LATE_MS, queries};

const ROOMY: u64 = 1_000_000;

fn id(number: u8) -> MessageId {
    MessageId([number; 16])
}

fn reply(effects: &Effects) -> (Vec<u8>, Vec<u8>) {
    let reply: CommandReply = serde_json::from_slice(effects.reply.as_ref().unwrap()).unwrap();
    let numbers = |items: Vec<MessageId>| items.into_iter().map(|item| item.0[0]).collect();
    (numbers(reply.applied), numbers(reply.unknown))
}

fn seen(effects: &Effects) -> Vec<AckType> {
    payloads::<Seen>(effects, "receipts.due").into_iter().map(|seen| seen.ack).collect()
}

#[test]
fn a_document_enters_the_inbox_and_is_answered_positively() {
    let (mut bench, owner) = open_box(ROOMY);
    let effects = deliver(&mut bench, owner, &document(1, 10));
    assert_eq!(answers(&effects), said(&[(1, "done")]));
    assert_eq!(effects.changes.len(), 3, "item, place and box: the budget of rows");
    let row = box_row(&mut bench, owner);
    assert_eq!((row.bytes, row.count, row.next_sequence), (10, 1, 2));
    let place = queries::row(&bench.read(&queries::place(owner, id(1)))).unwrap().unwrap();
    let found = queries::items(&bench.read(&queries::item(owner, place))).unwrap();
    assert_eq!(found[0].1.item, id(1));
}

#[test]
fn an_item_enters_a_box_once() {
    let (mut bench, owner) = open_box(ROOMY);
    deliver(&mut bench, owner, &document(1, 10));
    let effects = deliver(&mut bench, owner, &document(1, 10));
    assert!(effects.changes.is_empty() && effects.produced.is_empty());
}

#[test]
fn small_content_stays_in_the_row_and_large_content_gets_a_row_that_goes_with_it() {
    let (mut bench, owner) = open_box(ROOMY);
    deliver(&mut bench, owner, &document(1, INLINE_MAX));
    assert_eq!(bench.rows(spaces::PAYLOADS), 0);
    let two = Deliver { parts: vec![part(2_000, Content::Attached), part(49, Content::Attached)], ..document(2, 0) };
    deliver(&mut bench, owner, &two);
    assert_eq!(bench.rows(spaces::PAYLOADS), 2);
    let items = shelf(&mut bench, owner, Shelf::Inbox);
    assert_eq!(items[0].1.content(0), Some(PartContent::Bytes(vec![1; INLINE_MAX].into())));
    let Some(PartContent::Row(read)) = items[1].1.content(1) else { panic!("the content has a row") };
    assert_eq!(bench.read(&read)[0].1, Bytes::from(vec![2; 49]));
    bench.deliver(owner, &BoxCommand::Delete { items: vec![id(1), id(2)] });
    assert_eq!((bench.rows(spaces::PAYLOADS), bench.rows(spaces::ITEMS), bench.rows(spaces::ITEM_PLACES)), (0, 0, 0));
}

#[test]
fn an_attachment_that_is_not_what_the_parts_say_is_no_message() {
    let (mut bench, owner) = open_box(ROOMY);
    for size in [9, 11] {
        let mut envelope = bench.envelope(owner, &document(1, size));
        envelope.attachment = Bytes::from_static(b"0123456789");
        let failed = bench.decide(envelope.clone()).unwrap_err();
        assert_eq!(failed, Interrupt::Fail(Failure::permanent("ZGL-MSG-PAYLOAD")));
        assert_eq!(answers(&bench.give_up(envelope, "ZGL-MSG-PAYLOAD").unwrap()), said(&[(1, "ZGL-MSG-PAYLOAD")]));
    }
}

#[test]
fn a_document_for_an_unknown_box_is_refused_and_its_content_removed() {
    let mut bench = Bench::new(Boxes);
    let owner = key(&bench, REGISTRY);
    let stored = Deliver { parts: vec![part(9, Content::Stored(id(8)))], ..document(1, 0) };
    let effects = deliver(&mut bench, owner, &stored);
    assert_eq!(answers(&effects), said(&[(1, "802")]));
    assert_eq!((effects.changes[0].owner, effects.changes[0].value.as_ref()), (Key([8; 16]), None));
}

#[test]
fn a_notice_for_an_unknown_box_is_kept_as_a_dead_letter() {
    let mut bench = Bench::new(Boxes);
    let owner = key(&bench, HOSPITAL);
    let envelope = bench.envelope(owner, &notice(1));
    let decision = bench.decide(envelope.clone()).unwrap();
    let Decision::Dead { code, effects } = decision else { panic!("the notice is dead") };
    assert_eq!((code.as_str(), effects.changes.len()), ("ZGL-BOX-UNKNOWN", 0));
    // Replayed once the box is open, it arrives.
    bench.deliver(owner, &OpenBox { address: address(HOSPITAL), max_bytes: 1 });
    bench.deliver_envelope(envelope);
    assert_eq!(numbers(&mut bench, owner, Shelf::Inbox), [1]);
}

#[test]
fn a_document_that_comes_too_late_never_enters() {
    let (mut bench, owner) = open_box(ROOMY);
    for (early_ms, answer) in [(0, "ZGL-DEADLINE"), (1, "done")] {
        let number = u8::try_from(early_ms + 1).unwrap();
        let mut envelope = bench.envelope(owner, &document(number, 0));
        envelope.deadline = Some(bench.now.plus(TOO_LATE_MS + early_ms));
        assert_eq!(answers(&bench.deliver_envelope(envelope)), said(&[(number, answer)]));
    }
    assert_eq!(numbers(&mut bench, owner, Shelf::Inbox), [2]);
}

#[test]
fn a_notice_is_never_too_late() {
    let (mut bench, owner) = open_box(ROOMY);
    let mut envelope = bench.envelope(owner, &notice(1));
    envelope.deadline = Some(bench.now);
    bench.deliver_envelope(envelope);
    assert_eq!(numbers(&mut bench, owner, Shelf::Inbox), [1]);
}

#[test]
fn opening_a_box_again_changes_its_capacity_only() {
    let (mut bench, owner) = open_box(ROOMY);
    deliver(&mut bench, owner, &document(1, 10));
    let before = box_row(&mut bench, owner);
    bench.deliver(owner, &OpenBox { address: address(REGISTRY), max_bytes: 5 });
    assert_eq!(box_row(&mut bench, owner), zegel_mailbox::BoxRow { max_bytes: 5, ..before });
}

#[test]
fn moving_keeps_the_number_and_deleting_is_for_good() {
    let (mut bench, owner) = open_box(ROOMY);
    (1..=3).for_each(|number| drop(deliver(&mut bench, owner, &document(number, 10))));
    let move_to = |to, items: &[u8]| BoxCommand::Move { items: items.iter().map(|number| id(*number)).collect(), to };
    assert_eq!(reply(&bench.deliver(owner, &move_to(Folder::Bin, &[2, 9, 2]))), (vec![2], vec![9]));
    assert_eq!(shelf(&mut bench, owner, Shelf::Bin)[0].0, 2);
    assert_eq!(numbers(&mut bench, owner, Shelf::Inbox), [1, 3]);
    assert_eq!(reply(&bench.deliver(owner, &move_to(Folder::Sent, &[1]))), (vec![], vec![1]));
    bench.deliver(owner, &move_to(Folder::Inbox, &[2, 1]));
    assert_eq!(numbers(&mut bench, owner, Shelf::Inbox), [1, 2, 3]);
    let delete = BoxCommand::Delete { items: vec![id(1), id(1), id(3)] };
    assert_eq!(reply(&bench.deliver(owner, &delete)), (vec![1, 3], vec![]));
    let row = box_row(&mut bench, owner);
    assert_eq!((row.bytes, row.count), (10, 1));
    assert_eq!(reply(&bench.deliver(owner, &delete)), (vec![], vec![1, 3]));
}

#[test]
fn each_receipt_is_told_once_and_opening_means_received() {
    let (mut bench, owner) = open_box(ROOMY);
    deliver(&mut bench, owner, &document(1, 10));
    deliver(&mut bench, owner, &document(2, 10));
    let listed = BoxCommand::Listed { items: vec![id(1)] };
    assert_eq!(seen(&bench.deliver(owner, &listed)), [AckType::Received]);
    let again = bench.deliver(owner, &listed);
    assert!(again.produced.is_empty() && again.changes.is_empty(), "listing again writes nothing");
    assert_eq!(seen(&bench.deliver(owner, &BoxCommand::Read { item: id(1) })), [AckType::Read]);
    assert_eq!(seen(&bench.deliver(owner, &BoxCommand::Read { item: id(1) })), []);
    let opened = bench.deliver(owner, &BoxCommand::Read { item: id(2) });
    assert_eq!(seen(&opened), [AckType::Received, AckType::Read]);
}

#[test]
fn only_the_receipts_that_are_wanted_are_told() {
    let (mut bench, owner) = open_box(ROOMY);
    let mut quiet = document(1, 10);
    quiet.receipts.received = false;
    deliver(&mut bench, owner, &quiet);
    assert_eq!(seen(&bench.deliver(owner, &BoxCommand::Read { item: id(1) })), [AckType::Read]);
}

#[test]
fn ttp_work_answers_for_the_ttp_and_its_recipient_tells_the_sender_nothing() {
    let (mut bench, owner) = open_box(ROOMY);
    let work = Deliver { answers_for: Some(address(TTP)), ..document(1, 10) };
    let effects = deliver(&mut bench, owner, &work);
    let answered: Vec<schemas::messages::Answered> = payloads(&effects, "receipts.due");
    assert_eq!(answered[0].recipient, address(TTP));
    assert!(bench.deliver(owner, &BoxCommand::Read { item: id(1) }).produced.is_empty());
    let (_, item) = shelf(&mut bench, owner, Shelf::Inbox).remove(0);
    assert_eq!(item.hidden.answers, Some(id(1)), "what links the item stands in the hidden part alone");
}

#[test]
fn commands_beyond_a_hundred_items_or_for_no_box_apply_to_nothing_more() {
    let (mut bench, owner) = open_box(ROOMY);
    deliver(&mut bench, owner, &document(1, 10));
    let mut items: Vec<MessageId> = (50..150).map(id).collect();
    items.push(id(1));
    let (applied, unknown) = reply(&bench.deliver(owner, &BoxCommand::Delete { items }));
    assert_eq!((applied.len(), unknown.len(), unknown.last()), (0, 101, Some(&1)));
    let nobody = key(&bench, HOSPITAL);
    assert_eq!(reply(&bench.deliver(nobody, &BoxCommand::Read { item: id(1) })), (vec![], vec![1]));
}

#[test]
fn pages_go_both_ways_without_overlap() {
    let (mut bench, owner) = open_box(ROOMY);
    (1..=5).for_each(|number| drop(deliver(&mut bench, owner, &document(number, 0))));
    let mut page = |read| -> Vec<u64> { queries::items(&bench.read(&read)).unwrap().iter().map(|row| row.0).collect() };
    assert_eq!(page(queries::newest(owner, Shelf::Inbox, None, 2)), [5, 4]);
    assert_eq!(page(queries::newest(owner, Shelf::Inbox, Some(4), 2)), [3, 2]);
    assert_eq!(page(queries::oldest(owner, Shelf::Inbox, 3, 10)), [4, 5]);
    assert_eq!(page(queries::newest(owner, Shelf::Bin, None, 10)), [0; 0]);
}
