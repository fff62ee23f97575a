//! The file's format, version 1: tables, and how a connection is set up. Places are packed by [`zegel_core::packed`].
//!
//! - A partition is one ascending run of `messages.id`, the table's own B-tree: appending touches one leaf, reading and
//!   trimming are ranges, and there is no second index to write.
//! - A partition's last number is the largest one in the table, or what was trimmed when nothing is left; it is not
//!   written anywhere else, so a message costs one row.
//! - `timers` are clustered by when they are due: those of one time are set together and cancelled together, so their
//!   bodies share pages; only the narrow index by key is touched at random.
//! - Keys, ids, owners and subs are raw bytes; bodies and values are sealed by the layer above.

use crate::error::OpenError;
use rusqlite::{Connection, OpenFlags};
use std::path::Path;
use std::time::Duration;
use zegel_core::packed;

/// The format that this program writes.
pub(crate) const VERSION: i64 = 1;
/// Marks the file as ours in its header ("ZGL1"), for `file` and for us.
const APPLICATION_ID: i64 = 0x5A47_4C31;
/// Bytes in a page. Seven messages of 1 KiB share one, and a sealed value of 1 KiB stays in its row's own leaf, where 4 KiB
/// pages would give it an overflow page; 16 KiB pages write more of what did not change.
pub(crate) const PAGE: u64 = 8_192;
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

/// Whether all channels fit into the integers.
pub(crate) fn check_topology() -> Result<(), OpenError> {
    packed::misfit().map_or(Ok(()), |channel| Err(OpenError::Topology(channel)))
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
