//! The objects port over `object_store`: content over 64 KiB, encrypted while it streams, addressed by its ciphertext.
//!
//! Two places hold objects in the same format under the same addresses, `objects/ab/abcd…` (64 hexadecimal digits, the
//! SHA-256 of the stored bytes): a local folder ([`local`]) and, with the feature `s3`, a prefix of a bucket in an
//! S3-compatible store ([`s3`]). An address is known only after the last byte, and what stands under one is whole:
//! both places write elsewhere first. An object is durable when [`zegel_core::objects::ObjectSink::finish`] returns. A
//! removal need not be: a crash may bring an object back, and the sweep of what nothing refers to removes it again.
//! Memory: bounded for each object in the making and for each reader, whatever the size (I7); each place says how much.
//! Failure: bytes that do not authenticate come out of the reader as `InvalidData`, and the digest of the whole is checked
//! before it says end of file (I8). What a crash leaves in the making is removed by [`EncryptedObjects::sweep_uploads`].

#![forbid(unsafe_code)]

mod local;
mod read;
#[cfg(feature = "s3")]
mod s3;
mod write;

#[cfg(test)]
mod tests;

use futures_util::TryStreamExt;
use object_store::path::Path as ObjectPath;
use object_store::{Error, ObjectMeta, ObjectStore, ObjectStoreExt, PutPayload};
use schemas::messages::ObjectRef;
use schemas::{Millis, Sha256};
use std::fmt;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use tokio::runtime::Handle;
use zegel_core::objects::{ObjectSink, StoredObject};
use zegel_core::{KeysError, Objects, ObjectsError};
use zegel_crypto::Keyring;

const OBJECTS: &str = "objects";
const UPLOADS: &str = "uploads";

/// Where objects lie, and how they get there and back.
trait Place: Send + Sync {
    /// The store behind it, for what needs no care: listing, removing, the probe.
    fn store(&self) -> &dyn ObjectStore;

    /// Begins to write one object; `temporary` is a name that nothing else has.
    fn begin(&self, temporary: &Sha256) -> Result<Box<dyn write::Upload>, ObjectsError>;

    /// The stored bytes of an object, from the first one.
    fn bytes(&self, path: &ObjectPath) -> Result<Box<dyn Read + Send>, ObjectsError>;

    /// See [`EncryptedObjects::sweep_uploads`].
    fn sweep(&self, before: Millis) -> Result<u64, ObjectsError>;

    /// What an error of the store means to the port; its text names no secret.
    fn failure(&self, error: Error) -> ObjectsError;
}

/// Objects in their place. Cheap to share by reference; every call blocks, so it is made from a blocking thread and never
/// from inside an async task.
pub struct EncryptedObjects {
    place: Box<dyn Place>,
    keyring: Arc<Keyring>,
    /// Where `object_store` does its work.
    runtime: Handle,
}

impl EncryptedObjects {
    /// Opens the objects where the setting `place` says: `folder` is the local folder, `s3://bucket/prefix` an
    /// S3-compatible store, for which the local folder only holds what is on its way ([`EncryptedObjects::open_s3`]).
    ///
    /// # Errors
    /// [`ObjectsError::Unavailable`] when `place` is neither, or cannot be used.
    pub fn open(
        place: &str,
        folder: &Path,
        keyring: Arc<Keyring>,
        runtime: Handle,
    ) -> Result<EncryptedObjects, ObjectsError> {
        match place {
            "folder" => EncryptedObjects::open_local(folder, keyring, runtime),
            #[cfg(feature = "s3")]
            url if url.starts_with("s3://") => EncryptedObjects::open_s3(url, &folder.join(UPLOADS), keyring, runtime),
            #[cfg(not(feature = "s3"))]
            url if url.starts_with("s3://") => Err(unavailable("this program was built without the feature s3")),
            _ => Err(unavailable("objects are kept in \"folder\" or \"s3://bucket/prefix\"")),
        }
    }

    /// Opens, or makes, the objects under `folder` (mode 0700 when made). The runtime behind `runtime` must outlive this.
    ///
    /// # Errors
    /// [`ObjectsError::Unavailable`] when the folder cannot be used.
    pub fn open_local(folder: &Path, keyring: Arc<Keyring>, runtime: Handle) -> Result<EncryptedObjects, ObjectsError> {
        let place = local::Folder::open(folder, runtime.clone())?;
        Ok(EncryptedObjects { place: Box::new(place), keyring, runtime })
    }

    /// Opens the objects under `s3://bucket/prefix`, with what the environment says: `AWS_ENDPOINT`, `AWS_REGION`,
    /// `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_ALLOW_HTTP` and the others that `object_store` knows. Ciphertext
    /// on its way lies in the folder `scratch` (mode 0700 when made), which needs room for the largest objects in the
    /// making. Asks the store nothing yet: that is [`EncryptedObjects::probe`]. The runtime behind `runtime` must outlive
    /// this, and drive I/O and time on threads of its own.
    ///
    /// # Errors
    /// [`ObjectsError::Unavailable`] when the address, a setting, the runtime or the folder cannot be used.
    #[cfg(feature = "s3")]
    pub fn open_s3(
        url: &str,
        scratch: &Path,
        keyring: Arc<Keyring>,
        runtime: Handle,
    ) -> Result<EncryptedObjects, ObjectsError> {
        let variables = std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
        EncryptedObjects::open_s3_with(url, variables, scratch, keyring, runtime)
    }

    /// [`EncryptedObjects::open_s3`] with the variables given instead of those of the environment.
    ///
    /// # Errors
    /// As [`EncryptedObjects::open_s3`].
    #[cfg(feature = "s3")]
    pub fn open_s3_with(
        url: &str,
        variables: impl IntoIterator<Item = (String, String)>,
        scratch: &Path,
        keyring: Arc<Keyring>,
        runtime: Handle,
    ) -> Result<EncryptedObjects, ObjectsError> {
        let place = s3::Bucket::open(url, variables, scratch, runtime.clone())?;
        Ok(EncryptedObjects { place: Box::new(place), keyring, runtime })
    }

    /// Whether the place takes, gives back and removes what it is given: for the start, where an operator can still mend a
    /// wrong bucket or wrong credentials. Uses a name of its own, so several processes may ask at once.
    ///
    /// # Errors
    /// [`ObjectsError::Unavailable`] says what is wrong.
    pub fn probe(&self) -> Result<(), ObjectsError> {
        let content = self.keyring.new_object_key().salt().to_string();
        let path = ObjectPath::from(format!("{UPLOADS}/probe-{content}"));
        let store = self.place.store();
        let failure = |error| match self.place.failure(error) {
            ObjectsError::Missing => unavailable("what was stored is not there"),
            other => other,
        };
        self.runtime.block_on(async {
            store.put(&path, PutPayload::from(content.clone())).await.map_err(failure)?;
            let found = store.get(&path).await.map_err(failure)?.bytes().await.map_err(failure)?;
            store.delete(&path).await.map_err(failure)?;
            if found != content { Err(unavailable("what was stored comes back changed")) } else { Ok(()) }
        })
    }

    /// Copies an object as it lies here, sealed, to another place; false when it is there already. The keys must be the same
    /// for whoever reads it there.
    ///
    /// # Errors
    /// [`ObjectsError::Missing`] when it is not here, [`ObjectsError::Authentication`] when its bytes are not what its
    /// address says (then nothing is left at the other place), [`ObjectsError::Unavailable`] when a place cannot be used.
    pub fn copy_to(&self, other: &EncryptedObjects, object: &StoredObject) -> Result<bool, ObjectsError> {
        let path = object_path(&object.name);
        match other.runtime.block_on(other.place.store().head(&path)) {
            Ok(there) if there.size == object.size => return Ok(false),
            Ok(_) | Err(Error::NotFound { .. }) => {}
            Err(error) => return Err(other.place.failure(error)),
        }
        let mut bytes = self.place.bytes(&path)?;
        let mut upload = other.place.begin(&other.keyring.new_object_key().salt())?;
        io::copy(&mut bytes, &mut upload).map_err(unavailable)?;
        let name = upload.complete()?;
        if name == object.name {
            return Ok(true);
        }
        other.delete(&name)?;
        Err(ObjectsError::Authentication)
    }

    /// Removes what crashed uploads left, if it was last written before `before`; returns how many there were. At start,
    /// when no object is in the making, `before` is [`Millis::NEVER`]. In a bucket, where other processes may be writing,
    /// nothing younger than a day is touched.
    ///
    /// # Errors
    /// [`ObjectsError::Unavailable`] when what is there cannot be listed or removed.
    pub fn sweep_uploads(&self, before: Millis) -> Result<u64, ObjectsError> {
        self.place.sweep(before)
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
        // The salt is random, never used twice, and says nothing of the content: as good a name as any other.
        let upload = self.place.begin(&key.salt())?;
        Ok(Box::new(write::Sink::new(key, upload)))
    }

    fn open(&self, object: &ObjectRef) -> Result<Box<dyn Read + Send>, ObjectsError> {
        let key = self.keyring.object_key(object.key_version, object.salt).map_err(|error| match error {
            // The key file lacks a version: an operator can put it back, so this is not the object's fault.
            KeysError::UnknownVersion(_) => unavailable(error),
            _ => ObjectsError::Authentication,
        })?;
        let bytes = self.place.bytes(&object_path(&object.name))?;
        Ok(Box::new(read::Reader::new(bytes, key, object)))
    }

    fn delete(&self, name: &Sha256) -> Result<(), ObjectsError> {
        let deleted = self.runtime.block_on(self.place.store().delete(&object_path(name)));
        match deleted.map_err(|error| self.place.failure(error)) {
            Err(ObjectsError::Missing) => Ok(()),
            other => other,
        }
    }

    fn list(&self) -> Result<Vec<StoredObject>, ObjectsError> {
        let prefix = ObjectPath::from(OBJECTS);
        let listing = self.place.store().list(Some(&prefix)).try_filter_map(|meta| async move { Ok(stored(&meta)) });
        self.runtime.block_on(listing.try_collect()).map_err(|error| self.place.failure(error))
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

fn unavailable(error: impl fmt::Display) -> ObjectsError {
    ObjectsError::Unavailable(error.to_string())
}
