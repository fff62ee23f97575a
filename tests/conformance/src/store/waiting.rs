//! What waits: timers, parked messages, dead letters, attempts on record, and how many there are.

use super::{commit, everything, ok};
use crate::fixture::{
    ALL, Fixture, SINGLE, SPREAD, claim, id, id_number, key, message, owner, sealed, slot, subscribe, take,
};
use schemas::Millis;
use std::sync::Arc;
use zegel_core::store::{Claim, DeadFilter, DeadLetter, Parked, ParkedJob, TimerChange};
use zegel_core::{Slot, Step, Store};

fn set(key_number: u64, name: &'static str, due: i64, n: u64) -> TimerChange {
    TimerChange::Set { key: key(key_number), name, due: Millis(due), message: message(SINGLE, n) }
}

fn cancel(key_number: u64, name: &str) -> TimerChange {
    TimerChange::Cancel { key: key(key_number), name: name.to_owned() }
}

async fn due(store: &Arc<dyn Store>, slot: Slot, now: i64, limit: usize) -> (Vec<u64>, Option<i64>) {
    let (timers, next) = ok(store.due_timers(slot, Millis(now), limit).await);
    (timers.iter().map(|timer| id_number(timer.message.id)).collect(), next.map(|next| next.0))
}

/// Set, replace, cancel; oldest first; and when the next one is due.
pub async fn timers_come_due_in_order_and_are_replaced_and_cancelled<F: Fixture>() {
    let place = F::fresh();
    let backend = place.open(None).await;
    let claim = claim(&backend, slot(SPREAD, 0), owner(1)).await;
    let step = |timers| Step { timers, ..Step::empty(claim.slot, claim.epoch) };
    let timers =
        vec![set(1, "b", 20, 1), set(1, "a", 30, 2), set(2, "a", 10, 3), set(3, "a", 20, 4), set(4, "a", 99, 5)];
    commit(&backend.store, step(timers)).await;
    commit(&backend.store, step(vec![set(1, "a", 15, 6), cancel(3, "a"), cancel(3, "never"), cancel(9, "a")])).await;
    let backend = place.reopen(backend).await;
    let store = &backend.store;
    assert_eq!(due(store, claim.slot, 9, 9).await, (vec![], Some(10)), "before the first");
    assert_eq!(due(store, claim.slot, 10, 9).await, (vec![3], Some(15)), "a timer is due at its instant");
    assert_eq!(due(store, claim.slot, 50, 9).await, (vec![3, 6, 1], Some(99)), "oldest first, replaced and cancelled");
    assert_eq!(due(store, claim.slot, 50, 2).await, (vec![3, 6], Some(20)), "what is left by the limit is next");
    assert_eq!(due(store, claim.slot, 99, 9).await, (vec![3, 6, 1, 5], None), "nothing after the last");
    assert_eq!(due(store, slot(SPREAD, 1), 99, 9).await, (vec![], None), "timers of another slot");
    let (timers, _) = ok(store.due_timers(claim.slot, Millis(10), 1).await);
    let expected = (key(2), "a", Millis(10), message(SINGLE, 3));
    assert_eq!((timers[0].key, &*timers[0].name, timers[0].due, timers[0].message.clone()), expected, "altered");
}

/// Firing takes a timer away; setting it in the same step is newer than that.
pub async fn a_timer_that_fired_may_be_set_again_in_the_same_step<F: Fixture>() {
    let place = F::fresh();
    let backend = place.open(None).await;
    let claim = claim(&backend, slot(SPREAD, 0), owner(1)).await;
    let step = Step::empty(claim.slot, claim.epoch);
    commit(&backend.store, Step { timers: vec![set(1, "a", 10, 1), set(2, "a", 10, 2)], ..step.clone() }).await;
    let fired = vec![(key(1), "a".to_owned()), (key(2), "a".to_owned())];
    let produced = vec![message(SINGLE, 1), message(SINGLE, 2)];
    commit(&backend.store, Step { timers: vec![set(1, "a", 40, 3)], fired, produced, ..step }).await;
    assert_eq!(
        due(&backend.store, claim.slot, 50, 9).await,
        (vec![3], None),
        "a fired timer stays, or a new one is lost"
    );
}

fn parked(n: u64, due: i64, job: Option<ParkedJob>) -> Parked {
    Parked { number: n, key: key(n % 3), id: id(n), body: sealed(&"x".repeat(10)), due: Millis(due), attempt: 1, job }
}

/// Every field, re-parking, leaving, and bounded listing.
pub async fn parked_messages_keep_everything_until_they_leave<F: Fixture>() {
    let place = F::fresh();
    let backend = place.open(None).await;
    let claim = claim(&backend, slot(SPREAD, 0), owner(1)).await;
    let step = |n| Step { position: Some(n), ..Step::empty(claim.slot, claim.epoch) };
    let job = |result: Option<&str>| Some(ParkedJob { spec: sealed("spec"), result: result.map(sealed), starts: 2 });
    let first = vec![parked(1, 5, None), parked(2, i64::MAX, job(None)), parked(3, i64::MAX, None), parked(4, 0, None)];
    commit(&backend.store, Step { parked: first.clone(), ..step(4) }).await;
    let again = Parked { attempt: 9, due: Millis(77), job: job(Some("")), body: sealed("other"), ..first[1].clone() };
    commit(&backend.store, Step { parked: vec![again.clone()], unparked: vec![3, 99], ..step(5) }).await;
    let backend = place.reopen(backend).await;
    let store = &backend.store;
    let found = ok(store.parked(claim.slot, vec![1, 2, 3, 4, 99]).await);
    assert_eq!(found, [first[0].clone(), again, first[3].clone()], "parked messages were altered, lost or kept");
    let heads = ok(store.parked_heads(claim.slot, 0, ALL).await);
    let seen: Vec<_> = heads.iter().map(|head| (head.number, head.due.0, head.bytes, head.job_pending)).collect();
    assert_eq!(seen, [(1, 5, 10, false), (2, 77, 5, false), (4, 0, 10, false)], "heads say other things");
    let listed = ok(store.parked_heads(claim.slot, 1, 1).await);
    assert_eq!(listed.iter().map(|head| head.number).collect::<Vec<_>>(), [2], "heads after a number, at most one");
    assert!(ok(store.parked_heads(slot(SPREAD, 1), 0, ALL).await).is_empty(), "another slot's parking place");
    everything(store).await;
}

fn dead(slot: Slot, n: u64) -> DeadLetter {
    DeadLetter {
        slot,
        number: n,
        key: key(n),
        id: id(n),
        body: sealed("body"),
        code: "ZGL-TEST".to_owned(),
        attempts: 5,
        at: Millis(1_000),
    }
}

async fn bury(store: &Arc<dyn Store>, claim: &Claim, numbers: std::ops::RangeInclusive<u64>) {
    let letters: Vec<DeadLetter> = numbers.clone().map(|n| dead(claim.slot, n)).collect();
    let step = Step { position: Some(*numbers.end()), dead: letters, ..Step::empty(claim.slot, claim.epoch) };
    commit(store, step).await;
}

/// A replay happens once, however many ask for it, and takes the held place with it.
pub async fn a_dead_letter_is_resolved_once<F: Fixture>() {
    let place = F::fresh();
    let backend = place.open(None).await;
    let claim = claim(&backend, slot(SPREAD, 0), owner(1)).await;
    bury(&backend.store, &claim, 1..=3).await;
    let held = vec![parked(1, i64::MAX, None), parked(2, i64::MAX, None)];
    commit(&backend.store, Step { parked: held, ..Step::empty(claim.slot, claim.epoch) }).await;
    let replays: Vec<_> = (0..8)
        .map(|_| {
            let store = Arc::clone(&backend.store);
            tokio::spawn(async move { ok(store.resolve_dead(slot(SPREAD, 0), 1, Some(message(SINGLE, 1))).await) })
        })
        .collect();
    let mut resolved = 0;
    for replay in replays {
        resolved += usize::from(replay.await.is_ok_and(|found| found));
    }
    assert_eq!(resolved, 1, "a dead letter was replayed {resolved} times");
    let store = &backend.store;
    assert!(ok(store.resolve_dead(claim.slot, 3, None).await), "a dead letter cannot be dropped");
    assert!(!ok(store.resolve_dead(claim.slot, 3, None).await), "a dead letter was dropped twice");
    assert!(!ok(store.resolve_dead(claim.slot, 99, Some(message(SINGLE, 9))).await), "one that never was was replayed");
    let backend = place.reopen(backend).await;
    let store = &backend.store;
    let left = ok(store.dead(DeadFilter { limit: ALL, ..DeadFilter::default() }).await);
    assert_eq!(left, [dead(claim.slot, 2)], "other dead letters are left than should be");
    let heads = ok(store.parked_heads(claim.slot, 0, ALL).await);
    assert_eq!(heads.iter().map(|head| head.number).collect::<Vec<_>>(), [2], "the place that it held is not free");
    let mut stream = subscribe(&backend, slot(SINGLE, 0), 0).await;
    let got = take(&mut *stream, 1).await;
    assert_eq!((got[0].number, got[0].id), (1, id(1)), "the replayed message is not there once");
}

/// Order, filters, and continuing after a page.
pub async fn dead_letters_are_listed_in_order_and_filtered<F: Fixture>() {
    let place = F::fresh();
    let backend = place.open(None).await;
    let slots = [slot(SINGLE, 0), slot(SPREAD, 1), slot(SPREAD, 0)];
    for slot in slots {
        let claim = claim(&backend, slot, owner(1)).await;
        bury(&backend.store, &claim, 1..=3).await;
    }
    let list = async |filter| -> Vec<(u16, u16, u64)> {
        let letters = ok(backend.store.dead(filter).await);
        letters.iter().map(|letter| (letter.slot.channel, letter.slot.partition, letter.number)).collect()
    };
    let all = DeadFilter { limit: ALL, ..DeadFilter::default() };
    let whole = list(all).await;
    let mut sorted = whole.clone();
    sorted.sort_unstable();
    assert!(whole == sorted && whole.len() == 9, "dead letters are not listed in order, or not all");
    assert_eq!(list(DeadFilter { limit: 4, ..all }).await, whole[..4], "a page");
    let rest = DeadFilter { after: Some(whole[3]), ..all };
    assert_eq!(list(rest).await, whole[4..], "the page after it");
    let one_channel = DeadFilter { channel: Some(slots[0].channel), ..all };
    assert_eq!(list(one_channel).await.len(), 3, "of one channel");
    assert_eq!(list(DeadFilter { id: Some(id(2)), ..all }).await.len(), 3, "of one id");
    assert_eq!(list(DeadFilter { limit: 0, ..all }).await, [], "a limit of nothing");
}

/// What finds the message that kills the process.
pub async fn an_attempt_is_counted_across_restarts_until_the_message_is_done<F: Fixture>() {
    let place = F::fresh();
    let mut backend = place.open(None).await;
    let own = slot(SPREAD, 0);
    for expected in 1..=3 {
        let epoch = claim(&backend, own, owner(1)).await.epoch;
        assert_eq!(ok(backend.store.begin_attempt(own, epoch, 7).await), expected, "attempts were forgotten");
        backend = place.reopen(backend).await;
    }
    let epoch = claim(&backend, own, owner(1)).await.epoch;
    let store = &backend.store;
    assert_eq!(ok(store.begin_attempt(own, epoch, 8).await), 1, "attempts of one message count for another");
    assert_eq!(ok(store.begin_attempt(own, epoch, 0).await), 1, "attempts at one message count for the slot");
    commit(store, Step { position: Some(7), ..Step::empty(own, epoch) }).await;
    assert_eq!(ok(store.begin_attempt(own, epoch, 0).await), 2, "a slot's unclean ends are forgotten too early");
    assert_eq!(ok(store.begin_attempt(own, epoch, 7).await), 1, "an applied message still counts attempts");
    assert_eq!(ok(store.begin_attempt(own, epoch, 8).await), 2, "attempts were forgotten with another message's");
    commit(store, Step { position: Some(9), ..Step::empty(own, epoch) }).await;
    assert_eq!(
        ok(store.begin_attempt(own, epoch, 7).await),
        2,
        "a parked message's attempts ended with its successors"
    );
    commit(store, Step { unparked: vec![7], ..Step::empty(own, epoch) }).await;
    assert_eq!(ok(store.begin_attempt(own, epoch, 7).await), 1, "a message that left the parking place counts on");
    ok(store.release(own, epoch, true).await);
    let epoch = claim(&backend, own, owner(1)).await.epoch;
    let store = &backend.store;
    assert_eq!(ok(store.begin_attempt(own, epoch, 0).await), 1, "a clean end does not end the count of unclean ones");
    assert_eq!(ok(store.begin_attempt(own, epoch, 7).await), 2, "a clean end forgets attempts at a message");
}

/// One line per slot, with its own numbers.
pub async fn statistics_count_what_is_there<F: Fixture>() {
    let place = F::fresh();
    let backend = place.open(None).await;
    let claim = claim(&backend, slot(SPREAD, 0), owner(1)).await;
    bury(&backend.store, &claim, 1..=2).await;
    let timers = vec![set(1, "a", 1, 1), set(1, "b", 1, 1), set(1, "a", 2, 1)];
    let own = crate::fixture::key(u64::from(claim.slot.partition) << 32);
    let produced = vec![zegel_core::Outgoing { key: own, ..message(SPREAD, 1) }; 6];
    let step = Step {
        position: Some(4),
        timers,
        parked: vec![parked(3, 1, None)],
        produced,
        ..Step::empty(claim.slot, claim.epoch)
    };
    commit(&backend.store, step).await;
    let backend = place.reopen(backend).await;
    let lines = ok(backend.store.stats().await);
    let line = lines.iter().find(|line| line.slot == claim.slot).unwrap_or_else(|| panic!("a slot has no line"));
    let counts = (line.last, line.position, line.parked, line.dead, line.timers);
    assert_eq!(counts, (6, 4, 1, 2, 2), "statistics count other things than there are");
    let others = lines.iter().filter(|line| line.slot != claim.slot);
    assert!(others.clone().all(|line| line.parked + line.dead + line.timers == 0), "another slot's statistics");
    let known: usize = topology::CHANNELS.iter().map(|c| usize::from(c.partitions) * c.groups.len()).sum();
    assert_eq!(lines.len(), known, "not one line per slot");
}
