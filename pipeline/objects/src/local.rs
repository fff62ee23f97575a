//! Objects in a local folder.
//!
//! Beside `objects/` lies `uploads/`, one file for each object in the making: written in parts, fsynced, and renamed to
//! its address. The file, its folder and every new folder above it are fsynced by `object_store` with its fsync switched
//! on, which covers the rename too. A removal is not fsynced. Memory: one part for each object in the making, one segment
//! for each reader. Failure: an upload that is dropped removes its file; what a crash leaves is swept.

use crate::write::Upload;
use crate::{Place, UPLOADS, object_path, unavailable};
use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;
use object_store::{Error, GetResultPayload, MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload};
use schemas::{Millis, Sha256};
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::runtime::Handle;
use zegel_core::ObjectsError;
use zegel_crypto::hash::Hasher;

/// Ciphertext handed over at a time: each part costs a hop to another thread, and is held in memory.
const PART: usize = 1024 * 1024;

/// See the module.
pub(crate) struct Folder {
    store: Arc<LocalFileSystem>,
    uploads: PathBuf,
    runtime: Handle,
}

impl Folder {
    pub(crate) fn open(folder: &Path, runtime: Handle) -> Result<Folder, ObjectsError> {
        let uploads = folder.join(UPLOADS);
        make_folders(&uploads).map_err(unavailable)?;
        let store = LocalFileSystem::new_with_prefix(folder).map_err(unavailable)?.with_fsync(true);
        Ok(Folder { store: Arc::new(store), uploads, runtime })
    }
}

impl Place for Folder {
    fn store(&self) -> &dyn ObjectStore {
        &*self.store
    }

    fn begin(&self, temporary: &Sha256) -> Result<Box<dyn Upload>, ObjectsError> {
        let temporary = ObjectPath::from(format!("{UPLOADS}/{temporary}"));
        let parts = self.runtime.block_on(self.store.put_multipart(&temporary)).map_err(from_store)?;
        let buffer = Vec::with_capacity(PART);
        let (store, runtime) = (Arc::clone(&self.store), self.runtime.clone());
        Ok(Box::new(Temporary { store, runtime, temporary, parts, buffer, hasher: Hasher::new() }))
    }

    fn bytes(&self, path: &ObjectPath) -> Result<Box<dyn Read + Send>, ObjectsError> {
        match self.runtime.block_on(self.store.get(path)).map_err(from_store)?.payload {
            // Read directly, without a hop to another thread for each chunk.
            GetResultPayload::File(file, _) => Ok(Box::new(file)),
            GetResultPayload::Stream(_) => Err(unavailable("the folder gave no file")),
        }
    }

    fn sweep(&self, before: Millis) -> Result<u64, ObjectsError> {
        sweep(&self.uploads, before)
    }

    fn failure(&self, error: Error) -> ObjectsError {
        from_store(error)
    }
}

fn from_store(error: Error) -> ObjectsError {
    match error {
        Error::NotFound { .. } => ObjectsError::Missing,
        other => unavailable(other),
    }
}

/// Removes the files in `folder` that were last written before `before`.
pub(crate) fn sweep(folder: &Path, before: Millis) -> Result<u64, ObjectsError> {
    let limit = u64::try_from(before.0).ok().and_then(|ms| UNIX_EPOCH.checked_add(Duration::from_millis(ms)));
    let limit = limit.ok_or_else(|| unavailable("instant is out of range"))?;
    let mut removed = 0;
    for entry in fs::read_dir(folder).map_err(unavailable)? {
        match remove_older(&entry.map_err(unavailable)?, limit) {
            Ok(true) => removed += 1,
            Ok(false) => {}
            // Finished between listing and looking.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(unavailable(error)),
        }
    }
    Ok(removed)
}

fn remove_older(entry: &fs::DirEntry, limit: SystemTime) -> io::Result<bool> {
    let meta = entry.metadata()?;
    if !meta.is_file() || meta.modified()? >= limit {
        return Ok(false);
    }
    fs::remove_file(entry.path())?;
    Ok(true)
}

/// Makes a folder and those above it that are missing, each durable in the one that holds it: objects are durable only if
/// the way to them is.
pub(crate) fn make_folders(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let parent = match folder.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    make_folders(parent)?;
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    File::open(parent)?.sync_all()
}

/// The ciphertext on its way, in a file with a temporary name.
struct Temporary {
    store: Arc<LocalFileSystem>,
    runtime: Handle,
    temporary: ObjectPath,
    parts: Box<dyn MultipartUpload>,
    buffer: Vec<u8>,
    hasher: Hasher,
}

impl Temporary {
    fn send_part(&mut self) -> object_store::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let part = std::mem::replace(&mut self.buffer, Vec::with_capacity(PART));
        self.runtime.block_on(self.parts.put_part(PutPayload::from(part)))
    }
}

impl Upload for Temporary {
    fn complete(mut self: Box<Self>) -> Result<Sha256, ObjectsError> {
        self.send_part().map_err(from_store)?;
        self.runtime.block_on(self.parts.complete()).map_err(from_store)?;
        let name = self.hasher.finish();
        let renamed = self.runtime.block_on(self.store.rename(&self.temporary, &object_path(&name)));
        if renamed.is_err() {
            // The first error is the one to tell; what stays is swept.
            let _ = self.runtime.block_on(self.store.delete(&self.temporary));
        }
        renamed.map_err(from_store)?;
        Ok(name)
    }
}

impl Write for Temporary {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PART - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..taken]);
        self.hasher.update(&bytes[..taken]);
        if self.buffer.len() == PART {
            self.send_part().map_err(io::Error::other)?;
        }
        Ok(taken)
    }

    /// Durability comes when it is complete; there is nothing to flush before.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
