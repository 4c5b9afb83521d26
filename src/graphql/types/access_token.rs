use async_graphql::{Context, ID, Object};

use super::{AccessTokenScope, User};
use crate::error::{AppError, Result};
use crate::graphql::context::ContextExt as _;
use crate::graphql::loaders::ScopeKey;
use crate::graphql::node_id::{NodeKind, encode};
use crate::graphql::scalars::DateTime;
use crate::model;
use crate::store::models::AccessTokenRow;

/// What a person or a script acts with. The secret itself is shown once, when it is made.
#[derive(Clone)]
pub(in crate::graphql) struct AccessToken {
    row: AccessTokenRow,
}

impl From<AccessTokenRow> for AccessToken {
    fn from(row: AccessTokenRow) -> Self {
        Self { row }
    }
}

/// What a person or a script acts with. The secret itself is shown once, when it is made.
#[Object]
impl AccessToken {
    /// The global id.
    pub(in crate::graphql) async fn id(&self) -> ID {
        encode(NodeKind::AccessToken, self.row.id)
    }

    /// The user it acts as.
    async fn user(&self, context: &Context<'_>) -> Result<User, AppError> {
        let user = context.request().loader.load_one(ScopeKey(self.row.user_id)).await?;
        user.map(User::from).ok_or_else(|| AppError::not_found("The user"))
    }

    /// What it is for.
    async fn name(&self) -> &String {
        &self.row.name
    }

    /// What it lets its holder do.
    async fn scopes(&self) -> Vec<AccessTokenScope> {
        let words = self.row.scopes.split(',');
        words.filter_map(|word| word.parse::<model::AccessTokenScope>().ok()).map(Into::into).collect()
    }

    /// From when on it does not work; null: until it is revoked.
    async fn expires_at(&self) -> Option<DateTime> {
        self.row.expires_at.map(DateTime::from_micros)
    }

    /// When it was revoked; null: it was not.
    async fn revoked_at(&self) -> Option<DateTime> {
        self.row.revoked_at.map(DateTime::from_micros)
    }

    /// Whether it works at this moment.
    async fn is_active(&self, context: &Context<'_>) -> bool {
        let now = context.request().fleet.clock.now().as_micros();
        self.row.revoked_at.is_none() && self.row.expires_at.is_none_or(|end| end > now)
    }

    /// When it was made.
    async fn created_at(&self) -> DateTime {
        DateTime::from_micros(self.row.created_at)
    }
}
