//! Time-stamp entries: durable and answered in requests of 100 and 1,000; sealing a large bag beside intake.
//!
//! Goals (design): 100,000 entries a second; sealing never delays intake by more than one fsync (shown as the p99 of
//! intake with and without a bag being sealed).

use crate::deadline;
use crate::stats::{Histogram, Report, Usage};
use crate::world::{World, address};
use anyhow::{Context, Result};
use bytes::{BufMut, Bytes, BytesMut};
use schemas::messages::Entries;
use schemas::{Envelope, MailboxAddress, MessageId};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use zegel_core::clock::{Clock, SystemClock};
use zegel_core::sealing::seal_message;
use zegel_core::{Keys, names};

/// Hospitals that send at the same time.
const HOSPITALS: u32 = 16;
/// Requests of one hospital on their way.
const IN_FLIGHT: usize = 4;

/// Runs intake in requests of 100 and of 1,000, and intake while bags are sealed every second.
///
/// # Errors
/// When entries are not answered.
pub fn run(folder: &Path, seconds: u64) -> Result<Vec<Report>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut reports = Vec::new();
    for (size, window_ms, what) in [
        (100u32, 3_600_000i64, "requests of 100, no bag sealed meanwhile"),
        (1_000, 3_600_000, "requests of 1,000, no bag sealed meanwhile"),
        (1_000, 1_000, "requests of 1,000, every hospital's bag sealed every second"),
    ] {
        let name = format!("{size}-{window_ms}");
        reports.push(runtime.block_on(one(&folder.join(name), size, window_ms, what, seconds))?);
    }
    Ok(reports)
}

async fn one(folder: &Path, size: u32, window_ms: i64, what: &str, seconds: u64) -> Result<Report> {
    deadline::part(what);
    let world = Arc::new(World::open(folder)?);
    let mut runner = world.runner();
    crate::stages::start_timestamp(&mut runner, folder, window_ms)?;
    let (usage, commits) = (Usage::now(), world.embedded.metrics().commits.load(Ordering::Relaxed));
    let started = Instant::now();
    let end = started + Duration::from_secs(seconds);
    let mut tasks = Vec::new();
    for hospital in 0..HOSPITALS {
        for lane in 0..IN_FLIGHT {
            tasks.push(tokio::spawn(offer(world.clone(), hospital, lane as u64, size, end)));
        }
    }
    let mut latencies = Histogram::default();
    let mut entries = 0;
    for task in tasks {
        let (count, lane) = task.await??;
        entries += count;
        latencies.merge(&lane);
    }
    let took = started.elapsed();
    let mut report = Report::named(&format!("bags, {what}")).measured(entries, entries * 40, took, &latencies);
    report.fsyncs = world.embedded.metrics().commits.load(Ordering::Relaxed) - commits;
    usage.tell(&mut report, entries);
    let met = report.msg_per_s >= 100_000.0;
    anyhow::ensure!(runner.drain(Duration::from_secs(60)).await, "the runner does not drain");
    world.embedded.close().await;
    Ok(report.goal("at least 100,000 entries/s durable and answered", met))
}

async fn offer(world: Arc<World>, hospital: u32, lane: u64, size: u32, end: Instant) -> Result<(u64, Histogram)> {
    let stem = 710_100 + hospital;
    let hospital = address(&format!("NIHII-HOSPITAL:{stem}{:02}", 97 - stem % 97))?;
    let mut latencies = Histogram::default();
    let mut count = 0u64;
    let mut next = lane << 40 | 1;
    while Instant::now() < end {
        let sent = Instant::now();
        request(&world, &hospital, next, size).await?;
        latencies.record(sent.elapsed());
        next += u64::from(size);
        count += u64::from(size);
    }
    Ok((count, latencies))
}

async fn request(world: &World, hospital: &MailboxAddress, first: u64, size: u32) -> Result<()> {
    let channel = topology::channels::by_name("timestamp.entries").context("channel")?;
    let key = names::address_key(&*world.keys, hospital);
    let mut records = BytesMut::with_capacity(size as usize * 40);
    for reference in first..first + u64::from(size) {
        records.put_u64(reference);
        let mut hash = [0u8; 32];
        hash[..8].copy_from_slice(&reference.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
        records.put_slice(&hash);
    }
    let payload = Entries { hospital: hospital.clone(), count: size };
    let id = MessageId(world.keys.random16());
    let mut envelope = Envelope::new(id, "/zegel/load", key, SystemClock.now(), &payload)?;
    envelope.attachment = Bytes::from(records);
    let reply = world.replies.expect(id).context("too many waiters")?;
    world.publish(vec![seal_message(&*world.keys, channel, &envelope)?]).await?;
    let reply = tokio::time::timeout(Duration::from_secs(30), reply).await??;
    let answers: Vec<schemas::messages::EntryAnswer> = serde_json::from_slice(&reply)?;
    let accepted = answers.iter().all(|answer| matches!(answer, schemas::messages::EntryAnswer::Accepted { .. }));
    anyhow::ensure!(accepted && answers.len() == size as usize, "an entry was not accepted");
    Ok(())
}
