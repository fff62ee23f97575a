//! Messages and a job that kill the process: to be run in child processes.

use super::world::{POISON_OWNER, append, drain, key, probe};
use super::{Act, Backend, Scripted, World};
use std::ops::RangeInclusive;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use zegel_core::clock::{Clock, FakeClock};
use zegel_core::store::DeadFilter;

/// The key of the message that kills when it is tried again.
const LATER: u8 = 17;
/// The key of the job that kills.
const JOB: u8 = 40;
/// Keys of jobs beside it.
const WAITING: RangeInclusive<u8> = 41..=80;

/// Publishes messages and a job that kill the process, with neighbours of their own key and of another key of the partition.
pub async fn poison_prepare(backend: Backend) {
    let world = World::new(backend);
    let own = vec![(key(1), append(1)), (key(1), probe(2, Act::Die)), (key(1), append(3))];
    world.publish("mailbox.deliver", own).await;
    world.publish("mailbox.deliver", (1..=20).map(|n| (key(9), append(n))).collect()).await;
    let later = vec![(key(LATER), append(1)), (key(LATER), probe(2, Act::DieLater)), (key(LATER), append(3))];
    world.publish("mailbox.deliver", later).await;
    // Far more jobs than run at a time, so that most are pending whenever the one that kills runs.
    let jobs = WAITING.map(|n| (key(n), probe(1, Act::SlowJob)));
    let killer = vec![(key(JOB), append(1)), (key(JOB), probe(2, Act::DieInJob)), (key(JOB), append(3))];
    world.publish("ttp.inbound", killer.into_iter().chain(jobs).collect()).await;
}

/// Works until everything but the poisons is applied and the poisons are dead; the process may die on the way, and is to be
/// started again.
pub async fn poison_work(backend: Backend) {
    let world = World::new(backend);
    hurry(&world.clock);
    let mut runner = world.runner(POISON_OWNER);
    runner.start(Scripted::on("mailbox.deliver"));
    runner.start(Scripted::on("ttp.inbound"));
    let clock = world.clock.clone();
    let passing = tokio::spawn(async move {
        loop {
            hurry(&clock);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    world.expect_list(key(1), &[1, 3], "the neighbours of a poison in its own key are not applied in order").await;
    world.expect_list(key(9), &(1..=20).collect::<Vec<_>>(), "a neighbouring key suffers from a poison").await;
    world.expect_list(key(LATER), &[1, 3], "the neighbours of a parked poison are not applied in order").await;
    world
        .expect_list(key(JOB), &[1, 3], "the neighbours of a job that kills, in its own key, are not applied in order")
        .await;
    for n in WAITING {
        world.expect_list(key(n), &[1], "a job is blamed that only waited when another killed the process").await;
    }
    let dead = world.backend.store.dead(DeadFilter { limit: 10, ..DeadFilter::default() }).await.unwrap_or_default();
    let codes: Vec<&str> = dead.iter().map(|letter| letter.code.as_str()).collect();
    assert_eq!(codes, ["ZGL-POISON"; 3], "the three poisons, and nothing else, are dead letters");
    passing.abort();
    drain(runner).await;
}

/// Sets the clock to a time that runs a thousand times as fast as the real one, in this process and in the next: whatever
/// waits for a next try gets it.
#[allow(clippy::disallowed_methods)] // processes share no other clock
fn hurry(clock: &FakeClock) {
    let real = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = i64::try_from(real.as_micros()).unwrap_or(i64::MAX);
    clock.advance(now.saturating_sub(clock.now().0).max(0));
}
