//! One lane's sender: a task with one AMQP channel, so that order needs no lock and a refusal stays in its lane.
//!
//! Invariants: parcels are published in the order of the calls; at most a window of them, in messages and bytes, is
//! unconfirmed; each publish keeps its own confirm (a barrier over all would take a refusal for a confirm). After a loss
//! everything from the lowest unknown parcel on is published again, in order, under the same marks.
//! Returned messages are matched by id and mark: lapin hands a returned message to whichever confirm it resolves next, so
//! all confirms that are there are read before any is answered.
//! Failure behaviour: a call whose time is over is answered `Unavailable` (an edge under an alarm: `Full`), and what it
//! still had to send is not sent; a connection that confirms nothing in that time is made anew.

use crate::link::{Link, Live, State};
use crate::metrics::{Metrics, add};
use crate::options::Options;
use crate::wire;
use bytes::Bytes;
use futures_util::future::{BoxFuture, OptionFuture};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use lapin::message::BasicReturnMessage;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel, Confirmation};
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, Sleep};
use zegel_core::BrokerError;
use zegel_core::transport::{Lane, Parcel};

/// When an edge that is blocked should come back: alarms last for seconds at least.
pub(crate) const RETRY_AFTER_MS: u64 = 2_000;
/// Pause before a channel is opened again after it was refused.
const REOPEN_AFTER: Duration = Duration::from_millis(100);

type Outcome = Result<(), BrokerError>;

/// One call of `send`.
pub(crate) struct Call {
    pub(crate) parcels: Vec<Parcel>,
    pub(crate) until: Instant,
    pub(crate) answer: oneshot::Sender<Vec<Outcome>>,
}

/// Where a lane is published, and how its channel is called.
pub(crate) struct Address {
    pub(crate) lane: Lane,
    pub(crate) channel: &'static str,
    pub(crate) exchange: String,
}

struct Pending {
    outcomes: Vec<Option<Outcome>>,
    unknown: usize,
    until: Instant,
    answer: Option<oneshot::Sender<Vec<Outcome>>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Unknown,
    Confirmed,
    /// Refused, or its call is over: it is not published again.
    Dropped,
}

struct Entry {
    parcel: Parcel,
    call: u64,
    index: usize,
    fate: Fate,
}

struct Open {
    channel: Channel,
    live: Arc<Live>,
}

type Confirm = (u64, lapin::Result<Confirmation>);
type Opening = BoxFuture<'static, Option<Open>>;

/// See the module.
pub(crate) struct Sender {
    address: Address,
    routing_key: ShortString,
    options: Arc<Options>,
    state: watch::Receiver<State>,
    inbox: mpsc::Receiver<Call>,
    calls: VecDeque<Pending>,
    first_call: u64,
    entries: VecDeque<Entry>,
    first_entry: u64,
    /// How many entries, from the first, are published on the open channel.
    published: usize,
    published_bytes: usize,
    open: Option<Open>,
    opening: Option<Opening>,
    pause: Option<Pin<Box<Sleep>>>,
    confirms: FuturesUnordered<BoxFuture<'static, Confirm>>,
    metrics: Arc<Metrics>,
}

impl Sender {
    pub(crate) fn new(
        address: Address,
        options: Arc<Options>,
        publish: &Link,
        inbox: mpsc::Receiver<Call>,
        metrics: Arc<Metrics>,
    ) -> Sender {
        Sender {
            routing_key: address.lane.partition.to_string().into(),
            address,
            options,
            state: publish.state(),
            inbox,
            calls: VecDeque::new(),
            first_call: 0,
            entries: VecDeque::new(),
            first_entry: 0,
            published: 0,
            published_bytes: 0,
            open: None,
            opening: None,
            pause: None,
            confirms: FuturesUnordered::new(),
            metrics,
        }
    }

    /// Sends until nobody can call any more and every call is answered.
    pub(crate) async fn run(mut self) {
        let mut callers = true;
        while callers || !self.calls.is_empty() {
            self.begin_opening();
            self.publish();
            let until = self.calls.front().map(|call| call.until);
            let room = callers && self.entries.len() < self.options.window_messages;
            tokio::select! {
                Some(confirm) = self.confirms.next(), if !self.confirms.is_empty() => self.confirmed(confirm),
                Some(opened) = OptionFuture::from(self.opening.as_mut()) => self.opened(opened),
                Some(()) = OptionFuture::from(self.pause.as_mut()) => self.pause = None,
                call = self.inbox.recv(), if room => match call {
                    Some(call) => self.take(call),
                    None => callers = false,
                },
                () = tokio::time::sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => self.expire(),
                changed = self.state.changed() => {
                    self.link_changed();
                    if changed.is_err() {
                        return; // the link is gone, and every call was answered that it is closed
                    }
                }
            }
        }
        if let Some(open) = self.open {
            let _ = tokio::time::timeout(self.options.answer_within, open.channel.close(200, "done".into())).await;
        }
    }

    fn take(&mut self, call: Call) {
        let id = self.first_call + self.calls.len() as u64;
        let outcomes = vec![None; call.parcels.len()];
        let unknown = outcomes.len();
        self.calls.push_back(Pending { outcomes, unknown, until: call.until, answer: Some(call.answer) });
        for (index, parcel) in call.parcels.into_iter().enumerate() {
            if parcel.body.len() > self.options.body_bytes {
                let text = format!("parcel is larger than the broker takes, {} bytes", self.options.body_bytes);
                self.answer(id, index, Err(BrokerError::Unavailable(text)));
            } else {
                self.entries.push_back(Entry { parcel, call: id, index, fate: Fate::Unknown });
            }
        }
        if matches!(*self.state.borrow(), State::Closed) {
            self.end_call(id, &BrokerError::Closed);
        }
        self.refuse_while_blocked();
        self.forget_done();
    }

    fn begin_opening(&mut self) {
        if self.open.is_some() || self.opening.is_some() || self.pause.is_some() || self.entries.is_empty() {
            return;
        }
        let Ok(live) = self.state.borrow().live() else { return };
        let within = self.options.answer_within;
        let opening = async move {
            let channel = live.channel(within).await.ok()?;
            let confirmed = tokio::time::timeout(within, channel.confirm_select(ConfirmSelectOptions::default())).await;
            matches!(confirmed, Ok(Ok(()))).then_some(Open { channel, live })
        };
        self.opening = Some(opening.boxed());
    }

    fn opened(&mut self, opened: Option<Open>) {
        (self.opening, self.open) = (None, opened);
        if self.open.is_none() {
            self.open_later();
        }
    }

    /// The connection may be going down without the link knowing yet.
    fn open_later(&mut self) {
        self.pause = Some(Box::pin(tokio::time::sleep(REOPEN_AFTER)));
    }

    fn publish(&mut self) {
        while let (Some(open), Some(entry)) = (&self.open, self.entries.get(self.published)) {
            if open.live.blocked() {
                return; // the client would keep what the broker does not read
            }
            let bytes = self.published_bytes + entry.parcel.body.len();
            let full = self.published >= self.options.window_messages || bytes > self.options.window_bytes;
            if full && self.published > 0 {
                return;
            }
            let id = self.first_entry + self.published as u64;
            let (call, index) = (entry.call, entry.index);
            self.published += 1;
            self.published_bytes = bytes;
            if entry.fate == Fate::Dropped {
                continue;
            }
            let Some(properties) = wire::properties(&entry.parcel) else {
                self.entries[self.published - 1].fate = Fate::Dropped;
                self.answer(call, index, Err(BrokerError::Unavailable("mark is larger than the broker takes".into())));
                continue;
            };
            let body = entry.parcel.body.bytes().clone();
            let (channel, exchange, key) =
                (open.channel.clone(), self.address.exchange.as_str().into(), self.routing_key.clone());
            let mut publishing = one(id, channel, exchange, key, body, properties).boxed();
            // The first poll hands the frames over, so it is done here, in order.
            match (&mut publishing).now_or_never() {
                None => self.confirms.push(publishing),
                Some(confirm) => self.confirmed(confirm), // the client was quicker; what waits is still to be published
            }
        }
    }

    fn confirmed(&mut self, first: Confirm) {
        let mut confirms = vec![first];
        loop {
            let before = confirms.len();
            while let Some(Some(confirm)) = self.confirms.next().now_or_never() {
                confirms.push(confirm);
            }
            if confirms.len() == before {
                break;
            }
        }
        let mut lost = false;
        let mut decided = Vec::with_capacity(confirms.len());
        for (id, confirm) in confirms {
            let (returned, fate) = match confirm {
                Ok(Confirmation::Ack(returned)) => (returned, Fate::Confirmed),
                Ok(Confirmation::Nack(returned)) => {
                    // No queue of ours has a limit, so its leader was lost, and a broker's channel may go on refusing long
                    // after the next was elected.
                    lost = true;
                    (returned, Fate::Dropped)
                }
                Ok(Confirmation::NotRequested) | Err(_) => {
                    lost = true;
                    continue;
                }
            };
            if let Some(returned) = returned {
                self.returned(&returned);
            }
            decided.push((id, fate));
        }
        for (id, fate) in decided {
            self.decide(id, fate);
        }
        self.forget_done();
        if lost {
            self.lost();
        }
    }

    fn decide(&mut self, id: u64, fate: Fate) {
        let at = id.checked_sub(self.first_entry).and_then(|at| usize::try_from(at).ok());
        let Some(entry) = at.and_then(|at| self.entries.get_mut(at)) else { return };
        if entry.fate != Fate::Unknown {
            return; // returned, or its call is over
        }
        entry.fate = fate;
        let (call, index) = (entry.call, entry.index);
        let outcome = match fate {
            Fate::Confirmed => {
                add(&self.metrics.sent, 1);
                Ok(())
            }
            _ => Err(BrokerError::Unavailable("broker refused the message".into())),
        };
        self.answer(call, index, outcome);
    }

    /// No queue took it: the objects are not as they were verified.
    fn returned(&mut self, message: &BasicReturnMessage) {
        let Ok((_, id, mark)) = wire::marked(&message.delivery.properties) else { return };
        let published = self.entries.iter().take(self.published);
        let at = published.into_iter().position(|entry| entry.parcel.id == id && entry.parcel.mark == mark);
        if let Some(entry) = at.and_then(|at| self.entries.get_mut(at)) {
            entry.fate = Fate::Dropped;
            let (call, index) = (entry.call, entry.index);
            self.answer(call, index, Err(BrokerError::Unavailable("no queue takes the lane's messages".into())));
        }
        add(&self.metrics.returned, 1);
        tracing::error!(exchange = self.address.exchange, "a message was returned: no queue is bound");
        if let Some(open) = &self.open {
            open.live.suspect();
        }
    }

    /// The channel is gone: everything that is unknown, and what follows it, is published again on the next.
    fn lost(&mut self) {
        if let Some(open) = self.open.take() {
            let same = self.state.borrow().live().is_ok_and(|live| Arc::ptr_eq(&live, &open.live));
            if same {
                // Either the connection is going down, or the broker refused our objects; both need another look.
                open.live.suspect();
            }
        }
        self.confirms.clear();
        self.entries.retain(|entry| entry.fate != Fate::Dropped);
        add(&self.metrics.resent, self.published.min(self.entries.len()));
        for entry in &mut self.entries {
            entry.fate = Fate::Unknown;
        }
        (self.published, self.published_bytes) = (0, 0);
        self.open_later();
    }

    fn link_changed(&mut self) {
        let state = self.state.borrow_and_update().clone();
        if let State::Closed = state {
            while !self.calls.is_empty() {
                self.end_call(self.first_call, &BrokerError::Closed);
                self.forget_done();
            }
            return;
        }
        let gone = |open: &Open| !state.live().is_ok_and(|live| Arc::ptr_eq(&live, &open.live));
        if self.open.as_ref().is_some_and(gone) {
            self.lost();
        }
        self.refuse_while_blocked();
    }

    fn blocked(&self) -> bool {
        self.address.lane.intake && self.state.borrow().live().is_ok_and(|live| live.blocked())
    }

    fn full(&self) -> BrokerError {
        BrokerError::Full { channel: self.address.channel, retry_after_ms: RETRY_AFTER_MS }
    }

    /// An edge is told at once to come back; what is published already may still be confirmed.
    fn refuse_while_blocked(&mut self) {
        if !self.blocked() {
            return;
        }
        let full = self.full();
        let mut untouched: Vec<u64> = self.entries.iter().skip(self.published).map(|entry| entry.call).collect();
        untouched.dedup();
        let begun = self.entries.iter().take(self.published).map(|entry| entry.call).max();
        for call in untouched {
            if begun.is_none_or(|begun| call > begun) {
                self.end_call(call, &full);
            }
        }
        self.forget_done();
    }

    fn expire(&mut self) {
        let now = Instant::now();
        let late = self.calls.iter().take_while(|call| call.until <= now).count() as u64;
        let live = self.state.borrow().live(); // apart, so that nothing borrows the state twice
        let error = match live {
            _ if self.blocked() => self.full(),
            Ok(_) => BrokerError::Unavailable("broker does not confirm in time".into()),
            Err(error) => error,
        };
        for call in self.first_call..self.first_call + late {
            self.end_call(call, &error);
        }
        // It blocks nobody and confirms nothing: whatever it is, a new connection does not have it.
        if let Some(open) = self.open.as_ref().filter(|open| !open.live.blocked()) {
            open.live.suspect();
        }
        self.forget_done();
    }

    /// Answers what is unknown of a call, and publishes no more of it.
    fn end_call(&mut self, call: u64, error: &BrokerError) {
        for entry in self.entries.iter_mut().filter(|entry| entry.call == call && entry.fate == Fate::Unknown) {
            entry.fate = Fate::Dropped;
        }
        let Some(pending) = self.pending(call) else { return };
        let unknown: Vec<usize> = pending
            .outcomes
            .iter()
            .enumerate()
            .filter(|(_, outcome)| outcome.is_none())
            .map(|(index, _)| index)
            .collect();
        for index in unknown {
            self.answer(call, index, Err(error.clone()));
        }
    }

    fn pending(&mut self, call: u64) -> Option<&mut Pending> {
        let at = usize::try_from(call.checked_sub(self.first_call)?).ok()?;
        self.calls.get_mut(at)
    }

    fn answer(&mut self, call: u64, index: usize, outcome: Outcome) {
        let Some(pending) = self.pending(call) else { return };
        let Some(place @ None) = pending.outcomes.get_mut(index) else { return };
        *place = Some(outcome);
        pending.unknown -= 1;
        if pending.unknown == 0
            && let Some(answer) = pending.answer.take()
        {
            let _ = answer.send(std::mem::take(&mut pending.outcomes).into_iter().flatten().collect());
        }
    }

    fn forget_done(&mut self) {
        while self.calls.front().is_some_and(|call| call.unknown == 0) {
            self.calls.pop_front();
            self.first_call += 1;
        }
        while let Some(entry) = self.entries.front().filter(|entry| entry.fate != Fate::Unknown) {
            if self.published > 0 {
                self.published -= 1;
                self.published_bytes -= entry.parcel.body.len();
            }
            self.entries.pop_front();
            self.first_entry += 1;
        }
    }
}

async fn one(
    id: u64,
    channel: Channel,
    exchange: ShortString,
    key: ShortString,
    body: Bytes,
    properties: BasicProperties,
) -> Confirm {
    let mandatory = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    match channel.basic_publish(exchange, key, mandatory, &body, properties).await {
        Ok(confirm) => (id, confirm.await),
        Err(error) => (id, Err(error)),
    }
}
