//! How long to wait before a failed call is made again.

use std::time::Duration;

use crate::rng::Rng;

use super::client::ClientError;

const FIRST_CEILING: Duration = Duration::from_secs(1);

/// However long a server asks to be left alone, somebody waits for the runner.
const LONGEST_TOLD: Duration = Duration::from_mins(5);

/// Exponential backoff with full jitter: a fleet whose server comes back must not fall upon it all at once.
pub(super) struct Backoff {
    cap: Duration,
    failures: u32,
}

impl Backoff {
    /// One that never waits longer than `cap`, unless it is told to.
    pub(super) const fn new(cap: Duration) -> Self {
        Self { cap, failures: 0 }
    }

    /// How long to wait after this failure.
    pub(super) fn delay_after(&mut self, error: &ClientError, rng: &Rng) -> Duration {
        let ceiling = FIRST_CEILING.saturating_mul(1 << self.failures.min(16)).min(self.cap);
        self.failures = self.failures.saturating_add(1);
        error.retry_after().map_or_else(
            || up_to(ceiling, rng),
            // All who were told the same must not come at the same instant.
            |told| told.min(LONGEST_TOLD) + up_to(FIRST_CEILING, rng),
        )
    }

    /// Starts over after a success.
    pub(super) const fn reset(&mut self) {
        self.failures = 0;
    }
}

/// A random duration from nothing to `ceiling`.
pub(super) fn up_to(ceiling: Duration, rng: &Rng) -> Duration {
    let millis = u64::try_from(ceiling.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(rng.below(millis.saturating_add(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_up_to_the_cap() {
        let rng = Rng::seeded(1);
        let error = ClientError::Unreachable("away".to_owned());
        let mut longest = [Duration::ZERO; 8];
        for _ in 0..200 {
            let mut backoff = Backoff::new(Duration::from_secs(30));
            for longest in &mut longest {
                *longest = backoff.delay_after(&error, &rng).max(*longest);
            }
        }
        for (step, longest) in longest.into_iter().enumerate() {
            let ceiling = Duration::from_secs([1, 2, 4, 8, 16, 30, 30, 30][step]);
            assert!(longest <= ceiling && longest > ceiling / 2, "step {step}: {longest:?}");
        }
    }

    #[test]
    fn what_the_server_says_goes_first() {
        let error = ClientError::Refused {
            code: "RATE_LIMITED".to_owned(),
            message: String::new(),
            field: None,
            retry_after_seconds: Some(60),
        };
        let delay = Backoff::new(Duration::from_secs(5)).delay_after(&error, &Rng::seeded(1));
        assert!(delay >= Duration::from_mins(1) && delay <= Duration::from_secs(61), "{delay:?}");
    }
}
