//! The owner of each box: capacity, order, stand-by, folders.
//!
//! A document enters the inbox while the box is below its capacity (the last one may overshoot, as in the eHealthBox);
//! after that, documents wait in stand-by, in order, and enter as soon as their turn comes and there is room. Notices
//! (acknowledgements and errors) ignore the capacity. An item's number in the box never changes once it is in; moving
//! between inbox and bin keeps it. The TTP's own address has no box.
//!
//! Answers: whoever sent a document that answers a submission is owed one final answer. It is given when the item enters
//! the inbox (positive), or when it never will (negative): no such box, too late, or still in stand-by shortly before the
//! deadline. A document for which it is too late ([`crate::TOO_LATE_MS`]) never enters, because the receipts stage may
//! have answered negatively by then.
//! Failure behaviour: a notice for a box that nobody opened is a dead letter, so nothing is lost: it can be replayed.

use crate::rows::{BoxRow, Hidden, ItemRow, PlaceRow, Shelf};
use crate::{DELIVER, INLINE_MAX, RECEIPTS, SOURCE, TOO_LATE_MS, commands, queries, reason, stand_by};
use bytes::Bytes;
use schemas::messages::{
    Answer, Answered, BoxCommand, CommandReply, Content, ContentType, Deliver, Expire, OpenBox, Part,
};
use schemas::{Key, MailboxAddress, MessageId, Payload};
use topology::Channel;
use zegel_core::rows::V1;
use zegel_core::slot::spaces;
use zegel_core::{Context, Decision, Effects, Failure, Interrupt, Message, Read, View, Worker, names};

/// The worker of `mailbox.deliver`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Boxes;

impl Worker for Boxes {
    fn channel(&self) -> &'static Channel {
        DELIVER
    }

    fn reads(&self, message: &Message, _: &Context<'_>) -> Vec<Read> {
        let owner = message.key();
        let mut reads = vec![queries::mailbox(owner)];
        if let Ok(deliver) = message.payload::<Deliver>() {
            reads.push(queries::place(owner, deliver.item));
        } else if let Ok(command) = message.payload::<BoxCommand>() {
            reads.extend(commands::items(&command).into_iter().map(|item| queries::place(owner, item)));
        }
        reads
    }

    fn decide(&self, message: &Message, view: &View, context: &Context<'_>) -> Result<Decision, Interrupt> {
        let step = Step { message, view, context };
        match message.envelope.kind.as_str() {
            OpenBox::TYPE => step.open_box(),
            Deliver::TYPE => step.deliver(),
            Expire::TYPE => stand_by::expire(step),
            _ => commands::obey(step),
        }
    }

    fn give_up(&self, message: &Message, code: &str, view: &View, context: &Context<'_>) -> Result<Effects, Interrupt> {
        let mut effects = Effects::default();
        if message.is::<Deliver>() {
            let step = Step { message, view, context };
            let deliver: Deliver = message.payload()?;
            if !step.knows(deliver.item)? {
                let answer = Answer::Refused { reason: reason(code, "message: could not be put into the box") };
                step.answer(&mut effects, &hidden(&deliver, message), &deliver.recipient, answer)?;
            }
        }
        Ok(effects)
    }
}

/// One message in the hands of a box's owner.
#[derive(Clone, Copy)]
pub(crate) struct Step<'a> {
    pub(crate) message: &'a Message,
    pub(crate) view: &'a View,
    pub(crate) context: &'a Context<'a>,
}

impl<'a> Step<'a> {
    pub(crate) fn owner(&self) -> Key {
        self.message.key()
    }

    /// The box, if it was opened.
    pub(crate) fn find_box(self) -> Result<Option<OpenedBox<'a>>, Interrupt> {
        let row: Option<BoxRow> = self.view.get(spaces::BOXES, self.owner(), Bytes::new())?;
        Ok(row.map(|row| OpenedBox { step: self, before: Some(row.clone()), row, effects: Effects::default() }))
    }

    pub(crate) fn place(&self, item: MessageId) -> Result<Option<PlaceRow>, Interrupt> {
        self.view.get(spaces::ITEM_PLACES, self.owner(), Bytes::copy_from_slice(&item.0))
    }

    fn knows(&self, item: MessageId) -> Result<bool, Interrupt> {
        Ok(self.place(item)?.is_some())
    }

    /// Whether an item with these debts may no longer enter a box.
    pub(crate) fn is_too_late(&self, hidden: &Hidden) -> bool {
        let last = hidden.deadline.map(|deadline| deadline.plus(-TOO_LATE_MS));
        hidden.answers.is_some() && last.is_some_and(|last| last <= self.context.now)
    }

    /// Tells the receipts stage, when an answer is owed.
    pub(crate) fn answer(
        &self,
        effects: &mut Effects,
        hidden: &Hidden,
        owner: &MailboxAddress,
        answer: Answer,
    ) -> Result<(), Interrupt> {
        let Some(submission) = hidden.answers else { return Ok(()) };
        let recipient = hidden.answers_for.clone().unwrap_or_else(|| owner.clone());
        let answered = Answered { submission, recipient, answer, at: self.context.now };
        let key = names::submission_key(submission);
        let mut envelope = self.message.follow_up(self.context, SOURCE, key, &answered)?;
        // The message that makes room is another submission's, or nobody's: its deadline is not this answer's.
        envelope.deadline = hidden.deadline;
        effects.produce(RECEIPTS, envelope);
        Ok(())
    }

    fn open_box(self) -> Result<Decision, Interrupt> {
        let OpenBox { address, max_bytes } = self.message.payload()?;
        let mut opened = match self.find_box()? {
            Some(opened) => opened,
            None => OpenedBox {
                step: self,
                before: None,
                row: BoxRow {
                    v: V1,
                    address,
                    max_bytes,
                    bytes: 0,
                    count: 0,
                    next_sequence: 1,
                    stand_by_count: 0,
                    stand_by_bytes: 0,
                    stand_by_due: None,
                },
                effects: Effects::default(),
            },
        };
        opened.row.max_bytes = max_bytes;
        stand_by::enter(&mut opened)?;
        opened.reply(&CommandReply { applied: Vec::new(), unknown: Vec::new() })?;
        opened.finish()
    }

    fn deliver(self) -> Result<Decision, Interrupt> {
        let deliver: Deliver = self.message.payload()?;
        let debts = hidden(&deliver, self.message);
        if self.knows(deliver.item)? {
            return Ok(Decision::Done(Effects::default()));
        }
        let Some(mut opened) = self.find_box()? else {
            return self.no_such_box(&deliver, &debts);
        };
        if self.is_too_late(&debts) {
            return self.turn_away(&deliver, &debts, "ZGL-DEADLINE", "message: came too late for its deadline");
        }
        let item = opened.store(deliver, debts)?;
        let quota = item.content_type == ContentType::Document;
        if quota && (opened.is_full() || opened.row.stand_by_count > 0) {
            stand_by::wait(&mut opened, item)?;
        } else {
            opened.take_in(item)?;
        }
        opened.finish()
    }

    fn no_such_box(&self, deliver: &Deliver, debts: &Hidden) -> Result<Decision, Interrupt> {
        if debts.answers.is_some() {
            return self.turn_away(deliver, debts, "802", "recipient: no such mailbox");
        }
        Ok(Decision::Dead { code: "ZGL-BOX-UNKNOWN".to_owned(), effects: Effects::default() })
    }

    fn turn_away(&self, deliver: &Deliver, debts: &Hidden, code: &str, text: &str) -> Result<Decision, Interrupt> {
        let mut effects = Effects::default();
        drop_content(&mut effects, &deliver.parts);
        let answer = Answer::Refused { reason: reason(code, text) };
        self.answer(&mut effects, debts, &deliver.recipient, answer)?;
        Ok(Decision::Done(effects))
    }
}

/// An existing box while one message is applied to it.
pub(crate) struct OpenedBox<'a> {
    pub(crate) step: Step<'a>,
    pub(crate) row: BoxRow,
    pub(crate) effects: Effects,
    before: Option<BoxRow>,
}

impl OpenedBox<'_> {
    /// As in the eHealthBox: a message enters while the size is below the maximum.
    pub(crate) fn is_full(&self) -> bool {
        self.row.bytes >= self.row.max_bytes
    }

    pub(crate) fn next_sequence(&mut self) -> u64 {
        let sequence = self.row.next_sequence;
        self.row.next_sequence += 1;
        sequence
    }

    /// Puts an item into the inbox and answers for it.
    pub(crate) fn take_in(&mut self, mut item: ItemRow) -> Result<(), Interrupt> {
        item.received = self.step.context.now;
        self.row.bytes = self.row.bytes.saturating_add(item.size);
        self.row.count += 1;
        let sequence = self.next_sequence();
        self.put(Shelf::Inbox, sequence, &item)?;
        self.answer(&item.hidden, Answer::Done)
    }

    pub(crate) fn answer(&mut self, hidden: &Hidden, answer: Answer) -> Result<(), Interrupt> {
        self.step.answer(&mut self.effects, hidden, &self.row.address, answer)
    }

    /// Writes an item and its place.
    pub(crate) fn put(&mut self, shelf: Shelf, sequence: u64, item: &ItemRow) -> Result<(), Interrupt> {
        self.put_item(shelf, sequence, item)?;
        let place = PlaceRow { v: V1, shelf, sequence };
        self.effects.put(spaces::ITEM_PLACES, self.step.owner(), Bytes::copy_from_slice(&item.item.0), &place)
    }

    /// Writes an item whose place stays.
    pub(crate) fn put_item(&mut self, shelf: Shelf, sequence: u64, item: &ItemRow) -> Result<(), Interrupt> {
        let row = item.encode().map_err(|_| Failure::permanent("ZGL-STATE-WRITE"))?;
        self.effects.put_bytes(spaces::ITEMS, self.step.owner(), shelf.at(sequence), row);
        Ok(())
    }

    /// Removes an item for good: its row, its place and the content that it owns.
    pub(crate) fn remove(&mut self, sub: Bytes, item: &ItemRow) {
        self.effects.delete(spaces::ITEMS, self.step.owner(), sub);
        self.effects.delete(spaces::ITEM_PLACES, self.step.owner(), Bytes::copy_from_slice(&item.item.0));
        drop_content(&mut self.effects, &item.parts);
    }

    pub(crate) fn reply(&mut self, reply: &CommandReply) -> Result<(), Interrupt> {
        self.effects.reply = Some(encode_reply(reply)?);
        Ok(())
    }

    /// The decision, with the box's row when it changed.
    pub(crate) fn finish(mut self) -> Result<Decision, Interrupt> {
        stand_by::settle_timer(&mut self);
        if self.before.as_ref() != Some(&self.row) {
            self.effects.put(spaces::BOXES, self.step.owner(), Bytes::new(), &self.row)?;
        }
        Ok(Decision::Done(self.effects))
    }

    /// The item of a delivery, with its content where it stays: small content in the item's row, more in rows of its own.
    fn store(&mut self, deliver: Deliver, hidden: Hidden) -> Result<ItemRow, Interrupt> {
        let mut parts = deliver.parts;
        let mut inline = self.step.message.envelope.attachment.clone();
        if attached(&parts) != u64::try_from(inline.len()).ok() {
            return Err(Failure::permanent("ZGL-MSG-PAYLOAD").into());
        }
        if inline.len() > INLINE_MAX {
            for part in parts.iter_mut().filter(|part| part.content == Content::Attached) {
                let content = inline.split_to(usize::try_from(part.size).unwrap_or(inline.len()));
                let payload = self.step.context.new_id();
                self.effects.put_bytes(spaces::PAYLOADS, Key(payload.0), Bytes::new(), content);
                part.content = Content::Stored(payload);
            }
        }
        let quota = deliver.content_type == ContentType::Document;
        let size = parts.iter().map(|part| part.size).fold(0, u64::saturating_add);
        Ok(ItemRow {
            v: V1,
            item: deliver.item,
            from: deliver.from,
            content_type: deliver.content_type,
            title: deliver.title,
            parts,
            notice: deliver.notice,
            meta: deliver.meta,
            received: self.step.context.now,
            size: if quota { size } else { 0 },
            listed: None,
            read: None,
            hidden,
            inline,
        })
    }
}

/// A command's answer for whoever waits for it.
pub(crate) fn encode_reply(reply: &CommandReply) -> Result<Bytes, Interrupt> {
    serde_json::to_vec(reply).map(Bytes::from).map_err(|_| Failure::permanent("ZGL-MSG-ENCODE").into())
}

/// How many bytes of the attachment the parts lay claim to; none when that is no number.
fn attached(parts: &[Part]) -> Option<u64> {
    let attached = parts.iter().filter(|part| part.content == Content::Attached);
    attached.map(|part| part.size).try_fold(0, u64::checked_add)
}

/// Content in rows goes with its item. An object stays until it is swept: another recipient may refer to it.
fn drop_content(effects: &mut Effects, parts: &[Part]) {
    for part in parts {
        if let Content::Stored(payload) = part.content {
            effects.delete(spaces::PAYLOADS, Key(payload.0), Bytes::new());
        }
    }
}

fn hidden(deliver: &Deliver, message: &Message) -> Hidden {
    Hidden {
        answers: deliver.answers,
        answers_for: deliver.answers_for.clone(),
        receipts: deliver.receipts,
        deadline: message.envelope.deadline,
    }
}
