//! What can be asked of cleanup jobs.

use async_graphql::{Context, ID, Object};

use crate::auth::Actor;
use crate::error::{AppError, Result};
use crate::graphql::connections::{self, CleanupJobConnection};
use crate::graphql::context::{ContextExt as _, RequestContext, nullable};
use crate::graphql::loaders::CleanupKey;
use crate::graphql::node_id::{NodeKind, decode_as};
use crate::graphql::pagination::PageArgs;
use crate::graphql::types::CleanupJob;

#[derive(Default)]
pub(super) struct CleanupQueries;

#[Object]
impl CleanupQueries {
    /// A cleanup job; null when it does not exist, or you do not manage what it cleans up. For users.
    async fn cleanup_job(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "Its global id.")] id: ID,
    ) -> Option<Result<CleanupJob, AppError>> {
        nullable(async {
            let request = context.request();
            seen_cleanup(request, &request.actor(), decode_as(NodeKind::CleanupJob, "id", &id)?).await
        })
        .await
    }

    /// The cleanup jobs of what you manage, newest first. For users.
    async fn cleanup_jobs(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "How many from the start (30 unless said, at most 100).")] first: Option<i32>,
        #[graphql(desc = "Only what comes after this cursor.")] after: Option<String>,
        #[graphql(desc = "How many from the end (at most 100).")] last: Option<i32>,
        #[graphql(desc = "Only what comes before this cursor.")] before: Option<String>,
    ) -> Result<CleanupJobConnection, AppError> {
        let request = context.request();
        let visible = request.fleet.visible_cleanups(&request.actor())?;
        connections::cleanup_jobs(request, visible, PageArgs { first, after, last, before }).await
    }
}

/// A cleanup job, if it exists for the actor.
pub(super) async fn seen_cleanup(request: &RequestContext, actor: &Actor, id: i64) -> Result<Option<CleanupJob>> {
    request.fleet.may_read_cleanups(actor)?;
    let row = request.loader.load_one(CleanupKey(id)).await?;
    Ok(row.filter(|row| request.fleet.sees_cleanup(actor, row)).map(CleanupJob::from))
}
