//! Drives a worker without a runner, a store or a clock, for the unit tests of workers.
//!
//! [`Bench`] keeps state, timers and an instant in memory, and does what the runner promises a worker: rows that are
//! missing are loaded and `decide` is called again; later messages of a batch see what earlier ones changed; changes are
//! applied in order. It panics when a worker writes state of another owner than its message's key (payloads excepted:
//! they move with their message), because no runner could keep order for such a row.
//! Must not be used outside tests: [`TestKeys`] neither blinds nor seals.

use crate::keys::{Keys, KeysError, Sealed};
use crate::slot::{Space, spaces};
use crate::store::Read;
use crate::worker::{
    Change, Context, Decision, Effects, Interrupt, JobError, Message, Produced, SetTimer, View, Worker,
};
use bytes::Bytes;
use schemas::{Envelope, Key, MessageId, Millis, Payload};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};

/// How often `decide` may ask for one more row before the bench says that it never ends.
const ROUNDS_MAX: usize = 10_000;

/// Keys that are the same in every run: blinding is a plain hash, sealing does nothing, randomness counts.
#[derive(Debug, Default)]
pub struct TestKeys(AtomicU64);

impl Keys for TestKeys {
    fn blind(&self, domain: &str, identifier: &[u8]) -> Key {
        let mut key = [0; 16];
        for (salt, half) in key.chunks_exact_mut(8).enumerate() {
            let mut hasher = DefaultHasher::new();
            hasher.write_usize(salt);
            hasher.write(domain.as_bytes());
            hasher.write_u8(0);
            hasher.write(identifier);
            half.copy_from_slice(&hasher.finish().to_be_bytes());
        }
        Key(key)
    }

    fn seal(&self, _: &[u8], plain: &[u8]) -> Sealed {
        Sealed::from_stored(Bytes::copy_from_slice(plain))
    }

    fn open(&self, _: &[u8], sealed: &Sealed) -> Result<Vec<u8>, KeysError> {
        Ok(sealed.bytes().to_vec())
    }

    fn random(&self, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            let next = self.0.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
            chunk.copy_from_slice(&next.to_be_bytes()[8 - chunk.len()..]);
        }
    }
}

/// Opened rows of every space and owner.
type State = BTreeMap<(Space, Key), BTreeMap<Bytes, Bytes>>;

/// A worker on a bench.
pub struct Bench<W: Worker, K: Keys = TestKeys> {
    /// The worker.
    pub worker: W,
    /// Its keys.
    pub keys: K,
    /// The instant that it is told.
    pub now: Millis,
    /// Timers that are set, by key and name.
    pub timers: BTreeMap<(Key, &'static str), SetTimer>,
    state: State,
    view: View,
    uncommitted: Vec<Change>,
    batch: usize,
    in_batch: usize,
    number: u64,
}

impl<W: Worker> Bench<W> {
    /// A bench with empty state that gives the worker one message a batch.
    #[must_use]
    pub fn new(worker: W) -> Bench<W> {
        Bench::with_keys(worker, TestKeys::default())
    }
}

impl<W: Worker, K: Keys> Bench<W, K> {
    /// The same with keys of the test's own, where randomness matters.
    #[must_use]
    pub fn with_keys(worker: W, keys: K) -> Bench<W, K> {
        Bench {
            worker,
            keys,
            now: Millis(1_800_000_000_000),
            timers: BTreeMap::new(),
            state: State::new(),
            view: View::default(),
            uncommitted: Vec::new(),
            batch: 1,
            in_batch: 0,
            number: 0,
        }
    }

    /// The same with `messages` messages a batch, so that later ones see the changes of earlier ones in the view.
    #[must_use]
    pub fn with_batch(mut self, messages: usize) -> Bench<W, K> {
        self.batch = messages.max(1);
        self
    }

    /// An envelope with a fresh id at the bench's instant.
    ///
    /// # Panics
    /// When the payload cannot be written as JSON.
    #[allow(clippy::expect_used)] // a bench stops at what a test got wrong
    pub fn envelope<P: Payload>(&self, key: Key, payload: &P) -> Envelope {
        let id = MessageId(self.keys.random16());
        Envelope::new(id, "/zegel/bench", key, self.now, payload).expect("the payload is written as JSON")
    }

    /// Gives the worker a payload and applies what it decides.
    ///
    /// # Panics
    /// As [`Bench::decide`], and when the worker does not decide `Done`.
    pub fn deliver<P: Payload>(&mut self, key: Key, payload: &P) -> Effects {
        let envelope = self.envelope(key, payload);
        self.deliver_envelope(envelope)
    }

    /// As [`Bench::deliver`] with an envelope of the test's own.
    ///
    /// # Panics
    /// As [`Bench::deliver`].
    #[allow(clippy::panic)] // a bench stops at what a test got wrong
    pub fn deliver_envelope(&mut self, envelope: Envelope) -> Effects {
        match self.decide(envelope) {
            Ok(Decision::Done(effects)) => effects,
            other => panic!("the worker did not handle the message: {other:?}"),
        }
    }

    /// Gives the worker a message; changes and timers of `Done` and `Dead` are applied and stay in the answer.
    ///
    /// # Errors
    /// The worker's failure; nothing is applied.
    ///
    /// # Panics
    /// When the worker writes state of another owner, or asks for rows without end.
    pub fn decide(&mut self, envelope: Envelope) -> Result<Decision, Interrupt> {
        self.decide_after(envelope, None)
    }

    /// As [`Bench::decide`] for a message whose job has ended with this outcome.
    ///
    /// # Errors
    /// As [`Bench::decide`].
    ///
    /// # Panics
    /// As [`Bench::decide`].
    pub fn decide_after(
        &mut self,
        envelope: Envelope,
        job: Option<Result<Bytes, JobError>>,
    ) -> Result<Decision, Interrupt> {
        if self.in_batch == self.batch {
            self.commit();
        }
        self.in_batch += 1;
        self.number += 1;
        let message = Message { number: self.number, envelope, attempt: 0, job };
        let decision = self.attempt(&message, |worker, view, context| worker.decide(&message, view, context))?;
        if let Decision::Done(effects) | Decision::Dead { effects, .. } = &decision {
            self.apply(message.key(), effects);
        }
        Ok(decision)
    }

    /// Lets the worker give a message up, and applies what it still does.
    ///
    /// # Errors
    /// The worker's failure; nothing is applied.
    ///
    /// # Panics
    /// As [`Bench::decide`].
    pub fn give_up(&mut self, envelope: Envelope, code: &str) -> Result<Effects, Interrupt> {
        self.number += 1;
        let message = Message { number: self.number, envelope, attempt: 4, job: None };
        let effects = self.attempt(&message, |worker, view, context| worker.give_up(&message, code, view, context))?;
        self.apply(message.key(), &effects);
        Ok(effects)
    }

    /// Takes a timer that is set and gives its message to the worker, at the timer's instant or now if that is later.
    ///
    /// # Panics
    /// As [`Bench::deliver`], and when there is no such timer.
    #[allow(clippy::expect_used)] // a bench stops at what a test got wrong
    pub fn fire(&mut self, key: Key, name: &'static str) -> Effects {
        let timer = self.timers.remove(&(key, name)).expect("the timer is set");
        self.now = self.now.max(timer.due);
        self.deliver_envelope(timer.message.envelope)
    }

    /// What a read finds after everything so far.
    pub fn read(&mut self, read: &Read) -> Vec<(Bytes, Bytes)> {
        self.commit();
        load(&self.state, read)
    }

    /// Puts rows (sub, value) into the state, as if they had been there before.
    pub fn seed(&mut self, space: Space, owner: Key, rows: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>) {
        self.commit();
        let rows = rows.into_iter().map(|(sub, value)| (Bytes::from(sub), Bytes::from(value)));
        self.state.entry((space, owner)).or_default().extend(rows);
    }

    /// How many rows a space has, over all owners.
    pub fn rows(&mut self, space: Space) -> usize {
        self.commit();
        self.state.iter().filter(|((of, _), _)| *of == space).map(|(_, rows)| rows.len()).sum()
    }

    fn attempt<T>(
        &mut self,
        message: &Message,
        decide: impl Fn(&W, &View, &Context<'_>) -> Result<T, Interrupt>,
    ) -> Result<T, Interrupt> {
        let context = Context { now: self.now, keys: &self.keys };
        for read in self.worker.reads(message, &context) {
            if !self.view.has(&read) {
                let rows = load(&self.state, &read);
                self.view.load(read, rows);
            }
        }
        for _ in 0..ROUNDS_MAX {
            match decide(&self.worker, &self.view, &context) {
                Err(Interrupt::Missing(read)) => {
                    let rows = load(&self.state, &read);
                    self.view.load(read, rows);
                }
                other => return other,
            }
        }
        Err(crate::worker::Failure::permanent("ZGL-BENCH-ROUNDS").into())
    }

    fn apply(&mut self, key: Key, effects: &Effects) {
        for change in &effects.changes {
            let own = change.owner == key || change.space == spaces::PAYLOADS;
            assert!(own, "a row of space {} belongs to another key than the message's", change.space.name);
            self.view.apply(change);
            self.uncommitted.push(change.clone());
        }
        for name in &effects.cancelled {
            self.timers.remove(&(key, *name));
        }
        for timer in &effects.timers {
            let message = Produced { channel: timer.message.channel, envelope: timer.message.envelope.clone() };
            self.timers.insert((key, timer.name), SetTimer { name: timer.name, due: timer.due, message });
        }
    }

    fn commit(&mut self) {
        for change in self.uncommitted.drain(..) {
            let rows = self.state.entry((change.space, change.owner)).or_default();
            match change.value {
                Some(value) => rows.insert(change.sub, value),
                None => rows.remove(&change.sub),
            };
        }
        self.view = View::default();
        self.in_batch = 0;
    }
}

fn load(state: &State, read: &Read) -> Vec<(Bytes, Bytes)> {
    let copy = |(sub, value): (&Bytes, &Bytes)| (sub.clone(), value.clone());
    match read {
        Read::One { space, owner, sub } => {
            let row = state.get(&(*space, *owner)).and_then(|rows| rows.get_key_value(sub));
            row.into_iter().map(copy).collect()
        }
        Read::Range { space, owner, from, to, limit, reverse } => {
            let end = to.clone().map_or(Bound::Unbounded, Bound::Excluded);
            // A range that ends before it begins is empty, not a fault of the test.
            let is_empty = to.as_ref().is_some_and(|to| to <= from);
            let rows = state.get(&(*space, *owner)).filter(|_| !is_empty).into_iter();
            let rows = rows.flat_map(|rows| rows.range((Bound::Included(from.clone()), end.clone()))).map(copy);
            if *reverse { rows.rev().take(*limit).collect() } else { rows.take(*limit).collect() }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use schemas::messages::FeedAck;
    use topology::{CHANNELS, Channel};

    /// Counts its messages in one row.
    struct Counter;

    impl Worker for Counter {
        fn channel(&self) -> &'static Channel {
            &CHANNELS[7]
        }

        fn decide(&self, message: &Message, view: &View, _: &Context<'_>) -> Result<Decision, Interrupt> {
            let rows = view.range(spaces::TEST, message.key(), Bytes::new(), None, 100)?;
            let mut effects = Effects::default();
            effects.put_bytes(spaces::TEST, message.key(), vec![u8::try_from(rows.len()).unwrap_or(0)], vec![1]);
            Ok(Decision::Done(effects))
        }
    }

    #[test]
    fn later_messages_see_earlier_changes_within_and_across_batches() {
        let mut bench = Bench::new(Counter).with_batch(3);
        for _ in 0..7 {
            bench.deliver(Key([1; 16]), &FeedAck { up_to: 1 });
        }
        assert_eq!(bench.rows(spaces::TEST), 7);
    }
}
