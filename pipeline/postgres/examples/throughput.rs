//! What the store on PostgreSQL does in a second: `POSTGRES_URL=… cargo run --release -p zegel-postgres --example
//! throughput`, or through `deploy/dev/services run postgres -- …`. Works in a schema of its own and takes it away again.
//!
//! Messages have 1 KiB. Published: each call is one message and returns when it is durable. Steps: each of so many slots commits
//! one after the other; a step moves its position, writes a row of 256 bytes per message and produces as many messages.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::print_stdout)] // a program for a developer's terminal

use bytes::Bytes;
use schemas::{Key, MessageId, Millis};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use zegel_core::slot::spaces::TEST;
use zegel_core::{BatchLimits, Broker as _, Outgoing, OwnerId, Sealed, Slot, Step, Store as _, Write};
use zegel_postgres::{Options, Postgres};

const TIME: Duration = Duration::from_secs(5);
const CHANNEL: &str = "receipts.due";

fn sealed(bytes: usize) -> Sealed {
    Sealed::from_stored(Bytes::from(vec![7; bytes]))
}

fn key(n: u64) -> Key {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&n.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
    Key(key)
}

fn message(n: u64) -> Outgoing {
    let channel = topology::channels::by_name(CHANNEL).unwrap().code;
    Outgoing { channel, key: key(n), id: MessageId([1; 16]), body: sealed(1_024) }
}

fn per_second(count: u64, since: Instant) -> u64 {
    u64::try_from(u128::from(count) * 1_000 / since.elapsed().as_millis().max(1)).unwrap_or(0)
}

/// So many producers publish one message after the other; consumers read all of it at the same time.
async fn publish_and_consume(store: &Arc<Postgres>, producers: u64) {
    let (published, consumed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let since = Instant::now();
    let channel = topology::channels::by_name(CHANNEL).unwrap();
    let last = store.stats().await.unwrap();
    let mut readers = tokio::task::JoinSet::new();
    for slot in Slot::all(channel, &channel.groups[0]) {
        let from = last.iter().find(|line| line.slot == slot).unwrap().last;
        let mut stream = store.subscribe(slot, from).await.unwrap();
        let consumed = Arc::clone(&consumed);
        readers.spawn(async move {
            while let Ok(batch) = stream.next(BatchLimits { messages: 256, bytes: 4 << 20 }).await {
                consumed.fetch_add(u64::try_from(batch.deliveries.len()).unwrap(), Ordering::Relaxed);
                stream.settle(batch.settlement).await.unwrap();
            }
        });
    }
    let mut tasks = tokio::task::JoinSet::new();
    for producer in 0..producers {
        let (store, published) = (Arc::clone(store), Arc::clone(&published));
        tasks.spawn(async move {
            for n in 0.. {
                if since.elapsed() > TIME {
                    break;
                }
                store.publish(vec![message(producer << 32 | n)]).await.remove(0).unwrap();
                published.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    while tasks.join_next().await.is_some() {}
    let count = published.load(Ordering::Relaxed);
    let rate = per_second(count, since);
    while consumed.load(Ordering::Relaxed) < count {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    readers.abort_all();
    println!(
        "publish and consume, {producers} producers: {rate} messages/s, all consumed {} messages/s",
        per_second(count, since)
    );
}

/// So many slots commit steps of so many messages.
async fn steps(store: &Arc<Postgres>, slots: u16, messages: u64) {
    let committed = Arc::new(AtomicU64::new(0));
    let since = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for index in 0..slots {
        let channel = &topology::CHANNELS[usize::from(index / 8)];
        let slot = Slot { channel: channel.code, group: channel.groups[0].code, partition: index % 8 };
        let (store, committed) = (Arc::clone(store), Arc::clone(&committed));
        tasks.spawn(async move {
            let held = store.claim(slot, OwnerId([1; 16]), Millis(0), 3_600_000).await.unwrap().unwrap();
            for n in 1.. {
                if since.elapsed() > TIME {
                    break;
                }
                let mut step = Step { position: Some(held.position + n), ..Step::empty(slot, held.epoch) };
                for m in 0..messages {
                    let place = u64::from(index) << 48 | n << 16 | m;
                    let write = Write { space: TEST, owner: key(place), sub: Bytes::new(), value: Some(sealed(256)) };
                    step.writes.push(write);
                    step.produced.push(message(place));
                }
                store.commit(step).await.unwrap();
                committed.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    let rate = per_second(committed.load(Ordering::Relaxed), since);
    println!("steps of {messages} messages, {slots} slots: {rate} commits/s, {} messages/s", rate * messages);
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let url = std::env::var("POSTGRES_URL").unwrap_or_default();
    let number =
        |name: &str, default: usize| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let schema = format!("zegel_throughput_{}", std::process::id());
    let writers = number("WRITERS", Options::default().writers);
    let options = Options { schema: schema.clone(), writers, high_water: Some(u64::MAX), ..Options::default() };
    let store = match Postgres::open(&url, options).await {
        Ok(store) => store,
        Err(error) => {
            println!("{error}; set POSTGRES_URL");
            std::process::exit(1);
        }
    };
    println!("{writers} writers");
    for producers in [1, 64, 1_024] {
        publish_and_consume(&store, producers).await;
    }
    for (slots, messages) in [(1, 1), (8, 1), (48, 1), (8, 64), (8, 256)] {
        steps(&store, slots, messages).await;
    }
    let metrics = store.metrics();
    let (commits, rollbacks) = (metrics.commits.load(Ordering::Relaxed), metrics.rollbacks.load(Ordering::Relaxed));
    println!("{commits} transactions, {rollbacks} rolled back");
    store.close().await;
    let (client, driver) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(driver);
    client.batch_execute(&format!("DROP SCHEMA {schema} CASCADE")).await.unwrap();
}
