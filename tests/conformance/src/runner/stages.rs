//! One process: order, parking, timers, failures, dead letters, jobs, cycles.

use super::world::{START, append, drain, key, probe};
use super::{Act, Backend, Scripted, World};
use std::collections::BTreeMap;
use std::time::Duration;
use zegel_core::store::DeadFilter;

/// I2, I3: 4,000 messages over 40 keys, each list complete and in order.
pub async fn effects_of_a_key_are_in_order_and_exactly_once(backend: Backend) {
    let world = World::new(backend);
    let mut runner = world.runner(1);
    runner.start(Scripted::on("mailbox.deliver"));
    for n in 1..=100u64 {
        world.publish("mailbox.deliver", (0..40).map(|k| (key(k), append(n))).collect()).await;
    }
    let expected: Vec<u64> = (1..=100).collect();
    for k in 0..40 {
        world.expect_list(key(k), &expected, "effects are missing, doubled or out of order").await;
    }
    drain(runner).await;
}

/// Keys of one partition do not wait for each other.
pub async fn a_parked_key_does_not_hold_other_keys(backend: Backend) {
    let world = World::new(backend);
    let mut runner = world.runner(1);
    runner.start(Scripted::on("mailbox.deliver"));
    let far = START.plus(3_600_000).0;
    world.publish("mailbox.deliver", vec![(key(8), probe(1, Act::ParkUntil(far))), (key(8), append(2))]).await;
    world.publish("mailbox.deliver", (1..=20).map(|n| (key(16), append(n))).collect()).await;
    world.expect_list(key(16), &(1..=20).collect::<Vec<_>>(), "another key of the partition waits").await;
    assert!(world.list(key(8)).await.is_empty(), "a message overtook its parked predecessor");
    drain(runner).await;
}

/// I3 across parking, also when the process changes meanwhile.
pub async fn a_parked_message_wakes_and_its_followers_keep_order(backend: Backend) {
    let world = World::new(backend);
    let mut runner = world.runner(1);
    runner.start(Scripted::on("mailbox.deliver"));
    let until = START.plus(60_000).0;
    let mut messages = vec![(key(8), append(1)), (key(8), probe(2, Act::ParkUntil(until)))];
    messages.extend((3..=30).map(|n| (key(8), append(n))));
    world.publish("mailbox.deliver", messages).await;
    world.expect_list(key(8), &[1], "the message before the parked one is missing").await;
    world.settle().await;
    drain(runner).await;
    let mut runner = world.runner(2);
    runner.start(Scripted::on("mailbox.deliver"));
    world.settle().await;
    assert_eq!(world.list(key(8)).await, [1], "a message woke before its time");
    world.clock.advance(60_000);
    let expected: Vec<u64> = (1..=30).collect();
    world.expect_list(key(8), &expected, "parked messages woke out of order or not at all").await;
    drain(runner).await;
}

/// Timers survive a change of owner, fire once, and not at all when cancelled.
pub async fn timers_fire_once_when_due_and_not_when_cancelled(backend: Backend) {
    let world = World::new(backend);
    let mut runner = world.runner(1);
    runner.start(Scripted::on("mailbox.deliver"));
    let due = START.plus(30_000).0;
    world.publish("mailbox.deliver", vec![(key(1), probe(7, Act::Timer(due))), (key(1), append(1))]).await;
    world.publish("mailbox.deliver", vec![(key(2), probe(7, Act::Timer(due))), (key(2), probe(0, Act::Cancel))]).await;
    world.publish("mailbox.deliver", vec![(key(2), append(1))]).await;
    world.expect_list(key(1), &[1], "the message after setting a timer is missing").await;
    world.expect_list(key(2), &[1], "the message after cancelling a timer is missing").await;
    drain(runner).await;
    world.clock.advance(30_000);
    let mut runner = world.runner(2);
    runner.start(Scripted::on("mailbox.deliver"));
    world.expect_list(key(1), &[1, 7], "an overdue timer does not fire after a restart").await;
    world.clock.advance(60_000);
    world.settle().await;
    assert_eq!(world.list(key(1)).await, [1, 7], "a timer fired twice");
    assert_eq!(world.list(key(2)).await, [1], "a cancelled timer fired");
    drain(runner).await;
}

/// Failures and panics are attempts; the key waits, others do not.
pub async fn a_failing_message_is_retried_and_a_panic_counts(backend: Backend) {
    let world = World::new(backend);
    let mut runner = world.runner(1);
    runner.start(Scripted::on("mailbox.deliver"));
    let messages = vec![
        (key(1), probe(1, Act::Fail(2))),
        (key(1), append(2)),
        (key(9), probe(1, Act::Panic(1))),
        (key(9), append(2)),
        (key(17), append(1)),
    ];
    world.publish("mailbox.deliver", messages).await;
    world.expect_list(key(17), &[1], "a healthy key waits for a failing one").await;
    assert!(world.list(key(1)).await.is_empty(), "a message overtook its failing predecessor");
    for _ in 0..3 {
        world.clock.advance(700_000);
        world.settle().await;
    }
    world.expect_list(key(1), &[1, 2], "a failing message was not retried in order").await;
    world.expect_list(key(9), &[1, 2], "a panicking message was not retried in order").await;
    assert_eq!(world.metrics.panics.with_label_values(&["box"]).get(), 1, "a panic was not counted");
    drain(runner).await;
}

/// `continue`: after the last attempt the message is dead, the key goes on, a replay happens once.
pub async fn a_dead_message_lets_its_key_go_on_where_the_channel_says_so(backend: Backend) {
    let world = World::new(backend);
    let mut runner = world.runner(1);
    runner.start(Scripted::on("mailbox.deliver"));
    let messages = vec![(key(1), probe(1, Act::Fail(99))), (key(1), append(2)), (key(2), probe(1, Act::Broken))];
    world.publish("mailbox.deliver", messages).await;
    for _ in 0..8 {
        world.settle().await;
        world.clock.advance(700_000);
    }
    world.expect_list(key(1), &[2], "the key of a dead message does not go on").await;
    let filter = DeadFilter { limit: 10, ..DeadFilter::default() };
    let dead = world.backend.store.dead(filter).await.unwrap_or_default();
    assert_eq!(dead.len(), 2, "dead messages are not where an operator finds them");
    let letter = dead.iter().find(|letter| letter.key == key(1));
    assert_eq!(letter.map(|letter| letter.attempts), Some(5), "attempts: the first, and one per waiting time");
    drain(runner).await;
}

/// `hold`: later messages of the key wait for the operator, also across a restart.
pub async fn a_dead_message_holds_its_key_until_an_operator_resolves_it(backend: Backend) {
    let world = World::new(backend);
    let mut runner = world.runner(1);
    runner.start(Scripted::on("timestamp.entries"));
    let messages = vec![(key(1), probe(1, Act::Broken)), (key(1), append(2)), (key(9), append(1))];
    world.publish("timestamp.entries", messages).await;
    world.expect_list(key(9), &[1], "another key is held").await;
    drain(runner).await;
    let mut runner = world.runner(2);
    runner.start(Scripted::on("timestamp.entries"));
    world.publish("timestamp.entries", vec![(key(1), append(3))]).await;
    world.settle().await;
    assert!(world.list(key(1)).await.is_empty(), "a held key went on");
    let filter = DeadFilter { limit: 10, ..DeadFilter::default() };
    let dead = world.backend.store.dead(filter).await.unwrap_or_default();
    assert_eq!(dead.len(), 1, "the dead message is not where an operator finds it");
    let resolved = world.backend.store.resolve_dead(dead[0].slot, dead[0].number, None).await;
    assert!(matches!(resolved, Ok(true)), "a dead message cannot be dropped");
    let again = world.backend.store.resolve_dead(dead[0].slot, dead[0].number, None).await;
    assert!(matches!(again, Ok(false)), "a dead message can be resolved twice");
    for _ in 0..3 {
        world.clock.advance(5_000);
        world.settle().await;
    }
    world.expect_list(key(1), &[2, 3], "held messages do not go on, in order, after the operator's word").await;
    drain(runner).await;
}

/// A job's key waits, others do not; a failed job is started again; a restart starts an unfinished one again.
pub async fn a_job_delays_only_its_own_key_and_is_started_again_after_a_failure(backend: Backend) {
    let world = World::new(backend);
    let mut runner = world.runner(1);
    runner.start(Scripted::on("mailbox.submitted"));
    let messages = vec![(key(1), probe(1, Act::Job(1))), (key(1), append(2)), (key(9), append(1))];
    world.publish("mailbox.submitted", messages).await;
    world.expect_list(key(9), &[1], "another key waits for a job").await;
    world.settle().await;
    assert!(world.list(key(1)).await.is_empty(), "the message of a failed job, or the one behind it, was applied");
    drain(runner).await;
    world.clock.advance(5_000);
    let mut runner = world.runner(2);
    runner.start(Scripted::on("mailbox.submitted"));
    // Two failures and a success, each followed by a wait: on a slow machine a look may come before the next start.
    for _ in 0..100 {
        world.clock.advance(5_000);
        world.settle().await;
        if world.list(key(1)).await.len() == 2 {
            break;
        }
    }
    world.expect_list(key(1), &[1, 2], "a job's result did not arrive, or its key's order broke").await;
    drain(runner).await;
}

/// mailbox.deliver → ttp.inbound → mailbox.deliver … with producers pushing all the time.
pub async fn a_cycle_of_channels_under_back_pressure_does_not_lock(backend: Backend) {
    let world = World::new(backend);
    let mut runner = world.runner(1);
    runner.start(Scripted::on("mailbox.deliver"));
    runner.start(Scripted::on("ttp.inbound"));
    for n in 1..=20u64 {
        world.publish("mailbox.deliver", (0..24).map(|k| (key(k), probe(n, Act::Hop(5)))).collect()).await;
    }
    for k in 0..24 {
        for _ in 0..2_000 {
            if world.list(key(k)).await.len() >= 120 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let mut counts: BTreeMap<u64, u32> = BTreeMap::new();
        world.list(key(k)).await.into_iter().for_each(|n| *counts.entry(n).or_default() += 1);
        assert_eq!(counts.len(), 20, "a cycle of channels locked");
        assert!(counts.values().all(|count| *count == 6), "a cycle of channels lost or doubled messages");
    }
    drain(runner).await;
}
