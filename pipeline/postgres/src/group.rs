//! Steps and published messages as the arrays of the SQL function `commit_group`.
//!
//! Within a step the last change of a row counts, so a row appears once in its array; two requests that touch one row are
//! never put into one group (see [`Places`]).

use crate::shared::Shared;
use bytes::Bytes;
use schemas::{Key, Millis};
use std::collections::{BTreeMap, HashSet};
use tokio_postgres::types::ToSql;
use zegel_core::packed::{partition_code, slot_code};
use zegel_core::store::{DeadLetter, Parked, TimerChange};
use zegel_core::{Outgoing, Slot, Step, Write};

/// What waits for a commit.
pub(crate) enum Request {
    /// Messages of the edge.
    Publish(Vec<Outgoing>),
    /// A step.
    Step(Box<Step>),
}

/// Rows that a group's requests touch beside those of their own slots.
#[derive(Default)]
pub(crate) struct Places {
    slots: HashSet<Slot>,
    rows: HashSet<(u16, Key, Bytes)>,
}

impl Places {
    /// Takes the request's rows, unless another request of the group has one of them.
    pub(crate) fn takes(&mut self, request: &Request) -> bool {
        let Request::Step(step) = request else { return true };
        let slots = || step.dead.iter().map(|letter| letter.slot).chain([step.slot]);
        let rows = || step.writes.iter().map(|write| (write.space.code, write.owner, write.sub.clone()));
        if slots().any(|slot| self.slots.contains(&slot)) || rows().any(|row| self.rows.contains(&row)) {
            return false;
        }
        self.slots.extend(slots());
        self.rows.extend(rows());
        true
    }
}

/// Bytes out of the requests.
type Raw<'a> = Vec<&'a [u8]>;
/// The same, where a row may have none.
type Optional<'a> = Vec<Option<&'a [u8]>>;

/// The arrays, borrowed from the requests. Fields of a family have one length.
#[derive(Default)]
pub(crate) struct Columns<'a> {
    s: StepColumns<'a>,
    w: WriteColumns<'a>,
    t: TimerColumns<'a>,
    k: ParkedColumns<'a>,
    d: DeadColumns<'a>,
    a: AttemptColumns,
    m: MessageColumns<'a>,
    /// Bytes of bodies and values.
    pub(crate) bytes: usize,
}

#[derive(Default)]
struct StepColumns<'a> {
    slot: Vec<i64>,
    epoch: Vec<i64>,
    position: Vec<Option<i64>>,
    token: Raw<'a>,
}

#[derive(Default)]
struct WriteColumns<'a> {
    step: Vec<i32>,
    space: Vec<i32>,
    owner: Raw<'a>,
    sub: Raw<'a>,
    value: Optional<'a>,
}

#[derive(Default)]
struct TimerColumns<'a> {
    step: Vec<i32>,
    key: Raw<'a>,
    name: Vec<&'a str>,
    due: Vec<Option<i64>>,
    channel: Vec<Option<i32>>,
    message_key: Optional<'a>,
    message: Optional<'a>,
    body: Optional<'a>,
}

#[derive(Default)]
struct ParkedColumns<'a> {
    step: Vec<i32>,
    number: Vec<i64>,
    key: Optional<'a>,
    message: Optional<'a>,
    due: Vec<Option<i64>>,
    attempt: Vec<Option<i64>>,
    spec: Optional<'a>,
    result: Optional<'a>,
    starts: Vec<Option<i64>>,
    body: Optional<'a>,
}

#[derive(Default)]
struct DeadColumns<'a> {
    step: Vec<i32>,
    channel: Vec<i32>,
    partition: Vec<i32>,
    number: Vec<i64>,
    group: Vec<i32>,
    key: Raw<'a>,
    message: Raw<'a>,
    code: Vec<&'a str>,
    attempts: Vec<i64>,
    at: Vec<i64>,
    body: Raw<'a>,
}

#[derive(Default)]
struct AttemptColumns {
    step: Vec<i32>,
    slot: Vec<i64>,
    number: Vec<i64>,
}

#[derive(Default)]
struct MessageColumns<'a> {
    step: Vec<i32>,
    partition: Vec<i64>,
    key: Raw<'a>,
    message: Raw<'a>,
    body: Raw<'a>,
}

/// The number of parameters of `commit_group`.
const PARAMETERS: usize = 46;

impl<'a> Columns<'a> {
    /// Adds a step, and returns its 0-based index among the group's steps. Steps are added in ascending order of slots.
    pub(crate) fn step(&mut self, step: &'a Step, token: &'a [u8], shared: &Shared) -> usize {
        let index = self.s.slot.len();
        self.s.slot.push(slot_code(step.slot));
        self.s.epoch.push(step.epoch.cast_signed());
        self.s.position.push(step.position.map(u64::cast_signed));
        self.s.token.push(token);
        let of = i32::try_from(index + 1).unwrap_or(i32::MAX);
        self.writes(of, &step.writes);
        self.timers(of, step);
        self.parked(of, step);
        let letters: BTreeMap<(Slot, u64), &DeadLetter> =
            step.dead.iter().map(|letter| ((letter.slot, letter.number), letter)).collect();
        for ((slot, number), letter) in letters {
            self.dead(of, letter);
            self.forget(of, slot, number);
        }
        self.messages(of, &step.produced, shared);
        index
    }

    /// Adds messages; step 0 is none.
    pub(crate) fn messages(&mut self, of: i32, messages: &'a [Outgoing], shared: &Shared) {
        for message in messages {
            // An unknown channel was refused before; should one come so far, the database refuses this partition.
            let target = shared.target(message.channel, message.key);
            self.m.step.push(of);
            self.m.partition.push(target.map_or(-1, |found| partition_code(found.channel.code, found.number)));
            self.m.key.push(&message.key.0);
            self.m.message.push(&message.id.0);
            self.m.body.push(message.body.bytes());
            self.bytes += message.body.len();
        }
    }

    fn writes(&mut self, of: i32, writes: &'a [Write]) {
        let last: BTreeMap<(u16, &Key, &Bytes), &Write> =
            writes.iter().map(|write| ((write.space.code, &write.owner, &write.sub), write)).collect();
        for write in last.into_values() {
            self.w.step.push(of);
            self.w.space.push(i32::from(write.space.code));
            self.w.owner.push(&write.owner.0);
            self.w.sub.push(&write.sub);
            self.w.value.push(write.value.as_ref().map(|value| &value.bytes()[..]));
            self.bytes += write.value.as_ref().map_or(0, |value| value.len());
        }
    }

    /// A timer that fired may be set again by the same step, so firing comes first.
    fn timers(&mut self, of: i32, step: &'a Step) {
        let fired = step.fired.iter().map(|(key, name)| ((key, name.as_str()), None));
        let changed = step.timers.iter().map(|change| match change {
            TimerChange::Set { key, name, due, message } => ((key, *name), Some((due, message))),
            TimerChange::Cancel { key, name } => ((key, name.as_str()), None),
        });
        let last: BTreeMap<(&Key, &str), Option<(&Millis, &Outgoing)>> = fired.chain(changed).collect();
        for ((key, name), set) in last {
            let message = set.map(|(_, message)| message);
            self.t.step.push(of);
            self.t.key.push(&key.0);
            self.t.name.push(name);
            self.t.due.push(set.map(|(due, _)| due.0));
            self.t.channel.push(message.map(|one| i32::from(one.channel)));
            self.t.message_key.push(message.map(|one| &one.key.0[..]));
            self.t.message.push(message.map(|one| &one.id.0[..]));
            self.t.body.push(message.map(|one| &one.body.bytes()[..]));
            self.bytes += message.map_or(0, |one| one.body.len());
        }
    }

    fn parked(&mut self, of: i32, step: &'a Step) {
        let gone = step.unparked.iter().map(|number| (*number, None));
        let last: BTreeMap<u64, Option<&Parked>> =
            gone.chain(step.parked.iter().map(|one| (one.number, Some(one)))).collect();
        for (number, parked) in last {
            let job = parked.and_then(|one| one.job.as_ref());
            self.k.step.push(of);
            self.k.number.push(number.cast_signed());
            self.k.key.push(parked.map(|one| &one.key.0[..]));
            self.k.message.push(parked.map(|one| &one.id.0[..]));
            self.k.due.push(parked.map(|one| one.due.0));
            self.k.attempt.push(parked.map(|one| i64::from(one.attempt)));
            self.k.spec.push(job.map(|job| &job.spec.bytes()[..]));
            self.k.result.push(job.and_then(|job| job.result.as_ref()).map(|result| &result.bytes()[..]));
            self.k.starts.push(parked.map(|_| job.map_or(0, |job| i64::from(job.starts))));
            self.k.body.push(parked.map(|one| &one.body.bytes()[..]));
            self.bytes += parked.map_or(0, |one| one.body.len());
        }
        for number in step.unparked.iter().collect::<HashSet<_>>() {
            self.forget(of, step.slot, *number);
        }
    }

    fn dead(&mut self, of: i32, letter: &'a DeadLetter) {
        self.d.step.push(of);
        self.d.channel.push(i32::from(letter.slot.channel));
        self.d.partition.push(i32::from(letter.slot.partition));
        self.d.number.push(letter.number.cast_signed());
        self.d.group.push(i32::from(letter.slot.group));
        self.d.key.push(&letter.key.0);
        self.d.message.push(&letter.id.0);
        self.d.code.push(&letter.code);
        self.d.attempts.push(i64::from(letter.attempts));
        self.d.at.push(letter.at.0);
        self.d.body.push(letter.body.bytes());
        self.bytes += letter.body.len();
    }

    /// Attempts are on record only until their message is applied, unparked or dead.
    fn forget(&mut self, of: i32, slot: Slot, number: u64) {
        self.a.step.push(of);
        self.a.slot.push(slot_code(slot));
        self.a.number.push(number.cast_signed());
    }

    /// How many rows the arrays stand for.
    pub(crate) fn rows(&self) -> usize {
        self.s.slot.len()
            + self.w.step.len()
            + self.t.due.len()
            + self.k.body.len()
            + self.d.body.len()
            + self.m.step.len()
    }

    /// How many messages are in the arrays.
    pub(crate) fn message_count(&self) -> usize {
        self.m.step.len()
    }

    /// In the order of the function's parameters, a family a line.
    #[rustfmt::skip]
    pub(crate) fn parameters(&self) -> [&(dyn ToSql + Sync); PARAMETERS] {
        let Columns { s, w, t, k, d, a, m, .. } = self;
        [
            &s.slot, &s.epoch, &s.position, &s.token,
            &w.step, &w.space, &w.owner, &w.sub, &w.value,
            &t.step, &t.key, &t.name, &t.due, &t.channel, &t.message_key, &t.message, &t.body,
            &k.step, &k.number, &k.key, &k.message, &k.due, &k.attempt, &k.spec, &k.result, &k.starts, &k.body,
            &d.step, &d.channel, &d.partition, &d.number, &d.group, &d.key, &d.message, &d.code, &d.attempts, &d.at, &d.body,
            &a.step, &a.slot, &a.number,
            &m.step, &m.partition, &m.key, &m.message, &m.body,
        ]
    }
}

/// Calls the function; `$1` to `$46`.
pub(crate) const COMMIT_GROUP: &str = "SELECT outcomes, grown, lasts FROM commit_group($1, $2, $3, $4, $5, $6, $7, $8, \
    $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, \
    $32, $33, $34, $35, $36, $37, $38, $39, $40, $41, $42, $43, $44, $45, $46)";
