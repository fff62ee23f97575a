//! Answers to whoever waits at the edge of this process for a message to be applied.
//!
//! An edge that needs the outcome of a command (move, enrol, time-stamp entries) registers the message's id before it
//! publishes, and waits; the runner gives the worker's reply after the commit. A crash in between loses only the reply:
//! the command is durable, and repeating it under the same idempotency key gives the same answer.
//!
//! Where several processes share the stages, the step may be applied in another process than the edge's. Its replies are
//! then written with the step, each into one of 65,536 places of its slot by two bytes of the message's id, so that they
//! need no sweeping; the edge looks there too. A place that was overwritten meanwhile is a lost reply, as above.

use crate::keys::Keys;
use crate::sealing::{open_value, seal_value};
use crate::slot::spaces::REPLIES;
use crate::slot::{Slot, partition_of};
use crate::store::{Read, Store, Write};
use bytes::Bytes;
use schemas::{Key, MessageId};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use topology::Channel;

/// Most waiters at a time: each is a request in flight at the edge, which is bounded far below this.
const WAITERS_MAX: usize = 65_536;

/// Looks for a reply of another process begin after this pause, and double it up to [`LOOK_LAST`].
const LOOK_FIRST: Duration = Duration::from_millis(5);
/// The longest pause between two looks.
const LOOK_LAST: Duration = Duration::from_millis(200);

/// The waiters of this process.
#[derive(Debug, Default)]
pub struct Replies(Mutex<HashMap<MessageId, oneshot::Sender<Bytes>>>);

/// Where the reply of another process is found.
pub struct Elsewhere<'a> {
    /// The store that the processes share.
    pub store: &'a dyn Store,
    /// Opens it.
    pub keys: &'a dyn Keys,
    /// Where the message was published to.
    pub channel: &'static Channel,
    /// The message's key.
    pub key: Key,
}

impl Elsewhere<'_> {
    /// Waits until the reply to this message lies in its place. Never returns without one: the caller limits the time.
    pub async fn wait(&self, id: MessageId) -> Bytes {
        let mut pause = LOOK_FIRST;
        loop {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LOOK_LAST);
            if let Some(reply) = self.look(id).await {
                return reply;
            }
        }
    }

    async fn look(&self, id: MessageId) -> Option<Bytes> {
        let group = self.channel.groups.first()?.code;
        let partition = partition_of(self.key, self.channel.partitions);
        let owner = owner(self.keys, Slot { channel: self.channel.code, group, partition });
        let read = Read::One { space: REPLIES, owner, sub: place(id) };
        // A store that is away has no reply; the next look may find one.
        let (sub, value) = self.store.read(vec![read]).await.ok()?.pop()?.pop()?;
        let plain = open_value(self.keys, REPLIES, owner, &sub, &value).ok()?;
        plain.strip_prefix(&id.0[..]).map(Bytes::copy_from_slice)
    }
}

/// The rows in which a step of this slot leaves its replies: message id, then reply.
pub(crate) fn kept(keys: &dyn Keys, slot: Slot, replies: &[(MessageId, Bytes)]) -> Vec<Write> {
    if replies.is_empty() {
        return Vec::new();
    }
    let owner = owner(keys, slot);
    let write = |(id, reply): &(MessageId, Bytes)| {
        let sub = place(*id);
        let value = Some(seal_value(keys, REPLIES, owner, &sub, &[&id.0[..], reply].concat()));
        (sub.clone(), Write { space: REPLIES, owner, sub, value })
    };
    // A row is written once in a step: of two replies in one place the later one stays.
    replies.iter().map(write).collect::<HashMap<_, _>>().into_values().collect()
}

fn owner(keys: &dyn Keys, slot: Slot) -> Key {
    let mut name = [0; 6];
    for (at, part) in [slot.channel, slot.group, slot.partition].into_iter().enumerate() {
        name[at * 2..at * 2 + 2].copy_from_slice(&part.to_be_bytes());
    }
    keys.blind("replies", &name)
}

fn place(id: MessageId) -> Bytes {
    Bytes::copy_from_slice(&id.0[14..])
}

impl Replies {
    /// Waits for the reply to this message; none when too many wait already. Dropping the receiver forgets it.
    pub fn expect(&self, id: MessageId) -> Option<oneshot::Receiver<Bytes>> {
        let mut waiters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiters.len() >= WAITERS_MAX {
            waiters.retain(|_, waiter| !waiter.is_closed());
            if waiters.len() >= WAITERS_MAX {
                return None;
            }
        }
        let (sender, receiver) = oneshot::channel();
        waiters.insert(id, sender);
        Some(receiver)
    }

    /// Forgets a waiter, after a time limit or a failed publish.
    pub fn forget(&self, id: MessageId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    /// Gives the reply to whoever waits for it.
    pub fn answer(&self, id: MessageId, reply: Bytes) {
        let waiter = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        if let Some(waiter) = waiter {
            let _gone = waiter.send(reply);
        }
    }
}
