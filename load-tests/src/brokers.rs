//! RabbitMQ and Kafka through the transport, beside a bare client of the same library with the same guarantees, in
//! alternating rounds of one run, and the embedded broker beside both.
//!
//! Goal: 90 % of the bare client's rate. `AMQP_URL` and `KAFKA_URL` name the servers
//! (`deploy/dev/services run rabbitmq kafka -- …` starts them).

use crate::deadline;
use crate::embedded;
use crate::stats::{Report, Usage};
use anyhow::{Context, Result, anyhow, ensure};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use schemas::{Key, MessageId};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use zegel_core::transport::{Lane, Mark, Parcel, Transport};
use zegel_core::{BatchLimits, Sealed, Slot};

/// What a message holds, as in the other scenarios.
const BODY: usize = 1_024;
/// Rounds of each; the medians are compared.
const ROUNDS: usize = 5;
/// Calls of `send` on their way in a lane: a call ends with its last confirm, so few large ones would leave the window
/// half empty.
const CALLS: u64 = 10;
/// Messages on their way in a lane.
const WINDOW: u64 = 1_000;
/// Messages between two acknowledgements.
const ACKNOWLEDGE_EVERY: u64 = 100;
const CHANNEL: &str = "mailbox.submitted";

/// RabbitMQ: one quorum queue, 1 KiB, published with confirms, consumed, acknowledged.
///
/// # Errors
/// When the broker cannot be used.
pub fn amqp(url: &str, folder: &Path, seconds: u64) -> Result<Vec<Report>> {
    let channel = topology::channels::by_name(CHANNEL).context("channel is declared")?;
    // One partition is what one queue of the bare client is.
    let one: &'static [topology::Channel] = Box::leak(Box::new([topology::Channel { partitions: 1, ..*channel }]));
    let messages = 5_000 * seconds;
    let run = zegel_amqp::bare::Run {
        messages,
        bytes: BODY,
        window: usize::try_from(WINDOW)?,
        prefetch: 1_000,
        acknowledge_every: ACKNOWLEDGE_EVERY,
    };
    let runtime = runtime()?;
    let (mut ours, mut theirs) = (Rounds::default(), Rounds::default());
    for round in 0..ROUNDS {
        deadline::part(&format!("amqp, round {round}"));
        let name = format!("load-{}-{round}", std::process::id());
        let queue = format!("{name}.bare");
        theirs.note(messages, || Ok(runtime.block_on(zegel_amqp::bare::publish_and_consume(url, &queue, run))?))?;
        let options = zegel_amqp::Options {
            prefix: name,
            channels: one,
            window_messages: run.window,
            prefetch: run.prefetch,
            ..zegel_amqp::Options::default()
        };
        let amqp = runtime.block_on(async {
            zegel_amqp::Topology::open(url, options.clone()).await?.apply().await?;
            zegel_amqp::Amqp::connect(url, options).await
        })?;
        ours.note(messages, || runtime.block_on(through(&amqp, 1, messages)))?;
        runtime.block_on(amqp.close());
    }
    compare("RabbitMQ, 1 queue", "lapin", &ours, &theirs, folder, seconds)
}

/// Kafka: 1 and 8 partitions, 1 KiB, published with acks=all and fsynced, consumed.
///
/// # Errors
/// When the broker cannot be used.
#[cfg(feature = "kafka")]
pub fn kafka(url: &str, folder: &Path, seconds: u64) -> Result<Vec<Report>> {
    let runtime = runtime()?;
    let mut reports = Vec::new();
    for partitions in [1u16, 8] {
        let messages = 16_000 * seconds / u64::from(partitions);
        let total = messages * u64::from(partitions);
        let run = zegel_kafka::bare::Run { messages, partitions, bytes: BODY, window: WINDOW };
        let (mut ours, mut theirs) = (Rounds::default(), Rounds::default());
        for round in 0..ROUNDS {
            deadline::part(&format!("kafka, {partitions} partitions, round {round}"));
            // Topics of its own for each, made in the same way.
            let fresh = |whose: &str| {
                let prefix = format!("load-{}-{partitions}-{round}-{whose}", std::process::id());
                let options = zegel_kafka::Options { prefix: prefix.clone(), ..zegel_kafka::Options::default() };
                runtime.block_on(async {
                    let kafka = zegel_kafka::Kafka::connect(url, options)?;
                    kafka.apply().await?;
                    kafka.verify().await?;
                    Ok::<_, zegel_kafka::KafkaError>((kafka, format!("{prefix}.{CHANNEL}")))
                })
            };
            let (idle, topic) = fresh("bare")?;
            theirs.note(total, || Ok(runtime.block_on(zegel_kafka::bare::publish_and_consume(url, &topic, run))?))?;
            runtime.block_on(idle.close());
            let (kafka, _) = fresh("port")?;
            ours.note(total, || runtime.block_on(through(&kafka, partitions, messages)))?;
            runtime.block_on(kafka.close());
        }
        let name = format!("Kafka, {partitions} partitions");
        reports.extend(compare(&name, "rdkafka", &ours, &theirs, folder, seconds)?);
    }
    Ok(reports)
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

/// Rates and processor time of some rounds.
#[derive(Default)]
struct Rounds {
    rates: Vec<f64>,
    cpu_us: Vec<f64>,
}

impl Rounds {
    #[allow(clippy::cast_precision_loss)] // a rate for people
    fn note(&mut self, messages: u64, round: impl FnOnce() -> Result<Duration>) -> Result<()> {
        let usage = Usage::now();
        let took = round()?;
        let mut used = Report::named("");
        usage.tell(&mut used, messages);
        self.rates.push(messages as f64 / took.as_secs_f64().max(1e-9));
        self.cpu_us.push(used.cpu_us_per_msg);
        Ok(())
    }

    fn report(&self, name: &str) -> Report {
        let rates: Vec<f64> = self.rates.iter().map(|rate| rate.round()).collect();
        let mut report = Report::named(name).with("rounds", rates);
        report.msg_per_s = median(&self.rates);
        report.mb_per_s = report.msg_per_s * BODY as f64 / 1e6;
        report.cpu_us_per_msg = median(&self.cpu_us);
        report.peak_rss_mb = crate::stats::peak_rss_mb();
        report
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

fn compare(
    name: &str,
    client: &str,
    ours: &Rounds,
    theirs: &Rounds,
    folder: &Path,
    seconds: u64,
) -> Result<Vec<Report>> {
    let bare = theirs.report(&format!("{name}, bare {client}, 1 KiB, publish + consume"));
    let port = ours.report(&format!("{name}, through the transport, 1 KiB, publish + consume"));
    let ratio = port.msg_per_s / bare.msg_per_s.max(1.0);
    // Of neighbours in time, so that a slow minute of the machine weighs on both.
    let pairs: Vec<f64> = ours.rates.iter().zip(&theirs.rates).map(|(port, bare)| port / bare.max(1.0)).collect();
    let port = port.with("ratio_to_bare", ratio).with("median_ratio_of_pairs", median(&pairs));
    let port = port.goal("at least 90 % of the bare client in the same run", median(&pairs) >= 0.9);
    let beside = embedded::ours(&folder.join(name.replace(|c: char| !c.is_alphanumeric(), "-")), 1_024, seconds)?;
    Ok(vec![bare, port, beside])
}

/// Sends so many messages into each of the first partitions and reads them at the same time.
async fn through<T: Transport>(transport: &Arc<T>, partitions: u16, messages: u64) -> Result<Duration> {
    let channel = topology::channels::by_name(CHANNEL).context("channel is declared")?;
    let group = channel.groups.first().context("channel has a group")?;
    let since = Instant::now();
    let mut tasks = Vec::new();
    for partition in 0..partitions {
        let slot = Slot { channel: channel.code, group: group.code, partition };
        tasks.push(tokio::spawn(send(Arc::clone(transport), Lane::of(slot), messages)));
        tasks.push(tokio::spawn(receive(Arc::clone(transport), slot, messages)));
    }
    for task in tasks {
        task.await??;
    }
    Ok(since.elapsed())
}

async fn send<T: Transport>(transport: Arc<T>, lane: Lane, messages: u64) -> Result<()> {
    let body = Sealed::from_stored(Bytes::from(vec![7; BODY]));
    let parcel = |n: u64| Parcel {
        mark: Mark::Number(n),
        key: Key([1; 16]),
        id: MessageId(u128::from(n).to_be_bytes()),
        body: body.clone(),
    };
    let (mut calls, mut next) = (FuturesOrdered::new(), 1);
    while next <= messages || !calls.is_empty() {
        if next <= messages && (calls.len() as u64) < CALLS {
            let last = (next + WINDOW / CALLS - 1).min(messages);
            calls.push_back(transport.send(lane, (next..=last).map(parcel).collect()));
            next = last + 1;
        } else if let Some(outcomes) = calls.next().await {
            outcomes.into_iter().collect::<Result<Vec<()>, _>>().map_err(|error| anyhow!("{error}"))?;
        }
    }
    Ok(())
}

async fn receive<T: Transport>(transport: Arc<T>, slot: Slot, messages: u64) -> Result<()> {
    let mut reader = transport.receive(slot, 0).await.map_err(|error| anyhow!("{error}"))?;
    let limits = BatchLimits { messages: usize::try_from(ACKNOWLEDGE_EVERY)?, bytes: 4 << 20 };
    let (mut last, mut settled) = (0, 0);
    while last < messages {
        let arrivals = reader.next(limits).await.map_err(|error| anyhow!("{error}"))?;
        for arrival in &arrivals {
            let Mark::Number(number) = arrival.parcel.mark else { continue };
            ensure!(number <= last + 1, "{number} came after {last}");
            last = last.max(number);
        }
        // As often as the bare client.
        if last - settled >= ACKNOWLEDGE_EVERY || last == messages {
            let tag = arrivals.last().map_or(0, |arrival| arrival.tag);
            reader.settle(tag).await.map_err(|error| anyhow!("{error}"))?;
            settled = last;
        }
    }
    Ok(())
}
