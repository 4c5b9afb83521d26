//! Tasks, what they carry, and what they leave behind.

use diesel::prelude::*;

use super::Word;
use crate::model::{StopCause, TaskStatus};
use crate::store::schema::{task_log_chunks, task_outputs, task_payloads, tasks};

/// A task, without its payload.
#[derive(Clone, Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = tasks)]
pub struct TaskRow {
    /// Identifier.
    pub id: i64,
    /// The repository it is for.
    pub repository_id: i64,
    /// The account above the repository.
    pub owner_id: i64,
    /// What it is, for people.
    pub name: String,
    /// The name in lower case, for searching.
    pub name_key: String,
    /// Labels with commas between, in alphabetical order: what a runner must carry.
    pub labels: String,
    /// Where the path of the labels ends.
    pub label_node: i64,
    /// Greater goes first.
    pub priority: i64,
    /// Where it stands.
    #[diesel(serialize_as = Word)]
    pub status: TaskStatus,
    /// Why it failed or was cancelled.
    pub failure_reason: Option<String>,
    /// Why it is to stop, while it is CANCELLING.
    pub stop_cause: Option<String>,
    /// Who runs it or ran it last.
    pub runner_id: Option<i64>,
    /// That runner's name at the time.
    pub runner_name: Option<String>,
    /// That runner's UUID.
    pub runner_uuid: Option<String>,
    /// How often it was given out.
    pub attempt: i64,
    /// How often it may be given out.
    pub max_attempts: i64,
    /// How long an attempt may take.
    pub timeout_seconds: i64,
    /// When the server has to look at it next.
    pub due_at: Option<i64>,
    /// Until when its runner may still deliver after the end; 0: not at all.
    pub reports_until: i64,
    /// The number of the first log line of this attempt.
    pub log_base: i64,
    /// The number of the next log line.
    pub log_lines: i64,
    /// Bytes of log so far.
    pub log_bytes: i64,
    /// Whether the log was longer than it may be.
    pub log_truncated: bool,
    /// Whether the runner said that no more lines come.
    pub log_final: bool,
    /// The user who enqueued it.
    pub created_by: Option<i64>,
    /// When it was made.
    pub created_at: i64,
    /// When it was last queued.
    pub queued_at: i64,
    /// When a runner last took it.
    pub started_at: Option<i64>,
    /// When it ended.
    pub finished_at: Option<i64>,
    /// When it was last changed.
    pub updated_at: i64,
    /// Grows with each change of where it stands.
    pub revision: i64,
}

impl TaskRow {
    /// Why it is to stop.
    pub fn stop_cause(&self) -> Option<StopCause> {
        self.stop_cause.as_deref().and_then(|word| word.parse().ok())
    }

    /// Whether no more lines of its log can come.
    pub const fn is_log_complete(&self, now: i64) -> bool {
        self.status.is_ended() && (self.log_final || self.reports_until <= now)
    }
}

/// What a task carries to its runner.
#[derive(Clone, Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = task_payloads)]
pub struct PayloadRow {
    /// The task.
    pub task_id: i64,
    /// JSON.
    pub payload: String,
}

/// A result that a task's runner reported.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Selectable, Insertable)]
#[diesel(table_name = task_outputs)]
pub struct OutputRow {
    /// The task.
    pub task_id: i64,
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// Lines of a task's log that came in one call.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Selectable, Insertable)]
#[diesel(table_name = task_log_chunks)]
pub struct LogChunkRow {
    /// The task.
    pub task_id: i64,
    /// The number of the first line.
    pub first_line: i64,
    /// How many.
    pub line_count: i64,
    /// When they came.
    pub at: i64,
    /// The lines, with line feeds between.
    pub body: String,
}

/// A task that waits or runs, as the board in memory knows it.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = tasks)]
pub struct LiveTask {
    /// Identifier.
    pub id: i64,
    /// Of two records the greater is the newer.
    pub revision: i64,
    /// The repository it is for.
    pub repository_id: i64,
    /// The account above the repository.
    pub owner_id: i64,
    /// The labels with commas between.
    pub labels: String,
    /// QUEUED, RUNNING or CANCELLING.
    pub status: TaskStatus,
    /// Who has it.
    pub runner_id: Option<i64>,
    /// Since when; none while it waits.
    pub started_at: Option<i64>,
    /// When the server has to look at it next.
    pub due_at: Option<i64>,
}

impl LiveTask {
    /// What the board knows of a task; nothing of one that has ended.
    pub fn of(row: &TaskRow) -> Option<Self> {
        (!row.status.is_ended()).then(|| Self {
            id: row.id,
            revision: row.revision,
            repository_id: row.repository_id,
            owner_id: row.owner_id,
            labels: row.labels.clone(),
            status: row.status,
            runner_id: row.runner_id,
            started_at: row.started_at,
            due_at: row.due_at,
        })
    }
}
