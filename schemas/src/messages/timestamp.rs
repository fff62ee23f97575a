//! Time stamps: hospitals, their prescription hashes and their bags (I6).

use crate::address::MailboxAddress;
use crate::basic::{Millis, Sha256};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `timestamp.entries`, key: hospital. The hospital's windows begin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Enrol {
    /// Which hospital.
    pub hospital: MailboxAddress,
}

/// One prescription's hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Entry {
    /// The hospital's own number for it, 1 or more, unique in the hospital for ever.
    #[schemars(range(min = 1))]
    #[serde(rename = "ref")]
    pub reference: u64,
    /// SHA-256 of the document, or of salt and digest when the client salts.
    pub hash: Sha256,
}

/// `timestamp.entries`, key: hospital. Hashes to be stamped. Answered when durable, entry by entry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Entries {
    /// Which hospital.
    pub hospital: MailboxAddress,
    /// How many entries the attachment holds: 1 to 1,000; each is 40 bytes, `ref` (u64 big-endian) then the digest.
    pub count: u32,
}

/// What became of one offered entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum EntryAnswer {
    /// Taken, now or earlier: the same answer every time.
    Accepted {
        /// The accepted time.
        accepted: Millis,
        /// The earliest bag that it can be in.
        earliest_bag: u64,
    },
    /// The reference stands for another hash already.
    Conflict,
    /// The reference is 0.
    Invalid,
}

/// `timestamp.entries`, key: hospital; fired by a timer at the end of each window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WindowEnd {
    /// Which hospital.
    pub hospital: MailboxAddress,
    /// The window's end, exclusive.
    pub end: Millis,
}

/// `timestamp.sealed`, key: hospital. A bag has all its entries; it is to be bound, chained, stamped and archived.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BagClosed {
    /// Which hospital.
    pub hospital: MailboxAddress,
    /// 1, 2, 3 … without a gap.
    pub sequence: u64,
    /// Start of its window, inclusive.
    pub start: Millis,
    /// End of its window, exclusive.
    pub end: Millis,
    /// How many entries.
    pub count: u64,
}
