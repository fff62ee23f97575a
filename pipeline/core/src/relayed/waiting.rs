//! How many messages of a channel wait, as an edge needs to know it: never too low by more than other edges added in a
//! second, and without asking anybody for most messages.
//!
//! The count of the last look plus what was sent since is an upper bound. Only when that reaches the mark, or the look is
//! old, is looked again: at the intake lanes of the broker and, when the store answers, at what it numbered and nobody has
//! applied. While the store is away, what waits in the broker counts alone.

use crate::broker::BrokerError;
use crate::slot::{INTAKE, Slot};
use crate::store::Outbox;
use crate::transport::Transport;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use topology::Channel;

/// When a refused producer is to try again. A second is long enough for a backlog to move and short for a person.
const RETRY_AFTER_MS: u64 = 1_000;
/// A look older than this is done again, beside the request that noticed it.
const OLD: Duration = Duration::from_secs(1);
/// Above the mark, looks are at least so far apart.
const PAUSE: Duration = Duration::from_millis(5);

/// See the module's header.
pub(crate) struct Waiting {
    transport: Arc<dyn Transport>,
    store: Arc<dyn Outbox>,
    counts: Mutex<HashMap<u16, Count>>,
    /// One look at a time.
    looking: tokio::sync::Mutex<()>,
}

#[derive(Clone, Copy)]
struct Count {
    waiting: u64,
    sent_since: u64,
    looked: Instant,
}

impl Waiting {
    pub fn new(transport: Arc<dyn Transport>, store: Arc<dyn Outbox>) -> Waiting {
        Waiting { transport, store, counts: Mutex::default(), looking: tokio::sync::Mutex::default() }
    }

    /// Counts these messages in, or says that the channel is full.
    pub async fn admit(
        self: &Arc<Self>,
        channel: &'static Channel,
        mark: u64,
        messages: u64,
    ) -> Result<(), BrokerError> {
        let (full, old) = self.judge(channel, mark);
        if full {
            let _one_at_a_time = self.looking.lock().await;
            let (still_full, _) = self.judge(channel, mark);
            if still_full {
                self.look(channel).await;
            }
        } else if old {
            let waiting = Arc::clone(self);
            tokio::spawn(async move {
                if let Ok(_one_at_a_time) = waiting.looking.try_lock() {
                    waiting.look(channel).await;
                }
            });
        }
        if self.judge(channel, mark).0 {
            return Err(BrokerError::Full { channel: channel.name, retry_after_ms: RETRY_AFTER_MS });
        }
        if let Some(count) = self.lock().get_mut(&channel.code) {
            count.sent_since += messages;
        }
        Ok(())
    }

    /// Whether the channel is at its mark as far as is known, and whether that is old.
    fn judge(&self, channel: &Channel, mark: u64) -> (bool, bool) {
        let mut counts = self.lock();
        let fresh = || Count { waiting: 0, sent_since: 0, looked: Instant::now() };
        let count = counts.entry(channel.code).or_insert_with(fresh);
        (count.waiting + count.sent_since >= mark, count.looked.elapsed() > OLD)
    }

    async fn look(&self, channel: &'static Channel) {
        tokio::time::sleep(PAUSE).await;
        let before = self.lock().get(&channel.code).map_or(0, |count| count.sent_since);
        let slot = |partition| Slot { channel: channel.code, group: INTAKE, partition };
        let depths = (0..channel.partitions).map(|partition| self.transport.depth(slot(partition)));
        let depths = futures_util::future::join_all(depths).await;
        // A broker that does not answer takes nothing either; its own refusal says so.
        let mut waiting: u64 = depths.into_iter().map(|depth| depth.unwrap_or(0)).sum();
        if let Ok(progress) = self.store.progress().await {
            let of_channel = progress.iter().filter(|one| one.channel == channel.code);
            waiting += of_channel.map(|one| one.last.saturating_sub(one.applied)).sum::<u64>();
        }
        let mut counts = self.lock();
        let since = counts.get(&channel.code).map_or(0, |count| count.sent_since.saturating_sub(before));
        counts.insert(channel.code, Count { waiting, sent_since: since, looked: Instant::now() });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u16, Count>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
