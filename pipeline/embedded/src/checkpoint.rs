//! The thread that moves committed pages from the log into the database, so that the writer does not stop for it.
//!
//! A passive checkpoint waits for nobody and disturbs nobody. The log's growth is watched by the writer's hook.

use crate::error::{is_fsync, meaning};
use crate::layout::PAGE;
use crate::metrics::add;
use crate::shared::Shared;
use crate::writer::OnFatal;
use fail::fail_point;
use rusqlite::Connection;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Between two looks at the log.
const EVERY: Duration = Duration::from_millis(200);
/// Below this the log is left alone while there is traffic: copying a hot page once is better than ten times.
const SMALL: u64 = 64 << 20;
/// Looks after which even a small log is moved: two seconds.
const LOOKS: u32 = 10;

/// Ends the thread.
#[derive(Default)]
pub(crate) struct Stop {
    stopped: AtomicBool,
    lock: Mutex<()>,
    changed: Condvar,
}

impl Stop {
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.changed.notify_all();
    }

    fn sleep(&self) -> bool {
        let lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.stopped.load(Ordering::Acquire) {
            drop(self.changed.wait_timeout(lock, EVERY));
        }
        !self.stopped.load(Ordering::Acquire)
    }
}

/// Runs until stopped or the disk fails.
pub(crate) fn run(connection: &Connection, shared: &Shared, stop: &Stop, on_fatal: &OnFatal, wal_limit: u64) {
    // Well before the writer would have to restart the log itself.
    let small = SMALL.min(wal_limit / 4);
    let mut done = 0;
    let mut looks = 0;
    while stop.sleep() {
        let commits = shared.metrics.commits.load(Ordering::Relaxed);
        looks += 1;
        let is_small = shared.metrics.wal_bytes.load(Ordering::Relaxed) < small;
        if commits == done || (is_small && looks < LOOKS) {
            continue;
        }
        (done, looks) = (commits, 0);
        fail_point!("embedded::before-checkpoint");
        let outcome = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
        fail_point!("embedded::after-checkpoint");
        match outcome {
            Ok(()) => add(&shared.metrics.checkpoints, 1),
            Err(error) if is_fsync(&error) => {
                shared.close();
                on_fatal(meaning(&error));
                return;
            }
            Err(error) => tracing::warn!(error = %meaning(&error), "embedded store could not checkpoint"),
        }
    }
}

/// Keeps the log's size where the writer and the metrics see it.
pub(crate) fn watch(connection: &mut Connection, shared: &Arc<Shared>) -> rusqlite::Result<()> {
    /// A frame is a page and its header.
    const FRAME: u64 = PAGE + 24;
    let shared = Arc::clone(shared);
    connection.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, pages: std::ffi::c_int| {
        let pages = u64::try_from(pages).unwrap_or(0);
        shared.metrics.wal_bytes.store(pages * FRAME, Ordering::Relaxed);
        Ok(())
    }))
}
