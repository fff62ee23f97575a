//! Broker and store in one SQLite file: the default backend, for one process on one machine.
//!
//! - *Durability.* WAL with `synchronous = FULL`: what is acknowledged is on the disk. One thread writes ([`writer`]),
//!   many requests in one transaction with one fsync.
//! - *Messages* stand in one table, clustered by partition and number ([`layout`]); subscribers are served from memory
//!   while they keep up ([`shared`]). What every group has passed is deleted in bounded pieces.
//! - *Reads* run on connections that cannot write, each from one snapshot of at most a second ([`readers`]).
//! - *One process.* A lock file keeps a second process out ([`lock`]).
//! - *Failure.* A full disk refuses what does not fit and nothing else; a failed fsync ends the process; damage is told by
//!   [`check`] and never repaired.

#![forbid(unsafe_code)]

mod apply;
mod cache;
mod check;
mod checkpoint;
mod error;
mod export;
mod layout;
mod lock;
mod metrics;
mod offline;
mod queries;
mod queue;
mod readers;
mod shared;
mod subscription;
mod writer;

pub use check::{Finding, check};
pub use error::OpenError;
pub use lock::Lock;
pub use metrics::Metrics;
pub use offline::Offline;

use crate::cache::Cache;
use crate::checkpoint::Stop;
use crate::queue::{Queue, Reply, Request};
use crate::readers::Readers;
use crate::shared::Shared;
use crate::subscription::{SlotStream, broker_error};
use crate::writer::Writer;
use async_trait::async_trait;
use schemas::Millis;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use zegel_core::memory::Alive;
use zegel_core::moving::{Cell, Export, Place};
use zegel_core::store::{Claim, DeadFilter, DeadLetter, Parked, ParkedHead, SlotStats, Timer};
use zegel_core::{Broker, BrokerError, Outgoing, OwnerId, Read, Rows, Slot, Step, Store, StoreError, Subscription};

/// When a refused producer is to try again. A second is long enough for a backlog to move and short for a person.
const RETRY_AFTER_MS: u64 = 1_000;

/// Bounds and hooks. The defaults suit a machine with 2 cores and 4 GB.
#[derive(Clone)]
pub struct Options {
    /// Bytes of requests that may wait for the writer; each request counts 1 KiB more than its bodies.
    pub queue_bytes: usize,
    /// Bytes of the newest messages kept in memory for subscribers.
    pub tail_bytes: usize,
    /// Above so many bytes the writer restarts the write-ahead log.
    pub wal_bytes: u64,
    /// High-water mark of every channel, instead of the topology's.
    pub high_water: Option<u64>,
    /// The largest the file may become, in bytes; none leaves it to the disk.
    pub max_bytes: Option<u64>,
    /// Called when an fsync failed, or a thread of the store panicked. It is not expected to return; if it does, the store refuses everything.
    pub on_fatal: Arc<dyn Fn(String) + Send + Sync>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            queue_bytes: 64 << 20,
            tail_bytes: 64 << 20,
            wal_bytes: 256 << 20,
            high_water: None,
            max_bytes: None,
            on_fatal: Arc::new(|what| {
                tracing::error!(what, "the store failed: nothing can be promised any more, ending the process");
                std::process::abort();
            }),
        }
    }
}

/// A store and broker in one file. See the crate's documentation.
pub struct Embedded {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    readers: Arc<Readers>,
    stop: Arc<Stop>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    high_water: Option<u64>,
    /// One process serves the file, so that its owners need not outlive it.
    alive: Mutex<Alive>,
}

impl Embedded {
    /// Opens the store in this file, and makes it when it is not there.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(path: impl AsRef<Path>, options: Options) -> Result<Arc<Embedded>, OpenError> {
        let lock = Lock::take(path.as_ref())?;
        Embedded::open_locked(path, lock, options)
    }

    /// Opens the store whose lock the caller took before, because other files belong to the same process as well.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open_locked(path: impl AsRef<Path>, lock: Lock, options: Options) -> Result<Arc<Embedded>, OpenError> {
        let path = path.as_ref();
        let sql = |error: rusqlite::Error| OpenError::sql(path, &error);
        layout::check_topology()?;
        let shared = Arc::new(Shared::new(options.tail_bytes));
        let mut connection = layout::open_writer(path)?;
        if let Some(bytes) = options.max_bytes {
            connection.execute_batch(&format!("PRAGMA max_page_count = {}", bytes / layout::PAGE)).map_err(sql)?;
        }
        checkpoint::watch(&mut connection, &shared).map_err(sql)?;
        let cache = Cache::load(&connection, &shared).map_err(sql)?;
        publish_progress(&cache, &shared);
        let queue = Arc::new(Queue::new(options.queue_bytes));
        let readers = Arc::new(Readers::open(path)?);
        let stop = Arc::new(Stop::default());
        let checkpointer = checkpointer(path, &shared, &stop, &options)?;
        let alarm = Alarm(Arc::clone(&options.on_fatal));
        let writer = Writer {
            connection,
            shared: Arc::clone(&shared),
            queue: Arc::clone(&queue),
            cache,
            on_fatal: options.on_fatal,
            wal_limit: options.wal_bytes,
            lock,
        };
        let writer = spawn(path, "embedded-writer", alarm, move || writer.run())?;
        let threads = Mutex::new(vec![checkpointer, writer]);
        Ok(Arc::new(Embedded {
            shared,
            queue,
            readers,
            stop,
            threads,
            high_water: options.high_water,
            alive: Mutex::default(),
        }))
    }

    /// What the store counts.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// Refuses what is new, finishes what is under way, and gives the file free. Subscriptions end.
    pub async fn close(&self) {
        self.begin_closing();
        let threads = self.take_threads();
        // Joining blocks for at most the last transaction and checkpoint.
        let _ = tokio::task::spawn_blocking(move || join(threads)).await;
    }

    fn begin_closing(&self) {
        self.stop.stop();
        self.readers.close();
        self.queue.close();
    }

    fn take_threads(&self) -> Vec<JoinHandle<()>> {
        std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn ask(&self, request: Request) -> Result<Reply, StoreError> {
        self.queue.ask(request).await
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
}

impl Drop for Embedded {
    fn drop(&mut self) {
        // So that the file is free when the last handle is gone.
        self.begin_closing();
        join(self.take_threads());
    }
}

fn join(threads: Vec<JoinHandle<()>>) {
    for thread in threads {
        if thread.join().is_err() {
            tracing::error!("a thread of the embedded store panicked");
        }
    }
}

/// Raised when its thread panics: without the thread nothing is durable any more, however well the process looks.
struct Alarm(Arc<dyn Fn(String) + Send + Sync>);

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            (self.0)("a thread panicked".to_owned());
        }
    }
}

fn spawn(
    path: &Path,
    name: &str,
    alarm: Alarm,
    work: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, OpenError> {
    let watched = move || {
        let _raised_by_a_panic = alarm;
        work();
    };
    std::thread::Builder::new().name(name.to_owned()).spawn(watched).map_err(|error| OpenError::io(path, &error))
}

fn checkpointer(
    path: &Path,
    shared: &Arc<Shared>,
    stop: &Arc<Stop>,
    options: &Options,
) -> Result<JoinHandle<()>, OpenError> {
    let connection = layout::open_checkpointer(path)?;
    let (shared, stop) = (Arc::clone(shared), Arc::clone(stop));
    let (on_fatal, limit) = (Arc::clone(&options.on_fatal), options.wal_bytes);
    let alarm = Alarm(Arc::clone(&on_fatal));
    spawn(path, "embedded-checkpoint", alarm, move || checkpoint::run(&connection, &shared, &stop, &on_fatal, limit))
}

/// What the file says, before the first request.
fn publish_progress(cache: &Cache, shared: &Shared) {
    for (partition, last) in shared.partitions.iter().zip(&cache.last) {
        partition.last.store(*last, Ordering::Release);
        for progress in &partition.groups {
            let row = cache.row(progress.slot);
            progress.position.store(row.position, Ordering::Release);
            progress.settled.store(row.settled, Ordering::Release);
        }
    }
}

#[async_trait]
impl Broker for Embedded {
    async fn publish(&self, batch: Vec<Outgoing>) -> Vec<Result<(), BrokerError>> {
        let mut outcomes: Vec<_> = batch.iter().map(|message| self.admit(message)).collect();
        let admitted: Vec<Outgoing> = batch
            .into_iter()
            .zip(&outcomes)
            .filter(|(_, admitted)| admitted.is_ok())
            .map(|(message, _)| message)
            .collect();
        if admitted.is_empty() {
            return outcomes;
        }
        if let Err(error) = self.ask(Request::Publish(admitted)).await {
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
        let (shared, readers) = (Arc::clone(&self.shared), Arc::clone(&self.readers));
        Ok(Box::new(SlotStream { shared, readers, slot, from }))
    }
}

/// The writer answers each request in its own kind.
fn mismatch<T>() -> Result<T, StoreError> {
    Err(StoreError::Unavailable("the writer gave an answer of another kind".to_owned()))
}

#[async_trait]
impl Store for Embedded {
    fn has_room(&self) -> bool {
        self.shared.has_room()
    }

    async fn claim(&self, slot: Slot, owner: OwnerId, now: Millis, ttl_ms: i64) -> Result<Option<Claim>, StoreError> {
        match self.ask(Request::Claim { slot, owner, now, ttl_ms }).await? {
            Reply::Claimed(claim) => Ok(claim),
            _ => mismatch(),
        }
    }

    async fn renew(&self, slot: Slot, epoch: u64, until: Millis) -> Result<(), StoreError> {
        self.ask(Request::Renew { slot, epoch, until }).await.map(drop)
    }

    async fn release(&self, slot: Slot, epoch: u64, clean: bool) -> Result<(), StoreError> {
        self.ask(Request::Release { slot, epoch, clean }).await.map(drop)
    }

    async fn commit(&self, step: Step) -> Result<(), StoreError> {
        self.ask(Request::Step(Box::new(step))).await.map(drop)
    }

    async fn begin_attempt(&self, slot: Slot, epoch: u64, number: u64) -> Result<u32, StoreError> {
        match self.ask(Request::BeginAttempt { slot, epoch, number }).await? {
            Reply::Count(count) => Ok(count),
            _ => mismatch(),
        }
    }

    async fn read(&self, reads: Vec<Read>) -> Result<Vec<Rows>, StoreError> {
        self.readers.run(move |connection| queries::read(connection, &reads)).await
    }

    async fn due_timers(
        &self,
        slot: Slot,
        now: Millis,
        limit: usize,
    ) -> Result<(Vec<Timer>, Option<Millis>), StoreError> {
        self.readers.run(move |connection| queries::due_timers(connection, slot, now, limit)).await
    }

    async fn parked_heads(&self, slot: Slot, after: u64, limit: usize) -> Result<Vec<ParkedHead>, StoreError> {
        self.readers.run(move |connection| queries::parked_heads(connection, slot, after, limit)).await
    }

    async fn parked(&self, slot: Slot, numbers: Vec<u64>) -> Result<Vec<Parked>, StoreError> {
        self.readers.run(move |connection| queries::parked(connection, slot, &numbers)).await
    }

    async fn dead(&self, filter: DeadFilter) -> Result<Vec<DeadLetter>, StoreError> {
        self.readers.run(move |connection| queries::dead(connection, filter)).await
    }

    async fn resolve_dead(&self, slot: Slot, number: u64, again: Option<Outgoing>) -> Result<bool, StoreError> {
        match self.ask(Request::ResolveDead { slot, number, again }).await? {
            Reply::Found(found) => Ok(found),
            _ => mismatch(),
        }
    }

    async fn stats(&self) -> Result<Vec<SlotStats>, StoreError> {
        let mut lines: Vec<SlotStats> = self.shared.partitions.iter().flat_map(lines_of).collect();
        lines.sort_by_key(|line| line.slot);
        self.readers.run(move |connection| queries::stats(connection, lines)).await
    }

    async fn announce(
        &self,
        group: u16,
        owner: OwnerId,
        now: Millis,
        until: Millis,
    ) -> Result<Vec<OwnerId>, StoreError> {
        Ok(self.alive.lock().unwrap_or_else(PoisonError::into_inner).announce(group, owner, now, until))
    }
}

fn lines_of(partition: &shared::Partition) -> impl Iterator<Item = SlotStats> + '_ {
    let last = partition.last.load(Ordering::Acquire);
    partition.groups.iter().map(move |progress| SlotStats {
        slot: progress.slot,
        last,
        position: progress.position.load(Ordering::Acquire),
        parked: 0,
        dead: 0,
        timers: 0,
    })
}

#[async_trait]
impl Export for Embedded {
    async fn export(&self, place: &Place, rows: usize, bytes: usize) -> Result<Vec<Vec<Cell>>, StoreError> {
        let place = place.clone();
        self.readers.run(move |connection| export::export(connection, &place, rows, bytes)).await
    }
}
