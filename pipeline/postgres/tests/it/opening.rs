//! What is refused at opening, what is made then, and what an operator reads when it goes wrong.

use crate::cluster::{self, Cluster};
use crate::place::{Place, client};
use std::time::{Duration, Instant};
use zegel_conformance::fixture::{Fixture as _, SINGLE, message, publish, slot};
use zegel_conformance::runner::Backend;
use zegel_core::{Broker as _, BrokerError, Outbox as _, Store as _, StoreError};
use zegel_postgres::{OpenError, Options, Postgres};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_may_lose_what_it_acknowledged_is_refused_at_opening_and_later() {
    let Some(cluster) = Cluster::start() else { return };
    let place = Place::on(cluster.url());
    let store = place.postgres(place.options()).await;
    let admin = place.client().await;
    for name in ["fsync", "full_page_writes", "synchronous_commit"] {
        admin.batch_execute(&format!("ALTER SYSTEM SET {name} = off")).await.unwrap();
        admin.batch_execute("SELECT pg_reload_conf()").await.unwrap();
        let since = Instant::now();
        // The postmaster reads its settings a moment later.
        while !matches!(Postgres::open(&place.url, place.options()).await, Err(OpenError::Unsafe { setting }) if setting == name)
        {
            assert!(since.elapsed() < Duration::from_secs(10), "a server with {name}=off is taken");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        admin.batch_execute(&format!("ALTER SYSTEM RESET {name}")).await.unwrap();
    }
    // It comes back with other settings than it went with.
    admin.batch_execute("ALTER SYSTEM SET fsync = off").await.unwrap();
    drop(admin);
    tokio::task::block_in_place(|| {
        cluster.kill();
        cluster.restart();
    });
    let refused = store.publish(vec![message(SINGLE, 1)]).await.remove(0);
    assert!(matches!(refused, Err(BrokerError::Unavailable(_))), "{refused:?}");
    let read = store.stats().await;
    let Err(StoreError::Unavailable(text)) = read else { panic!("a server with fsync=off is used: {read:?}") };
    assert!(text.contains("fsync=off"), "the operator is not told why: {text}");
    drop(store);
    place.shut().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_setting_of_the_session_counts_as_well() {
    let Some(url) = cluster::shared() else { return };
    let url = format!("{url}?options=-c%20synchronous_commit%3Doff");
    let outcome = Postgres::open(&url, Options::default()).await.err();
    assert!(matches!(outcome, Some(OpenError::Unsafe { setting: "synchronous_commit" })), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_that_open_a_new_schema_at_once_make_it_once() {
    let Some(url) = cluster::shared() else { return };
    let place = Place::on(url);
    let opening: Vec<_> = (0..8)
        .map(|_| {
            let (url, options) = (place.url.clone(), Options { readers: 2, writers: 1, ..place.options() });
            tokio::spawn(async move { Postgres::open(&url, options).await })
        })
        .collect();
    for one in opening {
        let store = one.await.unwrap().unwrap();
        store.close().await;
    }
    let rows = place.client().await.query("SELECT version FROM format", &[]).await.unwrap();
    let versions: Vec<i32> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(versions, [1, 2], "migrations ran more than once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_schema_and_other_partitions_are_refused_and_left_alone() {
    if cluster::shared().is_none() {
        return;
    }
    let place = Place::fresh();
    place.postgres(place.options()).await;
    place.shut().await;
    let admin = place.client().await;
    let single = i32::from(slot(SINGLE, 0).channel);
    admin.execute("UPDATE channels SET partitions = 7 WHERE channel = $1", &[&single]).await.unwrap();
    let outcome = Postgres::open(&place.url, place.options()).await.err();
    assert!(
        matches!(outcome, Some(OpenError::Partitions { channel: SINGLE, stored: 7, declared: 8 })),
        "a channel with other partitions is opened: {outcome:?}"
    );
    admin.execute("UPDATE channels SET partitions = 8 WHERE channel = $1", &[&single]).await.unwrap();
    admin.batch_execute("INSERT INTO format(version) VALUES (99)").await.unwrap();
    let outcome = Postgres::open(&place.url, place.options()).await.err();
    assert!(matches!(outcome, Some(OpenError::Version { found: 99, .. })), "{outcome:?}");
    admin.batch_execute("DELETE FROM format WHERE version = 99").await.unwrap();
    place.postgres(place.options()).await;
    place.shut().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_opened_says_why_without_the_password() {
    let Some(url) = cluster::shared() else { return };
    let url = url.replace("://zegel@", "://zegel:secret-word@");
    let nowhere = "postgres://zegel:secret-word@127.0.0.1:1/none".to_owned();
    for (url, expected) in [(url + "_that_is_not_there", "database does not exist"), (nowhere, "refused")] {
        let error = Postgres::open(&url, Options::default()).await.err().unwrap();
        let text = format!("{error} {error:?}");
        assert!(text.contains(expected), "the operator is not told why: {text}");
        assert!(!text.contains("secret-word") && !text.contains("is_not_there"), "too much is told: {text}");
    }
}

/// The last number of the only partition that has messages.
async fn last(store: &Postgres) -> u64 {
    let found = store.progress().await.unwrap();
    assert_eq!(found.len(), 1, "messages are in other partitions: {found:?}");
    found[0].last
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_every_group_passed_is_deleted_and_numbers_go_on() {
    if cluster::shared().is_none() {
        return;
    }
    let place = Place::fresh();
    let store = place.postgres(place.options()).await;
    let backend = Backend { broker: store.clone(), store: store.clone() };
    for part in 0..50 {
        publish(&backend, (0..100).map(|n| message(SINGLE, part * 100 + n)).collect()).await;
    }
    let mut stream = store.subscribe(slot(SINGLE, 0), 0).await.unwrap();
    let mut got = 0;
    while got < 4_900 {
        let batch = stream.next(zegel_core::BatchLimits { messages: 100, bytes: 1 << 20 }).await.unwrap();
        got += batch.deliveries.len();
        stream.settle(batch.settlement).await.unwrap();
    }
    let since = Instant::now();
    let admin = client(&place.url, &place.schema).await;
    loop {
        let left: i64 = admin.query_one("SELECT count(*) FROM messages", &[]).await.unwrap().get(0);
        if left == 100 {
            break;
        }
        assert!(left > 100, "what a group still needs was deleted");
        assert!(since.elapsed() < Duration::from_secs(20), "{left} messages are left");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(store.metrics().trimmed.load(std::sync::atomic::Ordering::Relaxed), 4_900);
    assert_eq!(last(&store).await, 5_000);
    drop((stream, backend, store));
    place.shut().await;
    // What was only settled is remembered over a restart.
    let store = place.postgres(place.options()).await;
    publish(&Backend { broker: store.clone(), store: store.clone() }, vec![message(SINGLE, 1)]).await;
    assert_eq!(last(&store).await, 5_001);
    drop(store);
    place.shut().await;
}
