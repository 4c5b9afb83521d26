//! SQLite: one connection that writes, several that read, and the statements that only it has.

#[path = "queries/mod.rs"]
pub mod queries;

use std::error::Error;
use std::future::{Ready, ready};
use std::path::Path;

use diesel::SqliteConnection;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use diesel_async::pooled_connection::{ManagerConfig, RecyclingMethod};
use diesel_async::sync_connection_wrapper::{SpawnBlocking, SyncConnectionWrapper};
use diesel_async::{AsyncConnection as _, RunQueryDsl, SimpleAsyncConnection as _};
use futures_util::future::{BoxFuture, FutureExt as _, TryFutureExt as _};

use super::OpenError;
use super::lists::Reach;
use super::models::{PresenceStamp, TaskRow, TransitionRow};
use super::pool::{self, PoolLimits, StatementCount};
use super::schema::tasks;
use crate::error::Result;
use crate::model::TaskStatus;

/// A connection, whose statements run on the blocking threads.
pub type Connection = SyncConnectionWrapper<SqliteConnection, Detached>;
/// The SQL dialect.
pub type Dialect = diesel::sqlite::Sqlite;
/// The pools.
pub type Db = pool::Db<Connection>;

/// The blocking threads. A statement whose caller gave it up ends there by itself, and its connection with it; the library's own
/// way would hold up the thread of the caller until then.
pub struct Detached;

impl SpawnBlocking for Detached {
    fn spawn_blocking<'a, R: Send + 'static>(
        &mut self,
        task: impl FnOnce() -> R + Send + 'static,
    ) -> BoxFuture<'a, Result<R, Box<dyn Error + Send + Sync + 'static>>> {
        tokio::task::spawn_blocking(task).map_err(Box::from).boxed()
    }

    fn get_runtime() -> Self {
        Self
    }
}

/// FULL syncs each commit: what was acknowledged survives a power cut. LIKE is as in PostgreSQL: what is searched for without
/// regard to case is kept in lower case.
const PRAGMAS: &str = "PRAGMA case_sensitive_like = ON; PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
                       PRAGMA foreign_keys = ON; PRAGMA cache_size = -16000; PRAGMA temp_store = MEMORY;";

/// The file that a URL names, if it is one of SQLite.
pub(super) fn path_of(url: &str) -> Option<&Path> {
    url.strip_prefix("sqlite://").or_else(|| url.strip_prefix("sqlite:")).map(Path::new)
}

pub(super) fn open(path: &Path, limits: &PoolLimits, statements: &StatementCount) -> Result<Db, OpenError> {
    let url = path.display().to_string();
    let readers = pool::build(&url, limits.size, limits, config("PRAGMA query_only = ON;"), statements)?;
    let writer = pool::build(&url, 1, limits, config(""), statements)?;
    Ok(Db::new(readers, writer, "BEGIN IMMEDIATE", limits))
}

fn config(more: &'static str) -> ManagerConfig<Connection> {
    let mut config = ManagerConfig::default();
    // Whether a connection is sound is decided when it is handed back; asking again would be a statement a request.
    config.recycling_method = RecyclingMethod::Fast;
    config.custom_setup = Box::new(move |url| {
        let url = url.to_owned();
        async move {
            let mut connection = Connection::establish(&url).await?;
            connection
                .batch_execute(&format!("{PRAGMAS}{more}"))
                .await
                .map_err(ConnectionError::CouldntSetupConfiguration)?;
            Ok(connection)
        }
        .boxed()
    });
    config
}

/// Does nothing: here there is one writer, and it is the caller.
pub fn lock_rows(_: &mut Connection, _: &'static str, _: &[i64]) -> Ready<Result<()>> {
    ready(Ok(()))
}

/// Does nothing: here there is one writer, and it is the caller.
pub fn keep_scope(_: &mut Connection, _: i64) -> Ready<Result<()>> {
    ready(Ok(()))
}

/// Writes the presence of many runners and the newest of their histories, in two statements whatever their number.
pub async fn write_presence(
    connection: &mut Connection,
    stamps: &[PresenceStamp],
    transitions: &[TransitionRow],
) -> Result<()> {
    if !stamps.is_empty() {
        let rows: Vec<_> = stamps
            .iter()
            .map(|it| {
                (it.id, it.last_online_at, it.last_active_at, it.status.as_str(), it.status_since, it.transition_count)
            })
            .collect();
        diesel::sql_query(
            "UPDATE runners SET last_online_at = j.value ->> 1, last_active_at = j.value ->> 2, status = j.value ->> 3, \
             status_since = j.value ->> 4, transition_count = j.value ->> 5 \
             FROM json_each(?) AS j WHERE runners.id = j.value ->> 0",
        )
        .bind::<Text, _>(json(&rows)?)
        .execute(connection)
        .await?;
    }
    if !transitions.is_empty() {
        let rows: Vec<_> = transitions
            .iter()
            .map(|it| {
                let slot = it.number % super::models::HISTORY_LENGTH;
                (
                    it.runner_id,
                    slot,
                    it.number,
                    it.at,
                    it.from_status.as_str(),
                    it.to_status.as_str(),
                    it.cause.as_str(),
                )
            })
            .collect();
        diesel::sql_query(
            "INSERT INTO runner_transitions (runner_id, slot, number, at, from_status, to_status, cause) \
             SELECT j.value ->> 0, j.value ->> 1, j.value ->> 2, j.value ->> 3, j.value ->> 4, j.value ->> 5, j.value ->> 6 \
             FROM json_each(?) AS j JOIN runners ON runners.id = j.value ->> 0 WHERE true \
             ON CONFLICT (runner_id, slot) DO UPDATE SET number = excluded.number, at = excluded.at, \
             from_status = excluded.from_status, to_status = excluded.to_status, cause = excluded.cause",
        )
        .bind::<Text, _>(json(&rows)?)
        .execute(connection)
        .await?;
    }
    Ok(())
}

/// Adds labels to runners, in one statement; those that are there stay as they are.
pub async fn insert_labels(connection: &mut Connection, labels: &[(i64, String, bool)]) -> Result<()> {
    if labels.is_empty() {
        return Ok(());
    }
    diesel::sql_query(
        "INSERT INTO runner_labels (runner_id, label, forced) \
         SELECT j.value ->> 0, j.value ->> 1, j.value ->> 2 FROM json_each(?) AS j WHERE true \
         ON CONFLICT (runner_id, label) DO NOTHING",
    )
    .bind::<Text, _>(json(labels)?)
    .execute(connection)
    .await?;
    Ok(())
}

/// The first tasks that somebody who carries these labels could take, best first: a walk down the tree of label sets along its own
/// labels and through what was used since a time, and the head of the queue at each node it reaches.
pub async fn queue_heads(
    connection: &mut Connection,
    reach: Reach,
    labels: &[String],
    used_since: i64,
) -> Result<Vec<i64>> {
    let (within, id) = match reach {
        Reach::Everything => ("", 0),
        Reach::Owner(id) => ("AND t.owner_id = ?", id),
        Reach::Repository(id) => ("AND t.repository_id = ?", id),
    };
    // CROSS JOIN keeps the order of the joins: the labels are few and the nodes many.
    let query = format!(
        "WITH RECURSIVE reach (id) AS (SELECT 0 UNION ALL SELECT n.id FROM reach CROSS JOIN json_each(?) AS j \
         CROSS JOIN label_nodes AS n WHERE n.parent_id = reach.id AND n.label = j.value AND n.used_at >= ?), \
         heads (id) AS (SELECT (SELECT t.id FROM tasks AS t WHERE t.status = 'QUEUED' AND t.label_node = reach.id {within} \
         ORDER BY t.priority DESC, t.id LIMIT 1) FROM reach) \
         SELECT t.id FROM heads JOIN tasks AS t ON t.id = heads.id ORDER BY t.priority DESC, t.id LIMIT 1"
    );
    let query =
        diesel::sql_query(query).into_boxed::<Dialect>().bind::<Text, _>(json(labels)?).bind::<BigInt, _>(used_since);
    let query = if within.is_empty() { query } else { query.bind::<BigInt, _>(id) };
    Ok(query.load::<Found>(connection).await?.into_iter().map(|found| found.id).collect())
}

/// The first of these tasks that still waits, locked: here there is one writer, and it is the caller.
pub async fn lock_first(connection: &mut Connection, ids: &[i64]) -> Result<Option<TaskRow>> {
    Ok(tasks::table
        .filter(tasks::id.eq_any(ids.to_vec()))
        .filter(tasks::status.eq(TaskStatus::Queued.as_str()))
        .order((tasks::priority.desc(), tasks::id.asc()))
        .select(TaskRow::as_select())
        .first(connection)
        .await
        .optional()?)
}

#[derive(diesel::QueryableByName)]
struct Found {
    #[diesel(sql_type = BigInt)]
    id: i64,
}

fn json(rows: &(impl serde::Serialize + ?Sized)) -> Result<String> {
    serde_json::to_string(rows).map_err(crate::error::AppError::internal)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::error::ErrorCode;
    use crate::store::Store;

    /// Takes some seconds.
    const SLOW: &str =
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000000) SELECT count(*) FROM n";

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_statement_that_takes_too_long_holds_up_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/test.sqlite3", folder.path().display()).into();
        let limits = PoolLimits { size: 1, wait: Duration::from_secs(5), work: Duration::from_millis(100) };
        let (store, _) = Store::open(&url, &limits).await.unwrap();
        let own = store.clone();
        let slow = tokio::spawn(async move {
            crate::read!(own, |db, queries| {
                queries::ping(db).await?;
                diesel::sql_query(SLOW).execute(db).await?;
                Ok(())
            })
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(slow.is_finished(), "the caller was held up");
        assert_eq!(slow.await.unwrap().unwrap_err().code, ErrorCode::Unavailable);
        // The one connection is given up with its statement, and the next caller gets another.
        store.ping().await.unwrap();
    }
}
