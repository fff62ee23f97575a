//! What the RabbitMQ transport counts. Plain atomics, read by whoever exports them.

use std::sync::atomic::{AtomicU64, Ordering};
use zegel_core::transport::Counter;

/// Counters since the connections were opened.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Parcels that the broker confirmed.
    pub sent: AtomicU64,
    /// Parcels that have to be published again, because their channel was lost.
    pub resent: AtomicU64,
    /// Parcels that came back because no queue took them.
    pub returned: AtomicU64,
    /// Parcels handed to readers.
    pub received: AtomicU64,
    /// Messages that are no parcels of ours, put aside by readers.
    pub foreign: AtomicU64,
    /// Connections that were lost.
    pub lost: AtomicU64,
}

impl Metrics {
    /// For an exporter.
    pub(crate) fn counters(&self) -> Vec<Counter> {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        vec![
            ("zegel_transport_sent_total", "Parcels confirmed by the broker.", value(&self.sent)),
            ("zegel_transport_resent_total", "Parcels sent again after a loss.", value(&self.resent)),
            ("zegel_transport_returned_total", "Parcels that no queue took.", value(&self.returned)),
            ("zegel_transport_received_total", "Parcels handed to readers.", value(&self.received)),
            ("zegel_transport_foreign_total", "Messages that are no parcels of ours.", value(&self.foreign)),
            ("zegel_transport_lost_total", "Connections to the broker that were lost.", value(&self.lost)),
        ]
    }
}

pub(crate) fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
}
