//! What lists are of, in terms that both databases share.

use super::models::RunnerRow;
use crate::model::RunnerStatus;
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

/// What a list of scopes is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ScopeParent {
    /// The repositories of an account.
    Repositories(i64),
    /// The organizations a user is a member of.
    OrganizationsOf(i64),
}
