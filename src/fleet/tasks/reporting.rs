//! What a runner says of a task that it has.

use super::machine::Input;
use super::{Moved, changes, no_task, plan, relabelled};
use crate::auth::Actor;
use crate::error::{AppError, Result};
use crate::fleet::{Fleet, names};
use crate::model::TaskStatus;
use crate::store::models::{OutputRow, TaskRow};

/// Most outputs of a task.
const MOST_OUTPUTS: usize = 100;
/// Largest value of an output, in bytes.
const LARGEST_OUTPUT: usize = 64 * 1024;

/// What a runner reports.
#[derive(Clone, Debug)]
pub struct TaskReport {
    /// Where the task stands: still RUNNING, or one of the ends.
    pub status: TaskStatus,
    /// Results, by name; a name that was reported before gets the new value.
    pub outputs: Vec<(String, String)>,
    /// The attempt that this is about, where the runner says it.
    pub attempt: Option<i64>,
}

impl Fleet {
    /// Takes a runner's report of a task that it has. The same end may be reported again for a while, with more outputs.
    ///
    /// # Errors
    /// `NOT_FOUND` for a task that the runner never had; `CONFLICT` for one that it has no more, or that ended otherwise;
    /// `BAD_USER_INPUT`.
    pub async fn update_task(&self, actor: &Actor, id: i64, report: TaskReport) -> Result<TaskRow> {
        let runner_id = actor.runner()?.id;
        let input = match report.status {
            TaskStatus::Running => Input::Progressed,
            TaskStatus::Succeeded => Input::Succeeded,
            TaskStatus::Failed => Input::Failed,
            TaskStatus::Cancelled => Input::Stopped,
            other @ (TaskStatus::Queued | TaskStatus::Cancelling) => {
                return Err(AppError::bad_input(
                    "status",
                    format!(
                        "A runner reports RUNNING, SUCCEEDED, FAILED or CANCELLED, not {other}. To give the task back, use \
                         releaseTask."
                    ),
                ));
            }
        };
        let outputs = checked(id, report.outputs)?;
        let (now, times) = (self.now(), self.settings.tasks.times);
        let moved = transact!(self.store, |db, queries| {
            let before = queries::tasks::lock(db, id).await?.ok_or_else(no_task)?;
            let had = before.runner_id == Some(runner_id) || queries::tasks::had(db, id, runner_id).await?;
            has(&before, runner_id, had, report.attempt, now.as_micros())?;
            let after = match plan::plan(&before, input, now, &times)? {
                Some(plan) => {
                    let changes = changes!(queries, &before, &plan, now.as_micros());
                    queries::tasks::apply(db, id, changes).await?
                }
                None => before.clone(),
            };
            if !outputs.is_empty() {
                queries::tasks::put_outputs(db, outputs).await?;
                let count = queries::tasks::count_outputs(db, id).await?;
                if usize::try_from(count).is_ok_and(|count| count > MOST_OUTPUTS) {
                    return Err(too_many(count));
                }
            }
            Ok(Moved { before, after })
        });
        let moved = self.doubting(moved)?;
        self.presence.work(runner_id);
        self.task_moved(&moved);
        Ok(moved.after)
    }

    /// A runner hands a task back: it is queued again, as often as it may be given out.
    ///
    /// # Errors
    /// As [`Fleet::update_task`].
    pub async fn release_task(&self, actor: &Actor, id: i64, attempt: Option<i64>) -> Result<TaskRow> {
        let runner_id = actor.runner()?.id;
        let (now, times, ids) = (self.now(), self.settings.tasks.times, self.ids.clone());
        let moved = transact!(self.store, |db, queries| {
            let before = queries::tasks::lock(db, id).await?.ok_or_else(no_task)?;
            let had = before.runner_id == Some(runner_id) || queries::tasks::had(db, id, runner_id).await?;
            has(&before, runner_id, had, attempt, 0)?;
            let Some(plan) = plan::plan(&before, Input::HandedBack, now, &times)? else {
                return Ok(Moved { after: before.clone(), before });
            };
            let mut changes = changes!(queries, &before, &plan, now.as_micros());
            changes.label_node = relabelled!(db, queries, &before, &plan, now, ids);
            queries::tasks::clear_outputs(db, id).await?;
            let after = queries::tasks::apply(db, id, changes).await?;
            Ok(Moved { before, after })
        });
        let moved = self.doubting(moved)?;
        self.task_moved(&moved);
        Ok(moved.after)
    }

    /// A runner is out of the game: its task is queued again, or fails if that happened too often.
    pub(in crate::fleet) async fn lose_task(&self, id: i64, runner_id: i64) -> Result<()> {
        let still_there = move |task: &TaskRow| {
            if task.runner_id == Some(runner_id) && task.status.is_held() { Ok(()) } else { Err(no_task()) }
        };
        match self.step_task(id, Input::Lost, still_there).await {
            Ok(moved) => {
                tracing::info!(task = id, runner = runner_id, status = %moved.after.status, "a task lost its runner");
                Ok(())
            }
            Err(error) if error.code == crate::error::ErrorCode::NotFound => {
                // The board said otherwise.
                self.board.doubt(self.now());
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

/// Checks that a runner has a task, or had it at the end and may still speak of it.
pub(super) fn has(task: &TaskRow, runner_id: i64, had: bool, attempt: Option<i64>, now: i64) -> Result<()> {
    if !had {
        return Err(no_task());
    }
    let is_another = attempt.is_some_and(|attempt| attempt != task.attempt);
    if task.runner_id != Some(runner_id) || task.status == TaskStatus::Queued || is_another {
        return Err(AppError::conflict(
            "The task was taken from this runner, because it was not heard from or handed the task back. Stop working on it.",
        ));
    }
    if task.status.is_ended() && task.reports_until <= now {
        return Err(AppError::conflict(format!(
            "The task has ended: it is {}, and nothing more is taken for it. Stop working on it.",
            task.status
        )));
    }
    Ok(())
}

fn too_many(count: impl std::fmt::Display) -> AppError {
    let message = format!("There are {count} outputs; at most {MOST_OUTPUTS} are kept of a task.");
    AppError::bad_input("outputs", message)
}

fn checked(task_id: i64, outputs: Vec<(String, String)>) -> Result<Vec<OutputRow>> {
    if outputs.len() > MOST_OUTPUTS {
        return Err(too_many(outputs.len()));
    }
    let mut rows: Vec<OutputRow> = Vec::with_capacity(outputs.len());
    for (name, value) in outputs {
        let name = names::display_name("outputs", &name)?;
        if value.len() > LARGEST_OUTPUT {
            let message = format!("The output {name:?} has {} bytes; at most {LARGEST_OUTPUT} are kept.", value.len());
            return Err(AppError::bad_input("outputs", message));
        }
        rows.retain(|row| row.name != name);
        rows.push(OutputRow { task_id, name, value: value.replace('\0', "\u{fffd}") });
    }
    Ok(rows)
}
