//! Where it travels: every channel of Zegel, declared once, as data.
//!
//! Purpose: the one table from which the broker's objects, the AsyncAPI document and the pictures are derived.
//! Must not know: any broker client, store or clock. Everything here is pure.
//! Failure behaviour: [`validate()`] says what is wrong with the table; a test runs it.

#![forbid(unsafe_code)]

pub mod channels;
pub mod render;
pub mod validate;

pub use channels::{AfterDead, CHANNELS, Channel, Group};
pub use validate::{TopologyError, validate};
