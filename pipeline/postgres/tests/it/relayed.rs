//! What the runner must do when this store's messages are relayed to a foreign broker: the in-memory transport stands for
//! the broker, relays and intakes run as a process of their own beside the suite's runners.

use crate::cluster;
use crate::place::Place;
use std::sync::Arc;
use std::time::Duration;
use zegel_conformance::fixture::Fixture as _;
use zegel_conformance::relays;
use zegel_core::RelayedConfig;
use zegel_core::memory_transport::MemoryTransport;

macro_rules! over_relays {
    ($name:ident) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            if cluster::shared().is_some() {
                let place = Place::fresh();
                let store = place.postgres(place.options()).await;
                let config = RelayedConfig { high_water: None, patience: Duration::from_secs(2) };
                let transport = Arc::new(MemoryTransport::new());
                let (backend, runner, relayed) = relays::start(transport, store, config);
                zegel_conformance::runner::$name(backend).await;
                runner.drain(Duration::from_secs(5)).await;
                relayed.close().await;
                place.shut().await;
            }
        }
    };
}

zegel_conformance::for_each_runner_scenario!(over_relays);
