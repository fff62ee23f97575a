//! The embedded broker: publish durably, consume, commit the position, with bare SQLite doing the same beside it.
//!
//! Goal (design): 70 % of bare SQLite with 1,024 messages in flight, in the same run.

use crate::deadline;
use crate::stats::{Histogram, Report, Usage};
use anyhow::{Context, Result, anyhow};
use bytes::Bytes;
use schemas::{Key, MessageId, Millis};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use zegel_core::{BatchLimits, Broker, OwnerId, Sealed, Slot, Step, Store};
use zegel_embedded::Embedded;

/// What a message holds: 1 KiB, as in the published comparisons.
const BODY: usize = 1_024;
/// The channel under load.
const CHANNEL: &str = "mailbox.submitted";

/// Runs the broker and its peer with 64 and 1,024 producers.
///
/// # Errors
/// When a backend fails.
pub fn run(folder: &Path, seconds: u64) -> Result<Vec<Report>> {
    let mut reports = Vec::new();
    for producers in [1usize, 64, 1_024] {
        let bare = bare_sqlite(&folder.join(format!("bare-{producers}")), producers, seconds)?;
        let ours = ours(&folder.join(format!("ours-{producers}")), producers, seconds)?;
        let ratio = ours.msg_per_s / bare.msg_per_s.max(1.0);
        let goal = if producers == 1_024 { "at least 70 % of bare SQLite in the same run" } else { "" };
        let met = producers != 1_024 || ratio >= 0.7;
        reports.push(bare);
        reports.push(ours.with("ratio_to_bare_sqlite", ratio).goal(goal, met));
    }
    Ok(reports)
}

/// Our broker with so many producers.
///
/// # Errors
/// When it fails.
pub fn ours(folder: &Path, producers: usize, seconds: u64) -> Result<Report> {
    std::fs::create_dir_all(folder)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build()?;
    let embedded =
        Embedded::open(folder.join("zegel.db"), zegel_embedded::Options::default()).map_err(|e| anyhow!("{e}"))?;
    let commits = embedded.metrics().commits.load(Ordering::Relaxed);
    let usage = Usage::now();
    let outcome = runtime.block_on(hammer(embedded.clone(), producers, Duration::from_secs(seconds)))?;
    let mut report = Report::named(&format!("embedded, {producers} in flight, 1 KiB, publish + consume + commit"))
        .measured(outcome.messages, outcome.messages * BODY as u64, outcome.took, &outcome.latencies);
    report.fsyncs = embedded.metrics().commits.load(Ordering::Relaxed) - commits;
    usage.tell(&mut report, outcome.messages);
    runtime.block_on(embedded.close());
    Ok(report)
}

struct Outcome {
    messages: u64,
    took: Duration,
    latencies: Histogram,
}

async fn hammer(embedded: Arc<Embedded>, producers: usize, length: Duration) -> Result<Outcome> {
    deadline::part(&format!("{producers} in flight"));
    let channel = topology::channels::by_name(CHANNEL).context("channel is declared")?;
    let published = Arc::new(AtomicU64::new(0));
    let consumed = Arc::new(AtomicU64::new(0));
    let started = Instant::now();
    let end = started + length;
    let mut consumers = Vec::new();
    for slot in Slot::all(channel, &channel.groups[0]) {
        consumers.push(tokio::spawn(consume(embedded.clone(), slot, consumed.clone())));
    }
    let mut tasks = Vec::new();
    for producer in 0..producers {
        tasks.push(tokio::spawn(produce(embedded.clone(), producer, end, published.clone())));
    }
    let mut latencies = Histogram::default();
    for task in tasks {
        latencies.merge(&task.await??);
    }
    let total = published.load(Ordering::SeqCst);
    let patience = Instant::now() + Duration::from_secs(60);
    while consumed.load(Ordering::SeqCst) < total {
        anyhow::ensure!(Instant::now() < patience, "consumers do not keep up");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let took = started.elapsed();
    consumers.iter().for_each(tokio::task::JoinHandle::abort);
    Ok(Outcome { messages: total, took, latencies })
}

async fn produce(
    embedded: Arc<Embedded>,
    producer: usize,
    end: Instant,
    published: Arc<AtomicU64>,
) -> Result<Histogram> {
    let channel = topology::channels::by_name(CHANNEL).context("channel is declared")?;
    let body = Sealed::from_stored(Bytes::from(vec![7u8; BODY]));
    let mut latencies = Histogram::default();
    let mut n = 0u64;
    while Instant::now() < end {
        let mut id = [0u8; 16];
        id[..8].copy_from_slice(&(producer as u64).to_be_bytes());
        id[8..].copy_from_slice(&n.to_be_bytes());
        let mut key = [0u8; 16];
        key[..8].copy_from_slice(&(producer as u64 + n).to_be_bytes());
        n += 1;
        let message =
            zegel_core::Outgoing { channel: channel.code, key: Key(key), id: MessageId(id), body: body.clone() };
        let sent = Instant::now();
        match embedded.publish(vec![message]).await.pop() {
            Some(Ok(())) => {
                latencies.record(sent.elapsed());
                published.fetch_add(1, Ordering::SeqCst);
            }
            Some(Err(zegel_core::BrokerError::Full { .. })) => tokio::time::sleep(Duration::from_millis(5)).await,
            Some(Err(error)) => return Err(anyhow!("{error}")),
            None => return Err(anyhow!("publish gave no result")),
        }
    }
    Ok(latencies)
}

async fn consume(embedded: Arc<Embedded>, slot: Slot, consumed: Arc<AtomicU64>) -> Result<()> {
    let claim = embedded.claim(slot, OwnerId([1; 16]), Millis(0), i64::MAX / 2).await.map_err(|e| anyhow!("{e}"))?;
    let claim = claim.context("slot is free")?;
    let mut subscription = embedded.subscribe(slot, claim.position).await.map_err(|e| anyhow!("{e}"))?;
    loop {
        let limits = BatchLimits { messages: 512, bytes: 4 << 20 };
        let batch = subscription.next(limits).await.map_err(|e| anyhow!("{e}"))?;
        let mut step = Step::empty(slot, claim.epoch);
        step.position = batch.deliveries.last().map(|delivery| delivery.number);
        embedded.commit(step).await.map_err(|e| anyhow!("{e}"))?;
        consumed.fetch_add(batch.deliveries.len() as u64, Ordering::SeqCst);
        subscription.settle(batch.settlement).await.map_err(|e| anyhow!("{e}"))?;
    }
}

/// The peer: one writer thread that groups inserts into transactions, one reader that moves a position, nothing else.
fn bare_sqlite(folder: &Path, producers: usize, seconds: u64) -> Result<Report> {
    deadline::part(&format!("bare SQLite, {producers} in flight"));
    std::fs::create_dir_all(folder)?;
    let file = folder.join("bare.db");
    let (sender, receiver) = std::sync::mpsc::sync_channel::<oneshot::Sender<()>>(4_096);
    let commits = Arc::new(AtomicU64::new(0));
    let consumed = Arc::new(AtomicU64::new(0));
    let counted = (commits.clone(), consumed.clone());
    let path = file.clone();
    let writer = std::thread::spawn(move || bare_writer(&path, &receiver, &counted.0, &counted.1));
    let usage = Usage::now();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build()?;
    let started = Instant::now();
    let end = started + Duration::from_secs(seconds);
    let (messages, latencies) = runtime.block_on(async {
        let tasks: Vec<_> = (0..producers).map(|_| tokio::spawn(bare_producer(sender.clone(), end))).collect();
        drop(sender);
        let mut all = Histogram::default();
        let mut messages = 0;
        for task in tasks {
            let (count, latencies) = task.await?;
            messages += count;
            all.merge(&latencies);
        }
        Ok::<_, anyhow::Error>((messages, all))
    })?;
    writer.join().map_err(|_| anyhow!("the writer thread panicked"))??;
    let took = started.elapsed();
    let mut report = Report::named(&format!("bare SQLite, {producers} in flight, 1 KiB, insert + read + position"))
        .measured(messages, messages * BODY as u64, took, &latencies);
    report.fsyncs = commits.load(Ordering::SeqCst);
    usage.tell(&mut report, messages);
    Ok(report)
}

async fn bare_producer(sender: std::sync::mpsc::SyncSender<oneshot::Sender<()>>, end: Instant) -> (u64, Histogram) {
    let mut latencies = Histogram::default();
    let mut count = 0;
    while Instant::now() < end {
        let (done, wait) = oneshot::channel();
        let sent = Instant::now();
        if sender.send(done).is_err() || wait.await.is_err() {
            break;
        }
        latencies.record(sent.elapsed());
        count += 1;
    }
    (count, latencies)
}

fn bare_writer(
    file: &Path,
    receiver: &std::sync::mpsc::Receiver<oneshot::Sender<()>>,
    commits: &AtomicU64,
    consumed: &AtomicU64,
) -> Result<()> {
    let connection = rusqlite::Connection::open(file)?;
    connection.execute_batch(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;
         CREATE TABLE m(id INTEGER PRIMARY KEY, key BLOB, uid BLOB, body BLOB); CREATE TABLE p(n INTEGER PRIMARY KEY, at INTEGER);
         INSERT INTO p VALUES(1, 0)",
    )?;
    let reader = rusqlite::Connection::open(file)?;
    let body = vec![7u8; BODY];
    let mut insert = connection.prepare("INSERT INTO m(key, uid, body) VALUES(?1, ?2, ?3)")?;
    let mut select = reader.prepare("SELECT id, key, uid, body FROM m WHERE id > ?1 ORDER BY id LIMIT 512")?;
    let mut position = connection.prepare("UPDATE p SET at = ?1 WHERE n = 1")?;
    let mut at = 0i64;
    while let Ok(first) = receiver.recv() {
        let mut waiting = vec![first];
        waiting.extend(std::iter::from_fn(|| receiver.try_recv().ok()).take(511));
        connection.execute_batch("BEGIN IMMEDIATE")?;
        for _ in &waiting {
            insert.execute((&body[..16], &body[..16], &body))?;
        }
        position.execute([at])?;
        connection.execute_batch("COMMIT")?;
        commits.fetch_add(1, Ordering::SeqCst);
        for done in waiting {
            let _gone = done.send(());
        }
        let mut rows = select.query([at])?;
        while let Some(row) = rows.next()? {
            at = row.get(0)?;
            let read: Vec<u8> = row.get(3)?;
            consumed.fetch_add(u64::from(!read.is_empty()), Ordering::SeqCst);
        }
    }
    Ok(())
}
