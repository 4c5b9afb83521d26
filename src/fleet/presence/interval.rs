//! How long a runner is told to wait before its next heartbeat.

use std::time::Duration;

use crate::rng::Rng;

/// No runner is asked to come more often than this, unless `offline_after` demands it.
const SHORTEST: u64 = 10;
/// Runners are spread over so many percent of the interval, so that they do not come in step.
const JITTER_PERCENT: u64 = 20;

/// Seconds until a runner's next heartbeat: at least 10, more when so many present runners would pass
/// `max_per_second`, never more than a third of `offline_after` (so that two may be lost), with jitter.
pub fn next_heartbeat_in(present: usize, max_per_second: u32, offline_after: Duration, rng: &Rng) -> u64 {
    let longest = (offline_after.as_secs() / 3).max(1);
    let needed = u64::try_from(present).unwrap_or(u64::MAX).div_ceil(u64::from(max_per_second.max(1)));
    let interval = needed.max(SHORTEST).min(longest);
    let spread = interval * JITTER_PERCENT / 100;
    if interval + spread <= longest {
        return interval + rng.below(spread + 1);
    }
    // At the longest there is only room before it, down to what no runner is asked to fall below.
    interval - rng.below(spread.min(interval - SHORTEST.min(interval)) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(present: usize, max_per_second: u32, offline_after: u64) -> (u64, u64) {
        let rng = Rng::seeded(3);
        let told = (0..500)
            .map(|_| next_heartbeat_in(present, max_per_second, Duration::from_secs(offline_after), &rng))
            .collect::<Vec<_>>();
        (told.iter().copied().min().unwrap_or(0), told.iter().copied().max().unwrap_or(0))
    }

    #[test]
    fn the_interval_grows_with_the_fleet_up_to_a_third_of_the_deadline() {
        assert_eq!(range(1, 1000, 60), (10, 12));
        assert_eq!(range(10_000, 1000, 60), (10, 12));
        assert_eq!(range(15_000, 1000, 60), (15, 18));
        assert_eq!(range(1_000_000, 1000, 60), (16, 20));
        assert_eq!(range(1, 1000, 3), (1, 1));
        assert_eq!(range(1, 1000, 15), (5, 5));
    }
}
