//! Who is asking, and what they may do.
//!
//! An entry of the fleet takes the [`Actor`] and begins with one of the questions below. What an actor may not see is
//! answered like what does not exist; what it may see but not do is FORBIDDEN.

use crate::clock::Timestamp;
use crate::error::{AppError, Result};
use crate::model::{AccessTokenScope, INSTANCE, MemberRole, ScopeKind};
use crate::store::lists::Visible;
use crate::store::models::ScopeRow;

/// Whoever made a request.
#[derive(Clone, Debug)]
pub enum Actor {
    /// Nobody said who they are.
    Anonymous,
    /// A person, or a script with a person's token.
    User(UserActor),
    /// A runner.
    Runner(RunnerActor),
    /// The server itself: the command line on the database, and background jobs.
    System,
}

/// A user, as far as permissions go.
#[derive(Clone, Debug)]
pub struct UserActor {
    /// The user's scope.
    pub id: i64,
    /// The login, for messages and logs.
    pub login: String,
    /// Whether the user administers the instance.
    pub is_admin: bool,
    /// The organizations the user belongs to.
    pub memberships: Vec<(i64, MemberRole)>,
    /// The access token that was shown.
    pub token: TokenActor,
}

/// The access token that a user acts through.
#[derive(Clone, Debug)]
pub struct TokenActor {
    /// Its identifier.
    pub id: i64,
    /// What it lets its holder do.
    pub scopes: Vec<AccessTokenScope>,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
}

/// A runner, as far as permissions go.
#[derive(Clone, Copy, Debug)]
pub struct RunnerActor {
    /// Its identifier.
    pub id: i64,
    /// What it belongs to.
    pub scope_id: i64,
    /// The generation of its token.
    pub generation: i64,
    /// Whether it showed the token before the current one, or a session opened with that.
    pub previous: bool,
    /// When its session ends, if it showed one.
    pub expires_at: Option<Timestamp>,
}

impl TokenActor {
    /// Whether the token covers a scope: write includes read, ADMIN includes all.
    pub fn covers(&self, needed: AccessTokenScope) -> bool {
        use AccessTokenScope::{Admin, ReadRunner, ReadTask, WriteRunner, WriteTask};
        self.scopes.iter().any(|has| {
            *has == needed
                || *has == Admin
                || matches!((has, needed), (WriteRunner, ReadRunner) | (WriteTask, ReadTask))
        })
    }
}

impl UserActor {
    fn role_in(&self, owner: i64) -> Option<MemberRole> {
        if self.is_admin || owner == self.id {
            return Some(MemberRole::Owner);
        }
        self.memberships.iter().find(|(id, _)| *id == owner).map(|(_, role)| *role)
    }

    /// The accounts whose things exist for the user; the instance counts as one.
    pub fn owners(&self) -> Vec<i64> {
        [INSTANCE, self.id].into_iter().chain(self.memberships.iter().map(|(id, _)| *id)).collect()
    }
}

impl Actor {
    /// When what the actor showed ends by itself.
    pub const fn expires_at(&self) -> Option<Timestamp> {
        match self {
            Self::User(user) => user.token.expires_at,
            Self::Runner(runner) => runner.expires_at,
            Self::Anonymous | Self::System => None,
        }
    }

    /// A word for logs.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous",
            Self::User(_) => "user",
            Self::Runner(_) => "runner",
            Self::System => "system",
        }
    }

    /// The user, for what only a person may do, through a token that covers `needed`.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` for nobody; `FORBIDDEN` for a runner or a token without the scope.
    pub fn user(&self, needed: AccessTokenScope) -> Result<&UserActor> {
        match self {
            Self::User(user) if user.token.covers(needed) => Ok(user),
            Self::User(_) => Err(lacks_scope(needed)),
            Self::Runner(_) => Err(AppError::forbidden(
                "A runner may not do this. Use a user's access token (Authorization: Bearer rc_pat_…).",
            )),
            Self::Anonymous | Self::System => Err(nobody()),
        }
    }

    /// The runner, for what only a runner does.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` for nobody; `FORBIDDEN` for a person.
    pub fn runner(&self) -> Result<&RunnerActor> {
        match self {
            Self::Runner(runner) => Ok(runner),
            Self::User(_) => Err(AppError::forbidden(
                "Only a runner does this. Send X-Runner-UUID and X-Runner-Token, or a runner session.",
            )),
            Self::Anonymous | Self::System => Err(AppError::unauthenticated(
                "Only a runner does this, and the request shows no credentials. Send X-Runner-UUID and X-Runner-Token, or a \
                 runner session.",
            )),
        }
    }

    /// Checks that the actor administers the instance.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` or `FORBIDDEN`.
    pub fn require_admin(&self) -> Result<()> {
        match self {
            Self::System => Ok(()),
            _ if self.user(AccessTokenScope::Admin)?.is_admin => Ok(()),
            _ => Err(AppError::forbidden("Only an administrator of the instance may do this.")),
        }
    }

    /// Checks that the actor may read things of a kind at all.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` for nobody; `FORBIDDEN` for a token without the scope.
    pub fn require_reader(&self, needed: AccessTokenScope) -> Result<()> {
        match self {
            Self::Anonymous => Err(nobody()),
            Self::User(user) if !user.token.covers(needed) => Err(lacks_scope(needed)),
            _ => Ok(()),
        }
    }

    /// Which runners exist for the actor.
    pub fn visible(&self) -> Visible {
        match self {
            Self::System => Visible::Everything,
            Self::User(user) if user.is_admin => Visible::Everything,
            Self::User(user) => Visible::Owners(user.owners()),
            Self::Runner(runner) => Visible::Runner(runner.id),
            Self::Anonymous => Visible::Owners(Vec::new()),
        }
    }

    /// Whether a scope, and what belongs to it, exists for the actor. Every user sees the instance, because its runners
    /// serve every repository; an account and its repositories exist for its members.
    pub fn sees(&self, scope: &ScopeRow) -> bool {
        match self {
            Self::Anonymous => false,
            Self::System => true,
            Self::User(user) => scope.id == INSTANCE || user.role_in(scope.owner_id()).is_some(),
            Self::Runner(runner) => runner.scope_id == scope.id,
        }
    }

    /// Whether a runner of a scope with this owner exists for the actor.
    pub fn sees_runner(&self, runner_id: i64, owner_id: i64) -> bool {
        match self.visible() {
            Visible::Everything => true,
            Visible::Owners(owners) => owners.contains(&owner_id),
            Visible::Runner(id) => id == runner_id,
        }
    }

    /// Whether the actor manages what belongs to this owner (the instance counts as one), token scopes aside.
    pub fn manages(&self, owner_id: i64) -> bool {
        match self {
            Self::System => true,
            Self::User(user) if owner_id == INSTANCE => user.is_admin,
            Self::User(user) => user.role_in(owner_id) == Some(MemberRole::Owner),
            Self::Anonymous | Self::Runner(_) => false,
        }
    }

    /// Checks that the actor manages a scope, through a token that covers `needed`.
    ///
    /// # Errors
    /// `NOT_FOUND` when the scope does not exist for the actor, `FORBIDDEN` when it may only look, `UNAUTHENTICATED` for
    /// nobody.
    pub fn require_manager(&self, scope: &ScopeRow, needed: AccessTokenScope) -> Result<()> {
        if matches!(self, Self::System) {
            return Ok(());
        }
        self.user(needed)?;
        if !self.sees(scope) {
            return Err(AppError::not_found(&describe(scope.kind)));
        }
        if self.manages(scope.owner_id()) {
            return Ok(());
        }
        Err(AppError::forbidden(match scope.kind {
            ScopeKind::Global => "Only an administrator may manage the instance.".to_owned(),
            _ => format!("You may see {} but not manage it; ask one of its owners.", scope.path),
        }))
    }
}

/// What a scope is called in messages.
pub fn describe(kind: ScopeKind) -> String {
    match kind {
        ScopeKind::Global => "The instance",
        ScopeKind::Organization => "The organization",
        ScopeKind::User => "The user",
        ScopeKind::Repository => "The repository",
    }
    .to_owned()
}

fn nobody() -> AppError {
    AppError::unauthenticated(
        "This needs credentials and the request shows none. Send Authorization: Bearer rc_pat_… (an access token).",
    )
}

fn lacks_scope(needed: AccessTokenScope) -> AppError {
    AppError::forbidden(format!(
        "The access token lacks the scope {needed}. Make one that has it with createAccessToken."
    ))
}
