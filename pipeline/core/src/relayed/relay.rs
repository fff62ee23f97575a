//! The relay of one partition: carries the store's numbered messages to the broker, in number order.
//!
//! Invariants: messages are sent in number order from the lowest unconfirmed on, so a reader sees no gap that does not close;
//! the position is committed after the confirm, now and then: after a crash a stretch is sent twice, and readers know it
//! by its numbers (I2).

use super::lease::{Duty, Loss};
use super::progress::Watch;
use crate::broker::{BatchLimits, Delivery};
use crate::slot::Slot;
use crate::store::{Claim, Outbox, Step};
use crate::transport::{Lane, Mark, Parcel, Transport};
use async_trait::async_trait;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One send: enough that a confirm is shared, few enough that memory stays small (66 relays in a process).
const SEND: BatchLimits = BatchLimits { messages: 500, bytes: 1 << 20 };
/// The position is written at most so often; what lies between is sent again after a crash.
const RECORD: Duration = Duration::from_millis(200);
/// After a send that failed, so long until the next.
const RETRY: Duration = Duration::from_millis(200);
/// The longest wait for work in one turn.
const IDLE: Duration = Duration::from_millis(500);

/// See the module's header.
pub(crate) struct Relay {
    slot: Slot,
    store: Arc<dyn Outbox>,
    transport: Arc<dyn Transport>,
    progress: Watch,
    epoch: u64,
    /// The last number confirmed.
    confirmed: u64,
    /// The last number confirmed that the store knows of.
    recorded: u64,
    recorded_at: Instant,
    /// Sends fail since some turns: said once, not five times a second for as long as a broker is away.
    failing: bool,
}

impl Relay {
    pub fn new(slot: Slot, store: Arc<dyn Outbox>, transport: Arc<dyn Transport>, progress: Watch) -> Relay {
        Relay {
            slot,
            store,
            transport,
            progress,
            epoch: 0,
            confirmed: 0,
            recorded: 0,
            recorded_at: Instant::now(),
            failing: false,
        }
    }

    async fn send(&mut self) -> Result<bool, Loss> {
        let Slot { channel, partition, .. } = self.slot;
        let messages = self.store.outgoing(channel, partition, self.confirmed, SEND).await?;
        if messages.is_empty() {
            return Ok(false);
        }
        let numbers: Vec<u64> = messages.iter().map(|message| message.number).collect();
        let lane = Lane { channel, partition, intake: false };
        let outcomes = self.transport.send(lane, messages.into_iter().map(parcel).collect()).await;
        for (number, outcome) in numbers.into_iter().zip(outcomes) {
            if let Err(error) = outcome {
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(slot = %self.slot, %error, "a message was not confirmed and is sent again until it is");
                }
                tokio::time::sleep(RETRY).await;
                break;
            }
            self.confirmed = number;
            if std::mem::take(&mut self.failing) {
                tracing::info!(slot = %self.slot, "messages are confirmed again");
            }
        }
        Ok(true)
    }

    async fn record(&mut self) -> Result<(), Loss> {
        if self.confirmed > self.recorded {
            let step = Step { position: Some(self.confirmed), ..Step::empty(self.slot, self.epoch) };
            self.store.commit(step).await?;
            self.recorded = self.confirmed;
        }
        self.recorded_at = Instant::now();
        Ok(())
    }
}

fn parcel(message: Delivery) -> Parcel {
    Parcel { mark: Mark::Number(message.number), key: message.key, id: message.id, body: message.body }
}

#[async_trait]
impl Duty for Relay {
    async fn begin(&mut self, claim: Claim) -> Result<(), Loss> {
        self.epoch = claim.epoch;
        (self.confirmed, self.recorded) = (claim.position, claim.position);
        Ok(())
    }

    async fn turn(&mut self) -> Result<(), Loss> {
        if self.recorded_at.elapsed() >= RECORD {
            self.record().await?;
        }
        let wait = if self.confirmed > self.recorded { RECORD } else { IDLE };
        let beyond = self.progress.last_above(self.slot, self.confirmed);
        if tokio::time::timeout(wait, beyond).await.is_ok() && !self.send().await? {
            tokio::time::sleep(RETRY).await; // the count is ahead of what can be read: not for long
        }
        Ok(())
    }

    async fn end(&mut self, lost: bool) -> Result<(), Loss> {
        if lost { Ok(()) } else { self.record().await }
    }
}
