//! Reading from a bucket: one piece after the other, each a request of its own with its own tries.
//!
//! A reader that pauses, for a slow consumer, holds no connection, and none is broken by the limit on a request's time.
//! Memory: one piece. Failure: an error of the store comes out as an [`io::Error`] that holds the [`ObjectsError`]; an
//! object that changes between two pieces fails its authentication.

use super::failure::{from_store, is_beyond_end};
use bytes::{Buf, Bytes};
use object_store::path::Path as ObjectPath;
use object_store::{GetOptions, GetRange, ObjectStore};
use std::io::{self, Read};
use std::sync::Arc;
use tokio::runtime::Handle;
use zegel_core::ObjectsError;

/// Large enough that the way there and back does not dominate; most objects are one piece.
pub(crate) const PIECE: u64 = 4 * 1024 * 1024;

/// The stored bytes of one object.
pub(crate) struct Pieces {
    store: Arc<dyn ObjectStore>,
    runtime: Handle,
    path: ObjectPath,
    current: Bytes,
    /// Where the next piece begins, and where the object ends.
    next: u64,
    size: u64,
}

impl Pieces {
    /// Asks for the first piece.
    pub(crate) fn open(
        store: Arc<dyn ObjectStore>,
        runtime: Handle,
        path: &ObjectPath,
    ) -> Result<Pieces, ObjectsError> {
        let mut pieces = Pieces { store, runtime, path: path.clone(), current: Bytes::new(), next: 0, size: PIECE };
        match pieces.fetch() {
            // An object of no bytes: no ciphertext is that short, which authentication will find.
            Err(error) if is_beyond_end(&error) => pieces.size = 0,
            other => other.map_err(from_store)?,
        }
        Ok(pieces)
    }

    fn fetch(&mut self) -> object_store::Result<()> {
        let range = GetRange::Bounded(self.next..self.next.saturating_add(PIECE));
        let options = GetOptions { range: Some(range), ..GetOptions::default() };
        self.current = self.runtime.block_on(async {
            let found = self.store.get_opts(&self.path, options).await?;
            self.size = found.meta.size;
            found.bytes().await
        })?;
        self.next += self.current.len() as u64;
        Ok(())
    }
}

impl Read for Pieces {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.current.is_empty() && self.next < self.size {
            self.fetch().map_err(|error| io::Error::other(from_store(error)))?;
        }
        let taken = out.len().min(self.current.len());
        self.current.copy_to_slice(&mut out[..taken]);
        Ok(taken)
    }
}
