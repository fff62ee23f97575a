//! The port beside a bare client of the same library, over the RabbitMQ that `AMQP_URL` names: rates and their ratio.
//!
//! `cargo run --release -p zegel-amqp --features bare --example compare [MESSAGES] [WINDOW]`

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use schemas::{Key, MessageId};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};
use topology::Channel;
use zegel_amqp::bare::{Run, publish_and_consume};
use zegel_amqp::{Amqp, Options, Topology};
use zegel_core::transport::{Lane, Mark, Parcel, Transport};
use zegel_core::{BatchLimits, Sealed, Slot};

/// One partition is what one queue of the bare client is.
static CHANNELS: LazyLock<&'static [Channel]> =
    LazyLock::new(|| Box::leak(Box::new([Channel { partitions: 1, ..topology::CHANNELS[0] }])));

/// Calls of `send` that make up a window: a call ends with its last confirm, so few large ones would leave it half empty.
const CALLS: usize = 10;

/// Milliseconds of processor time that this process has used. A busy machine changes rates, and this hardly.
fn processor_ms() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // pid (name) state …: user and system time are the 12th and 13th field after the name, in hundredths of a second.
    let fields = stat.rsplit(')').next().unwrap_or("").split_whitespace();
    fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum::<u64>() * 10
}

async fn through_the_port(url: &str, run: Run) -> Duration {
    let prefix = format!("compare-{}", std::process::id());
    let options = Options {
        prefix,
        channels: *CHANNELS,
        window_messages: run.window,
        prefetch: run.prefetch,
        ..Options::default()
    };
    Topology::open(url, options.clone()).await.unwrap().apply().await.unwrap();
    let amqp = Amqp::connect(url, options).await.unwrap();
    let slot = Slot { channel: CHANNELS[0].code, group: CHANNELS[0].groups[0].code, partition: 0 };
    let mut reader = amqp.receive(slot, 0).await.unwrap();
    let since = Instant::now();
    let sending = tokio::spawn(send(Arc::clone(&amqp), Lane::of(slot), run));
    let mut count = 0;
    let every = usize::try_from(run.acknowledge_every).unwrap();
    while count < run.messages {
        let arrivals = reader.next(BatchLimits { messages: every, bytes: 64 << 20 }).await.unwrap();
        count += arrivals.len() as u64;
        reader.settle(arrivals.last().unwrap().tag).await.unwrap();
    }
    sending.await.unwrap();
    let took = since.elapsed();
    drop(reader);
    amqp.close().await;
    took
}

async fn send(amqp: Arc<Amqp>, lane: Lane, run: Run) {
    let body = Sealed::from_stored(Bytes::from(vec![7; run.bytes]));
    let parcel = |n: u64| Parcel {
        mark: Mark::Number(n),
        key: Key([1; 16]),
        id: MessageId(u128::from(n).to_be_bytes()),
        body: body.clone(),
    };
    let (mut calls, mut next) = (FuturesOrdered::new(), 1);
    let each = (run.window / CALLS).max(1) as u64;
    while next <= run.messages || !calls.is_empty() {
        if next <= run.messages && calls.len() < CALLS {
            let last = (next + each - 1).min(run.messages);
            let (amqp, parcels) = (Arc::clone(&amqp), (next..=last).map(parcel).collect());
            calls.push_back(async move { amqp.send(lane, parcels).await });
            next = last + 1;
        } else if let Some(outcomes) = calls.next().await {
            assert!(outcomes.iter().all(Result::is_ok), "a message was not confirmed");
        }
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let url = std::env::var("AMQP_URL").expect("AMQP_URL names the broker");
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<u64>().expect("numbers"));
    let messages = arguments.next().unwrap_or(100_000);
    let window = usize::try_from(arguments.next().unwrap_or(1_000)).unwrap();
    let run = Run { messages, bytes: 1_024, window, prefetch: 1_000, acknowledge_every: 100 };
    let mut rates = [Vec::new(), Vec::new()];
    let mut spent = [0, 0];
    for round in 0..5 {
        let started = processor_ms();
        let port = through_the_port(&url, run).await;
        let between = processor_ms();
        spent[0] += between - started;
        let bare = publish_and_consume(&url, "compare-bare", run).await.unwrap();
        spent[1] += processor_ms() - between;
        for (rates, took) in rates.iter_mut().zip([port, bare]) {
            rates.push(messages as f64 / took.as_secs_f64());
        }
        println!("round {round}: port {:.0}/s, bare {:.0}/s", rates[0][round], rates[1][round]);
    }
    let [port, bare] = rates.map(|mut rates| {
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    });
    println!("window {window}: port {port:.0}/s, bare {bare:.0}/s, ratio {:.2}", port / bare);
    let [port, bare] = spent.map(|ms| ms as f64 * 1_000.0 / (5 * messages) as f64);
    println!("processor time of the client per message: port {port:.1} µs, bare {bare:.1} µs");
}
