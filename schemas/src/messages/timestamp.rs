//! Time stamps: hospitals, their prescription hashes and their bags (I6).

use crate::address::MailboxAddress;
use crate::basic::{Millis, Sha256};
use crate::messages::Content;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `timestamp.entries`, key: hospital. The hospital's windows begin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Enrol {
    /// Which hospital.
    pub hospital: MailboxAddress,
    /// Whether its hashes are salted, which the headers of its bags say from now on; none: as before, at first not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub salted: Option<bool>,
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
    /// Whether the hospital says that its hashes are salted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub salted: bool,
}

/// `timestamp.sealed`, key: hospital. A bag that the hospital made itself is to be stamped, kept byte for byte, and its hash
/// entered into the hospital's next bag. Answered when it is stamped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OwnBag {
    /// Which hospital.
    pub hospital: MailboxAddress,
    /// The bag's `SequenceNumber`, the hospital's own.
    pub sequence: i64,
    /// How many `JournalEntry` elements.
    pub entries: u64,
    /// SHA-256 of its bytes.
    pub digest: Sha256,
    /// Its length in bytes.
    pub size: u64,
    /// Its bytes: `Attached` or `Object`.
    pub content: Content,
}

/// `timestamp.sealed`, key: hospital. A token that the hospital asked for is to be archived; it is the attachment, an RFC 3161
/// response. Answered when it is archived.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ArchiveToken {
    /// Which hospital.
    pub hospital: MailboxAddress,
    /// The SHA-256 that was stamped.
    pub imprint: Sha256,
    /// SHA-256 of the DER token, without the response around it.
    pub token: Sha256,
}

/// Who made a bag that joins the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BagMaker {
    /// The platform; the subject is the SHA-256 of the bag's header.
    Platform,
    /// The hospital; the subject is the SHA-256 of the XML's bytes, or what the hospital had stamped by itself.
    Hospital,
}

/// `timestamp.logged`, key: the log. A stamped bag, or a token that is archived by itself, joins the append-only log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Logged {
    /// Who made the bag.
    pub maker: BagMaker,
    /// What was stamped, by maker.
    pub subject: Sha256,
    /// SHA-256 of the DER token, without the response around it.
    pub token: Sha256,
}

/// `timestamp.logged`, key: the log; fired by a timer. The log has grown: a checkpoint is to be signed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CheckpointDue {}

/// `timestamp.logged`, key: the log's stamps. An external authority is to stamp a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CheckpointStamp {
    /// The checkpoint's size.
    pub size: u64,
    /// SHA-256 of its signed note, cosignatures left out.
    pub imprint: Sha256,
}

/// `timestamp.logged`, key: the log. Witnesses signed a checkpoint; the edge verified that.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cosigned {
    /// The checkpoint's size.
    pub size: u64,
    /// Signature lines of C2SP signed-note, without line feeds; 1 to 16.
    pub lines: Vec<String>,
}
