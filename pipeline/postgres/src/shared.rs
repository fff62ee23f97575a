//! What this process knows of every partition without asking: the last number and how far each group is, and who waits.
//!
//! Numbers only grow. They are moved by this process's own commits at once, and by a look at the database (see
//! [`watch`](crate::watch)) for what other processes did.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::Notify;
use topology::Channel;
use zegel_core::Slot;
use zegel_core::slot::partition_of;

/// See the module's header.
pub(crate) struct Shared {
    pub(crate) partitions: Vec<Partition>,
    /// For each channel code, the index of its first partition.
    first: Vec<Option<usize>>,
    closed: AtomicBool,
    /// Wakes the tasks of the store when it is closed.
    pub(crate) ended: Notify,
}

/// One partition of a channel.
pub(crate) struct Partition {
    pub(crate) channel: &'static Channel,
    pub(crate) number: u16,
    /// The last committed number that this process has heard of.
    pub(crate) last: AtomicU64,
    /// Up to where messages are gone, as far as this process has heard.
    pub(crate) trimmed: AtomicU64,
    /// In the order of the channel's groups.
    pub(crate) groups: Vec<Progress>,
    pub(crate) arrived: Notify,
}

/// How far one group is in one partition.
pub(crate) struct Progress {
    pub(crate) slot: Slot,
    /// As committed by steps.
    pub(crate) position: AtomicU64,
    /// As told by subscriptions, for consumers that keep no position in the store.
    pub(crate) settled: AtomicU64,
}

impl Partition {
    /// Up to which number no group needs anything any more.
    pub(crate) fn floor(&self) -> u64 {
        let floor =
            |group: &Progress| group.position.load(Ordering::Acquire).max(group.settled.load(Ordering::Acquire));
        self.groups.iter().map(floor).min().unwrap_or(0)
    }

    /// Messages up to this number are committed.
    pub(crate) fn grew(&self, last: u64) {
        if self.last.fetch_max(last, Ordering::AcqRel) < last {
            self.arrived.notify_waiters();
        }
    }
}

impl Shared {
    pub(crate) fn new() -> Shared {
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
        Shared { partitions, first, closed: AtomicBool::new(false), ended: Notify::new() }
    }

    /// A partition of the topology.
    pub(crate) fn partition(&self, channel: u16, partition: u16) -> Option<&Partition> {
        let first = (*self.first.get(usize::from(channel))?)?;
        self.partitions.get(first + usize::from(partition)).filter(|found| found.channel.code == channel)
    }

    /// The partition that a message of this channel and key goes to.
    pub(crate) fn target(&self, channel: u16, key: schemas::Key) -> Option<&Partition> {
        let partitions = self.partition(channel, 0)?.channel.partitions;
        self.partition(channel, partition_of(key, partitions))
    }

    /// The slot's partition and its group's progress there, if the topology has them.
    pub(crate) fn find(&self, slot: Slot) -> Option<(&Partition, &Progress)> {
        let partition = self.partition(slot.channel, slot.partition)?;
        Some((partition, partition.groups.iter().find(|progress| progress.slot == slot)?))
    }

    /// A step moved the slot's position.
    pub(crate) fn moved(&self, slot: Slot, position: u64) {
        if let Some((_, progress)) = self.find(slot) {
            progress.position.fetch_max(position, Ordering::AcqRel);
        }
    }

    /// Messages of the channel that some group still needs.
    pub(crate) fn waiting(&self, channel: &Channel) -> u64 {
        let partitions = (0..channel.partitions).filter_map(|number| self.partition(channel.code, number));
        partitions.map(|one| one.last.load(Ordering::Acquire).saturating_sub(one.floor())).sum()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Ends all subscriptions and tasks, and refuses everything from now on.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.ended.notify_waiters();
        for partition in &self.partitions {
            partition.arrived.notify_waiters();
        }
    }
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
            trimmed: AtomicU64::new(0),
            groups: channel.groups.iter().map(progress).collect(),
            arrived: Notify::new(),
        }
    }
}
