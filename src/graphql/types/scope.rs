//! The four kinds of scope: the instance, users, organizations, repositories.

use async_graphql::{Context, ID, Object};

use super::account;
use super::{AccessToken, FleetSummary, RunnerFilter, RunnerOrder, RunnerScope, ScopeKind, TaskFilter, order};
use crate::error::{AppError, Result};
use crate::graphql::connections::{
    self, OrganizationConnection, OrganizationMemberConnection, RegistrationTokenConnection, RepositoryConnection,
    RunnerConnection, TaskConnection,
};
use crate::graphql::context::{ContextExt as _, nullable};
use crate::graphql::loaders::ScopeKey;
use crate::graphql::node_id::{NodeKind, encode};
use crate::graphql::pagination::PageArgs;
use crate::graphql::scalars::DateTime;
use crate::model;
use crate::store::models::ScopeRow;

/// The fields that every kind of scope has, and those that one has more.
macro_rules! scope {
    ($(#[$doc:meta])* $name:ident { $($fields:tt)* }) => {
        $(#[$doc])*
        #[derive(Clone)]
        pub(in crate::graphql) struct $name {
            row: ScopeRow,
        }

        impl From<ScopeRow> for $name {
            fn from(row: ScopeRow) -> Self {
                Self { row }
            }
        }

        $(#[$doc])*
        #[Object]
        impl $name {
            /// Which of the four kinds of scope it is.
            pub(in crate::graphql) async fn kind(&self) -> ScopeKind {
                self.row.kind.into()
            }

            /// Its name in addresses: empty for the instance, `acme` for an owner, `acme/api` for a repository.
            pub(in crate::graphql) async fn path(&self) -> &String {
                &self.row.path
            }

            /// The runners that belong to the scope.
            #[expect(clippy::too_many_arguments, reason = "the arguments of a Relay list")]
            pub(in crate::graphql) async fn runners(
                &self,
                context: &Context<'_>,
                #[graphql(
                    default = false,
                    desc = "Also those that the scope may use: of a repository's owner, and of the instance."
                )]
                include_inherited: bool,
                #[graphql(desc = "Which of them.")] filter: Option<RunnerFilter>,
                #[graphql(desc = "In which order; oldest first unless said.")] order_by: Option<RunnerOrder>,
                #[graphql(desc = "How many from the start (30 unless said, at most 100).")] first: Option<i32>,
                #[graphql(desc = "Only what comes after this cursor.")] after: Option<String>,
                #[graphql(desc = "How many from the end (at most 100).")] last: Option<i32>,
                #[graphql(desc = "Only what comes before this cursor.")] before: Option<String>,
            ) -> Result<RunnerConnection, AppError> {
                let request = context.request();
                let query = filter.unwrap_or_default().into();
                let list = request
                    .fleet
                    .runner_list(&request.actor(), Some(&self.row), include_inherited, &query, order(order_by))
                    .await?;
                connections::runners(request, list, PageArgs { first, after, last, before }).await
            }

            /// The registration tokens of the scope, oldest first. Only for those who manage it.
            pub(in crate::graphql) async fn registration_tokens(
                &self,
                context: &Context<'_>,
                #[graphql(desc = "How many from the start (30 unless said, at most 100).")] first: Option<i32>,
                #[graphql(desc = "Only what comes after this cursor.")] after: Option<String>,
                #[graphql(desc = "How many from the end (at most 100).")] last: Option<i32>,
                #[graphql(desc = "Only what comes before this cursor.")] before: Option<String>,
            ) -> Result<RegistrationTokenConnection, AppError> {
                let request = context.request();
                request.fleet.may_list_registration_tokens(&request.actor(), &self.row)?;
                connections::tokens(request, self.row.id, PageArgs { first, after, last, before }).await
            }

            /// The tasks of the scope and of the repositories below it that you may see, newest first.
            pub(in crate::graphql) async fn tasks(
                &self,
                context: &Context<'_>,
                #[graphql(desc = "Which of them.")] filter: Option<TaskFilter>,
                #[graphql(desc = "How many from the start (30 unless said, at most 100).")] first: Option<i32>,
                #[graphql(desc = "Only what comes after this cursor.")] after: Option<String>,
                #[graphql(desc = "How many from the end (at most 100).")] last: Option<i32>,
                #[graphql(desc = "Only what comes before this cursor.")] before: Option<String>,
            ) -> Result<TaskConnection, AppError> {
                let (request, query) = (context.request(), TaskFilter::query(filter)?);
                let list = request.fleet.task_list(&request.actor(), Some(&self.row), &query)?;
                connections::tasks(request, list, PageArgs { first, after, last, before }).await
            }

            /// How many runners of the scope itself there are of what, and how much work for its repositories.
            pub(in crate::graphql) async fn fleet(&self, context: &Context<'_>) -> Result<FleetSummary, AppError> {
                let request = context.request();
                Ok(request.fleet.summary(&request.actor(), Some(&self.row))?.into())
            }

            $($fields)*
        }
    };
}

scope! {
    /// The whole instance. Its runners serve every repository.
    Instance {
        /// The version of the server.
        async fn version(&self) -> &'static str {
            env!("CARGO_PKG_VERSION")
        }
    }
}

scope! {
    /// A person, or an account that scripts use. Its runners serve its repositories.
    User {
        /// The global id.
        pub(in crate::graphql) async fn id(&self) -> ID {
            encode(NodeKind::User, self.row.id)
        }

        /// The name in addresses, unique among users and organizations without regard to case.
        async fn login(&self) -> &String {
            &self.row.path
        }

        /// The name as it is shown.
        async fn name(&self) -> &String {
            &self.row.name
        }

        /// Whether the user administers the instance; null: you are neither the user nor an administrator.
        async fn is_admin(&self, context: &Context<'_>) -> Option<Result<bool, AppError>> {
        nullable(async {
            account::is_admin(&self.row, context.request()).await
        })
        .await
    }

        /// When the account was made.
        async fn created_at(&self) -> DateTime {
            DateTime::from_micros(self.row.created_at)
        }

        /// The organizations the user belongs to, in the order of logins. Only for the user itself and administrators.
        async fn organizations(
            &self,
            context: &Context<'_>,
            #[graphql(desc = "How many from the start (30 unless said, at most 100).")] first: Option<i32>,
            #[graphql(desc = "Only what comes after this cursor.")] after: Option<String>,
            #[graphql(desc = "How many from the end (at most 100).")] last: Option<i32>,
            #[graphql(desc = "Only what comes before this cursor.")] before: Option<String>,
        ) -> Result<OrganizationConnection, AppError> {
            let request = context.request();
            request.fleet.may_look_around(&request.actor(), &self.row)?;
            connections::organizations(request, self.row.id, PageArgs { first, after, last, before }).await
        }

        /// The repositories of the user, in the order of names. Only for the user itself and administrators.
        async fn repositories(
            &self,
            context: &Context<'_>,
            #[graphql(desc = "How many from the start (30 unless said, at most 100).")] first: Option<i32>,
            #[graphql(desc = "Only what comes after this cursor.")] after: Option<String>,
            #[graphql(desc = "How many from the end (at most 100).")] last: Option<i32>,
            #[graphql(desc = "Only what comes before this cursor.")] before: Option<String>,
        ) -> Result<RepositoryConnection, AppError> {
            let request = context.request();
            request.fleet.may_look_around(&request.actor(), &self.row)?;
            connections::repositories(request, self.row.id, PageArgs { first, after, last, before }).await
        }

        /// The user's access tokens, oldest first, revoked and expired ones included (a thousand at most). Only for the user
        /// itself and administrators.
        async fn access_tokens(&self, context: &Context<'_>) -> Result<Vec<AccessToken>, AppError> {
            account::access_tokens(&self.row, context.request()).await
        }
    }
}

scope! {
    /// An account that several users share. Its runners serve its repositories.
    Organization {
        /// The global id.
        pub(in crate::graphql) async fn id(&self) -> ID {
            encode(NodeKind::Organization, self.row.id)
        }

        /// The name in addresses, unique among users and organizations without regard to case.
        async fn login(&self) -> &String {
            &self.row.path
        }

        /// The name as it is shown.
        async fn name(&self) -> &String {
            &self.row.name
        }

        /// When the organization was made.
        async fn created_at(&self) -> DateTime {
            DateTime::from_micros(self.row.created_at)
        }

        /// Who belongs to it, in the order in which the users were made.
        async fn members(
            &self,
            context: &Context<'_>,
            #[graphql(desc = "How many from the start (30 unless said, at most 100).")] first: Option<i32>,
            #[graphql(desc = "Only what comes after this cursor.")] after: Option<String>,
            #[graphql(desc = "How many from the end (at most 100).")] last: Option<i32>,
            #[graphql(desc = "Only what comes before this cursor.")] before: Option<String>,
        ) -> Result<OrganizationMemberConnection, AppError> {
            let request = context.request();
            request.fleet.may_look_around(&request.actor(), &self.row)?;
            connections::members(request, self.row.id, PageArgs { first, after, last, before }).await
        }

        /// The repositories of the organization, in the order of names.
        async fn repositories(
            &self,
            context: &Context<'_>,
            #[graphql(desc = "How many from the start (30 unless said, at most 100).")] first: Option<i32>,
            #[graphql(desc = "Only what comes after this cursor.")] after: Option<String>,
            #[graphql(desc = "How many from the end (at most 100).")] last: Option<i32>,
            #[graphql(desc = "Only what comes before this cursor.")] before: Option<String>,
        ) -> Result<RepositoryConnection, AppError> {
            let request = context.request();
            request.fleet.may_look_around(&request.actor(), &self.row)?;
            connections::repositories(request, self.row.id, PageArgs { first, after, last, before }).await
        }
    }
}

scope! {
    /// A repository. It may use its own runners, its owner's and the instance's.
    Repository {
        /// The global id.
        pub(in crate::graphql) async fn id(&self) -> ID {
            encode(NodeKind::Repository, self.row.id)
        }

        /// The user or organization it belongs to.
        async fn owner(&self, context: &Context<'_>) -> Result<RunnerScope, AppError> {
            let owner = context.request().loader.load_one(ScopeKey(self.row.owner_id())).await?;
            owner.map(RunnerScope::from).ok_or_else(|| AppError::not_found("The owner"))
        }

        /// The name, unique within the owner without regard to case.
        async fn name(&self) -> &String {
            &self.row.name
        }

        /// When the repository was made.
        async fn created_at(&self) -> DateTime {
            DateTime::from_micros(self.row.created_at)
        }
    }
}

impl User {
    /// The user that a scope is, if it is one.
    pub(in crate::graphql) fn of(row: ScopeRow) -> Option<Self> {
        (row.kind == model::ScopeKind::User).then_some(Self { row })
    }
}

impl Organization {
    /// The organization that a scope is, if it is one.
    pub(in crate::graphql) fn of(row: ScopeRow) -> Option<Self> {
        (row.kind == model::ScopeKind::Organization).then_some(Self { row })
    }
}

impl Repository {
    /// The repository that a scope is, if it is one.
    pub(in crate::graphql) fn of(row: ScopeRow) -> Option<Self> {
        (row.kind == model::ScopeKind::Repository).then_some(Self { row })
    }
}
