//! I2 and I3: an item stands once in its box, where its place says, and no number of a box can be given twice.
//!
//! Numbers are the order. The times that stand beside them are the clock's, which may step back between two messages.

use super::Line;
use super::rows::Rows;
use crate::failed::Failed;
use bytes::Bytes;
use schemas::Key;
use std::collections::HashMap;
use zegel_core::rows::decode;
use zegel_core::slot::spaces;
use zegel_mailbox::{BoxRow, ItemRow, PlaceRow};

/// What the items of one box add up to.
#[derive(Default)]
struct Sum {
    items: u64,
    last_sequence: u64,
}

/// Checks every box.
///
/// # Errors
/// When the database cannot be read.
pub fn check(rows: &Rows) -> Result<Vec<Line>, Failed> {
    let mut once = Line::new("I2", "items stand once, where their places say");
    let mut order = Line::new("I3", "boxes give no number twice");
    let mut sums: HashMap<Key, Sum> = HashMap::new();
    rows.every(spaces::ITEMS, |owner, sub, value| {
        once.looked_at += 1;
        let Some(item) = value.and_then(|bytes| ItemRow::decode(&bytes).ok()) else {
            once.fault(format!("an item of box {owner} cannot be read"));
            return Ok(());
        };
        let place: Option<PlaceRow> = rows.json(spaces::ITEM_PLACES, owner, Bytes::copy_from_slice(&item.item.0))?;
        let stands = place.is_some_and(|place| place.shelf.at(place.sequence) == *sub);
        if !stands {
            once.fault(format!("item {} stands where its place does not say", item.item));
        }
        let sum = sums.entry(owner).or_default();
        sum.items += 1;
        sum.last_sequence = sum.last_sequence.max(sequence(sub));
        order.looked_at += 1;
        Ok(())
    })?;
    rows.every(spaces::BOXES, |owner, _, value| {
        let Some(found) = value.and_then(|bytes| decode::<BoxRow>(&bytes).ok()) else {
            once.fault(format!("box {owner} cannot be read"));
            return Ok(());
        };
        let sum = sums.remove(&owner).unwrap_or_default();
        if found.count + found.stand_by_count != sum.items {
            let said = found.count + found.stand_by_count;
            once.fault(format!("box {owner} says {said} items and has {}", sum.items));
        }
        if sum.last_sequence >= found.next_sequence {
            order.fault(format!("box {owner} would give a number twice"));
        }
        Ok(())
    })?;
    for owner in sums.keys() {
        once.fault(format!("items of box {owner} have no box"));
    }
    Ok(vec![once, order])
}

fn sequence(sub: &Bytes) -> u64 {
    sub.get(1..9).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes)
}
