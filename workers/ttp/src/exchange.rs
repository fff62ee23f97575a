//! What the TTP remembers of each delivery that may come back, in the space `exchanges` of the project's key.
//!
//! | sub | value |
//! | --- | --- |
//! | `h ‖ HMAC of the handle (16)` | an [`ExchangeRow`] as JSON: who sent it, under which document and keys, until when |
//! | `e ‖ when it is forgotten (u64 BE, ms) ‖ HMAC of the handle` | nothing; for forgetting in order |
//!
//! Nothing of a patient is kept: rows come back with what binds them (module `binding`). A row stays [`KEEP_MS`] after its handle
//! has expired, so that a late return is told so; then the timer [`TIDY`] forgets it. Values are sealed like all state; a handle
//! cannot be read from the store.

use crate::compiled::CompiledProject;
use crate::handover::Parcel;
use crate::project::exchange::Returns;
use crate::refusal::refusal;
use crate::worker::{INBOUND, envelope};
use bytes::Bytes;
use schemas::messages::{Reason, TtpWake, TtpWork};
use schemas::{Key, MailboxAddress, MessageId, Millis, Sha256};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use zegel_core::rows::V1;
use zegel_core::slot::spaces::EXCHANGES;
use zegel_core::worker::{Produced, SetTimer};
use zegel_core::{Context, Effects, Interrupt, Keys, Message, Read, View};

/// The project's timer that forgets exchanges.
pub(crate) const TIDY: &str = "tidy";
const HANDLES: u8 = b'h';
const ENDS: u8 = b'e';
const DAY_MS: i64 = 86_400_000;
/// A month, in which a late return hears that it is late and not that its handle is unknown.
const KEEP_MS: i64 = 30 * DAY_MS;
/// Exchanges that are forgotten in one step.
const FORGET_MAX: usize = 128;

/// An exchange as its rows were numbered.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Made {
    pub(crate) handle: MessageId,
    pub(crate) rows: u64,
    pub(crate) outer: Sha256,
}

/// One delivery that may come back.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ExchangeRow {
    v: V1,
    /// Who sent the batch, and gets what comes back.
    pub(crate) sender: MailboxAddress,
    /// The sender's submission.
    pub(crate) submission: MessageId,
    /// Which document of the project, and which keys.
    pub(crate) version: u32,
    pub(crate) epoch: u32,
    pub(crate) rows: u64,
    pub(crate) outer: Sha256,
    /// When the handle expires.
    pub(crate) until: Millis,
    /// When a return was accepted: there is only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) used: Option<Millis>,
}

impl ExchangeRow {
    /// Whether something may come back now.
    pub(crate) fn admit(&self, now: Millis) -> Result<(), Reason> {
        if self.used.is_some() {
            return Err(refusal("ZGL-RETURN-USED", "the handle was used by a return that was accepted"));
        }
        if self.until <= now {
            return Err(refusal("ZGL-RETURN-EXPIRED", "the handle has expired"));
        }
        Ok(())
    }
}

/// The row of a handle.
pub(crate) fn read(keys: &dyn Keys, owner: Key, handle: MessageId) -> Read {
    Read::One { space: EXCHANGES, owner, sub: sub(keys, handle) }
}

/// The row of a handle, as it is stored.
pub(crate) fn sub(keys: &dyn Keys, handle: MessageId) -> Bytes {
    [&[HANDLES][..], &keys.blind("handle", &handle.0).0].concat().into()
}

/// Remembers an exchange from now on; returns until when it may come back.
pub(crate) fn remember(
    effects: &mut Effects,
    (project, returns): (&CompiledProject, &Returns),
    (parcel, made): (&Parcel, &Made),
    (message, view, context): (&Message, &View, &Context<'_>),
) -> Result<Millis, Interrupt> {
    let until = context.now.plus(i64::from(returns.within_days) * DAY_MS);
    let row = ExchangeRow {
        v: V1,
        sender: parcel.sender.clone(),
        submission: parcel.submission,
        version: project.version(),
        epoch: project.epoch(),
        rows: made.rows,
        outer: made.outer,
        until,
        used: None,
    };
    let (owner, sub) = (message.key(), sub(context.keys, made.handle));
    let forgotten = until.plus(KEEP_MS);
    effects.put(EXCHANGES, owner, sub.clone(), &row)?;
    effects.put_bytes(EXCHANGES, owner, end(forgotten, &sub[1..]), Bytes::new());
    // The timer stands at the first that is to be forgotten; none stands when there is none.
    if ends(view, owner, 1)?.is_empty() {
        effects.timers.push(timer(message, project.name().to_owned(), (TIDY, TtpWork::Tidy), forgotten, context)?);
    }
    Ok(until)
}

/// What a recipient is told beside the batch.
pub(crate) fn told(project: &CompiledProject, until: Millis) -> BTreeMap<String, String> {
    let day = crate::project::book::day_of(until).to_string();
    BTreeMap::from([("project".to_owned(), project.name().to_owned()), ("return_until".to_owned(), day)])
}

/// Marks an exchange as used.
pub(crate) fn used(
    effects: &mut Effects,
    row: &ExchangeRow,
    handle: MessageId,
    (message, context): (&Message, &Context<'_>),
) -> Result<(), Interrupt> {
    let row = ExchangeRow { used: Some(context.now), ..row.clone() };
    effects.put(EXCHANGES, message.key(), sub(context.keys, handle), &row)
}

/// Forgets what is to be forgotten by now.
pub(crate) fn tidy(message: &Message, wake: TtpWake, view: &View, context: &Context<'_>) -> Result<Effects, Interrupt> {
    let (owner, mut effects) = (message.key(), Effects::default());
    let found = ends(view, owner, FORGET_MAX + 1)?;
    let due = |sub: &Bytes| {
        sub.get(1..9).and_then(|at| at.try_into().ok()).map_or(Millis(0), |at| Millis(i64::from_be_bytes(at)))
    };
    for (count, (end, _)) in found.iter().enumerate() {
        if count == FORGET_MAX || due(end) > context.now {
            let next = Millis(due(end).0.max(context.now.0));
            effects.timers.push(timer(message, wake.project, (TIDY, TtpWork::Tidy), next, context)?);
            break;
        }
        effects.delete(EXCHANGES, owner, end.clone());
        effects.delete(EXCHANGES, owner, [&[HANDLES][..], end.get(9..).unwrap_or_default()].concat());
    }
    Ok(effects)
}

fn ends(view: &View, owner: Key, limit: usize) -> Result<Vec<(Bytes, Bytes)>, Interrupt> {
    view.range(EXCHANGES, owner, Bytes::copy_from_slice(&[ENDS]), Some(Bytes::copy_from_slice(&[ENDS + 1])), limit)
}

fn end(at: Millis, handle: &[u8]) -> Bytes {
    [&[ENDS][..], &at.0.to_be_bytes(), handle].concat().into()
}

/// A timer of the project's key.
pub(crate) fn timer(
    message: &Message,
    project: String,
    (name, work): (&'static str, TtpWork),
    due: Millis,
    context: &Context<'_>,
) -> Result<SetTimer, Interrupt> {
    let mut envelope = envelope(message, message.key(), &TtpWake { project, work }, context)?;
    envelope.deadline = None;
    Ok(SetTimer { name, due, message: Produced { channel: INBOUND, envelope } })
}
