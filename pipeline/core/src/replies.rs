//! Answers to whoever waits at the edge of this process for a message to be applied.
//!
//! An edge that needs the outcome of a command (move, enrol, time-stamp entries) registers the message's id before it
//! publishes, and waits; the runner gives the worker's reply after the commit. A crash in between loses only the reply:
//! the command is durable, and repeating it under the same idempotency key gives the same answer.

use bytes::Bytes;
use schemas::MessageId;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use tokio::sync::oneshot;

/// Most waiters at a time: each is a request in flight at the edge, which is bounded far below this.
const WAITERS_MAX: usize = 65_536;

/// The waiters of this process.
#[derive(Debug, Default)]
pub struct Replies(Mutex<HashMap<MessageId, oneshot::Sender<Bytes>>>);

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
