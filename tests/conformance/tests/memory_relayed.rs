//! The broker and runner suites over the relayed broker: the in-memory transport and the in-memory store, with relays and
//! intakes of a process of their own beside the suite's runners.

#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use zegel_conformance::fixture::{
    Fixture, SINGLE, claim, expect_numbers, id_number, message, owner, publish, slot, subscribe, take,
};
use zegel_conformance::relays;
use zegel_conformance::runner::{self, Backend};
use zegel_core::memory::Memory;
use zegel_core::memory_transport::MemoryTransport;
use zegel_core::slot::{INTAKE, spaces::INTAKES};
use zegel_core::testing::TestKeys;
use zegel_core::transport::{Lane, Mark, Parcel, Transport};
use zegel_core::{Keys, Read, Relayed, RelayedConfig, Runner, Slot, Step, Store};

struct Place {
    store: Arc<Memory>,
    transport: Arc<MemoryTransport>,
    runner: Mutex<Option<(Runner, Arc<Relayed>)>>,
}

impl Place {
    fn start(&self, high_water: Option<u64>) -> Backend {
        self.store.open_again();
        self.transport.open_again();
        let config = RelayedConfig { high_water, patience: Duration::from_millis(300) };
        let (backend, runner, relayed) =
            relays::start(Arc::new(Arc::clone(&self.transport)), self.store.clone(), config);
        *self.runner.lock().unwrap() = Some((runner, relayed));
        backend
    }
}

#[async_trait::async_trait]
impl Fixture for Place {
    fn fresh() -> Place {
        Place { store: Memory::new(), transport: MemoryTransport::new(), runner: Mutex::default() }
    }

    async fn open(&self, high_water: Option<u64>) -> Backend {
        self.start(high_water)
    }

    async fn close(&self, _: Backend) {
        let running = self.runner.lock().unwrap().take();
        if let Some((runner, relayed)) = running {
            runner.drain(Duration::from_secs(5)).await;
            relayed.close().await;
        }
        self.store.close();
    }
}

mod broker {
    macro_rules! over_relays {
        ($name:ident) => {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                zegel_conformance::broker::$name::<super::Place>().await;
            }
        };
    }

    zegel_conformance::for_each_broker_scenario!(over_relays);
}

mod stages {
    use super::{Fixture as _, Place, runner};

    macro_rules! over_relays {
        ($name:ident) => {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let place = Place::fresh();
                runner::$name(place.open(None).await).await;
            }
        };
    }

    zegel_conformance::for_each_runner_scenario!(over_relays);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_lost_its_disk_loses_nothing_that_was_numbered() {
    let place = Place::fresh();
    let backend = place.open(None).await;
    publish(&backend, (1..=100).map(|n| message(SINGLE, n)).collect()).await;
    let mut stream = subscribe(&backend, slot(SINGLE, 0), 0).await;
    expect_numbers(&take(&mut *stream, 100).await, 1); // all went through the relay
    drop(stream);
    place.transport.forget();
    publish(&backend, vec![message(SINGLE, 101)]).await;
    let mut stream = subscribe(&backend, slot(SINGLE, 0), 40).await;
    let got = take(&mut *stream, 61).await;
    expect_numbers(&got, 41);
    assert!((41..).zip(&got).all(|(n, one)| id_number(one.id) == n), "the order changed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publisher_that_sends_again_after_a_cut_doubles_nothing() {
    let place = Place::fresh();
    let backend = place.open(None).await;
    let lane = Lane::of(Slot { group: INTAKE, ..slot(SINGLE, 0) });
    let parcel = |n: u64| {
        let message = message(SINGLE, n);
        let mark = Mark::Edge { session: [9; 16], sequence: n };
        Parcel { mark, key: message.key, id: message.id, body: message.body }
    };
    // 3 and 4 are not confirmed before the cut, 6 overtakes 5, and everything from 3 on is sent again.
    let sent = [1, 2, 3, 4, 6, 3, 4, 5, 6, 7];
    let outcomes = place.transport.send(lane, sent.into_iter().map(parcel).collect()).await;
    assert!(outcomes.iter().all(Result::is_ok));
    let mut stream = subscribe(&backend, slot(SINGLE, 0), 0).await;
    let ids: Vec<u64> = take(&mut *stream, 7).await.iter().map(|one| id_number(one.id)).collect();
    assert_eq!(ids, [1, 2, 3, 4, 5, 6, 7], "a message of the edge is lost, doubled or moved");
    let keys = TestKeys::default();
    let owner = keys.blind("intake", &[0, 2, 0, 0]);
    let all = Read::Range { space: INTAKES, owner, from: Bytes::new(), to: None, limit: 9, reverse: false };
    assert_eq!(place.store.read(vec![all]).await.unwrap()[0].len(), 1, "a session has other than one row");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_connection_delays_and_loses_nothing() {
    let place = Place::fresh();
    let backend = place.open(None).await;
    let mut taken = 0;
    for round in 0..5u64 {
        publish(&backend, (1..=50).map(|n| message(SINGLE, round * 50 + n)).collect()).await;
        place.transport.sever(true);
        assert!(backend.broker.publish(vec![message(SINGLE, 9_999)]).await[0].is_err(), "published without a broker");
        tokio::time::sleep(Duration::from_millis(50)).await;
        place.transport.heal();
        let mut stream = subscribe(&backend, slot(SINGLE, 0), taken).await;
        let got = take(&mut *stream, 50).await;
        expect_numbers(&got, taken + 1);
        assert!((1..).zip(&got).all(|(n, one)| id_number(one.id) == round * 50 + n), "lost, doubled or moved");
        taken += 50;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_edge_is_served_while_the_store_is_away() {
    let place = Place::fresh();
    let backend = place.open(None).await;
    place.store.close();
    publish(&backend, (1..=20).map(|n| message(SINGLE, n)).collect()).await;
    place.store.open_again();
    // The relays ended with the store, as with a process; the next process takes what lies in the broker.
    place.close(backend).await;
    let backend = place.open(None).await;
    let mut stream = subscribe(&backend, slot(SINGLE, 0), 0).await;
    expect_numbers(&take(&mut *stream, 20).await, 1);
    let held = claim(&backend, slot(SINGLE, 0), owner(1)).await;
    let step = Step { position: Some(20), ..Step::empty(held.slot, held.epoch) };
    assert!(backend.store.commit(step).await.is_ok());
}
