//! Checkpoints (C2SP tlog-checkpoint): the log's signed statement of its size and root, and who must have signed one.
//!
//! ```text
//! origin
//! size, decimal
//! root, base64
//! [extension lines: accepted and kept, never written by us]
//! ```

use super::note::{Note, NoteKey, NoteSigner, Purpose, SignatureLine};
use super::{LogError, decimal, ensure};
use crate::hash::sha256;
use base64::{Engine, engine::general_purpose::STANDARD};
use schemas::Sha256;
use std::fmt;
use std::str::FromStr;

/// What a log says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log.
    pub origin: String,
    /// How many entries.
    pub size: u64,
    /// The Merkle root over them.
    pub root: Sha256,
    /// Further lines, which nobody interprets.
    pub extensions: Vec<String>,
}

impl Checkpoint {
    /// The checkpoint as the log's signed note.
    #[must_use]
    pub fn sign(&self, log: &NoteSigner) -> Note {
        Note::signed(self.to_string(), log)
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.root.0))?;
        self.extensions.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

impl FromStr for Checkpoint {
    type Err = LogError;

    /// Reads the text of a note.
    fn from_str(text: &str) -> Result<Checkpoint, LogError> {
        const SHAPE: LogError = LogError::Checkpoint("must be origin, size and root, a line each");
        let body = text.strip_suffix('\n').ok_or(SHAPE)?;
        let mut lines = body.split('\n');
        let origin = lines.next().filter(|line| !line.is_empty()).ok_or(SHAPE)?.to_owned();
        let size = lines.next().and_then(decimal).ok_or(SHAPE)?;
        let root = lines.next().and_then(hash).ok_or(SHAPE)?;
        let extensions: Vec<String> = lines.map(str::to_owned).collect();
        ensure(extensions.iter().all(|line| !line.is_empty()), SHAPE)?;
        ensure(size > 0 || root == sha256(&[]), LogError::Checkpoint("an empty log has the root of nothing"))?;
        Ok(Checkpoint { origin, size, root, extensions })
    }
}

/// A hash as a line of these formats has it.
pub(super) fn hash(line: &str) -> Option<Sha256> {
    STANDARD.decode(line).ok()?.try_into().ok().map(Sha256)
}

/// Whom a reader trusts: the log's key, witnesses, and how many of those must have cosigned. It comes from outside the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    log: NoteKey,
    witnesses: Vec<NoteKey>,
    quorum: usize,
}

/// A checkpoint that the log signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// What it says.
    pub checkpoint: Checkpoint,
    /// The note as it was read.
    pub note: Note,
    /// Names of known witnesses who cosigned it, with the second (since 1970) at which they saw it.
    pub witnesses: Vec<(String, u64)>,
}

impl Policy {
    /// A policy. A quorum of 0 trusts the log's operator alone not to show two histories.
    ///
    /// # Errors
    /// [`LogError::Key`] when a key is for another purpose, a witness is given twice, or the quorum cannot be reached.
    pub fn new(log: NoteKey, witnesses: Vec<NoteKey>, quorum: usize) -> Result<Policy, LogError> {
        ensure(log.purpose() == Purpose::Log, LogError::Key("of the log is a key for cosignatures"))?;
        let cosign = witnesses.iter().all(|key| key.purpose() == Purpose::Witness);
        ensure(cosign, LogError::Key("of a witness is not for cosignatures"))?;
        let once = witnesses.iter().enumerate().all(|(at, key)| {
            witnesses[..at].iter().all(|other| other.name() != key.name() && other.public != key.public)
        });
        ensure(once, LogError::Key("of a witness is given twice"))?;
        ensure(quorum <= witnesses.len(), LogError::Key("list has fewer witnesses than must cosign"))?;
        Ok(Policy { log, witnesses, quorum })
    }

    /// The log's key.
    #[must_use]
    pub fn log(&self) -> &NoteKey {
        &self.log
    }

    /// How many witnesses must have cosigned.
    #[must_use]
    pub fn quorum(&self) -> usize {
        self.quorum
    }

    /// The witness of this name, if it is known.
    #[must_use]
    pub fn witness(&self, line: &SignatureLine) -> Option<&NoteKey> {
        self.witnesses.iter().find(|key| key.name() == line.name && key.id() == line.id)
    }

    /// Reads a checkpoint that this log signed; says who cosigned it, and does not ask for a quorum.
    ///
    /// # Errors
    /// [`LogError::Note`] or [`LogError::Checkpoint`]: another form, another log, no signature of its key, or a bad one.
    pub fn open(&self, text: &str) -> Result<Opened, LogError> {
        let note: Note = text.parse()?;
        let signed = note.signed_by(&self.log)?.is_some();
        ensure(signed, LogError::Checkpoint("is not signed by the log's key"))?;
        let checkpoint: Checkpoint = note.text.parse()?;
        ensure(checkpoint.origin == self.log.name(), LogError::Checkpoint("is of another log"))?;
        let mut witnesses = Vec::new();
        for key in &self.witnesses {
            witnesses.extend(note.signed_by(key)?.map(|time| (key.name().to_owned(), time)));
        }
        Ok(Opened { checkpoint, note, witnesses })
    }

    /// Reads a checkpoint that the log and a quorum of witnesses signed.
    ///
    /// # Errors
    /// As [`Policy::open`], and when too few witnesses cosigned.
    pub fn check(&self, text: &str) -> Result<Opened, LogError> {
        let opened = self.open(text)?;
        ensure(opened.witnesses.len() >= self.quorum, LogError::Checkpoint("is cosigned by too few witnesses"))?;
        Ok(opened)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    const ORIGIN: &str = "zegel.example/log";

    fn signer(name: &str, purpose: Purpose) -> NoteSigner {
        NoteSigner::generate(name, purpose).unwrap()
    }

    fn checkpoint(size: u64) -> Checkpoint {
        Checkpoint { origin: ORIGIN.to_owned(), size, root: Sha256([7; 32]), extensions: Vec::new() }
    }

    #[test]
    fn a_checkpoint_counts_the_witnesses_that_are_known() {
        let (log, one, two) =
            (signer(ORIGIN, Purpose::Log), signer("w/1", Purpose::Witness), signer("w/2", Purpose::Witness));
        let policy = Policy::new(log.public().clone(), vec![one.public().clone(), two.public().clone()], 2).unwrap();
        let mut note = checkpoint(5).sign(&log);
        assert!(policy.check(&note.to_string()).is_err());
        note.signatures.push(one.sign(&note.text, 10));
        note.signatures.push(signer("w/3", Purpose::Witness).sign(&note.text, 10));
        assert_eq!(policy.open(&note.to_string()).unwrap().witnesses, [("w/1".to_owned(), 10)]);
        assert!(policy.check(&note.to_string()).is_err());
        note.signatures.push(two.sign(&note.text, 11));
        assert_eq!(policy.check(&note.to_string()).unwrap().checkpoint, checkpoint(5));
        // Twice the same witness is one witness.
        note.signatures.pop();
        note.signatures.push(one.sign(&note.text, 12));
        assert!(policy.check(&note.to_string()).is_err());
    }

    #[test]
    fn a_checkpoint_of_another_log_or_key_is_refused() {
        let (log, other) = (signer(ORIGIN, Purpose::Log), signer(ORIGIN, Purpose::Log));
        let policy = Policy::new(log.public().clone(), Vec::new(), 0).unwrap();
        assert!(policy.check(&checkpoint(5).sign(&other).to_string()).is_err());
        let foreign = Checkpoint { origin: "other.example/log".to_owned(), ..checkpoint(5) };
        assert_eq!(policy.check(&foreign.sign(&log).to_string()), Err(LogError::Checkpoint("is of another log")));
        policy.check(&checkpoint(5).sign(&log).to_string()).unwrap();
    }

    #[test]
    fn a_policy_that_cannot_hold_is_refused() {
        let (log, one) = (signer(ORIGIN, Purpose::Log), signer("w/1", Purpose::Witness));
        let keys = |signers: &[&NoteSigner]| signers.iter().map(|signer| signer.public().clone()).collect::<Vec<_>>();
        assert!(Policy::new(one.public().clone(), Vec::new(), 0).is_err());
        assert!(Policy::new(log.public().clone(), keys(&[&log]), 1).is_err());
        assert!(Policy::new(log.public().clone(), keys(&[&one, &one]), 2).is_err());
        assert!(Policy::new(log.public().clone(), keys(&[&one]), 2).is_err());
        let renamed = NoteSigner::from_pem("w/2", Purpose::Witness, &one.to_pem().unwrap()).unwrap();
        assert!(Policy::new(log.public().clone(), keys(&[&one, &renamed]), 2).is_err(), "one key under two names");
    }

    #[test]
    fn what_is_no_checkpoint_is_refused() {
        let good = checkpoint(5).to_string();
        assert_eq!(good.parse(), Ok(checkpoint(5)));
        let root = STANDARD.encode([7; 32]);
        for text in [
            String::new(),
            format!("{ORIGIN}\n5\n{root}"),
            format!("\n5\n{root}\n"),
            format!("{ORIGIN}\n05\n{root}\n"),
            format!("{ORIGIN}\n+5\n{root}\n"),
            format!("{ORIGIN}\n5\n{}\n", &root[4..]),
            format!("{ORIGIN}\n5\n{root}\n\n"),
            format!("{ORIGIN}\n0\n{root}\n"),
            format!("{ORIGIN}\n99999999999999999999999\n{root}\n"),
        ] {
            assert!(text.parse::<Checkpoint>().is_err(), "{text:?}");
        }
        assert_eq!(format!("{good}more\n").parse::<Checkpoint>().unwrap().extensions, ["more"]);
    }
}
