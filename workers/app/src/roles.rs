//! What a process does: all roles in one, or some where several processes share a store.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// One role of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// HTTP: thin producers and readers
    Gateway,
    /// Submissions and boxes
    Mailbox,
    /// The trusted third party
    Ttp,
    /// Answers, deadlines, alerts
    Receipts,
    /// Bags and the time-stamp authority
    Timestamp,
    /// Fan-out and feeds
    Mutations,
    /// Intakes and relays of a foreign broker
    Relays,
}

/// All roles.
pub const ALL: [Role; 7] =
    [Role::Gateway, Role::Mailbox, Role::Ttp, Role::Receipts, Role::Timestamp, Role::Mutations, Role::Relays];
