//! A backend with a fake clock, keys and runners on top, and what the scenarios say with it.

use super::{Act, Backend, Probe};
use bytes::Bytes;
use schemas::{Envelope, Key, MessageId, Millis};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use topology::{CHANNELS, Channel};
use zegel_core::clock::{Clock, FakeClock};
use zegel_core::objects::{ObjectSink, StoredObject};
use zegel_core::replies::Replies;
use zegel_core::sealing::{open_value, seal_message};
use zegel_core::slot::spaces::TEST;
use zegel_core::testing::TestKeys;
use zegel_core::{Metrics, Objects, ObjectsError, OwnerId, Ports, Read, Runner, RunnerConfig};

/// Object store for workers that use none.
pub(crate) struct NoObjects;

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
    pub(super) backend: Backend,
    pub(super) clock: Arc<FakeClock>,
    pub(super) keys: Arc<TestKeys>,
    replies: Arc<Replies>,
    pub(super) metrics: Arc<Metrics>,
    next_id: AtomicU64,
}

/// The owner of the runners that meet a poison.
pub(super) const POISON_OWNER: u8 = 99;

/// The instant at which every scenario begins.
pub(super) const START: Millis = Millis(1_000_000);

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
        let config = RunnerConfig { owner: OwnerId([owner; 16]), tick_ms: 10, ..RunnerConfig::default() };
        let crash_attempts = if owner == POISON_OWNER { config.crash_attempts } else { u32::MAX };
        let config = RunnerConfig { crash_attempts, ..config };
        Runner::new(ports, config)
    }

    /// A process of its own among several that share the stages.
    ///
    /// # Panics
    /// When its metrics cannot be registered.
    #[must_use]
    #[allow(clippy::expect_used)]
    pub fn process(&self, owner: u8) -> Process {
        let metrics = Arc::new(Metrics::new().expect("metrics register"));
        let ports = Ports {
            broker: self.backend.broker.clone(),
            store: self.backend.store.clone(),
            objects: Arc::new(NoObjects),
            keys: self.keys.clone(),
            clock: self.clock.clone(),
            replies: Arc::default(),
            metrics: metrics.clone(),
        };
        let config = RunnerConfig {
            owner: OwnerId([owner; 16]),
            shared: true,
            lease_ms: PROCESS_LEASE_MS,
            tick_ms: 10,
            crash_attempts: u32::MAX,
            ..RunnerConfig::default()
        };
        Process { runner: Runner::new(ports, config), metrics }
    }

    /// Publishes one message durably and returns its id.
    ///
    /// # Panics
    /// When it is refused.
    #[allow(clippy::expect_used)]
    pub async fn publish_one(&self, channel: &str, key: Key, probe: Probe) -> MessageId {
        let next = self.next_id.load(Ordering::SeqCst);
        self.publish(channel, vec![(key, probe)]).await;
        numbered_id(next)
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
            let id = numbered_id(self.next_id.fetch_add(1, Ordering::SeqCst));
            let envelope = Envelope::new(id, "/zegel/test", key, self.clock.now(), &probe).expect("builds");
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

    pub(super) async fn settle(&self) {
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
}

/// One of several processes.
pub struct Process {
    /// Its runner.
    pub runner: Runner,
    /// What it counts.
    pub metrics: Arc<Metrics>,
}

/// Short, so that processes notice each other quickly.
pub(super) const PROCESS_LEASE_MS: i64 = 1_200;

fn numbered_id(n: u64) -> MessageId {
    let mut id = [0u8; 16];
    id[..8].copy_from_slice(&n.to_be_bytes());
    id[14..].copy_from_slice(&n.to_be_bytes()[6..]);
    MessageId(id)
}

/// State belongs to a key of a channel: two stages never write the same row.
pub(super) fn owner(channel: &Channel, key: Key) -> Key {
    let mut owner = key;
    owner.0[15] ^= channel.code.to_be_bytes()[1].reverse_bits();
    owner
}

pub(super) fn list_sub(index: u64) -> Bytes {
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

pub(super) fn append(n: u64) -> Probe {
    Probe { n, act: Act::Append }
}

pub(super) fn probe(n: u64, act: Act) -> Probe {
    Probe { n, act }
}

pub(super) async fn drain(runner: Runner) {
    assert!(runner.drain(Duration::from_secs(10)).await, "the runner does not drain within its deadline");
}
