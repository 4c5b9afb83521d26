//! The words of the domain that every layer shares. Plain enums: how they are stored is the store's business, how they
//! are shown the face's.

use std::fmt;
use std::str::FromStr;

macro_rules! words {
    ($(#[$outer:meta])* $name:ident { $($(#[$inner:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$outer])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$inner])* $variant,)*
        }

        impl $name {
            /// Every value, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The word, as it is stored and shown.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = UnknownWord;

            fn from_str(word: &str) -> Result<Self, UnknownWord> {
                match word {
                    $($word => Ok(Self::$variant),)*
                    _ => Err(UnknownWord(word.to_owned())),
                }
            }
        }
    };
}

/// A word that none of an enum's values has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a known word")]
pub struct UnknownWord(pub String);

words! {
    /// What a runner, a token or a task belongs to.
    ScopeKind {
        /// The whole instance.
        Global = "GLOBAL",
        /// An organization.
        Organization = "ORGANIZATION",
        /// A user.
        User = "USER",
        /// A repository of a user or an organization.
        Repository = "REPOSITORY",
    }
}

words! {
    /// What a member may do in an organization.
    MemberRole {
        /// Manages the organization, its members, repositories, runners and tokens.
        Owner = "OWNER",
        /// Sees them.
        Member = "MEMBER",
    }
}

words! {
    /// What the server knows of a runner's presence.
    RunnerStatus {
        /// Not heard from for the configured time, or never.
        Offline = "OFFLINE",
        /// Here, and without work.
        Idle = "IDLE",
        /// Runs a task, or did task work a moment ago.
        Active = "ACTIVE",
    }
}

words! {
    /// Why a runner's status, or whether it is disabled, changed.
    TransitionCause {
        /// A call of the runner was answered after silence.
        HeardFrom = "HEARD_FROM",
        /// It took a task, or reported work on one.
        TaskWork = "TASK_WORK",
        /// No task work for the configured time.
        WorkEnded = "WORK_ENDED",
        /// Nothing was heard from it for the configured time.
        NotHeardFrom = "NOT_HEARD_FROM",
        /// Somebody disabled it.
        Disabled = "DISABLED",
        /// Somebody enabled it again.
        Enabled = "ENABLED",
    }
}

words! {
    /// What an access token lets its holder do, within what the user may.
    AccessTokenScope {
        /// See runners, registration tokens and scopes.
        ReadRunner = "READ_RUNNER",
        /// Change them.
        WriteRunner = "WRITE_RUNNER",
        /// See tasks and their logs.
        ReadTask = "READ_TASK",
        /// Enqueue, cancel and retry tasks.
        WriteTask = "WRITE_TASK",
        /// Everything the user may do, accounts and tokens included.
        Admin = "ADMIN",
    }
}

words! {
    /// Where a task stands. The moves between them are `fleet::tasks::machine`.
    TaskStatus {
        /// Waits for a runner.
        Queued = "QUEUED",
        /// A runner has it.
        Running = "RUNNING",
        /// A runner has it and is to stop.
        Cancelling = "CANCELLING",
        /// Ended well.
        Succeeded = "SUCCEEDED",
        /// Ended badly, or could not be brought to an end.
        Failed = "FAILED",
        /// Ended because somebody, or a time limit of the queue, wanted it.
        Cancelled = "CANCELLED",
    }
}

impl TaskStatus {
    /// Whether nothing more will happen to it by itself.
    pub const fn is_ended(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }

    /// Whether a runner has it.
    pub const fn is_held(self) -> bool {
        matches!(self, Self::Running | Self::Cancelling)
    }
}

words! {
    /// Why a task has not started.
    WaitingReason {
        /// The repository has no runner, nor its owner, nor the instance.
        NoRunnerInScope = "NO_RUNNER_IN_SCOPE",
        /// None of them carries all the labels.
        NoRunnerWithLabels = "NO_RUNNER_WITH_LABELS",
        /// Those that do are not here.
        AllOffline = "ALL_OFFLINE",
        /// Those that do are disabled.
        AllDisabled = "ALL_DISABLED",
        /// Those that do have work.
        AllBusy = "ALL_BUSY",
        /// A runner that could take it is free.
        AboutToStart = "ABOUT_TO_START",
    }
}

words! {
    /// Whether a runner could take a task.
    PlacementVerdict {
        /// At once.
        Ready = "READY",
        /// When it has finished what it has.
        Busy = "BUSY",
        /// When it comes back.
        Offline = "OFFLINE",
        /// When somebody enables it.
        Disabled = "DISABLED",
        /// Not with the labels it carries.
        LabelsMissing = "LABELS_MISSING",
        /// Never again: it is ephemeral and has had its task.
        EphemeralUsed = "EPHEMERAL_USED",
    }
}

words! {
    /// Why a running task is to stop.
    StopCause {
        /// Somebody asked for it.
        Requested = "REQUESTED",
        /// It ran longer than it may.
        Timeout = "TIMEOUT",
    }
}

words! {
    /// Where a cleanup job stands.
    CleanupStatus {
        /// Waits for the worker.
        Queued = "QUEUED",
        /// Is being worked on, or was when the server went away.
        Running = "RUNNING",
        /// Done.
        Succeeded = "SUCCEEDED",
        /// Given up; its error says why.
        Failed = "FAILED",
        /// Somebody stopped it.
        Cancelled = "CANCELLED",
    }
}

impl CleanupStatus {
    /// Whether nothing more will happen to it.
    pub const fn is_ended(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

words! {
    /// What a cleanup removes.
    CleanupTarget {
        /// Ephemeral runners that are done, never came, or went away.
        EphemeralRunners = "EPHEMERAL_RUNNERS",
        /// Runners that were not heard from for a long time, or never.
        StaleRunners = "STALE_RUNNERS",
        /// Registration tokens and access tokens that expired or were revoked long ago.
        ExpiredTokens = "EXPIRED_TOKENS",
        /// Tasks that ended long ago, with their logs.
        FinishedTasks = "FINISHED_TASKS",
        /// The logs alone of tasks that ended long ago.
        TaskLogs = "TASK_LOGS",
        /// Old entries of the audit trail.
        AuditEvents = "AUDIT_EVENTS",
    }
}

/// The scope that is the whole instance.
pub const INSTANCE: i64 = 1;
