//! The port itself: lanes to their senders, slots to their readers.
//!
//! Invariant: an [`Amqp`] exists only for a topology that was verified, so nothing can be sent before.

use crate::declare;
use crate::endpoint::Endpoint;
use crate::error::AmqpError;
use crate::lane::{Address, Call, RETRY_AFTER_MS, Sender};
use crate::link::{Link, Purpose};
use crate::metrics::Metrics;
use crate::names;
use crate::options::Options;
use crate::reader::Readers;
use async_trait::async_trait;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use topology::Channel;
use zegel_core::transport::{Arrivals, Counter, Lane, Parcel, Transport};
use zegel_core::{BrokerError, Slot};

/// Calls that wait for a lane's sender; more wait in their callers.
const CALLS_QUEUED: usize = 16;

/// RabbitMQ as a transport. Dropping it closes the connections; [`Transport::close`] lets what is being sent end first.
pub struct Amqp {
    options: Arc<Options>,
    publish: Arc<Link>,
    consume: Arc<Link>,
    readers: Arc<Readers>,
    lanes: Mutex<Lanes>,
    metrics: Arc<Metrics>,
}

/// `None` once it is closed.
type Lanes = Option<HashMap<Lane, (mpsc::Sender<Call>, JoinHandle<()>)>>;

impl std::fmt::Debug for Amqp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Amqp").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Amqp {
    /// Connects, twice: publishing may be blocked while reading goes on. Verifies the topology, now and after every loss.
    ///
    /// # Errors
    /// The URL is wrong, no host lets us in, or the topology differs ([`Topology::apply`](crate::Topology::apply) first).
    pub async fn connect(url: &str, options: Options) -> Result<Arc<Amqp>, AmqpError> {
        let endpoint = Endpoint::parse(url, options.heartbeat, options.answer_within)?;
        declare::check_prefix(&options.prefix)?;
        let options = Arc::new(options);
        let metrics = Arc::new(Metrics::default());
        let (counted, chosen) = (Arc::clone(&metrics), Arc::clone(&options));
        let publish = Purpose { endpoint, options: chosen, role: "publishes", verified: true, metrics: counted };
        let consume = Purpose { role: "consumes", verified: false, ..publish.clone() };
        let publish = Arc::new(Link::open(publish).await?);
        let consume = Arc::new(Link::open(consume).await?);
        let readers =
            Readers::new(Arc::clone(&options), Arc::clone(&publish), Arc::clone(&consume), Arc::clone(&metrics));
        let lanes = Mutex::new(Some(HashMap::new()));
        Ok(Arc::new(Amqp { options, publish, consume, readers, lanes, metrics }))
    }

    fn sender(&self, lane: Lane, channel: &'static Channel) -> Result<mpsc::Sender<Call>, BrokerError> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let lanes = lanes.as_mut().ok_or(BrokerError::Closed)?;
        let (sender, _) = lanes.entry(lane).or_insert_with(|| {
            let exchange = names::exchange(&self.options.prefix, channel, lane.intake);
            let (sender, inbox) = mpsc::channel(CALLS_QUEUED);
            let address = Address { lane, channel: channel.name, exchange };
            let metrics = Arc::clone(&self.metrics);
            let task = Sender::new(address, Arc::clone(&self.options), &self.publish, inbox, metrics);
            (sender, tokio::spawn(task.run()))
        });
        Ok(sender.clone())
    }

    async fn call(&self, lane: Lane, parcels: Vec<Parcel>) -> Result<Vec<Result<(), BrokerError>>, BrokerError> {
        let channel = names::channel_of(&self.options, lane).ok_or(BrokerError::UnknownChannel(lane.channel))?;
        let sender = self.sender(lane, channel)?;
        let full = || BrokerError::Full { channel: channel.name, retry_after_ms: RETRY_AFTER_MS };
        if lane.intake && self.publish.blocked() {
            return Err(full());
        }
        let until = Instant::now() + self.options.send_within;
        let (answer, answered) = oneshot::channel();
        match tokio::time::timeout_at(until, sender.send(Call { parcels, until, answer })).await {
            Ok(Ok(())) => answered.await.map_err(|_| BrokerError::Closed),
            Ok(Err(_)) => Err(BrokerError::Closed),
            Err(_) if lane.intake => Err(full()),
            Err(_) => Err(BrokerError::Unavailable("too much is being sent into the lane".into())),
        }
    }
}

#[async_trait]
impl Transport for Amqp {
    async fn send(&self, lane: Lane, parcels: Vec<Parcel>) -> Vec<Result<(), BrokerError>> {
        let count = parcels.len();
        if count == 0 {
            return Vec::new();
        }
        match self.call(lane, parcels).await {
            Ok(outcomes) => outcomes,
            Err(error) => vec![Err(error); count],
        }
    }

    /// Waits for the last reader's messages to be back in the queue; `after` is not needed, since a queue keeps no more than
    /// what is not settled.
    async fn receive(&self, slot: Slot, _after: u64) -> Result<Box<dyn Arrivals>, BrokerError> {
        let queue = names::queue_of(&self.options, slot).ok_or(BrokerError::UnknownChannel(slot.channel))?;
        Ok(Box::new(self.readers.open(slot, queue).await?))
    }

    /// Ready at the broker, and held by this process. What another process holds, up to its prefetch, is not counted.
    async fn depth(&self, slot: Slot) -> Result<u64, BrokerError> {
        let queue = names::queue_of(&self.options, slot).ok_or(BrokerError::UnknownChannel(slot.channel))?;
        let waiting = self.readers.waiting(&queue.name).await?;
        Ok(waiting + self.readers.held(slot))
    }

    fn counters(&self) -> Vec<Counter> {
        self.metrics.counters()
    }

    async fn close(&self) {
        let lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.readers.close().await;
        for (sender, task) in lanes.into_iter().flatten().map(|(_, lane)| lane) {
            drop(sender);
            let _ = task.await;
        }
        self.publish.close().await;
        self.consume.close().await;
    }
}
