//! The auditor against archives that were made, attacked and broken.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::cast_possible_truncation)]

mod attacks;
mod auditing;
mod certificates;
mod documents;
mod flips;
mod logged;
mod own_bags;
mod reconciling;
mod rehashing;
mod renewing;
mod world;
mod writing;
