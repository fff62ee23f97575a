//! The broker port: keep messages durably, deliver each partition's at least once and in order. Nothing else is asked.
//!
//! Contract:
//! - *Channels and partitions* come from the topology; a message's partition is [`partition_of`](crate::slot::partition_of)
//!   its key.
//! - *Durability at return.* [`Broker::publish`] returns when every message is durable (fsynced, or confirmed by a
//!   quorum), or says message by message which are not. A message that is reported as not durable may still appear (its
//!   outcome is unknown, except after [`BrokerError::Full`] and [`BrokerError::NoRoom`]); the producer repeats it under the same idempotency key.
//! - *Order and numbers.* Messages of a partition are delivered in the order of their numbers, which follow the order in
//!   which they became durable and have no gaps. `subscribe(slot, from)` starts with the first number above `from`.
//! - *At least once.* What was not settled is delivered again to the next subscription. A consumer knows a duplicate by
//!   its number.
//! - *Bounds.* A batch never exceeds its [`BatchLimits`] in messages and (except for a single larger message) in bytes.
//!   A channel above its high-water mark refuses producers at the edge with [`BrokerError::Full`]; messages that a step
//!   produces are never refused, or a cycle of channels would lock.
//! - *Closing.* Dropping a subscription ends it; many may be closed at the same time as others publish.
//! - An optional ability (replay from a point) is a trait of its own.

use crate::keys::Sealed;
use crate::slot::Slot;
use async_trait::async_trait;
use schemas::{Key, MessageId};

/// A message on its way into a channel. Everything but id and key is sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Channel code of the topology.
    pub channel: u16,
    /// Orders the message and chooses its partition.
    pub key: Key,
    /// The message's identity.
    pub id: MessageId,
    /// The envelope, sealed.
    pub body: Sealed,
}

/// A message on its way out of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Its number in its partition: 1, 2, 3 … without gaps.
    pub number: u64,
    /// Its key.
    pub key: Key,
    /// Its identity.
    pub id: MessageId,
    /// The envelope, sealed.
    pub body: Sealed,
}

/// How much one batch may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// Messages, at least 1.
    pub messages: usize,
    /// Bytes of sealed bodies; one message larger than this comes alone.
    pub bytes: usize,
}

/// Proof of what was handed out; settling consumes it, so settling twice does not compile.
#[derive(Debug)]
pub struct Settlement {
    /// The last number handed out.
    pub up_to: u64,
}

/// Some messages of one partition, in number order, and what is needed to settle them.
#[derive(Debug)]
pub struct Batch {
    /// At least one message.
    pub deliveries: Vec<Delivery>,
    /// To be given back when the messages' effects are committed.
    pub settlement: Settlement,
}

/// Why the broker could not do something.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BrokerError {
    /// The channel is above its high-water mark; try again after the given time.
    #[error("channel {channel} is above its high-water mark")]
    Full {
        /// Channel name.
        channel: &'static str,
        /// When to try again, milliseconds.
        retry_after_ms: u64,
    },
    /// There is no room for the message; it was not kept, and the same message may be published again.
    #[error("broker has no room: {0}")]
    NoRoom(String),
    /// The outcome is unknown or the broker is away; the same message may be published again.
    #[error("broker is not available: {0}")]
    Unavailable(String),
    /// The channel or partition does not exist.
    #[error("channel {0} is not in the topology")]
    UnknownChannel(u16),
    /// The broker is being closed.
    #[error("broker is closed")]
    Closed,
}

/// See the module's contract.
#[async_trait]
pub trait Broker: Send + Sync + 'static {
    /// Publishes at the edge. The result has one element per message, in order.
    async fn publish(&self, batch: Vec<Outgoing>) -> Vec<Result<(), BrokerError>>;

    /// Opens the stream of a slot's messages with numbers above `from`.
    async fn subscribe(&self, slot: Slot, from: u64) -> Result<Box<dyn Subscription>, BrokerError>;
}

/// A slot's stream of messages, held by the slot's owner.
#[async_trait]
pub trait Subscription: Send {
    /// The next messages, waiting until there is at least one. Cancel-safe: a dropped call loses nothing.
    async fn next(&mut self, limits: BatchLimits) -> Result<Batch, BrokerError>;

    /// Everything up to the settlement's number has had its effect; the broker may forget it for this group.
    async fn settle(&mut self, settlement: Settlement) -> Result<(), BrokerError>;
}
