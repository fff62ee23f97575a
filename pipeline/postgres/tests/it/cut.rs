//! What a network can do: cut a commit on either side of the server, cut everything again and again, fall silent.

use crate::cluster;
use crate::load::{Load, verify};
use crate::place::Place;
use crate::proxy::{Fault, Proxy, server_of, through};
use bytes::Bytes;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use zegel_conformance::fixture::{SINGLE, SPREAD, claim, id, message, owner, sealed, slot};
use zegel_conformance::load::{kills, rounds, silence};
use zegel_conformance::proxy::Proxy as Network;
use zegel_conformance::runner::Backend;
use zegel_core::{Broker as _, BrokerError, Outbox as _, Outgoing, Sealed, Step, Store as _, StoreError};
use zegel_postgres::Options;

const MARK: &str = "cut here";

fn marked(n: u64) -> Outgoing {
    Outgoing { body: sealed(MARK), ..message(SINGLE, n) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_whose_connection_is_cut_is_applied_once_and_told_so() {
    let Some(url) = cluster::shared() else { return };
    let proxy = Proxy::before(url).await;
    let place = Place::on(&proxy.url(url));
    let store = place.postgres(place.options()).await;
    let backend = Backend { broker: store.clone(), store: store.clone() };
    let held = claim(&backend, slot(SPREAD, 0), owner(1)).await;
    let mut resolved = 0;
    // With a position and without one, as a step that fires timers.
    for (n, (fault, position)) in
        (1..).zip([(Fault::Request, Some(1)), (Fault::Answer, Some(2)), (Fault::Request, None), (Fault::Answer, None)])
    {
        proxy.arm(fault, MARK.as_bytes());
        let step = Step { position, produced: vec![marked(n)], ..Step::empty(held.slot, held.epoch) };
        let outcome = store.commit(step).await;
        assert!(proxy.has_fired(), "the step did not go through the proxy");
        assert!(outcome.is_ok(), "a step cut with {fault:?} at {position:?} was told: {outcome:?}");
        resolved += u64::from(fault == Fault::Answer);
        assert_eq!(store.metrics().resolved.load(Ordering::Relaxed), resolved, "after {fault:?} at {position:?}");
    }
    let limits = zegel_conformance::fixture::WIDE;
    let found = store.outgoing(message(SINGLE, 0).channel, 0, 0, limits).await.unwrap();
    let ids: Vec<_> = found.iter().map(|one| one.id).collect();
    assert_eq!(ids, [id(1), id(2), id(3), id(4)], "a step was applied twice, or not at all");
    drop((backend, store));
    place.shut().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_was_applied_before_its_owner_was_fenced_is_told_as_applied() {
    let Some(url) = cluster::shared() else { return };
    let proxy = Proxy::before(url).await;
    let place = Place::on(&proxy.url(url));
    let store = place.postgres(place.options()).await;
    let backend = Backend { broker: store.clone(), store: store.clone() };
    let held = claim(&backend, slot(SPREAD, 0), owner(1)).await;
    let other = Place::on(url);
    let rival = other.postgres(Options { schema: place.schema.clone(), ..other.options() }).await;
    proxy.arm(Fault::Answer, MARK.as_bytes());
    let step = Step { position: Some(1), produced: vec![marked(1)], ..Step::empty(held.slot, held.epoch) };
    let committing = tokio::spawn({
        let store = store.clone();
        async move { store.commit(step).await }
    });
    while !proxy.has_fired() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let taken = rival.claim(held.slot, owner(2), schemas::Millis(i64::MAX / 2), 1_000).await.unwrap().unwrap();
    let told = committing.await.unwrap();
    // Whoever comes first: the claim sees the step, or the step is fenced and nothing of it is there.
    match (taken.position, &told) {
        (1, Ok(())) => {}
        (0, Err(StoreError::Fenced { .. })) => {}
        _ => panic!("the new owner begins after {}, the old one was told {told:?}", taken.position),
    }
    drop((backend, store, rival));
    other.shut().await;
    place.shut().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_whose_connection_is_cut_is_told_that_nothing_is_known() {
    let Some(url) = cluster::shared() else { return };
    let proxy = Proxy::before(url).await;
    let place = Place::on(&proxy.url(url));
    let store = place.postgres(place.options()).await;
    for (fault, there) in [(Fault::Request, 0), (Fault::Answer, 1)] {
        proxy.arm(fault, MARK.as_bytes());
        let outcomes = store.publish(vec![marked(1)]).await;
        assert!(matches!(outcomes[0], Err(BrokerError::Unavailable(_))), "{fault:?}: {outcomes:?}");
        let found = store.progress().await.unwrap();
        assert_eq!(found.iter().map(|one| one.last).sum::<u64>(), there, "{fault:?} left other things behind");
    }
    drop(store);
    place.shut().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cuts_of_every_connection_under_load_lose_and_double_nothing() {
    let Some(url) = cluster::shared() else { return };
    let proxy = Proxy::before(url).await;
    let place = Place::on(&proxy.url(url));
    let store = place.postgres(place.options()).await;
    let load = Load::start(&store);
    let cuts = 5 * rounds(8);
    for round in 0..cuts {
        tokio::time::sleep(Duration::from_millis(u64::from(50 + round * 37 % 150))).await;
        proxy.cut();
    }
    let before = load.told.count();
    while load.told.count() < before + 20 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let told = load.stop().await;
    let resolved = store.metrics().resolved.load(Ordering::Relaxed);
    drop(store);
    place.shut().await;
    verify(&place, &told).await;
    println!("{cuts} cuts, {} acknowledged, {resolved} steps found applied", told.count());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_network_ends_every_wait_and_is_survived() {
    let Some(url) = cluster::shared() else { return };
    let proxy = Proxy::before(url).await;
    let place = Place::on(&proxy.url(url));
    let patience = Duration::from_millis(300);
    let store = place.postgres(Options { patience, ..place.options() }).await;
    let backend = Backend { broker: store.clone(), store: store.clone() };
    let held = claim(&backend, slot(SPREAD, 0), owner(1)).await;
    proxy.silent(true);
    let since = Instant::now();
    let step = |n| Step { position: Some(n), produced: vec![message(SINGLE, n)], ..Step::empty(held.slot, held.epoch) };
    let (committed, published, read) =
        tokio::join!(store.commit(step(1)), store.publish(vec![message(SINGLE, 9)]), store.stats());
    assert!(matches!(committed, Err(StoreError::Unavailable(_))), "{committed:?}");
    assert!(matches!(published[0], Err(BrokerError::Unavailable(_))), "{published:?}");
    assert!(matches!(read, Err(StoreError::Unavailable(_))), "{read:?}");
    assert!(since.elapsed() < patience * 10, "a call on a silent network took {:?}", since.elapsed());
    proxy.silent(false);
    // What was on its way may arrive now; the owner claims again, as the runner does.
    let since = Instant::now();
    let again = loop {
        match store.claim(held.slot, owner(1), schemas::Millis(0), 3_600_000).await {
            Ok(claim) => break claim.unwrap(),
            Err(_) => assert!(since.elapsed() < Duration::from_secs(20), "the store does not come back"),
        }
    };
    let next = Step { epoch: again.epoch, ..step(again.position + 1) };
    store.commit(next).await.unwrap();
    drop((backend, store));
    place.shut().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_and_half_open_connections_under_load_lose_and_double_nothing() {
    let Some(url) = cluster::shared() else { return };
    let server = server_of(url).await;
    let network = Network::before(&server.to_string()).await.unwrap();
    let place = Place::on(&through(url, server, network.address()));
    let store = place.postgres(Options { patience: Duration::from_millis(500), ..place.options() }).await;
    let load = Load::start(&store);
    let (rounds, silence) = (kills(2), silence(Duration::from_secs(2)));
    for _ in 0..rounds {
        network.hold(true);
        tokio::time::sleep(silence).await;
        network.hold(false);
        load.more(20).await;
        let before = network.connections();
        network.half_open();
        load.more(20).await;
        assert!(network.connections() > before, "half-open connections were kept");
    }
    let told = load.stop().await;
    drop(store);
    place.shut().await;
    verify(&place, &told).await;
    println!("{rounds} times silent and half open, {} acknowledged", told.count());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_postgresql_refuses_spoils_no_other() {
    let Some(url) = cluster::shared() else { return };
    let place = Place::on(url);
    // One connection commits, so that what waits is committed together.
    let store = place.postgres(Options { writers: 1, ..place.options() }).await;
    let backend = Backend { broker: store.clone(), store: store.clone() };
    let held = claim(&backend, slot(SPREAD, 0), owner(1)).await;
    // Wider than an index entry may be; random, so that it cannot be made smaller.
    let sub: Vec<u8> = (0..40_000u64).map(|n| (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56).to_le_bytes()[0]).collect();
    let value = Some(Sealed::from_stored(Bytes::new()));
    let write = zegel_core::Write {
        space: zegel_core::slot::spaces::TEST,
        owner: zegel_conformance::fixture::key(1),
        sub: Bytes::from(sub),
        value,
    };
    let bad = Step { writes: vec![write], ..Step::empty(held.slot, held.epoch) };
    let good: Vec<_> = (0..50)
        .map(|n| {
            let store = store.clone();
            tokio::spawn(async move { store.publish(vec![message(SINGLE, n)]).await.remove(0) })
        })
        .collect();
    let refused = store.commit(bad).await;
    assert!(matches!(refused, Err(StoreError::Damaged(_))), "{refused:?}");
    for one in good {
        let outcome = one.await.unwrap();
        assert!(outcome.is_ok(), "a neighbour of a refused step was told: {outcome:?}");
    }
    drop((backend, store));
    place.shut().await;
}
