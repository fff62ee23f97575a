//! What the store counts. Plain atomics, read by whoever exports them.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters since the store was opened.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Transactions committed, one fsync each.
    pub commits: AtomicU64,
    /// Transactions that were rolled back.
    pub rollbacks: AtomicU64,
    /// Steps committed.
    pub steps: AtomicU64,
    /// Messages that got a number.
    pub messages: AtomicU64,
    /// Rows inserted, updated or deleted.
    pub rows: AtomicU64,
    /// Bytes of sealed values and bodies written.
    pub bytes: AtomicU64,
    /// Messages deleted because every group had passed them.
    pub trimmed: AtomicU64,
    /// Passive checkpoints that ran.
    pub checkpoints: AtomicU64,
    /// Times that the log was restarted because it had grown too large.
    pub restarts: AtomicU64,
    /// Bytes in the write-ahead log now.
    pub wal_bytes: AtomicU64,
    /// Batches that subscribers got from memory.
    pub tail_hits: AtomicU64,
    /// Batches that subscribers got from the file.
    pub tail_misses: AtomicU64,
}

pub(crate) fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
}
