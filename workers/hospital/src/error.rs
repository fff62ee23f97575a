//! Why the hospital's side could not do something. Texts name files and rules, never a document or a salt.

use std::path::PathBuf;
use zegel_archive::error::ArchiveError;
use zegel_core::rows::RowError;
use zegel_core::{KeysError, StoreError};

/// See the module.
#[derive(Debug, thiserror::Error)]
pub enum HospitalError {
    /// The journal's store says no; nothing was acknowledged.
    #[error("journal: {0}")]
    Store(#[from] StoreError),
    /// A row of the journal cannot be opened: another key file, or damage.
    #[error("journal: {0}")]
    Keys(#[from] KeysError),
    /// A row of the journal is of a version that this program does not know.
    #[error("journal: {0}")]
    Row(#[from] RowError),
    /// A row that must be there is not.
    #[error("journal: an entry is not where it was written")]
    Gone,
    /// There is no journal yet.
    #[error("there is no journal in this folder: begin one with `zegel timestamp agent` or `add`")]
    NoJournal,
    /// The folder holds another hospital's journal.
    #[error("journal belongs to another hospital")]
    OtherHospital,
    /// The journal was begun with the other kind of hashes.
    #[error("journal was begun {0}: a hospital's hashes keep their form")]
    OtherForm(&'static str),
    /// Somebody else has the journal open.
    #[error("journal is in use by another process")]
    Taken,
    /// More entries at a time than one step may hold.
    #[error("at most {0} entries at a time")]
    TooMany(usize),
    /// The archive says no.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The system refuses.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Adds the file to an error of the system.
pub(crate) fn at(path: &std::path::Path) -> impl Fn(std::io::Error) -> HospitalError + '_ {
    move |source| HospitalError::Io { path: path.to_owned(), source }
}
