//! Input objects that several fields take.

use async_graphql::{ID, InputObject, OneofObject};

use super::enums::{OrderDirection, RunnerOrderField, RunnerStatus, TaskStatus};
use crate::error::{AppError, Result};
use crate::fleet::{RunnerQuery, ScopeRef, TaskQuery};
use crate::graphql::node_id::{NodeKind, decode_as};
use crate::store::lists;

/// Names a scope, in exactly one of three ways.
#[derive(Clone, Debug, OneofObject)]
pub(in crate::graphql) enum ScopeInput {
    /// `true`: the whole instance.
    Global(bool),
    /// The login of a user or an organization, such as `acme`.
    Owner(String),
    /// A repository as `owner/name`, such as `acme/api`.
    Repository(String),
}

impl ScopeInput {
    pub(in crate::graphql) fn reference(self) -> Result<ScopeRef> {
        match self {
            Self::Global(true) => Ok(ScopeRef::Global),
            Self::Global(false) => Err(AppError::bad_input(
                "scope",
                "global can only be true. To name another scope give owner or repository; for all that you may see, leave \
                 scope out.",
            )),
            Self::Owner(login) => Ok(ScopeRef::Owner(login)),
            Self::Repository(path) => Ok(ScopeRef::Repository(path)),
        }
    }
}

/// Which runners a list has. Every condition that is given must hold.
#[derive(Clone, Debug, Default, InputObject)]
pub(in crate::graphql) struct RunnerFilter {
    /// Only runners with one of these statuses.
    pub(in crate::graphql) statuses: Option<Vec<RunnerStatus>>,
    /// Only runners that carry all of these labels.
    pub(in crate::graphql) labels: Option<Vec<String>>,
    /// Only runners with this text in their name, description or UUID, without regard to case.
    pub(in crate::graphql) search: Option<String>,
    /// Only runners that are, or are not, ephemeral.
    pub(in crate::graphql) ephemeral: Option<bool>,
    /// Only runners that are, or are not, disabled.
    pub(in crate::graphql) disabled: Option<bool>,
    /// Only runners that were not heard from for so many seconds, and registered before that.
    pub(in crate::graphql) offline_for_seconds: Option<i64>,
}

impl From<RunnerFilter> for RunnerQuery {
    fn from(filter: RunnerFilter) -> Self {
        Self {
            statuses: filter.statuses.map(|statuses| statuses.into_iter().map(Into::into).collect()),
            labels: filter.labels.unwrap_or_default(),
            search: filter.search,
            ephemeral: filter.ephemeral,
            disabled: filter.disabled,
            offline_for_seconds: filter.offline_for_seconds,
        }
    }
}

/// Which tasks a list has. Every condition that is given must hold.
#[derive(Clone, Debug, Default, InputObject)]
pub(in crate::graphql) struct TaskFilter {
    /// Only tasks with one of these statuses.
    statuses: Option<Vec<TaskStatus>>,
    /// Only tasks that ask for all of these labels.
    labels: Option<Vec<String>>,
    /// Only tasks with this text in their name, without regard to case.
    search: Option<String>,
    /// Only tasks that this runner has, or had last.
    runner_id: Option<ID>,
}

impl TaskFilter {
    /// What a list of tasks was asked for.
    pub(in crate::graphql) fn query(filter: Option<Self>) -> Result<TaskQuery> {
        let Self { statuses, labels, search, runner_id } = filter.unwrap_or_default();
        Ok(TaskQuery {
            statuses: statuses.map(|statuses| statuses.into_iter().map(Into::into).collect()),
            labels: labels.unwrap_or_default(),
            search,
            runner_id: runner_id.map(|id| decode_as(NodeKind::Runner, "filter", &id)).transpose()?,
        })
    }
}

/// The order of a list of runners.
#[derive(Clone, Copy, Debug, InputObject)]
pub(in crate::graphql) struct RunnerOrder {
    /// What to order by.
    pub(in crate::graphql) field: RunnerOrderField,
    /// Which end comes first.
    pub(in crate::graphql) direction: OrderDirection,
}

/// The order that a list was asked for, or the usual one: oldest first.
pub(in crate::graphql) fn order(order: Option<RunnerOrder>) -> lists::RunnerOrder {
    order.map_or(lists::RunnerOrder::DEFAULT, |order| lists::RunnerOrder {
        field: order.field.into(),
        descending: order.direction == OrderDirection::Desc,
    })
}
