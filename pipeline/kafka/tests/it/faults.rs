//! What networks and machines do, under load: nothing that was confirmed is lost, and the order is kept.
//!
//! A Kafka client goes where the broker tells it to, so the broker is told to name the proxy.

use crate::broker::{Broker, Place};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;
use zegel_conformance::load::{Load, Silences, kills, rounds, silence};
use zegel_conformance::proxy::Proxy;
use zegel_core::transport::Transport as _;
use zegel_kafka::Options;

const MINUTE: Duration = Duration::from_secs(60);

/// A broker, and the proxy that its clients go through.
async fn behind_a_proxy() -> Option<(Broker, Proxy, Place)> {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let proxy = Proxy::before(&format!("127.0.0.1:{port}")).await.unwrap();
    let advertised = proxy.address();
    let broker = tokio::task::spawn_blocking(move || Broker::behind(port, advertised)).await.unwrap()?;
    let mut place = Place::new(&format!("kafka://{advertised}"));
    place.options = Options { send_limit: Duration::from_secs(2), ..place.options.clone() };
    Some((broker, proxy, place))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cuts_silence_and_half_open_connections_lose_nothing_and_keep_the_order() {
    let Some((_broker, proxy, place)) = behind_a_proxy().await else { return };
    let (sending, reading) = (place.verified().await, place.verified().await);
    let load = Load::begin(sending.clone(), reading.clone()).await;
    load.through_cuts(&proxy, rounds(5), MINUTE).await;
    let silences = Silences {
        times: kills(1),
        lasting: silence(Duration::from_secs(2)),
        refused_within: Duration::from_secs(6),
        noticed_within: Duration::from_secs(40),
    };
    load.through_silences(&proxy, &*sending, silences).await;
    load.end("cut, silent and half open").await;
    sending.close().await;
    reading.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_broker_loses_nothing_that_was_confirmed() {
    let Some(broker) = tokio::task::spawn_blocking(Broker::start).await.unwrap() else { return };
    let broker = Arc::new(broker);
    let place = Place::new(broker.url());
    let (sending, reading) = (place.verified().await, place.verified().await);
    let load = Load::begin(sending.clone(), reading.clone()).await;
    for _ in 0..kills(2) {
        let again = broker.clone();
        tokio::task::spawn_blocking(move || {
            again.kill();
            again.restart();
        })
        .await
        .unwrap();
        load.more(500, MINUTE).await;
    }
    load.end("killed").await;
    sending.close().await;
    reading.close().await;
}
