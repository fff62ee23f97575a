//! The broker and store suites over the in-memory reference. It lives through a restart by not ending.

#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Mutex};
use zegel_conformance::fixture::Fixture;
use zegel_conformance::outbox::OutboxFixture;
use zegel_conformance::runner::Backend;
use zegel_core::Outbox;
use zegel_core::memory::Memory;

struct Place(Mutex<Option<Arc<Memory>>>);

#[async_trait::async_trait]
impl Fixture for Place {
    fn fresh() -> Place {
        Place(Mutex::new(None))
    }

    async fn open(&self, high_water: Option<u64>) -> Backend {
        let make = || high_water.map_or_else(Memory::new, Memory::with_high_water);
        let memory = Arc::clone(self.0.lock().unwrap().get_or_insert_with(make));
        memory.open_again();
        Backend { broker: memory.clone(), store: memory }
    }

    async fn close(&self, _: Backend) {
        if let Some(memory) = &*self.0.lock().unwrap() {
            memory.close();
        }
    }
}

impl OutboxFixture for Place {
    fn outbox(&self, _: &Backend) -> Arc<dyn Outbox> {
        self.0.lock().unwrap().clone().unwrap()
    }
}

mod outbox {
    macro_rules! over_memory {
        ($name:ident) => {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                zegel_conformance::outbox::$name::<super::Place>().await;
            }
        };
    }

    zegel_conformance::for_each_outbox_scenario!(over_memory);
}

mod broker {
    macro_rules! over_memory {
        ($name:ident) => {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                zegel_conformance::broker::$name::<super::Place>().await;
            }
        };
    }

    zegel_conformance::for_each_broker_scenario!(over_memory);
}

mod store {
    macro_rules! over_memory {
        ($name:ident) => {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                zegel_conformance::store::$name::<super::Place>().await;
            }
        };
    }

    zegel_conformance::for_each_store_scenario!(over_memory);
}
