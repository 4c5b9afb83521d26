//! Cleanup: jobs that remove what is old, a little at a time.
//!
//! A job is a row. Whoever starts one gets it back at once; a worker takes it, and the row says who has it and until
//! when. Each transaction removes a few hundred rows and notes in the same breath how far it has come, so that a job
//! goes on after a crash where it was and its numbers are right. Between two transactions others have their turn, and a
//! job can be cancelled.

mod targets;
mod watching;
mod work;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

pub use targets::{Retention, scope_needed};
pub use watching::CleanupWatcher;
pub use work::{CleanupStep, CleanupWork, NextCleanup};

use super::Fleet;
use crate::auth::Actor;
use crate::error::{AppError, Result};
use crate::events::Event;
use crate::model::{AccessTokenScope, CleanupStatus, CleanupTarget, MemberRole};
use crate::store::lists::Visible;
use crate::store::models::{CleanupJobRow, ScopeRow};

/// Greatest age that can be asked for, in seconds: a hundred years.
const LONGEST_AGE: i64 = 100 * 365 * 24 * 3600;
/// Open jobs that an account may have, and that a user may have started, before another is refused. Several that are
/// started at the same moment may be a few more.
const MOST_OPEN: i64 = 20;
/// Jobs of an account that are kept after their end: the newest.
const KEPT: i64 = 1_000;
/// Older ones that are removed at once.
const PRUNED_AT_ONCE: i64 = 500;

/// Wakes the worker of this process when a job was started.
#[derive(Debug, Default)]
pub struct CleanupQueue(Notify);

impl CleanupQueue {
    /// Ends when a job was started since the last call.
    pub async fn started(&self) {
        self.0.notified().await;
    }
}

/// What is to be cleaned up.
#[derive(Clone, Debug)]
pub struct CleanupRequest {
    /// What, in the order in which it is done.
    pub targets: Vec<CleanupTarget>,
    /// The age from which on things are removed; without, what is configured for each target.
    pub older_than_seconds: Option<i64>,
    /// Whether it only counts.
    pub dry_run: bool,
}

/// What became of a request to clean up.
#[derive(Clone, Debug)]
pub enum CleanupStart {
    /// The job.
    Started(Box<CleanupJobRow>),
    /// An open job has one of the targets in the same scope.
    Busy {
        /// Which target.
        target: CleanupTarget,
        /// That job.
        job_id: i64,
    },
}

/// What a job does for one of its targets, and what it has done so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CleanupResult {
    /// The target.
    pub target: CleanupTarget,
    /// The age from which on things are removed.
    pub older_than_seconds: i64,
    /// Things looked at.
    pub examined: i64,
    /// Things removed, or that would be.
    pub deleted: i64,
}

/// A result as it is stored.
#[derive(Serialize, Deserialize)]
struct Stored {
    target: String,
    older_than_seconds: i64,
    examined: i64,
    deleted: i64,
}

fn written(results: &[CleanupResult]) -> Result<String> {
    let stored = results.iter().map(|result| Stored {
        target: result.target.to_string(),
        older_than_seconds: result.older_than_seconds,
        examined: result.examined,
        deleted: result.deleted,
    });
    serde_json::to_string(&stored.collect::<Vec<_>>()).map_err(AppError::internal)
}

/// What a job has done so far, target by target, in the order in which it does them.
///
/// # Errors
/// `INTERNAL` for what no version of ours has written.
pub fn results_of(job: &CleanupJobRow) -> Result<Vec<CleanupResult>> {
    let stored: Vec<Stored> = serde_json::from_str(&job.results).map_err(AppError::internal)?;
    let results = stored.into_iter().map(|stored| {
        let target = stored.target.parse().map_err(AppError::internal);
        target.map(|target| CleanupResult {
            target,
            older_than_seconds: stored.older_than_seconds,
            examined: stored.examined,
            deleted: stored.deleted,
        })
    });
    results.collect()
}

fn missing() -> AppError {
    AppError::not_found("The cleanup job")
}

impl Fleet {
    /// Starts a cleanup in a scope and the repositories below it; in the instance that is everything. Whoever manages
    /// the scope may.
    ///
    /// # Errors
    /// `BAD_USER_INPUT`, `NOT_FOUND`, `FORBIDDEN`, `UNAUTHENTICATED`; `CONFLICT` when too many are open.
    pub async fn start_cleanup(
        &self,
        actor: &Actor,
        scope: &ScopeRow,
        request: &CleanupRequest,
    ) -> Result<CleanupStart> {
        let first = request.targets.first().copied().map_or(AccessTokenScope::WriteRunner, scope_needed);
        for needed in [first].into_iter().chain(request.targets.iter().copied().map(scope_needed)) {
            actor.require_manager(scope, needed)?;
        }
        let plan = self.planned(request)?;
        let started_by = if let Actor::User(user) = actor { Some(user.id) } else { None };
        self.open_cleanup(scope, request, &plan, started_by).await
    }

    /// Starts what the schedule cleans up: everywhere, every target that has an age to be removed at. Those that an
    /// open job has already are left to it; nothing is returned when no other is left.
    ///
    /// # Errors
    /// `UNAVAILABLE`.
    pub async fn start_scheduled_cleanup(&self) -> Result<Option<CleanupJobRow>> {
        let scope = self.instance(&Actor::System).await?;
        let wanted = CleanupTarget::ALL.iter().copied().filter(|it| !self.settings.retention.of(*it).is_zero());
        let mut request = CleanupRequest { targets: wanted.collect(), older_than_seconds: None, dry_run: false };
        while !request.targets.is_empty() {
            let plan = self.planned(&request)?;
            match self.open_cleanup(&scope, &request, &plan, None).await? {
                CleanupStart::Started(job) => return Ok(Some(*job)),
                CleanupStart::Busy { target, .. } => {
                    tracing::info!(%target, "a cleanup of this target is under way; the scheduled one leaves it out");
                    request.targets.retain(|it| *it != target);
                }
            }
        }
        Ok(None)
    }

    /// What a job will do, checked.
    fn planned(&self, request: &CleanupRequest) -> Result<Vec<CleanupResult>> {
        let targets = &request.targets;
        if targets.is_empty() {
            return Err(AppError::bad_input("targets", "Name at least one target, such as FINISHED_TASKS."));
        }
        if let Some((_, twice)) = targets.iter().enumerate().find(|(number, it)| targets[..*number].contains(it)) {
            return Err(AppError::bad_input("targets", format!("{twice} is named twice. Name each target once.")));
        }
        let asked = request.older_than_seconds;
        if asked.is_some_and(|seconds| !(0..=LONGEST_AGE).contains(&seconds)) {
            return Err(AppError::bad_input(
                "olderThanSeconds",
                format!("The age is given in seconds, from 0 to {LONGEST_AGE} (a hundred years)."),
            ));
        }
        let plan = targets.iter().map(|target| {
            let configured = self.settings.retention.of(*target).as_secs();
            let configured = i64::try_from(configured).unwrap_or(LONGEST_AGE).min(LONGEST_AGE);
            match asked {
                None if configured == 0 => Err(AppError::bad_input(
                    "olderThanSeconds",
                    format!("No age is configured from which on {target} are removed. Say it with olderThanSeconds."),
                )),
                asked => Ok(CleanupResult {
                    target: *target,
                    older_than_seconds: asked.unwrap_or(configured),
                    examined: 0,
                    deleted: 0,
                }),
            }
        });
        plan.collect()
    }

    async fn open_cleanup(
        &self,
        scope: &ScopeRow,
        request: &CleanupRequest,
        plan: &[CleanupResult],
        started_by: Option<i64>,
    ) -> Result<CleanupStart> {
        let targets = request.targets.clone();
        let row = CleanupJobRow {
            id: self.ids.next(),
            status: CleanupStatus::Queued,
            targets: targets.iter().map(|target| target.as_str()).collect::<Vec<_>>().join(","),
            scope_id: scope.id,
            owner_id: scope.owner_id(),
            older_than_seconds: request.older_than_seconds,
            dry_run: request.dry_run,
            examined: 0,
            deleted: 0,
            total: None,
            results: written(plan)?,
            target_number: 0,
            row_cursor: 0,
            error: None,
            started_by,
            is_scheduled: started_by.is_none(),
            cancel_requested: false,
            lease_holder: None,
            lease_until: 0,
            created_at: self.now().as_micros(),
            started_at: None,
            finished_at: None,
        };
        let stored = row.clone();
        let busy = transact!(self.store, |db, queries| {
            // The worker takes one after the other: nobody is to have it for himself. Those of the schedule go first.
            if !stored.is_scheduled
                && queries::cleanup::count_open(db, stored.owner_id, stored.started_by).await? >= MOST_OPEN
            {
                return Err(AppError::conflict(format!(
                    "{MOST_OPEN} cleanup jobs of this account, or of yours, are open already. Wait until some have \
                     ended, cancel some (cancelCleanup), or clean up in the account and not in each repository."
                )));
            }
            queries::cleanup::insert(db, stored, &targets).await
        })?;
        if let Some((target, job_id)) = busy {
            return Ok(CleanupStart::Busy { target, job_id });
        }
        self.cleanup.0.notify_one();
        self.tell_cleanup(&row);
        Ok(CleanupStart::Started(Box::new(row)))
    }

    /// Stops a job before its next transaction; what it removed until then stays removed. A job that has ended stays as
    /// it is. Whoever could start it may.
    ///
    /// # Errors
    /// `NOT_FOUND`, `FORBIDDEN`, `UNAUTHENTICATED`.
    pub async fn cancel_cleanup(&self, actor: &Actor, id: i64) -> Result<CleanupJobRow> {
        let job = self.seen_cleanup(actor, id).await?.ok_or_else(missing)?;
        for result in results_of(&job)? {
            actor.user(scope_needed(result.target))?;
        }
        let now = self.now().as_micros();
        let job = transact!(self.store, |db, queries| queries::cleanup::cancel(db, id, now).await)?;
        let job = job.ok_or_else(missing)?;
        self.tell_cleanup(&job);
        if job.finished_at.is_some() {
            self.prune_cleanups(job.owner_id).await;
        }
        Ok(job)
    }

    /// Removes the oldest jobs of an account, after another has ended. It is done in a transaction of its own, since
    /// rows are locked in the order of identifiers; where it fails, the next job that ends tries again.
    async fn prune_cleanups(&self, owner_id: i64) {
        let pruned =
            transact!(self.store, |db, queries| queries::cleanup::prune(db, owner_id, KEPT, PRUNED_AT_ONCE).await);
        if let Err(error) = pruned {
            let cause = error.source.as_ref().map(ToString::to_string).unwrap_or_default();
            tracing::warn!(cause, "old cleanup jobs could not be removed: {error}");
        }
    }

    /// Checks that an actor may read cleanup jobs at all: those of what it manages.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` for nobody, `FORBIDDEN` for a runner and for a token that reads neither runners nor tasks.
    pub fn may_read_cleanups(&self, actor: &Actor) -> Result<()> {
        if matches!(actor, Actor::System) {
            return Ok(());
        }
        let reader = actor.user(AccessTokenScope::ReadTask).or_else(|_| actor.user(AccessTokenScope::ReadRunner));
        reader.map(|_| ())
    }

    /// Whether a job exists for an actor that may read jobs.
    pub fn sees_cleanup(&self, actor: &Actor, job: &CleanupJobRow) -> bool {
        actor.manages(job.owner_id)
    }

    /// A job, if it exists for the actor.
    ///
    /// # Errors
    /// As [`Fleet::may_read_cleanups`].
    pub async fn seen_cleanup(&self, actor: &Actor, id: i64) -> Result<Option<CleanupJobRow>> {
        self.may_read_cleanups(actor)?;
        let found = read!(self.store, |db, queries| queries::cleanup::by_ids(db, vec![id]).await)?.pop();
        Ok(found.filter(|job| self.sees_cleanup(actor, job)))
    }

    /// Which jobs exist for an actor.
    ///
    /// # Errors
    /// As [`Fleet::may_read_cleanups`].
    pub fn visible_cleanups(&self, actor: &Actor) -> Result<Visible> {
        self.may_read_cleanups(actor)?;
        Ok(match actor {
            Actor::System => Visible::Everything,
            Actor::User(user) if user.is_admin => Visible::Everything,
            Actor::User(user) => {
                let managed = user.memberships.iter().filter(|(_, role)| *role == MemberRole::Owner);
                Visible::Owners(managed.map(|(id, _)| *id).chain([user.id]).collect())
            }
            Actor::Anonymous | Actor::Runner(_) => Visible::Owners(Vec::new()),
        })
    }

    fn tell_cleanup(&self, job: &CleanupJobRow) {
        self.tell(Event::JobChanged { job_id: job.id }, 0, job.scope_id, job.owner_id);
    }
}
