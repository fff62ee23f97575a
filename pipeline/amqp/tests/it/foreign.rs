//! What others put into our queues, and what is too large for them.

use crate::load::{parcel, single};
use crate::place::Place;
use crate::place_or_skip;
use bytes::Bytes;
use lapin::BasicProperties;
use lapin::options::{BasicGetOptions, BasicPublishOptions};
use lapin::types::{AMQPValue, FieldTable};
use std::time::{Duration, Instant};
use zegel_amqp::names;
use zegel_core::transport::{Lane, Mark, Parcel, Transport};
use zegel_core::{BatchLimits, Sealed};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_message_is_kept_apart_and_stops_nothing() {
    let place = place_or_skip!();
    let amqp = place.connect().await;
    let channel = place.bare_client().await.create_channel().await.unwrap();
    let queue = names::queue_of(&place.options, single()).unwrap();
    let (exchange, key) = queue.bound.unwrap();
    let lane = Lane::of(single());
    assert!(amqp.send(lane, vec![parcel(1)]).await[0].is_ok());
    let mut copied = FieldTable::default();
    copied.insert("CC".into(), AMQPValue::FieldArray(vec![AMQPValue::LongString("elsewhere".into())].into()));
    let theirs = BasicProperties::default().with_content_type("text/plain".into()).with_headers(copied);
    let nothing = BasicPublishOptions::default();
    channel.basic_publish(exchange.into(), key.into(), nothing, b"theirs", theirs).await.unwrap();
    assert!(amqp.send(lane, vec![parcel(2)]).await[0].is_ok());

    let mut reader = amqp.receive(single(), 0).await.unwrap();
    let mut got = Vec::new();
    while got.len() < 2 {
        let next = reader.next(BatchLimits { messages: 10, bytes: 1 << 20 });
        let arrivals = tokio::time::timeout(Duration::from_secs(10), next).await.unwrap().unwrap();
        reader.settle(arrivals.last().unwrap().tag).await.unwrap();
        got.extend(arrivals.into_iter().map(|arrival| arrival.parcel.mark));
    }
    assert_eq!(got, [Mark::Number(1), Mark::Number(2)]);
    let (foreign, since) = (names::foreign(&place.options.prefix), Instant::now());
    // Theirs came by another connection, so it may be behind ours.
    let kept = loop {
        let got = channel.basic_get(foreign.as_str().into(), BasicGetOptions::default()).await.unwrap();
        assert!(since.elapsed() < Duration::from_secs(10), "it is lost");
        if let Some(kept) = got {
            break kept;
        }
    };
    assert_eq!(kept.data, b"theirs");
    let headers = kept.properties.headers().clone().unwrap();
    assert_eq!(headers.inner().get("zegel-found-in"), Some(&AMQPValue::LongString(queue.name.into())));
    assert!(headers.contains_key("zegel-foreign-because") && !headers.contains_key("CC"));
    // What the reader takes after it says that it has done with theirs: a copy is there before the original is taken away.
    assert!(amqp.send(lane, vec![parcel(3)]).await[0].is_ok());
    let next = reader.next(BatchLimits { messages: 10, bytes: 1 << 20 });
    let arrivals = tokio::time::timeout(Duration::from_secs(10), next).await.unwrap().unwrap();
    reader.settle(arrivals.last().unwrap().tag).await.unwrap();
    assert_eq!(arrivals.last().unwrap().parcel.mark, Mark::Number(3));
    drop(reader);
    // The reader's channel closes while this asks, and asking is what may fail then.
    let mut depth = amqp.depth(single()).await;
    while depth.is_err() && since.elapsed() < Duration::from_secs(20) {
        depth = amqp.depth(single()).await;
    }
    assert_eq!(depth.unwrap(), 0, "the foreign message is still in the queue");
    amqp.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parcel_that_is_too_large_is_refused_alone() {
    let place = place_or_skip!();
    let mut small = Place::sharing(&place, &place.url);
    small.options.body_bytes = 1 << 20;
    let amqp = small.connect().await;
    let large = Sealed::from_stored(Bytes::from(vec![0; (1 << 20) + 1]));
    let parcels = vec![parcel(1), Parcel { body: large, ..parcel(2) }, parcel(3)];
    let outcomes = amqp.send(Lane::of(single()), parcels).await;
    assert!(outcomes[0].is_ok() && outcomes[2].is_ok(), "{outcomes:?}");
    assert!(outcomes[1].as_ref().is_err_and(|error| error.to_string().contains("larger than")), "{outcomes:?}");
    amqp.close().await;
}
