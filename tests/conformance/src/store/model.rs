//! Random steps against the in-memory reference: whatever the steps, both show the same.

use super::{everything, ok, slots};
use crate::fixture::{Fixture, SINGLE, SPREAD, WIDE, channel, id, key, message, owner, sealed, slot};
use crate::runner::Backend;
use bytes::Bytes;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use schemas::Millis;
use zegel_core::memory::Memory;
use zegel_core::slot::spaces::TEST;
use zegel_core::store::{DeadLetter, Parked, ParkedJob, TimerChange};
use zegel_core::{Delivery, Outgoing, Slot, Step, Write};

/// Histories per run, and operations in each: a second or two on a disk.
const HISTORIES: usize = 12;
const OPERATIONS: usize = 60;

/// One call, with small numbers so that calls meet each other. Epochs and positions are relative to what is stored.
#[derive(Debug, Clone)]
enum Operation {
    Claim { slot: usize, owner: u8, now: i64 },
    Renew { slot: usize, stale: bool, until: i64 },
    Release { slot: usize, stale: bool, clean: bool },
    Attempt { slot: usize, stale: bool, number: u64 },
    Resolve { slot: usize, number: u64, again: bool },
    Publish { numbers: Vec<u64> },
    Commit { slot: usize, stale: bool, ahead: Option<u64>, step: Box<Step> },
    Reopen,
}

/// Random histories leave the same behind in the backend and in [`Memory`], and every answer is the same.
pub async fn random_steps_leave_what_the_reference_says<F: Fixture>() {
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    for _ in 0..HISTORIES {
        let history = proptest::collection::vec(operation(), OPERATIONS).new_tree(&mut runner);
        let history = history.unwrap_or_else(|reason| panic!("no history could be made: {reason}")).current();
        compare::<F>(&history).await;
    }
}

async fn compare<F: Fixture>(history: &[Operation]) {
    let place = F::fresh();
    let mut backend = place.open(None).await;
    let memory = Memory::new();
    let reference = Backend { broker: memory.clone(), store: memory };
    let mut epochs = vec![0; slots().len()];
    for (n, operation) in history.iter().enumerate() {
        if matches!(operation, Operation::Reopen) {
            backend = place.reopen(backend).await;
        } else {
            let expected = perform(&reference, operation, &mut epochs.clone()).await;
            let got = perform(&backend, operation, &mut epochs).await;
            assert_eq!(got, expected, "operation {n} is answered differently: {operation:?}\nof {history:?}");
        }
    }
    assert_eq!(everything(&backend.store).await, everything(&reference.store).await, "after {history:?}");
    for slot in slots() {
        assert_eq!(delivered(&backend, slot).await, delivered(&reference, slot).await, "messages after {history:?}");
    }
}

/// Does the operation and says in words what came of it.
async fn perform(backend: &Backend, operation: &Operation, epochs: &mut [u64]) -> String {
    let store = &backend.store;
    let epoch_of = |slot: usize, stale: bool| if stale { epochs[slot].saturating_sub(1) } else { epochs[slot] };
    match operation.clone() {
        Operation::Claim { slot, owner: by, now } => {
            let claimed = store.claim(slots()[slot], owner(by), Millis(now), 50).await;
            if let Ok(Some(claim)) = &claimed {
                epochs[slot] = claim.epoch;
            }
            format!("{claimed:?}")
        }
        Operation::Renew { slot, stale, until } => {
            format!("{:?}", store.renew(slots()[slot], epoch_of(slot, stale), Millis(until)).await)
        }
        Operation::Release { slot, stale, clean } => {
            format!("{:?}", store.release(slots()[slot], epoch_of(slot, stale), clean).await)
        }
        Operation::Attempt { slot, stale, number } => {
            format!("{:?}", store.begin_attempt(slots()[slot], epoch_of(slot, stale), number).await)
        }
        Operation::Resolve { slot, number, again } => {
            let again = again.then(|| message(SINGLE, number));
            format!("{:?}", store.resolve_dead(slots()[slot], number, again).await)
        }
        Operation::Publish { numbers } => {
            let batch = numbers.iter().map(|n| message(SPREAD, *n)).collect();
            format!("{:?}", backend.broker.publish(batch).await)
        }
        Operation::Commit { slot, stale, ahead, mut step } => {
            step.slot = slots()[slot];
            step.epoch = epoch_of(slot, stale);
            for letter in &mut step.dead {
                letter.slot = step.slot;
            }
            if let Some(ahead) = ahead {
                let line = ok(store.stats().await).into_iter().find(|line| line.slot == step.slot);
                step.position = line.map(|line| line.position + ahead);
            }
            format!("{:?}", store.commit(*step).await)
        }
        Operation::Reopen => String::new(),
    }
}

/// What is left of a partition after its slot's position.
async fn delivered(backend: &Backend, slot: Slot) -> Vec<Delivery> {
    let lines = ok(backend.store.stats().await);
    let line = lines.iter().find(|line| line.slot == slot).unwrap_or_else(|| panic!("a slot has no line"));
    let mut stream = crate::fixture::subscribe(backend, slot, line.position).await;
    let mut all = Vec::new();
    while line.position + (all.len() as u64) < line.last {
        all.extend(crate::fixture::next(&mut *stream, WIDE).await.deliveries);
    }
    all
}

fn operation() -> impl Strategy<Value = Operation> {
    let slot = 0..slots().len();
    let stale = prop::bool::weighted(0.1);
    prop_oneof![
        3 => (slot.clone(), 1..3u8, 0..200i64).prop_map(|(slot, owner, now)| Operation::Claim { slot, owner, now }),
        1 => (slot.clone(), stale, 0..200i64)
            .prop_map(|(slot, stale, until)| Operation::Renew { slot, stale, until }),
        1 => (slot.clone(), stale, any::<bool>())
            .prop_map(|(slot, stale, clean)| Operation::Release { slot, stale, clean }),
        2 => (slot.clone(), stale, 0..6u64)
            .prop_map(|(slot, stale, number)| Operation::Attempt { slot, stale, number }),
        2 => (slot.clone(), 0..6u64, any::<bool>())
            .prop_map(|(slot, number, again)| Operation::Resolve { slot, number, again }),
        2 => prop::collection::vec(0..50u64, 0..4).prop_map(|numbers| Operation::Publish { numbers }),
        12 => (slot, stale, prop::option::of(0..4u64), step())
            .prop_map(|(slot, stale, ahead, step)| Operation::Commit { slot, stale, ahead, step: Box::new(step) }),
        1 => Just(Operation::Reopen),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let write = (0..4u64, "[ab]{0,2}", prop::option::of("[a-z]{0,4}")).prop_map(|(owner, sub, value)| Write {
        space: TEST,
        owner: key(owner),
        sub: Bytes::from(sub),
        value: value.map(|text| sealed(&text)),
    });
    let produced = (any::<bool>(), 0..50u64).prop_map(|(single, n)| message(if single { SINGLE } else { SPREAD }, n));
    let unknown = (produced.clone(), prop::bool::weighted(0.02))
        .prop_map(|(message, unknown)| if unknown { Outgoing { channel: 60_000, ..message } } else { message });
    let name = prop::sample::select(vec!["a", "b"]);
    let timer = prop_oneof![
        (0..3u64, name.clone(), 0..20i64, produced).prop_map(|(n, name, due, message)| TimerChange::Set {
            key: key(n),
            name,
            due: Millis(due),
            message
        }),
        (0..3u64, name.clone()).prop_map(|(n, name)| TimerChange::Cancel { key: key(n), name: name.to_owned() }),
    ];
    let fired = (0..3u64, name).prop_map(|(n, name)| (key(n), name.to_owned()));
    let few = |up_to: usize| 0..up_to;
    (
        prop::collection::vec(write, few(4)),
        prop::collection::vec(unknown, few(4)),
        prop::collection::vec(timer, few(3)),
        prop::collection::vec(fired, few(2)),
        prop::collection::vec(parked(), few(3)),
        prop::collection::vec(0..6u64, few(2)),
        prop::collection::vec(dead(), few(2)),
    )
        .prop_map(|(writes, produced, timers, fired, parked, unparked, dead)| Step {
            writes,
            produced,
            timers,
            fired,
            parked,
            unparked,
            dead,
            ..Step::empty(slot(SINGLE, 0), 0)
        })
}

fn parked() -> impl Strategy<Value = Parked> {
    let job = (prop::option::of("[a-z]{0,3}"), 0..4u32).prop_map(|(result, starts)| ParkedJob {
        spec: sealed("spec"),
        result: result.map(|text| sealed(&text)),
        starts,
    });
    (0..6u64, prop::option::of(job), 0..9i64, 0..4u32).prop_map(|(n, job, due, attempt)| Parked {
        number: n,
        key: key(n),
        id: id(n),
        body: sealed(channel(SINGLE).name),
        due: Millis(due),
        attempt,
        job,
    })
}

fn dead() -> impl Strategy<Value = DeadLetter> {
    (0..6u64, 0..4u32).prop_map(|(n, attempts)| DeadLetter {
        slot: slot(SINGLE, 0),
        number: n,
        key: key(n),
        id: id(n),
        body: sealed("dead"),
        code: "ZGL-TEST".to_owned(),
        attempts,
        at: Millis(3),
    })
}
