//! Writing one object: plain bytes in, ciphertext out to wherever the place keeps what is not finished, digest, address.
//!
//! Failure: the first error sticks, and `finish` then fails too. An upload that is dropped leaves nothing.

use crate::unavailable;
use schemas::Sha256;
use schemas::messages::ObjectRef;
use std::io::{self, Write};
use zegel_core::ObjectsError;
use zegel_core::objects::ObjectSink;
use zegel_crypto::stream::{Encryptor, ObjectKey};

/// Takes the ciphertext of one object; dropping it before it is complete leaves nothing under an address.
pub(crate) trait Upload: Write + Send {
    /// Makes the object durable under its address, the digest of its bytes, and returns that.
    fn complete(self: Box<Self>) -> Result<Sha256, ObjectsError>;
}

/// One object in the making.
pub(crate) struct Sink {
    encryptor: Encryptor<Box<dyn Upload>>,
    salt: Sha256,
    version: u32,
    size: u64,
}

impl Sink {
    pub(crate) fn new(key: ObjectKey, upload: Box<dyn Upload>) -> Sink {
        let (salt, version) = (key.salt(), key.version());
        Sink { encryptor: Encryptor::new(key, upload), salt, version, size: 0 }
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
        // An error of the place says itself what it is.
        let upload = encryptor.finish().map_err(|error| error.downcast().unwrap_or_else(unavailable))?;
        Ok(ObjectRef { name: upload.complete()?, salt, key_version: version, size })
    }
}
