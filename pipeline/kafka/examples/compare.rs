//! Publish and consume through the transport beside plain rdkafka with the same guarantees, in the same run, and what a reader
//! for every slot costs in threads and memory.
//!
//! Usage: `cargo run --release -p zegel-kafka --example compare -- kafka://127.0.0.1:9092 [RECORDS]`
//! Same for both: 1 KiB, idempotent producer, acks=all, at most 1,000 records on their way per lane, topics made by the transport
//! (fsync before each answer on a single broker), one assigned consumer per partition, offsets committed while reading.

#![allow(clippy::print_stdout)] // a report is what this program is for

use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use rdkafka::consumer::{CommitMode, Consumer, StreamConsumer};
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, ProducerContext, ThreadedProducer};
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};
use schemas::{Key, MessageId};
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use zegel_core::slot::INTAKE;
use zegel_core::transport::{Lane, Mark, Parcel, Transport};
use zegel_core::{BatchLimits, Sealed, Slot};
use zegel_kafka::{Kafka, Options};

type Failed = Box<dyn Error + Send + Sync>;

const CHANNEL: &str = "mailbox.submitted";
const WINDOW: u64 = 1_000;
const CALL: u64 = 250;
const BODY: [u8; 1024] = [7; 1024];
const ROUNDS: usize = 3;

fn slot(partition: u16) -> Result<Slot, Failed> {
    let channel = topology::channels::by_name(CHANNEL).ok_or("no such channel")?;
    let group = channel.groups.first().ok_or("no group")?;
    Ok(Slot { channel: channel.code, group: group.code, partition })
}

fn parcel(n: u64) -> Parcel {
    let body = Sealed::from_stored(bytes::Bytes::from_static(&BODY));
    Parcel { mark: Mark::Number(n), key: Key([3; 16]), id: MessageId([4; 16]), body }
}

async fn ours_send(kafka: Arc<Kafka>, slot: Slot, count: u64) -> Result<(), Failed> {
    let mut calls = FuturesOrdered::new();
    let mut next = 1;
    loop {
        while next <= count && calls.len() < usize::try_from(WINDOW / CALL)? {
            let last = (next + CALL - 1).min(count);
            calls.push_back(kafka.send(Lane::of(slot), (next..=last).map(parcel).collect()));
            next = last + 1;
        }
        let Some(outcomes) = calls.next().await else { return Ok(()) };
        outcomes.into_iter().collect::<Result<(), _>>()?;
    }
}

async fn ours_read(kafka: Arc<Kafka>, slot: Slot, count: u64) -> Result<(), Failed> {
    let mut reader = kafka.receive(slot, 0).await?;
    let mut last = 0;
    while last < count {
        let arrivals = reader.next(BatchLimits { messages: 500, bytes: 4 << 20 }).await?;
        for arrival in &arrivals {
            if let Mark::Number(number) = arrival.parcel.mark {
                last = last.max(number);
            }
        }
        reader.settle(arrivals.last().map_or(0, |arrival| arrival.tag)).await?;
    }
    Ok(())
}

/// Counts confirmations.
#[derive(Default)]
struct Confirmed {
    count: AtomicU64,
    wake: Notify,
}

struct Reports;

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = Arc<Confirmed>;

    fn delivery(&self, report: &DeliveryResult<'_>, confirmed: Arc<Confirmed>) {
        if matches!(report, Ok(record) if record.offset() >= 0) {
            confirmed.count.fetch_add(1, Ordering::AcqRel);
            confirmed.wake.notify_one();
        }
    }
}

async fn bare_send(
    producer: Arc<ThreadedProducer<Reports>>,
    topic: String,
    partition: i32,
    count: u64,
) -> Result<(), Failed> {
    let confirmed = Arc::new(Confirmed::default());
    for n in 1..=count {
        while n - confirmed.count.load(Ordering::Acquire) > WINDOW {
            confirmed.wake.notified().await;
        }
        let number = n.to_string();
        let headers = OwnedHeaders::new().insert(Header { key: "zegel-number", value: Some(&number) });
        let record = BaseRecord::with_opaque_to(&topic, Arc::clone(&confirmed));
        let record = record.partition(partition).key(&[3; 16][..]).payload(&BODY[..]).headers(headers);
        producer.send(record).map_err(|(error, _)| error)?;
        if n == 1 {
            // Alone, as ours: see decision record 8.
            while confirmed.count.load(Ordering::Acquire) == 0 {
                confirmed.wake.notified().await;
            }
        }
    }
    while confirmed.count.load(Ordering::Acquire) < count {
        confirmed.wake.notified().await;
    }
    Ok(())
}

async fn bare_read(config: ClientConfig, topic: String, partition: i32, count: u64) -> Result<(), Failed> {
    let consumer: StreamConsumer = config.create()?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&topic, partition, Offset::Beginning)?;
    consumer.assign(&list)?;
    let (mut last, mut committed) = (0, Instant::now());
    while last < count {
        let record = consumer.recv().await?;
        let headers = record.headers().ok_or("no headers")?;
        let number = rdkafka::message::Headers::get(headers, 0).value.ok_or("no number")?;
        last = last.max(std::str::from_utf8(number)?.parse()?);
        std::hint::black_box(record.payload().map(bytes::Bytes::copy_from_slice));
        if committed.elapsed() > Duration::from_millis(250) {
            list.set_partition_offset(&topic, partition, Offset::Offset(record.offset() + 1))?;
            consumer.commit(&list, CommitMode::Async)?;
            committed = Instant::now();
        }
    }
    Ok(())
}

/// The settings of both; what librdkafka takes by default is left out.
fn config(url: &str, group: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", url.strip_prefix("kafka://").unwrap_or(url)).set("group.id", group);
    config.set("enable.auto.commit", "false").set("isolation.level", "read_uncommitted");
    config.set("queued.max.messages.kbytes", "1024").set("fetch.queue.backoff.ms", "2");
    config
}

async fn fresh(url: &str) -> Result<(Arc<Kafka>, String), Failed> {
    let now = std::fs::read_to_string("/proc/sys/kernel/random/uuid")?;
    let options = Options { prefix: format!("compare-{}", &now[..8]), ..Options::default() };
    let prefix = options.prefix.clone();
    let kafka = Kafka::connect(url, options)?;
    kafka.apply().await?;
    kafka.verify().await?;
    Ok((kafka, prefix))
}

async fn ours(url: &str, lanes: u16, count: u64) -> Result<f64, Failed> {
    let (kafka, _) = fresh(url).await?;
    let since = Instant::now();
    let mut tasks = Vec::new();
    for partition in 0..lanes {
        let slot = slot(partition)?;
        tasks.push(tokio::spawn(ours_send(Arc::clone(&kafka), slot, count)));
        tasks.push(tokio::spawn(ours_read(Arc::clone(&kafka), slot, count)));
    }
    for task in tasks {
        task.await??;
    }
    let rate = rate(lanes, count, since);
    kafka.close().await;
    Ok(rate)
}

async fn bare(url: &str, lanes: u16, count: u64) -> Result<f64, Failed> {
    let (kafka, prefix) = fresh(url).await?;
    let (topic, group) = (format!("{prefix}.{CHANNEL}"), format!("{prefix}.bare"));
    let mut sending = ClientConfig::new();
    sending.set("bootstrap.servers", url.strip_prefix("kafka://").unwrap_or(url));
    sending.set("enable.idempotence", "true").set("acks", "all").set("linger.ms", "1").set("batch.size", "1048576");
    let since = Instant::now();
    let producer: ThreadedProducer<Reports> = sending.create_with_context(Reports)?;
    let producer = Arc::new(producer);
    let mut tasks = Vec::new();
    for partition in 0..i32::from(lanes) {
        tasks.push(tokio::spawn(bare_send(Arc::clone(&producer), topic.clone(), partition, count)));
        tasks.push(tokio::spawn(bare_read(config(url, &group), topic.clone(), partition, count)));
    }
    for task in tasks {
        task.await??;
    }
    let rate = rate(lanes, count, since);
    kafka.close().await;
    Ok(rate)
}

#[allow(clippy::cast_precision_loss)] // a rate for people
fn rate(lanes: u16, count: u64, since: Instant) -> f64 {
    (u64::from(lanes) * count) as f64 / since.elapsed().as_secs_f64()
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// A reader for every slot, idle: what it costs.
async fn every_slot(url: &str) -> Result<(), Failed> {
    let (kafka, _) = fresh(url).await?;
    let status = |name: &str| -> Result<u64, Failed> {
        let text = std::fs::read_to_string("/proc/self/status")?;
        let line = text.lines().find(|line| line.starts_with(name)).ok_or("no such line")?;
        Ok(line.split_whitespace().nth(1).ok_or("no value")?.parse()?)
    };
    let (threads, memory) = (status("Threads:")?, status("VmRSS:")?);
    let mut readers = Vec::new();
    let since = Instant::now();
    for lane in Lane::all() {
        let channel = topology::channels::by_code(lane.channel).ok_or("no such channel")?;
        let group = if lane.intake { INTAKE } else { channel.groups.first().ok_or("no group")?.code };
        let slot = Slot { channel: lane.channel, group, partition: lane.partition };
        readers.push(kafka.receive(slot, 0).await?);
    }
    let opened = since.elapsed().as_secs_f64();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (more, kib) = (status("Threads:")? - threads, status("VmRSS:")?.saturating_sub(memory));
    println!(
        "{} readers: {more} threads, {} MiB more, opened one after the other in {opened:.1} s",
        readers.len(),
        kib >> 10
    );
    drop(readers);
    kafka.close().await;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().ok_or("usage: compare kafka://host:port [RECORDS]")?;
    let records: u64 = arguments.next().map_or(Ok(50_000), |records| records.parse())?;
    for lanes in [1, 8] {
        let count = records / u64::from(lanes);
        let (mut through, mut plain) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            plain.push(bare(&url, lanes, count).await?);
            through.push(ours(&url, lanes, count).await?);
        }
        let (through, plain) = (median(through), median(plain));
        println!(
            "{lanes} lanes, 1 KiB, publish and consume: transport {through:.0}/s, bare {plain:.0}/s, ratio {:.2}",
            through / plain
        );
    }
    every_slot(&url).await
}
