//! What the Kafka transport counts. Plain atomics, read by whoever exports them.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters since the connection was opened.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Parcels confirmed by all in-sync replicas.
    pub sent: AtomicU64,
    /// Parcels sent again after the producer was built again.
    pub resent: AtomicU64,
    /// Producers that were built again after a fatal error.
    pub producers_rebuilt: AtomicU64,
    /// Parcels handed to readers.
    pub received: AtomicU64,
    /// Records that are no parcels of ours, passed by readers.
    pub foreign: AtomicU64,
    /// Readers that were built again because they stood still.
    pub readers_rebuilt: AtomicU64,
    /// Readers that did not trust the group's offset and began at the beginning of their lane.
    pub rewound: AtomicU64,
    /// Deletions of records below all groups that failed.
    pub trims_failed: AtomicU64,
}

pub(crate) fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
}
