//! Several owners: drains, kills, zombies, and processes that share a stage.

use super::world::{PROCESS_LEASE_MS, Process, append, drain, key};
use super::{Backend, Scripted, World};
use std::time::Duration;
use zegel_core::clock::Clock as _;
use zegel_core::replies::Elsewhere;
use zegel_core::{OwnerId, Slot};

/// Hand-over by drain: nothing lost, nothing twice.
pub async fn a_second_owner_takes_over_after_a_drain(backend: Backend) {
    let world = World::new(backend);
    let mut first = world.runner(1);
    first.start(Scripted::on("mailbox.deliver"));
    let mut second = world.runner(2);
    second.start(Scripted::on("mailbox.deliver"));
    for n in 1..=50u64 {
        world.publish("mailbox.deliver", (0..16).map(|k| (key(k), append(n))).collect()).await;
    }
    drain(first).await;
    for n in 51..=100u64 {
        world.publish("mailbox.deliver", (0..16).map(|k| (key(k), append(n))).collect()).await;
    }
    let expected: Vec<u64> = (1..=100).collect();
    for k in 0..16 {
        world.expect_list(key(k), &expected, "hand-over lost, doubled or reordered effects").await;
    }
    drain(second).await;
}

/// Hand-over by lease: the killed owner's slots are taken when its lease has run out, and not before; an owner whose
/// lease was taken cannot commit.
pub async fn a_second_owner_takes_over_after_a_kill_and_the_zombie_is_fenced(backend: Backend) {
    let world = World::new(backend);
    let mut first = world.runner(1);
    first.start(Scripted::on("mailbox.deliver"));
    world.publish("mailbox.deliver", (0..16).map(|k| (key(k), append(1))).collect()).await;
    for k in 0..16 {
        world.expect_list(key(k), &[1], "the first owner does not work").await;
    }
    let slot = Slot { channel: 2, group: 2, partition: zegel_core::slot::partition_of(key(1), 8) };
    first.kill().await;
    world.publish("mailbox.deliver", (0..16).map(|k| (key(k), append(2))).collect()).await;
    let early = world.backend.store.claim(slot, OwnerId([9; 16]), world.clock.now(), 10_000).await;
    assert!(matches!(early, Ok(None)), "a slot was claimed while another owner's lease held");
    world.clock.advance(10_001);
    let mut second = world.runner(2);
    second.start(Scripted::on("mailbox.deliver"));
    for k in 0..16 {
        world.expect_list(key(k), &[1, 2], "a killed owner's slots were not taken over").await;
    }
    let zombie = zegel_core::Step::empty(slot, 1);
    let fenced = world.backend.store.commit(zombie).await;
    assert!(matches!(fenced, Err(zegel_core::StoreError::Fenced { .. })), "a zombie's commit was not fenced");
    drain(second).await;
}

/// Runners are killed between any two of their steps, 40 times, under load: I1, I2, I3.
pub async fn many_kills_lose_nothing_and_do_nothing_twice(backend: Backend) {
    let world = World::new(backend);
    let mut next = 0u64;
    for round in 0..40u8 {
        let mut runner = world.runner(round);
        runner.start(Scripted::on("mailbox.deliver"));
        for _ in 0..5 {
            next += 1;
            world.publish("mailbox.deliver", (0..12).map(|k| (key(k), append(next))).collect()).await;
        }
        let pause = u64::from(round) * 7 % 13;
        tokio::time::sleep(Duration::from_millis(pause)).await;
        runner.kill().await;
        world.clock.advance(10_001);
    }
    let mut runner = world.runner(200);
    runner.start(Scripted::on("mailbox.deliver"));
    let expected: Vec<u64> = (1..=next).collect();
    for k in 0..12 {
        world.expect_list(key(k), &expected, "kills lost, doubled or reordered effects").await;
    }
    drain(runner).await;
}

/// Slots of the stage that this process owns.
fn owned(process: &Process) -> i64 {
    let gauge = |partition: u16| process.metrics.owned.with_label_values(&["box", &partition.to_string()]).get();
    (0..8).map(gauge).sum()
}

/// Waits until the processes own so many slots of the stage each.
async fn expect_shares(world: &World, processes: &[&Process], shares: &[i64], what: &str) {
    for _ in 0..400 {
        let mut found: Vec<i64> = processes.iter().map(|one| owned(one)).collect();
        found.sort_unstable();
        if found == shares {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    let found: Vec<i64> = processes.iter().map(|one| owned(one)).collect();
    panic!("{what}: shares are {found:?}, not {shares:?}, at {:?}", world.clock.now());
}

/// Two, then four processes; one killed, one drained; each key in order all the time.
pub async fn processes_divide_the_slots_evenly_and_take_over_from_the_dead(backend: Backend) {
    let world = World::new(backend);
    let mut next = 0;
    let mut load = async |world: &World| {
        for _ in 0..10 {
            next += 1;
            world.publish("mailbox.deliver", (0..16).map(|k| (key(k), append(next))).collect()).await;
        }
        next
    };
    let start = |n: u8| {
        let mut process = world.process(n);
        process.runner.start(Scripted::on("mailbox.deliver"));
        process
    };
    let first = start(1);
    load(&world).await;
    expect_shares(&world, &[&first], &[8], "a process alone").await;
    let second = start(2);
    load(&world).await;
    expect_shares(&world, &[&first, &second], &[4, 4], "two processes").await;
    let (third, fourth) = (start(3), start(4));
    load(&world).await;
    expect_shares(&world, &[&first, &second, &third, &fourth], &[2, 2, 2, 2], "four processes").await;
    load(&world).await;
    first.runner.kill().await;
    load(&world).await;
    world.clock.advance(PROCESS_LEASE_MS + 1);
    expect_shares(&world, &[&second, &third, &fourth], &[2, 3, 3], "after a kill").await;
    drain(second.runner).await;
    let last = load(&world).await;
    expect_shares(&world, &[&third, &fourth], &[4, 4], "after a drain").await;
    let expected: Vec<u64> = (1..=last).collect();
    for k in 0..16 {
        world.expect_list(key(k), &expected, "a hand-over between processes lost, doubled or reordered effects").await;
    }
    drain(third.runner).await;
    drain(fourth.runner).await;
}

/// The edge of one process gets the reply of a step that another process committed.
pub async fn a_reply_reaches_an_edge_in_another_process(backend: Backend) {
    let world = World::new(backend);
    let mut worker = world.process(1);
    worker.runner.start(Scripted::on("mailbox.deliver"));
    let Some(channel) = topology::channels::by_name("mailbox.deliver") else { panic!("the channel is not declared") };
    for n in 1..=20 {
        let id = world.publish_one("mailbox.deliver", key(3), append(n)).await;
        let elsewhere = Elsewhere { store: &*world.backend.store, keys: &*world.keys, channel, key: key(3) };
        let reply = tokio::time::timeout(Duration::from_secs(20), elsewhere.wait(id)).await;
        assert_eq!(reply.ok().as_deref(), Some(n.to_string().as_bytes()), "a reply is lost or another message's");
    }
    drain(worker.runner).await;
}
