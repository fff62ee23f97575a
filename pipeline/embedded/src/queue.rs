//! The way to the writer: a queue bounded in bytes and messages, and one answer per request.
//!
//! A producer waits for room before it may enqueue, so memory is flat however many producers there are. Answers come after
//! the commit.

use schemas::Millis;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use zegel_core::store::{Claim, TimerChange};
use zegel_core::{Outgoing, OwnerId, Slot, Step, StoreError};

/// What a request costs beside its bytes, so that one bound holds both: 64 MiB are at most 65,536 empty messages.
const PER_ITEM: usize = 1_024;
/// How long the writer lets go of the queue at a time while it waits for the producers it has just answered.
const GATHER: Duration = Duration::from_micros(20);

/// Something for the writer to do, all or nothing.
#[derive(Debug)]
pub(crate) enum Request {
    Publish(Vec<Outgoing>),
    Step(Box<Step>),
    Claim { slot: Slot, owner: OwnerId, now: Millis, ttl_ms: i64 },
    Renew { slot: Slot, epoch: u64, until: Millis },
    Release { slot: Slot, epoch: u64, clean: bool },
    BeginAttempt { slot: Slot, epoch: u64, number: u64 },
    ResolveDead { slot: Slot, number: u64, again: Option<Outgoing> },
}

/// What came of a request.
#[derive(Debug)]
pub(crate) enum Reply {
    Done,
    Claimed(Option<Claim>),
    Count(u32),
    Found(bool),
}

/// A request and who waits for it. The permit is given back when the answer is sent.
pub(crate) struct Work {
    pub(crate) request: Request,
    pub(crate) bytes: usize,
    answer: oneshot::Sender<Result<Reply, StoreError>>,
    _room: OwnedSemaphorePermit,
}

impl Work {
    pub(crate) fn answer(self, reply: Result<Reply, StoreError>) {
        // Who asked may have gone; the work is done all the same.
        let _ = self.answer.send(reply);
    }
}

/// See the module's header.
pub(crate) struct Queue {
    inner: Mutex<Inner>,
    filled: Condvar,
    room: Arc<Semaphore>,
    capacity: u32,
}

#[derive(Default)]
struct Inner {
    items: Vec<Work>,
    writer_waits: bool,
    closed: bool,
}

/// What the writer finds.
pub(crate) enum Taken {
    Work(Vec<Work>),
    Idle,
    Closed,
}

impl Queue {
    pub(crate) fn new(bytes: usize) -> Queue {
        let capacity = u32::try_from(bytes.min(Semaphore::MAX_PERMITS)).unwrap_or(u32::MAX);
        Queue {
            inner: Mutex::default(),
            filled: Condvar::new(),
            room: Arc::new(Semaphore::new(capacity as usize)),
            capacity,
        }
    }

    /// Enqueues, waiting for room, and waits for the answer.
    pub(crate) async fn ask(&self, request: Request) -> Result<Reply, StoreError> {
        let (items, bytes) = size(&request);
        let cost = u32::try_from(items * PER_ITEM + bytes).unwrap_or(u32::MAX).min(self.capacity);
        let room = Arc::clone(&self.room).acquire_many_owned(cost).await.map_err(|_| StoreError::Closed)?;
        let (answer, answered) = oneshot::channel();
        self.push(Work { request, bytes, answer, _room: room })?;
        // The writer drops the sender without an answer only when it ends on a fatal error.
        answered.await.unwrap_or(Err(StoreError::Closed))
    }

    fn push(&self, work: Work) -> Result<(), StoreError> {
        let mut inner = self.lock();
        if inner.closed {
            return Err(StoreError::Closed);
        }
        inner.items.push(work);
        let wake = std::mem::take(&mut inner.writer_waits);
        drop(inner);
        if wake {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Waits for work, at most `idle`. Once there is some, gives `expected` requests up to `patience` to arrive: producers
    /// that were just answered come back together, and one fsync for all of them is better than one for the first.
    pub(crate) fn take(&self, idle: Duration, expected: usize, patience: Duration, limits: (usize, usize)) -> Taken {
        let mut inner = self.lock();
        if inner.items.is_empty() && !inner.closed {
            inner.writer_waits = true;
            inner = self.filled.wait_timeout(inner, idle).unwrap_or_else(PoisonError::into_inner).0;
            inner.writer_waits = false;
        }
        if inner.items.is_empty() {
            return if inner.closed { Taken::Closed } else { Taken::Idle };
        }
        let until = Instant::now() + patience;
        while inner.items.len() < expected && !inner.closed && Instant::now() < until {
            inner = self.filled.wait_timeout(inner, GATHER).unwrap_or_else(PoisonError::into_inner).0;
        }
        let mut bytes = 0usize;
        let fits = |work: &&Work| {
            bytes = bytes.saturating_add(work.bytes);
            bytes <= limits.1
        };
        let count = inner.items.iter().take(limits.0).take_while(fits).count().max(1);
        let rest = inner.items.split_off(count);
        Taken::Work(std::mem::replace(&mut inner.items, rest))
    }

    /// Refuses new requests; those that are in are still done.
    pub(crate) fn close(&self) {
        self.room.close();
        self.lock().closed = true;
        self.filled.notify_one();
    }

    /// Refuses new requests and drops those that are in: who waits is told that the store is closed.
    pub(crate) fn abandon(&self) {
        self.close();
        let left = std::mem::take(&mut self.lock().items);
        drop(left);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many things a request holds, and how many bytes of sealed values.
fn size(request: &Request) -> (usize, usize) {
    match request {
        Request::Publish(batch) => (batch.len(), batch.iter().map(|message| message.body.len()).sum()),
        Request::ResolveDead { again: Some(message), .. } => (1, message.body.len()),
        Request::Step(step) => {
            let timers = step.timers.iter().map(|change| match change {
                TimerChange::Set { message, .. } => message.body.len(),
                TimerChange::Cancel { .. } => 0,
            });
            let writes = step.writes.iter().map(|write| write.sub.len() + write.value.as_ref().map_or(0, |v| v.len()));
            let produced = step.produced.iter().map(|message| message.body.len());
            let parked = step.parked.iter().map(|parked| parked.body.len());
            let dead = step.dead.iter().map(|letter| letter.body.len());
            let bytes = timers.chain(writes).chain(produced).chain(parked).chain(dead).sum();
            let items = step.timers.len() + step.writes.len() + step.produced.len() + step.parked.len();
            (1 + items + step.dead.len() + step.fired.len() + step.unparked.len(), bytes)
        }
        _ => (1, 0),
    }
}
