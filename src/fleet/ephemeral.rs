//! Ephemeral runners that are spent: they took their one task, never came to it, or went away. What they ran, its log
//! and what is said of it stay.

use std::time::Duration;

use super::Fleet;
use super::presence::Snapshot;
use crate::clock::Timestamp;
use crate::error::Result;
use crate::model::RunnerStatus;
use crate::store::lists::{MaybeSpent, Reach};
use crate::store::models::RunnerFacts;

/// The configured times of an ephemeral runner's life.
#[derive(Clone, Copy, Debug)]
pub struct EphemeralTimes {
    /// How long it may wait for its one task.
    pub ttl: Duration,
    /// How long it may be OFFLINE.
    pub offline_after: Duration,
}

/// Since when a runner that was once here is OFFLINE; nothing while it is here, or when it never was.
pub(super) fn offline_since(known: Option<&Snapshot>) -> Option<Timestamp> {
    known
        .filter(|known| known.status == RunnerStatus::Offline && known.last_online_at.is_some())
        .map(|known| known.status_since)
}

/// Whether an ephemeral runner is to be removed.
pub(super) fn is_spent(
    facts: &RunnerFacts,
    offline_since: Option<Timestamp>,
    now: Timestamp,
    times: &EphemeralTimes,
) -> bool {
    if !facts.is_ephemeral || facts.is_holding {
        return false;
    }
    let is_done = facts.used_at.is_some() && now.as_micros() >= facts.reports_until;
    let never_came = facts.used_at.is_none() && now >= Timestamp::from_micros(facts.created_at) + times.ttl;
    let went_away = offline_since.is_some_and(|since| now >= since + times.offline_after);
    is_done || never_came || went_away
}

/// Who may be spent, as far as the database knows. It is behind memory, so that nobody is missing who went away: a
/// runner is OFFLINE no earlier than it was last heard from.
pub(super) fn maybe_spent(within: Reach, as_of: Timestamp, times: &EphemeralTimes) -> MaybeSpent {
    MaybeSpent {
        within,
        as_of: as_of.as_micros(),
        unused_before: (as_of - times.ttl).as_micros(),
        offline_before: (as_of - times.offline_after).as_micros(),
    }
}

/// Runners that are read at once.
const AT_ONCE: i64 = 200;
/// Transactions of one call: the next is a second away.
const MOST_TRANSACTIONS: usize = 5;

impl Fleet {
    /// Removes ephemeral runners that are spent, and says how many. When there are none it is one statement.
    ///
    /// # Errors
    /// `UNAVAILABLE`.
    pub async fn remove_spent_runners(&self) -> Result<usize> {
        let (mut after, mut removed, mut transactions) = (0, 0, 0);
        loop {
            let maybe = maybe_spent(Reach::Everything, self.now(), &self.settings.ephemeral);
            let ids =
                read!(self.store, |db, queries| queries::retention::maybe_spent(db, maybe, after, AT_ONCE).await)?;
            let Some(last) = ids.last().copied() else { return Ok(removed) };
            after = last;
            let facts = read!(self.store, |db, queries| queries::retention::runner_facts(db, &ids).await)?;
            let mut due: Vec<i64> = facts.iter().filter(|facts| self.is_spent_now(facts)).map(|it| it.id).collect();
            while !due.is_empty() {
                if transactions == MOST_TRANSACTIONS {
                    return Ok(removed);
                }
                transactions += 1;
                let (fleet, batch) = (self.clone(), due.clone());
                let (looked_at, gone) = transact!(self.store, |db, queries| {
                    let may_go = move |facts: &RunnerFacts| fleet.is_spent_now(facts);
                    queries::retention::delete_runners(db, &batch, may_go).await
                })?;
                self.forget_runners(&gone);
                removed += gone.len();
                due.drain(..looked_at);
            }
        }
    }

    fn is_spent_now(&self, facts: &RunnerFacts) -> bool {
        let offline_since = offline_since(self.presence.get(facts.id).as_ref());
        is_spent(facts, offline_since, self.now(), &self.settings.ephemeral)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: EphemeralTimes =
        EphemeralTimes { ttl: Duration::from_hours(24), offline_after: Duration::from_hours(1) };
    const HOUR: i64 = 3_600_000_000;

    /// Registered at 0, and with nothing that would make it spent.
    const FRESH: RunnerFacts = RunnerFacts {
        id: 1,
        is_ephemeral: true,
        used_at: None,
        created_at: 0,
        last_online_at: 0,
        is_holding: false,
        reports_until: 0,
    };

    #[test]
    fn the_table() {
        let used = RunnerFacts { used_at: Some(5), ..FRESH };
        let holding = RunnerFacts { is_holding: true, ..used };
        let reporting = RunnerFacts { reports_until: 2 * HOUR, ..used };
        let (here, gone) = (None, Some(HOUR));
        for (what, facts, offline_since, at, expected) in [
            ("waits and is here", FRESH, here, 23 * HOUR, false),
            ("waits and is here for too long", FRESH, here, 24 * HOUR, true),
            ("waits for a moment less", FRESH, here, 24 * HOUR - 1, false),
            ("went away a moment ago", FRESH, gone, 2 * HOUR - 1, false),
            ("went away", FRESH, gone, 2 * HOUR, true),
            ("has its task", holding, here, 1_000 * HOUR, false),
            ("has its task and went away", holding, gone, 1_000 * HOUR, false),
            ("may still deliver", reporting, here, 2 * HOUR - 1, false),
            ("may not deliver any more", reporting, here, 2 * HOUR, true),
            ("gave its task back, or somebody else has it", used, here, HOUR, true),
            ("may still deliver, but went away", reporting, Some(0), HOUR, true),
            ("is no ephemeral one", RunnerFacts { is_ephemeral: false, ..used }, gone, 1_000 * HOUR, false),
        ] {
            let now = Timestamp::from_micros(at);
            let offline_since = offline_since.map(Timestamp::from_micros);
            assert_eq!(is_spent(&facts, offline_since, now, &TIMES), expected, "{what}");
        }
    }
}
