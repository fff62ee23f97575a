//! The runner: takes batches of a slot's messages, lets a pure worker decide, and commits everything in one step.
//!
//! ```text
//! owned slot ─▶ a batch in number order ─▶ load declared rows ─▶ decide, message by message ─▶ ONE commit ─▶ settle
//! ```
//!
//! Invariants: one batch of a slot is in flight at a time (I3); position, state, produced messages, timers, parking and
//! dead letters change in one commit (I1, I2); memory is bounded by the batch limits and the parking budget (I7).
//! Failure behaviour: a failed attempt parks the message and, behind it, later messages of its key; other keys go on.
//! A fenced owner stops at once. After an unclean stop the first batch is tried once as a whole and then message by
//! message, each attempt recorded before it begins, so a message that kills the process is found and given up.

mod breaker;
mod division;
mod engine;
mod jobs;
mod parking;
mod slot_loop;
mod turn;

pub use breaker::Breakers;
pub use division::Division;

use crate::broker::{BatchLimits, Broker};
use crate::clock::Clock;
use crate::keys::Keys;
use crate::metrics::Metrics;
use crate::objects::Objects;
use crate::relayed::{Duties, Relayed};
use crate::replies::Replies;
use crate::slot::{OwnerId, Slot};
use crate::store::Store;
use crate::worker::Worker;
use std::sync::Arc;
use tokio::sync::{Mutex, Semaphore, watch};
use tokio::task::JoinHandle;

/// Everything outside that a runner uses.
#[derive(Clone)]
pub struct Ports {
    /// Messages.
    pub broker: Arc<dyn Broker>,
    /// State.
    pub store: Arc<dyn Store>,
    /// Large content.
    pub objects: Arc<dyn Objects>,
    /// Sealing, blinding, randomness.
    pub keys: Arc<dyn Keys>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Waiters at the edge of this process.
    pub replies: Arc<Replies>,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

/// How a runner behaves. The defaults fit one machine.
#[derive(Debug, Clone)]
pub struct RunnerConfig {
    /// Who owns the slots that this runner claims.
    pub owner: OwnerId,
    /// Whether other processes serve the same stages, so that slots are divided among them and replies are left in the
    /// store for edges elsewhere.
    pub shared: bool,
    /// A lease runs out so long after its last renewal; renewed three times in that time.
    pub lease_ms: i64,
    /// One batch: enough messages that a commit's fsync is shared, few enough that a batch takes milliseconds.
    pub batch: BatchLimits,
    /// Parked messages of one slot above which nothing new is taken.
    pub parked_max: usize,
    /// Parked bytes of one slot above which nothing new is taken.
    pub parked_bytes_max: usize,
    /// How many batches of one stage may be worked on at the same time.
    pub stage_concurrency: usize,
    /// How many jobs may run at the same time in the process: each fills a core.
    pub jobs: usize,
    /// The longest an idle slot sleeps before it looks at the clock again.
    pub tick_ms: i64,
    /// How often a suspect message may kill the process before it is given up.
    pub crash_attempts: u32,
}

impl Default for RunnerConfig {
    fn default() -> RunnerConfig {
        RunnerConfig {
            owner: OwnerId([0; 16]),
            shared: false,
            lease_ms: 10_000,
            batch: BatchLimits { messages: 256, bytes: 4 << 20 },
            parked_max: 100_000,
            parked_bytes_max: 64 << 20,
            stage_concurrency: 8,
            jobs: 2,
            tick_ms: 1_000,
            crash_attempts: 5, // a machine that loses power five times at the same instant is rarer than a poison
        }
    }
}

/// Runs workers over slots until it is told to stop.
pub struct Runner {
    ports: Ports,
    config: RunnerConfig,
    stop: watch::Sender<bool>,
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

/// What the slots of one process share.
pub(crate) struct Shared {
    /// Held while a suspect message or job is being tried: one at a time in the process, so its neighbours are not blamed.
    pub suspects: Arc<Mutex<()>>,
    /// One permit a running job.
    pub jobs: Arc<Semaphore>,
    /// One breaker per downstream.
    pub breakers: Breakers,
    /// Which slots are this process's share.
    pub division: Arc<Division>,
}

impl Runner {
    /// A runner that works on nothing yet. Where it is shared, it announces itself at once, so it must be made on a runtime.
    #[must_use]
    pub fn new(ports: Ports, config: RunnerConfig) -> Runner {
        let shared = Arc::new(Shared {
            suspects: Arc::default(),
            jobs: Arc::new(Semaphore::new(config.jobs.max(1))),
            breakers: Breakers::default(),
            division: Arc::new(Division::new(config.owner, config.shared, config.lease_ms)),
        });
        let mut runner = Runner { ports, config, stop: watch::Sender::new(false), shared, tasks: Vec::new() };
        if runner.config.shared {
            let (store, clock) = (runner.ports.store.clone(), runner.ports.clock.clone());
            let keep = runner.shared.division.clone().keep(store, clock, runner.stop.subscribe());
            runner.tasks.push(tokio::spawn(keep));
        }
        runner
    }

    /// Starts the relays and intakes of a relayed broker.
    pub fn start_relays(&mut self, relayed: &Relayed) {
        let duties = Duties {
            owner: self.config.owner,
            lease_ms: self.config.lease_ms,
            keys: self.ports.keys.clone(),
            clock: self.ports.clock.clone(),
            division: self.shared.division.clone(),
            stop: self.stop.subscribe(),
        };
        self.tasks.extend(relayed.start(&duties));
    }

    /// Starts a worker on every slot of its channel and group.
    pub fn start(&mut self, worker: Arc<dyn Worker>) {
        let slots = Slot::all(worker.channel(), worker.group());
        self.start_on(worker, slots);
    }

    /// Starts a worker on some slots.
    pub fn start_on(&mut self, worker: Arc<dyn Worker>, slots: Vec<Slot>) {
        let permits = Arc::new(Semaphore::new(self.config.stage_concurrency.max(1)));
        self.shared.division.serve(worker.group().code);
        for slot in slots {
            let slot_loop = slot_loop::SlotLoop::new(
                slot,
                worker.clone(),
                self.ports.clone(),
                self.config.clone(),
                self.shared.clone(),
                permits.clone(),
                self.stop.subscribe(),
            );
            self.tasks.push(tokio::spawn(slot_loop.run()));
        }
    }

    /// Something that tells the runner to stop, for a signal handler.
    #[must_use]
    pub fn stopper(&self) -> watch::Sender<bool> {
        self.stop.clone()
    }

    /// Stops taking messages, lets the batches in flight commit, releases every slot, and waits for that; after the
    /// deadline what is left is cut off (its slots stay unclean, and nothing acknowledged is lost). True when everything
    /// ended in time.
    pub async fn drain(self, deadline: std::time::Duration) -> bool {
        self.stop.send_replace(true);
        let all = futures_util::future::join_all(self.tasks.into_iter().map(|task| async move {
            let handle = task.abort_handle();
            (task.await.is_ok(), handle)
        }));
        tokio::time::timeout(deadline, all).await.is_ok_and(|ends| ends.iter().all(|(ended, _)| *ended))
    }

    /// Ends every task at its next await, as a crash would: nothing is released. When the future ends, nothing of
    /// this runner goes on. For tests of hand-over.
    pub fn kill(self) -> impl Future<Output = ()> {
        for task in &self.tasks {
            task.abort();
        }
        async move { drop(futures_util::future::join_all(self.tasks).await) }
    }
}
