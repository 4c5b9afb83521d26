use std::sync::{Arc, OnceLock};

use async_graphql::{Context, ID, Object, SimpleObject};
use tokio::sync::OnceCell;
use uuid::Uuid;

use super::{RegistrationToken, RunnerScope, RunnerStatus, RunnerTransitionCause, Task, TaskFilter};
use crate::clock::Timestamp;
use crate::error::{AppError, Result};
use crate::fleet::presence::Snapshot;
use crate::graphql::connections::{self, TaskConnection};
use crate::graphql::context::{ContextExt as _, RequestContext, nullable};
use crate::graphql::loaders::{CurrentTasksKey, HistoryKey, LabelsKey, RunnerKey, ScopeKey, TokenKey};
use crate::graphql::node_id::{NodeKind, encode};
use crate::graphql::pagination::PageArgs;
use crate::graphql::scalars::DateTime;
use crate::model;
use crate::store::models::{RunnerRow, TaskRow, TransitionRow};

/// Most tasks that `currentTasks` shows.
const MOST_CURRENT: usize = 100;

/// A machine, or a part of one, that runs tasks. What is known of its presence comes from memory and is as of this moment;
/// its record is read when a field needs it, so that a heartbeat's answer costs no statement.
#[derive(Clone)]
pub(in crate::graphql) struct Runner {
    id: i64,
    row: Arc<OnceCell<Arc<RunnerRow>>>,
    presence: Arc<OnceLock<Option<Snapshot>>>,
}

impl From<RunnerRow> for Runner {
    fn from(row: RunnerRow) -> Self {
        Self::from(Arc::new(row))
    }
}

impl From<Arc<RunnerRow>> for Runner {
    fn from(row: Arc<RunnerRow>) -> Self {
        Self { id: row.id, row: Arc::new(OnceCell::new_with(Some(row))), presence: Arc::default() }
    }
}

impl From<Snapshot> for Runner {
    fn from(presence: Snapshot) -> Self {
        let known = OnceLock::new();
        // A new cell takes its first value.
        let _ = known.set(Some(presence));
        Self { id: presence.id, row: Arc::default(), presence: Arc::new(known) }
    }
}

impl Runner {
    /// The runner of an identifier that the caller was allowed to know.
    pub(in crate::graphql) fn of_id(id: i64) -> Self {
        Self { id, row: Arc::default(), presence: Arc::default() }
    }

    async fn row(&self, request: &RequestContext) -> Result<&Arc<RunnerRow>> {
        self.row
            .get_or_try_init(|| async {
                let row = request.loader.load_one(RunnerKey(self.id)).await?;
                row.ok_or_else(|| AppError::not_found("The runner"))
            })
            .await
    }

    /// One look for all fields, so that they agree with each other.
    fn presence(&self, request: &RequestContext) -> Option<Snapshot> {
        *self.presence.get_or_init(|| request.fleet.presence.get(self.id))
    }

    /// The tasks that it has at this moment.
    async fn held(&self, request: &RequestContext) -> Result<Vec<Arc<TaskRow>>> {
        Ok(request.loader.load_one(CurrentTasksKey(self.id)).await?.unwrap_or_default())
    }

    async fn manages(&self, request: &RequestContext) -> Result<bool> {
        Ok(request.actor().manages(self.row(request).await?.owner_id))
    }
}

fn never_is_null(micros: i64) -> Option<DateTime> {
    (micros > 0).then(|| DateTime::from_micros(micros))
}

/// A machine, or a part of one, that runs tasks.
#[Object]
impl Runner {
    /// The global id.
    pub(in crate::graphql) async fn id(&self) -> ID {
        encode(NodeKind::Runner, self.id)
    }

    /// The name that the runner authenticates with (`X-Runner-UUID`).
    async fn uuid(&self, context: &Context<'_>) -> Result<Uuid, AppError> {
        let row = self.row(context.request()).await?;
        row.uuid.parse().map_err(AppError::internal)
    }

    /// The name that people see. It need not be unique.
    async fn name(&self, context: &Context<'_>) -> Result<String, AppError> {
        Ok(self.row(context.request()).await?.name.clone())
    }

    /// What it is, for people.
    async fn description(&self, context: &Context<'_>) -> Result<String, AppError> {
        Ok(self.row(context.request()).await?.description.clone())
    }

    /// A remark of those who manage it; null for everyone else.
    async fn note(&self, context: &Context<'_>) -> Option<Result<String, AppError>> {
        nullable(async {
            let request = context.request();
            Ok(if self.manages(request).await? { Some(self.row(request).await?.note.clone()) } else { None })
        })
        .await
    }

    /// What it belongs to.
    async fn scope(&self, context: &Context<'_>) -> Result<RunnerScope, AppError> {
        let request = context.request();
        let scope_id = self.row(request).await?.scope_id;
        let scope = request.loader.load_one(ScopeKey(scope_id)).await?;
        scope.map(RunnerScope::from).ok_or_else(|| AppError::not_found("The scope"))
    }

    /// What tasks choose it by, in alphabetical order: what it declared, and what its registration token gave it.
    async fn labels(&self, context: &Context<'_>) -> Result<Vec<String>, AppError> {
        Ok(context.request().loader.load_one(LabelsKey(self.id)).await?.unwrap_or_default())
    }

    /// The version of the agent, as it said.
    async fn version(&self, context: &Context<'_>) -> Option<Result<String, AppError>> {
        nullable(async { Ok(self.row(context.request()).await?.version.clone()) }).await
    }

    /// The operating system, as the agent said.
    async fn os(&self, context: &Context<'_>) -> Option<Result<String, AppError>> {
        nullable(async { Ok(self.row(context.request()).await?.os.clone()) }).await
    }

    /// The processor architecture, as the agent said.
    async fn arch(&self, context: &Context<'_>) -> Option<Result<String, AppError>> {
        nullable(async { Ok(self.row(context.request()).await?.arch.clone()) }).await
    }

    /// Whether it takes one task and is then removed.
    async fn ephemeral(&self, context: &Context<'_>) -> Result<bool, AppError> {
        Ok(self.row(context.request()).await?.ephemeral)
    }

    /// Whether it gets no new work. It may still heartbeat and finish what it has.
    async fn disabled(&self, context: &Context<'_>) -> Result<bool, AppError> {
        let request = context.request();
        match self.presence(request) {
            Some(presence) => Ok(presence.disabled),
            None => Ok(self.row(request).await?.disabled),
        }
    }

    /// Whether it is here, and at work.
    async fn status(&self, context: &Context<'_>) -> Result<RunnerStatus, AppError> {
        let request = context.request();
        match self.presence(request) {
            Some(presence) => Ok(presence.status.into()),
            None => Ok(self.row(request).await?.status.into()),
        }
    }

    /// Since when it has this status.
    async fn status_since(&self, context: &Context<'_>) -> Result<DateTime, AppError> {
        let request = context.request();
        match self.presence(request) {
            Some(presence) => Ok(presence.status_since.into()),
            None => Ok(DateTime::from_micros(self.row(request).await?.status_since)),
        }
    }

    /// When an authenticated call of it last came in; null: never.
    async fn last_online_at(&self, context: &Context<'_>) -> Option<Result<DateTime, AppError>> {
        nullable(async {
            let request = context.request();
            match self.presence(request) {
                Some(presence) => Ok(presence.last_online_at.map(DateTime)),
                None => Ok(never_is_null(self.row(request).await?.last_online_at)),
            }
        })
        .await
    }

    /// When it last did task work; null: never.
    async fn last_active_at(&self, context: &Context<'_>) -> Option<Result<DateTime, AppError>> {
        nullable(async {
            let request = context.request();
            match self.presence(request) {
                Some(presence) => Ok(presence.last_active_at.map(DateTime)),
                None => Ok(never_is_null(self.row(request).await?.last_active_at)),
            }
        })
        .await
    }

    /// When its current token was made.
    async fn token_issued_at(&self, context: &Context<'_>) -> Result<DateTime, AppError> {
        Ok(DateTime::from_micros(self.row(context.request()).await?.token_issued_at))
    }

    /// Whether it has a task that has not ended: a fact of the queue, whatever its status.
    async fn busy(&self, context: &Context<'_>) -> Result<bool, AppError> {
        Ok(!self.held(context.request()).await?.is_empty())
    }

    /// The tasks that it has at this moment and that you may see, oldest first, at most 100; `tasks` has all.
    async fn current_tasks(&self, context: &Context<'_>) -> Result<Vec<Task>, AppError> {
        let request = context.request();
        let actor = request.actor();
        request.fleet.may_read_tasks(&actor)?;
        let held = self.held(request).await?.into_iter().filter(|row| request.fleet.sees_task(&actor, row));
        Ok(held.take(MOST_CURRENT).map(Task::from).collect())
    }

    /// The tasks that it has or had last and that you may see, newest first.
    async fn tasks(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "Which of them.")] filter: Option<TaskFilter>,
        #[graphql(desc = "How many from the start (30 unless said, at most 100).")] first: Option<i32>,
        #[graphql(desc = "Only what comes after this cursor.")] after: Option<String>,
        #[graphql(desc = "How many from the end (at most 100).")] last: Option<i32>,
        #[graphql(desc = "Only what comes before this cursor.")] before: Option<String>,
    ) -> Result<TaskConnection, AppError> {
        let request = context.request();
        let query = TaskFilter::query(filter)?;
        let list = request.fleet.tasks_of_runner(&request.actor(), self.id, &query)?;
        connections::tasks(request, list, PageArgs { first, after, last, before }).await
    }

    /// The last 20 changes of its status, or of whether it is disabled, newest first.
    async fn history(&self, context: &Context<'_>) -> Result<Vec<RunnerTransition>, AppError> {
        let rows = context.request().loader.load_one(HistoryKey(self.id)).await?.unwrap_or_default();
        Ok(rows.iter().map(<RunnerTransition as From<&TransitionRow>>::from).collect())
    }

    /// The registration token that made it; null: the token is gone, or you do not manage the scope.
    async fn registered_with(&self, context: &Context<'_>) -> Option<Result<RegistrationToken, AppError>> {
        nullable(async {
            let request = context.request();
            let row = self.row(request).await?;
            match row.registered_with.filter(|_| request.actor().manages(row.owner_id)) {
                Some(id) => Ok(request.loader.load_one(TokenKey(id)).await?.map(RegistrationToken::from)),
                None => Ok(None),
            }
        })
        .await
    }

    /// The IP address it registered from; null: it is not known, or you do not manage the scope.
    async fn registered_from(&self, context: &Context<'_>) -> Option<Result<String, AppError>> {
        nullable(async {
            let request = context.request();
            let row = self.row(request).await?;
            Ok(row.registered_from.clone().filter(|_| request.actor().manages(row.owner_id)))
        })
        .await
    }

    /// When it registered for the first time.
    async fn created_at(&self, context: &Context<'_>) -> Result<DateTime, AppError> {
        Ok(DateTime::from_micros(self.row(context.request()).await?.created_at))
    }

    /// When its record was last changed; its presence does not count.
    async fn updated_at(&self, context: &Context<'_>) -> Result<DateTime, AppError> {
        Ok(DateTime::from_micros(self.row(context.request()).await?.updated_at))
    }
}

/// A change of a runner's status, or of whether it is disabled.
#[derive(Clone, Copy, Debug, SimpleObject)]
pub(in crate::graphql) struct RunnerTransition {
    /// When it happened.
    at: DateTime,
    /// The status before.
    from: RunnerStatus,
    /// The status after; the same as before when the runner was disabled or enabled.
    to: RunnerStatus,
    /// Why it happened.
    cause: RunnerTransitionCause,
}

impl From<&TransitionRow> for RunnerTransition {
    fn from(row: &TransitionRow) -> Self {
        Self {
            at: DateTime(Timestamp::from_micros(row.at)),
            from: row.from_status.into(),
            to: row.to_status.into(),
            cause: model::TransitionCause::into(row.cause),
        }
    }
}
