//! The derived documents: checked in as the table says, complete, and good in the eyes of others.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod asyncapi;
mod pictures;

use std::path::{Path, PathBuf};

/// A path below this package.
fn path(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(relative)
}

/// Holds that the checked-in file has exactly this text; `UPDATE_GOLDEN=1` writes it anew.
fn same(relative: &str, text: &str) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path(relative), text).unwrap();
    }
    let found = std::fs::read_to_string(path(relative)).unwrap_or_default();
    assert!(found == text, "{relative} is not what the table says; UPDATE_GOLDEN=1 writes it anew");
}
