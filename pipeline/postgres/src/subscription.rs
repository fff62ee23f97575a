//! A slot's stream of messages, read by number.

use crate::pool::Pool;
use crate::queries;
use crate::shared::Shared;
use async_trait::async_trait;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use zegel_core::{Batch, BatchLimits, BrokerError, Settlement, Slot, StoreError, Subscription};

/// See the module's header.
pub(crate) struct SlotStream {
    pub(crate) shared: Arc<Shared>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) slot: Slot,
    /// The last number handed out. It moves only when a batch is returned, so a dropped call loses nothing.
    pub(crate) from: u64,
}

#[async_trait]
impl Subscription for SlotStream {
    async fn next(&mut self, limits: BatchLimits) -> Result<Batch, BrokerError> {
        let shared = Arc::clone(&self.shared);
        let Some((partition, _)) = shared.find(self.slot) else {
            return Err(BrokerError::UnknownChannel(self.slot.channel));
        };
        let place = (self.slot.channel, self.slot.partition);
        loop {
            let mut arrived = std::pin::pin!(partition.arrived.notified());
            // Registered before looking, so that a message between looking and waiting is not missed.
            arrived.as_mut().enable();
            if shared.is_closed() {
                return Err(BrokerError::Closed);
            }
            let (from, last) = (self.from, partition.last.load(Ordering::Acquire));
            if last <= from {
                arrived.await;
                continue;
            }
            let read = self.pool.repeat(|session| queries::messages(session, place, from, limits));
            let deliveries = read.await.map_err(broker_error)?;
            // Nothing left up to a number that is committed: it was deleted, every group had passed it.
            let up_to = deliveries.last().map_or(last, |newest| newest.number);
            self.from = up_to;
            if !deliveries.is_empty() {
                return Ok(Batch { deliveries, settlement: Settlement { up_to } });
            }
        }
    }

    async fn settle(&mut self, settlement: Settlement) -> Result<(), BrokerError> {
        let Some((_, progress)) = self.shared.find(self.slot) else {
            return Err(BrokerError::UnknownChannel(self.slot.channel));
        };
        // Kept in memory until messages are deleted: losing it means only that messages are delivered again.
        progress.settled.fetch_max(settlement.up_to, Ordering::AcqRel);
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
