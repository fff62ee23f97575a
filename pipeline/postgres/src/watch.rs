//! Two tasks beside the commits: one looks at what other processes did, one deletes what every group has passed.
//!
//! Looking is a query over the partitions' few rows every some milliseconds and wakes this process's subscribers. Notifications
//! of the database would be quicker by that time, but every commit that notifies takes one lock of the whole database.

use crate::metrics::{Metrics, add};
use crate::pool::Pool;
use crate::queries;
use crate::shared::{Partition, Shared};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use zegel_core::StoreError;
use zegel_core::packed::{partition_code, partition_of_code, slot_code};

/// Messages deleted in one transaction: a few milliseconds.
const TRIM_MESSAGES: i64 = 4_096;
/// How often messages are deleted and the groups' progress in other processes is looked at.
const TIDY: Duration = Duration::from_millis(500);

/// See the module's header.
#[derive(Clone)]
pub(crate) struct Watch {
    pub(crate) shared: Arc<Shared>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) metrics: Arc<Metrics>,
}

impl Watch {
    /// Takes over what the database says of last numbers.
    pub(crate) async fn look(&self) -> Result<(), StoreError> {
        for (code, last) in self.pool.repeat(queries::lasts).await? {
            let (channel, partition) = partition_of_code(code);
            if let Some(partition) = self.shared.partition(channel, partition) {
                partition.grew(last);
            }
        }
        Ok(())
    }

    /// Takes over what the database says of the groups' progress.
    pub(crate) async fn look_at_groups(&self) -> Result<(), StoreError> {
        for (slot, position, settled) in self.pool.repeat(queries::floors).await? {
            if let Some((_, progress)) = self.shared.find(slot) {
                progress.position.fetch_max(position, Ordering::AcqRel);
                progress.settled.fetch_max(settled, Ordering::AcqRel);
            }
        }
        Ok(())
    }

    /// Looks again and again, until the store is closed. What cannot be seen now is seen later.
    pub(crate) async fn run(self, every: Duration) {
        while self.sleep(every).await {
            if let Err(error) = self.look().await {
                tracing::debug!(%error, "cannot look for messages of other processes");
            }
        }
    }

    /// Deletes again and again, until the store is closed.
    pub(crate) async fn tidy(self) {
        while self.sleep(TIDY).await {
            let tidied = async {
                self.look_at_groups().await?;
                for partition in &self.shared.partitions {
                    self.trim(partition).await?;
                }
                Ok::<(), StoreError>(())
            };
            if let Err(error) = tidied.await {
                tracing::debug!(%error, "what every group has passed cannot be deleted now");
            }
        }
    }

    /// False when the store was closed meanwhile.
    async fn sleep(&self, time: Duration) -> bool {
        let mut ended = std::pin::pin!(self.shared.ended.notified());
        ended.as_mut().enable();
        if self.shared.is_closed() {
            return false;
        }
        tokio::time::timeout(time, ended).await.is_err()
    }

    /// Piece by piece, until nothing more is known to be passed or another process is found to do it.
    async fn trim(&self, partition: &Partition) -> Result<(), StoreError> {
        let which = partition_code(partition.channel.code, partition.number);
        let slots: Vec<i64> = partition.groups.iter().map(|group| slot_code(group.slot)).collect();
        loop {
            let goal = partition.floor().min(partition.last.load(Ordering::Acquire));
            if goal <= partition.trimmed.load(Ordering::Acquire) || self.shared.is_closed() {
                return Ok(());
            }
            let settled: Vec<i64> =
                partition.groups.iter().map(|group| group.settled.load(Ordering::Acquire).cast_signed()).collect();
            let call = |session| queries::trim(session, which, &slots, &settled, TRIM_MESSAGES);
            let (removed, up_to) = self.pool.repeat(call).await?;
            add(&self.metrics.trimmed, usize::try_from(removed).unwrap_or(usize::MAX));
            let Some(up_to) = up_to else { return Ok(()) };
            let before = partition.trimmed.fetch_max(up_to.cast_unsigned(), Ordering::AcqRel);
            if up_to.cast_unsigned() <= before {
                return Ok(());
            }
        }
    }
}
