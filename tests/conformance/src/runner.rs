//! What the runner must do over any pair of broker and store.
//!
//! Every scenario starts runners with a scripted worker ([`Probe`]), publishes messages, and reads the effects back. It
//! panics with a sentence that says what is broken. `for_each_runner_scenario!` lists them all; a backend's tests run
//! each over a fresh [`Backend`].

use bytes::Bytes;
use schemas::{Envelope, Key, MessageId, Millis, Payload};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use topology::{CHANNELS, Channel};
use zegel_core::clock::{Clock, FakeClock};
use zegel_core::objects::{ObjectSink, StoredObject};
use zegel_core::replies::Replies;
use zegel_core::sealing::{open_value, seal_message};
use zegel_core::slot::spaces::TEST;
use zegel_core::store::DeadFilter;
use zegel_core::testing::TestKeys;
use zegel_core::worker::{JobError, JobIo, Produced, SetTimer};
use zegel_core::{
    Broker, Context, Decision, Effects, Failure, Interrupt, Message, Metrics, Objects, ObjectsError, OwnerId, Ports,
    Read, Runner, RunnerConfig, Slot, Store, View, Worker,
};

/// A broker and a store that work together.
#[derive(Clone)]
pub struct Backend {
    /// Messages.
    pub broker: Arc<dyn Broker>,
    /// State.
    pub store: Arc<dyn Store>,
}

/// What a message of the suite tells the worker to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// Append its number to its key's list.
    Append,
    /// Park until the instant, then append.
    ParkUntil(i64),
    /// Fail so many attempts (retryable), then append.
    Fail(u32),
    /// Panic at each of so many attempts, then append.
    Panic(u32),
    /// Never succeed.
    Broken,
    /// Set the timer to this instant; when it fires, the number is appended.
    Timer(i64),
    /// Cancel the timer.
    Cancel,
    /// Do a job that fails so many times (retryable), then append.
    Job(u32),
    /// Append and send on to the other channel, so many times more.
    Hop(u32),
    /// End the process, unless it appended before.
    Die,
}

/// A message of the suite.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Probe {
    /// Its number among the messages of its key, from 1.
    pub n: u64,
    /// What to do.
    pub act: Act,
}

impl Payload for Probe {
    const TYPE: &'static str = "be.zegel.test.probe.v1";
}

/// The scripted worker: appends numbers to a list per key, with everything that may happen on the way.
pub struct Scripted {
    channel: &'static Channel,
    jobs_failed: AtomicU64,
}

impl Scripted {
    /// A worker on this channel.
    #[must_use]
    pub fn on(channel: &str) -> Arc<Scripted> {
        let channel = topology::channels::by_name(channel).unwrap_or(&topology::CHANNELS[0]);
        Arc::new(Scripted { channel, jobs_failed: AtomicU64::new(0) })
    }

    fn append(&self, message: &Message, n: u64, view: &View) -> Result<Effects, Interrupt> {
        let owner = owner(self.channel, message.key());
        let mut effects = Effects::default();
        let count: u64 = view.get(TEST, owner, &b"count"[..])?.unwrap_or(0);
        effects.put(TEST, owner, &b"count"[..], &(count + 1))?;
        effects.put(TEST, owner, list_sub(count), &n)?;
        effects.reply = Some(Bytes::from(n.to_string()));
        Ok(effects)
    }

    fn hop(&self, message: &Message, probe: &Probe, left: u32, view: &View, now: Millis) -> Result<Effects, Interrupt> {
        let mut effects = self.append(message, probe.n, view)?;
        let next = if self.channel.name == "mailbox.deliver" { "ttp.inbound" } else { "mailbox.deliver" };
        if let Some(channel) = topology::channels::by_name(next).filter(|_| left > 0) {
            let payload = Probe { n: probe.n, act: Act::Hop(left - 1) };
            let mut id = message.envelope.id;
            id.0[15] = id.0[15].wrapping_add(1);
            let envelope = Envelope::new(id, "/zegel/test", message.key(), now, &payload);
            effects.produce(channel, envelope.map_err(|_| Failure::permanent("ZGL-TEST"))?);
        }
        Ok(effects)
    }
}

impl Worker for Scripted {
    fn channel(&self) -> &'static Channel {
        self.channel
    }

    fn decide(&self, message: &Message, view: &View, context: &Context<'_>) -> Result<Decision, Interrupt> {
        let probe: Probe = message.payload()?;
        let append = || self.append(message, probe.n, view).map(Decision::Done);
        match probe.act {
            Act::Append => append(),
            Act::ParkUntil(until) if context.now < Millis(until) => Ok(Decision::Park { until: Millis(until) }),
            Act::ParkUntil(_) => append(),
            Act::Fail(times) if message.attempt < times => Err(Failure::transient("ZGL-TEST").into()),
            Act::Fail(_) => append(),
            Act::Panic(times) if message.attempt < times => panic!("scripted panic, expected in the test's output"),
            Act::Panic(_) => append(),
            Act::Broken => Err(Failure::permanent("ZGL-TEST").into()),
            Act::Timer(due) => {
                let payload = Probe { n: probe.n, act: Act::Append };
                let id = MessageId(context.keys.random16());
                let envelope = Envelope::new(id, "/zegel/test", message.key(), context.now, &payload)
                    .map_err(|_| Failure::permanent("ZGL-TEST"))?;
                let message = Produced { channel: self.channel, envelope };
                let timers = vec![SetTimer { name: "test", due: Millis(due), message }];
                Ok(Decision::Done(Effects { timers, ..Effects::default() }))
            }
            Act::Cancel => Ok(Decision::Done(Effects { cancelled: vec!["test"], ..Effects::default() })),
            Act::Job(times) => match &message.job {
                None => Ok(Decision::Job { spec: times.to_string().into_bytes() }),
                Some(Ok(_)) => append(),
                Some(Err(error)) => Err(Failure::permanent(&error.code).into()),
            },
            Act::Hop(left) => self.hop(message, &probe, left, view, context.now).map(Decision::Done),
            Act::Die => std::process::abort(),
        }
    }

    fn run_job(&self, spec: &[u8], _io: &dyn JobIo) -> Result<Vec<u8>, JobError> {
        let times: u64 = std::str::from_utf8(spec).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
        if self.jobs_failed.fetch_add(1, Ordering::SeqCst) < times {
            return Err(JobError { code: "ZGL-TEST".to_owned(), retryable: true });
        }
        Ok(b"done".to_vec())
    }
}

/// Object store for workers that use none.
struct NoObjects;

impl Objects for NoObjects {
    fn create(&self) -> Result<Box<dyn ObjectSink>, ObjectsError> {
        Err(ObjectsError::Missing)
    }
    fn open(&self, _: &schemas::messages::ObjectRef) -> Result<Box<dyn std::io::Read + Send>, ObjectsError> {
        Err(ObjectsError::Missing)
    }
    fn delete(&self, _: &schemas::Sha256) -> Result<(), ObjectsError> {
        Ok(())
    }
    fn list(&self) -> Result<Vec<StoredObject>, ObjectsError> {
        Ok(Vec::new())
    }
}

/// A backend with a clock, keys, and runners on top.
pub struct World {
    backend: Backend,
    clock: Arc<FakeClock>,
    keys: Arc<TestKeys>,
    replies: Arc<Replies>,
    metrics: Arc<Metrics>,
    next_id: AtomicU64,
}

/// The owner of the runners that meet a poison.
const POISON_OWNER: u8 = 99;

/// The instant at which every scenario begins.
const START: Millis = Millis(1_000_000);

impl World {
    /// A world over a backend, at the start instant.
    ///
    /// # Panics
    /// When the metrics cannot be registered.
    #[must_use]
    #[allow(clippy::expect_used)] // a suite fails by panicking
    pub fn new(backend: Backend) -> World {
        World {
            backend,
            clock: Arc::new(FakeClock::at(START)),
            keys: Arc::new(TestKeys::default()),
            replies: Arc::default(),
            metrics: Arc::new(Metrics::new().expect("metrics register")),
            next_id: AtomicU64::new(0),
        }
    }

    /// A runner with this owner's number, ticking fast.
    #[must_use]
    pub fn runner(&self, owner: u8) -> Runner {
        let ports = Ports {
            broker: self.backend.broker.clone(),
            store: self.backend.store.clone(),
            objects: Arc::new(NoObjects),
            keys: self.keys.clone(),
            clock: self.clock.clone(),
            replies: self.replies.clone(),
            metrics: self.metrics.clone(),
        };
        // Kills are what these scenarios are made of: only the one about poison may take them for one.
        let crash_attempts = if owner == POISON_OWNER { 2 } else { u32::MAX };
        let config =
            RunnerConfig { owner: OwnerId([owner; 16]), tick_ms: 10, crash_attempts, ..RunnerConfig::default() };
        Runner::new(ports, config)
    }

    /// Publishes messages durably.
    ///
    /// # Panics
    /// When one of them is refused.
    #[allow(clippy::expect_used)]
    pub async fn publish(&self, channel: &str, messages: Vec<(Key, Probe)>) {
        let channel = topology::channels::by_name(channel).expect("channel is declared");
        let mut batch = Vec::new();
        for (key, probe) in messages {
            let mut id = [0u8; 16];
            id[..8].copy_from_slice(&self.next_id.fetch_add(1, Ordering::SeqCst).to_be_bytes());
            let envelope = Envelope::new(MessageId(id), "/zegel/test", key, self.clock.now(), &probe).expect("builds");
            batch.push(seal_message(&*self.keys, channel, &envelope).expect("seals"));
        }
        for result in self.backend.broker.publish(batch).await {
            result.expect("the broker takes the message");
        }
    }

    /// The numbers that were appended for a key, in order.
    ///
    /// # Panics
    /// When the store cannot be read.
    #[allow(clippy::expect_used)]
    pub async fn list(&self, key: Key) -> Vec<u64> {
        let mut list = Vec::new();
        for owner in CHANNELS.iter().map(|channel| owner(channel, key)) {
            let read = Read::Range { space: TEST, owner, from: list_sub(0), to: None, limit: 100_000, reverse: false };
            let rows = self.backend.store.read(vec![read]).await.expect("state can be read").remove(0);
            list.extend(rows.iter().map(|(sub, value)| {
                let plain = open_value(&*self.keys, TEST, owner, sub, value).expect("row opens");
                serde_json::from_slice::<u64>(&plain).expect("row is a number")
            }));
        }
        list
    }

    /// Waits until a key's list is as expected, at most 20 s, then compares.
    ///
    /// # Panics
    /// When it is not.
    pub async fn expect_list(&self, key: Key, expected: &[u64], what: &str) {
        for _ in 0..2_000 {
            if self.list(key).await.len() >= expected.len() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(self.list(key).await, expected, "{what}");
    }

    async fn settle(&self) {
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
}

/// State belongs to a key of a channel: two stages never write the same row.
fn owner(channel: &Channel, key: Key) -> Key {
    let mut owner = key;
    owner.0[15] ^= channel.code.to_be_bytes()[1].reverse_bits();
    owner
}

fn list_sub(index: u64) -> Bytes {
    let mut sub = b"e".to_vec();
    sub.extend_from_slice(&index.to_be_bytes());
    Bytes::from(sub)
}

/// A key of the suite; keys with other numbers fall into other partitions.
#[must_use]
pub fn key(n: u8) -> Key {
    let mut bytes = [n; 16];
    bytes[7] = n; // the low byte of the first eight chooses the partition
    Key(bytes)
}

fn append(n: u64) -> Probe {
    Probe { n, act: Act::Append }
}

fn probe(n: u64, act: Act) -> Probe {
    Probe { n, act }
}

async fn drain(runner: Runner) {
    assert!(runner.drain(Duration::from_secs(10)).await, "the runner does not drain within its deadline");
}

macro_rules! scenarios {
    ($($name:ident),+ $(,)?) => {
        /// Calls `$test!(name)` for every scenario, so that a backend's tests get one test function each.
        #[macro_export]
        macro_rules! for_each_runner_scenario {
            ($test:ident) => { $( $test!($name); )+ };
        }
    };
}

scenarios!(
    effects_of_a_key_are_in_order_and_exactly_once,
    a_parked_key_does_not_hold_other_keys,
    a_parked_message_wakes_and_its_followers_keep_order,
    timers_fire_once_when_due_and_not_when_cancelled,
    a_failing_message_is_retried_and_a_panic_counts,
    a_dead_message_lets_its_key_go_on_where_the_channel_says_so,
    a_dead_message_holds_its_key_until_an_operator_resolves_it,
    a_job_delays_only_its_own_key_and_is_started_again_after_a_failure,
    a_second_owner_takes_over_after_a_drain,
    a_second_owner_takes_over_after_a_kill_and_the_zombie_is_fenced,
    a_cycle_of_channels_under_back_pressure_does_not_lock,
    many_kills_lose_nothing_and_do_nothing_twice,
);

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
    runner.start(Scripted::on("receipts.due"));
    let messages = vec![(key(1), probe(1, Act::Broken)), (key(1), append(2)), (key(9), append(1))];
    world.publish("receipts.due", messages).await;
    world.expect_list(key(9), &[1], "another key is held").await;
    drain(runner).await;
    let mut runner = world.runner(2);
    runner.start(Scripted::on("receipts.due"));
    world.publish("receipts.due", vec![(key(1), append(3))]).await;
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
    runner.start(Scripted::on("ttp.inbound"));
    let messages = vec![(key(1), probe(1, Act::Job(1))), (key(1), append(2)), (key(9), append(1))];
    world.publish("ttp.inbound", messages).await;
    world.expect_list(key(9), &[1], "another key waits for a job").await;
    world.settle().await;
    assert!(world.list(key(1)).await.is_empty(), "the message of a failed job, or the one behind it, was applied");
    drain(runner).await;
    world.clock.advance(5_000);
    let mut runner = world.runner(2);
    runner.start(Scripted::on("ttp.inbound"));
    for _ in 0..3 {
        world.clock.advance(5_000);
        world.settle().await;
    }
    world.expect_list(key(1), &[1, 2], "a job's result did not arrive, or its key's order broke").await;
    drain(runner).await;
}

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
    first.kill();
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
        runner.kill();
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
