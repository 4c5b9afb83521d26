//! When the cleanup that nobody asks for begins: a cron expression in a time zone.

use std::future::Future;

use chrono_tz::Tz;
use croner::Cron;
use tokio_util::sync::CancellationToken;

use crate::clock::Timestamp;
use crate::fleet::Fleet;

/// Times of day, in a place.
#[derive(Clone, Debug)]
pub struct Schedule {
    cron: Cron,
    zone: Tz,
}

impl Schedule {
    /// The times of a cron expression in a time zone.
    pub const fn new(cron: Cron, zone: Tz) -> Self {
        Self { cron, zone }
    }

    /// The first time after `now`; nothing when there is none.
    pub fn next_after(&self, now: Timestamp) -> Option<Timestamp> {
        let now = chrono::DateTime::from_timestamp_micros(now.as_micros())?.with_timezone(&self.zone);
        let next = self.cron.find_next_occurrence(&now, false).ok()?;
        Some(Timestamp::from_micros(next.timestamp_micros()))
    }

    /// Starts a cleanup each time, until told to stop. A time that passed while no server ran is not made up for. The
    /// first time is computed at once, and not when the future is first polled.
    pub fn keep(self, fleet: Fleet, stop: CancellationToken) -> impl Future<Output = ()> + Send + 'static {
        let mut next = self.next_after(fleet.clock.now());
        async move {
            loop {
                let Some(time) = next else {
                    tracing::warn!("cleanup_schedule names no time that ever comes; nothing is cleaned up by itself");
                    stop.cancelled().await;
                    return;
                };
                tokio::select! {
                    () = fleet.clock.sleep_until(time) => start(&fleet).await,
                    () = stop.cancelled() => return,
                }
                next = self.next_after(fleet.clock.now().max(time));
            }
        }
    }
}

async fn start(fleet: &Fleet) {
    match fleet.start_scheduled_cleanup().await {
        Ok(Some(job)) => tracing::info!(job = job.id, targets = job.targets, "the scheduled cleanup starts"),
        Ok(None) => tracing::info!("the scheduled cleanup has nothing to do"),
        Err(error) => {
            let cause = super::cause(&error);
            tracing::warn!(cause, "the scheduled cleanup could not be started; the next one is");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::from_micros(chrono::DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros())
    }

    fn next(cron: &str, zone: &str, now: &str) -> String {
        let schedule = Schedule::new(cron.parse().unwrap(), zone.parse().unwrap());
        schedule.next_after(at(now)).unwrap().to_rfc3339()
    }

    #[test]
    fn times_are_those_of_the_place() {
        for (cron, zone, now, expected) in [
            ("0 3 * * *", "UTC", "2026-01-01T00:00:00Z", "2026-01-01T03:00:00.000000Z"),
            ("0 3 * * *", "UTC", "2026-01-01T02:59:59.999999Z", "2026-01-01T03:00:00.000000Z"),
            ("0 3 * * *", "UTC", "2026-01-01T03:00:00Z", "2026-01-02T03:00:00.000000Z"),
            ("0 3 * * *", "Europe/Berlin", "2026-01-01T00:00:00Z", "2026-01-01T02:00:00.000000Z"),
            ("0 3 * * *", "Europe/Berlin", "2026-07-01T00:00:00Z", "2026-07-01T01:00:00.000000Z"),
            ("30 4 * * 0", "America/New_York", "2026-01-01T00:00:00Z", "2026-01-04T09:30:00.000000Z"),
        ] {
            assert_eq!(next(cron, zone, now), expected, "{cron} in {zone} after {now}");
        }
    }

    #[test]
    fn a_night_with_an_hour_more_or_less_has_one_cleanup() {
        let schedule = Schedule::new("30 2 * * *".parse().unwrap(), "Europe/Berlin".parse().unwrap());
        for (begin, end) in
            [("2026-03-28T12:00:00Z", "2026-03-29T12:00:00Z"), ("2026-10-24T12:00:00Z", "2026-10-25T12:00:00Z")]
        {
            let first = schedule.next_after(at(begin)).unwrap();
            assert!(first < at(end), "{first}");
            assert!(schedule.next_after(first).unwrap() > at(end), "{first}");
        }
    }

    #[test]
    fn a_day_that_never_comes_is_no_time() {
        let schedule = Schedule::new("0 3 30 2 *".parse().unwrap(), Tz::UTC);
        assert_eq!(schedule.next_after(at("2026-01-01T00:00:00Z")), None);
    }
}
