//! Files that are derived from the code and checked in, so that a change of what travels is seen in review.
//!
//! `UPDATE_GOLDEN=1` writes them anew; otherwise a difference fails.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A path below this package.
pub fn path(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(relative)
}

/// Holds that the file has exactly this text.
pub fn same(relative: &str, text: &str) {
    let path = path(relative);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == text,
        "{relative} is not what the code makes; readers of the old form must go on working: if they do, run the tests \
         with UPDATE_GOLDEN=1 and review the difference"
    );
}

/// Holds that the folder has these files and no others.
pub fn exactly(folder: &str, expected: impl IntoIterator<Item = String>) {
    let entries = std::fs::read_dir(path(folder)).unwrap();
    let found: BTreeSet<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(found, expected.into_iter().collect(), "files of {folder}");
}

/// JSON as it is checked in.
pub fn pretty(value: &impl serde::Serialize) -> String {
    serde_json::to_string_pretty(value).unwrap() + "\n"
}
