//! The front of Zegel over HTTP: thin producers and readers.
//!
//! Purpose: turns a request into one sealed message on a channel, or reads state that a worker wrote. It decides nothing
//! that a worker decides: it checks form and rights, and an answer 202 means that the message is durable (I1).
//! Must not know: any broker client, database or key; they come in through [`Platform`].
//! Invariants: memory is bounded by [`GatewayConfig`] whatever is sent (I7); no refusal and no log shows a value of a
//! request (I4); what the TTP delivered is shown without anything of its sender.
//! Failure behaviour: every refusal is an [`problem::Problem`] with a stable code and changes nothing.

#![forbid(unsafe_code)]

pub mod auth;
mod authority;
mod body;
mod box_items;
mod boxes;
mod consult;
mod content;
mod dead;
mod fields;
mod gather;
pub mod hospital;
mod input;
mod log;
mod mutations;
mod operations;
mod outflow;
mod own_bags;
mod platform;
pub mod problem;
mod projects;
mod publish;
mod quarantine;
mod recent;
mod routes;
mod seals;
mod server;
mod submission;
mod timestamp;
mod token_file;
mod tokens;

pub use auth::{Grant, Tokens, TokensError};
pub use platform::{GatewayConfig, Platform};
pub use routes::router;
pub use server::serve;
pub use token_file::FileTokens;
