//! The runner's suite over the embedded broker and store, on a real file.

use zegel_conformance::runner::{self, Backend};
use zegel_embedded::{Embedded, Options};

macro_rules! over_embedded {
    ($name:ident) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let folder = tempfile::tempdir().unwrap();
            let embedded = Embedded::open(folder.path().join("zegel.db"), Options::default()).unwrap();
            runner::$name(Backend { broker: embedded.clone(), store: embedded.clone() }).await;
            embedded.close().await;
        }
    };
}

zegel_conformance::for_each_runner_scenario!(over_embedded);
