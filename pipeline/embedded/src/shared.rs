//! What the writer and the subscribers both look at: per partition the last committed number and the newest messages in
//! memory, per slot how far its group is.
//!
//! The tail of a partition holds the newest messages that not every group has passed, contiguous up to the last committed
//! number, so that who keeps up is served without a query. All tails together hold a bounded number of bytes; whoever
//! falls further behind is served from the file.

use crate::metrics::Metrics;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use topology::Channel;
use zegel_core::slot::partition_of;
use zegel_core::{BatchLimits, Delivery, Slot};

/// Bytes that a message in a tail costs beside its body: number, key, id, and the handle of the body.
const OVERHEAD: usize = 96;

/// How long a write that found no room is remembered. Small writes may still fit where larger ones do not (into the
/// log's old pages), so the next success says nothing.
const NO_ROOM: Duration = Duration::from_secs(15);

/// See the module's header.
pub(crate) struct Shared {
    pub(crate) partitions: Vec<Partition>,
    /// For each channel code, the index of its first partition.
    first: Vec<Option<usize>>,
    tail_bytes: AtomicUsize,
    tail_limit: usize,
    closed: AtomicBool,
    /// When a write last found no room.
    no_room: Mutex<Option<Instant>>,
    pub(crate) metrics: Metrics,
}

/// One partition of a channel.
pub(crate) struct Partition {
    pub(crate) channel: &'static Channel,
    pub(crate) number: u16,
    /// The last committed number.
    pub(crate) last: AtomicU64,
    /// In the order of the channel's groups.
    pub(crate) groups: Vec<Progress>,
    pub(crate) arrived: Notify,
    tail: Mutex<VecDeque<Delivery>>,
}

/// How far one group is in one partition.
pub(crate) struct Progress {
    pub(crate) slot: Slot,
    /// As committed by steps.
    pub(crate) position: AtomicU64,
    /// As told by subscriptions, for consumers that keep no position in the store.
    pub(crate) settled: AtomicU64,
}

impl Progress {
    pub(crate) fn floor(&self) -> u64 {
        self.position.load(Ordering::Acquire).max(self.settled.load(Ordering::Acquire))
    }
}

impl Partition {
    /// Up to which number no group needs anything any more.
    pub(crate) fn floor(&self) -> u64 {
        self.groups.iter().map(Progress::floor).min().unwrap_or(0)
    }

    pub(crate) fn progress(&self, slot: Slot) -> Option<&Progress> {
        self.groups.iter().find(|progress| progress.slot == slot)
    }

    fn tail(&self) -> MutexGuard<'_, VecDeque<Delivery>> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    pub(crate) fn new(tail_limit: usize) -> Shared {
        let mut partitions = Vec::new();
        let mut first = Vec::new();
        for channel in topology::CHANNELS {
            let code = usize::from(channel.code);
            if first.len() <= code {
                first.resize(code + 1, None);
            }
            first[code] = Some(partitions.len());
            partitions.extend((0..channel.partitions).map(|number| Partition::new(channel, number)));
        }
        Shared {
            partitions,
            first,
            tail_bytes: AtomicUsize::new(0),
            tail_limit,
            closed: AtomicBool::new(false),
            no_room: Mutex::default(),
            metrics: Metrics::default(),
        }
    }

    /// The index of a partition of the topology.
    pub(crate) fn index(&self, channel: u16, partition: u16) -> Option<usize> {
        let first = (*self.first.get(usize::from(channel))?)?;
        let index = first + usize::from(partition);
        self.partitions.get(index).filter(|found| found.channel.code == channel).map(|_| index)
    }

    /// The index of the partition that a message of this channel and key goes to.
    pub(crate) fn target(&self, channel: u16, key: schemas::Key) -> Option<usize> {
        let first = (*self.first.get(usize::from(channel))?)?;
        let partitions = self.partitions.get(first)?.channel.partitions;
        Some(first + usize::from(partition_of(key, partitions)))
    }

    /// The slot's partition and its group's progress there, if the topology has them.
    pub(crate) fn find(&self, slot: Slot) -> Option<(&Partition, &Progress)> {
        let partition = &self.partitions[self.index(slot.channel, slot.partition)?];
        Some((partition, partition.progress(slot)?))
    }

    /// Messages of the channel that some group still needs.
    pub(crate) fn waiting(&self, channel: &Channel) -> u64 {
        let Some(first) = self.first.get(usize::from(channel.code)).copied().flatten() else { return 0 };
        let partitions = &self.partitions[first..first + usize::from(channel.partitions)];
        partitions.iter().map(|one| one.last.load(Ordering::Acquire).saturating_sub(one.floor())).sum()
    }

    /// Makes committed messages visible, in number order, and wakes who waits for them.
    pub(crate) fn publish(&self, index: usize, messages: Vec<Delivery>) {
        let Some(last) = messages.last().map(|message| message.number) else { return };
        let partition = &self.partitions[index];
        let added: usize = messages.iter().map(cost).sum();
        partition.tail().extend(messages);
        partition.last.store(last, Ordering::Release);
        let total = self.tail_bytes.fetch_add(added, Ordering::AcqRel) + added;
        partition.arrived.notify_waiters();
        if total > self.tail_limit {
            self.shrink();
        }
    }

    /// Forgets the messages that no group needs.
    pub(crate) fn pass(&self, partition: &Partition) {
        let floor = partition.floor();
        let mut freed = 0;
        let mut tail = partition.tail();
        while let Some(message) = tail.front().filter(|message| message.number <= floor) {
            freed += cost(message);
            tail.pop_front();
        }
        drop(tail);
        self.tail_bytes.fetch_sub(freed, Ordering::AcqRel);
    }

    /// Forgets the oldest messages of the longest tails until all fit again.
    fn shrink(&self) {
        while self.tail_bytes.load(Ordering::Acquire) > self.tail_limit {
            let Some(longest) = self.partitions.iter().max_by_key(|partition| partition.tail().len()) else { return };
            let mut tail = longest.tail();
            let half = tail.len().div_ceil(2);
            let freed: usize = tail.drain(..half).map(|message| cost(&message)).sum();
            drop(tail);
            self.tail_bytes.fetch_sub(freed, Ordering::AcqRel);
            if half == 0 {
                return;
            }
        }
    }

    /// A write found no room.
    pub(crate) fn note_no_room(&self) {
        *self.no_room.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Whether every write of the last while found room.
    pub(crate) fn has_room(&self) -> bool {
        let last = *self.no_room.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_none_or(|last| last.elapsed() > NO_ROOM)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Ends all subscriptions and refuses everything from now on.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        for partition in &self.partitions {
            partition.arrived.notify_waiters();
        }
    }
}

/// What a look into a tail gives.
pub(crate) enum Tail {
    /// The next messages.
    Batch(Vec<Delivery>),
    /// Nothing after the number is committed.
    Nothing,
    /// There is something, up to this number, but the tail begins later.
    OnFile(u64),
}

impl Partition {
    fn new(channel: &'static Channel, number: u16) -> Partition {
        let progress = |group: &topology::Group| Progress {
            slot: Slot { channel: channel.code, group: group.code, partition: number },
            position: AtomicU64::new(0),
            settled: AtomicU64::new(0),
        };
        Partition {
            channel,
            number,
            last: AtomicU64::new(0),
            groups: channel.groups.iter().map(progress).collect(),
            arrived: Notify::new(),
            tail: Mutex::default(),
        }
    }

    /// The messages after a number, within the limits.
    pub(crate) fn after(&self, number: u64, limits: BatchLimits) -> Tail {
        let tail = self.tail();
        let last = self.last.load(Ordering::Acquire);
        if last <= number {
            return Tail::Nothing;
        }
        let Some(skip) = tail.front().and_then(|front| (number + 1).checked_sub(front.number)) else {
            return Tail::OnFile(last);
        };
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        let mut room = Room::new(limits);
        Tail::Batch(tail.iter().skip(skip).take_while(|message| room.takes(message.body.len())).cloned().collect())
    }
}

/// Counts a batch against its limits.
pub(crate) struct Room {
    limits: BatchLimits,
    messages: usize,
    bytes: usize,
}

impl Room {
    pub(crate) fn new(limits: BatchLimits) -> Room {
        Room { limits, messages: 0, bytes: 0 }
    }

    /// Whether a body of this length still belongs to the batch. The first always does.
    pub(crate) fn takes(&mut self, bytes: usize) -> bool {
        let fits = self.messages == 0
            || (self.messages < self.limits.messages && self.bytes.saturating_add(bytes) <= self.limits.bytes);
        self.messages += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        fits
    }
}

fn cost(message: &Delivery) -> usize {
    OVERHEAD + message.body.len()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use schemas::{Key, MessageId};
    use zegel_core::Sealed;

    fn messages(numbers: std::ops::RangeInclusive<u64>) -> Vec<Delivery> {
        let body = Sealed::from_stored(Bytes::from(vec![0; 100]));
        numbers
            .map(|number| Delivery { number, key: Key([0; 16]), id: MessageId([0; 16]), body: body.clone() })
            .collect()
    }

    const MANY: BatchLimits = BatchLimits { messages: 1_000, bytes: 1_000_000 };

    #[test]
    fn a_tail_beyond_its_bytes_sends_the_slow_reader_to_the_file_and_serves_the_quick_one() {
        let shared = Shared::new(10 * (100 + OVERHEAD));
        shared.publish(0, messages(1..=20));
        let partition = &shared.partitions[0];
        assert!(matches!(partition.after(0, MANY), Tail::OnFile(20)), "number 1 was pushed out");
        assert!(matches!(partition.after(19, MANY), Tail::Batch(batch) if batch.len() == 1));
        assert!(matches!(partition.after(20, MANY), Tail::Nothing));
        assert!(shared.tail_bytes.load(Ordering::SeqCst) <= 10 * (100 + OVERHEAD));
    }

    #[test]
    fn what_every_group_passed_leaves_memory() {
        let shared = Shared::new(1 << 20);
        shared.publish(0, messages(1..=20));
        let partition = &shared.partitions[0];
        for group in &partition.groups {
            group.settled.store(15, Ordering::SeqCst);
        }
        shared.pass(partition);
        assert!(matches!(partition.after(15, MANY), Tail::Batch(batch) if batch.len() == 5));
        assert_eq!(shared.tail_bytes.load(Ordering::SeqCst), 5 * (100 + OVERHEAD));
    }

    #[test]
    fn a_batch_keeps_its_limits_and_lets_one_large_message_through() {
        let shared = Shared::new(1 << 20);
        shared.publish(0, messages(1..=20));
        let count = |messages, bytes| match shared.partitions[0].after(0, BatchLimits { messages, bytes }) {
            Tail::Batch(batch) => batch.len(),
            _ => 0,
        };
        assert_eq!((count(3, 1_000), count(100, 250), count(100, 10)), (3, 2, 1));
    }
}
