//! The whole pipeline in this process, on a real folder: store, keys, objects, workers, and what watches them.

use anyhow::{Context, Result, anyhow};
use async_trait::async_trait;
use schemas::messages::OpenBox;
use schemas::{Envelope, Key, MailboxAddress, MessageId, Millis};
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use zegel_core::clock::{Clock, SystemClock};
use zegel_core::replies::Replies;
use zegel_core::sealing::seal_message;
use zegel_core::slot::spaces;
use zegel_core::store::{Claim, DeadFilter, DeadLetter, Parked, ParkedHead, SlotStats, Timer, TimerChange};
use zegel_core::{
    Broker, Keys, Metrics, Objects, Outgoing, OwnerId, Ports, Read, Rows, Runner, RunnerConfig, Slot, Step, Store,
    StoreError,
};
use zegel_crypto::Keyring;
use zegel_embedded::Embedded;

/// The addresses of the load.
pub const HOSPITAL: &str = "NIHII-HOSPITAL:71000436";
/// The registry.
pub const REGISTRY: &str = "CBE:0123456749";
/// The TTP.
pub const TTP: &str = "CBE:0199999944";

/// Reads an address that is known to be valid.
///
/// # Errors
/// When it is not.
pub fn address(text: &str) -> Result<MailboxAddress> {
    text.parse().map_err(|_| anyhow!("{text} is not an address"))
}

/// Store, broker, keys and objects on a folder.
pub struct World {
    /// The one file.
    pub embedded: Arc<Embedded>,
    /// The store that the runner uses: ours, watched.
    pub store: Arc<Watched>,
    /// Keys.
    pub keys: Arc<Keyring>,
    /// Large content.
    pub objects: Arc<dyn Objects>,
    /// Waiters.
    pub replies: Arc<Replies>,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

impl World {
    /// Opens a fresh one.
    ///
    /// # Errors
    /// When the folder cannot be used.
    pub fn open(folder: &Path) -> Result<World> {
        std::fs::create_dir_all(folder)?;
        let embedded = Embedded::open(folder.join("zegel.db"), zegel_embedded::Options::default())?;
        let keys = Arc::new(Keyring::generate_in_memory());
        let objects = zegel_objects::EncryptedObjects::open_local(
            &folder.join("objects"),
            keys.clone(),
            tokio::runtime::Handle::current(),
        )?;
        let registry = zegel_core::names::address_key(&*keys, &address(REGISTRY)?);
        Ok(World {
            store: Arc::new(Watched { inner: embedded.clone(), registry, watch: Mutex::default() }),
            embedded,
            keys,
            objects: Arc::new(objects),
            replies: Arc::default(),
            metrics: Arc::new(Metrics::new()?),
        })
    }

    /// A runner over it.
    #[must_use]
    pub fn runner(&self) -> Runner {
        let ports = Ports {
            broker: self.embedded.clone(),
            store: self.store.clone(),
            objects: self.objects.clone(),
            keys: self.keys.clone(),
            clock: Arc::new(SystemClock),
            replies: self.replies.clone(),
            metrics: self.metrics.clone(),
        };
        Runner::new(ports, RunnerConfig::default())
    }

    /// Opens a box and waits until it is there.
    ///
    /// # Errors
    /// When the box does not open within 10 s.
    pub async fn open_box(&self, owner: &str) -> Result<()> {
        let owner = address(owner)?;
        let key = zegel_core::names::address_key(&*self.keys, &owner);
        let channel = topology::channels::by_name("mailbox.deliver").context("channel")?;
        let payload = OpenBox { address: owner, max_bytes: u64::MAX / 4 };
        let id = MessageId(self.keys.random16());
        let envelope = Envelope::new(id, "/zegel/load", key, SystemClock.now(), &payload)?;
        let reply = self.replies.expect(id).context("too many waiters")?;
        self.publish(vec![seal_message(&*self.keys, channel, &envelope)?]).await?;
        tokio::time::timeout(Duration::from_secs(10), reply).await??;
        Ok(())
    }

    /// The slots that have not applied everything, for a report on what hangs.
    ///
    /// # Errors
    /// The store's.
    pub async fn stuck(&self) -> Result<String> {
        let behind = |line: &SlotStats| line.position < line.last || line.parked > 0 || line.dead > 0;
        let lines = self.store.stats().await?.into_iter().filter(behind);
        let text = |line: SlotStats| {
            format!("{} {} of {}, {} parked, {} dead", line.slot, line.position, line.last, line.parked, line.dead)
        };
        Ok(lines.map(text).collect::<Vec<_>>().join("; "))
    }

    /// Publishes, and fails when one message is not durable.
    ///
    /// # Errors
    /// The broker's.
    pub async fn publish(&self, batch: Vec<Outgoing>) -> Result<()> {
        for result in self.embedded.publish(batch).await {
            result?;
        }
        Ok(())
    }
}

/// A store that notes when each submission's final answer became durable: in the step that cancels its deadline.
pub struct Watched {
    inner: Arc<Embedded>,
    registry: Key,
    watch: Mutex<Watch>,
}

/// What is under observation.
#[derive(Default)]
struct Watch {
    /// When each submission without an answer was handed over.
    open: HashMap<Key, Instant>,
    /// How long the others waited for theirs.
    answered: Vec<Duration>,
    /// Items that entered the registry's box: a refusal is an answer, too.
    delivered: usize,
}

impl Watched {
    /// Begins to observe a submission.
    pub fn expect(&self, submission: Key) {
        self.watch().open.insert(submission, Instant::now());
    }

    /// How many submissions have their answer, of those observed.
    pub fn answered(&self) -> usize {
        self.watch().answered.len()
    }

    /// How many items entered the registry's box.
    pub fn delivered(&self) -> usize {
        self.watch().delivered
    }

    /// Ends the observation. How long each submission waited for its answer.
    pub fn take(&self) -> Vec<Duration> {
        std::mem::take(&mut *self.watch()).answered
    }

    fn note(&self, answered: Vec<Key>, delivered: usize) {
        let now = Instant::now();
        let mut watch = self.watch();
        watch.delivered += delivered;
        for key in answered {
            if let Some(sent) = watch.open.remove(&key) {
                watch.answered.push(now - sent);
            }
        }
    }

    fn watch(&self) -> MutexGuard<'_, Watch> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Store for Watched {
    async fn claim(&self, slot: Slot, owner: OwnerId, now: Millis, ttl: i64) -> Result<Option<Claim>, StoreError> {
        self.inner.claim(slot, owner, now, ttl).await
    }
    async fn renew(&self, slot: Slot, epoch: u64, until: Millis) -> Result<(), StoreError> {
        self.inner.renew(slot, epoch, until).await
    }
    async fn release(&self, slot: Slot, epoch: u64, clean: bool) -> Result<(), StoreError> {
        self.inner.release(slot, epoch, clean).await
    }
    async fn commit(&self, step: Step) -> Result<(), StoreError> {
        // Opened and answered in one step is one write of the row: only the timer tells that nothing is owed any more.
        let settled = |change: &TimerChange| match change {
            TimerChange::Cancel { key, .. } => Some(*key),
            TimerChange::Set { .. } => None,
        };
        let answered = step.timers.iter().filter_map(settled).collect();
        let into_registry = |write: &&zegel_core::Write| write.space == spaces::ITEMS && write.owner == self.registry;
        let delivered = step.writes.iter().filter(into_registry).count();
        self.inner.commit(step).await?;
        self.note(answered, delivered);
        Ok(())
    }
    async fn begin_attempt(&self, slot: Slot, epoch: u64, number: u64) -> Result<u32, StoreError> {
        self.inner.begin_attempt(slot, epoch, number).await
    }
    async fn read(&self, reads: Vec<Read>) -> Result<Vec<Rows>, StoreError> {
        self.inner.read(reads).await
    }
    async fn due_timers(
        &self,
        slot: Slot,
        now: Millis,
        limit: usize,
    ) -> Result<(Vec<Timer>, Option<Millis>), StoreError> {
        self.inner.due_timers(slot, now, limit).await
    }
    async fn parked_heads(&self, slot: Slot, after: u64, limit: usize) -> Result<Vec<ParkedHead>, StoreError> {
        self.inner.parked_heads(slot, after, limit).await
    }
    async fn parked(&self, slot: Slot, numbers: Vec<u64>) -> Result<Vec<Parked>, StoreError> {
        self.inner.parked(slot, numbers).await
    }
    async fn dead(&self, filter: DeadFilter) -> Result<Vec<DeadLetter>, StoreError> {
        self.inner.dead(filter).await
    }
    async fn resolve_dead(&self, slot: Slot, number: u64, again: Option<Outgoing>) -> Result<bool, StoreError> {
        self.inner.resolve_dead(slot, number, again).await
    }
    async fn stats(&self) -> Result<Vec<SlotStats>, StoreError> {
        self.inner.stats().await
    }
    async fn announce(
        &self,
        group: u16,
        owner: OwnerId,
        now: Millis,
        until: Millis,
    ) -> Result<Vec<OwnerId>, StoreError> {
        self.inner.announce(group, owner, now, until).await
    }
}
