//! What every transport must do.
//!
//! `for_each_transport_scenario!` lists the scenarios; a backend's tests run each over fresh [`TransportFixture`]s.

use crate::fixture::{PATIENCE, SINGLE, SPREAD, id, id_number, key, slot};
use bytes::Bytes;
use std::sync::Arc;
use std::time::{Duration, Instant};
use zegel_core::slot::INTAKE;
use zegel_core::transport::{Arrival, Arrivals, Lane, Mark, Parcel, Transport};
use zegel_core::{BatchLimits, BrokerError, Sealed, Slot};

/// A place of its own for a transport: a prefix of names, a virtual host. Dropping it takes the place away.
#[async_trait::async_trait]
pub trait TransportFixture: Send + Sync + Sized + 'static {
    /// A place that nothing was sent in yet.
    async fn fresh() -> Self;

    /// Opens the transport in this place, verified against the topology; what was sent there is there.
    async fn open(&self) -> Arc<dyn Transport>;
}

macro_rules! scenarios {
    ($($name:ident),+ $(,)?) => {
        /// Calls `$test!(name)` for every scenario of the transport suite.
        #[macro_export]
        macro_rules! for_each_transport_scenario {
            ($test:ident) => { $( $test!($name); )+ };
        }
    };
}

scenarios!(
    what_send_returned_for_survives_a_restart_unaltered,
    parcels_of_a_sender_arrive_in_order,
    what_was_not_settled_arrives_again_in_order,
    a_reader_keeps_its_limits_in_messages_and_bytes,
    the_intake_and_the_numbered_lane_are_apart,
    a_lane_that_does_not_exist_is_refused,
    a_dropped_wait_loses_nothing,
    depth_counts_what_is_not_settled,
    a_closed_transport_ends_its_readers,
    large_parcels_from_many_senders_all_arrive,
);

const WIDE: BatchLimits = BatchLimits { messages: 500, bytes: 16 << 20 };

/// The numbered lane of the channel with one partition.
fn lane() -> Lane {
    Lane::of(slot(SINGLE, 0))
}

fn numbered(n: u64) -> Parcel {
    let body = Sealed::from_stored(Bytes::from(format!("body {n}")));
    Parcel { mark: Mark::Number(n), key: key(n), id: id(n), body }
}

fn sized(n: u64, bytes: usize) -> Parcel {
    Parcel { body: Sealed::from_stored(Bytes::from(vec![n.to_be_bytes()[7]; bytes])), ..numbered(n) }
}

async fn send(transport: &Arc<dyn Transport>, lane: Lane, parcels: Vec<Parcel>) {
    let count = parcels.len();
    let outcomes = transport.send(lane, parcels).await;
    assert_eq!(outcomes.len(), count, "send answered for another number of parcels");
    for (n, outcome) in outcomes.into_iter().enumerate() {
        assert!(outcome.is_ok(), "parcel {n} of a send was refused: {outcome:?}");
    }
}

async fn receive(transport: &Arc<dyn Transport>, slot: Slot, after: u64) -> Box<dyn Arrivals> {
    transport.receive(slot, after).await.unwrap_or_else(|error| panic!("receiving failed: {error}"))
}

async fn next(reader: &mut dyn Arrivals, limits: BatchLimits) -> Vec<Arrival> {
    match tokio::time::timeout(PATIENCE, reader.next(limits)).await {
        Ok(Ok(arrivals)) => arrivals,
        Ok(Err(error)) => panic!("the next parcels failed: {error}"),
        Err(_) => panic!("no parcel came although some wait"),
    }
}

async fn take(reader: &mut dyn Arrivals, count: usize) -> Vec<Arrival> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let limits = BatchLimits { messages: count - taken.len(), ..WIDE };
        taken.extend(next(reader, limits).await);
    }
    taken
}

fn numbers(arrivals: &[Arrival]) -> Vec<u64> {
    arrivals.iter().map(|one| id_number(one.parcel.id)).collect()
}

async fn settle_all(reader: &mut dyn Arrivals, arrivals: &[Arrival]) {
    let settled = reader.settle(arrivals.last().map_or(0, |last| last.tag)).await;
    assert!(settled.is_ok(), "settling failed: {settled:?}");
}

/// Durability at return; every part of a parcel comes back, empty and large bodies too.
pub async fn what_send_returned_for_survives_a_restart_unaltered<F: TransportFixture>() {
    let place = F::fresh().await;
    let transport = place.open().await;
    let parcels = vec![numbered(1), sized(2, 0), sized(3, 1 << 20), sized(4, 1)];
    send(&transport, lane(), parcels.clone()).await;
    transport.close().await;
    let transport = place.open().await;
    let mut reader = receive(&transport, slot(SINGLE, 0), 0).await;
    let got: Vec<Parcel> = take(&mut *reader, 4).await.into_iter().map(|one| one.parcel).collect();
    assert_eq!(got, parcels, "a parcel was altered, lost or moved");
    transport.close().await;
}

/// Order, over many sends with a window.
pub async fn parcels_of_a_sender_arrive_in_order<F: TransportFixture>() {
    let place = F::fresh().await;
    let transport = place.open().await;
    let sender = {
        let transport = Arc::clone(&transport);
        tokio::spawn(async move {
            for part in 0..20u64 {
                send(&transport, lane(), (1..=100).map(|n| numbered(part * 100 + n)).collect()).await;
            }
        })
    };
    let mut reader = receive(&transport, slot(SINGLE, 0), 0).await;
    let mut got = Vec::new();
    while got.len() < 2_000 {
        let arrivals = next(&mut *reader, WIDE).await;
        settle_all(&mut *reader, &arrivals).await;
        got.extend(arrivals);
    }
    assert_eq!(numbers(&got), (1..=2_000).collect::<Vec<_>>(), "parcels are not in the order of sending");
    assert!(got.windows(2).all(|two| two[0].tag < two[1].tag), "tags do not ascend");
    assert!(sender.await.is_ok(), "the sender failed");
    transport.close().await;
}

/// At least once, and in order: what a reader held comes before what came later.
pub async fn what_was_not_settled_arrives_again_in_order<F: TransportFixture>() {
    let place = F::fresh().await;
    let transport = place.open().await;
    send(&transport, lane(), (1..=30).map(numbered).collect()).await;
    let mut reader = receive(&transport, slot(SINGLE, 0), 0).await;
    let first = take(&mut *reader, 10).await;
    settle_all(&mut *reader, &first).await;
    let held = take(&mut *reader, 10).await;
    assert_eq!(numbers(&held), (11..=20).collect::<Vec<_>>());
    drop(reader);
    let mut reader = receive(&transport, slot(SINGLE, 0), 10).await;
    let again = take_above(&mut *reader, 10, 20).await;
    assert_eq!(again, (11..=30).collect::<Vec<_>>(), "what was held is lost or comes out of order");
    drop(reader);
    transport.close().await;
    let transport = place.open().await;
    let mut reader = receive(&transport, slot(SINGLE, 0), 10).await;
    let again = take_above(&mut *reader, 10, 20).await;
    assert_eq!(again, (11..=30).collect::<Vec<_>>(), "what was not settled is lost by a restart, or out of order");
    transport.close().await;
}

/// What was settled may come again; it is left out here as a consumer leaves it out.
async fn take_above(reader: &mut dyn Arrivals, above: u64, count: usize) -> Vec<u64> {
    let mut got = Vec::new();
    while got.len() < count {
        let arrivals = next(reader, WIDE).await;
        got.extend(numbers(&arrivals).into_iter().filter(|n| *n > above));
    }
    got
}

/// Bounds of what is handed out; one larger parcel comes alone.
pub async fn a_reader_keeps_its_limits_in_messages_and_bytes<F: TransportFixture>() {
    let place = F::fresh().await;
    let transport = place.open().await;
    let sizes = [100, 100, 100, 5_000, 100, 100];
    send(&transport, lane(), (1..).zip(sizes).map(|(n, bytes)| sized(n, bytes)).collect()).await;
    let mut reader = receive(&transport, slot(SINGLE, 0), 0).await;
    let mut got = Vec::new();
    for (messages, bytes) in [(2, 10_000), (9, 250), (9, 250), (1, 250), (9, 1), (1, 1)] {
        if got.len() == sizes.len() {
            break;
        }
        let arrivals = next(&mut *reader, BatchLimits { messages, bytes }).await;
        let total: usize = arrivals.iter().map(|one| one.parcel.body.len()).sum();
        assert!(arrivals.len() <= messages, "more parcels than the limit");
        assert!(total <= bytes || arrivals.len() == 1, "more bytes than the limit");
        got.extend(arrivals);
    }
    assert_eq!(numbers(&got), (1..=6).collect::<Vec<_>>());
    transport.close().await;
}

/// Lanes do not mix, and an intake's marks come back.
pub async fn the_intake_and_the_numbered_lane_are_apart<F: TransportFixture>() {
    let place = F::fresh().await;
    let transport = place.open().await;
    let intake = Slot { group: INTAKE, ..slot(SPREAD, 1) };
    let edge = |n| Parcel { mark: Mark::Edge { session: [7; 16], sequence: n }, ..numbered(n) };
    send(&transport, Lane::of(intake), (1..=5).map(edge).collect()).await;
    send(&transport, Lane::of(slot(SPREAD, 1)), vec![numbered(100)]).await;
    let mut reader = receive(&transport, intake, 0).await;
    let got: Vec<Parcel> = take(&mut *reader, 5).await.into_iter().map(|one| one.parcel).collect();
    assert_eq!(got, (1..=5).map(edge).collect::<Vec<_>>(), "an intake's parcels are altered or not its own");
    let mut reader = receive(&transport, slot(SPREAD, 1), 0).await;
    assert_eq!(numbers(&take(&mut *reader, 1).await), [100], "a numbered lane has another lane's parcels");
    transport.close().await;
}

/// Nothing is sent to objects that are not declared.
pub async fn a_lane_that_does_not_exist_is_refused<F: TransportFixture>() {
    let place = F::fresh().await;
    let transport = place.open().await;
    let nowhere = Slot { partition: 99, ..slot(SINGLE, 0) };
    let inner = topology::CHANNELS.iter().find(|channel| channel.edges.is_empty());
    let inner = inner.unwrap_or_else(|| panic!("the scenario needs a channel without an edge"));
    let without_edge = Slot { channel: inner.code, group: INTAKE, partition: 0 };
    for slot in [nowhere, without_edge] {
        let sent = transport.send(Lane::of(slot), vec![numbered(1)]).await;
        assert!(matches!(sent[..], [Err(BrokerError::UnknownChannel(_))]), "sent to nowhere: {sent:?}");
        let read = transport.receive(slot, 0).await.err();
        assert!(matches!(read, Some(BrokerError::UnknownChannel(_))), "read from nowhere");
    }
    transport.close().await;
}

/// `next` is cancel-safe.
pub async fn a_dropped_wait_loses_nothing<F: TransportFixture>() {
    let place = F::fresh().await;
    let transport = place.open().await;
    let mut reader = receive(&transport, slot(SINGLE, 0), 0).await;
    let mut got = Vec::new();
    for n in 1..=50u64 {
        let sending = send(&transport, lane(), vec![numbered(n)]);
        let early = tokio::time::timeout(Duration::from_micros(n * 100), reader.next(WIDE));
        let (early, ()) = tokio::join!(early, sending);
        match early {
            Ok(arrivals) => got.extend(arrivals.unwrap_or_else(|error| panic!("the next parcels failed: {error}"))),
            Err(_) => got.extend(next(&mut *reader, WIDE).await),
        }
    }
    assert_eq!(numbers(&got), (1..=50).collect::<Vec<_>>(), "a dropped wait lost a parcel or gave it twice");
    transport.close().await;
}

/// Depth goes up with sending and down with settling.
pub async fn depth_counts_what_is_not_settled<F: TransportFixture>() {
    let place = F::fresh().await;
    let transport = place.open().await;
    send(&transport, lane(), (1..=20).map(numbered).collect()).await;
    expect_depth(&transport, 20).await;
    let mut reader = receive(&transport, slot(SINGLE, 0), 0).await;
    let arrivals = take(&mut *reader, 12).await;
    settle_all(&mut *reader, &arrivals).await;
    expect_depth(&transport, 8).await;
    let arrivals = take(&mut *reader, 8).await;
    settle_all(&mut *reader, &arrivals).await;
    expect_depth(&transport, 0).await;
    transport.close().await;
}

async fn expect_depth(transport: &Arc<dyn Transport>, expected: u64) {
    let since = Instant::now();
    loop {
        let depth = transport.depth(slot(SINGLE, 0)).await.unwrap_or_else(|error| panic!("depth failed: {error}"));
        if depth == expected {
            return;
        }
        assert!(since.elapsed() < Duration::from_secs(10), "depth says {depth}, {expected} are not settled");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Nobody waits for ever on a closed transport, and it takes nothing more.
pub async fn a_closed_transport_ends_its_readers<F: TransportFixture>() {
    let place = F::fresh().await;
    let transport = place.open().await;
    let mut reader = receive(&transport, slot(SINGLE, 0), 0).await;
    let ended = tokio::spawn(async move { reader.next(WIDE).await.err() });
    tokio::time::sleep(Duration::from_millis(20)).await;
    transport.close().await;
    let ended = tokio::time::timeout(PATIENCE, ended).await;
    assert!(matches!(ended, Ok(Ok(Some(_)))), "a reader waits for ever on a closed transport");
    let sent = tokio::time::timeout(PATIENCE, transport.send(lane(), vec![numbered(1)])).await;
    assert!(matches!(sent.as_deref(), Ok([Err(_)])), "a closed transport takes parcels: {sent:?}");
}

/// Back-pressure by bytes holds senders, and lets them go on.
pub async fn large_parcels_from_many_senders_all_arrive<F: TransportFixture>() {
    let place = F::fresh().await;
    let transport = place.open().await;
    let senders: Vec<_> = (0..8u64)
        .map(|sender| {
            let transport = Arc::clone(&transport);
            tokio::spawn(async move {
                for n in 0..8 {
                    send(&transport, lane(), vec![sized(sender * 100 + n, 300_000)]).await;
                }
            })
        })
        .collect();
    let mut reader = receive(&transport, slot(SINGLE, 0), 0).await;
    let mut got = Vec::new();
    while got.len() < 64 {
        let arrivals = next(&mut *reader, BatchLimits { messages: 5, bytes: 1 << 20 }).await;
        settle_all(&mut *reader, &arrivals).await;
        got.extend(numbers(&arrivals));
    }
    for sender in 0..8 {
        let own: Vec<u64> = got.iter().copied().filter(|n| n / 100 == sender).collect();
        assert_eq!(own, (0..8).map(|n| sender * 100 + n).collect::<Vec<_>>(), "a sender's parcels are out of order");
    }
    for sender in senders {
        assert!(sender.await.is_ok(), "a sender was held for ever or failed");
    }
    transport.close().await;
}
