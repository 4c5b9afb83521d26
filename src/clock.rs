//! The only source of time: UTC microseconds, in a clock that tests can move.
//!
//! Both databases keep microseconds exactly, so a value reads back as it was written.

use std::fmt;
use std::future::Future;
use std::ops::{Add, Sub};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

/// An instant: microseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The instant `micros` microseconds after the Unix epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the Unix epoch, as the databases store it.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, as JWTs carry it.
    pub const fn as_seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// The time from `earlier` to `self`, or nothing when it lies after.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// RFC 3339 in UTC with microseconds, such as `2026-01-31T12:00:00.000000Z`.
    pub fn to_rfc3339(self) -> String {
        chrono::DateTime::from_timestamp_micros(self.0)
            .map_or_else(|| self.0.to_string(), |time| time.to_rfc3339_opts(chrono::SecondsFormat::Micros, true))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(micros))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Self(self.0.saturating_sub(micros))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.to_rfc3339())
    }
}

/// A future that ends when the clock reaches its instant.
pub type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The App's clock. Clones share one time.
#[derive(Clone)]
pub struct Clock(Arc<Source>);

enum Source {
    System(SystemSource),
    Manual(watch::Sender<Timestamp>),
}

impl Clock {
    /// The machine's clock, made monotonic: it follows the wall clock while that moves smoothly, and ignores steps of
    /// more than two seconds until the next start. A step must not call a whole fleet OFFLINE.
    pub fn system() -> Self {
        Self(Arc::new(Source::System(SystemSource::new())))
    }

    /// A clock that stands at `start` until the returned hand moves it. For tests.
    pub fn manual(start: Timestamp) -> (Self, ManualClock) {
        let (sender, _) = watch::channel(start);
        let clock = Self(Arc::new(Source::Manual(sender)));
        (clock.clone(), ManualClock(clock))
    }

    /// The current time.
    pub fn now(&self) -> Timestamp {
        match &*self.0 {
            Source::System(source) => source.now(),
            Source::Manual(now) => *now.borrow(),
        }
    }

    /// Ends once [`Clock::now`] is at or past `deadline`.
    pub fn sleep_until(&self, deadline: Timestamp) -> Sleep {
        match &*self.0 {
            Source::System(source) => Box::pin(tokio::time::sleep(deadline.since(source.now()))),
            Source::Manual(now) => {
                let mut now = now.subscribe();
                Box::pin(async move {
                    if now.wait_for(|now| *now >= deadline).await.is_err() {
                        // The clock is gone and will never get there.
                        std::future::pending::<()>().await;
                    }
                })
            }
        }
    }

    /// Like [`Clock::sleep_until`]; without a deadline it never ends.
    pub fn sleep_until_any(&self, deadline: Option<Timestamp>) -> Sleep {
        deadline.map_or_else(|| -> Sleep { Box::pin(std::future::pending()) }, |deadline| self.sleep_until(deadline))
    }

    /// Ends `duration` from now.
    pub fn sleep(&self, duration: Duration) -> Sleep {
        self.sleep_until(self.now() + duration)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Clock({})", self.now())
    }
}

/// The hand of a manual clock.
#[derive(Clone, Debug)]
pub struct ManualClock(Clock);

impl ManualClock {
    /// Moves the clock on and wakes what slept until then.
    pub fn advance(&self, duration: Duration) {
        if let Source::Manual(now) = &*self.0.0 {
            now.send_modify(|now| *now = *now + duration);
        }
    }
}

/// A wall clock read through a monotonic one.
struct SystemSource {
    origin: Instant,
    /// What to add to the microseconds since `origin` to get the time; follows small corrections of the wall clock.
    offset: AtomicI64,
}

/// Corrections of the wall clock up to this are followed, larger ones are steps and ignored.
const LARGEST_CORRECTION_MICROS: i64 = 2_000_000;

impl SystemSource {
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    fn new() -> Self {
        Self { origin: Instant::now(), offset: AtomicI64::new(wall_micros()) }
    }

    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    fn now(&self) -> Timestamp {
        let elapsed = i64::try_from(Instant::now().duration_since(self.origin).as_micros()).unwrap_or(i64::MAX);
        let offset = self.offset.load(Ordering::Relaxed);
        let now = elapsed.saturating_add(offset);
        let correction = wall_micros() - now;
        // Only forward: time that was handed out once must not come again.
        if correction > 1_000 && correction < LARGEST_CORRECTION_MICROS {
            self.offset.store(offset + correction, Ordering::Relaxed);
            return Timestamp(now + correction);
        }
        Timestamp(now)
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the clock")]
fn wall_micros() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// Measures how long something took. For figures that people read, never for rules.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts to measure.
    #[expect(clippy::disallowed_methods, reason = "measuring is not a rule about time")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// The time since the start.
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_manual_clock_wakes_sleepers_when_it_is_moved() {
        let (clock, hand) = Clock::manual(Timestamp::from_micros(0));
        let sleeper = tokio::spawn(clock.sleep(Duration::from_mins(1)));
        tokio::task::yield_now().await;
        hand.advance(Duration::from_secs(59));
        tokio::task::yield_now().await;
        assert!(!sleeper.is_finished());
        hand.advance(Duration::from_secs(1));
        sleeper.await.unwrap();
        assert_eq!(clock.now().as_seconds(), 60);
    }

    #[test]
    fn the_system_clock_never_runs_backwards() {
        let clock = Clock::system();
        let mut last = clock.now();
        for _ in 0..10_000 {
            let now = clock.now();
            assert!(now >= last);
            last = now;
        }
    }

    #[test]
    fn times_read_as_rfc_3339() {
        let time = Timestamp::from_micros(1_700_000_000_123_456);
        assert_eq!(time.to_rfc3339(), "2023-11-14T22:13:20.123456Z");
    }
}
