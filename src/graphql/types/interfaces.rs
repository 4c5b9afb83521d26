//! What several types have in common.
#![expect(clippy::duplicated_attributes, reason = "two fields of one interface take the same arguments")]

use async_graphql::{ID, Interface, Union};

use super::{
    AccessToken, CleanupJob, FleetSummary, Instance, Organization, RegistrationToken, Repository, Runner, RunnerFilter,
    RunnerOrder, ScopeKind, Task, TaskFilter, User,
};
use crate::graphql::connections::{RegistrationTokenConnection, RunnerConnection, TaskConnection};
use crate::model;
use crate::store::models::ScopeRow;

/// Anything with a global id, which `node` finds again.
#[derive(Clone, Interface)]
#[graphql(field(name = "id", ty = "ID", desc = "The global id: opaque, unique in the instance, never used again."))]
pub(in crate::graphql) enum Node {
    User(User),
    Organization(Organization),
    Repository(Repository),
    Runner(Runner),
    RegistrationToken(RegistrationToken),
    AccessToken(AccessToken),
    Task(Task),
    CleanupJob(CleanupJob),
}

/// Who makes the request.
#[derive(Clone, Union)]
pub(in crate::graphql) enum Viewer {
    User(User),
    Runner(Runner),
}

/// What runners, tokens and tasks belong to: the instance, an organization, a user, or a repository. A repository may use its
/// own runners, its owner's and the instance's.
#[derive(Clone, Interface)]
#[graphql(
    field(name = "kind", ty = "ScopeKind", desc = "Which of the four kinds of scope it is."),
    field(
        name = "path",
        ty = "&String",
        desc = "Its name in addresses: empty for the instance, `acme` for an owner, `acme/api` for a repository."
    ),
    field(
        name = "runners",
        ty = "RunnerConnection",
        desc = "The runners that belong to the scope.",
        arg(
            name = "include_inherited",
            ty = "bool",
            default = false,
            desc = "Also those that the scope may use: of a repository's owner, and of the instance."
        ),
        arg(name = "filter", ty = "Option<RunnerFilter>", desc = "Which of them."),
        arg(name = "order_by", ty = "Option<RunnerOrder>", desc = "In which order; oldest first unless said."),
        arg(name = "first", ty = "Option<i32>", desc = "How many from the start (30 unless said, at most 100)."),
        arg(name = "after", ty = "Option<String>", desc = "Only what comes after this cursor."),
        arg(name = "last", ty = "Option<i32>", desc = "How many from the end (at most 100)."),
        arg(name = "before", ty = "Option<String>", desc = "Only what comes before this cursor.")
    ),
    field(
        name = "registration_tokens",
        ty = "RegistrationTokenConnection",
        desc = "The registration tokens of the scope, oldest first. Only for those who manage it.",
        arg(name = "first", ty = "Option<i32>", desc = "How many from the start (30 unless said, at most 100)."),
        arg(name = "after", ty = "Option<String>", desc = "Only what comes after this cursor."),
        arg(name = "last", ty = "Option<i32>", desc = "How many from the end (at most 100)."),
        arg(name = "before", ty = "Option<String>", desc = "Only what comes before this cursor.")
    ),
    field(
        name = "tasks",
        ty = "TaskConnection",
        desc = "The tasks of the scope and of the repositories below it that you may see, newest first.",
        arg(name = "filter", ty = "Option<TaskFilter>", desc = "Which of them."),
        arg(name = "first", ty = "Option<i32>", desc = "How many from the start (30 unless said, at most 100)."),
        arg(name = "after", ty = "Option<String>", desc = "Only what comes after this cursor."),
        arg(name = "last", ty = "Option<i32>", desc = "How many from the end (at most 100)."),
        arg(name = "before", ty = "Option<String>", desc = "Only what comes before this cursor.")
    ),
    field(
        name = "fleet",
        ty = "FleetSummary",
        desc = "How many runners of the scope itself there are of what, and how much work for its repositories."
    )
)]
pub(in crate::graphql) enum RunnerScope {
    Instance(Instance),
    User(User),
    Organization(Organization),
    Repository(Repository),
}

impl From<ScopeRow> for RunnerScope {
    fn from(row: ScopeRow) -> Self {
        match row.kind {
            model::ScopeKind::Global => Self::Instance(row.into()),
            model::ScopeKind::Organization => Self::Organization(row.into()),
            model::ScopeKind::User => Self::User(row.into()),
            model::ScopeKind::Repository => Self::Repository(row.into()),
        }
    }
}
