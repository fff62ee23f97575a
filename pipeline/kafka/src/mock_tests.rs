//! Errors that a healthy broker does not give, over librdkafka's mock cluster. The mock keeps no settings of topics, so these
//! tests open the transport without verifying it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::{Kafka, Metrics, Options, names};
use rdkafka::consumer::Consumer as _;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use rdkafka::{Offset, TopicPartitionList};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use zegel_conformance::fixture::{PATIENCE, SINGLE, SPREAD, WIDE, id, key, sealed, slot};
use zegel_core::transport::{Arrivals, Lane, Mark, Parcel, Transport};
use zegel_core::{BrokerError, Slot};

type Cluster = MockCluster<'static, DefaultProducerContext>;

const BROKERS: i32 = 3;

fn cluster() -> Cluster {
    let cluster = MockCluster::new(BROKERS).unwrap();
    for (topic, partitions) in names::topics("zegel") {
        cluster.create_topic(&topic, i32::from(partitions), 3).unwrap();
    }
    cluster
}

fn open(cluster: &Cluster, options: Options) -> Arc<Kafka> {
    let kafka = Kafka::connect(&format!("kafka://{}", cluster.bootstrap_servers()), options).unwrap();
    kafka.shared.set_verified();
    kafka
}

fn numbered(numbers: impl IntoIterator<Item = u64>) -> Vec<Parcel> {
    let parcel = |n| Parcel { mark: Mark::Number(n), key: key(n), id: id(n), body: sealed(&format!("body {n}")) };
    numbers.into_iter().map(parcel).collect()
}

fn count(counter: impl Fn(&Metrics) -> &AtomicU64, kafka: &Kafka) -> u64 {
    counter(&kafka.metrics()).load(Ordering::Relaxed)
}

/// Reads until `last`; a stretch may come twice, nothing may be missing between.
async fn expect_in_order(kafka: &Kafka, slot: Slot, last: u64) {
    let mut reader = kafka.receive(slot, 0).await.unwrap();
    let mut seen = 0;
    while seen < last {
        let arrivals = tokio::time::timeout(PATIENCE, reader.next(WIDE)).await.expect("a parcel is lost").unwrap();
        for arrival in arrivals {
            let Mark::Number(number) = arrival.parcel.mark else { panic!("an edge's parcel on a numbered lane") };
            assert!(number <= seen + 1, "{number} came after {seen}");
            seen = seen.max(number);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_that_pass_are_outlived_in_order() {
    let cluster = cluster();
    let kafka = open(&cluster, Options::default());
    let passing = [
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR__TRANSPORT,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND,
    ];
    let slot = slot(SPREAD, 1);
    for (round, error) in (0..).zip(passing) {
        cluster.request_errors(RDKafkaApiKey::Produce, &[error, error]);
        let outcomes = kafka.send(Lane::of(slot), numbered(round * 100 + 1..=round * 100 + 100)).await;
        assert!(outcomes.iter().all(Result::is_ok), "{error:?} made a send fail");
    }
    cluster.request_errors(RDKafkaApiKey::Fetch, &passing);
    cluster
        .request_errors(RDKafkaApiKey::OffsetFetch, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS]);
    expect_in_order(&kafka, slot, 500).await;
    assert_eq!(count(|metrics| &metrics.producers_rebuilt, &kafka), 0, "an error that passes ended the producer");
    kafka.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fatal_producer_is_built_again_and_every_lane_goes_on_in_order() {
    let cluster = cluster();
    let kafka = open(&cluster, Options::default());
    let lanes: Vec<_> = (0..4)
        .map(|partition| {
            let (kafka, slot) = (Arc::clone(&kafka), slot(SPREAD, partition));
            tokio::spawn(async move {
                for part in 0..40u64 {
                    let outcomes = kafka.send(Lane::of(slot), numbered(part * 10 + 1..=part * 10 + 10)).await;
                    assert!(outcomes.iter().all(Result::is_ok), "a fatal producer made a send fail: {outcomes:?}");
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
        })
        .collect();
    let fatal = [
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
    ];
    for error in fatal {
        tokio::time::sleep(Duration::from_millis(60)).await;
        cluster.request_errors(RDKafkaApiKey::Produce, &[error]);
    }
    for lane in lanes {
        lane.await.unwrap();
    }
    assert!(count(|metrics| &metrics.producers_rebuilt, &kafka) > 0, "the scenario was not reached");
    for partition in 0..4 {
        expect_in_order(&kafka, slot(SPREAD, partition), 400).await;
    }
    kafka.close().await;
}

/// The client takes this error for "it was durable before", which nothing here was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_client_reports_delivered_without_an_offset_is_sent_again() {
    let cluster = cluster();
    let kafka = open(&cluster, Options::default());
    let slot = slot(SPREAD, 6);
    for part in 0..3 {
        cluster.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_DUPLICATE_SEQUENCE_NUMBER]);
        let outcomes = kafka.send(Lane::of(slot), numbered(part * 20 + 1..=part * 20 + 20)).await;
        assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    }
    assert_eq!(count(|metrics| &metrics.producers_rebuilt, &kafka), 3, "a report without an offset was believed");
    expect_in_order(&kafka, slot, 60).await;
    kafka.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaders_that_move_and_die_lose_and_reorder_nothing() {
    let cluster = cluster();
    let kafka = open(&cluster, Options::default());
    let slot = slot(SPREAD, 5);
    let topic = format!("zegel.{SPREAD}");
    let sender = {
        let kafka = Arc::clone(&kafka);
        tokio::spawn(async move {
            for part in 0..60u64 {
                let outcomes = kafka.send(Lane::of(slot), numbered(part * 10 + 1..=part * 10 + 10)).await;
                assert!(outcomes.iter().all(Result::is_ok), "a leader that moved made a send fail: {outcomes:?}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
    };
    let mover = async {
        for round in 0..6 {
            let leader = 1 + round % BROKERS;
            cluster.partition_leader(&topic, 5, Some(leader)).unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
            cluster.broker_down(leader).unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
            cluster.broker_up(leader).unwrap();
        }
    };
    let ((), ()) = tokio::join!(mover, expect_in_order(&kafka, slot, 600));
    sender.await.unwrap();
    kafka.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_is_away_is_answered_in_time_and_the_lane_keeps_its_order() {
    let cluster = cluster();
    let kafka = open(&cluster, Options { send_limit: Duration::from_secs(2), ..Options::default() });
    let slot = slot(SINGLE, 0);
    while kafka.send(Lane::of(slot), numbered(1..=10)).await.iter().any(Result::is_err) {}
    (1..=BROKERS).for_each(|broker| cluster.broker_down(broker).unwrap());
    let since = Instant::now();
    let outcomes = kafka.send(Lane::of(slot), numbered(11..=20)).await;
    assert!(since.elapsed() < Duration::from_secs(4), "a send waits longer than its limit");
    assert!(outcomes.iter().all(|one| matches!(one, Err(BrokerError::Unavailable(_)))), "{outcomes:?}");
    let since = Instant::now();
    assert!(kafka.send(Lane::of(slot), numbered(11..=12)).await.iter().all(Result::is_err));
    assert!(since.elapsed() < Duration::from_secs(1), "a lane in doubt makes the next one wait");
    (1..=BROKERS).for_each(|broker| cluster.broker_up(broker).unwrap());
    let since = Instant::now();
    while kafka.send(Lane::of(slot), numbered(11..=30)).await.iter().any(Result::is_err) {
        assert!(since.elapsed() < PATIENCE, "a lane does not come back with its cluster");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    expect_in_order(&kafka, slot, 30).await;
    kafka.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edge_is_refused_when_too_much_waits_and_a_relay_is_not() {
    let cluster = cluster();
    let kafka = open(&cluster, Options { send_bytes: 20_000, ..Options::default() });
    let intake = Lane { intake: true, ..Lane::of(slot(SPREAD, 0)) };
    let edge = |n| Parcel { mark: Mark::Edge { session: [1; 16], sequence: n }, ..numbered([n]).remove(0) };
    for broker in 1..=BROKERS {
        cluster.broker_round_trip_time(broker, Duration::from_millis(100)).unwrap();
    }
    let sends = (0..60u64).map(|n| kafka.send(intake, vec![edge(n)]));
    let outcomes: Vec<_> = futures_util::future::join_all(sends).await.into_iter().flatten().collect();
    let full = outcomes.iter().filter(|one| matches!(one, Err(BrokerError::Full { retry_after_ms: 1.., .. }))).count();
    let taken = outcomes.iter().filter(|one| one.is_ok()).count();
    assert!(full > 0 && taken > 0 && full + taken == 60, "{full} refused, {taken} taken of 60");
    let sends = (0..60u64).map(|n| kafka.send(Lane::of(slot(SPREAD, 0)), numbered([n])));
    let outcomes: Vec<_> = futures_util::future::join_all(sends).await.into_iter().flatten().collect();
    assert!(outcomes.iter().all(Result::is_ok), "a relay was refused for want of room: {outcomes:?}");
    kafka.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_stands_still_is_built_again() {
    let cluster = cluster();
    let kafka = open(&cluster, Options { stall: Duration::from_secs(1), ..Options::default() });
    let slot = slot(SINGLE, 0);
    let mut reader = crate::reader::Reader::open(&kafka.shared, slot, 0).await.unwrap();
    assert!(kafka.send(Lane::of(slot), numbered(1..=5)).await.iter().all(Result::is_ok));
    let mut got = Vec::new();
    while got.len() < 5 {
        got.extend(tokio::time::timeout(PATIENCE, reader.next(WIDE)).await.unwrap().unwrap());
    }
    // Fetching ends behind the reader's back, as with a consumer that lost its way.
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&format!("zegel.{SINGLE}"), 0, Offset::Invalid).unwrap();
    reader.consumer().pause(&list).unwrap();
    assert!(kafka.send(Lane::of(slot), numbered(6..=9)).await.iter().all(Result::is_ok));
    while got.len() < 9 {
        got.extend(tokio::time::timeout(PATIENCE, reader.next(WIDE)).await.expect("it stands still").unwrap());
    }
    let numbers: Vec<Mark> = got.iter().map(|one| one.parcel.mark).collect();
    assert_eq!(numbers, (1..=9).map(Mark::Number).collect::<Vec<_>>(), "building it again lost or repeated a parcel");
    // A loaded machine may take longer than the limit for building it, and then it is built once more.
    assert!(count(|metrics| &metrics.readers_rebuilt, &kafka) >= 1, "it was not built again");
    drop(reader);
    kafka.close().await;
}
