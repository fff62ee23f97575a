//! Acknowledgements and errors: what the platform puts into a sender's box about one of its submissions.

use crate::{DELIVER, SOURCE};
use schemas::messages::{AckType, ContentType, Deliver, From, Notice, ReceiptsWanted};
use schemas::{MailboxAddress, MessageId};
use std::collections::BTreeMap;
use zegel_core::worker::Produced;
use zegel_core::{Context, Interrupt, Keys, Message, names};

/// The delivery of a notice to the sender's box.
pub(crate) fn notice(
    message: &Message,
    context: &Context<'_>,
    sender: MailboxAddress,
    notice: Notice,
) -> Result<Produced, Interrupt> {
    let key = names::address_key(context.keys, &sender);
    let (content_type, title) = match notice.ack {
        Some(AckType::Published) => (ContentType::Acknowledgment, "Published"),
        Some(AckType::Received) => (ContentType::Acknowledgment, "Received"),
        Some(AckType::Read) => (ContentType::Acknowledgment, "Read"),
        None => (ContentType::Error, "Not delivered"),
    };
    let deliver = Deliver {
        item: notice_id(context.keys, &notice),
        recipient: sender,
        from: From::Platform,
        content_type,
        title: title.to_owned(),
        parts: Vec::new(),
        notice: Some(notice),
        meta: BTreeMap::new(),
        answers: None,
        answers_for: None,
        receipts: ReceiptsWanted::default(),
    };
    let mut envelope = message.follow_up(context, SOURCE, key, &deliver)?;
    // A notice is delivered however late it is.
    envelope.deadline = None;
    Ok(Produced { channel: DELIVER, envelope })
}

/// The id of a notice: the same for the same submission, recipient and kind, so that the box keeps one.
fn notice_id(keys: &dyn Keys, notice: &Notice) -> MessageId {
    let kind = match notice.ack {
        Some(AckType::Published) => "published",
        Some(AckType::Received) => "received",
        Some(AckType::Read) => "read",
        None => "error",
    };
    let said = format!("{}\n{}\n{kind}", notice.submission, notice.recipient);
    MessageId(keys.blind("notice", said.as_bytes()).0)
}
