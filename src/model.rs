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

/// The scope that is the whole instance.
pub const INSTANCE: i64 = 1;
