//! Ownership: leases, epochs, fencing, and the clean flag.

use super::{commit, everything, ok};
use crate::fixture::{Fixture, SPREAD, claim, owner, slot};
use schemas::Millis;
use std::sync::Arc;
use zegel_core::{Step, Store, StoreError};

fn expect_fenced<T: std::fmt::Debug>(outcome: Result<T, StoreError>, what: &str) {
    assert!(matches!(outcome, Err(StoreError::Fenced { .. })), "{what} was answered with {outcome:?}, not fenced");
}

async fn expect_powerless(store: &Arc<dyn Store>, epoch: u64, who: &str) {
    let slot = slot(SPREAD, 0);
    let before = everything(store).await;
    let step = Step { position: Some(1_000), ..Step::empty(slot, epoch) };
    expect_fenced(store.commit(step).await, &format!("a commit of {who}"));
    expect_fenced(store.renew(slot, epoch, Millis(i64::MAX)).await, &format!("a renewal of {who}"));
    expect_fenced(store.begin_attempt(slot, epoch, 1).await, &format!("an attempt of {who}"));
    expect_fenced(store.release(slot, epoch, true).await, &format!("a release of {who}"));
    assert_eq!(everything(store).await, before, "{who} changed something");
}

/// I2: whoever lost its lease cannot write.
pub async fn a_claim_raises_the_epoch_and_fences_the_old_owner<F: Fixture>() {
    let place = F::fresh();
    let backend = place.open(None).await;
    let store = &backend.store;
    let slot = slot(SPREAD, 0);
    expect_powerless(store, 0, "somebody who never claimed").await;
    let first = claim(&backend, slot, owner(1)).await;
    assert!(first.epoch > 0 && first.position == 0, "the first claim of a slot is odd: {first:?}");
    commit(store, Step { position: Some(3), ..Step::empty(slot, first.epoch) }).await;
    let second = ok(store.claim(slot, owner(2), Millis(3_600_000), 1_000).await);
    let second = second.unwrap_or_else(|| panic!("a lease that ran out cannot be taken"));
    assert!(second.epoch > first.epoch, "a claim did not raise the epoch");
    assert_eq!(second.position, 3, "a claim does not say where its predecessor stopped");
    expect_powerless(store, first.epoch, "the old owner").await;
    expect_powerless(store, second.epoch + 1, "an owner of the future").await;
    commit(store, Step { position: Some(4), ..Step::empty(slot, second.epoch) }).await;
    let backend = place.reopen(backend).await;
    expect_powerless(&backend.store, first.epoch, "the old owner after a restart").await;
    commit(&backend.store, Step { position: Some(5), ..Step::empty(slot, second.epoch) }).await;
}

/// Leases: expiry, renewal, release, and claiming one's own slot again.
pub async fn a_lease_is_not_taken_before_it_runs_out<F: Fixture>() {
    let place = F::fresh();
    let backend = place.open(None).await;
    let store = &backend.store;
    let slot = slot(SPREAD, 0);
    let taken = ok(store.claim(slot, owner(1), Millis(1_000), 500).await);
    let first = taken.unwrap_or_else(|| panic!("a free slot was refused"));
    assert_eq!(ok(store.claim(slot, owner(2), Millis(1_499), 500).await), None, "a lease was taken while it ran");
    ok(store.renew(slot, first.epoch, Millis(2_000)).await);
    assert_eq!(ok(store.claim(slot, owner(2), Millis(1_999), 500).await), None, "a renewal did not count");
    let again = ok(store.claim(slot, owner(1), Millis(1_600), 500).await);
    let again = again.unwrap_or_else(|| panic!("an owner was refused its own slot"));
    assert!(again.epoch > first.epoch, "claiming one's own slot again did not raise the epoch");
    let backend = place.reopen(backend).await;
    let store = &backend.store;
    assert_eq!(ok(store.claim(slot, owner(2), Millis(2_099), 500).await), None, "a restart shortened a lease");
    let next = ok(store.claim(slot, owner(2), Millis(2_100), 500).await);
    let next = next.unwrap_or_else(|| panic!("a lease that ran out cannot be taken"));
    ok(store.release(slot, next.epoch, true).await);
    expect_powerless(store, next.epoch, "an owner that released").await;
    assert!(ok(store.claim(slot, owner(3), Millis(2_101), 500).await).is_some(), "a released slot cannot be taken");
}

/// The clean flag is cleared by a claim and set by a clean release only.
pub async fn a_slot_is_clean_only_when_its_owner_said_so<F: Fixture>() {
    let place = F::fresh();
    let backend = place.open(None).await;
    let slot = slot(SPREAD, 0);
    let first = claim(&backend, slot, owner(1)).await;
    assert!(first.clean, "a slot that nobody ever owned is called unclean");
    let second = claim(&backend, slot, owner(1)).await;
    assert!(!second.clean, "a slot whose owner never released it is called clean");
    ok(backend.store.release(slot, second.epoch, false).await);
    let third = claim(&backend, slot, owner(2)).await;
    assert!(!third.clean, "an unclean release is called clean");
    ok(backend.store.release(slot, third.epoch, true).await);
    let backend = place.reopen(backend).await;
    let fourth = claim(&backend, slot, owner(1)).await;
    assert!(fourth.clean, "a clean release is called unclean after a restart");
}

/// 16 owners at once.
pub async fn many_claim_one_slot_and_one_gets_it<F: Fixture>() {
    let place = F::fresh();
    let backend = place.open(None).await;
    let claims: Vec<_> = (1..=16)
        .map(|n| {
            let store = Arc::clone(&backend.store);
            tokio::spawn(async move { ok(store.claim(slot(SPREAD, 0), owner(n), Millis(0), 1_000).await) })
        })
        .collect();
    let mut got = 0;
    for one in claims {
        got += usize::from(one.await.is_ok_and(|claim| claim.is_some()));
    }
    assert_eq!(got, 1, "{got} owners got the same slot at the same time");
}

/// The division of slots rests on who is alive.
pub async fn owners_are_alive_until_their_time_runs_out<F: Fixture>() {
    let place = F::fresh();
    let backend = place.open(None).await;
    let alive =
        async |group, n, now, until| ok(backend.store.announce(group, owner(n), Millis(now), Millis(until)).await);
    assert_eq!(alive(1, 2, 0, 1_000).await, [owner(2)], "an owner does not see itself");
    assert_eq!(alive(1, 1, 500, 1_500).await, [owner(1), owner(2)], "owners are not listed in ascending order");
    assert_eq!(alive(2, 3, 500, 9_000).await, [owner(3)], "an owner of one group is listed in another");
    assert_eq!(alive(1, 1, 1_001, 2_001).await, [owner(1)], "an owner is listed after its time ran out");
    assert_eq!(alive(1, 2, 1_100, 3_000).await, [owner(1), owner(2)], "an owner that came back is not listed");
    assert_eq!(alive(1, 1, 1_200, 0).await, [owner(2)], "an owner that left is listed");
}
