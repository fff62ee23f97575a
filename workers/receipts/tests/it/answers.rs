//! One final answer for each recipient, the notices that follow, and the life that is kept.

use crate::{
    ALL, GP, ID, KEY, NONE, REGISTRY, address, answer, answered, notices, open, opened, payloads, refused, row, said,
};
use proptest::prelude::*;
use schemas::messages::{AckType, Answer, Deliver, Seen};
use zegel_core::Effects;
use zegel_core::slot::spaces;
use zegel_core::testing::Bench;
use zegel_receipts::{Receipts, State, What};

fn see(bench: &mut Bench<Receipts>, ack: AckType) -> Effects {
    let seen = Seen { submission: ID, recipient: address(REGISTRY), ack, at: bench.now };
    bench.deliver(KEY, &seen)
}

#[test]
fn an_opened_submission_waits_for_each_recipient() {
    let mut bench = open(ALL);
    let row = row(&mut bench);
    assert_eq!(row.recipients.iter().map(|r| r.state.clone()).collect::<Vec<_>>(), [State::Pending, State::Pending]);
    assert_eq!(row.deadline, row.accepted.plus(7_200_000));
    assert_eq!(row.life.iter().map(|event| event.what).collect::<Vec<_>>(), [What::Accepted]);
    assert_eq!(bench.timers.values().map(|timer| timer.due).collect::<Vec<_>>(), [row.accepted.plus(5_400_000)]);
}

#[test]
fn the_deadline_of_the_envelope_counts() {
    let mut bench = Bench::new(Receipts::default());
    let mut envelope = bench.envelope(KEY, &opened(&bench, NONE));
    envelope.deadline = Some(bench.now.plus(1_000_000));
    bench.deliver_envelope(envelope);
    assert_eq!(row(&mut bench).deadline, bench.now.plus(1_000_000));
}

#[test]
fn opening_again_changes_nothing() {
    let mut bench = open(ALL);
    answer(&mut bench, REGISTRY, Answer::Done);
    let again = opened(&bench, NONE);
    let effects = bench.deliver(KEY, &again);
    assert!(effects.changes.is_empty() && effects.timers.is_empty());
}

#[test]
fn a_positive_answer_is_told_when_wanted_and_a_negative_one_always() {
    for (wanted, told) in [(ALL, said(&[(REGISTRY, "Published")])), (NONE, vec![])] {
        let mut bench = open(wanted);
        let effects = answer(&mut bench, REGISTRY, Answer::Done);
        assert_eq!(notices(&bench, &effects), told);
        let effects = answer(&mut bench, GP, refused("802"));
        assert_eq!(notices(&bench, &effects), said(&[(GP, "802")]));
    }
}

#[test]
fn a_second_final_answer_is_ignored_and_counted() {
    let mut bench = open(ALL);
    answer(&mut bench, REGISTRY, Answer::Done);
    for second in [Answer::Done, refused("802"), Answer::StandBy] {
        assert!(answer(&mut bench, REGISTRY, second).produced.is_empty());
    }
    let row = row(&mut bench);
    assert_eq!((row.ignored, &row.recipients[0].state), (3, &State::Done));
}

#[test]
fn an_answer_for_nobody_is_ignored_and_counted() {
    let mut bench = open(ALL);
    assert!(answer(&mut bench, "CBE:0200000043", Answer::Done).produced.is_empty());
    let row = row(&mut bench);
    assert_eq!((row.ignored, row.recipients.len()), (1, 2));
}

#[test]
fn stand_by_is_not_final_and_not_told() {
    let mut bench = open(ALL);
    assert!(answer(&mut bench, REGISTRY, Answer::StandBy).produced.is_empty());
    assert_eq!(row(&mut bench).recipients[0].state, State::StandBy);
    let effects = answer(&mut bench, REGISTRY, Answer::Done);
    assert_eq!(notices(&bench, &effects), said(&[(REGISTRY, "Published")]));
}

#[test]
fn the_timer_goes_with_the_last_final_answer() {
    let mut bench = open(ALL);
    answer(&mut bench, REGISTRY, Answer::Done);
    assert_eq!(bench.timers.len(), 1);
    answer(&mut bench, GP, refused("802"));
    assert_eq!(bench.timers.len(), 0);
    assert!(see(&mut bench, AckType::Read).cancelled.is_empty(), "a timer goes once, not with each later message");
}

#[test]
fn receipts_are_told_once_each_and_kept_with_their_time() {
    let mut bench = open(ALL);
    let effects = see(&mut bench, AckType::Received);
    assert_eq!(notices(&bench, &effects), said(&[(REGISTRY, "Received")]));
    assert!(see(&mut bench, AckType::Received).produced.is_empty());
    let effects = see(&mut bench, AckType::Read);
    assert_eq!(notices(&bench, &effects), said(&[(REGISTRY, "Read")]));
    let known = row(&mut bench).recipients.remove(0);
    assert_eq!((known.received_at, known.read_at), (Some(bench.now), Some(bench.now)));
}

#[test]
fn receipts_that_are_not_wanted_are_kept_but_not_told() {
    let mut bench = open(NONE);
    assert!(see(&mut bench, AckType::Read).produced.is_empty());
    assert!(row(&mut bench).recipients[0].read_at.is_some());
}

#[test]
fn notices_have_the_same_id_when_they_say_the_same() {
    let ids = [open(ALL), open(ALL)].map(|mut bench| {
        let effects = answer(&mut bench, REGISTRY, Answer::Done);
        let seen = see(&mut bench, AckType::Read);
        [
            payloads::<Deliver>(&effects, "mailbox.deliver")[0].item,
            payloads::<Deliver>(&seen, "mailbox.deliver")[0].item,
        ]
    });
    assert_eq!(ids[0], ids[1]);
    assert_ne!(ids[0][0], ids[0][1]);
}

#[test]
fn a_notice_has_no_deadline_so_it_is_delivered_however_late() {
    let mut bench = open(ALL);
    let mut envelope = bench.envelope(KEY, &answered(&bench, REGISTRY, Answer::Done));
    envelope.deadline = Some(bench.now);
    let effects = bench.deliver_envelope(envelope);
    assert_eq!(effects.produced[0].envelope.deadline, None);
}

#[test]
fn an_answer_that_comes_before_its_submission_counts_when_it_is_opened() {
    let mut bench = Bench::new(Receipts::default());
    assert!(answer(&mut bench, REGISTRY, Answer::Done).produced.is_empty());
    answer(&mut bench, GP, refused("802"));
    answer(&mut bench, GP, Answer::Done);
    let opened = opened(&bench, ALL);
    let effects = bench.deliver(KEY, &opened);
    assert_eq!(notices(&bench, &effects), said(&[(REGISTRY, "Published"), (GP, "802")]));
    assert!(row(&mut bench).is_final() && bench.timers.is_empty());
    assert_eq!(row(&mut bench).ignored, 1);
}

#[test]
fn a_life_is_bounded_and_says_how_much_it_left_out() {
    let mut bench = open(NONE);
    for _ in 0..100 {
        answer(&mut bench, REGISTRY, Answer::StandBy);
    }
    let row = row(&mut bench);
    assert_eq!((row.life.len(), row.unrecorded), (64, 37));
}

#[test]
fn one_submission_is_one_row() {
    let mut bench = open(NONE);
    answer(&mut bench, REGISTRY, Answer::Done);
    assert_eq!(bench.rows(spaces::SUBMISSIONS), 1);
}

/// What may happen to a submission, in any order and as often as it likes.
#[derive(Debug, Clone)]
enum Event {
    Open,
    Answer(bool, u8),
    Timer,
    Wait(i64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => Just(Event::Open),
        4 => (any::<bool>(), 0..3u8).prop_map(|(first, kind)| Event::Answer(first, kind)),
        2 => Just(Event::Timer),
        1 => (0..9_000_000i64).prop_map(Event::Wait),
    ]
}

proptest! {
    #[test]
    fn each_recipient_gets_exactly_one_final_notice_in_any_order_of_events(
        events in proptest::collection::vec(event(), 0..30),
        batch in 1..6usize,
    ) {
        let mut bench = Bench::new(Receipts::default()).with_batch(batch);
        let mut told: Vec<(String, String)> = Vec::new();
        let last = [Event::Open, Event::Timer, Event::Timer];
        for event in events.into_iter().chain(last) {
            let effects = match event {
                Event::Open => {
                    let opened = opened(&bench, ALL);
                    bench.deliver(KEY, &opened)
                }
                Event::Answer(first, kind) => {
                    let given = [Answer::Done, Answer::StandBy, refused("802")][usize::from(kind)].clone();
                    answer(&mut bench, if first { REGISTRY } else { GP }, given)
                }
                Event::Timer if bench.timers.is_empty() => continue,
                Event::Timer => bench.fire(KEY, "deadline"),
                Event::Wait(ms) => {
                    bench.now = bench.now.plus(ms);
                    continue;
                }
            };
            prop_assert!(bench.timers.len() <= 1);
            told.extend(notices(&bench, &effects));
        }
        told.sort();
        let about: Vec<&str> = told.iter().map(|(recipient, _)| recipient.as_str()).collect();
        prop_assert_eq!(about, [REGISTRY, GP]);
        prop_assert!(row(&mut bench).is_final() && bench.timers.is_empty());
        prop_assert!(!row(&mut bench).alerted, "the incident let go of it");
    }
}
