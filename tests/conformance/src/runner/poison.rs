//! A message that kills the process: to be run in child processes.

use super::world::{POISON_OWNER, append, drain, key, probe};
use super::{Act, Backend, Scripted, World};
use zegel_core::store::DeadFilter;

/// Publishes a message that kills the process, with neighbours of its own key and of another key of the partition.
pub async fn poison_prepare(backend: Backend) {
    let world = World::new(backend);
    let own = vec![(key(1), append(1)), (key(1), probe(2, Act::Die)), (key(1), append(3))];
    world.publish("mailbox.deliver", own).await;
    world.publish("mailbox.deliver", (1..=20).map(|n| (key(9), append(n))).collect()).await;
}

/// Works until everything but the poison is applied and the poison is dead; the process may die on the way, and is to be
/// started again.
pub async fn poison_work(backend: Backend) {
    let world = World::new(backend);
    let mut runner = world.runner(POISON_OWNER);
    runner.start(Scripted::on("mailbox.deliver"));
    world.expect_list(key(1), &[1, 3], "the neighbours of a poison in its own key are not applied in order").await;
    world.expect_list(key(9), &(1..=20).collect::<Vec<_>>(), "a neighbouring key suffers from a poison").await;
    let dead = world.backend.store.dead(DeadFilter { limit: 10, ..DeadFilter::default() }).await.unwrap_or_default();
    let codes: Vec<&str> = dead.iter().map(|letter| letter.code.as_str()).collect();
    assert_eq!(codes, ["ZGL-POISON"], "the poison, and nothing else, is a dead letter");
    drain(runner).await;
}
