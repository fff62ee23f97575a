//! The objects port: content over 64 KiB, encrypted, streamed, addressed by the hash of its ciphertext.
//!
//! Contract: an object is durable when [`ObjectSink::finish`] returns; it is immutable and belongs to exactly one
//! message; the whole ciphertext is verified while it is read, segment by segment, and a reader that has returned end of
//! file has seen an authentic, complete object. All calls block and are made from blocking threads.

use schemas::messages::ObjectRef;
use schemas::{Millis, Sha256};
use std::io::{Read, Write};

/// Why an object could not be written, read or listed.
#[derive(Debug, thiserror::Error)]
pub enum ObjectsError {
    /// No object has this name.
    #[error("object is not there")]
    Missing,
    /// The object fails authentication or is cut short.
    #[error("object fails authentication")]
    Authentication,
    /// The store is away or full.
    #[error("object store: {0}")]
    Unavailable(String),
}

/// Takes the plain bytes of one object. Dropping it without [`ObjectSink::finish`] leaves nothing behind.
pub trait ObjectSink: Write + Send {
    /// Completes the object and makes it durable.
    ///
    /// # Errors
    /// [`ObjectsError::Unavailable`] when it could not be made durable.
    fn finish(self: Box<Self>) -> Result<ObjectRef, ObjectsError>;
}

/// An object as it is stored, for sweeping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredObject {
    /// Name: SHA-256 of the ciphertext.
    pub name: Sha256,
    /// When it was last written.
    pub modified: Millis,
    /// Bytes on disk.
    pub size: u64,
}

/// See the module's contract.
pub trait Objects: Send + Sync + 'static {
    /// Begins an object.
    fn create(&self) -> Result<Box<dyn ObjectSink>, ObjectsError>;

    /// Opens an object for streaming; errors of authentication come out of the reader as `InvalidData`.
    fn open(&self, object: &ObjectRef) -> Result<Box<dyn Read + Send>, ObjectsError>;

    /// Removes an object; removing a missing one is no error.
    fn delete(&self, name: &Sha256) -> Result<(), ObjectsError>;

    /// Lists what is stored, for the sweep of objects that nothing refers to.
    fn list(&self) -> Result<Vec<StoredObject>, ObjectsError>;
}
