//! Nothing is stuck for ever: a round every second looks after tasks whose time has come, whose runner went away, or of which
//! somebody was told who did not fetch them.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::machine::Input;
use super::no_task;
use crate::error::{AppError, ErrorCode, Result};
use crate::fleet::Fleet;
use crate::model::RunnerStatus;

/// Time between two rounds.
const ROUND: Duration = Duration::from_secs(1);
/// Tasks of one round.
const AT_ONCE: i64 = 500;

impl Fleet {
    /// Looks after tasks until told to stop.
    pub async fn keep_tasks(&self, stop: CancellationToken) {
        let mut failing = false;
        loop {
            tokio::select! {
                () = self.clock.sleep(ROUND) => {}
                () = stop.cancelled() => return,
            }
            let result = self.keep_once().await;
            match (failing, &result) {
                (true, Ok(())) => tracing::info!("tasks are looked after again"),
                (false, Err(error)) => {
                    let cause = error.source.as_ref().map(ToString::to_string).unwrap_or_default();
                    tracing::warn!(cause, "tasks cannot be looked after at the moment; trying again every second");
                }
                _ => {}
            }
            failing = result.is_err();
        }
    }

    /// One round. Each part is tried whatever becomes of the others.
    ///
    /// # Errors
    /// The first that happened.
    pub async fn keep_once(&self) -> Result<()> {
        let parts = [
            self.compare_board().await,
            self.lose_tasks_of_the_lost().await,
            self.handle_due_tasks().await,
            self.offer_again().await,
            if self.presence.has_ephemeral() { self.remove_spent_runners().await.map(|_| ()) } else { Ok(()) },
        ];
        parts.into_iter().collect()
    }

    /// Takes up the tasks that wait and run, at the start.
    ///
    /// # Errors
    /// `UNAVAILABLE`.
    pub async fn load_tasks(&self) -> Result<()> {
        self.board.doubt();
        self.compare_board().await
    }

    async fn compare_board(&self) -> Result<()> {
        let (is_doubtful, changes) = self.board.doubts();
        if !is_doubtful {
            return Ok(());
        }
        let (live, held, next_due) = read!(self.store, |db, queries| {
            let live = queries::tasks::live_counts(db).await?;
            let held = queries::tasks::held(db).await?;
            Ok((live, held, queries::tasks::next_due(db).await?))
        })?;
        // When something changed meanwhile, the next round comes.
        self.board.replace(changes, &live, &held, next_due, &self.presence);
        Ok(())
    }

    async fn lose_tasks_of_the_lost(&self) -> Result<()> {
        let since = self.now() - self.settings.tasks.times.lost_after;
        for runner_id in self.board.holders() {
            let is_lost = self
                .presence
                .get(runner_id)
                .is_none_or(|known| known.status == RunnerStatus::Offline && known.status_since <= since);
            if !is_lost {
                continue;
            }
            for held in self.board.held(runner_id) {
                self.lose_task(held.task_id, runner_id).await?;
            }
        }
        Ok(())
    }

    async fn handle_due_tasks(&self) -> Result<()> {
        loop {
            let now = self.now().as_micros();
            if !self.board.is_due(now) {
                return Ok(());
            }
            let due = read!(self.store, |db, queries| queries::tasks::due(db, now, AT_ONCE).await)?;
            let is_all = due.len() < usize::try_from(AT_ONCE).unwrap_or(usize::MAX);
            for id in due {
                let is_due = move |task: &crate::store::models::TaskRow| {
                    if task.due_at.is_some_and(|due| due <= now) { Ok(()) } else { Err(no_task()) }
                };
                match self.step_task(id, Input::Due, is_due).await {
                    Ok(moved) => tracing::info!(
                        task = id, from = %moved.before.status, to = %moved.after.status, "the time of a task was over"
                    ),
                    // It went on meanwhile.
                    Err(AppError { code: ErrorCode::NotFound | ErrorCode::Conflict, .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            if is_all {
                let (_, changes) = self.board.doubts();
                let next = read!(self.store, |db, queries| queries::tasks::next_due(db).await)?;
                self.board.set_next_due(changes, next);
                return Ok(());
            }
        }
    }

    /// Tasks that a runner was told of, and that still wait, are offered again.
    async fn offer_again(&self) -> Result<()> {
        let overdue = self.dispatch.overdue(self.now());
        if overdue.is_empty() {
            return Ok(());
        }
        let ids: Vec<i64> = overdue.iter().map(|offer| offer.task_id).collect();
        let waiting = read!(self.store, |db, queries| queries::tasks::still_queued(db, ids).await)?;
        for offer in overdue.into_iter().filter(|offer| waiting.contains(&offer.task_id)) {
            self.pass_on(offer);
        }
        Ok(())
    }
}
