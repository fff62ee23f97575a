//! The runner's suite over the in-memory reference.

use zegel_conformance::runner::{self, Backend};
use zegel_core::memory::Memory;

macro_rules! over_memory {
    ($name:ident) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let memory = Memory::new();
            runner::$name(Backend { broker: memory.clone(), store: memory }).await;
        }
    };
}

zegel_conformance::for_each_runner_scenario!(over_memory);
