//! What every backend must do, over a fresh schema each.

use crate::cluster;
use crate::place::Place;

macro_rules! suite {
    ($suite:ident, $list:ident) => {
        mod $suite {
            macro_rules! over_postgres {
                ($name:ident) => {
                    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                    async fn $name() {
                        if super::cluster::shared().is_some() {
                            zegel_conformance::$suite::$name::<super::Place>().await;
                        }
                    }
                };
            }

            zegel_conformance::$list!(over_postgres);
        }
    };
}

suite!(broker, for_each_broker_scenario);
suite!(store, for_each_store_scenario);
suite!(outbox, for_each_outbox_scenario);

mod runner {
    use zegel_conformance::fixture::Fixture as _;

    macro_rules! over_postgres {
        ($name:ident) => {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                if super::cluster::shared().is_some() {
                    let place = super::Place::fresh();
                    let backend = place.open(None).await;
                    zegel_conformance::runner::$name(backend).await;
                    place.shut().await;
                }
            }
        };
    }

    zegel_conformance::for_each_runner_scenario!(over_postgres);
}
