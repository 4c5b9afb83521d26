//! The only source of randomness, and of the identifiers made from it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::Mutex;
use rand::rngs::{StdRng, SysRng};
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use uuid::Uuid;

use crate::clock::Clock;

/// A cryptographically secure generator. Clones share one stream.
#[derive(Clone)]
pub struct Rng(Arc<Mutex<StdRng>>);

impl Rng {
    /// Seeded by the operating system.
    ///
    /// # Panics
    /// When the operating system has no randomness to give: nothing secret can be made then.
    pub fn from_system() -> Self {
        let rng = StdRng::try_from_rng(&mut SysRng).expect("the operating system gives no random bytes");
        Self(Arc::new(Mutex::new(rng)))
    }

    /// A repeatable stream, for tests.
    pub fn seeded(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(StdRng::seed_from_u64(seed))))
    }

    /// Random bytes, fit for secrets.
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.lock().fill_bytes(&mut bytes);
        bytes
    }

    /// A number from 0 up to, and not including, `bound`; 0 when `bound` is 0.
    pub fn below(&self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.0.lock().random_range(0..bound) }
    }

    /// A random (version 4) UUID.
    pub fn uuid(&self) -> Uuid {
        uuid::Builder::from_random_bytes(self.bytes()).into_uuid()
    }
}

impl fmt::Debug for Rng {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Rng(..)")
    }
}

/// 2024-01-01T00:00:00Z in milliseconds: where identifiers start to count.
const EPOCH_MILLIS: i64 = 1_704_067_200_000;
const RANDOM_BITS: u32 = 21;

/// Makes database identifiers: 42 bits of milliseconds, then 21 random bits.
///
/// They grow with time, so that the newest rows lie together in every index and a page can be ordered by them; they are
/// unique across tables and servers without asking anyone, are never used again, and do not tell how many there are.
#[derive(Clone, Debug)]
pub struct Ids {
    clock: Clock,
    rng: Rng,
    last: Arc<AtomicI64>,
}

impl Ids {
    /// A generator on the App's clock and randomness.
    pub fn new(clock: Clock, rng: Rng) -> Self {
        Self { clock, rng, last: Arc::new(AtomicI64::new(0)) }
    }

    /// A new identifier, greater than every earlier one of this generator.
    pub fn next(&self) -> i64 {
        let millis = (self.clock.now().as_micros() / 1_000 - EPOCH_MILLIS).max(0);
        let random = i64::try_from(self.rng.below(1 << RANDOM_BITS)).unwrap_or(0);
        let fresh = (millis << RANDOM_BITS) | random;
        let (Ok(last) | Err(last)) =
            self.last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(fresh.max(last + 1)));
        fresh.max(last + 1)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::Timestamp;

    #[test]
    fn identifiers_grow_within_and_across_milliseconds() {
        let (clock, hand) = Clock::manual(Timestamp::from_micros(1_780_000_000_000_000));
        let ids = Ids::new(clock, Rng::seeded(1));
        let mut last = 0;
        for round in 0..1_000 {
            let id = ids.next();
            assert!(id > last);
            last = id;
            if round % 10 == 0 {
                hand.advance(Duration::from_millis(1));
            }
        }
    }
}
