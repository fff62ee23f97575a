//! What an operator runs after trouble: every page, and every rule that the store keeps, on a file that is only read.

use crate::error::{OpenError, meaning};
use crate::layout;
use rusqlite::Connection;
use std::path::Path;
use zegel_core::packed::{message_id, number_of};

/// Lines that SQLite's own check gives at most; the first few say what happened.
const LINES: usize = 20;

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which rule: a short fixed word.
    pub rule: &'static str,
    /// Where, without any value.
    pub what: String,
}

/// Each rule, and a query that names the places where it is broken. Places are numbers of our own. SQLite's shifts and
/// bit operators have one precedence, so every one stands in parentheses.
const RULES: &[(&str, &str)] = &[
    (
        "position",
        "WITH places AS (SELECT slot, position, ((slot >> 32) << 8) | (slot & 65535) AS place FROM slots)
         SELECT 'slot ' || slot || ' is past the last number of its partition' FROM places WHERE position > max(
           coalesce((SELECT max(id) & 0xFFFFFFFFFF FROM messages
             WHERE id BETWEEN (place << 40) AND ((place << 40) | 0xFFFFFFFFFF)), 0),
           coalesce((SELECT trimmed FROM partitions WHERE partition = place), 0))",
    ),
    (
        "trimmed",
        "SELECT 'partition ' || partition || ' was trimmed past a group' FROM partitions WHERE EXISTS (SELECT 1 FROM slots
           WHERE (((slot >> 32) << 8) | (slot & 65535)) = partition AND max(position, settled) < trimmed)",
    ),
    (
        "parked",
        "SELECT 'slot ' || p.slot || ' parks number ' || number || ', which it has not reached' FROM parked p
           LEFT JOIN slots s ON s.slot = p.slot WHERE number > coalesce(s.position, 0)",
    ),
    (
        "dead",
        "SELECT 'channel ' || channel || ' partition ' || partition || ' has dead number ' || number ||
           ', which its group has not reached' FROM dead
           LEFT JOIN slots ON slot = ((channel << 32) | (grp << 16) | partition) WHERE number > coalesce(position, 0)",
    ),
    (
        "width",
        "SELECT 'a key, id or owner has a wrong length in ' || t FROM (
           SELECT 'messages' AS t FROM messages WHERE length(key) <> 16 OR length(message) <> 16
           UNION ALL SELECT 'state' FROM state WHERE length(owner) <> 16
           UNION ALL SELECT 'timers' FROM timers WHERE length(key) <> 16 OR length(message) <> 16
           UNION ALL SELECT 'parked' FROM parked WHERE length(key) <> 16 OR length(message) <> 16
           UNION ALL SELECT 'dead' FROM dead WHERE length(key) <> 16 OR length(message) <> 16)",
    ),
    (
        "topology",
        "SELECT 'a timer names channel ' || channel || ', which does not exist' FROM timers WHERE channel NOT IN (?)",
    ),
];

/// Checks a store that no process works on. An empty list means that all is well.
///
/// # Errors
/// When the file cannot be opened at all; damage that still lets it be opened is a finding.
pub fn check(path: impl AsRef<Path>) -> Result<Vec<Finding>, OpenError> {
    let path = path.as_ref();
    let connection = layout::open_reader(path)?;
    match layout::check_version(&connection, path) {
        Ok(()) => {}
        Err(OpenError::Damaged { what, .. }) => return Ok(vec![Finding { rule: "pages", what }]),
        Err(error) => return Err(error),
    }
    let mut findings = pages(&connection);
    for (rule, sql) in RULES {
        gather(&mut findings, rule, texts(&connection, &with_channels(sql)));
    }
    gather(&mut findings, "numbers", gaps(&connection));
    Ok(findings)
}

fn with_channels(sql: &str) -> String {
    let codes: Vec<String> = topology::CHANNELS.iter().map(|channel| channel.code.to_string()).collect();
    sql.replace("(?)", &format!("({})", codes.join(", ")))
}

/// SQLite's own check of every page, cell and index entry.
fn pages(connection: &Connection) -> Vec<Finding> {
    let mut findings = Vec::new();
    gather(&mut findings, "pages", texts(connection, &format!("PRAGMA integrity_check({LINES})")));
    findings.retain(|finding| finding.what != "ok");
    findings
}

fn gather(findings: &mut Vec<Finding>, rule: &'static str, outcome: rusqlite::Result<Vec<String>>) {
    match outcome {
        Ok(lines) => findings.extend(lines.into_iter().map(|what| Finding { rule, what })),
        Err(error) => findings.push(Finding { rule, what: meaning(&error) }),
    }
}

fn texts(connection: &Connection, sql: &str) -> rusqlite::Result<Vec<String>> {
    let mut select = connection.prepare(sql)?;
    select.query_map([], |row| row.get(0))?.take(LINES).collect()
}

/// Numbers of a partition run from the first kept to the last without a gap.
fn gaps(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut found = Vec::new();
    let mut trimmed = connection.prepare("SELECT coalesce(max(trimmed), 0) FROM partitions WHERE partition = ?")?;
    let mut range = connection.prepare("SELECT count(*), min(id), max(id) FROM messages WHERE id BETWEEN ? AND ?")?;
    for channel in topology::CHANNELS {
        for partition in 0..channel.partitions {
            let gone: i64 =
                trimmed.query_row([zegel_core::packed::partition_code(channel.code, partition)], |row| row.get(0))?;
            let ends = (
                message_id(channel.code, partition, 0),
                message_id(channel.code, partition, zegel_core::packed::MAX_NUMBER),
            );
            let (count, first, last): (i64, Option<i64>, Option<i64>) =
                range.query_row(ends, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
            let (Some(first), Some(last)) = (first, last) else { continue };
            let (first, last) = (number_of(first), number_of(last));
            let kept = last - first + 1;
            if count.cast_unsigned() != kept || first != gone.cast_unsigned() + 1 {
                found.push(format!("partition {partition} of {} has a gap in its numbers", channel.name));
            }
        }
    }
    Ok(found)
}
