//! Two small memories of the front, both bounded and both only shortcuts: forgetting costs a read, never correctness.
//!
//! [`Recent`] holds submissions that this process has acknowledged, so that a repetition is recognised before the
//! worker has written its row. [`BoxesSeen`] holds boxes that exist; boxes are never taken away, so an entry cannot lie.

use schemas::{Key, MessageId, Millis};
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

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

/// Two generations: when the young one is full it becomes the old one.
#[derive(Debug, Default)]
pub(crate) struct Recent(Mutex<[HashMap<MessageId, Taken>; 2]>);

impl Recent {
    pub(crate) fn get(&self, id: MessageId) -> Option<Taken> {
        let both = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        both[0].get(&id).or_else(|| both[1].get(&id)).copied()
    }

    pub(crate) fn put(&self, id: MessageId, taken: Taken) {
        let mut both = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if both[0].len() >= GENERATION {
            both.swap(0, 1);
            both[0].clear();
        }
        both[0].insert(id, taken);
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
        let held: usize = recent.0.lock().map(|both| both[0].len() + both[1].len()).unwrap_or(usize::MAX);
        assert!(held <= 2 * GENERATION, "{held} entries are held");
    }
}
