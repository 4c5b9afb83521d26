//! What can be watched of tasks, and what runners are told.

use std::sync::Arc;

use async_graphql::{Context, ID, SimpleObject, Subscription};
use futures_util::stream::{self, Stream};

use super::{events, named};
use crate::error::{AppError, Result};
use crate::events::{Event, EventKind};
use crate::fleet::Watch;
use crate::graphql::context::{ContextExt as _, RequestContext};
use crate::graphql::node_id::{NodeKind, decode_as};
use crate::graphql::scalars::DateTime;
use crate::graphql::types::{RunnerDirective, ScopeInput, Task, TaskLogChunk, TaskStatus};

#[derive(Default)]
pub(super) struct TaskSubscriptions;

/// A task was enqueued, or its status changed.
#[derive(SimpleObject)]
struct TaskEvent {
    /// The task as it is now.
    task: Task,
    /// The status before; null: the task is new.
    previous: Option<TaskStatus>,
    /// The status since.
    current: TaskStatus,
    /// When it changed.
    at: DateTime,
    /// How many changes were left out just before this one, because the subscriber read too slowly. When it is not 0, ask for
    /// the tasks again to know what is true now.
    missed_events: u64,
}

#[Subscription]
impl TaskSubscriptions {
    /// Tasks that come, and every change of their status. For users.
    async fn task_events(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "Only of tasks of this scope; without, of all that you may see.")] scope: Option<ScopeInput>,
        #[graphql(desc = "Only of this task.")] task_id: Option<ID>,
    ) -> Result<impl Stream<Item = Result<TaskEvent, AppError>>, AppError> {
        let request = context.request();
        let task_id = task_id.map(|id| decode_as(NodeKind::Task, "taskId", &id)).transpose()?;
        let scope = named(request, scope).await?;
        let watch = Watch { kinds: vec![EventKind::Task], scope, runner_ids: None, task_id };
        let watcher = request.fleet.watch(&request.actor(), watch).await?;
        Ok(events(context, watcher, |occurrence, missed_events| match occurrence.event {
            Event::TaskChanged { task_id, previous, current } => Some(TaskEvent {
                task: Task::of_id(task_id),
                previous: previous.map(Into::into),
                current: current.into(),
                at: occurrence.at.into(),
                missed_events,
            }),
            _ => None,
        }))
    }

    /// The log of a task: what is there, then what is added as it comes. It completes when no more can come. For users.
    async fn task_log(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "The task.")] task_id: ID,
        #[graphql(
            default = 0,
            desc = "How many lines you have: the stream begins with the line of this number. 0: with the first there is."
        )]
        after_line: i64,
    ) -> Result<impl Stream<Item = Result<TaskLogChunk, AppError>>, AppError> {
        let request = context.data_unchecked::<Arc<RequestContext>>().clone();
        let task_id = decode_as(NodeKind::Task, "taskId", &task_id)?;
        let follower = request.fleet.follow_log(&request.actor(), task_id, after_line).await?;
        Ok(stream::unfold(follower, move |mut follower| {
            let request = request.clone();
            async move {
                let part = follower.next().await?;
                request.begin_answer(follower.actor());
                Some((part.map(TaskLogChunk::from), follower))
            }
        }))
    }

    /// What the runner is told to do. Being subscribed is its heartbeat. For runners.
    async fn runner_directives(
        &self,
        context: &Context<'_>,
    ) -> Result<impl Stream<Item = Result<RunnerDirective, AppError>>, AppError> {
        let request = context.data_unchecked::<Arc<RequestContext>>().clone();
        let directives = request.fleet.directives(&request.actor()).await?;
        let clock = request.fleet.clock.clone();
        Ok(stream::unfold(directives, move |mut directives| {
            let clock = clock.clone();
            async move {
                let directive = directives.next().await?;
                Some((directive.map(|directive| RunnerDirective::of(directive, clock.now())), directives))
            }
        }))
    }
}
