//! One lane's sending: a task that keeps what is on its way in order, and sends it again in order after a failure.
//!
//! Invariant: what is durable in a lane is at any instant a beginning of what its sends were called with, whatever failed in
//! between, until a send was answered with an error; repetitions carry the same marks.
//! Failure behaviour: a send is answered within its limit. What it gave up on keeps its place until its outcome is known;
//! until then the lane refuses at once.

use crate::error::words;
use crate::metrics::add;
use crate::producer::{Flight, PRIME_AGAIN, Producers};
use crate::record;
use crate::shared::Shared;
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::producer::BaseRecord;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use zegel_core::BrokerError;
use zegel_core::transport::Parcel;

/// Pause before a new producer is tried, doubled up to the longest.
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// Pause while the client's queue is full.
const FULL_PAUSE: Duration = Duration::from_millis(5);
/// How long what nobody waits for any more keeps its place: then the producer is ended instead.
const DOUBT_LIMIT: Duration = Duration::from_secs(300);
/// How long closing lets a lane finish.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

pub(crate) type Outcomes = Vec<Result<(), BrokerError>>;

/// One call of send.
pub(crate) struct Call {
    pub parcels: Vec<Parcel>,
    pub deadline: Instant,
    pub permit: OwnedSemaphorePermit,
    pub answer: oneshot::Sender<Outcomes>,
}

/// A call that is not answered completely.
struct Open {
    total: usize,
    left: usize,
    deadline: Instant,
    answer: Option<oneshot::Sender<Outcomes>>,
    _permit: OwnedSemaphorePermit,
}

impl Open {
    fn answer(&mut self, error: &BrokerError) {
        if let Some(answer) = self.answer.take() {
            let done = self.total - self.left;
            let outcomes = (0..self.total).map(|n| if n < done { Ok(()) } else { Err(error.clone()) });
            let _ = answer.send(outcomes.collect());
        }
    }
}

pub(crate) struct LaneTask {
    pub shared: Arc<Shared>,
    pub producers: Arc<Producers>,
    pub topic: String,
    pub channel: &'static str,
    pub partition: i32,
    calls: VecDeque<Open>,
    /// Not known to be durable, in order.
    pending: VecDeque<Parcel>,
    /// How many of `pending`, from the front, the producer of `generation` was given.
    handed: usize,
    generation: u64,
    flight: Arc<Flight>,
    /// How many of the flight's deliveries were taken off `pending`.
    taken: usize,
    /// When the producer's last record became durable here; nothing before its first.
    primed: Option<Instant>,
    pause: Duration,
    not_before: Instant,
}

impl LaneTask {
    pub(crate) fn new(
        shared: Arc<Shared>,
        producers: Arc<Producers>,
        topic: String,
        channel: &'static str,
        partition: u16,
    ) -> LaneTask {
        LaneTask {
            shared,
            producers,
            topic,
            channel,
            partition: i32::from(partition),
            calls: VecDeque::new(),
            pending: VecDeque::new(),
            handed: 0,
            generation: 0,
            flight: Arc::default(),
            taken: 0,
            primed: None,
            pause: PAUSE,
            not_before: Instant::now(),
        }
    }

    /// Serves calls until the transport is closed.
    pub(crate) async fn run(mut self, mut calls: mpsc::Receiver<Call>) {
        let mut closed = self.shared.closed.subscribe();
        let mut closing: Option<Instant> = None;
        let mut open = true;
        loop {
            let flight = Arc::clone(&self.flight);
            tokio::select! {
                biased;
                () = flight.wake.notified() => {}
                () = sleep_until(self.alarm(closing)) => {}
                call = calls.recv(), if open => match call {
                    Some(call) => self.take(call),
                    None => {
                        open = false;
                        closing = closing.or_else(|| Some(Instant::now() + CLOSE_LIMIT));
                    }
                },
                _ = closed.wait_for(|closed| *closed), if closing.is_none() => {
                    calls.close();
                    closing = Some(Instant::now() + CLOSE_LIMIT);
                }
            }
            while let Ok(call) = calls.try_recv() {
                self.take(call);
            }
            self.advance();
            let over = |until| self.pending.is_empty() || until <= Instant::now();
            if closing.is_some_and(over) {
                self.give_up(&BrokerError::Closed);
                return;
            }
        }
    }

    /// When something is due that no report announces.
    fn alarm(&self, closing: Option<Instant>) -> Instant {
        let now = Instant::now();
        // What waits behind a first record is handed over when that is reported.
        let waits = self.handed < self.pending.len() && (self.handed == 0 || self.primed());
        let waiting = if waits { self.not_before } else { now + DOUBT_LIMIT };
        let open = self.calls.iter().find(|call| call.answer.is_some()).map(|call| call.deadline);
        let doubtful = self.calls.front().map(|call| call.deadline + DOUBT_LIMIT);
        [Some(waiting), open, doubtful, closing].into_iter().flatten().min().unwrap_or(now + DOUBT_LIMIT)
    }

    /// Whether more than one record may be on its way.
    fn primed(&self) -> bool {
        self.handed > 1 || self.primed.is_some_and(|when| when.elapsed() < PRIME_AGAIN)
    }

    fn doubtful(&self) -> bool {
        self.calls.front().is_some_and(|call| call.answer.is_none())
    }

    fn take(&mut self, call: Call) {
        let total = call.parcels.len();
        let mut open =
            Open { total, left: total, deadline: call.deadline, answer: Some(call.answer), _permit: call.permit };
        if self.doubtful() {
            open.answer(&unknown("an earlier send is not answered yet"));
            return;
        }
        self.pending.extend(call.parcels);
        self.calls.push_back(open);
    }

    /// Everything that can be done without waiting.
    fn advance(&mut self) {
        self.confirm();
        if let Some(why) = self.flight.failure() {
            self.recover(&why);
        }
        self.expire();
        self.hand_over();
    }

    fn confirm(&mut self) {
        let delivered = self.flight.delivered() - self.taken;
        if delivered == 0 {
            return;
        }
        self.taken += delivered;
        self.handed -= delivered;
        self.pending.drain(..delivered);
        self.primed = Some(Instant::now());
        self.pause = PAUSE;
        add(&self.shared.metrics.sent, delivered);
        let mut rest = delivered;
        while let Some(call) = self.calls.front_mut() {
            let part = rest.min(call.left);
            call.left -= part;
            rest -= part;
            if call.left > 0 {
                break;
            }
            call.answer(&BrokerError::Closed); // nothing is left, so nothing is answered with it
            self.calls.pop_front();
        }
    }

    /// The producer is lost: everything that is not confirmed goes to the next one, unless somebody was told that it failed.
    fn recover(&mut self, why: &str) {
        self.producers.retire(self.generation);
        add(&self.shared.metrics.resent, self.handed);
        self.forget_flight();
        if self.doubtful() {
            self.give_up(&unknown(why));
        }
        self.not_before = Instant::now() + self.pause;
        self.pause = (2 * self.pause).min(PAUSE_MAX);
    }

    fn forget_flight(&mut self) {
        self.handed = 0;
        self.taken = 0;
        self.primed = None;
        self.flight = Arc::default();
    }

    /// Answers calls whose limit has passed.
    fn expire(&mut self) {
        let now = Instant::now();
        let error = unknown("not confirmed in time");
        self.calls.iter_mut().filter(|call| call.deadline <= now).for_each(|call| call.answer(&error));
        let lost = self.calls.front().is_some_and(|call| call.deadline + DOUBT_LIMIT <= now);
        if lost {
            self.producers.retire(self.generation);
        }
        if lost || (self.doubtful() && self.handed == 0) {
            self.forget_flight();
            self.give_up(&error);
        }
    }

    /// Answers every call, and forgets what was pending.
    fn give_up(&mut self, error: &BrokerError) {
        self.calls.iter_mut().for_each(|call| call.answer(error));
        self.calls.clear();
        self.pending.clear();
        self.handed = 0;
    }

    /// Gives the producer what it was not given yet.
    fn hand_over(&mut self) {
        if self.handed == self.pending.len() || Instant::now() < self.not_before {
            return;
        }
        let (generation, producer) = match self.producers.current() {
            Ok(current) => current,
            Err(error) => {
                tracing::warn!(%error, "no kafka producer");
                self.not_before = Instant::now() + PAUSE_MAX;
                return;
            }
        };
        if generation != self.generation {
            // The other producer was ended by another lane; its reports no longer count.
            self.generation = generation;
            self.forget_flight();
        }
        let most = if self.primed() { usize::MAX } else { 1 - self.handed };
        for parcel in self.pending.iter().skip(self.handed).take(most) {
            let record = BaseRecord::with_opaque_to(&self.topic, Arc::clone(&self.flight))
                .partition(self.partition)
                .key(&parcel.key.0[..])
                .payload(parcel.body.bytes().as_ref())
                .headers(record::headers(self.channel, parcel));
            match producer.send(record) {
                Ok(()) => self.handed += 1,
                Err((ClientError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    self.not_before = Instant::now() + FULL_PAUSE;
                    return;
                }
                Err((error, _)) => {
                    tracing::warn!(code = words(&error), "the kafka producer takes nothing");
                    self.flight.fail(&error);
                    return;
                }
            }
        }
    }
}

fn unknown(why: &str) -> BrokerError {
    BrokerError::Unavailable(format!("kafka: {why}"))
}
