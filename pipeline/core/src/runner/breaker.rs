//! One circuit breaker per downstream: after consecutive failures nothing is started for a while.

use schemas::Millis;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// So many consecutive failures open a breaker: fewer would open it on a single slow moment.
const FAILURES_TO_OPEN: u32 = 5;
/// So long a breaker stays open before one attempt is let through.
const OPEN_MS: i64 = 10_000;

#[derive(Debug, Default, Clone, Copy)]
struct State {
    failures: u32,
    open_until: Millis,
}

/// The breakers of one process, by downstream name.
#[derive(Debug, Default)]
pub struct Breakers(Mutex<HashMap<&'static str, State>>);

impl Breakers {
    /// Until when nothing may be started for this downstream; none when it is closed.
    #[must_use]
    pub fn open_until(&self, downstream: &'static str, now: Millis) -> Option<Millis> {
        let states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        states.get(downstream).map(|state| state.open_until).filter(|until| *until > now)
    }

    /// Notes a success: the breaker closes.
    pub fn succeeded(&self, downstream: &'static str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(downstream);
    }

    /// Notes a failure. True when it opened the breaker.
    pub fn failed(&self, downstream: &'static str, now: Millis) -> bool {
        let mut states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let state = states.entry(downstream).or_default();
        state.failures = state.failures.saturating_add(1);
        let opens = state.failures >= FAILURES_TO_OPEN;
        if opens {
            state.open_until = now.plus(OPEN_MS);
        }
        opens
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_breaker_opens_after_consecutive_failures_and_closes_on_success() {
        let breakers = Breakers::default();
        for _ in 1..FAILURES_TO_OPEN {
            assert!(!breakers.failed("tsa", Millis(0)));
        }
        assert_eq!(breakers.open_until("tsa", Millis(0)), None);
        assert!(breakers.failed("tsa", Millis(0)));
        assert_eq!(breakers.open_until("tsa", Millis(1)), Some(Millis(OPEN_MS)));
        assert_eq!(breakers.open_until("tsa", Millis(OPEN_MS)), None, "one attempt is let through");
        breakers.succeeded("tsa");
        assert!(!breakers.failed("tsa", Millis(OPEN_MS)), "the count begins anew");
    }
}
