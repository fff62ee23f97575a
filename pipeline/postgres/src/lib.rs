//! Store, outbox and broker on PostgreSQL: for several processes, on one machine or on many.
//!
//! - *One commit.* A step is one call of a function in the database: the slot's epoch is checked and its row locked,
//!   everything is written, partitions' counters are taken in ascending order, and the transaction commits, all in one round
//!   trip ([`committer`]). What waits meanwhile is committed together with the next.
//! - *Durability* is the server's: one that runs with `fsync`, `full_page_writes` or `synchronous_commit` off is refused at
//!   every connection. A fail-over loses nothing only when a synchronous standby takes over.
//! - *Messages* stand in one table by partition and number, for subscribers and relays; what every group has passed is
//!   deleted in bounded pieces ([`watch`]).
//! - *Failure.* Every wait has a time limit. A lost connection is replaced; a step whose answer was lost is sent again under
//!   the same token and applied once; reads are repeated; publishing says that it does not know.
//! - *Limits.* No TLS (see [`OpenError::Tls`]); sessions are needed, so a pooler between must not share them by transaction;
//!   a row's `sub` is at most some 2,600 bytes, the width of an index entry.

#![forbid(unsafe_code)]

mod committer;
mod connect;
mod error;
mod group;
mod import;
mod metrics;
mod migrate;
mod offline;
mod ownership;
mod pool;
mod queries;
mod shared;
mod subscription;
mod watch;

pub use error::OpenError;
pub use metrics::Metrics;
pub use offline::{Finding, Offline};

use crate::committer::{Committer, Queue};
use crate::connect::{Dialer, Session};
use crate::error::Fault;
use crate::group::Request;
use crate::pool::Pool;
use crate::shared::Shared;
use crate::subscription::{SlotStream, broker_error};
use crate::watch::Watch;
use async_trait::async_trait;
use schemas::Millis;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinHandle;
use zegel_core::moving::{Cell, Import, Place};
use zegel_core::slot::{INTAKE, RELAY};
use zegel_core::store::{Claim, DeadFilter, DeadLetter, Parked, ParkedHead, Progress, SlotStats, Timer};
use zegel_core::{
    BatchLimits, Broker, BrokerError, Delivery, Outbox, Outgoing, OwnerId, Read, Rows, Slot, Step, Store, StoreError,
    Subscription,
};

/// When a refused producer is to try again. A second is long enough for a backlog to move and short for a person.
const RETRY_AFTER_MS: u64 = 1_000;

/// Bounds. The defaults suit a machine with 2 cores and a database beside it.
#[derive(Debug, Clone)]
pub struct Options {
    /// The schema that holds everything; made when it is not there.
    pub schema: String,
    /// Transactions that commit at the same time, each on a connection of its own.
    pub writers: usize,
    /// Connections for everything else.
    pub readers: usize,
    /// Bytes of requests that may wait for a commit.
    pub queue_bytes: usize,
    /// How often this process looks for messages of other processes.
    pub look: Duration,
    /// After so long without an answer a call is given up.
    pub patience: Duration,
    /// High-water mark of every channel, instead of the topology's.
    pub high_water: Option<u64>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            schema: "zegel".to_owned(),
            writers: 4,
            readers: 8,
            queue_bytes: 64 << 20,
            look: Duration::from_millis(50),
            patience: Duration::from_secs(5),
            high_water: None,
        }
    }
}

/// A store and broker in a schema of a PostgreSQL database. See the crate's documentation.
pub struct Postgres {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    writing: Arc<Pool>,
    reading: Arc<Pool>,
    metrics: Arc<Metrics>,
    committers: Mutex<Vec<JoinHandle<()>>>,
    high_water: Option<u64>,
}

impl Postgres {
    /// Connects, brings the schema up to date, and starts the store's tasks on this runtime.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open(url: &str, options: Options) -> Result<Arc<Postgres>, OpenError> {
        if let Some(channel) = zegel_core::packed::misfit() {
            return Err(OpenError::Topology(channel));
        }
        let dialer = Arc::new(Dialer::new(url, &options.schema, options.patience)?);
        let first = dialer.dial().await?;
        migrate::migrate(&first.session.client, &options.schema).await?;
        drop(first);
        let metrics = Arc::new(Metrics::default());
        let pool = |size| Arc::new(Pool::new(Arc::clone(&dialer), size, options.patience, Arc::clone(&metrics)));
        let (writing, reading) = (pool(options.writers), pool(options.readers));
        let shared = Arc::new(Shared::new());
        let watch = Watch { shared: Arc::clone(&shared), pool: Arc::clone(&reading), metrics: Arc::clone(&metrics) };
        let refused = |error: StoreError| OpenError::Refused(error.to_string());
        watch.look().await.map_err(refused)?;
        watch.look_at_groups().await.map_err(refused)?;
        tokio::spawn(watch.clone().run(options.look));
        tokio::spawn(watch.tidy());
        let queue = Arc::new(Queue::new(options.queue_bytes, options.patience));
        let committer = Committer {
            queue: Arc::clone(&queue),
            pool: Arc::clone(&writing),
            shared: Arc::clone(&shared),
            metrics: Arc::clone(&metrics),
            patience: options.patience,
        };
        let committers = (0..options.writers.max(1)).map(|_| tokio::spawn(committer.clone().run())).collect();
        let committers = Mutex::new(committers);
        Ok(Arc::new(Postgres { shared, queue, writing, reading, metrics, committers, high_water: options.high_water }))
    }

    /// What the store counts.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Whether a move from another store was begun and has not ended: nothing may work on this one.
    ///
    /// # Errors
    /// When PostgreSQL does not answer.
    pub async fn is_being_filled(&self) -> Result<bool, StoreError> {
        self.reading.repeat(import::is_going_on).await
    }

    /// Refuses what is new, finishes what is under way, and closes the connections. Subscriptions end.
    pub async fn close(&self) {
        self.begin_closing();
        let committers = std::mem::take(&mut *self.committers.lock().unwrap_or_else(PoisonError::into_inner));
        for committer in committers {
            // Bounded by the patience of each call that is under way.
            let _ = committer.await;
        }
        self.writing.close();
    }

    fn begin_closing(&self) {
        self.shared.close();
        self.queue.close();
        self.reading.close();
    }

    fn open_or_closed(&self) -> Result<(), StoreError> {
        if self.shared.is_closed() { Err(StoreError::Closed) } else { Ok(()) }
    }

    fn admit(&self, message: &Outgoing) -> Result<(), BrokerError> {
        let channel =
            topology::channels::by_code(message.channel).ok_or(BrokerError::UnknownChannel(message.channel))?;
        if self.shared.is_closed() {
            return Err(BrokerError::Closed);
        }
        if self.shared.waiting(channel) >= self.high_water.unwrap_or(channel.high_water) {
            return Err(BrokerError::Full { channel: channel.name, retry_after_ms: RETRY_AFTER_MS });
        }
        Ok(())
    }

    /// Does something that must not be done twice: repeated only while PostgreSQL says that nothing was done.
    async fn change<T, F>(&self, call: impl Fn(Arc<Session>) -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        self.reading.until(call, |fault| matches!(fault, Fault::Lost(_))).await
    }

    /// Whether the slot is in the topology, or the relay's or the intake's of a partition that is.
    fn known(&self, slot: Slot) -> Result<(), StoreError> {
        let special =
            [RELAY, INTAKE].contains(&slot.group) && self.shared.partition(slot.channel, slot.partition).is_some();
        if special || self.shared.find(slot).is_some() {
            return Ok(());
        }
        Err(StoreError::Damaged(format!("slot {slot} is not in the topology")))
    }

    /// The answer to a step that produces to a channel that is not there. Whoever may not commit at all is told that first.
    async fn refuse(&self, step: &Step, channel: u16) -> StoreError {
        let (slot, epoch) = (step.slot, step.epoch);
        let owned = |session| queries::owned(session, slot, epoch);
        match (self.reading.repeat(owned).await, step.position) {
            (Err(error), _) => error,
            (Ok(None), _) => StoreError::Fenced { slot },
            (Ok(Some(stored)), Some(step)) if step <= stored => StoreError::Position { slot, stored, step },
            _ => unknown_channel(channel),
        }
    }
}

fn unknown_channel(channel: u16) -> StoreError {
    StoreError::Damaged(format!("a step names channel {channel}, which is not in the topology"))
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.begin_closing();
    }
}

#[async_trait]
impl Broker for Postgres {
    async fn publish(&self, batch: Vec<Outgoing>) -> Vec<Result<(), BrokerError>> {
        let mut outcomes: Vec<_> = batch.iter().map(|message| self.admit(message)).collect();
        let pairs = batch.into_iter().zip(&outcomes);
        let admitted: Vec<Outgoing> =
            pairs.filter(|(_, admitted)| admitted.is_ok()).map(|(message, _)| message).collect();
        if admitted.is_empty() {
            return outcomes;
        }
        if let Err(error) = self.queue.ask(Request::Publish(admitted)).await {
            let error = broker_error(error);
            for outcome in outcomes.iter_mut().filter(|outcome| outcome.is_ok()) {
                *outcome = Err(error.clone());
            }
        }
        outcomes
    }

    async fn subscribe(&self, slot: Slot, from: u64) -> Result<Box<dyn Subscription>, BrokerError> {
        if self.shared.is_closed() {
            return Err(BrokerError::Closed);
        }
        self.shared.find(slot).ok_or(BrokerError::UnknownChannel(slot.channel))?;
        let (shared, pool) = (Arc::clone(&self.shared), Arc::clone(&self.reading));
        Ok(Box::new(SlotStream { shared, pool, slot, from }))
    }
}

#[async_trait]
impl Store for Postgres {
    async fn claim(&self, slot: Slot, owner: OwnerId, now: Millis, ttl_ms: i64) -> Result<Option<Claim>, StoreError> {
        self.known(slot)?;
        let until = now.plus(ttl_ms);
        // A claim that was made without being told is made again: the epoch rises once more.
        let call = |session| ownership::claim(session, slot, owner, now, until);
        self.change(call).await
    }

    async fn renew(&self, slot: Slot, epoch: u64, until: Millis) -> Result<(), StoreError> {
        let call = |session| ownership::renew(session, slot, epoch, until);
        self.reading.repeat(call).await
    }

    async fn release(&self, slot: Slot, epoch: u64, clean: bool) -> Result<(), StoreError> {
        let call = |session| ownership::release(session, slot, epoch, clean);
        self.change(call).await
    }

    async fn commit(&self, step: Step) -> Result<(), StoreError> {
        self.open_or_closed()?;
        let unknown = step.produced.iter().find(|one| self.shared.partition(one.channel, 0).is_none());
        if let Some(channel) = unknown.map(|one| one.channel) {
            return Err(self.refuse(&step, channel).await);
        }
        self.queue.ask(Request::Step(Box::new(step))).await
    }

    async fn begin_attempt(&self, slot: Slot, epoch: u64, number: u64) -> Result<u32, StoreError> {
        let call = |session| ownership::begin_attempt(session, slot, epoch, number);
        self.change(call).await
    }

    async fn read(&self, reads: Vec<Read>) -> Result<Vec<Rows>, StoreError> {
        self.reading.repeat(|session| queries::read(session, &reads)).await
    }

    async fn due_timers(
        &self,
        slot: Slot,
        now: Millis,
        limit: usize,
    ) -> Result<(Vec<Timer>, Option<Millis>), StoreError> {
        let call = |session| queries::due_timers(session, slot, now, limit);
        self.reading.repeat(call).await
    }

    async fn parked_heads(&self, slot: Slot, after: u64, limit: usize) -> Result<Vec<ParkedHead>, StoreError> {
        let call = |session| queries::parked_heads(session, slot, after, limit);
        self.reading.repeat(call).await
    }

    async fn parked(&self, slot: Slot, numbers: Vec<u64>) -> Result<Vec<Parked>, StoreError> {
        let call = |session| queries::parked(session, slot, &numbers);
        self.reading.repeat(call).await
    }

    async fn dead(&self, filter: DeadFilter) -> Result<Vec<DeadLetter>, StoreError> {
        self.reading.repeat(|session| queries::dead(session, filter)).await
    }

    async fn resolve_dead(&self, slot: Slot, number: u64, again: Option<Outgoing>) -> Result<bool, StoreError> {
        let again = match again.as_ref().map(|message| (message, self.shared.target(message.channel, message.key))) {
            Some((message, None)) => return Err(unknown_channel(message.channel)),
            Some((message, Some(target))) => Some((message, target)),
            None => None,
        };
        let call = |session| ownership::resolve_dead(session, slot, number, again);
        let (resolved, last) = self.change(call).await?;
        if let (Some((_, target)), Some(last)) = (again, last) {
            target.grew(last);
        }
        Ok(resolved)
    }

    async fn stats(&self) -> Result<Vec<SlotStats>, StoreError> {
        let mut lines = self.reading.repeat(queries::stats).await?;
        lines.retain(|line| self.shared.find(line.slot).is_some());
        Ok(lines)
    }

    async fn announce(
        &self,
        group: u16,
        owner: OwnerId,
        now: Millis,
        until: Millis,
    ) -> Result<Vec<OwnerId>, StoreError> {
        self.reading.repeat(|session| ownership::announce(session, group, owner, now, until)).await
    }
}

#[async_trait]
impl Outbox for Postgres {
    async fn outgoing(
        &self,
        channel: u16,
        partition: u16,
        after: u64,
        limits: BatchLimits,
    ) -> Result<Vec<Delivery>, StoreError> {
        let place = (channel, partition);
        let call = |session| queries::messages(session, place, after, limits);
        self.reading.repeat(call).await
    }

    async fn progress(&self) -> Result<Vec<Progress>, StoreError> {
        let mut progress = self.reading.repeat(queries::progress).await?;
        progress.retain(|one| self.shared.partition(one.channel, one.partition).is_some());
        Ok(progress)
    }
}

#[async_trait]
impl Import for Postgres {
    async fn begin_import(&self, source: [u8; 16]) -> Result<Place, StoreError> {
        self.reading.repeat(|session| import::begin(session, source)).await
    }

    async fn import(&self, place: &Place, rows: Vec<Vec<Cell>>, next: &Place) -> Result<(), StoreError> {
        self.reading.repeat(|session| import::take(session, place, &rows, next)).await
    }

    async fn end_import(&self) -> Result<(), StoreError> {
        self.reading.repeat(import::end).await
    }
}
