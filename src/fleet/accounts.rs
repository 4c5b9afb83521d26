//! Users and organizations.

use secrecy::{ExposeSecret as _, SecretString};

use super::{Fleet, names};
use crate::auth::Actor;
use crate::error::{AppError, Result};
use crate::events::AccessChange;
use crate::model::{AccessTokenScope, INSTANCE, MemberRole, ScopeKind};
use crate::store::models::{MemberRow, ScopeRow, UserRow};

/// A user to be made.
#[derive(Clone, Debug)]
pub struct NewUser {
    /// Unique without regard to case.
    pub login: String,
    /// As it is shown.
    pub name: String,
    /// For signing in; without one, the user only uses access tokens.
    pub password: Option<SecretString>,
    /// Whether the user administers the instance.
    pub is_admin: bool,
}

/// Refuses to delete a user whom the instance, or an organization, cannot do without, and keeps that true until the
/// transaction ends. A macro, since the store's terms exist once for each database.
macro_rules! can_be_spared {
    ($db:ident, $queries:ident, $id:expr, $now:expr) => {{
        let (id, now): (i64, i64) = ($id, $now);
        $queries::scopes::lock($db, INSTANCE, now).await?;
        let is_admin = $queries::users::by_ids($db, vec![id]).await?.first().is_some_and(|user| user.is_admin);
        if is_admin && $queries::users::count_admins($db).await? <= 1 {
            return Err(AppError::conflict("This is the last administrator. Make another one before deleting it."));
        }
        for membership in $queries::members::of_user($db, id).await? {
            let organization = membership.organization_id;
            $queries::scopes::lock($db, organization, now).await?;
            if membership.role == MemberRole::Owner
                && $queries::members::count_other_owners($db, organization, id).await? == 0
            {
                return Err(AppError::conflict(
                    "The user is the last owner of an organization. Give it another owner, or delete it, first.",
                ));
            }
        }
    }};
}

impl Fleet {
    /// Makes a user. Only an administrator may.
    ///
    /// # Errors
    /// `BAD_USER_INPUT`, or `CONFLICT` when the login is taken.
    pub async fn create_user(&self, actor: &Actor, user: NewUser) -> Result<ScopeRow> {
        actor.require_admin()?;
        let login = names::login("login", &user.login)?;
        let name = names::display_name("name", &user.name)?;
        let password_hash = match &user.password {
            Some(password) => {
                names::password("password", password.expose_secret())?;
                Some(self.hasher.hash_password(password).await?)
            }
            None => None,
        };
        let scope = self.new_account(ScopeKind::User, login, name);
        let row = UserRow { id: scope.id, password_hash, is_admin: user.is_admin };
        transact!(self.store, |db, queries| {
            if !queries::scopes::insert(db, &scope).await? {
                return Err(taken(&scope.path));
            }
            queries::users::insert(db, &row).await?;
            Ok(scope)
        })
    }

    /// Makes an organization. Any user may, and becomes its owner.
    ///
    /// # Errors
    /// `BAD_USER_INPUT`, or `CONFLICT` when the login is taken.
    pub async fn create_organization(&self, actor: &Actor, login: &str, name: &str) -> Result<ScopeRow> {
        let user_id = actor.user(AccessTokenScope::Admin)?.id;
        let login = names::login("login", login)?;
        let name = names::display_name("name", name)?;
        let scope = self.new_account(ScopeKind::Organization, login, name);
        let created = transact!(self.store, |db, queries| {
            if !queries::scopes::insert(db, &scope).await? {
                return Err(taken(&scope.path));
            }
            let owner =
                MemberRow { organization_id: scope.id, user_id, role: MemberRole::Owner, created_at: scope.created_at };
            queries::members::upsert(db, &owner).await?;
            Ok(scope)
        })?;
        self.tell_access(AccessChange::User(user_id));
        Ok(created)
    }

    fn new_account(&self, kind: ScopeKind, login: String, name: String) -> ScopeRow {
        let now = self.now().as_micros();
        ScopeRow {
            id: self.ids.next(),
            kind,
            parent_id: Some(INSTANCE),
            path_key: login.to_lowercase(),
            path: login,
            name,
            created_at: now,
            updated_at: now,
        }
    }

    /// Makes a user a member of an organization, or gives a member another role. Its owners may.
    ///
    /// # Errors
    /// `NOT_FOUND` for the organization or the user; `CONFLICT` when no owner would be left.
    pub async fn add_organization_member(
        &self,
        actor: &Actor,
        organization: &str,
        user: &str,
        role: MemberRole,
    ) -> Result<ScopeRow> {
        let organization = self.managed_organization(actor, organization).await?;
        let user = self.user_named(user).await?;
        let member =
            MemberRow { organization_id: organization.id, user_id: user.id, role, created_at: self.now().as_micros() };
        transact!(self.store, |db, queries| {
            queries::scopes::lock(db, member.organization_id, member.created_at).await?;
            let others = queries::members::count_other_owners(db, member.organization_id, member.user_id).await?;
            if member.role == MemberRole::Member && others == 0 {
                return Err(last_owner());
            }
            queries::members::upsert(db, &member).await
        })?;
        self.tell_access(AccessChange::User(user.id));
        Ok(organization)
    }

    /// Ends a membership. An organization's owners may, and a member for itself.
    ///
    /// # Errors
    /// `NOT_FOUND` for the organization, the user or the membership; `CONFLICT` when no owner would be left.
    pub async fn remove_organization_member(&self, actor: &Actor, organization: &str, user: &str) -> Result<ScopeRow> {
        let caller = actor.user(AccessTokenScope::Admin)?;
        let organization = self.seen_account(actor, organization, ScopeKind::Organization).await?;
        // Before the user is looked up: who may remove nobody learns of nobody.
        if !caller.login.eq_ignore_ascii_case(user) {
            actor.require_manager(&organization, AccessTokenScope::Admin)?;
        }
        let no_member = || AppError::not_found("The member");
        let user = self.user_named(user).await.map_err(|_| no_member())?;
        let (organization_id, user_id, now) = (organization.id, user.id, self.now().as_micros());
        transact!(self.store, |db, queries| {
            queries::scopes::lock(db, organization_id, now).await?;
            if queries::members::count_other_owners(db, organization_id, user_id).await? == 0 {
                return Err(last_owner());
            }
            if queries::members::delete(db, organization_id, user_id).await? { Ok(()) } else { Err(no_member()) }
        })?;
        self.tell_access(AccessChange::User(user_id));
        Ok(organization)
    }

    async fn managed_organization(&self, actor: &Actor, login: &str) -> Result<ScopeRow> {
        actor.user(AccessTokenScope::Admin)?;
        let organization = self.seen_account(actor, login, ScopeKind::Organization).await?;
        actor.require_manager(&organization, AccessTokenScope::Admin)?;
        Ok(organization)
    }

    /// A user by login, for whoever may name one.
    pub(super) async fn user_named(&self, login: &str) -> Result<ScopeRow> {
        let found = self.any_scope_at(login).await?.filter(|scope| scope.kind == ScopeKind::User);
        found.ok_or_else(|| AppError::not_found("The user"))
    }

    /// Deletes a user, or an organization, with its repositories and everything that belongs to them. An administrator
    /// may; a user may delete itself and the organizations it owns.
    ///
    /// # Errors
    /// `NOT_FOUND`; `CONFLICT` when the instance would lose its last administrator or an organization its last owner.
    pub async fn delete_account(&self, actor: &Actor, login: &str, kind: ScopeKind) -> Result<i64> {
        actor.user(AccessTokenScope::Admin)?;
        let account = self.seen_account(actor, login, kind).await?;
        actor.require_manager(&account, AccessTokenScope::Admin)?;
        let (id, now) = (account.id, self.now().as_micros());
        if kind == ScopeKind::User {
            // Asked before anything is removed, and again at the end, since that takes a while.
            transact!(self.store, |db, queries| {
                can_be_spared!(db, queries, id, now);
                Ok(())
            })?;
        }
        self.remove_history(&account).await?;
        let deleted = transact!(self.store, |db, queries| {
            if kind == ScopeKind::User {
                can_be_spared!(db, queries, id, now);
            }
            queries::scopes::delete(db, id).await
        });
        let deleted = self.doubting(deleted)?;
        self.scope_gone(&deleted.ok_or_else(|| AppError::not_found("The account"))?);
        if kind == ScopeKind::User {
            self.tell_access(AccessChange::User(id));
        }
        Ok(id)
    }
}

fn taken(login: &str) -> AppError {
    AppError::conflict(format!("The login {login} is taken, by a user or an organization. Choose another."))
}

fn last_owner() -> AppError {
    AppError::conflict("An organization keeps at least one owner. Make another member an owner first.")
}
