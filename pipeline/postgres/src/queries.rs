//! The reads: typed rows out of SQL, with the bounds of the ports. One statement each, so each sees one snapshot.

use crate::connect::Session;
use crate::error::Fault;
use bytes::Bytes;
use schemas::{Key, MessageId, Millis};
use std::sync::Arc;
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, ToSql};
use zegel_core::packed::{MAX_NUMBER, message_id, number_of, partition_of_code, slot_code, slot_of};
use zegel_core::slot::RELAY;
use zegel_core::store::{DeadFilter, DeadLetter, Parked, ParkedHead, ParkedJob, Progress, SlotStats, Timer};
use zegel_core::{BatchLimits, Delivery, Outgoing, Read, Rows, Sealed, Slot, Space, StoreError};

type Result<T> = std::result::Result<T, Fault>;

/// Runs a statement and turns each row into something.
async fn rows<T>(
    session: &Session,
    sql: &'static str,
    parameters: &[&(dyn ToSql + Sync)],
    read: impl Fn(&Row) -> Result<T>,
) -> Result<Vec<T>> {
    let statement = session.statement(sql).await?;
    session.client.query(&statement, parameters).await?.iter().map(read).collect()
}

/// Every kind of read is a branch of its own, so that each is one walk along the primary key with both ends known.
const READ: &str =
    "WITH r AS MATERIALIZED (SELECT * FROM unnest($1::integer[], $2::integer[], $3::bytea[], $4::bytea[],
    $5::bytea[], $6::bigint[]) WITH ORDINALITY AS r(kind, space, owner, lo, hi, most, place))
  SELECT r.place, s.sub, s.value, s.rank FROM r CROSS JOIN LATERAL (
    SELECT sub, value, 0::bigint AS rank FROM state
      WHERE r.kind = 0 AND space = r.space AND owner = r.owner AND sub = r.lo) s
  UNION ALL SELECT r.place, s.sub, s.value, row_number() OVER () FROM r CROSS JOIN LATERAL (
    SELECT sub, value FROM state
      WHERE r.kind = 1 AND space = r.space AND owner = r.owner AND sub >= r.lo ORDER BY sub LIMIT r.most) s
  UNION ALL SELECT r.place, s.sub, s.value, row_number() OVER () FROM r CROSS JOIN LATERAL (
    SELECT sub, value FROM state WHERE r.kind = 2 AND space = r.space AND owner = r.owner AND sub >= r.lo
      AND sub < r.hi ORDER BY sub LIMIT r.most) s
  UNION ALL SELECT r.place, s.sub, s.value, row_number() OVER () FROM r CROSS JOIN LATERAL (
    SELECT sub, value FROM state
      WHERE r.kind = 3 AND space = r.space AND owner = r.owner AND sub >= r.lo ORDER BY sub DESC LIMIT r.most) s
  UNION ALL SELECT r.place, s.sub, s.value, row_number() OVER () FROM r CROSS JOIN LATERAL (
    SELECT sub, value FROM state WHERE r.kind = 4 AND space = r.space AND owner = r.owner AND sub >= r.lo
      AND sub < r.hi ORDER BY sub DESC LIMIT r.most) s";

/// Only single rows, which is what workers mostly ask for.
const READ_ONES: &str = "SELECT r.place, s.sub, s.value, 0::bigint FROM
    unnest($1::integer[], $2::bytea[], $3::bytea[]) WITH ORDINALITY AS r(space, owner, sub, place)
  JOIN state s ON s.space = r.space AND s.owner = r.owner AND s.sub = r.sub";

/// Several reads from one snapshot.
pub(crate) async fn read(session: Arc<Session>, reads: &[Read]) -> Result<Vec<Rows>> {
    let (mut kind, mut space, mut owner) = (Vec::new(), Vec::new(), Vec::new());
    let (mut lo, mut hi, mut most) = (Vec::new(), Vec::new(), Vec::new());
    for one in reads {
        let (of, who, from, to, limit, code) = match one {
            Read::One { space, owner, sub } => (space, owner, sub, None, 1, 0),
            Read::Range { space, owner, from, to, limit, reverse } => {
                let code = 1 + i32::from(to.is_some()) + if *reverse { 2 } else { 0 };
                (space, owner, from, to.as_deref(), *limit, code)
            }
        };
        kind.push(code);
        space.push(i32::from(of.code));
        owner.push(&who.0[..]);
        lo.push(&from[..]);
        hi.push(to);
        most.push(count(limit));
    }
    let typed = |row: &Row| -> Result<(i64, i64, Bytes, Sealed)> {
        Ok((get(row, 0)?, get(row, 3)?, bytes(row, 1)?, sealed(row, 2)?))
    };
    let mut found = if kind.iter().all(|kind| *kind == 0) {
        rows(&session, READ_ONES, &[&space, &owner, &lo], typed).await?
    } else {
        rows(&session, READ, &[&kind, &space, &owner, &lo, &hi, &most], typed).await?
    };
    found.sort_unstable_by_key(|(place, rank, _, _)| (*place, *rank));
    let mut answers = vec![Rows::new(); reads.len()];
    for (place, _, sub, value) in found {
        if let Some(answer) = usize::try_from(place - 1).ok().and_then(|index| answers.get_mut(index)) {
            answer.push((sub, value));
        }
    }
    Ok(answers)
}

/// Messages of a partition after a number, within the limits; the first always. The sum over the lengths needs no body.
const MESSAGES: &str = "SELECT id, key, message, body FROM (
    SELECT id, key, message, body, row_number() OVER w AS place, sum(octet_length(body)) OVER w AS total
    FROM (SELECT * FROM messages WHERE id > $1 AND id <= $2 ORDER BY id LIMIT $3) found
    WINDOW w AS (ORDER BY id ROWS UNBOUNDED PRECEDING)) counted
  WHERE place = 1 OR total <= $4 ORDER BY id";

/// See [`MESSAGES`].
pub(crate) async fn messages(
    session: Arc<Session>,
    place: (u16, u16),
    after: u64,
    limits: BatchLimits,
) -> Result<Vec<Delivery>> {
    let (first, last) = (message_id(place.0, place.1, after), message_id(place.0, place.1, MAX_NUMBER));
    let (most, room) = (count(limits.messages.max(1)), count(limits.bytes));
    rows(&session, MESSAGES, &[&first, &last, &most, &room], |row| {
        Ok(Delivery {
            number: number_of(get(row, 0)?),
            key: Key(id(row, 1)?),
            id: MessageId(id(row, 2)?),
            body: sealed(row, 3)?,
        })
    })
    .await
}

/// Due timers, and when the next one after them is due.
pub(crate) async fn due_timers(
    session: Arc<Session>,
    slot: Slot,
    now: Millis,
    limit: usize,
) -> Result<(Vec<Timer>, Option<Millis>)> {
    const SQL: &str = "SELECT key, name, due, channel, message_key, message, body FROM timers
        WHERE slot = $1 ORDER BY slot, due, key, name LIMIT $2";
    // One more than asked for: it tells when the next is due.
    let mut timers = rows(&session, SQL, &[&slot_code(slot), &count(limit.saturating_add(1))], |row| {
        let channel: i32 = get(row, 3)?;
        let message = Outgoing {
            channel: u16::try_from(channel).unwrap_or(u16::MAX),
            key: Key(id(row, 4)?),
            id: MessageId(id(row, 5)?),
            body: sealed(row, 6)?,
        };
        Ok(Timer { key: Key(id(row, 0)?), name: get(row, 1)?, due: Millis(get(row, 2)?), message })
    })
    .await?;
    let due = timers.iter().take(limit).take_while(|timer| timer.due <= now).count();
    let next = timers.get(due).map(|timer| timer.due);
    timers.truncate(due);
    Ok((timers, next))
}

/// Heads of parked messages in number order.
pub(crate) async fn parked_heads(
    session: Arc<Session>,
    slot: Slot,
    after: u64,
    limit: usize,
) -> Result<Vec<ParkedHead>> {
    const SQL: &str =
        "SELECT number, key, due, octet_length(body), job_spec IS NOT NULL AND job_result IS NULL FROM parked
        WHERE slot = $1 AND number > $2 ORDER BY number LIMIT $3";
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    rows(&session, SQL, &[&slot_code(slot), &after, &count(limit)], |row| {
        let bytes: i32 = get(row, 3)?;
        Ok(ParkedHead {
            number: unsigned(row, 0)?,
            key: Key(id(row, 1)?),
            due: Millis(get(row, 2)?),
            bytes: usize::try_from(bytes).unwrap_or(usize::MAX),
            job_pending: get(row, 4)?,
        })
    })
    .await
}

/// Parked messages by number, in the order asked for.
pub(crate) async fn parked(session: Arc<Session>, slot: Slot, numbers: &[u64]) -> Result<Vec<Parked>> {
    const SQL: &str = "SELECT p.number, p.key, p.message, p.due, p.attempt, p.job_spec, p.job_result, p.job_starts, p.body
        FROM unnest($2::bigint[]) WITH ORDINALITY AS w(number, place) JOIN parked p ON p.slot = $1 AND p.number = w.number
        ORDER BY w.place";
    let numbers: Vec<i64> = numbers.iter().map(|number| number.cast_signed()).collect();
    rows(&session, SQL, &[&slot_code(slot), &numbers], |row| {
        let spec = get::<Option<&[u8]>>(row, 5)?.map(own);
        let result = get::<Option<&[u8]>>(row, 6)?.map(own);
        let starts = small(row, 7)?;
        Ok(Parked {
            number: unsigned(row, 0)?,
            key: Key(id(row, 1)?),
            id: MessageId(id(row, 2)?),
            body: sealed(row, 8)?,
            due: Millis(get(row, 3)?),
            attempt: small(row, 4)?,
            job: spec.map(|spec| ParkedJob { spec, result, starts }),
        })
    })
    .await
}

/// Dead letters in order of (channel, partition, number).
pub(crate) async fn dead(session: Arc<Session>, filter: DeadFilter) -> Result<Vec<DeadLetter>> {
    const SQL: &str = "SELECT channel, partition, number, grp, key, message, code, attempts, at, body FROM dead
        WHERE ($1::integer IS NULL OR channel = $1) AND ($2::bytea IS NULL OR message = $2)
        AND (channel, partition, number) > ($3::integer, $4::integer, $5::bigint)
        ORDER BY channel, partition, number, grp LIMIT $6";
    let (channel, partition, number) = match filter.after {
        Some((channel, partition, number)) => {
            (i32::from(channel), i32::from(partition), i64::try_from(number).unwrap_or(i64::MAX))
        }
        None => (-1, -1, -1),
    };
    let only = filter.channel.map(i32::from);
    let wanted = filter.id.as_ref().map(|id| &id.0[..]);
    let most = count(filter.limit);
    rows(&session, SQL, &[&only, &wanted, &channel, &partition, &number, &most], |row| {
        let part = |column| -> Result<u16> { Ok(u16::try_from(get::<i32>(row, column)?).unwrap_or(u16::MAX)) };
        Ok(DeadLetter {
            slot: Slot { channel: part(0)?, partition: part(1)?, group: part(3)? },
            number: unsigned(row, 2)?,
            key: Key(id(row, 4)?),
            id: MessageId(id(row, 5)?),
            code: get(row, 6)?,
            attempts: small(row, 7)?,
            at: Millis(get(row, 8)?),
            body: sealed(row, 9)?,
        })
    })
    .await
}

/// Rows of a space in order of owner and sub, after a place.
pub(crate) async fn scan(
    session: Arc<Session>,
    space: Space,
    after: Option<(Key, Bytes)>,
    limit: usize,
) -> Result<Vec<(Key, Bytes, Sealed)>> {
    const SQL: &str = "SELECT owner, sub, value FROM state WHERE space = $1 AND (owner, sub) > ($2, $3)
        ORDER BY owner, sub LIMIT $4";
    // Owners are 16 bytes, so an empty one stands before all of them.
    let (owner, sub) = after.map_or((Vec::new(), Bytes::new()), |(owner, sub)| (owner.0.to_vec(), sub));
    rows(&session, SQL, &[&i32::from(space.code), &owner, &&sub[..], &count(limit)], |row| {
        Ok((Key(id(row, 0)?), bytes(row, 1)?, sealed(row, 2)?))
    })
    .await
}

/// One line per slot that is stored.
pub(crate) async fn stats(session: Arc<Session>) -> Result<Vec<SlotStats>> {
    const SQL: &str = "SELECT s.slot, p.last, s.position, (SELECT count(*) FROM parked WHERE parked.slot = s.slot),
        (SELECT count(*) FROM dead WHERE dead.channel = s.slot >> 32 AND dead.partition = s.slot & 65535
          AND dead.grp = (s.slot >> 16) & 65535),
        (SELECT count(*) FROM timers WHERE timers.slot = s.slot)
        FROM slots s JOIN partitions p ON p.partition = ((s.slot >> 32) << 8) | (s.slot & 65535) ORDER BY s.slot";
    rows(&session, SQL, &[], |row| {
        Ok(SlotStats {
            slot: slot_of(get(row, 0)?),
            last: unsigned(row, 1)?,
            position: unsigned(row, 2)?,
            parked: unsigned(row, 3)?,
            dead: unsigned(row, 4)?,
            timers: unsigned(row, 5)?,
        })
    })
    .await
}

/// Last number of every partition, as (partition code, number).
pub(crate) async fn lasts(session: Arc<Session>) -> Result<Vec<(i64, u64)>> {
    const SQL: &str = "SELECT partition, last FROM partitions";
    rows(&session, SQL, &[], |row| Ok((get(row, 0)?, unsigned(row, 1)?))).await
}

/// How far every partition is that has messages.
pub(crate) async fn progress(session: Arc<Session>) -> Result<Vec<Progress>> {
    const SQL: &str = "SELECT p.partition, p.last,
          coalesce((SELECT position FROM slots WHERE slot = (place << 32) | ($1::bigint << 16) | number), 0),
          (SELECT min(position) FROM slots WHERE slot = ANY(ARRAY(
             SELECT (place << 32) | (grp << 16) | number FROM unnest($2::bigint[], $3::bigint[]) AS g(channel, grp)
             WHERE g.channel = place)))
        FROM (SELECT partition, last, partition >> 8 AS place, partition & 255 AS number FROM partitions WHERE last > 0) p";
    let groups = || topology::CHANNELS.iter().flat_map(|one| one.groups.iter().map(|group| (one.code, group.code)));
    let (channels, codes): (Vec<i64>, Vec<i64>) =
        groups().map(|(channel, group)| (i64::from(channel), i64::from(group))).unzip();
    rows(&session, SQL, &[&i64::from(RELAY), &channels, &codes], |row| {
        let (channel, partition) = partition_of_code(get(row, 0)?);
        let last = unsigned(row, 1)?;
        let applied = get::<Option<i64>>(row, 3)?.map_or(last, i64::cast_unsigned);
        Ok(Progress { channel, partition, last, relayed: unsigned(row, 2)?, applied })
    })
    .await
}

/// How far every slot is: position and what was settled without one.
pub(crate) async fn floors(session: Arc<Session>) -> Result<Vec<(Slot, u64, u64)>> {
    const SQL: &str = "SELECT slot, position, settled FROM slots";
    rows(&session, SQL, &[], |row| Ok((slot_of(get(row, 0)?), unsigned(row, 1)?, unsigned(row, 2)?))).await
}

/// A slot's position, if this epoch owns it.
pub(crate) async fn owned(session: Arc<Session>, slot: Slot, epoch: u64) -> Result<Option<u64>> {
    const SQL: &str = "SELECT position FROM slots WHERE slot = $1 AND owner IS NOT NULL AND epoch = $2";
    let found = rows(&session, SQL, &[&slot_code(slot), &epoch.cast_signed()], |row| unsigned(row, 0)).await?;
    Ok(found.first().copied())
}

/// Deletes a piece of what the slots have passed: how many, and up to where messages are gone now; none when another
/// process is at it.
pub(crate) async fn trim(
    session: Arc<Session>,
    partition: i64,
    slots: &[i64],
    settled: &[i64],
    most: i64,
) -> Result<(u64, Option<i64>)> {
    const SQL: &str = "SELECT removed, up_to FROM trim_partition($1, $2, $3, $4)";
    let statement = session.statement(SQL).await?;
    let row = session.client.query_one(&statement, &[&partition, &slots, &settled, &most]).await?;
    Ok((unsigned(&row, 0)?, get(&row, 1)?))
}

pub(crate) fn get<'a, T: FromSql<'a>>(row: &'a Row, column: usize) -> Result<T> {
    row.try_get(column).map_err(|_| unexpected())
}

fn unexpected() -> Fault {
    Fault::Refused(StoreError::Damaged("a row has an unexpected form".to_owned()))
}

pub(crate) fn count(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

pub(crate) fn unsigned(row: &Row, column: usize) -> Result<u64> {
    Ok(get::<i64>(row, column)?.cast_unsigned())
}

fn small(row: &Row, column: usize) -> Result<u32> {
    Ok(u32::try_from(get::<i64>(row, column)?).unwrap_or(u32::MAX))
}

/// A key, an id or an owner.
pub(crate) fn id(row: &Row, column: usize) -> Result<[u8; 16]> {
    get::<&[u8]>(row, column)?.try_into().map_err(|_| unexpected())
}

fn bytes(row: &Row, column: usize) -> Result<Bytes> {
    get::<&[u8]>(row, column).map(Bytes::copy_from_slice)
}

fn own(bytes: &[u8]) -> Sealed {
    Sealed::from_stored(Bytes::copy_from_slice(bytes))
}

pub(crate) fn sealed(row: &Row, column: usize) -> Result<Sealed> {
    get::<&[u8]>(row, column).map(own)
}
