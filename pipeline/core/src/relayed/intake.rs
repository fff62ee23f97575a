//! The intake of one partition: takes what the edge published to the broker into the store, where it gets its number.
//!
//! Invariants: a parcel is settled after the commit that numbered it (I1); a parcel that arrives again is known by its
//! session and sequence in that same commit (I2). Messages are numbered in the order in which each publisher sent them,
//! else in that of their arrival (I3; [`order`](super::order)).

use super::lease::{Duty, Loss};
use super::order::{Next, Order, Session};
use super::sessions::Taken;
use crate::broker::{BatchLimits, Outgoing};
use crate::clock::Clock;
use crate::keys::Keys;
use crate::rows;
use crate::sealing::{open_value, seal_value};
use crate::slot::{Slot, spaces::INTAKES};
use crate::store::{Claim, Outbox, Read, Step, Write};
use crate::transport::{Arrivals, Transport};
use async_trait::async_trait;
use bytes::Bytes;
use schemas::{Key, Millis};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One commit: enough that its fsync is shared, few enough that 48 intakes in a process stay small.
const TAKE: BatchLimits = BatchLimits { messages: 500, bytes: 1 << 20 };
/// The longest wait for work in one turn.
const IDLE: Duration = Duration::from_millis(500);
/// A lane with a gap and nothing new in it is read again after so long, then after twice that, and so on.
const READ_AGAIN: Duration = Duration::from_secs(1);
/// Sessions of which nothing came for so long are forgotten: no broker delivers anything again after a month.
const FORGET_MS: i64 = 30 * 24 * 3_600_000;
/// Sessions looked at when a slot is claimed; each start of a gateway makes one.
const SESSIONS_MAX: usize = 10_000;

/// See the module's header.
pub(crate) struct Intake {
    slot: Slot,
    store: Arc<dyn Outbox>,
    transport: Arc<dyn Transport>,
    keys: Arc<dyn Keys>,
    clock: Arc<dyn Clock>,
    epoch: u64,
    arrivals: Option<Box<dyn Arrivals>>,
    order: Order,
    /// When the lane was opened, and how long after that it is read again because of a gap.
    read_at: Instant,
    read_again: Duration,
    sessions: BTreeMap<Session, Taken>,
}

impl Intake {
    /// `patience`: how long a gap in what a publisher sent is waited for.
    pub fn new(
        slot: Slot,
        store: Arc<dyn Outbox>,
        transport: Arc<dyn Transport>,
        keys: Arc<dyn Keys>,
        clock: Arc<dyn Clock>,
        patience: Duration,
    ) -> Intake {
        Intake {
            slot,
            store,
            transport,
            keys,
            clock,
            epoch: 0,
            arrivals: None,
            order: Order::new(patience),
            read_at: Instant::now(),
            read_again: READ_AGAIN,
            sessions: BTreeMap::new(),
        }
    }

    /// Whose rows the sessions are.
    fn owner(&self) -> Key {
        let mut name = [0; 4];
        name[..2].copy_from_slice(&self.slot.channel.to_be_bytes());
        name[2..].copy_from_slice(&self.slot.partition.to_be_bytes());
        self.keys.blind("intake", &name)
    }

    async fn load(&mut self) -> Result<(), Loss> {
        let owner = self.owner();
        let read =
            Read::Range { space: INTAKES, owner, from: Bytes::new(), to: None, limit: SESSIONS_MAX, reverse: false };
        self.sessions.clear();
        let oldest = self.clock.now().plus(-FORGET_MS);
        let mut old = Step::empty(self.slot, self.epoch);
        for (sub, value) in self.store.read(vec![read]).await?.pop().unwrap_or_default() {
            let taken: Taken = rows::decode(&open_value(&*self.keys, INTAKES, owner, &sub, &value)?)?;
            match Session::try_from(&sub[..]) {
                Ok(session) if taken.at >= oldest => drop(self.sessions.insert(session, taken)),
                _ => old.writes.push(Write { space: INTAKES, owner, sub, value: None }),
            }
        }
        if old.writes.is_empty() { Ok(()) } else { Ok(self.store.commit(old).await?) }
    }

    /// The step that takes these parcels, and the sessions as they are after it.
    fn step(&self, ready: Vec<Next>, now: Millis) -> (Step, BTreeMap<Session, Taken>) {
        let mut step = Step::empty(self.slot, self.epoch);
        let mut touched: BTreeMap<Session, Taken> = BTreeMap::new();
        for Next { session, sequence, parcel } in ready {
            let known = || self.sessions.get(&session).cloned().unwrap_or_else(|| Taken::nothing(now));
            let taken = touched.entry(session).or_insert_with(known);
            taken.at = now;
            if taken.take(sequence) {
                let (key, id, body) = (parcel.key, parcel.id, parcel.body);
                step.produced.push(Outgoing { channel: self.slot.channel, key, id, body });
            }
        }
        let owner = self.owner();
        for (session, taken) in &touched {
            let sub = Bytes::copy_from_slice(session);
            let plain = serde_json::to_vec(taken).unwrap_or_default();
            let value = Some(seal_value(&*self.keys, INTAKES, owner, &sub, &plain));
            step.writes.push(Write { space: INTAKES, owner, sub, value });
        }
        (step, touched)
    }
}

#[async_trait]
impl Duty for Intake {
    async fn begin(&mut self, claim: Claim) -> Result<(), Loss> {
        self.epoch = claim.epoch;
        self.load().await?;
        self.order.read_again();
        self.read_at = Instant::now();
        self.arrivals = Some(self.transport.receive(self.slot, 0).await?);
        Ok(())
    }

    async fn turn(&mut self) -> Result<(), Loss> {
        let Some(reader) = self.arrivals.as_mut() else { return Ok(()) };
        let arrived = tokio::time::timeout(IDLE, reader.next(TAKE)).await;
        let now = Instant::now();
        let silent = arrived.is_err();
        for arrival in arrived.unwrap_or_else(|_| Ok(Vec::new()))? {
            if !self.order.keep(arrival) {
                tracing::error!(slot = %self.slot, "a numbered parcel lies in an intake lane and is left out");
            }
        }
        let sessions = &self.sessions;
        let ready = self.order.ready(|session| sessions.get(session).map_or(0, Taken::last), now);
        if !ready.is_empty() {
            let (step, touched) = self.step(ready, self.clock.now());
            fail::fail_point!("intake::before-commit");
            self.store.commit(step).await?;
            fail::fail_point!("intake::after-commit");
            self.sessions.extend(touched);
        }
        if let (Some(tag), Some(reader)) = (self.order.settled(), self.arrivals.as_mut()) {
            reader.settle(tag).await?;
        }
        match self.order.has_gap() {
            // What a broker hands out may be all behind the gap, and the gap's parcels wait for room.
            true if silent && now.duration_since(self.read_at) >= self.read_again => {
                self.read_again *= 2;
                return Err(Loss::Gap);
            }
            true => {}
            false => self.read_again = READ_AGAIN,
        }
        Ok(())
    }

    async fn end(&mut self, _lost: bool) -> Result<(), Loss> {
        self.arrivals = None;
        Ok(())
    }
}
