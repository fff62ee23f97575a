//! Work that goes on whatever happens to the server, and what has to be true of it afterwards.
//!
//! Four producers publish; one owner commits steps with positions and, when it is told that the store is not available,
//! claims its slot again and goes on from the position, as the runner does; another commits steps without a position and
//! never repeats one; consumers read the numbers of a channel. Each notes what it was told.

use crate::place::Place;
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use zegel_conformance::fixture::{
    SINGLE, SPREAD, WIDE, channel, expect_numbers, id_number, key, message, owner, sealed, slot,
};
use zegel_core::slot::spaces::TEST;
use zegel_core::store::Claim;
use zegel_core::{Broker as _, BrokerError, Read, Slot, Step, Store as _, StoreError, Write};
use zegel_postgres::{Options, Postgres};

const CONSUMED: &str = "ttp.inbound";
/// Ids of messages that steps with a position produce begin here, then those of steps without one.
const STEPS: u64 = 1 << 40;
const TICKS: u64 = 1 << 41;

/// What the workers were told.
#[derive(Default)]
pub(crate) struct Told {
    published: Mutex<Vec<u64>>,
    ticked: Mutex<Vec<u64>>,
    committed: AtomicU64,
    /// Calls that were answered with an error.
    pub(crate) errors: AtomicU64,
    next: AtomicU64,
    stop: AtomicBool,
}

impl Told {
    /// Acknowledged messages and steps so far.
    pub(crate) fn count(&self) -> usize {
        self.published.lock().unwrap().len() + self.ticked.lock().unwrap().len()
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::SeqCst)
    }
}

/// Workers on a store.
pub(crate) struct Load {
    pub(crate) told: Arc<Told>,
    tasks: JoinSet<()>,
}

impl Load {
    pub(crate) fn start(store: &Arc<Postgres>) -> Load {
        let told = Arc::new(Told::default());
        let mut tasks = JoinSet::new();
        for _ in 0..4 {
            tasks.spawn(produce(Arc::clone(store), Arc::clone(&told)));
        }
        tasks.spawn(step(Arc::clone(store), Arc::clone(&told)));
        tasks.spawn(tick(Arc::clone(store), Arc::clone(&told)));
        for partition in 0..channel(CONSUMED).partitions {
            tasks.spawn(consume(Arc::clone(store), Arc::clone(&told), slot(CONSUMED, partition)));
        }
        Load { told, tasks }
    }

    /// Waits until so many more were acknowledged.
    pub(crate) async fn more(&self, count: usize) {
        let (since, target) = (Instant::now(), self.told.count() + count);
        while self.told.count() < target {
            assert!(since.elapsed() < Duration::from_secs(60), "work does not go on after a fault");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Lets every worker finish what it does, and fails when one of them found something wrong.
    pub(crate) async fn stop(mut self) -> Arc<Told> {
        self.told.stop.store(true, Ordering::SeqCst);
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
        self.told
    }
}

async fn produce(store: Arc<Postgres>, told: Arc<Told>) {
    while told.goes_on() {
        let n = told.next.fetch_add(1, Ordering::SeqCst);
        let outcomes = store.publish(vec![message(SINGLE, n), message(CONSUMED, n)]).await;
        match &outcomes[0] {
            Ok(()) => told.published.lock().unwrap().push(n),
            Err(BrokerError::Unavailable(_)) => drop(told.errors.fetch_add(1, Ordering::SeqCst)),
            Err(error) => panic!("a producer was told: {error}"),
        }
    }
}

/// Claims until it gets the slot; nobody else wants it.
async fn claim_again(store: &Postgres, slot: Slot) -> Claim {
    loop {
        match store.claim(slot, owner(1), schemas::Millis(0), 3_600_000).await {
            Ok(claim) => return claim.expect("a slot that nobody wants is refused"),
            Err(StoreError::Unavailable(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(error) => panic!("an owner was told: {error}"),
        }
    }
}

async fn step(store: Arc<Postgres>, told: Arc<Told>) {
    let mut held = claim_again(&store, slot(SPREAD, 0)).await;
    let mut n = held.position + 1;
    while told.goes_on() {
        let value = Some(sealed(&n.to_string()));
        let step = Step {
            position: Some(n),
            writes: vec![Write { space: TEST, owner: key(0), sub: Bytes::new(), value }],
            produced: vec![message(SINGLE, STEPS + n)],
            ..Step::empty(held.slot, held.epoch)
        };
        match store.commit(step).await {
            Ok(()) => {
                told.committed.store(n, Ordering::SeqCst);
                n += 1;
            }
            Err(StoreError::Unavailable(_)) => {
                told.errors.fetch_add(1, Ordering::SeqCst);
                held = claim_again(&store, held.slot).await;
                assert!([n - 1, n].contains(&held.position), "the position jumped to {} at {n}", held.position);
                n = held.position + 1;
            }
            Err(error) => panic!("an owner was told: {error}"),
        }
    }
}

/// Steps without a position: nothing but their token keeps them from being applied twice.
async fn tick(store: Arc<Postgres>, told: Arc<Told>) {
    let held = claim_again(&store, slot(SPREAD, 1)).await;
    while told.goes_on() {
        let n = TICKS + told.next.fetch_add(1, Ordering::SeqCst);
        let step = Step { produced: vec![message(SINGLE, n)], ..Step::empty(held.slot, held.epoch) };
        match store.commit(step).await {
            Ok(()) => told.ticked.lock().unwrap().push(n),
            Err(StoreError::Unavailable(_)) => drop(told.errors.fetch_add(1, Ordering::SeqCst)),
            Err(error) => panic!("an owner was told: {error}"),
        }
    }
}

async fn consume(store: Arc<Postgres>, told: Arc<Told>, slot: Slot) {
    let mut at = 0;
    while told.goes_on() {
        let Ok(mut stream) = store.subscribe(slot, at).await else { return };
        while told.goes_on() {
            match tokio::time::timeout(Duration::from_millis(50), stream.next(WIDE)).await {
                Ok(Ok(batch)) => {
                    expect_numbers(&batch.deliveries, at + 1);
                    at = batch.settlement.up_to;
                    stream.settle(batch.settlement).await.unwrap();
                }
                Ok(Err(_)) => break,
                Err(_) => {}
            }
        }
    }
}

/// Opens the store again and looks: everything acknowledged is there, nothing is there twice, numbers have no gaps, and
/// steps, their messages, their rows and their position agree.
pub(crate) async fn verify(place: &Place, told: &Told) {
    let store = place.postgres(Options { patience: Duration::from_secs(10), ..place.options() }).await;
    let lines = store.stats().await.unwrap();
    let line = |slot: Slot| *lines.iter().find(|line| line.slot == slot).unwrap();
    let count = usize::try_from(line(slot(SINGLE, 0)).last).unwrap();
    let mut stream = store.subscribe(slot(SINGLE, 0), 0).await.unwrap();
    let mut got = Vec::new();
    while got.len() < count {
        got.extend(stream.next(WIDE).await.unwrap().deliveries);
    }
    expect_numbers(&got, 1);
    let mut times: HashMap<u64, u32> = HashMap::new();
    for one in &got {
        *times.entry(id_number(one.id)).or_default() += 1;
    }
    assert!(times.values().all(|times| *times == 1), "a message is there twice");
    for (what, acknowledged) in [("messages", &told.published), ("steps", &told.ticked)] {
        let lost = acknowledged.lock().unwrap().iter().filter(|n| !times.contains_key(n)).count();
        assert_eq!(lost, 0, "acknowledged {what} are lost");
    }
    let position = line(slot(SPREAD, 0)).position;
    let committed = told.committed.load(Ordering::SeqCst);
    assert!(position >= committed, "an acknowledged step is lost: at {position}, acknowledged {committed}");
    let steps = times.keys().filter(|n| (STEPS..TICKS).contains(*n)).count();
    assert_eq!(u64::try_from(steps).unwrap(), position, "steps and their messages do not agree");
    let read = Read::One { space: TEST, owner: key(0), sub: Bytes::new() };
    let rows = store.read(vec![read]).await.unwrap();
    assert_eq!(rows[0][0].1, sealed(&position.to_string()), "a step and its row do not agree");
    drop((stream, store));
    place.shut().await;
}
