//! One slot's reader: a channel with one consumer, and a task that takes what the broker hands out.
//!
//! Invariants: the broker hands out at most the prefetch; tags are those of this channel, so a tag of an earlier reader
//! can settle nothing here; what was not settled goes back to its place at the queue's head when the channel closes. A
//! reader starts when the queue has no other consumer: two would share the messages, and what the first held would come
//! back behind what the second was given. It waits for that for a bounded time, since consumers on a lost node stay in
//! the count. Where a lost node led the queue, what its readers held may still come behind later parcels, once: who reads
//! knows a parcel's place by its mark.
//! Failure behaviour: a lost connection or a cancelled consumer ends the reader; its owner opens another.

use crate::error::why;
use crate::foreign;
use crate::link::Link;
use crate::metrics::{Metrics, add};
use crate::names::Queue;
use crate::options::Options;
use crate::wire;
use async_trait::async_trait;
use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Consumer};
use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use zegel_core::transport::{Arrival, Arrivals, Lane};
use zegel_core::{BatchLimits, BrokerError, Slot};

/// How often a queue is asked whether its last reader is gone.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// How long nobody else must be counted after a loss: a queue without a leader counts nobody, and elects in less.
const STEADY: Duration = Duration::from_secs(1);

/// What every reader of one transport shares.
pub(crate) struct Readers {
    pub(crate) options: Arc<Options>,
    pub(crate) publish: Arc<Link>,
    pub(crate) consume: Arc<Link>,
    metrics: Arc<Metrics>,
    slots: Mutex<HashMap<Slot, Known>>,
}

/// What is remembered of a slot between its readers.
#[derive(Default)]
struct Known {
    held: Weak<Held>,
    closing: Option<JoinHandle<()>>,
    prefetch: Option<u16>,
}

/// What a reader has and nobody settled.
struct Held {
    inner: Mutex<Inner>,
    ready: Notify,
}

#[derive(Default)]
struct Inner {
    waiting: VecDeque<Arrival>,
    unsettled: VecDeque<(u64, usize)>,
    bytes: usize,
    ended: Option<BrokerError>,
}

impl Held {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, error: BrokerError) {
        self.lock().ended.get_or_insert(error);
        self.ready.notify_one();
    }
}

impl Readers {
    pub(crate) fn new(
        options: Arc<Options>,
        publish: Arc<Link>,
        consume: Arc<Link>,
        metrics: Arc<Metrics>,
    ) -> Arc<Readers> {
        Arc::new(Readers { options, publish, consume, metrics, slots: Mutex::new(HashMap::new()) })
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<Slot, Known>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a reader of this queue, when the last one is gone.
    pub(crate) async fn open(self: &Arc<Self>, slot: Slot, queue: Queue) -> Result<Reader, BrokerError> {
        let within = self.options.answer_within;
        let (closing, prefetch) = {
            let mut slots = self.slots();
            let known = slots.entry(slot).or_default();
            (known.closing.take(), known.prefetch.unwrap_or(self.options.prefetch))
        };
        if let Some(closing) = closing {
            let _ = tokio::time::timeout(within, closing).await;
        }
        let live = self.consume.wait(within).await?;
        let channel = live.channel(within).await?;
        let steady = if live.is_again() { STEADY } else { Duration::ZERO };
        wait_until_alone(&channel, &queue.name, &self.options, steady).await?;
        answered(within, channel.basic_qos(prefetch, BasicQosOptions::default())).await?;
        let (name, tag) = (queue.name.as_str().into(), "zegel".into());
        let consume = channel.basic_consume(name, tag, BasicConsumeOptions::default(), FieldTable::default());
        let consumer = answered(within, consume).await?;
        let held = Arc::new(Held { inner: Mutex::new(Inner::default()), ready: Notify::new() });
        self.slots().entry(slot).or_default().held = Arc::downgrade(&held);
        let pump = Pump { readers: Arc::clone(self), slot, queue, channel: channel.clone(), held: Arc::clone(&held) };
        let pump = tokio::spawn(pump.run(consumer));
        Ok(Reader { readers: Arc::clone(self), slot, channel, held, pump, runtime: Handle::current() })
    }

    /// How many messages a reader of this process holds of the slot.
    pub(crate) fn held(&self, slot: Slot) -> u64 {
        let held = self.slots().get(&slot).and_then(|known| known.held.upgrade());
        held.map_or(0, |held| held.lock().unsettled.len() as u64)
    }

    /// Ends every reader.
    pub(crate) async fn close(&self) {
        let mut closing = Vec::new();
        for known in self.slots().values_mut() {
            if let Some(held) = known.held.upgrade() {
                held.end(BrokerError::Closed);
            }
            closing.extend(known.closing.take());
        }
        for one in closing {
            let _ = tokio::time::timeout(self.options.answer_within, one).await;
        }
    }

    /// Messages that are ready at the broker.
    pub(crate) async fn waiting(&self, queue: &str) -> Result<u64, BrokerError> {
        let within = self.options.answer_within;
        let channel = self.consume.wait(within).await?.channel(within).await?;
        let (messages, _) = counts(&channel, queue, within).await?;
        let _ = tokio::time::timeout(within, channel.close(200, "done".into())).await;
        Ok(messages)
    }
}

async fn answered<T>(within: Duration, answer: impl Future<Output = lapin::Result<T>>) -> Result<T, BrokerError> {
    match tokio::time::timeout(within, answer).await {
        Ok(answer) => answer.map_err(|error| BrokerError::Unavailable(why(&error))),
        Err(_) => Err(BrokerError::Unavailable("broker does not answer in time".into())),
    }
}

/// Messages ready, and consumers.
async fn counts(channel: &Channel, queue: &str, within: Duration) -> Result<(u64, u32), BrokerError> {
    let passive = QueueDeclareOptions { passive: true, durable: true, ..QueueDeclareOptions::default() };
    let queue = answered(within, channel.queue_declare(queue.into(), passive, FieldTable::default())).await?;
    Ok((u64::from(queue.message_count()), queue.consumer_count()))
}

async fn wait_until_alone(
    channel: &Channel,
    queue: &str,
    options: &Options,
    steady: Duration,
) -> Result<(), BrokerError> {
    let until = Instant::now() + options.alone_within;
    let mut alone: Option<Instant> = None;
    loop {
        let others = counts(channel, queue, options.answer_within).await?.1;
        let now = Instant::now();
        alone = if others == 0 { alone.or(Some(now)) } else { None };
        if alone.is_some_and(|since| now - since >= steady) {
            return Ok(());
        }
        if now > until {
            tracing::warn!(queue, "the broker still counts another reader; it is taken for one on a lost node");
            return Ok(());
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

struct Pump {
    readers: Arc<Readers>,
    slot: Slot,
    queue: Queue,
    channel: Channel,
    held: Arc<Held>,
}

impl Pump {
    async fn run(self, mut consumer: Consumer) {
        let error = loop {
            match consumer.next().await {
                Some(Ok(delivery)) => {
                    if let Err(error) = self.deliver(delivery).await {
                        break error;
                    }
                }
                Some(Err(error)) => break BrokerError::Unavailable(why(&error)),
                None => break BrokerError::Unavailable("broker ended the reader".into()),
            }
        };
        self.held.end(error);
    }

    async fn deliver(&self, mut delivery: Delivery) -> Result<(), BrokerError> {
        let options = &self.readers.options;
        let (exchange, key) = self.queue.bound.as_ref().map_or(("", ""), |(exchange, key)| (exchange, key));
        let intake = Lane::of(self.slot).intake;
        match wire::parcel(&mut delivery, exchange, key, intake) {
            Ok(parcel) => self.hold(Arrival { tag: delivery.delivery_tag, parcel }),
            Err(reason) => {
                add(&self.readers.metrics.foreign, 1);
                foreign::keep(&self.readers.publish, options, &self.queue.name, &delivery, reason).await?;
                let single = BasicAckOptions { multiple: false };
                answered(options.answer_within, self.channel.basic_ack(delivery.delivery_tag, single)).await
            }
        }
    }

    fn hold(&self, arrival: Arrival) -> Result<(), BrokerError> {
        let mut inner = self.held.lock();
        add(&self.readers.metrics.received, 1);
        let bytes = arrival.parcel.body.len();
        inner.bytes += bytes;
        inner.unsettled.push_back((arrival.tag, bytes));
        inner.waiting.push_back(arrival);
        let count = inner.unsettled.len();
        if inner.bytes > self.readers.options.held_bytes && count > 1 {
            drop(inner);
            let fewer = u16::try_from(count / 2).unwrap_or(u16::MAX).max(1);
            self.readers.slots().entry(self.slot).or_default().prefetch = Some(fewer);
            return Err(BrokerError::Unavailable(
                "reader holds too many bytes; it starts again with fewer messages".into(),
            ));
        }
        drop(inner);
        self.held.ready.notify_one();
        Ok(())
    }
}

/// See the module.
pub(crate) struct Reader {
    readers: Arc<Readers>,
    slot: Slot,
    channel: Channel,
    held: Arc<Held>,
    pump: JoinHandle<()>,
    runtime: Handle,
}

#[async_trait]
impl Arrivals for Reader {
    async fn next(&mut self, limits: BatchLimits) -> Result<Vec<Arrival>, BrokerError> {
        loop {
            {
                let mut inner = self.held.lock();
                if let Some(error) = &inner.ended {
                    return Err(error.clone());
                }
                if !inner.waiting.is_empty() {
                    return Ok(take(&mut inner.waiting, limits));
                }
            }
            self.held.ready.notified().await;
        }
    }

    async fn settle(&mut self, tag: u64) -> Result<(), BrokerError> {
        {
            let mut inner = self.held.lock();
            if let Some(error) = &inner.ended {
                return Err(error.clone());
            }
            if inner.unsettled.front().is_none_or(|(first, _)| *first > tag) {
                return Ok(()); // settled already; the broker would close the channel over an unknown tag
            }
            while let Some((_, bytes)) = inner.unsettled.front().copied().filter(|(held, _)| *held <= tag) {
                inner.unsettled.pop_front();
                inner.bytes -= bytes;
            }
        }
        answered(self.readers.options.answer_within, self.channel.basic_ack(tag, BasicAckOptions { multiple: true }))
            .await
    }
}

/// At least one, and no more than the limits.
fn take(waiting: &mut VecDeque<Arrival>, limits: BatchLimits) -> Vec<Arrival> {
    let mut taken: Vec<Arrival> = Vec::new();
    let mut bytes = 0;
    while let Some(next) = waiting.front() {
        bytes += next.parcel.body.len();
        if !taken.is_empty() && (taken.len() >= limits.messages || bytes > limits.bytes) {
            break;
        }
        taken.extend(waiting.pop_front());
    }
    taken
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.pump.abort();
        let (channel, within) = (self.channel.clone(), self.readers.options.answer_within);
        let closing = self.runtime.spawn(async move {
            let _ = tokio::time::timeout(within, channel.close(200, "done".into())).await;
        });
        self.readers.slots().entry(self.slot).or_default().closing = Some(closing);
    }
}
