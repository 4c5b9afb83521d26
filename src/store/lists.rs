//! What lists are of, in terms that both databases share.

use super::models::RunnerRow;
use crate::model::{INSTANCE, RunnerStatus, TaskStatus};
use crate::page::{Position, SortKey};

/// A list of runners, without the page.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RunnerList {
    /// What it is a list of.
    pub parent: RunnerParent,
    /// What the viewer may see of it.
    pub visible: Visible,
    /// What else is asked of its runners.
    pub filter: RunnerFilter,
    /// Its order.
    pub order: RunnerOrder,
}

/// What a list of runners is of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RunnerParent {
    /// All there are.
    Everything,
    /// Those of these scopes.
    Scopes(Vec<i64>),
    /// Those that a registration token made.
    Token(i64),
    /// These.
    Ids(Vec<i64>),
}

/// Which runners exist for a viewer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Visible {
    /// All.
    Everything,
    /// Those of these accounts and their repositories; the instance counts as an account.
    Owners(Vec<i64>),
    /// This one.
    Runner(i64),
}

/// What is asked of runners.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct RunnerFilter {
    /// Only those of some statuses.
    pub statuses: Option<StatusFilter>,
    /// Only those that carry all of these labels.
    pub labels: Vec<String>,
    /// Only those with this text in name, description or UUID, without regard to case.
    pub search: Option<String>,
    /// Only those that are, or are not, ephemeral.
    pub ephemeral: Option<bool>,
    /// Only those that are, or are not, disabled.
    pub disabled: Option<bool>,
    /// Only those not heard from since this time, and registered before it.
    pub last_online_before: Option<i64>,
}

/// Statuses live in memory and the database is their shadow: it decides for all runners but those whose change has not been
/// written yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StatusFilter {
    /// The statuses asked for.
    pub wanted: Vec<RunnerStatus>,
    /// Runners of which the database has an old status.
    pub unsettled: Vec<i64>,
    /// Those among them that have a wanted one.
    pub unsettled_wanted: Vec<i64>,
}

/// The order of a list of runners; the identifier is always the last key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RunnerOrder {
    /// What it is ordered by.
    pub field: RunnerOrderField,
    /// Greatest first.
    pub descending: bool,
}

/// What runners can be ordered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RunnerOrderField {
    /// The name, without regard to case.
    Name,
    /// When it registered.
    CreatedAt,
    /// When it was last heard from.
    LastOnlineAt,
}

impl RunnerOrder {
    /// Oldest first.
    pub const DEFAULT: Self = Self { field: RunnerOrderField::CreatedAt, descending: false };

    /// A runner's place in a list of this order.
    pub fn position(self, row: &RunnerRow) -> Position {
        let key = match self.field {
            RunnerOrderField::Name => SortKey::Text(row.name_key.clone()),
            RunnerOrderField::CreatedAt => SortKey::Id,
            RunnerOrderField::LastOnlineAt => SortKey::Number(row.last_online_at),
        };
        Position { key, id: row.id }
    }
}

/// A list of tasks: of what, and which of them; newest first.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TaskList {
    /// What it is a list of.
    pub parent: TaskParent,
    /// Whose tasks exist for whoever asks.
    pub visible: Visible,
    /// Which of them.
    pub filter: TaskFilter,
}

/// What a list of tasks is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TaskParent {
    /// All there are.
    Everything,
    /// Those of the repositories of an account.
    Owner(i64),
    /// Those of a repository.
    Repository(i64),
    /// Those that a runner has or had last.
    Runner(i64),
}

/// What is asked of tasks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TaskFilter {
    /// Only those with one of these statuses.
    pub statuses: Option<Vec<TaskStatus>>,
    /// Only those that ask for all of these labels.
    pub labels: Vec<String>,
    /// Only those with this text in their name, without regard to case.
    pub search: Option<String>,
    /// Only those that this runner has or had last.
    pub runner_id: Option<i64>,
}

/// Tasks that a runner could take, by what it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reach {
    /// Those of every repository.
    Everything,
    /// Those of the repositories of an account.
    Owner(i64),
    /// Those of a repository.
    Repository(i64),
}

impl Reach {
    /// Of a runner of this scope, with this account above.
    pub const fn of(scope_id: i64, owner_id: i64) -> Self {
        match (scope_id, owner_id) {
            (INSTANCE, _) => Self::Everything,
            (scope, owner) if scope == owner => Self::Owner(owner),
            (scope, _) => Self::Repository(scope),
        }
    }
}

/// A place in the queue, for what is ahead of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct QueuePlace {
    /// The task.
    pub id: i64,
    /// The account it is of.
    pub owner_id: i64,
    /// Where the path of its labels ends.
    pub label_node: i64,
    /// Its priority.
    pub priority: i64,
}

/// What is old enough to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aged {
    /// Where.
    pub within: Reach,
    /// Older than this.
    pub before: i64,
    /// What counts as now.
    pub as_of: i64,
}

/// Ephemeral runners that may be spent: the others surely are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaybeSpent {
    /// Where.
    pub within: Reach,
    /// What counts as now.
    pub as_of: i64,
    /// Those that registered then or earlier and never took a task.
    pub unused_before: i64,
    /// Those that were last heard from then or earlier.
    pub offline_before: i64,
}

/// What a list of scopes is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ScopeParent {
    /// The repositories of an account.
    Repositories(i64),
    /// The organizations a user is a member of.
    OrganizationsOf(i64),
}
