//! The hospital's side against a played platform that goes away, forgets, lies and is killed.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod agent;
mod drop_folder;
mod journal;
mod world;
