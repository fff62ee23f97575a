//! The life of one slot in one process: claim, take, decide, commit, settle, release; and again after any loss.

mod suspects;

use super::engine::{Engine, Item, Plan};
use super::jobs::{self, Ended, Job};
use super::parking::Parking;
use super::turn::{After, Loss, compute, new_item, observe, parked_item, split};
use super::{Ports, RunnerConfig, Shared};
use crate::broker::{Batch, BrokerError, Delivery, Settlement, Subscription};
use crate::keys::KeysError;
use crate::replies;
use crate::slot::Slot;
use crate::store::{Claim, Parked, ParkedHead, Step, StoreError};
use crate::worker::Worker;
use schemas::{Key, Millis};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, watch};

/// After a loss, so long until the slot is claimed again.
const RECLAIM: Duration = Duration::from_millis(500);
/// A commit that found the disk full is repeated after so long.
const FULL_RETRY: Duration = Duration::from_millis(500);
/// Timers fired in one step.
const TIMERS_PER_STEP: usize = 256;
/// Parked heads loaded per page when a slot is claimed.
const HEADS_PAGE: usize = 10_000;
/// Messages that arrived before their predecessors and wait for the gap to close.
const EARLY_MAX: usize = 10_000;
/// Batches larger than this are decided on a blocking thread, so that no task computes for long.
const INLINE_MAX: usize = 4;

/// See the module's header.
pub(crate) struct SlotLoop {
    slot: Slot,
    worker: Arc<dyn Worker>,
    ports: Ports,
    config: RunnerConfig,
    shared: Arc<Shared>,
    permits: Arc<Semaphore>,
    stop: watch::Receiver<bool>,
}

/// What an owner holds while it owns the slot.
struct Owned {
    engine: Engine,
    subscription: Box<dyn Subscription>,
    position: u64,
    early: BTreeMap<u64, Delivery>,
    parking: Parking,
    jobs: HashSet<u64>,
    next_timer: Option<Millis>,
    renew_at: Millis,
    /// What may have killed the previous owner, where it ended without settling what it was at: the first batch, and what
    /// was parked and due.
    suspect: bool,
    suspect_parked: bool,
    ended_tx: mpsc::Sender<Ended>,
    ended_rx: mpsc::Receiver<Ended>,
}

enum Event {
    Stop,
    Batch(Result<Batch, BrokerError>),
    Job(Ended),
    Tick,
}

impl SlotLoop {
    pub fn new(
        slot: Slot,
        worker: Arc<dyn Worker>,
        ports: Ports,
        config: RunnerConfig,
        shared: Arc<Shared>,
        permits: Arc<Semaphore>,
        stop: watch::Receiver<bool>,
    ) -> SlotLoop {
        SlotLoop { slot, worker, ports, config, shared, permits, stop }
    }

    /// Owns the slot whenever it can, until told to stop.
    pub async fn run(mut self) {
        while !*self.stop.borrow() {
            if self.shared.division.is_mine(self.slot) {
                let now = self.ports.clock.now();
                match self.ports.store.claim(self.slot, self.config.owner, now, self.config.lease_ms).await {
                    Ok(Some(claim)) => {
                        fail::fail_point!("runner::after-claim");
                        self.own(claim).await;
                    }
                    Ok(None) => {}
                    Err(StoreError::Closed) => return,
                    Err(error) => tracing::warn!(slot = %self.slot, %error, "slot cannot be claimed"),
                }
            }
            let mut stop = self.stop.clone();
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => {}
                () = tokio::time::sleep(RECLAIM) => {}
            }
        }
    }

    async fn own(&mut self, claim: Claim) {
        let gauge = self.ports.metrics.owned.with_label_values(&[self.stage(), &self.slot.partition.to_string()]);
        gauge.set(1);
        let ended = match self.prepare(claim).await {
            Ok(mut owned) => self.work(&mut owned).await,
            Err(loss) => Err(loss),
        };
        gauge.set(0);
        match ended {
            Ok(()) => {
                fail::fail_point!("runner::before-release");
                if let Err(error) = self.ports.store.release(self.slot, claim.epoch, true).await {
                    tracing::warn!(slot = %self.slot, %error, "slot cannot be released");
                }
            }
            Err(Loss::Store(StoreError::Fenced { .. } | StoreError::Closed)) => {
                tracing::info!(slot = %self.slot, "slot has another owner");
            }
            Err(loss) => {
                tracing::warn!(slot = %self.slot, error = %loss, "slot is let go and claimed again");
                let _unclean = self.ports.store.release(self.slot, claim.epoch, false).await;
            }
        }
    }

    async fn prepare(&self, claim: Claim) -> Result<Owned, Loss> {
        let subscription = self.ports.broker.subscribe(self.slot, claim.position).await?;
        let (ended_tx, ended_rx) = mpsc::channel(64);
        let engine =
            Engine { slot: self.slot, epoch: claim.epoch, worker: self.worker.clone(), keys: self.ports.keys.clone() };
        let mut owned = Owned {
            engine,
            subscription,
            position: claim.position,
            early: BTreeMap::new(),
            parking: Parking::default(),
            jobs: HashSet::new(),
            next_timer: Some(Millis(0)), // unknown: looked up at the first turn
            renew_at: self.ports.clock.now().plus(self.config.lease_ms / 3),
            suspect: !claim.clean,
            suspect_parked: !claim.clean,
            ended_tx,
            ended_rx,
        };
        self.load_parking(&mut owned).await?;
        Ok(owned)
    }

    async fn load_parking(&self, owned: &mut Owned) -> Result<(), Loss> {
        owned.parking = Parking::default();
        let mut after = 0;
        let mut pending = Vec::new();
        loop {
            let heads = self.ports.store.parked_heads(self.slot, after, HEADS_PAGE).await?;
            let Some(last) = heads.last() else { break };
            after = last.number;
            // Those that ran when the last owner ended; one that waits for its next try is started when it is due.
            let ran = |head: &&ParkedHead| head.job_pending && head.due == Millis::NEVER;
            pending.extend(heads.iter().filter(ran).filter(|head| !owned.jobs.contains(&head.number)).copied());
            heads.into_iter().for_each(|head| owned.parking.insert(head));
        }
        for head in pending {
            let suspect = owned.suspect_parked;
            self.restart_job(owned, head.number, suspect).await?;
        }
        Ok(())
    }

    /// Works until told to stop or until the slot is another process's share (then everything taken is committed), or
    /// until the slot is lost.
    async fn work(&mut self, owned: &mut Owned) -> Result<(), Loss> {
        loop {
            self.housekeeping(owned).await?;
            if !self.shared.division.is_mine(self.slot) {
                return self.finish_jobs(owned).await;
            }
            match self.next_event(owned).await {
                Event::Stop => return self.finish_jobs(owned).await,
                Event::Tick => {}
                Event::Job(ended) => self.job_ended(owned, ended).await?,
                Event::Batch(batch) => self.take(owned, batch?).await?,
            }
        }
    }

    async fn next_event(&self, owned: &mut Owned) -> Event {
        let now = self.ports.clock.now();
        let wake = [owned.parking.next_due(), owned.next_timer, Some(owned.renew_at)].into_iter().flatten().min();
        let sleep_ms = wake.map_or(i64::MAX, |wake| wake.since(now)).clamp(0, self.config.tick_ms.max(1));
        let sleep = Duration::from_millis(u64::try_from(sleep_ms).unwrap_or(0));
        let room = owned.parking.count() < self.config.parked_max
            && owned.parking.bytes() < self.config.parked_bytes_max
            && owned.early.len() < EARLY_MAX;
        let mut stop = self.stop.clone();
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => Event::Stop,
            Some(ended) = owned.ended_rx.recv() => Event::Job(ended),
            () = tokio::time::sleep(sleep), if sleep_ms == 0 => Event::Tick,
            batch = owned.subscription.next(self.config.batch), if room => Event::Batch(batch),
            () = tokio::time::sleep(sleep), if sleep_ms > 0 => Event::Tick,
        }
    }

    /// What is due by the clock: the lease, timers, parked messages.
    async fn housekeeping(&self, owned: &mut Owned) -> Result<(), Loss> {
        let now = self.ports.clock.now();
        if now >= owned.renew_at {
            self.ports.store.renew(self.slot, owned.engine.epoch, now.plus(self.config.lease_ms)).await?;
            owned.renew_at = now.plus(self.config.lease_ms / 3);
            owned.next_timer = Some(Millis(0)); // a replay may have changed what is due
            if owned.parking.has_held() {
                self.load_parking(owned).await?;
            }
        }
        if owned.next_timer.is_some_and(|due| due <= now) {
            self.fire_timers(owned, now).await?;
        }
        let ready = owned.parking.ready(now, self.config.batch.messages);
        if ready.is_empty() {
            owned.suspect_parked = false;
        } else {
            self.try_parked(owned, ready).await?;
        }
        let gauge = self.ports.metrics.parked.with_label_values(&[self.stage(), &self.slot.partition.to_string()]);
        gauge.set(i64::try_from(owned.parking.count()).unwrap_or(i64::MAX));
        Ok(())
    }

    async fn fire_timers(&self, owned: &mut Owned, now: Millis) -> Result<(), Loss> {
        let (timers, next) = self.ports.store.due_timers(self.slot, now, TIMERS_PER_STEP).await?;
        owned.next_timer = next;
        if timers.is_empty() {
            return Ok(());
        }
        let mut step = Step::empty(self.slot, owned.engine.epoch);
        for timer in timers {
            step.fired.push((timer.key, timer.name));
            step.produced.push(timer.message);
        }
        self.commit(step).await
    }

    async fn try_parked(&self, owned: &mut Owned, ready: Vec<ParkedHead>) -> Result<(), Loss> {
        let (waiting, runnable): (Vec<_>, Vec<_>) = ready.into_iter().partition(|head| head.job_pending);
        for head in waiting {
            self.restart_job(owned, head.number, false).await?;
        }
        let numbers: Vec<u64> = runnable.iter().map(|head| head.number).collect();
        let parked = self.ports.store.parked(self.slot, numbers).await?;
        let there: HashSet<u64> = parked.iter().map(|parked| parked.number).collect();
        for gone in runnable.iter().filter(|head| !there.contains(&head.number)) {
            owned.parking.remove(gone.number, gone.key); // an operator resolved it
        }
        let items: Vec<Item> = parked.into_iter().map(|parked| parked_item(parked, None)).collect();
        match items.is_empty() {
            true => Ok(()),
            false if owned.suspect_parked => self.process_singly(owned, items).await,
            false => self.process(owned, items, None).await,
        }
    }

    async fn job_ended(&self, owned: &mut Owned, ended: Ended) -> Result<(), Loss> {
        owned.jobs.remove(&ended.number);
        let _until_committed = ended.alone;
        let now = self.ports.clock.now();
        if let Some(downstream) = self.worker.downstream() {
            let failed = matches!(&ended.result, Err(error) if error.retryable);
            let open = failed && self.shared.breakers.failed(downstream, now);
            if !failed {
                self.shared.breakers.succeeded(downstream);
            }
            self.ports.metrics.breaker_open.with_label_values(&[downstream]).set(i64::from(open));
        }
        let Some(mut parked) = self.ports.store.parked(self.slot, vec![ended.number]).await?.pop() else {
            owned.parking.remove(ended.number, ended.key);
            return Ok(());
        };
        let channel = self.worker.channel();
        if let Err(error) = &ended.result
            && error.retryable
        {
            if *self.stop.borrow() {
                return Ok(()); // it stays as it is and starts again with the next owner
            }
            let wait = channel.retry_ms.get(parked.attempt as usize);
            if let Some(wait) = wait.or(channel.retry_ms.last().filter(|_| channel.endless)) {
                tracing::warn!(slot = %self.slot, code = %error.code, attempt = parked.attempt, "job failed, will be started again");
                parked.attempt += 1;
                // It ended, so it is not what ends processes.
                if let Some(job) = parked.job.as_mut() {
                    job.starts = 0;
                }
                return self.park_again(owned, parked, now.plus(*wait)).await;
            }
        }
        self.process(owned, vec![parked_item(parked, Some(ended.result))], None).await
    }

    async fn park_again(&self, owned: &mut Owned, mut parked: Parked, due: Millis) -> Result<(), Loss> {
        parked.due = due;
        let head = ParkedHead {
            number: parked.number,
            key: parked.key,
            due,
            bytes: parked.body.len(),
            job_pending: parked.job.is_some(),
        };
        let mut step = Step::empty(self.slot, owned.engine.epoch);
        step.parked.push(parked);
        self.commit(step).await?;
        owned.parking.insert(head);
        Ok(())
    }

    fn start_job(&self, owned: &mut Owned, (number, key, spec): (u64, Key, Vec<u8>), suspect: Option<Step>) {
        owned.jobs.insert(number);
        let (worker, ports, shared) = (self.worker.clone(), self.ports.clone(), self.shared.clone());
        let job = Job { number, key, spec, suspect };
        jobs::start(worker, ports, shared, self.stop.clone(), job, owned.ended_tx.clone());
    }

    /// New messages: duplicates are dropped by their number, early ones wait for the gap to close.
    async fn take(&self, owned: &mut Owned, batch: Batch) -> Result<(), Loss> {
        let mut next = owned.position + 1;
        let mut items = Vec::with_capacity(batch.deliveries.len());
        for delivery in batch.deliveries {
            if delivery.number >= next {
                owned.early.insert(delivery.number, delivery);
            }
            while let Some(ready) = owned.early.remove(&next) {
                items.push(new_item(ready));
                next += 1;
            }
        }
        if items.is_empty() {
            return settle(owned, batch.settlement).await; // only duplicates, or a gap
        }
        if std::mem::take(&mut owned.suspect) && self.is_suspect(owned.engine.epoch).await? {
            self.process_singly(owned, items).await?;
            return settle(owned, batch.settlement).await;
        }
        self.process(owned, items, Some(batch.settlement)).await
    }

    /// Decides and commits one batch.
    async fn process(&self, owned: &mut Owned, items: Vec<Item>, settlement: Option<Settlement>) -> Result<(), Loss> {
        let _permit = self.permits.acquire().await.map_err(|_| Loss::Cut)?;
        let started = std::time::Instant::now();
        let now = self.ports.clock.now();
        let count = items.len();
        let blocked: HashSet<Key> =
            items.iter().filter(|item| !item.parked && owned.parking.holds(item.key)).map(|item| item.key).collect();
        let mut plan = self.decide(&owned.engine, items, blocked, now).await?;
        if self.config.shared {
            let kept = replies::kept(&*self.ports.keys, self.slot, &plan.replies);
            plan.step.writes.extend(kept);
        }
        let position = plan.step.position;
        let (step, after) = split(plan);
        fail::fail_point!("runner::before-commit");
        self.commit(step).await?;
        fail::fail_point!("runner::after-commit");
        owned.position = position.unwrap_or(owned.position);
        self.after_commit(owned, after, now, count, started.elapsed());
        if let Some(settlement) = settlement {
            settle(owned, settlement).await?;
            fail::fail_point!("runner::after-settle");
        }
        Ok(())
    }

    async fn decide(
        &self,
        engine: &Engine,
        items: Vec<Item>,
        blocked: HashSet<Key>,
        now: Millis,
    ) -> Result<Plan, Loss> {
        let large = items.len() > INLINE_MAX;
        let begin = engine.clone();
        let (mut work, mut missing) = compute(large, move || {
            let work = begin.begin(items, blocked, now);
            let declared = begin.declared(&work);
            (work, declared)
        })
        .await?;
        loop {
            let rows = if missing.is_empty() { Vec::new() } else { self.ports.store.read(missing.clone()).await? };
            let step = engine.clone();
            let advanced = compute(large, move || {
                step.load(&mut work, missing, rows)?;
                let missing = step.advance(&mut work);
                Ok::<_, KeysError>(if missing.is_empty() { Ok(step.finish(work)) } else { Err((work, missing)) })
            });
            match advanced.await?? {
                Ok(plan) => return Ok(plan),
                Err(more) => (work, missing) = more,
            }
        }
    }

    fn after_commit(&self, owned: &mut Owned, after: After, now: Millis, count: usize, took: Duration) {
        for (number, key) in after.unparked {
            owned.parking.remove(number, key);
        }
        for head in after.parked {
            owned.parking.insert(head);
        }
        if let Some(due) = after.next_timer {
            owned.next_timer = Some(owned.next_timer.map_or(due, |next| next.min(due)));
        }
        for (id, reply) in after.replies {
            self.ports.replies.answer(id, reply);
        }
        for job in after.jobs {
            self.start_job(owned, job, None);
        }
        observe(&self.ports.metrics, self.stage(), after.tally, count, took);
        tracing::debug!(slot = %self.slot, messages = count, at = now.0, "step committed");
    }

    /// Commits; a full disk is waited for, with nothing acknowledged meanwhile.
    async fn commit(&self, step: Step) -> Result<(), Loss> {
        loop {
            match self.ports.store.commit(step.clone()).await {
                Ok(()) => return Ok(()),
                Err(StoreError::Full(reason)) => {
                    tracing::error!(slot = %self.slot, reason, "store is full, the step waits");
                    if *self.stop.borrow() {
                        return Err(StoreError::Full(reason).into());
                    }
                    tokio::time::sleep(FULL_RETRY).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// When stopping: jobs that look at `stopping` end soon; what they brought is committed.
    async fn finish_jobs(&self, owned: &mut Owned) -> Result<(), Loss> {
        while !owned.jobs.is_empty() {
            match owned.ended_rx.recv().await {
                Some(ended) => self.job_ended(owned, ended).await?,
                None => break,
            }
        }
        Ok(())
    }

    fn stage(&self) -> &'static str {
        self.worker.group().name
    }
}

/// Settles what was applied: never a message that still waits for a gap to close.
async fn settle(owned: &mut Owned, mut settlement: Settlement) -> Result<(), Loss> {
    settlement.up_to = settlement.up_to.min(owned.position);
    Ok(owned.subscription.settle(settlement).await?)
}
