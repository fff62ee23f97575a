//! What the store counts. Plain atomics, read by whoever exports them.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters since the store was opened.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Transactions that committed steps or published messages, one fsync each.
    pub commits: AtomicU64,
    /// Such transactions that PostgreSQL rolled back, or that ended with their connection.
    pub rollbacks: AtomicU64,
    /// Steps committed.
    pub steps: AtomicU64,
    /// Messages that got a number from this process.
    pub messages: AtomicU64,
    /// Rows handed to the database.
    pub rows: AtomicU64,
    /// Bytes of sealed values and bodies handed to the database.
    pub bytes: AtomicU64,
    /// Messages deleted by this process because every group had passed them.
    pub trimmed: AtomicU64,
    /// Connections that were opened, the first ones included.
    pub connects: AtomicU64,
    /// Steps whose answer was lost and that turned out to have been applied.
    pub resolved: AtomicU64,
}

impl Metrics {
    /// Name, help and value of every counter, for an exporter. The names are those of the embedded store where they mean
    /// the same.
    #[must_use]
    pub fn counters(&self) -> [(&'static str, &'static str, u64); 9] {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            ("zegel_store_commits_total", "Transactions committed, one fsync each.", value(&self.commits)),
            ("zegel_store_rollbacks_total", "Transactions rolled back.", value(&self.rollbacks)),
            ("zegel_store_steps_total", "Steps committed.", value(&self.steps)),
            ("zegel_store_messages_total", "Messages that got a number.", value(&self.messages)),
            ("zegel_store_rows_total", "Rows inserted, updated or deleted.", value(&self.rows)),
            ("zegel_store_written_bytes_total", "Bytes of sealed values and bodies written.", value(&self.bytes)),
            (
                "zegel_store_trimmed_total",
                "Messages deleted because every group had passed them.",
                value(&self.trimmed),
            ),
            ("zegel_store_connects_total", "Connections to PostgreSQL opened.", value(&self.connects)),
            (
                "zegel_store_resolved_total",
                "Steps whose answer was lost and that were found applied.",
                value(&self.resolved),
            ),
        ]
    }
}

pub(crate) fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
}
