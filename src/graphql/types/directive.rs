//! What runners are told to do: with the answer to a heartbeat, or on a stream.

use async_graphql::{ID, SimpleObject, Union};

use crate::clock::Timestamp;
use crate::fleet::Directive;
use crate::graphql::node_id::{NodeKind, encode};
use crate::graphql::scalars::DateTime;

/// There is a task that the runner could take: call `fetchTask`.
#[derive(SimpleObject)]
pub(in crate::graphql) struct TaskAvailable {
    /// As of when.
    at: DateTime,
}

/// Stop a task that the runner has, and report it as CANCELLED.
#[derive(SimpleObject)]
pub(in crate::graphql) struct CancelTask {
    /// The task's id.
    task_id: ID,
}

/// Get a new token with `rotateRunnerToken`.
#[derive(SimpleObject)]
pub(in crate::graphql) struct RotateToken {
    /// When the current one has the age that the operator allows (`token_max_age`).
    before: DateTime,
}

/// Finish what the runner has and take nothing new: somebody disabled it.
#[derive(SimpleObject)]
pub(in crate::graphql) struct Drain {
    /// Why, for the agent's log.
    reason: &'static str,
}

/// What a runner is told to do.
#[derive(Union)]
pub(in crate::graphql) enum RunnerDirective {
    TaskAvailable(TaskAvailable),
    CancelTask(CancelTask),
    RotateToken(RotateToken),
    Drain(Drain),
}

impl RunnerDirective {
    /// A directive that is given at a time.
    pub(in crate::graphql) fn of(directive: Directive, at: Timestamp) -> Self {
        match directive {
            Directive::TaskAvailable => Self::TaskAvailable(TaskAvailable { at: at.into() }),
            Directive::CancelTask(id) => Self::CancelTask(CancelTask { task_id: encode(NodeKind::Task, id) }),
            Directive::RotateToken(before) => Self::RotateToken(RotateToken { before: before.into() }),
            Directive::Drain => Self::Drain(Drain { reason: "The runner is disabled: it gets no new work." }),
        }
    }
}
