//! Repositories of users and organizations.

use super::{Fleet, names};
use crate::auth::Actor;
use crate::error::{AppError, Result};
use crate::events::AccessChange;
use crate::model::{AccessTokenScope, ScopeKind};
use crate::store::models::ScopeRow;

impl Fleet {
    /// Makes a repository. Whoever manages the owner may.
    ///
    /// # Errors
    /// `NOT_FOUND` for the owner, `BAD_USER_INPUT`, or `CONFLICT` when the name is taken.
    pub async fn create_repository(&self, actor: &Actor, owner: &str, name: &str) -> Result<ScopeRow> {
        actor.user(AccessTokenScope::Admin)?;
        let name = names::repository("name", name)?;
        let owner = self.seen_owner(actor, owner).await?;
        actor.require_manager(&owner, AccessTokenScope::Admin)?;
        let now = self.now().as_micros();
        let path = format!("{}/{name}", owner.path);
        let row = ScopeRow {
            id: self.ids.next(),
            kind: ScopeKind::Repository,
            parent_id: Some(owner.id),
            path_key: path.to_lowercase(),
            path,
            name,
            created_at: now,
            updated_at: now,
        };
        transact!(self.store, |db, queries| {
            if queries::scopes::insert(db, &row).await? {
                Ok(row)
            } else {
                Err(AppError::conflict(format!("The repository {} exists already. Choose another name.", row.path)))
            }
        })
    }

    /// Deletes a repository with everything that belongs to it. Whoever manages the owner may.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub async fn delete_repository(&self, actor: &Actor, owner: &str, name: &str) -> Result<i64> {
        actor.user(AccessTokenScope::Admin)?;
        let repository = self
            .scope_at(actor, &format!("{owner}/{name}"))
            .await?
            .filter(|scope| scope.kind == ScopeKind::Repository)
            .ok_or_else(|| AppError::not_found("The repository"))?;
        actor.require_manager(&repository, AccessTokenScope::Admin)?;
        let id = repository.id;
        let (gone, tasks) = transact!(self.store, |db, queries| {
            queries::registration_tokens::lock_within(db, id).await?;
            let gone = queries::scopes::runners_within(db, id).await?;
            let tasks = queries::tasks::live_within(db, id).await?;
            if queries::scopes::delete(db, id).await? {
                Ok((gone, tasks))
            } else {
                Err(AppError::not_found("The repository"))
            }
        })?;
        self.forget_runners(&gone);
        self.tasks_gone(&tasks);
        self.tell_access(AccessChange::Scope(id));
        Ok(id)
    }
}
