//! Which tasks exist for whom.

use super::no_task;
use crate::auth::{Actor, describe};
use crate::error::{AppError, Result};
use crate::fleet::{Fleet, names};
use crate::model::{AccessTokenScope, ScopeKind, TaskStatus};
use crate::store::lists::{TaskFilter, TaskList, TaskParent, Visible};
use crate::store::models::{ScopeRow, TaskRow};

/// What a caller asks of tasks in a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskQuery {
    /// Only those with one of these statuses.
    pub statuses: Option<Vec<TaskStatus>>,
    /// Only those that ask for all of these labels.
    pub labels: Vec<String>,
    /// Only those with this text in their name.
    pub search: Option<String>,
    /// Only those that this runner has or had last.
    pub runner_id: Option<i64>,
}

impl Fleet {
    /// Checks that an actor may read tasks at all.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` for nobody, `FORBIDDEN` for a token that may not.
    pub fn may_read_tasks(&self, actor: &Actor) -> Result<()> {
        actor.require_reader(AccessTokenScope::ReadTask)
    }

    /// Whether a task exists for an actor: for whoever sees its repository, and for the runner that has it or had it last.
    pub fn sees_task(&self, actor: &Actor, task: &TaskRow) -> bool {
        match actor.visible() {
            Visible::Everything => true,
            Visible::Owners(owners) => owners.contains(&task.owner_id),
            Visible::Runner(id) => task.runner_id == Some(id),
        }
    }

    /// The owner of a task that exists for an actor.
    pub(in crate::fleet) async fn seen_task(&self, actor: &Actor, id: i64) -> Result<TaskRow> {
        self.may_read_tasks(actor)?;
        let found = read!(self.store, |db, queries| queries::tasks::by_ids(db, vec![id]).await)?.pop();
        found.filter(|task| self.sees_task(actor, task)).ok_or_else(no_task)
    }

    /// The tasks of a scope, or without one all that exist for the actor. An account's are those of its repositories, the
    /// instance's are all.
    ///
    /// # Errors
    /// `NOT_FOUND`, `BAD_USER_INPUT`, `UNAUTHENTICATED`, `FORBIDDEN`.
    pub fn task_list(&self, actor: &Actor, scope: Option<&ScopeRow>, query: &TaskQuery) -> Result<TaskList> {
        self.may_read_tasks(actor)?;
        let filter = checked(query)?;
        let everything = TaskList { parent: TaskParent::Everything, visible: actor.visible(), filter };
        let Some(scope) = scope else { return Ok(everything) };
        if !actor.sees(scope) {
            return Err(AppError::not_found(&describe(scope.kind)));
        }
        let parent = match scope.kind {
            ScopeKind::Global => return Ok(everything),
            ScopeKind::Organization | ScopeKind::User => TaskParent::Owner(scope.id),
            ScopeKind::Repository => TaskParent::Repository(scope.id),
        };
        // Whoever sees a scope sees all its tasks; a runner sees its own.
        let visible = match actor.visible() {
            Visible::Runner(id) => Visible::Runner(id),
            _ => Visible::Everything,
        };
        Ok(TaskList { parent, visible, ..everything })
    }

    /// The tasks that a runner has or had last, as far as they exist for the actor.
    ///
    /// # Errors
    /// As [`Fleet::task_list`].
    pub fn tasks_of_runner(&self, actor: &Actor, runner_id: i64, query: &TaskQuery) -> Result<TaskList> {
        self.may_read_tasks(actor)?;
        Ok(TaskList { parent: TaskParent::Runner(runner_id), visible: actor.visible(), filter: checked(query)? })
    }
}

fn checked(query: &TaskQuery) -> Result<TaskFilter> {
    let statuses = query.statuses.clone().map(|mut statuses| {
        statuses.sort_unstable();
        statuses.dedup();
        statuses
    });
    Ok(TaskFilter {
        statuses,
        labels: names::labels("filter", &query.labels)?,
        search: names::search("filter", query.search.as_deref())?,
        runner_id: query.runner_id,
    })
}
