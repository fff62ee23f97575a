//! `kill -9` of the broker and its restart, under load: nothing that was acknowledged is lost, and the order is kept.

use crate::broker::{Broker, Place, number, parcels};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use zegel_conformance::fixture::{SPREAD, WIDE, slot};
use zegel_core::Slot;
use zegel_core::transport::{Lane, Transport};
use zegel_kafka::Kafka;

/// Lanes under load.
const LANES: u16 = 3;
/// Kills; more with `ZEGEL_KILLS`.
const KILLS: u64 = 3;

/// Sends 1, 2, 3 … as a relay does: from the lowest that is not confirmed. Returns the last that is.
async fn relay(kafka: Arc<Kafka>, slot: Slot, stop: Arc<AtomicBool>, total: Arc<AtomicU64>) -> u64 {
    let mut confirmed = 0;
    while !stop.load(Ordering::SeqCst) {
        let outcomes = kafka.send(Lane::of(slot), parcels(confirmed + 1..=confirmed + 20)).await;
        let taken = outcomes.iter().take_while(|outcome| outcome.is_ok()).count() as u64;
        confirmed += taken;
        total.fetch_add(taken, Ordering::SeqCst);
        if taken < 20 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    confirmed
}

/// Reads and settles until it has everything up to the last confirmed number, which comes when the relay has ended. Opens
/// itself anew now and then, as an owner of slots does.
async fn read(kafka: Arc<Kafka>, slot: Slot, mut last: tokio::sync::watch::Receiver<Option<u64>>) -> u64 {
    let mut after = 0;
    let mut repeated = 0;
    loop {
        let mut reader = kafka.receive(slot, after).await;
        for _ in 0..200 {
            if last.borrow_and_update().is_some_and(|last| after >= last) {
                return repeated;
            }
            let Ok(open) = &mut reader else { break };
            let arrivals = match tokio::time::timeout(Duration::from_millis(500), open.next(WIDE)).await {
                Err(_) => continue,
                Ok(arrivals) => arrivals.expect("a reader fails because its broker was away"),
            };
            for arrival in &arrivals {
                let number = number(&arrival.parcel);
                assert!(number <= after + 1, "{slot}: {number} came after {after}: lost, or out of order");
                repeated += u64::from(number <= after);
                after = after.max(number);
            }
            open.settle(arrivals.last().unwrap().tag).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_broker_loses_nothing_acknowledged_and_keeps_the_order() {
    let Some(broker) = Broker::start() else { return };
    let kills = std::env::var("ZEGEL_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(KILLS);
    let place = Place::new(broker.url());
    let sender = place.verified().await;
    let receiver = place.verified().await;
    let (stop, total) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let lanes: Vec<_> = (0..LANES)
        .map(|partition| {
            let slot = slot(SPREAD, partition);
            let relay = tokio::spawn(relay(Arc::clone(&sender), slot, Arc::clone(&stop), Arc::clone(&total)));
            let (last, ended) = tokio::sync::watch::channel(None);
            (relay, last, tokio::spawn(read(Arc::clone(&receiver), slot, ended)))
        })
        .collect();
    for _ in 0..kills {
        let before = total.load(Ordering::SeqCst);
        while total.load(Ordering::SeqCst) < before + 600 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let broker = &broker;
        tokio::task::block_in_place(|| {
            broker.kill();
            broker.restart();
        });
    }
    let before = total.load(Ordering::SeqCst);
    while total.load(Ordering::SeqCst) < before + 600 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stop.store(true, Ordering::SeqCst);
    let (mut confirmed, mut repeated) = (0, 0);
    for (relay, last, reader) in lanes {
        let end = relay.await.unwrap();
        last.send_replace(Some(end));
        confirmed += end;
        repeated +=
            tokio::time::timeout(Duration::from_secs(60), reader).await.expect("acknowledged, and lost").unwrap();
    }
    println!("{kills} kills, {confirmed} acknowledged, all read in order, {repeated} read again");
    sender.close().await;
    receiver.close().await;
}
