//! Reading the file whole, table by table, in the form in which stores are moved.

use crate::error::store_error;
use bytes::Bytes;
use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use rusqlite::{Connection, Row, ToSql, params_from_iter};
use zegel_core::StoreError;
use zegel_core::moving::{Cell, Kind, Place, Table};
use zegel_core::packed::{NUMBER_BITS, partition_code};

/// See [`zegel_core::moving::Export::export`].
pub(crate) fn export(
    connection: &Connection,
    place: &Place,
    rows: usize,
    bytes: usize,
) -> Result<Vec<Vec<Cell>>, StoreError> {
    let Some(table) = place.table() else { return Ok(Vec::new()) };
    let found = match table.name {
        "partitions" => partitions(connection, place),
        _ => select(connection, table, place, rows, bytes),
    };
    found.map_err(|error| store_error(&error))
}

fn select(
    connection: &Connection,
    table: &Table,
    place: &Place,
    rows: usize,
    bytes: usize,
) -> rusqlite::Result<Vec<Vec<Cell>>> {
    let names: Vec<&str> = table.columns.iter().map(|(name, _)| *name).collect();
    let (columns, key) = (names.join(", "), names[..table.key].join(", "));
    let after = place.after.as_deref().unwrap_or_default();
    let condition = if after.is_empty() {
        String::new()
    } else {
        format!(" WHERE ({key}) > ({})", vec!["?"; after.len()].join(", "))
    };
    let sql = format!("SELECT {columns} FROM {}{condition} ORDER BY {key} LIMIT {rows}", table.name);
    let mut statement = connection.prepare_cached(&sql)?;
    let mut cursor = statement.query(params_from_iter(after.iter().map(Bound)))?;
    let mut found = Vec::new();
    let mut weight = 0;
    while let Some(row) = cursor.next()? {
        let cells = table.columns.iter().enumerate().map(|(at, (_, kind))| cell(row, at, *kind));
        let cells: Vec<Cell> = cells.collect::<rusqlite::Result<_>>()?;
        weight += cells.iter().map(Cell::weight).sum::<usize>();
        if weight > bytes && !found.is_empty() {
            break;
        }
        found.push(cells);
    }
    Ok(found)
}

fn cell(row: &Row<'_>, at: usize, kind: Kind) -> rusqlite::Result<Cell> {
    Ok(match kind {
        Kind::Int => Cell::Int(row.get(at)?),
        Kind::Bool => Cell::Bool(row.get(at)?),
        Kind::Text => Cell::Text(row.get(at)?),
        Kind::Bytes => Cell::Bytes(Bytes::from(row.get::<_, Vec<u8>>(at)?)),
        Kind::MaybeBytes => row.get::<_, Option<Vec<u8>>>(at)?.map_or(Cell::Null, |bytes| Cell::Bytes(bytes.into())),
    })
}

/// The last number of every partition: here it follows from the messages and from what was trimmed.
fn partitions(connection: &Connection, place: &Place) -> rusqlite::Result<Vec<Vec<Cell>>> {
    if place.after.is_some() {
        return Ok(Vec::new()); // they came in one piece
    }
    let sql = format!(
        "SELECT max(coalesce((SELECT trimmed FROM partitions WHERE partition = ?1), 0),
                    coalesce((SELECT max(id) FROM messages WHERE id >= ?1 << {NUMBER_BITS}
                              AND id < (?1 + 1) << {NUMBER_BITS}), ?1 << {NUMBER_BITS}) - (?1 << {NUMBER_BITS}))"
    );
    let mut statement = connection.prepare(&sql)?;
    let mut found = Vec::new();
    for channel in topology::CHANNELS {
        for partition in 0..channel.partitions {
            let code = partition_code(channel.code, partition);
            let last: i64 = statement.query_row([code], |row| row.get(0))?;
            found.push(vec![Cell::Int(code), Cell::Int(last)]);
        }
    }
    Ok(found)
}

/// A cell of a place as a parameter.
struct Bound<'a>(&'a Cell);

impl ToSql for Bound<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self.0 {
            Cell::Null => ToSqlOutput::Owned(Value::Null),
            Cell::Int(number) => ToSqlOutput::Owned(Value::Integer(*number)),
            Cell::Bool(yes) => ToSqlOutput::Owned(Value::Integer(i64::from(*yes))),
            Cell::Bytes(bytes) => ToSqlOutput::Borrowed(ValueRef::Blob(bytes)),
            Cell::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
        })
    }
}
