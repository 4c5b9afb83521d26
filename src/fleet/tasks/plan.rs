//! What a step means for a task's record.

use std::time::Duration;

use super::machine::{Input, Reason, State, Step, step};
use crate::clock::Timestamp;
use crate::error::{AppError, Result};
use crate::model::{StopCause, TaskStatus};
use crate::store::models::TaskRow;

/// The configured times of a task's life.
#[derive(Clone, Copy, Debug)]
pub struct TaskTimes {
    /// How long a task may wait for a runner.
    pub queue_timeout: Duration,
    /// How long a runner may be OFFLINE before its tasks are queued again.
    pub lost_after: Duration,
    /// How long a runner may take to stop a task.
    pub cancel_timeout: Duration,
    /// How long after the end a runner may still deliver log lines and outputs.
    pub late_reports: Duration,
}

/// What changes in a record. The store has the same in its own terms; this one knows no database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Where the task stands then.
    pub(super) status: TaskStatus,
    pub(super) stop_cause: Option<StopCause>,
    pub(super) failure_reason: Option<String>,
    pub(super) due_at: Option<i64>,
    pub(super) reports_until: i64,
    pub(super) attempt: i64,
    pub(super) max_attempts: i64,
    /// Whether it is given out or queued anew, so that what the attempt before said of itself is over.
    pub(super) is_fresh: bool,
}

/// What an input does to a task; nothing where it is so already.
///
/// # Errors
/// `CONFLICT` when it cannot be done in the task's state.
pub(super) fn plan(row: &TaskRow, input: Input, now: Timestamp, times: &TaskTimes) -> Result<Option<Plan>> {
    let state = State {
        status: row.status,
        stop_cause: row.stop_cause(),
        attempt: row.attempt,
        max_attempts: row.max_attempts,
    };
    let keep = Plan {
        status: row.status,
        stop_cause: None,
        failure_reason: None,
        due_at: None,
        reports_until: 0,
        attempt: row.attempt,
        max_attempts: row.max_attempts,
        is_fresh: false,
    };
    let due = |after: Duration| Some((now + after).as_micros());
    Ok(Some(match step(state, input) {
        Step::Stay => return Ok(None),
        Step::Refuse => return Err(refused(row, input)),
        Step::Stop(cause) => {
            Plan { status: TaskStatus::Cancelling, stop_cause: Some(cause), due_at: due(times.cancel_timeout), ..keep }
        }
        Step::To(TaskStatus::Queued, _) => Plan {
            status: TaskStatus::Queued,
            due_at: due(times.queue_timeout),
            attempt: row.attempt - i64::from(input == Input::Undelivered),
            // Whoever asks for another run gets at least one.
            max_attempts: if input == Input::Retried {
                row.max_attempts.max(row.attempt + 1)
            } else {
                row.max_attempts
            },
            is_fresh: true,
            ..keep
        },
        Step::To(TaskStatus::Running, _) => Plan {
            status: TaskStatus::Running,
            due_at: due(Duration::from_secs(u64::try_from(row.timeout_seconds).unwrap_or(0))),
            attempt: row.attempt + 1,
            is_fresh: true,
            ..keep
        },
        Step::To(ended, reason) => {
            let is_reported = matches!(input, Input::Succeeded | Input::Failed | Input::Stopped);
            Plan {
                status: ended,
                failure_reason: reason.map(|reason| words(reason, row, times)),
                reports_until: if is_reported { (now + times.late_reports).as_micros() } else { 0 },
                ..keep
            }
        }
    }))
}

/// The reason, for people.
fn words(reason: Reason, row: &TaskRow, times: &TaskTimes) -> String {
    let runner = row.runner_name.as_deref().unwrap_or("a runner");
    match reason {
        Reason::Broken => "The task could not be given to a runner: what it carries cannot be read.".to_owned(),
        Reason::Reported => format!("The runner {runner} reported it."),
        Reason::Lost => format!(
            "The runner {runner} went away while it ran the task, and it was given out {} times, which is all that it may \
             be (maxAttempts).",
            row.attempt
        ),
        Reason::HandedBack => format!(
            "The runner {runner} handed the task back, and it was given out {} times, which is all that it may be \
             (maxAttempts).",
            row.attempt
        ),
        Reason::Timeout => format!("It ran longer than {} seconds (timeoutSeconds).", row.timeout_seconds),
        Reason::WaitedTooLong => {
            format!("It waited longer than {} seconds for a runner (queue_timeout).", times.queue_timeout.as_secs())
        }
        Reason::Requested => "It was cancelled.".to_owned(),
    }
}

fn refused(row: &TaskRow, input: Input) -> AppError {
    let status = row.status;
    AppError::conflict(match input {
        Input::CancelRequested => format!("The task has ended already: it is {status}."),
        Input::Retried => format!("The task is {status}; only one that has ended can be retried. Cancel it first."),
        _ if status.is_ended() => format!("The task has ended already: it is {status}. Stop working on it."),
        _ => format!("The task is {status}, and this cannot be done then."),
    })
}
