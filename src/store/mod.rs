//! The database: SQLite or PostgreSQL, chosen by the URL at run time.
//!
//! The files under `queries/` are written once and compiled for each backend (`sqlite.rs` and `postgres.rs` each say
//! `#[path = "queries/mod.rs"] pub mod queries;`); what really differs stands in the backend's own file under the same
//! signature. Callers reach them through two macros:
//!
//! ```text
//! let row = read!(store, |db, queries| queries::runners::by_id(db, id).await)?;
//! let done = transact!(store, |db, queries| { queries::runners::delete(db, id).await })?;
//! ```
//!
//! A transaction runs to its end on a task of its own: a caller that goes away cannot leave one open. diesel is named in
//! this module alone, and this module knows nothing of the rules.

mod error;
pub mod lists;
mod migrate;
pub mod models;
pub mod pool;
pub mod postgres;
pub mod schema;
pub mod sqlite;

use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretString};
use tokio_util::task::TaskTracker;

pub use error::is_too_late;
pub use migrate::{MigrationReport, down_and_up};
pub use pool::{PoolLimits, StatementCount};

use crate::error::{AppError, Result};

/// One of the two databases.
#[derive(Clone)]
pub enum Backend {
    /// The embedded one.
    Sqlite(sqlite::Db),
    /// The one that outgrows a machine.
    Postgres(postgres::Db),
}

/// The open database. Clones share the pools.
#[derive(Clone)]
pub struct Store {
    backend: Arc<Backend>,
    statements: StatementCount,
    transactions: TaskTracker,
}

/// Reads through a pooled connection: `read!(store, |db, queries| queries::…(db, …).await)`.
#[macro_export]
macro_rules! read {
    ($store:expr, |$db:ident, $queries:ident| $body:expr) => {
        match $store.backend() {
            $crate::store::Backend::Sqlite(pools) => {
                #[allow(clippy::allow_attributes, unused_imports)]
                use $crate::store::sqlite::queries as $queries;
                $crate::read!(@with pools, $db, $body)
            }
            $crate::store::Backend::Postgres(pools) => {
                #[allow(clippy::allow_attributes, unused_imports)]
                use $crate::store::postgres::queries as $queries;
                $crate::read!(@with pools, $db, $body)
            }
        }
    };
    (@with $pools:ident, $db:ident, $body:expr) => {
        match $pools.reader().await {
            Ok(mut lease) => {
                let limit = lease.time_limit();
                let result = tokio::time::timeout(limit, async {
                    let $db = lease.connection();
                    $body
                })
                .await;
                lease.end(result)
            }
            Err(error) => Err(error),
        }
    };
}

/// Runs a transaction to its end on a task of its own: `transact!(store, |db, queries| { … })`. The body owns what it uses;
/// `Ok` commits, `Err` rolls back.
#[macro_export]
macro_rules! transact {
    ($store:expr, |$db:ident, $queries:ident| $body:expr) => {
        match $store.backend() {
            $crate::store::Backend::Sqlite(pools) => {
                #[allow(clippy::allow_attributes, unused_imports)]
                use $crate::store::sqlite::queries as $queries;
                $crate::transact!(@with $store, pools, $db, $body)
            }
            $crate::store::Backend::Postgres(pools) => {
                #[allow(clippy::allow_attributes, unused_imports)]
                use $crate::store::postgres::queries as $queries;
                $crate::transact!(@with $store, pools, $db, $body)
            }
        }
    };
    (@with $store:expr, $pools:ident, $db:ident, $body:expr) => {{
        let pools = $pools.clone();
        $store
            .to_the_end(async move {
                let mut lease = pools.begin().await?;
                let limit = lease.time_limit();
                let result = tokio::time::timeout(limit, async {
                    let $db = lease.connection();
                    $body
                })
                .await;
                lease.finish(result).await
            })
            .await
    }};
}

impl Store {
    /// Opens the database of a URL and applies its pending migrations.
    ///
    /// # Errors
    /// A message for the operator: an unknown kind of URL, a folder that cannot be written, a database that a newer server
    /// has migrated. Nothing is changed then.
    pub async fn open(url: &SecretString, limits: &PoolLimits) -> Result<(Self, MigrationReport), OpenError> {
        let statements = StatementCount::default();
        let url = url.expose_secret();
        let (backend, report) = if let Some(path) = sqlite::path_of(url) {
            let report = migrate::sqlite(path).await?;
            (Backend::Sqlite(sqlite::open(path, limits, &statements)?), report)
        } else if postgres::is_url(url) {
            let report = migrate::postgres(url).await?;
            (Backend::Postgres(postgres::open(url, limits, &statements)?), report)
        } else {
            return Err(OpenError::new(
                "the database URL must begin with postgres:// or sqlite://, such as sqlite:///var/lib/rollcall/rollcall.sqlite3",
            ));
        };
        Ok((Self { backend: Arc::new(backend), statements, transactions: TaskTracker::new() }, report))
    }

    /// The database to dispatch on; for the macros.
    pub fn backend(&self) -> &Backend {
        &self.backend
    }

    /// How many statements have run.
    pub fn statements(&self) -> u64 {
        self.statements.get()
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<()> {
        crate::read!(self, |db, queries| queries::ping(db).await)
    }

    /// Runs work to its end even when the caller goes away.
    pub async fn to_the_end<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        self.transactions.spawn(work).await.unwrap_or_else(|error| Err(AppError::internal(error)))
    }

    /// Ends when no transaction is under way any more.
    pub async fn drain(&self) {
        self.transactions.close();
        self.transactions.wait().await;
    }
}

/// Why a database could not be opened, for the operator.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct OpenError(String);

impl OpenError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl From<AppError> for OpenError {
    fn from(error: AppError) -> Self {
        let cause = error.source.as_ref().map(|source| format!(": {source}")).unwrap_or_default();
        Self(format!("{error}{cause}"))
    }
}
