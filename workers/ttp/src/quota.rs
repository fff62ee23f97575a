//! How many distinct national numbers a sender has had encoded today: 73 million of them are all there are, so whoever may
//! encode freely soon owns the dictionary from numbers to tokens.
//!
//! One row per project and sender, replaced on a new day: `form (1) ‖ day since 1970 (u32 BE) ‖ sketch`. The count is of
//! distinct numbers, so sending the same patients every hour costs nothing, and a batch that is tried twice counts once.

use crate::compiled::CompiledProject;
use crate::refusal::refusal;
use crate::sketch::Sketch;
use bytes::Bytes;
use schemas::messages::{Inbound, Reason};
use schemas::{MailboxAddress, Millis};
use zegel_core::slot::spaces::TTP_QUOTAS;
use zegel_core::worker::Change;
use zegel_core::{Context, Failure, Interrupt, Message, Read, View};

const FORM: u8 = 1;
const HEAD: usize = 1 + 4;
const DAY_MS: i64 = 86_400_000;

/// The row that counts for this sender.
pub(crate) fn read(message: &Message, inbound: &Inbound, context: &Context<'_>) -> Read {
    Read::One { space: TTP_QUOTAS, owner: message.key(), sub: sub(&inbound.sender, context) }
}

/// What a delivery adds to the sender's day, or the refusal because it would be too much; none when it adds nothing.
pub(crate) fn charge(
    message: &Message,
    (project, inbound): (&CompiledProject, &Inbound),
    identifiers: &Sketch,
    view: &View,
    context: &Context<'_>,
) -> Result<Result<Option<Change>, Reason>, Interrupt> {
    if identifiers.is_empty() {
        return Ok(Ok(None));
    }
    let sub = sub(&inbound.sender, context);
    let today = day(context.now);
    let mut sketch = match view.bytes(TTP_QUOTAS, message.key(), sub.clone())? {
        Some(row) => decode(&row, today).ok_or_else(|| Failure::permanent("ZGL-STATE-READ"))?,
        None => Sketch::default(),
    };
    let before = sketch.clone();
    sketch.merge(identifiers);
    if sketch.estimate() > project.identifiers_per_day() {
        let text = "the sender's quota of distinct identifiers for today is used up";
        return Ok(Err(refusal("ZGL-TTP-QUOTA", text)));
    }
    let is_known = before == sketch;
    let value = Some(encode(&sketch, today).into());
    Ok(Ok((!is_known).then(|| Change { space: TTP_QUOTAS, owner: message.key(), sub, value })))
}

fn sub(sender: &MailboxAddress, context: &Context<'_>) -> Bytes {
    let key = context.keys.blind("ttp-quota", sender.to_string().as_bytes());
    Bytes::copy_from_slice(&key.0)
}

fn day(now: Millis) -> u32 {
    u32::try_from(now.0.div_euclid(DAY_MS)).unwrap_or(0)
}

fn encode(sketch: &Sketch, today: u32) -> Vec<u8> {
    let mut row = vec![FORM];
    row.extend_from_slice(&today.to_be_bytes());
    row.extend_from_slice(&sketch.encode());
    row
}

/// The sketch of today; empty when the row is of another day.
fn decode(row: &[u8], today: u32) -> Option<Sketch> {
    let (head, sketch) = row.split_at_checked(HEAD)?;
    if head[0] != FORM {
        return None;
    }
    let is_today = head[1..] == today.to_be_bytes();
    let sketch = Sketch::decode(sketch)?;
    Some(if is_today { sketch } else { Sketch::default() })
}
