//! Reading one object: ciphertext in, every segment's tag checked, and the whole's digest and length before end of file.

use schemas::Sha256;
use schemas::messages::ObjectRef;
use std::io::{self, Read};
use zegel_core::ObjectsError;
use zegel_crypto::hash::Hasher;
use zegel_crypto::stream::{Decryptor, ObjectKey};

/// The plain bytes of one object.
pub(crate) struct Reader {
    decryptor: Decryptor<Hashed>,
    name: Sha256,
    size: u64,
    seen: u64,
}

impl Reader {
    pub(crate) fn new(bytes: Box<dyn Read + Send>, key: ObjectKey, object: &ObjectRef) -> Reader {
        let input = Hashed { bytes, hasher: Hasher::new() };
        Reader { decryptor: Decryptor::new(key, input), name: object.name, size: object.size, seen: 0 }
    }
}

impl Read for Reader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.decryptor.read(out)?;
        self.seen += read as u64;
        if read > 0 || out.is_empty() {
            return Ok(read);
        }
        let digest = self.decryptor.get_ref().hasher.clone().finish();
        if digest != self.name || self.seen != self.size {
            return Err(io::Error::new(io::ErrorKind::InvalidData, ObjectsError::Authentication));
        }
        Ok(0)
    }
}

/// The ciphertext, hashed as it passes.
struct Hashed {
    bytes: Box<dyn Read + Send>,
    hasher: Hasher,
}

impl Read for Hashed {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.bytes.read(out)?;
        self.hasher.update(&out[..read]);
        Ok(read)
    }
}
