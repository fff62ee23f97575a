//! What an owner keeps in memory of its slot's parked messages: who is first of each key, and when it is due.
//!
//! Only the first parked message of a key is ever scheduled; the others wait for it to leave, so a key's order holds
//! (I3). Bounded by the parking budget: above it the slot takes nothing new (I7).

use crate::store::ParkedHead;
use schemas::{Key, Millis};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The parked messages of one slot.
#[derive(Debug, Default)]
pub(crate) struct Parking {
    by_key: HashMap<Key, BTreeMap<u64, ParkedHead>>,
    due: BTreeSet<(Millis, u64, Key)>,
    count: usize,
    bytes: usize,
}

impl Parking {
    /// Adds a message or replaces what is known of it.
    pub fn insert(&mut self, head: ParkedHead) {
        self.remove(head.number, head.key);
        let queue = self.by_key.entry(head.key).or_default();
        if let Some(first) = queue.values().next().filter(|first| first.number > head.number) {
            self.due.remove(&(first.due, first.number, head.key));
        }
        queue.insert(head.number, head);
        self.count += 1;
        self.bytes += head.bytes;
        self.schedule_first(head.key);
    }

    /// Takes a message out; the next of its key becomes the first.
    pub fn remove(&mut self, number: u64, key: Key) {
        let Some(queue) = self.by_key.get_mut(&key) else { return };
        let Some(head) = queue.remove(&number) else { return };
        self.count -= 1;
        self.bytes -= head.bytes;
        self.due.remove(&(head.due, number, key));
        if queue.is_empty() {
            self.by_key.remove(&key);
        } else {
            self.schedule_first(key);
        }
    }

    /// Whether a message of this key waits, so that later ones must wait behind it.
    pub fn holds(&self, key: Key) -> bool {
        self.by_key.contains_key(&key)
    }

    /// Whether this message is the first of its key.
    pub fn is_first(&self, number: u64, key: Key) -> bool {
        self.by_key.get(&key).and_then(|queue| queue.keys().next()) == Some(&number)
    }

    /// Messages that may be tried now, at most `limit`, each key's in order: the first of a key when it is due, and those
    /// behind it, which may follow in the same batch.
    pub fn ready(&self, now: Millis, limit: usize) -> Vec<ParkedHead> {
        let mut ready = Vec::new();
        for (_, _, key) in self.due.range(..=(now, u64::MAX, Key([u8::MAX; 16]))) {
            let Some(queue) = self.by_key.get(key) else { continue };
            let room = limit.saturating_sub(ready.len());
            if room == 0 {
                break;
            }
            let runnable = queue.values().take_while(|head| head.due <= now).take(room);
            for head in runnable {
                ready.push(*head);
                if head.job_pending {
                    break; // nothing follows a job that has not ended
                }
            }
        }
        ready.sort_unstable_by_key(|head| head.number);
        ready
    }

    /// When the next message is due; none when nothing waits for the clock.
    pub fn next_due(&self) -> Option<Millis> {
        self.due.first().map(|(due, _, _)| *due).filter(|due| *due != Millis::NEVER)
    }

    /// Whether some message waits for neither clock nor job, that is, for an operator.
    pub fn has_held(&self) -> bool {
        self.due.range((Millis::NEVER, 0, Key([0; 16]))..).any(|(_, number, key)| {
            self.by_key.get(key).and_then(|queue| queue.get(number)).is_some_and(|head| !head.job_pending)
        })
    }

    /// How many messages are parked.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Bytes of their envelopes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn schedule_first(&mut self, key: Key) {
        if let Some(first) = self.by_key.get(&key).and_then(|queue| queue.values().next()) {
            self.due.insert((first.due, first.number, key));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(number: u64, key: u8, due: i64) -> ParkedHead {
        ParkedHead { number, key: Key([key; 16]), due: Millis(due), bytes: 10, job_pending: false }
    }

    #[test]
    fn only_the_first_of_a_key_is_scheduled_and_the_next_follows_it() {
        let mut parking = Parking::default();
        parking.insert(head(1, 1, 100));
        parking.insert(head(2, 1, 0));
        parking.insert(head(3, 2, 50));
        assert_eq!(parking.next_due(), Some(Millis(50)));
        assert_eq!(parking.ready(Millis(50), 10).iter().map(|h| h.number).collect::<Vec<_>>(), [3]);
        assert_eq!(parking.ready(Millis(100), 10).iter().map(|h| h.number).collect::<Vec<_>>(), [1, 2, 3]);
        parking.remove(1, Key([1; 16]));
        assert_eq!(parking.next_due(), Some(Millis(0)));
        parking.remove(2, Key([1; 16]));
        assert!(!parking.holds(Key([1; 16])));
        assert_eq!((parking.count(), parking.bytes()), (1, 10));
    }

    #[test]
    fn a_message_parked_again_later_is_not_due_at_its_old_time() {
        let mut parking = Parking::default();
        parking.insert(head(1, 1, 10));
        parking.insert(head(1, 1, 500));
        assert!(parking.ready(Millis(10), 10).is_empty());
        assert_eq!(parking.count(), 1);
        parking.insert(ParkedHead { due: Millis::NEVER, ..head(1, 1, 0) });
        assert_eq!(parking.next_due(), None);
        assert!(parking.has_held());
    }
}
