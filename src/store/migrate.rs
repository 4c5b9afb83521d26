//! Embedded, versioned migrations, applied when a database is opened.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use diesel::migration::{Migration, MigrationSource, MigrationVersion};
use diesel::{Connection as _, SqliteConnection};
use diesel_async::{AsyncMigrationHarness, SimpleAsyncConnection as _};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::{OpenError, postgres};

const SQLITE: EmbeddedMigrations = embed_migrations!("migrations/sqlite");
const POSTGRES: EmbeddedMigrations = embed_migrations!("migrations/postgres");

/// Servers that start at the same time on one PostgreSQL take turns at this lock ("rollcall" as a number).
const ADVISORY_LOCK: i64 = 0x726f_6c6c_6361_6c6c;

/// How long a start waits for PostgreSQL.
const START_PATIENCE: Duration = Duration::from_secs(15);

/// What opening a database did to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MigrationReport {
    /// The versions applied, oldest first.
    pub applied: Vec<String>,
}

pub(super) async fn sqlite(path: &Path) -> Result<MigrationReport, OpenError> {
    let path = path.to_owned();
    let work = move || {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(|error| {
                OpenError::new(format!(
                    "cannot make the data folder {}: {error}; choose another with --data-dir",
                    folder.display()
                ))
            })?;
        }
        let failed = |error: &dyn std::fmt::Display| {
            OpenError::new(format!(
                "cannot use the SQLite file {}: {error}; is the folder writable by this user, and the file one of rollcall's?",
                path.display()
            ))
        };
        let url = path.display().to_string();
        let mut connection = SqliteConnection::establish(&url).map_err(|error| failed(&error))?;
        diesel::connection::SimpleConnection::batch_execute(
            &mut connection,
            "PRAGMA busy_timeout = 10000; PRAGMA journal_mode = WAL;",
        )
        .map_err(|error| failed(&error))?;
        apply(&mut connection, SQLITE)
    };
    tokio::task::spawn_blocking(work).await.map_err(|error| OpenError::new(error.to_string()))?
}

pub(super) async fn postgres(url: &str) -> Result<MigrationReport, OpenError> {
    let connected = tokio::time::timeout(START_PATIENCE, postgres::connect(url)).await.map_err(|_| {
        OpenError::new(format!(
            "PostgreSQL did not answer within {START_PATIENCE:?}; check --database-url and that the server is up"
        ))
    })?;
    let mut connection = connected.map_err(|error| {
        OpenError::new(format!("cannot connect to PostgreSQL: {error}; check --database-url and that the server is up"))
    })?;
    let lock = format!("SELECT pg_advisory_lock({ADVISORY_LOCK})");
    connection
        .batch_execute(&lock)
        .await
        .map_err(|error| OpenError::new(format!("cannot lock the PostgreSQL database for its migrations: {error}")))?;
    // The lock goes with the connection, however this ends.
    apply(&mut AsyncMigrationHarness::new(connection), POSTGRES)
}

fn apply<DB: diesel::backend::Backend>(
    harness: &mut impl MigrationHarness<DB>,
    migrations: EmbeddedMigrations,
) -> Result<MigrationReport, OpenError> {
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
        OpenError::new(format!("cannot migrate the database: {error}"))
    };
    let known: Vec<Box<dyn Migration<DB>>> = migrations.migrations().map_err(failed)?;
    let known: BTreeSet<String> = known.iter().map(|it| it.name().version().to_string()).collect();
    let applied = harness.applied_migrations().map_err(failed)?;
    let foreign: Vec<String> = applied.iter().map(ToString::to_string).filter(|it| !known.contains(it)).collect();
    if !foreign.is_empty() {
        return Err(OpenError::new(format!(
            "the database was migrated by a newer rollcall (it has {}, which this one does not know); start that version, or \
             restore a backup from before the upgrade",
            foreign.join(", ")
        )));
    }
    let done: Vec<MigrationVersion<'_>> = harness.run_pending_migrations(migrations).map_err(failed)?;
    Ok(MigrationReport { applied: done.iter().map(ToString::to_string).collect() })
}

/// Undoes every migration and applies them again, so that a test can see that each step can be taken back.
///
/// # Errors
/// When a step fails.
pub async fn down_and_up(url: &str) -> Result<MigrationReport, OpenError> {
    fn cycle<DB: diesel::backend::Backend>(
        harness: &mut impl MigrationHarness<DB>,
        migrations: fn() -> EmbeddedMigrations,
    ) -> Result<MigrationReport, OpenError> {
        harness.revert_all_migrations(migrations()).map_err(|error| OpenError::new(error.to_string()))?;
        apply(harness, migrations())
    }
    let Some(path) = super::sqlite::path_of(url) else {
        let connection = postgres::connect(url).await.map_err(|error| OpenError::new(error.to_string()))?;
        return cycle(&mut AsyncMigrationHarness::new(connection), || POSTGRES);
    };
    let url = path.display().to_string();
    let work = move || {
        let mut connection = SqliteConnection::establish(&url).map_err(|error| OpenError::new(error.to_string()))?;
        cycle(&mut connection, || SQLITE)
    };
    tokio::task::spawn_blocking(work).await.map_err(|error| OpenError::new(error.to_string()))?
}
