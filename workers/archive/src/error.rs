//! Why an archive could not be worked with at all. What is wrong *in* an archive is a [`Finding`](crate::Finding) instead.
//!
//! Texts name files and rules, never an entry or a document.

use std::io;
use std::path::{Path, PathBuf};

/// Why nothing could be done.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The system refuses.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is no archive in the folder.
    #[error("{}: there is no archive in it (no file MANIFEST)", .0.display())]
    NoArchive(PathBuf),
    /// The writer found something that it must not write over.
    #[error("{path}: {rule}", path = .path.display())]
    Unusable {
        /// Which file or folder.
        path: PathBuf,
        /// The rule that it breaks.
        rule: &'static str,
    },
    /// A bag is not the one that comes next.
    #[error("bag {found} cannot follow bag {last}: {rule}")]
    Order {
        /// The last bag of the archive.
        last: u64,
        /// The one that was offered.
        found: u64,
        /// The rule.
        rule: &'static str,
    },
    /// The trust file, a list of documents or an evidence file is not of its form.
    #[error("{what}: {rule}")]
    Input {
        /// Which input, with a line where it has lines.
        what: String,
        /// The rule that it breaks.
        rule: String,
    },
    /// A value is too large for its place.
    #[error("{0} is too large")]
    TooLarge(&'static str),
    /// A signature could not be made.
    #[error("report could not be signed: {0}")]
    Signing(String),
}

impl ArchiveError {
    /// An input that breaks a rule.
    pub(crate) fn input(what: impl Into<String>, rule: impl Into<String>) -> ArchiveError {
        ArchiveError::Input { what: what.into(), rule: rule.into() }
    }
}

/// Adds the file to an error of the system.
pub(crate) fn at(path: &Path) -> impl Fn(io::Error) -> ArchiveError + '_ {
    move |source| ArchiveError::Io { path: path.to_owned(), source }
}
