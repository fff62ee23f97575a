//! The store port: state, positions, numbered messages, timers, parking, dead letters and leases, in one commit.
//!
//! Contract:
//! - *One commit.* [`Store::commit`] applies a [`Step`] wholly or not at all and returns when it is durable. Produced
//!   messages get the next numbers of their target partitions inside the commit, without gaps, in commit order.
//! - *Ownership.* A slot belongs to one owner at a time by a lease. [`Store::claim`] raises the slot's epoch and clears
//!   its clean flag; a commit with another epoch than the slot's fails with [`StoreError::Fenced`] and changes nothing.
//! - *Isolation.* One [`Store::read`] call sees one consistent, committed state. Only a slot's owner writes the rows of
//!   the keys of its slot, so an owner always reads its own last commit.
//! - *Bounds.* Reads carry limits; nothing returns more than it was asked for.
//! - *Failure.* After any error nothing of the step is visible. [`StoreError::is_retryable`] says whether the same step may
//!   succeed later.

use crate::broker::{BatchLimits, Delivery, Outgoing};
use crate::keys::Sealed;
use crate::slot::{OwnerId, Slot, Space};
use async_trait::async_trait;
use bytes::Bytes;
use schemas::{Key, MessageId, Millis};

/// A read that a worker declares or asks for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Read {
    /// One row.
    One {
        /// Which space.
        space: Space,
        /// Which owner.
        owner: Key,
        /// Which row of the owner; empty where an owner has one row.
        sub: Bytes,
    },
    /// Rows of one owner with `from <= sub < to`, in order of `sub` or backwards.
    Range {
        /// Which space.
        space: Space,
        /// Which owner.
        owner: Key,
        /// First sub, inclusive.
        from: Bytes,
        /// Last sub, exclusive; none means to the end.
        to: Option<Bytes>,
        /// At most so many rows.
        limit: usize,
        /// From the end backwards.
        reverse: bool,
    },
}

/// What one [`Read`] found: (sub, value) in order; at most one row for [`Read::One`].
pub type Rows = Vec<(Bytes, Sealed)>;

/// A change of one state row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Which space.
    pub space: Space,
    /// Which owner.
    pub owner: Key,
    /// Which row.
    pub sub: Bytes,
    /// The new value; none deletes the row.
    pub value: Option<Sealed>,
}

/// A change of a timer. A timer is (slot, key, name); setting it again replaces it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TimerChange {
    /// At `due`, the owner of the slot produces the message.
    Set {
        /// Whose timer.
        key: Key,
        /// Which of the key's timers.
        name: &'static str,
        /// When.
        due: Millis,
        /// What is produced then.
        message: Outgoing,
    },
    /// The reason is gone. Cancelling a timer that is not there is no error.
    Cancel {
        /// Whose timer.
        key: Key,
        /// Which.
        name: String,
    },
}

/// A timer that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timer {
    /// Whose timer.
    pub key: Key,
    /// Which.
    pub name: String,
    /// When it was due.
    pub due: Millis,
    /// What is produced.
    pub message: Outgoing,
}

/// A job of a parked message: what to do outside the step, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkedJob {
    /// What the executor is to do, sealed.
    pub spec: Sealed,
    /// What came of it, sealed; none while it has not ended.
    pub result: Option<Sealed>,
    /// How often it was started as a suspect, after an unclean end of its owner; raised and committed before each such
    /// start, and 0 again when one has ended.
    pub starts: u32,
}

/// A message that waits, kept in the store with everything that is needed to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parked {
    /// Its number in the slot's partition.
    pub number: u64,
    /// Its key.
    pub key: Key,
    /// Its identity.
    pub id: MessageId,
    /// The envelope, sealed.
    pub body: Sealed,
    /// When it is to be tried again; [`Millis::NEVER`] waits for its job, its predecessor, or an operator.
    pub due: Millis,
    /// Attempts that failed so far.
    pub attempt: u32,
    /// Its job, if it waits for one.
    pub job: Option<ParkedJob>,
}

/// What an owner keeps in memory of a parked message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParkedHead {
    /// Its number.
    pub number: u64,
    /// Its key.
    pub key: Key,
    /// When it is to be tried again.
    pub due: Millis,
    /// Length of the sealed envelope.
    pub bytes: usize,
    /// Whether it has a job without a result.
    pub job_pending: bool,
}

/// A message that will not be tried again unless an operator replays it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Where it died.
    pub slot: Slot,
    /// Its number there.
    pub number: u64,
    /// Its key.
    pub key: Key,
    /// Its identity.
    pub id: MessageId,
    /// The envelope, sealed.
    pub body: Sealed,
    /// A code of `schemas::codes`; never a value.
    pub code: String,
    /// How many attempts it had.
    pub attempts: u32,
    /// When.
    pub at: Millis,
}

/// All that one step changes. See [`Store::commit`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Whose step.
    pub slot: Slot,
    /// The epoch of the owner's lease.
    pub epoch: u64,
    /// The last number applied, when it moved. A position that is not above the stored one fails with
    /// [`StoreError::Position`].
    pub position: Option<u64>,
    /// State rows.
    pub writes: Vec<Write>,
    /// Messages, in order.
    pub produced: Vec<Outgoing>,
    /// Timers set and cancelled.
    pub timers: Vec<TimerChange>,
    /// Timers that fired; their messages are among `produced`.
    pub fired: Vec<(Key, String)>,
    /// Messages parked, or parked again with other values.
    pub parked: Vec<Parked>,
    /// Numbers that leave the parking place.
    pub unparked: Vec<u64>,
    /// Messages given up.
    pub dead: Vec<DeadLetter>,
}

impl Step {
    /// A step that changes nothing yet.
    #[must_use]
    pub fn empty(slot: Slot, epoch: u64) -> Step {
        Step {
            slot,
            epoch,
            position: None,
            writes: Vec::new(),
            produced: Vec::new(),
            timers: Vec::new(),
            fired: Vec::new(),
            parked: Vec::new(),
            unparked: Vec::new(),
            dead: Vec::new(),
        }
    }
}

/// A slot that was claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// Which slot.
    pub slot: Slot,
    /// Every commit names it.
    pub epoch: u64,
    /// The last number applied.
    pub position: u64,
    /// Whether the previous owner released it after settling; when not, the next messages are suspects.
    pub clean: bool,
}

/// How full a channel's partition is, per slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotStats {
    /// Which slot.
    pub slot: Slot,
    /// The partition's last number.
    pub last: u64,
    /// The last number applied.
    pub position: u64,
    /// Parked messages.
    pub parked: u64,
    /// Dead messages that were not replayed or dropped.
    pub dead: u64,
    /// Timers that wait.
    pub timers: u64,
}

/// Why the store could not do something.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// Another owner has claimed the slot; stop working on it.
    #[error("slot {slot} belongs to another owner now")]
    Fenced {
        /// Which slot.
        slot: Slot,
    },
    /// The step's position is not above the stored one: its messages were applied already.
    #[error("slot {slot} is at {stored}, the step says {step}")]
    Position {
        /// Which slot.
        slot: Slot,
        /// What is stored.
        stored: u64,
        /// What the step says.
        step: u64,
    },
    /// The disk is full or the database refuses to grow; nothing was changed, the same step may succeed later.
    #[error("store is full: {0}")]
    Full(String),
    /// The store is away, busy or read-only; nothing is known to have changed.
    #[error("store is not available: {0}")]
    Unavailable(String),
    /// A page or a row is not what was written; an operator is needed.
    #[error("store is damaged: {0}")]
    Damaged(String),
    /// The store is being closed.
    #[error("store is closed")]
    Closed,
}

impl StoreError {
    /// Whether the same call may succeed later without an operator.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, StoreError::Full(_) | StoreError::Unavailable(_))
    }
}

/// Which dead letters are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DeadFilter {
    /// Only this channel.
    pub channel: Option<u16>,
    /// Only this one.
    pub id: Option<MessageId>,
    /// Continue after this (channel, partition, number).
    pub after: Option<(u16, u16, u64)>,
    /// At most so many.
    pub limit: usize,
}

/// See the module's contract.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Claims a slot until `now + ttl_ms`, unless another owner's lease has not run out; then none.
    async fn claim(&self, slot: Slot, owner: OwnerId, now: Millis, ttl_ms: i64) -> Result<Option<Claim>, StoreError>;

    /// Extends the lease. Fails with [`StoreError::Fenced`] when the epoch is no longer the slot's.
    async fn renew(&self, slot: Slot, epoch: u64, until: Millis) -> Result<(), StoreError>;

    /// Gives the slot up; `clean` says that everything handed out was committed and settled.
    async fn release(&self, slot: Slot, epoch: u64, clean: bool) -> Result<(), StoreError>;

    /// Applies a step. See the module's contract.
    async fn commit(&self, step: Step) -> Result<(), StoreError>;

    /// Records durably that an attempt at this suspect message begins, and returns how many began, this one included. Forgotten
    /// when the position passes the message, or when it leaves the parking place. No message has the number 0: it counts
    /// owners in a row that ended uncleanly, and is forgotten with a clean release.
    async fn begin_attempt(&self, slot: Slot, epoch: u64, number: u64) -> Result<u32, StoreError>;

    /// Answers several reads from one consistent state, in order.
    async fn read(&self, reads: Vec<Read>) -> Result<Vec<Rows>, StoreError>;

    /// Timers of the slot that are due, oldest first, and when the next one after them is due.
    async fn due_timers(
        &self,
        slot: Slot,
        now: Millis,
        limit: usize,
    ) -> Result<(Vec<Timer>, Option<Millis>), StoreError>;

    /// What is parked in the slot, in number order, after a number; at most `limit`.
    async fn parked_heads(&self, slot: Slot, after: u64, limit: usize) -> Result<Vec<ParkedHead>, StoreError>;

    /// Parked messages by number; those that are not there are left out.
    async fn parked(&self, slot: Slot, numbers: Vec<u64>) -> Result<Vec<Parked>, StoreError>;

    /// Dead letters in order of (channel, partition, number).
    async fn dead(&self, filter: DeadFilter) -> Result<Vec<DeadLetter>, StoreError>;

    /// Takes a dead letter away and, when `again` is given, produces that message in the same commit. False when it was
    /// not there (any more), so a replay happens once. The parked row of the same slot and number, by which a dead message
    /// holds its key, goes with it: what waits behind it goes on when the owner looks at its parked heads again.
    async fn resolve_dead(&self, slot: Slot, number: u64, again: Option<Outgoing>) -> Result<bool, StoreError>;

    /// Whether writes find room, as far as is known without writing: no for a while after one did not. A store that cannot
    /// tell says yes.
    fn has_room(&self) -> bool {
        true
    }

    /// One line per slot that exists.
    async fn stats(&self) -> Result<Vec<SlotStats>, StoreError>;

    /// Says that this owner serves this group until `until`, and returns every owner of the group whose time has not run
    /// out at `now`, this one included, in ascending order. A time that lies before `now` takes the owner off the list.
    /// This is what the division of slots among processes rests on; who owns a slot is decided by [`Store::claim`] alone.
    async fn announce(
        &self,
        group: u16,
        owner: OwnerId,
        now: Millis,
        until: Millis,
    ) -> Result<Vec<OwnerId>, StoreError>;
}

/// A store whose produced messages are relayed to a foreign broker: they can be read by partition and number.
///
/// Besides the groups of the topology such a store has, for every partition, the slots of [`RELAY`](crate::slot::RELAY)
/// and [`INTAKE`](crate::slot::INTAKE), claimed and committed to like any other. The relay's position says up to which
/// number the partition's messages are confirmed by the broker. A message is kept until every group of the topology has
/// applied it, also when it is confirmed, so that a broker that was lost can be filled again.
#[async_trait]
pub trait Outbox: Store {
    /// Messages of a partition with numbers above `after`, in number order, within the limits (one message larger than
    /// the byte limit comes alone).
    async fn outgoing(
        &self,
        channel: u16,
        partition: u16,
        after: u64,
        limits: BatchLimits,
    ) -> Result<Vec<Delivery>, StoreError>;

    /// How far every partition that has messages is. Asked for many times a second: a query of small tables.
    async fn progress(&self) -> Result<Vec<Progress>, StoreError>;
}

/// How far a partition is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Progress {
    /// Channel code of the topology.
    pub channel: u16,
    /// 0-based partition.
    pub partition: u16,
    /// The partition's last number.
    pub last: u64,
    /// The position of its relay.
    pub relayed: u64,
    /// The lowest position among the topology's groups.
    pub applied: u64,
}
