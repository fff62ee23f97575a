//! One suite over every place that holds objects, and what only one of them can get wrong.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[macro_use]
mod suite;
#[cfg(feature = "s3")]
mod bucket;
mod local;
#[cfg(feature = "s3")]
mod server;
