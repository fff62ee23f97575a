//! What every store must do.
//!
//! `for_each_store_scenario!` lists the scenarios; a backend's tests run each over fresh [`Fixture`]s.

mod leases;
mod model;
mod numbers;
mod rows;
mod steps;
mod waiting;

pub use leases::*;
pub use model::*;
pub use numbers::*;
pub use rows::*;
pub use steps::*;
pub use waiting::*;

use crate::fixture::{ALL, SINGLE, SPREAD, key, sealed, slot};
use bytes::Bytes;
use schemas::Millis;
use std::sync::Arc;
use zegel_core::slot::spaces::TEST;
use zegel_core::store::{DeadFilter, DeadLetter, Parked, SlotStats, Timer};
use zegel_core::{Read, Rows, Slot, Step, Store, StoreError, Write};

macro_rules! scenarios {
    ($($name:ident),+ $(,)?) => {
        /// Calls `$test!(name)` for every scenario of the store suite.
        #[macro_export]
        macro_rules! for_each_store_scenario {
            ($test:ident) => { $( $test!($name); )+ };
        }
    };
}

scenarios!(
    a_step_that_fails_half_way_changes_nothing,
    a_failing_step_spoils_no_other,
    what_is_committed_survives_a_restart,
    a_read_sees_a_step_wholly_or_not_at_all,
    an_owner_reads_its_own_last_commit,
    a_position_that_does_not_move_forward_is_refused,
    a_claim_raises_the_epoch_and_fences_the_old_owner,
    a_lease_is_not_taken_before_it_runs_out,
    a_slot_is_clean_only_when_its_owner_said_so,
    many_claim_one_slot_and_one_gets_it,
    owners_are_alive_until_their_time_runs_out,
    numbers_have_no_gaps_under_concurrent_producers,
    produced_messages_are_delivered_after_their_commit_only,
    numbers_go_on_after_everything_was_passed_and_a_restart,
    ranges_are_bounded_ordered_and_of_one_owner,
    the_last_write_of_a_row_counts,
    values_of_every_size_come_back,
    timers_come_due_in_order_and_are_replaced_and_cancelled,
    a_timer_that_fired_may_be_set_again_in_the_same_step,
    parked_messages_keep_everything_until_they_leave,
    a_dead_letter_is_resolved_once,
    dead_letters_are_listed_in_order_and_filtered,
    an_attempt_is_counted_across_restarts_until_the_message_is_done,
    statistics_count_what_is_there,
    random_steps_leave_what_the_reference_says,
);

/// Everything a store shows of the slots that the suite works on.
#[derive(Debug, PartialEq)]
struct Everything {
    rows: Vec<Rows>,
    timers: Vec<(Vec<Timer>, Option<Millis>)>,
    parked: Vec<Vec<Parked>>,
    dead: Vec<DeadLetter>,
    stats: Vec<SlotStats>,
}

/// Owners whose rows [`everything`] shows.
const OWNERS: u64 = 4;

async fn everything(store: &Arc<dyn Store>) -> Everything {
    let owners: Vec<Read> = (0..OWNERS).map(all_rows).collect();
    let mut timers = Vec::new();
    let mut parked = Vec::new();
    for slot in slots() {
        timers.push(ok(store.due_timers(slot, Millis(i64::MAX), ALL).await));
        let heads = ok(store.parked_heads(slot, 0, ALL).await);
        let found = ok(store.parked(slot, heads.iter().map(|head| head.number).collect()).await);
        for (head, parked) in heads.iter().zip(&found) {
            let pending = parked.job.as_ref().is_some_and(|job| job.result.is_none());
            let same = (head.number, head.key, head.due, head.bytes, head.job_pending)
                == (parked.number, parked.key, parked.due, parked.body.len(), pending);
            assert!(same, "a parked message's head says other things than the message");
        }
        assert_eq!(heads.len(), found.len(), "a parked head has no message");
        parked.push(found);
    }
    Everything {
        rows: ok(store.read(owners).await),
        timers,
        parked,
        dead: ok(store.dead(DeadFilter { limit: ALL, ..DeadFilter::default() }).await),
        stats: ok(store.stats().await).into_iter().filter(|line| slots().contains(&line.slot)).collect(),
    }
}

/// The slots that the suite's steps are of.
fn slots() -> Vec<Slot> {
    vec![slot(SINGLE, 0), slot(SPREAD, 0), slot(SPREAD, 1)]
}

fn all_rows(owner: u64) -> Read {
    Read::Range { space: TEST, owner: key(owner), from: Bytes::new(), to: None, limit: ALL, reverse: false }
}

fn one_row(owner: u64, sub: &'static str) -> Read {
    Read::One { space: TEST, owner: key(owner), sub: Bytes::from_static(sub.as_bytes()) }
}

fn write(owner: u64, sub: &str, value: Option<&str>) -> Write {
    Write { space: TEST, owner: key(owner), sub: Bytes::copy_from_slice(sub.as_bytes()), value: value.map(sealed) }
}

fn ok<T>(outcome: Result<T, StoreError>) -> T {
    outcome.unwrap_or_else(|error| panic!("the store failed: {error}"))
}

async fn commit(store: &Arc<dyn Store>, step: Step) {
    ok(store.commit(step).await);
}
