//! When to ask again somebody who did not answer: doubled waits up to a bound, for ever. Pure; the clock is the caller's.

use schemas::Millis;

/// The first wait.
const FIRST_MS: i64 = 1_000;
/// The longest: after an outage of hours everything goes on within a minute.
pub const LONGEST_MS: i64 = 60_000;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Backoff {
    /// Not before this instant.
    next: Millis,
    wait_ms: i64,
}

impl Backoff {
    /// Whether it is time.
    #[must_use]
    pub fn is_due(&self, now: Millis) -> bool {
        // A clock that was set back by more than the longest wait must not make the wait longer.
        now >= self.next || self.next.since(now) > LONGEST_MS
    }

    /// It failed: wait longer than last time.
    pub fn failed(&mut self, now: Millis) {
        self.wait_ms = (self.wait_ms * 2).clamp(FIRST_MS, LONGEST_MS);
        self.next = now.plus(self.wait_ms);
    }

    /// It succeeded.
    pub fn succeeded(&mut self) {
        *self = Backoff::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_minute_and_are_forgotten_with_the_first_success() {
        let mut backoff = Backoff::default();
        let mut now = Millis(1_000_000);
        let mut waits = Vec::new();
        for _ in 0..9 {
            assert!(backoff.is_due(now));
            backoff.failed(now);
            assert!(!backoff.is_due(now));
            waits.push(backoff.next.since(now) / 1_000);
            now = backoff.next;
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        backoff.failed(now);
        assert!(backoff.is_due(now.plus(-3_600_000)), "a clock that was set back stops the agent");
        backoff.succeeded();
        assert!(backoff.is_due(now));
    }
}
