//! Receipts and alerts: answers are owed, given and late (I5); incidents open and close.

use crate::address::MailboxAddress;
use crate::basic::{MessageId, Millis};
use crate::messages::{AckType, Reason, ReceiptsWanted};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `receipts.due`, key: submission. A submission was accepted: answers are owed from now on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Opened {
    /// Which submission.
    pub submission: MessageId,
    /// Who gets the answers.
    pub sender: MailboxAddress,
    /// The sender's own reference.
    pub publication_id: String,
    /// One final answer is owed for each.
    pub recipients: Vec<MailboxAddress>,
    /// Wanted acknowledgements.
    pub receipts: ReceiptsWanted,
    /// When the edge took it; the deadline counts from here.
    pub accepted: Millis,
}

/// What became of a submission for one recipient.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Answer {
    /// Delivered, or processed by the TTP and delivered to its recipient: final and positive.
    Done,
    /// Waits in stand-by because the box is full: not final.
    StandBy,
    /// Refused or impossible: final and negative.
    Refused {
        /// Why.
        reason: Reason,
    },
}

/// `receipts.due`, key: submission. A stage answers for one recipient.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Answered {
    /// Which submission.
    pub submission: MessageId,
    /// For which recipient.
    pub recipient: MailboxAddress,
    /// What became of it.
    pub answer: Answer,
    /// When.
    pub at: Millis,
}

/// `receipts.due`, key: submission. The recipient listed or opened the message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Seen {
    /// Which submission.
    pub submission: MessageId,
    /// By which recipient.
    pub recipient: MailboxAddress,
    /// RECEIVED or READ.
    pub ack: AckType,
    /// When.
    pub at: Millis,
}

/// `receipts.due`, key: submission; fired by a timer. First the alert at 90 minutes, then the end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Deadline {
    /// Which submission.
    pub submission: MessageId,
    /// Which of the timers.
    pub stage: DeadlineStage,
}

/// The timers of a submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeadlineStage {
    /// 90 minutes without a final answer: tell the operator.
    Alert,
    /// Shortly before 2 hours: withdraw what stands by.
    Expire,
    /// 2 hours: what has no answer is answered negatively.
    Final,
}

/// `alerts.raised`, key: incident kind. One incident opens one alert and closes it, however many messages it touches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AlertChange {
    /// The incident's kind, for example `answers-overdue`.
    pub incident: String,
    /// What is affected: a submission's id, never a person.
    pub item: MessageId,
    /// Whether the item is affected from now on, or no longer.
    pub raised: bool,
    /// When.
    pub at: Millis,
}
