//! The secure mailbox, in the manner of the eHealthBox: submissions, boxes, quota, stand-by.
//!
//! Purpose: two pure workers. [`Submissions`] takes what a sender hands over, recognises repetitions by the
//! PublicationId, and routes it to boxes or to the TTP. [`Boxes`] owns each box: capacity, order, stand-by, folders.
//! Invariants kept here: I1 (whatever is taken is answered: delivered, refused, or told to the receipts stage), I2 (one
//! effect per PublicationId and per item), I3 (a box is filled in order of arrival, stand-by included), I4 (an item shows
//! its owner nothing that the platform keeps for its answers).
//! Must not know: how things are stored, when timers fire, what pseudonyms are.

#![forbid(unsafe_code)]

pub mod boxes;
mod commands;
pub mod queries;
pub mod rows;
mod stand_by;
pub mod submissions;

pub use boxes::Boxes;
pub use rows::{BoxRow, Hidden, ItemRow, PartContent, PlaceRow, PublicationRow, SentRow, Shelf};
pub use submissions::Submissions;

use schemas::messages::Reason;
use topology::{CHANNELS, Channel};

/// Content up to this many bytes stays in its item's row and saves a row of its own: most messages are that small, and an
/// item's row is rewritten only when its owner lists, opens or moves it.
pub const INLINE_MAX: usize = 2 * 1024;

/// Every submission has its final answer so long after it was accepted: 2 hours (I5).
pub const ANSWER_WITHIN_MS: i64 = 2 * 60 * 60 * 1_000;

/// So long before its deadline a message can no longer enter a box: 2 minutes, time enough for the answer to reach the
/// receipts stage before that gives the final answer by itself.
pub const TOO_LATE_MS: i64 = 2 * 60 * 1_000;

const SOURCE: &str = "/zegel/mailbox";
const SUBMITTED: &Channel = &CHANNELS[0];
const DELIVER: &Channel = &CHANNELS[1];
const INBOUND: &Channel = &CHANNELS[2];
const RECEIPTS: &Channel = &CHANNELS[3];

fn reason(code: &str, text: &str) -> Reason {
    Reason { code: code.to_owned(), text: text.to_owned(), rows: Vec::new(), bad_rows: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_go_to_the_channels_that_are_meant() {
        let found = [SUBMITTED, DELIVER, INBOUND, RECEIPTS].map(|channel| channel.name);
        assert_eq!(found, ["mailbox.submitted", "mailbox.deliver", "ttp.inbound", "receipts.due"]);
    }
}
