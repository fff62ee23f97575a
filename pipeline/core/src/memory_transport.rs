//! A transport in memory: the executable reference of the contract and the double of tests. Nothing is durable; a restart
//! is closing it and opening it again.
//!
//! Failure behaviour: [`MemoryTransport::sever`] cuts all readers and lets sends fail as if the broker were away.

use crate::broker::{BatchLimits, BrokerError};
use crate::slot::Slot;
use crate::transport::{Arrival, Arrivals, Lane, Parcel, Transport};
use async_trait::async_trait;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// See the module's header.
#[derive(Default)]
pub struct MemoryTransport {
    state: Mutex<State>,
    arrived: Notify,
}

#[derive(Default)]
struct State {
    lanes: HashMap<Lane, BTreeMap<u64, Parcel>>,
    last: HashMap<Lane, u64>,
    settled: HashMap<Slot, u64>,
    /// Raised by everything that ends readers.
    generation: u64,
    away: bool,
    closed: bool,
}

impl State {
    fn up(&self) -> Result<(), BrokerError> {
        match (self.closed, self.away) {
            (true, _) => Err(BrokerError::Closed),
            (_, true) => Err(BrokerError::Unavailable("the connection is cut".to_owned())),
            _ => Ok(()),
        }
    }

    fn waiting(&self, slot: Slot) -> u64 {
        let settled = self.settled.get(&slot).copied().unwrap_or(0);
        let waiting = self.lanes.get(&Lane::of(slot)).map_or(0, |lane| lane.range(settled + 1..).count());
        u64::try_from(waiting).unwrap_or(u64::MAX)
    }
}

impl MemoryTransport {
    /// An empty one.
    #[must_use]
    pub fn new() -> Arc<MemoryTransport> {
        Arc::default()
    }

    /// Cuts every reader; with `away`, everything fails until [`MemoryTransport::heal`].
    pub fn sever(&self, away: bool) {
        let mut state = self.lock();
        state.generation += 1;
        state.away = away;
        self.arrived.notify_waiters();
    }

    /// Undoes [`MemoryTransport::sever`].
    pub fn heal(&self) {
        self.lock().away = false;
    }

    /// Undoes [`Transport::close`]: what was sent is there, as after a restart.
    pub fn open_again(&self) {
        self.lock().closed = false;
    }

    /// Loses everything that was sent, as a broker that lost its disk.
    pub fn forget(&self) {
        let mut state = self.lock();
        state.lanes.clear();
        state.generation += 1;
        self.arrived.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn known(lane: Lane) -> Result<(), BrokerError> {
    let channel = topology::channels::by_code(lane.channel)
        .filter(|channel| lane.partition < channel.partitions && (!lane.intake || !channel.edges.is_empty()));
    channel.map(drop).ok_or(BrokerError::UnknownChannel(lane.channel))
}

#[async_trait]
impl Transport for Arc<MemoryTransport> {
    async fn send(&self, lane: Lane, parcels: Vec<Parcel>) -> Vec<Result<(), BrokerError>> {
        let mut state = self.lock();
        let up = known(lane).and_then(|()| state.up());
        let outcomes = vec![up.clone(); parcels.len()];
        if up.is_ok() {
            for parcel in parcels {
                let last = state.last.entry(lane).or_default();
                *last += 1;
                let offset = *last;
                state.lanes.entry(lane).or_default().insert(offset, parcel);
            }
            self.arrived.notify_waiters();
        }
        outcomes
    }

    async fn receive(&self, slot: Slot, _after: u64) -> Result<Box<dyn Arrivals>, BrokerError> {
        known(Lane::of(slot))?;
        let state = self.lock();
        state.up()?;
        let from = state.settled.get(&slot).copied().unwrap_or(0);
        Ok(Box::new(Reader { transport: Arc::clone(self), slot, from, generation: state.generation }))
    }

    async fn depth(&self, slot: Slot) -> Result<u64, BrokerError> {
        let state = self.lock();
        state.up()?;
        Ok(state.waiting(slot))
    }

    async fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.generation += 1;
        self.arrived.notify_waiters();
    }
}

struct Reader {
    transport: Arc<MemoryTransport>,
    slot: Slot,
    /// The last offset handed out.
    from: u64,
    generation: u64,
}

impl Reader {
    fn take(&mut self, limits: BatchLimits) -> Result<Vec<Arrival>, BrokerError> {
        let state = self.transport.lock();
        state.up()?;
        if state.generation != self.generation {
            return Err(BrokerError::Unavailable("the reader was cut".to_owned()));
        }
        let Some(lane) = state.lanes.get(&Lane::of(self.slot)) else { return Ok(Vec::new()) };
        let mut bytes = 0;
        let fits = |(_, parcel): &(&u64, &Parcel)| {
            let first = bytes == 0;
            bytes += parcel.body.len().max(1);
            first || bytes <= limits.bytes
        };
        let arrivals: Vec<Arrival> = lane
            .range(self.from + 1..)
            .take(limits.messages.max(1))
            .take_while(fits)
            .map(|(tag, parcel)| Arrival { tag: *tag, parcel: parcel.clone() })
            .collect();
        self.from = arrivals.last().map_or(self.from, |last| last.tag);
        Ok(arrivals)
    }
}

#[async_trait]
impl Arrivals for Reader {
    async fn next(&mut self, limits: BatchLimits) -> Result<Vec<Arrival>, BrokerError> {
        let transport = Arc::clone(&self.transport);
        loop {
            let mut arrived = std::pin::pin!(transport.arrived.notified());
            // Registered before looking, so that a parcel between looking and waiting is not missed.
            arrived.as_mut().enable();
            let arrivals = self.take(limits)?;
            if !arrivals.is_empty() {
                return Ok(arrivals);
            }
            arrived.await;
        }
    }

    async fn settle(&mut self, tag: u64) -> Result<(), BrokerError> {
        let mut state = self.transport.lock();
        state.up()?;
        let settled = state.settled.entry(self.slot).or_default();
        *settled = (*settled).max(tag);
        Ok(())
    }
}
