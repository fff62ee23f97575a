//! Messages and a job that kill the process, over the embedded store: real processes that really die.

#![allow(clippy::unwrap_used)]

use std::process::Command;
use zegel_conformance::runner::{self, Backend};
use zegel_embedded::{Embedded, Options};

/// Where the child finds the store; set only by the test below.
const STORE: &str = "ZEGEL_POISON_STORE";
/// Starts after which three poisons must have been found: each kills once or twice before it is a suspect, and then as
/// often as it may.
const STARTS_MAX: u32 = 3 * (2 + 5) + 1;

fn backend(embedded: &std::sync::Arc<Embedded>) -> Backend {
    Backend { broker: embedded.clone(), store: embedded.clone() }
}

fn run(path: &std::path::Path, work: impl AsyncFnOnce(Backend)) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let embedded = Embedded::open(path, Options::default()).unwrap();
    runtime.block_on(work(backend(&embedded)));
    runtime.block_on(embedded.close());
}

/// The child's part: does nothing unless the parent started it.
#[test]
fn child_of_the_poison_test() {
    if let Some(path) = std::env::var_os(STORE) {
        run(path.as_ref(), runner::poison_work);
    }
}

#[test]
fn messages_and_jobs_that_kill_the_process_are_found_and_their_neighbours_live() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("zegel.db");
    run(&path, runner::poison_prepare);
    let mut deaths = 0;
    for _ in 0..STARTS_MAX {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_of_the_poison_test", "--nocapture"])
            .env(STORE, &path)
            .output()
            .unwrap();
        if child.status.success() {
            assert!(deaths >= 6, "the poisons hardly killed the process: {deaths}");
            return;
        }
        let died = child.status.code().is_none();
        assert!(died, "the child failed instead of dying: {}", String::from_utf8_lossy(&child.stderr));
        deaths += 1;
    }
    panic!("after {deaths} deaths the poisons were not found");
}
