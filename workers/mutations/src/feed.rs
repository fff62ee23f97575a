//! One feed per subscriber: numbers from 1 on without a gap, pulled and acknowledged by the subscriber.
//!
//! Because the numbers have no gap, removing what was acknowledged needs no reading: the rows are known. A step removes at
//! most [`STEP_MAX`] rows and tells itself to go on; the acknowledgement itself counts at once.
//! Failure behaviour: an acknowledgement beyond the last number counts as one of the last number; a lower one than before
//! changes nothing. Both are answered with what counts.

use crate::rows::{FeedAcked, FeedRow, NotificationRow};
use crate::{NOTIFY, SOURCE, queries};
use bytes::Bytes;
use schemas::messages::{FeedAck, Notify};
use topology::Channel;
use zegel_core::rows::V1;
use zegel_core::slot::spaces;
use zegel_core::{Context, Decision, Effects, Failure, Interrupt, Message, Read, View, Worker};

/// Most rows removed by one step.
const STEP_MAX: u64 = 1_000;

/// The worker of `mutations.notify`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Feed;

impl Worker for Feed {
    fn channel(&self) -> &'static Channel {
        NOTIFY
    }

    fn reads(&self, message: &Message, _: &Context<'_>) -> Vec<Read> {
        vec![queries::feed(message.key())]
    }

    fn decide(&self, message: &Message, view: &View, context: &Context<'_>) -> Result<Decision, Interrupt> {
        let feed: Option<FeedRow> = view.get(spaces::FEEDS, message.key(), Bytes::new())?;
        if message.is::<Notify>() { append(message, feed) } else { acknowledge(message, feed, context) }
    }
}

fn append(message: &Message, feed: Option<FeedRow>) -> Result<Decision, Interrupt> {
    let Notify { organisation, mutation, at } = message.payload()?;
    let mut feed = feed.unwrap_or(FeedRow { v: V1, organisation, next: 1, acked: 0, trimmed: 0 });
    let sequence = feed.next;
    feed.next += 1;
    let mut effects = Effects::default();
    let row = NotificationRow { v: V1, sequence, mutation, at };
    effects.put(spaces::NOTIFICATIONS, message.key(), sub(sequence), &row)?;
    effects.put(spaces::FEEDS, message.key(), Bytes::new(), &feed)?;
    Ok(Decision::Done(effects))
}

fn acknowledge(message: &Message, feed: Option<FeedRow>, context: &Context<'_>) -> Result<Decision, Interrupt> {
    let FeedAck { up_to } = message.payload()?;
    let mut effects = Effects::default();
    let Some(mut feed) = feed else {
        effects.reply = Some(reply(0)?);
        return Ok(Decision::Done(effects));
    };
    feed.acked = feed.acked.max(up_to.min(feed.next - 1));
    effects.reply = Some(reply(feed.acked)?);
    let last = feed.acked.min(feed.trimmed + STEP_MAX);
    if last > feed.trimmed {
        for sequence in feed.trimmed + 1..=last {
            effects.delete(spaces::NOTIFICATIONS, message.key(), sub(sequence));
        }
        feed.trimmed = last;
        effects.put(spaces::FEEDS, message.key(), Bytes::new(), &feed)?;
    }
    if feed.trimmed < feed.acked {
        let again = FeedAck { up_to: feed.acked };
        effects.produce(NOTIFY, message.follow_up(context, SOURCE, message.key(), &again)?);
    }
    Ok(Decision::Done(effects))
}

fn sub(sequence: u64) -> Bytes {
    Bytes::copy_from_slice(&sequence.to_be_bytes())
}

fn reply(acked: u64) -> Result<Bytes, Interrupt> {
    let reply = serde_json::to_vec(&FeedAcked { acked });
    reply.map(Bytes::from).map_err(|_| Failure::permanent("ZGL-MSG-ENCODE").into())
}
