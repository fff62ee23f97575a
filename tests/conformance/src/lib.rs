//! What every backend must do, as suites that take a backend: for a broker, for a store, and for the runner over both.
//!
//! A backend passes when every scenario passes; a scenario panics with a sentence that says what is broken.

#![forbid(unsafe_code)]

pub mod broker;
pub mod fixture;
pub mod load;
pub mod outbox;
pub mod proxy;
pub mod relays;
pub mod runner;
pub mod service;
pub mod store;
pub mod transport;
