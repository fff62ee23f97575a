//! What a witness does (C2SP tlog-witness): it signs a checkpoint only when the log it saw last is the beginning of it.
//!
//! Pure: [`judge`] takes what the witness signed last and a request, and says what is to be kept and signed. The caller
//! keeps the new state durably before it hands the cosignature out, and lets no second request in between.
//!
//! ```text
//! old <size that the witness signed last>
//! <consistency path, a hash a line>
//! <empty line>
//! <checkpoint, a signed note>
//! ```

use super::checkpoint::{Checkpoint, Policy};
use super::proof::{ConsistencyProof, read_path, write_path};
use super::{LogError, decimal};
use crate::hash::sha256;
use schemas::Sha256;
use std::fmt;
use std::str::FromStr;

/// What a witness signed last of one log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Its size.
    pub size: u64,
    /// Its root.
    pub root: Sha256,
}

impl Default for Seen {
    /// Nothing yet: the empty tree.
    fn default() -> Seen {
        Seen { size: 0, root: sha256(&[]) }
    }
}

/// An `add-checkpoint` request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// The size that the witness is believed to have signed last.
    pub old: u64,
    /// Consistency path from there.
    pub path: Vec<Sha256>,
    /// The checkpoint, a signed note.
    pub checkpoint: String,
}

/// Why a witness does not sign, with the HTTP status that tlog-witness has for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// 400.
    #[error("request has another form, or the log has shrunk")]
    Shape,
    /// 403.
    #[error("checkpoint is not signed by the log's key")]
    Signature,
    /// 404.
    #[error("checkpoint is of a log that this witness does not watch")]
    Unknown,
    /// 409, with the size that was signed last.
    #[error("witness signed another size last: {0}")]
    Conflict(u64),
    /// 422: the log does not begin with what was seen before. The checkpoint proves that, if the roots differ at one size.
    #[error("log is not a continuation of what this witness signed: the platform shows two histories")]
    Fork,
}

impl Refusal {
    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Refusal::Shape => 400,
            Refusal::Signature => 403,
            Refusal::Unknown => 404,
            Refusal::Conflict(_) => 409,
            Refusal::Fork => 422,
        }
    }
}

/// Whether a witness may sign; what it has seen then, and the note's text to sign.
///
/// # Errors
/// See [`Refusal`].
pub fn judge(policy: &Policy, seen: &Seen, request: &AddCheckpoint) -> Result<(Seen, String), Refusal> {
    let note: super::Note = request.checkpoint.parse().map_err(|_| Refusal::Shape)?;
    let stated: Checkpoint = note.text.parse().map_err(|_| Refusal::Shape)?;
    if stated.origin != policy.log().name() {
        return Err(Refusal::Unknown);
    }
    if !matches!(note.signed_by(policy.log()), Ok(Some(_))) {
        return Err(Refusal::Signature);
    }
    if request.old > stated.size {
        return Err(Refusal::Shape);
    }
    if request.old != seen.size {
        return Err(Refusal::Conflict(seen.size));
    }
    let proof = ConsistencyProof { old: seen.size, new: stated.size, path: request.path.clone() };
    if proof.connects(&seen.root, &stated.root) {
        Ok((Seen { size: stated.size, root: stated.root }, note.text))
    } else {
        Err(Refusal::Fork)
    }
}

impl fmt::Display for AddCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "old {}", self.old)?;
        write_path(f, &self.path)?;
        write!(f, "\n{}", self.checkpoint)
    }
}

impl FromStr for AddCheckpoint {
    type Err = LogError;

    fn from_str(text: &str) -> Result<AddCheckpoint, LogError> {
        const SHAPE: LogError = LogError::Proof("is not an add-checkpoint request");
        let (head, checkpoint) = text.split_once("\n\n").ok_or(SHAPE)?;
        let mut lines = head.split('\n');
        let old = lines.next().and_then(|line| decimal(line.strip_prefix("old ")?)).ok_or(SHAPE)?;
        Ok(AddCheckpoint { old, path: read_path(lines)?, checkpoint: checkpoint.to_owned() })
    }
}
