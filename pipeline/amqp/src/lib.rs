//! The transport port on RabbitMQ 3.10 and later, over AMQP 0.9.1 (lapin). No plug-in is needed.
//!
//! Objects, all durable, under a prefix of names ([`names`](crate::names)): a direct exchange per channel for its numbered
//! lanes and, where the channel has edges, one for its intake lanes; a quorum queue per partition and group; routing keys
//! are partitions, so that one publish under one confirm reaches the queue of every group. One more queue, `foreign`,
//! keeps what others put into ours.
//! Invariants: nothing is published before [`Topology::verify`] has passed, and again after each reconnection; a confirm
//! means fsynced by a quorum of the queue's members; per lane, order is kept by one task with one AMQP channel; a reader
//! starts when the broker has taken back what the last one held. No queue has a length or delivery limit.
//! Failure behaviour: lapin's own recovery is off. A lost connection is made again by a supervisor and what is not
//! confirmed is published again, in order, under the same marks; a call whose time is over answers
//! `Unavailable`, an edge that the broker blocks `Full`; a reader that lost its connection fails, and its slot is read again.
//! Must not know: what travels (bodies are sealed), stores, workers.
//!
//! What it cannot mend: in RabbitMQ 3.10, and others up to 2024, a quorum queue may fail while it comes up after a kill (its
//! issue 12635); nothing is lost, but a single node has to be restarted, while in a cluster another member goes on.
//!
//! What it cannot see: a policy that an operator sets over our queues (length, TTL); the guide says to set none.

#![forbid(unsafe_code)]

#[cfg(feature = "bare")]
pub mod bare;
mod declare;
mod endpoint;
mod error;
mod foreign;
mod lane;
mod link;
mod metrics;
pub mod names;
mod options;
mod reader;
mod transport;
mod wire;

pub use declare::{Plan, Topology, Wrong};
pub use error::AmqpError;
pub use metrics::Metrics;
pub use options::Options;
pub use transport::Amqp;
