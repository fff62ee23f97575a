//! Produced messages: numbered in the commit, without gaps, in commit order, and visible only after it.

use super::{commit, ok};
use crate::fixture::{
    Fixture, SINGLE, SPREAD, claim, expect_numbers, expect_silence, id_number, message, owner, slot, subscribe, take,
};
use crate::runner::Backend;
use zegel_core::{Outgoing, Slot, Step};

const PRODUCERS: u64 = 16;
const STEPS: u64 = 25;
const PER_STEP: u64 = 4;

/// I1, I3: 16 producers commit into one partition, every third step fails.
pub async fn numbers_have_no_gaps_under_concurrent_producers<F: Fixture>() {
    let place = F::fresh();
    let backend = place.open(None).await;
    let tasks: Vec<_> = (0..PRODUCERS).map(|n| tokio::spawn(produce(backend.clone(), n))).collect();
    let count = PRODUCERS * STEPS * PER_STEP;
    let mut stream = subscribe(&backend, slot(SINGLE, 0), 0).await;
    let got = take(&mut *stream, usize::try_from(count).unwrap_or(usize::MAX)).await;
    for task in tasks {
        assert!(task.await.is_ok(), "a producer failed");
    }
    expect_numbers(&got, 1);
    for producer in 0..PRODUCERS {
        let own: Vec<u64> = got.iter().map(|one| id_number(one.id)).filter(|n| n / 10_000 == producer).collect();
        let expected: Vec<u64> = (0..STEPS * PER_STEP).map(|n| producer * 10_000 + n).collect();
        assert_eq!(own, expected, "a producer's messages are missing, doubled or out of order");
    }
    expect_silence(&mut *stream).await;
    let backend = place.reopen(backend).await;
    let last = ok(backend.store.stats().await).into_iter().find(|line| line.slot == slot(SINGLE, 0));
    assert_eq!(last.map(|line| line.last), Some(count), "the last number changed in a restart");
}

async fn produce(backend: Backend, producer: u64) {
    let names = [SPREAD, "ttp.inbound"];
    let own = slot(names[usize::from(producer >= 8)], u16::try_from(producer % 8).unwrap_or(0));
    let claim = claim(&backend, own, owner(1)).await;
    let to_single =
        |n: u64| Outgoing { key: crate::fixture::key(producer * 8), ..message(SINGLE, producer * 10_000 + n) };
    for step in 0..STEPS {
        let produced: Vec<Outgoing> = (0..PER_STEP).map(|n| to_single(step * PER_STEP + n)).collect();
        if step % 3 == 0 {
            let mut broken = Step { produced: produced.clone(), ..Step::empty(own, claim.epoch) };
            broken.produced.push(Outgoing { channel: 60_000, ..to_single(0) });
            assert!(backend.store.commit(broken).await.is_err(), "a step into an unknown channel was committed");
        }
        commit(&backend.store, Step { produced, position: Some(step + 1), ..Step::empty(own, claim.epoch) }).await;
    }
}

/// Nobody acts on a message whose step may still fail.
pub async fn produced_messages_are_delivered_after_their_commit_only<F: Fixture>() {
    let place = F::fresh();
    let backend = place.open(None).await;
    let claim = claim(&backend, slot(SPREAD, 0), owner(1)).await;
    let mut stream = subscribe(&backend, slot(SINGLE, 0), 0).await;
    let fenced = Step { produced: vec![message(SINGLE, 1)], ..Step::empty(claim.slot, claim.epoch + 1) };
    assert!(backend.store.commit(fenced).await.is_err(), "a fenced step was committed");
    expect_silence(&mut *stream).await;
    let step = Step { produced: vec![message(SINGLE, 2)], ..Step::empty(claim.slot, claim.epoch) };
    commit(&backend.store, step).await;
    let got = take(&mut *stream, 1).await;
    assert_eq!((got[0].number, id_number(got[0].id)), (1, 2), "a refused step used up a number");
}

/// A partition that was read to its end and trimmed does not begin again at 1.
pub async fn numbers_go_on_after_everything_was_passed_and_a_restart<F: Fixture>() {
    let place = F::fresh();
    let backend = place.open(None).await;
    let single: Slot = slot(SINGLE, 0);
    let claim = claim(&backend, single, owner(1)).await;
    let step = Step { produced: (1..=30).map(|n| message(SINGLE, n)).collect(), ..Step::empty(single, claim.epoch) };
    commit(&backend.store, step).await;
    let mut stream = subscribe(&backend, single, 0).await;
    take(&mut *stream, 30).await;
    commit(&backend.store, Step { position: Some(30), ..Step::empty(single, claim.epoch) }).await;
    drop(stream);
    // Long enough for a store that tidies when nothing happens.
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let backend = place.reopen(backend).await;
    let step = Step { produced: vec![message(SINGLE, 31)], ..Step::empty(single, claim.epoch) };
    commit(&backend.store, step).await;
    let mut stream = subscribe(&backend, single, 30).await;
    let got = take(&mut *stream, 1).await;
    assert_eq!((got[0].number, id_number(got[0].id)), (31, 31), "numbers began again or jumped");
}
