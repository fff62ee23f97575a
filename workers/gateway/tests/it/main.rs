//! The front over the real workers, an in-memory broker and store, and objects in a folder.
//!
//! Nothing is mocked but time and the disk of the store: a test calls the router as a client would.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod bed;
mod canaries;
mod limits;
mod mailbox;
mod openapi;
mod operations;
mod stamps;
mod timestamp_and_mutations;
