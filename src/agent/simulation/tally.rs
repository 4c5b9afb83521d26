//! What a simulated fleet counts, and the report made of it.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use serde::Serialize;

use crate::clock::Stopwatch;

use super::super::client::ClientError;

/// The kinds of calls that are told apart.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Registration,
    Session,
    Heartbeat,
    Deregistration,
}

/// How a simulation went.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// How many runners were to be played.
    pub runners: u32,
    /// How long they were played, once all were registered.
    pub seconds: f64,
    /// Runners that were registered.
    pub registrations: Figures,
    /// Sessions that were opened, renewals included.
    pub sessions: Figures,
    /// Heartbeats; the rate is that of the time when all runners were registered.
    pub heartbeats: Figures,
    /// Runners that were removed at the end.
    pub deregistrations: Figures,
    /// Failed calls by error code; those without an answer are `UNREACHABLE`.
    pub errors_by_code: BTreeMap<String, u64>,
    /// What the first failed call was told.
    pub first_error: Option<String>,
    /// Whether no call failed, not even one that succeeded when it was made again.
    pub ok: bool,
}

impl Report {
    /// How many calls failed.
    pub fn errors(&self) -> u64 {
        self.errors_by_code.values().sum()
    }
}

/// The figures of one kind of calls. Times are those of the calls that succeeded.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Figures {
    /// Calls that succeeded.
    pub count: u64,
    /// Of those, how many a second, from the first call to the last answer.
    pub per_second: f64,
    /// Calls that failed.
    pub errors: u64,
    /// Half of the calls were faster.
    pub p50_millis: f64,
    /// Nine of ten calls were faster.
    pub p90_millis: f64,
    /// Ninety-nine of a hundred calls were faster.
    pub p99_millis: f64,
    /// The slowest call.
    pub max_millis: f64,
}

/// What was counted while all runners were registered.
#[derive(Clone, Copy, Default)]
pub(super) struct Played {
    pub(super) time: Duration,
    pub(super) heartbeats: u64,
}

/// Counts calls. Shared by all runners.
pub(super) struct Tally {
    stopwatch: Stopwatch,
    registrations: Mutex<Measure>,
    sessions: Mutex<Measure>,
    heartbeats: Mutex<Measure>,
    deregistrations: Mutex<Measure>,
    errors: Mutex<Errors>,
}

/// An hour: longer calls are counted as that long.
const LONGEST_MICROS: u64 = 3_600_000_000;

struct Measure {
    /// Microseconds.
    histogram: Histogram<u64>,
    errors: u64,
    first_call: Option<Duration>,
    last_answer: Duration,
}

#[derive(Default)]
struct Errors {
    by_code: BTreeMap<String, u64>,
    first: Option<String>,
    count: u64,
}

impl Tally {
    pub(super) fn new() -> Self {
        let measure = || Mutex::new(Measure::new());
        Self {
            stopwatch: Stopwatch::start(),
            registrations: measure(),
            sessions: measure(),
            heartbeats: measure(),
            deregistrations: measure(),
            errors: Mutex::default(),
        }
    }

    /// Makes a call and counts it. A call that is dropped before its answer is not counted.
    pub(super) async fn measure<T>(
        &self,
        kind: Kind,
        call: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        let started = self.stopwatch.elapsed();
        let result = call.await;
        self.of(kind).lock().record(started, self.stopwatch.elapsed(), result.is_ok());
        if let Err(error) = &result {
            self.errors.lock().record(error);
        }
        result
    }

    /// The time since the start.
    pub(super) fn elapsed(&self) -> Duration {
        self.stopwatch.elapsed()
    }

    /// Calls that succeeded.
    pub(super) fn count(&self, kind: Kind) -> u64 {
        self.of(kind).lock().histogram.len()
    }

    /// Calls that failed.
    pub(super) fn errors(&self) -> u64 {
        self.errors.lock().count
    }

    pub(super) fn report(&self, runners: u32, played: Played) -> Report {
        let figures = |kind| self.of(kind).lock().figures();
        let mut heartbeats = figures(Kind::Heartbeat);
        if !played.time.is_zero() {
            heartbeats.per_second = rate(played.heartbeats, played.time);
        }
        let errors = self.errors.lock();
        Report {
            runners,
            seconds: thousandths(played.time.as_secs_f64()),
            registrations: figures(Kind::Registration),
            sessions: figures(Kind::Session),
            heartbeats,
            deregistrations: figures(Kind::Deregistration),
            errors_by_code: errors.by_code.clone(),
            first_error: errors.first.clone(),
            ok: errors.count == 0,
        }
    }

    const fn of(&self, kind: Kind) -> &Mutex<Measure> {
        match kind {
            Kind::Registration => &self.registrations,
            Kind::Session => &self.sessions,
            Kind::Heartbeat => &self.heartbeats,
            Kind::Deregistration => &self.deregistrations,
        }
    }
}

impl Measure {
    fn new() -> Self {
        Self {
            histogram: Histogram::new_with_bounds(1, LONGEST_MICROS, 3).expect("the bounds and three digits are valid"),
            errors: 0,
            first_call: None,
            last_answer: Duration::ZERO,
        }
    }

    fn record(&mut self, started: Duration, ended: Duration, is_ok: bool) {
        self.first_call = Some(self.first_call.map_or(started, |first| first.min(started)));
        self.last_answer = self.last_answer.max(ended);
        if is_ok {
            let micros = u64::try_from(ended.saturating_sub(started).as_micros()).unwrap_or(u64::MAX);
            self.histogram.saturating_record(micros);
        } else {
            self.errors += 1;
        }
    }

    fn figures(&self) -> Figures {
        let quantile = |quantile| millis(self.histogram.value_at_quantile(quantile));
        let span = self.last_answer.saturating_sub(self.first_call.unwrap_or_default());
        Figures {
            count: self.histogram.len(),
            per_second: rate(self.histogram.len(), span),
            errors: self.errors,
            p50_millis: quantile(0.5),
            p90_millis: quantile(0.9),
            p99_millis: quantile(0.99),
            max_millis: millis(self.histogram.max()),
        }
    }
}

impl Errors {
    fn record(&mut self, error: &ClientError) {
        self.count += 1;
        *self.by_code.entry(error.code().to_owned()).or_default() += 1;
        if self.first.is_none() {
            self.first = Some(error.to_string());
        }
    }
}

fn rate(count: u64, time: Duration) -> f64 {
    if time.is_zero() {
        return 0.0;
    }
    let count = f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    thousandths(count / time.as_secs_f64())
}

fn millis(micros: u64) -> f64 {
    thousandths(Duration::from_micros(micros).as_secs_f64() * 1_000.0)
}

/// More digits were never measured.
fn thousandths(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_counts_successes_and_failures_apart() {
        let mut measure = Measure::new();
        measure.record(Duration::from_millis(500), Duration::from_millis(510), true);
        measure.record(Duration::from_millis(600), Duration::from_millis(900), false);
        measure.record(Duration::from_secs(2), Duration::from_millis(2_500), true);
        let figures = measure.figures();
        assert_eq!((figures.count, figures.errors), (2, 1));
        assert!((figures.per_second - 1.0).abs() < 1e-9, "{figures:?}");
        assert!((figures.p50_millis - 10.0).abs() < 0.1, "{figures:?}");
        assert!((figures.max_millis - 500.0).abs() < 1.0, "{figures:?}");
    }

    #[test]
    fn the_report_is_camel_case() {
        let tally = Tally::new();
        tally.errors.lock().record(&ClientError::Unreachable("away".to_owned()));
        let report = tally.report(3, Played::default());
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["errorsByCode"]["UNREACHABLE"], 1);
        assert_eq!(json["firstError"], "away");
        assert_eq!(json["ok"], false);
        assert_eq!(json["heartbeats"]["p99Millis"], 0.0);
        assert_eq!(report.errors(), 1);
    }
}
