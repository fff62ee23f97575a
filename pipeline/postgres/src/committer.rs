//! Commits: a queue bounded in bytes, and a few tasks that take what waits and commit it, many requests in one transaction.
//!
//! - One call of `commit_group` is one transaction and one round trip: nothing of ours can stop between taking a
//!   partition's counter and the commit that gives it free. While a task waits for its fsync, requests gather for the next.
//! - A refusal that concerns one step (its epoch, its position) concerns no other. When PostgreSQL rolls a whole group back,
//!   a lost race is tried again, anything else makes each request try alone.
//! - An answer that never came leaves open whether the group was committed. Steps are sent again with the same token until
//!   the slot's row says; publishing is reported as not available, which says just that.

use crate::connect::Session;
use crate::error::Fault;
use crate::group::{COMMIT_GROUP, Columns, Places, Request};
use crate::metrics::{Metrics, add};
use crate::pool::{Pool, pause};
use crate::queries::get;
use crate::shared::Shared;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Instant;
use zegel_core::StoreError;
use zegel_core::packed::partition_of_code;

/// Requests in one transaction: beyond this the fsync is well shared, and one that has to be tried again is not too large.
const GROUP_REQUESTS: usize = 256;
/// Bytes in one transaction, unless a single request has more.
const GROUP_BYTES: usize = 4 << 20;
/// A request waits for so many times the patience of one commit: for the one before it, for its own, and some more.
const WAITS: u32 = 3;
/// The queue counts in so many bytes, so that counts fit the semaphore.
const UNIT: usize = 1 << 10;

/// What one request waits for.
pub(crate) struct Item {
    request: Request,
    token: [u8; 16],
    bytes: usize,
    answer: oneshot::Sender<Result<(), StoreError>>,
    _room: OwnedSemaphorePermit,
}

/// What waits, bounded in bytes.
pub(crate) struct Queue {
    items: Mutex<VecDeque<Item>>,
    arrived: Notify,
    room: Arc<Semaphore>,
    units: usize,
    patience: Duration,
    /// Names this store's steps: eight random bytes, then a count.
    session: u64,
    tokens: AtomicU64,
}

impl Queue {
    pub(crate) fn new(bytes: usize, patience: Duration) -> Queue {
        let units = (bytes / UNIT).clamp(1, Semaphore::MAX_PERMITS / 2);
        Queue {
            items: Mutex::default(),
            arrived: Notify::new(),
            room: Arc::new(Semaphore::new(units)),
            units,
            patience,
            session: std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), units),
            tokens: AtomicU64::new(0),
        }
    }

    /// Waits for room, then for the commit; for both together not much longer than a commit may be tried.
    pub(crate) async fn ask(&self, request: Request) -> Result<(), StoreError> {
        let busy = |_| Fault::unavailable("commits are not getting through");
        tokio::time::timeout(self.patience * WAITS, self.wait(request)).await.map_err(busy)?
    }

    async fn wait(&self, request: Request) -> Result<(), StoreError> {
        let bytes = bytes_of(&request);
        let units = u32::try_from((bytes / UNIT + 1).min(self.units)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).acquire_many_owned(units).await.map_err(|_| StoreError::Closed)?;
        let mut token = [0; 16];
        token[..8].copy_from_slice(&self.session.to_be_bytes());
        token[8..].copy_from_slice(&self.tokens.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        let (answer, answered) = oneshot::channel();
        {
            let mut items = self.items();
            if self.room.is_closed() {
                return Err(StoreError::Closed);
            }
            items.push_back(Item { request, token, bytes, answer, _room: room });
        }
        self.arrived.notify_one();
        answered.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Refuses what is new; what waits is still committed.
    pub(crate) fn close(&self) {
        self.room.close();
        self.arrived.notify_waiters();
    }

    /// The next group, waiting for one; none when the queue is closed and empty.
    async fn next(&self) -> Option<Vec<Item>> {
        loop {
            let mut arrived = std::pin::pin!(self.arrived.notified());
            arrived.as_mut().enable();
            let (group, more) = self.take();
            if more {
                self.arrived.notify_one();
            }
            if !group.is_empty() {
                return Some(group);
            }
            if self.room.is_closed() {
                return None;
            }
            arrived.await;
        }
    }

    fn take(&self) -> (Vec<Item>, bool) {
        let mut items = self.items();
        let (mut group, mut left) = (Vec::new(), VecDeque::new());
        let (mut bytes, mut places) = (0, Places::default());
        while let Some(item) = items.pop_front() {
            if item.answer.is_closed() {
                continue; // who asked has gone, and nothing was sent yet
            }
            let fits = group.is_empty() || (group.len() < GROUP_REQUESTS && bytes + item.bytes <= GROUP_BYTES);
            if !fits {
                items.push_front(item);
                break;
            }
            if places.takes(&item.request) {
                bytes += item.bytes;
                group.push(item);
            } else {
                left.push_back(item);
            }
        }
        while let Some(item) = left.pop_back() {
            items.push_front(item);
        }
        (group, !items.is_empty())
    }

    fn items(&self) -> MutexGuard<'_, VecDeque<Item>> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes of bodies, and something for each row.
fn bytes_of(request: &Request) -> usize {
    const ROW: usize = 128;
    match request {
        Request::Publish(batch) => batch.iter().map(|one| one.body.len() + ROW).sum(),
        Request::Step(step) => {
            let produced = step.produced.iter().map(|one| one.body.len() + ROW).sum::<usize>();
            let written = step.writes.iter().map(|one| one.value.as_ref().map_or(0, |v| v.len()) + ROW).sum::<usize>();
            let parked = step.parked.iter().map(|one| one.body.len() + ROW).sum::<usize>();
            produced + written + parked + step.dead.iter().map(|one| one.body.len() + ROW).sum::<usize>() + ROW
        }
    }
}

/// One of the tasks that commit.
#[derive(Clone)]
pub(crate) struct Committer {
    pub(crate) queue: Arc<Queue>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) patience: Duration,
}

impl Committer {
    /// Until the queue is closed and empty.
    pub(crate) async fn run(self) {
        while let Some(group) = self.queue.next().await {
            if let Err((group, error)) = self.commit(group).await {
                // One of them may be what PostgreSQL refuses.
                let many = group.len() > 1 && !matches!(error, StoreError::Unavailable(_) | StoreError::Closed);
                for item in group {
                    if !many {
                        answer(item, Err(error.clone()));
                    } else if let Err((mut alone, error)) = self.commit(vec![item]).await
                        && let Some(item) = alone.pop()
                    {
                        answer(item, Err(error));
                    }
                }
            }
        }
    }

    /// Commits the group and answers all of it; or gives back those that have no answer yet, with the reason.
    async fn commit(&self, mut group: Vec<Item>) -> Result<(), (Vec<Item>, StoreError)> {
        group.sort_by_key(|item| match &item.request {
            Request::Publish(_) => None,
            Request::Step(step) => Some(step.slot),
        });
        let end = Instant::now() + self.patience;
        for tried in 1.. {
            let error = match self.call(&group).await {
                Ok(outcomes) => {
                    self.answer_all(group, &outcomes);
                    return Ok(());
                }
                Err(Fault::Refused(error)) => return Err((group, error)),
                Err(Fault::Again(error) | Fault::Away(error)) => error,
                Err(Fault::Lost(error)) => {
                    group = publishing_failed(group, &error);
                    error
                }
            };
            add(&self.metrics.rollbacks, 1);
            if group.is_empty() {
                return Ok(());
            }
            if Instant::now() >= end {
                return Err((group, error));
            }
            pause(tried).await;
        }
        Ok(())
    }

    /// One transaction. The outcomes are those of the group's steps, in order.
    async fn call(&self, group: &[Item]) -> Result<Vec<i64>, Fault> {
        let mut columns = Columns::default();
        for item in group {
            match &item.request {
                Request::Publish(batch) => columns.messages(0, batch, &self.shared),
                Request::Step(step) => drop(columns.step(step, &item.token, &self.shared)),
            }
        }
        let (outcomes, grown, lasts) = self.pool.once(|session| commit_group(session, &columns)).await?;
        add(&self.metrics.commits, 1);
        add(&self.metrics.rows, columns.rows());
        add(&self.metrics.bytes, columns.bytes);
        add(&self.metrics.messages, columns.message_count());
        for (code, last) in grown.into_iter().zip(lasts) {
            let (channel, partition) = partition_of_code(code);
            if let Some(partition) = self.shared.partition(channel, partition) {
                partition.grew(last.cast_unsigned());
            }
        }
        Ok(outcomes)
    }

    fn answer_all(&self, group: Vec<Item>, outcomes: &[i64]) {
        let mut outcomes = outcomes.iter();
        for item in group {
            let outcome = match &item.request {
                Request::Publish(_) => Ok(()),
                Request::Step(step) => match outcomes.next() {
                    Some(done @ (-1 | -3)) => {
                        add(&self.metrics.steps, 1);
                        add(&self.metrics.resolved, usize::from(*done == -3));
                        if let Some(position) = step.position {
                            self.shared.moved(step.slot, position);
                        }
                        Ok(())
                    }
                    Some(-2) => Err(StoreError::Fenced { slot: step.slot }),
                    Some(stored) => Err(StoreError::Position {
                        slot: step.slot,
                        stored: stored.cast_unsigned(),
                        step: step.position.unwrap_or(0),
                    }),
                    None => Err(Fault::unavailable("postgresql gave no outcome")),
                },
            };
            answer(item, outcome);
        }
    }
}

/// The steps' outcomes, and the partitions that grew with their last numbers.
async fn commit_group(session: Arc<Session>, columns: &Columns<'_>) -> Result<(Vec<i64>, Vec<i64>, Vec<i64>), Fault> {
    let statement = session.statement(COMMIT_GROUP).await?;
    let row = session.client.query_one(&statement, &columns.parameters()).await?;
    Ok((get(&row, 0)?, get(&row, 1)?, get(&row, 2)?))
}

/// Who asked may have gone meanwhile; the commit counts all the same.
fn answer(item: Item, outcome: Result<(), StoreError>) {
    let _gone = item.answer.send(outcome);
}

/// Answers the group's publishers and gives back its steps.
fn publishing_failed(group: Vec<Item>, error: &StoreError) -> Vec<Item> {
    let (publishing, steps): (Vec<_>, Vec<_>) =
        group.into_iter().partition(|item| matches!(item.request, Request::Publish(_)));
    publishing.into_iter().for_each(|item| answer(item, Err(error.clone())));
    steps
}
