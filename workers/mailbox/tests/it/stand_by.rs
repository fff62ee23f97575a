//! Stand-by: waiting in order, entering when there is room, withdrawn before the deadline.

use crate::{REGISTRY, address, answers, box_row, deliver, document, notice, numbers, open_box, said, shelf};
use bytes::Bytes;
use schemas::messages::{BoxCommand, Deliver, Expire, OpenBox};
use schemas::{Key, MessageId, Millis};
use zegel_core::Effects;
use zegel_core::slot::spaces;
use zegel_core::testing::Bench;
use zegel_mailbox::{Boxes, Shelf, TOO_LATE_MS};

const HOUR: i64 = 3_600_000;

fn id(number: u8) -> MessageId {
    MessageId([number; 16])
}

/// Delivers ten bytes with this deadline.
fn with_deadline(bench: &mut Bench<Boxes>, owner: Key, number: u8, deadline: Millis) -> Effects {
    let mut envelope = bench.envelope(owner, &document(number, 10));
    envelope.attachment = Bytes::from(vec![number; 10]);
    envelope.deadline = Some(deadline);
    bench.deliver_envelope(envelope)
}

#[test]
fn documents_wait_when_the_box_is_full_and_enter_in_order_when_there_is_room() {
    let (mut bench, owner) = open_box(25);
    let mut said_so = Vec::new();
    for number in 1..=5 {
        said_so.extend(answers(&deliver(&mut bench, owner, &document(number, 10))));
    }
    assert_eq!(said_so, said(&[(1, "done"), (2, "done"), (3, "done"), (4, "stand-by"), (5, "stand-by")]));
    let row = box_row(&mut bench, owner);
    assert_eq!((row.bytes, row.count, row.stand_by_count, row.stand_by_bytes), (30, 3, 2, 20));
    bench.now = bench.now.plus(7);
    let effects = bench.deliver(owner, &BoxCommand::Delete { items: vec![id(1), id(2)] });
    assert_eq!(answers(&effects), said(&[(4, "done"), (5, "done")]));
    assert_eq!(shelf(&mut bench, owner, Shelf::Inbox)[2].1.received, bench.now, "received when it entered");
    assert_eq!(numbers(&mut bench, owner, Shelf::Inbox), [3, 4, 5]);
    let row = box_row(&mut bench, owner);
    assert_eq!((row.bytes, row.count, row.stand_by_count, row.stand_by_bytes), (30, 3, 0, 0));
}

#[test]
fn notices_ignore_the_capacity_and_take_no_room() {
    let (mut bench, owner) = open_box(10);
    deliver(&mut bench, owner, &document(1, 10));
    deliver(&mut bench, owner, &document(2, 10));
    deliver(&mut bench, owner, &Deliver { parts: document(3, 10).parts, ..notice(3) });
    assert_eq!(numbers(&mut bench, owner, Shelf::Inbox), [1, 3]);
    assert_eq!(box_row(&mut bench, owner).bytes, 10);
}

#[test]
fn a_waiting_message_is_not_in_the_box_for_its_owner() {
    let (mut bench, owner) = open_box(0);
    deliver(&mut bench, owner, &document(1, 10));
    for command in [BoxCommand::Read { item: id(1) }, BoxCommand::Delete { items: vec![id(1)] }] {
        let effects = bench.deliver(owner, &command);
        assert!(effects.changes.is_empty() && effects.produced.is_empty());
    }
    assert_eq!(numbers(&mut bench, owner, Shelf::StandBy), [1]);
}

#[test]
fn a_raised_capacity_lets_waiting_messages_in_a_hundred_a_step() {
    let (mut bench, owner) = open_box(0);
    for number in 0..250 {
        deliver(&mut bench, owner, &document(number, 10));
    }
    let mut effects = bench.deliver(owner, &OpenBox { address: address(REGISTRY), max_bytes: 100_000 });
    let mut steps = vec![answers(&effects).len()];
    let late = deliver(&mut bench, owner, &document(255, 10));
    assert_eq!(answers(&late), said(&[(255, "stand-by")]), "there is room, but others came first");
    while let Some(next) = effects.produced.pop().filter(|next| next.channel.name == "mailbox.deliver") {
        effects = bench.deliver_envelope(next.envelope);
        steps.push(answers(&effects).len());
    }
    assert_eq!(steps, [100, 100, 51]);
    assert_eq!(box_row(&mut bench, owner).stand_by_count, 0);
}

#[test]
fn the_box_withdraws_by_itself_what_still_waits_shortly_before_the_deadline() {
    let (mut bench, owner) = open_box(0);
    let start = bench.now;
    with_deadline(&mut bench, owner, 1, start.plus(2 * HOUR));
    with_deadline(&mut bench, owner, 2, start.plus(HOUR));
    with_deadline(&mut bench, owner, 4, start.plus(2 * HOUR));
    deliver(&mut bench, owner, &document(3, 3_000));
    assert_eq!(bench.timers.len(), 1, "one timer, for the earliest");
    let effects = bench.fire(owner, "stand-by");
    assert!(bench.now >= start.plus(HOUR - TOO_LATE_MS) && bench.now < start.plus(HOUR - TOO_LATE_MS + 30_000));
    assert_eq!(answers(&effects), said(&[(2, "ZGL-STANDBY")]));
    assert!(bench.timers.values().all(|timer| timer.message.envelope.deadline.is_none()), "it must fire however late");
    let effects = bench.fire(owner, "stand-by");
    assert_eq!(answers(&effects), said(&[(1, "ZGL-STANDBY"), (4, "ZGL-STANDBY")]));
    assert_eq!(numbers(&mut bench, owner, Shelf::StandBy), [3], "without a deadline it may wait");
    assert!(bench.timers.is_empty());
}

#[test]
fn expiring_a_submission_removes_its_waiting_message_and_its_content() {
    let (mut bench, owner) = open_box(0);
    deliver(&mut bench, owner, &document(1, 3_000));
    deliver(&mut bench, owner, &document(2, 3_000));
    let effects = bench.deliver(owner, &Expire { submission: id(1) });
    assert_eq!(answers(&effects), said(&[(1, "ZGL-STANDBY")]));
    assert_eq!((bench.rows(spaces::PAYLOADS), bench.rows(spaces::ITEM_PLACES)), (1, 1));
    assert!(bench.deliver(owner, &Expire { submission: id(1) }).produced.is_empty());
}

#[test]
fn a_message_in_the_box_does_not_expire() {
    let (mut bench, owner) = open_box(100);
    deliver(&mut bench, owner, &document(1, 10));
    assert!(bench.deliver(owner, &Expire { submission: id(1) }).produced.is_empty());
    assert_eq!(numbers(&mut bench, owner, Shelf::Inbox), [1]);
}

#[test]
fn what_waits_too_long_is_withdrawn_even_when_there_is_room_before_the_timer_fires() {
    let (mut bench, owner) = open_box(10);
    deliver(&mut bench, owner, &document(1, 10));
    let deadline = bench.now.plus(HOUR);
    with_deadline(&mut bench, owner, 2, deadline);
    with_deadline(&mut bench, owner, 3, deadline.plus(HOUR));
    bench.now = deadline;
    let effects = bench.deliver(owner, &BoxCommand::Delete { items: vec![id(1)] });
    assert_eq!(answers(&effects), said(&[(2, "ZGL-STANDBY"), (3, "done")]));
    let deadlines: Vec<_> = effects.produced.iter().filter_map(|answer| answer.envelope.deadline).collect();
    assert_eq!(deadlines, [deadline, deadline.plus(HOUR)], "each answer has its own submission's deadline");
    assert!(bench.timers.is_empty(), "nothing waits any more, so no timer does");
}

#[test]
fn many_overdue_messages_are_withdrawn_a_hundred_a_step() {
    let (mut bench, owner) = open_box(0);
    let deadline = bench.now.plus(HOUR);
    for number in 0..250 {
        with_deadline(&mut bench, owner, number, deadline);
    }
    let mut effects = bench.fire(owner, "stand-by");
    let mut withdrawn = answers(&effects).len();
    while let Some(next) = effects.produced.pop().filter(|next| next.channel.name == "mailbox.deliver") {
        effects = bench.deliver_envelope(next.envelope);
        withdrawn += answers(&effects).len();
    }
    assert_eq!((withdrawn, bench.rows(spaces::ITEMS)), (250, 0));
    assert!(bench.timers.is_empty());
}
