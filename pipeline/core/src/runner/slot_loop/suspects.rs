//! What may have ended the process: found by trying it alone, each try on record before it begins.
//!
//! Suspects are the first batch, what was parked and due, and the jobs that ran, when the last owner of a slot ended
//! uncleanly. One of them at a time is tried in the process, until what came of it is committed, so that it is blamed only
//! for an end of the process that nothing but it, or what is no suspect yet, can have caused.

use super::{Loss, Owned, SlotLoop};
use crate::runner::engine::Item;
use crate::runner::turn::parked_item;
use crate::sealing::job_context;
use crate::store::Step;
use crate::worker::JobError;
use schemas::Millis;
use tokio::sync::OwnedMutexGuard;

impl SlotLoop {
    /// Starts the job of a parked message again. One whose downstream's breaker is open waits. One that ran when the last
    /// owner ended is a suspect: it runs alone among them with its start on record, and one whose starts on record are
    /// used up is given up.
    pub(super) async fn restart_job(&self, owned: &mut Owned, number: u64, suspect: bool) -> Result<(), Loss> {
        let Some(parked) = self.ports.store.parked(self.slot, vec![number]).await?.pop() else {
            return Ok(());
        };
        let now = self.ports.clock.now();
        let Some(job) = parked.job.as_ref() else { return Ok(()) };
        if let Some(until) = self.worker.downstream().and_then(|d| self.shared.breakers.open_until(d, now)) {
            return self.park_again(owned, parked, until).await;
        }
        if suspect && job.starts >= self.config.crash_attempts {
            let poison = JobError { code: "ZGL-POISON".to_owned(), retryable: false };
            return self.process(owned, vec![parked_item(parked, Some(Err(poison)))], None).await;
        }
        let spec = self.ports.keys.open(&job_context(self.slot.group, parked.key, parked.id), &job.spec)?;
        let (key, mut again) = (parked.key, parked);
        if suspect {
            again.due = Millis::NEVER;
            if let Some(job) = again.job.as_mut() {
                job.starts += 1;
            }
            let mut record = Step::empty(self.slot, owned.engine.epoch);
            record.parked.push(again);
            self.start_job(owned, (number, key, spec), Some(record));
        } else {
            self.park_again(owned, again, Millis::NEVER).await?;
            self.start_job(owned, (number, key, spec), None);
        }
        Ok(())
    }

    /// After an unclean stop: whether the owner before was not the first in a row that stopped so. One may be the machine's
    /// fault, and then whole batches are quicker. Counted under the number 0, so that no message is blamed for it.
    pub(super) async fn is_suspect(&self, epoch: u64) -> Result<bool, Loss> {
        Ok(self.ports.store.begin_attempt(self.slot, epoch, 0).await? > 1)
    }

    /// One message at a time in the whole process, each attempt recorded before it begins.
    pub(super) async fn process_singly(&self, owned: &mut Owned, items: Vec<Item>) -> Result<(), Loss> {
        tracing::warn!(slot = %self.slot, messages = items.len(), "after an unclean stop, messages are tried singly");
        for mut item in items {
            let _alone = self.alone(owned).await?;
            if item.parked && !owned.parking.is_first(item.number, item.key) {
                continue; // its predecessor was parked again
            }
            let attempts = self.ports.store.begin_attempt(self.slot, owned.engine.epoch, item.number).await?;
            if attempts > self.config.crash_attempts {
                item.condemned = Some("ZGL-POISON");
            }
            self.process(owned, vec![item], None).await?;
        }
        Ok(())
    }

    /// Waits until no other suspect is being tried. Meanwhile jobs that ended are taken: one of them may be what is waited for.
    async fn alone(&self, owned: &mut Owned) -> Result<OwnedMutexGuard<()>, Loss> {
        loop {
            tokio::select! {
                alone = self.shared.suspects.clone().lock_owned() => return Ok(alone),
                Some(ended) = owned.ended_rx.recv() => self.job_ended(owned, ended).await?,
            }
        }
    }
}
