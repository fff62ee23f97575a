//! Reading one object: ciphertext in, every segment's tag checked, and the whole's digest and length before end of file.

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use object_store::{GetResult, GetResultPayload};
use schemas::Sha256;
use schemas::messages::ObjectRef;
use std::fs::File;
use std::io::{self, Read};
use tokio::runtime::Handle;
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
    pub(crate) fn new(found: GetResult, runtime: Handle, key: ObjectKey, object: &ObjectRef) -> Reader {
        let source = match found.payload {
            GetResultPayload::File(file, _) => Source::File(file),
            GetResultPayload::Stream(chunks) => Source::Chunks { chunks, current: Bytes::new(), runtime },
        };
        let input = Hashed { source, hasher: Hasher::new() };
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
    source: Source,
    hasher: Hasher,
}

/// A local file is read directly, without a hop to another thread for each chunk.
enum Source {
    File(File),
    Chunks { chunks: BoxStream<'static, object_store::Result<Bytes>>, current: Bytes, runtime: Handle },
}

impl Read for Hashed {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(out)?;
        self.hasher.update(&out[..read]);
        Ok(read)
    }
}

impl Read for Source {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let (chunks, current, runtime) = match self {
            Source::File(file) => return file.read(out),
            Source::Chunks { chunks, current, runtime } => (chunks, current, runtime),
        };
        while current.is_empty() {
            match runtime.block_on(chunks.next()) {
                Some(chunk) => *current = chunk.map_err(io::Error::other)?,
                None => return Ok(0),
            }
        }
        let taken = out.len().min(current.len());
        out[..taken].copy_from_slice(&current.split_to(taken));
        Ok(taken)
    }
}
