//! Nothing is stuck for ever: a round every second looks after tasks whose time has come, whose runner went away, or of which
//! somebody was told who did not fetch them.

use std::collections::HashMap;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::machine::Input;
use super::no_task;
use crate::error::{AppError, ErrorCode, Result};
use crate::fleet::Fleet;
use crate::model::{RunnerStatus, TaskStatus};
use crate::store::models::{LiveTask, TaskRow, list};

/// Time between two rounds.
const ROUND: Duration = Duration::from_secs(1);
/// Tasks of one round.
const AT_ONCE: i64 = 500;
/// Tasks read at once when all are read.
const LIVE_AT_ONCE: i64 = 10_000;
/// Rounds between two removals of unused sets of labels.
const ROUNDS_TO_PRUNE: u32 = 600;

impl Fleet {
    /// Looks after tasks until told to stop.
    pub async fn keep_tasks(&self, stop: CancellationToken) {
        let (mut failing, mut rounds) = (false, 0_u32);
        loop {
            tokio::select! {
                () = self.clock.sleep(ROUND) => {}
                () = stop.cancelled() => return,
            }
            let mut result = self.keep_once().await;
            rounds = rounds.wrapping_add(1);
            if rounds % ROUNDS_TO_PRUNE == 0 {
                result = result.and(self.prune_labels().await);
            }
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
        let tasks = self.live_tasks_of_the_database().await?;
        // How long tasks may wait may have been another time before.
        let mut sets: Vec<&str> =
            tasks.iter().filter(|task| task.status == TaskStatus::Queued).map(|task| task.labels.as_str()).collect();
        sets.sort_unstable();
        sets.dedup();
        let sets: Vec<Vec<String>> = sets.into_iter().map(list).collect();
        let (now, ids) = (self.now(), self.ids.clone());
        if !sets.is_empty() {
            let (used_at, stale) = (now.as_micros(), (now - super::LABELS_STALE).as_micros());
            transact!(self.store, |db, queries| {
                for labels in &sets {
                    queries::tasks::label_node(db, labels, || ids.next(), used_at, stale).await?;
                }
                Ok(())
            })?;
        }
        self.board.compare(&HashMap::new(), tasks, now, &self.presence);
        Ok(())
    }

    async fn live_tasks_of_the_database(&self) -> Result<Vec<LiveTask>> {
        let mut tasks: Vec<LiveTask> = Vec::new();
        loop {
            let last = tasks.last().map_or(0, |task| task.id);
            let page = read!(self.store, |db, queries| queries::tasks::live_after(db, last, LIVE_AT_ONCE).await)?;
            if page.is_empty() {
                return Ok(tasks);
            }
            tasks.extend(page);
        }
    }

    async fn compare_board(&self) -> Result<()> {
        let Some(before) = self.board.doubts(self.now()) else { return Ok(()) };
        let tasks = self.live_tasks_of_the_database().await?;
        self.board.compare(&before, tasks, self.now(), &self.presence);
        // What nobody could tell of is found by whoever waits.
        self.dispatch.all_look_again();
        Ok(())
    }

    async fn lose_tasks_of_the_lost(&self) -> Result<()> {
        let since = self.now() - self.settings.tasks.times.lost_after;
        let mut result = Ok(());
        for runner_id in self.board.holders() {
            let is_lost = self
                .presence
                .get(runner_id)
                .is_none_or(|known| known.status == RunnerStatus::Offline && known.status_since <= since);
            if !is_lost {
                continue;
            }
            for held in self.board.held(runner_id) {
                let lost = self.lose_task(held.task_id, runner_id).await;
                result = result.and(lost);
            }
        }
        result
    }

    async fn handle_due_tasks(&self) -> Result<()> {
        let now = self.now().as_micros();
        if !self.board.is_due(now) {
            return Ok(());
        }
        self.board.forget_due();
        let due = read!(self.store, |db, queries| {
            let due = queries::tasks::due(db, now, AT_ONCE).await?;
            Ok((due, queries::tasks::next_due(db, now).await?))
        });
        let (due, next) = due.inspect_err(|_| self.board.note_due(Some(now)))?;
        let is_all = due.len() < usize::try_from(AT_ONCE).unwrap_or(usize::MAX);
        self.board.note_due(if is_all { next } else { Some(now) });
        let mut result = Ok(());
        for id in due {
            let is_due = move |task: &TaskRow| {
                if task.due_at.is_some_and(|due| due <= now) { Ok(()) } else { Err(no_task()) }
            };
            match self.step_task(id, Input::Due, is_due).await {
                Ok(moved) => tracing::info!(
                    task = id, from = %moved.before.status, to = %moved.after.status, "the time of a task was over"
                ),
                // It went on meanwhile.
                Err(AppError { code: ErrorCode::NotFound | ErrorCode::Conflict, .. }) => {}
                Err(error) => {
                    self.board.note_due(Some(now));
                    result = result.and(Err(error));
                }
            }
        }
        result
    }

    /// Tasks that a runner was told of, and that still wait, are offered again.
    async fn offer_again(&self) -> Result<()> {
        let now = self.now();
        let overdue = self.dispatch.overdue(now);
        if overdue.is_empty() {
            return Ok(());
        }
        let ids: Vec<i64> = overdue.iter().map(|offer| offer.task_id).collect();
        let waiting = match read!(self.store, |db, queries| queries::tasks::still_queued(db, ids).await) {
            Ok(waiting) => waiting,
            Err(error) => {
                for offer in overdue {
                    self.dispatch.check_later(offer, now + ROUND);
                }
                return Err(error);
            }
        };
        for offer in overdue.into_iter().filter(|offer| waiting.contains(&offer.task_id)) {
            self.pass_on(offer);
        }
        Ok(())
    }

    /// Removes sets of labels that no task has asked for for longer than tasks may wait.
    async fn prune_labels(&self) -> Result<()> {
        let before = self.labels_used_since();
        transact!(self.store, |db, queries| queries::tasks::prune_labels(db, before, AT_ONCE).await).map(|_| ())
    }
}
