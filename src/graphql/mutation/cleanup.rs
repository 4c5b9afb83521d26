//! Cleanups: start and cancel.

use async_graphql::{Context, ID, InputObject, Object, SimpleObject};

use super::scope_to_manage;
use crate::error::{AppError, Result};
use crate::fleet::{CleanupRequest, CleanupStart, scope_needed};
use crate::graphql::context::ContextExt as _;
use crate::graphql::node_id::{NodeKind, decode_as, encode};
use crate::graphql::types::{CleanupJob, CleanupTarget, ScopeInput};
use crate::model;

#[derive(Default)]
pub(super) struct CleanupMutations;

/// What `startCleanup` takes.
#[derive(InputObject)]
struct StartCleanupInput {
    /// What to clean up, each at most once, in this order.
    targets: Vec<CleanupTarget>,
    /// Where: a scope with the repositories below it; without, the instance with everything in it, which is for
    /// administrators.
    scope: Option<ScopeInput>,
    /// The age from which on things are removed, counted back from when the work begins; without, what is configured
    /// for each target.
    older_than_seconds: Option<i64>,
    /// Only count what would be removed (false unless said).
    dry_run: Option<bool>,
}

/// What `startCleanup` returns.
#[derive(SimpleObject)]
struct StartCleanupPayload {
    /// The job, which goes on by itself: watch it with `cleanupProgress`.
    cleanup_job: CleanupJob,
}

/// What `cancelCleanup` takes.
#[derive(InputObject)]
struct CancelCleanupInput {
    /// The job's id.
    id: ID,
}

/// What `cancelCleanup` returns.
#[derive(SimpleObject)]
struct CancelCleanupPayload {
    /// The job: CANCELLED, or RUNNING for the moment that it takes to stop. One that has ended stays as it is.
    cleanup_job: CleanupJob,
}

#[Object]
impl CleanupMutations {
    /// Starts a cleanup and returns at once. While a job is open no other of one of its targets in the same scope
    /// begins. For those who manage the scope, with an access token that may change what is cleaned up (ADMIN for the
    /// audit trail).
    async fn start_cleanup(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "What to clean up.")] input: StartCleanupInput,
    ) -> Result<StartCleanupPayload, AppError> {
        let request = context.request();
        let targets: Vec<model::CleanupTarget> = input.targets.into_iter().map(Into::into).collect();
        let needed = targets.first().copied().map_or(model::AccessTokenScope::WriteRunner, scope_needed);
        let scope = match input.scope {
            Some(scope) => scope_to_manage(request, scope, needed).await?,
            None => request.fleet.instance(&request.actor()).await?,
        };
        let cleanup = CleanupRequest {
            targets,
            older_than_seconds: input.older_than_seconds,
            dry_run: input.dry_run.unwrap_or(false),
        };
        match request.fleet.start_cleanup(&request.actor(), &scope, &cleanup).await? {
            CleanupStart::Started(job) => Ok(StartCleanupPayload { cleanup_job: (*job).into() }),
            CleanupStart::Busy { target, job_id } => {
                let job = encode(NodeKind::CleanupJob, job_id);
                Err(AppError::conflict(format!(
                    "The cleanup job {} already works on {target} in this scope. Wait for its end, or cancel it.",
                    job.as_str()
                )))
            }
        }
    }

    /// Stops a cleanup between two of its transactions; what it removed until then stays removed. For those who could
    /// start it.
    async fn cancel_cleanup(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "The job to stop.")] input: CancelCleanupInput,
    ) -> Result<CancelCleanupPayload, AppError> {
        let request = context.request();
        let id = decode_as(NodeKind::CleanupJob, "id", &input.id)?;
        let job = request.fleet.cancel_cleanup(&request.actor(), id).await?;
        Ok(CancelCleanupPayload { cleanup_job: job.into() })
    }
}
