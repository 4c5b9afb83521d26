//! What people do with tasks: enqueue, cancel, retry.

use async_graphql::{Context, ID, InputObject, Object, SimpleObject};

use crate::error::{AppError, Result};
use crate::fleet::NewTask;
use crate::graphql::context::ContextExt as _;
use crate::graphql::node_id::{NodeKind, decode_as};
use crate::graphql::scalars::Json;
use crate::graphql::types::Task;

#[derive(Default)]
pub(super) struct TaskMutations;

/// What `enqueueTask` takes.
#[derive(InputObject)]
struct EnqueueTaskInput {
    /// The repository it is for, as `owner/name`.
    repository: String,
    /// What it is, for people.
    name: String,
    /// What a runner must carry to get it; none: any runner may.
    labels: Vec<String>,
    /// What it carries to its runner. The server does not look into it.
    payload: Json,
    /// Of what waits for the same runners, the greater goes first (0 unless said).
    priority: Option<i64>,
    /// How long an attempt may take, in seconds, up to 30 days; 10,800 (3 hours) unless said.
    timeout_seconds: Option<i64>,
    /// How often it may be given to a runner, when runners go away with it or hand it back, up to 100; 3 unless
    /// said. A task that its runner reports as failed is not given out again by itself.
    max_attempts: Option<i64>,
}

/// What `enqueueTask` returns.
#[derive(SimpleObject)]
struct EnqueueTaskPayload {
    /// The new task.
    task: Task,
}

/// What `cancelTask` takes.
#[derive(InputObject)]
struct CancelTaskInput {
    /// The task's id.
    id: ID,
}

/// What `cancelTask` returns.
#[derive(SimpleObject)]
struct CancelTaskPayload {
    /// The task: CANCELLED when no runner had it, else CANCELLING until its runner has stopped.
    task: Task,
}

/// What `retryTask` takes.
#[derive(InputObject)]
struct RetryTaskInput {
    /// The task's id.
    id: ID,
}

/// What `retryTask` returns.
#[derive(SimpleObject)]
struct RetryTaskPayload {
    /// The task, which is in the queue again.
    task: Task,
}

#[Object]
impl TaskMutations {
    /// Puts work into the queue of a repository. For those who may write to the repository.
    async fn enqueue_task(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "The work.")] input: EnqueueTaskInput,
    ) -> Result<EnqueueTaskPayload, AppError> {
        let request = context.request();
        let task = NewTask {
            repository: input.repository,
            name: input.name,
            labels: input.labels,
            payload: input.payload.to_text()?,
            priority: input.priority,
            timeout_seconds: input.timeout_seconds,
            max_attempts: input.max_attempts,
        };
        let task = request.fleet.enqueue_task(&request.actor(), task).await?.into();
        Ok(EnqueueTaskPayload { task })
    }

    /// Stops a task, whether it waits or runs. For those who may write to its repository.
    async fn cancel_task(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "The task to stop.")] input: CancelTaskInput,
    ) -> Result<CancelTaskPayload, AppError> {
        let request = context.request();
        let id = decode_as(NodeKind::Task, "id", &input.id)?;
        let task = request.fleet.cancel_task(&request.actor(), id).await?.into();
        Ok(CancelTaskPayload { task })
    }

    /// Puts a task that has ended into the queue again. For those who may write to its repository.
    async fn retry_task(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "The task to run again.")] input: RetryTaskInput,
    ) -> Result<RetryTaskPayload, AppError> {
        let request = context.request();
        let id = decode_as(NodeKind::Task, "id", &input.id)?;
        let task = request.fleet.retry_task(&request.actor(), id).await?.into();
        Ok(RetryTaskPayload { task })
    }
}
