//! The objects port over `object_store`: content over 64 KiB, encrypted while it streams, addressed by its ciphertext.
//!
//! Layout under the folder: `objects/ab/abcd…` (64 hexadecimal digits, the SHA-256 of the file's bytes) and `uploads/`
//! (one file for each object in the making). An object is written to a temporary name in parts, fsynced, and renamed; the
//! file, its folder and every new folder above it are fsynced by `object_store` with its fsync switched on, which covers
//! the rename too, so an object is durable when [`zegel_core::objects::ObjectSink::finish`] returns. A removal is not
//! fsynced: a crash may bring an object back, and the sweep of what nothing refers to removes it again.
//! Memory: one part and one segment for each object in the making, one segment for each reader, whatever the size (I7).
//! Failure: bytes that do not authenticate come out of the reader as `InvalidData`, and the digest of the whole is checked
//! before it says end of file (I8). What a crash leaves in `uploads/` is removed by [`EncryptedObjects::sweep_uploads`].

#![forbid(unsafe_code)]

mod read;
mod write;

#[cfg(test)]
mod tests;

use futures_util::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;
use object_store::{Error, ObjectMeta, ObjectStore, ObjectStoreExt};
use schemas::messages::ObjectRef;
use schemas::{Millis, Sha256};
use std::fmt;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};
use tokio::runtime::Handle;
use zegel_core::objects::{ObjectSink, StoredObject};
use zegel_core::{KeysError, Objects, ObjectsError};
use zegel_crypto::Keyring;

const OBJECTS: &str = "objects";
const UPLOADS: &str = "uploads";

/// Objects in a local folder. Cheap to share by reference; every call blocks, so it is made from a blocking thread and
/// never from inside an async task.
pub struct EncryptedObjects {
    store: Arc<dyn ObjectStore>,
    uploads: PathBuf,
    keyring: Arc<Keyring>,
    /// Where `object_store` does its file work.
    runtime: Handle,
}

impl EncryptedObjects {
    /// Opens, or makes, the objects under `folder` (mode 0700 when made). The runtime behind `runtime` must outlive this.
    ///
    /// # Errors
    /// [`ObjectsError::Unavailable`] when the folder cannot be used.
    pub fn open_local(folder: &Path, keyring: Arc<Keyring>, runtime: Handle) -> Result<EncryptedObjects, ObjectsError> {
        let uploads = folder.join(UPLOADS);
        make_folders(&uploads).map_err(unavailable)?;
        let store = LocalFileSystem::new_with_prefix(folder).map_err(unavailable)?.with_fsync(true);
        Ok(EncryptedObjects { store: Arc::new(store), uploads, keyring, runtime })
    }

    /// Removes what crashed uploads left, if it was last written before `before`; returns how many files. At start, when
    /// no object is in the making, `before` is [`Millis::NEVER`].
    ///
    /// # Errors
    /// [`ObjectsError::Unavailable`] when the folder cannot be read or a file not removed.
    pub fn sweep_uploads(&self, before: Millis) -> Result<u64, ObjectsError> {
        let limit = u64::try_from(before.0).ok().and_then(|ms| UNIX_EPOCH.checked_add(Duration::from_millis(ms)));
        let limit = limit.ok_or_else(|| ObjectsError::Unavailable("instant is out of range".to_owned()))?;
        let mut removed = 0;
        for entry in fs::read_dir(&self.uploads).map_err(unavailable)? {
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
}

impl fmt::Debug for EncryptedObjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EncryptedObjects")
    }
}

impl Objects for EncryptedObjects {
    fn create(&self) -> Result<Box<dyn ObjectSink>, ObjectsError> {
        let key = self.keyring.new_object_key();
        let sink = write::Sink::begin(Arc::clone(&self.store), self.runtime.clone(), key)?;
        Ok(Box::new(sink))
    }

    fn open(&self, object: &ObjectRef) -> Result<Box<dyn Read + Send>, ObjectsError> {
        let key = self.keyring.object_key(object.key_version, object.salt).map_err(|error| match error {
            // The key file lacks a version: an operator can put it back, so this is not the object's fault.
            KeysError::UnknownVersion(_) => unavailable(error),
            _ => ObjectsError::Authentication,
        })?;
        let found = self.runtime.block_on(self.store.get(&object_path(&object.name))).map_err(from_store)?;
        Ok(Box::new(read::Reader::new(found, self.runtime.clone(), key, object)))
    }

    fn delete(&self, name: &Sha256) -> Result<(), ObjectsError> {
        match self.runtime.block_on(self.store.delete(&object_path(name))) {
            Err(Error::NotFound { .. }) => Ok(()),
            other => other.map_err(from_store),
        }
    }

    fn list(&self) -> Result<Vec<StoredObject>, ObjectsError> {
        let prefix = ObjectPath::from(OBJECTS);
        let listing = self.store.list(Some(&prefix)).try_filter_map(|meta| async move { Ok(stored(&meta)) });
        self.runtime.block_on(listing.try_collect()).map_err(from_store)
    }
}

/// Where an object lies; 256 folders keep each of them small enough for any file system's tools.
fn object_path(name: &Sha256) -> ObjectPath {
    let name = name.to_string();
    ObjectPath::from(format!("{OBJECTS}/{}/{name}", &name[..2]))
}

/// What a listed file says of its object; none for a file that is no object.
fn stored(meta: &ObjectMeta) -> Option<StoredObject> {
    let name: Sha256 = meta.location.filename()?.parse().ok()?;
    (object_path(&name) == meta.location).then(|| StoredObject {
        name,
        modified: Millis(meta.last_modified.timestamp_millis()),
        size: meta.size,
    })
}

/// Makes a folder and those above it that are missing, each durable in the one that holds it: objects are durable only if
/// the way to them is.
fn make_folders(folder: &Path) -> io::Result<()> {
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

fn remove_older(entry: &fs::DirEntry, limit: std::time::SystemTime) -> io::Result<bool> {
    let meta = entry.metadata()?;
    if !meta.is_file() || meta.modified()? >= limit {
        return Ok(false);
    }
    fs::remove_file(entry.path())?;
    Ok(true)
}

fn from_store(error: Error) -> ObjectsError {
    match error {
        Error::NotFound { .. } => ObjectsError::Missing,
        other => unavailable(other),
    }
}

fn unavailable(error: impl fmt::Display) -> ObjectsError {
    ObjectsError::Unavailable(error.to_string())
}
