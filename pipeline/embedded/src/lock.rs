//! One process per store: an exclusive lock on a file beside the database, with the holder's process id in it.
//!
//! The lock is the kernel's (`flock`), so it ends with the process however that ends; the file stays.

use crate::error::OpenError;
use rustix::fs::{FlockOperation, flock};
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

/// Held as long as any thread may write.
#[derive(Debug)]
pub struct Lock(#[allow(dead_code, reason = "the open file is the lock")] File);

/// Where the lock of a database lies.
pub(crate) fn lock_path(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}

impl Lock {
    /// Takes the lock of a database or says who holds it.
    ///
    /// # Errors
    /// [`OpenError::InUse`]; also when the file cannot be made.
    pub fn take(database: &Path) -> Result<Lock, OpenError> {
        let io = |error: std::io::Error| OpenError::io(database, &error);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(lock_path(database)).map_err(io)?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut pid = String::new();
            // Whoever holds the lock may not have written its number yet; the error is as true without it.
            let _ = file.read_to_string(&mut pid);
            let pid = if pid.trim().is_empty() { "unknown".to_owned() } else { pid.trim().to_owned() };
            return Err(OpenError::InUse { path: database.to_owned(), pid });
        }
        file.set_len(0).map_err(io)?;
        file.write_all(std::process::id().to_string().as_bytes()).map_err(io)?;
        Ok(Lock(file))
    }
}
