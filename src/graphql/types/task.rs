use std::sync::Arc;

use async_graphql::{Context, ID, Object};
use bytes::Bytes;
use tokio::sync::OnceCell;
use uuid::Uuid;

use super::{Repository, Runner, TaskStatus, TaskWaiting, User};
use crate::auth::Actor;
use crate::error::{AppError, Result};
use crate::graphql::connections::{self, TaskLogConnection};
use crate::graphql::context::{ContextExt as _, RequestContext, nullable};
use crate::graphql::loaders::{OutputsKey, PayloadKey, RunnerKey, ScopeKey, TaskKey, WaitingKey};
use crate::graphql::node_id::{NodeKind, encode};
use crate::graphql::pagination::PageArgs;
use crate::graphql::scalars::{DateTime, Json};
use crate::model;
use crate::store::models::{OutputRow, TaskRow};

/// Work for a runner, of a repository. Its record is read when a field needs it, so that what names a task and nothing more costs
/// no statement.
#[derive(Clone)]
pub(in crate::graphql) struct Task {
    id: i64,
    row: Arc<OnceCell<Arc<TaskRow>>>,
    /// What it carries, where that was read with it.
    payload: Option<Bytes>,
}

impl From<Arc<TaskRow>> for Task {
    fn from(row: Arc<TaskRow>) -> Self {
        Self { id: row.id, row: Arc::new(OnceCell::new_with(Some(row))), payload: None }
    }
}

impl From<TaskRow> for Task {
    fn from(row: TaskRow) -> Self {
        Self::from(Arc::new(row))
    }
}

impl Task {
    /// The task of an identifier that the caller was allowed to know.
    pub(in crate::graphql) fn of_id(id: i64) -> Self {
        Self { id, row: Arc::default(), payload: None }
    }

    /// A task together with what it carries.
    pub(in crate::graphql) fn with_payload(row: TaskRow, payload: String) -> Self {
        Self { payload: Some(payload.into()), ..Self::from(row) }
    }

    async fn row(&self, request: &RequestContext) -> Result<&Arc<TaskRow>> {
        self.row
            .get_or_try_init(|| async {
                let row = request.loader.load_one(TaskKey(self.id)).await?;
                row.ok_or_else(|| AppError::not_found("The task"))
            })
            .await
    }
}

/// Work for a runner, of a repository.
#[Object]
impl Task {
    /// The global id.
    pub(in crate::graphql) async fn id(&self) -> ID {
        encode(NodeKind::Task, self.id)
    }

    /// The repository it is for.
    async fn repository(&self, context: &Context<'_>) -> Result<Repository, AppError> {
        let request = context.request();
        let repository_id = self.row(request).await?.repository_id;
        let repository = request.loader.load_one(ScopeKey(repository_id)).await?;
        repository.map(Repository::from).ok_or_else(|| AppError::not_found("The repository"))
    }

    /// What it is, for people.
    async fn name(&self, context: &Context<'_>) -> Result<String, AppError> {
        Ok(self.row(context.request()).await?.name.clone())
    }

    /// What a runner must carry to get it, in alphabetical order.
    async fn labels(&self, context: &Context<'_>) -> Result<Vec<String>, AppError> {
        let row = self.row(context.request()).await?;
        Ok(row.labels.split(',').filter(|label| !label.is_empty()).map(str::to_owned).collect())
    }

    /// What it carries to its runner. The server does not look into it.
    async fn payload(&self, context: &Context<'_>) -> Result<Json, AppError> {
        let request = context.request();
        let payload = if let Some(payload) = &self.payload {
            payload.clone()
        } else {
            let payload = request.loader.load_one(PayloadKey(self.id)).await?;
            payload.ok_or_else(|| AppError::not_found("The task"))??
        };
        request.budget.tell(payload.len())?;
        Json::stored(payload)
    }

    /// Of what waits for the same runners, the greater goes first.
    async fn priority(&self, context: &Context<'_>) -> Result<i64, AppError> {
        Ok(self.row(context.request()).await?.priority)
    }

    /// Where it stands.
    async fn status(&self, context: &Context<'_>) -> Result<TaskStatus, AppError> {
        Ok(self.row(context.request()).await?.status.into())
    }

    /// Why it failed or was cancelled; null: it was not.
    async fn failure_reason(&self, context: &Context<'_>) -> Option<Result<String, AppError>> {
        nullable(async { Ok(self.row(context.request()).await?.failure_reason.clone()) }).await
    }

    /// The runner that has it, or had it when it ended; null: none has taken it since it was last queued, the runner is gone
    /// (`runnerName` and `runnerUuid` still say who it was), or you may not see it.
    async fn runner(&self, context: &Context<'_>) -> Option<Result<Runner, AppError>> {
        nullable(async {
            let request = context.request();
            let Some(id) = self.row(request).await?.runner_id else { return Ok(None) };
            let actor = request.actor();
            request.fleet.may_read_runners(&actor)?;
            let row = request.loader.load_one(RunnerKey(id)).await?;
            Ok(row.filter(|row| actor.sees_runner(row.id, row.owner_id)).map(Runner::from))
        })
        .await
    }

    /// The name that the runner had when it took the task. It stays when the runner goes.
    async fn runner_name(&self, context: &Context<'_>) -> Option<Result<String, AppError>> {
        nullable(async { Ok(self.row(context.request()).await?.runner_name.clone()) }).await
    }

    /// The name that the runner authenticated with. It stays when the runner goes.
    async fn runner_uuid(&self, context: &Context<'_>) -> Option<Result<Uuid, AppError>> {
        nullable(async {
            let row = self.row(context.request()).await?;
            row.runner_uuid.as_deref().map(str::parse::<Uuid>).transpose().map_err(AppError::internal)
        })
        .await
    }

    /// How often it was given to a runner.
    async fn attempt(&self, context: &Context<'_>) -> Result<i64, AppError> {
        Ok(self.row(context.request()).await?.attempt)
    }

    /// How often it may be given to a runner, when runners go away with it or hand it back. `retryTask` allows once more.
    async fn max_attempts(&self, context: &Context<'_>) -> Result<i64, AppError> {
        Ok(self.row(context.request()).await?.max_attempts)
    }

    /// How long an attempt may take.
    async fn timeout_seconds(&self, context: &Context<'_>) -> Result<i64, AppError> {
        Ok(self.row(context.request()).await?.timeout_seconds)
    }

    /// What its runner reported as results, in the order of names.
    async fn outputs(&self, context: &Context<'_>) -> Result<Vec<TaskOutput>, AppError> {
        let rows = context.request().loader.load_one(OutputsKey(self.id)).await?.transpose()?.unwrap_or_default();
        Ok(rows.into_iter().map(TaskOutput).collect())
    }

    /// What its runner wrote, line by line, through all attempts.
    async fn log(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "Only what comes after this cursor.")] after: Option<String>,
        #[graphql(desc = "How many lines (30 unless said, at most 100).")] first: Option<i32>,
    ) -> Result<TaskLogConnection, AppError> {
        let request = context.request();
        let count = self.row(request).await?.log_lines;
        connections::log(request, self.id, count, PageArgs { first, after, ..PageArgs::default() }).await
    }

    /// How many lines its log has had. They go before the task does where logs are cleaned up.
    async fn log_line_count(&self, context: &Context<'_>) -> Result<i64, AppError> {
        Ok(self.row(context.request()).await?.log_lines)
    }

    /// Whether the log was longer than it may be, and its end was left out.
    async fn log_truncated(&self, context: &Context<'_>) -> Result<bool, AppError> {
        Ok(self.row(context.request()).await?.log_truncated)
    }

    /// Why it has not started; null: it does not wait.
    async fn waiting(&self, context: &Context<'_>) -> Option<Result<TaskWaiting, AppError>> {
        nullable(async {
            let request = context.request();
            let row = self.row(request).await?;
            if row.status != model::TaskStatus::Queued {
                return Ok(None);
            }
            Ok(request.loader.load_one(WaitingKey(row.clone())).await?.map(TaskWaiting::from))
        })
        .await
    }

    /// The user who enqueued it; null: the user is gone, or a runner asks.
    async fn created_by(&self, context: &Context<'_>) -> Option<Result<User, AppError>> {
        nullable(async {
            let request = context.request();
            // A runner runs other people's code, and is told nothing of the people.
            if matches!(&*request.actor(), Actor::Runner(_)) {
                return Ok(None);
            }
            match self.row(request).await?.created_by {
                Some(id) => Ok(request.loader.load_one(ScopeKey(id)).await?.map(User::from)),
                None => Ok(None),
            }
        })
        .await
    }

    /// When it was made.
    async fn created_at(&self, context: &Context<'_>) -> Result<DateTime, AppError> {
        Ok(DateTime::from_micros(self.row(context.request()).await?.created_at))
    }

    /// When it was last put into the queue: at first, for another attempt, or when somebody had it run again.
    async fn queued_at(&self, context: &Context<'_>) -> Result<DateTime, AppError> {
        Ok(DateTime::from_micros(self.row(context.request()).await?.queued_at))
    }

    /// When a runner last took it; null: none has.
    async fn started_at(&self, context: &Context<'_>) -> Option<Result<DateTime, AppError>> {
        nullable(async { Ok(self.row(context.request()).await?.started_at.map(DateTime::from_micros)) }).await
    }

    /// When it ended; null: it has not.
    async fn finished_at(&self, context: &Context<'_>) -> Option<Result<DateTime, AppError>> {
        nullable(async { Ok(self.row(context.request()).await?.finished_at.map(DateTime::from_micros)) }).await
    }
}

/// A result that a task's runner reported.
#[derive(Clone, Debug)]
pub(in crate::graphql) struct TaskOutput(Arc<OutputRow>);

/// A result that a task's runner reported.
#[Object]
#[expect(clippy::unused_async, reason = "resolvers are async, also those that only look into memory")]
impl TaskOutput {
    /// Its name.
    async fn name(&self, context: &Context<'_>) -> Result<String, AppError> {
        context.request().budget.tell(self.0.name.len())?;
        Ok(self.0.name.clone())
    }

    /// Its value.
    async fn value(&self, context: &Context<'_>) -> Result<String, AppError> {
        context.request().budget.tell(self.0.value.len())?;
        Ok(self.0.value.clone())
    }
}
