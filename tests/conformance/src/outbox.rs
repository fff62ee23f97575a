//! What a store that relays to a foreign broker must do besides.
//!
//! `for_each_outbox_scenario!` lists the scenarios. A backend's fixture says how its store is seen as an [`Outbox`].

use crate::fixture::{
    Fixture, SINGLE, SPREAD, WIDE, channel, claim, expect_numbers, key, message, message_of, owner, slot,
};
use crate::runner::Backend;
use std::sync::Arc;
use zegel_core::slot::{INTAKE, RELAY, partition_of};
use zegel_core::store::Progress;
use zegel_core::{BatchLimits, Delivery, Outbox, Slot, Step, StoreError};

/// A fixture whose stores are outboxes.
pub trait OutboxFixture: Fixture {
    /// The store of this backend, which this fixture opened.
    fn outbox(&self, backend: &Backend) -> Arc<dyn Outbox>;
}

macro_rules! scenarios {
    ($($name:ident),+ $(,)?) => {
        /// Calls `$test!(name)` for every scenario of the outbox suite.
        #[macro_export]
        macro_rules! for_each_outbox_scenario {
            ($test:ident) => { $( $test!($name); )+ };
        }
    };
}

scenarios!(
    what_a_step_produced_can_be_read_by_number,
    the_relay_and_the_intake_have_slots_of_their_own,
    what_is_confirmed_is_kept_until_it_is_applied,
);

async fn produce(backend: &Backend, count: u64) {
    let held = claim(backend, slot(SPREAD, 0), owner(1)).await;
    let mut step = Step::empty(held.slot, held.epoch);
    step.produced = (1..=count).map(|n| message(SINGLE, n)).collect();
    step.produced.push(message(SPREAD, 7));
    assert!(backend.store.commit(step).await.is_ok(), "a step that only produces failed");
}

async fn outgoing(outbox: &Arc<dyn Outbox>, after: u64, limits: BatchLimits) -> Vec<Delivery> {
    let found = outbox.outgoing(channel(SINGLE).code, 0, after, limits).await;
    found.unwrap_or_else(|error| panic!("reading what goes out failed: {error}"))
}

async fn progress(outbox: &Arc<dyn Outbox>) -> Vec<Progress> {
    let mut found = outbox.progress().await.unwrap_or_else(|error| panic!("progress failed: {error}"));
    found.sort_unstable();
    found
}

/// Numbers, limits, and how far each partition is.
pub async fn what_a_step_produced_can_be_read_by_number<F: OutboxFixture>() {
    let place = F::fresh();
    let backend = place.open(None).await;
    produce(&backend, 10).await;
    let outbox = place.outbox(&backend);
    let all = outgoing(&outbox, 0, WIDE).await;
    expect_numbers(&all, 1);
    let expected = message(SINGLE, 10);
    assert_eq!((all[9].key, all[9].id, &all[9].body), (expected.key, expected.id, &expected.body), "altered");
    let some = outgoing(&outbox, 4, BatchLimits { messages: 3, bytes: 1 << 20 }).await;
    assert_eq!(some, all[4..7], "a limit in messages or a starting number is not kept");
    let first = outgoing(&outbox, 0, BatchLimits { messages: 9, bytes: 1 }).await;
    assert_eq!(first, all[..1], "a message above the limit in bytes does not come alone");
    let mut found = progress(&outbox).await;
    found.retain(|one| one.last > 0);
    let spread = channel(SPREAD);
    let at =
        |name: &str, partition, last| Progress { channel: channel(name).code, partition, last, relayed: 0, applied: 0 };
    let mut expected = vec![at(SINGLE, 0, 10), at(SPREAD, partition_of(key(7), spread.partitions), 1)];
    expected.sort_unstable();
    assert_eq!(found, expected, "the partitions' progress is another");
    let relay = claim(&backend, Slot { group: RELAY, ..slot(SINGLE, 0) }, owner(1)).await;
    let stage = claim(&backend, slot(SINGLE, 0), owner(1)).await;
    for (held, position) in [(relay, 9), (stage, 4)] {
        let step = Step { position: Some(position), ..Step::empty(held.slot, held.epoch) };
        assert!(backend.store.commit(step).await.is_ok(), "a position was refused");
    }
    let moved = Progress { relayed: 9, applied: 4, ..at(SINGLE, 0, 10) };
    assert!(progress(&outbox).await.contains(&moved), "progress does not follow the positions");
}

/// Leases, epochs and positions of the slots that no group of the topology has.
pub async fn the_relay_and_the_intake_have_slots_of_their_own<F: OutboxFixture>() {
    let place = F::fresh();
    let mut backend = place.open(None).await;
    for group in [RELAY, INTAKE] {
        let slot = Slot { group, ..slot(SINGLE, 0) };
        let held = claim(&backend, slot, owner(1)).await;
        let step = Step { position: Some(5), ..Step::empty(slot, held.epoch) };
        assert!(backend.store.commit(step.clone()).await.is_ok(), "a commit of the {slot} was refused");
        let again = backend.store.commit(step).await;
        assert!(matches!(again, Err(StoreError::Position { .. })), "the {slot} went back: {again:?}");
        backend = place.reopen(backend).await;
        let next = claim(&backend, slot, owner(1)).await;
        assert_eq!((next.position, next.epoch > held.epoch), (5, true), "the {slot} forgot its position or epoch");
        let fenced = backend.store.commit(Step { position: Some(6), ..Step::empty(slot, held.epoch) }).await;
        assert!(matches!(fenced, Err(StoreError::Fenced { .. })), "an old owner of the {slot} commits: {fenced:?}");
    }
    let stats = backend.store.stats().await.unwrap_or_else(|error| panic!("statistics failed: {error}"));
    assert!(stats.iter().all(|line| line.slot.group < INTAKE), "slots of the relay are counted as stages");
}

/// A broker that was lost can be filled again.
pub async fn what_is_confirmed_is_kept_until_it_is_applied<F: OutboxFixture>() {
    let place = F::fresh();
    let backend = place.open(None).await;
    produce(&backend, 10).await;
    let relay = claim(&backend, Slot { group: RELAY, ..slot(SINGLE, 0) }, owner(1)).await;
    let step = Step { position: Some(10), ..Step::empty(relay.slot, relay.epoch) };
    assert!(backend.store.commit(step).await.is_ok(), "the relay's position was refused");
    let backend = place.reopen(backend).await;
    let kept = outgoing(&place.outbox(&backend), 0, message_limits()).await;
    expect_numbers(&kept, 1);
    assert_eq!(kept.len(), 10, "what is confirmed but not applied is gone");
}

fn message_limits() -> BatchLimits {
    BatchLimits { messages: 100, bytes: 100 * message_of(SINGLE, 1, 100).body.len() }
}
