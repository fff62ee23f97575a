//! How messages travel safely: the ports (Broker, Store, Objects, Keys, Clock), the pure worker's shape, and the runner.
//!
//! Purpose: everything that is the same whatever broker, database or object store stands behind.
//! Invariants kept here: I1 no-loss, I2 once, I3 order (per key), I7 flat (every queue is bounded in messages and bytes).
//! Must not know: any client crate, file, clock or key. Backends live in crates of their own.

#![forbid(unsafe_code)]

pub mod broker;
pub mod clock;
pub mod keys;
pub mod memory;
pub mod memory_transport;
pub mod metrics;
pub mod moving;
pub mod names;
pub mod objects;
pub mod packed;
pub mod relayed;
pub mod replies;
pub mod rows;
pub mod runner;
pub mod sealing;
pub mod slot;
pub mod store;
pub mod testing;
pub mod transport;
pub mod vouching;
pub mod worker;

pub use broker::{Batch, BatchLimits, Broker, BrokerError, Delivery, Outgoing, Settlement, Subscription};
pub use clock::{Clock, ClockGuard};
pub use keys::{Keys, KeysError, Sealed};
pub use metrics::Metrics;
pub use objects::{Objects, ObjectsError};
pub use relayed::{Relayed, RelayedConfig};
pub use runner::{Division, Ports, Runner, RunnerConfig};
pub use slot::{OwnerId, Slot, Space};
pub use store::{Outbox, Read, Rows, Step, Store, StoreError, Write};
pub use vouching::{Moment, Voucher};
pub use worker::{Context, Decision, Effects, Failure, Interrupt, Message, View, Worker};
