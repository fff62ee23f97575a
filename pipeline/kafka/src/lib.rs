//! Channels on Apache Kafka, through librdkafka: the [`Transport`] port, and nothing of what the Store does.
//!
//! Objects: a topic `{prefix}.{channel}` per channel with the topology's partitions, and `{prefix}.{channel}.intake` where the
//! channel has edges; groups `{prefix}.{group}` and `{prefix}.intake` hold committed offsets and have no members.
//! Invariants: nothing is sent before [`Kafka::verify`] has succeeded; a send returns when all in-sync replicas have the
//! records (fsynced where there is one replica, see [`Options::fsync`]); a lane keeps its order through every failure; a
//! reader misses nothing above the store's position, whatever the broker believes was read.
//! Failure behaviour: every wait has a limit; a lost broker is waited for, a fatal producer and a reader that stands still
//! are built again.

#![forbid(unsafe_code)]

mod admin;
#[cfg(feature = "bare")]
pub mod bare;
mod error;
mod lane;
mod metrics;
#[cfg(test)]
mod mock_tests;
mod names;
mod options;
mod producer;
mod reader;
mod record;
mod shared;
mod trim;

pub use admin::Difference;
pub use error::KafkaError;
pub use metrics::Metrics;
pub use options::Options;
pub use record::SEALED_TYPE;

use async_trait::async_trait;
use lane::{Call, LaneTask, Outcomes};
use producer::Producers;
use shared::Shared;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use zegel_core::transport::{Arrivals, Counter, Lane, Parcel, Transport};
use zegel_core::{BrokerError, Slot};

/// Calls that wait for a lane's task; more wait for their turn.
const CALLS: usize = 1024;
/// What a parcel takes beside its body while it waits for its confirmation.
const PARCEL_BYTES: usize = 512;
/// When an edge that was refused may come back, milliseconds.
const RETRY_AFTER_MS: u64 = 1_000;
/// How much later than its limit a send is answered by itself, should its lane not answer.
const GRACE: Duration = Duration::from_secs(1);

type Lanes = HashMap<Lane, (mpsc::Sender<Call>, JoinHandle<()>)>;

/// A connection to a Kafka cluster. See the crate's header.
pub struct Kafka {
    shared: Arc<Shared>,
    producers: Arc<Producers>,
    lanes: Mutex<Lanes>,
    budget: Arc<Semaphore>,
    budget_bytes: u32,
}

impl Kafka {
    /// Opens clients for `kafka://host:port[,host:port]`. Nothing is asked of the cluster yet. Must be called in a runtime.
    ///
    /// # Errors
    /// [`KafkaError::Url`], or what the client refuses.
    pub fn connect(url: &str, options: Options) -> Result<Arc<Kafka>, KafkaError> {
        let budget_bytes = u32::try_from(options.send_bytes).unwrap_or(u32::MAX);
        let shared = Arc::new(Shared::new(options, options::servers(url)?)?);
        tokio::spawn(trim::run(Arc::clone(&shared)));
        Ok(Arc::new(Kafka {
            producers: Arc::new(Producers::new(Arc::clone(&shared))),
            shared,
            lanes: Mutex::default(),
            budget: Arc::new(Semaphore::new(budget_bytes as usize)),
            budget_bytes,
        }))
    }

    /// What differs between the topology and the broker; nothing when they agree.
    ///
    /// # Errors
    /// When the cluster does not answer, or refuses to.
    pub async fn plan(&self) -> Result<Vec<Difference>, KafkaError> {
        admin::plan(&self.shared).await
    }

    /// Creates the topics that are missing, and returns what was created.
    ///
    /// # Errors
    /// [`KafkaError::Differs`] with everything that it may not change; then nothing was created.
    pub async fn apply(&self) -> Result<Vec<Difference>, KafkaError> {
        admin::apply(&self.shared).await
    }

    /// Opens the transport when the broker agrees with the topology.
    ///
    /// # Errors
    /// [`KafkaError::Differs`] with every difference.
    pub async fn verify(&self) -> Result<(), KafkaError> {
        let differences = self.plan().await?;
        if !differences.is_empty() {
            return Err(KafkaError::Differs(differences));
        }
        self.shared.set_verified();
        Ok(())
    }

    /// What it counts.
    #[must_use]
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.shared.metrics)
    }

    fn lane(&self, lane: Lane) -> Result<mpsc::Sender<Call>, BrokerError> {
        let channel = names::channel(lane)?;
        let topic = self.shared.topic(lane)?;
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        // Asked again under the lock: a lane must not be opened behind the back of a close.
        self.shared.ready()?;
        let (sender, _) = lanes.entry(lane).or_insert_with(|| {
            let (sender, calls) = mpsc::channel(CALLS);
            let (shared, producers) = (Arc::clone(&self.shared), Arc::clone(&self.producers));
            let task = LaneTask::new(shared, producers, topic, channel.name, lane.partition);
            (sender, tokio::spawn(task.run(calls)))
        });
        Ok(sender.clone())
    }

    /// Room for so many bytes. Edges are refused where there is none, relays wait.
    async fn room(&self, lane: Lane, bytes: usize, deadline: Instant) -> Result<OwnedSemaphorePermit, BrokerError> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.budget_bytes);
        let budget = Arc::clone(&self.budget);
        if lane.intake {
            let channel = names::channel(lane)?.name;
            let full = BrokerError::Full { channel, retry_after_ms: RETRY_AFTER_MS };
            return budget.try_acquire_many_owned(bytes).map_err(|_| full);
        }
        match timeout_at(deadline, budget.acquire_many_owned(bytes)).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) => Err(BrokerError::Closed),
            Err(_) => Err(late()),
        }
    }

    async fn send_all(&self, lane: Lane, parcels: Vec<Parcel>) -> Result<Outcomes, BrokerError> {
        names::channel(lane)?;
        self.shared.ready()?;
        let deadline = Instant::now() + self.shared.options.send_limit;
        let bytes = parcels.iter().map(|parcel| parcel.body.len() + PARCEL_BYTES).sum();
        let permit = self.room(lane, bytes, deadline).await?;
        let (answer, outcomes) = oneshot::channel();
        let call = Call { parcels, deadline, permit, answer };
        match timeout_at(deadline, self.lane(lane)?.send(call)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(BrokerError::Closed),
            Err(_) => return Err(late()),
        }
        match timeout_at(deadline + GRACE, outcomes).await {
            Ok(Ok(outcomes)) => Ok(outcomes),
            Ok(Err(_)) => Err(BrokerError::Closed),
            Err(_) => Err(late()),
        }
    }
}

fn late() -> BrokerError {
    BrokerError::Unavailable("kafka: not confirmed in time".to_owned())
}

#[async_trait]
impl Transport for Kafka {
    async fn send(&self, lane: Lane, mut parcels: Vec<Parcel>) -> Outcomes {
        let count = parcels.len();
        let largest = self.shared.options.body_bytes;
        let fit = parcels.iter().position(|parcel| parcel.body.len() > largest).unwrap_or(count);
        // What comes behind a parcel that cannot be sent would overtake it.
        parcels.truncate(fit);
        let mut outcomes = match fit {
            0 => Vec::new(),
            _ => self.send_all(lane, parcels).await.unwrap_or_else(|error| vec![Err(error); fit]),
        };
        let too_large = || Err(BrokerError::Unavailable("kafka: behind or at a body above the limit".to_owned()));
        outcomes.resize_with(count, too_large);
        outcomes
    }

    async fn receive(&self, slot: Slot, after: u64) -> Result<Box<dyn Arrivals>, BrokerError> {
        names::group(&self.shared.options.prefix, slot)?;
        self.shared.ready()?;
        Ok(Box::new(reader::Reader::open(&self.shared, slot, after).await?))
    }

    async fn depth(&self, slot: Slot) -> Result<u64, BrokerError> {
        self.shared.ready()?;
        self.shared.depth(slot).await
    }

    fn counters(&self) -> Vec<Counter> {
        self.shared.metrics.counters()
    }

    async fn close(&self) {
        self.shared.closed.send_replace(true);
        let lanes = std::mem::take(&mut *self.lanes.lock().unwrap_or_else(PoisonError::into_inner));
        for (calls, task) in lanes.into_values() {
            drop(calls);
            // The task has a limit of its own.
            let _ = task.await;
        }
        self.producers.close();
        self.shared.ended().await;
    }
}
