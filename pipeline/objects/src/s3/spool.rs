//! Writing to a bucket: ciphertext is collected here, and goes up to its address when that is known.
//!
//! Memory: one part while it is collected, two while it goes up. What is more than one part waits in a file that has no
//! name any more from the moment it is made, so nothing of it outlives the process. Nothing is fsynced here: durable is
//! what the store has confirmed. Failure: a multipart upload that fails is aborted; one that cannot be is swept.

use super::failure::from_store;
use crate::object_path;
use crate::write::Upload;
use futures_util::{TryStreamExt, stream};
use object_store::path::Path as ObjectPath;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload};
use schemas::Sha256;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::runtime::Handle;
use zegel_core::ObjectsError;
use zegel_crypto::hash::Hasher;

/// At least the store's 5 MiB, and with its 10,000 parts enough for objects of 78 GiB.
pub(crate) const PART: usize = 8 * 1024 * 1024;
/// One is read from the file while another is on its way.
const PARTS_ON_THE_WAY: usize = 2;

/// The ciphertext of one object in the making.
pub(crate) struct Spool {
    store: Arc<dyn ObjectStore>,
    runtime: Handle,
    path: PathBuf,
    file: Option<File>,
    buffer: Vec<u8>,
    hasher: Hasher,
}

impl Spool {
    /// `path` is where the file would be made; nothing must be there.
    pub(crate) fn new(store: Arc<dyn ObjectStore>, runtime: Handle, path: PathBuf) -> Spool {
        Spool { store, runtime, path, file: None, buffer: Vec::new(), hasher: Hasher::new() }
    }

    fn spill(&mut self) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(nameless(&self.path)?),
        };
        file.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }

    fn upload_parts(&self, file: &mut File, address: &ObjectPath) -> Result<(), ObjectsError> {
        self.runtime.block_on(async {
            let mut upload = self.store.put_multipart(address).await.map_err(from_store)?;
            let sent = send(&mut *upload, file).await;
            if sent.is_err() {
                // The first error is the one to tell; what stays is swept.
                let _ = upload.abort().await;
            }
            sent
        })
    }
}

impl Upload for Spool {
    fn complete(mut self: Box<Self>) -> Result<Sha256, ObjectsError> {
        let name = std::mem::replace(&mut self.hasher, Hasher::new()).finish();
        let address = object_path(&name);
        if self.file.is_some() {
            self.spill().map_err(scratch)?;
        }
        match self.file.take() {
            Some(mut file) => self.upload_parts(&mut file, &address)?,
            None => {
                let payload = PutPayload::from(std::mem::take(&mut self.buffer));
                self.runtime.block_on(self.store.put(&address, payload)).map_err(from_store)?;
            }
        }
        Ok(name)
    }
}

impl Write for Spool {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() == PART {
            self.spill().map_err(|error| io::Error::other(scratch(error)))?;
        }
        let taken = bytes.len().min(PART - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..taken]);
        self.hasher.update(&bytes[..taken]);
        Ok(taken)
    }

    /// Durability comes when it is complete; there is nothing to flush before.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

async fn send(upload: &mut dyn MultipartUpload, file: &mut File) -> Result<(), ObjectsError> {
    file.rewind().map_err(scratch)?;
    let parts = std::iter::from_fn(|| next_part(file).transpose())
        .map(|part| part.map(|bytes| upload.put_part(PutPayload::from(bytes))));
    let sent = stream::iter(parts.map(|part| part.map(|sending| async { sending.await.map_err(from_store) })));
    sent.try_buffer_unordered(PARTS_ON_THE_WAY).try_collect::<()>().await?;
    upload.complete().await.map_err(from_store)?;
    Ok(())
}

/// The next part of the file; none at its end.
fn next_part(file: &mut File) -> Result<Option<Vec<u8>>, ObjectsError> {
    let mut part = Vec::with_capacity(PART);
    file.take(PART as u64).read_to_end(&mut part).map_err(scratch)?;
    Ok((!part.is_empty()).then_some(part))
}

/// A file that is gone when it is closed, however the process ends.
fn nameless(path: &std::path::Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
    fs::remove_file(path)?;
    Ok(file)
}

fn scratch(error: io::Error) -> ObjectsError {
    crate::unavailable(format_args!("the folder for what is on its way: {error}"))
}
