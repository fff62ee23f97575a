//! The table of channels in the forms that people and tools read.
//!
//! The pictures are checked in (`topology/asyncapi.json`, `topology/topology.mmd`), and a test keeps them equal to the
//! table. The same table gives the same text, to the byte.

mod asyncapi;
mod mermaid;
mod table;

use crate::channels::CHANNELS;

/// Columns for a terminal: the channels, then the message types with the channel that each travels on.
#[must_use]
pub fn table() -> String {
    table::of(CHANNELS)
}

/// A Mermaid flowchart: edges, channels with their keys, stages, and what comes of it.
#[must_use]
pub fn mermaid() -> String {
    mermaid::of(CHANNELS)
}

/// An AsyncAPI 3.0 document, JSON: channels, operations and messages with the schemas of their payloads.
#[must_use]
pub fn asyncapi() -> String {
    format!("{:#}\n", asyncapi::of(CHANNELS))
}
