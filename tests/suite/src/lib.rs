//! What the end-to-end tests share: where things are, and how to run the built program.

#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::missing_panics_doc)] // what a test cannot do is a failed test
#![allow(clippy::print_stdout, clippy::disallowed_methods)] // a test tells what it skips, and its threads may sleep

pub mod canary;
pub mod history;
pub mod server;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Held by a test that loads the whole machine, so that two of one program do not starve each other.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The top of the workspace.
#[must_use]
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}

/// Real inputs that are not part of the repository; none where they are absent.
#[must_use]
pub fn reference(path: &str) -> Option<PathBuf> {
    let found = root().parent()?.join("shared/reference").join(path);
    if found.exists() {
        return Some(found);
    }
    println!("SKIPPED: reference input {path} is not on this machine");
    None
}

/// The program under test: `ZEGEL_BIN`, or the release build.
#[must_use]
pub fn zegel() -> PathBuf {
    std::env::var_os("ZEGEL_BIN").map_or_else(|| root().join("target/release/zegel"), PathBuf::from)
}

/// Activates a project for a trial in a data folder that nobody serves.
pub fn activate(data: &Path, document: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("project.toml");
    std::fs::write(&path, document).expect("a file");
    let mut command = std::process::Command::new(zegel());
    let status = command.args(["project", "activate", "--trial", "--data"]).arg(data).arg(&path).status();
    assert!(status.expect("the program runs").success(), "the project is not activated");
}

/// The program built with fail points: `ZEGEL_FAILPOINTS_BIN`; none when it was not built.
#[must_use]
pub fn zegel_with_failpoints() -> Option<PathBuf> {
    std::env::var_os("ZEGEL_FAILPOINTS_BIN").map(PathBuf::from).filter(|path| path.exists())
}
