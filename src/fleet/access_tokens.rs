//! Access tokens: what people and scripts act with.

use secrecy::SecretString;

use super::{Fleet, names};
use crate::auth::{Actor, SecretKind, mint};
use crate::error::{AppError, Result};
use crate::events::AccessChange;
use crate::model::AccessTokenScope;
use crate::store::models::AccessTokenRow;

/// Tokens of one user that a list shows.
const LISTED: i64 = 1_000;

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
        let row = self.seen_access_token(actor, id).await?.ok_or_else(not_found)?;
        let now = self.now().as_micros();
        let revoked = transact!(self.store, |db, queries| {
            queries::access_tokens::revoke(db, id, now).await?;
            queries::access_tokens::by_id(db, id).await
        })?;
        self.tell_access(AccessChange::User(row.user_id));
        revoked.ok_or_else(not_found)
    }

    /// An access token, for its user and for administrators; to everyone else there is none.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` for nobody, `FORBIDDEN` for a token without the scope.
    pub async fn seen_access_token(&self, actor: &Actor, id: i64) -> Result<Option<AccessTokenRow>> {
        if matches!(actor, Actor::Runner(_)) {
            return Ok(None);
        }
        let caller = actor.user(AccessTokenScope::Admin)?;
        let found = read!(self.store, |db, queries| queries::access_tokens::by_id(db, id).await)?;
        Ok(found.filter(|row| row.user_id == caller.id || caller.is_admin))
    }

    /// The access tokens of a user, for itself and for administrators; oldest first, a thousand at most.
    ///
    /// # Errors
    /// `FORBIDDEN` for others.
    pub async fn access_tokens(&self, actor: &Actor, user_id: i64) -> Result<Vec<AccessTokenRow>> {
        let caller = actor.user(AccessTokenScope::Admin)?;
        if caller.id != user_id && !caller.is_admin {
            return Err(AppError::forbidden("Only the user itself and administrators see its access tokens."));
        }
        read!(self.store, |db, queries| queries::access_tokens::of_user(db, user_id, LISTED).await)
    }
}
