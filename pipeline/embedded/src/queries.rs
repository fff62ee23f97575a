//! The reads, on a connection that cannot write: typed rows out of SQL, with the bounds of the ports.

use crate::error::store_error;
use crate::shared::Room;
use bytes::Bytes;
use rusqlite::{Connection, Row, params_from_iter, types::Value};
use schemas::{Key, MessageId, Millis};
use std::collections::HashMap;
use zegel_core::packed::{message_id, number_of, slot_code, slot_of};
use zegel_core::store::{DeadFilter, DeadLetter, Parked, ParkedHead, ParkedJob, SlotStats, Timer};
use zegel_core::{BatchLimits, Delivery, Outgoing, Read, Rows, Sealed, Slot, Space, StoreError};

type Result<T> = std::result::Result<T, StoreError>;

/// Several reads from one snapshot.
pub(crate) fn read(connection: &Connection, reads: &[Read]) -> Result<Vec<Rows>> {
    let all = || -> rusqlite::Result<Vec<Rows>> {
        // A single statement is a snapshot by itself.
        if reads.len() < 2 {
            return reads.iter().map(|read| one(connection, read)).collect();
        }
        connection.prepare_cached("BEGIN")?.execute([])?;
        let rows = reads.iter().map(|read| one(connection, read)).collect();
        connection.prepare_cached("COMMIT")?.execute([])?;
        rows
    };
    all().map_err(|error| store_error(&error))
}

/// Rows of a space in order of owner and sub, after a place.
pub(crate) fn scan(
    connection: &Connection,
    space: Space,
    after: Option<(Key, Bytes)>,
    limit: usize,
) -> Result<Vec<(Key, Bytes, Sealed)>> {
    let rows = || -> rusqlite::Result<Vec<(Key, Bytes, Sealed)>> {
        let mut select = connection.prepare_cached(
            "SELECT owner, sub, value FROM state WHERE space = ? AND (owner, sub) > (?, ?) ORDER BY owner, sub LIMIT ?",
        )?;
        // Owners are 16 bytes, so an empty one stands before all of them.
        let (owner, sub) = after.map_or((Vec::new(), Bytes::new()), |(owner, sub)| (owner.0.to_vec(), sub));
        let found = select.query_map((i64::from(space.code), owner, &sub[..], count_to_sql(limit)), |row| {
            Ok((Key(row.get(0)?), Bytes::copy_from_slice(row.get_ref(1)?.as_blob()?), sealed(row, 2)?))
        })?;
        found.collect()
    };
    rows().map_err(|error| store_error(&error))
}

fn one(connection: &Connection, read: &Read) -> rusqlite::Result<Rows> {
    match read {
        Read::One { space, owner, sub } => {
            let mut select =
                connection.prepare_cached("SELECT value FROM state WHERE space = ? AND owner = ? AND sub = ?")?;
            let mut rows = select.query((i64::from(space.code), &owner.0[..], &sub[..]))?;
            Ok(match rows.next()? {
                Some(row) => vec![(sub.clone(), sealed(row, 0)?)],
                None => Rows::new(),
            })
        }
        Read::Range { space, owner, from, to, limit, reverse } => {
            let upper = if to.is_some() { "AND sub < ?4" } else { "" };
            let order = if *reverse { "DESC" } else { "ASC" };
            let mut select = connection.prepare_cached(&format!(
                "SELECT sub, value FROM state WHERE space = ?1 AND owner = ?2 AND sub >= ?3 {upper} ORDER BY sub {order}
                 LIMIT {}",
                if to.is_some() { "?5" } else { "?4" },
            ))?;
            let mut values: Vec<Value> =
                vec![i64::from(space.code).into(), owner.0.to_vec().into(), from.to_vec().into()];
            values.extend(to.as_ref().map(|to| Value::from(to.to_vec())));
            values.push(count_to_sql(*limit).into());
            let mut found = select.query(params_from_iter(values))?;
            let mut rows = Rows::new();
            while let Some(row) = found.next()? {
                rows.push((Bytes::copy_from_slice(row.get_ref(0)?.as_blob()?), sealed(row, 1)?));
            }
            Ok(rows)
        }
    }
}

/// Messages of a partition after a number, up to another, within the limits.
pub(crate) fn messages(
    connection: &Connection,
    place: (u16, u16),
    after: u64,
    up_to: u64,
    limits: BatchLimits,
) -> Result<Vec<Delivery>> {
    let all = || -> rusqlite::Result<Vec<Delivery>> {
        let mut select = connection.prepare_cached(
            "SELECT id, key, message, body FROM messages WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?",
        )?;
        let (first, last) = (message_id(place.0, place.1, after + 1), message_id(place.0, place.1, up_to));
        let mut rows = select.query((first, last, count_to_sql(limits.messages.max(1))))?;
        let mut room = Room::new(limits);
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            if !room.takes(row.get_ref(3)?.as_blob()?.len()) {
                break;
            }
            found.push(Delivery {
                number: number_of(row.get(0)?),
                key: key(row, 1)?,
                id: MessageId(row.get(2)?),
                body: sealed(row, 3)?,
            });
        }
        Ok(found)
    };
    all().map_err(|error| store_error(&error))
}

/// Every sealed message, table by table.
pub(crate) fn each_message(connection: &Connection, mut each: impl FnMut(&'static str, Outgoing)) -> Result<()> {
    // A message's channel is the upper bits of its place, see `layout`; a timer holds the message that it will send.
    let tables = [
        ("messages", "SELECT id >> 48, key, message, body FROM messages"),
        ("parked", "SELECT slot >> 32, key, message, body FROM parked"),
        ("timers", "SELECT channel, message_key, message, body FROM timers"),
        ("dead", "SELECT channel, key, message, body FROM dead"),
    ];
    let mut all = || -> rusqlite::Result<()> {
        for (table, sql) in tables {
            let mut select = connection.prepare(sql)?;
            let mut rows = select.query([])?;
            while let Some(row) = rows.next()? {
                let (channel, key, id) = (row.get(0)?, key(row, 1)?, MessageId(row.get(2)?));
                each(table, Outgoing { channel, key, id, body: sealed(row, 3)? });
            }
        }
        Ok(())
    };
    all().map_err(|error| store_error(&error))
}

/// Due timers, and when the next one after them is due.
pub(crate) fn due_timers(
    connection: &Connection,
    slot: Slot,
    now: Millis,
    limit: usize,
) -> Result<(Vec<Timer>, Option<Millis>)> {
    let all = || -> rusqlite::Result<(Vec<Timer>, Option<Millis>)> {
        let mut select = connection.prepare_cached(
            "SELECT key, name, due, channel, message_key, message, body FROM timers
             WHERE slot = ? ORDER BY due, key, name LIMIT ?",
        )?;
        // One more than asked for: it tells when the next is due, and its body is never looked at.
        let mut rows = select.query((slot_code(slot), count_to_sql(limit.saturating_add(1))))?;
        let mut timers = Vec::new();
        while let Some(row) = rows.next()? {
            let due = Millis(row.get(2)?);
            if due > now || timers.len() == limit {
                return Ok((timers, Some(due)));
            }
            let message =
                Outgoing { channel: row.get(3)?, key: key(row, 4)?, id: MessageId(row.get(5)?), body: sealed(row, 6)? };
            timers.push(Timer { key: key(row, 0)?, name: row.get(1)?, due, message });
        }
        Ok((timers, None))
    };
    all().map_err(|error| store_error(&error))
}

/// Heads of parked messages in number order.
pub(crate) fn parked_heads(connection: &Connection, slot: Slot, after: u64, limit: usize) -> Result<Vec<ParkedHead>> {
    let all = || -> rusqlite::Result<Vec<ParkedHead>> {
        let mut select = connection.prepare_cached(
            "SELECT number, key, due, length(body), job_spec IS NOT NULL AND job_result IS NULL FROM parked
             WHERE slot = ? AND number > ? ORDER BY number LIMIT ?",
        )?;
        let mut rows = select.query((slot_code(slot), after.cast_signed(), count_to_sql(limit)))?;
        let mut heads = Vec::new();
        while let Some(row) = rows.next()? {
            heads.push(ParkedHead {
                number: unsigned(row, 0)?,
                key: key(row, 1)?,
                due: Millis(row.get(2)?),
                bytes: usize::try_from(unsigned(row, 3)?).unwrap_or(usize::MAX),
                job_pending: row.get(4)?,
            });
        }
        Ok(heads)
    };
    all().map_err(|error| store_error(&error))
}

/// Parked messages by number.
pub(crate) fn parked(connection: &Connection, slot: Slot, numbers: &[u64]) -> Result<Vec<Parked>> {
    let all = || -> rusqlite::Result<Vec<Parked>> {
        let mut select = connection.prepare_cached(
            "SELECT key, message, due, attempt, job_spec, job_result, job_starts, body FROM parked
             WHERE slot = ? AND number = ?",
        )?;
        let mut found = Vec::new();
        for number in numbers {
            let mut rows = select.query((slot_code(slot), number.cast_signed()))?;
            if let Some(row) = rows.next()? {
                found.push(parked_of(row, *number)?);
            }
        }
        Ok(found)
    };
    all().map_err(|error| store_error(&error))
}

fn parked_of(row: &Row<'_>, number: u64) -> rusqlite::Result<Parked> {
    let job = match row.get_ref(4)?.as_blob_or_null()? {
        None => None,
        Some(spec) => Some(ParkedJob {
            spec: Sealed::from_stored(Bytes::copy_from_slice(spec)),
            result: row.get_ref(5)?.as_blob_or_null()?.map(|bytes| Sealed::from_stored(Bytes::copy_from_slice(bytes))),
            starts: row.get(6)?,
        }),
    };
    Ok(Parked {
        number,
        key: key(row, 0)?,
        id: MessageId(row.get(1)?),
        body: sealed(row, 7)?,
        due: Millis(row.get(2)?),
        attempt: row.get(3)?,
        job,
    })
}

/// Dead letters in order of (channel, partition, number).
pub(crate) fn dead(connection: &Connection, filter: DeadFilter) -> Result<Vec<DeadLetter>> {
    let all = || -> rusqlite::Result<Vec<DeadLetter>> {
        let mut select = connection.prepare_cached(
            "SELECT channel, partition, number, grp, key, message, code, attempts, at, body FROM dead
             WHERE (?1 IS NULL OR channel = ?1) AND (?2 IS NULL OR message = ?2)
             AND (channel, partition, number) > (?3, ?4, ?5) ORDER BY channel, partition, number, grp LIMIT ?6",
        )?;
        let (channel, partition, number) = match filter.after {
            Some((channel, partition, number)) => {
                (i64::from(channel), i64::from(partition), i64::try_from(number).unwrap_or(i64::MAX))
            }
            None => (-1, -1, -1),
        };
        let id = filter.id.as_ref().map(|id| &id.0[..]);
        let limit = count_to_sql(filter.limit);
        let mut rows = select.query((filter.channel, id, channel, partition, number, limit))?;
        let mut letters = Vec::new();
        while let Some(row) = rows.next()? {
            letters.push(DeadLetter {
                slot: Slot { channel: row.get(0)?, partition: row.get(1)?, group: row.get(3)? },
                number: unsigned(row, 2)?,
                key: key(row, 4)?,
                id: MessageId(row.get(5)?),
                code: row.get(6)?,
                attempts: row.get(7)?,
                at: Millis(row.get(8)?),
                body: sealed(row, 9)?,
            });
        }
        Ok(letters)
    };
    all().map_err(|error| store_error(&error))
}

/// One line per slot of the topology; last numbers and positions are the caller's.
pub(crate) fn stats(connection: &Connection, mut lines: Vec<SlotStats>) -> Result<Vec<SlotStats>> {
    let count = |sql: &str| -> rusqlite::Result<HashMap<Slot, u64>> {
        let mut select = connection.prepare_cached(sql)?;
        let mut rows = select.query([])?;
        let mut counts = HashMap::new();
        while let Some(row) = rows.next()? {
            counts.insert(slot_of(row.get(0)?), unsigned(row, 1)?);
        }
        Ok(counts)
    };
    let mut all = || -> rusqlite::Result<()> {
        let parked = count("SELECT slot, count(*) FROM parked GROUP BY slot")?;
        let timers = count("SELECT slot, count(*) FROM timers INDEXED BY timers_key GROUP BY slot")?;
        let dead = count("SELECT (channel << 32) | (grp << 16) | partition, count(*) FROM dead GROUP BY 1")?;
        for line in &mut lines {
            let of = |counts: &HashMap<Slot, u64>| counts.get(&line.slot).copied().unwrap_or(0);
            (line.parked, line.timers, line.dead) = (of(&parked), of(&timers), of(&dead));
        }
        Ok(())
    };
    all().map_err(|error| store_error(&error))?;
    Ok(lines)
}

fn count_to_sql(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    Ok(row.get::<_, i64>(column)?.cast_unsigned())
}

fn key(row: &Row<'_>, column: usize) -> rusqlite::Result<Key> {
    row.get(column).map(Key)
}

fn sealed(row: &Row<'_>, column: usize) -> rusqlite::Result<Sealed> {
    Ok(Sealed::from_stored(Bytes::copy_from_slice(row.get_ref(column)?.as_blob()?)))
}
