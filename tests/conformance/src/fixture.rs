//! What a suite needs of a backend: a fresh place, and to open and close it there as often as a scenario likes.

use crate::runner::Backend;
use bytes::Bytes;
use schemas::{Key, MessageId, Millis};
use std::time::Duration;
use topology::Channel;
use zegel_core::store::Claim;
use zegel_core::{Batch, BatchLimits, Delivery, Outgoing, OwnerId, Sealed, Slot, Subscription};

/// A place of its own for a backend: a folder, a schema, a prefix. Dropping it takes the place away.
#[async_trait::async_trait]
pub trait Fixture: Send + Sync + Sized + 'static {
    /// A place that nothing was stored in yet.
    fn fresh() -> Self;

    /// Opens the backend in this place; what an earlier one stored there is there. With `high_water`, every channel has
    /// that mark instead of the topology's.
    async fn open(&self, high_water: Option<u64>) -> Backend;

    /// Closes the backend, so that it can be opened again.
    async fn close(&self, backend: Backend);

    /// Closes and opens.
    async fn reopen(&self, backend: Backend) -> Backend {
        self.close(backend).await;
        self.open(None).await
    }
}

/// The channel of which [`message`] uses the first partition only, for what is said of a single partition.
pub const SINGLE: &str = "mailbox.deliver";
/// A channel with several partitions.
pub const SPREAD: &str = "mailbox.submitted";
/// More than any scenario stores.
pub const ALL: usize = 100_000;
/// No scenario is near this; one that is has lost a wake-up.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Batches that are as large as the scenario wants.
pub const WIDE: BatchLimits = BatchLimits { messages: 500, bytes: 16 << 20 };

/// A channel of the topology.
#[must_use]
pub fn channel(name: &str) -> &'static Channel {
    topology::channels::by_name(name).unwrap_or_else(|| panic!("the topology has no channel {name}"))
}

/// A slot of the channel's first group.
#[must_use]
pub fn slot(name: &str, partition: u16) -> Slot {
    let channel = channel(name);
    Slot { channel: channel.code, group: channel.groups[0].code, partition }
}

/// One of 256 owners.
#[must_use]
pub fn owner(n: u8) -> OwnerId {
    OwnerId([n; 16])
}

/// A key that is spread over partitions by `n`.
#[must_use]
pub fn key(n: u64) -> Key {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&n.to_be_bytes());
    Key(bytes)
}

/// An id that says `n`.
#[must_use]
pub fn id(n: u64) -> MessageId {
    let mut bytes = [0xAA; 16];
    bytes[8..].copy_from_slice(&n.to_be_bytes());
    MessageId(bytes)
}

/// The `n` of an [`id`].
#[must_use]
pub fn id_number(id: MessageId) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&id.0[8..]);
    u64::from_be_bytes(bytes)
}

/// Sealed bytes; the suites need no real sealing.
#[must_use]
pub fn sealed(text: &str) -> Sealed {
    Sealed::from_stored(Bytes::copy_from_slice(text.as_bytes()))
}

/// A message with the key and id of `n`; on [`SINGLE`] with a key of the first partition.
#[must_use]
pub fn message(name: &str, n: u64) -> Outgoing {
    let channel = channel(name);
    let spread = if name == SINGLE { u64::from(channel.partitions) } else { 1 };
    Outgoing { channel: channel.code, key: key(n.wrapping_mul(spread)), id: id(n), body: sealed(&format!("body {n}")) }
}

/// A message with the id of `n` and so many bytes.
#[must_use]
pub fn message_of(name: &str, n: u64, bytes: usize) -> Outgoing {
    Outgoing { body: Sealed::from_stored(Bytes::from(vec![n.to_be_bytes()[7]; bytes])), ..message(name, n) }
}

/// Publishes and expects that every message was taken.
pub async fn publish(backend: &Backend, batch: Vec<Outgoing>) {
    for (n, outcome) in backend.broker.publish(batch).await.into_iter().enumerate() {
        assert!(outcome.is_ok(), "message {n} of a batch was refused: {outcome:?}");
    }
}

/// Claims a slot at instant 0 for an hour and expects to get it.
pub async fn claim(backend: &Backend, slot: Slot, by: OwnerId) -> Claim {
    let claimed = backend.store.claim(slot, by, Millis(0), 3_600_000).await;
    claimed
        .unwrap_or_else(|error| panic!("claiming failed: {error}"))
        .unwrap_or_else(|| panic!("a free slot was refused"))
}

/// Subscribes to a slot.
pub async fn subscribe(backend: &Backend, slot: Slot, from: u64) -> Box<dyn Subscription> {
    backend.broker.subscribe(slot, from).await.unwrap_or_else(|error| panic!("subscribing failed: {error}"))
}

/// The next batch, or a panic when none comes.
pub async fn next(subscription: &mut dyn Subscription, limits: BatchLimits) -> Batch {
    match tokio::time::timeout(PATIENCE, subscription.next(limits)).await {
        Ok(Ok(batch)) => batch,
        Ok(Err(error)) => panic!("the next batch failed: {error}"),
        Err(_) => panic!("no batch came although messages wait: a wake-up was lost"),
    }
}

/// Takes batches, settling each, until so many messages came.
pub async fn take(subscription: &mut dyn Subscription, count: usize) -> Vec<Delivery> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let batch = next(subscription, WIDE).await;
        taken.extend(batch.deliveries);
        let settled = subscription.settle(batch.settlement).await;
        assert!(settled.is_ok(), "settling failed: {settled:?}");
    }
    assert_eq!(taken.len(), count, "more messages came than were published");
    taken
}

/// Expects numbers from `first` on without gap or repetition.
pub fn expect_numbers(deliveries: &[Delivery], first: u64) {
    for (expected, delivery) in (first..).zip(deliveries) {
        assert_eq!(delivery.number, expected, "a partition's numbers have a gap, a repetition or another order");
    }
}

/// Expects that nothing more is delivered for a while.
pub async fn expect_silence(subscription: &mut dyn Subscription) {
    let more = tokio::time::timeout(Duration::from_millis(30), subscription.next(WIDE)).await;
    assert!(more.is_err(), "a message came that nobody published");
}
