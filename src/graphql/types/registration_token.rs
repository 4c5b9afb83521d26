use async_graphql::{Context, ID, Object};

use super::{RunnerFilter, RunnerOrder, RunnerScope, User, order};
use crate::error::{AppError, Result};
use crate::graphql::connections::{self, RunnerConnection};
use crate::graphql::context::{ContextExt as _, nullable};
use crate::graphql::loaders::ScopeKey;
use crate::graphql::node_id::{NodeKind, encode};
use crate::graphql::pagination::PageArgs;
use crate::graphql::scalars::DateTime;
use crate::store::models::{RegistrationTokenRow, list};

/// What a machine needs once to become a runner of a scope. The secret itself is shown once, when it is made.
#[derive(Clone)]
pub(in crate::graphql) struct RegistrationToken {
    row: RegistrationTokenRow,
}

impl From<RegistrationTokenRow> for RegistrationToken {
    fn from(row: RegistrationTokenRow) -> Self {
        Self { row }
    }
}

/// What a machine needs once to become a runner of a scope. The secret itself is shown once, when it is made.
#[Object]
impl RegistrationToken {
    /// The global id.
    pub(in crate::graphql) async fn id(&self) -> ID {
        encode(NodeKind::RegistrationToken, self.row.id)
    }

    /// The scope of the runners it makes.
    async fn scope(&self, context: &Context<'_>) -> Result<RunnerScope, AppError> {
        let scope = context.request().loader.load_one(ScopeKey(self.row.scope_id)).await?;
        scope.map(RunnerScope::from).ok_or_else(|| AppError::not_found("The scope"))
    }

    /// What it is for.
    async fn description(&self) -> &String {
        &self.row.description
    }

    /// Whether it makes only ephemeral runners.
    async fn ephemeral_only(&self) -> bool {
        self.row.ephemeral_only
    }

    /// How many runners it may make; null: any number.
    async fn max_uses(&self) -> Option<i64> {
        self.row.max_uses
    }

    /// How many it has made.
    async fn use_count(&self) -> i64 {
        self.row.use_count
    }

    /// Networks from which it may be used, in CIDR notation; empty: any.
    async fn allowed_cidrs(&self) -> Vec<String> {
        list(&self.row.allowed_cidrs)
    }

    /// Labels that every runner made with it carries.
    async fn labels(&self) -> Vec<String> {
        list(&self.row.labels)
    }

    /// From when on it does not work; null: until it is revoked.
    async fn expires_at(&self) -> Option<DateTime> {
        self.row.expires_at.map(DateTime::from_micros)
    }

    /// When it was revoked; null: it was not.
    async fn revoked_at(&self) -> Option<DateTime> {
        self.row.revoked_at.map(DateTime::from_micros)
    }

    /// Why it was revoked, if somebody said.
    async fn revoked_reason(&self) -> Option<&String> {
        self.row.revoked_reason.as_ref()
    }

    /// When it last made a runner; null: never.
    async fn last_used_at(&self) -> Option<DateTime> {
        self.row.last_used_at.map(DateTime::from_micros)
    }

    /// From which IP address that was.
    async fn last_used_from(&self) -> Option<&String> {
        self.row.last_used_from.as_ref()
    }

    /// Whether it can make a runner at this moment: not revoked, not expired, not used up.
    async fn is_active(&self, context: &Context<'_>) -> bool {
        let now = context.request().fleet.clock.now().as_micros();
        let row = &self.row;
        row.revoked_at.is_none()
            && row.expires_at.is_none_or(|end| end > now)
            && row.max_uses.is_none_or(|max| row.use_count < max)
    }

    /// The user who made it; null: the server itself did, or the user is gone.
    async fn created_by(&self, context: &Context<'_>) -> Option<Result<User, AppError>> {
        nullable(async {
            match self.row.created_by {
                Some(id) => Ok(context.request().loader.load_one(ScopeKey(id)).await?.map(User::from)),
                None => Ok(None),
            }
        })
        .await
    }

    /// When it was made.
    async fn created_at(&self) -> DateTime {
        DateTime::from_micros(self.row.created_at)
    }

    /// Every runner that was registered with it: after a leak, one query.
    #[expect(clippy::too_many_arguments, reason = "the arguments of a Relay list")]
    async fn runners(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "Which of them.")] filter: Option<RunnerFilter>,
        #[graphql(desc = "In which order; oldest first unless said.")] order_by: Option<RunnerOrder>,
        #[graphql(desc = "How many from the start (30 unless said, at most 100).")] first: Option<i32>,
        #[graphql(desc = "Only what comes after this cursor.")] after: Option<String>,
        #[graphql(desc = "How many from the end (at most 100).")] last: Option<i32>,
        #[graphql(desc = "Only what comes before this cursor.")] before: Option<String>,
    ) -> Result<RunnerConnection, AppError> {
        let request = context.request();
        let query = filter.unwrap_or_default().into();
        let list = request.fleet.runners_of_token(&request.actor(), self.row.id, &query, order(order_by)).await?;
        connections::runners(request, list, PageArgs { first, after, last, before }).await
    }
}
