//! Tasks: how they come in, change, and are found by runners.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

pub use super::super::{lock_first, queue_heads};
pub use super::task_lists::{counts, pages};

use super::super::{Connection, Dialect};
use super::union::{MOST_SELECTS, UnionAll};
use crate::error::Result;
use crate::model::TaskStatus;
use crate::store::lists::QueuePlace;
use crate::store::models::{HeldTask, LiveTasks, OutputRow, PayloadRow, TaskRow, Word};
use crate::store::schema::{label_nodes, task_attempts, task_outputs, task_payloads, tasks};

/// The tasks of these identifiers, in no order.
pub async fn by_ids(db: &mut Connection, ids: Vec<i64>) -> Result<Vec<TaskRow>> {
    Ok(tasks::table.filter(tasks::id.eq_any(ids)).select(TaskRow::as_select()).load(db).await?)
}

/// Locks a task until the transaction ends, and returns it as it is now.
pub async fn lock(db: &mut Connection, id: i64) -> Result<Option<TaskRow>> {
    Ok(diesel::update(tasks::table.filter(tasks::id.eq(id)))
        .set(tasks::updated_at.eq(tasks::updated_at))
        .returning(TaskRow::as_returning())
        .get_result(db)
        .await
        .optional()?)
}

/// The node where the path of a set of labels ends, given in alphabetical order; made where it is missing. `next_id` gives
/// identifiers for new nodes.
pub async fn label_node(db: &mut Connection, labels: &[String], mut next_id: impl FnMut() -> i64) -> Result<i64> {
    let mut parent = 0;
    for label in labels {
        let known = label_nodes::table
            .filter(label_nodes::parent_id.eq(parent))
            .filter(label_nodes::label.eq(label))
            .select(label_nodes::id);
        let mut found: Option<i64> = known.first(db).await.optional()?;
        if found.is_none() {
            let id = next_id();
            let node = (label_nodes::id.eq(id), label_nodes::parent_id.eq(parent), label_nodes::label.eq(label));
            let made =
                diesel::insert_into(label_nodes::table).values(node).on_conflict_do_nothing().execute(db).await?;
            found = if made == 1 { Some(id) } else { Some(known.first(db).await?) };
        }
        parent = found.unwrap_or(parent);
    }
    Ok(parent)
}

/// Adds a task with what it carries.
pub async fn insert(db: &mut Connection, row: TaskRow, payload: String) -> Result<()> {
    let payload = PayloadRow { task_id: row.id, payload };
    diesel::insert_into(tasks::table).values(row).execute(db).await?;
    diesel::insert_into(task_payloads::table).values(payload).execute(db).await?;
    Ok(())
}

/// What changes in a task; `None` leaves a column as it is.
#[derive(Clone, Debug, Default, AsChangeset)]
#[diesel(table_name = tasks)]
pub struct TaskChanges {
    /// Where it stands.
    #[diesel(serialize_as = Word)]
    pub status: Option<TaskStatus>,
    /// Why it failed or was cancelled.
    pub failure_reason: Option<Option<String>>,
    /// Why it is to stop.
    pub stop_cause: Option<Option<String>>,
    /// Who runs it.
    pub runner_id: Option<Option<i64>>,
    /// That runner's name.
    pub runner_name: Option<Option<String>>,
    /// That runner's UUID.
    pub runner_uuid: Option<Option<String>>,
    /// How often it was given out.
    pub attempt: Option<i64>,
    /// How often it may be given out.
    pub max_attempts: Option<i64>,
    /// When the server has to look at it next.
    pub due_at: Option<Option<i64>>,
    /// Until when its runner may still deliver after the end.
    pub reports_until: Option<i64>,
    /// The number of the first log line of this attempt.
    pub log_base: Option<i64>,
    /// The number of the next log line.
    pub log_lines: Option<i64>,
    /// Bytes of log so far.
    pub log_bytes: Option<i64>,
    /// Whether the log was longer than it may be.
    pub log_truncated: Option<bool>,
    /// Whether the runner said that no more lines come.
    pub log_final: Option<bool>,
    /// When it was last queued.
    pub queued_at: Option<i64>,
    /// When a runner took it.
    pub started_at: Option<Option<i64>>,
    /// When it ended.
    pub finished_at: Option<Option<i64>>,
    /// When it was changed.
    pub updated_at: Option<i64>,
}

/// Changes a task that the transaction has locked, and returns it as it is then.
pub async fn apply(db: &mut Connection, id: i64, changes: TaskChanges) -> Result<TaskRow> {
    Ok(diesel::update(tasks::table.filter(tasks::id.eq(id)))
        .set(changes)
        .returning(TaskRow::as_returning())
        .get_result(db)
        .await?)
}

/// Notes who is given a task. An attempt that was never delivered is given again.
pub async fn put_attempt(db: &mut Connection, task_id: i64, attempt: i64, runner_id: i64, at: i64) -> Result<()> {
    let row = (
        task_attempts::task_id.eq(task_id),
        task_attempts::attempt.eq(attempt),
        task_attempts::runner_id.eq(runner_id),
        task_attempts::started_at.eq(at),
    );
    diesel::insert_into(task_attempts::table)
        .values(row)
        .on_conflict((task_attempts::task_id, task_attempts::attempt))
        .do_update()
        .set((task_attempts::runner_id.eq(runner_id), task_attempts::started_at.eq(at)))
        .execute(db)
        .await?;
    Ok(())
}

/// Whether a runner was ever given a task.
pub async fn had(db: &mut Connection, task_id: i64, runner_id: i64) -> Result<bool> {
    let attempts: i64 = task_attempts::table
        .filter(task_attempts::task_id.eq(task_id))
        .filter(task_attempts::runner_id.eq(runner_id))
        .count()
        .get_result(db)
        .await?;
    Ok(attempts > 0)
}

/// What tasks carry, in no order.
pub async fn payloads(db: &mut Connection, ids: Vec<i64>) -> Result<Vec<PayloadRow>> {
    Ok(task_payloads::table.filter(task_payloads::task_id.eq_any(ids)).select(PayloadRow::as_select()).load(db).await?)
}

/// What the runners of tasks reported, by name.
pub async fn outputs(db: &mut Connection, ids: Vec<i64>) -> Result<Vec<OutputRow>> {
    Ok(task_outputs::table
        .filter(task_outputs::task_id.eq_any(ids))
        .order((task_outputs::task_id.asc(), task_outputs::name.asc()))
        .select(OutputRow::as_select())
        .load(db)
        .await?)
}

/// Keeps outputs; a name that is there gets the new value.
pub async fn put_outputs(db: &mut Connection, rows: Vec<OutputRow>) -> Result<()> {
    for row in rows {
        let value = row.value.clone();
        diesel::insert_into(task_outputs::table)
            .values(row)
            .on_conflict((task_outputs::task_id, task_outputs::name))
            .do_update()
            .set(task_outputs::value.eq(value))
            .execute(db)
            .await?;
    }
    Ok(())
}

/// How many outputs a task has.
pub async fn count_outputs(db: &mut Connection, id: i64) -> Result<i64> {
    Ok(task_outputs::table.filter(task_outputs::task_id.eq(id)).count().get_result(db).await?)
}

/// Removes the outputs of a task: it is given out anew.
pub async fn clear_outputs(db: &mut Connection, id: i64) -> Result<()> {
    diesel::delete(task_outputs::table.filter(task_outputs::task_id.eq(id))).execute(db).await?;
    Ok(())
}

const HELD: [&str; 2] = [TaskStatus::Running.as_str(), TaskStatus::Cancelling.as_str()];

/// The tasks that these runners have at this moment, oldest first.
pub async fn held_by(db: &mut Connection, runner_ids: Vec<i64>) -> Result<Vec<TaskRow>> {
    Ok(tasks::table
        .filter(tasks::runner_id.eq_any(runner_ids))
        .filter(tasks::status.eq_any(HELD))
        .order(tasks::id.asc())
        .select(TaskRow::as_select())
        .load(db)
        .await?)
}

/// Every task that a runner has at this moment.
pub async fn held(db: &mut Connection) -> Result<Vec<HeldTask>> {
    let rows: Vec<(i64, Option<i64>, TaskStatus, Option<i64>)> = tasks::table
        .filter(tasks::status.eq_any(HELD))
        .select((tasks::id, tasks::runner_id, tasks::status, tasks::started_at))
        .load(db)
        .await?;
    let held = rows.into_iter().map(|(id, runner_id, status, started_at)| HeldTask {
        id,
        runner_id: runner_id.unwrap_or_default(),
        is_cancelling: status == TaskStatus::Cancelling,
        started_at: started_at.unwrap_or_default(),
    });
    Ok(held.collect())
}

/// How many tasks wait and run, by repository (with the account above each), status and labels.
pub async fn live_counts(db: &mut Connection) -> Result<Vec<LiveTasks>> {
    let rows: Vec<(i64, i64, TaskStatus, String, i64)> = tasks::table
        .filter(tasks::status.eq_any([TaskStatus::Queued.as_str(), HELD[0], HELD[1]]))
        .group_by((tasks::repository_id, tasks::owner_id, tasks::status, tasks::labels))
        .select((tasks::repository_id, tasks::owner_id, tasks::status, tasks::labels, diesel::dsl::count_star()))
        .load(db)
        .await?;
    let live = rows.into_iter().map(|(repository_id, owner_id, status, labels, count)| LiveTasks {
        repository_id,
        owner_id,
        is_queued: status == TaskStatus::Queued,
        labels,
        count,
    });
    Ok(live.collect())
}

/// Tasks that have waited, run or been stopping for too long, the most overdue first.
pub async fn due(db: &mut Connection, now: i64, limit: i64) -> Result<Vec<i64>> {
    Ok(tasks::table
        .filter(tasks::due_at.assume_not_null().le(now))
        .filter(tasks::due_at.is_not_null())
        .order(tasks::due_at.asc())
        .limit(limit)
        .select(tasks::id)
        .load(db)
        .await?)
}

/// When the server has to look at a task next.
pub async fn next_due(db: &mut Connection) -> Result<Option<i64>> {
    Ok(tasks::table
        .filter(tasks::due_at.is_not_null())
        .order(tasks::due_at.asc())
        .select(tasks::due_at.assume_not_null())
        .first(db)
        .await
        .optional()?)
}

/// Those of these tasks that still wait.
pub async fn still_queued(db: &mut Connection, ids: Vec<i64>) -> Result<Vec<i64>> {
    Ok(tasks::table
        .filter(tasks::id.eq_any(ids))
        .filter(tasks::status.eq(TaskStatus::Queued.as_str()))
        .select(tasks::id)
        .load(db)
        .await?)
}

/// The tasks of a scope and of the repositories below it that wait or run.
pub async fn live_within(db: &mut Connection, scope: i64) -> Result<Vec<TaskRow>> {
    Ok(tasks::table
        .filter(tasks::repository_id.eq(scope).or(tasks::owner_id.eq(scope)))
        .filter(tasks::status.eq_any([TaskStatus::Queued.as_str(), HELD[0], HELD[1]]))
        .select(TaskRow::as_select())
        .load(db)
        .await?)
}

/// How many tasks of the same account and labels go before each of these, counted up to a limit, in one statement.
pub async fn ahead(db: &mut Connection, places: &[QueuePlace], limit: i64) -> Result<Vec<(i64, i64)>> {
    let mut found = Vec::with_capacity(places.len());
    for chunk in places.chunks(MOST_SELECTS) {
        let queries = chunk.iter().map(|place| {
            let goes_before =
                tasks::priority.gt(place.priority).or(tasks::priority.eq(place.priority).and(tasks::id.lt(place.id)));
            tasks::table
                .filter(tasks::status.eq(diesel::dsl::sql::<diesel::sql_types::Text>("'QUEUED'")))
                .filter(tasks::owner_id.eq(place.owner_id))
                .filter(tasks::label_node.eq(place.label_node))
                .filter(goes_before)
                .select((place.id.into_sql::<diesel::sql_types::BigInt>(), tasks::id))
                .limit(limit)
                .into_boxed::<Dialect>()
        });
        let rows: Vec<(i64, i64)> = UnionAll(queries.collect()).load(db).await?;
        found.extend(chunk.iter().map(|place| {
            let ahead = rows.iter().filter(|(id, _)| *id == place.id).count();
            (place.id, i64::try_from(ahead).unwrap_or(limit))
        }));
    }
    Ok(found)
}
