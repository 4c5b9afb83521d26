//! The work on a job: who has it, and one transaction after the other.

use super::super::Fleet;
use super::targets::{Aim, is_of_runners};
use super::{CleanupResult, results_of, written};
use crate::clock::Timestamp;
use crate::error::{AppError, ErrorCode, Result};
use crate::model::{CleanupStatus, CleanupTarget};
use crate::store::is_too_late;
use crate::store::lists::Reach;
use crate::store::models::{CleanupHold, CleanupJobRow, CleanupProgress, RunnerFacts, Swept};

/// Open jobs that a worker looks through for one that is free.
const LOOKED_AT: i64 = 1_000;

/// What is to be done next.
#[derive(Debug)]
pub enum NextCleanup {
    /// This.
    Work(Box<CleanupWork>),
    /// Somebody has every open job; the first of these may be free then.
    At(Timestamp),
    /// There is no open job.
    Nothing,
}

/// What became of a step of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CleanupStep {
    /// Something was looked at, and perhaps removed. Let others have their turn.
    Batch,
    /// It got a step further without touching anything.
    Turn,
    /// There is nothing more to do: it ended, or somebody else has it.
    Ended,
}

/// A job that a worker has.
#[derive(Clone, Debug)]
pub struct CleanupWork {
    job: CleanupJobRow,
    results: Vec<CleanupResult>,
    holder: String,
    /// Whether it was counted what there is to do, or there was no time for that.
    is_counted: bool,
}

impl CleanupWork {
    fn new(job: CleanupJobRow, holder: &str) -> Result<Self> {
        let is_counted = job.total.is_some() || job.examined > 0 || job.target_number > 0 || job.row_cursor > 0;
        Ok(Self { results: results_of(&job)?, job, holder: holder.to_owned(), is_counted })
    }

    /// Which job it is.
    pub const fn job_id(&self) -> i64 {
        self.job.id
    }

    /// Until when nobody else takes it.
    pub const fn lease_until(&self) -> Timestamp {
        Timestamp::from_micros(self.job.lease_until)
    }

    fn hold(&self, until: i64) -> CleanupHold {
        CleanupHold {
            id: self.job.id,
            holder: self.holder.clone(),
            until,
            examined: self.job.examined,
            target_number: self.job.target_number,
            row_cursor: self.job.row_cursor,
        }
    }

    fn progress(&self) -> Result<CleanupProgress> {
        Ok(CleanupProgress {
            examined: self.job.examined,
            deleted: self.job.deleted,
            total: self.job.total,
            results: written(&self.results)?,
            target_number: self.job.target_number,
            row_cursor: self.job.row_cursor,
        })
    }

    /// The result of the target that is its turn.
    fn current(&self) -> Option<&CleanupResult> {
        usize::try_from(self.job.target_number).ok().and_then(|number| self.results.get(number))
    }

    /// Notes what a transaction did.
    fn note(&mut self, swept: Swept) {
        let count = |things: usize| i64::try_from(things).unwrap_or(i64::MAX);
        let (examined, deleted) = (count(swept.examined), count(swept.deleted));
        self.job.examined += examined;
        self.job.deleted += deleted;
        self.job.row_cursor = swept.cursor;
        let number = usize::try_from(self.job.target_number).ok();
        if let Some(result) = number.and_then(|number| self.results.get_mut(number)) {
            result.examined += examined;
            result.deleted += deleted;
        }
    }
}

impl Fleet {
    /// Takes a job that nobody works on: one of the schedule if there is one, and the oldest.
    ///
    /// # Errors
    /// `UNAVAILABLE`.
    pub async fn next_cleanup(&self, holder: &str) -> Result<NextCleanup> {
        let open = read!(self.store, |db, queries| queries::cleanup::open(db, LOOKED_AT).await)?;
        let now = self.now().as_micros();
        for (id, _) in open.iter().filter(|(_, lease_until)| *lease_until <= now) {
            let (id, until, worker) = (*id, self.lease_until(), holder.to_owned());
            let taken = transact!(self.store, |db, queries| queries::cleanup::take(db, id, &worker, now, until).await)?;
            let Some(job) = taken else { continue };
            self.tell_cleanup(&job);
            match CleanupWork::new(job, holder) {
                Ok(work) => return Ok(NextCleanup::Work(Box::new(work))),
                Err(error) => self.fail_cleanup(id, holder, &error).await?,
            }
        }
        let first = open.iter().map(|(_, lease_until)| *lease_until).filter(|until| *until > now).min();
        Ok(first.map_or(NextCleanup::Nothing, |until| NextCleanup::At(Timestamp::from_micros(until))))
    }

    fn lease_until(&self) -> i64 {
        (self.now() + self.settings.cleanup_lease).as_micros()
    }

    /// Takes a job one step further: counts what there is to do, removes a few hundred rows, or ends it.
    ///
    /// # Errors
    /// `UNAVAILABLE`: whether the step was made is not known then, and [`Fleet::look_again`] finds out.
    pub async fn continue_cleanup(&self, work: &mut CleanupWork) -> Result<CleanupStep> {
        if work.job.cancel_requested {
            return self.finish_cleanup(work, CleanupStatus::Cancelled).await;
        }
        if !work.is_counted {
            return self.count_cleanup(work).await;
        }
        let Some(aim) = work.current().map(|result| self.aim(work, result)) else {
            return self.finish_cleanup(work, CleanupStatus::Succeeded).await;
        };
        let ids = self.cleanup_candidates(&aim, work.job.row_cursor, work.job.dry_run).await?;
        if ids.is_empty() {
            let mut next = work.clone();
            next.job.target_number += 1;
            next.job.row_cursor = 0;
            return self.advance_cleanup(work, next).await;
        }
        self.sweep(work, aim, ids).await
    }

    fn aim(&self, work: &CleanupWork, result: &CleanupResult) -> Aim {
        let as_of = work.job.started_at.map_or_else(|| self.now(), Timestamp::from_micros);
        let within = Reach::of(work.job.scope_id, work.job.owner_id);
        Aim::new(result.target, within, result.older_than_seconds, as_of, self.settings.ephemeral.ttl)
    }

    /// Counts what there is to look at. Where that takes too long the job goes on without, or it would never begin.
    async fn count_cleanup(&self, work: &mut CleanupWork) -> Result<CleanupStep> {
        if work.results.iter().any(|result| is_of_runners(result.target)) {
            // The database decides whom to look at, so it has to know what memory knows.
            self.presence.write(&self.store).await?;
        }
        let mut total = Some(0);
        for result in &work.results {
            match self.cleanup_total(&self.aim(work, result)).await {
                Ok(count) => total = total.map(|total| total + count),
                Err(error) if is_too_late(&error) => {
                    tracing::warn!(job = work.job.id, "there is too much for a cleanup job to count it first");
                    total = None;
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        let mut next = work.clone();
        next.job.total = total;
        next.is_counted = true;
        self.advance_cleanup(work, next).await
    }

    /// Notes that a job got further without touching anything.
    async fn advance_cleanup(&self, work: &mut CleanupWork, next: CleanupWork) -> Result<CleanupStep> {
        let until = self.lease_until();
        let (id, hold, progress) = (work.job.id, work.hold(until), next.progress()?);
        let is_held = transact!(self.store, |db, queries| {
            let is_held = queries::cleanup::hold(db, &hold).await?;
            if is_held {
                queries::cleanup::advance(db, id, progress).await?;
            }
            Ok(is_held)
        })?;
        if !is_held {
            return self.look_again(work).await;
        }
        *work = next;
        work.job.lease_until = until;
        self.tell_cleanup(&work.job);
        Ok(CleanupStep::Turn)
    }

    /// Removes what may go of these things, or counts it, and notes it in the same transaction.
    async fn sweep(&self, work: &mut CleanupWork, aim: Aim, ids: Vec<i64>) -> Result<CleanupStep> {
        let until = self.lease_until();
        let (fleet, hold, mut next) = (self.clone(), work.hold(until), work.clone());
        let (dry_run, cursor) = (work.job.dry_run, work.job.row_cursor);
        let last = ids.last().copied().unwrap_or(cursor);
        let swept = transact!(self.store, |db, queries| {
            if !queries::cleanup::hold(db, &hold).await? {
                return Ok(None);
            }
            let may_go = move |facts: &RunnerFacts| fleet.may_runner_go(&aim, facts);
            let mut gone = Vec::new();
            let swept = match aim.target {
                target if dry_run && is_of_runners(target) => {
                    let facts = queries::retention::runner_facts(db, &ids).await?;
                    let deleted = facts.iter().filter(|facts| may_go(facts)).count();
                    Swept { examined: ids.len(), deleted, cursor: last }
                }
                _ if dry_run => Swept { examined: ids.len(), deleted: ids.len(), cursor: last },
                CleanupTarget::EphemeralRunners | CleanupTarget::StaleRunners => {
                    let (examined, removed) = queries::retention::delete_runners(db, &ids, may_go).await?;
                    gone = removed;
                    let cursor = ids[..examined].last().copied().unwrap_or(cursor);
                    Swept { examined, deleted: gone.len(), cursor }
                }
                CleanupTarget::ExpiredTokens => queries::retention::delete_tokens(db, aim.aged, &ids, cursor).await?,
                CleanupTarget::FinishedTasks => queries::retention::delete_tasks(db, aim.aged, &ids, cursor).await?,
                CleanupTarget::TaskLogs => queries::retention::delete_logs(db, aim.aged, &ids, cursor).await?,
                CleanupTarget::AuditEvents => Swept { examined: 0, deleted: 0, cursor: last },
            };
            next.note(swept);
            queries::cleanup::advance(db, next.job.id, next.progress()?).await?;
            Ok(Some((next, gone)))
        })?;
        let Some((next, gone)) = swept else { return self.look_again(work).await };
        *work = next;
        work.job.lease_until = until;
        self.forget_runners(&gone);
        self.tell_cleanup(&work.job);
        Ok(CleanupStep::Batch)
    }

    /// Finds out how a job stands after something came between: a cancellation, another worker, a commit without an
    /// answer.
    ///
    /// # Errors
    /// `UNAVAILABLE`.
    pub async fn look_again(&self, work: &mut CleanupWork) -> Result<CleanupStep> {
        let (id, holder, until) = (work.job.id, work.holder.clone(), self.lease_until());
        let job = transact!(self.store, |db, queries| queries::cleanup::renew(db, id, &holder, until).await)?;
        let Some(job) = job else { return Ok(CleanupStep::Ended) };
        let is_counted = work.is_counted;
        *work = CleanupWork::new(job, &work.holder)?;
        work.is_counted |= is_counted;
        Ok(CleanupStep::Turn)
    }

    async fn finish_cleanup(&self, work: &CleanupWork, status: CleanupStatus) -> Result<CleanupStep> {
        self.end_cleanup(work.job.id, &work.holder, status, None).await?;
        Ok(CleanupStep::Ended)
    }

    /// Gives a job up. What it removed until then stays removed.
    ///
    /// # Errors
    /// `UNAVAILABLE`.
    pub async fn fail_cleanup(&self, id: i64, holder: &str, error: &AppError) -> Result<()> {
        let cause = error.source.as_ref().map(ToString::to_string).unwrap_or_default();
        tracing::error!(job = id, cause, "a cleanup job failed: {error}");
        let message = match error.code {
            ErrorCode::Internal => "The server failed inside, and its log says why. What was removed until then stays \
                                    removed. Start the cleanup again, or report this to whoever runs the server."
                .to_owned(),
            _ => error.message.to_string(),
        };
        self.end_cleanup(id, holder, CleanupStatus::Failed, Some(message)).await
    }

    async fn end_cleanup(&self, id: i64, holder: &str, status: CleanupStatus, error: Option<String>) -> Result<()> {
        let (holder, now, until) = (holder.to_owned(), self.now().as_micros(), self.lease_until());
        let ended = transact!(self.store, |db, queries| {
            let Some(job) = queries::cleanup::renew(db, id, &holder, until).await? else { return Ok(None) };
            // Whoever asked for an end in the last moment was promised one.
            let is_cancelled = job.cancel_requested && status == CleanupStatus::Succeeded;
            let status = if is_cancelled { CleanupStatus::Cancelled } else { status };
            queries::cleanup::end(db, id, status, error.as_deref(), now).await
        })?;
        if let Some(job) = ended {
            self.tell_cleanup(&job);
            let (examined, deleted) = (job.examined, job.deleted);
            tracing::info!(job = id, status = %job.status, examined, deleted, "a cleanup job ended");
            self.prune_cleanups(job.owner_id).await;
        }
        Ok(())
    }

    /// Lets a job go, so that the next worker need not wait: the server ends.
    ///
    /// # Errors
    /// `UNAVAILABLE`; it is free when its lease ends then.
    pub async fn let_cleanup_go(&self, work: &CleanupWork) -> Result<()> {
        let (id, holder) = (work.job.id, work.holder.clone());
        transact!(self.store, |db, queries| queries::cleanup::renew(db, id, &holder, 0).await.map(|_| ()))
    }
}
