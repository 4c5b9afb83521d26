//! Access tokens and registration tokens.

use async_graphql::{Context, ID, InputObject, Object, SimpleObject};

use super::{scope_to_manage, shown};
use crate::error::{AppError, Result};
use crate::fleet::{NewAccessToken, NewRegistrationToken};
use crate::graphql::context::ContextExt as _;
use crate::graphql::node_id::{NodeKind, decode_as};
use crate::graphql::types::{AccessToken, AccessTokenScope, RegistrationToken, ScopeInput};
use crate::model;

#[derive(Default)]
pub(super) struct TokenMutations;

/// What `createAccessToken` takes.
#[derive(InputObject)]
struct CreateAccessTokenInput {
    /// What it is for.
    name: String,
    /// What it lets its holder do; at least one.
    scopes: Vec<AccessTokenScope>,
    /// How long it works; without, until it is revoked.
    expires_in_seconds: Option<i64>,
    /// The login of the user it is for; without, the caller. Only administrators name another.
    user: Option<String>,
}

/// What `createAccessToken` returns.
#[derive(SimpleObject)]
struct CreateAccessTokenPayload {
    /// The new token's record.
    access_token: AccessToken,
    /// The token itself (`rc_pat_…`). It is shown this once and not kept.
    secret: String,
}

/// What `revokeAccessToken` takes.
#[derive(InputObject)]
struct RevokeAccessTokenInput {
    /// The access token's id.
    id: ID,
}

/// What `revokeAccessToken` returns.
#[derive(SimpleObject)]
struct RevokeAccessTokenPayload {
    /// The token's record.
    access_token: AccessToken,
}

/// What `createRegistrationToken` takes.
#[derive(InputObject)]
struct CreateRegistrationTokenInput {
    /// The scope of the runners it will make.
    scope: ScopeInput,
    /// What it is for.
    description: Option<String>,
    /// How long it works; without, until it is revoked.
    expires_in_seconds: Option<i64>,
    /// How many runners it may make; without, any number.
    max_uses: Option<i64>,
    /// Whether it makes only ephemeral runners (false unless said).
    ephemeral_only: Option<bool>,
    /// Networks from which it may be used, in CIDR notation; without, any.
    allowed_cidrs: Option<Vec<String>>,
    /// Labels that every runner made with it carries.
    labels: Option<Vec<String>>,
}

/// What `createRegistrationToken` returns.
#[derive(SimpleObject)]
struct CreateRegistrationTokenPayload {
    /// The new token's record.
    registration_token: RegistrationToken,
    /// The token itself (`rc_reg_…`). It is shown this once and not kept.
    secret: String,
}

/// What `revokeRegistrationToken` takes.
#[derive(InputObject)]
struct RevokeRegistrationTokenInput {
    /// The registration token's id.
    id: ID,
    /// Why, for those who look later.
    reason: Option<String>,
}

/// What `revokeRegistrationToken` returns.
#[derive(SimpleObject)]
struct RevokeRegistrationTokenPayload {
    /// The token's record.
    registration_token: RegistrationToken,
}

/// What `resetRegistrationTokens` takes.
#[derive(InputObject)]
struct ResetRegistrationTokensInput {
    /// The scope whose tokens are to stop working.
    scope: ScopeInput,
}

/// What `resetRegistrationTokens` returns.
#[derive(SimpleObject)]
struct ResetRegistrationTokensPayload {
    /// The new token's record.
    registration_token: RegistrationToken,
    /// The new token itself (`rc_reg_…`). It is shown this once and not kept.
    secret: String,
    /// How many tokens stopped working.
    revoked_count: usize,
}

#[Object]
impl TokenMutations {
    /// Makes an access token. For oneself; for others, administrators.
    async fn create_access_token(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "The token to make.")] input: CreateAccessTokenInput,
    ) -> Result<CreateAccessTokenPayload, AppError> {
        let request = context.request();
        let token = NewAccessToken {
            name: input.name,
            scopes: input.scopes.into_iter().map(Into::into).collect(),
            expires_in_seconds: input.expires_in_seconds,
            user: input.user,
        };
        let (row, secret) = request.fleet.create_access_token(&request.actor(), token).await?;
        Ok(CreateAccessTokenPayload { access_token: row.into(), secret: shown(&secret) })
    }

    /// Revokes an access token: it stops working at once, and the streams opened with it end. For its user and
    /// administrators.
    async fn revoke_access_token(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "The token to revoke.")] input: RevokeAccessTokenInput,
    ) -> Result<RevokeAccessTokenPayload, AppError> {
        let request = context.request();
        let id = decode_as(NodeKind::AccessToken, "id", &input.id)?;
        let row = request.fleet.revoke_access_token(&request.actor(), id).await?;
        request.refresh_actor().await;
        Ok(RevokeAccessTokenPayload { access_token: row.into() })
    }

    /// Makes a registration token. For those who manage the scope.
    async fn create_registration_token(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "The token to make.")] input: CreateRegistrationTokenInput,
    ) -> Result<CreateRegistrationTokenPayload, AppError> {
        let request = context.request();
        let scope = scope_to_manage(request, input.scope, model::AccessTokenScope::WriteRunner).await?;
        let token = NewRegistrationToken {
            description: input.description,
            expires_in_seconds: input.expires_in_seconds,
            max_uses: input.max_uses,
            ephemeral_only: input.ephemeral_only.unwrap_or(false),
            allowed_cidrs: input.allowed_cidrs.unwrap_or_default(),
            labels: input.labels.unwrap_or_default(),
        };
        let (row, secret) = request.fleet.create_registration_token(&request.actor(), &scope, token).await?;
        Ok(CreateRegistrationTokenPayload { registration_token: row.into(), secret: shown(&secret) })
    }

    /// Revokes a registration token: it makes no new runner, and those it made go on. For those who manage its scope.
    async fn revoke_registration_token(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "The token to revoke.")] input: RevokeRegistrationTokenInput,
    ) -> Result<RevokeRegistrationTokenPayload, AppError> {
        let request = context.request();
        let id = decode_as(NodeKind::RegistrationToken, "id", &input.id)?;
        let row = request.fleet.revoke_registration_token(&request.actor(), id, input.reason.as_deref()).await?;
        Ok(RevokeRegistrationTokenPayload { registration_token: row.into() })
    }

    /// Revokes every registration token of a scope and makes a new one. For those who manage the scope.
    async fn reset_registration_tokens(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "The scope to reset.")] input: ResetRegistrationTokensInput,
    ) -> Result<ResetRegistrationTokensPayload, AppError> {
        let request = context.request();
        let scope = scope_to_manage(request, input.scope, model::AccessTokenScope::WriteRunner).await?;
        let (row, secret, revoked_count) = request.fleet.reset_registration_tokens(&request.actor(), &scope).await?;
        Ok(ResetRegistrationTokensPayload { registration_token: row.into(), secret: shown(&secret), revoked_count })
    }
}
