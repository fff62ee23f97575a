//! Durable private files: what is returned from here is on the disk, whole, and readable by its owner only.
//!
//! A file appears under its name by a rename or a hard link of a finished, fsynced temporary, and the folder is fsynced
//! after it, so a crash leaves the old file or the new one, and perhaps a `NAME.new-…` that nobody reads again.

use crate::secret::fill_random;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Owner reads and writes, nobody else.
pub(crate) const PRIVATE: u32 = 0o600;
/// Everybody reads: certificates.
pub(crate) const PUBLIC: u32 = 0o644;

/// Writes a file that must not exist yet.
pub(crate) fn create(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    // A link never replaces: two processes that start at once cannot overwrite each other's keys.
    publish(path, bytes, mode, |temporary| {
        fs::hard_link(temporary, path)?;
        fs::remove_file(temporary)
    })
}

/// Writes a file over the one that may be there.
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    publish(path, bytes, mode, |temporary| fs::rename(temporary, path))
}

/// The permission bits of a file that group or others have any right to; none when it is the owner's alone. Asks the open
/// handle, so what was checked is what is read.
pub(crate) fn open_mode(file: &File) -> io::Result<Option<u32>> {
    let mode = file.metadata()?.permissions().mode() & 0o7777;
    Ok((mode & 0o077 != 0).then_some(mode))
}

/// Makes the names in the folder that holds `path` durable.
pub(crate) fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(folder)?.sync_all()
}

fn publish(path: &Path, bytes: &[u8], mode: u32, place: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let temporary = temporary_name(path)?;
    let placed = write_temporary(&temporary, bytes, mode).and_then(|()| place(&temporary));
    if placed.is_err() {
        // The first error is the one to tell; what is left is only a file that nobody reads.
        let _ = fs::remove_file(&temporary);
    }
    placed?;
    sync_folder_of(path)
}

/// A name of its own for every attempt, so that two processes never write into one temporary.
fn temporary_name(path: &Path) -> io::Result<PathBuf> {
    let mut attempt = [0; 8];
    fill_random(&mut attempt);
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    name.push(format!(".new-{}", hex::encode(attempt)));
    Ok(path.with_file_name(name))
}

fn write_temporary(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
