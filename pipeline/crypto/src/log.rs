//! The append-only log of bags and tokens, in C2SP form: reading it, proving from it and verifying it, from bytes alone.
//!
//! What it is made of: [`note`] (signed notes, verifier keys, cosignatures), [`checkpoint`] (tlog-checkpoint, and the policy
//! of who must have signed), [`tiles`] (tlog-tiles: names and contents of resources), [`proof`] (inclusion and consistency
//! proofs from tiles, tlog-proof files, tlog-witness requests), [`entry`] (what one entry says), [`Frontier`] (the writer's
//! state). The same functions serve the platform that writes the log, a hospital that witnesses it and an auditor who
//! recomputes it. Nothing here opens a file or a socket.
//! Failure behaviour: [`LogError`] names the rule that is broken. A signature of a known key that does not verify refuses
//! the whole note, signatures of unknown keys are passed over, as the note format wants it (I8).

pub mod checkpoint;
pub mod entry;
pub mod note;
pub mod proof;
pub mod tiles;
pub mod witness;

mod frontier;
#[cfg(test)]
mod tests;

pub use checkpoint::{Checkpoint, Opened, Policy};
pub use entry::Entry;
pub use frontier::Frontier;
pub use note::{Note, NoteKey, NoteSigner, Purpose};
pub use proof::{ConsistencyProof, LogProof, Prover, TileSource};
pub use tiles::{Resource, Tile};

/// Why something of a log is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// Not a signed note.
    #[error("note: {0}")]
    Note(&'static str),
    /// Not a verifier key.
    #[error("log key: {0}")]
    Key(&'static str),
    /// Not a checkpoint, or not one that is trusted.
    #[error("checkpoint: {0}")]
    Checkpoint(&'static str),
    /// Not a tile, a bundle or the name of one.
    #[error("tile: {0}")]
    Tile(&'static str),
    /// Not a proof, or one that leads elsewhere.
    #[error("proof: {0}")]
    Proof(&'static str),
    /// Not an entry.
    #[error("log entry has another form")]
    Entry,
}

fn ensure(holds: bool, error: LogError) -> Result<(), LogError> {
    if holds { Ok(()) } else { Err(error) }
}

/// A number as these formats write it: decimal, without sign or leading zeros.
fn decimal(text: &str) -> Option<u64> {
    let plain = text == "0" || (!text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit()));
    if plain && !text.is_empty() { text.parse().ok() } else { None }
}
