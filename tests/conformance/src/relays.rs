//! A relayed broker with its relays and intakes, as a process of its own beside a suite's runners.

use crate::runner::{Backend, NoObjects};
use std::sync::{Arc, LazyLock};
use zegel_core::clock::SystemClock;
use zegel_core::testing::TestKeys;
use zegel_core::transport::Transport;
use zegel_core::{Metrics, Outbox, OwnerId, Ports, Relayed, RelayedConfig, Runner, RunnerConfig};

/// One source for the whole test process, so that a broker that is opened again has a session of its own.
static KEYS: LazyLock<Arc<TestKeys>> = LazyLock::new(Arc::default);

/// Starts it. The runner carries relays and intakes only; drain it, then close the broker.
#[must_use]
pub fn start(
    transport: Arc<dyn Transport>,
    store: Arc<dyn Outbox>,
    config: RelayedConfig,
) -> (Backend, Runner, Arc<Relayed>) {
    let keys = KEYS.clone();
    let relayed = Relayed::new(transport, store.clone(), &*keys, config);
    let ports = Ports {
        broker: relayed.clone(),
        store: store.clone(),
        objects: Arc::new(NoObjects),
        keys,
        clock: Arc::new(SystemClock),
        replies: Arc::default(),
        metrics: Arc::new(Metrics::new().unwrap_or_else(|error| panic!("metrics failed: {error}"))),
    };
    // The owner stays the same, as that of a process that is started again; its leases are its own.
    let config = RunnerConfig { owner: OwnerId([0xEE; 16]), lease_ms: 3_000, ..RunnerConfig::default() };
    let mut runner = Runner::new(ports, config);
    runner.start_relays(&relayed);
    (Backend { broker: relayed.clone(), store }, runner, relayed)
}
