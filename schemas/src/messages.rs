//! One payload type per kind of event, with its CloudEvents type.
//!
//! A payload is small (under 300 bytes apart from free text) and refers to content by [`Content`] or [`Part`]: the rule
//! is that whoever holds a reference owns the content, and the reference moves with the message, never copied.
//! Changing a payload in a way that old readers cannot read means a new type with the next version at its end; the old
//! one stays readable (golden files in `schemas/golden/`).

use crate::address::MailboxAddress;
use crate::basic::{MessageId, Millis, Sha256};
use crate::envelope::Payload;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

mod mutations;
mod quarantine;
mod receipts;
mod seals;
mod timestamp;

pub use mutations::*;
pub use quarantine::*;
pub use receipts::*;
pub use seals::*;
pub use timestamp::*;

macro_rules! payloads {
    ($($name:ident => $kind:literal),+ $(,)?) => {
        $(impl Payload for $name { const TYPE: &'static str = $kind; })+

        /// Every payload type with its JSON Schema, for the checked-in files, the AsyncAPI document and the tests.
        #[must_use]
        pub fn all_schemas() -> Vec<(&'static str, schemars::Schema)> {
            vec![$(($kind, schemars::schema_for!($name))),+]
        }
    };
}

payloads! {
    Submission => "be.zegel.mailbox.submitted.v1",
    OpenBox => "be.zegel.mailbox.open.v1",
    Deliver => "be.zegel.mailbox.deliver.v1",
    BoxCommand => "be.zegel.mailbox.command.v1",
    Expire => "be.zegel.mailbox.expire.v1",
    Inbound => "be.zegel.ttp.inbound.v1",
    QuarantineOrder => "be.zegel.ttp.quarantine.v1",
    TtpWake => "be.zegel.ttp.wake.v1",
    Opened => "be.zegel.receipts.opened.v1",
    Answered => "be.zegel.receipts.answered.v1",
    Seen => "be.zegel.receipts.seen.v1",
    Deadline => "be.zegel.receipts.deadline.v1",
    AlertChange => "be.zegel.alerts.change.v1",
    Enrol => "be.zegel.timestamp.enrol.v1",
    Entries => "be.zegel.timestamp.entries.v1",
    WindowEnd => "be.zegel.timestamp.window-end.v1",
    BagClosed => "be.zegel.timestamp.bag-closed.v1",
    OwnBag => "be.zegel.timestamp.own-bag.v1",
    ArchiveToken => "be.zegel.timestamp.archive-token.v1",
    Logged => "be.zegel.timestamp.logged.v1",
    CheckpointDue => "be.zegel.timestamp.checkpoint-due.v1",
    CheckpointStamp => "be.zegel.timestamp.checkpoint-stamp.v1",
    Cosigned => "be.zegel.timestamp.cosigned.v1",
    Inscription => "be.zegel.mutations.inscription.v1",
    Mutation => "be.zegel.mutations.mutation.v1",
    Notify => "be.zegel.mutations.notify.v1",
    FeedAck => "be.zegel.mutations.feed-ack.v1",
    SealsUsed => "be.zegel.seals.used.v1",
}

/// Content in the object store: where it is and what it is. The name is the SHA-256 of the ciphertext, the salt is what
/// the object's key is derived from, so the reference without the master key opens nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ObjectRef {
    /// SHA-256 of the stored ciphertext: the object's name, and what is verified when it is read.
    pub name: Sha256,
    /// 32 random bytes from which the object's key is derived.
    pub salt: Sha256,
    /// Version of the master key.
    pub key_version: u32,
    /// Length of the plain content in bytes.
    pub size: u64,
}

/// Where a message's content is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// In the message's own attachment (at most 64 KiB).
    Attached,
    /// A row of the payload space, written once by the stage that made the content.
    Stored(MessageId),
    /// In the object store.
    Object(ObjectRef),
}

/// One document of a message in a box.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Part {
    /// Download file name, 1 to 255 characters.
    pub file_name: String,
    /// Media type.
    pub mime: String,
    /// Length in bytes.
    pub size: u64,
    /// SHA-256 of the bytes.
    pub digest: Sha256,
    /// Where the bytes are.
    pub content: Content,
}

/// Which acknowledgements the sender wants (eHealthBox v3: PublicationReceipt, ReceivedReceipt, ReadReceipt).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ReceiptsWanted {
    /// Tell me when it is in the recipient's box (or processed, for TTP work).
    #[serde(default)]
    pub published: bool,
    /// Tell me when the recipient lists it.
    #[serde(default)]
    pub received: bool,
    /// Tell me when the recipient opens it.
    #[serde(default)]
    pub read: bool,
}

/// `mailbox.submitted`, key: sender's address. A hospital hands over a message; acknowledged when durable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Submission {
    /// Derived from (sender, PublicationId), so a repeated submission has the same id.
    pub submission: MessageId,
    /// Who sends.
    pub sender: MailboxAddress,
    /// To whom; 1 to 100.
    pub recipients: Vec<MailboxAddress>,
    /// Chosen by the sender, 1 to 13 characters (eHealthBox v3), the idempotency key.
    pub publication_id: String,
    /// 1 to 400 characters.
    pub title: String,
    /// The one document. Its content is `Attached` or `Object`.
    pub part: Part,
    /// Wanted acknowledgements.
    pub receipts: ReceiptsWanted,
    /// Custom metadata, at most 100 pairs of at most 250 characters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub meta: BTreeMap<String, String>,
    /// TTP project; when set, the only recipient is the TTP's own address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// With `project`: what comes back in the exchange of this handle, instead of a batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handle: Option<MessageId>,
    /// When the edge took it.
    pub accepted: Millis,
}

/// `mailbox.deliver`, key: box. A box is opened for an owner, or its capacity changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OpenBox {
    /// The owner.
    pub address: MailboxAddress,
    /// Capacity in bytes.
    pub max_bytes: u64,
}

/// Who a delivered message says it comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum From {
    /// A mailbox owner.
    Sender(MailboxAddress),
    /// The TTP, for a sender that stays hidden: a single random handle per exchange.
    Handle(MessageId),
    /// The platform itself (acknowledgements, errors, time-stamp bags).
    Platform,
}

/// What kind of message lies in a box (eHealthBox v3 ContentType).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ContentType {
    /// A user's document.
    Document,
    /// An acknowledgement: PUBLISHED, RECEIVED or READ.
    Acknowledgment,
    /// Why something could not be done.
    Error,
}

/// Which acknowledgement (eHealthBox v3 AckType).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AckType {
    /// In the recipient's box, or processed by the TTP.
    Published,
    /// Listed by the recipient.
    Received,
    /// Opened by the recipient.
    Read,
}

/// An acknowledgement or an error about one submission and one recipient.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Notice {
    /// Which submission.
    pub submission: MessageId,
    /// The sender's own reference.
    pub publication_id: String,
    /// For which recipient.
    pub recipient: MailboxAddress,
    /// The acknowledgement, or none for an error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ack: Option<AckType>,
    /// The reason, for an error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// When it happened.
    pub at: Millis,
}

/// Why something was refused: a stable code, a text that names field, rule and kind, and the bad rows of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reason {
    /// A code of `schemas::codes`.
    pub code: String,
    /// Names the field, the rule and the value's kind; never a value.
    pub text: String,
    /// Bad rows of a batch (1-based data rows) with their codes; at most 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rows: Vec<BadRow>,
    /// How many rows are bad in all.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub bad_rows: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // the signature that serde asks for
fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// One bad row of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BadRow {
    /// 1-based number of the data row (the header is not counted).
    pub row: u64,
    /// The column or path.
    pub field: String,
    /// A code of `schemas::codes`.
    pub code: String,
}

/// `mailbox.deliver`, key: recipient's box. Puts a message into a box, or in stand-by when the box is full.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Deliver {
    /// The message's identity in the box; random, so it says nothing about the submission.
    pub item: MessageId,
    /// Whose box.
    pub recipient: MailboxAddress,
    /// From whom.
    pub from: From,
    /// What kind.
    pub content_type: ContentType,
    /// 1 to 400 characters.
    pub title: String,
    /// The documents; empty for notices.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Part>,
    /// For acknowledgements and errors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notice: Option<Notice>,
    /// Custom metadata of the sender.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub meta: BTreeMap<String, String>,
    /// The submission whose final answer this delivery decides; never shown to the recipient.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<MessageId>,
    /// Which recipient of the submission this answers for (the TTP's own address for TTP work).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers_for: Option<MailboxAddress>,
    /// Wanted acknowledgements after delivery.
    #[serde(default)]
    pub receipts: ReceiptsWanted,
}

/// The folders of a box.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Folder {
    /// Received messages.
    Inbox,
    /// Sent messages.
    Sent,
    /// Received messages thrown away.
    Bin,
}

/// `mailbox.deliver`, key: box. What the owner does with messages in the box.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum BoxCommand {
    /// The owner listed these messages (RECEIVED).
    Listed {
        /// At most 100.
        items: Vec<MessageId>,
    },
    /// The owner opened this message (READ).
    Read {
        /// Which.
        item: MessageId,
    },
    /// The owner moves messages between inbox and bin.
    Move {
        /// At most 100.
        items: Vec<MessageId>,
        /// Whereto: inbox or bin.
        to: Folder,
    },
    /// The owner deletes messages for good; room is made, and stand-by messages enter.
    Delete {
        /// At most 100.
        items: Vec<MessageId>,
    },
}

/// `mailbox.deliver`, key: box. The deadline of a submission is near: a message still in stand-by is withdrawn and
/// answered negatively; one that is in the box was answered positively already.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Expire {
    /// The submission.
    pub submission: MessageId,
}

/// `ttp.inbound`, key: project. A batch for the TTP, or what a recipient sends back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Inbound {
    /// The submission to answer.
    pub submission: MessageId,
    /// Who sent it: checked against the project, and goes no further.
    pub sender: MailboxAddress,
    /// The address that the batch was sent to (the TTP's), for the answer.
    pub recipient: MailboxAddress,
    /// The project's name.
    pub project: String,
    /// The batch. Its content is `Attached` or `Object`.
    pub part: Part,
    /// The sender's own reference, for what the sender is told; empty in messages of before.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub publication_id: String,
    /// The exchange that the batch comes back in; none on the way there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handle: Option<MessageId>,
}

/// `ttp.inbound`, key: project. A timer of a project: something is to be done for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TtpWake {
    /// The project's name.
    pub project: String,
    /// What.
    pub work: TtpWork,
}

/// What a project's timer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TtpWork {
    /// Exchanges that are over are forgotten.
    Tidy,
    /// Batches that are held have waited for as long as they may.
    Release,
}

/// The answer to a command that was sent through a channel and applied by its owner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CommandReply {
    /// Items the command applied to.
    pub applied: Vec<MessageId>,
    /// Items it found nothing to do for.
    pub unknown: Vec<MessageId>,
}
