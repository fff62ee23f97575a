//! Two small memories of the front, both bounded and both only shortcuts: forgetting costs a read, never correctness.
//!
//! [`Recent`] holds submissions that this process has acknowledged, so that a repetition is recognised before the
//! worker has written its row, and ids that are claimed: of requests with one id at the same time, one goes on and the
//! others wait for its outcome. A claim lives as long as its request, so there are never more than requests in flight.
//! [`BoxesSeen`] holds boxes that exist; boxes are never taken away, so an entry cannot lie.

use schemas::{Key, MessageId, Millis};
use std::collections::HashSet;
use std::collections::hash_map::{Entry, HashMap};
use std::sync::{Mutex, PoisonError};
use tokio::sync::watch;

/// Entries of one generation; two generations of about 100 bytes an entry make 7 MB at most.
const GENERATION: usize = 32_768;

/// Boxes remembered at most: 2 MB.
const BOXES_MAX: usize = 65_536;

/// A submission that was acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) sender: Key,
    /// Of all that the sender chose: a repetition has the same.
    pub(crate) fingerprint: Key,
    pub(crate) accepted: Millis,
}

/// What was acknowledged, and what is about to be.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    known: Mutex<Generations>,
    /// The receiver ends when the claim is kept or given up. Locked before `known`, never the other way round.
    claimed: Mutex<HashMap<MessageId, watch::Receiver<()>>>,
}

/// When the young one is full it becomes the old one.
type Generations = [HashMap<MessageId, Taken>; 2];

/// What [`Recent::claim`] found.
#[derive(Debug)]
pub(crate) enum Claim<'r> {
    /// The id is the caller's to publish.
    Mine(Claimed<'r>),
    /// It was acknowledged before, for this.
    Taken(Taken),
}

/// The right to publish under an id. Dropped without [`Claimed::keep`], also with its request, it gives the id free.
#[derive(Debug)]
pub(crate) struct Claimed<'r> {
    recent: &'r Recent,
    id: MessageId,
    _ended: watch::Sender<()>,
}

impl Recent {
    pub(crate) fn get(&self, id: MessageId) -> Option<Taken> {
        let both = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        both[0].get(&id).or_else(|| both[1].get(&id)).copied()
    }

    /// Claims an id, or waits until whoever holds it has published, or failed to.
    pub(crate) async fn claim(&self, id: MessageId) -> Claim<'_> {
        loop {
            let mut other = match self.try_claim(id) {
                Ok(claim) => return claim,
                Err(other) => other,
            };
            // The sender never sends; the call returns when it is dropped.
            let _ended = other.changed().await;
        }
    }

    fn try_claim(&self, id: MessageId) -> Result<Claim<'_>, watch::Receiver<()>> {
        let mut claimed = self.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = self.get(id) {
            return Ok(Claim::Taken(taken));
        }
        match claimed.entry(id) {
            Entry::Occupied(held) => Err(held.get().clone()),
            Entry::Vacant(free) => {
                let (ended, wait) = watch::channel(());
                free.insert(wait);
                Ok(Claim::Mine(Claimed { recent: self, id, _ended: ended }))
            }
        }
    }

    fn put(&self, id: MessageId, taken: Taken) {
        let mut both = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if both[0].len() >= GENERATION {
            both.swap(0, 1);
            both[0].clear();
        }
        both[0].insert(id, taken);
    }
}

impl Claimed<'_> {
    /// The message is durable: from now on the id stands for it.
    pub(crate) fn keep(self, taken: Taken) {
        self.recent.put(self.id, taken);
    }
}

impl Drop for Claimed<'_> {
    fn drop(&mut self) {
        self.recent.claimed.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

/// Boxes that are known to exist.
#[derive(Debug, Default)]
pub(crate) struct BoxesSeen(Mutex<HashSet<Key>>);

impl BoxesSeen {
    pub(crate) fn has(&self, owner: Key) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&owner)
    }

    pub(crate) fn add(&self, owner: Key) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= BOXES_MAX {
            seen.clear();
        }
        seen.insert(owner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u64) -> MessageId {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&n.to_be_bytes());
        MessageId(bytes)
    }

    #[test]
    fn what_was_taken_last_is_remembered_and_memory_stays_bounded() {
        let recent = Recent::default();
        let taken = Taken { sender: Key([1; 16]), fingerprint: Key([2; 16]), accepted: Millis(3) };
        let last = 3 * GENERATION as u64;
        for n in 0..=last {
            recent.put(id(n), taken);
        }
        assert_eq!(recent.get(id(last)), Some(taken));
        assert_eq!(recent.get(id(last - GENERATION as u64 + 1)), Some(taken));
        assert_eq!(recent.get(id(0)), None);
        let held: usize = recent.known.lock().map(|both| both[0].len() + both[1].len()).unwrap_or(usize::MAX);
        assert!(held <= 2 * GENERATION, "{held} entries are held");
    }

    #[tokio::test]
    async fn of_two_with_one_id_the_second_waits_and_learns_what_became_of_the_first() {
        let recent = Recent::default();
        let taken = Taken { sender: Key([1; 16]), fingerprint: Key([2; 16]), accepted: Millis(3) };
        let Claim::Mine(first) = recent.claim(id(1)).await else { panic!("a free id was refused") };
        assert!(matches!(recent.claim(id(2)).await, Claim::Mine(_)), "another id waits");
        let second = recent.claim(id(1));
        tokio::pin!(second);
        assert!(futures_util::poll!(second.as_mut()).is_pending(), "two hold one id");
        drop(first); // its publish failed: the second may try
        let Claim::Mine(second) = second.await else { panic!("a failure was taken for a success") };
        let third = recent.claim(id(1));
        tokio::pin!(third);
        assert!(futures_util::poll!(third.as_mut()).is_pending());
        second.keep(taken);
        assert!(matches!(third.await, Claim::Taken(known) if known == taken));
        assert_eq!(recent.claimed.lock().map(|claimed| claimed.len()).ok(), Some(0), "claims outlive their requests");
    }
}
