//! Receipts and alerts: every submission gets exactly one final answer for each recipient, in time.
//!
//! Purpose: two pure workers. [`Receipts`] keeps each submission's life, its one deadline timer, and puts
//! acknowledgements and errors into the sender's box. [`Alerts`] turns many late items into one alert per incident.
//! Invariants kept here: I5 (answer), I2 (a repeated answer changes nothing), I4 (a notice says which recipient and why,
//! never what a message holds).
//! Must not know: how a message is delivered or processed, only that somebody answers for each recipient.

#![forbid(unsafe_code)]

pub mod alerts;
mod notices;
pub mod queries;
pub mod receipts;
pub mod rows;

pub use alerts::Alerts;
pub use receipts::{Limits, Receipts};
pub use rows::{AlertItemRow, AlertRow, LifeEvent, RecipientRow, State, SubmissionRow, What};

use topology::{CHANNELS, Channel};

/// The incident of submissions that have no final answer half an hour before their deadline.
pub const INCIDENT_OVERDUE: &str = "answers-overdue";

const SOURCE: &str = "/zegel/receipts";
const DELIVER: &Channel = &CHANNELS[1];
const RECEIPTS: &Channel = &CHANNELS[3];
const ALERTS: &Channel = &CHANNELS[8];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_go_to_the_channels_that_are_meant() {
        let found = [DELIVER, RECEIPTS, ALERTS].map(|channel| channel.name);
        assert_eq!(found, ["mailbox.deliver", "receipts.due", "alerts.raised"]);
    }
}
