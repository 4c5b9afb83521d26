//! SQLite: one connection that writes, several that read, and the statements that only it has.

#[path = "queries/mod.rs"]
pub mod queries;

use std::path::Path;

use diesel::SqliteConnection;
use diesel::sql_types::Text;
use diesel_async::pooled_connection::{ManagerConfig, RecyclingMethod};
use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;
use diesel_async::{AsyncConnection as _, RunQueryDsl, SimpleAsyncConnection as _};
use futures_util::FutureExt as _;

use super::OpenError;
use super::models::{PresenceStamp, TransitionRow};
use super::pool::{self, PoolLimits, StatementCount};
use crate::error::Result;

/// A connection, whose statements run on the blocking threads.
pub type Connection = SyncConnectionWrapper<SqliteConnection>;
/// The SQL dialect.
pub type Dialect = diesel::sqlite::Sqlite;
/// The pools.
pub type Db = pool::Db<Connection>;

/// FULL syncs each commit: what was acknowledged survives a power cut.
const PRAGMAS: &str = "PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
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
                .map_err(diesel::ConnectionError::CouldntSetupConfiguration)?;
            Ok(connection)
        }
        .boxed()
    });
    config
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

fn json(rows: &(impl serde::Serialize + ?Sized)) -> Result<String> {
    serde_json::to_string(rows).map_err(crate::error::AppError::internal)
}
