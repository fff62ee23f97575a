//! The append-only log: every stamped bag joins it, in one order for the whole platform (C2SP tlog-tiles).
//!
//! Channel `timestamp.logged`, key: the log. An entry costs two small rows: itself, and the head with the tree's right
//! edge; every 256th adds a hash of the next level. Tiles are put together when they are read. While the log grows, a timer
//! signs a checkpoint; witnesses cosign it (the edge verified that they did, and it is verified again here), and where an
//! external authority is configured, one checkpoint a day is stamped by it, as a job under a key of its own, so the log
//! goes on while that authority is away.
//!
//! | row (space `log`) | value |
//! | --- | --- |
//! | `h` | [`LogHead`], JSON |
//! | `e` + index (u64) | the entry, 65 bytes |
//! | `n` + level (u8) + index (u64) | a hash of a tile at level 1 or above |
//! | `c` + size (u64) | [`SignedCheckpoint`], JSON |
//! | `s` + size (u64), owner: the log's stamps | the external authority's response, DER |
//!
//! Failure behaviour: a message that does not fit its schema is dead, and the log waits for an operator; bags go on.

use crate::stamper::Stamper;
use crate::{LOGGED, SOURCE};
use bytes::{BufMut, Bytes, BytesMut};
use schemas::messages::{BagMaker, CheckpointDue, CheckpointStamp, Cosigned, Logged};
use schemas::{Key, Millis, Sha256};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use topology::Channel;
use zegel_core::names::log_stamp_key;
use zegel_core::rows::V1;
use zegel_core::slot::spaces;
use zegel_core::worker::{JobError, JobIo, Produced, SetTimer};
use zegel_core::{Context, Decision, Effects, Failure, Interrupt, Message, Read, View, Worker};
use zegel_crypto::hash::sha256;
use zegel_crypto::log::entry::{Entry, Kind};
use zegel_crypto::log::note::SignatureLine;
use zegel_crypto::log::{Checkpoint, Frontier, NoteSigner, Policy};
use zegel_crypto::merkle::leaf_hash;

/// The timer that signs the next checkpoint.
pub const CHECKPOINT_TIMER: &str = "checkpoint";
/// Checkpoints that are kept: three days of one every five minutes, for witnesses that come late.
const CHECKPOINTS_MAX: u32 = 864;
/// An external stamp a day.
const STAMP_EVERY_MS: i64 = 24 * 3_600_000;

/// The log's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogHead {
    /// Version of the row.
    pub v: V1,
    /// How many entries.
    pub size: u64,
    /// The tree's complete subtrees, the largest first.
    pub open: Vec<Sha256>,
    /// Size of the last signed checkpoint; 0 before the first.
    pub signed: u64,
    /// Size of the last checkpoint that a quorum of witnesses cosigned; that of the last signed one where none is asked for.
    pub published: u64,
    /// How many checkpoints are kept.
    pub kept: u32,
    /// Whether the timer is set.
    pub due: bool,
    /// When an external stamp was last asked for.
    pub stamp_asked: Millis,
}

/// A checkpoint as it is served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedCheckpoint {
    /// Version of the row.
    pub v: V1,
    /// The signed note, with the cosignatures so far.
    pub note: String,
}

/// What a witness is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CosignedAnswer {
    /// Known witnesses who signed the checkpoint so far; none: it is not kept any more.
    pub witnesses: Option<u64>,
}

/// Keeps the log; see the module's header.
pub struct Log {
    signer: Arc<NoteSigner>,
    policy: Policy,
    interval_ms: i64,
    external: Option<Arc<dyn Stamper>>,
}

impl Log {
    /// A log under this key, whose checkpoints the policy's witnesses may cosign, at most one every `interval_ms`.
    #[must_use]
    pub fn new(signer: Arc<NoteSigner>, policy: Policy, interval_ms: i64) -> Log {
        Log { signer, policy, interval_ms, external: None }
    }

    /// The same log, one checkpoint a day stamped by an external authority.
    #[must_use]
    pub fn stamped_by(mut self, external: Arc<dyn Stamper>) -> Log {
        self.external = Some(external);
        self
    }

    fn append(&self, message: &Message, view: &View, context: &Context<'_>) -> Result<Effects, Interrupt> {
        let Logged { maker, subject, token } = message.payload()?;
        let kind = match maker {
            BagMaker::Platform => Kind::Platform,
            BagMaker::Hospital => Kind::Hospital,
        };
        let entry = Entry { kind, subject, token }.encode();
        let owner = message.key();
        let mut head = head(view, owner)?;
        let frontier = Frontier::restore(head.size, std::mem::take(&mut head.open));
        let mut frontier = frontier.ok_or_else(|| Failure::permanent("ZGL-STATE-READ"))?;
        let mut effects = Effects::default();
        effects.put_bytes(spaces::LOG, owner, entry_sub(head.size), Bytes::copy_from_slice(&entry));
        frontier.push(leaf_hash(&entry), |level, index, hash| {
            effects.put_bytes(spaces::LOG, owner, node_sub(level, index), Bytes::copy_from_slice(&hash.0));
        });
        head.size = frontier.size();
        head.open = frontier.open().to_vec();
        if !head.due {
            head.due = true;
            let envelope = message.follow_up(context, SOURCE, owner, &CheckpointDue {})?;
            let due = context.now.plus(self.interval_ms);
            let message = Produced { channel: LOGGED, envelope };
            effects.timers.push(SetTimer { name: CHECKPOINT_TIMER, due, message });
        }
        effects.put(spaces::LOG, owner, head_sub(), &head)?;
        Ok(effects)
    }

    fn sign(&self, message: &Message, view: &View, context: &Context<'_>) -> Result<Effects, Interrupt> {
        let owner = message.key();
        let mut head = head(view, owner)?;
        let mut effects = Effects::default();
        head.due = false;
        if head.size > head.signed {
            let frontier = Frontier::restore(head.size, head.open.clone());
            let root = frontier.ok_or_else(|| Failure::permanent("ZGL-STATE-READ"))?.root();
            let origin = self.signer.public().name().to_owned();
            let note = Checkpoint { origin, size: head.size, root, extensions: Vec::new() }.sign(&self.signer);
            let row = SignedCheckpoint { v: V1, note: note.to_string() };
            effects.put(spaces::LOG, owner, checkpoint_sub(head.size), &row)?;
            head.signed = head.size;
            if self.policy.quorum() == 0 {
                head.published = head.size;
            }
            head.kept += 1;
            if head.kept > CHECKPOINTS_MAX {
                drop_oldest(view, owner, &mut head, &mut effects)?;
            }
            if self.external.is_some() && context.now.since(head.stamp_asked) >= STAMP_EVERY_MS {
                head.stamp_asked = context.now;
                let wanted = CheckpointStamp { size: head.size, imprint: sha256(row.note.as_bytes()) };
                let envelope = message.follow_up(context, SOURCE, log_stamp_key(context.keys), &wanted)?;
                effects.produce(LOGGED, envelope);
            }
        }
        effects.put(spaces::LOG, owner, head_sub(), &head)?;
        Ok(effects)
    }

    /// Adds cosignatures to a kept checkpoint. What does not verify is left out: the edge let nothing such in.
    fn cosign(&self, message: &Message, view: &View) -> Result<Effects, Interrupt> {
        let Cosigned { size, lines } = message.payload()?;
        let owner = message.key();
        let mut effects = Effects::default();
        let row: Option<SignedCheckpoint> = view.get(spaces::LOG, owner, checkpoint_sub(size))?;
        let mut answer = CosignedAnswer { witnesses: None };
        if let Some(mut row) = row {
            for line in lines.iter().filter_map(|line| line.parse::<SignatureLine>().ok()) {
                row.note = self.with(row.note, &line);
            }
            let opened = self.policy.open(&row.note).map_err(|_| Failure::permanent("ZGL-STATE-READ"))?;
            answer.witnesses = Some(opened.witnesses.len() as u64);
            effects.put(spaces::LOG, owner, checkpoint_sub(size), &row)?;
            let mut head = head(view, owner)?;
            if opened.witnesses.len() >= self.policy.quorum() && size > head.published {
                head.published = size;
                effects.put(spaces::LOG, owner, head_sub(), &head)?;
            }
        }
        effects.reply = Some(serde_json::to_vec(&answer).map_err(|_| Failure::permanent("ZGL-STATE-WRITE"))?.into());
        Ok(effects)
    }

    /// The note with a line more, when it is a known witness's first and verifies.
    fn with(&self, note: String, line: &SignatureLine) -> String {
        let Some(witness) = self.policy.witness(line) else { return note };
        let is_new =
            self.policy.open(&note).is_ok_and(|open| !open.witnesses.iter().any(|(name, _)| name == witness.name()));
        let longer = format!("{note}{line}");
        let counts =
            self.policy.open(&longer).is_ok_and(|open| open.witnesses.iter().any(|(name, _)| name == witness.name()));
        if is_new && counts { longer } else { note }
    }

    fn stamp(&self, message: &Message) -> Result<Decision, Interrupt> {
        let wanted: CheckpointStamp = message.payload()?;
        match &message.job {
            None => Ok(Decision::Job { spec: wanted.imprint.0.to_vec() }),
            Some(Err(error)) => Err(Failure::permanent(&error.code).into()),
            Some(Ok(response)) => {
                let mut effects = Effects::default();
                effects.put_bytes(spaces::LOG, message.key(), stamp_sub(wanted.size), response.clone());
                Ok(Decision::Done(effects))
            }
        }
    }
}

impl Worker for Log {
    fn channel(&self) -> &'static Channel {
        LOGGED
    }

    fn reads(&self, message: &Message, _: &Context<'_>) -> Vec<Read> {
        vec![Read::One { space: spaces::LOG, owner: message.key(), sub: head_sub() }]
    }

    fn decide(&self, message: &Message, view: &View, context: &Context<'_>) -> Result<Decision, Interrupt> {
        let effects = if message.is::<Logged>() {
            self.append(message, view, context)
        } else if message.is::<CheckpointDue>() {
            self.sign(message, view, context)
        } else if message.is::<Cosigned>() {
            self.cosign(message, view)
        } else {
            return self.stamp(message);
        };
        effects.map(Decision::Done)
    }

    fn run_job(&self, spec: &[u8], io: &dyn JobIo) -> Result<Vec<u8>, JobError> {
        let failed = |code: &str, retryable| JobError { code: code.to_owned(), retryable };
        let imprint = spec.try_into().map(Sha256).map_err(|_| failed("ZGL-JOB-UNKNOWN", false))?;
        // Without an authority now: the settings changed since. It is asked when there is one again.
        let external = self.external.as_ref().ok_or_else(|| failed("ZGL-TS-AUTHORITY", true))?;
        let stamped = external.stamp(&imprint, io.now()).map_err(|_| failed("ZGL-TS-AUTHORITY", true))?;
        Ok(stamped.response)
    }
}

/// The log's state; the empty log before the first entry.
fn head(view: &View, owner: Key) -> Result<LogHead, Interrupt> {
    let stored: Option<LogHead> = view.get(spaces::LOG, owner, head_sub())?;
    Ok(stored.unwrap_or(LogHead {
        v: V1,
        size: 0,
        open: Vec::new(),
        signed: 0,
        published: 0,
        kept: 0,
        due: false,
        stamp_asked: Millis(0),
    }))
}

/// Deletes the oldest checkpoint, unless it is the one that is served.
fn drop_oldest(view: &View, owner: Key, head: &mut LogHead, effects: &mut Effects) -> Result<(), Interrupt> {
    let all = view.range(spaces::LOG, owner, checkpoint_sub(0), Some(Bytes::from_static(b"d")), 2)?;
    let served = checkpoint_sub(head.published);
    if let Some((oldest, _)) = all.into_iter().find(|(sub, _)| *sub != served) {
        effects.delete(spaces::LOG, owner, oldest);
        head.kept -= 1;
    }
    Ok(())
}

/// The name of the head's row.
#[must_use]
pub fn head_sub() -> Bytes {
    Bytes::from_static(b"h")
}

/// The name of an entry's row; 256 of them in a row are a bundle.
#[must_use]
pub fn entry_sub(index: u64) -> Bytes {
    lettered(b'e', &index.to_be_bytes())
}

/// The name of a hash at level 1 or above; 256 of them in a row are a tile.
#[must_use]
pub fn node_sub(level: u8, index: u64) -> Bytes {
    lettered(b'n', &[&[level][..], &index.to_be_bytes()].concat())
}

/// The name of a checkpoint's row.
#[must_use]
pub fn checkpoint_sub(size: u64) -> Bytes {
    lettered(b'c', &size.to_be_bytes())
}

/// The name of an external stamp's row, whose owner is the log's stamps.
#[must_use]
pub fn stamp_sub(size: u64) -> Bytes {
    lettered(b's', &size.to_be_bytes())
}

fn lettered(letter: u8, rest: &[u8]) -> Bytes {
    let mut sub = BytesMut::with_capacity(1 + rest.len());
    sub.put_u8(letter);
    sub.put_slice(rest);
    sub.freeze()
}
