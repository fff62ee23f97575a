//! One relay and one reader over a transport that go on through every fault, and what they saw checked: nothing that was
//! confirmed is lost, nothing comes before what was sent before it, repetitions aside. For tests of faults; how often these
//! are repeated is set by the environment.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::missing_panics_doc)] // it fails a test by a panic
#![allow(clippy::print_stdout)] // a test tells what it counted

use crate::fixture::{SINGLE, slot};
use crate::proxy::Proxy;
use bytes::Bytes;
use schemas::{Key, MessageId};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use zegel_core::transport::{Lane, Mark, Parcel, Transport};
use zegel_core::{BatchLimits, BrokerError, Sealed, Slot};

const MINUTE: Duration = Duration::from_secs(60);

/// How often and how long a network is silent, and what is expected of a transport then.
pub struct Silences {
    /// How often.
    pub times: u32,
    /// How long, after a send was refused.
    pub lasting: Duration,
    /// A send into the silence fails within this.
    pub refused_within: Duration,
    /// A half-open connection is replaced within this.
    pub noticed_within: Duration,
}

/// What a relay takes at a time.
const BATCH: u64 = 100;

fn number(variable: &str) -> Option<u32> {
    std::env::var(variable).ok().and_then(|text| text.parse().ok())
}

/// How often a fault that takes milliseconds is repeated: so often in every run, as `ZEGEL_ROUNDS` says in a long one.
#[must_use]
pub fn rounds(short: u32) -> u32 {
    number("ZEGEL_ROUNDS").unwrap_or(short)
}

/// The same of a fault that takes seconds, as a server's restart: `ZEGEL_KILLS`.
#[must_use]
pub fn kills(short: u32) -> u32 {
    number("ZEGEL_KILLS").unwrap_or(short)
}

/// How long a network is silent: so long in every run, so many seconds as `ZEGEL_SILENCE` says in a long one.
#[must_use]
pub fn silence(short: Duration) -> Duration {
    number("ZEGEL_SILENCE").map_or(short, |seconds| Duration::from_secs(seconds.into()))
}

/// The slot that the load goes through.
#[must_use]
pub fn single() -> Slot {
    slot(SINGLE, 0)
}

/// The parcel with this number.
#[must_use]
pub fn parcel(n: u64) -> Parcel {
    let mut id = [0; 16];
    id[8..].copy_from_slice(&n.to_be_bytes());
    let body = Sealed::from_stored(Bytes::from(vec![n.to_le_bytes()[0]; 1_000]));
    Parcel { mark: Mark::Number(n), key: Key(id), id: MessageId(id), body }
}

/// What a load counts while it runs.
#[derive(Default)]
struct Counts {
    stop: AtomicBool,
    /// The relay has ended, and `confirmed` is its last word.
    ended: AtomicBool,
    confirmed: AtomicU64,
    applied: AtomicU64,
    repeated: AtomicU64,
    late: AtomicU64,
    refused: AtomicU64,
    /// What the relay and the reader were told last.
    told: Mutex<[String; 2]>,
}

/// See the module.
pub struct Load {
    counts: Arc<Counts>,
    relay: JoinHandle<()>,
    reader: JoinHandle<Duration>,
}

impl Load {
    /// Begins with the first message and waits until some have arrived.
    pub async fn begin(sending: Arc<dyn Transport>, reading: Arc<dyn Transport>) -> Load {
        Load::begin_with(sending, reading, true).await
    }

    /// With `strict` nothing may come late, without it only nothing may be missing.
    pub async fn begin_with(sending: Arc<dyn Transport>, reading: Arc<dyn Transport>, strict: bool) -> Load {
        let counts = Arc::new(Counts::default());
        let relay = tokio::spawn(relay(sending, Arc::clone(&counts)));
        let reader = tokio::spawn(reader(reading, Arc::clone(&counts), strict));
        let load = Load { counts, relay, reader };
        load.more(1_000, Duration::from_secs(60)).await;
        load
    }

    /// The number up to which everything has arrived.
    #[must_use]
    pub fn applied(&self) -> u64 {
        self.counts.applied.load(Ordering::SeqCst)
    }

    /// Whether so many more are applied in time.
    pub async fn goes_on(&self, count: u64, within: Duration) -> bool {
        let (since, target) = (Instant::now(), self.applied() + count);
        while self.applied() < target && since.elapsed() < within && !self.reader.is_finished() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.applied() >= target
    }

    /// Waits until so many more were applied; returns how long that took.
    pub async fn more(&self, count: u64, within: Duration) -> Duration {
        let (since, target) = (Instant::now(), self.applied() + count);
        while self.applied() < target {
            assert!(!self.reader.is_finished() && !self.relay.is_finished(), "the load has ended");
            let told = self.counts.told.lock().unwrap().join("; ");
            assert!(since.elapsed() < within, "nothing goes on after {within:?}, at {}: {told}", self.applied());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        since.elapsed()
    }

    /// Waits until the proxy has more connections than these and 500 more were applied; returns how long that took. What
    /// a reader had fetched before goes on arriving, so its arrival alone says nothing of the connections.
    pub async fn reconnected(&self, proxy: &Proxy, connections: u64, within: Duration) -> Duration {
        let since = Instant::now();
        while proxy.connections() <= connections {
            self.more(50, within).await;
        }
        self.more(500, within).await;
        since.elapsed()
    }

    /// Cuts every connection so many times, every second time in the middle of what is being sent, and waits each time
    /// until the load goes on over new ones.
    pub async fn through_cuts(&self, proxy: &Proxy, cuts: u32, within: Duration) {
        for round in 0..u64::from(cuts) {
            let before = proxy.connections();
            if round % 2 == 0 {
                proxy.cut_after(50_000 + 7_919 * round);
            } else {
                proxy.cut();
            }
            self.reconnected(proxy, before, within).await;
        }
    }

    /// Holds everything back for `silence`, then leaves every connection half open, so many times: a send into the silence
    /// fails in time, and half-open connections are noticed in time.
    pub async fn through_silences(&self, proxy: &Proxy, sending: &dyn Transport, silences: Silences) {
        for _ in 0..silences.times {
            proxy.hold(true);
            let since = Instant::now();
            let refused = sending.send(Lane::of(single()), vec![parcel(1)]).await; // a repetition, should it arrive
            assert!(matches!(refused[..], [Err(BrokerError::Unavailable(_))]), "sent into silence: {refused:?}");
            let waited = since.elapsed();
            assert!(waited < silences.refused_within, "a send waited {waited:?} for a silent network");
            tokio::time::sleep(silences.lasting).await;
            proxy.hold(false);
            self.more(500, MINUTE).await;
            let before = proxy.connections();
            proxy.half_open();
            let took = self.reconnected(proxy, before, MINUTE).await;
            assert!(took < silences.noticed_within, "half-open connections were noticed after {took:?}");
        }
    }

    /// Ends sending, waits for everything that was confirmed, and returns the longest pause between two messages.
    pub async fn end(self, what: &str) -> Duration {
        self.counts.stop.store(true, Ordering::SeqCst);
        self.relay.await.unwrap();
        let pause = tokio::time::timeout(Duration::from_secs(60), self.reader).await;
        let counts = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
        let (confirmed, applied) = (counts(&self.counts.confirmed), counts(&self.counts.applied));
        let pause =
            pause.unwrap_or_else(|_| panic!("{what}: confirmed up to {confirmed}, but only {applied} came")).unwrap();
        let (confirmed, applied) = (confirmed, counts(&self.counts.applied).max(applied));
        assert!(applied >= confirmed, "{what}: confirmed up to {confirmed}, but only {applied} came");
        println!(
            "{what}: {confirmed} confirmed, {applied} applied, {} came again, {} early, {} sends refused, longest pause {pause:?}",
            counts(&self.counts.repeated),
            counts(&self.counts.late),
            counts(&self.counts.refused)
        );
        pause
    }
}

/// As the relays do: in number order, from the lowest on that is not confirmed.
async fn relay(transport: Arc<dyn Transport>, counts: Arc<Counts>) {
    let mut next = 1;
    while !counts.stop.load(Ordering::SeqCst) {
        let outcomes = transport.send(Lane::of(single()), (next..next + BATCH).map(parcel).collect()).await;
        let confirmed = outcomes.iter().take_while(|outcome| outcome.is_ok()).count() as u64;
        next += confirmed;
        counts.confirmed.store(next - 1, Ordering::SeqCst);
        if confirmed < BATCH {
            counts.refused.fetch_add(1, Ordering::SeqCst);
            counts.told.lock().unwrap()[0] = format!("relay: {:?}", outcomes.last());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    counts.ended.store(true, Ordering::SeqCst);
}

/// As a group does: the next number, or a repetition; what comes early waits for the gap.
async fn reader(transport: Arc<dyn Transport>, counts: Arc<Counts>, strict: bool) -> Duration {
    let mut early = BTreeSet::new();
    let (mut applied, mut last, mut longest) = (0u64, Instant::now(), Duration::ZERO);
    let done = |applied| counts.ended.load(Ordering::SeqCst) && applied >= counts.confirmed.load(Ordering::SeqCst);
    while !done(applied) {
        let mut arrivals = match transport.receive(single(), applied).await {
            Ok(arrivals) => arrivals,
            Err(error) => {
                counts.told.lock().unwrap()[1] = format!("reader: {error}");
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        while !done(applied) {
            let limits = BatchLimits { messages: 200, bytes: 1 << 20 };
            let Ok(batch) = tokio::time::timeout(Duration::from_millis(200), arrivals.next(limits)).await else {
                continue;
            };
            let Ok(batch) = batch else { break };
            for arrival in &batch {
                let Mark::Number(number) = arrival.parcel.mark else { panic!("a mark of another kind") };
                assert_eq!(arrival.parcel, parcel(number), "a parcel was altered");
                let next = number <= applied + 1;
                assert!(next || !strict, "{number} came after {applied}: what is between was lost or comes late");
                if number <= applied || !early.insert(number) {
                    counts.repeated.fetch_add(1, Ordering::SeqCst);
                } else if !next {
                    counts.late.fetch_add(1, Ordering::SeqCst);
                }
                while early.remove(&(applied + 1)) {
                    longest = longest.max(last.elapsed());
                    (applied, last) = (applied + 1, Instant::now());
                    counts.applied.store(applied, Ordering::SeqCst);
                }
            }
            let tag = batch.last().unwrap().tag;
            if arrivals.settle(tag).await.is_err() {
                break;
            }
        }
    }
    longest
}
