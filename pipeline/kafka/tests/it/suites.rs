//! The transport suite over a real broker.

use crate::broker::{self, Place};
use std::sync::Arc;
use zegel_conformance::transport::TransportFixture;
use zegel_core::transport::Transport;

#[async_trait::async_trait]
impl TransportFixture for Place {
    async fn fresh() -> Place {
        Place::new(broker::shared().expect("asked before"))
    }

    async fn open(&self) -> Arc<dyn Transport> {
        self.verified().await
    }
}

macro_rules! over_kafka {
    ($name:ident) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            if broker::shared().is_some() {
                zegel_conformance::transport::$name::<Place>().await;
            }
        }
    };
}

zegel_conformance::for_each_transport_scenario!(over_kafka);
