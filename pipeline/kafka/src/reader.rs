//! What one slot reads: a consumer of its own that is assigned one partition, never a member of a group.
//!
//! Where it begins: the store's position is the truth. The group's offset is a hint that is taken only when it carries the
//! number up to which it was settled, and that number is not above the store's; else the lane is read from its beginning.
//! So an operator's tool that moves the offset, or a store restored from a backup, costs time and nothing else.
//! Failure behaviour: librdkafka reconnects by itself; a reader that gets nothing although there is more is built again.
//! Bounds: [`Options::fetch_bytes`](crate::Options::fetch_bytes) are fetched ahead; nothing else is held.

use crate::error::{KafkaError, words};
use crate::metrics::add;
use crate::names;
use crate::record;
use crate::shared::{Position, Quiet, Shared, committed};
use async_trait::async_trait;
use futures_util::FutureExt;
use rdkafka::consumer::{CommitMode, Consumer as _, StreamConsumer};
use rdkafka::error::KafkaError as ClientError;
use rdkafka::message::BorrowedMessage;
use rdkafka::{Message, Offset, TopicPartitionList};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use zegel_core::transport::{Arrival, Arrivals, Lane, Mark, Parcel};
use zegel_core::{BatchLimits, BrokerError, Slot};

type Consumer = StreamConsumer<Quiet>;

/// How often a waiting reader looks around: at its end, its commits and whether it stands still. It also bounds what a
/// wake-up that the client lost could cost.
const TICK: Duration = Duration::from_millis(250);
/// Offsets are committed so often at most; one more when the reader ends.
const COMMIT_EVERY: Duration = Duration::from_millis(250);
/// Offsets are committed again after so long without progress: brokers forget those of a group without members after days.
const COMMIT_AGAIN: Duration = Duration::from_secs(3600);
/// A reader that is built again and again in one place is so ever more rarely.
const STALL_MAX: Duration = Duration::from_secs(600);

/// Handed out or about to be, and not settled.
struct Held {
    tag: u64,
    number: u64,
}

pub(crate) struct Reader {
    shared: Arc<Shared>,
    slot: Slot,
    topic: String,
    group: String,
    consumer: Arc<Consumer>,
    after: u64,
    /// The offset after the last record that was looked at; nothing before the first.
    next: Option<i64>,
    /// Read from the client, and too large for the batch before.
    stash: Option<Arrival>,
    held: VecDeque<Held>,
    settled: Position,
    committed: Position,
    committed_at: Instant,
    watch: Watch,
}

/// Finds out that a reader stands still.
struct Watch {
    since: Instant,
    patience: Duration,
    asked: Option<JoinHandle<Result<(i64, i64), KafkaError>>>,
}

fn tag(offset: i64) -> u64 {
    u64::try_from(offset + 1).unwrap_or(0)
}

fn offset_after(tag: u64) -> i64 {
    i64::try_from(tag).unwrap_or(i64::MAX)
}

fn create(shared: &Shared, group: &str, topic: &str, slot: Slot, at: Option<i64>) -> Result<Consumer, KafkaError> {
    let failed = |error| KafkaError::client("opening a reader", &error);
    let consumer: Consumer =
        shared.options.reader(&shared.servers, group).create_with_context(Quiet).map_err(failed)?;
    if let Some(offset) = at {
        assign(&consumer, topic, slot, Offset::Offset(offset))?;
    }
    Ok(consumer)
}

fn assign(consumer: &Consumer, topic: &str, slot: Slot, offset: Offset) -> Result<(), KafkaError> {
    let failed = |error: ClientError| KafkaError::client("assigning a partition", &error);
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, i32::from(slot.partition), offset).map_err(failed)?;
    consumer.assign(&list).map_err(failed)
}

impl Reader {
    pub(crate) async fn open(shared: &Arc<Shared>, slot: Slot, after: u64) -> Result<Reader, BrokerError> {
        let topic = shared.topic(Lane::of(slot))?;
        let group = names::group(&shared.options.prefix, slot)?;
        let reader = Arc::clone(shared);
        Ok(shared.blocking("opening a reader", move |_| Reader::start(reader, slot, after, topic, group)).await?)
    }

    /// Waits for the cluster's answers.
    fn start(shared: Arc<Shared>, slot: Slot, after: u64, topic: String, group: String) -> Result<Reader, KafkaError> {
        let consumer = create(&shared, &group, &topic, slot, None)?;
        let hint = committed(&consumer, &topic, slot)?;
        let own = shared.position(slot);
        let trusted = [hint, own].into_iter().flatten().filter(|position| position.holds(slot, after));
        let start = trusted.max_by_key(|position| position.offset);
        if start.is_none() && hint.is_some() {
            tracing::warn!(%slot, "the group's offset is not the store's position: reading the lane from its beginning");
            add(&shared.metrics.rewound, 1);
        }
        assign(&consumer, &topic, slot, start.map_or(Offset::Beginning, |position| Offset::Offset(position.offset)))?;
        let unknown = Position { offset: -1, number: None };
        let settled = Position { number: Some(after), ..start.unwrap_or(unknown) };
        let watch = Watch { since: Instant::now(), patience: shared.options.stall, asked: None };
        let committed = hint.filter(|hint| Some(*hint) == start).unwrap_or(unknown);
        if start.is_some() {
            shared.set_position(slot, settled);
        }
        Ok(Reader {
            next: start.map(|position| position.offset),
            consumer: Arc::new(consumer),
            stash: None,
            held: VecDeque::new(),
            committed_at: Instant::now(),
            shared,
            slot,
            topic,
            group,
            after,
            settled,
            committed,
            watch,
        })
    }

    #[cfg(test)]
    pub(crate) fn consumer(&self) -> &Consumer {
        &self.consumer
    }

    /// What a record is for this reader, if anything.
    fn look_at(&mut self, record: &BorrowedMessage<'_>) -> Option<Arrival> {
        self.next = Some(record.offset() + 1);
        self.watch.since = Instant::now();
        self.watch.patience = self.shared.options.stall;
        match record::parcel(Lane::of(self.slot), record) {
            Ok(Parcel { mark: Mark::Number(number), .. }) if self.after > 0 && number <= self.after => None,
            Ok(parcel) => Some(Arrival { tag: tag(record.offset()), parcel }),
            Err(why) => {
                tracing::warn!(slot = %self.slot, offset = record.offset(), why, "a record that is no parcel is passed");
                add(&self.shared.metrics.foreign, 1);
                None
            }
        }
    }

    /// Takes what the client has ready, within the limits. Does not wait.
    fn fill(&mut self, limits: BatchLimits) -> Vec<Arrival> {
        let consumer = Arc::clone(&self.consumer);
        let stream = consumer.stream();
        futures_util::pin_mut!(stream);
        let mut got: Vec<Arrival> = Vec::new();
        let mut bytes = 0;
        // A stretch of records that are passed must not keep the thread: it ends with an empty batch, and goes on.
        for _ in 0..2 * limits.messages.max(64) {
            let arrival = match self.stash.take() {
                Some(arrival) => arrival,
                None => match futures_util::StreamExt::next(&mut stream).now_or_never().flatten() {
                    Some(Ok(record)) => match self.look_at(&record) {
                        Some(arrival) => arrival,
                        None => continue,
                    },
                    Some(Err(error)) => {
                        tracing::debug!(slot = %self.slot, code = words(&error), "kafka reader");
                        break;
                    }
                    None => break,
                },
            };
            bytes += arrival.parcel.body.len();
            if !got.is_empty() && bytes > limits.bytes {
                self.stash = Some(arrival);
                break;
            }
            self.hold(&arrival);
            got.push(arrival);
            if got.len() >= limits.messages {
                break;
            }
        }
        got
    }

    fn hold(&mut self, arrival: &Arrival) {
        let number = match arrival.parcel.mark {
            Mark::Number(number) => number,
            Mark::Edge { .. } => 0,
        };
        self.held.push_back(Held { tag: arrival.tag, number });
    }

    /// Settled is everything before the first record that is held, and what was passed with it.
    fn update(&mut self) {
        let held = self.held.front().map(|held| held.tag).or(self.stash.as_ref().map(|stash| stash.tag));
        let offset = held.map(|tag| offset_after(tag) - 1).or(self.next);
        if let Some(offset) = offset.filter(|offset| *offset > self.settled.offset) {
            self.settled.offset = offset;
            self.shared.set_position(self.slot, self.settled);
        }
    }

    /// Commits for the operators' tools, for the deletion of records and as a hint for the next reader.
    fn commit(&mut self) {
        let age = self.committed_at.elapsed();
        let due = self.settled != self.committed && age >= COMMIT_EVERY;
        if self.settled.offset < 0 || !(due || age >= COMMIT_AGAIN) {
            return;
        }
        match self.offsets().and_then(|list| self.consumer.commit(&list, CommitMode::Async)) {
            Ok(()) => (self.committed, self.committed_at) = (self.settled, Instant::now()),
            Err(error) => tracing::debug!(slot = %self.slot, code = words(&error), "an offset was not committed"),
        }
    }

    fn offsets(&self) -> Result<TopicPartitionList, ClientError> {
        let mut list = TopicPartitionList::new();
        let mut element = list.add_partition(&self.topic, i32::from(self.slot.partition));
        element.set_metadata(self.settled.metadata());
        element.set_offset(Offset::Offset(self.settled.offset))?;
        Ok(list)
    }

    /// What is to be done now and then.
    fn tick(&mut self) -> Result<(), BrokerError> {
        self.update();
        self.commit();
        if self.watch.since.elapsed() < self.watch.patience {
            return Ok(());
        }
        let Some(mut asked) = self.watch.asked.take() else {
            let (shared, lane) = (Arc::clone(&self.shared), Lane::of(self.slot));
            self.watch.asked = Some(tokio::task::spawn_blocking(move || shared.bounds(lane)));
            return Ok(());
        };
        match (&mut asked).now_or_never() {
            None => self.watch.asked = Some(asked),
            Some(Ok(Ok((low, high)))) if high > self.next.unwrap_or(low).max(low) => self.rebuild()?,
            Some(_) => self.watch.since = Instant::now(),
        }
        Ok(())
    }

    /// There is more and nothing comes, twice the patience long: this consumer is lost.
    fn rebuild(&mut self) -> Result<(), BrokerError> {
        tracing::warn!(slot = %self.slot, "a kafka reader stood still and is built again");
        add(&self.shared.metrics.readers_rebuilt, 1);
        self.watch.since = Instant::now();
        self.watch.patience = (2 * self.watch.patience).min(STALL_MAX);
        let consumer = create(&self.shared, &self.group, &self.topic, self.slot, self.next)?;
        if self.next.is_none() {
            assign(&consumer, &self.topic, self.slot, Offset::Beginning)?;
        }
        let old = std::mem::replace(&mut self.consumer, Arc::new(consumer));
        self.shared.end(old, |_| {});
        Ok(())
    }
}

#[async_trait]
impl Arrivals for Reader {
    async fn next(&mut self, limits: BatchLimits) -> Result<Vec<Arrival>, BrokerError> {
        let mut closed = self.shared.closed.subscribe();
        loop {
            if *closed.borrow_and_update() {
                return Err(BrokerError::Closed);
            }
            let looked_at = self.next;
            let arrivals = self.fill(limits);
            if !arrivals.is_empty() {
                add(&self.shared.metrics.received, arrivals.len());
                return Ok(arrivals);
            }
            self.tick()?;
            if self.next != looked_at {
                tokio::task::yield_now().await;
                continue;
            }
            let consumer = Arc::clone(&self.consumer);
            tokio::select! {
                _ = closed.changed() => {}
                record = tokio::time::timeout(TICK, consumer.recv()) => match record {
                    Ok(Ok(record)) => self.stash = self.look_at(&record),
                    Ok(Err(error)) => {
                        tracing::debug!(slot = %self.slot, code = words(&error), "kafka reader");
                        tokio::time::sleep(TICK).await;
                    }
                    Err(_) => {}
                },
            }
        }
    }

    async fn settle(&mut self, tag: u64) -> Result<(), BrokerError> {
        while let Some(held) = self.held.front().filter(|held| held.tag <= tag) {
            self.settled.number = self.settled.number.max(Some(held.number));
            self.held.pop_front();
        }
        self.update();
        self.commit();
        Ok(())
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.update();
        // The last commit is waited for, on the thread that ends the consumer: one on its way may be lost with it.
        let last = self.offsets().ok().filter(|_| self.settled.offset >= 0);
        self.shared.end(Arc::clone(&self.consumer), move |consumer| {
            if let Some(Err(error)) = last.map(|list| consumer.commit(&list, CommitMode::Sync)) {
                tracing::debug!(code = words(&error), "an offset was not committed");
            }
        });
    }
}
