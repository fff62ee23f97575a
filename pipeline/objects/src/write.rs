//! Writing one object: plain bytes in, ciphertext in parts to a temporary name, digest, rename.
//!
//! Failure: the first error sticks, and `finish` then fails too. An upload that is dropped removes its temporary.

use crate::{UPLOADS, from_store, object_path};
use object_store::path::Path as ObjectPath;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload};
use schemas::Sha256;
use schemas::messages::ObjectRef;
use std::io::{self, Write};
use std::sync::Arc;
use tokio::runtime::Handle;
use zegel_core::ObjectsError;
use zegel_core::objects::ObjectSink;
use zegel_crypto::hash::Hasher;
use zegel_crypto::stream::{Encryptor, ObjectKey};

/// Ciphertext handed over at a time: each part costs a hop to another thread, and is held in memory.
const PART: usize = 1024 * 1024;

/// One object in the making.
pub(crate) struct Sink {
    encryptor: Encryptor<Upload>,
    salt: Sha256,
    version: u32,
    size: u64,
}

impl Sink {
    pub(crate) fn begin(store: Arc<dyn ObjectStore>, runtime: Handle, key: ObjectKey) -> Result<Sink, ObjectsError> {
        let (salt, version) = (key.salt(), key.version());
        // The salt is random, never used twice, and says nothing of the content: as good a name as any other.
        let temporary = ObjectPath::from(format!("{UPLOADS}/{salt}"));
        let parts = runtime.block_on(store.put_multipart(&temporary)).map_err(from_store)?;
        let upload =
            Upload { store, runtime, temporary, parts, buffer: Vec::with_capacity(PART), hasher: Hasher::new() };
        Ok(Sink { encryptor: Encryptor::new(key, upload), salt, version, size: 0 })
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.encryptor.write(bytes)?;
        self.size += taken as u64;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.encryptor.flush()
    }
}

impl ObjectSink for Sink {
    fn finish(self: Box<Self>) -> Result<ObjectRef, ObjectsError> {
        let Sink { encryptor, salt, version, size } = *self;
        let upload = encryptor.finish().map_err(|error| ObjectsError::Unavailable(error.to_string()))?;
        Ok(ObjectRef { name: upload.complete()?, salt, key_version: version, size })
    }
}

/// The ciphertext on its way.
struct Upload {
    store: Arc<dyn ObjectStore>,
    runtime: Handle,
    temporary: ObjectPath,
    parts: Box<dyn MultipartUpload>,
    buffer: Vec<u8>,
    hasher: Hasher,
}

impl Upload {
    fn send_part(&mut self) -> object_store::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let part = std::mem::replace(&mut self.buffer, Vec::with_capacity(PART));
        self.runtime.block_on(self.parts.put_part(PutPayload::from(part)))
    }

    /// Makes the object durable under its name, which is the digest of its bytes.
    fn complete(mut self) -> Result<Sha256, ObjectsError> {
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

impl Write for Upload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PART - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..taken]);
        self.hasher.update(&bytes[..taken]);
        if self.buffer.len() == PART {
            self.send_part().map_err(io::Error::other)?;
        }
        Ok(taken)
    }

    /// Durability comes with [`ObjectSink::finish`]; there is nothing to flush before.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
