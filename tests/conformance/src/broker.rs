//! What every broker must do.
//!
//! `for_each_broker_scenario!` lists the scenarios; a backend's tests run each over fresh [`Fixture`]s.

use crate::fixture::{
    Fixture, SINGLE, SPREAD, WIDE, channel, claim, expect_numbers, expect_silence, id, id_number, key, message,
    message_of, next, owner, publish, slot, subscribe, take,
};
use crate::runner::Backend;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use zegel_core::slot::partition_of;
use zegel_core::{BatchLimits, BrokerError, Outgoing, Slot, Step};

macro_rules! scenarios {
    ($($name:ident),+ $(,)?) => {
        /// Calls `$test!(name)` for every scenario of the broker suite.
        #[macro_export]
        macro_rules! for_each_broker_scenario {
            ($test:ident) => { $( $test!($name); )+ };
        }
    };
}

scenarios!(
    what_publish_returned_for_survives_a_restart,
    a_partition_numbers_its_messages_from_one_in_order,
    a_key_always_goes_to_its_partition,
    what_was_not_settled_comes_again,
    a_subscription_starts_above_the_number_it_was_given,
    a_batch_keeps_its_limits_in_messages_and_bytes,
    a_channel_above_its_mark_refuses_the_edge_and_opens_again,
    a_step_is_never_refused_by_the_mark,
    an_unknown_channel_is_refused_and_the_rest_of_the_batch_is_not,
    large_messages_from_many_producers_all_arrive,
    a_waiting_subscription_is_woken_and_a_dropped_wait_loses_nothing,
    subscriptions_close_while_others_publish,
    a_restart_at_one_third_and_one_half_loses_and_doubles_nothing,
    a_slow_reader_gets_everything_in_order,
);

/// Durability at return, and numbering that goes on where it was.
pub async fn what_publish_returned_for_survives_a_restart<F: Fixture>() {
    let place = F::fresh();
    let backend = place.open(None).await;
    publish(&backend, (1..=10).map(|n| message(SINGLE, n)).collect()).await;
    let backend = place.reopen(backend).await;
    publish(&backend, vec![message(SINGLE, 11)]).await;
    let mut stream = subscribe(&backend, slot(SINGLE, 0), 0).await;
    let got = take(&mut *stream, 11).await;
    expect_numbers(&got, 1);
    for (n, delivery) in (1..).zip(&got) {
        let expected = message(SINGLE, n);
        assert_eq!((delivery.key, delivery.id, &delivery.body), (expected.key, expected.id, &expected.body), "altered");
    }
}

/// Order and numbering within a partition, also among concurrent producers.
pub async fn a_partition_numbers_its_messages_from_one_in_order<F: Fixture>() {
    let place = F::fresh();
    let backend = place.open(None).await;
    let producers: Vec<_> = (0..8u64)
        .map(|producer| {
            let backend = backend.clone();
            tokio::spawn(async move {
                for n in 0..25 {
                    publish(&backend, vec![message(SINGLE, producer * 1_000 + n)]).await;
                }
            })
        })
        .collect();
    let mut stream = subscribe(&backend, slot(SINGLE, 0), 0).await;
    let got = take(&mut *stream, 200).await;
    expect_numbers(&got, 1);
    for producer in 0..8 {
        let own: Vec<u64> = got.iter().map(|one| id_number(one.id)).filter(|n| n / 1_000 == producer).collect();
        let expected: Vec<u64> = (0..25).map(|n| producer * 1_000 + n).collect();
        assert_eq!(own, expected, "a producer's messages are not in the order in which they became durable");
    }
    for producer in producers {
        assert!(producer.await.is_ok(), "a producer failed");
    }
    expect_silence(&mut *stream).await;
}

/// The partition of a key is the same everywhere.
pub async fn a_key_always_goes_to_its_partition<F: Fixture>() {
    let place = F::fresh();
    let backend = place.open(None).await;
    publish(&backend, (0..80).map(|n| message(SPREAD, n)).collect()).await;
    for partition in 0..channel(SPREAD).partitions {
        let expected: Vec<u64> =
            (0..80).filter(|n| partition_of(key(*n), channel(SPREAD).partitions) == partition).collect();
        let mut stream = subscribe(&backend, slot(SPREAD, partition), 0).await;
        let got = take(&mut *stream, expected.len()).await;
        expect_numbers(&got, 1);
        let got: Vec<u64> = got.iter().map(|one| id_number(one.id)).collect();
        assert_eq!(got, expected, "partition {partition} has other messages than its keys say");
    }
}

/// At least once: dropping a subscription without settling gives the messages to the next one.
pub async fn what_was_not_settled_comes_again<F: Fixture>() {
    let place = F::fresh();
    let backend = place.open(None).await;
    publish(&backend, (1..=20).map(|n| message(SINGLE, n)).collect()).await;
    let mut stream = subscribe(&backend, slot(SINGLE, 0), 0).await;
    let first = take_up_to(&mut *stream, 10).await;
    let unsettled = next(&mut *stream, BatchLimits { messages: 5, bytes: 1 << 20 }).await.deliveries;
    drop(stream);
    let mut stream = subscribe(&backend, slot(SINGLE, 0), first).await;
    let again = take(&mut *stream, 10).await;
    assert_eq!(again[..unsettled.len()], unsettled[..], "what was handed out but not settled is not delivered again");
    expect_numbers(&again, 11);
    drop(stream);
    // A settled message is gone for the group after a restart at the latest, an unsettled one is not.
    publish(&backend, vec![message(SINGLE, 21)]).await;
    let backend = place.reopen(backend).await;
    let mut stream = subscribe(&backend, slot(SINGLE, 0), 20).await;
    expect_numbers(&take(&mut *stream, 1).await, 21);
}

/// Takes and settles exactly so many, and returns the last number.
async fn take_up_to(stream: &mut dyn zegel_core::Subscription, count: usize) -> u64 {
    let mut left = count;
    loop {
        let batch = next(stream, BatchLimits { messages: left, bytes: 1 << 20 }).await;
        left -= batch.deliveries.len();
        let up_to = batch.settlement.up_to;
        assert!(stream.settle(batch.settlement).await.is_ok(), "settling failed");
        if left == 0 {
            return up_to;
        }
    }
}

/// `subscribe(slot, from)`.
pub async fn a_subscription_starts_above_the_number_it_was_given<F: Fixture>() {
    let place = F::fresh();
    let backend = place.open(None).await;
    publish(&backend, (1..=20).map(|n| message(SINGLE, n)).collect()).await;
    let mut stream = subscribe(&backend, slot(SINGLE, 0), 7).await;
    expect_numbers(&take(&mut *stream, 13).await, 8);
    let mut stream = subscribe(&backend, slot(SINGLE, 0), 20).await;
    expect_silence(&mut *stream).await;
    let nowhere = Slot { partition: 99, ..slot(SINGLE, 0) };
    assert!(
        matches!(backend.broker.subscribe(nowhere, 0).await, Err(BrokerError::UnknownChannel(_))),
        "a partition that does not exist can be subscribed to"
    );
}

/// Bounds of a batch; one larger message comes alone.
pub async fn a_batch_keeps_its_limits_in_messages_and_bytes<F: Fixture>() {
    let place = F::fresh();
    let backend = place.open(None).await;
    let sizes = [100, 100, 100, 5_000, 100, 100];
    publish(&backend, (1..).zip(sizes).map(|(n, bytes)| message_of(SINGLE, n, bytes)).collect()).await;
    let mut stream = subscribe(&backend, slot(SINGLE, 0), 0).await;
    let mut got = Vec::new();
    for limits in [(2, 10_000), (9, 250), (9, 250), (1, 250), (9, 1), (1, 1)] {
        let limits = BatchLimits { messages: limits.0, bytes: limits.1 };
        if got.len() == sizes.len() {
            break;
        }
        let batch = next(&mut *stream, limits).await.deliveries;
        let bytes: usize = batch.iter().map(|one| one.body.len()).sum();
        assert!(batch.len() <= limits.messages, "a batch holds more messages than its limit");
        assert!(bytes <= limits.bytes || batch.len() == 1, "a batch holds more bytes than its limit");
        got.extend(batch);
    }
    expect_numbers(&got, 1);
}

/// Back-pressure at the edge: [`BrokerError::Full`], with a time to come back, until the consumer has moved on.
pub async fn a_channel_above_its_mark_refuses_the_edge_and_opens_again<F: Fixture>() {
    let place = F::fresh();
    let backend = place.open(Some(50)).await;
    publish(&backend, (1..=50).map(|n| message(SINGLE, n)).collect()).await;
    let refused = backend.broker.publish(vec![message(SINGLE, 51), message(SPREAD, 1)]).await;
    assert!(
        matches!(refused[0], Err(BrokerError::Full { retry_after_ms: 1.., .. })),
        "a channel above its high-water mark takes more: {:?}",
        refused[0]
    );
    assert!(refused[1].is_ok(), "a full channel closes another one");
    let mut stream = subscribe(&backend, slot(SINGLE, 0), 0).await;
    take(&mut *stream, 50).await;
    // The consumer has moved on when its position says so.
    let held = claim(&backend, slot(SINGLE, 0), owner(1)).await;
    let step = Step { position: Some(50), ..Step::empty(held.slot, held.epoch) };
    assert!(backend.store.commit(step).await.is_ok(), "a position was refused");
    publish(&backend, vec![message(SINGLE, 52)]).await;
    let got = take(&mut *stream, 1).await;
    assert_eq!((got[0].number, got[0].id), (51, id(52)), "a refused message used up a number or was stored");
}

/// Internal production is never refused, or a cycle of channels would lock.
pub async fn a_step_is_never_refused_by_the_mark<F: Fixture>() {
    let place = F::fresh();
    let backend = place.open(Some(5)).await;
    let claim = claim(&backend, slot(SPREAD, 0), owner(1)).await;
    let produced = (1..=50).map(|n| message(SINGLE, n)).collect();
    let step = Step { produced, ..Step::empty(claim.slot, claim.epoch) };
    let outcome = backend.store.commit(step).await;
    assert!(outcome.is_ok(), "a step was refused because a channel is above its mark: {outcome:?}");
    let mut stream = subscribe(&backend, slot(SINGLE, 0), 0).await;
    expect_numbers(&take(&mut *stream, 50).await, 1);
}

/// A batch says message by message what became of it.
pub async fn an_unknown_channel_is_refused_and_the_rest_of_the_batch_is_not<F: Fixture>() {
    let place = F::fresh();
    let backend = place.open(None).await;
    let unknown = Outgoing { channel: 60_000, ..message(SINGLE, 2) };
    let outcomes = backend.broker.publish(vec![message(SINGLE, 1), unknown, message(SINGLE, 3)]).await;
    assert!(matches!(outcomes[1], Err(BrokerError::UnknownChannel(60_000))), "an unknown channel was taken");
    assert!(outcomes[0].is_ok() && outcomes[2].is_ok() && outcomes.len() == 3, "its neighbours were not taken");
    let mut stream = subscribe(&backend, slot(SINGLE, 0), 0).await;
    let got: Vec<u64> = take(&mut *stream, 2).await.iter().map(|one| id_number(one.id)).collect();
    assert_eq!(got, [1, 3], "other messages were stored than were taken");
}

/// Bounds in bytes hold producers back, and hold nobody for ever.
pub async fn large_messages_from_many_producers_all_arrive<F: Fixture>() {
    let place = F::fresh();
    let backend = place.open(None).await;
    let producers: Vec<_> = (0..32u64)
        .map(|n| {
            let backend = backend.clone();
            tokio::spawn(async move { publish(&backend, vec![message_of(SINGLE, n, 512 << 10)]).await })
        })
        .collect();
    let mut stream = subscribe(&backend, slot(SINGLE, 0), 0).await;
    let got = take(&mut *stream, 32).await;
    expect_numbers(&got, 1);
    assert_eq!(got.iter().map(|one| one.id).collect::<BTreeSet<_>>().len(), 32, "a message came twice");
    assert!(
        got.iter().all(|one| one.body == message_of(SINGLE, id_number(one.id), 512 << 10).body),
        "a body was altered"
    );
    for producer in producers {
        assert!(producer.await.is_ok(), "a producer was held for ever or failed");
    }
}

/// `next` waits without asking again and again, and is cancel-safe.
pub async fn a_waiting_subscription_is_woken_and_a_dropped_wait_loses_nothing<F: Fixture>() {
    let place = F::fresh();
    let backend = place.open(None).await;
    let mut stream = subscribe(&backend, slot(SINGLE, 0), 0).await;
    for n in 1..=100u64 {
        let publishing = publish(&backend, vec![message(SINGLE, n)]);
        // Dropped at another moment each time: before, during or after the message becomes visible.
        let early = tokio::time::timeout(Duration::from_micros(n * 20), stream.next(WIDE));
        let (early, ()) = tokio::join!(early, publishing);
        let batch = match early {
            Ok(batch) => batch.unwrap_or_else(|error| panic!("the next batch failed: {error}")),
            Err(_) => next(&mut *stream, WIDE).await,
        };
        let numbers: Vec<u64> = batch.deliveries.iter().map(|one| one.number).collect();
        assert_eq!(numbers, [n], "a dropped wait lost a message or gave it twice");
    }
}

/// Closing many subscriptions at once disturbs neither producers nor the other subscriptions.
pub async fn subscriptions_close_while_others_publish<F: Fixture>() {
    let place = F::fresh();
    let backend = place.open(None).await;
    let done = Arc::new(AtomicBool::new(false));
    let churn: Vec<_> = (0..8)
        .map(|n| {
            let (backend, done) = (backend.clone(), Arc::clone(&done));
            tokio::spawn(async move {
                while !done.load(Ordering::SeqCst) {
                    let mut stream = subscribe(&backend, slot(SINGLE, 0), n).await;
                    let _ = tokio::time::timeout(Duration::from_millis(2), stream.next(WIDE)).await;
                }
            })
        })
        .collect();
    for n in 1..=200 {
        publish(&backend, vec![message(SINGLE, n)]).await;
    }
    done.store(true, Ordering::SeqCst);
    for one in churn {
        assert!(one.await.is_ok(), "a subscription failed because others closed");
    }
    let mut stream = subscribe(&backend, slot(SINGLE, 0), 0).await;
    expect_numbers(&take(&mut *stream, 200).await, 1);
    drop(stream);
    let mut waiting = subscribe(&backend, slot(SINGLE, 0), 200).await;
    let ended = tokio::spawn(async move { waiting.next(WIDE).await.err() });
    tokio::time::sleep(Duration::from_millis(10)).await;
    place.close(backend).await;
    let ended = tokio::time::timeout(crate::fixture::PATIENCE, ended).await;
    assert!(matches!(ended, Ok(Ok(Some(_)))), "a subscription waits for ever on a closed broker");
}

/// 10,000 messages with two restarts between: each once in order for a consumer that keeps its number.
pub async fn a_restart_at_one_third_and_one_half_loses_and_doubles_nothing<F: Fixture>() {
    const COUNT: u64 = 10_000;
    let place = F::fresh();
    let mut backend = place.open(None).await;
    let mut published = 0;
    let mut got = Vec::new();
    for until in [COUNT / 3, COUNT / 2, COUNT] {
        publish_in_parts(&backend, published + 1, until).await;
        published = until;
        // The consumer is stopped in the middle of what was published, with a batch in its hands.
        let goal = if until == COUNT { COUNT } else { (until - 1_000) / 100 * 100 };
        let mut stream = subscribe(&backend, slot(SINGLE, 0), got.len() as u64).await;
        while (got.len() as u64) < goal {
            let batch = next(&mut *stream, BatchLimits { messages: 100, bytes: 1 << 20 }).await;
            got.extend(batch.deliveries);
            assert!(stream.settle(batch.settlement).await.is_ok(), "settling failed");
        }
        if until < COUNT {
            let in_hand = next(&mut *stream, WIDE).await;
            assert_eq!(in_hand.deliveries[0].number, got.len() as u64 + 1, "the stream jumped");
            drop(stream);
            backend = place.reopen(backend).await;
        }
    }
    expect_numbers(&got, 1);
    let ids: Vec<u64> = got.iter().map(|one| id_number(one.id)).collect();
    assert_eq!(ids, (1..=COUNT).collect::<Vec<_>>(), "a restart lost, doubled or moved messages");
}

async fn publish_in_parts(backend: &Backend, first: u64, last: u64) {
    let numbers: Vec<u64> = (first..=last).collect();
    for part in numbers.chunks(250) {
        publish(backend, part.iter().map(|n| message(SINGLE, *n)).collect()).await;
    }
}

/// Whoever falls behind by more than any memory holds still gets everything.
pub async fn a_slow_reader_gets_everything_in_order<F: Fixture>() {
    let place = F::fresh();
    let backend = place.open(None).await;
    let mut stream = subscribe(&backend, slot(SINGLE, 0), 0).await;
    let producer = {
        let backend = backend.clone();
        tokio::spawn(async move {
            for part in 0..20u64 {
                publish(&backend, (0..20).map(|n| message_of(SINGLE, part * 20 + n, 8 << 10)).collect()).await;
            }
        })
    };
    let mut got = Vec::new();
    while got.len() < 400 {
        let batch = next(&mut *stream, BatchLimits { messages: 7, bytes: 1 << 20 }).await;
        got.extend(batch.deliveries);
    }
    expect_numbers(&got, 1);
    assert!((0..).zip(&got).all(|(n, one)| one.id == id(n)), "messages are not in the order of publishing");
    assert!(producer.await.is_ok(), "the producer failed");
}
