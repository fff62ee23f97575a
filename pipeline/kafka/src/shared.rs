//! What sender, readers and declaration share: the cluster, positions, and the end of it all.
//!
//! Calls of the client that wait run on blocking threads, each with a limit; clients are destroyed on threads of their own.

use crate::error::{KafkaError, words};
use crate::metrics::Metrics;
use crate::names;
use crate::options::Options;
use rdkafka::admin::AdminClient;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError as ClientError;
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use zegel_core::transport::Lane;
use zegel_core::{BrokerError, Slot};

/// The longest that a question to the cluster waits.
pub(crate) const ASK: Duration = Duration::from_secs(10);
/// A depth that was asked for so recently is given again.
const DEPTH_AGE: Duration = Duration::from_millis(250);
/// How long closing waits for clients to end.
const TEARDOWN: Duration = Duration::from_secs(10);

/// The client's own words go to the debug log: they name hosts, never contents.
pub(crate) struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(target: "zegel_kafka::client", facility, message);
    }

    fn error(&self, error: ClientError, _reason: &str) {
        tracing::warn!(code = words(&error), "kafka client");
    }
}

impl ConsumerContext for Quiet {}

/// How far a slot has settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    /// The next record's offset.
    pub offset: i64,
    /// The highest number below it; nothing on an intake lane. Without it, the offset was committed by somebody else.
    pub number: Option<u64>,
}

impl Position {
    /// Whether everything above `after` lies at its offset or later.
    pub(crate) fn holds(&self, slot: Slot, after: u64) -> bool {
        self.number.is_some_and(|number| Lane::of(slot).intake || number <= after)
    }

    /// What is committed beside the offset: an operator's tool that moves the offset leaves it out.
    pub(crate) fn metadata(&self) -> String {
        format!("zegel {}", self.number.unwrap_or_default())
    }

    fn committed(offset: Offset, metadata: &str) -> Option<Position> {
        let Offset::Offset(offset) = offset else { return None };
        let number = metadata.strip_prefix("zegel ").and_then(|number| number.parse().ok());
        Some(Position { offset, number })
    }
}

pub(crate) struct Shared {
    pub options: Options,
    pub servers: String,
    pub metrics: Arc<Metrics>,
    pub admin: AdminClient<Quiet>,
    pub closed: watch::Sender<bool>,
    verified: AtomicBool,
    groups: Mutex<HashMap<String, Arc<BaseConsumer<Quiet>>>>,
    positions: Mutex<HashMap<Slot, Position>>,
    depths: Mutex<HashMap<Slot, (Instant, u64)>>,
    ending: Mutex<Vec<JoinHandle<()>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn new(options: Options, servers: String) -> Result<Shared, KafkaError> {
        use rdkafka::config::FromClientConfigAndContext;
        let admin = AdminClient::from_config_and_context(&options.client(&servers), Quiet)
            .map_err(|error| KafkaError::client("opening a client", &error))?;
        Ok(Shared {
            options,
            servers,
            admin,
            metrics: Arc::default(),
            closed: watch::Sender::new(false),
            verified: AtomicBool::new(false),
            groups: Mutex::default(),
            positions: Mutex::default(),
            depths: Mutex::default(),
            ending: Mutex::default(),
        })
    }

    pub(crate) fn set_verified(&self) {
        self.verified.store(true, Ordering::Release);
    }

    pub(crate) fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }

    /// Whether anything may be sent or read.
    pub(crate) fn ready(&self) -> Result<(), BrokerError> {
        if self.is_closed() {
            return Err(BrokerError::Closed);
        }
        match self.verified.load(Ordering::Acquire) {
            true => Ok(()),
            false => Err(BrokerError::Unavailable("the topics were not verified".to_owned())),
        }
    }

    /// Runs a call of the client that waits.
    pub(crate) async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        what: &'static str,
        call: impl FnOnce(&Shared) -> Result<T, KafkaError> + Send + 'static,
    ) -> Result<T, KafkaError> {
        let shared = Arc::clone(self);
        let running = tokio::task::spawn_blocking(move || call(&shared));
        match tokio::time::timeout(2 * ASK, running).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(KafkaError::TimedOut(what)),
        }
    }

    /// Ends a client on a thread of its own, when nobody else holds it any more: destroying one waits for its threads.
    pub(crate) fn end<T: Send + Sync + 'static>(&self, client: Arc<T>, last: impl FnOnce(&T) + Send + 'static) {
        let thread = std::thread::Builder::new().name("kafka-end".to_owned()).spawn(move || {
            last(&client);
            while Arc::strong_count(&client) > 1 {
                #[allow(clippy::disallowed_methods)] // a thread of its own, for the instants until the others let go
                std::thread::sleep(Duration::from_millis(1));
            }
            drop(client);
        });
        let mut ending = lock(&self.ending);
        ending.retain(|thread| !thread.is_finished());
        ending.extend(thread);
    }

    /// Waits for clients that are being ended.
    pub(crate) async fn ended(&self) {
        let until = Instant::now() + TEARDOWN;
        lock(&self.groups).drain().for_each(|(_, group)| self.end(group, |_| {}));
        while Instant::now() < until && lock(&self.ending).iter().any(|thread| !thread.is_finished()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) fn topic(&self, lane: Lane) -> Result<String, BrokerError> {
        Ok(names::topic(&self.options.prefix, names::channel(lane)?, lane.intake))
    }

    /// What this process has settled itself.
    pub(crate) fn position(&self, slot: Slot) -> Option<Position> {
        lock(&self.positions).get(&slot).copied()
    }

    pub(crate) fn set_position(&self, slot: Slot, position: Position) {
        lock(&self.positions).insert(slot, position);
        lock(&self.depths).remove(&slot);
    }

    /// Slots that this process has read.
    pub(crate) fn slots(&self) -> Vec<Slot> {
        lock(&self.positions).keys().copied().collect()
    }

    /// First offset and the one after the last. Waits.
    pub(crate) fn bounds(&self, lane: Lane) -> Result<(i64, i64), KafkaError> {
        let topic = self.topic(lane).map_err(|_| KafkaError::TimedOut("finding the lane"))?;
        let bounds = self.admin.inner().fetch_watermarks(&topic, i32::from(lane.partition), ASK);
        bounds.map_err(|error| KafkaError::client("asking for a partition's bounds", &error))
    }

    /// What the slot's group has committed. Waits.
    pub(crate) fn committed(&self, slot: Slot) -> Result<Option<Position>, KafkaError> {
        let unknown = |_| KafkaError::TimedOut("finding the lane");
        let topic = self.topic(Lane::of(slot)).map_err(unknown)?;
        let consumer = self.group(&names::group(&self.options.prefix, slot).map_err(unknown)?)?;
        committed(consumer.as_ref(), &topic, slot)
    }

    fn group(&self, group: &str) -> Result<Arc<BaseConsumer<Quiet>>, KafkaError> {
        if let Some(consumer) = lock(&self.groups).get(group) {
            return Ok(Arc::clone(consumer));
        }
        let consumer = self.options.reader(&self.servers, group).create_with_context(Quiet);
        let consumer: BaseConsumer<Quiet> = consumer.map_err(|error| KafkaError::client("opening a group", &error))?;
        Ok(Arc::clone(lock(&self.groups).entry(group.to_owned()).or_insert_with(|| Arc::new(consumer))))
    }

    pub(crate) async fn depth(self: &Arc<Self>, slot: Slot) -> Result<u64, BrokerError> {
        names::group(&self.options.prefix, slot)?;
        if let Some((when, depth)) = lock(&self.depths).get(&slot).copied()
            && when.elapsed() < DEPTH_AGE
        {
            return Ok(depth);
        }
        let depth = self
            .blocking("asking for a depth", move |shared| {
                let (low, high) = shared.bounds(Lane::of(slot))?;
                let committed = shared.committed(slot)?.filter(|position| position.number.is_some());
                let settled = [committed, shared.position(slot)].into_iter().flatten().map(|position| position.offset);
                let settled = settled.max().map_or(low, |offset| offset.max(low));
                Ok(u64::try_from(high - settled).unwrap_or(0))
            })
            .await?;
        lock(&self.depths).insert(slot, (Instant::now(), depth));
        Ok(depth)
    }
}

/// What was committed for a slot, asked until the group's coordinator is there.
pub(crate) fn committed<C: ConsumerContext>(
    consumer: &impl Consumer<C>,
    topic: &str,
    slot: Slot,
) -> Result<Option<Position>, KafkaError> {
    let partition = i32::from(slot.partition);
    let mut list = TopicPartitionList::new();
    list.add_partition(topic, partition);
    let answer = consumer
        .committed_offsets(list, ASK)
        .map_err(|error| KafkaError::client("asking for a committed offset", &error))?;
    let Some(element) = answer.find_partition(topic, partition) else { return Ok(None) };
    element.error().map_err(|error| KafkaError::client("asking for a committed offset", &error))?;
    Ok(Position::committed(element.offset(), element.metadata()))
}
