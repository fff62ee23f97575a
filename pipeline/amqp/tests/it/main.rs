//! RabbitMQ held to the transport's contract, and to what it promises when nodes, connections and memory fail.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::disallowed_methods)]

#[allow(dead_code)]
mod node;
#[allow(dead_code)]
mod place;
mod suite;
