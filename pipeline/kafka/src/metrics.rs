//! What the Kafka transport counts. Plain atomics, read by whoever exports them.

use std::sync::atomic::{AtomicU64, Ordering};
use zegel_core::transport::Counter;

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

impl Metrics {
    /// For an exporter. The names are those of the other transports where they mean the same.
    pub(crate) fn counters(&self) -> Vec<Counter> {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        vec![
            ("zegel_transport_sent_total", "Parcels confirmed by the broker.", value(&self.sent)),
            ("zegel_transport_resent_total", "Parcels sent again after a loss.", value(&self.resent)),
            ("zegel_transport_lost_total", "Producers that were built again.", value(&self.producers_rebuilt)),
            ("zegel_transport_received_total", "Parcels handed to readers.", value(&self.received)),
            ("zegel_transport_foreign_total", "Messages that are no parcels of ours.", value(&self.foreign)),
            ("zegel_transport_stalled_total", "Readers that stood still.", value(&self.readers_rebuilt)),
            ("zegel_transport_rewound_total", "Readers that began again.", value(&self.rewound)),
            ("zegel_transport_trims_failed_total", "Deletions that failed.", value(&self.trims_failed)),
        ]
    }
}

pub(crate) fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
}
