//! A submission of 1 KiB over HTTP, answered 202 after the fsync, workers paused, 256 connections on loopback.
//!
//! The load generator shares the machine's cores with the server. Goal (design): 30,000/s, p99 under 50 ms.

use crate::deadline;
use crate::stats::{Histogram, Report, Usage};
use crate::world::{HOSPITAL, REGISTRY, TTP, World, address};
use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use zegel_core::clock::SystemClock;
use zegel_core::names;
use zegel_gateway::auth::{Grant, Tokens};
use zegel_gateway::{FileTokens, GatewayConfig, Platform, serve};

const CONNECTIONS: usize = 256;
const BODY: usize = 1_024;

/// Runs the scenario.
///
/// # Errors
/// When the server cannot be started or refuses.
pub fn run(folder: &Path, seconds: u64) -> Result<Vec<Report>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    Ok(vec![runtime.block_on(one(folder, seconds))?])
}

async fn one(folder: &Path, seconds: u64) -> Result<Report> {
    let world = Arc::new(World::open(folder)?);
    let mut runner = world.runner();
    runner.start(Arc::new(zegel_mailbox::Boxes));
    world.open_box(HOSPITAL).await?;
    world.open_box(REGISTRY).await?;
    let tokens = Arc::new(FileTokens::open(&folder.join("tokens"), world.keys.clone())?);
    let token = tokens.issue(Grant::Mailbox(names::address_key(&*world.keys, &address(HOSPITAL)?)))?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let to = listener.local_addr()?;
    let platform = Arc::new(Platform {
        broker: world.embedded.clone(),
        store: world.embedded.clone(),
        objects: world.objects.clone(),
        keys: world.keys.clone(),
        clock: Arc::new(SystemClock),
        replies: world.replies.clone(),
        tokens,
        projects: Arc::new(zegel_ttp::project::desk::Closed),
        book: Arc::default(),
        metrics: Arc::new(String::new),
        config: GatewayConfig::new(address(TTP)?),
    });
    deadline::part("sending");
    let server = tokio::spawn(serve(listener, platform, std::future::pending()));
    let (usage, commits) = (Usage::now(), world.embedded.metrics().commits.load(Ordering::Relaxed));
    let started = Instant::now();
    let end = started + Duration::from_secs(seconds);
    let clients: Vec<_> = (0..CONNECTIONS).map(|n| tokio::spawn(client(to, token.clone(), n, end))).collect();
    let mut latencies = Histogram::default();
    let (mut total, mut pushed_back) = (0, 0);
    for task in clients {
        let (count, busy, lane) = task.await??;
        total += count;
        pushed_back += busy;
        latencies.merge(&lane);
    }
    let took = started.elapsed();
    let mut report = Report::named("http, submissions of 1 KiB, 256 connections, workers paused, 202 after the fsync")
        .measured(total, total * BODY as u64, took, &latencies)
        .with("pushed_back_429", pushed_back);
    report.fsyncs = world.embedded.metrics().commits.load(Ordering::Relaxed) - commits;
    usage.tell(&mut report, total);
    deadline::part("draining");
    server.abort();
    anyhow::ensure!(runner.drain(Duration::from_secs(10)).await, "the runner does not drain");
    world.embedded.close().await;
    let met = report.msg_per_s >= 30_000.0 && report.p99_ms < 50.0;
    Ok(report.goal("at least 30,000/s, p99 under 50 ms", met))
}

async fn client(to: std::net::SocketAddr, token: String, lane: usize, end: Instant) -> Result<(u64, u64, Histogram)> {
    let stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let body = Bytes::from(vec![b'x'; BODY]);
    let mut latencies = Histogram::default();
    let (mut count, mut busy) = (0u64, 0u64);
    while Instant::now() < end {
        let id = format!("{lane:x}x{count:x}");
        let path = format!(
            "/v1/messages?sender={HOSPITAL}&to={REGISTRY}&publication_id={id}&title=load&file_name=f&mime=text/plain"
        );
        let request = hyper::Request::post(path)
            .header("host", "localhost")
            .header("authorization", format!("Bearer {token}"))
            .body(Full::new(body.clone()))?;
        let sent = Instant::now();
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let answer = response.into_body().collect().await?.to_bytes();
        match status {
            202 => {
                latencies.record(sent.elapsed());
                count += 1;
            }
            429 | 503 => {
                busy += 1;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            _ => {
                return Err(anyhow::anyhow!("the server said {status}"))
                    .context(String::from_utf8_lossy(&answer).into_owned());
            }
        }
    }
    drop(sender);
    driver.abort();
    Ok((count, busy, latencies))
}
