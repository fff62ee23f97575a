//! The transport suite over a real RabbitMQ.

use crate::node;
use crate::place::Place;

macro_rules! over_rabbitmq {
    ($name:ident) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            if tokio::task::spawn_blocking(node::shared).await.unwrap().is_some() {
                zegel_conformance::transport::$name::<Place>().await;
            }
        }
    };
}

zegel_conformance::for_each_transport_scenario!(over_rabbitmq);
