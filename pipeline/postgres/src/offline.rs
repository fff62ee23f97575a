//! Reading a whole store in one snapshot, and the rules that it keeps: for checks, while no process works on it.
//!
//! Everything happens in one transaction that is read only, so nothing can be changed and all reads agree with each other.
//! What PostgreSQL itself can say of its pages (`amcheck`, page checksums) is the operator's; here stand our rules.

use crate::connect::{Connection, Dialer, refused};
use crate::error::{Fault, OpenError};
use crate::queries::{self, get};
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use schemas::{Key, MessageId, Millis};
use std::pin::pin;
use std::time::Duration;
use tokio_postgres::types::ToSql;
use zegel_core::packed::slot_code;
use zegel_core::slot::RELAY;
use zegel_core::store::{DeadFilter, DeadLetter, SlotStats};
use zegel_core::{Outgoing, Read, Rows, Sealed, Slot, Space, StoreError};

/// A check's statements walk whole tables, and its transaction is idle while rows are opened.
const PATIENCE: Duration = Duration::from_secs(600);
/// Findings of one rule that are given at most; the first few say what happened.
const LINES: usize = 20;

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which rule: a short fixed word.
    pub rule: &'static str,
    /// Where, without any value.
    pub what: String,
}

/// Each rule, and a query that names the places where it is broken. Places are numbers of our own. `$1` are the slots of
/// the topology's groups, `$2` those of the relays, `$3` the channels. (What an intake has passed are its queue's numbers,
/// and a relay of a store that is its own broker stands still: no rule is about these.)
const RULES: &[(&str, &str)] = &[
    (
        "numbers",
        "SELECT 'partition ' || p.partition || ' has a gap in its numbers' FROM partitions p
           LEFT JOIN trims t ON t.partition = p.partition
           LEFT JOIN (SELECT id >> 40 AS partition, count(*) AS kept, min(id & 1099511627775) AS first,
             max(id & 1099511627775) AS last FROM messages GROUP BY 1) m ON m.partition = p.partition
         WHERE coalesce(m.kept, 0) <> p.last - coalesce(t.trimmed, 0)
           OR m.first <> coalesce(t.trimmed, 0) + 1 OR m.last <> p.last",
    ),
    (
        "position",
        "SELECT 'slot ' || s.slot || ' is past the last number of its partition' FROM slots s
           LEFT JOIN partitions p ON p.partition = ((s.slot >> 32) << 8) | (s.slot & 65535)
         WHERE s.slot = ANY($1::bigint[] || $2::bigint[]) AND s.position > coalesce(p.last, 0)",
    ),
    (
        "trimmed",
        "SELECT 'partition ' || t.partition || ' was trimmed past a group' FROM trims t WHERE EXISTS (SELECT 1 FROM slots s
           WHERE s.slot = ANY($1::bigint[]) AND (((s.slot >> 32) << 8) | (s.slot & 65535)) = t.partition
             AND greatest(s.position, s.settled) < t.trimmed)",
    ),
    (
        "parked",
        "SELECT 'slot ' || p.slot || ' parks number ' || p.number || ', which it has not reached' FROM parked p
           LEFT JOIN slots s ON s.slot = p.slot WHERE p.number > coalesce(s.position, 0)",
    ),
    (
        "dead",
        "SELECT 'channel ' || d.channel || ' partition ' || d.partition || ' has dead number ' || d.number ||
           ', which its group has not reached' FROM dead d
           LEFT JOIN slots s ON s.slot = (d.channel::bigint << 32) | (d.grp::bigint << 16) | d.partition
         WHERE d.number > coalesce(s.position, 0)",
    ),
    (
        "width",
        "SELECT 'a key, id or owner has a wrong length in ' || place FROM (
           SELECT 'messages' AS place FROM messages WHERE octet_length(key) <> 16 OR octet_length(message) <> 16
           UNION SELECT 'state' FROM state WHERE octet_length(owner) <> 16
           UNION SELECT 'timers' FROM timers
             WHERE octet_length(key) <> 16 OR octet_length(message_key) <> 16 OR octet_length(message) <> 16
           UNION SELECT 'parked' FROM parked WHERE octet_length(key) <> 16 OR octet_length(message) <> 16
           UNION SELECT 'dead' FROM dead WHERE octet_length(key) <> 16 OR octet_length(message) <> 16) found",
    ),
    (
        "topology",
        "SELECT 'a timer names channel ' || channel || ', which does not exist' FROM timers
         WHERE channel <> ALL($3::integer[]) AND $1::bigint[] IS NOT NULL AND $2::bigint[] IS NOT NULL",
    ),
];

/// Every stored value of free form, with the table that it stands in: where a search looks.
const VALUES: &[(&str, &str)] = &[
    ("messages", "SELECT body FROM messages"),
    ("state", "SELECT sub || value FROM state"),
    ("timers", "SELECT convert_to(name, 'UTF8') || body FROM timers"),
    ("parked", "SELECT coalesce(job_spec, '') || coalesce(job_result, '') || body FROM parked"),
    ("dead", "SELECT convert_to(code, 'UTF8') || body FROM dead"),
];

/// A store that is only read.
pub struct Offline(Connection);

impl Offline {
    /// Opens the store in this schema for reading.
    ///
    /// # Errors
    /// See [`OpenError`]; a schema that holds no store is refused.
    pub async fn open(url: &str, schema: &str) -> Result<Offline, OpenError> {
        let connection = Dialer::new(url, schema, PATIENCE)?.dial().await?;
        let client = &connection.session.client;
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL enable_seqscan = on";
        client.batch_execute(begin).await.map_err(refused)?;
        crate::migrate::is_known(client, schema).await?;
        Ok(Offline(connection))
    }

    /// The rules of the store that are broken, and where. An empty list means that all is well.
    ///
    /// # Errors
    /// When PostgreSQL does not answer.
    pub async fn check(&self) -> Result<Vec<Finding>, StoreError> {
        let every = |group: &dyn Fn(&topology::Channel) -> Vec<u16>| -> Vec<i64> {
            let of = |channel: &'static topology::Channel| {
                let slot = move |group, partition| slot_code(Slot { channel: channel.code, group, partition });
                let groups = group(channel).into_iter();
                groups.flat_map(move |group| (0..channel.partitions).map(move |partition| slot(group, partition)))
            };
            topology::CHANNELS.iter().flat_map(of).collect()
        };
        let groups = every(&|channel| channel.groups.iter().map(|group| group.code).collect());
        let relays = every(&|_| vec![RELAY]);
        let channels: Vec<i32> = topology::CHANNELS.iter().map(|channel| i32::from(channel.code)).collect();
        let mut findings = Vec::new();
        for (rule, sql) in RULES {
            let all: [&(dyn ToSql + Sync); 3] = [&groups, &relays, &channels];
            let statement = self.0.session.client.prepare(sql).await.map_err(fault)?;
            let taken = &all[..statement.params().len()];
            let found = self.0.session.client.query(&statement, taken).await.map_err(fault)?;
            for row in found.iter().take(LINES) {
                findings.push(Finding { rule, what: get(row, 0).map_err(Fault::into_error)? });
            }
        }
        Ok(findings)
    }

    /// Whether a process works on the store: a lease runs at this time.
    ///
    /// # Errors
    /// When PostgreSQL does not answer.
    pub async fn is_served(&self, now: Millis) -> Result<bool, StoreError> {
        let sql = "SELECT EXISTS (SELECT FROM slots WHERE owner IS NOT NULL AND until >= $1)
            OR EXISTS (SELECT FROM owners WHERE until >= $1)";
        let row = self.0.session.client.query_one(sql, &[&now.0]).await.map_err(fault)?;
        get(&row, 0).map_err(Fault::into_error)
    }

    /// See [`zegel_core::Store::dead`].
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn dead(&self, filter: DeadFilter) -> Result<Vec<DeadLetter>, StoreError> {
        queries::dead(self.0.session.clone(), filter).await.map_err(Fault::into_error)
    }

    /// See [`zegel_core::Store::read`].
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn read(&self, reads: &[Read]) -> Result<Vec<Rows>, StoreError> {
        queries::read(self.0.session.clone(), reads).await.map_err(Fault::into_error)
    }

    /// See [`zegel_core::Store::stats`].
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn stats(&self) -> Result<Vec<SlotStats>, StoreError> {
        queries::stats(self.0.session.clone()).await.map_err(Fault::into_error)
    }

    /// Rows of a space in order of owner and sub, after a place; at most `limit`.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn scan(
        &self,
        space: Space,
        after: Option<(Key, Bytes)>,
        limit: usize,
    ) -> Result<Vec<(Key, Bytes, Sealed)>, StoreError> {
        queries::scan(self.0.session.clone(), space, after, limit).await.map_err(Fault::into_error)
    }

    /// Gives every sealed message to `each`, with the table that holds it.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn each_message(&self, mut each: impl FnMut(&'static str, Outgoing)) -> Result<(), StoreError> {
        // A message's channel is the upper bits of its place; a timer holds the message that it will send.
        let tables = [
            ("messages", "SELECT (id >> 48)::integer, key, message, body FROM messages"),
            ("parked", "SELECT (slot >> 32)::integer, key, message, body FROM parked"),
            ("timers", "SELECT channel, message_key, message, body FROM timers"),
            ("dead", "SELECT channel, key, message, body FROM dead"),
        ];
        for (table, sql) in tables {
            self.each_row(sql, |row| {
                let channel = u16::try_from(get::<i32>(row, 0)?).unwrap_or(u16::MAX);
                let (key, id) = (Key(queries::id(row, 1)?), MessageId(queries::id(row, 2)?));
                each(table, Outgoing { channel, key, id, body: queries::sealed(row, 3)? });
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// Gives every value of free form to `each`, as it is stored, with the table that holds it: for searches.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn each_value(&self, mut each: impl FnMut(&'static str, &[u8])) -> Result<(), StoreError> {
        for (table, sql) in VALUES {
            self.each_row(sql, |row| {
                each(table, get(row, 0)?);
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// The rows of a statement one by one: memory does not depend on how many there are.
    async fn each_row(
        &self,
        sql: &str,
        mut each: impl FnMut(&tokio_postgres::Row) -> Result<(), Fault>,
    ) -> Result<(), StoreError> {
        let none: [&(dyn ToSql + Sync); 0] = [];
        let mut rows = pin!(self.0.session.client.query_raw(sql, none).await.map_err(fault)?);
        while let Some(row) = rows.try_next().await.map_err(fault)? {
            each(&row).map_err(Fault::into_error)?;
        }
        Ok(())
    }
}

fn fault(error: tokio_postgres::Error) -> StoreError {
    Fault::from(error).into_error()
}
