//! Store and broker in memory: the executable reference of both contracts and the double of unit tests.
//!
//! Purpose: says in the plainest code what the ports mean; backends are compared with it by model-based tests. Nothing is
//! durable, everything else is as in the contracts: one lock makes every call atomic and isolated.
//! Failure behaviour: [`Memory::fail_commits`] lets a test see what happens when the store is away.

mod broker;

use crate::broker::{BatchLimits, Delivery, Outgoing};
use crate::keys::Sealed;
use crate::slot::{OwnerId, RELAY, Slot, partition_of};
use crate::store::{
    Claim, DeadFilter, DeadLetter, Outbox, Parked, ParkedHead, Progress, Read, Rows, SlotStats, Step, Store,
    StoreError, Timer, TimerChange,
};
use async_trait::async_trait;
use bytes::Bytes;
use schemas::{Key, Millis};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use topology::Channel;

/// A store and broker that lives in memory. See the module's header.
pub struct Memory {
    shared: Arc<Shared>,
    high_water: Option<u64>,
}

/// What subscriptions hold as well.
#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    arrived: Notify,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    /// An empty one with the topology's high-water marks.
    #[must_use]
    pub fn new() -> Arc<Memory> {
        Arc::new(Memory { shared: Arc::default(), high_water: None })
    }

    /// An empty one whose channels all have this high-water mark.
    #[must_use]
    pub fn with_high_water(messages: u64) -> Arc<Memory> {
        Arc::new(Memory { shared: Arc::default(), high_water: Some(messages) })
    }

    /// The next `times` commits fail with `error` and change nothing.
    pub fn fail_commits(&self, times: u32, error: StoreError) {
        self.shared.lock().failing = Some((times, error));
    }

    /// Refuses everything from now on and ends all subscriptions.
    pub fn close(&self) {
        self.shared.lock().closed = true;
        self.shared.arrived.notify_waiters();
    }

    /// Undoes [`Memory::close`]: what was stored is there, as after a restart.
    pub fn open_again(&self) {
        self.shared.lock().closed = false;
    }

    fn open(&self) -> Result<MutexGuard<'_, State>, StoreError> {
        let state = self.shared.lock();
        if state.closed { Err(StoreError::Closed) } else { Ok(state) }
    }
}

#[derive(Default)]
struct State {
    logs: HashMap<(u16, u16), Log>,
    slots: BTreeMap<Slot, SlotRow>,
    rows: BTreeMap<(u16, Key, Bytes), Sealed>,
    timers: BTreeMap<(Slot, Key, String), (Millis, Outgoing)>,
    parked: BTreeMap<(Slot, u64), Parked>,
    dead: BTreeMap<(u16, u16, u64, u16), DeadLetter>,
    attempts: BTreeMap<(Slot, u64), u32>,
    alive: Alive,
    failing: Option<(u32, StoreError)>,
    closed: bool,
}

/// A partition's messages; those that every group has settled are gone from the front.
#[derive(Default)]
struct Log {
    messages: VecDeque<Delivery>,
    last: u64,
}

impl Log {
    /// Messages above a number, within the limits.
    fn above(&self, after: u64, limits: BatchLimits) -> Vec<Delivery> {
        let start = self.messages.partition_point(|message| message.number <= after);
        let mut bytes = 0;
        let fits = |message: &&Delivery| {
            let first = bytes == 0;
            bytes += message.body.len();
            first || bytes <= limits.bytes
        };
        self.messages.iter().skip(start).take(limits.messages.max(1)).take_while(fits).cloned().collect()
    }
}

/// Owners and until when they are alive, for stores that serve one process.
#[derive(Debug, Default)]
pub struct Alive(BTreeMap<(u16, OwnerId), Millis>);

impl Alive {
    /// See [`Store::announce`].
    pub fn announce(&mut self, group: u16, owner: OwnerId, now: Millis, until: Millis) -> Vec<OwnerId> {
        self.0.insert((group, owner), until);
        self.0.retain(|(of, _), until| *of != group || *until >= now);
        self.0.keys().filter(|(of, _)| *of == group).map(|(_, owner)| *owner).collect()
    }
}

#[derive(Clone, Copy)]
struct SlotRow {
    position: u64,
    settled: u64,
    owner: Option<OwnerId>,
    epoch: u64,
    until: Millis,
    clean: bool,
}

impl Default for SlotRow {
    fn default() -> SlotRow {
        // Nobody has worked on a new slot, so nobody left it unclean.
        SlotRow { position: 0, settled: 0, owner: None, epoch: 0, until: Millis(0), clean: true }
    }
}

impl State {
    fn row(&self, slot: Slot) -> SlotRow {
        self.slots.get(&slot).copied().unwrap_or_default()
    }

    fn owned(&self, slot: Slot, epoch: u64) -> Result<SlotRow, StoreError> {
        let row = self.row(slot);
        if row.owner.is_some() && row.epoch == epoch { Ok(row) } else { Err(StoreError::Fenced { slot }) }
    }

    /// Up to which number every group of the channel needs nothing any more.
    fn floor(&self, channel: &Channel, partition: u16) -> u64 {
        let floors = channel.groups.iter().map(|group| {
            let row = self.row(Slot { channel: channel.code, group: group.code, partition });
            row.position.max(row.settled)
        });
        floors.min().unwrap_or(0)
    }

    fn waiting(&self, channel: &Channel) -> u64 {
        let last = |partition| self.logs.get(&(channel.code, partition)).map_or(0, |log| log.last);
        (0..channel.partitions).map(|p| last(p).saturating_sub(self.floor(channel, p))).sum()
    }

    fn append(&mut self, channel: &Channel, message: Outgoing) {
        let log = self.logs.entry((channel.code, partition_of(message.key, channel.partitions))).or_default();
        log.last += 1;
        let Outgoing { key, id, body, .. } = message;
        log.messages.push_back(Delivery { number: log.last, key, id, body });
    }

    fn trim(&mut self, slot: Slot) {
        let Some(channel) = topology::channels::by_code(slot.channel) else { return };
        let floor = self.floor(channel, slot.partition);
        if let Some(log) = self.logs.get_mut(&(slot.channel, slot.partition)) {
            while log.messages.front().is_some_and(|message| message.number <= floor) {
                log.messages.pop_front();
            }
        }
    }

    /// Everything that can be refused is refused here, before anything is changed.
    fn check(&mut self, step: &Step) -> Result<(), StoreError> {
        if let Some((times, error)) = self.failing.take()
            && times > 0
        {
            self.failing = Some((times - 1, error.clone()));
            return Err(error);
        }
        let stored = self.owned(step.slot, step.epoch)?.position;
        if let Some(position) = step.position.filter(|position| *position <= stored) {
            return Err(StoreError::Position { slot: step.slot, stored, step: position });
        }
        for message in &step.produced {
            known(message.channel)?;
        }
        Ok(())
    }

    fn apply(&mut self, step: Step) -> Result<(), StoreError> {
        self.check(&step)?;
        let Step { slot, position, writes, produced, timers, fired, parked, unparked, dead, .. } = step;
        if let Some(position) = position {
            let row = self.slots.entry(slot).or_default();
            let passed = row.position + 1..=position;
            row.position = position;
            self.attempts.retain(|(at, number), _| *at != slot || !passed.contains(number));
            self.trim(slot);
        }
        for write in writes {
            let place = (write.space.code, write.owner, write.sub);
            match write.value {
                Some(value) => drop(self.rows.insert(place, value)),
                None => drop(self.rows.remove(&place)),
            }
        }
        for message in produced {
            self.append(known(message.channel)?, message);
        }
        self.apply_timers(slot, timers, fired);
        for number in unparked {
            self.parked.remove(&(slot, number));
            self.attempts.remove(&(slot, number));
        }
        for one in parked {
            self.parked.insert((slot, one.number), one);
        }
        for letter in dead {
            self.attempts.remove(&(letter.slot, letter.number));
            self.dead.insert(dead_place(letter.slot, letter.number), letter);
        }
        Ok(())
    }

    /// A timer that fired may be set again by the same step, so firing comes first.
    fn apply_timers(&mut self, slot: Slot, timers: Vec<TimerChange>, fired: Vec<(Key, String)>) {
        for (key, name) in fired {
            self.timers.remove(&(slot, key, name));
        }
        for change in timers {
            match change {
                TimerChange::Set { key, name, due, message } => {
                    self.timers.insert((slot, key, name.to_owned()), (due, message));
                }
                TimerChange::Cancel { key, name } => {
                    self.timers.remove(&(slot, key, name));
                }
            }
        }
    }

    fn answer(&self, read: Read) -> Rows {
        match read {
            Read::One { space, owner, sub } => {
                let value = self.rows.get(&(space.code, owner, sub.clone()));
                value.map(|value| (sub, value.clone())).into_iter().collect()
            }
            Read::Range { space, owner, from, to, limit, reverse } => {
                if to.as_ref().is_some_and(|to| *to <= from) {
                    return Rows::new();
                }
                let first = Bound::Included((space.code, owner, from));
                let rows = self
                    .rows
                    .range((first, Bound::Unbounded))
                    .take_while(|((code, of, sub), _)| {
                        (*code, *of) == (space.code, owner) && to.as_ref().is_none_or(|to| sub < to)
                    })
                    .map(|((_, _, sub), value)| (sub.clone(), value.clone()));
                if !reverse {
                    return rows.take(limit).collect();
                }
                let all: Rows = rows.collect();
                all.into_iter().rev().take(limit).collect()
            }
        }
    }

    fn stats_of(&self, slot: Slot) -> SlotStats {
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        SlotStats {
            slot,
            last: self.logs.get(&(slot.channel, slot.partition)).map_or(0, |log| log.last),
            position: self.row(slot).position,
            parked: count(self.parked.keys().filter(|(at, _)| *at == slot).count()),
            dead: count(self.dead.values().filter(|letter| letter.slot == slot).count()),
            timers: count(self.timers.keys().filter(|(at, _, _)| *at == slot).count()),
        }
    }
}

fn known(channel: u16) -> Result<&'static Channel, StoreError> {
    topology::channels::by_code(channel)
        .ok_or_else(|| StoreError::Damaged(format!("a step names channel {channel}, which is not in the topology")))
}

fn dead_place(slot: Slot, number: u64) -> (u16, u16, u64, u16) {
    (slot.channel, slot.partition, number, slot.group)
}

#[async_trait]
impl Store for Memory {
    async fn claim(&self, slot: Slot, owner: OwnerId, now: Millis, ttl_ms: i64) -> Result<Option<Claim>, StoreError> {
        let mut state = self.open()?;
        let row = state.slots.entry(slot).or_default();
        if row.owner.is_some_and(|held| held != owner) && row.until > now {
            return Ok(None);
        }
        let claim = Claim { slot, epoch: row.epoch + 1, position: row.position, clean: row.clean };
        *row = SlotRow { owner: Some(owner), epoch: claim.epoch, until: now.plus(ttl_ms), clean: false, ..*row };
        Ok(Some(claim))
    }

    async fn renew(&self, slot: Slot, epoch: u64, until: Millis) -> Result<(), StoreError> {
        let mut state = self.open()?;
        let row = state.owned(slot, epoch)?;
        state.slots.insert(slot, SlotRow { until, ..row });
        Ok(())
    }

    async fn release(&self, slot: Slot, epoch: u64, clean: bool) -> Result<(), StoreError> {
        let mut state = self.open()?;
        let row = state.owned(slot, epoch)?;
        state.slots.insert(slot, SlotRow { owner: None, clean, ..row });
        if clean {
            state.attempts.remove(&(slot, 0));
        }
        Ok(())
    }

    async fn commit(&self, step: Step) -> Result<(), StoreError> {
        let applied = self.open()?.apply(step);
        self.shared.arrived.notify_waiters();
        applied
    }

    async fn begin_attempt(&self, slot: Slot, epoch: u64, number: u64) -> Result<u32, StoreError> {
        let mut state = self.open()?;
        state.owned(slot, epoch)?;
        let count = state.attempts.entry((slot, number)).or_default();
        *count = count.saturating_add(1);
        Ok(*count)
    }

    async fn read(&self, reads: Vec<Read>) -> Result<Vec<Rows>, StoreError> {
        let state = self.open()?;
        Ok(reads.into_iter().map(|read| state.answer(read)).collect())
    }

    async fn due_timers(
        &self,
        slot: Slot,
        now: Millis,
        limit: usize,
    ) -> Result<(Vec<Timer>, Option<Millis>), StoreError> {
        let state = self.open()?;
        let of_slot = state.timers.iter().filter(|((at, _, _), _)| *at == slot);
        let mut timers: Vec<Timer> = of_slot
            .map(|((_, key, name), (due, message))| Timer {
                key: *key,
                name: name.clone(),
                due: *due,
                message: message.clone(),
            })
            .collect();
        timers.sort_by(|a, b| (a.due, a.key, &a.name).cmp(&(b.due, b.key, &b.name)));
        let due = timers.iter().take(limit).take_while(|timer| timer.due <= now).count();
        let next = timers.get(due).map(|timer| timer.due);
        timers.truncate(due);
        Ok((timers, next))
    }

    async fn parked_heads(&self, slot: Slot, after: u64, limit: usize) -> Result<Vec<ParkedHead>, StoreError> {
        let state = self.open()?;
        let rows = state.parked.range((Bound::Excluded((slot, after)), Bound::Included((slot, u64::MAX))));
        let head = |parked: &Parked| ParkedHead {
            number: parked.number,
            key: parked.key,
            due: parked.due,
            bytes: parked.body.len(),
            job_pending: parked.job.as_ref().is_some_and(|job| job.result.is_none()),
        };
        Ok(rows.take(limit).map(|(_, parked)| head(parked)).collect())
    }

    async fn parked(&self, slot: Slot, numbers: Vec<u64>) -> Result<Vec<Parked>, StoreError> {
        let state = self.open()?;
        Ok(numbers.into_iter().filter_map(|number| state.parked.get(&(slot, number)).cloned()).collect())
    }

    async fn dead(&self, filter: DeadFilter) -> Result<Vec<DeadLetter>, StoreError> {
        let state = self.open()?;
        let wanted = |letter: &&DeadLetter| {
            let place = (letter.slot.channel, letter.slot.partition, letter.number);
            filter.channel.is_none_or(|channel| channel == letter.slot.channel)
                && filter.id.is_none_or(|id| id == letter.id)
                && filter.after.is_none_or(|after| place > after)
        };
        Ok(state.dead.values().filter(wanted).take(filter.limit).cloned().collect())
    }

    async fn resolve_dead(&self, slot: Slot, number: u64, again: Option<Outgoing>) -> Result<bool, StoreError> {
        let mut state = self.open()?;
        let channel = again.as_ref().map(|message| known(message.channel)).transpose()?;
        let Some(letter) = state.dead.remove(&dead_place(slot, number)) else { return Ok(false) };
        if let (Some(channel), Some(message)) = (channel, again) {
            state.append(channel, message);
        }
        state.parked.remove(&(letter.slot, letter.number));
        drop(state);
        self.shared.arrived.notify_waiters();
        Ok(true)
    }

    async fn stats(&self) -> Result<Vec<SlotStats>, StoreError> {
        let state = self.open()?;
        let slots = topology::CHANNELS
            .iter()
            .flat_map(|channel| channel.groups.iter().flat_map(|group| Slot::all(channel, group)));
        Ok(slots.map(|slot| state.stats_of(slot)).collect())
    }

    async fn announce(
        &self,
        group: u16,
        owner: OwnerId,
        now: Millis,
        until: Millis,
    ) -> Result<Vec<OwnerId>, StoreError> {
        Ok(self.open()?.alive.announce(group, owner, now, until))
    }
}

#[async_trait]
impl Outbox for Memory {
    async fn outgoing(
        &self,
        channel: u16,
        partition: u16,
        after: u64,
        limits: BatchLimits,
    ) -> Result<Vec<Delivery>, StoreError> {
        let state = self.open()?;
        Ok(state.logs.get(&(channel, partition)).map_or_else(Vec::new, |log| log.above(after, limits)))
    }

    async fn progress(&self) -> Result<Vec<Progress>, StoreError> {
        let state = self.open()?;
        let progress = |((channel, partition), log): (&(u16, u16), &Log)| {
            let (channel, partition, last) = (*channel, *partition, log.last);
            let relayed = state.row(Slot { channel, group: RELAY, partition }).position;
            let groups = topology::channels::by_code(channel).map_or(&[][..], |channel| channel.groups);
            let applied = groups.iter().map(|group| state.row(Slot { channel, group: group.code, partition }).position);
            Progress { channel, partition, last, relayed, applied: applied.min().unwrap_or(last) }
        };
        Ok(state.logs.iter().map(progress).collect())
    }
}
