//! RabbitMQ held to the transport's contract, and to what it promises when nodes, connections and memory fail.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::disallowed_methods)]

mod declaring;
mod faults;
mod foreign;
mod load;
mod node;
mod place;
mod reading;
mod suite;
