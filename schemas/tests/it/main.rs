//! The tests of what travels: identifiers against rules and an independent oracle, stored forms against golden files.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod checked_in;
mod codes;
mod envelope;
mod examples;
mod golden;
mod ids;
mod oracle;
