//! The PostgreSQL backend over a real server: the suites of every backend, and what only a server far away can do to us.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod cluster;
mod cut;
mod kill;
mod load;
mod offline;
mod opening;
mod place;
mod processes;
mod proxy;
mod relayed;
mod suites;
