//! The clock port: the only place that time comes from.

use prometheus::IntGauge;
use schemas::Millis;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Tells the time. Injected everywhere, so that a test drives windows, deadlines and retries.
pub trait Clock: Send + Sync + 'static {
    /// The present instant.
    fn now(&self) -> Millis;

    /// Whether the time told is the machine's; no while a [`ClockGuard`] holds it against a jump.
    fn is_steady(&self) -> bool {
        true
    }
}

impl<C: Clock + ?Sized> Clock for std::sync::Arc<C> {
    fn now(&self) -> Millis {
        (**self).now()
    }

    fn is_steady(&self) -> bool {
        (**self).is_steady()
    }
}

/// The machine's clock.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Millis {
        #[allow(clippy::disallowed_methods)] // this is the one place that time comes from
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}

/// How far the machine's clock may step and still be followed, milliseconds: an hour, so that what people and time
/// services put right in daily life passes, and what would close a day's windows does not.
pub const JUMP_MS: i64 = 3_600_000;

/// The machine's clock, as long as it agrees with the time that has passed.
///
/// The wall clock is compared with a steady one that no setting changes (on Linux it counts a suspended machine's time
/// too). While they agree within a bound, what the wall clock says holds: small steps and slow slews are followed. When
/// they part by more, somebody set the clock by days, or it is broken: then the platform's time goes on at the steady
/// clock's pace, so that no window, deadline or retry of the future is reached, [`Clock::is_steady`] says no, and an
/// error is logged. It ends when the wall clock comes back within the bound, or with the process: a new one begins with
/// what the wall clock says then. So a clock that was put right by more than the bound is followed after a restart.
pub struct ClockGuard {
    wall: Box<dyn Clock>,
    steady: Box<dyn Fn() -> i64 + Send + Sync>,
    bound: i64,
    /// In seconds, 0 while the wall clock is followed.
    gauge: IntGauge,
    track: Mutex<Track>,
}

/// Where both clocks stood when they were last compared and found in agreement.
#[derive(Debug, Clone, Copy)]
struct Track {
    wall: Millis,
    steady: i64,
    held: bool,
}

impl Track {
    /// The instant that holds, and by how much the wall clock is away from where it should be.
    fn tell(&mut self, wall: Millis, steady: i64, bound: i64) -> (Millis, i64) {
        let expected = self.wall.plus(steady - self.steady);
        let away = wall.since(expected);
        self.held = away.saturating_abs() > bound;
        if self.held {
            return (expected, away);
        }
        if steady - self.steady >= bound {
            // Not at every look: a clock that runs away in small steps must not lead the comparison along.
            *self = Track { wall, steady, held: false };
        }
        (wall, away)
    }
}

impl ClockGuard {
    /// The machine's clocks. `gauge` shows in seconds how far the wall clock is away while it is not followed.
    #[must_use]
    pub fn system(bound_ms: i64, gauge: IntGauge) -> ClockGuard {
        ClockGuard::over(Box::new(SystemClock), Box::new(steady_ms), bound_ms, gauge)
    }

    /// Any two clocks; `steady` counts milliseconds from anywhere and is never set.
    #[must_use]
    pub fn over(
        wall: Box<dyn Clock>,
        steady: Box<dyn Fn() -> i64 + Send + Sync>,
        bound_ms: i64,
        gauge: IntGauge,
    ) -> ClockGuard {
        let track = Track { wall: wall.now(), steady: steady(), held: false };
        ClockGuard { wall, steady, bound: bound_ms, gauge, track: Mutex::new(track) }
    }

    fn track(&self) -> MutexGuard<'_, Track> {
        self.track.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for ClockGuard {
    fn now(&self) -> Millis {
        let mut track = self.track();
        let was_held = track.held;
        let (now, away) = track.tell(self.wall.now(), (self.steady)(), self.bound);
        let is_held = track.held;
        drop(track);
        if is_held {
            self.gauge.set(away / 1_000);
        }
        if is_held != was_held {
            if is_held {
                tracing::error!(
                    seconds = away / 1_000,
                    "the machine's clock jumped and is not followed: set it right, or restart when it is right"
                );
            } else {
                self.gauge.set(0);
                tracing::warn!("the machine's clock is back and is followed again");
            }
        }
        now
    }

    fn is_steady(&self) -> bool {
        self.now();
        !self.track().held
    }
}

/// Milliseconds since the machine started, time asleep included.
#[cfg(target_os = "linux")]
pub(crate) fn steady_ms() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    now.tv_sec.saturating_mul(1_000).saturating_add(now.tv_nsec / 1_000_000)
}

/// Milliseconds since the first call. Where the system does not count the time asleep, a long sleep looks like a jump.
#[cfg(not(target_os = "linux"))]
pub(crate) fn steady_ms() -> i64 {
    static BEGUN: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    let since = BEGUN.get_or_init(std::time::Instant::now).elapsed();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// A clock that a test sets.
#[derive(Debug, Default)]
pub struct FakeClock(AtomicI64);

impl FakeClock {
    /// A clock that stands at `now`.
    #[must_use]
    pub fn at(now: Millis) -> FakeClock {
        FakeClock(AtomicI64::new(now.0))
    }

    /// Moves the clock forward.
    pub fn advance(&self, ms: i64) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Millis {
        Millis(self.0.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::sync::Arc;

    const HOUR: i64 = 3_600_000;
    const DAY: i64 = 24 * HOUR;
    const START: Millis = Millis(1_800_000_000_000);

    /// Two clocks that a test sets apart.
    struct Rig {
        wall: Arc<FakeClock>,
        steady: Arc<FakeClock>,
        gauge: IntGauge,
        guard: ClockGuard,
    }

    impl Rig {
        fn new() -> Rig {
            let (wall, steady) = (Arc::new(FakeClock::at(START)), Arc::new(FakeClock::at(Millis(77))));
            let gauge = IntGauge::new("away_seconds", "Test.").unwrap();
            let counts = steady.clone();
            let steady_of = Box::new(move || counts.now().0);
            let guard = ClockGuard::over(Box::new(wall.clone()), steady_of, HOUR, gauge.clone());
            Rig { wall, steady, gauge, guard }
        }

        fn pass(&self, ms: i64) {
            self.wall.advance(ms);
            self.steady.advance(ms);
        }
    }

    #[test]
    fn a_clock_set_400_days_ahead_reaches_no_future_and_is_followed_again_when_it_is_back() {
        let rig = Rig::new();
        rig.wall.advance(400 * DAY);
        assert_eq!(rig.guard.now(), START);
        assert!(!rig.guard.is_steady());
        assert_eq!(rig.gauge.get(), 400 * DAY / 1_000);
        // Time goes on, however long it lasts.
        for passed in 1..=50 {
            rig.pass(HOUR / 10);
            assert_eq!(rig.guard.now(), START.plus(passed * HOUR / 10));
        }
        rig.wall.advance(-400 * DAY);
        assert_eq!(rig.guard.now(), START.plus(5 * HOUR));
        assert!(rig.guard.is_steady());
        assert_eq!(rig.gauge.get(), 0);
    }

    #[test]
    fn a_clock_set_back_does_not_stop_the_platforms_time() {
        let rig = Rig::new();
        rig.wall.advance(-DAY);
        rig.pass(1_000);
        assert_eq!(rig.guard.now(), START.plus(1_000));
        assert!(!rig.guard.is_steady());
    }

    #[test]
    fn small_steps_and_slow_slews_are_followed() {
        let rig = Rig::new();
        for step in [30_000, -90_000, HOUR - 1_000] {
            rig.wall.advance(step);
            assert_eq!(rig.guard.now(), rig.wall.now());
        }
        // A second in every hundred, for ten days: two hours and a half.
        let rig = Rig::new();
        for _ in 0..10 * 24 * 60 {
            rig.pass(60_000);
            rig.wall.advance(600);
            assert_eq!(rig.guard.now(), rig.wall.now());
        }
        assert!(rig.guard.is_steady());
    }

    #[test]
    fn a_clock_that_runs_away_in_small_steps_is_left_too() {
        let rig = Rig::new();
        for _ in 0..100 {
            rig.pass(1_000);
            rig.wall.advance(HOUR / 10);
            rig.guard.now();
        }
        assert!(!rig.guard.is_steady());
        assert!(rig.guard.now().since(START) <= HOUR + 100_000, "many small steps went further than one may");
    }

    #[test]
    fn the_machines_own_clocks_agree() {
        let guard = ClockGuard::system(JUMP_MS, IntGauge::new("away_seconds", "Test.").unwrap());
        assert!(guard.is_steady());
        assert!(guard.now().since(SystemClock.now()).abs() < 1_000);
    }
}
