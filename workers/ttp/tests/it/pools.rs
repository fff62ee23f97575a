//! Batches that wait for those of other senders, through the worker: what is released, when, and what is turned away.

use crate::SENDER;
use crate::world::{BATCH, OTHER, World, id_of};
use zegel_core::Effects;
use zegel_core::slot::spaces::{EXCHANGES, PAYLOADS};

const POOL: &str = "direction = \"with-return\"\nrelease = { min_senders = 2, max_age_minutes = 30 }";

#[test]
fn batches_wait_for_another_sender_and_are_released_together() {
    let mut world = World::new(POOL);
    let held: Vec<Effects> = (0..3).map(|_| world.send(SENDER, BATCH)).collect();
    assert!(held.iter().all(|effects| effects.produced.is_empty()), "one sender alone is not hidden");
    world.bench.now = world.bench.now.plus(600_000);
    let effects = world.send(OTHER, BATCH);
    let all = world.delivered(&effects);
    assert_eq!(all.len(), 4);
    let submissions: Vec<_> = all.iter().map(|one| one.deliver.answers.unwrap()).collect();
    for number in 1..=4 {
        assert!(submissions.contains(&id_of(number)), "each answers its own submission");
    }
    assert!(effects.produced.iter().all(|produced| produced.envelope.time == world.bench.now), "one instant for all");
    assert!(world.bench.timers.keys().all(|(_, name)| *name != "release"), "nobody waits any more");
    // What was released can come back.
    let back = world.back(all[0].handle, &all[0].text);
    assert_eq!(world.codes(&back), Vec::<String>::new());
    assert_eq!(world.send(SENDER, BATCH).produced.len(), 0, "the next waits again");
}

#[test]
fn at_the_age_limit_too_few_are_refused_or_released_with_a_report_as_the_project_says() {
    let mut strict = World::new(POOL);
    strict.send(SENDER, BATCH);
    strict.bench.now = strict.bench.now.plus(60_000);
    strict.send(SENDER, BATCH);
    let key = strict.key;
    for _ in 0..2 {
        let effects = strict.bench.fire(key, "release");
        assert_eq!(strict.codes(&effects), ["ZGL-TTP-FEW"], "the old one alone");
        assert_eq!(effects.produced.len(), 1);
    }
    assert_eq!(strict.bench.rows(PAYLOADS), 0, "nothing is left of what was made of them");
    assert!(strict.bench.timers.keys().all(|(_, name)| *name == "quarantine"));

    let mut open = World::new(&POOL.replace("= 30", "= 30, at_limit = \"release\""));
    open.send(SENDER, BATCH);
    open.send(SENDER, BATCH);
    let key = open.key;
    let effects = open.bench.fire(key, "release");
    assert_eq!(open.delivered(&effects).len(), 2);
    let report = open.bench.read(&zegel_ttp::pool::report_read(key)).remove(0).1;
    let report: zegel_ttp::pool::ReleaseReport = serde_json::from_slice(&report).unwrap();
    assert_eq!((report.releases, report.batches, report.below, report.latest_senders), (1, 2, 1, 1));
}

#[test]
fn a_sender_cannot_fill_a_pool() {
    let mut world = World::new(POOL);
    for _ in 0..50 {
        assert!(world.send(SENDER, BATCH).produced.is_empty());
    }
    let effects = world.send(SENDER, BATCH);
    assert_eq!(world.codes(&effects), ["ZGL-TTP-POOL"]);
    let effects = world.send(OTHER, BATCH);
    assert_eq!(world.delivered(&effects).len(), 51);
}

#[test]
fn the_senders_address_reaches_nobody_but_the_store() {
    let mut world = World::new(POOL);
    world.send(SENDER, BATCH);
    let effects = world.send(OTHER, BATCH);
    for produced in &effects.produced {
        let wire = produced.envelope.encode().unwrap();
        for secret in ["71000436", "71011720", "85061511", "Janssens"] {
            assert!(!wire.windows(secret.len()).any(|window| window == secret.as_bytes()), "{secret}");
        }
    }
}

#[test]
fn what_a_pool_turned_away_stands_still_as_it_was_sent() {
    let mut world = World::new(POOL);
    world.send(SENDER, BATCH);
    world.send(SENDER, &BATCH.replace("Maes", "Claes"));
    world.bench.now = world.bench.now.plus(1_800_000);
    let key = world.key;
    let effects = world.bench.fire(key, "release");
    assert_eq!(world.codes(&effects), ["ZGL-TTP-FEW", "ZGL-TTP-FEW"]);
    assert_eq!(world.bench.rows(EXCHANGES), 1, "the report alone");
    let held = world.quarantine();
    let about: Vec<_> = held.iter().map(|row| (row.submission, row.kept, row.reason.code.as_str())).collect();
    assert_eq!(about, [(id_of(1), true, "ZGL-TTP-FEW"), (id_of(2), true, "ZGL-TTP-FEW")]);
    let again = world.release(2);
    assert!(String::from_utf8_lossy(&again.attachment).contains("Claes"), "what was made of it is no batch");
    assert!(world.bench.deliver_envelope(again).produced.is_empty(), "it waits again");
    let released = world.send(OTHER, BATCH);
    assert_eq!((world.delivered(&released).len(), world.bench.rows(EXCHANGES)), (2, 5), "two exchanges and the report");
}
