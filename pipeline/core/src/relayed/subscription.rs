//! A slot's stream over a transport: in number order, without gaps and repetitions, whatever the broker does.
//!
//! A number below the next is a repetition and dropped; one above waits for the gap. When a gap stays, or the broker is
//! silent although the relay was told that the messages are in it, they are read from the store, which keeps them until
//! they are applied: a broker that lost its disk delays, and loses nothing.

use crate::broker::{Batch, BatchLimits, BrokerError, Delivery, Settlement, Subscription};
use crate::slot::Slot;
use crate::store::Outbox;
use crate::transport::{Arrival, Arrivals, Mark};
use async_trait::async_trait;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes of parcels that wait for a gap to close; beyond it the missing ones are read from the store at once.
const EARLY_BYTES: usize = 8 << 20;

/// See the module's header.
pub(crate) struct RelayedSubscription {
    slot: Slot,
    arrivals: Box<dyn Arrivals>,
    store: Arc<dyn Outbox>,
    /// The last number handed out.
    from: u64,
    early: BTreeMap<u64, Delivery>,
    early_bytes: usize,
    /// Tag and number of what arrived and is not settled, in order of arrival.
    unsettled: VecDeque<(u64, u64)>,
    /// Silence after which the store is asked.
    patience: Duration,
    heard: Instant,
}

impl RelayedSubscription {
    pub fn new(
        slot: Slot,
        from: u64,
        arrivals: Box<dyn Arrivals>,
        store: Arc<dyn Outbox>,
        patience: Duration,
    ) -> RelayedSubscription {
        let (early, unsettled) = (BTreeMap::new(), VecDeque::new());
        RelayedSubscription {
            slot,
            arrivals,
            store,
            from,
            early,
            early_bytes: 0,
            unsettled,
            patience,
            heard: Instant::now(),
        }
    }

    fn keep(&mut self, arrival: Arrival) {
        let Mark::Number(number) = arrival.parcel.mark else {
            tracing::error!(slot = %self.slot, "a parcel without a number lies in a numbered lane and is left out");
            self.unsettled.push_back((arrival.tag, 0));
            return;
        };
        self.unsettled.push_back((arrival.tag, number));
        if number > self.from && !self.early.contains_key(&number) {
            let parcel = arrival.parcel;
            self.early_bytes += parcel.body.len();
            self.early.insert(number, Delivery { number, key: parcel.key, id: parcel.id, body: parcel.body });
        }
    }

    /// What can be handed out now.
    fn ready(&mut self, limits: BatchLimits) -> Option<Batch> {
        let mut deliveries: Vec<Delivery> = Vec::new();
        let mut bytes = 0;
        while deliveries.len() < limits.messages.max(1) {
            let Some(next) = self.early.get(&(self.from + 1)) else { break };
            if !deliveries.is_empty() && bytes + next.body.len() > limits.bytes {
                break;
            }
            bytes += next.body.len();
            self.from += 1;
            deliveries.extend(self.early.remove(&self.from));
        }
        self.early_bytes -= bytes;
        deliveries.last().map(|last| last.number).map(|up_to| Batch { deliveries, settlement: Settlement { up_to } })
    }

    /// Reads from the store what the broker owes.
    async fn repair(&mut self, limits: BatchLimits) -> Result<(), BrokerError> {
        self.heard = Instant::now();
        let away = |error: crate::store::StoreError| BrokerError::Unavailable(error.to_string());
        let progress = self.store.progress().await.map_err(away)?;
        let Slot { channel, partition, .. } = self.slot;
        let relayed = progress.iter().find(|one| (one.channel, one.partition) == (channel, partition));
        let Some(relayed) = relayed.map(|one| one.relayed).filter(|relayed| *relayed > self.from) else {
            return Ok(()); // the broker owes nothing: the relay has yet to bring it
        };
        let owed = self.store.outgoing(channel, partition, self.from, limits).await.map_err(away)?;
        let owed: Vec<Delivery> = owed.into_iter().take_while(|one| one.number <= relayed).collect();
        tracing::warn!(slot = %self.slot, messages = owed.len(), "the broker was silent; messages were read from the store");
        for delivery in owed {
            if !self.early.contains_key(&delivery.number) {
                self.early_bytes += delivery.body.len();
                self.early.insert(delivery.number, delivery);
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Subscription for RelayedSubscription {
    async fn next(&mut self, limits: BatchLimits) -> Result<Batch, BrokerError> {
        loop {
            if let Some(batch) = self.ready(limits) {
                self.heard = Instant::now();
                return Ok(batch);
            }
            let left = self.patience.saturating_sub(self.heard.elapsed());
            if left.is_zero() || self.early_bytes > EARLY_BYTES {
                self.repair(limits).await?;
                continue;
            }
            if let Ok(arrivals) = tokio::time::timeout(left, self.arrivals.next(limits)).await {
                arrivals?.into_iter().for_each(|arrival| self.keep(arrival));
            }
        }
    }

    async fn settle(&mut self, settlement: Settlement) -> Result<(), BrokerError> {
        let mut settled = None;
        while let Some((tag, _)) = self.unsettled.front().filter(|(_, number)| *number <= settlement.up_to) {
            settled = Some(*tag);
            self.unsettled.pop_front();
        }
        match settled {
            Some(tag) => self.arrivals.settle(tag).await,
            None => Ok(()),
        }
    }
}
