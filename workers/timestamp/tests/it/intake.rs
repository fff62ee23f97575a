//! Entries: answers, repeats, conflicts, and what a request may not be.

use crate::stage::{HOSPITAL, MINUTE, Stage, TEN, entry};
use bytes::Bytes;
use schemas::Millis;
use schemas::messages::{Entries, EntryAnswer};
use zegel_core::Interrupt;
use zegel_core::slot::spaces;
use zegel_core::testing::Bench;
use zegel_timestamp::{Aggregator, Schedule, Windows, queries, rows};

fn accepted(answer: &EntryAnswer) -> (Millis, u64) {
    match answer {
        EntryAnswer::Accepted { accepted, earliest_bag } => (*accepted, *earliest_bag),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_first_answer_is_given_again_for_ever_and_another_hash_is_refused() {
    let mut stage = Stage::usual();
    let first = stage.offer(&[entry(5, 1), entry(6, 1)]);
    assert_eq!(accepted(&first[0]), (TEN, 1));
    stage.now = TEN.plus(40 * MINUTE);
    let later = stage.offer(&[entry(5, 1), entry(5, 2), entry(7, 1)]);
    assert_eq!((&later[0], &later[1]), (&first[0], &EntryAnswer::Conflict));
    assert_eq!(accepted(&later[2]), (stage.now, 3)); // bag 2 holds the empty windows between
    let taken = stage.query(&queries::entry(stage.key, 7)).unwrap();
    assert_eq!((taken.accepted, taken.earliest_bag), (stage.now, 3));
    assert!(stage.query(&queries::entry(stage.key, 8)).is_none());
}

#[test]
fn a_reference_twice_in_one_request_is_taken_once() {
    let mut stage = Stage::usual();
    let answers = stage.offer(&[entry(5, 1), entry(5, 1), entry(5, 2)]);
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[2], EntryAnswer::Conflict);
    assert_eq!(stage.query(&queries::open_bag(stage.key)).unwrap().count, 1);
}

#[test]
fn references_that_no_bag_can_hold_are_refused_alone() {
    let mut stage = Stage::usual();
    let answers = stage.offer(&[entry(0, 1), entry(i64::MAX as u64, 1), entry(i64::MAX as u64 + 1, 1)]);
    assert_eq!((&answers[0], &answers[2]), (&EntryAnswer::Invalid, &EntryAnswer::Invalid));
    assert_eq!(accepted(&answers[1]).1, 1);
}

#[test]
fn a_request_that_is_not_what_it_announces_changes_nothing() {
    let mut stage = Stage::usual();
    for (count, bytes) in [(1, 39), (2, 40), (1, 41), (1_001, 40_040), (u32::MAX, 40)] {
        let mut envelope = stage.envelope(&Entries { hospital: HOSPITAL.parse().unwrap(), count });
        envelope.attachment = Bytes::from(vec![1; bytes]);
        let refused = stage.aggregate(envelope);
        assert!(matches!(refused, Err(Interrupt::Fail(failure)) if !failure.retryable), "{count} {bytes}");
    }
    assert!(stage.state.is_empty());
}

#[test]
fn enrolling_again_changes_nothing_and_begins_no_window() {
    let mut stage = Stage::usual();
    let first = stage.enrol();
    assert_eq!((first.sequence, first.since, first.window_end), (1, TEN, TEN.plus(5 * MINUTE)));
    stage.now = TEN.plus(MINUTE);
    let before = stage.state.clone();
    assert_eq!(stage.enrol(), first);
    assert_eq!(stage.state, before);
}

#[test]
fn a_request_costs_few_rows_however_many_entries_it_has() {
    let mut stage = Stage::usual();
    let entries: Vec<_> = (1..=1_000).map(|reference| entry(reference, 1)).collect();
    stage.offer(&entries);
    assert_eq!(stage.rows_of(spaces::ENTRIES), 1);
    assert_eq!(stage.rows_of(spaces::REFERENCES), 63);
    assert!(stage.most_changes < 70, "{} rows", stage.most_changes);
}

#[test]
fn a_clock_that_steps_back_moves_no_accepted_time_back() {
    let mut stage = Stage::usual();
    stage.now = TEN.plus(6 * MINUTE);
    let first = accepted(&stage.offer(&[entry(1, 1)])[0]);
    stage.now = TEN;
    let second = accepted(&stage.offer(&[entry(2, 1)])[0]);
    assert_eq!(second, first);
}

#[test]
fn a_tick_from_before_the_clock_stepped_back_still_closes_its_window() {
    let mut stage = Stage::usual();
    stage.offer(&[entry(1, 1)]);
    stage.now = TEN.plus(5 * MINUTE);
    let (_, tick) = stage.timer.take().unwrap();
    stage.now = TEN.plus(5 * MINUTE - 200);
    stage.aggregate(tick).unwrap();
    assert_eq!(stage.sealed.len(), 1);
    assert_eq!(stage.timer.as_ref().map(|(due, _)| *due), Some(TEN.plus(10 * MINUTE)));
}

#[test]
fn later_requests_of_one_batch_see_the_earlier_ones() {
    let mut bench = Bench::new(Aggregator::new(Windows::new(Schedule::Every(1_000)))).with_batch(10);
    let hospital: schemas::MailboxAddress = HOSPITAL.parse().unwrap();
    let key = zegel_core::names::address_key(&bench.keys, &hospital);
    let mut answers = Vec::new();
    for content in [1, 1, 2] {
        let mut envelope = bench.envelope(key, &Entries { hospital: hospital.clone(), count: 1 });
        envelope.attachment = rows::encode_entries(&[entry(9, content)]);
        let reply = bench.deliver_envelope(envelope).reply.unwrap();
        answers.extend(serde_json::from_slice::<Vec<EntryAnswer>>(&reply).unwrap());
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[2], EntryAnswer::Conflict);
    assert_eq!(bench.rows(spaces::ENTRIES), 1);
}
