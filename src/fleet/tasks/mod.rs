//! Tasks: how they come in, are given out, reported on, and never stuck.

mod board;
mod claiming;
mod directives;
mod dispatch;
mod enqueueing;
mod keeping;
mod logs;
pub mod machine;
mod placement;
mod plan;
mod reading;
mod reporting;

pub use board::{Board, Held, Live};
pub use claiming::Fetched;
pub use directives::DirectiveStream;
pub use dispatch::Dispatch;
pub use enqueueing::{LARGEST_PAYLOAD, NewTask};
pub use logs::{LogFollower, LogLine, LogPart};
pub use placement::{Placed, Waiting};
pub use plan::TaskTimes;
pub use reading::TaskQuery;
pub use reporting::TaskReport;

use std::time::Duration;

use super::Fleet;
use crate::error::{AppError, Result};
use crate::events::{Directive, Event, LogLines, Occurrence};
use crate::model::{PlacementVerdict, TaskStatus};
use crate::store::models::TaskRow;
use dispatch::Offer;
use machine::Input;

/// What the fleet needs of the configuration for tasks.
#[derive(Clone, Copy, Debug)]
pub struct TaskSettings {
    /// Times of a task's life.
    pub times: TaskTimes,
    /// Largest log of a task, in bytes.
    pub max_log_bytes: u64,
}

/// Brings a plan into the store's terms, in the middle of a transaction. A macro, since the store's terms exist once for each
/// database.
macro_rules! changes {
    ($queries:ident, $row:expr, $plan:expr, $now:expr) => {{
        let (row, plan, now): (&$crate::store::models::TaskRow, &$crate::fleet::tasks::plan::Plan, i64) =
            ($row, $plan, $now);
        let mut changes = $queries::tasks::TaskChanges {
            status: Some(plan.status),
            stop_cause: Some(plan.stop_cause.map(|cause| cause.as_str().to_owned())),
            failure_reason: Some(plan.failure_reason.clone()),
            due_at: Some(plan.due_at),
            reports_until: Some(plan.reports_until),
            attempt: Some(plan.attempt),
            max_attempts: Some(plan.max_attempts),
            updated_at: Some(now),
            revision: Some(row.revision + 1),
            ..Default::default()
        };
        if plan.is_fresh {
            changes.log_base = Some(row.log_lines);
            changes.log_bytes = Some(0);
            changes.log_truncated = Some(false);
            changes.log_final = Some(false);
            changes.started_at = Some((plan.status == $crate::model::TaskStatus::Running).then_some(now));
            changes.finished_at = Some(None);
        }
        if plan.status == $crate::model::TaskStatus::Queued {
            changes.queued_at = Some(now);
            changes.runner_id = Some(None);
            changes.runner_name = Some(None);
            changes.runner_uuid = Some(None);
        }
        if plan.status.is_ended() {
            changes.finished_at = Some(Some(now));
        }
        changes
    }};
}
use changes;

/// The label node of a task that a plan queues again, in the middle of a transaction: noted as used, and made anew if it was
/// removed.
macro_rules! relabelled {
    ($db:ident, $queries:ident, $row:expr, $plan:expr, $now:expr, $ids:ident) => {
        if $plan.status == $crate::model::TaskStatus::Queued {
            let labels = $crate::store::models::list(&$row.labels);
            let stale = ($now - $crate::fleet::tasks::LABELS_STALE).as_micros();
            Some($queries::tasks::label_node($db, &labels, || $ids.next(), $now.as_micros(), stale).await?)
        } else {
            None
        }
    };
}
use relabelled;

/// How old the note of when a set of labels was last used may be.
const LABELS_STALE: Duration = Duration::from_hours(1);

/// A task before and after a step.
#[derive(Clone, Debug)]
pub(super) struct Moved {
    pub(super) before: TaskRow,
    pub(super) after: TaskRow,
}

impl Fleet {
    /// Does a step of a task that `may` lets through, and tells whoever has to know.
    async fn step_task(
        &self,
        id: i64,
        input: Input,
        may: impl FnOnce(&TaskRow) -> Result<()> + Send + 'static,
    ) -> Result<Moved> {
        let (now, times, ids) = (self.now(), self.settings.tasks.times, self.ids.clone());
        let moved = transact!(self.store, |db, queries| {
            let before = queries::tasks::lock(db, id).await?.ok_or_else(no_task)?;
            may(&before)?;
            let after = match plan::plan(&before, input, now, &times)? {
                Some(plan) => {
                    let mut changes = changes!(queries, &before, &plan, now.as_micros());
                    changes.label_node = relabelled!(db, queries, &before, &plan, now, ids);
                    if plan.status == TaskStatus::Queued {
                        queries::tasks::clear_outputs(db, id).await?;
                    }
                    queries::tasks::apply(db, id, changes).await?
                }
                None => before.clone(),
            };
            Ok(Moved { before, after })
        });
        let moved = self.doubting(moved)?;
        self.task_moved(&moved);
        Ok(moved)
    }

    /// After a failure that leaves open whether it was committed, memory is compared with the database.
    pub(super) fn doubting<T>(&self, result: Result<T>) -> Result<T> {
        use crate::error::ErrorCode::{Internal, Unavailable};
        if result.as_ref().is_err_and(|error| matches!(error.code, Internal | Unavailable)) {
            self.board.doubt(self.now());
        }
        result
    }

    /// A task changed, after the commit.
    pub(super) fn task_moved(&self, moved: &Moved) {
        let Moved { before, after } = moved;
        if before.status == after.status && before.attempt == after.attempt {
            return;
        }
        self.board.changed(after, self.now(), &self.presence);
        self.tell_of_task(Some(before.status), after);
        if before.status.is_held() && !after.status.is_held() {
            // Whoever told it to its stream is free again.
            if let Some(runner_id) = before.runner_id {
                self.dispatch.look_again(runner_id);
            }
        }
        match after.status {
            TaskStatus::Queued => self.offer(after),
            TaskStatus::Cancelling => {
                if let Some(runner_id) = after.runner_id {
                    self.direct(runner_id, Directive::CancelTask(after.id));
                }
            }
            _ => {}
        }
    }

    /// A task is new, after the commit.
    fn task_added(&self, task: &TaskRow) {
        self.board.changed(task, self.now(), &self.presence);
        self.tell_of_task(None, task);
        self.offer(task);
    }

    /// Tasks went with their repository, after the commit.
    pub(super) fn tasks_gone(&self, gone: &[TaskRow]) {
        for task in gone {
            self.board.gone(task.id, self.now(), &self.presence);
            self.tell_task(Event::TaskRemoved { task_id: task.id }, task);
            self.tell_task(Event::LogChanged { task_id: task.id, added: LogLines::default(), look_again: true }, task);
            if let Some(runner_id) = task.runner_id.filter(|_| task.status.is_held()) {
                self.direct(runner_id, Directive::CancelTask(task.id));
            }
        }
    }

    fn tell_of_task(&self, previous: Option<TaskStatus>, task: &TaskRow) {
        let event = Event::TaskChanged { task_id: task.id, previous, current: task.status };
        self.tell_task(event, task);
        // Whoever follows the log looks when it will be complete, or that it goes on.
        let look = Event::LogChanged { task_id: task.id, added: LogLines::default(), look_again: true };
        self.tell_task(look, task);
    }

    /// Sets of labels that were last used before this have no task that waits.
    fn labels_used_since(&self) -> i64 {
        (self.now() - self.settings.tasks.times.queue_timeout - LABELS_STALE * 2).as_micros()
    }

    fn tell_task(&self, event: Event, task: &TaskRow) {
        self.bus.publish(Occurrence {
            event,
            runner_id: task.runner_id.unwrap_or(0),
            scope_id: task.repository_id,
            owner_id: task.owner_id,
            at: self.now(),
        });
    }

    /// Tells a runner what to do, if it listens.
    pub(super) fn direct(&self, runner_id: i64, directive: Directive) {
        self.tell(Event::Directed(directive), runner_id, 0, 0);
    }

    /// Tells one runner that could take a task of it.
    fn offer(&self, task: &TaskRow) {
        self.pass_on(Offer::of(task));
    }

    fn pass_on(&self, offer: Offer) {
        let is_ready = |runner_id| {
            self.presence.profile(runner_id).is_some_and(|profile| profile.verdict == PlacementVerdict::Ready)
        };
        self.dispatch.offer(offer, self.now(), is_ready);
    }
}

pub(super) fn no_task() -> AppError {
    AppError::not_found("The task")
}
