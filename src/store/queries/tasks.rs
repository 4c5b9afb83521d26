//! Tasks: how they come in, change, and are found by runners.

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Text};
use diesel_async::RunQueryDsl;

pub use super::super::{lock_first, queue_heads};
pub use super::task_lists::{counts, pages};

use super::super::{Connection, Dialect, lock_rows};
use super::union::{MOST_SELECTS, UnionAll};
use crate::error::Result;
use crate::model::TaskStatus;
use crate::store::lists::QueuePlace;
use crate::store::models::{LiveTask, OutputRow, PayloadRow, TaskRow, Word};
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
/// identifiers for new nodes. Nodes that were last used before `stale` are noted as used now.
pub async fn label_node(
    db: &mut Connection,
    labels: &[String],
    mut next_id: impl FnMut() -> i64,
    now: i64,
    stale: i64,
) -> Result<i64> {
    let mut parent = 0;
    for label in labels {
        let known = label_nodes::table
            .filter(label_nodes::parent_id.eq(parent))
            .filter(label_nodes::label.eq(label))
            .select((label_nodes::id, label_nodes::used_at));
        let mut found: Option<(i64, i64)> = known.first(db).await.optional()?;
        if found.is_none() {
            let id = next_id();
            let node = (
                label_nodes::id.eq(id),
                label_nodes::parent_id.eq(parent),
                label_nodes::label.eq(label),
                label_nodes::used_at.eq(now),
            );
            let made =
                diesel::insert_into(label_nodes::table).values(node).on_conflict_do_nothing().execute(db).await?;
            found = if made == 1 { Some((id, now)) } else { Some(known.first(db).await?) };
        }
        let Some((id, used_at)) = found else { continue };
        if used_at < stale {
            diesel::update(label_nodes::table.filter(label_nodes::id.eq(id)))
                .set(label_nodes::used_at.eq(now))
                .execute(db)
                .await?;
        }
        parent = id;
    }
    Ok(parent)
}

/// Removes ends of paths that were last used before a time; returns how many.
pub async fn prune_labels(db: &mut Connection, before: i64, limit: i64) -> Result<usize> {
    let (nodes, children) = diesel::alias!(label_nodes as nodes, label_nodes as children);
    let has_child =
        diesel::dsl::exists(children.filter(children.field(label_nodes::parent_id).eq(nodes.field(label_nodes::id))));
    let ids: Vec<i64> = nodes
        .filter(nodes.field(label_nodes::used_at).lt(before))
        .filter(diesel::dsl::not(has_child))
        .limit(limit)
        .select(nodes.field(label_nodes::id))
        .load(db)
        .await?;
    let stale = label_nodes::table.filter(label_nodes::id.eq_any(ids)).filter(label_nodes::used_at.lt(before));
    Ok(diesel::delete(stale).execute(db).await?)
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
    /// Of two records the greater is the newer.
    pub revision: Option<i64>,
    /// Where the path of its labels ends.
    pub label_node: Option<i64>,
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

/// How large the payloads of tasks are, in bytes.
pub async fn payload_lengths(db: &mut Connection, ids: Vec<i64>) -> Result<Vec<(i64, i64)>> {
    let length = sql::<BigInt>("CAST(octet_length(payload) AS BIGINT)");
    Ok(task_payloads::table
        .filter(task_payloads::task_id.eq_any(ids))
        .select((task_payloads::task_id, length))
        .load(db)
        .await?)
}

/// How large the outputs of tasks are together, in bytes.
pub async fn outputs_lengths(db: &mut Connection, ids: Vec<i64>) -> Result<Vec<(i64, i64)>> {
    let length = sql::<BigInt>("CAST(sum(octet_length(name) + octet_length(value)) AS BIGINT)");
    Ok(task_outputs::table
        .filter(task_outputs::task_id.eq_any(ids))
        .group_by(task_outputs::task_id)
        .select((task_outputs::task_id, length))
        .load(db)
        .await?)
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

/// That a runner has the task; said in so many words, so that the index that has nothing else is found.
pub(super) const HOLDS: &str = "tasks.status IN ('RUNNING', 'CANCELLING')";

/// Statuses of tasks that have not ended.
pub(super) const OPEN: [&str; 3] =
    [TaskStatus::Queued.as_str(), TaskStatus::Running.as_str(), TaskStatus::Cancelling.as_str()];

/// The tasks that these runners have at this moment, oldest first.
pub async fn held_by(db: &mut Connection, runner_ids: Vec<i64>) -> Result<Vec<TaskRow>> {
    let mut held: Vec<TaskRow> = tasks::table
        .filter(tasks::runner_id.eq_any(runner_ids))
        .filter(sql::<Bool>(HOLDS))
        .select(TaskRow::as_select())
        .load(db)
        .await?;
    // With an order of its own the database would rather walk all tasks that the runners ever had.
    held.sort_unstable_by_key(|task| task.id);
    Ok(held)
}

/// The next tasks after an identifier that wait or run.
pub async fn live_after(db: &mut Connection, id: i64, limit: i64) -> Result<Vec<LiveTask>> {
    Ok(tasks::table
        .filter(tasks::status.eq_any(OPEN))
        .filter(tasks::id.gt(id))
        .order(tasks::id.asc())
        .limit(limit)
        .select(LiveTask::as_select())
        .load(db)
        .await?)
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

/// When, after a time, the server has to look at a task next.
pub async fn next_due(db: &mut Connection, after: i64) -> Result<Option<i64>> {
    Ok(tasks::table
        .filter(tasks::due_at.is_not_null())
        .filter(tasks::due_at.assume_not_null().gt(after))
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

/// The tasks that change when a scope is deleted: those in it, and those that a user enqueued elsewhere.
pub(super) async fn ids_within(db: &mut Connection, scope: i64) -> Result<Vec<i64>> {
    let within = tasks::repository_id.eq(scope).or(tasks::owner_id.eq(scope)).or(tasks::created_by.eq(scope));
    Ok(tasks::table.filter(within).select(tasks::id).load(db).await?)
}

/// The tasks of a scope and of the repositories below it that wait or run.
pub(super) async fn live_within(db: &mut Connection, scope: i64) -> Result<Vec<TaskRow>> {
    Ok(tasks::table
        .filter(tasks::repository_id.eq(scope).or(tasks::owner_id.eq(scope)))
        .filter(tasks::status.eq_any(OPEN))
        .select(TaskRow::as_select())
        .load(db)
        .await?)
}

/// Takes a user's name from so many of the tasks that it enqueued; returns how many they were.
pub async fn forget_creator(db: &mut Connection, user_id: i64, most: i64) -> Result<usize> {
    let ids: Vec<i64> =
        tasks::table.filter(tasks::created_by.eq(user_id)).limit(most).select(tasks::id).load(db).await?;
    lock_rows(db, "tasks", &ids).await?;
    let enqueued = tasks::table.filter(tasks::id.eq_any(ids));
    Ok(diesel::update(enqueued).set(tasks::created_by.eq(None::<i64>)).execute(db).await?)
}

type Places = diesel::dsl::IntoBoxed<
    'static,
    diesel::dsl::Select<tasks::table, (diesel::dsl::AsExprOf<i64, BigInt>, tasks::id)>,
    Dialect,
>;

/// The waiting tasks of the same account and labels, each with the task that the place is of.
fn same_queue(place: &QueuePlace, limit: i64) -> Places {
    let query = tasks::table
        .select((place.id.into_sql::<BigInt>(), tasks::id))
        .filter(tasks::status.eq(sql::<Text>("'QUEUED'")))
        .limit(limit)
        .into_boxed::<Dialect>();
    query.filter(tasks::owner_id.eq(place.owner_id)).filter(tasks::label_node.eq(place.label_node))
}

/// How many tasks of the same account and labels go before each of these, counted up to a limit, in one statement.
pub async fn ahead(db: &mut Connection, places: &[QueuePlace], limit: i64) -> Result<Vec<(i64, i64)>> {
    let mut found = Vec::with_capacity(places.len());
    for chunk in places.chunks(MOST_SELECTS / 2) {
        // Two walks of the index: with an alternative in one there would be none.
        let queries = chunk.iter().flat_map(|place| {
            let greater = same_queue(place, limit).filter(tasks::priority.gt(place.priority));
            let older = same_queue(place, limit).filter(tasks::priority.eq(place.priority));
            [greater, older.filter(tasks::id.lt(place.id))]
        });
        let rows: Vec<(i64, i64)> = UnionAll(queries.collect()).load(db).await?;
        found.extend(chunk.iter().map(|place| {
            let ahead = rows.iter().filter(|(id, _)| *id == place.id).count();
            (place.id, i64::try_from(ahead).unwrap_or(limit).min(limit))
        }));
    }
    Ok(found)
}
