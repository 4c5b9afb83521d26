//! Registration tokens: what a machine needs once to become a runner.

use secrecy::SecretString;

use super::{Fleet, names};
use crate::auth::{Actor, SecretKind, mint};
use crate::error::{AppError, Result};
use crate::model::AccessTokenScope;
use crate::store::models::{RegistrationTokenRow, ScopeRow};

/// A registration token to be made.
#[derive(Clone, Debug, Default)]
pub struct NewRegistrationToken {
    /// What it is for.
    pub description: Option<String>,
    /// How long it works; without, until it is revoked.
    pub expires_in_seconds: Option<i64>,
    /// How many runners it may register; without, any number.
    pub max_uses: Option<i64>,
    /// Whether it registers only ephemeral runners.
    pub ephemeral_only: bool,
    /// Networks from which it may be used; none: any.
    pub allowed_cidrs: Vec<String>,
    /// Labels that every runner made with it carries.
    pub labels: Vec<String>,
}

impl Fleet {
    /// Makes a registration token for a scope and returns its secret, which is not kept. Whoever manages that very scope
    /// may.
    ///
    /// # Errors
    /// `BAD_USER_INPUT`, `FORBIDDEN`, `NOT_FOUND`.
    pub async fn create_registration_token(
        &self,
        actor: &Actor,
        scope: &ScopeRow,
        token: NewRegistrationToken,
    ) -> Result<(RegistrationTokenRow, SecretString)> {
        actor.require_manager(scope, AccessTokenScope::WriteRunner)?;
        let (row, secret) = self.new_registration_token(creator(actor), scope.id, token).await?;
        let stored = row.clone();
        transact!(self.store, |db, queries| queries::registration_tokens::insert(db, stored).await)?;
        Ok((row, secret))
    }

    pub(super) async fn new_registration_token(
        &self,
        created_by: Option<i64>,
        scope_id: i64,
        token: NewRegistrationToken,
    ) -> Result<(RegistrationTokenRow, SecretString)> {
        let lifetime = names::lifetime("expiresInSeconds", token.expires_in_seconds)?;
        if token.max_uses.is_some_and(|uses| !(1..=1_000_000).contains(&uses)) {
            return Err(AppError::bad_input("maxUses", "A token registers from 1 to 1000000 runners."));
        }
        let networks = names::networks("allowedCidrs", &token.allowed_cidrs)?;
        let labels = names::labels("labels", &token.labels)?;
        let now = self.now();
        let id = self.ids.next();
        let secret = mint(SecretKind::RegistrationToken, id, &self.rng);
        let row = RegistrationTokenRow {
            id,
            scope_id,
            description: names::text("description", token.description.as_deref().unwrap_or_default())?,
            token_hash: self.hasher.hash_token(&secret).await?,
            ephemeral_only: token.ephemeral_only,
            max_uses: token.max_uses,
            use_count: 0,
            allowed_cidrs: networks.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
            labels: labels.join(","),
            expires_at: lifetime.map(|lifetime| (now + lifetime).as_micros()),
            revoked_at: None,
            revoked_reason: None,
            last_used_at: None,
            last_used_from: None,
            created_by,
            created_at: now.as_micros(),
        };
        Ok((row, secret))
    }

    /// Revokes a registration token: it makes no new runner; those it made go on. Whoever manages its scope may.
    ///
    /// # Errors
    /// `NOT_FOUND`, `FORBIDDEN`, `BAD_USER_INPUT`.
    pub async fn revoke_registration_token(
        &self,
        actor: &Actor,
        id: i64,
        reason: Option<&str>,
    ) -> Result<RegistrationTokenRow> {
        actor.user(AccessTokenScope::WriteRunner)?;
        let reason = reason.map(|reason| names::text("reason", reason)).transpose()?;
        let not_found = || AppError::not_found("The registration token");
        let found = read!(self.store, |db, queries| {
            let token = queries::registration_tokens::by_ids(db, vec![id]).await?.pop();
            let scope = match &token {
                Some(token) => queries::scopes::by_ids(db, vec![token.scope_id]).await?.pop(),
                None => None,
            };
            Ok(scope)
        })?;
        let scope = found.filter(|scope| self.sees_registration_tokens(actor, scope)).ok_or_else(not_found)?;
        actor.require_manager(&scope, AccessTokenScope::WriteRunner)?;
        let now = self.now().as_micros();
        let revoked = transact!(self.store, |db, queries| {
            queries::registration_tokens::revoke(db, id, now, reason.as_deref()).await?;
            Ok(queries::registration_tokens::by_ids(db, vec![id]).await?.pop())
        })?;
        revoked.ok_or_else(not_found)
    }

    /// Whether the registration tokens of a scope exist for an actor. Who may see a scope may not see its tokens: for those
    /// who do not manage it there are none. What the actor's own token may do is asked before.
    pub fn sees_registration_tokens(&self, actor: &Actor, scope: &ScopeRow) -> bool {
        actor.manages(scope.owner_id())
    }

    /// Revokes every registration token of a scope and makes a new one.
    ///
    /// # Errors
    /// `NOT_FOUND`, `FORBIDDEN`.
    pub async fn reset_registration_tokens(
        &self,
        actor: &Actor,
        scope: &ScopeRow,
    ) -> Result<(RegistrationTokenRow, SecretString, usize)> {
        actor.require_manager(scope, AccessTokenScope::WriteRunner)?;
        let (row, secret) =
            self.new_registration_token(creator(actor), scope.id, NewRegistrationToken::default()).await?;
        let stored = row.clone();
        let (scope_id, now) = (scope.id, self.now().as_micros());
        let revoked = transact!(self.store, |db, queries| {
            let revoked =
                queries::registration_tokens::revoke_scope(db, scope_id, now, "The scope's tokens were reset").await?;
            queries::registration_tokens::insert(db, stored).await?;
            Ok(revoked)
        })?;
        Ok((row, secret, revoked))
    }
}

fn creator(actor: &Actor) -> Option<i64> {
    if let Actor::User(user) = actor { Some(user.id) } else { None }
}
