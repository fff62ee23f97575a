//! A slot's stream: from memory while its owner keeps up, from the file when it does not.

use crate::readers::Readers;
use crate::shared::{Shared, Tail};
use crate::{metrics::add, queries};
use async_trait::async_trait;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use zegel_core::{Batch, BatchLimits, BrokerError, Delivery, Settlement, Slot, StoreError, Subscription};

/// See the module's header.
pub(crate) struct SlotStream {
    pub(crate) shared: Arc<Shared>,
    pub(crate) readers: Arc<Readers>,
    pub(crate) slot: Slot,
    /// The last number handed out. It moves only when a batch is returned, so a dropped call loses nothing.
    pub(crate) from: u64,
}

impl SlotStream {
    /// The next messages from the file. What was trimmed meanwhile is skipped: every group had passed it.
    async fn read_file(&mut self, last: u64, limits: BatchLimits) -> Result<Vec<Delivery>, BrokerError> {
        let (place, from) = ((self.slot.channel, self.slot.partition), self.from);
        let read = self.readers.run(move |connection| queries::messages(connection, place, from, last, limits)).await;
        let found = read.map_err(broker_error)?;
        add(&self.shared.metrics.tail_misses, 1);
        if found.is_empty() {
            self.from = last;
        }
        Ok(found)
    }

    fn batch(&mut self, deliveries: Vec<Delivery>) -> Batch {
        let up_to = deliveries.last().map_or(self.from, |last| last.number);
        self.from = up_to;
        Batch { deliveries, settlement: Settlement { up_to } }
    }
}

#[async_trait]
impl Subscription for SlotStream {
    async fn next(&mut self, limits: BatchLimits) -> Result<Batch, BrokerError> {
        let shared = Arc::clone(&self.shared);
        let Some((partition, _)) = shared.find(self.slot) else {
            return Err(BrokerError::UnknownChannel(self.slot.channel));
        };
        loop {
            let mut arrived = std::pin::pin!(partition.arrived.notified());
            // Registered before looking, so that a message between looking and waiting is not missed.
            arrived.as_mut().enable();
            if shared.is_closed() {
                return Err(BrokerError::Closed);
            }
            match partition.after(self.from, limits) {
                Tail::Batch(deliveries) => {
                    add(&shared.metrics.tail_hits, 1);
                    return Ok(self.batch(deliveries));
                }
                Tail::OnFile(last) => {
                    let deliveries = self.read_file(last, limits).await?;
                    if !deliveries.is_empty() {
                        return Ok(self.batch(deliveries));
                    }
                }
                Tail::Nothing => arrived.await,
            }
        }
    }

    async fn settle(&mut self, settlement: Settlement) -> Result<(), BrokerError> {
        let Some((partition, progress)) = self.shared.find(self.slot) else {
            return Err(BrokerError::UnknownChannel(self.slot.channel));
        };
        // Kept in memory until the writer trims: losing it means only that messages are delivered again.
        progress.settled.fetch_max(settlement.up_to, Ordering::AcqRel);
        self.shared.pass(partition);
        Ok(())
    }
}

pub(crate) fn broker_error(error: StoreError) -> BrokerError {
    match error {
        StoreError::Closed => BrokerError::Closed,
        StoreError::Full(what) => BrokerError::NoRoom(what),
        other => BrokerError::Unavailable(other.to_string()),
    }
}
