//! Quarantine of the TTP: what an officer orders about a batch that stands still, and what is answered.

use super::Content;
use crate::basic::MessageId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `ttp.inbound`, key: project. What becomes of a batch that stands still.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum QuarantineOrder {
    /// It is judged anew, as a new submission of its sender.
    Release {
        /// Its number in the project's quarantine.
        number: u64,
    },
    /// It is given up.
    Drop {
        /// Its number in the project's quarantine.
        number: u64,
    },
    /// From the timer: what has stood still too long is removed.
    Clear,
}

/// What became of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum QuarantineReply {
    /// It goes on under this submission.
    Released {
        /// The new submission.
        submission: MessageId,
    },
    /// It is gone; an object that was its content has no owner any more.
    Dropped {
        /// Where its content was.
        content: Content,
    },
    /// Its content was not kept.
    Empty,
    /// No such batch stands still (any more).
    Unknown,
}
