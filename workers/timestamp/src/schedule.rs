//! When windows end: a cron expression in UTC, or a fixed number of milliseconds counted from the epoch.
//!
//! Pure: an instant in, an instant out. A boundary belongs to the window that it begins.
//! Failure behaviour: an expression that is not one, or that stops some day, is refused when it is read.

use chrono::{DateTime, Utc};
use schemas::Millis;
use std::str::FromStr;

/// Every five minutes, on the clock's fives.
pub const DEFAULT: &str = "0 */5 * * * *";

/// The shortest fixed window: every window costs each hospital a signature and two rows.
pub const SHORTEST_MS: i64 = 100;

/// A schedule must still tick then (the `cron` crate knows years up to 2100).
const FAR: Millis = Millis(3_786_912_000_000); // 2090-01-01

/// Why a schedule was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// Not six or seven cron fields (seconds first).
    #[error("schedule is not a cron expression with seconds")]
    Expression,
    /// It has a last tick, so a bag would stay open for ever.
    #[error("schedule ends before 2090")]
    Ends,
    /// A fixed window below [`SHORTEST_MS`].
    #[error("window is under 100 milliseconds")]
    Short,
}

/// When windows end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Schedule {
    /// At the instants of a cron expression, UTC.
    Cron(Box<cron::Schedule>),
    /// Every so many milliseconds, aligned to the epoch.
    Every(i64),
}

impl Schedule {
    /// Reads a cron expression with seconds: `sec min hour day month weekday [year]`.
    ///
    /// # Errors
    /// [`ScheduleError`] when it is none, or when it ends.
    pub fn cron(expression: &str) -> Result<Schedule, ScheduleError> {
        let parsed = cron::Schedule::from_str(expression).map_err(|_| ScheduleError::Expression)?;
        let schedule = Schedule::Cron(Box::new(parsed));
        if schedule.next_boundary(FAR) == Millis::NEVER {
            return Err(ScheduleError::Ends);
        }
        Ok(schedule)
    }

    /// Windows of a fixed length.
    ///
    /// # Errors
    /// [`ScheduleError::Short`] below [`SHORTEST_MS`].
    pub fn every(ms: i64) -> Result<Schedule, ScheduleError> {
        if ms < SHORTEST_MS { Err(ScheduleError::Short) } else { Ok(Schedule::Every(ms)) }
    }

    /// The first boundary after the instant.
    #[must_use]
    pub fn next_boundary(&self, now: Millis) -> Millis {
        match self {
            Schedule::Every(ms) => Millis(now.0 - now.0.rem_euclid(*ms)).plus(*ms),
            Schedule::Cron(cron) => {
                // The seconds' fraction is cut: ticks lie on whole seconds, so the next one is the same.
                at(now).and_then(|instant| cron.after(&instant).next()).map_or(Millis::NEVER, millis)
            }
        }
    }

    /// The last boundary at or before the instant; the instant itself when there was none yet.
    #[must_use]
    pub fn last_boundary(&self, now: Millis) -> Millis {
        match self {
            Schedule::Every(ms) => Millis(now.0 - now.0.rem_euclid(*ms)),
            Schedule::Cron(cron) => {
                // `next_back` gives the last tick strictly before its start: a second later makes it "at or before".
                let after = at(now).and_then(|instant| instant.checked_add_signed(chrono::TimeDelta::seconds(1)));
                after.and_then(|instant| cron.after(&instant).next_back()).map_or(now, millis)
            }
        }
    }
}

/// The instant on the second.
fn at(instant: Millis) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(instant.0.div_euclid(1_000), 0)
}

fn millis(instant: DateTime<Utc>) -> Millis {
    Millis(instant.timestamp_millis())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_boundary_belongs_to_the_window_that_it_begins() {
        let five = Schedule::cron(DEFAULT).unwrap();
        let ten = Millis(1_767_261_600_000); // 2026-01-01T10:00:00Z
        assert_eq!(five.next_boundary(ten), ten.plus(300_000));
        assert_eq!(five.last_boundary(ten), ten);
        assert_eq!(five.next_boundary(ten.plus(-1)), ten);
        assert_eq!(five.last_boundary(ten.plus(-1)), ten.plus(-300_000));
        assert_eq!(five.last_boundary(ten.plus(299_999)), ten);
    }

    #[test]
    fn what_is_no_endless_schedule_is_refused() {
        assert_eq!(Schedule::cron("every five minutes"), Err(ScheduleError::Expression));
        assert_eq!(Schedule::cron("0 */5 * * * * 2026"), Err(ScheduleError::Ends));
        assert_eq!(Schedule::every(0), Err(ScheduleError::Short));
    }

    proptest! {
        #[test]
        fn no_instant_lies_outside_its_window(now in 0i64..3_000_000_000_000, which in 0usize..4) {
            let expressions = [DEFAULT, "0 0 * * * *", "*/7 * * * * *", "30 15 3 * * Mon"];
            let cron = Schedule::cron(expressions[which]).unwrap();
            for schedule in [cron, Schedule::Every(1_500 * (1 + which as i64))] {
                let (last, next) = (schedule.last_boundary(Millis(now)), schedule.next_boundary(Millis(now)));
                // before the first weekly tick of 1970 there is no boundary yet
                prop_assert!(last.0 <= now && now < next.0);
                if last.0 < now {
                    prop_assert_eq!(schedule.next_boundary(last), next);
                }
            }
        }
    }
}
