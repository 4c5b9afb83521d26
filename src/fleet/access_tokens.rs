//! Access tokens: what people and scripts act with.

use secrecy::SecretString;

use super::{Fleet, names};
use crate::auth::{Actor, SecretKind, mint};
use crate::error::{AppError, Result};
use crate::events::AccessChange;
use crate::model::AccessTokenScope;
use crate::store::models::AccessTokenRow;

/// Most tokens of one user that a list shows.
pub const MOST_ACCESS_TOKENS: i64 = 1_000;

/// An access token to be made.
#[derive(Clone, Debug)]
pub struct NewAccessToken {
    /// What it is for.
    pub name: String,
    /// What it lets its holder do.
    pub scopes: Vec<AccessTokenScope>,
    /// How long it works; without, until it is revoked.
    pub expires_in_seconds: Option<i64>,
    /// The login of the user it is for; without, the caller.
    pub user: Option<String>,
}

impl Fleet {
    /// Makes an access token and returns its secret, which is not kept. For oneself; an administrator for anybody.
    ///
    /// # Errors
    /// `BAD_USER_INPUT`; `FORBIDDEN` or `NOT_FOUND` for another user.
    pub async fn create_access_token(
        &self,
        actor: &Actor,
        token: NewAccessToken,
    ) -> Result<(AccessTokenRow, SecretString)> {
        let user_id = match (&token.user, actor) {
            (None, _) => actor.user(AccessTokenScope::Admin)?.id,
            (Some(login), Actor::User(user)) if login.eq_ignore_ascii_case(&user.login) => {
                actor.user(AccessTokenScope::Admin)?.id
            }
            (Some(login), _) => {
                actor.require_admin()?;
                self.user_named(login).await?.id
            }
        };
        let (row, secret) = self.new_access_token(user_id, &token).await?;
        let stored = row.clone();
        transact!(self.store, |db, queries| queries::access_tokens::insert(db, stored).await)?;
        Ok((row, secret))
    }

    pub(super) async fn new_access_token(
        &self,
        user_id: i64,
        token: &NewAccessToken,
    ) -> Result<(AccessTokenRow, SecretString)> {
        if token.scopes.is_empty() {
            return Err(AppError::bad_input("scopes", "Give at least one scope, such as READ_RUNNER."));
        }
        let name = names::display_name("name", &token.name)?;
        let lifetime = names::lifetime("expiresInSeconds", token.expires_in_seconds)?;
        let now = self.now();
        let id = self.ids.next();
        let secret = mint(SecretKind::AccessToken, id, &self.rng);
        let row = AccessTokenRow {
            id,
            user_id,
            name,
            scopes: token.scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(","),
            token_hash: self.hasher.hash_token(&secret).await?,
            expires_at: lifetime.map(|lifetime| (now + lifetime).as_micros()),
            revoked_at: None,
            created_at: now.as_micros(),
        };
        Ok((row, secret))
    }

    /// Revokes an access token, at once and everywhere. Its user may, and an administrator.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub async fn revoke_access_token(&self, actor: &Actor, id: i64) -> Result<AccessTokenRow> {
        actor.user(AccessTokenScope::Admin)?;
        let not_found = || AppError::not_found("The access token");
        let found = read!(self.store, |db, queries| queries::access_tokens::by_ids(db, vec![id]).await)?.pop();
        let row = found.filter(|row| self.sees_access_token(actor, row)).ok_or_else(not_found)?;
        let now = self.now().as_micros();
        let revoked = transact!(self.store, |db, queries| {
            queries::access_tokens::revoke(db, id, now).await?;
            Ok(queries::access_tokens::by_ids(db, vec![id]).await?.pop())
        })?;
        self.tell_access(AccessChange::User(row.user_id));
        revoked.ok_or_else(not_found)
    }

    /// Checks that an actor may look for an access token by its identifier; which of them exist for the actor is what
    /// [`Fleet::sees_access_token`] says. A runner may look and finds none.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` for nobody, `FORBIDDEN` for a token without the scope.
    pub fn may_look_for_access_tokens(&self, actor: &Actor) -> Result<()> {
        match actor {
            Actor::Runner(_) => Ok(()),
            _ => actor.user(AccessTokenScope::Admin).map(|_| ()),
        }
    }

    /// Whether an access token exists for an actor: for its user, and for administrators.
    pub fn sees_access_token(&self, actor: &Actor, token: &AccessTokenRow) -> bool {
        actor.user(AccessTokenScope::Admin).is_ok_and(|caller| caller.id == token.user_id || caller.is_admin)
    }

    /// Checks that an actor may see the access tokens of a user: its own, and an administrator everybody's.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` for nobody, `FORBIDDEN` for others and for a token without the scope.
    pub fn may_list_access_tokens(&self, actor: &Actor, user_id: i64) -> Result<()> {
        let caller = actor.user(AccessTokenScope::Admin)?;
        if caller.id == user_id || caller.is_admin {
            return Ok(());
        }
        Err(AppError::forbidden("Only the user itself and administrators see its access tokens."))
    }
}
