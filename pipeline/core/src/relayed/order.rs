//! What an intake has read and not numbered yet, put back into the order in which each publisher sent it.
//!
//! A broker may give back what one reader held after it gave later parcels to the next: a reader that was cut off, whose
//! connection the broker believes in for some seconds. Parcels of a session carry 1, 2, 3 …, so the later ones wait for
//! the gap to close (I3). A gap of a send that failed never closes: the wait is bounded, from the arrival of the first
//! parcel behind it.
//! What waits keeps later parcels of other sessions with the same key behind it: they may be the same person's next word,
//! said to another process of the edge.

use crate::transport::{Arrival, Mark, Parcel};
use schemas::Key;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

/// A publisher's random name.
pub(crate) type Session = [u8; 16];

/// Parcels that wait for a gap; beyond it the oldest gap is taken for one that stays. A few reads of the broker.
const WAITING_MAX: usize = 4_096;

struct Waiting {
    session: Session,
    sequence: u64,
    parcel: Parcel,
}

/// A parcel whose turn it is.
pub(crate) struct Next {
    pub session: Session,
    pub sequence: u64,
    pub parcel: Parcel,
}

/// See the module's header.
pub(crate) struct Order {
    /// How long a gap is waited for.
    patience: Duration,
    /// In the order of arrival; what was handed on stays as its tag until everything before it was handed on.
    arrived: VecDeque<(u64, Option<Waiting>)>,
    /// Since when a session's lowest gap is known. Stays when the lane is read again.
    gaps: HashMap<Session, Instant>,
}

impl Order {
    pub(crate) fn new(patience: Duration) -> Order {
        Order { patience, arrived: VecDeque::new(), gaps: HashMap::new() }
    }

    /// Forgets what arrived: the broker gives it again.
    pub(crate) fn read_again(&mut self) {
        self.arrived.clear();
    }

    /// Whether something waits for a gap to close.
    pub(crate) fn has_gap(&self) -> bool {
        self.arrived.iter().any(|(_, waiting)| waiting.is_some())
    }

    /// Adds what arrived. False when it bears no mark of a publisher: it will be settled and nothing else.
    pub(crate) fn keep(&mut self, arrival: Arrival) -> bool {
        let waiting = match arrival.parcel.mark {
            Mark::Edge { session, sequence } => Some(Waiting { session, sequence, parcel: arrival.parcel }),
            Mark::Number(_) => None,
        };
        let marked = waiting.is_some();
        self.arrived.push_back((arrival.tag, waiting));
        marked
    }

    /// What can be numbered now, in order. `last` tells the highest number of a session that was taken before.
    pub(crate) fn ready(&mut self, last: impl Fn(&Session) -> u64, now: Instant) -> Vec<Next> {
        let sessions = self.arrived.iter().filter_map(|(_, waiting)| waiting.as_ref().map(|one| one.session));
        let mut lasts: BTreeMap<Session, u64> = sessions.map(|session| (session, last(&session))).collect();
        let mut ready = Vec::new();
        loop {
            // What was handed on may have closed a gap before something that arrived earlier: until nothing moves.
            while self.hand_on(&mut lasts, &mut ready, false) {}
            let lowest = self.gaps_behind(&lasts);
            // Sessions may wait for one another's keys in a ring, without a gap: then the first that came goes first.
            if lowest.is_empty() && self.hand_on(&mut lasts, &mut ready, true) {
                continue;
            }
            // Of a session that did not come again, because another process reads it now, nothing stays.
            let old = |since: &Instant| now.duration_since(*since) >= 2 * self.patience;
            self.gaps
                .retain(|session, since| lowest.contains_key(session) || !lasts.contains_key(session) && !old(since));
            let crowded = self.arrived.len() > WAITING_MAX;
            let given_up = lowest.into_iter().find(|(session, _)| {
                let since = *self.gaps.entry(*session).or_insert(now);
                crowded || now.duration_since(since) >= self.patience
            });
            match given_up {
                Some((session, lowest)) => {
                    lasts.insert(session, lowest - 1);
                    self.gaps.remove(&session);
                }
                None => return ready,
            }
        }
    }

    /// One walk over what arrived; with `first`, until the first of its session's turn, whatever has its key. False when
    /// nothing could be handed on.
    fn hand_on(&mut self, lasts: &mut BTreeMap<Session, u64>, ready: &mut Vec<Next>, first: bool) -> bool {
        let before = ready.len();
        let mut behind: HashMap<Key, Session> = HashMap::new();
        for (_, place) in &mut self.arrived {
            let Some(one) = place else { continue };
            let last = lasts.entry(one.session).or_default();
            let in_order = one.sequence <= *last + 1;
            let free = behind.get(&one.parcel.key).is_none_or(|session| *session == one.session);
            if !(in_order && (free || first)) {
                behind.entry(one.parcel.key).or_insert(one.session);
                continue;
            }
            *last = one.sequence.max(*last);
            ready.extend(place.take().map(|Waiting { session, sequence, parcel }| Next { session, sequence, parcel }));
            if first {
                break;
            }
        }
        ready.len() > before
    }

    /// The sessions that wait for a gap, with their lowest number above it.
    fn gaps_behind(&self, lasts: &BTreeMap<Session, u64>) -> BTreeMap<Session, u64> {
        let mut lowest: BTreeMap<Session, u64> = BTreeMap::new();
        for one in self.arrived.iter().filter_map(|(_, waiting)| waiting.as_ref()) {
            let known = lowest.entry(one.session).or_insert(one.sequence);
            *known = one.sequence.min(*known);
        }
        lowest.retain(|session, lowest| *lowest > lasts.get(session).copied().unwrap_or(0) + 1);
        lowest
    }

    /// The highest tag up to which everything was handed on, if there is a new one.
    pub(crate) fn settled(&mut self) -> Option<u64> {
        let mut settled = None;
        while let Some((tag, None)) = self.arrived.front() {
            settled = Some(*tag);
            self.arrived.pop_front();
        }
        settled
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::keys::Sealed;
    use schemas::MessageId;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn arrival(tag: u64, session: u8, sequence: u64, key: u8) -> Arrival {
        let mark = Mark::Edge { session: [session; 16], sequence };
        let parcel = Parcel {
            mark,
            key: Key([key; 16]),
            id: MessageId([0; 16]),
            body: Sealed::from_stored(bytes::Bytes::from_static(&[1])),
        };
        Arrival { tag, parcel }
    }

    /// Feeds (session, sequence, key) in this order of arrival, and tells what becomes ready.
    fn feed(order: &mut Order, arrivals: &[(u8, u64, u8)], first_tag: u64, now: Instant) -> Vec<(u8, u64)> {
        for (tag, (session, sequence, key)) in (first_tag..).zip(arrivals) {
            assert!(order.keep(arrival(tag, *session, *sequence, *key)));
        }
        ready(order, &[], now)
    }

    fn ready(order: &mut Order, lasts: &[(u8, u64)], now: Instant) -> Vec<(u8, u64)> {
        let last = |session: &Session| lasts.iter().find(|(one, _)| *one == session[0]).map_or(0, |(_, last)| *last);
        order.ready(last, now).into_iter().map(|next| (next.session[0], next.sequence)).collect()
    }

    #[test]
    fn what_a_broker_gives_back_behind_later_parcels_comes_before_them_again() {
        let (mut order, now) = (Order::new(PATIENCE), Instant::now());
        assert!(feed(&mut order, &[(1, 4, 0), (1, 5, 0), (1, 6, 0)], 10, now).is_empty());
        assert_eq!(order.settled(), None, "something that was not numbered would be settled");
        let taken = feed(&mut order, &[(1, 1, 0), (1, 2, 0), (1, 3, 0)], 20, now);
        assert_eq!(taken, (1..=6).map(|n| (1, n)).collect::<Vec<_>>());
        assert_eq!(order.settled(), Some(22));
        assert_eq!(order.settled(), None);
    }

    #[test]
    fn in_whatever_order_parcels_arrive_each_session_comes_out_ascending_and_whole() {
        let mut state = 7u64;
        for _ in 0..200 {
            let mut left: Vec<(u8, u64, u8)> =
                (1..=3u8).flat_map(|s| (1..=12).map(move |n| (s, n, u8::try_from(n % 4).unwrap()))).collect();
            let (mut order, now) = (Order::new(PATIENCE), Instant::now());
            let mut lasts = [(1, 0), (2, 0), (3, 0)];
            let mut out: Vec<(u8, u64)> = Vec::new();
            let mut tag = 0;
            while !left.is_empty() {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let (session, sequence, key) = left.swap_remove(usize::try_from(state >> 33).unwrap() % left.len());
                tag += 1;
                assert!(order.keep(arrival(tag, session, sequence, key)));
                for (session, sequence) in ready(&mut order, &lasts, now) {
                    let last = &mut lasts[usize::from(session) - 1].1;
                    assert_eq!(sequence, *last + 1, "session {session} is out of order");
                    *last = sequence;
                    out.push((session, sequence));
                }
            }
            assert_eq!(out.len(), 36, "something waits although nothing is missing");
            assert_eq!((order.settled(), order.has_gap()), (Some(36), false));
        }
    }

    #[test]
    fn a_gap_that_stays_holds_nothing_for_longer_than_the_patience() {
        let (mut order, now) = (Order::new(PATIENCE), Instant::now());
        assert_eq!(feed(&mut order, &[(1, 1, 0), (1, 3, 0), (1, 4, 0)], 1, now), [(1, 1)]);
        assert_eq!(order.settled(), Some(1));
        assert!(ready(&mut order, &[(1, 1)], now + PATIENCE / 2).is_empty());
        assert_eq!(ready(&mut order, &[(1, 1)], now + PATIENCE), [(1, 3), (1, 4)]);
        assert_eq!(order.settled(), Some(3));
        // The lost one comes after all: it is handed on, and what was taken tells whether it is new.
        assert_eq!(feed(&mut order, &[(1, 2, 0)], 9, now), Vec::new());
        assert_eq!(ready(&mut order, &[(1, 4)], now), [(1, 2)]);
    }

    #[test]
    fn reading_again_does_not_begin_the_wait_anew() {
        let (mut order, now) = (Order::new(PATIENCE), Instant::now());
        assert!(feed(&mut order, &[(1, 3, 0), (1, 2, 0)], 1, now).is_empty());
        assert!(order.has_gap());
        order.read_again();
        assert!(!order.has_gap());
        assert!(feed(&mut order, &[(1, 3, 0), (1, 2, 0)], 1, now + PATIENCE / 2).is_empty());
        assert_eq!(ready(&mut order, &[], now + PATIENCE), [(1, 2), (1, 3)], "order is lost with the gap");
        // The next gap is waited for from its own beginning.
        assert!(feed(&mut order, &[(1, 7, 0)], 5, now + PATIENCE).is_empty());
    }

    #[test]
    fn another_publishers_parcel_of_the_same_key_does_not_overtake_one_that_waits() {
        let (mut order, now) = (Order::new(PATIENCE), Instant::now());
        // Session 1 waits for its 1; of session 2 the same key waits too, another key does not.
        let arrivals = [(1, 2, 7), (2, 1, 7), (2, 2, 8)];
        assert!(feed(&mut order, &arrivals, 1, now).is_empty(), "a session's own order was broken");
        assert_eq!(feed(&mut order, &[(3, 1, 9)], 4, now), [(3, 1)], "a parcel waits that has nothing to wait for");
        assert_eq!(feed(&mut order, &[(1, 1, 7)], 5, now), [(1, 1), (1, 2), (2, 1), (2, 2)]);
        assert_eq!(order.settled(), Some(5));
    }

    #[test]
    fn a_flood_behind_a_gap_stays_bounded() {
        let (mut order, now) = (Order::new(PATIENCE), Instant::now());
        let many = u64::try_from(WAITING_MAX).unwrap();
        for n in 0..many {
            order.keep(arrival(n + 1, 1, n + 2, 0));
        }
        assert!(ready(&mut order, &[], now).is_empty());
        order.keep(arrival(many + 1, 1, many + 2, 0));
        let all = ready(&mut order, &[], now);
        assert_eq!(all.len(), WAITING_MAX + 1, "the gap was not given up");
        assert!(all.iter().zip(2..).all(|((_, sequence), n)| *sequence == n), "order is lost with the gap");
    }

    #[test]
    fn what_is_no_publishers_is_settled_and_not_handed_on() {
        let (mut order, now) = (Order::new(PATIENCE), Instant::now());
        let mut foreign = arrival(1, 0, 0, 0);
        foreign.parcel.mark = Mark::Number(7);
        assert!(!order.keep(foreign));
        assert!(ready(&mut order, &[], now).is_empty());
        assert_eq!(order.settled(), Some(1));
    }
}
