//! Enums, and how they stand to those of the domain.

use async_graphql::Enum;

/// What a runner, a token or a task belongs to.
#[derive(Clone, Copy, Debug, Enum, PartialEq, Eq)]
#[graphql(remote = "crate::model::ScopeKind")]
pub(in crate::graphql) enum ScopeKind {
    /// The whole instance: its runners serve every repository.
    Global,
    /// An organization: its runners serve its repositories.
    Organization,
    /// A user: its runners serve its repositories.
    User,
    /// One repository.
    Repository,
}

/// What a member may do in an organization.
#[derive(Clone, Copy, Debug, Enum, PartialEq, Eq)]
#[graphql(remote = "crate::model::MemberRole")]
pub(in crate::graphql) enum MemberRole {
    /// Manages the organization, its members, repositories, runners and tokens.
    Owner,
    /// Sees them.
    Member,
}

/// Whether a runner is here, and at work. Disabled is no status but a flag beside it.
#[derive(Clone, Copy, Debug, Enum, PartialEq, Eq)]
#[graphql(remote = "crate::model::RunnerStatus")]
pub(in crate::graphql) enum RunnerStatus {
    /// It was not heard from for the configured time (`offline_after`, 60 seconds unless changed), or never.
    Offline,
    /// It is here and has no work.
    Idle,
    /// It runs a task, or did task work within the configured time (`idle_after`, 10 seconds unless changed).
    Active,
}

/// Why a runner's status, or whether it is disabled, changed.
#[derive(Clone, Copy, Debug, Enum, PartialEq, Eq)]
#[graphql(remote = "crate::model::TransitionCause")]
pub(in crate::graphql) enum RunnerTransitionCause {
    /// A call of the runner was answered after silence.
    HeardFrom,
    /// It took a task, or reported work on one.
    TaskWork,
    /// It has done no task work for the configured time.
    WorkEnded,
    /// Nothing was heard from it for the configured time.
    NotHeardFrom,
    /// Somebody disabled it: it gets no new work.
    Disabled,
    /// Somebody enabled it again.
    Enabled,
}

/// What an access token lets its holder do. Write includes read. It never allows what its user may not do.
#[derive(Clone, Copy, Debug, Enum, PartialEq, Eq)]
#[graphql(remote = "crate::model::AccessTokenScope")]
pub(in crate::graphql) enum AccessTokenScope {
    /// See runners and registration tokens.
    ReadRunner,
    /// Change them, and make registration tokens.
    WriteRunner,
    /// See tasks and their logs.
    ReadTask,
    /// Enqueue, cancel and retry tasks.
    WriteTask,
    /// Everything the user may do, accounts and access tokens included.
    Admin,
}

/// What runners can be ordered by. Runners with the same value are ordered by when they registered.
#[derive(Clone, Copy, Debug, Enum, PartialEq, Eq)]
#[graphql(remote = "crate::store::lists::RunnerOrderField")]
pub(in crate::graphql) enum RunnerOrderField {
    /// The name, without regard to case.
    Name,
    /// When the runner registered.
    CreatedAt,
    /// When the runner was last heard from, as of the last write (at most a second old); never is the least.
    LastOnlineAt,
}

/// Which end of an order comes first.
#[derive(Clone, Copy, Debug, Enum, PartialEq, Eq)]
pub(in crate::graphql) enum OrderDirection {
    /// The least first.
    Asc,
    /// The greatest first.
    Desc,
}
