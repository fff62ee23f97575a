//! The one thread that writes: many requests in one transaction, one fsync for all of them, then the answers.
//!
//! - A request that is refused has written nothing; the others go on.
//! - When the whole transaction is given up (disk full, I/O error, a request that failed half-way), nothing of it is
//!   acknowledged, and each request runs again in a transaction of its own, so that what fits still gets through.
//! - A failed fsync ends the process: the kernel may have dropped the pages, and no later success would mean anything.
//! - Between transactions the writer deletes what every group has passed, in bounded pieces, and restarts the log when
//!   the passive checkpoints did not get it back.

use crate::apply::Transaction;
use crate::cache::{Cache, SlotRow};
use crate::error::{Fault, is_fsync, meaning};
use crate::lock::Lock;
use crate::metrics::add;
use crate::queue::{Queue, Reply, Request, Taken, Work};
use crate::shared::Shared;
use fail::fail_point;
use rusqlite::Connection;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use zegel_core::packed::{message_id, partition_code};
use zegel_core::{Delivery, StoreError};

/// Requests in one transaction: at 4 microseconds each, an fsync every 2 ms at the latest.
const GROUP: usize = 512;
/// Bytes in one transaction: what a slow disk syncs in about 50 ms.
const GROUP_BYTES: usize = 8 << 20;
/// How long the writer waits for producers that it has just answered.
const PATIENCE: Duration = Duration::from_micros(150);
/// A transaction that wrote so many rows is followed by a pause in which more steps gather: rows of neighbours share
/// pages, and a page costs as much for one row as for ten. A machine that is not busy never gets there.
const BUSY: u64 = 1_000;
/// The pause: short beside the transaction before it.
const LINGER: Duration = Duration::from_millis(4);
/// Without work for so long, the writer tidies.
const IDLE: Duration = Duration::from_millis(100);
/// Messages deleted in one transaction: a few milliseconds.
const TRIM: u64 = 4_096;

/// What is called when the disk cannot be trusted any more.
pub(crate) type OnFatal = Arc<dyn Fn(String) + Send + Sync>;

/// See the module's header.
pub(crate) struct Writer {
    pub(crate) connection: Connection,
    pub(crate) shared: Arc<Shared>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) cache: Cache,
    pub(crate) on_fatal: OnFatal,
    pub(crate) wal_limit: u64,
    pub(crate) lock: Lock,
}

/// The store cannot go on.
struct Fatal;

/// However the writer ends, also by a panic: nobody waits for an answer that will not come.
struct End(Arc<Queue>, Arc<Shared>);

impl Drop for End {
    fn drop(&mut self) {
        self.1.close();
        self.0.abandon();
    }
}

impl Writer {
    /// Works until the queue is closed and empty, or the disk fails.
    pub(crate) fn run(mut self) {
        let _end = End(Arc::clone(&self.queue), Arc::clone(&self.shared));
        let _ = self.work();
        drop(self.connection);
        // Last: while the file is open nobody else may have it.
        drop(self.lock);
    }

    fn work(&mut self) -> Result<(), Fatal> {
        let mut expected = 0;
        let mut before = self.shared.metrics.rows.load(Ordering::Relaxed);
        let mut tidied = Instant::now();
        loop {
            let rows = self.shared.metrics.rows.load(Ordering::Relaxed);
            if rows - before > BUSY {
                #[allow(clippy::disallowed_methods)] // the writer has a thread of its own
                std::thread::sleep(LINGER);
            }
            before = rows;
            let taken = self.queue.take(IDLE, expected, PATIENCE, (GROUP, GROUP_BYTES));
            expected = 0;
            match taken {
                Taken::Work(group) => {
                    // One producer alone is not waited for: its next request follows the answer.
                    expected = if group.len() > 1 { group.len() } else { 0 };
                    self.group(group)?;
                }
                Taken::Idle => {}
                Taken::Closed => return self.finish(),
            }
            // Under load in large pieces; now and then also small ones, or a full disk would never get room again.
            let least = if tidied.elapsed() < IDLE { TRIM } else { 1 };
            if least == 1 {
                tidied = Instant::now();
            }
            self.trim(least)?;
            if self.shared.metrics.wal_bytes.load(Ordering::Relaxed) > self.wal_limit {
                self.restart_log()?;
            }
        }
    }

    /// One transaction for the group, or one for each when the group's is lost.
    fn group(&mut self, group: Vec<Work>) -> Result<(), Fatal> {
        match self.transact(group.iter().map(|work| &work.request)) {
            Ok(outcomes) => {
                for (work, outcome) in group.into_iter().zip(outcomes) {
                    work.answer(outcome);
                }
                return Ok(());
            }
            Err(Fault::Fsync(what)) => return Err(self.fatal(what)),
            Err(Fault::Request(error) | Fault::Transaction(error)) => self.roll_back(&error)?,
        }
        for work in group {
            match self.transact(std::iter::once(&work.request)) {
                Ok(outcomes) => {
                    let outcome = outcomes.into_iter().next().unwrap_or(Err(StoreError::Closed));
                    work.answer(outcome);
                }
                Err(Fault::Fsync(what)) => return Err(self.fatal(what)),
                Err(Fault::Request(error) | Fault::Transaction(error)) => {
                    self.roll_back(&error)?;
                    work.answer(Err(error));
                }
            }
        }
        Ok(())
    }

    fn transact<'a>(
        &mut self,
        requests: impl Iterator<Item = &'a Request>,
    ) -> Result<Vec<Result<Reply, StoreError>>, Fault> {
        fail_point!("embedded::before-begin");
        self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let before = self.connection.total_changes();
        let (shared, connection) = (&self.shared, &self.connection);
        let mut open =
            Transaction { connection, shared, cache: &mut self.cache, appended: Vec::new(), moved: Vec::new() };
        let mut outcomes = Vec::new();
        let mut steps = 0;
        for request in requests {
            let outcome = match open.apply(request) {
                Ok(reply) => Ok(reply),
                Err(Fault::Request(error)) => Err(error),
                Err(fault) => return Err(fault),
            };
            steps += usize::from(outcome.is_ok() && matches!(request, Request::Step(_)));
            outcomes.push(outcome);
        }
        fail_point!("embedded::after-requests");
        let Transaction { appended, moved, .. } = open;
        commit(connection)?;
        fail_point!("embedded::after-commit");
        let rows = self.connection.total_changes().saturating_sub(before);
        self.shared.metrics.rows.fetch_add(rows, Ordering::Relaxed);
        add(&self.shared.metrics.commits, 1);
        add(&self.shared.metrics.steps, steps);
        self.make_visible(appended, &moved);
        Ok(outcomes)
    }

    /// After the commit: subscribers see the messages, producers see the room.
    fn make_visible(&self, mut appended: Vec<(usize, Delivery)>, moved: &[(zegel_core::Slot, u64)]) {
        add(&self.shared.metrics.messages, appended.len());
        add(&self.shared.metrics.bytes, appended.iter().map(|(_, message)| message.body.len()).sum());
        // Stable: numbers of one partition stay in order.
        appended.sort_by_key(|(index, _)| *index);
        let mut appended = appended.into_iter().peekable();
        while let Some((index, first)) = appended.next() {
            let mut messages = vec![first];
            while let Some((_, message)) = appended.next_if(|(next, _)| *next == index) {
                messages.push(message);
            }
            self.shared.publish(index, messages);
        }
        for (slot, position) in moved {
            if let Some((partition, progress)) = self.shared.find(*slot) {
                progress.position.store(*position, Ordering::Release);
                self.shared.pass(partition);
            }
        }
    }

    fn roll_back(&mut self, error: &StoreError) -> Result<(), Fatal> {
        tracing::warn!(error = %error, "embedded store rolled a transaction back");
        add(&self.shared.metrics.rollbacks, 1);
        if matches!(error, StoreError::Full(_)) {
            self.shared.note_no_room();
        }
        // SQLite has usually done it already; then this says that there is no transaction.
        if !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            return Err(self.fatal(meaning(&error)));
        }
        match Cache::load(&self.connection, &self.shared) {
            Ok(cache) => self.cache = cache,
            // Without the cache no number can be given.
            Err(error) => return Err(self.fatal(meaning(&error))),
        }
        Ok(())
    }

    /// Deletes what every group has passed, where that is at least `least` messages, one bounded piece per call.
    fn trim(&mut self, least: u64) -> Result<(), Fatal> {
        let debt = |index: usize| {
            let passed = self.shared.partitions[index].floor().min(self.cache.last[index]);
            passed.saturating_sub(self.cache.trimmed[index])
        };
        let Some(index) = (0..self.shared.partitions.len()).max_by_key(|index| debt(*index)) else { return Ok(()) };
        if debt(index) < least.max(1) {
            return Ok(());
        }
        match self.trim_partition(index) {
            Ok(()) => Ok(()),
            Err(Fault::Fsync(what)) => Err(self.fatal(what)),
            // On a full disk even deleting may need room in the log; it is tried again later.
            Err(Fault::Request(error) | Fault::Transaction(error)) => self.roll_back(&error),
        }
    }

    fn trim_partition(&mut self, index: usize) -> Result<(), Fault> {
        let partition = &self.shared.partitions[index];
        let (channel, number) = (partition.channel.code, partition.number);
        let first = self.cache.trimmed[index] + 1;
        let last = partition.floor().min(self.cache.last[index]).min(first + TRIM - 1);
        if last < first {
            return Ok(());
        }
        fail_point!("embedded::before-trim");
        self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let range = (message_id(channel, number, first), message_id(channel, number, last));
        let deleted =
            self.connection.prepare_cached("DELETE FROM messages WHERE id BETWEEN ? AND ?")?.execute(range)?;
        self.connection
            .prepare_cached("INSERT OR REPLACE INTO partitions(partition, trimmed) VALUES(?, ?)")?
            .execute((partition_code(channel, number), last.cast_signed()))?;
        for progress in &partition.groups {
            // A group without a position in the store has only its settlements to say what it does not need.
            let row = self.cache.row(progress.slot);
            let settled = progress.settled.load(Ordering::Acquire);
            if settled > row.position && settled > row.settled {
                self.cache.put(&self.connection, progress.slot, SlotRow { settled, ..row })?;
            }
        }
        commit(&self.connection)?;
        fail_point!("embedded::after-trim");
        self.cache.trimmed[index] = last;
        add(&self.shared.metrics.trimmed, deleted);
        add(&self.shared.metrics.commits, 1);
        Ok(())
    }

    /// Waits for the readers of the log, checkpoints the rest, and lets the next transaction begin at the log's start.
    fn restart_log(&mut self) -> Result<(), Fatal> {
        fail_point!("embedded::before-restart", |_| Ok(()));
        let restarted = self.connection.query_row("PRAGMA wal_checkpoint(RESTART)", [], |row| row.get::<_, i64>(0));
        fail_point!("embedded::after-restart", |_| Ok(()));
        match restarted {
            Ok(0) => {
                add(&self.shared.metrics.restarts, 1);
                self.shared.metrics.wal_bytes.store(0, Ordering::Relaxed);
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(error) if is_fsync(&error) => Err(self.fatal(meaning(&error))),
            Err(error) => {
                tracing::warn!(error = %meaning(&error), "embedded store could not restart its log");
                Ok(())
            }
        }
    }

    fn finish(&mut self) -> Result<(), Fatal> {
        self.shared.close();
        match self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())) {
            Err(error) if is_fsync(&error) => Err(self.fatal(meaning(&error))),
            // Whatever is left in the log is found there at the next start.
            _ => Ok(()),
        }
    }

    fn fatal(&self, what: String) -> Fatal {
        self.shared.close();
        (self.on_fatal)(what);
        Fatal
    }
}

/// The fsync. A fail point stands in for a disk that fails it.
fn commit(connection: &Connection) -> Result<(), Fault> {
    fail_point!("embedded::before-commit");
    fail_point!("embedded::fsync", |_| Err(Fault::Fsync("disk i/o error".to_owned())));
    fail_point!("embedded::full", |_| Err(Fault::Transaction(StoreError::Full("disk is full".to_owned()))));
    connection.prepare_cached("COMMIT")?.execute([])?;
    Ok(())
}
