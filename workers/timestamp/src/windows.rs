//! How windows follow each other: pure arithmetic on a hospital's [`OpenBag`].
//!
//! Invariants (I6): bags are numbered 1, 2, 3 … ; each begins where the one before it ends; an entry is in the bag whose
//! window holds its accepted time; a bag with entries spans one window; an empty bag spans consecutive windows up to
//! `merge_ms`. Windows are closed lazily, by whatever message comes first after their end, so a process that was down
//! catches up exactly once, with the same bags as if its ticks had come late.
//! Failure behaviour: none; a clock that steps back is held at the start of the open bag and at its last entry. A clock that
//! steps far ahead would take the open bag with it for good, so the composition root hands in a
//! [`zegel_core::ClockGuard`], which does not follow such a step. It compares with the time that passed since the process
//! began: a clock that is wrong already when the process starts looks like an outage, and is believed.

use crate::rows::OpenBag;
use crate::schedule::Schedule;
use schemas::messages::BagClosed;
use schemas::{MailboxAddress, Millis};
use zegel_core::rows::V1;

/// Empty windows share a bag up to an hour: 24 instead of 288 tokens a day for a hospital at rest.
pub const MERGE_MS: i64 = 3_600_000;
/// A bag is closed early at so many entries: about 90 MB of XML.
pub const BAG_MAX: u64 = 1_000_000;
/// After an outage at most so many empty bags are made (a week of hours); the last takes the rest, so that a step stays
/// small whatever the clock says.
const CATCH_UP_MAX: usize = 168;

/// The rules of windows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Windows {
    /// When windows end.
    pub schedule: Schedule,
    /// Longest span of an empty bag, milliseconds.
    pub merge_ms: i64,
    /// A bag with so many entries is closed early.
    pub bag_max: u64,
}

/// What a bag is rolled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Entries are about to be accepted: the open bag must be of the present window alone.
    Entries,
    /// Time passes: an empty bag may stay open.
    Tick,
}

impl Windows {
    /// The given schedule with the usual limits.
    #[must_use]
    pub fn new(schedule: Schedule) -> Windows {
        Windows { schedule, merge_ms: MERGE_MS, bag_max: BAG_MAX }
    }

    /// A hospital's first window begins now.
    #[must_use]
    pub fn enrol(&self, hospital: MailboxAddress, now: Millis) -> OpenBag {
        OpenBag {
            v: V1,
            hospital,
            enrolled: now,
            sequence: 1,
            start: now,
            end: self.schedule.next_boundary(now),
            count: 0,
            chunks: 0,
            last_accepted: now,
            salted: false,
        }
    }

    /// The instant that holds for the bag: the clock's, but never before what the bag has seen.
    #[must_use]
    pub fn instant(bag: &OpenBag, now: Millis) -> Millis {
        now.max(bag.start).max(bag.last_accepted)
    }

    /// Closes what has ended at `now` (from [`Windows::instant`]) and returns the closed bags in order.
    pub fn roll(&self, bag: &mut OpenBag, now: Millis, cause: Cause) -> Vec<BagClosed> {
        let mut closed = Vec::new();
        if now < bag.end && (bag.count > 0 || cause == Cause::Tick) {
            return closed;
        }
        if bag.count > 0 {
            closed.push(self.close(bag, bag.end));
        }
        let boundary = self.schedule.last_boundary(now);
        loop {
            let full = self.longest_empty(bag.start);
            let last = closed.len() + 1 >= CATCH_UP_MAX;
            if full <= boundary && !last {
                closed.push(self.close(bag, full));
            } else if bag.start < boundary && (cause == Cause::Entries || last) {
                closed.push(self.close(bag, boundary));
            } else {
                break;
            }
        }
        bag.end = self.schedule.next_boundary(now);
        closed
    }

    /// Closes the bag when it is full, right after its last accepted entry.
    pub fn close_full(&self, bag: &mut OpenBag) -> Option<BagClosed> {
        // One millisecond later is at most the window's end, because an entry is accepted before it.
        (bag.count >= self.bag_max).then(|| self.close(bag, bag.last_accepted.plus(1)))
    }

    /// Ends the bag at `end` and opens the next one there.
    fn close(&self, bag: &mut OpenBag, end: Millis) -> BagClosed {
        debug_assert!(bag.start < end, "a window has a length");
        let closed = BagClosed {
            hospital: bag.hospital.clone(),
            sequence: bag.sequence,
            start: bag.start,
            end,
            count: bag.count,
            salted: bag.salted,
        };
        bag.sequence += 1;
        bag.start = end;
        bag.end = self.schedule.next_boundary(end);
        bag.count = 0;
        bag.chunks = 0;
        closed
    }

    /// Where an empty bag that begins at `start` ends at the latest: a boundary within `merge_ms`, or the next one.
    fn longest_empty(&self, start: Millis) -> Millis {
        let within = self.schedule.last_boundary(start.plus(self.merge_ms));
        if within > start { within } else { self.schedule.next_boundary(start) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use crate::schedule::DEFAULT;

    const MINUTE: i64 = 60_000;
    /// 2026-01-01T10:00:00Z
    const TEN: Millis = Millis(1_767_261_600_000);

    fn opened(at: Millis) -> (Windows, OpenBag) {
        let windows = Windows::new(Schedule::cron(DEFAULT).unwrap());
        let bag = windows.enrol("NIHII-HOSPITAL:71000436".parse().unwrap(), at);
        (windows, bag)
    }

    fn spans(closed: &[BagClosed]) -> Vec<(i64, i64, u64)> {
        closed.iter().map(|b| (b.start.since(TEN) / MINUTE, b.end.since(TEN) / MINUTE, b.count)).collect()
    }

    #[test]
    fn an_entry_after_empty_windows_gets_a_bag_of_its_own() {
        let (windows, mut bag) = opened(TEN.plus(2 * MINUTE));
        assert!(windows.roll(&mut bag, TEN.plus(5 * MINUTE), Cause::Tick).is_empty());
        assert_eq!(bag.end, TEN.plus(10 * MINUTE));
        let closed = windows.roll(&mut bag, TEN.plus(12 * MINUTE), Cause::Entries);
        assert_eq!(spans(&closed), [(2, 10, 0)]);
        assert_eq!((bag.sequence, bag.start, bag.end), (2, TEN.plus(10 * MINUTE), TEN.plus(15 * MINUTE)));
    }

    #[test]
    fn empty_windows_share_a_bag_for_an_hour_at_most() {
        let (windows, mut bag) = opened(TEN.plus(2 * MINUTE));
        let ticks = (1..=24).flat_map(|n| windows.roll(&mut bag, TEN.plus(n * 5 * MINUTE), Cause::Tick));
        assert_eq!(spans(&ticks.collect::<Vec<_>>()), [(2, 60, 0), (60, 120, 0)]);
    }

    #[test]
    fn an_outage_is_caught_up_once_in_hours() {
        let (windows, mut bag) = opened(TEN);
        bag.count = 3;
        let closed = windows.roll(&mut bag, TEN.plus(140 * MINUTE), Cause::Tick);
        assert_eq!(spans(&closed), [(0, 5, 3), (5, 65, 0), (65, 125, 0)]);
        assert!(windows.roll(&mut bag, TEN.plus(140 * MINUTE), Cause::Tick).is_empty());
        assert_eq!(bag.end, TEN.plus(145 * MINUTE));
    }

    #[test]
    fn an_outage_of_years_makes_a_bounded_number_of_bags() {
        let (windows, mut bag) = opened(TEN);
        let closed = windows.roll(&mut bag, TEN.plus(3 * 365 * 24 * 60 * MINUTE), Cause::Tick);
        assert_eq!(closed.len(), CATCH_UP_MAX);
        assert!(closed.windows(2).all(|pair| pair[0].end == pair[1].start));
        assert_eq!(bag.start, TEN.plus(3 * 365 * 24 * 60 * MINUTE));
    }

    #[test]
    fn a_full_bag_closes_after_its_last_entry_and_the_window_goes_on() {
        let (mut windows, mut bag) = opened(TEN);
        windows.bag_max = 10;
        (bag.count, bag.last_accepted) = (10, TEN.plus(7));
        let closed = windows.close_full(&mut bag).unwrap();
        assert_eq!((closed.end, bag.start, bag.end), (TEN.plus(8), TEN.plus(8), TEN.plus(5 * MINUTE)));
        assert_eq!(Windows::instant(&bag, TEN), TEN.plus(8));
    }
}
