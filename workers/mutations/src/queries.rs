//! What an edge asks the store about inscriptions and feeds: which rows to read, and what they say.

use crate::rows::NotificationRow;
use bytes::Bytes;
use schemas::Key;
use serde::de::DeserializeOwned;
use zegel_core::Read;
use zegel_core::rows::{RowError, decode};
use zegel_core::slot::spaces;

/// Most notifications of one pull.
pub const PAGE_MAX: usize = 1_000;

/// Whether an organisation follows a person: [`row`] as [`crate::rows::InscriptionRow`].
#[must_use]
pub fn inscription(ssin: Key, organisation: Key) -> Read {
    Read::One { space: spaces::INSCRIPTIONS, owner: ssin, sub: Bytes::copy_from_slice(&organisation.0) }
}

/// An organisation's feed: [`row`] as [`crate::rows::FeedRow`]; none before its first notification.
#[must_use]
pub fn feed(organisation: Key) -> Read {
    Read::One { space: spaces::FEEDS, owner: organisation, sub: Bytes::new() }
}

/// Notifications above `after` (the feed's `acked`, or the last number pulled), oldest first: [`notifications`].
#[must_use]
pub fn pull(organisation: Key, after: u64, limit: usize) -> Read {
    let from = Bytes::copy_from_slice(&after.saturating_add(1).to_be_bytes());
    let limit = limit.clamp(1, PAGE_MAX);
    Read::Range { space: spaces::NOTIFICATIONS, owner: organisation, from, to: None, limit, reverse: false }
}

/// Reads what a read of one row found.
///
/// # Errors
/// [`RowError::Shape`] when the row is not a `T`.
pub fn row<T: DeserializeOwned>(rows: &[(Bytes, Bytes)]) -> Result<Option<T>, RowError> {
    rows.first().map(|(_, value)| decode(value)).transpose()
}

/// Reads notifications, in the order of the read.
///
/// # Errors
/// [`RowError::Shape`] when a row is not one.
pub fn notifications(rows: &[(Bytes, Bytes)]) -> Result<Vec<NotificationRow>, RowError> {
    rows.iter().map(|(_, value)| decode(value)).collect()
}
