//! Tests over a real Apache Kafka.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod broker;
mod declaration;
mod faults;
mod positions;
mod suites;
