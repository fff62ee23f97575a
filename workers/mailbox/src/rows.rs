//! The state rows of the mailbox.
//!
//! | space | owner | sub | row |
//! | --- | --- | --- | --- |
//! | `publications` | sender | submission id, an HMAC of the PublicationId (16 bytes) | [`PublicationRow`] |
//! | `sent` | sender | accepted (i64, 8 bytes big-endian), submission (16 bytes) | [`SentRow`] |
//! | `boxes` | box | empty | [`BoxRow`] |
//! | `items` | box | shelf (1 byte), sequence (u64, 8 bytes big-endian) | [`ItemRow`], see its format |
//! | `item-places` | box | item id | [`PlaceRow`] |
//! | `payloads` | the payload's id | empty | the content as it is |
//!
//! Who owns content: a part's content belongs to the one item that refers to it, and goes with it. The exception is an
//! object that was sent to several recipients: each of their items refers to the same object. A worker therefore never
//! removes an object; whoever sweeps objects must look at every item (and every message on its way) first.
//! Failure behaviour: a row of another version or shape is [`RowError`], never half understood.

use bytes::{BufMut, Bytes, BytesMut};
use schemas::messages::{Content, ContentType, Folder, From, Notice, ObjectRef, Part, ReceiptsWanted};
use schemas::{Key, MailboxAddress, MessageId, Millis};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use zegel_core::Read;
use zegel_core::rows::{RowError, V1};
use zegel_core::slot::spaces;

/// A PublicationId that a sender has used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicationRow {
    /// Version of the row.
    pub v: V1,
    /// The submission that it stands for.
    pub submission: MessageId,
    /// What was submitted under it, see [`crate::queries::fingerprint`].
    pub fingerprint: Key,
    /// When the edge took it first.
    pub accepted: Millis,
}

/// One entry of the sent folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentRow {
    /// Version of the row.
    pub v: V1,
    /// The submission; its life is in the receipts' rows.
    pub submission: MessageId,
    /// The sender's own reference.
    pub publication_id: String,
    /// The title.
    pub title: String,
    /// To whom.
    pub recipients: Vec<MailboxAddress>,
    /// For which TTP project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// Download file name.
    pub file_name: String,
    /// Length of the document in bytes.
    pub size: u64,
    /// When the edge took it.
    pub accepted: Millis,
}

/// A box: its owner, its capacity, and what is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoxRow {
    /// Version of the row.
    pub v: V1,
    /// The owner.
    pub address: MailboxAddress,
    /// Capacity in bytes: at or above it documents wait in stand-by.
    pub max_bytes: u64,
    /// Bytes of the documents in inbox and bin (notices do not count).
    pub bytes: u64,
    /// Messages in inbox and bin, notices included.
    pub count: u64,
    /// The next message that enters or begins to wait gets this number; starts at 1.
    pub next_sequence: u64,
    /// Messages in stand-by.
    pub stand_by_count: u64,
    /// Their bytes.
    pub stand_by_bytes: u64,
    /// When the timer for stand-by messages is set to go off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stand_by_due: Option<Millis>,
}

/// Where a message lies in a box. The numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shelf {
    /// The inbox.
    Inbox,
    /// The bin.
    Bin,
    /// Not in the box yet: it was full. The owner does not see these messages.
    StandBy,
}

impl Shelf {
    /// First byte of the shelf's rows.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Shelf::Inbox => 1,
            Shelf::Bin => 2,
            Shelf::StandBy => 3,
        }
    }

    /// The shelf of a folder; none for the sent folder, which has rows of its own.
    #[must_use]
    pub fn of(folder: Folder) -> Option<Shelf> {
        match folder {
            Folder::Inbox => Some(Shelf::Inbox),
            Folder::Bin => Some(Shelf::Bin),
            Folder::Sent => None,
        }
    }

    /// The sub of the row with this number.
    #[must_use]
    pub fn at(self, sequence: u64) -> Bytes {
        let mut sub = BytesMut::with_capacity(9);
        sub.put_u8(self.code());
        sub.put_u64(sequence);
        sub.freeze()
    }

    /// The sub behind the shelf's last row.
    #[must_use]
    pub fn end(self) -> Bytes {
        Bytes::copy_from_slice(&[self.code() + 1])
    }
}

/// From an item's id to its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceRow {
    /// Version of the row.
    pub v: V1,
    /// On which shelf.
    pub shelf: Shelf,
    /// Its number there.
    pub sequence: u64,
}

/// A message in a box.
///
/// Format: length of the JSON (u32 big-endian), JSON, then the content of the parts whose content is `Attached`, one
/// after another in the order of the parts. Content up to [`crate::INLINE_MAX`] bytes stays there; above, it is a
/// row of the payloads or an object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ItemRow {
    /// Version of the row.
    pub v: V1,
    /// The message's identity in this box.
    pub item: MessageId,
    /// From whom.
    pub from: From,
    /// What kind.
    pub content_type: ContentType,
    /// The title.
    pub title: String,
    /// The documents.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Part>,
    /// For acknowledgements and errors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notice: Option<Notice>,
    /// Custom metadata.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub meta: BTreeMap<String, String>,
    /// When it entered the box (or stand-by, while it is there).
    pub received: Millis,
    /// Bytes that count for the quota.
    pub size: u64,
    /// When the owner listed it first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listed: Option<Millis>,
    /// When the owner opened it first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read: Option<Millis>,
    /// What the owner of the box must never see.
    pub hidden: Hidden,
    /// Content of the `Attached` parts.
    #[serde(skip)]
    pub inline: Bytes,
}

/// What the platform remembers of a message for the answers that it owes. Never shown to the owner of the box: for TTP
/// work it would link the message to its hidden sender (I4).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Hidden {
    /// The submission that this message answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<MessageId>,
    /// For which of the submission's recipients, when it is not the owner of this box.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers_for: Option<MailboxAddress>,
    /// Acknowledgements that the sender wants.
    #[serde(default)]
    pub receipts: ReceiptsWanted,
    /// When the submission must have its answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Millis>,
}

/// Where the bytes of one document are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartContent {
    /// Here.
    Bytes(Bytes),
    /// The value of this row.
    Row(Read),
    /// In the object store.
    Object(ObjectRef),
}

impl ItemRow {
    /// The stored form.
    ///
    /// # Errors
    /// [`RowError::Shape`] when the row cannot be written as JSON, which no row of this type is.
    pub fn encode(&self) -> Result<Bytes, RowError> {
        let json = serde_json::to_vec(self).map_err(|_| RowError::Shape)?;
        let length = u32::try_from(json.len()).map_err(|_| RowError::Shape)?;
        let mut out = BytesMut::with_capacity(4 + json.len() + self.inline.len());
        out.put_u32(length);
        out.extend_from_slice(&json);
        out.extend_from_slice(&self.inline);
        Ok(out.freeze())
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// [`RowError::Shape`] when it is not one.
    pub fn decode(bytes: &Bytes) -> Result<ItemRow, RowError> {
        let head: [u8; 4] = bytes.get(..4).and_then(|head| head.try_into().ok()).ok_or(RowError::Shape)?;
        let end = 4usize.saturating_add(u32::from_be_bytes(head) as usize);
        let json = bytes.get(4..end).ok_or(RowError::Shape)?;
        let mut row: ItemRow = zegel_core::rows::decode(json)?;
        row.inline = bytes.slice(end..);
        Ok(row)
    }

    /// Where the bytes of the part with this 0-based number are; none when there is no such part.
    #[must_use]
    pub fn content(&self, part: usize) -> Option<PartContent> {
        match &self.parts.get(part)?.content {
            Content::Object(object) => Some(PartContent::Object(object.clone())),
            Content::Stored(payload) => Some(PartContent::Row(payload_read(*payload))),
            Content::Attached => {
                let before = self.parts[..part].iter().filter(|part| part.content == Content::Attached);
                let start = usize::try_from(before.map(|part| part.size).sum::<u64>()).ok()?;
                let end = start.checked_add(usize::try_from(self.parts[part].size).ok()?)?;
                (end <= self.inline.len()).then(|| PartContent::Bytes(self.inline.slice(start..end)))
            }
        }
    }
}

fn payload_read(payload: MessageId) -> Read {
    Read::One { space: spaces::PAYLOADS, owner: Key(payload.0), sub: Bytes::new() }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use schemas::Sha256;

    fn part(size: usize, content: Content) -> Part {
        let size = u64::try_from(size).unwrap();
        Part { file_name: "a.csv".to_owned(), mime: "text/csv".to_owned(), size, digest: Sha256([0; 32]), content }
    }

    fn item(parts: Vec<Part>, inline: Bytes) -> ItemRow {
        ItemRow {
            v: V1,
            item: MessageId([1; 16]),
            from: From::Platform,
            content_type: ContentType::Document,
            title: "t".to_owned(),
            parts,
            notice: None,
            meta: BTreeMap::new(),
            received: Millis(1),
            size: 1,
            listed: None,
            read: None,
            hidden: Hidden::default(),
            inline,
        }
    }

    proptest! {
        #[test]
        fn an_item_survives_storage_and_each_part_gets_its_own_bytes(
            contents in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..4),
            stored in any::<bool>(),
        ) {
            let mut parts: Vec<Part> = contents.iter().map(|c| part(c.len(), Content::Attached)).collect();
            if stored {
                parts.insert(0, part(5, Content::Stored(MessageId([2; 16]))));
            }
            let row = item(parts, contents.concat().into());
            let back = ItemRow::decode(&row.encode().unwrap()).unwrap();
            prop_assert_eq!(&back, &row);
            for (number, content) in contents.into_iter().enumerate() {
                let found = back.content(number + usize::from(stored));
                prop_assert_eq!(found, Some(PartContent::Bytes(content.into())));
            }
            if stored {
                prop_assert!(matches!(back.content(0), Some(PartContent::Row(_))));
            }
        }

        #[test]
        fn bytes_that_are_no_item_are_refused_without_a_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..60),
        ) {
            prop_assert_eq!(ItemRow::decode(&bytes.into()), Err(RowError::Shape));
        }
    }

    #[test]
    fn shelves_do_not_overlap() {
        assert!(Shelf::Inbox.at(u64::MAX) < Shelf::Inbox.end());
        assert!(Shelf::Inbox.end() < Shelf::Bin.at(0));
        assert!(Shelf::Bin.end() < Shelf::StandBy.at(0));
    }
}
