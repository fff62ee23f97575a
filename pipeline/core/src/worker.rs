//! The shape of a worker: a pure function from a message, state and an instant to decisions.
//!
//! A worker knows no broker, no database, no clock, no socket and no environment. It reads state through a [`View`]; when
//! a row has not been loaded yet, the view returns [`Interrupt::Missing`], the worker passes it on with `?`, and the
//! runner loads the row and calls `decide` again (declare reads in [`Worker::reads`] to save that round). Because of
//! that, and because a crash may come at any instant, `decide` must have no effect of its own.

use crate::keys::Keys;
use crate::objects::Objects;
use crate::slot::Space;
use crate::store::Read;
use bytes::Bytes;
use schemas::envelope::EnvelopeError;
use schemas::{Envelope, Key, MessageId, Millis, Payload};
use serde::{Serialize, de::DeserializeOwned};
use std::collections::{BTreeMap, HashMap};
use topology::{Channel, Group};

/// A message in a worker's hands.
#[derive(Debug, Clone)]
pub struct Message {
    /// Its number in the partition.
    pub number: u64,
    /// The opened envelope.
    pub envelope: Envelope,
    /// Attempts that failed so far.
    pub attempt: u32,
    /// What the message's job brought, when it had one and that has ended.
    pub job: Option<Result<Bytes, JobError>>,
}

impl Message {
    /// The message's key.
    #[must_use]
    pub fn key(&self) -> Key {
        self.envelope.partitionkey
    }

    /// Whether the message is of this type.
    #[must_use]
    pub fn is<P: Payload>(&self) -> bool {
        self.envelope.kind == P::TYPE
    }

    /// Reads the payload.
    ///
    /// # Errors
    /// [`Interrupt::Fail`] for good: a message that does not follow its schema never will.
    pub fn payload<P: Payload>(&self) -> Result<P, Interrupt> {
        self.envelope.payload().map_err(|error: EnvelopeError| match error {
            EnvelopeError::Type { .. } => Failure::permanent("ZGL-MSG-TYPE").into(),
            _ => Failure::permanent("ZGL-MSG-PAYLOAD").into(),
        })
    }

    /// A message that this one causes: a new id, the present instant, the same trace and deadline. Not for what must not
    /// be linked to this message (what the TTP delivers).
    ///
    /// # Errors
    /// A permanent failure when the payload cannot be written as JSON.
    pub fn follow_up<P: Payload>(
        &self,
        context: &Context<'_>,
        source: &str,
        key: Key,
        payload: &P,
    ) -> Result<Envelope, Interrupt> {
        let mut envelope = Envelope::new(context.new_id(), source, key, context.now, payload)
            .map_err(|_| Failure::permanent("ZGL-MSG-ENCODE"))?;
        envelope.traceparent = self.envelope.traceparent;
        envelope.deadline = self.envelope.deadline;
        Ok(envelope)
    }
}

/// Why a worker could not decide.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}")]
pub struct Failure {
    /// A code of `schemas::codes`; never a value.
    pub code: String,
    /// Whether another attempt may succeed.
    pub retryable: bool,
}

impl Failure {
    /// A failure that no further attempt will cure.
    #[must_use]
    pub fn permanent(code: &str) -> Failure {
        Failure { code: code.to_owned(), retryable: false }
    }

    /// A failure that may pass.
    #[must_use]
    pub fn transient(code: &str) -> Failure {
        Failure { code: code.to_owned(), retryable: true }
    }
}

/// What stops `decide` before it has an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Interrupt {
    /// A row is needed that was not loaded; the runner loads it and calls again.
    Missing(Read),
    /// The message cannot be handled (now, or ever).
    Fail(Failure),
}

impl From<Failure> for Interrupt {
    fn from(failure: Failure) -> Interrupt {
        Interrupt::Fail(failure)
    }
}

/// What a worker decides about a message.
#[derive(Debug)]
pub enum Decision {
    /// Handled, with these effects.
    Done(Effects),
    /// Not yet: again at this instant. Later messages of the same key wait behind it.
    Park {
        /// When to try again.
        until: Millis,
    },
    /// Never: a dead letter with this code, and these effects (for example a negative answer) all the same.
    Dead {
        /// A code of `schemas::codes`.
        code: String,
        /// What still happens.
        effects: Effects,
    },
    /// Heavy work outside the step. The message waits parked; when the job has ended, `decide` is called again with
    /// [`Message::job`] set. Later messages of the same key wait behind it.
    Job {
        /// What [`Worker::run_job`] is to do.
        spec: Vec<u8>,
    },
}

/// A message that a worker produces.
#[derive(Debug)]
pub struct Produced {
    /// Whereto.
    pub channel: &'static Channel,
    /// The message; its `partitionkey` chooses the partition.
    pub envelope: Envelope,
}

/// A timer that a worker sets.
#[derive(Debug)]
pub struct SetTimer {
    /// Which of the key's timers.
    pub name: &'static str,
    /// When.
    pub due: Millis,
    /// What is produced then.
    pub message: Produced,
}

/// One change of state, in the clear; the runner seals it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Which space.
    pub space: Space,
    /// Which owner.
    pub owner: Key,
    /// Which row.
    pub sub: Bytes,
    /// The new value; none deletes.
    pub value: Option<Bytes>,
}

/// Everything that handling one message changes.
#[derive(Debug, Default)]
pub struct Effects {
    /// State, in order; later changes of a row win.
    pub changes: Vec<Change>,
    /// Messages, in order.
    pub produced: Vec<Produced>,
    /// Timers set for the message's key.
    pub timers: Vec<SetTimer>,
    /// Timers of the message's key that are cancelled.
    pub cancelled: Vec<&'static str>,
    /// An answer for whoever waits for this message at the edge of this process.
    pub reply: Option<Bytes>,
}

impl Effects {
    /// Writes a row as JSON.
    ///
    /// # Errors
    /// A permanent failure when the value cannot be written as JSON.
    pub fn put<T: Serialize>(
        &mut self,
        space: Space,
        owner: Key,
        sub: impl Into<Bytes>,
        value: &T,
    ) -> Result<(), Interrupt> {
        let json = serde_json::to_vec(value).map_err(|_| Failure::permanent("ZGL-STATE-WRITE"))?;
        self.put_bytes(space, owner, sub, json);
        Ok(())
    }

    /// Writes a row as it is.
    pub fn put_bytes(&mut self, space: Space, owner: Key, sub: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.changes.push(Change { space, owner, sub: sub.into(), value: Some(value.into()) });
    }

    /// Deletes a row.
    pub fn delete(&mut self, space: Space, owner: Key, sub: impl Into<Bytes>) {
        self.changes.push(Change { space, owner, sub: sub.into(), value: None });
    }

    /// Produces a message.
    pub fn produce(&mut self, channel: &'static Channel, envelope: Envelope) {
        self.produced.push(Produced { channel, envelope });
    }
}

/// What a worker sees of the state: rows that were loaded, with the changes of earlier messages of the same batch on top.
#[derive(Debug, Default)]
pub struct View {
    loaded: HashMap<Read, Vec<(Bytes, Bytes)>>,
    overlay: HashMap<(u16, Key), BTreeMap<Bytes, Option<Bytes>>>,
}

impl View {
    /// Adds what a read found, in the clear.
    pub fn load(&mut self, read: Read, rows: Vec<(Bytes, Bytes)>) {
        self.loaded.insert(read, rows);
    }

    /// Whether a read was loaded.
    #[must_use]
    pub fn has(&self, read: &Read) -> bool {
        self.loaded.contains_key(read)
    }

    /// Puts a change on top; later reads of the batch see it.
    pub fn apply(&mut self, change: &Change) {
        self.overlay
            .entry((change.space.code, change.owner))
            .or_default()
            .insert(change.sub.clone(), change.value.clone());
    }

    /// One row's bytes.
    ///
    /// # Errors
    /// [`Interrupt::Missing`] when the row was not loaded yet.
    pub fn bytes(&self, space: Space, owner: Key, sub: impl Into<Bytes>) -> Result<Option<Bytes>, Interrupt> {
        let sub = sub.into();
        if let Some(value) = self.overlay.get(&(space.code, owner)).and_then(|rows| rows.get(&sub)) {
            return Ok(value.clone());
        }
        let read = Read::One { space, owner, sub };
        match self.loaded.get(&read) {
            Some(rows) => Ok(rows.first().map(|(_, value)| value.clone())),
            None => Err(Interrupt::Missing(read)),
        }
    }

    /// One row, read as JSON.
    ///
    /// # Errors
    /// [`Interrupt::Missing`] when the row was not loaded yet; a permanent failure when it is not a `T`.
    pub fn get<T: DeserializeOwned>(
        &self,
        space: Space,
        owner: Key,
        sub: impl Into<Bytes>,
    ) -> Result<Option<T>, Interrupt> {
        match self.bytes(space, owner, sub)? {
            None => Ok(None),
            Some(bytes) => {
                serde_json::from_slice(&bytes).map(Some).map_err(|_| Failure::permanent("ZGL-STATE-READ").into())
            }
        }
    }

    /// Rows of one owner with `from <= sub < to`, in order of `sub`; at most `limit`.
    ///
    /// # Errors
    /// [`Interrupt::Missing`] when the range was not loaded yet.
    pub fn range(
        &self,
        space: Space,
        owner: Key,
        from: impl Into<Bytes>,
        to: Option<Bytes>,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, Interrupt> {
        let from = from.into();
        let changes = self.overlay.get(&(space.code, owner));
        // Rows that earlier messages of the batch deleted must not shorten the answer: ask for as many more.
        let removed = changes.map_or(0, |rows| rows.values().filter(|value| value.is_none()).count());
        let read = Read::Range {
            space,
            owner,
            from: from.clone(),
            to: to.clone(),
            limit: limit.saturating_add(removed.next_power_of_two() * usize::from(removed > 0)),
            reverse: false,
        };
        let Some(rows) = self.loaded.get(&read) else {
            return Err(Interrupt::Missing(read));
        };
        let mut merged: BTreeMap<Bytes, Bytes> = rows.iter().cloned().collect();
        if let Some(changes) = changes {
            let within = changes.iter().filter(|(sub, _)| **sub >= from && to.as_ref().is_none_or(|end| *sub < end));
            for (sub, value) in within {
                match value {
                    Some(value) => merged.insert(sub.clone(), value.clone()),
                    None => merged.remove(sub),
                };
            }
        }
        Ok(merged.into_iter().take(limit).collect())
    }
}

/// What surrounds a decision: the instant, the keys (for blinding and randomness), the answer deadline's margin.
pub struct Context<'a> {
    /// The present instant; the same for a whole batch.
    pub now: Millis,
    /// Blinding and randomness.
    pub keys: &'a dyn Keys,
}

impl Context<'_> {
    /// A new random message id.
    #[must_use]
    pub fn new_id(&self) -> MessageId {
        MessageId(self.keys.random16())
    }
}

/// Why a job failed.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, thiserror::Error)]
#[error("{code}")]
pub struct JobError {
    /// A code of `schemas::codes`; never a value.
    pub code: String,
    /// Whether the job is to be started again by the runner.
    pub retryable: bool,
}

/// What a job may use. It runs on a blocking thread, one per slot at a time, and may be killed and started again at any
/// instant: it writes only objects (which nothing refers to until the step after it) and returns bytes.
pub trait JobIo: Send {
    /// Large content.
    fn objects(&self) -> &dyn Objects;
    /// Committed state of the job's own key, opened.
    ///
    /// # Errors
    /// Retryable when the store is away.
    fn read(&self, read: Read) -> Result<Vec<(Bytes, Bytes)>, JobError>;
    /// Blinding and randomness.
    fn keys(&self) -> &dyn Keys;
    /// The present instant.
    fn now(&self) -> Millis;
    /// Whether the process is stopping; a job looks at it often and returns a retryable error when it is.
    fn stopping(&self) -> bool;
}

/// See the module's header.
pub trait Worker: Send + Sync + 'static {
    /// The channel that it reads.
    fn channel(&self) -> &'static Channel;

    /// The group as which it reads; by default the channel's first.
    fn group(&self) -> &'static Group {
        &self.channel().groups[0]
    }

    /// Rows that `decide` will want, so that one round of loading serves a whole batch.
    fn reads(&self, message: &Message, context: &Context<'_>) -> Vec<Read> {
        let _ = (message, context);
        Vec::new()
    }

    /// Decides about one message. Must be free of effects.
    ///
    /// # Errors
    /// [`Interrupt`]: a missing row (called again when it is loaded) or a failure (retried, or dead).
    fn decide(&self, message: &Message, view: &View, context: &Context<'_>) -> Result<Decision, Interrupt>;

    /// What still has to happen when the runner gives a message up (last attempt, panic, poison): for example the
    /// negative answer that I5 owes the sender.
    ///
    /// # Errors
    /// As `decide`; a failure here leaves the message dead without effects.
    fn give_up(&self, message: &Message, code: &str, view: &View, context: &Context<'_>) -> Result<Effects, Interrupt> {
        let _ = (message, code, view, context);
        Ok(Effects::default())
    }

    /// Does the heavy work that a [`Decision::Job`] asked for.
    ///
    /// # Errors
    /// [`JobError`]; a retryable one is started again after the channel's waiting times.
    fn run_job(&self, spec: &[u8], io: &dyn JobIo) -> Result<Vec<u8>, JobError> {
        let _ = (spec, io);
        Err(JobError { code: "ZGL-JOB-UNKNOWN".to_owned(), retryable: false })
    }

    /// The outside thing that jobs of this worker depend on, for the circuit breaker and its metric; none: no breaker.
    fn downstream(&self) -> Option<&'static str> {
        None
    }
}
