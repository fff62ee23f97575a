//! What every backend must do, over a fresh folder each.

use crate::place::Place;

mod broker {
    macro_rules! over_embedded {
        ($name:ident) => {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                zegel_conformance::broker::$name::<super::Place>().await;
            }
        };
    }

    zegel_conformance::for_each_broker_scenario!(over_embedded);
}

mod store {
    macro_rules! over_embedded {
        ($name:ident) => {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                zegel_conformance::store::$name::<super::Place>().await;
            }
        };
    }

    zegel_conformance::for_each_store_scenario!(over_embedded);
}

mod runner {
    use zegel_conformance::fixture::Fixture as _;

    macro_rules! over_embedded {
        ($name:ident) => {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let place = super::Place::fresh();
                let backend = place.open(None).await;
                zegel_conformance::runner::$name(backend).await;
                place.shut().await;
                assert_eq!(zegel_embedded::check(place.file()).unwrap(), [], "a check after the runner complains");
            }
        };
    }

    zegel_conformance::for_each_runner_scenario!(over_embedded);
}
