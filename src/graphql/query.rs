//! The root of every query.

mod cleanup;
mod tasks;

use async_graphql::{Context, ID, MergedObject, Object};
use uuid::Uuid;

use super::connections::{self, RunnerConnection};
use super::context::{ContextExt as _, RequestContext, nullable};
use super::loaders::{AccessTokenKey, MembershipsKey, RunnerKey, ScopeKey, TokenKey};
use super::node_id::{NodeKind, decode, decode_as};
use super::pagination::PageArgs;
use super::types::{
    Instance, Node, Organization, Repository, Runner, RunnerFilter, RunnerOrder, ScopeInput, User, Viewer, order,
};
use crate::auth::Actor;
use crate::error::{AppError, Result};
use crate::store::models::{AccessTokenRow, RegistrationTokenRow, ScopeRow};

/// Most nodes of one call of `nodes`.
const MOST_NODES: usize = 100;

/// What can be asked. Everything but `viewer` and `verifyJobToken` needs credentials, and what you may not see does not exist for
/// you.
#[derive(Default, MergedObject)]
pub(super) struct Query(FleetQueries, tasks::TaskQueries, cleanup::CleanupQueries);

#[derive(Default)]
struct FleetQueries;

#[Object]
impl FleetQueries {
    /// Who makes the request: a user, a runner, or null when the request shows no credentials.
    async fn viewer(&self, context: &Context<'_>) -> Option<Result<Viewer, AppError>> {
        nullable(async {
            let request = context.request();
            match &*request.actor() {
                Actor::User(user) => {
                    let scope = request.loader.load_one(ScopeKey(user.id)).await?;
                    Ok(scope.and_then(User::of).map(Viewer::User))
                }
                Actor::Runner(runner) => Ok(Some(Viewer::Runner(Runner::of_id(runner.id)))),
                Actor::Anonymous | Actor::System => Ok(None),
            }
        })
        .await
    }

    /// Anything that has a global id; null when it does not exist or you may not see it.
    async fn node(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "A global id from an earlier answer.")] id: ID,
    ) -> Option<Result<Node, AppError>> {
        nullable(async { node(context.request(), "id", &id).await }).await
    }

    /// Several things at once, in the order of their ids; null for each that does not exist or that you may not see.
    async fn nodes(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "Global ids from earlier answers, at most 100.")] ids: Vec<ID>,
    ) -> Result<Vec<Option<Node>>, AppError> {
        if ids.len() > MOST_NODES {
            let message = format!("{} ids are given; at most {MOST_NODES} are answered at once.", ids.len());
            return Err(AppError::bad_input("ids", message));
        }
        let request = context.request();
        futures_util::future::try_join_all(ids.iter().map(|id| node(request, "ids", id))).await
    }

    /// The whole instance.
    async fn instance(&self, context: &Context<'_>) -> Result<Instance, AppError> {
        let request = context.request();
        Ok(request.fleet.instance(&request.actor()).await?.into())
    }

    /// A user; null when there is none of this login, or you may not see it.
    async fn user(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "The user's login, without regard to case.")] login: String,
    ) -> Option<Result<User, AppError>> {
        nullable(async {
            let request = context.request();
            Ok(request.fleet.user_at(&request.actor(), &login).await?.and_then(User::of))
        })
        .await
    }

    /// An organization; null when there is none of this login, or you may not see it.
    async fn organization(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "The organization's login, without regard to case.")] login: String,
    ) -> Option<Result<Organization, AppError>> {
        nullable(async {
            let request = context.request();
            Ok(request.fleet.scope_at(&request.actor(), &login).await?.and_then(Organization::of))
        })
        .await
    }

    /// A repository; null when there is none of this name, or you may not see it.
    async fn repository(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "The login of the user or organization it belongs to.")] owner: String,
        #[graphql(desc = "Its name within the owner.")] name: String,
    ) -> Option<Result<Repository, AppError>> {
        nullable(async {
            let request = context.request();
            let path = format!("{owner}/{name}");
            Ok(request.fleet.scope_at(&request.actor(), &path).await?.and_then(Repository::of))
        })
        .await
    }

    /// A runner, named in exactly one of two ways; null when it does not exist or you may not see it.
    async fn runner(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "Its global id.")] id: Option<ID>,
        #[graphql(desc = "The name it authenticates with.")] uuid: Option<Uuid>,
    ) -> Option<Result<Runner, AppError>> {
        nullable(async {
            let request = context.request();
            let actor = request.actor();
            let found = match (id, uuid) {
                (Some(id), None) => {
                    let id = decode_as(NodeKind::Runner, "id", &id)?;
                    request.fleet.seen_runner(&actor, id).await?
                }
                (None, Some(uuid)) => request.fleet.seen_runner_by_uuid(&actor, uuid).await?,
                _ => return Err(AppError::bad_input("id", "Give exactly one of id and uuid.")),
            };
            Ok(found.map(Runner::from))
        })
        .await
    }

    /// The runners of a scope, or all that you may see.
    #[expect(clippy::too_many_arguments, reason = "the arguments of a Relay list")]
    async fn runners(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "Only what belongs to this scope; without, all that you may see.")] scope: Option<ScopeInput>,
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
        let actor = request.actor();
        let scope = match scope {
            Some(scope) => Some(request.fleet.scope(&actor, &scope.reference()?).await?),
            None => None,
        };
        let query = filter.unwrap_or_default().into();
        let list =
            request.fleet.runner_list(&actor, scope.as_ref(), include_inherited, &query, order(order_by)).await?;
        connections::runners(request, list, PageArgs { first, after, last, before }).await
    }
}

async fn node(request: &RequestContext, field: &'static str, id: &ID) -> Result<Option<Node>> {
    let actor = request.actor();
    let (kind, id) = decode(field, id)?;
    Ok(match kind {
        NodeKind::Runner => {
            request.fleet.may_read_runners(&actor)?;
            let row = request.loader.load_one(RunnerKey(id)).await?;
            row.filter(|row| actor.sees_runner(row.id, row.owner_id)).map(|row| Node::Runner(row.into()))
        }
        NodeKind::RegistrationToken => {
            seen_registration_token(request, &actor, id).await?.map(|row| Node::RegistrationToken(row.into()))
        }
        NodeKind::AccessToken => seen_access_token(request, &actor, id).await?.map(|row| Node::AccessToken(row.into())),
        NodeKind::Task => tasks::seen_task(request, &actor, id).await?.map(Node::Task),
        NodeKind::CleanupJob => cleanup::seen_cleanup(request, &actor, id).await?.map(Node::CleanupJob),
        NodeKind::User => seen_user(request, &actor, id).await?.and_then(Node::of_scope),
        NodeKind::Organization | NodeKind::Repository => {
            request.fleet.may_look(&actor)?;
            let row = request.loader.load_one(ScopeKey(id)).await?.filter(|row| actor.sees(row));
            // The id says what it is of: an organization's is not also a user's.
            row.filter(|row| NodeKind::of_scope(row.kind) == Some(kind)).and_then(Node::of_scope)
        }
    })
}

async fn seen_registration_token(
    request: &RequestContext,
    actor: &Actor,
    id: i64,
) -> Result<Option<RegistrationTokenRow>> {
    request.fleet.may_read_runners(actor)?;
    let Some(row) = request.loader.load_one(TokenKey(id)).await? else { return Ok(None) };
    let scope = request.loader.load_one(ScopeKey(row.scope_id)).await?;
    Ok(scope.filter(|scope| request.fleet.sees_registration_tokens(actor, scope)).map(|_| row))
}

async fn seen_access_token(request: &RequestContext, actor: &Actor, id: i64) -> Result<Option<AccessTokenRow>> {
    request.fleet.may_look_for_access_tokens(actor)?;
    let row = request.loader.load_one(AccessTokenKey(id)).await?;
    Ok(row.filter(|row| request.fleet.sees_access_token(actor, row)))
}

async fn seen_user(request: &RequestContext, actor: &Actor, id: i64) -> Result<Option<ScopeRow>> {
    request.fleet.may_look(actor)?;
    let Some(user) = request.loader.load_one(ScopeKey(id)).await? else { return Ok(None) };
    let memberships = if request.fleet.needs_memberships(actor, &user) {
        request.loader.load_one(MembershipsKey(id)).await?.unwrap_or_default()
    } else {
        Vec::new()
    };
    Ok(request.fleet.knows_user(actor, &user, &memberships).then_some(user))
}

impl Node {
    fn of_scope(row: ScopeRow) -> Option<Self> {
        use crate::model::ScopeKind;
        match row.kind {
            ScopeKind::Global => None,
            ScopeKind::Organization => Some(Self::Organization(row.into())),
            ScopeKind::User => Some(Self::User(row.into())),
            ScopeKind::Repository => Some(Self::Repository(row.into())),
        }
    }
}
