//! Errors: why a store cannot be opened, and what SQLite's codes mean for the ports.
//!
//! Texts name SQLite's meaning of the code and never SQLite's own message, which may quote a statement.

use rusqlite::ffi::{self, ErrorCode};
use std::path::{Path, PathBuf};
use zegel_core::StoreError;

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process works on the store; one file serves one process.
    #[error("{path} is in use by process {pid}; stop it, or use another data folder")]
    InUse {
        /// Which file.
        path: PathBuf,
        /// The process that holds it, or `unknown`.
        pid: String,
    },
    /// The folder or the file cannot be written.
    #[error("{path} cannot be written: the folder or its file system is read-only, or belongs to another user")]
    ReadOnly {
        /// Which file.
        path: PathBuf,
    },
    /// There is no store.
    #[error("{path} does not exist")]
    Missing {
        /// Which file.
        path: PathBuf,
    },
    /// The file is not one of ours.
    #[error("{path} is not a zegel store")]
    Foreign {
        /// Which file.
        path: PathBuf,
    },
    /// The file was written by a newer version.
    #[error("{path} has format version {found}, this program knows versions up to {known}")]
    Version {
        /// Which file.
        path: PathBuf,
        /// The file's version.
        found: i64,
        /// The newest version that this program reads.
        known: i64,
    },
    /// A page or a row is not what was written.
    #[error("{path} is damaged: {what}; run `zegel check`")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What SQLite says.
        what: String,
    },
    /// The topology does not fit the stored format (see [`crate::layout`]).
    #[error("channel {0} does not fit the stored format")]
    Topology(&'static str),
    /// Anything else that the operating system or SQLite refuses.
    #[error("{path} cannot be opened: {what}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What was refused.
        what: String,
    },
}

impl OpenError {
    pub(crate) fn io(path: &Path, error: &std::io::Error) -> OpenError {
        use std::io::ErrorKind::{NotFound, PermissionDenied, ReadOnlyFilesystem};
        let path = path.to_owned();
        match error.kind() {
            PermissionDenied | ReadOnlyFilesystem => OpenError::ReadOnly { path },
            NotFound => OpenError::Missing { path },
            kind => OpenError::Io { path, what: kind.to_string() },
        }
    }

    pub(crate) fn sql(path: &Path, error: &rusqlite::Error) -> OpenError {
        let path = path.to_owned();
        match error.sqlite_error_code() {
            Some(ErrorCode::ReadOnly) => OpenError::ReadOnly { path },
            Some(ErrorCode::NotADatabase) => OpenError::Foreign { path },
            Some(ErrorCode::DatabaseCorrupt) => OpenError::Damaged { path, what: meaning(error) },
            _ => OpenError::Io { path, what: meaning(error) },
        }
    }
}

/// What a failed statement means for the transaction it was in.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// Only this request is refused or failed; nothing of it is in the transaction.
    Request(StoreError),
    /// The transaction is lost, with everything in it.
    Transaction(StoreError),
    /// The disk may have lost what it said it had: nothing can be promised any more.
    Fsync(String),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Fault {
        if is_fsync(&error) {
            return Fault::Fsync(meaning(&error));
        }
        let lost = matches!(
            error.sqlite_error_code(),
            Some(
                ErrorCode::DiskFull
                    | ErrorCode::SystemIoFailure
                    | ErrorCode::OutOfMemory
                    | ErrorCode::DatabaseBusy
                    | ErrorCode::OperationInterrupted
            )
        );
        let error = store_error(&error);
        if lost { Fault::Transaction(error) } else { Fault::Request(error) }
    }
}

/// The port's error for SQLite's.
pub(crate) fn store_error(error: &rusqlite::Error) -> StoreError {
    const CHANGED_ON_DISK: [i32; 3] =
        [ffi::SQLITE_IOERR_SHORT_READ, ffi::SQLITE_IOERR_DATA, ffi::SQLITE_IOERR_CORRUPTFS];
    // A file system that is full or over quota may answer a write with another code than ENOSPC.
    const CANNOT_GROW: [i32; 3] = [ffi::SQLITE_IOERR_WRITE, ffi::SQLITE_IOERR_SHMSIZE, ffi::SQLITE_IOERR_TRUNCATE];
    let what = meaning(error);
    let Some(code) = error.sqlite_error_code() else { return StoreError::Damaged(what) };
    match (code, error.sqlite_extended_error_code().unwrap_or(0)) {
        (ErrorCode::DiskFull, _) => StoreError::Full(what),
        (ErrorCode::SystemIoFailure, extended) if CANNOT_GROW.contains(&extended) => StoreError::Full(what),
        (ErrorCode::SystemIoFailure, extended) if CHANGED_ON_DISK.contains(&extended) => StoreError::Damaged(what),
        (ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::ConstraintViolation, _) => {
            StoreError::Damaged(what)
        }
        _ => StoreError::Unavailable(what),
    }
}

pub(crate) fn is_fsync(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_extended_error_code(), Some(ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC))
}

/// What SQLite's code means, without anything of the statement.
pub(crate) fn meaning(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqliteFailure(inner, _) => inner.to_string().to_lowercase(),
        rusqlite::Error::SqlInputError { error, .. } => error.to_string().to_lowercase(),
        _ => "a row has an unexpected form".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(code: i32) -> rusqlite::Error {
        rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)
    }

    #[test]
    fn a_failed_fsync_is_never_taken_for_something_that_may_be_tried_again() {
        assert!(matches!(Fault::from(failure(ffi::SQLITE_IOERR_FSYNC)), Fault::Fsync(_)));
        assert!(matches!(Fault::from(failure(ffi::SQLITE_IOERR_DIR_FSYNC)), Fault::Fsync(_)));
    }

    #[test]
    fn a_full_disk_is_told_from_a_damaged_one() {
        assert!(matches!(store_error(&failure(ffi::SQLITE_FULL)), StoreError::Full(_)));
        assert!(matches!(store_error(&failure(ffi::SQLITE_IOERR_WRITE)), StoreError::Full(_)));
        assert!(matches!(store_error(&failure(ffi::SQLITE_CORRUPT)), StoreError::Damaged(_)));
        assert!(matches!(store_error(&failure(ffi::SQLITE_IOERR_SHORT_READ)), StoreError::Damaged(_)));
        assert!(matches!(store_error(&failure(ffi::SQLITE_READONLY)), StoreError::Unavailable(_)));
    }

    #[test]
    fn a_read_only_folder_is_named_as_such() {
        for kind in [std::io::ErrorKind::PermissionDenied, std::io::ErrorKind::ReadOnlyFilesystem] {
            assert!(matches!(OpenError::io(Path::new("x"), &kind.into()), OpenError::ReadOnly { .. }));
        }
    }
}
