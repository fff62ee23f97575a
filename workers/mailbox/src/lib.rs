//! The secure mailbox, in the manner of the eHealthBox: submissions, boxes, quota, stand-by.
//!
//! Purpose: two pure workers. [`Submissions`] takes what a sender hands over, recognises repetitions by the
//! PublicationId, and routes it to boxes or to the TTP. [`Boxes`] owns each box: capacity, order, stand-by, folders.
//! Invariants kept here: I1 (whatever is taken is answered: delivered, refused, or told to the receipts stage), I2 (one
//! effect per PublicationId and per item), I3 (a box is filled in order of arrival, stand-by included), I4 (an item shows
//! its owner nothing that the platform keeps for its answers).
//! Must not know: how things are stored, when timers fire, what pseudonyms are.

#![forbid(unsafe_code)]

pub mod queries;
pub mod rows;

pub use rows::{BoxRow, Hidden, ItemRow, PartContent, PlaceRow, PublicationRow, SentRow, Shelf};

/// Content up to this many bytes stays in its item's row and saves a row of its own: most messages are that small, and an
/// item's row is rewritten only when its owner lists, opens or moves it.
pub const INLINE_MAX: usize = 2 * 1024;
