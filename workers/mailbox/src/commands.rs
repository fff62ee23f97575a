//! What the owner of a box does with the messages in it: list, open, move, delete.
//!
//! Every command is idempotent and answers which messages it applied to and which are not in the box; messages in stand-by
//! are not in the box. Opening a message counts as having received it too. Receipts are told once per message and kind,
//! and never for TTP work, whose sender is hidden from the owner and the other way round.

use crate::boxes::{OpenedBox, Step, encode_reply};
use crate::rows::{ItemRow, PlaceRow, Shelf};
use crate::{RECEIPTS, SOURCE, stand_by};
use schemas::MessageId;
use schemas::messages::{AckType, BoxCommand, CommandReply, Seen};
use std::collections::BTreeSet;
use zegel_core::slot::spaces;
use zegel_core::{Decision, Effects, Failure, Interrupt, names};

/// Most messages of one command, as in eHealthBox v3; the edge refuses more, and what is beyond counts as unknown.
const ITEMS_MAX: usize = 100;

/// The messages that a command is about, each once.
pub(crate) fn items(command: &BoxCommand) -> Vec<MessageId> {
    let mut seen = BTreeSet::new();
    named(command).iter().take(ITEMS_MAX).filter(|item| seen.insert(**item)).copied().collect()
}

/// Applies the command.
pub(crate) fn obey(step: Step<'_>) -> Result<Decision, Interrupt> {
    let command: BoxCommand = step.message.payload()?;
    let beyond = named(&command).iter().skip(ITEMS_MAX).copied();
    let Some(mut opened) = step.find_box()? else {
        let reply = CommandReply { applied: Vec::new(), unknown: named(&command).to_vec() };
        let effects = Effects { reply: Some(encode_reply(&reply)?), ..Effects::default() };
        return Ok(Decision::Done(effects));
    };
    let mut reply = CommandReply { applied: Vec::new(), unknown: Vec::new() };
    for item in items(&command) {
        let applied = apply(&mut opened, item, &command)?;
        if applied { &mut reply.applied } else { &mut reply.unknown }.push(item);
    }
    reply.unknown.extend(beyond);
    stand_by::enter(&mut opened)?;
    opened.reply(&reply)?;
    opened.finish()
}

/// Applies the command to one message; false when it is not in the box or cannot go there.
fn apply(opened: &mut OpenedBox<'_>, id: MessageId, command: &BoxCommand) -> Result<bool, Interrupt> {
    let Some((place, item)) = find(opened, id)? else { return Ok(false) };
    match command {
        BoxCommand::Listed { .. } => see(opened, place, item, false)?,
        BoxCommand::Read { .. } => see(opened, place, item, true)?,
        BoxCommand::Move { to, .. } => {
            let Some(shelf) = Shelf::of(*to) else { return Ok(false) };
            if shelf != place.shelf {
                opened.effects.delete(spaces::ITEMS, opened.step.owner(), place.shelf.at(place.sequence));
                opened.put(shelf, place.sequence, &item)?;
            }
        }
        BoxCommand::Delete { .. } => {
            opened.remove(place.shelf.at(place.sequence), &item);
            opened.row.bytes = opened.row.bytes.saturating_sub(item.size);
            opened.row.count = opened.row.count.saturating_sub(1);
        }
    }
    Ok(true)
}

fn find(opened: &OpenedBox<'_>, id: MessageId) -> Result<Option<(PlaceRow, ItemRow)>, Interrupt> {
    let step = opened.step;
    let Some(place) = step.place(id)?.filter(|place| place.shelf != Shelf::StandBy) else {
        return Ok(None);
    };
    let row = step.view.bytes(spaces::ITEMS, step.owner(), place.shelf.at(place.sequence))?;
    // A place without its item would be damage: the two are written in one commit.
    let row = row.ok_or_else(|| Failure::permanent("ZGL-STATE-READ"))?;
    let item = ItemRow::decode(&row).map_err(|_| Failure::permanent("ZGL-STATE-READ"))?;
    Ok(Some((place, item)))
}

/// Marks the message as listed, and opened when `read`, and tells the receipts stage what is new.
fn see(opened: &mut OpenedBox<'_>, place: PlaceRow, mut item: ItemRow, read: bool) -> Result<(), Interrupt> {
    let now = opened.step.context.now;
    let wanted = item.hidden.receipts;
    let first_listed = item.listed.is_none();
    let first_read = read && item.read.is_none();
    if !first_listed && !first_read {
        return Ok(());
    }
    item.listed = item.listed.or(Some(now));
    if first_read {
        item.read = Some(now);
    }
    opened.put_item(place.shelf, place.sequence, &item)?;
    if first_listed && wanted.received {
        tell(opened, &item, AckType::Received)?;
    }
    if first_read && wanted.read {
        tell(opened, &item, AckType::Read)?;
    }
    Ok(())
}

fn tell(opened: &mut OpenedBox<'_>, item: &ItemRow, ack: AckType) -> Result<(), Interrupt> {
    let Some(submission) = item.hidden.answers.filter(|_| item.hidden.answers_for.is_none()) else {
        return Ok(());
    };
    let step = opened.step;
    let seen = Seen { submission, recipient: opened.row.address.clone(), ack, at: step.context.now };
    let envelope = step.message.follow_up(step.context, SOURCE, names::submission_key(submission), &seen)?;
    opened.effects.produce(RECEIPTS, envelope);
    Ok(())
}

fn named(command: &BoxCommand) -> &[MessageId] {
    match command {
        BoxCommand::Listed { items } | BoxCommand::Move { items, .. } | BoxCommand::Delete { items } => items,
        BoxCommand::Read { item } => std::slice::from_ref(item),
    }
}
