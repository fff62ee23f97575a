//! Stand-by: documents that wait because their box is full, in order, until there is room or their deadline is near.
//!
//! A box has at most one timer, for the earliest of its waiting messages, rounded up to [`GRAIN_MS`]; it fires an
//! [`Expire`] for the box itself. So the box needs nobody to tell it, which matters for TTP work: who owes the answer
//! does not know in which box the result waits.
//! Bounds: a step moves at most [`STEP_MAX`] messages and tells itself to go on when there are more.

use crate::boxes::{OpenedBox, Step};
use crate::rows::{ItemRow, Shelf};
use crate::{DELIVER, SOURCE, TOO_LATE_MS, reason};
use bytes::Bytes;
use schemas::messages::{Answer, Expire, OpenBox};
use schemas::{MessageId, Millis};
use zegel_core::slot::spaces;
use zegel_core::worker::{Produced, SetTimer};
use zegel_core::{Decision, Effects, Failure, Interrupt};

/// Most messages that one step moves out of stand-by, and most rows that it reads at a time.
const STEP_MAX: usize = 100;
/// Timers are rounded up to 30 s, so that ten thousand waiting messages need 240 looks in their two hours, not ten
/// thousand; still well before the deadline, see [`TOO_LATE_MS`].
const GRAIN_MS: i64 = 30_000;
/// The box's only timer.
const TIMER: &str = "stand-by";

/// Puts an item in stand-by.
pub(crate) fn wait(opened: &mut OpenedBox<'_>, item: ItemRow) -> Result<(), Interrupt> {
    opened.row.stand_by_count += 1;
    opened.row.stand_by_bytes = opened.row.stand_by_bytes.saturating_add(item.size);
    let sequence = opened.next_sequence();
    opened.put(Shelf::StandBy, sequence, &item)?;
    opened.answer(&item.hidden, Answer::StandBy)?;
    if let Some((due, submission)) = due(&item)
        && opened.row.stand_by_due.is_none_or(|set| due < set)
    {
        set_timer(opened, due, submission)?;
    }
    Ok(())
}

/// Lets waiting messages enter, in order, while there is room.
pub(crate) fn enter(opened: &mut OpenedBox<'_>) -> Result<(), Interrupt> {
    if opened.row.stand_by_count == 0 || opened.is_full() {
        return Ok(());
    }
    for (sub, item) in page(opened, Shelf::StandBy.at(0))? {
        if opened.is_full() {
            return Ok(());
        }
        if opened.step.is_too_late(&item.hidden) {
            withdraw(opened, sub, &item)?;
        } else {
            leave(opened, &item);
            opened.effects.delete(spaces::ITEMS, opened.step.owner(), sub);
            opened.take_in(item)?;
        }
    }
    if opened.row.stand_by_count > 0 && !opened.is_full() {
        // The same capacity again changes nothing but goes on entering.
        let again = OpenBox { address: opened.row.address.clone(), max_bytes: opened.row.max_bytes };
        go_on(opened, &again)?;
    }
    Ok(())
}

/// Withdraws what waits for the submission, and whatever else is too late by now.
pub(crate) fn expire(step: Step<'_>) -> Result<Decision, Interrupt> {
    let expire: Expire = step.message.payload()?;
    let Some(mut opened) = step.find_box()? else {
        return Ok(Decision::Done(Effects::default()));
    };
    let mut withdrawn = 0;
    let mut next: Option<(Millis, MessageId)> = None;
    let mut from = Shelf::StandBy.at(0);
    // Without waiting messages there is nothing to look through.
    let mut more = opened.row.stand_by_count > 0;
    while more && withdrawn < STEP_MAX {
        let rows = page(&opened, from.clone())?;
        more = rows.len() == STEP_MAX;
        for (sub, item) in rows {
            from = [&sub[..], &[0]].concat().into();
            if item.hidden.answers == Some(expire.submission) || step.is_too_late(&item.hidden) {
                withdraw(&mut opened, sub, &item)?;
                withdrawn += 1;
            } else {
                next = next.into_iter().chain(due(&item)).min();
            }
        }
    }
    if more {
        go_on(&mut opened, &expire)?;
    }
    opened.row.stand_by_due = None;
    if let Some((due, submission)) = next {
        set_timer(&mut opened, due, submission)?;
    }
    opened.finish()
}

/// The timer goes when nothing waits any more.
pub(crate) fn settle_timer(opened: &mut OpenedBox<'_>) {
    if opened.row.stand_by_count == 0 && opened.row.stand_by_due.take().is_some() {
        opened.effects.timers.clear();
        opened.effects.cancelled.push(TIMER);
    }
}

fn page(opened: &OpenedBox<'_>, from: Bytes) -> Result<Vec<(Bytes, ItemRow)>, Interrupt> {
    let Step { view, .. } = opened.step;
    let rows = view.range(spaces::ITEMS, opened.step.owner(), from, Some(Shelf::StandBy.end()), STEP_MAX)?;
    rows.into_iter()
        .map(|(sub, value)| ItemRow::decode(&value).map(|item| (sub, item)))
        .collect::<Result<_, _>>()
        .map_err(|_| Failure::permanent("ZGL-STATE-READ").into())
}

fn leave(opened: &mut OpenedBox<'_>, item: &ItemRow) {
    opened.row.stand_by_count = opened.row.stand_by_count.saturating_sub(1);
    opened.row.stand_by_bytes = opened.row.stand_by_bytes.saturating_sub(item.size);
}

fn withdraw(opened: &mut OpenedBox<'_>, sub: Bytes, item: &ItemRow) -> Result<(), Interrupt> {
    leave(opened, item);
    opened.remove(sub, item);
    let why = reason("ZGL-STANDBY", "recipient: mailbox was still full at the deadline");
    opened.answer(&item.hidden, Answer::Refused { reason: why })
}

/// When the item must be withdrawn, and for which submission; none when it may wait for ever.
fn due(item: &ItemRow) -> Option<(Millis, MessageId)> {
    let last = item.hidden.deadline?.plus(-TOO_LATE_MS).0;
    let rounded = last.saturating_add(GRAIN_MS - 1).div_euclid(GRAIN_MS).saturating_mul(GRAIN_MS);
    Some((Millis(rounded), item.hidden.answers?))
}

fn set_timer(opened: &mut OpenedBox<'_>, due: Millis, submission: MessageId) -> Result<(), Interrupt> {
    opened.row.stand_by_due = Some(due);
    let message = message(opened, &Expire { submission })?;
    opened.effects.timers.push(SetTimer { name: TIMER, due, message });
    Ok(())
}

/// A message of the box to itself.
fn go_on<P: schemas::Payload>(opened: &mut OpenedBox<'_>, payload: &P) -> Result<(), Interrupt> {
    let message = message(opened, payload)?;
    opened.effects.produced.push(message);
    Ok(())
}

fn message<P: schemas::Payload>(opened: &OpenedBox<'_>, payload: &P) -> Result<Produced, Interrupt> {
    let Step { message, context, .. } = opened.step;
    let mut envelope = message.follow_up(context, SOURCE, message.key(), payload)?;
    envelope.deadline = None;
    Ok(Produced { channel: DELIVER, envelope })
}
