//! Seals: what a call of the coding service used. Never what it coded.

use crate::address::MailboxAddress;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a call asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SealsOperation {
    /// Texts in, coded values out.
    Encode,
    /// Coded values in, texts out.
    Decode,
}

/// `seals.used`, key: application. A caller had items coded, and waits for the grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SealsUsed {
    /// Which application: the name of its project.
    pub application: String,
    /// Who calls.
    pub caller: MailboxAddress,
    /// What for.
    pub operation: SealsOperation,
    /// Items that were coded.
    pub items: u32,
    /// Items in error.
    pub errors: u32,
    /// Sketch of the distinct values that were encoded, base64.
    pub values: String,
}
