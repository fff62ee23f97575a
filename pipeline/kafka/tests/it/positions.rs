//! The store's position is the truth: what an operator's tool, a stranger's record or a restored store do to a lane.

use crate::broker::{self, Place, client, number, parcel, parcels};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::Headers;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Message, Offset, TopicPartitionList};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use zegel_conformance::fixture::{PATIENCE, SINGLE, SPREAD, WIDE, slot};
use zegel_core::slot::INTAKE;
use zegel_core::transport::{Arrivals, Lane, Mark, Parcel, Transport};
use zegel_core::{BatchLimits, Slot};
use zegel_kafka::{Kafka, Options};

const ASK: Duration = Duration::from_secs(10);

/// Sends, and expects that everything was taken.
async fn send(kafka: &Kafka, lane: Lane, parcels: Vec<Parcel>) {
    let outcomes = kafka.send(lane, parcels).await;
    assert!(outcomes.iter().all(Result::is_ok), "a parcel was refused: {outcomes:?}");
}

/// The next so many parcels. With `settle`, they are.
async fn take(reader: &mut dyn Arrivals, count: usize, settle: bool) -> Vec<Parcel> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let limits = BatchLimits { messages: count - taken.len(), ..WIDE };
        let arrivals = tokio::time::timeout(PATIENCE, reader.next(limits)).await.expect("nothing comes").unwrap();
        if settle {
            reader.settle(arrivals.last().unwrap().tag).await.unwrap();
        }
        taken.extend(arrivals.into_iter().map(|arrival| arrival.parcel));
    }
    taken
}

fn numbers(parcels: &[Parcel]) -> Vec<u64> {
    parcels.iter().map(number).collect()
}

/// What `kafka-consumer-groups --reset-offsets` does.
fn reset(url: &str, options: &Options, group: &str, topic: &str, partition: i32, offset: i64) {
    let group = format!("{}.{group}", options.prefix);
    let tool: BaseConsumer = client(url).set("group.id", &group).create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(offset)).unwrap();
    tool.commit(&list, CommitMode::Sync).unwrap();
}

fn committed(url: &str, options: &Options, group: &str, topic: &str, partition: i32) -> Offset {
    let tool: BaseConsumer = client(url).set("group.id", format!("{}.{group}", options.prefix)).create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition(topic, partition);
    tool.committed_offsets(list, ASK).unwrap().elements()[0].offset()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_with_wrong_offsets_still_get_everything_above_the_position() {
    let Some(url) = broker::shared() else { return };
    let place = Place::new(url);
    let (numbered, intake) = (slot(SINGLE, 0), Slot { group: INTAKE, ..slot(SPREAD, 3) });
    let kafka = place.verified().await;
    let edge = |n| Parcel { mark: Mark::Edge { session: [9; 16], sequence: n }, ..parcel(n) };
    send(&kafka, Lane::of(numbered), parcels(1..=50)).await;
    send(&kafka, Lane::of(intake), (1..=50).map(edge).collect()).await;
    for slot in [numbered, intake] {
        let mut reader = kafka.receive(slot, 0).await.unwrap();
        take(&mut *reader, 20, true).await;
    }
    kafka.close().await;
    let [topic, intake_topic] =
        [format!("{}.{SINGLE}", place.options.prefix), format!("{}.{SPREAD}.intake", place.options.prefix)];
    let since = Instant::now();
    while committed(url, &place.options, "box", &topic, 0) != Offset::Offset(20) {
        assert!(since.elapsed() < ASK, "tools do not see the progress");
    }
    for wrong in [50, 0, 35] {
        reset(url, &place.options, "box", &topic, 0, wrong);
        reset(url, &place.options, "intake", &intake_topic, 3, wrong);
        let kafka = place.verified().await;
        let mut reader = kafka.receive(numbered, 20).await.unwrap();
        let got = take(&mut *reader, 30, false).await;
        assert_eq!(numbers(&got), (21..=50).collect::<Vec<_>>(), "an offset of {wrong} hides or repeats parcels");
        // An intake has no number to begin with: what is not known to be settled comes again.
        let mut reader = kafka.receive(intake, 0).await.unwrap();
        let got = take(&mut *reader, 50, false).await;
        assert_eq!(got, (1..=50).map(edge).collect::<Vec<_>>(), "an offset of {wrong} hides what an edge published");
        assert_eq!(kafka.metrics().rewound.load(Ordering::Relaxed), 2, "the operator is not told");
        kafka.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_from_a_backup_gets_again_what_it_has_forgotten() {
    let Some(url) = broker::shared() else { return };
    let place = Place::new(url);
    let slot = slot(SINGLE, 0);
    for (after, expected) in [(0, 1..=40), (10, 11..=40), (40, 41..=45)] {
        let kafka = place.verified().await;
        if after != 10 {
            send(&kafka, Lane::of(slot), parcels(expected.clone())).await;
        }
        let mut reader = kafka.receive(slot, after).await.unwrap();
        let count = expected.clone().count();
        assert_eq!(numbers(&take(&mut *reader, count, true).await), expected.collect::<Vec<_>>(), "after {after}");
        kafka.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strangers_record_neither_stops_the_lane_nor_counts() {
    let Some(url) = broker::shared() else { return };
    let place = Place::new(url);
    let slot = slot(SINGLE, 0);
    let topic = format!("{}.{SINGLE}", place.options.prefix);
    let kafka = place.verified().await;
    let stranger: BaseProducer = client(url).create().unwrap();
    let foreign = |n: u64| {
        let record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(&topic).partition(0).payload(b"not sealed");
        let record = if n == 1 { record.key(&[1; 16][..]) } else { record };
        stranger.send(record).map_err(|(error, _)| error).unwrap();
        stranger.flush(ASK).unwrap();
    };
    for n in 1..=3 {
        foreign(n);
        send(&kafka, Lane::of(slot), parcels(n..=n)).await;
    }
    foreign(4);
    let mut reader = kafka.receive(slot, 0).await.unwrap();
    assert_eq!(
        numbers(&take(&mut *reader, 3, true).await),
        [1, 2, 3],
        "a stranger's record was taken or stops the lane"
    );
    let waiting = tokio::time::timeout(Duration::from_secs(1), reader.next(WIDE)).await;
    assert!(waiting.is_err(), "a stranger's record was handed out");
    assert_eq!(kafka.metrics().foreign.load(Ordering::Relaxed), 4, "strangers' records are not counted");
    let since = Instant::now();
    while kafka.depth(slot).await.unwrap() > 0 {
        assert!(since.elapsed() < ASK, "what was passed is counted as waiting");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    kafka.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_client_can_read_a_channel_as_cloud_events() {
    let Some(url) = broker::shared() else { return };
    let place = Place::new(url);
    let slot = slot(SPREAD, 2);
    let kafka = place.verified().await;
    send(&kafka, Lane::of(slot), parcels(7..=7)).await;
    let reader: BaseConsumer = client(url).set("group.id", "somebody else").create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&format!("{}.{SPREAD}", place.options.prefix), 2, Offset::Beginning).unwrap();
    reader.assign(&list).unwrap();
    let since = Instant::now();
    let record = loop {
        if let Some(Ok(record)) = reader.poll(Duration::from_millis(100)) {
            break record;
        }
        assert!(since.elapsed() < PATIENCE, "another client reads nothing");
    };
    let sent = parcel(7);
    let headers: Vec<(String, String)> = record
        .headers()
        .unwrap()
        .iter()
        .map(|header| (header.key.to_owned(), String::from_utf8(header.value.unwrap().to_vec()).unwrap()))
        .collect();
    let expected = [
        ("ce_specversion", "1.0"),
        ("ce_id", &hex::encode(sent.id.0)),
        ("ce_source", "/mailbox.submitted"),
        ("ce_type", "be.zegel.sealed.v1"),
        ("content-type", "application/octet-stream"),
        ("zegel-number", "7"),
    ];
    assert_eq!(headers, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert_eq!((record.key(), record.payload()), (Some(&sent.key.0[..]), Some(sent.body.bytes().as_ref())));
    kafka.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_every_group_has_settled_is_deleted_and_nothing_else() {
    let Some(url) = broker::shared() else { return };
    let mut place = Place::new(url);
    place.options.trim_every = Duration::from_millis(200);
    let slot = slot(SINGLE, 0);
    let topic = format!("{}.{SINGLE}", place.options.prefix);
    let kafka = place.verified().await;
    let tool: BaseConsumer = client(url).create().unwrap();
    send(&kafka, Lane::of(slot), parcels(1..=30)).await;
    let mut reader = kafka.receive(slot, 0).await.unwrap();
    take(&mut *reader, 12, true).await;
    let held = take(&mut *reader, 5, false).await;
    let since = Instant::now();
    while tool.fetch_watermarks(&topic, 0, ASK).unwrap() != (12, 30) {
        assert!(since.elapsed() < PATIENCE, "settled records are not deleted");
        let waiting = tokio::time::timeout(Duration::from_millis(100), reader.next(WIDE)).await;
        drop(waiting); // a reader commits while it is asked for more
    }
    drop(reader);
    tokio::time::sleep(Duration::from_secs(1)).await;
    // A tool's offset is no permission to delete.
    reset(url, &place.options, "box", &topic, 0, 30);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(tool.fetch_watermarks(&topic, 0, ASK).unwrap(), (12, 30), "what nobody has settled was deleted");
    let mut reader = kafka.receive(slot, 12).await.unwrap();
    let again = take(&mut *reader, 18, false).await;
    assert_eq!(again[..5], held[..], "what was held is lost");
    assert_eq!(numbers(&again), (13..=30).collect::<Vec<_>>());
    kafka.close().await;
}
