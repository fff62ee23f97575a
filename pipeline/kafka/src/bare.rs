//! What a bare client of the same library reaches with the same guarantees, for load tests to compare the port with.
//!
//! The same: topics as the transport makes them, an idempotent producer, acks=all, every delivery report awaited, at most a
//! window of records on their way per partition, one assigned consumer per partition, offsets committed while reading.
//! What the port does beside it (lanes, marks, bounds in bytes, building again what failed) is what the ratio prices.

use crate::error::KafkaError;
use crate::options::servers;
use futures_util::future::try_join_all;
use rdkafka::consumer::{CommitMode, Consumer, StreamConsumer};
use rdkafka::message::{DeliveryResult, Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, ProducerContext, ThreadedProducer};
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// How a run is made.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    /// Records published and consumed in each partition.
    pub messages: u64,
    /// Partitions, from 0 on.
    pub partitions: u16,
    /// Bytes of each body.
    pub bytes: usize,
    /// Records published and not confirmed, per partition.
    pub window: u64,
}

/// Publishes and consumes at the same time through a topic that is there and empty, and returns how long it took from the
/// first publish to the last record read.
///
/// # Errors
/// The broker refuses anything.
pub async fn publish_and_consume(url: &str, topic: &str, run: Run) -> Result<Duration, KafkaError> {
    let servers = servers(url)?;
    let mut sending = ClientConfig::new();
    sending.set("bootstrap.servers", &servers).set("enable.idempotence", "true").set("acks", "all");
    sending.set("linger.ms", "1").set("batch.size", "1048576");
    let since = Instant::now();
    let producer: ThreadedProducer<Reports> =
        sending.create_with_context(Reports).map_err(|error| KafkaError::client("bare producer", &error))?;
    let mut reading = ClientConfig::new();
    reading.set("bootstrap.servers", &servers).set("group.id", format!("{topic}.bare"));
    reading.set("enable.auto.commit", "false").set("isolation.level", "read_uncommitted");
    reading.set("queued.max.messages.kbytes", "1024").set("fetch.queue.backoff.ms", "2");
    let both = (0..run.partitions).map(|partition| {
        let partition = i32::from(partition);
        futures_util::future::try_join(
            publish(&producer, topic, partition, run),
            consume(&reading, topic, partition, run),
        )
    });
    try_join_all(both).await?;
    Ok(since.elapsed())
}

/// Counts confirmations.
#[derive(Default)]
struct Confirmed {
    count: AtomicU64,
    failed: AtomicU64,
    wake: Notify,
}

impl Confirmed {
    async fn at_least(&self, count: u64) -> Result<(), KafkaError> {
        while self.count.load(Ordering::Acquire) < count {
            if self.failed.load(Ordering::Acquire) > 0 {
                return Err(KafkaError::TimedOut("bare publish"));
            }
            self.wake.notified().await;
        }
        Ok(())
    }
}

struct Reports;

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = Arc<Confirmed>;

    fn delivery(&self, report: &DeliveryResult<'_>, confirmed: Arc<Confirmed>) {
        // A record without an offset was not stored, whatever the report says (decision record 8).
        let stored = matches!(report, Ok(record) if record.offset() >= 0);
        let counter = if stored { &confirmed.count } else { &confirmed.failed };
        counter.fetch_add(1, Ordering::AcqRel);
        confirmed.wake.notify_one();
    }
}

async fn publish(
    producer: &ThreadedProducer<Reports>,
    topic: &str,
    partition: i32,
    run: Run,
) -> Result<(), KafkaError> {
    let confirmed = Arc::new(Confirmed::default());
    let body = vec![7; run.bytes];
    for n in 1..=run.messages {
        confirmed.at_least(n.saturating_sub(run.window)).await?;
        let number = n.to_string();
        let headers = OwnedHeaders::new().insert(Header { key: NUMBER, value: Some(&number) });
        let record = BaseRecord::with_opaque_to(topic, Arc::clone(&confirmed));
        let record = record.partition(partition).key(&[3; 16][..]).payload(&body).headers(headers);
        producer.send(record).map_err(|(error, _)| KafkaError::client("bare publish", &error))?;
        if n == 1 {
            confirmed.at_least(1).await?; // alone, as the port does
        }
    }
    confirmed.at_least(run.messages).await
}

/// Holds a record's number.
const NUMBER: &str = "number";
/// Between two commits of a reader's offset.
const COMMIT_EVERY: Duration = Duration::from_millis(250);

async fn consume(config: &ClientConfig, topic: &str, partition: i32, run: Run) -> Result<(), KafkaError> {
    let failed = |error| KafkaError::client("bare consume", &error);
    let consumer: StreamConsumer = config.create().map_err(failed)?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Beginning).map_err(failed)?;
    consumer.assign(&list).map_err(failed)?;
    let (mut last, mut committed) = (0, Instant::now());
    while last < run.messages {
        let record = consumer.recv().await.map_err(failed)?;
        let number = record.headers().and_then(|headers| headers.iter().next()?.value.map(<[u8]>::to_vec));
        let number = number.and_then(|text| std::str::from_utf8(&text).ok()?.parse().ok());
        last = last.max(number.unwrap_or(0));
        std::hint::black_box(record.payload().map(bytes::Bytes::copy_from_slice));
        if committed.elapsed() > COMMIT_EVERY {
            list.set_partition_offset(topic, partition, Offset::Offset(record.offset() + 1)).map_err(failed)?;
            consumer.commit(&list, CommitMode::Async).map_err(failed)?;
            committed = Instant::now();
        }
    }
    Ok(())
}
