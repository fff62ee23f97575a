//! What an intake has taken of one publisher's session: exact, and small whatever was sent.
//!
//! Parcels of a session carry 1, 2, 3 …; nearly all arrive in that order, so the state is the highest number and the holes
//! below it. A hole is a parcel on its way, or one whose sending failed and which may never come.

use crate::rows::V1;
use schemas::Millis;
use serde::{Deserialize, Serialize};

/// More holes than the sends in flight of any publisher. Beyond it the oldest are closed: what was in them was reported to
/// its producer as failed long ago.
const HOLES_MAX: usize = 4_096;

/// See the module's header. A row of [`INTAKES`](crate::slot::spaces::INTAKES).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    v: V1,
    /// The highest number taken.
    last: u64,
    /// Ranges below it that were not taken, both ends included, ascending.
    holes: Vec<(u64, u64)>,
    /// When something was taken last.
    pub at: Millis,
}

impl Taken {
    /// Nothing was taken yet.
    #[must_use]
    pub fn nothing(at: Millis) -> Taken {
        Taken { v: V1, last: 0, holes: Vec::new(), at }
    }

    /// The highest number taken.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Takes a number; false when it was taken before.
    pub fn take(&mut self, number: u64) -> bool {
        if number > self.last {
            if number > self.last + 1 {
                self.holes.push((self.last + 1, number - 1));
            }
            self.last = number;
            if self.holes.len() > HOLES_MAX {
                self.holes.remove(0);
            }
            return true;
        }
        let Ok(at) = self.holes.binary_search_by(|(first, last)| match (number < *first, number > *last) {
            (true, _) => std::cmp::Ordering::Greater,
            (_, true) => std::cmp::Ordering::Less,
            _ => std::cmp::Ordering::Equal,
        }) else {
            return false;
        };
        let (first, last) = self.holes[at];
        let left = (first < number).then(|| (first, number - 1));
        let right = (number < last).then(|| (number + 1, last));
        self.holes.splice(at..=at, left.into_iter().chain(right));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// A small generator, so that the order differs from run to run of the loop but not of the test.
    fn shuffled(seed: u64, count: u64) -> Vec<u64> {
        let mut numbers: Vec<u64> = (1..=count).chain(1..=count / 2).collect();
        let mut state = seed;
        for at in (1..numbers.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let other = usize::try_from(state >> 33).unwrap_or(0) % (at + 1);
            // Near swaps, as parcels in flight overtake each other, and some far ones, as repetitions do.
            numbers.swap(at, if state.is_multiple_of(7) { other } else { at.saturating_sub(other % 4) });
        }
        numbers
    }

    #[test]
    fn every_number_is_taken_exactly_once_in_whatever_order_it_comes() {
        for seed in 0..200 {
            let mut taken = Taken::nothing(Millis(0));
            let mut model = HashSet::new();
            for number in shuffled(seed, 300) {
                assert_eq!(taken.take(number), model.insert(number), "seed {seed}, number {number}");
            }
            assert!(taken.holes.is_empty(), "seed {seed}: holes are left although everything came");
        }
    }

    #[test]
    fn an_outage_of_many_failed_sends_keeps_the_row_small() {
        let mut taken = Taken::nothing(Millis(0));
        for number in (2..100_000).step_by(2) {
            assert!(taken.take(number));
        }
        assert_eq!(taken.holes.len(), HOLES_MAX);
        assert!(!taken.take(1), "a number long given up was taken");
        assert!(taken.take(99_997), "a young hole was closed");
    }
}
