//! Receipts and alerts: every submission gets exactly one final answer for each recipient, in time.
//!
//! Purpose: two pure workers. [`Receipts`] keeps each submission's life, its one deadline timer, and puts
//! acknowledgements and errors into the sender's box. [`Alerts`] turns many late items into one alert per incident.
//! Invariants kept here: I5 (answer), I2 (a repeated answer changes nothing), I4 (a notice says which recipient and why,
//! never what a message holds).
//! Must not know: how a message is delivered or processed, only that somebody answers for each recipient.

#![forbid(unsafe_code)]

pub mod queries;
pub mod rows;

pub use rows::{AlertItemRow, AlertRow, LifeEvent, RecipientRow, State, SubmissionRow, What};
