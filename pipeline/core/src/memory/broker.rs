//! The in-memory store as a broker: publishing at the edge, and a slot's stream.

use super::{Memory, Shared, State};
use crate::broker::{Batch, BatchLimits, Broker, BrokerError, Outgoing, Settlement, Subscription};
use crate::slot::Slot;
use async_trait::async_trait;
use std::sync::Arc;

/// When a refused producer is to try again. A second is long enough for a backlog to move and short for a person.
const RETRY_AFTER_MS: u64 = 1_000;

impl Memory {
    fn admit(&self, state: &State, message: &Outgoing) -> Result<(), BrokerError> {
        let channel =
            topology::channels::by_code(message.channel).ok_or(BrokerError::UnknownChannel(message.channel))?;
        if state.closed {
            return Err(BrokerError::Closed);
        }
        if state.waiting(channel) >= self.high_water.unwrap_or(channel.high_water) {
            return Err(BrokerError::Full { channel: channel.name, retry_after_ms: RETRY_AFTER_MS });
        }
        Ok(())
    }
}

#[async_trait]
impl Broker for Memory {
    async fn publish(&self, batch: Vec<Outgoing>) -> Vec<Result<(), BrokerError>> {
        let mut state = self.shared.lock();
        // Admission looks at the state before the batch, so that a batch is not cut in the middle of a channel.
        let admitted: Vec<_> = batch.iter().map(|message| self.admit(&state, message)).collect();
        for (message, admitted) in batch.into_iter().zip(&admitted) {
            if let (Ok(()), Some(channel)) = (admitted, topology::channels::by_code(message.channel)) {
                state.append(channel, message);
            }
        }
        drop(state);
        self.shared.arrived.notify_waiters();
        admitted
    }

    async fn subscribe(&self, slot: Slot, from: u64) -> Result<Box<dyn Subscription>, BrokerError> {
        if self.shared.lock().closed {
            return Err(BrokerError::Closed);
        }
        let channel = topology::channels::by_code(slot.channel).filter(|channel| slot.partition < channel.partitions);
        channel.ok_or(BrokerError::UnknownChannel(slot.channel))?;
        Ok(Box::new(MemorySubscription { shared: Arc::clone(&self.shared), slot, from }))
    }
}

struct MemorySubscription {
    shared: Arc<Shared>,
    slot: Slot,
    /// The last number handed out.
    from: u64,
}

impl MemorySubscription {
    fn take(&mut self, limits: BatchLimits) -> Result<Option<Batch>, BrokerError> {
        let state = self.shared.lock();
        if state.closed {
            return Err(BrokerError::Closed);
        }
        let Some(log) = state.logs.get(&(self.slot.channel, self.slot.partition)) else { return Ok(None) };
        let deliveries = log.above(self.from, limits);
        let Some(last) = deliveries.last() else { return Ok(None) };
        let up_to = last.number;
        self.from = up_to;
        Ok(Some(Batch { deliveries, settlement: Settlement { up_to } }))
    }
}

#[async_trait]
impl Subscription for MemorySubscription {
    async fn next(&mut self, limits: BatchLimits) -> Result<Batch, BrokerError> {
        let shared = Arc::clone(&self.shared);
        loop {
            let mut arrived = std::pin::pin!(shared.arrived.notified());
            // Registered before looking, so that a message between looking and waiting is not missed.
            arrived.as_mut().enable();
            if let Some(batch) = self.take(limits)? {
                return Ok(batch);
            }
            arrived.await;
        }
    }

    async fn settle(&mut self, settlement: Settlement) -> Result<(), BrokerError> {
        let mut state = self.shared.lock();
        let row = state.slots.entry(self.slot).or_default();
        row.settled = row.settled.max(settlement.up_to);
        state.trim(self.slot);
        Ok(())
    }
}
