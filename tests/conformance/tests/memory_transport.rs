//! The transport suite over the in-memory reference. It lives through a restart by not ending.

use std::sync::Arc;
use zegel_conformance::transport::TransportFixture;
use zegel_core::memory_transport::MemoryTransport;
use zegel_core::transport::Transport;

struct Place(Arc<MemoryTransport>);

#[async_trait::async_trait]
impl TransportFixture for Place {
    async fn fresh() -> Place {
        Place(MemoryTransport::new())
    }

    async fn open(&self) -> Arc<dyn Transport> {
        self.0.open_again();
        Arc::new(Arc::clone(&self.0))
    }
}

macro_rules! over_memory {
    ($name:ident) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            zegel_conformance::transport::$name::<Place>().await;
        }
    };
}

zegel_conformance::for_each_transport_scenario!(over_memory);
