//! Typed reads of the time-stamp stage's rows, for edges and reports.
//!
//! A [`Query`] pairs a [`Read`] with what its opened rows mean, so it serves every reader: the gateway and the checks
//! read through the store and open the rows with the keys, a job reads through its `JobIo`.
//! Failure behaviour: [`RowError`] when a row is not what this program writes.

use crate::log::{self, LogHead, SignedCheckpoint};
use crate::rows::{self, ArchivedBag, Bucket, Head, OpenBag, OwnBagRow, Taken, TokenRow};
use bytes::Bytes;
use schemas::{Key, MessageId, Millis, Sha256};
use serde::de::DeserializeOwned;
use zegel_core::Read;
use zegel_core::rows::{RowError, decode};
use zegel_core::slot::{Space, spaces};
use zegel_crypto::log::tiles::{Tile, WIDTH};
use zegel_crypto::merkle::leaf_hash;

/// Rows in the clear: (sub, value).
pub type PlainRows = Vec<(Bytes, Bytes)>;

/// Most bags that one listing returns.
pub const BAGS_MAX: usize = 100;

/// A read, and what its rows mean.
pub struct Query<T> {
    /// What is to be read.
    pub read: Read,
    parse: Parse<T>,
}

type Parse<T> = Box<dyn Fn(PlainRows) -> Result<T, RowError> + Send + Sync>;

impl<T> Query<T> {
    /// What the opened rows mean.
    ///
    /// # Errors
    /// [`RowError`] when a row has another format.
    pub fn answer(&self, rows: PlainRows) -> Result<T, RowError> {
        (self.parse)(rows)
    }
}

/// The hospital's open bag; none when it is not enrolled.
#[must_use]
pub fn open_bag(hospital: Key) -> Query<Option<OpenBag>> {
    json_row(spaces::BAGS, hospital, Bytes::new())
}

/// What was answered for a reference; none when it was not taken.
#[must_use]
pub fn entry(hospital: Key, reference: u64) -> Query<Option<Taken>> {
    let read = one(spaces::REFERENCES, hospital, rows::bucket_sub(rows::bucket_of(reference)));
    let parse = move |rows: PlainRows| match rows.first() {
        None => Ok(None),
        Some((_, row)) => Bucket::read(row).map(|bucket| bucket.find(reference)),
    };
    Query { read, parse: Box::new(parse) }
}

/// Archived bags from a sequence on, in order; at most `limit` and at most [`BAGS_MAX`].
#[must_use]
pub fn bags(hospital: Key, from: u64, limit: usize) -> Query<Vec<ArchivedBag>> {
    let read = Read::Range {
        space: spaces::ARCHIVE,
        owner: hospital,
        from: rows::bag_sub(from),
        to: Some(Bytes::from_static(b"c")),
        limit: limit.min(BAGS_MAX),
        reverse: false,
    };
    let parse = |rows: PlainRows| rows.iter().map(|(_, row)| decode(row)).collect();
    Query { read, parse: Box::new(parse) }
}

/// One archived bag.
#[must_use]
pub fn bag(hospital: Key, sequence: u64) -> Query<Option<ArchivedBag>> {
    json_row(spaces::ARCHIVE, hospital, rows::bag_sub(sequence))
}

/// A bag's RFC 3161 time-stamp response, DER.
#[must_use]
pub fn token(hospital: Key, sequence: u64) -> Query<Option<Bytes>> {
    bytes_row(spaces::ARCHIVE, hospital, rows::token_sub(sequence))
}

/// A bag that the hospital made itself.
#[must_use]
pub fn own_bag(hospital: Key, digest: &Sha256) -> Query<Option<OwnBagRow>> {
    json_row(spaces::ARCHIVE, hospital, rows::own_sub(digest))
}

/// The RFC 3161 time-stamp response over it, DER.
#[must_use]
pub fn own_token(hospital: Key, digest: &Sha256) -> Query<Option<Bytes>> {
    bytes_row(spaces::ARCHIVE, hospital, rows::own_token_sub(digest))
}

/// Time and digest of the hospital's own bags whose tokens are of a time or later, oldest first; at most `limit` and at most
/// [`BAGS_MAX`]. `after` goes on behind one of them.
#[must_use]
pub fn own_bags(
    hospital: Key,
    from: Millis,
    after: Option<(Millis, Sha256)>,
    limit: usize,
) -> Query<Vec<(Millis, Sha256)>> {
    by_time(hospital, rows::own_time_sub, b"j", (from, after), limit)
}

/// A token that the hospital had archived by itself, by the SHA-256 of its DER.
#[must_use]
pub fn kept_token(hospital: Key, token: &Sha256) -> Query<Option<TokenRow>> {
    json_row(spaces::ARCHIVE, hospital, rows::kept_token_sub(token))
}

/// Time and digest of such tokens, as [`own_bags`].
#[must_use]
pub fn kept_tokens(hospital: Key, after: Option<(Millis, Sha256)>, limit: usize) -> Query<Vec<(Millis, Sha256)>> {
    by_time(hospital, rows::kept_time_sub, b"m", (Millis(0), after), limit)
}

/// Rows whose names are a letter, a time and a digest. `to` is the letter after theirs.
fn by_time(
    hospital: Key,
    sub: impl Fn(Millis, &Sha256) -> Bytes,
    to: &'static [u8],
    (from, after): (Millis, Option<(Millis, Sha256)>),
    limit: usize,
) -> Query<Vec<(Millis, Sha256)>> {
    let from = match after {
        // Right behind this row: the smallest name that is larger.
        Some((at, digest)) => Bytes::from([&sub(at, &digest)[..], &[0]].concat()),
        None => sub(from, &Sha256([0; 32])),
    };
    let read = Read::Range {
        space: spaces::ARCHIVE,
        owner: hospital,
        from,
        to: Some(Bytes::from_static(to)),
        limit: limit.min(BAGS_MAX),
        reverse: false,
    };
    let parse = |rows: PlainRows| {
        let one = |(sub, _): &(Bytes, Bytes)| {
            let (at, digest) = sub.get(1..).and_then(|rest| rest.split_first_chunk::<8>()).ok_or(RowError::Shape)?;
            let at = i64::try_from(u64::from_be_bytes(*at)).map_err(|_| RowError::Shape)?;
            Ok((Millis(at), Sha256(digest.try_into().map_err(|_| RowError::Shape)?)))
        };
        rows.iter().map(one).collect()
    };
    Query { read, parse: Box::new(parse) }
}

/// The end of the hospital's chain; none before its first bag is archived.
#[must_use]
pub fn head(hospital: Key) -> Query<Option<Head>> {
    json_row(spaces::ARCHIVE, hospital, rows::head_sub())
}

/// The bytes of a stored XML (`Content::Stored`); a larger one is an object.
#[must_use]
pub fn stored_xml(id: MessageId) -> Query<Option<Bytes>> {
    bytes_row(spaces::PAYLOADS, Key(id.0), Bytes::new())
}

/// The log's state; none before its first entry.
#[must_use]
pub fn log_head(log: Key) -> Query<Option<LogHead>> {
    json_row(spaces::LOG, log, log::head_sub())
}

/// A checkpoint of the log, while it is kept.
#[must_use]
pub fn log_checkpoint(log: Key, size: u64) -> Query<Option<SignedCheckpoint>> {
    json_row(spaces::LOG, log, log::checkpoint_sub(size))
}

/// The external authority's response over a checkpoint; the owner is the log's stamps.
#[must_use]
pub fn log_stamp(stamps: Key, size: u64) -> Query<Option<Bytes>> {
    bytes_row(spaces::LOG, stamps, log::stamp_sub(size))
}

/// The entries of a bundle, as wide as the tile of level 0 says.
#[must_use]
pub fn log_entries(owner: Key, tile: &Tile) -> Query<Vec<Bytes>> {
    Query { read: tile_rows(owner, tile, log::entry_sub), parse: whole(tile, Ok) }
}

/// The bytes of a tile.
#[must_use]
pub fn log_hashes(owner: Key, tile: &Tile) -> Query<Vec<u8>> {
    let (level, width) = (tile.level, usize::from(tile.width));
    let read = match level {
        0 => tile_rows(owner, tile, log::entry_sub),
        level => tile_rows(owner, tile, |index| log::node_sub(level, index)),
    };
    let parse = whole(tile, move |row| match level {
        0 => Ok(leaf_hash(&row).0),
        _ => row.as_ref().try_into().map_err(|_| RowError::Shape),
    });
    Query {
        read,
        parse: Box::new(move |rows| {
            parse(rows).map(|hashes| {
                let mut bytes = Vec::with_capacity(width * 32);
                hashes.iter().for_each(|hash| bytes.extend_from_slice(hash));
                bytes
            })
        }),
    }
}

/// The rows of a tile, which lie one behind the other.
fn tile_rows(owner: Key, tile: &Tile, sub: impl Fn(u64) -> Bytes) -> Read {
    let first = tile.index * WIDTH;
    let (from, to) = (sub(first), Some(sub(first + u64::from(tile.width))));
    Read::Range { space: spaces::LOG, owner, from, to, limit: usize::from(tile.width), reverse: false }
}

/// As many values as the tile is wide; fewer are a fault of the store.
fn whole<T: 'static>(
    tile: &Tile,
    each: impl Fn(Bytes) -> Result<T, RowError> + Send + Sync + 'static,
) -> Parse<Vec<T>> {
    let width = usize::from(tile.width);
    Box::new(move |rows| {
        if rows.len() != width {
            return Err(RowError::Shape);
        }
        rows.into_iter().map(|(_, row)| each(row)).collect()
    })
}

fn one(space: Space, owner: Key, sub: Bytes) -> Read {
    Read::One { space, owner, sub }
}

fn bytes_row(space: Space, owner: Key, sub: Bytes) -> Query<Option<Bytes>> {
    let parse = |rows: PlainRows| Ok(rows.into_iter().next().map(|(_, row)| row));
    Query { read: one(space, owner, sub), parse: Box::new(parse) }
}

fn json_row<T: DeserializeOwned>(space: Space, owner: Key, sub: Bytes) -> Query<Option<T>> {
    let parse = |rows: PlainRows| rows.first().map(|(_, row)| decode(row)).transpose();
    Query { read: one(space, owner, sub), parse: Box::new(parse) }
}
