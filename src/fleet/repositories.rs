//! Repositories of users and organizations.

use super::{Fleet, names};
use crate::auth::Actor;
use crate::error::{AppError, Result};
use crate::events::AccessChange;
use crate::model::{AccessTokenScope, ScopeKind};
use crate::store::lists::{Aged, Reach};
use crate::store::models::{DeletedScope, ScopeRow};

/// Tasks that are looked at in one transaction before their scope is deleted.
const AT_ONCE: i64 = 250;

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
        self.remove_history(&repository).await?;
        let deleted = self.doubting(transact!(self.store, |db, queries| queries::scopes::delete(db, id).await))?;
        self.scope_gone(&deleted.ok_or_else(|| AppError::not_found("The repository"))?);
        Ok(id)
    }

    /// Removes the tasks of a scope that have ended, and a user's name from those that it enqueued elsewhere, a few
    /// hundred rows at a time: with a long history it takes longer than one transaction may. The scope is to be deleted
    /// then, which takes care of what came meanwhile.
    pub(super) async fn remove_history(&self, scope: &ScopeRow) -> Result<()> {
        let id = scope.id;
        let ended = Aged { within: Reach::of(id, scope.owner_id()), before: i64::MAX, as_of: i64::MAX };
        let (mut cursor, end) = (0, self.ids.next());
        loop {
            let mut ids =
                read!(self.store, |db, queries| queries::retention::ended_tasks(db, ended, cursor, AT_ONCE).await)?;
            ids.retain(|id| *id < end);
            if ids.is_empty() {
                break;
            }
            let swept = transact!(self.store, |db, queries| {
                queries::retention::delete_tasks(db, ended, &ids, cursor).await
            })?;
            cursor = swept.cursor;
            // Others have their turn.
            tokio::task::yield_now().await;
        }
        if scope.kind == ScopeKind::User {
            while transact!(self.store, |db, queries| queries::tasks::forget_creator(db, id, AT_ONCE).await)? > 0 {
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    /// A scope went with everything that belongs to it, after the commit.
    pub(super) fn scope_gone(&self, deleted: &DeletedScope) {
        self.forget_runners(&deleted.runners);
        self.tasks_gone(&deleted.tasks);
        for id in &deleted.scopes {
            self.tell_access(AccessChange::Scope(*id));
        }
    }
}
