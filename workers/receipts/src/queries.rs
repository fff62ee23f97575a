//! What an edge asks the store about submissions and alerts: which rows to read, and what they say.

use bytes::Bytes;
use schemas::{Key, MessageId};
use serde::de::DeserializeOwned;
use zegel_core::rows::{RowError, decode};
use zegel_core::slot::spaces;
use zegel_core::{Keys, Read, names};

/// A submission's life: [`row`] as [`crate::rows::SubmissionRow`]. A row without a sender is not a submission yet.
#[must_use]
pub fn submission(submission: MessageId) -> Read {
    Read::One { space: spaces::SUBMISSIONS, owner: names::submission_key(submission), sub: Bytes::new() }
}

/// An incident by its kind: [`row`] as [`crate::rows::AlertRow`].
pub fn alert(keys: &dyn Keys, incident: &str) -> Read {
    Read::One { space: spaces::ALERTS, owner: names::incident_key(keys, incident), sub: Bytes::new() }
}

/// Up to `limit` items of an incident, after the item `after`: [`alert_items`].
pub fn affected(keys: &dyn Keys, incident: &str, after: Option<MessageId>, limit: usize) -> Read {
    // The sub that follows an item's is its own with a zero byte behind.
    let from = after.map_or_else(Bytes::new, |item| [&item.0[..], &[0]].concat().into());
    let owner: Key = names::incident_key(keys, incident);
    Read::Range { space: spaces::ALERT_ITEMS, owner, from, to: None, limit, reverse: false }
}

/// Reads what a read of one row found.
///
/// # Errors
/// [`RowError::Shape`] when the row is not a `T`.
pub fn row<T: DeserializeOwned>(rows: &[(Bytes, Bytes)]) -> Result<Option<T>, RowError> {
    rows.first().map(|(_, value)| decode(value)).transpose()
}

/// Reads which items an incident affects.
///
/// # Errors
/// [`RowError::Shape`] when a row's sub is not an item's id.
pub fn alert_items(rows: &[(Bytes, Bytes)]) -> Result<Vec<MessageId>, RowError> {
    rows.iter().map(|(sub, _)| sub[..].try_into().map(MessageId).map_err(|_| RowError::Shape)).collect()
}
