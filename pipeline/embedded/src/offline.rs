//! Reading a store without working on it: for commands while no process runs, or beside one.
//!
//! Nothing is written but SQLite's own shared-memory file, which a reader of a log needs.

use crate::cache::Cache;
use crate::error::OpenError;
use crate::shared::Shared;
use crate::{export, layout, lines_of, publish_progress, queries};
use bytes::Bytes;
use rusqlite::Connection;
use schemas::Key;
use std::path::Path;
use zegel_core::moving::{Cell, Place};
use zegel_core::store::{DeadFilter, DeadLetter, ParkedHead, SlotStats};
use zegel_core::{Outgoing, Read, Rows, Sealed, Slot, Space, StoreError};

/// A store that is only read.
pub struct Offline {
    connection: Connection,
    shared: Shared,
}

impl Offline {
    /// Opens an existing store for reading.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(path: impl AsRef<Path>) -> Result<Offline, OpenError> {
        let path = path.as_ref();
        layout::check_topology()?;
        let connection = layout::open_reader(path)?;
        layout::check_version(&connection, path)?;
        Ok(Offline { connection, shared: Shared::new(0) })
    }

    /// See [`zegel_core::Store::dead`].
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn dead(&self, filter: DeadFilter) -> Result<Vec<DeadLetter>, StoreError> {
        queries::dead(&self.connection, filter)
    }

    /// See [`zegel_core::Store::read`].
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn read(&self, reads: &[Read]) -> Result<Vec<Rows>, StoreError> {
        queries::read(&self.connection, reads)
    }

    /// Rows of a space in order of owner and sub, after a place; at most `limit`. For checks that look at everything.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn scan(
        &self,
        space: Space,
        after: Option<(Key, Bytes)>,
        limit: usize,
    ) -> Result<Vec<(Key, Bytes, Sealed)>, StoreError> {
        queries::scan(&self.connection, space, after, limit)
    }

    /// See [`zegel_core::moving::Export::export`].
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn export(&self, place: &Place, rows: usize, bytes: usize) -> Result<Vec<Vec<Cell>>, StoreError> {
        export::export(&self.connection, place, rows, bytes)
    }

    /// Gives every sealed message to `each`, with the table that holds it. For checks that look at everything.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn each_message(&self, each: impl FnMut(&'static str, Outgoing)) -> Result<(), StoreError> {
        queries::each_message(&self.connection, each)
    }

    /// See [`zegel_core::Store::parked_heads`].
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn parked_heads(&self, slot: Slot, after: u64, limit: usize) -> Result<Vec<ParkedHead>, StoreError> {
        queries::parked_heads(&self.connection, slot, after, limit)
    }

    /// See [`zegel_core::Store::stats`].
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn stats(&self) -> Result<Vec<SlotStats>, StoreError> {
        let cache = Cache::load(&self.connection, &self.shared).map_err(|error| crate::error::store_error(&error))?;
        publish_progress(&cache, &self.shared);
        let mut lines: Vec<SlotStats> = self.shared.partitions.iter().flat_map(lines_of).collect();
        lines.sort_by_key(|line| line.slot);
        queries::stats(&self.connection, lines)
    }
}
