//! The transport port: what is asked of a foreign broker (RabbitMQ, Kafka). It carries parcels durably and in order; numbers,
//! positions, retry, parking and dead letters stay in the Store ([`relayed`](crate::relayed) puts the two together).
//!
//! Contract:
//! - *Lanes.* Every partition of a channel has a numbered lane, which every group of the channel reads for itself, and,
//!   where the channel has edges, an intake lane, which one reader empties ([`INTAKE`](crate::slot::INTAKE)).
//! - *Durability at return.* [`Transport::send`] returns when every parcel is durable in its lane for all readers
//!   (confirmed by a quorum or by all in-sync replicas), or says parcel by parcel which are not. The outcome of such a
//!   parcel is unknown: it may still arrive.
//! - *At least once, in order.* What one call sent arrives in its order. A transport that lost its connection sends again
//!   from the lowest parcel whose outcome is unknown, in order, so that a stretch may arrive twice; readers know the
//!   repetition by the [`Mark`]. What was not settled arrives again at the next reader, in order. A node that goes down
//!   may have taken a later part of what it never confirmed and not the earlier, which then comes behind it; and what a
//!   lingering reader held may come behind what the next one was given. Readers of either lane wait for the gap.
//! - *Time.* Every await inside has a limit; a broker that blocks producers (a memory alarm, a full disk) is
//!   [`BrokerError::Full`] or [`BrokerError::Unavailable`], never an endless wait.
//! - *Bounds.* A reader holds at most what its limits say, in messages and bytes.
//! - *Declaration first.* Nothing is sent to objects of the broker that were not verified against the topology.

use crate::broker::{BatchLimits, BrokerError};
use crate::keys::Sealed;
use crate::slot::{INTAKE, Slot};
use async_trait::async_trait;
use schemas::{Key, MessageId};

/// One stream of parcels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lane {
    /// Channel code of the topology.
    pub channel: u16,
    /// 0-based partition.
    pub partition: u16,
    /// Whether it is the intake lane, of what the edge published and nobody has numbered yet.
    pub intake: bool,
}

impl Lane {
    /// The lane that a slot reads.
    #[must_use]
    pub fn of(slot: Slot) -> Lane {
        Lane { channel: slot.channel, partition: slot.partition, intake: slot.group == INTAKE }
    }

    /// Every lane of the topology.
    #[must_use]
    pub fn all() -> Vec<Lane> {
        let lanes = |channel: &'static topology::Channel, intake| {
            (0..channel.partitions).map(move |partition| Lane { channel: channel.code, partition, intake })
        };
        let with_edges = topology::CHANNELS.iter().filter(|channel| !channel.edges.is_empty());
        let numbered = topology::CHANNELS.iter().flat_map(|channel| lanes(channel, false));
        numbered.chain(with_edges.flat_map(|channel| lanes(channel, true))).collect()
    }
}

/// How a reader knows a repetition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Its number in its partition, given by the store. On a numbered lane.
    Number(u64),
    /// Its place in what one publisher sent into this lane. On an intake lane.
    Edge {
        /// Chosen at random by each publisher when it starts.
        session: [u8; 16],
        /// 1, 2, 3 … per publisher and lane.
        sequence: u64,
    },
}

/// A message on its way through a lane. Everything but key, id and mark is sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parcel {
    /// See [`Mark`].
    pub mark: Mark,
    /// The message's key.
    pub key: Key,
    /// The message's identity.
    pub id: MessageId,
    /// The envelope, sealed.
    pub body: Sealed,
}

/// A parcel that a reader was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// The reader's own count, ascending; settling names it.
    pub tag: u64,
    /// What arrived.
    pub parcel: Parcel,
}

/// A counter: its metric's name, what it says, and its value.
pub type Counter = (&'static str, &'static str, u64);

/// See the module's contract.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// Sends parcels into one lane. The result has one element per parcel, in order.
    async fn send(&self, lane: Lane, parcels: Vec<Parcel>) -> Vec<Result<(), BrokerError>>;

    /// Opens what this slot reads: the intake lane for the group [`INTAKE`], else the numbered lane. `after` is the last
    /// number that the slot has applied (0 on an intake lane). What was not settled comes, in order. A broker that keeps
    /// what was read gives everything with a higher number, whatever it believes was read.
    async fn receive(&self, slot: Slot, after: u64) -> Result<Box<dyn Arrivals>, BrokerError>;

    /// How many parcels wait for this slot: not settled, whether handed out or not. May lag by a second.
    async fn depth(&self, slot: Slot) -> Result<u64, BrokerError>;

    /// What it counts, for an exporter.
    fn counters(&self) -> Vec<Counter> {
        Vec::new()
    }

    /// Ends readers, lets what is being sent end, and closes the connections.
    async fn close(&self);
}

/// What one slot reads. Dropping it ends it; what was not settled comes again to the next reader.
#[async_trait]
pub trait Arrivals: Send {
    /// The next parcels, at least one, waiting for it. Cancel-safe: a dropped call loses nothing.
    async fn next(&mut self, limits: BatchLimits) -> Result<Vec<Arrival>, BrokerError>;

    /// Everything up to this tag has had its effect; the broker may forget it for this slot's group.
    async fn settle(&mut self, tag: u64) -> Result<(), BrokerError>;
}
