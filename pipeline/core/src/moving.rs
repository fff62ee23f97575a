//! Reading a store whole, piece by piece, and filling an empty one: how an installation moves to another backend.
//!
//! The stores keep the same tables under the same names, so that what moves is rows, sealed as they are; no key is needed.
//! Places are packed into integers by [`packed`](crate::packed).
//! Failure behaviour: a [`Place`] is committed with the piece before it, so that a move that was cut off goes on where it was;
//! a target that holds anything else is refused.

use crate::store::StoreError;
use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A whole number.
    Int,
    /// Bytes.
    Bytes,
    /// Bytes, or nothing.
    MaybeBytes,
    /// Text.
    Text,
    /// Yes or no.
    Bool,
}

/// A table: the columns of its key first.
#[derive(Debug)]
pub struct Table {
    /// Its name in every store.
    pub name: &'static str,
    /// Every column.
    pub columns: &'static [(&'static str, Kind)],
    /// How many of them are the key.
    pub key: usize,
}

use Kind::{Bool, Bytes as Raw, Int, MaybeBytes, Text};

/// Every table that moves, in the order in which it is moved. Leases, attempts at suspects and who is alive do not.
pub const TABLES: &[Table] = &[
    Table { name: "state", columns: &[("space", Int), ("owner", Raw), ("sub", Raw), ("value", Raw)], key: 3 },
    Table { name: "messages", columns: &[("id", Int), ("key", Raw), ("message", Raw), ("body", Raw)], key: 1 },
    Table {
        name: "timers",
        columns: &[
            ("slot", Int),
            ("key", Raw),
            ("name", Text),
            ("due", Int),
            ("channel", Int),
            ("message_key", Raw),
            ("message", Raw),
            ("body", Raw),
        ],
        key: 3,
    },
    Table {
        name: "parked",
        columns: &[
            ("slot", Int),
            ("number", Int),
            ("key", Raw),
            ("message", Raw),
            ("due", Int),
            ("attempt", Int),
            ("job_spec", MaybeBytes),
            ("job_result", MaybeBytes),
            ("job_starts", Int),
            ("body", Raw),
        ],
        key: 2,
    },
    Table {
        name: "dead",
        columns: &[
            ("channel", Int),
            ("partition", Int),
            ("number", Int),
            ("grp", Int),
            ("key", Raw),
            ("message", Raw),
            ("code", Text),
            ("attempts", Int),
            ("at", Int),
            ("body", Raw),
        ],
        key: 4,
    },
    Table {
        name: "slots",
        columns: &[("slot", Int), ("position", Int), ("settled", Int), ("epoch", Int), ("clean", Bool)],
        key: 1,
    },
    Table { name: "partitions", columns: &[("partition", Int), ("last", Int)], key: 1 },
];

/// One value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cell {
    /// Nothing.
    Null,
    /// A whole number.
    Int(i64),
    /// Bytes.
    Bytes(Bytes),
    /// Text.
    Text(String),
    /// Yes or no.
    Bool(bool),
}

impl Cell {
    /// What it weighs against the limit of a piece.
    #[must_use]
    pub fn weight(&self) -> usize {
        match self {
            Cell::Bytes(bytes) => bytes.len() + 8,
            Cell::Text(text) => text.len() + 8,
            _ => 8,
        }
    }
}

/// How far a move is: after which row of which table.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Place {
    /// Index into [`TABLES`]; their number at the end.
    pub table: usize,
    /// Key of the last row; none before the first.
    pub after: Option<Vec<Cell>>,
}

impl Place {
    /// The table that comes next; none at the end.
    #[must_use]
    pub fn table(&self) -> Option<&'static Table> {
        TABLES.get(self.table)
    }

    /// The place after these rows of its table. No rows mean that the table is done.
    #[must_use]
    pub fn past(&self, rows: &[Vec<Cell>]) -> Place {
        match (rows.last(), self.table()) {
            (Some(last), Some(table)) => {
                Place { table: self.table, after: Some(last.iter().take(table.key).cloned().collect()) }
            }
            _ => Place { table: self.table + 1, after: None },
        }
    }
}

/// A store that can be read whole.
#[async_trait]
pub trait Export: Send + Sync {
    /// Rows of the place's table after it, in order of their key: at most `rows` of them and about `bytes`, at least one
    /// where there is one. None at the end of the table.
    async fn export(&self, place: &Place, rows: usize, bytes: usize) -> Result<Vec<Vec<Cell>>, StoreError>;
}

/// A store that can be filled.
#[async_trait]
pub trait Import: Send + Sync {
    /// Where to begin: the first place in an empty store, where it was in one that is being filled from this source, and
    /// the end in one that was filled from it. A store that holds anything else is refused with [`StoreError::Damaged`].
    async fn begin_import(&self, source: [u8; 16]) -> Result<Place, StoreError>;

    /// Takes the rows that follow `place` and remembers `next`, in one commit.
    async fn import(&self, place: &Place, rows: Vec<Vec<Cell>>, next: &Place) -> Result<(), StoreError>;

    /// Everything is there; the store may be worked on.
    async fn end_import(&self) -> Result<(), StoreError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_goes_through_every_table_and_comes_back_from_its_text() {
        let mut place = Place::default();
        let row = vec![Cell::Int(1), Cell::Bytes(Bytes::from_static(b"\0\xff")), Cell::Bytes(Bytes::new()), Cell::Null];
        place = place.past(&[row]);
        assert_eq!(place.after.as_ref().map(Vec::len), Some(3));
        let text = serde_json::to_string(&place).unwrap_or_default();
        assert_eq!(serde_json::from_str::<Place>(&text).ok(), Some(place.clone()));
        for _ in TABLES {
            assert!(place.table().is_some());
            place = place.past(&[]);
        }
        assert!(place.table().is_none());
    }
}
