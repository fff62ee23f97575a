//! The time-stamp stage: prescription hashes are collected in a bag per hospital and window, bound, chained and stamped.

#![forbid(unsafe_code)]

pub mod queries;
pub mod rows;
