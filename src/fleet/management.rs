//! What people do with one runner.

use super::{Fleet, names};
use crate::auth::Actor;
use crate::error::{AppError, Result};
use crate::events::{Directive, Event};
use crate::model::AccessTokenScope;
use crate::store::models::RunnerRow;

/// What changes; `None` leaves it as it is.
#[derive(Clone, Debug, Default)]
pub struct RunnerUpdate {
    /// Display name.
    pub name: Option<String>,
    /// What it is, for people.
    pub description: Option<String>,
    /// Its labels, all but those of its registration token.
    pub labels: Option<Vec<String>>,
    /// Whether it gets no new work.
    pub disabled: Option<bool>,
    /// A remark for those who manage it.
    pub note: Option<String>,
}

impl Fleet {
    /// Changes a runner. Whoever manages its scope may.
    ///
    /// # Errors
    /// `NOT_FOUND`, `FORBIDDEN`, `BAD_USER_INPUT`.
    pub async fn update_runner(&self, actor: &Actor, id: i64, update: RunnerUpdate) -> Result<RunnerRow> {
        self.managed_runner(actor, id).await?;
        let name = update.name.map(|name| names::display_name("name", &name)).transpose()?;
        let description = update.description.map(|text| names::text("description", &text)).transpose()?;
        let note = update.note.map(|text| names::text("note", &text)).transpose()?;
        let labels = update.labels.map(|labels| names::labels("labels", &labels)).transpose()?;
        let (disabled, now) = (update.disabled, self.now().as_micros());
        let (row, labels) = transact!(self.store, |db, queries| {
            let changes = queries::runners::RunnerChanges {
                name_key: name.as_deref().map(str::to_lowercase),
                name,
                description_key: description.as_deref().map(str::to_lowercase),
                description,
                note,
                disabled,
                updated_at: Some(now),
                ..Default::default()
            };
            let row = queries::runners::update(db, id, changes).await?;
            let row = row.ok_or_else(|| AppError::not_found("The runner"))?;
            let labels = match labels {
                Some(labels) => {
                    queries::runners::replace_labels(db, id, &labels).await?;
                    Some(queries::runners::labels(db, vec![id]).await?)
                }
                None => None,
            };
            Ok((row, labels))
        })?;
        if let Some(disabled) = disabled {
            self.now_disabled(&[id], disabled);
        }
        self.carries(id, labels);
        self.tell(Event::RunnerUpdated, row.id, row.scope_id, row.owner_id);
        Ok(row)
    }

    /// Deletes a runner, or with `if_idle` only if it has no task. Whoever manages its scope may.
    ///
    /// # Errors
    /// `NOT_FOUND`, `FORBIDDEN`, and with `if_idle` `CONFLICT` for one that has a task.
    pub async fn delete_runner(&self, actor: &Actor, id: i64, if_idle: bool) -> Result<i64> {
        self.managed_runner(actor, id).await?;
        let gone = transact!(self.store, |db, queries| {
            // A claim locks the runner too, so what is seen from here on stays true until the commit.
            queries::runners::lock_for_work(db, id).await?;
            let held = queries::tasks::held_by(db, vec![id]).await?;
            if if_idle && let Some(task) = held.first() {
                return Err(AppError::conflict(format!(
                    "The runner has a task: {}. Wait until it has ended, cancel it, or leave ifIdle out.",
                    task.name
                )));
            }
            queries::runners::delete(db, vec![id]).await
        })?;
        self.forget_runners(&gone);
        if gone.is_empty() { Err(AppError::not_found("The runner")) } else { Ok(id) }
    }

    /// Runners are disabled or enabled, after the database has it.
    pub(super) fn now_disabled(&self, ids: &[i64], disabled: bool) {
        for id in self.presence.set_disabled(ids, disabled) {
            if disabled {
                self.direct(id, Directive::Drain);
            } else {
                self.dispatch.look_again(id);
            }
        }
    }

    /// A runner carries other labels, after the database has it: perhaps there is work for it now.
    pub(super) fn carries(&self, id: i64, labels: Option<Vec<(i64, String)>>) {
        if let Some(labels) = labels {
            let labels: Vec<String> = labels.into_iter().map(|(_, label)| label).collect();
            self.presence.set_labels(id, &labels);
            self.dispatch.look_again(id);
        }
    }

    /// Checks that an actor manages a runner.
    pub(super) async fn managed_runner(&self, actor: &Actor, id: i64) -> Result<RunnerRow> {
        actor.user(AccessTokenScope::WriteRunner)?;
        let row = self.seen_runner(actor, id).await?.ok_or_else(|| AppError::not_found("The runner"))?;
        if actor.manages(row.owner_id) {
            return Ok(row);
        }
        Err(AppError::forbidden("You may see this runner but not manage it; ask an owner of its scope."))
    }
}
