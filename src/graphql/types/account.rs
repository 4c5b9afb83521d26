//! What users and organizations have beyond a scope.

use async_graphql::{Context, Object};

use super::{AccessToken, MemberRole, User};
use crate::error::{AppError, Result};
use crate::graphql::context::{ContextExt as _, RequestContext};
use crate::graphql::loaders::{AccessTokensKey, ScopeKey, UserKey};
use crate::graphql::scalars::DateTime;
use crate::store::models::{MemberRow, ScopeRow};

/// A user's part in an organization.
#[derive(Clone)]
pub(in crate::graphql) struct OrganizationMember {
    row: MemberRow,
}

impl From<MemberRow> for OrganizationMember {
    fn from(row: MemberRow) -> Self {
        Self { row }
    }
}

/// A user's part in an organization.
#[Object]
impl OrganizationMember {
    /// The user.
    async fn user(&self, context: &Context<'_>) -> Result<User, AppError> {
        let user = context.request().loader.load_one(ScopeKey(self.row.user_id)).await?;
        user.map(User::from).ok_or_else(|| AppError::not_found("The user"))
    }

    /// What the user may do there.
    async fn role(&self) -> MemberRole {
        self.row.role.into()
    }

    /// Since when the user belongs to it.
    async fn created_at(&self) -> DateTime {
        DateTime::from_micros(self.row.created_at)
    }
}

/// Whether a user administers the instance, for those who see into its account.
pub(super) async fn is_admin(user: &ScopeRow, request: &RequestContext) -> Result<Option<bool>> {
    if request.fleet.may_look_around(&request.actor(), user).is_err() {
        return Ok(None);
    }
    Ok(Some(request.loader.load_one(UserKey(user.id)).await?.is_some_and(|user| user.is_admin)))
}

/// The access tokens of a user.
pub(super) async fn access_tokens(user: &ScopeRow, request: &RequestContext) -> Result<Vec<AccessToken>> {
    request.fleet.may_list_access_tokens(&request.actor(), user.id)?;
    let rows = request.loader.load_one(AccessTokensKey(user.id)).await?.unwrap_or_default();
    Ok(rows.into_iter().map(AccessToken::from).collect())
}
