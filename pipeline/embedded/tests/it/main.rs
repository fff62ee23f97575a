//! The embedded backend: the suites of every backend, and what only one file on one disk can suffer.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod faults;
mod golden;
mod kill;
mod moving;
mod place;
mod suites;
