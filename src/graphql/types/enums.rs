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

/// Where a task stands.
#[derive(Clone, Copy, Debug, Enum, PartialEq, Eq)]
#[graphql(remote = "crate::model::TaskStatus")]
pub(in crate::graphql) enum TaskStatus {
    /// It waits for a runner; `waiting` says why.
    Queued,
    /// A runner has it.
    Running,
    /// A runner has it and was told to stop.
    Cancelling,
    /// It ended well.
    Succeeded,
    /// It ended badly, or could not be brought to an end; `failureReason` says why.
    Failed,
    /// It ended because somebody, or a time limit of the queue, wanted it; `failureReason` says why.
    Cancelled,
}

/// Why a task has not started, or would not.
#[derive(Clone, Copy, Debug, Enum, PartialEq, Eq)]
#[graphql(remote = "crate::model::WaitingReason")]
pub(in crate::graphql) enum TaskWaitingReason {
    /// The repository has no runner, nor its owner, nor the instance.
    NoRunnerInScope,
    /// There are runners, and none of them carries all the labels.
    NoRunnerWithLabels,
    /// There are runners with the labels, and none of them is here.
    AllOffline,
    /// There are runners with the labels, and every one of them is disabled.
    AllDisabled,
    /// There are runners with the labels that are here and not disabled, and all of those have work.
    AllBusy,
    /// A runner that could take it is free.
    AboutToStart,
}

/// Whether a runner could take a task, and if not, what keeps it from doing so.
#[derive(Clone, Copy, Debug, Enum, PartialEq, Eq)]
#[graphql(remote = "crate::model::PlacementVerdict")]
pub(in crate::graphql) enum PlacementVerdict {
    /// It could, at once.
    Ready,
    /// It could, and has work at the moment.
    Busy,
    /// It could, and is not here.
    Offline,
    /// It could, and is disabled.
    Disabled,
    /// It does not carry all the labels.
    LabelsMissing,
    /// It is ephemeral and has had its one task.
    EphemeralUsed,
}

/// Where a cleanup job stands.
#[derive(Clone, Copy, Debug, Enum, PartialEq, Eq)]
#[graphql(remote = "crate::model::CleanupStatus")]
pub(in crate::graphql) enum CleanupStatus {
    /// It waits for its turn.
    Queued,
    /// It is being worked on. When the server goes away meanwhile, it goes on where it was after the next start.
    Running,
    /// It is done.
    Succeeded,
    /// It was given up; `error` says why.
    Failed,
    /// Somebody stopped it.
    Cancelled,
}

/// What a cleanup removes. The age is that of `olderThanSeconds`, or what is configured for the target.
#[derive(Clone, Copy, Debug, Enum, PartialEq, Eq)]
#[graphql(remote = "crate::model::CleanupTarget")]
pub(in crate::graphql) enum CleanupTarget {
    /// Ephemeral runners that have had their one task, that never came to it (`ephemeral_ttl`), or that have been OFFLINE for as
    /// long as the age. The server removes them by itself, too.
    EphemeralRunners,
    /// Runners that are OFFLINE and were not heard from for as long as the age, or never, and that have no task.
    StaleRunners,
    /// Registration tokens that expired or were revoked so long ago; and access tokens: of the user whose account it is, or in the
    /// whole instance those of everybody.
    ExpiredTokens,
    /// Tasks that ended so long ago, with their logs and outputs.
    FinishedTasks,
    /// The logs of tasks that ended so long ago. The tasks stay.
    TaskLogs,
    /// Entries of the audit trail that are so old.
    AuditEvents,
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
