//! One batch, from opened messages to the step that is committed: everything here is computation, without I/O.
//!
//! [`Engine::advance`] decides as far as the loaded rows reach and returns the rows that are missing; the caller loads
//! them and calls again, until nothing is missing. Panics of a worker are caught and count as failed attempts.

use crate::broker::Outgoing;
use crate::keys::{Keys, Sealed};
use crate::sealing::{job_context, open_message, open_value, seal_message, seal_value};
use crate::slot::Slot;
use crate::store::{DeadLetter, Parked, ParkedHead, ParkedJob, Read, Rows, Step, TimerChange, Write};
use crate::worker::{
    Change, Context, Decision, Effects, Failure, Interrupt, JobError, Message, Produced, SetTimer, View, Worker,
};
use bytes::Bytes;
use schemas::{Key, MessageId, Millis};
use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use topology::AfterDead;

/// Rounds of loading for one batch; a worker that pages through a long range needs many, an endless one is a bug.
const ROUNDS_MAX: u32 = 10_000;

/// A message of the batch, as it came.
pub(crate) struct Item {
    pub number: u64,
    pub key: Key,
    pub id: MessageId,
    pub body: Sealed,
    pub attempt: u32,
    pub job: Option<Result<Bytes, JobError>>,
    /// Whether it comes from the parking place (and leaves it when it is done).
    pub parked: bool,
    /// Given up before it is tried, with this code (a poison that was found, a job that crashed too often).
    pub condemned: Option<&'static str>,
}

/// What a batch became.
pub(crate) struct Plan {
    pub step: Step,
    pub replies: Vec<(MessageId, Bytes)>,
    pub jobs: Vec<(u64, Key, Vec<u8>)>,
    /// Changes of the parking place, for the owner's memory.
    pub parked: Vec<ParkedHead>,
    pub unparked: Vec<(u64, Key)>,
    pub next_timer: Option<Millis>,
    pub tally: Tally,
}

/// How many messages ended how.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    pub done: u64,
    pub parked: u64,
    pub failed: u64,
    pub dead: u64,
    pub jobs: u64,
    pub panics: u64,
}

/// A batch on its way.
pub(crate) struct Work {
    items: Vec<Item>,
    opened: Vec<Option<Message>>,
    view: View,
    next: usize,
    rounds: u32,
    blocked: HashSet<Key>,
    now: Millis,
    changes: Vec<Change>,
    latest: HashMap<(u16, Key, Bytes), usize>,
    /// Where the step's change of a timer stands.
    timers: HashMap<(Key, &'static str), usize>,
    plan: Plan,
}

/// Decides batches of one slot.
#[derive(Clone)]
pub(crate) struct Engine {
    pub slot: Slot,
    pub epoch: u64,
    pub worker: Arc<dyn Worker>,
    pub keys: Arc<dyn Keys>,
}

impl Engine {
    /// Opens the messages. `blocked` are keys with parked messages that are not in this batch: theirs park behind.
    pub fn begin(&self, items: Vec<Item>, blocked: HashSet<Key>, now: Millis) -> Work {
        let mut step = Step::empty(self.slot, self.epoch);
        step.position = items.iter().filter(|item| !item.parked).map(|item| item.number).max();
        let opened = items.iter().map(|item| self.open(item)).collect();
        let plan = Plan {
            step,
            replies: Vec::new(),
            jobs: Vec::new(),
            parked: Vec::new(),
            unparked: Vec::new(),
            next_timer: None,
            tally: Tally::default(),
        };
        Work {
            items,
            opened,
            view: View::default(),
            next: 0,
            rounds: 0,
            blocked,
            now,
            changes: Vec::new(),
            latest: HashMap::new(),
            timers: HashMap::new(),
            plan,
        }
    }

    /// The rows that the worker declared, for the first round of loading.
    pub fn declared(&self, work: &Work) -> Vec<Read> {
        let context = self.context(work.now);
        let mut seen = HashSet::new();
        let mut reads = Vec::new();
        for (item, message) in work.items.iter().zip(&work.opened) {
            let Some(message) = message.as_ref().filter(|_| !work.blocked.contains(&item.key)) else { continue };
            let declared = catch_unwind(AssertUnwindSafe(|| self.worker.reads(message, &context))).unwrap_or_default();
            reads.extend(declared.into_iter().filter(|read| seen.insert(read.clone())));
        }
        reads
    }

    /// Puts loaded rows into the batch's view. A row that fails authentication stops the batch (I8).
    pub fn load(&self, work: &mut Work, reads: Vec<Read>, rows: Vec<Rows>) -> Result<(), crate::keys::KeysError> {
        for (read, rows) in reads.into_iter().zip(rows) {
            let opened = open_rows(&*self.keys, &read, rows)?;
            work.view.load(read, opened);
        }
        Ok(())
    }

    /// Decides as far as the loaded rows reach. Returns what is missing; nothing missing means the batch is decided.
    pub fn advance(&self, work: &mut Work) -> Vec<Read> {
        while work.next < work.items.len() {
            if let Err(read) = self.settle_item(work) {
                work.rounds += 1;
                return self.probe(work, read);
            }
            work.next += 1;
        }
        Vec::new()
    }

    /// Seals the decided changes and hands the plan over.
    pub fn finish(&self, mut work: Work) -> Plan {
        for change in work.changes {
            let value =
                change.value.map(|plain| seal_value(&*self.keys, change.space, change.owner, &change.sub, &plain));
            work.plan.step.writes.push(Write { space: change.space, owner: change.owner, sub: change.sub, value });
        }
        work.plan
    }

    fn context(&self, now: Millis) -> Context<'_> {
        Context { now, keys: &*self.keys }
    }

    fn open(&self, item: &Item) -> Option<Message> {
        let envelope = open_message(&*self.keys, self.slot.channel, item.key, item.id, &item.body).ok()?;
        Some(Message { number: item.number, envelope, attempt: item.attempt, job: item.job.clone() })
    }

    /// After a miss: asks the rest of the batch too what it misses, so that one round loads for all.
    fn probe(&self, work: &Work, first: Read) -> Vec<Read> {
        let context = self.context(work.now);
        let mut reads = vec![first];
        let mut seen: HashSet<Read> = reads.iter().cloned().collect();
        for index in work.next + 1..work.items.len() {
            let Some(message) = work.opened[index].as_ref().filter(|m| !work.blocked.contains(&m.key())) else {
                continue;
            };
            let decided = catch_unwind(AssertUnwindSafe(|| self.worker.decide(message, &work.view, &context)));
            if let Ok(Err(Interrupt::Missing(read))) = decided
                && seen.insert(read.clone())
            {
                reads.push(read);
            }
        }
        reads
    }

    fn settle_item(&self, work: &mut Work) -> Result<(), Read> {
        let index = work.next;
        let key = work.items[index].key;
        if work.blocked.contains(&key) {
            self.park(work, Millis(0), 0, None);
            return Ok(());
        }
        let Some(message) = work.opened[index].take() else {
            self.bury(work, "ZGL-SEAL-OPEN", Effects::default());
            return Ok(());
        };
        let settled = self.settle_message(work, &message);
        if settled.is_err() {
            work.opened[index] = Some(message); // decided again when its row is there
        }
        settled
    }

    fn settle_message(&self, work: &mut Work, message: &Message) -> Result<(), Read> {
        let index = work.next;
        if let Some(code) = work.items[index].condemned {
            return self.give_up(work, message, code);
        }
        if work.rounds > ROUNDS_MAX {
            return self.give_up(work, message, "ZGL-READS");
        }
        let context = self.context(work.now);
        let decided = catch_unwind(AssertUnwindSafe(|| self.worker.decide(message, &work.view, &context)));
        match decided {
            Err(_panic) => {
                work.plan.tally.panics += 1;
                self.fail(work, message, &Failure::transient("ZGL-PANIC"))
            }
            Ok(Err(Interrupt::Missing(read))) => Err(read),
            Ok(Err(Interrupt::Fail(failure))) => self.fail(work, message, &failure),
            Ok(Ok(Decision::Done(effects))) => {
                self.done(work, effects);
                Ok(())
            }
            Ok(Ok(Decision::Park { until })) => {
                let attempt = work.items[index].attempt;
                self.park(work, until, attempt, None);
                Ok(())
            }
            Ok(Ok(Decision::Dead { code, effects })) => {
                self.bury(work, &code, effects);
                Ok(())
            }
            Ok(Ok(Decision::Job { spec })) => {
                self.park(work, Millis::NEVER, 0, Some(spec));
                Ok(())
            }
        }
    }

    /// A failed attempt: parked until the schedule says, or given up when the schedule is used up.
    fn fail(&self, work: &mut Work, message: &Message, failure: &Failure) -> Result<(), Read> {
        let channel = self.worker.channel();
        let attempt = message.attempt as usize;
        let wait = channel.retry_ms.get(attempt).or(channel.retry_ms.last().filter(|_| channel.endless));
        match wait.filter(|_| failure.retryable) {
            Some(wait) => {
                tracing::warn!(slot = %self.slot, code = %failure.code, attempt, "attempt failed, will be tried again");
                self.park(work, work.now.plus(*wait), message.attempt + 1, None);
                work.plan.tally.failed += 1;
                Ok(())
            }
            None => self.give_up(work, message, &failure.code),
        }
    }

    fn give_up(&self, work: &mut Work, message: &Message, code: &str) -> Result<(), Read> {
        let context = self.context(work.now);
        let effects = match catch_unwind(AssertUnwindSafe(|| self.worker.give_up(message, code, &work.view, &context)))
        {
            Ok(Err(Interrupt::Missing(read))) => return Err(read),
            Ok(Ok(effects)) => effects,
            Ok(Err(Interrupt::Fail(_))) | Err(_) => Effects::default(),
        };
        self.bury(work, code, effects);
        Ok(())
    }

    fn done(&self, work: &mut Work, effects: Effects) {
        match self.seal_all(&effects) {
            Ok(sealed) => {
                work.plan.tally.done += 1;
                self.leave_parking(work);
                self.apply(work, effects, sealed);
            }
            // A worker produced what cannot travel: nothing of its effects may happen, and an operator must see it.
            Err(_) => self.bury(work, "ZGL-MSG-ENCODE", Effects::default()),
        }
    }

    fn bury(&self, work: &mut Work, code: &str, effects: Effects) {
        let item = &work.items[work.next];
        tracing::error!(slot = %self.slot, number = item.number, code, "message is dead");
        work.plan.step.dead.push(DeadLetter {
            slot: self.slot,
            number: item.number,
            key: item.key,
            id: item.id,
            body: item.body.clone(),
            code: code.to_owned(),
            attempts: item.attempt + 1,
            at: work.now,
        });
        work.plan.tally.dead += 1;
        if self.worker.channel().after_dead == AfterDead::Hold {
            // The dead message keeps its place at the head of its key, so that later ones wait for an operator.
            self.park(work, Millis::NEVER, item.attempt, None);
            work.plan.tally.parked -= 1;
        } else {
            self.leave_parking(work);
        }
        if let Ok(sealed) = self.seal_all(&effects) {
            self.apply(work, effects, sealed);
        }
    }

    fn leave_parking(&self, work: &mut Work) {
        let item = &work.items[work.next];
        if item.parked {
            work.plan.step.unparked.push(item.number);
            work.plan.unparked.push((item.number, item.key));
        }
    }

    fn park(&self, work: &mut Work, due: Millis, attempt: u32, job: Option<Vec<u8>>) {
        let item = &work.items[work.next];
        let (number, key, id, body) = (item.number, item.key, item.id, item.body.clone());
        let stays = item.parked && work.blocked.contains(&key) && job.is_none();
        work.blocked.insert(key);
        if stays {
            return; // it waits already, behind one that was parked again in this batch
        }
        let parked_job = job.as_ref().map(|spec| ParkedJob {
            spec: self.keys.seal(&job_context(self.slot.group, key, id), spec),
            result: None,
            starts: 0,
        });
        work.plan.parked.push(ParkedHead { number, key, due, bytes: body.len(), job_pending: job.is_some() });
        work.plan.step.parked.push(Parked { number, key, id, body, due, attempt, job: parked_job });
        match job {
            Some(spec) => {
                work.plan.tally.jobs += 1;
                work.plan.jobs.push((number, key, spec));
            }
            None => work.plan.tally.parked += 1,
        }
    }

    fn apply(&self, work: &mut Work, effects: Effects, sealed: SealedMessages) {
        let key = work.items[work.next].key;
        for change in effects.changes {
            work.view.apply(&change);
            let place = (change.space.code, change.owner, change.sub.clone());
            if let Some(index) = work.latest.get(&place) {
                work.changes[*index] = change; // the last value of a row within the step is the only one written
            } else {
                work.latest.insert(place, work.changes.len());
                work.changes.push(change);
            }
        }
        work.plan.step.produced.extend(sealed.produced);
        for name in effects.cancelled {
            change_timer(work, name, TimerChange::Cancel { key, name: name.to_owned() });
        }
        for (timer, message) in effects.timers.into_iter().zip(sealed.timers) {
            let SetTimer { name, due, .. } = timer;
            work.plan.next_timer = Some(work.plan.next_timer.map_or(due, |next| next.min(due)));
            change_timer(work, name, TimerChange::Set { key, name, due, message });
        }
        if let Some(reply) = effects.reply {
            work.plan.replies.push((work.items[work.next].id, reply));
        }
    }

    fn seal_all(&self, effects: &Effects) -> Result<SealedMessages, schemas::envelope::EnvelopeError> {
        let seal = |produced: &Produced| seal_message(&*self.keys, produced.channel, &produced.envelope);
        Ok(SealedMessages {
            produced: effects.produced.iter().map(seal).collect::<Result<_, _>>()?,
            timers: effects.timers.iter().map(|timer| seal(&timer.message)).collect::<Result<_, _>>()?,
        })
    }
}

/// The last change of a timer within the step is the only one.
fn change_timer(work: &mut Work, name: &'static str, change: TimerChange) {
    let timers = &mut work.plan.step.timers;
    let place = *work.timers.entry((work.items[work.next].key, name)).or_insert(timers.len());
    match timers.get_mut(place) {
        Some(earlier) => *earlier = change,
        None => timers.push(change),
    }
}

/// The messages of one decision, ready to travel.
struct SealedMessages {
    produced: Vec<Outgoing>,
    timers: Vec<Outgoing>,
}

/// Opens the rows that one read found.
pub(crate) fn open_rows(
    keys: &dyn Keys,
    read: &Read,
    rows: Rows,
) -> Result<Vec<(Bytes, Bytes)>, crate::keys::KeysError> {
    let (Read::One { space, owner, .. } | Read::Range { space, owner, .. }) = read;
    rows.into_iter()
        .map(|(sub, value)| {
            let plain = open_value(keys, *space, *owner, &sub, &value)?;
            Ok((sub, Bytes::from(plain)))
        })
        .collect()
}
