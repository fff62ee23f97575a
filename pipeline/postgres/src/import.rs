//! Filling an empty schema from another store, piece by piece. Each piece is one statement that also records the place after
//! it, so that a piece is there wholly, once, whenever the move was cut off.

use crate::connect::Session;
use crate::error::Fault;
use crate::queries::get;
use std::sync::Arc;
use tokio_postgres::types::ToSql;
use zegel_core::StoreError;
use zegel_core::moving::{Cell, Kind, Place, TABLES, Table};
use zegel_core::packed::MAX_NUMBER;

type Result<T> = std::result::Result<T, Fault>;

fn refused(what: &str) -> Fault {
    Fault::Refused(StoreError::Damaged(what.to_owned()))
}

fn written(place: &Place) -> Result<String> {
    serde_json::to_string(place).map_err(|_| refused("a place cannot be written"))
}

/// Whether a move into this schema was begun and has not ended.
pub(crate) async fn is_going_on(session: Arc<Session>) -> Result<bool> {
    let row = session.client.query_one("SELECT EXISTS (SELECT FROM imports WHERE NOT done)", &[]).await?;
    get(&row, 0)
}

/// See [`zegel_core::moving::Import::begin_import`].
pub(crate) async fn begin(session: Arc<Session>, source: [u8; 16]) -> Result<Place> {
    let start = written(&Place::default())?;
    let sql = "INSERT INTO imports(source, place) SELECT $1, $2 WHERE NOT EXISTS (SELECT FROM imports)
        AND NOT EXISTS (SELECT FROM state) AND NOT EXISTS (SELECT FROM partitions WHERE last > 0) ON CONFLICT DO NOTHING";
    session.client.execute(sql, &[&&source[..], &start]).await?;
    let Some(row) = session.client.query_opt("SELECT source, place, done FROM imports", &[]).await? else {
        return Err(refused("the store is not empty"));
    };
    if get::<Vec<u8>>(&row, 0)? != source {
        return Err(refused("the store is being filled, or was filled, from another one"));
    }
    if get(&row, 2)? {
        return Ok(Place { table: TABLES.len(), after: None });
    }
    let place: String = get(&row, 1)?;
    serde_json::from_str(&place).map_err(|_| refused("the place of the move cannot be read"))
}

/// See [`zegel_core::moving::Import::import`].
pub(crate) async fn take(session: Arc<Session>, place: &Place, rows: &[Vec<Cell>], next: &Place) -> Result<()> {
    let (before, after) = (written(place)?, written(next)?);
    let row = session.client.query_one("SELECT place FROM imports WHERE NOT done", &[]).await?;
    let now: String = get(&row, 0)?;
    if now == after {
        return Ok(()); // it was taken, and only the answer was lost
    }
    let Some(table) = place.table().filter(|_| now == before) else {
        return Err(refused("the move is at another place"));
    };
    const MOVE: &str = "UPDATE imports SET place = $2 WHERE place = $1 AND NOT done";
    if rows.is_empty() {
        session.client.execute(MOVE, &[&before, &after]).await?;
        return Ok(());
    }
    let columns = transpose(table, rows)?;
    let sql = format!("WITH moved AS ({MOVE} RETURNING 1) {}", insert(table));
    let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&before, &after];
    parameters.extend(columns.iter().map(Column::parameter));
    match session.client.execute(&sql, &parameters).await? {
        0 => Err(refused("the move is at another place")),
        _ => Ok(()),
    }
}

/// The move has ended: what lies below the first message of a partition counts as deleted.
pub(crate) async fn end(session: Arc<Session>) -> Result<()> {
    let bits = MAX_NUMBER.count_ones();
    let sql = format!(
        "WITH done AS (UPDATE imports SET done = true RETURNING 1)
         UPDATE trims t SET trimmed = coalesce(
           (SELECT min(id) - (t.partition << {bits}) - 1 FROM messages
             WHERE id >= t.partition << {bits} AND id < (t.partition + 1) << {bits}),
           (SELECT last FROM partitions p WHERE p.partition = t.partition))
         WHERE EXISTS (SELECT FROM done)"
    );
    session.client.execute(&sql, &[]).await?;
    Ok(())
}

fn insert(table: &Table) -> String {
    let names: Vec<String> = table.columns.iter().map(|(name, _)| format!("\"{name}\"")).collect();
    let arrays: Vec<String> =
        (3..).zip(table.columns).map(|(n, (_, kind))| format!("${n}::{}[]", sql_type(*kind))).collect();
    let renewed: Vec<String> = names[table.key..].iter().map(|name| format!("{name} = excluded.{name}")).collect();
    format!(
        "INSERT INTO {}({}) SELECT * FROM unnest({}) WHERE EXISTS (SELECT FROM moved) ON CONFLICT ({}) DO UPDATE SET {}",
        table.name,
        names.join(", "),
        arrays.join(", "),
        names[..table.key].join(", "),
        renewed.join(", "),
    )
}

fn sql_type(kind: Kind) -> &'static str {
    match kind {
        Kind::Int => "bigint",
        Kind::Bytes | Kind::MaybeBytes => "bytea",
        Kind::Text => "text",
        Kind::Bool => "boolean",
    }
}

/// One column of the rows, as the array that it travels in.
enum Column<'a> {
    Ints(Vec<i64>),
    Bytes(Vec<Option<&'a [u8]>>),
    Texts(Vec<&'a str>),
    Bools(Vec<bool>),
}

impl Column<'_> {
    fn parameter(&self) -> &(dyn ToSql + Sync) {
        match self {
            Column::Ints(all) => all,
            Column::Bytes(all) => all,
            Column::Texts(all) => all,
            Column::Bools(all) => all,
        }
    }
}

fn transpose<'a>(table: &Table, rows: &'a [Vec<Cell>]) -> Result<Vec<Column<'a>>> {
    let odd = || refused("a row of the move has another shape than its table");
    let column = |at: usize, kind: Kind| {
        let cells = rows.iter().map(move |row| row.get(at));
        Ok(match kind {
            Kind::Int => Column::Ints(
                cells
                    .map(|cell| if let Some(Cell::Int(n)) = cell { Ok(*n) } else { Err(odd()) })
                    .collect::<Result<_>>()?,
            ),
            Kind::Bool => Column::Bools(
                cells
                    .map(|cell| if let Some(Cell::Bool(b)) = cell { Ok(*b) } else { Err(odd()) })
                    .collect::<Result<_>>()?,
            ),
            Kind::Text => Column::Texts(
                cells
                    .map(|cell| if let Some(Cell::Text(text)) = cell { Ok(text.as_str()) } else { Err(odd()) })
                    .collect::<Result<_>>()?,
            ),
            Kind::Bytes | Kind::MaybeBytes => Column::Bytes(
                cells
                    .map(|cell| match cell {
                        Some(Cell::Bytes(bytes)) => Ok(Some(&bytes[..])),
                        Some(Cell::Null) if kind == Kind::MaybeBytes => Ok(None),
                        _ => Err(odd()),
                    })
                    .collect::<Result<_>>()?,
            ),
        })
    };
    table.columns.iter().enumerate().map(|(at, (_, kind))| column(at, *kind)).collect()
}
