use async_graphql::{ID, SimpleObject};

use crate::fleet::JobClaims;
use crate::graphql::node_id::{NodeKind, encode};
use crate::graphql::scalars::DateTime;

/// What a job token says of its holder: a runner that has this task at this moment.
#[derive(Clone, Debug, SimpleObject)]
pub(in crate::graphql) struct JobTokenClaims {
    /// The task's id.
    task_id: ID,
    /// The repository it belongs to, as `owner/name`.
    repository: String,
    /// Which attempt at the task it is, from 1.
    attempt: i64,
    /// When the token ends, if the task does not end before.
    expires_at: DateTime,
}

impl From<JobClaims> for JobTokenClaims {
    fn from(claims: JobClaims) -> Self {
        Self {
            task_id: encode(NodeKind::Task, claims.task_id),
            repository: claims.repository,
            attempt: claims.attempt,
            expires_at: claims.expires_at.into(),
        }
    }
}
