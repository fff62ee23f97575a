//! Holding a slot for a duty that is no stage: claim, turn after turn, renew, release; again after any loss.

use crate::broker::BrokerError;
use crate::clock::Clock;
use crate::keys::KeysError;
use crate::runner::Division;
use crate::slot::{OwnerId, Slot};
use crate::store::{Claim, Outbox, StoreError};
use async_trait::async_trait;
use schemas::Millis;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// After a loss, or while another process has the slot, so long until it is claimed again.
const RECLAIM: Duration = Duration::from_millis(300);

/// Why a duty lets its slot go.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Loss {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error(transparent)]
    Keys(#[from] KeysError),
    #[error("parcels are missing before those that arrived; the lane is read again")]
    Gap,
    #[error("a row of an intake cannot be read")]
    Row(#[from] crate::rows::RowError),
}

/// What is done while the slot is held.
#[async_trait]
pub(crate) trait Duty: Send {
    /// The slot was claimed.
    async fn begin(&mut self, claim: Claim) -> Result<(), Loss>;
    /// Works for at most about half a second, or waits so long for work.
    async fn turn(&mut self) -> Result<(), Loss>;
    /// The slot is about to be released; `lost` when it is lost already.
    async fn end(&mut self, lost: bool) -> Result<(), Loss>;
}

/// Where and how a duty holds its slot.
pub(crate) struct Lease {
    pub slot: Slot,
    pub owner: OwnerId,
    pub lease_ms: i64,
    pub store: Arc<dyn Outbox>,
    pub clock: Arc<dyn Clock>,
    pub division: Arc<Division>,
    pub stop: watch::Receiver<bool>,
}

impl Lease {
    /// Does the duty whenever the slot is this process's share, until told to stop.
    pub async fn run(mut self, mut duty: impl Duty) {
        while !*self.stop.borrow() {
            if self.division.is_mine(self.slot) {
                match self.store.claim(self.slot, self.owner, self.clock.now(), self.lease_ms).await {
                    Ok(Some(claim)) => self.hold(claim, &mut duty).await,
                    Ok(None) => {}
                    Err(StoreError::Closed) => return,
                    Err(error) => tracing::warn!(slot = %self.slot, %error, "slot cannot be claimed"),
                }
            }
            let mut stop = self.stop.clone();
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => {}
                () = tokio::time::sleep(RECLAIM) => {}
            }
        }
    }

    async fn hold(&mut self, claim: Claim, duty: &mut impl Duty) {
        let worked = self.work(claim, duty).await;
        let lost = matches!(worked, Err(Loss::Store(StoreError::Fenced { .. } | StoreError::Closed)));
        if let Err(loss) = worked {
            tracing::warn!(slot = %self.slot, error = %loss, "slot is let go and claimed again");
        }
        let ended = duty.end(lost).await;
        if let (false, Err(loss)) = (lost, &ended) {
            tracing::warn!(slot = %self.slot, error = %loss, "slot was not left in order");
        }
        if !lost {
            let _runs_out_otherwise = self.store.release(self.slot, claim.epoch, ended.is_ok()).await;
        }
    }

    async fn work(&mut self, claim: Claim, duty: &mut impl Duty) -> Result<(), Loss> {
        let mut renew_at = self.renewal();
        duty.begin(claim).await?;
        while !*self.stop.borrow() && self.division.is_mine(self.slot) {
            let now = self.clock.now();
            if now >= renew_at {
                self.store.renew(self.slot, claim.epoch, now.plus(self.lease_ms)).await?;
                renew_at = self.renewal();
            }
            duty.turn().await?;
        }
        Ok(())
    }

    fn renewal(&self) -> Millis {
        self.clock.now().plus(self.lease_ms / 3)
    }
}
