//! What a check finds that was done behind the store's back.

use crate::cluster;
use crate::place::Place;
use bytes::Bytes;
use std::collections::BTreeSet;
use zegel_conformance::fixture::{SINGLE, SPREAD, claim, key, message, owner, sealed, slot};
use zegel_conformance::runner::Backend;
use zegel_core::slot::spaces::TEST;
use zegel_core::{Broker as _, Step, Store as _, Write};
use zegel_postgres::Offline;

/// Rules that are broken, and values of free form that hold a word.
async fn found(place: &Place, word: &[u8]) -> (BTreeSet<&'static str>, u32) {
    let offline = Offline::open(&place.url, &place.schema).await.unwrap();
    let mut holding = 0;
    let each = |_: &str, value: &[u8]| holding += u32::from(value.windows(word.len()).any(|part| part == word));
    offline.each_value(each).await.unwrap();
    (offline.check().await.unwrap().into_iter().map(|finding| finding.rule).collect(), holding)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_rule_that_is_broken_from_outside_is_named() {
    let Some(url) = cluster::shared() else { return };
    let place = Place::on(url);
    assert!(Offline::open(&place.url, &place.schema).await.is_err(), "a schema without a store was taken for one");
    let store = place.postgres(place.options()).await;
    let backend = Backend { broker: store.clone(), store: store.clone() };
    let held = claim(&backend, slot(SPREAD, 0), owner(1)).await;
    for outcome in store.publish((1..=9).map(|n| message(SINGLE, n)).collect()).await {
        outcome.unwrap();
    }
    let write = |sub, value: &str| Write {
        space: TEST,
        owner: key(1),
        sub: Bytes::from_static(sub),
        value: Some(sealed(value)),
    };
    let writes = vec![write(b"a", "one"), write(b"b", "a word in clear"), write(b"c", "three")];
    store.commit(Step { writes, ..Step::empty(held.slot, held.epoch) }).await.unwrap();
    let offline = Offline::open(&place.url, &place.schema).await.unwrap();
    assert!(offline.is_served(schemas::Millis(0)).await.unwrap(), "a lease that runs is not seen");
    assert!(!offline.is_served(schemas::Millis(i64::MAX)).await.unwrap(), "a lease that has run out is taken for one");
    let (first, rest) = (offline.scan(TEST, None, 1).await.unwrap(), offline.scan(TEST, None, 9).await.unwrap());
    let after = first.first().map(|(owner, sub, _)| (*owner, sub.clone()));
    let next = offline.scan(TEST, after, 9).await.unwrap();
    assert_eq!([first, next].concat(), rest, "a scan in pages is not the scan");
    assert_eq!(rest.len(), 3);
    drop(offline);
    assert_eq!(found(&place, b"in clear").await, (BTreeSet::new(), 1));

    let client = place.client().await;
    let taken = slot(SPREAD, 0);
    let code = zegel_core::packed::slot_code(taken);
    let partition = zegel_core::packed::partition_code(message(SINGLE, 1).channel, 0);
    let id = "decode(repeat('00', 16), 'hex')";
    let broken: [(&str, String, String); 7] = [
        ("numbers", format!("DELETE FROM messages WHERE id = ({partition}::bigint << 40) | 5"), String::new()),
        (
            "position",
            format!("UPDATE slots SET position = 77 WHERE slot = {code}"),
            format!("UPDATE slots SET position = 0 WHERE slot = {code}"),
        ),
        (
            "trimmed",
            format!("UPDATE trims SET trimmed = 3 WHERE partition = {partition}"),
            format!("UPDATE trims SET trimmed = 0 WHERE partition = {partition}"),
        ),
        (
            "parked",
            format!("INSERT INTO parked VALUES ({code}, 12, {id}, {id}, 0, 0, NULL, NULL, 0, '')"),
            "DELETE FROM parked".to_owned(),
        ),
        (
            "dead",
            format!("INSERT INTO dead VALUES ({}, 0, 12, {}, {id}, {id}, 'ZGL', 1, 0, '')", taken.channel, taken.group),
            "DELETE FROM dead".to_owned(),
        ),
        (
            "width",
            "UPDATE state SET owner = '\\x00' WHERE sub = 'c'".to_owned(),
            "DELETE FROM state WHERE sub = 'c'".to_owned(),
        ),
        (
            "topology",
            format!("INSERT INTO timers VALUES ({code}, {id}, 'n', 0, 9999, {id}, {id}, '')"),
            "DELETE FROM timers".to_owned(),
        ),
    ];
    for (rule, breaking, mending) in broken.into_iter().rev() {
        client.batch_execute(&breaking).await.unwrap();
        let (rules, _) = found(&place, b"in clear").await;
        assert!(rules.contains(rule), "{rule} is broken, and what is found is {rules:?}");
        assert!(rules.len() == 1 || rule == "trimmed", "{rule} is broken, and what is found is {rules:?}");
        client.batch_execute(&mending).await.unwrap();
    }
    drop((backend, store));
    place.shut().await;
}
