use async_graphql::{Context, ID, Object, SimpleObject};

use super::{CleanupStatus, CleanupTarget, RunnerScope, User};
use crate::error::{AppError, Result};
use crate::fleet::results_of;
use crate::graphql::context::{ContextExt as _, nullable};
use crate::graphql::loaders::ScopeKey;
use crate::graphql::node_id::{NodeKind, encode};
use crate::graphql::scalars::DateTime;
use crate::store::models::CleanupJobRow;

/// A cleanup, which goes on behind the requests, a few hundred rows at a time. What it removes it removes for good.
#[derive(Clone)]
pub(in crate::graphql) struct CleanupJob {
    row: CleanupJobRow,
}

impl From<CleanupJobRow> for CleanupJob {
    fn from(row: CleanupJobRow) -> Self {
        Self { row }
    }
}

/// What a cleanup did, or does, for one of its targets.
#[derive(Clone, SimpleObject)]
pub(in crate::graphql) struct CleanupResult {
    /// The target.
    target: CleanupTarget,
    /// How many were looked at so far.
    examined: i64,
    /// How many were removed so far, or with `dryRun` would be.
    deleted: i64,
    /// The age from which on they are removed, counted back from when the work began.
    older_than_seconds: i64,
}

/// A cleanup, which goes on behind the requests, a few hundred rows at a time. What it removes it removes for good.
#[Object]
#[expect(clippy::unused_async, reason = "resolvers are async, also those that only look into memory")]
impl CleanupJob {
    /// The global id.
    pub(in crate::graphql) async fn id(&self) -> ID {
        encode(NodeKind::CleanupJob, self.row.id)
    }

    /// Where it stands.
    async fn status(&self) -> CleanupStatus {
        self.row.status.into()
    }

    /// What it cleans up, in the order in which it is done.
    async fn targets(&self) -> Result<Vec<CleanupTarget>, AppError> {
        Ok(results_of(&self.row)?.into_iter().map(|result| result.target.into()).collect())
    }

    /// Where it cleans up: this scope and the repositories below it; the instance means everything.
    async fn scope(&self, context: &Context<'_>) -> Result<RunnerScope, AppError> {
        let scope = context.request().loader.load_one(ScopeKey(self.row.scope_id)).await?;
        scope.map(RunnerScope::from).ok_or_else(|| AppError::not_found("The scope"))
    }

    /// Whether it only counts, and changes nothing.
    async fn dry_run(&self) -> bool {
        self.row.dry_run
    }

    /// The age that was asked for; null: what is configured for each target, see `results`.
    async fn older_than_seconds(&self) -> Option<i64> {
        self.row.older_than_seconds
    }

    /// How many things were looked at so far.
    async fn examined(&self) -> i64 {
        self.row.examined
    }

    /// How many things were removed so far, or with `dryRun` would be.
    async fn deleted(&self) -> i64 {
        self.row.deleted
    }

    /// How many things there were to look at when the work began; null: it has not begun, or
    /// there were too many to count in time. In the end `examined` may
    /// differ: things come and go meanwhile, and a task whose log is a target of its own is counted for both.
    async fn total(&self) -> Option<i64> {
        self.row.total
    }

    /// The same for each target, in the order in which it is done.
    async fn results(&self) -> Result<Vec<CleanupResult>, AppError> {
        let results = results_of(&self.row)?.into_iter().map(|result| CleanupResult {
            target: result.target.into(),
            examined: result.examined,
            deleted: result.deleted,
            older_than_seconds: result.older_than_seconds,
        });
        Ok(results.collect())
    }

    /// Why it failed; null: it did not.
    async fn error(&self) -> Option<&String> {
        self.row.error.as_ref()
    }

    /// Whether the schedule started it.
    async fn is_scheduled(&self) -> bool {
        self.row.is_scheduled
    }

    /// Who started it; null: the schedule did, or the user is gone.
    async fn started_by(&self, context: &Context<'_>) -> Option<Result<User, AppError>> {
        nullable(async {
            match self.row.started_by {
                Some(id) => Ok(context.request().loader.load_one(ScopeKey(id)).await?.map(User::from)),
                None => Ok(None),
            }
        })
        .await
    }

    /// When it was asked for.
    async fn created_at(&self) -> DateTime {
        DateTime::from_micros(self.row.created_at)
    }

    /// When the work began; null: it has not.
    async fn started_at(&self) -> Option<DateTime> {
        self.row.started_at.map(DateTime::from_micros)
    }

    /// When it ended; null: it has not.
    async fn finished_at(&self) -> Option<DateTime> {
        self.row.finished_at.map(DateTime::from_micros)
    }
}
