//! The state rows of receipts and alerts.
//!
//! | space | owner | sub | row |
//! | --- | --- | --- | --- |
//! | `submissions` | submission | empty | [`SubmissionRow`] |
//! | `alerts` | incident | empty | [`AlertRow`] |
//! | `alert-items` | incident | item | [`AlertItemRow`] |
//!
//! Failure behaviour: a row of another version or shape is refused where it is read, never half understood.

use schemas::messages::{Reason, ReceiptsWanted};
use schemas::{MailboxAddress, MessageId, Millis};
use serde::{Deserialize, Serialize};
use zegel_core::rows::V1;

/// Most events kept of one submission's life: five for each of a dozen recipients. The recipients' own states are kept
/// in full, so later events are only counted.
pub const LIFE_MAX: usize = 64;

/// A submission and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SubmissionRow {
    /// Version of the row.
    pub v: V1,
    /// Which submission.
    pub submission: MessageId,
    /// Who gets the answers; none when an answer came before the submission was opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<MailboxAddress>,
    /// The sender's own reference.
    pub publication_id: String,
    /// Wanted acknowledgements.
    pub receipts: ReceiptsWanted,
    /// When the edge took it.
    pub accepted: Millis,
    /// When every recipient has a final answer at the latest.
    pub deadline: Millis,
    /// What became of it, recipient by recipient.
    pub recipients: Vec<RecipientRow>,
    /// Whether it is part of the open incident `answers-overdue`.
    #[serde(default)]
    pub alerted: bool,
    /// Answers that came after a final one and were ignored (I5), or were for nobody.
    #[serde(default)]
    pub ignored: u32,
    /// Its life, oldest first, at most [`LIFE_MAX`] events.
    pub life: Vec<LifeEvent>,
    /// Events that no longer fitted.
    #[serde(default)]
    pub unrecorded: u32,
}

impl SubmissionRow {
    /// Whether every recipient has a final answer.
    #[must_use]
    pub fn is_final(&self) -> bool {
        self.recipients.iter().all(|recipient| recipient.state.is_final())
    }
}

/// What became of a submission for one recipient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipientRow {
    /// Which recipient.
    pub address: MailboxAddress,
    /// The answer so far.
    pub state: State,
    /// When the final answer was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_at: Option<Millis>,
    /// When the recipient listed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received_at: Option<Millis>,
    /// When the recipient opened it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_at: Option<Millis>,
}

/// The answer for one recipient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum State {
    /// None yet.
    Pending,
    /// The box is full; not final.
    StandBy,
    /// Delivered or processed; final.
    Done,
    /// Refused; final.
    Refused {
        /// Why.
        reason: Reason,
    },
}

impl State {
    /// Whether no other answer follows.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self, State::Done | State::Refused { .. })
    }
}

/// One event in a submission's life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LifeEvent {
    /// When.
    pub at: Millis,
    /// What.
    pub what: What,
    /// Number of the recipient in [`SubmissionRow::recipients`], when it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<u16>,
    /// The code, for a refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// The edge took it.
    Accepted,
    /// It waits because a box is full.
    StandBy,
    /// It was delivered, or processed by the TTP and delivered.
    Done,
    /// It was refused.
    Refused,
    /// The recipient listed it.
    Received,
    /// The recipient opened it.
    Read,
    /// The operator was told that an answer is late.
    Overdue,
}

/// An incident: open while at least one item is affected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertRow {
    /// Version of the row.
    pub v: V1,
    /// The incident's kind.
    pub incident: String,
    /// Whether it is open.
    pub open: bool,
    /// How many items are affected now.
    pub count: u64,
    /// When it was opened last.
    pub opened_at: Millis,
    /// When it was closed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_at: Option<Millis>,
    /// How often it was opened: each time is one alert.
    pub opened_times: u64,
}

/// An item that an incident affects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertItemRow {
    /// Version of the row.
    pub v: V1,
    /// Since when.
    pub at: Millis,
}
