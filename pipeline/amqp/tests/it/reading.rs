//! Readers that follow one another: in one process, in several, with more than they may hold.

use crate::load::{parcel, single};
use crate::place_or_skip;
use bytes::Bytes;
use std::time::{Duration, Instant};
use zegel_conformance::fixture::{id_number, subscribe, take};
use zegel_conformance::relays;
use zegel_core::memory::Memory;
use zegel_core::slot::INTAKE;
use zegel_core::transport::{Arrivals, Lane, Mark, Parcel, Transport};
use zegel_core::{BatchLimits, RelayedConfig, Sealed, Slot};

const TEN: BatchLimits = BatchLimits { messages: 10, bytes: 64 << 20 };

async fn numbers(reader: &mut dyn Arrivals, count: usize) -> Vec<u64> {
    let mut got = Vec::new();
    while got.len() < count {
        let arrivals = tokio::time::timeout(Duration::from_secs(10), reader.next(TEN)).await.unwrap().unwrap();
        got.extend(arrivals.iter().map(|arrival| match arrival.parcel.mark {
            Mark::Number(number) => number,
            Mark::Edge { .. } => panic!("a mark of another kind"),
        }));
    }
    got
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn order_is_kept_when_readers_follow_one_another_without_a_pause() {
    let mut place = place_or_skip!();
    place.options.prefetch = 40;
    let one = place.connect().await;
    let two = place.connect().await;
    let sent = one.send(Lane::of(single()), (1..=300).map(parcel).collect()).await;
    assert!(sent.iter().all(Result::is_ok));
    for round in 0..20 {
        let amqp = if round % 2 == 0 { &one } else { &two };
        let mut reader = amqp.receive(single(), 0).await.unwrap();
        assert_eq!(numbers(&mut *reader, 30).await[..30], (1..=30).collect::<Vec<_>>(), "in round {round}");
    }
    one.close().await;
    two.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_reader_waits_for_the_first_and_not_for_ever() {
    let mut place = place_or_skip!();
    place.options.prefetch = 40;
    let one = place.connect().await;
    let two = place.connect().await;
    let sent = one.send(Lane::of(single()), (1..=100).map(parcel).collect()).await;
    assert!(sent.iter().all(Result::is_ok));
    let mut first = one.receive(single(), 0).await.unwrap();
    numbers(&mut *first, 30).await;
    let ending = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(700)).await;
        drop(first);
    });
    let mut second = two.receive(single(), 0).await.unwrap();
    assert!(ending.is_finished(), "two readers share one queue");
    assert_eq!(numbers(&mut *second, 30).await[..30], (1..=30).collect::<Vec<_>>());

    // A consumer that stays in the count, as one on a lost node does.
    place.options.alone_within = Duration::from_millis(500);
    let three = place.connect().await;
    let since = Instant::now();
    assert!(three.receive(single(), 0).await.is_ok(), "a reader waits for ever");
    assert!(since.elapsed() >= Duration::from_millis(500), "a reader does not wait");
    for amqp in [one, two, three] {
        amqp.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_lingering_reader_held_is_numbered_before_what_the_next_one_was_given() {
    let mut place = place_or_skip!();
    place.options.alone_within = Duration::from_millis(300);
    place.options.prefetch = 20; // so that the broker gives the later ones to the next reader
    let intake = Slot { group: INTAKE, ..single() };
    let edge = |n| Parcel { mark: Mark::Edge { session: [9; 16], sequence: n }, ..parcel(n) };
    let cut_off = place.connect().await;
    let sent = cut_off.send(Lane::of(intake), (1..=20).map(edge).collect()).await;
    assert!(sent.iter().all(Result::is_ok));
    let mut lingering = cut_off.receive(intake, 0).await.unwrap();
    let mut held = 0;
    while held < 20 {
        held += tokio::time::timeout(Duration::from_secs(10), lingering.next(TEN)).await.unwrap().unwrap().len();
    }
    // The next process does not wait for ever, and is given what comes now.
    let next = place.connect().await;
    let (backend, runner, relayed) = relays::start(next, Memory::new(), RelayedConfig::default());
    let sent = cut_off.send(Lane::of(intake), (21..=40).map(edge).collect()).await;
    assert!(sent.iter().all(Result::is_ok));
    tokio::time::sleep(Duration::from_secs(2)).await;
    drop(lingering);
    let mut stream = subscribe(&backend, single(), 0).await;
    let ids: Vec<u64> = take(&mut *stream, 40).await.iter().map(|one| id_number(one.id)).collect();
    assert_eq!(ids, (1..=40).collect::<Vec<_>>(), "what was confirmed first was numbered last");
    runner.drain(Duration::from_secs(5)).await;
    relayed.close().await;
    cut_off.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_holds_too_many_bytes_starts_again_with_fewer() {
    let mut place = place_or_skip!();
    place.options.held_bytes = 3 << 20;
    let amqp = place.connect().await;
    let large = |n| Parcel { body: Sealed::from_stored(Bytes::from(vec![0; 1 << 20])), ..parcel(n) };
    let sent = amqp.send(Lane::of(single()), (1..=12).map(large).collect()).await;
    assert!(sent.iter().all(Result::is_ok));
    let one = BatchLimits { messages: 1, bytes: 1 };
    let mut greedy = amqp.receive(single(), 0).await.unwrap();
    let mut held = 0;
    while greedy.next(one).await.is_ok() {
        held += 1;
        assert!(held < 12, "a reader holds more bytes than it may");
    }
    drop(greedy);
    let (mut applied, mut opened) = (0, 0);
    while applied < 12 {
        opened += 1;
        assert!(opened < 10, "a reader ends again and again");
        let mut reader = amqp.receive(single(), applied).await.unwrap();
        while let Ok(arrivals) = reader.next(one).await {
            let Mark::Number(number) = arrivals[0].parcel.mark else { panic!("a mark of another kind") };
            assert!(number <= applied + 1, "{number} came after {applied}");
            applied = applied.max(number);
            if reader.settle(arrivals[0].tag).await.is_err() || applied == 12 {
                break;
            }
        }
    }
    amqp.close().await;
}
