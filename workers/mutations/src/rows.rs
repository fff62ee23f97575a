//! The state rows of inscriptions and feeds.
//!
//! | space | owner | sub | row |
//! | --- | --- | --- | --- |
//! | `inscriptions` | SSIN | organisation's key (16 bytes) | [`InscriptionRow`] |
//! | `events` | SSIN | HMAC of feed and event (16 bytes), since a registry may put a number into them | [`EventRow`] |
//! | `feeds` | organisation | empty | [`FeedRow`] |
//! | `notifications` | organisation | sequence (u64, 8 bytes big-endian) | [`NotificationRow`] |
//!
//! Failure behaviour: a row of another version or shape is refused where it is read, never half understood.

use schemas::messages::Mutation;
use schemas::{MailboxAddress, Millis};
use serde::{Deserialize, Serialize};
use zegel_core::rows::V1;

/// An organisation follows a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InscriptionRow {
    /// Version of the row.
    pub v: V1,
    /// Who follows.
    pub organisation: MailboxAddress,
    /// First day, `YYYY-MM-DD`, inclusive.
    pub from: String,
    /// Last day, `YYYY-MM-DD`, inclusive; none is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

/// A mutation event that was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventRow {
    /// Version of the row.
    pub v: V1,
    /// When.
    pub at: Millis,
}

/// An organisation's feed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedRow {
    /// Version of the row.
    pub v: V1,
    /// Whose.
    pub organisation: MailboxAddress,
    /// The next notification gets this number; starts at 1.
    pub next: u64,
    /// The subscriber has taken everything up to this number.
    pub acked: u64,
    /// Notifications up to this number are removed; behind `acked` while much is removed.
    pub trimmed: u64,
}

/// One notification of a feed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NotificationRow {
    /// Version of the row.
    pub v: V1,
    /// Its number: 1, 2, 3 … without a gap.
    pub sequence: u64,
    /// What happened.
    pub mutation: Mutation,
    /// When the fan-out found the subscription.
    pub at: Millis,
}

/// The reply to an acknowledgement of a feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedAcked {
    /// Everything up to this number counts as taken.
    pub acked: u64,
}
