//! The file's format, version 1: tables, how places are packed into integers, and how a connection is set up.
//!
//! - `messages.id` = channel << 48 | partition << 40 | number, so a partition is one ascending run of the table's own
//!   B-tree: appending touches one leaf, reading and trimming are ranges, and there is no second index to write.
//!   It holds channels up to 32,767, 256 partitions each and 2^40 messages in each.
//! - A partition's last number is the largest one in the table, or what was trimmed when nothing is left; it is not
//!   written anywhere else, so a message costs one row.
//! - `timers` are clustered by when they are due: those of one time are set together and cancelled together, so their
//!   bodies share pages; only the narrow index by key is touched at random.
//! - `slot` = channel << 32 | group << 16 | partition.
//! - Keys, ids, owners and subs are raw bytes; bodies and values are sealed by the layer above.

use crate::error::OpenError;
use rusqlite::{Connection, OpenFlags};
use std::path::Path;
use std::time::Duration;
use topology::Channel;
use zegel_core::Slot;

/// The format that this program writes.
pub(crate) const VERSION: i64 = 1;
/// Marks the file as ours in its header ("ZGL1"), for `file` and for us.
const APPLICATION_ID: i64 = 0x5A47_4C31;
/// Bytes in a page. Seven messages of 1 KiB share one, and a sealed value of 1 KiB stays in its row's own leaf, where 4 KiB
/// pages would give it an overflow page; 16 KiB pages write more of what did not change.
pub(crate) const PAGE: u64 = 8_192;
/// Bits of a message's number within its partition.
pub(crate) const NUMBER_BITS: u32 = 40;
/// The largest number a partition may reach: over a trillion, a billion messages a day for three years in one partition.
pub(crate) const MAX_NUMBER: u64 = (1 << NUMBER_BITS) - 1;
/// How long a statement waits for a lock that another connection holds. The writer has no rival; only a restart of the
/// log and recovery after a crash lock at all.
const BUSY: Duration = Duration::from_millis(1_000);
/// Prepared statements kept per connection: more than there are statements in this crate.
const STATEMENTS: usize = 64;

/// The writer's page cache, taken as it is needed: the leaves that a few seconds of traffic touch again, which would
/// otherwise be read back from the file.
const WRITER_CACHE_KIB: u32 = 65_536;

/// Every table of version 1. `WITHOUT ROWID` tables are one B-tree, clustered by their key.
pub(crate) const SCHEMA: &str = "
CREATE TABLE format(version INTEGER NOT NULL);
CREATE TABLE messages(id INTEGER PRIMARY KEY, key BLOB NOT NULL, message BLOB NOT NULL, body BLOB NOT NULL);
CREATE TABLE partitions(partition INTEGER PRIMARY KEY, trimmed INTEGER NOT NULL);
CREATE TABLE slots(slot INTEGER PRIMARY KEY, position INTEGER NOT NULL, settled INTEGER NOT NULL, owner BLOB,
  epoch INTEGER NOT NULL, until INTEGER NOT NULL, clean INTEGER NOT NULL);
CREATE TABLE attempts(slot INTEGER NOT NULL, number INTEGER NOT NULL, count INTEGER NOT NULL,
  PRIMARY KEY(slot, number)) WITHOUT ROWID;
CREATE TABLE state(space INTEGER NOT NULL, owner BLOB NOT NULL, sub BLOB NOT NULL, value BLOB NOT NULL,
  PRIMARY KEY(space, owner, sub)) WITHOUT ROWID;
CREATE TABLE timers(slot INTEGER NOT NULL, due INTEGER NOT NULL, key BLOB NOT NULL, name TEXT NOT NULL,
  channel INTEGER NOT NULL, message_key BLOB NOT NULL, message BLOB NOT NULL, body BLOB NOT NULL,
  PRIMARY KEY(slot, due, key, name)) WITHOUT ROWID;
CREATE UNIQUE INDEX timers_key ON timers(slot, key, name);
CREATE TABLE parked(slot INTEGER NOT NULL, number INTEGER NOT NULL, key BLOB NOT NULL, message BLOB NOT NULL,
  due INTEGER NOT NULL, attempt INTEGER NOT NULL, job_spec BLOB, job_result BLOB, job_starts INTEGER NOT NULL,
  body BLOB NOT NULL, PRIMARY KEY(slot, number)) WITHOUT ROWID;
CREATE TABLE dead(channel INTEGER NOT NULL, partition INTEGER NOT NULL, number INTEGER NOT NULL, grp INTEGER NOT NULL,
  key BLOB NOT NULL, message BLOB NOT NULL, code TEXT NOT NULL, attempts INTEGER NOT NULL, at INTEGER NOT NULL,
  body BLOB NOT NULL, PRIMARY KEY(channel, partition, number, grp)) WITHOUT ROWID;
";

/// `messages.id` of a place.
pub(crate) fn message_id(channel: u16, partition: u16, number: u64) -> i64 {
    (i64::from(channel) << 48) | (i64::from(partition) << NUMBER_BITS) | number.cast_signed()
}

/// The number in a `messages.id`.
pub(crate) fn number_of(id: i64) -> u64 {
    id.cast_unsigned() & MAX_NUMBER
}

/// A partition without its number, as in `partitions.partition` and the upper bits of `messages.id`.
pub(crate) fn partition_code(channel: u16, partition: u16) -> i64 {
    message_id(channel, partition, 0) >> NUMBER_BITS
}

/// A slot as one integer.
pub(crate) fn slot_code(slot: Slot) -> i64 {
    (i64::from(slot.channel) << 32) | (i64::from(slot.group) << 16) | i64::from(slot.partition)
}

/// The slot of an integer.
pub(crate) fn slot_of(code: i64) -> Slot {
    let part = |shift: u32| u16::try_from((code >> shift) & 0xFFFF).unwrap_or(0);
    Slot { channel: part(32), group: part(16), partition: part(0) }
}

/// Whether all channels fit into the integers.
pub(crate) fn check_topology() -> Result<(), OpenError> {
    let fits = |channel: &Channel| channel.code < 1 << 15 && channel.partitions <= 1 << 8;
    match topology::CHANNELS.iter().find(|channel| !fits(channel)) {
        Some(channel) => Err(OpenError::Topology(channel.name)),
        None => Ok(()),
    }
}

/// Opens the writer's connection and makes the tables of a new file.
pub(crate) fn open_writer(path: &Path) -> Result<Connection, OpenError> {
    let sql = |error: rusqlite::Error| OpenError::sql(path, &error);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(sql)?;
    set_up(&connection, WRITER_CACHE_KIB).map_err(sql)?;
    // Looked at before anything is changed: another program's file stays as it is.
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(sql)?;
    if tables > 0 {
        check_version(&connection, path)?;
    }
    connection
        .execute_batch(&format!(
            "PRAGMA page_size = {PAGE}; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
             PRAGMA wal_autocheckpoint = 0; PRAGMA temp_store = MEMORY; PRAGMA trusted_schema = OFF;"
        ))
        .map_err(sql)?;
    if tables == 0 {
        connection
            .execute_batch(&format!(
                "BEGIN IMMEDIATE; {SCHEMA} PRAGMA application_id = {APPLICATION_ID};
                 INSERT INTO format VALUES({VERSION}); COMMIT;"
            ))
            .map_err(sql)?;
    }
    Ok(connection)
}

/// Opens a connection that cannot write.
pub(crate) fn open_reader(path: &Path) -> Result<Connection, OpenError> {
    let sql = |error: rusqlite::Error| OpenError::sql(path, &error);
    if !path.exists() {
        return Err(OpenError::Missing { path: path.to_owned() });
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(sql)?;
    set_up(&connection, 4_096).map_err(sql)?;
    Ok(connection)
}

/// Opens a connection of the checkpointing thread.
pub(crate) fn open_checkpointer(path: &Path) -> Result<Connection, OpenError> {
    let sql = |error: rusqlite::Error| OpenError::sql(path, &error);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(sql)?;
    set_up(&connection, 1_024).map_err(sql)?;
    connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0;").map_err(sql)?;
    Ok(connection)
}

fn set_up(connection: &Connection, cache_kib: u32) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    // A cell that points outside its page is found when the page is read, not when it has done harm.
    connection.execute_batch(&format!("PRAGMA cell_size_check = ON; PRAGMA cache_size = -{cache_kib};"))
}

/// Refuses a file of another program and of a newer version.
pub(crate) fn check_version(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let sql = |error: rusqlite::Error| OpenError::sql(path, &error);
    let id: i64 = connection.query_row("PRAGMA application_id", [], |row| row.get(0)).map_err(sql)?;
    if id != APPLICATION_ID {
        return Err(OpenError::Foreign { path: path.to_owned() });
    }
    let found: i64 = connection.query_row("SELECT max(version) FROM format", [], |row| row.get(0)).map_err(sql)?;
    if found > VERSION {
        return Err(OpenError::Version { path: path.to_owned(), found, known: VERSION });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packed_place_comes_apart_again_and_keeps_the_order() {
        let slot = Slot { channel: 0x7FFF, group: 0xFFFF, partition: 0xFF };
        assert_eq!(slot_of(slot_code(slot)), slot);
        let last = message_id(0x7FFF, 0xFF, MAX_NUMBER);
        assert!(last > 0 && number_of(last) == MAX_NUMBER);
        assert!(message_id(1, 0, MAX_NUMBER) < message_id(1, 1, 1));
        assert!(message_id(1, 0xFF, MAX_NUMBER) < message_id(2, 0, 1));
    }

    #[test]
    fn every_channel_of_the_topology_fits() {
        assert!(check_topology().is_ok());
    }
}
