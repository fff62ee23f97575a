//! What the writer keeps in memory of its own file, so that a step needs no query before it writes: the last number of
//! each partition, the row of each slot, and which slots have attempts on record.
//!
//! The cache is read from the file when the store is opened and again after every rollback; between those two it changes
//! with the transaction.

use crate::error::Fault;
use crate::shared::Shared;
use rusqlite::{Connection, OptionalExtension as _};
use schemas::Millis;
use std::collections::{HashMap, HashSet};
use zegel_core::packed::{MAX_NUMBER, message_id, number_of, partition_code, slot_code, slot_of};
use zegel_core::{OwnerId, Slot, StoreError};

/// The row of a slot.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SlotRow {
    pub(crate) position: u64,
    pub(crate) settled: u64,
    pub(crate) owner: Option<OwnerId>,
    pub(crate) epoch: u64,
    pub(crate) until: Millis,
    pub(crate) clean: bool,
}

impl Default for SlotRow {
    fn default() -> SlotRow {
        // Nobody has worked on a new slot, so nobody left it unclean.
        SlotRow { position: 0, settled: 0, owner: None, epoch: 0, until: Millis(0), clean: true }
    }
}

/// See the module's header.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    /// The last number given, by index of the partition.
    pub(crate) last: Vec<u64>,
    /// Up to where messages were deleted, by index of the partition.
    pub(crate) trimmed: Vec<u64>,
    pub(crate) slots: HashMap<Slot, SlotRow>,
    /// Slots with rows in `attempts`.
    pub(crate) attempts: HashSet<Slot>,
}

impl Cache {
    pub(crate) fn load(connection: &Connection, shared: &Shared) -> rusqlite::Result<Cache> {
        let mut cache = Cache::default();
        let mut newest = connection.prepare_cached("SELECT max(id) FROM messages WHERE id BETWEEN ? AND ?")?;
        let mut trimmed = connection.prepare_cached("SELECT trimmed FROM partitions WHERE partition = ?")?;
        for partition in &shared.partitions {
            let (channel, number) = (partition.channel.code, partition.number);
            let range = (message_id(channel, number, 0), message_id(channel, number, MAX_NUMBER));
            let last: Option<i64> = newest.query_row(range, |row| row.get(0))?;
            let gone: Option<i64> =
                trimmed.query_row([partition_code(channel, number)], |row| row.get(0)).optional()?;
            let gone = gone.unwrap_or(0).cast_unsigned();
            cache.last.push(last.map_or(0, number_of).max(gone));
            cache.trimmed.push(gone);
        }
        let mut slots =
            connection.prepare_cached("SELECT slot, position, settled, owner, epoch, until, clean FROM slots")?;
        let mut rows = slots.query([])?;
        while let Some(row) = rows.next()? {
            let owner: Option<[u8; 16]> = row.get(3)?;
            let found = SlotRow {
                position: row.get::<_, i64>(1)?.cast_unsigned(),
                settled: row.get::<_, i64>(2)?.cast_unsigned(),
                owner: owner.map(OwnerId),
                epoch: row.get::<_, i64>(4)?.cast_unsigned(),
                until: Millis(row.get(5)?),
                clean: row.get(6)?,
            };
            cache.slots.insert(slot_of(row.get(0)?), found);
        }
        let mut attempts = connection.prepare_cached("SELECT DISTINCT slot FROM attempts")?;
        let mut rows = attempts.query([])?;
        while let Some(row) = rows.next()? {
            cache.attempts.insert(slot_of(row.get(0)?));
        }
        Ok(cache)
    }

    pub(crate) fn row(&self, slot: Slot) -> SlotRow {
        self.slots.get(&slot).copied().unwrap_or_default()
    }

    /// The slot's row, if this epoch owns it.
    pub(crate) fn owned(&self, slot: Slot, epoch: u64) -> Result<SlotRow, Fault> {
        let row = self.row(slot);
        if row.owner.is_some() && row.epoch == epoch {
            Ok(row)
        } else {
            Err(Fault::Request(StoreError::Fenced { slot }))
        }
    }

    /// Writes a slot's row to the file and keeps it.
    pub(crate) fn put(&mut self, connection: &Connection, slot: Slot, row: SlotRow) -> Result<(), Fault> {
        let mut upsert = connection.prepare_cached(
            "INSERT INTO slots(slot, position, settled, owner, epoch, until, clean) VALUES(?, ?, ?, ?, ?, ?, ?)
             ON CONFLICT(slot) DO UPDATE SET position = excluded.position, settled = excluded.settled,
             owner = excluded.owner, epoch = excluded.epoch, until = excluded.until, clean = excluded.clean",
        )?;
        upsert.execute((
            slot_code(slot),
            row.position.cast_signed(),
            row.settled.cast_signed(),
            row.owner.as_ref().map(|owner| &owner.0[..]),
            row.epoch.cast_signed(),
            row.until.0,
            row.clean,
        ))?;
        self.slots.insert(slot, row);
        Ok(())
    }
}
