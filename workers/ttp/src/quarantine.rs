//! Quarantine: batches that were refused stand still here, sealed, until an officer releases or drops them. So do returns, and
//! batches that waited in a pool in vain, as they were sent.
//!
//! Rows of the project's key in the space `quarantine`, sealed like all state: empty sub → [`Head`]; `q ‖ number (u64 BE)` →
//! [`HeldRow`] as JSON; `b ‖ number` → the batch itself where it came as an attachment (a larger one is an object, encrypted
//! already, to which the row refers). Numbers count from 1 and are never used again.
//! Invariants: a row is written in the step that answers the sender negatively, so whatever was refused stands here and nothing of
//! it was forwarded; a released batch is a new submission of the same sender, judged anew from the first check on. What a
//! stranger sent, or somebody under a handle that is none, is remembered without its content, whatever else is wrong with the
//! project or the batch; what was sent for no project not at all.
//! Bounds: [`HELD_MAX`] batches a project, the oldest make room; [`KEPT_MS`] each, enforced by a timer.
//! Failure behaviour: an order about a batch that is not there (any more) changes nothing and says so.

use crate::worker::{INBOUND, RECEIPTS, SOURCE, Ttp};
use bytes::Bytes;
use schemas::messages::{Content, Inbound, Opened, Part, QuarantineOrder, QuarantineReply, Reason, ReceiptsWanted};
use schemas::{Envelope, Key, MailboxAddress, MessageId, Millis};
use serde::{Deserialize, Serialize};
use zegel_core::rows::V1;
use zegel_core::slot::spaces::QUARANTINE;
use zegel_core::worker::{Produced, SetTimer};
use zegel_core::{Context, Decision, Effects, Failure, Interrupt, Message, Read, View, names};

/// Most batches that stand still in a project: more than an officer reads, at most 64 MB of attachments.
pub const HELD_MAX: u64 = 1_000;
/// How long a batch stands still: time to mend an agreement, and no longer than that with patients' data in it.
pub const KEPT_MS: i64 = 30 * 86_400_000;
/// What a released batch is answered within, as every submission.
const ANSWER_WITHIN_MS: i64 = 2 * 60 * 60 * 1_000;
/// Rows that one clearing looks at; a full look is followed by the next.
const CLEARED: usize = 100;
const TIMER: &str = "quarantine";
/// With so many held, what strangers send is answered and no more listed: they must not push out what others may have released.
const STRANGERS_MAX: u64 = 100;
/// Refusals of those who have no part in the project, or name an exchange that is none.
const STRANGERS: [&str; 3] = ["ZGL-TTP-SENDER", "ZGL-RETURN-RECIPIENT", "ZGL-RETURN-HANDLE"];
const ENTRY: u8 = b'q';
const BATCH: u8 = b'b';

/// What is known of a project's quarantine as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Head {
    v: V1,
    /// The last number that was given.
    pub last: u64,
    /// How many stand still.
    pub held: u64,
    /// When the timer clears, if it is set.
    clears: Option<Millis>,
}

/// One batch that stands still.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeldRow {
    v: V1,
    /// When it was refused.
    pub at: Millis,
    /// The submission that was answered.
    pub submission: MessageId,
    /// The sender's own reference.
    pub publication_id: String,
    /// Who sent it.
    pub sender: MailboxAddress,
    /// The address that it was sent to.
    recipient: MailboxAddress,
    /// The project's name.
    project: String,
    /// The batch: size, digest, and where it is. Its file name is the sender's and may name a patient.
    pub part: Part,
    /// The handle of the exchange that it was to come back in, of a return.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handle: Option<MessageId>,
    /// Whether the content is kept, so that it can be released.
    pub kept: bool,
    /// What the sender was told.
    pub reason: Reason,
}

/// The row that every refusal reads.
pub(crate) fn read(message: &Message) -> Read {
    Read::One { space: QUARANTINE, owner: message.key(), sub: Bytes::new() }
}

/// The newest batches of a project's quarantine below a number; `limit` of them.
#[must_use]
pub fn newest(project: Key, below: u64, limit: usize) -> Read {
    let (from, to) = (sub(ENTRY, 0), Some(sub(ENTRY, below)));
    Read::Range { space: QUARANTINE, owner: project, from, to, limit, reverse: true }
}

/// One batch of a project's quarantine.
#[must_use]
pub fn one(project: Key, number: u64) -> Read {
    Read::One { space: QUARANTINE, owner: project, sub: sub(ENTRY, number) }
}

/// How a project's quarantine stands.
#[must_use]
pub fn head(project: Key) -> Read {
    Read::One { space: QUARANTINE, owner: project, sub: Bytes::new() }
}

/// The number in a row's sub; none when it is no row of a batch.
#[must_use]
pub fn number(sub: &[u8]) -> Option<u64> {
    let (ENTRY, number) = (*sub.first()?, sub.get(1..)?) else { return None };
    Some(u64::from_be_bytes(number.try_into().ok()?))
}

fn sub(kind: u8, number: u64) -> Bytes {
    [&[kind][..], &number.to_be_bytes()].concat().into()
}

/// A refused batch as it was sent: the message, what it attaches, and why it was refused.
pub(crate) type Refused<'r> = (&'r Inbound, Bytes, &'r Reason);

/// A project's quarantine in the course of one step.
pub(crate) struct Quarantine {
    owner: Key,
    head: Head,
}

impl Quarantine {
    pub(crate) fn open(message: &Message, view: &View) -> Result<Quarantine, Interrupt> {
        let owner = message.key();
        Ok(Quarantine { owner, head: view.get(QUARANTINE, owner, Bytes::new())?.unwrap_or_default() })
    }

    /// Keeps a refused batch; part of the step that answers.
    pub(crate) fn hold(
        &mut self,
        effects: &mut Effects,
        ttp: &Ttp,
        (inbound, attachment, reason): Refused<'_>,
        (message, view, context): (&Message, &View, &Context<'_>),
    ) -> Result<(), Interrupt> {
        if reason.code == "ZGL-TTP-PROJECT" {
            return Ok(());
        }
        let Quarantine { owner, head } = self;
        let is_stranger = STRANGERS.contains(&reason.code.as_str())
            || !ttp.book().knows(&inbound.project, &inbound.sender, inbound.handle.is_some());
        if is_stranger && head.held >= STRANGERS_MAX {
            return Ok(());
        }
        head.last += 1;
        head.held += 1;
        let row = row(inbound, reason, !is_stranger, context.now);
        effects.put(QUARANTINE, *owner, sub(ENTRY, head.last), &row)?;
        if row.kept && inbound.part.content == Content::Attached {
            effects.put_bytes(QUARANTINE, *owner, sub(BATCH, head.last), attachment);
        }
        if let Some(oldest) = head.last.checked_sub(HELD_MAX).filter(|oldest| *oldest > 0) {
            // It may have been released or dropped; then there is nothing to make room of.
            let is_there = view.bytes(QUARANTINE, *owner, sub(ENTRY, oldest))?.is_some();
            if is_there {
                take(effects, head, *owner, oldest);
            }
        }
        if head.clears.is_none() {
            set_timer(effects, head, message, context.now.plus(KEPT_MS), context)?;
        }
        effects.put(QUARANTINE, *owner, Bytes::new(), head)
    }
}

fn row(inbound: &Inbound, reason: &Reason, kept: bool, at: Millis) -> HeldRow {
    HeldRow {
        v: V1,
        at,
        submission: inbound.submission,
        publication_id: inbound.publication_id.clone(),
        sender: inbound.sender.clone(),
        recipient: inbound.recipient.clone(),
        project: inbound.project.clone(),
        part: inbound.part.clone(),
        handle: inbound.handle,
        kept,
        reason: reason.clone(),
    }
}

/// Does what an officer, or the timer, orders.
pub(crate) fn obey(message: &Message, view: &View, context: &Context<'_>) -> Result<Decision, Interrupt> {
    let owner = message.key();
    let mut head: Head = view.get(QUARANTINE, owner, Bytes::new())?.unwrap_or_default();
    let mut effects = Effects::default();
    let reply = match message.payload()? {
        QuarantineOrder::Clear => {
            clear(&mut effects, &mut head, message, view, context)?;
            None
        }
        QuarantineOrder::Drop { number } => {
            let found: Option<HeldRow> = view.get(QUARANTINE, owner, sub(ENTRY, number))?;
            Some(found.map_or(QuarantineReply::Unknown, |row| {
                take(&mut effects, &mut head, owner, number);
                QuarantineReply::Dropped { content: row.part.content }
            }))
        }
        QuarantineOrder::Release { number } => Some(release(&mut effects, &mut head, number, message, view, context)?),
    };
    if !effects.changes.is_empty() {
        effects.put(QUARANTINE, owner, Bytes::new(), &head)?;
    }
    if let Some(reply) = reply {
        effects.reply = Some(serde_json::to_vec(&reply).map_err(|_| Failure::permanent("ZGL-STATE-WRITE"))?.into());
    }
    Ok(Decision::Done(effects))
}

fn release(
    effects: &mut Effects,
    head: &mut Head,
    number: u64,
    message: &Message,
    view: &View,
    context: &Context<'_>,
) -> Result<QuarantineReply, Interrupt> {
    let owner = message.key();
    let Some(row) = view.get::<HeldRow>(QUARANTINE, owner, sub(ENTRY, number))? else {
        return Ok(QuarantineReply::Unknown);
    };
    if !row.kept {
        return Ok(QuarantineReply::Empty);
    }
    let attachment = match row.part.content {
        Content::Attached => view.bytes(QUARANTINE, owner, sub(BATCH, number))?.unwrap_or_default(),
        _ => Bytes::new(),
    };
    let submission = context.new_id();
    let opened = Opened {
        submission,
        sender: row.sender.clone(),
        publication_id: row.publication_id.clone(),
        recipients: vec![row.recipient.clone()],
        receipts: ReceiptsWanted { published: true, ..ReceiptsWanted::default() },
        accepted: context.now,
    };
    let inbound = Inbound {
        submission,
        sender: row.sender,
        recipient: row.recipient,
        project: row.project,
        part: row.part,
        publication_id: row.publication_id,
        handle: row.handle,
    };
    let mut due = envelope(names::submission_key(submission), &opened, context)?;
    let mut again = envelope(owner, &inbound, context)?;
    again.attachment = attachment;
    for envelope in [&mut due, &mut again] {
        envelope.deadline = Some(context.now.plus(ANSWER_WITHIN_MS));
    }
    effects.produce(RECEIPTS, due);
    effects.produce(INBOUND, again);
    take(effects, head, owner, number);
    Ok(QuarantineReply::Released { submission })
}

/// Removes what has stood still long enough, and sets the timer for the next.
fn clear(
    effects: &mut Effects,
    head: &mut Head,
    message: &Message,
    view: &View,
    context: &Context<'_>,
) -> Result<(), Interrupt> {
    let owner = message.key();
    let rows = view.range(QUARANTINE, owner, sub(ENTRY, 0), Some(sub(ENTRY, u64::MAX)), CLEARED)?;
    let mut next = None;
    for (sub, row) in &rows {
        let row: HeldRow = serde_json::from_slice(row).map_err(|_| Failure::permanent("ZGL-STATE-READ"))?;
        let until = row.at.plus(KEPT_MS);
        if until > context.now {
            next = Some(until);
            break;
        }
        take(effects, head, owner, number(sub).ok_or_else(|| Failure::permanent("ZGL-STATE-READ"))?);
    }
    // Everything that was looked at is gone: there may be more.
    let next = next.or((rows.len() == CLEARED).then_some(context.now));
    head.clears = None;
    if let Some(due) = next {
        set_timer(effects, head, message, due, context)?;
    }
    effects.put(QUARANTINE, owner, Bytes::new(), head)
}

fn take(effects: &mut Effects, head: &mut Head, owner: Key, number: u64) {
    head.held = head.held.saturating_sub(1);
    effects.delete(QUARANTINE, owner, sub(ENTRY, number));
    effects.delete(QUARANTINE, owner, sub(BATCH, number));
}

fn set_timer(
    effects: &mut Effects,
    head: &mut Head,
    message: &Message,
    due: Millis,
    context: &Context<'_>,
) -> Result<(), Interrupt> {
    head.clears = Some(due);
    let envelope = envelope(message.key(), &QuarantineOrder::Clear, context)?;
    effects.timers.push(SetTimer { name: TIMER, due, message: Produced { channel: INBOUND, envelope } });
    Ok(())
}

fn envelope<P: schemas::Payload>(key: Key, payload: &P, context: &Context<'_>) -> Result<Envelope, Interrupt> {
    Envelope::new(context.new_id(), SOURCE, key, context.now, payload)
        .map_err(|_| Failure::permanent("ZGL-MSG-ENCODE").into())
}
