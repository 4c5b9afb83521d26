//! What each target means: who may clean it up, what there is to look at, and what may go.

use std::time::Duration;

use super::super::Fleet;
use super::super::ephemeral::{EphemeralTimes, is_spent, maybe_spent, offline_since};
use crate::clock::Timestamp;
use crate::error::Result;
use crate::model::{AccessTokenScope, CleanupTarget, RunnerStatus};
use crate::store::lists::{Aged, MaybeSpent, Reach};
use crate::store::models::{MOST_SWEPT, RunnerFacts};

/// From which age on things are removed when nobody says another; zero: not at all.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// How long an ephemeral runner may be OFFLINE.
    pub ephemeral_runners: Duration,
    /// How long a runner may be OFFLINE.
    pub stale_runners: Duration,
    /// How long tokens are kept that expired or were revoked.
    pub expired_tokens: Duration,
    /// How long tasks are kept that ended.
    pub finished_tasks: Duration,
    /// How long their logs are kept.
    pub task_logs: Duration,
    /// How long entries of the audit trail are kept.
    pub audit_events: Duration,
}

impl Retention {
    /// That of a target.
    pub const fn of(&self, target: CleanupTarget) -> Duration {
        match target {
            CleanupTarget::EphemeralRunners => self.ephemeral_runners,
            CleanupTarget::StaleRunners => self.stale_runners,
            CleanupTarget::ExpiredTokens => self.expired_tokens,
            CleanupTarget::FinishedTasks => self.finished_tasks,
            CleanupTarget::TaskLogs => self.task_logs,
            CleanupTarget::AuditEvents => self.audit_events,
        }
    }
}

/// What an access token has to cover for the cleanup of a target.
pub const fn scope_needed(target: CleanupTarget) -> AccessTokenScope {
    match target {
        CleanupTarget::EphemeralRunners | CleanupTarget::StaleRunners | CleanupTarget::ExpiredTokens => {
            AccessTokenScope::WriteRunner
        }
        CleanupTarget::FinishedTasks | CleanupTarget::TaskLogs => AccessTokenScope::WriteTask,
        CleanupTarget::AuditEvents => AccessTokenScope::Admin,
    }
}

/// Whether a cleanup of a target removes runners.
pub(super) const fn is_of_runners(target: CleanupTarget) -> bool {
    matches!(target, CleanupTarget::EphemeralRunners | CleanupTarget::StaleRunners)
}

/// A target, where and from which age on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Aim {
    pub(super) target: CleanupTarget,
    pub(super) aged: Aged,
    as_of: Timestamp,
    times: EphemeralTimes,
}

impl Aim {
    /// `as_of` is when the work on the job began: what is counted then is what is removed, however long that takes.
    pub(super) fn new(
        target: CleanupTarget,
        within: Reach,
        older_than_seconds: i64,
        as_of: Timestamp,
        ephemeral_ttl: Duration,
    ) -> Self {
        let age = Duration::from_secs(u64::try_from(older_than_seconds).unwrap_or(0));
        Self {
            target,
            aged: Aged { within, before: (as_of - age).as_micros(), as_of: as_of.as_micros() },
            as_of,
            times: EphemeralTimes { ttl: ephemeral_ttl, offline_after: age },
        }
    }

    fn maybe_spent(&self) -> MaybeSpent {
        maybe_spent(self.aged.within, self.as_of, &self.times)
    }

    /// Things that are looked at in one transaction; fewer where each may have rows that go with it.
    fn at_once(&self, dry_run: bool) -> i64 {
        let most = match self.target {
            _ if dry_run => MOST_SWEPT,
            // A task has its payload.
            CleanupTarget::FinishedTasks | CleanupTarget::TaskLogs => MOST_SWEPT / 2,
            CleanupTarget::EphemeralRunners | CleanupTarget::StaleRunners => MOST_SWEPT / 5,
            CleanupTarget::ExpiredTokens | CleanupTarget::AuditEvents => MOST_SWEPT,
        };
        i64::try_from(most).unwrap_or(i64::MAX)
    }
}

impl Fleet {
    /// The next things that a target is about, as far as the database knows.
    pub(super) async fn cleanup_candidates(&self, aim: &Aim, after: i64, dry_run: bool) -> Result<Vec<i64>> {
        let (aged, most) = (aim.aged, aim.at_once(dry_run));
        read!(self.store, |db, queries| match aim.target {
            CleanupTarget::EphemeralRunners =>
                queries::retention::maybe_spent(db, aim.maybe_spent(), after, most).await,
            CleanupTarget::StaleRunners => queries::retention::stale_runners(db, aged, after, most).await,
            CleanupTarget::ExpiredTokens => queries::retention::old_tokens(db, aged, after, most).await,
            CleanupTarget::FinishedTasks => queries::retention::ended_tasks(db, aged, after, most).await,
            CleanupTarget::TaskLogs => queries::retention::logged_tasks(db, aged, after, most).await,
            // There is no audit trail yet, so nothing of it is old.
            CleanupTarget::AuditEvents => Ok(Vec::new()),
        })
    }

    /// How many things a target is about, as far as the database knows.
    pub(super) async fn cleanup_total(&self, aim: &Aim) -> Result<i64> {
        let aged = aim.aged;
        read!(self.store, |db, queries| match aim.target {
            CleanupTarget::EphemeralRunners => queries::retention::count_maybe_spent(db, aim.maybe_spent()).await,
            CleanupTarget::StaleRunners => queries::retention::count_stale_runners(db, aged).await,
            CleanupTarget::ExpiredTokens => queries::retention::count_old_tokens(db, aged).await,
            CleanupTarget::FinishedTasks => queries::retention::count_ended_tasks(db, aged).await,
            CleanupTarget::TaskLogs => queries::retention::count_logged_tasks(db, aged).await,
            CleanupTarget::AuditEvents => Ok(0),
        })
    }

    /// Whether a runner may go. Memory knows of calls that the database has not seen yet, and of who is here.
    pub(super) fn may_runner_go(&self, aim: &Aim, facts: &RunnerFacts) -> bool {
        let known = self.presence.get(facts.id);
        if aim.target == CleanupTarget::EphemeralRunners {
            return is_spent(facts, offline_since(known.as_ref()), self.now(), &aim.times);
        }
        let before = aim.aged.before;
        let is_away = known.is_none_or(|known| {
            known.status == RunnerStatus::Offline && known.last_online_at.is_none_or(|at| at.as_micros() < before)
        });
        is_away && !facts.is_holding && facts.last_online_at < before && facts.created_at < before
    }
}
