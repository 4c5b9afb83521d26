//! What people do with tasks: enqueue, cancel, retry.

use super::machine::Input;
use super::no_task;
use crate::auth::Actor;
use crate::error::{AppError, Result};
use crate::fleet::{Fleet, names};
use crate::model::{AccessTokenScope, TaskStatus};
use crate::store::models::TaskRow;

/// Largest payload, in bytes of JSON.
pub const LARGEST_PAYLOAD: usize = 1024 * 1024;
/// Priorities go from minus this to this.
const HIGHEST_PRIORITY: i64 = 1_000_000;
/// How long a task may run unless it says otherwise, in seconds. As in Gitea.
const USUAL_TIMEOUT: i64 = 3 * 3600;
/// How long a task may run at most, in seconds.
const LONGEST_TIMEOUT: i64 = 30 * 24 * 3600;
/// How often a task is given out unless it says otherwise: a runner may be lost twice.
const USUAL_ATTEMPTS: i64 = 3;
/// How often a task may be given out at most.
const MOST_ATTEMPTS: i64 = 100;

/// A task to be enqueued.
#[derive(Clone, Debug)]
pub struct NewTask {
    /// The repository it is for, as `owner/name`.
    pub repository: String,
    /// What it is, for people.
    pub name: String,
    /// What its runner must carry.
    pub labels: Vec<String>,
    /// JSON for its runner.
    pub payload: String,
    /// Greater goes first; 0 unless said.
    pub priority: Option<i64>,
    /// How long an attempt may take.
    pub timeout_seconds: Option<i64>,
    /// How often it may be given out.
    pub max_attempts: Option<i64>,
}

impl Fleet {
    /// Enqueues a task. Whoever may write to the repository may.
    ///
    /// # Errors
    /// `NOT_FOUND` for the repository, `FORBIDDEN`, `BAD_USER_INPUT`.
    pub async fn enqueue_task(&self, actor: &Actor, task: NewTask) -> Result<TaskRow> {
        actor.user(AccessTokenScope::WriteTask)?;
        let name = names::display_name("name", &task.name)?;
        let labels = names::labels("labels", &task.labels)?;
        if task.payload.len() > LARGEST_PAYLOAD {
            return Err(AppError::bad_input(
                "payload",
                format!(
                    "The payload has {} bytes of JSON; at most {LARGEST_PAYLOAD} (1 MiB) are allowed. Give the task a place \
                     to fetch the rest from.",
                    task.payload.len()
                ),
            ));
        }
        let priority =
            within("priority", task.priority, 0, -HIGHEST_PRIORITY..=HIGHEST_PRIORITY, "greater goes first")?;
        let timeout_seconds = within(
            "timeoutSeconds",
            task.timeout_seconds,
            USUAL_TIMEOUT,
            1..=LONGEST_TIMEOUT,
            "seconds of one attempt",
        )?;
        let max_attempts = within(
            "maxAttempts",
            task.max_attempts,
            USUAL_ATTEMPTS,
            1..=MOST_ATTEMPTS,
            "how often it is given out when runners go away",
        )?;
        let repository = self.repository(actor, &task.repository).await?;
        actor.require_manager(&repository, AccessTokenScope::WriteTask)?;
        let created_by = match actor {
            Actor::User(user) => Some(user.id),
            _ => None,
        };
        let now = self.now();
        let row = TaskRow {
            id: self.ids.next(),
            repository_id: repository.id,
            owner_id: repository.owner_id(),
            name_key: name.to_lowercase(),
            name,
            labels: labels.join(","),
            label_node: 0,
            priority,
            status: TaskStatus::Queued,
            failure_reason: None,
            stop_cause: None,
            runner_id: None,
            runner_name: None,
            runner_uuid: None,
            attempt: 0,
            max_attempts,
            timeout_seconds,
            due_at: Some((now + self.settings.tasks.times.queue_timeout).as_micros()),
            reports_until: 0,
            log_base: 0,
            log_lines: 0,
            log_bytes: 0,
            log_truncated: false,
            log_final: false,
            created_by,
            created_at: now.as_micros(),
            queued_at: now.as_micros(),
            started_at: None,
            finished_at: None,
            updated_at: now.as_micros(),
            revision: 0,
        };
        let stale = now - super::LABELS_STALE;
        let known = self.label_nodes.get(&row.labels).filter(|(_, used_at)| *used_at >= stale);
        let known = if labels.is_empty() { Some(0) } else { known.map(|(node, _)| node) };
        let (payload, ids) = (task.payload, self.ids.clone());
        let added = transact!(self.store, |db, queries| {
            // The repository before its task, as whoever deletes it does.
            queries::scopes::keep_scope(db, row.repository_id).await?;
            let label_node = match known {
                Some(node) => node,
                None => {
                    queries::tasks::label_node(db, &labels, || ids.next(), now.as_micros(), stale.as_micros()).await?
                }
            };
            let row = TaskRow { label_node, ..row };
            queries::tasks::insert(db, row.clone(), payload).await?;
            Ok(row)
        });
        let row = self.doubting(added)?;
        if known.is_none() {
            // For as long as nobody removes it.
            self.label_nodes.insert(row.labels.clone(), (row.label_node, now));
        }
        self.task_added(&row);
        Ok(row)
    }

    /// Cancels a task: at once while it waits, otherwise its runner is told to stop. Whoever may write to the repository may.
    ///
    /// # Errors
    /// `NOT_FOUND`, `FORBIDDEN`, `CONFLICT` for one that has ended.
    pub async fn cancel_task(&self, actor: &Actor, id: i64) -> Result<TaskRow> {
        self.writable_task(actor, id).await?;
        Ok(self.step_task(id, Input::CancelRequested, |_| Ok(())).await?.after)
    }

    /// Queues a task that has ended once more. Whoever may write to the repository may.
    ///
    /// # Errors
    /// `NOT_FOUND`, `FORBIDDEN`, `CONFLICT` for one that has not ended.
    pub async fn retry_task(&self, actor: &Actor, id: i64) -> Result<TaskRow> {
        self.writable_task(actor, id).await?;
        Ok(self.step_task(id, Input::Retried, |_| Ok(())).await?.after)
    }

    /// Checks that an actor may change a task.
    async fn writable_task(&self, actor: &Actor, id: i64) -> Result<()> {
        actor.user(AccessTokenScope::WriteTask)?;
        let found = read!(self.store, |db, queries| queries::tasks::by_ids(db, vec![id]).await)?.pop();
        let task = found.filter(|task| self.sees_task(actor, task)).ok_or_else(no_task)?;
        if actor.manages(task.owner_id) {
            return Ok(());
        }
        Err(AppError::forbidden("You may see this task but not change it; ask an owner of its repository."))
    }
}

fn within(
    field: &'static str,
    given: Option<i64>,
    usual: i64,
    range: std::ops::RangeInclusive<i64>,
    meaning: &str,
) -> Result<i64> {
    let value = given.unwrap_or(usual);
    if range.contains(&value) {
        return Ok(value);
    }
    let (start, end) = range.into_inner();
    Err(AppError::bad_input(field, format!("{field} is from {start} to {end} ({meaning}), not {value}.")))
}
