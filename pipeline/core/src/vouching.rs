//! Whether the machine's clock may be stated to be accurate: what several time sources said of it, and what a steady clock
//! saw happen since.
//!
//! A source is measured from time to time by somebody with a network; here its last [`Measured`] offset is kept, with where
//! both clocks stood. The present offset is that one, less what the wall clock moved against the steady clock since: so a
//! step of two seconds shows at the next look, not at the next measurement. A source agrees when its offset, its own
//! uncertainty and the drift since stay within half of the accuracy; the other half is for what a restart adds.
//! More than half of all configured sources must agree, so one that lies is outvoted, and two can only stop.
//! Failure behaviour: [`Voucher::moment`] gives nothing, with the reason; nothing is stamped then (I8).

use crate::clock::Clock;
use prometheus::IntGauge;
use schemas::Millis;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How far a clock may drift between two measurements: 200 ppm, twice what a cheap quartz does. A millisecond in five seconds.
const DRIFT_PER_MS: i64 = 5_000;

/// An instant, and how well it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The instant.
    pub now: Millis,
    /// How far it may be from UTC, in milliseconds; none when no time source vouches for it.
    pub accuracy_ms: Option<u32>,
}

impl From<Millis> for Moment {
    /// An instant that nobody vouches for.
    fn from(now: Millis) -> Moment {
        Moment { now, accuracy_ms: None }
    }
}

/// What a source says of the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measured {
    /// The source's time less the wall clock's, in milliseconds.
    pub offset_ms: i64,
    /// How far that may be wrong: half the round trip, and what the source says of itself.
    pub uncertainty_ms: i64,
}

/// Why the time is not vouched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    /// Too few sources were heard lately.
    #[error("too few time sources were heard lately")]
    Silent,
    /// The sources were heard, and too few of them agree with the clock.
    #[error("the clock is outside its stated accuracy")]
    Off,
}

/// What is required of the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accuracy {
    /// What tokens state, in milliseconds.
    pub accuracy_ms: u32,
    /// How long a measurement counts, in milliseconds.
    pub fresh_ms: i64,
}

/// See the module's header.
pub struct Voucher {
    wall: Box<dyn Clock>,
    steady: Box<dyn Fn() -> i64 + Send + Sync>,
    required: Accuracy,
    /// How many sources agree.
    gauge: IntGauge,
    last: Mutex<Vec<Option<Kept>>>,
}

/// A measurement with where both clocks stood.
#[derive(Debug, Clone, Copy)]
struct Kept {
    measured: Measured,
    wall: Millis,
    steady: i64,
}

impl Voucher {
    /// A voucher over the machine's clocks, for so many sources.
    #[must_use]
    pub fn system(sources: usize, required: Accuracy, gauge: IntGauge) -> Voucher {
        let steady = Box::new(crate::clock::steady_ms);
        Voucher::over(Box::new(crate::clock::SystemClock), steady, sources, required, gauge)
    }

    /// Any two clocks; `steady` counts milliseconds from anywhere and is never set.
    #[must_use]
    pub fn over(
        wall: Box<dyn Clock>,
        steady: Box<dyn Fn() -> i64 + Send + Sync>,
        sources: usize,
        required: Accuracy,
        gauge: IntGauge,
    ) -> Voucher {
        Voucher { wall, steady, required, gauge, last: Mutex::new(vec![None; sources]) }
    }

    /// Keeps what a source said just now; none: it could not be asked, and its last word goes on to count while it is fresh.
    pub fn record(&self, source: usize, measured: Option<Measured>) {
        let (wall, steady) = (self.wall.now(), (self.steady)());
        if let (Some(measured), Some(place)) = (measured, self.last().get_mut(source)) {
            *place = Some(Kept { measured, wall, steady });
        }
    }

    /// The present instant, when enough sources agree with it.
    ///
    /// # Errors
    /// [`Doubt`].
    pub fn moment(&self) -> Result<Moment, Doubt> {
        let (wall, steady) = (self.wall.now(), (self.steady)());
        let last = self.last();
        let fresh: Vec<&Kept> = last
            .iter()
            .flatten()
            .filter(|kept| (0..=self.required.fresh_ms).contains(&(steady - kept.steady)))
            .collect();
        let bound = i64::from(self.required.accuracy_ms) / 2;
        let agreeing = fresh.iter().filter(|kept| kept.error_at(wall, steady) <= bound).count();
        self.gauge.set(i64::try_from(agreeing).unwrap_or(i64::MAX));
        let enough = last.len() / 2 + 1;
        if agreeing >= enough {
            Ok(Moment { now: wall, accuracy_ms: Some(self.required.accuracy_ms) })
        } else if fresh.len() < enough {
            Err(Doubt::Silent)
        } else {
            Err(Doubt::Off)
        }
    }

    fn last(&self) -> MutexGuard<'_, Vec<Option<Kept>>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// How far the wall clock may be from this source's time now.
    fn error_at(&self, wall: Millis, steady: i64) -> i64 {
        let passed = steady - self.steady;
        // What the wall clock moved beyond the time that passed, the source's time did not.
        let moved = wall.since(self.wall).saturating_sub(passed);
        let offset = self.measured.offset_ms.saturating_sub(moved).saturating_abs();
        offset.saturating_add(self.measured.uncertainty_ms.max(0)).saturating_add(passed / DRIFT_PER_MS)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::clock::FakeClock;
    use std::sync::Arc;

    const START: Millis = Millis(1_800_000_000_000);
    const MINUTE: i64 = 60_000;
    const GOOD: Option<Measured> = Some(Measured { offset_ms: 3, uncertainty_ms: 20 });

    struct Rig {
        wall: Arc<FakeClock>,
        steady: Arc<FakeClock>,
        gauge: IntGauge,
        voucher: Voucher,
    }

    impl Rig {
        fn new(sources: usize) -> Rig {
            let (wall, steady) = (Arc::new(FakeClock::at(START)), Arc::new(FakeClock::at(Millis(5))));
            let counts = steady.clone();
            let gauge = IntGauge::new("agreeing", "Test.").unwrap();
            let required = Accuracy { accuracy_ms: 1_000, fresh_ms: 20 * MINUTE };
            let told = wall.clone();
            let steady_of = Box::new(move || counts.now().0);
            let voucher = Voucher::over(Box::new(told), steady_of, sources, required, gauge.clone());
            Rig { wall, steady, gauge, voucher }
        }

        fn pass(&self, ms: i64) {
            self.wall.advance(ms);
            self.steady.advance(ms);
        }

        fn hear(&self, all: &[Option<Measured>]) {
            all.iter().enumerate().for_each(|(source, measured)| self.voucher.record(source, *measured));
        }
    }

    #[test]
    fn a_step_of_two_seconds_is_seen_at_once_either_way_and_forgiven_when_it_is_undone() {
        for step in [2_000, -2_000, 600, -600] {
            let rig = Rig::new(3);
            rig.hear(&[GOOD; 3]);
            rig.pass(1_000);
            assert_eq!(rig.voucher.moment(), Ok(Moment { now: START.plus(1_000), accuracy_ms: Some(1_000) }));
            rig.wall.advance(step);
            assert_eq!(rig.voucher.moment(), Err(Doubt::Off), "{step}");
            assert_eq!(rig.gauge.get(), 0);
            rig.wall.advance(-step);
            assert!(rig.voucher.moment().is_ok(), "{step}");
        }
    }

    #[test]
    fn a_step_that_sources_then_confirm_is_right() {
        let rig = Rig::new(1);
        rig.hear(&[Some(Measured { offset_ms: 2_000, uncertainty_ms: 5 })]);
        assert_eq!(rig.voucher.moment(), Err(Doubt::Off));
        rig.wall.advance(2_000);
        assert!(rig.voucher.moment().is_ok(), "the clock was put right by what the source had said");
    }

    #[test]
    fn one_source_that_lies_is_outvoted_and_two_stop_everything() {
        let lie = Some(Measured { offset_ms: 90_000, uncertainty_ms: 1 });
        let rig = Rig::new(3);
        rig.hear(&[GOOD, lie, GOOD]);
        assert!(rig.voucher.moment().is_ok());
        rig.hear(&[GOOD, lie, lie]);
        assert_eq!(rig.voucher.moment(), Err(Doubt::Off));
        let vague = Some(Measured { offset_ms: 0, uncertainty_ms: 501 });
        rig.hear(&[GOOD, vague, vague]);
        assert_eq!(rig.voucher.moment(), Err(Doubt::Off), "what a source does not know does not count");
    }

    #[test]
    fn silence_counts_for_twenty_minutes_and_no_longer() {
        let rig = Rig::new(2);
        assert_eq!(rig.voucher.moment(), Err(Doubt::Silent));
        rig.hear(&[GOOD, GOOD]);
        rig.pass(20 * MINUTE);
        rig.hear(&[None, None]);
        assert!(rig.voucher.moment().is_ok());
        rig.pass(1);
        assert_eq!(rig.voucher.moment(), Err(Doubt::Silent));
        rig.hear(&[GOOD, None]);
        assert_eq!(rig.voucher.moment(), Err(Doubt::Silent), "one of two is not more than half");
    }

    #[test]
    fn without_any_source_nothing_is_vouched_for() {
        assert_eq!(Rig::new(0).voucher.moment(), Err(Doubt::Silent));
    }
}
