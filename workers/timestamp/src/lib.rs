//! The time-stamp stage: prescription hashes are collected in a bag per hospital and window, bound, chained and stamped.
//!
//! Purpose: three pure workers. [`Aggregator`] takes entries and closes windows; [`Sealer`] makes the eHealth
//! `TimeStampBag` of a closed one, binds it by a header (entry 0) to its entries, its window and the bag before, has its
//! exact bytes stamped (RFC 3161), archives it and sends a copy to the hospital's box; [`Log`] enters it into the platform's
//! append-only log. [`audit`] checks what they made.
//! Invariant I6: every accepted hash is in exactly one bag; windows are contiguous from the enrolment on; the bags form
//! an unbroken chain.
//! Must not know: brokers, stores, clocks. The authority is injected as a [`Stamper`].

#![forbid(unsafe_code)]

pub mod aggregator;
pub mod audit;
pub mod consult;
pub mod dss;
pub mod log;
pub mod own_bag;
pub mod queries;
pub mod rows;
pub mod schedule;
pub mod sealer;
pub mod stamper;
pub mod windows;
pub mod xml;

mod binding;
mod own_token;

pub use aggregator::Aggregator;
pub use log::Log;
pub use schedule::Schedule;
pub use sealer::Sealer;
pub use stamper::{Answerer, OwnAuthority, StampError, Stamped, Stamper};
pub use windows::Windows;

use topology::{CHANNELS, Channel};

/// CloudEvents `source` of what this stage produces.
const SOURCE: &str = "/zegel/timestamp";
const DELIVER: &Channel = &CHANNELS[1];
const ENTRIES: &Channel = &CHANNELS[4];
const SEALED: &Channel = &CHANNELS[5];
const LOGGED: &Channel = &CHANNELS[9];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_channels_are_the_ones_that_are_meant() {
        assert_eq!(
            [DELIVER.name, ENTRIES.name, SEALED.name, LOGGED.name],
            ["mailbox.deliver", "timestamp.entries", "timestamp.sealed", "timestamp.logged"]
        );
    }
}
