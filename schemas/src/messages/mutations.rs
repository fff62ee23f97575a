//! Mutations: who follows whom, what changed, and who is told.

use crate::address::MailboxAddress;
use crate::basic::Millis;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `mutations.registry`, key: SSIN. An organisation begins or ends following a person.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Inscription {
    /// Who follows.
    pub organisation: MailboxAddress,
    /// The person's number, 11 digits.
    pub ssin: String,
    /// First day, `YYYY-MM-DD`.
    pub from: String,
    /// Last day, `YYYY-MM-DD`, or open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Whether the inscription ends now.
    #[serde(default)]
    pub withdraw: bool,
}

/// `mutations.registry`, key: SSIN. Something changed about a person in the registry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Mutation {
    /// Which feed.
    pub feed: String,
    /// The feed's own id of the event: the idempotency key.
    pub event: String,
    /// The person's number, 11 digits.
    pub ssin: String,
    /// What kind: `address`, `death`, `ssin-replaced`, `name`, …
    pub kind: String,
    /// The day it holds from, `YYYY-MM-DD`.
    pub date: String,
    /// Details as the registry gives them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<String, String>,
}

/// `mutations.notify`, key: organisation. One subscriber is to be told of one mutation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Notify {
    /// Who is told.
    pub organisation: MailboxAddress,
    /// Of what.
    pub mutation: Mutation,
    /// When the fan-out found the subscription.
    pub at: Millis,
}

/// `mutations.notify`, key: organisation. The subscriber has taken everything up to a number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FeedAck {
    /// The last sequence number taken.
    pub up_to: u64,
}
