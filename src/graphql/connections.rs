//! Relay connections: edges, nodes, page info, and a total that is counted only when it is asked for.

use std::sync::Arc;

use async_graphql::connection::PageInfo;
use async_graphql::{Context, Object, SimpleObject};

use super::context::{ContextExt as _, RequestContext};
use super::loaders::{
    CleanupCountKey, CleanupPageKey, LogKey, MemberCountKey, MemberPageKey, RunnerCountKey, RunnerPageKey,
    ScopeCountKey, ScopePageKey, TaskCountKey, TaskPageKey, TokenCountKey, TokenPageKey,
};
use super::pagination::{KeyKind, PageArgs, encode};
use super::types::{
    CleanupJob, Organization, OrganizationMember, PlacementCandidate, PlacementVerdict, RegistrationToken, Repository,
    Runner, Task, TaskLogLine,
};
use crate::error::Result;
use crate::page::{Page, Position, SortKey};
use crate::store::lists::{RunnerList, RunnerOrderField, ScopeParent, TaskList, Visible};
use crate::store::models::{RunnerRow, ScopeRow};

/// What to count for `totalCount`.
enum Total {
    Runners(Arc<RunnerList>),
    Tokens(i64),
    Scopes(ScopeParent),
    Members(i64),
    Tasks(Arc<TaskList>),
    Cleanups(Visible),
    /// It is known already.
    Known(i64),
}

impl Total {
    async fn count(&self, request: &RequestContext) -> Result<i64> {
        let loader = &request.loader;
        let count = match self {
            Self::Runners(list) => loader.load_one(RunnerCountKey(list.clone())).await?,
            Self::Tokens(scope) => loader.load_one(TokenCountKey(*scope)).await?,
            Self::Scopes(parent) => loader.load_one(ScopeCountKey(*parent)).await?,
            Self::Members(organization) => loader.load_one(MemberCountKey(*organization)).await?,
            Self::Tasks(list) => loader.load_one(TaskCountKey(list.clone())).await?,
            Self::Cleanups(visible) => loader.load_one(CleanupCountKey(visible.clone())).await?,
            Self::Known(count) => Some(*count),
        };
        Ok(count.unwrap_or(0))
    }
}

macro_rules! connection {
    ($connection:ident, $edge:ident, $node:ident, $page_doc:literal, $edge_doc:literal) => {
        #[doc = $edge_doc]
        #[derive(SimpleObject)]
        pub(super) struct $edge {
            /// Where this entry stands in the list; give it as `after` or `before`.
            cursor: String,
            /// The entry itself.
            node: $node,
        }

        #[doc = $page_doc]
        pub(super) struct $connection {
            edges: Vec<(String, $node)>,
            has_previous_page: bool,
            has_next_page: bool,
            total: Total,
        }

        impl $connection {
            fn new<R>(page: Page<R>, total: Total, entry: impl Fn(R) -> (String, $node)) -> Self {
                Self {
                    edges: page.items.into_iter().map(entry).collect(),
                    has_previous_page: page.has_previous,
                    has_next_page: page.has_next,
                    total,
                }
            }
        }

        #[doc = $page_doc]
        #[Object]
        impl $connection {
            /// The entries of the page, each with its cursor.
            async fn edges(&self) -> Vec<$edge> {
                self.edges.iter().map(|(cursor, node)| $edge { cursor: cursor.clone(), node: node.clone() }).collect()
            }

            /// The entries of the page without their cursors.
            async fn nodes(&self) -> Vec<$node> {
                self.edges.iter().map(|(_, node)| node.clone()).collect()
            }

            /// Whether there is more before or after, and where to go on.
            async fn page_info(&self) -> PageInfo {
                PageInfo {
                    has_previous_page: self.has_previous_page,
                    has_next_page: self.has_next_page,
                    start_cursor: self.edges.first().map(|(cursor, _)| cursor.clone()),
                    end_cursor: self.edges.last().map(|(cursor, _)| cursor.clone()),
                }
            }

            /// How many entries the whole list has. It is counted only when asked for.
            async fn total_count(&self, context: &Context<'_>) -> Result<i64> {
                self.total.count(context.request()).await
            }
        }
    };
}

connection!(RunnerConnection, RunnerEdge, Runner, "A page of runners.", "A runner on a page.");
connection!(
    RegistrationTokenConnection,
    RegistrationTokenEdge,
    RegistrationToken,
    "A page of registration tokens.",
    "A registration token on a page."
);
connection!(RepositoryConnection, RepositoryEdge, Repository, "A page of repositories.", "A repository on a page.");
connection!(
    OrganizationConnection,
    OrganizationEdge,
    Organization,
    "A page of organizations.",
    "An organization on a page."
);
connection!(
    OrganizationMemberConnection,
    OrganizationMemberEdge,
    OrganizationMember,
    "A page of an organization's members.",
    "A member on a page."
);
connection!(TaskConnection, TaskEdge, Task, "A page of tasks.", "A task on a page.");
connection!(CleanupJobConnection, CleanupJobEdge, CleanupJob, "A page of cleanup jobs.", "A cleanup job on a page.");
connection!(TaskLogConnection, TaskLogEdge, TaskLogLine, "A page of a task's log.", "A line on a page.");
connection!(
    PlacementCandidateConnection,
    PlacementCandidateEdge,
    PlacementCandidate,
    "A page of runners that a repository may use.",
    "A runner on a page, and whether it could take the task."
);

fn list_name(list: &RunnerList) -> &'static str {
    match (list.order.field, list.order.descending) {
        (RunnerOrderField::Name, false) => "runners.name",
        (RunnerOrderField::Name, true) => "runners.-name",
        (RunnerOrderField::CreatedAt, false) => "runners.created",
        (RunnerOrderField::CreatedAt, true) => "runners.-created",
        (RunnerOrderField::LastOnlineAt, false) => "runners.online",
        (RunnerOrderField::LastOnlineAt, true) => "runners.-online",
    }
}

fn by_id(id: i64) -> Position {
    Position { key: SortKey::Id, id }
}

async fn runner_page(request: &RequestContext, list: &Arc<RunnerList>, args: PageArgs) -> Result<Page<RunnerRow>> {
    let key = match list.order.field {
        RunnerOrderField::Name => KeyKind::Text,
        RunnerOrderField::CreatedAt => KeyKind::Id,
        RunnerOrderField::LastOnlineAt => KeyKind::Number,
    };
    let page = args.request(list_name(list), key)?;
    let rows = request.loader.load_one(RunnerPageKey(list.clone(), page.clone())).await?.unwrap_or_default();
    Ok(page.page(rows))
}

/// A page of runners.
pub(super) async fn runners(request: &RequestContext, list: RunnerList, args: PageArgs) -> Result<RunnerConnection> {
    let (name, order, list) = (list_name(&list), list.order, Arc::new(list));
    let page = runner_page(request, &list, args).await?;
    Ok(RunnerConnection::new(page, Total::Runners(list), |row| {
        (encode(name, &order.position(&row)), Runner::from(row))
    }))
}

/// A page of runners that could take a task with certain labels, or not.
pub(super) async fn candidates(
    request: &RequestContext,
    list: RunnerList,
    labels: &[String],
    args: PageArgs,
) -> Result<PlacementCandidateConnection> {
    let (name, order, list) = (list_name(&list), list.order, Arc::new(list));
    let page = runner_page(request, &list, args).await?;
    Ok(PlacementCandidateConnection::new(page, Total::Runners(list), |row| {
        let cursor = encode(name, &order.position(&row));
        // What memory does not know any more went a moment ago.
        let (verdict, missing_labels) = request
            .fleet
            .verdict(row.id, labels)
            .map_or((PlacementVerdict::Offline, Vec::new()), |(verdict, missing)| (verdict.into(), missing));
        (cursor, PlacementCandidate { runner: row.into(), verdict, missing_labels })
    }))
}

/// A page of tasks, newest first.
pub(super) async fn tasks(request: &RequestContext, list: TaskList, args: PageArgs) -> Result<TaskConnection> {
    let page = args.request("tasks", KeyKind::Id)?;
    let list = Arc::new(list);
    let rows = request.loader.load_one(TaskPageKey(list.clone(), page.clone())).await?.unwrap_or_default();
    Ok(TaskConnection::new(page.page(rows), Total::Tasks(list), |row| (encode("tasks", &by_id(row.id)), row.into())))
}

/// A page of the log of a task that has had `count` lines.
pub(super) async fn log(
    request: &RequestContext,
    task_id: i64,
    count: i64,
    args: PageArgs,
) -> Result<TaskLogConnection> {
    let page = args.request("log", KeyKind::Id)?;
    let from_line = page.after.as_ref().map_or(0, |after| after.id.saturating_add(1).max(0));
    let key = LogKey(task_id, from_line, page.limit.saturating_add(1));
    let lines = request.loader.load_one(key).await?.transpose()?.unwrap_or_default();
    Ok(TaskLogConnection::new(page.page(lines), Total::Known(count), |line| {
        (encode("log", &by_id(line.line)), line.into())
    }))
}

/// A page of cleanup jobs, newest first.
pub(super) async fn cleanup_jobs(
    request: &RequestContext,
    visible: Visible,
    args: PageArgs,
) -> Result<CleanupJobConnection> {
    let page = args.request("cleanups", KeyKind::Id)?;
    let rows = request.loader.load_one(CleanupPageKey(visible.clone(), page.clone())).await?.unwrap_or_default();
    Ok(CleanupJobConnection::new(page.page(rows), Total::Cleanups(visible), |row| {
        (encode("cleanups", &by_id(row.id)), CleanupJob::from(row))
    }))
}

/// A page of the registration tokens of a scope.
pub(super) async fn tokens(
    request: &RequestContext,
    scope_id: i64,
    args: PageArgs,
) -> Result<RegistrationTokenConnection> {
    let page = args.request("tokens", KeyKind::Id)?;
    let rows = request.loader.load_one(TokenPageKey(scope_id, page.clone())).await?.unwrap_or_default();
    Ok(RegistrationTokenConnection::new(page.page(rows), Total::Tokens(scope_id), |row| {
        (encode("tokens", &by_id(row.id)), RegistrationToken::from(row))
    }))
}

async fn scopes(request: &RequestContext, name: &str, parent: ScopeParent, args: PageArgs) -> Result<Page<ScopeRow>> {
    let page = args.request(name, KeyKind::Text)?;
    let rows = request.loader.load_one(ScopePageKey(parent, page.clone())).await?.unwrap_or_default();
    Ok(page.page(rows))
}

fn by_path(row: &ScopeRow) -> Position {
    Position { key: SortKey::Text(row.path_key.clone()), id: row.id }
}

/// A page of the repositories of an account.
pub(super) async fn repositories(request: &RequestContext, owner: i64, args: PageArgs) -> Result<RepositoryConnection> {
    let parent = ScopeParent::Repositories(owner);
    let page = scopes(request, "repositories", parent, args).await?;
    Ok(RepositoryConnection::new(page, Total::Scopes(parent), |row| {
        (encode("repositories", &by_path(&row)), Repository::from(row))
    }))
}

/// A page of the organizations of a user.
pub(super) async fn organizations(
    request: &RequestContext,
    user: i64,
    args: PageArgs,
) -> Result<OrganizationConnection> {
    let parent = ScopeParent::OrganizationsOf(user);
    let page = scopes(request, "organizations", parent, args).await?;
    Ok(OrganizationConnection::new(page, Total::Scopes(parent), |row| {
        (encode("organizations", &by_path(&row)), Organization::from(row))
    }))
}

/// A page of the members of an organization.
pub(super) async fn members(
    request: &RequestContext,
    organization: i64,
    args: PageArgs,
) -> Result<OrganizationMemberConnection> {
    let page = args.request("members", KeyKind::Id)?;
    let rows = request.loader.load_one(MemberPageKey(organization, page.clone())).await?.unwrap_or_default();
    Ok(OrganizationMemberConnection::new(page.page(rows), Total::Members(organization), |row| {
        (encode("members", &by_id(row.user_id)), OrganizationMember::from(row))
    }))
}
