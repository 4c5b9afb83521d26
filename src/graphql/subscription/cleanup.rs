//! What can be watched of cleanup jobs.

use std::sync::Arc;

use async_graphql::{Context, ID, Subscription};
use futures_util::stream::{self, Stream};

use crate::error::{AppError, Result};
use crate::graphql::context::RequestContext;
use crate::graphql::node_id::{NodeKind, decode_as};
use crate::graphql::types::CleanupJob;

#[derive(Default)]
pub(super) struct CleanupSubscriptions;

#[Subscription]
impl CleanupSubscriptions {
    /// A cleanup job as it is now, and then as it goes on. It completes with the job. For those who manage what it
    /// cleans up.
    async fn cleanup_progress(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "The job.")] job_id: ID,
    ) -> Result<impl Stream<Item = Result<CleanupJob, AppError>>, AppError> {
        let request = context.data_unchecked::<Arc<RequestContext>>().clone();
        let id = decode_as(NodeKind::CleanupJob, "jobId", &job_id)?;
        let watcher = request.fleet.watch_cleanup(&request.actor(), id).await?;
        Ok(stream::unfold(watcher, move |mut watcher| {
            let request = request.clone();
            async move {
                let job = watcher.next().await?;
                request.begin_answer(watcher.actor());
                Some((job.map(CleanupJob::from), watcher))
            }
        }))
    }
}
