//! What an edge asks the store about boxes: which rows to read, and what they say.
//!
//! Each question is a pair: a function that gives the [`Read`], and the decoder of what it finds ([`row`], [`items`],
//! [`sent_rows`]). Nothing here reads anything. Lists are bounded by [`PAGE_MAX`].

use crate::rows::{ItemRow, PlaceRow, SentRow, Shelf};
use bytes::{BufMut, Bytes, BytesMut};
use schemas::messages::Submission;
use schemas::{Key, MessageId, Millis};
use serde::de::DeserializeOwned;
use zegel_core::rows::{RowError, decode};
use zegel_core::slot::spaces;
use zegel_core::{Keys, Read, Space};

/// Most rows of one page, as in eHealthBox v3.
pub const PAGE_MAX: usize = 100;

/// What identifies the content of a submission: everything that the sender chose, except where the bytes lie and when
/// they came. The same PublicationId with the same fingerprint is a repetition and gets the first answer; with another
/// one it is refused (`ZGL-PUB-REUSED`).
pub fn fingerprint(keys: &dyn Keys, submission: &Submission) -> Key {
    let Submission { recipients, title, part, receipts, meta, project, handle, .. } = submission;
    let chosen = (recipients, title, &part.file_name, &part.mime, part.size, part.digest, receipts, meta, project);
    // Only strings, numbers and maps with string keys: these are always written.
    let mut json = serde_json::to_vec(&chosen).unwrap_or_default();
    // Behind the JSON, so that whatever has no handle keeps the fingerprint that it always had.
    json.extend(handle.iter().flat_map(|handle| handle.0));
    keys.blind("publication", &json)
}

/// Whether a PublicationId was used, asked by the id that [`zegel_core::names::submission_id`] makes of it, because
/// senders may put anything into a PublicationId: [`row`] as [`crate::rows::PublicationRow`].
#[must_use]
pub fn publication(sender: Key, submission: MessageId) -> Read {
    one(spaces::PUBLICATIONS, sender, publication_sub(submission))
}

/// The sub of the row of a PublicationId.
pub(crate) fn publication_sub(submission: MessageId) -> Bytes {
    Bytes::copy_from_slice(&submission.0)
}

/// A box's capacity and counters: [`row`] as [`crate::rows::BoxRow`].
#[must_use]
pub fn mailbox(owner: Key) -> Read {
    one(spaces::BOXES, owner, Bytes::new())
}

/// A page of a box, newest first, below sequence `before` (or from the newest): [`items`].
#[must_use]
pub fn newest(owner: Key, shelf: Shelf, before: Option<u64>, limit: usize) -> Read {
    let to = before.map_or_else(|| shelf.end(), |sequence| shelf.at(sequence));
    range(spaces::ITEMS, owner, shelf.at(0), to, limit, true)
}

/// A page of a box, oldest first, above sequence `after` (0: from the oldest): [`items`].
#[must_use]
pub fn oldest(owner: Key, shelf: Shelf, after: u64, limit: usize) -> Read {
    range(spaces::ITEMS, owner, shelf.at(after.saturating_add(1)), shelf.end(), limit, false)
}

/// Where an item lies: [`row`] as [`PlaceRow`].
#[must_use]
pub fn place(owner: Key, item: MessageId) -> Read {
    one(spaces::ITEM_PLACES, owner, Bytes::copy_from_slice(&item.0))
}

/// The item at a place: [`items`], at most one. The owner must not be shown what lies in stand-by.
#[must_use]
pub fn item(owner: Key, place: PlaceRow) -> Read {
    one(spaces::ITEMS, owner, place.shelf.at(place.sequence))
}

/// A page of the sent folder, newest first, below `before` (the accepted time and submission of the last one seen):
/// [`sent_rows`].
#[must_use]
pub fn sent(sender: Key, before: Option<(Millis, MessageId)>, limit: usize) -> Read {
    let to = before.map(|(accepted, submission)| sent_sub(accepted, submission));
    let limit = limit.clamp(1, PAGE_MAX);
    Read::Range { space: spaces::SENT, owner: sender, from: Bytes::new(), to, limit, reverse: true }
}

/// The sub of a row of the sent folder.
pub(crate) fn sent_sub(accepted: Millis, submission: MessageId) -> Bytes {
    let mut sub = BytesMut::with_capacity(24);
    sub.put_i64(accepted.0);
    sub.extend_from_slice(&submission.0);
    sub.freeze()
}

/// Reads what a read of one row found.
///
/// # Errors
/// [`RowError::Shape`] when the row is not a `T`.
pub fn row<T: DeserializeOwned>(rows: &[(Bytes, Bytes)]) -> Result<Option<T>, RowError> {
    rows.first().map(|(_, value)| decode(value)).transpose()
}

/// Reads items with their sequence numbers, in the order of the read.
///
/// # Errors
/// [`RowError::Shape`] when a row is not an item.
pub fn items(rows: &[(Bytes, Bytes)]) -> Result<Vec<(u64, ItemRow)>, RowError> {
    rows.iter()
        .map(|(sub, value)| {
            let sequence = sub.get(1..).and_then(|rest| rest.try_into().ok()).ok_or(RowError::Shape)?;
            Ok((u64::from_be_bytes(sequence), ItemRow::decode(value)?))
        })
        .collect()
}

/// Reads rows of the sent folder, in the order of the read.
///
/// # Errors
/// [`RowError::Shape`] when a row is not one.
pub fn sent_rows(rows: &[(Bytes, Bytes)]) -> Result<Vec<SentRow>, RowError> {
    rows.iter().map(|(_, value)| decode(value)).collect()
}

fn one(space: Space, owner: Key, sub: Bytes) -> Read {
    Read::One { space, owner, sub }
}

fn range(space: Space, owner: Key, from: Bytes, to: Bytes, limit: usize, reverse: bool) -> Read {
    Read::Range { space, owner, from, to: Some(to), limit: limit.clamp(1, PAGE_MAX), reverse }
}
