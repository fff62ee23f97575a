//! A deadline for each scenario, kept by a thread of its own, so that also a blocked runtime is noticed.
//!
//! Scenarios name the part that they are in ([`part`]); when the deadline passes, that part is printed, the scenario's
//! folder is removed, and the process ends with exit code 2.

use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

static PART: Mutex<Option<(String, Instant)>> = Mutex::new(None);

/// Says what is being done from now on.
pub fn part(what: &str) {
    *PART.lock().unwrap_or_else(PoisonError::into_inner) = Some((what.to_owned(), Instant::now()));
}

/// Runs a scenario; the process ends when it takes longer than `limit`.
pub fn within<T>(scenario: &'static str, limit: Duration, folder: &Path, run: impl FnOnce() -> T) -> T {
    part("starting");
    let folder = folder.to_owned();
    let (done, ended) = mpsc::channel::<()>();
    std::thread::spawn(move || {
        if ended.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
            println!("{}", complaint(scenario, limit));
            let _left = std::fs::remove_dir_all(&folder);
            std::process::exit(2);
        }
    });
    let outcome = run();
    drop(done);
    outcome
}

fn complaint(scenario: &str, limit: Duration) -> String {
    let part = PART.lock().unwrap_or_else(PoisonError::into_inner);
    let (what, since) =
        part.as_ref().map_or(("starting", 0), |(what, since)| (what.as_str(), since.elapsed().as_secs()));
    format!(
        "a scenario could not be run: {scenario} has not ended within {} s; for {since} s in: {what}",
        limit.as_secs()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_complaint_names_the_part_that_hung() {
        part("draining");
        let said = complaint("pipeline", Duration::from_secs(7));
        assert!(said.contains("pipeline has not ended within 7 s") && said.ends_with("in: draining"), "{said}");
    }
}
