//! The hospital's side of time stamping: a journal of documents, an agent that has them stamped, an archive of its own.
//!
//! Purpose: what the hospital's systems hand in is durable in the [`Journal`] before it is acknowledged; the [`Agent`] sends
//! it whenever the platform can be reached, fetches every bag that comes back, verifies it as a stranger's, looks for its
//! own entries in it, and archives it. The platform is not trusted: what it owes is written down here.
//! Invariants: nothing acknowledged is lost, whatever is killed; an entry is offered again under the same reference and hash,
//! so nothing is stamped twice; a bag that does not verify is never archived and stops the taking of bags, never the intake.
//! Must not know: HTTP, command lines, which store is behind the port. Time, keys and the platform are handed in.

#![forbid(unsafe_code)]

pub mod agent;
pub mod backoff;
pub mod bags;
pub mod drop_folder;
pub mod entry;
pub mod error;
pub mod journal;
pub mod own_bags;
pub mod platform;

mod place;
mod rows;

pub use agent::{Agent, Round};
pub use entry::{Answer, Entry, Offer, State};
pub use error::HospitalError;
pub use journal::{Journal, Tally};
pub use own_bags::OwnBag;
pub use platform::{Away, Platform, RawBag};
