//! The alert at 90 minutes, the end at 2 hours, and what an outage leaves overdue.

use crate::{GP, KEY, NONE, REGISTRY, answer, notices, open, payloads, refused, row, said};
use schemas::messages::{AlertChange, Answer, Deadline, DeadlineStage};
use zegel_core::Effects;
use zegel_receipts::{INCIDENT_OVERDUE, State};

fn alerts(effects: &Effects) -> Vec<bool> {
    let changes: Vec<AlertChange> = payloads(effects, "alerts.raised");
    assert!(changes.iter().all(|change| change.incident == INCIDENT_OVERDUE && change.item == crate::ID));
    changes.into_iter().map(|change| change.raised).collect()
}

#[test]
fn an_answer_that_is_owed_after_ninety_minutes_raises_the_alert_and_sets_the_end() {
    let mut bench = open(NONE);
    let accepted = bench.now;
    assert_eq!(alerts(&bench.fire(KEY, "deadline")), [true]);
    assert_eq!(bench.now, accepted.plus(90 * 60_000));
    assert_eq!(bench.timers[&(KEY, "deadline")].due, accepted.plus(120 * 60_000 - 5_000));
    assert!(row(&mut bench).alerted);
}

#[test]
fn the_incident_lets_go_when_the_last_answer_comes() {
    let mut bench = open(NONE);
    bench.fire(KEY, "deadline");
    assert_eq!(alerts(&answer(&mut bench, REGISTRY, Answer::Done)), [true; 0]);
    assert_eq!(alerts(&answer(&mut bench, GP, refused("802"))), [false]);
    assert!(bench.timers.is_empty());
}

#[test]
fn what_has_no_answer_at_the_end_is_refused_with_what_it_waited_for() {
    let mut bench = open(NONE);
    answer(&mut bench, GP, Answer::StandBy);
    bench.fire(KEY, "deadline");
    let effects = bench.fire(KEY, "deadline");
    assert_eq!(notices(&bench, &effects), said(&[(REGISTRY, "ZGL-DEADLINE"), (GP, "ZGL-STANDBY")]));
    assert_eq!(alerts(&effects), [false]);
    assert!(answer(&mut bench, REGISTRY, Answer::Done).produced.is_empty(), "a late answer changes nothing");
    assert!(matches!(row(&mut bench).recipients[0].state, State::Refused { .. }));
}

#[test]
fn after_an_outage_what_is_overdue_is_answered_at_once() {
    let mut bench = open(NONE);
    bench.now = bench.now.plus(24 * 3_600_000);
    let start = bench.now;
    bench.fire(KEY, "deadline");
    let effects = bench.fire(KEY, "deadline");
    assert_eq!(notices(&bench, &effects).len(), 2);
    assert_eq!(bench.now, start, "no timer was set into the future");
}

#[test]
fn a_timer_that_fires_after_the_last_answer_does_nothing() {
    let mut bench = open(NONE);
    answer(&mut bench, REGISTRY, Answer::Done);
    answer(&mut bench, GP, Answer::Done);
    for stage in [DeadlineStage::Alert, DeadlineStage::Expire, DeadlineStage::Final] {
        let effects = bench.deliver(KEY, &Deadline { submission: crate::ID, stage });
        assert!(effects.changes.is_empty() && effects.produced.is_empty() && effects.timers.is_empty());
    }
}

#[test]
fn one_alert_for_one_submission_however_often_its_timer_fires() {
    let mut bench = open(NONE);
    assert_eq!(alerts(&bench.fire(KEY, "deadline")), [true]);
    let again = Deadline { submission: crate::ID, stage: DeadlineStage::Alert };
    assert_eq!(alerts(&bench.deliver(KEY, &again)), [true; 0]);
    assert_eq!(bench.timers.len(), 1);
}
