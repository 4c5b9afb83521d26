//! Rows as the queries return and take them. Times are microseconds since the Unix epoch.

mod cleanup;
mod tasks;

use diesel::backend::Backend;
use diesel::deserialize::{self, FromStaticSqlRow};
use diesel::prelude::*;
use diesel::sql_types::Text;

use super::schema::{
    access_tokens, organization_members, registration_tokens, runner_transitions, runners, scopes, users,
};
use crate::model::{CleanupStatus, MemberRole, RunnerStatus, ScopeKind, TaskStatus, TransitionCause};

pub use cleanup::{CleanupHold, CleanupJobRow, CleanupProgress, MOST_SWEPT, RunnerFacts, Swept};
pub use tasks::{LiveTask, LogChunkRow, OutputRow, PayloadRow, TaskRow};

macro_rules! read_from_text {
    ($($word:ty),*) => {$(
        impl<DB: Backend> Queryable<Text, DB> for $word
        where
            String: FromStaticSqlRow<Text, DB>,
        {
            type Row = String;

            fn build(row: String) -> deserialize::Result<Self> {
                Ok(row.parse()?)
            }
        }
    )*};
}

read_from_text!(ScopeKind, MemberRole, RunnerStatus, TransitionCause, TaskStatus, CleanupStatus);

/// The parts of a list that is stored with commas between.
pub fn list(text: &str) -> Vec<String> {
    text.split(',').filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// The instance, an account or a repository.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = scopes)]
pub struct ScopeRow {
    /// Identifier.
    pub id: i64,
    /// Which of the four kinds it is.
    pub kind: ScopeKind,
    /// The owner of a repository; of an account, the instance.
    pub parent_id: Option<i64>,
    /// `""`, `acme` or `acme/api`.
    pub path: String,
    /// The path in lower case.
    pub path_key: String,
    /// The display name.
    pub name: String,
    /// When it was made.
    pub created_at: i64,
    /// When it was last changed.
    pub updated_at: i64,
}

impl ScopeRow {
    /// The account above the scope, or the instance: who may see things is decided by this.
    pub fn owner_id(&self) -> i64 {
        match self.kind {
            ScopeKind::Repository => self.parent_id.unwrap_or(self.id),
            _ => self.id,
        }
    }
}

/// What a user has beyond a scope.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = users)]
pub struct UserRow {
    /// The scope's identifier.
    pub id: i64,
    /// Argon2id in PHC format.
    pub password_hash: Option<String>,
    /// Whether the user administers the instance.
    pub is_admin: bool,
}

/// A member of an organization.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = organization_members)]
pub struct MemberRow {
    /// The organization's scope.
    pub organization_id: i64,
    /// The user's scope.
    pub user_id: i64,
    /// What the user may do there.
    pub role: MemberRole,
    /// Since when.
    pub created_at: i64,
}

/// An access token of a user.
#[derive(Clone, Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = access_tokens)]
pub struct AccessTokenRow {
    /// Identifier, which the secret carries.
    pub id: i64,
    /// Whose it is.
    pub user_id: i64,
    /// What it is for.
    pub name: String,
    /// Names of scopes with commas between.
    pub scopes: String,
    /// Argon2id in PHC format.
    pub token_hash: String,
    /// From when on it does not work.
    pub expires_at: Option<i64>,
    /// When it was revoked.
    pub revoked_at: Option<i64>,
    /// When it was made.
    pub created_at: i64,
}

/// A registration token of a scope.
#[derive(Clone, Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = registration_tokens)]
pub struct RegistrationTokenRow {
    /// Identifier, which the secret carries.
    pub id: i64,
    /// The scope of the runners it makes.
    pub scope_id: i64,
    /// What it is for.
    pub description: String,
    /// Argon2id in PHC format.
    pub token_hash: String,
    /// Whether it makes only ephemeral runners.
    pub ephemeral_only: bool,
    /// How many runners it may make.
    pub max_uses: Option<i64>,
    /// How many it has made.
    pub use_count: i64,
    /// Networks with commas between; empty: any.
    pub allowed_cidrs: String,
    /// Labels with commas between.
    pub labels: String,
    /// From when on it does not work.
    pub expires_at: Option<i64>,
    /// When it was revoked.
    pub revoked_at: Option<i64>,
    /// Why it was revoked.
    pub revoked_reason: Option<String>,
    /// When it last made a runner.
    pub last_used_at: Option<i64>,
    /// From which address.
    pub last_used_from: Option<String>,
    /// The user who made it.
    pub created_by: Option<i64>,
    /// When it was made.
    pub created_at: i64,
}

/// A registered runner.
#[derive(Clone, Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = runners)]
pub struct RunnerRow {
    /// Identifier.
    pub id: i64,
    /// The name it authenticates with.
    pub uuid: String,
    /// What it belongs to.
    pub scope_id: i64,
    /// The account above the scope, or the instance.
    pub owner_id: i64,
    /// Display name.
    pub name: String,
    /// The name in lower case, for order and search.
    pub name_key: String,
    /// What it is, for people.
    pub description: String,
    /// The description in lower case, for search.
    pub description_key: String,
    /// A manager's remark.
    pub note: String,
    /// The agent's version.
    pub version: Option<String>,
    /// Operating system.
    pub os: Option<String>,
    /// Processor architecture.
    pub arch: Option<String>,
    /// Whether it takes one task and is then removed.
    pub ephemeral: bool,
    /// Whether it gets no new work.
    pub disabled: bool,
    /// What the machine calls itself.
    pub machine_id: Option<String>,
    /// Argon2id in PHC format.
    pub token_hash: String,
    /// Counts the tokens it has had.
    pub token_generation: i64,
    /// When its token was made.
    pub token_issued_at: i64,
    /// The token before, while it still works.
    pub previous_token_hash: Option<String>,
    /// Until when the token before works.
    pub previous_valid_until: Option<i64>,
    /// The registration token that made it.
    pub registered_with: Option<i64>,
    /// The address it registered from.
    pub registered_from: Option<String>,
    /// When it was last heard from; 0: never. A shadow of presence.
    pub last_online_at: i64,
    /// When it last did task work; 0: never. A shadow of presence.
    pub last_active_at: i64,
    /// A shadow of presence.
    #[diesel(serialize_as = Word)]
    pub status: RunnerStatus,
    /// Since when. A shadow of presence.
    pub status_since: i64,
    /// How many changes its history has seen. A shadow of presence.
    pub transition_count: i64,
    /// When it registered.
    pub created_at: i64,
    /// When it was last changed by anyone.
    pub updated_at: i64,
    /// When an ephemeral runner took its one task.
    pub used_at: Option<i64>,
}

/// A word on its way into the database.
#[derive(Clone, Copy, Debug, diesel::expression::AsExpression)]
#[diesel(sql_type = Text)]
pub struct Word(pub &'static str);

macro_rules! written_as_text {
    ($($word:ty),*) => {$(
        impl From<$word> for Word {
            fn from(word: $word) -> Self {
                Self(word.as_str())
            }
        }
    )*};
}

written_as_text!(RunnerStatus, TaskStatus, CleanupStatus);

impl<DB: Backend> diesel::serialize::ToSql<Text, DB> for Word
where
    str: diesel::serialize::ToSql<Text, DB>,
{
    fn to_sql<'b>(&'b self, out: &mut diesel::serialize::Output<'b, '_, DB>) -> diesel::serialize::Result {
        self.0.to_sql(out)
    }
}

/// What presence needs of a runner when the server starts.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = runners)]
pub struct PresenceRow {
    /// Identifier.
    pub id: i64,
    /// What it belongs to.
    pub scope_id: i64,
    /// The account above the scope, or the instance.
    pub owner_id: i64,
    /// Whether it gets no new work.
    pub disabled: bool,
    /// Counts the tokens it has had.
    pub token_generation: i64,
    /// When its token was made.
    pub token_issued_at: i64,
    /// Until when the token before works.
    pub previous_valid_until: Option<i64>,
    /// Whether it takes one task and is then removed.
    pub ephemeral: bool,
    /// When it took that.
    pub used_at: Option<i64>,
    /// When it was last heard from; 0: never.
    pub last_online_at: i64,
    /// When it last did task work; 0: never.
    pub last_active_at: i64,
    /// The status as last written.
    pub status: RunnerStatus,
    /// Since when.
    pub status_since: i64,
    /// How many changes its history has seen.
    pub transition_count: i64,
}

impl From<&RunnerRow> for PresenceRow {
    fn from(row: &RunnerRow) -> Self {
        Self {
            id: row.id,
            scope_id: row.scope_id,
            owner_id: row.owner_id,
            disabled: row.disabled,
            token_generation: row.token_generation,
            token_issued_at: row.token_issued_at,
            previous_valid_until: row.previous_valid_until,
            ephemeral: row.ephemeral,
            used_at: row.used_at,
            last_online_at: row.last_online_at,
            last_active_at: row.last_active_at,
            status: row.status,
            status_since: row.status_since,
            transition_count: row.transition_count,
        }
    }
}

/// The presence of one runner, to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PresenceStamp {
    /// The runner.
    pub id: i64,
    /// When it was last heard from; 0: never.
    pub last_online_at: i64,
    /// When it last did task work; 0: never.
    pub last_active_at: i64,
    /// Its status.
    pub status: RunnerStatus,
    /// Since when.
    pub status_since: i64,
    /// How many changes its history has seen.
    pub transition_count: i64,
}

/// One change in a runner's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = runner_transitions)]
pub struct TransitionRow {
    /// The runner.
    pub runner_id: i64,
    /// The how-manieth change it was, from 1.
    pub number: i64,
    /// When.
    pub at: i64,
    /// The status before.
    pub from_status: RunnerStatus,
    /// The status after.
    pub to_status: RunnerStatus,
    /// Why.
    pub cause: TransitionCause,
}

/// How many changes a runner's history keeps.
pub const HISTORY_LENGTH: i64 = 20;

/// What went with a scope that is gone.
#[derive(Clone, Debug)]
pub struct DeletedScope {
    /// The scopes: those below it, and itself.
    pub scopes: Vec<i64>,
    /// Their runners.
    pub runners: Vec<RunnerName>,
    /// Their tasks that waited or ran.
    pub tasks: Vec<TaskRow>,
}

/// What is said of a runner that is gone.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = runners)]
pub struct RunnerName {
    /// Identifier.
    pub id: i64,
    /// What it belonged to.
    pub scope_id: i64,
    /// The account above, or the instance.
    pub owner_id: i64,
    /// The name it authenticated with.
    pub uuid: String,
    /// Display name.
    pub name: String,
}
