//! What can be asked of tasks.

use async_graphql::{Context, ID, Object};
use secrecy::SecretString;

use crate::auth::Actor;
use crate::error::{AppError, Result};
use crate::graphql::connections::{self, TaskConnection};
use crate::graphql::context::{ContextExt as _, RequestContext, nullable};
use crate::graphql::loaders::TaskKey;
use crate::graphql::node_id::{NodeKind, decode_as};
use crate::graphql::pagination::PageArgs;
use crate::graphql::types::{JobTokenClaims, Placement, ScopeInput, Task, TaskFilter};

#[derive(Default)]
pub(super) struct TaskQueries;

#[Object]
impl TaskQueries {
    /// A task; null when it does not exist or you may not see it. A runner sees those that it has or had last.
    async fn task(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "Its global id.")] id: ID,
    ) -> Option<Result<Task, AppError>> {
        nullable(async {
            let request = context.request();
            seen_task(request, &request.actor(), decode_as(NodeKind::Task, "id", &id)?).await
        })
        .await
    }

    /// The tasks of a scope and of the repositories below it, or all that you may see; newest first.
    #[expect(clippy::too_many_arguments, reason = "the arguments of a Relay list")]
    async fn tasks(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "Only what belongs to this scope; without, all that you may see.")] scope: Option<ScopeInput>,
        #[graphql(desc = "Which of them.")] filter: Option<TaskFilter>,
        #[graphql(desc = "How many from the start (30 unless said, at most 100).")] first: Option<i32>,
        #[graphql(desc = "Only what comes after this cursor.")] after: Option<String>,
        #[graphql(desc = "How many from the end (at most 100).")] last: Option<i32>,
        #[graphql(desc = "Only what comes before this cursor.")] before: Option<String>,
    ) -> Result<TaskConnection, AppError> {
        let request = context.request();
        let actor = request.actor();
        let scope = match scope {
            Some(scope) => Some(request.fleet.scope(&actor, &scope.reference()?).await?),
            None => None,
        };
        let list = request.fleet.task_list(&actor, scope.as_ref(), &TaskFilter::query(filter)?)?;
        connections::tasks(request, list, PageArgs { first, after, last, before }).await
    }

    /// Who could take a task of a repository with certain labels, and why the others cannot. Nothing is enqueued.
    async fn placement(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "The repository, as `owner/name`.")] repository: String,
        #[graphql(desc = "What a runner would have to carry.")] labels: Vec<String>,
    ) -> Result<Placement, AppError> {
        let request = context.request();
        Ok(request.fleet.placement(&request.actor(), &repository, &labels).await?.into())
    }

    /// What a job token says, for a service that was shown one; null when this server did not make it, when it has expired,
    /// and when its task has ended. For whoever holds the token; no other credentials are needed.
    async fn verify_job_token(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "The token, as `fetchTask` gave it to the runner.")] token: String,
    ) -> Option<Result<JobTokenClaims, AppError>> {
        nullable(async {
            let claims = context.request().fleet.verify_job_token(&SecretString::from(token)).await?;
            Ok(claims.map(JobTokenClaims::from))
        })
        .await
    }
}

/// A task, if it exists for the actor.
pub(super) async fn seen_task(request: &RequestContext, actor: &Actor, id: i64) -> Result<Option<Task>> {
    request.fleet.may_read_tasks(actor)?;
    let row = request.loader.load_one(TaskKey(id)).await?;
    Ok(row.filter(|row| request.fleet.sees_task(actor, row)).map(Task::from))
}
