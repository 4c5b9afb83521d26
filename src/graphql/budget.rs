//! How many bytes an answer may have of what people and runners bring along: payloads, outputs and the lines of logs. The
//! cost of a document bounds how many values there are; this bounds how large they are together.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{AppError, ErrorCode, Result};

/// The bytes of one answer. What is read for it is counted beside what it tells: the same text may be told under many
/// names, or be read and not told at all.
pub(super) struct Budget {
    limit: u64,
    read: AtomicU64,
    told: AtomicU64,
}

impl Budget {
    /// A budget of so many bytes.
    pub(super) const fn new(limit: u64) -> Self {
        Self { limit, read: AtomicU64::new(0), told: AtomicU64::new(0) }
    }

    /// Counts what is read of the store.
    ///
    /// # Errors
    /// `QUERY_TOO_COMPLEX` when that is too much; then also for all that follows.
    pub(super) fn read(&self, bytes: u64) -> Result<()> {
        self.count(&self.read, bytes)
    }

    /// How many bytes may still be read.
    pub(super) fn left_to_read(&self) -> u64 {
        self.limit.saturating_sub(self.read.load(Ordering::Relaxed))
    }

    /// Counts what is about to be read, given as identifiers with lengths; returns those that fit, and the others.
    pub(super) fn fitting(&self, mut lengths: Vec<(i64, i64)>) -> (Vec<i64>, Vec<i64>) {
        // In an order, so that the same request gets the same answer.
        lengths.sort_unstable();
        let fits = |(_, length): &(i64, i64)| self.read(u64::try_from(*length).unwrap_or(0)).is_ok();
        let (fitting, others): (Vec<_>, Vec<_>) = lengths.into_iter().partition(fits);
        let ids = |entries: Vec<(i64, i64)>| -> Vec<i64> { entries.into_iter().map(|(id, _)| id).collect() };
        (ids(fitting), ids(others))
    }

    /// Counts what goes into the answer, each time that it does.
    ///
    /// # Errors
    /// `QUERY_TOO_COMPLEX` when that is too much; then also for all that follows.
    pub(super) fn tell(&self, bytes: usize) -> Result<()> {
        self.count(&self.told, u64::try_from(bytes).unwrap_or(u64::MAX))
    }

    /// Checks, before something is done that cannot be done again, that so much could be told of it. An answer that has
    /// told nothing yet has as much room as one can have.
    ///
    /// # Errors
    /// `QUERY_TOO_COMPLEX`.
    pub(super) fn require(&self, bytes: u64) -> Result<()> {
        let told = self.told.load(Ordering::Relaxed);
        if told == 0 || told.saturating_add(bytes) <= self.limit { Ok(()) } else { Err(self.exceeded()) }
    }

    /// Begins anew: the next entry of a stream is an answer of its own.
    pub(super) fn refill(&self) {
        self.read.store(0, Ordering::Relaxed);
        self.told.store(0, Ordering::Relaxed);
    }

    /// What is said of an answer that would be too large.
    pub(super) fn exceeded(&self) -> AppError {
        AppError::new(
            ErrorCode::QueryTooComplex,
            format!(
                "The payloads, outputs and log lines of this answer have more than {} bytes together (max_answer_bytes). \
                 Ask for fewer at once, or for one by one.",
                self.limit
            ),
        )
    }

    fn count(&self, counter: &AtomicU64, bytes: u64) -> Result<()> {
        // What was too much stays counted, so that little things do not slip in behind it.
        let before = counter.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) <= self.limit { Ok(()) } else { Err(self.exceeded()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_byte_fits_and_one_more_does_not() {
        let budget = Budget::new(10);
        assert!(budget.tell(4).is_ok() && budget.tell(6).is_ok());
        assert!(budget.tell(0).is_ok());
        let error = budget.tell(1).unwrap_err();
        assert_eq!(error.code, ErrorCode::QueryTooComplex);
        assert!(error.message.contains("10 bytes"), "{error}");
        assert!(budget.tell(0).is_err(), "nothing comes after what was too much");
        // What is read is counted by itself.
        assert_eq!(budget.left_to_read(), 10);
        assert!(budget.read(10).is_ok());
        assert_eq!(budget.left_to_read(), 0);
        assert!(budget.read(1).is_err());
        assert_eq!(budget.left_to_read(), 0);
        budget.refill();
        assert_eq!(budget.left_to_read(), 10);
        assert!(budget.tell(10).is_ok());
    }

    #[test]
    fn what_fits_is_chosen_in_the_order_of_identifiers() {
        let budget = Budget::new(10);
        assert_eq!(budget.fitting(vec![(3, 2), (1, 5), (2, 4)]), (vec![1, 2], vec![3]));
        assert_eq!(budget.fitting(vec![(4, 0)]), (vec![], vec![4]));
    }

    #[test]
    fn room_is_asked_for_before_something_is_done() {
        let budget = Budget::new(10);
        assert!(budget.require(1_000).is_ok(), "there will never be more room than now");
        assert!(budget.tell(1).is_ok());
        assert!(budget.require(9).is_ok());
        assert!(budget.require(10).is_err());
    }
}
