//! What may be removed, and its removal: at most [`MOST_SWEPT`] rows a transaction, with all that hangs on them.
//!
//! Everything is walked in the order of its identifiers, through an index. A walk is read outside of the transaction
//! that removes, which asks again.

use diesel::dsl::{count_star, sql};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool};
use diesel_async::RunQueryDsl;

use super::super::{Connection, Dialect, lock_rows};
use super::tasks::{HOLDS, OPEN};
use crate::error::Result;
use crate::store::lists::{Aged, MaybeSpent, Reach};
use crate::store::models::{MOST_SWEPT, RunnerFacts, RunnerName, Swept};
use crate::store::schema::{
    access_tokens, registration_tokens, runner_labels, runner_transitions, runners, scopes, task_attempts,
    task_log_chunks, task_outputs, tasks,
};

const HOLDS_NOTHING: &str =
    "NOT EXISTS (SELECT 1 FROM tasks WHERE tasks.runner_id = runners.id AND tasks.status IN ('RUNNING', 'CANCELLING'))";
const HAS_A_LOG: &str = "EXISTS (SELECT 1 FROM task_log_chunks WHERE task_log_chunks.task_id = tasks.id)";

macro_rules! within {
    ($query:expr, $within:expr, $owner:expr, $scope:expr) => {
        match $within {
            Reach::Everything => $query,
            Reach::Owner(id) => $query.filter($owner.eq(id)),
            Reach::Repository(id) => $query.filter($scope.eq(id)),
        }
    };
}

macro_rules! ended {
    ($query:expr, $aged:expr) => {
        $query
            .filter(tasks::finished_at.assume_not_null().lt($aged.before))
            .filter(tasks::reports_until.lt($aged.as_of))
            .filter(tasks::status.ne_all(OPEN))
    };
}

macro_rules! over {
    ($query:expr, $tokens:ident, $aged:expr) => {
        $query.filter(
            $tokens::expires_at
                .assume_not_null()
                .lt($aged.before)
                .or($tokens::revoked_at.assume_not_null().lt($aged.before)),
        )
    };
}

/// Registration tokens belong to a scope; those of an account are its own and those of its repositories.
macro_rules! tokens_within {
    ($query:expr, $within:expr) => {
        match $within {
            Reach::Everything => $query,
            Reach::Owner(id) => {
                let below = scopes::table.filter(scopes::id.eq(id).or(scopes::parent_id.eq(id))).select(scopes::id);
                $query.filter(registration_tokens::scope_id.eq_any(below))
            }
            Reach::Repository(id) => $query.filter(registration_tokens::scope_id.eq(id)),
        }
    };
}

macro_rules! perhaps_spent {
    ($query:expr, $spent:expr) => {{
        let may_deliver = sql::<Bool>(
            "NOT EXISTS (SELECT 1 FROM tasks WHERE tasks.runner_id = runners.id \
             AND (tasks.status IN ('RUNNING', 'CANCELLING') OR tasks.reports_until > ",
        );
        let delivered = may_deliver.bind::<BigInt, _>($spent.as_of).sql("))");
        let is_done = runners::used_at.is_not_null().and(delivered);
        let never_came = runners::used_at.is_null().and(runners::created_at.le($spent.unused_before));
        let went_away = runners::last_online_at
            .gt(0_i64)
            .and(runners::last_online_at.le($spent.offline_before))
            .and(sql::<Bool>(HOLDS_NOTHING));
        $query.filter(runners::ephemeral).filter(is_done.or(never_came).or(went_away))
    }};
}

/// The next tasks that ended before a time and that nothing more is delivered for.
pub async fn ended_tasks(db: &mut Connection, aged: Aged, after: i64, limit: i64) -> Result<Vec<i64>> {
    let query = tasks::table.select(tasks::id).filter(tasks::id.gt(after)).into_boxed::<Dialect>();
    let query = ended!(within!(query, aged.within, tasks::owner_id, tasks::repository_id), aged);
    Ok(query.order(tasks::id.asc()).limit(limit).load(db).await?)
}

/// How many [`ended_tasks`] there are.
pub async fn count_ended_tasks(db: &mut Connection, aged: Aged) -> Result<i64> {
    let query = tasks::table.select(count_star()).into_boxed::<Dialect>();
    let query = ended!(within!(query, aged.within, tasks::owner_id, tasks::repository_id), aged);
    Ok(query.get_result(db).await?)
}

/// Like [`ended_tasks`], those that have a log.
pub async fn logged_tasks(db: &mut Connection, aged: Aged, after: i64, limit: i64) -> Result<Vec<i64>> {
    let query = tasks::table.select(tasks::id).filter(tasks::id.gt(after)).into_boxed::<Dialect>();
    let query = ended!(within!(query, aged.within, tasks::owner_id, tasks::repository_id), aged);
    Ok(query.filter(sql::<Bool>(HAS_A_LOG)).order(tasks::id.asc()).limit(limit).load(db).await?)
}

/// How many [`logged_tasks`] there are.
pub async fn count_logged_tasks(db: &mut Connection, aged: Aged) -> Result<i64> {
    let query = tasks::table.select(count_star()).into_boxed::<Dialect>();
    let query = ended!(within!(query, aged.within, tasks::owner_id, tasks::repository_id), aged);
    Ok(query.filter(sql::<Bool>(HAS_A_LOG)).get_result(db).await?)
}

/// Locks tasks until the transaction ends, those that are still as [`ended_tasks`] wants them.
async fn lock_ended(db: &mut Connection, aged: Aged, ids: Vec<i64>) -> Result<Vec<i64>> {
    Ok(diesel::update(ended!(tasks::table.filter(tasks::id.eq_any(ids)), aged))
        .set(tasks::updated_at.eq(tasks::updated_at))
        .returning(tasks::id)
        .get_results(db)
        .await?)
}

/// What became of the logs of tasks.
struct Logs {
    /// Rows that were found, at most as many as were allowed.
    rows: usize,
    /// The last task that has no log any more, and none of the tasks before it.
    passed: Option<i64>,
    /// The tasks that were locked, of those with a log.
    locked: Vec<i64>,
}

/// Deletes so many rows of the logs of these tasks, given in the order of identifiers.
async fn delete_chunks(db: &mut Connection, aged: Aged, ids: &[i64], most: usize) -> Result<Logs> {
    let found: Vec<(i64, i64)> = task_log_chunks::table
        .filter(task_log_chunks::task_id.eq_any(ids.to_vec()))
        .order((task_log_chunks::task_id.asc(), task_log_chunks::first_line.asc()))
        .limit(i64::try_from(most).unwrap_or(i64::MAX))
        .select((task_log_chunks::task_id, task_log_chunks::first_line))
        .load(db)
        .await?;
    let Some((last, line)) = found.last().copied() else {
        return Ok(Logs { rows: 0, passed: ids.last().copied(), locked: Vec::new() });
    };
    let mut logged: Vec<i64> = found.iter().map(|(task, _)| *task).collect();
    logged.dedup();
    let locked = lock_ended(db, aged, logged).await?;
    let whole: Vec<i64> = locked.iter().copied().filter(|id| *id != last).collect();
    diesel::delete(task_log_chunks::table.filter(task_log_chunks::task_id.eq_any(whole))).execute(db).await?;
    if locked.contains(&last) {
        let first = task_log_chunks::table
            .filter(task_log_chunks::task_id.eq(last))
            .filter(task_log_chunks::first_line.le(line));
        diesel::delete(first).execute(db).await?;
    }
    let passed = if found.len() < most {
        ids.last().copied()
    } else {
        let more: Option<i64> = task_log_chunks::table
            .filter(task_log_chunks::task_id.eq(last))
            .select(task_log_chunks::first_line)
            .first(db)
            .await
            .optional()?;
        if more.is_some() { ids.iter().copied().rfind(|id| *id < last) } else { Some(last) }
    };
    Ok(Logs { rows: found.len(), passed, locked })
}

/// Deletes so many rows of a table that hang on these tasks, and returns how many were found. Each is known by its task
/// and a key of this type.
macro_rules! delete_hanging {
    ($db:expr, $aged:expr, $ids:expr, $most:expr, $table:ident, $key:ident, $type:ty) => {{
        let found: Vec<(i64, $type)> = $table::table
            .filter($table::task_id.eq_any($ids.to_vec()))
            .order(($table::task_id.asc(), $table::$key.asc()))
            .limit(i64::try_from($most).unwrap_or(i64::MAX))
            .select(($table::task_id, $table::$key))
            .load($db)
            .await?;
        let Some((last, key)) = found.last() else { return Ok(0) };
        let mut having: Vec<i64> = found.iter().map(|(task, _)| *task).collect();
        having.dedup();
        let locked = lock_ended($db, $aged, having).await?;
        let whole: Vec<i64> = locked.iter().copied().filter(|id| id != last).collect();
        diesel::delete($table::table.filter($table::task_id.eq_any(whole))).execute($db).await?;
        if locked.contains(last) {
            let first = $table::table.filter($table::task_id.eq(last)).filter($table::$key.le(key));
            diesel::delete(first).execute($db).await?;
        }
        Ok(found.len())
    }};
}

async fn delete_outputs(db: &mut Connection, aged: Aged, ids: &[i64], most: usize) -> Result<usize> {
    delete_hanging!(db, aged, ids, most, task_outputs, name, String)
}

async fn delete_attempts(db: &mut Connection, aged: Aged, ids: &[i64], most: usize) -> Result<usize> {
    delete_hanging!(db, aged, ids, most, task_attempts, attempt, i64)
}

/// Deletes tasks, given in the order of identifiers: first their logs, then their outputs and attempts, and as many of
/// them as there is room for when nothing hangs on them but what they carry.
pub async fn delete_tasks(db: &mut Connection, aged: Aged, ids: &[i64], cursor: i64) -> Result<Swept> {
    lock_rows(db, "tasks", ids).await?;
    let mut room = MOST_SWEPT;
    room -= delete_chunks(db, aged, ids, room).await?.rows.min(room);
    if room > 0 {
        room -= delete_outputs(db, aged, ids, room).await?.min(room);
    }
    if room > 0 {
        room -= delete_attempts(db, aged, ids, room).await?.min(room);
    }
    // A task goes with its payload, which is a row too.
    let going = &ids[..ids.len().min(room / 2)];
    let Some(last) = going.last() else { return Ok(Swept { cursor, ..Swept::default() }) };
    let ended = ended!(tasks::table.filter(tasks::id.eq_any(going.to_vec())), aged);
    let deleted = diesel::delete(ended).execute(db).await?;
    Ok(Swept { examined: going.len(), deleted, cursor: *last })
}

/// Deletes the logs of tasks, given in the order of identifiers, as far as there is room.
pub async fn delete_logs(db: &mut Connection, aged: Aged, ids: &[i64], cursor: i64) -> Result<Swept> {
    lock_rows(db, "tasks", ids).await?;
    let logs = delete_chunks(db, aged, ids, MOST_SWEPT).await?;
    let Some(passed) = logs.passed else { return Ok(Swept { cursor, ..Swept::default() }) };
    Ok(Swept {
        examined: ids.iter().filter(|id| **id <= passed).count(),
        deleted: logs.locked.iter().filter(|id| **id <= passed).count(),
        cursor: passed,
    })
}

/// The next runners that were not heard from since a time, and registered before it.
pub async fn stale_runners(db: &mut Connection, aged: Aged, after: i64, limit: i64) -> Result<Vec<i64>> {
    let query = runners::table.select(runners::id).filter(runners::id.gt(after)).into_boxed::<Dialect>();
    let query = within!(query, aged.within, runners::owner_id, runners::scope_id)
        .filter(runners::last_online_at.lt(aged.before))
        .filter(runners::created_at.lt(aged.before));
    Ok(query.order(runners::id.asc()).limit(limit).load(db).await?)
}

/// How many [`stale_runners`] there are.
pub async fn count_stale_runners(db: &mut Connection, aged: Aged) -> Result<i64> {
    let query = runners::table.select(count_star()).into_boxed::<Dialect>();
    let query = within!(query, aged.within, runners::owner_id, runners::scope_id)
        .filter(runners::last_online_at.lt(aged.before))
        .filter(runners::created_at.lt(aged.before));
    Ok(query.get_result(db).await?)
}

/// The next ephemeral runners that may be spent, as far as the database knows.
pub async fn maybe_spent(db: &mut Connection, spent: MaybeSpent, after: i64, limit: i64) -> Result<Vec<i64>> {
    let query = runners::table.select(runners::id).filter(runners::id.gt(after)).into_boxed::<Dialect>();
    let query = perhaps_spent!(within!(query, spent.within, runners::owner_id, runners::scope_id), spent);
    Ok(query.order(runners::id.asc()).limit(limit).load(db).await?)
}

/// How many [`maybe_spent`] there are.
pub async fn count_maybe_spent(db: &mut Connection, spent: MaybeSpent) -> Result<i64> {
    let query = runners::table.select(count_star()).into_boxed::<Dialect>();
    let query = perhaps_spent!(within!(query, spent.within, runners::owner_id, runners::scope_id), spent);
    Ok(query.get_result(db).await?)
}

/// What decides about these runners, in the order of identifiers.
pub async fn runner_facts(db: &mut Connection, ids: &[i64]) -> Result<Vec<RunnerFacts>> {
    let rows: Vec<(i64, bool, Option<i64>, i64, i64)> = runners::table
        .filter(runners::id.eq_any(ids.to_vec()))
        .order(runners::id.asc())
        .select((runners::id, runners::ephemeral, runners::used_at, runners::created_at, runners::last_online_at))
        .load(db)
        .await?;
    let holding: Vec<Option<i64>> = tasks::table
        .filter(tasks::runner_id.eq_any(ids.to_vec()))
        .filter(sql::<Bool>(HOLDS))
        .select(tasks::runner_id)
        .load(db)
        .await?;
    // Others may have had thousands of tasks.
    let ephemeral: Vec<i64> = rows.iter().filter(|row| row.1).map(|row| row.0).collect();
    let reports: Vec<(Option<i64>, i64)> = if ephemeral.is_empty() {
        Vec::new()
    } else {
        tasks::table
            .filter(tasks::runner_id.eq_any(ephemeral))
            .select((tasks::runner_id, tasks::reports_until))
            .load(db)
            .await?
    };
    let reports_until =
        |id: i64| reports.iter().filter(|(runner, _)| *runner == Some(id)).map(|(_, until)| *until).max();
    let facts = rows.into_iter().map(|(id, is_ephemeral, used_at, created_at, last_online_at)| RunnerFacts {
        id,
        is_ephemeral,
        used_at,
        created_at,
        last_online_at,
        is_holding: holding.contains(&Some(id)),
        reports_until: reports_until(id).unwrap_or(0),
    });
    Ok(facts.collect())
}

/// How many of these runners, from the front, there is room for with their labels and changes of status.
async fn fitting(db: &mut Connection, ids: &[i64]) -> Result<usize> {
    let labels: Vec<(i64, i64)> = runner_labels::table
        .filter(runner_labels::runner_id.eq_any(ids.to_vec()))
        .group_by(runner_labels::runner_id)
        .select((runner_labels::runner_id, count_star()))
        .load(db)
        .await?;
    let changes: Vec<(i64, i64)> = runner_transitions::table
        .filter(runner_transitions::runner_id.eq_any(ids.to_vec()))
        .group_by(runner_transitions::runner_id)
        .select((runner_transitions::runner_id, count_star()))
        .load(db)
        .await?;
    let mut room = MOST_SWEPT;
    for (number, id) in ids.iter().enumerate() {
        let rows: i64 = labels.iter().chain(&changes).filter(|(runner, _)| runner == id).map(|(_, count)| *count).sum();
        let rows = usize::try_from(rows).unwrap_or(usize::MAX).saturating_add(1);
        // One alone always has room: it has at most some two hundred.
        if rows > room && number > 0 {
            return Ok(number);
        }
        room = room.saturating_sub(rows);
    }
    Ok(ids.len())
}

/// Looks at as many of these runners as there is room for, from the front, and deletes those of which `may_go` says so;
/// returns how many were looked at, and those that are gone.
pub async fn delete_runners(
    db: &mut Connection,
    ids: &[i64],
    may_go: impl Fn(&RunnerFacts) -> bool + Send,
) -> Result<(usize, Vec<RunnerName>)> {
    let ids = &ids[..fitting(db, ids).await?];
    // Whoever gives a task to a runner locks its row first: what is read after this stays true until the transaction
    // ends.
    lock_rows(db, "runners", ids).await?;
    let facts = runner_facts(db, ids).await?;
    let going: Vec<i64> = facts.iter().filter(|facts| may_go(facts)).map(|facts| facts.id).collect();
    let gone = if going.is_empty() { Vec::new() } else { super::runners::delete(db, going).await? };
    Ok((ids.len(), gone))
}

/// The next tokens of either kind that ended before a time. Identifiers are unique among both.
pub async fn old_tokens(db: &mut Connection, aged: Aged, after: i64, limit: i64) -> Result<Vec<i64>> {
    let query = registration_tokens::table.select(registration_tokens::id).into_boxed::<Dialect>();
    let query = over!(tokens_within!(query, aged.within), registration_tokens, aged);
    let query = query.filter(registration_tokens::id.gt(after)).order(registration_tokens::id.asc()).limit(limit);
    let mut ids: Vec<i64> = query.load(db).await?;
    // Only a user has access tokens: for other scopes there are none.
    let query = access_tokens::table.select(access_tokens::id).into_boxed::<Dialect>();
    let query = within!(query, aged.within, access_tokens::user_id, access_tokens::user_id);
    let query = over!(query, access_tokens, aged);
    let query = query.filter(access_tokens::id.gt(after)).order(access_tokens::id.asc()).limit(limit);
    let more: Vec<i64> = query.load(db).await?;
    ids.extend(more);
    ids.sort_unstable();
    ids.truncate(usize::try_from(limit).unwrap_or(0));
    Ok(ids)
}

/// How many [`old_tokens`] there are.
pub async fn count_old_tokens(db: &mut Connection, aged: Aged) -> Result<i64> {
    let query = registration_tokens::table.select(count_star()).into_boxed::<Dialect>();
    let query = over!(tokens_within!(query, aged.within), registration_tokens, aged);
    let of_scopes: i64 = query.get_result(db).await?;
    let query = access_tokens::table.select(count_star()).into_boxed::<Dialect>();
    let query = within!(query, aged.within, access_tokens::user_id, access_tokens::user_id);
    let of_users: i64 = over!(query, access_tokens, aged).get_result(db).await?;
    Ok(of_scopes + of_users)
}

/// Deletes tokens of either kind, given in the order of identifiers. The runners that a token made are rows that change
/// with it: they forget it first, and there is room for as many.
pub async fn delete_tokens(db: &mut Connection, aged: Aged, ids: &[i64], cursor: i64) -> Result<Swept> {
    // Whoever registers a runner locks the token first, and then the runner.
    lock_rows(db, "registration_tokens", ids).await?;
    let made: Vec<i64> = runners::table
        .filter(runners::registered_with.eq_any(ids.to_vec()))
        .limit(i64::try_from(MOST_SWEPT).unwrap_or(i64::MAX))
        .select(runners::id)
        .load(db)
        .await?;
    let room = MOST_SWEPT.saturating_sub(made.len());
    if !made.is_empty() {
        lock_rows(db, "runners", &made).await?;
        let theirs = runners::table
            .filter(runners::id.eq_any(made))
            .filter(runners::registered_with.assume_not_null().eq_any(ids.to_vec()));
        diesel::update(theirs).set(runners::registered_with.eq(None::<i64>)).execute(db).await?;
    }
    let going = &ids[..ids.len().min(room)];
    let Some(last) = going.last() else { return Ok(Swept { cursor, ..Swept::default() }) };
    let of_scopes = registration_tokens::table.filter(registration_tokens::id.eq_any(going.to_vec()));
    let of_users = access_tokens::table.filter(access_tokens::id.eq_any(going.to_vec()));
    let deleted = diesel::delete(over!(of_scopes, registration_tokens, aged)).execute(db).await?
        + diesel::delete(over!(of_users, access_tokens, aged)).execute(db).await?;
    Ok(Swept { examined: going.len(), deleted, cursor: *last })
}
