use async_graphql::{Context, Object, SimpleObject};

use super::{PlacementVerdict, Runner, TaskWaitingReason};
use crate::error::{AppError, Result};
use crate::fleet::{Placed, Waiting};
use crate::graphql::connections::{self, PlacementCandidateConnection};
use crate::graphql::context::ContextExt as _;
use crate::graphql::pagination::PageArgs;

/// Why a task has not started.
#[derive(Clone, Debug, SimpleObject)]
pub(in crate::graphql) struct TaskWaiting {
    /// What keeps it.
    reason: TaskWaitingReason,
    /// Its place, from 1, among the tasks of its owner's repositories that wait for the same labels; 1001 stands for all beyond.
    position: i64,
    /// How many runners carry its labels and serve its repository, whether they are here and free or not.
    matching_runners: u32,
    /// What the runner that is nearest to carrying all its labels lacks.
    missing_labels: Vec<String>,
}

impl From<Waiting> for TaskWaiting {
    fn from(waiting: Waiting) -> Self {
        Self {
            reason: waiting.reason.into(),
            position: waiting.position,
            matching_runners: waiting.matching_runners,
            missing_labels: waiting.missing_labels,
        }
    }
}

/// Who could take a task of a repository with certain labels, and why the others cannot.
pub(in crate::graphql) struct Placement {
    placed: Placed,
}

impl From<Placed> for Placement {
    fn from(placed: Placed) -> Self {
        Self { placed }
    }
}

/// Who could take a task of a repository with certain labels, and why the others cannot.
#[Object]
impl Placement {
    /// What would keep such a task, or that it would start at once.
    async fn reason(&self) -> TaskWaitingReason {
        self.placed.reason.into()
    }

    /// What the runner that is nearest to carrying all the labels lacks.
    async fn missing_labels(&self) -> &[String] {
        &self.placed.missing_labels
    }

    /// The runners that the repository may use: its own, its owner's and the instance's. Oldest first.
    async fn candidates(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "How many from the start (30 unless said, at most 100).")] first: Option<i32>,
        #[graphql(desc = "Only what comes after this cursor.")] after: Option<String>,
        #[graphql(desc = "How many from the end (at most 100).")] last: Option<i32>,
        #[graphql(desc = "Only what comes before this cursor.")] before: Option<String>,
    ) -> Result<PlacementCandidateConnection, AppError> {
        let request = context.request();
        let (list, labels) = (self.placed.candidates.clone(), &self.placed.labels);
        connections::candidates(request, list, labels, PageArgs { first, after, last, before }).await
    }
}

/// A runner that the repository may use.
#[derive(Clone, SimpleObject)]
pub(in crate::graphql) struct PlacementCandidate {
    /// The runner.
    pub(in crate::graphql) runner: Runner,
    /// Whether it could take such a task, and if not, why.
    pub(in crate::graphql) verdict: PlacementVerdict,
    /// Labels that it lacks.
    pub(in crate::graphql) missing_labels: Vec<String>,
}
