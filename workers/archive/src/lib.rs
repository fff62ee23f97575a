//! Archives of time-stamp bags, and the auditor: bytes in, findings out.
//!
//! Purpose: the platform and each hospital keep what was stamped in the same form, immutable segment files with an index
//! ([`segment`], [`manifest`]); whoever holds one can check it without the platform ([`audit`]), compare two of them
//! ([`reconcile`]), or take out all evidence about one document ([`evidence`]).
//! Invariants: every byte of an archive is covered by a digest, so a changed bit is found and located; what the auditor
//! trusts comes from a trust file ([`trust`]) and never from the archive; a tampered archive is never reported clean.
//! Must not know: stores, brokers, networks, clocks (the instant of an audit is given).

#![forbid(unsafe_code)]

pub mod audit;
pub mod error;
pub mod evidence;
pub mod finding;
pub mod list;
pub mod manifest;
pub mod openssl;
pub mod reader;
pub mod reconcile;
pub mod record;
pub mod rehash;
pub mod renewal;
pub mod report;
pub mod segment;
pub mod summary;
pub mod testing;
pub mod trust;
pub mod writer;

mod frame;
mod page;
mod tar;
mod time;

pub use error::ArchiveError;
pub use finding::{Class, Finding, Findings, Place};
