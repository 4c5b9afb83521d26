//! What runners do with tasks: fetch, report, hand back.

use async_graphql::{Context, ID, InputObject, Object, SimpleObject};

use super::shown;
use crate::error::{AppError, Result};
use crate::fleet::TaskReport;
use crate::fleet::tasks::LARGEST_PAYLOAD;
use crate::graphql::context::ContextExt as _;
use crate::graphql::node_id::{NodeKind, decode_as};
use crate::graphql::types::{Task, TaskStatus};

#[derive(Default)]
pub(super) struct TaskAgentMutations;

/// What `fetchTask` takes. `{}` is enough.
#[derive(InputObject)]
struct FetchTaskInput {
    /// How long to wait for a task when there is none, from 0 (unless said) to 30.
    wait_seconds: Option<i64>,
}

/// What `fetchTask` returns.
#[derive(SimpleObject)]
struct FetchTaskPayload {
    /// The task that the runner has from now on; null: there is none for it.
    task: Option<Task>,
    /// What the runner shows to others as the one that has this task (JWT), and they check with `verifyJobToken`. It works until
    /// the task ends.
    job_token: Option<String>,
}

/// A result of a task.
#[derive(InputObject)]
struct TaskOutputInput {
    /// Its name.
    name: String,
    /// Its value.
    value: String,
}

/// What `updateTask` takes.
#[derive(InputObject)]
struct UpdateTaskInput {
    /// The task's id.
    id: ID,
    /// Where it stands: RUNNING, which says that it is still worked on, or how it ended: SUCCEEDED, FAILED or CANCELLED.
    status: TaskStatus,
    /// The attempt this is about, as `fetchTask` gave it. When given and another attempt runs, the call is refused with
    /// CONFLICT.
    attempt: Option<i64>,
    /// Results to add. One of a name that is known replaces it.
    outputs: Option<Vec<TaskOutputInput>>,
}

/// What `updateTask` returns.
#[derive(SimpleObject)]
struct UpdateTaskPayload {
    /// The task as it is now. When it is CANCELLING, stop it.
    task: Task,
}

/// What `appendTaskLog` takes.
#[derive(InputObject)]
struct AppendTaskLogInput {
    /// The task's id.
    id: ID,
    /// The number of the first of these lines, in the attempt that the runner has: its first line is 0. Lines that were taken
    /// before may come again, and are left alone.
    start_line: i64,
    /// The lines, without their ends.
    lines: Vec<String>,
    /// Whether no more lines come (false unless said).
    #[graphql(name = "final")]
    is_final: Option<bool>,
    /// The attempt this is about, as `fetchTask` gave it. When given and another attempt runs, the call is refused with
    /// CONFLICT.
    attempt: Option<i64>,
}

/// What `appendTaskLog` returns.
#[derive(SimpleObject)]
struct AppendTaskLogPayload {
    /// How many lines of the attempt the server has: go on with the line of this number.
    acknowledged_line: i64,
}

/// What `releaseTask` takes.
#[derive(InputObject)]
struct ReleaseTaskInput {
    /// The task's id.
    id: ID,
    /// The attempt this is about, as `fetchTask` gave it. When given and another attempt runs, the call is refused with
    /// CONFLICT.
    attempt: Option<i64>,
}

/// What `releaseTask` returns.
#[derive(SimpleObject)]
struct ReleaseTaskPayload {
    /// The task as it is now: in the queue again, unless it may not be given out once more.
    task: Task,
}

#[Object]
impl TaskAgentMutations {
    /// Takes a task, and waits for one if there is none. Whoever hangs up while it waits takes none. For runners.
    async fn fetch_task(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "How long to wait; `{}` is enough.")] input: FetchTaskInput,
    ) -> Result<FetchTaskPayload, AppError> {
        let request = context.request();
        // A task whose payload did not fit into the answer would be taken for nothing.
        request.budget.require(u64::try_from(LARGEST_PAYLOAD).unwrap_or(u64::MAX))?;
        let (actor, wait) = (request.actor(), input.wait_seconds.unwrap_or(0));
        let fetched = request.fleet.fetch_task(&actor, wait, &request.caller_gone).await?;
        Ok(match fetched {
            Some(fetched) => FetchTaskPayload {
                job_token: Some(shown(&fetched.job_token)),
                task: Some(Task::with_payload(fetched.task, fetched.payload)),
            },
            None => FetchTaskPayload { task: None, job_token: None },
        })
    }

    /// Says where a task stands. For the runner that has it.
    async fn update_task(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "The task, and where it stands.")] input: UpdateTaskInput,
    ) -> Result<UpdateTaskPayload, AppError> {
        let request = context.request();
        let id = decode_as(NodeKind::Task, "id", &input.id)?;
        let outputs = input.outputs.unwrap_or_default().into_iter().map(|output| (output.name, output.value));
        let report = TaskReport { status: input.status.into(), outputs: outputs.collect(), attempt: input.attempt };
        let task = request.fleet.update_task(&request.actor(), id, report).await?.into();
        Ok(UpdateTaskPayload { task })
    }

    /// Adds lines to the log of a task. For the runner that has it, and for a while after its end for the one that had it.
    async fn append_task_log(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "The task, and the lines.")] input: AppendTaskLogInput,
    ) -> Result<AppendTaskLogPayload, AppError> {
        let request = context.request();
        let AppendTaskLogInput { id, start_line, lines, is_final, attempt } = input;
        let (actor, id) = (request.actor(), decode_as(NodeKind::Task, "id", &id)?);
        let is_final = is_final.unwrap_or(false);
        let appended = request.fleet.append_task_log(&actor, id, start_line, lines, is_final, attempt);
        Ok(AppendTaskLogPayload { acknowledged_line: appended.await? })
    }

    /// Hands a task back that the runner cannot bring to its end, so that another gets it. For the runner that has it.
    async fn release_task(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "The task to hand back.")] input: ReleaseTaskInput,
    ) -> Result<ReleaseTaskPayload, AppError> {
        let request = context.request();
        let id = decode_as(NodeKind::Task, "id", &input.id)?;
        let task = request.fleet.release_task(&request.actor(), id, input.attempt).await?.into();
        Ok(ReleaseTaskPayload { task })
    }
}
