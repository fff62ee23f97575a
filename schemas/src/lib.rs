//! What travels through Zegel.
//!
//! Purpose: the value types that every other part shares: identifiers with their check digits, the envelope
//! (CloudEvents 1.0), one message type per kind of event, and the table of error codes.
//! Must not know: any broker, store, clock, socket or key. This crate parses and prints, nothing else.
//! Failure behaviour: parsing returns an error that names the rule and the value's kind, never the value.

#![forbid(unsafe_code)]

pub mod address;
pub mod basic;
pub mod cloudevent;
pub mod codes;
pub mod documents;
pub mod envelope;
pub mod ids;
pub mod kinds;
pub mod messages;
mod text;

pub use address::{AddressError, MailboxAddress};
pub use basic::{Key, MessageId, Millis, Sha256, TraceParent};
pub use envelope::{Envelope, Payload};
pub use ids::{Cbe, Ehp, IdError, Nihii, Ssin};
