//! One commit: atomic, durable, isolated, and in order of positions.

use super::{all_rows, commit, everything, ok, one_row, write};
use crate::fixture::{Fixture, SINGLE, SPREAD, claim, id, key, message, owner, sealed, slot};
use schemas::Millis;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use zegel_core::store::{Claim, DeadLetter, Parked, TimerChange};
use zegel_core::{Outgoing, Step, StoreError};

/// A step of every kind of change.
fn full_step(claim: &Claim, n: u64) -> Step {
    let parked =
        Parked { number: n, key: key(n), id: id(n), body: sealed("parked"), due: Millis(7), attempt: 2, job: None };
    let dead = DeadLetter {
        slot: claim.slot,
        number: n,
        key: key(n),
        id: id(n),
        body: sealed("dead"),
        code: "ZGL-TEST".to_owned(),
        attempts: 3,
        at: Millis(5),
    };
    let timer = TimerChange::Set { key: key(1), name: "test", due: Millis(9), message: message(SINGLE, 100 + n) };
    Step {
        position: Some(n),
        writes: vec![write(0, "a", Some(&n.to_string())), write(1, "b", Some("b")), write(2, "gone", None)],
        produced: vec![message(SINGLE, n), message(SPREAD, n)],
        timers: vec![timer],
        parked: vec![parked],
        dead: vec![dead],
        ..Step::empty(claim.slot, claim.epoch)
    }
}

/// A step that every backend finds out about only while it applies it.
fn impossible_step(claim: &Claim, n: u64) -> Step {
    let mut step = full_step(claim, n);
    step.unparked = vec![1];
    step.fired = vec![(key(1), "test".to_owned())];
    step.produced.push(Outgoing { channel: 60_000, ..message(SINGLE, n) });
    step
}

/// All or nothing.
pub async fn a_step_that_fails_half_way_changes_nothing<F: Fixture>() {
    let place = F::fresh();
    let backend = place.open(None).await;
    let store = &backend.store;
    let claim = claim(&backend, slot(SPREAD, 0), owner(1)).await;
    commit(store, full_step(&claim, 1)).await;
    let before = everything(store).await;
    assert!(store.commit(impossible_step(&claim, 2)).await.is_err(), "a step into an unknown channel was committed");
    assert_eq!(everything(store).await, before, "a step that failed left something behind");
    commit(store, full_step(&claim, 2)).await;
}

/// Steps of other slots that are committed at the same time get through, whole.
pub async fn a_failing_step_spoils_no_other<F: Fixture>() {
    let place = F::fresh();
    let backend = place.open(None).await;
    let mut tasks = Vec::new();
    for partition in 0..8u16 {
        let backend = backend.clone();
        tasks.push(tokio::spawn(async move {
            let claim = claim(&backend, slot(SPREAD, partition), owner(1)).await;
            for n in 1..=20 {
                if partition % 2 == 0 {
                    let outcome = backend.store.commit(impossible_step(&claim, n)).await;
                    assert!(outcome.is_err(), "a step into an unknown channel was committed");
                } else {
                    let own = write(u64::from(partition), &n.to_string(), Some("x"));
                    let step = Step { position: Some(n), ..Step::empty(claim.slot, claim.epoch) };
                    commit(&backend.store, Step { writes: vec![own], produced: vec![message(SINGLE, n)], ..step })
                        .await;
                }
            }
        }));
    }
    for task in tasks {
        assert!(task.await.is_ok(), "a step failed because another one did");
    }
    for partition in (1..8).step_by(2) {
        let rows = ok(backend.store.read(vec![all_rows(partition)]).await);
        assert_eq!(rows[0].len(), 20, "a step lost its writes because another one failed");
    }
    let stats = ok(backend.store.stats().await);
    let single = stats.iter().find(|line| line.slot == slot(SINGLE, 0));
    assert_eq!(single.map(|line| line.last), Some(80), "steps that failed used up numbers, or others lost theirs");
}

/// Durability at return.
pub async fn what_is_committed_survives_a_restart<F: Fixture>() {
    let place = F::fresh();
    let backend = place.open(None).await;
    let claim = claim(&backend, slot(SPREAD, 0), owner(1)).await;
    for n in 1..=5 {
        commit(&backend.store, full_step(&claim, n)).await;
    }
    let before = everything(&backend.store).await;
    let backend = place.reopen(backend).await;
    assert_eq!(everything(&backend.store).await, before, "a restart changed what was committed");
    commit(&backend.store, full_step(&claim, 6)).await;
}

/// One call of `read` is one consistent state.
pub async fn a_read_sees_a_step_wholly_or_not_at_all<F: Fixture>() {
    let place = F::fresh();
    let backend = place.open(None).await;
    let claim = claim(&backend, slot(SPREAD, 0), owner(1)).await;
    let done = Arc::new(AtomicBool::new(false));
    let reader = {
        let (store, done) = (Arc::clone(&backend.store), Arc::clone(&done));
        tokio::spawn(async move {
            while !done.load(Ordering::SeqCst) {
                let rows = ok(store.read(vec![one_row(0, "a"), one_row(1, "b"), all_rows(2)]).await);
                let first = rows[0].first().map(|row| &row.1);
                assert_eq!(first, rows[1].first().map(|row| &row.1), "a read saw half of a step");
                assert_eq!(first, rows[2].first().map(|row| &row.1), "a read saw half of a step");
            }
        })
    };
    for n in 1..=200 {
        let value = n.to_string();
        let writes = vec![write(0, "a", Some(&value)), write(1, "b", Some(&value)), write(2, "c", Some(&value))];
        commit(&backend.store, Step { writes, position: Some(n), ..Step::empty(claim.slot, claim.epoch) }).await;
    }
    done.store(true, Ordering::SeqCst);
    assert!(reader.await.is_ok(), "the reader failed");
}

/// What a commit returned for is there for the very next read.
pub async fn an_owner_reads_its_own_last_commit<F: Fixture>() {
    let place = F::fresh();
    let backend = place.open(None).await;
    let claim = claim(&backend, slot(SPREAD, 0), owner(1)).await;
    for n in 1..=100 {
        let value = n.to_string();
        let writes = vec![write(0, "a", Some(&value))];
        commit(&backend.store, Step { writes, ..Step::empty(claim.slot, claim.epoch) }).await;
        let rows = ok(backend.store.read(vec![one_row(0, "a")]).await);
        assert_eq!(rows[0].first().map(|row| row.1.clone()), Some(sealed(&value)), "a read missed the last commit");
    }
}

/// A duplicate step changes nothing.
pub async fn a_position_that_does_not_move_forward_is_refused<F: Fixture>() {
    let place = F::fresh();
    let backend = place.open(None).await;
    let store = &backend.store;
    let claim = claim(&backend, slot(SPREAD, 0), owner(1)).await;
    commit(store, full_step(&claim, 5)).await;
    let before = everything(store).await;
    for position in [5, 4, 0] {
        let refused = store.commit(full_step(&claim, position)).await;
        let right = matches!(refused, Err(StoreError::Position { stored: 5, step, .. }) if step == position);
        assert!(right, "position {position} after 5 was answered with {refused:?}");
    }
    assert_eq!(everything(store).await, before, "a refused step left something behind");
    let still = Step { writes: vec![write(3, "x", Some("x"))], ..Step::empty(claim.slot, claim.epoch) };
    commit(store, still).await;
    assert_eq!(everything(store).await.stats, before.stats, "a step without a position moved it");
}
