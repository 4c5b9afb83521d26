//! What an actor may read, and how a request for a list becomes one that both databases understand.

use uuid::Uuid;

use super::Fleet;
use super::presence::Counts;
use super::tasks::Live;
use crate::auth::{Actor, describe};
use crate::clock::Timestamp;
use crate::error::{AppError, Result};
use crate::model::{AccessTokenScope, INSTANCE, RunnerStatus, ScopeKind};
use crate::store::lists::{RunnerFilter, RunnerList, RunnerOrder, RunnerParent, Visible};
use crate::store::models::{HISTORY_LENGTH, MemberRow, RunnerRow, ScopeRow, TransitionRow};

/// A scope, as a caller names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScopeRef {
    /// The instance.
    Global,
    /// A user or an organization.
    Owner(String),
    /// `owner/name`.
    Repository(String),
}

/// What a caller asks of runners in a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunnerQuery {
    /// Only those of some statuses.
    pub statuses: Option<Vec<RunnerStatus>>,
    /// Only those that carry all of these labels.
    pub labels: Vec<String>,
    /// Only those with this text in name, description or UUID.
    pub search: Option<String>,
    /// Only those that are, or are not, ephemeral.
    pub ephemeral: Option<bool>,
    /// Only those that are, or are not, disabled.
    pub disabled: Option<bool>,
    /// Only those not heard from for so many seconds.
    pub offline_for_seconds: Option<i64>,
}

impl Fleet {
    /// Checks that an actor has shown who it is.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` for nobody.
    pub fn may_look(&self, actor: &Actor) -> Result<()> {
        match actor {
            Actor::Anonymous => actor.user(AccessTokenScope::ReadRunner).map(|_| ()),
            _ => Ok(()),
        }
    }

    /// The instance's own scope.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` for nobody.
    pub async fn instance(&self, actor: &Actor) -> Result<ScopeRow> {
        self.may_look(actor)?;
        let found = read!(self.store, |db, queries| queries::scopes::by_ids(db, vec![INSTANCE]).await)?;
        found.into_iter().next().ok_or_else(|| AppError::internal("the instance's scope is missing"))
    }

    /// The scope of a path, if it exists for the actor.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` for nobody.
    pub async fn scope_at(&self, actor: &Actor, path: &str) -> Result<Option<ScopeRow>> {
        self.may_look(actor)?;
        Ok(self.any_scope_at(path).await?.filter(|scope| actor.sees(scope)))
    }

    /// Whether a scope is a user that exists for an actor: for itself, for administrators, and for those who share an
    /// organization with it. `memberships` are the user's; they matter when [`Fleet::needs_memberships`] says so. What
    /// belongs to the user is another question.
    pub fn knows_user(&self, actor: &Actor, user: &ScopeRow, memberships: &[MemberRow]) -> bool {
        let shares = |organization: i64| match actor {
            Actor::User(caller) => caller.memberships.iter().any(|(mine, _)| *mine == organization),
            _ => false,
        };
        user.kind == ScopeKind::User && (actor.sees(user) || memberships.iter().any(|it| shares(it.organization_id)))
    }

    /// Whether it takes a user's memberships to say if it exists for an actor.
    pub fn needs_memberships(&self, actor: &Actor, user: &ScopeRow) -> bool {
        user.kind == ScopeKind::User && matches!(actor, Actor::User(_)) && !actor.sees(user)
    }

    /// The scope of a path, whoever asks; what it is shown for has to be checked.
    pub(super) async fn any_scope_at(&self, path: &str) -> Result<Option<ScopeRow>> {
        if path.contains('\0') {
            return Ok(None);
        }
        let key = path.to_lowercase();
        read!(self.store, |db, queries| queries::scopes::by_path(db, &key).await)
    }

    /// A user by login, if it exists for the actor.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` for nobody.
    pub async fn user_at(&self, actor: &Actor, login: &str) -> Result<Option<ScopeRow>> {
        self.may_look(actor)?;
        let Some(user) = self.any_scope_at(login).await? else { return Ok(None) };
        let memberships = if self.needs_memberships(actor, &user) {
            let id = user.id;
            read!(self.store, |db, queries| queries::members::of_user(db, id).await)?
        } else {
            Vec::new()
        };
        Ok(self.knows_user(actor, &user, &memberships).then_some(user))
    }

    /// The scope that a caller names.
    ///
    /// # Errors
    /// `NOT_FOUND` when it does not exist for the actor; `BAD_USER_INPUT` for what is no path.
    pub async fn scope(&self, actor: &Actor, scope: &ScopeRef) -> Result<ScopeRow> {
        let (path, kind) = match scope {
            ScopeRef::Global => ("", ScopeKind::Global),
            ScopeRef::Owner(login) if login.is_empty() || login.contains('/') => {
                return Err(AppError::bad_input(
                    "scope",
                    "owner is the login of a user or an organization, such as acme; a repository is named with repository.",
                ));
            }
            ScopeRef::Owner(login) => (login.as_str(), ScopeKind::Organization),
            ScopeRef::Repository(path) if path.split('/').filter(|part| !part.is_empty()).count() != 2 => {
                return Err(AppError::bad_input(
                    "scope",
                    "repository is the owner and the name with a slash between, such as acme/api.",
                ));
            }
            ScopeRef::Repository(path) => (path.as_str(), ScopeKind::Repository),
        };
        self.scope_at(actor, path).await?.ok_or_else(|| match kind {
            ScopeKind::Organization => AppError::not_found("The user or organization"),
            kind => AppError::not_found(&describe(kind)),
        })
    }

    /// The scope that a caller names in order to change something there, which takes a token that covers `needed`. Whether
    /// the caller manages the scope is asked by what changes it.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` for nobody, `FORBIDDEN` for a runner or a token without the scope, before anything is looked up;
    /// then as [`Fleet::scope`].
    pub async fn scope_to_manage(&self, actor: &Actor, scope: &ScopeRef, needed: AccessTokenScope) -> Result<ScopeRow> {
        actor.user(needed)?;
        self.scope(actor, scope).await
    }

    /// The repository that a caller names in the field `repository`.
    pub(super) async fn repository(&self, actor: &Actor, path: &str) -> Result<ScopeRow> {
        let found = self.scope(actor, &ScopeRef::Repository(path.to_owned())).await;
        found.map_err(|error| AppError { field: error.field.as_ref().map(|_| "repository".into()), ..error })
    }

    /// An account of a kind, if it exists for the actor.
    pub(super) async fn seen_account(&self, actor: &Actor, login: &str, kind: ScopeKind) -> Result<ScopeRow> {
        let found = self.scope_at(actor, login).await?.filter(|scope| scope.kind == kind);
        found.ok_or_else(|| AppError::not_found(&describe(kind)))
    }

    /// An account of either kind, if it exists for the actor.
    pub(super) async fn seen_owner(&self, actor: &Actor, login: &str) -> Result<ScopeRow> {
        let found = self.scope_at(actor, login).await?;
        let found = found.filter(|scope| matches!(scope.kind, ScopeKind::User | ScopeKind::Organization));
        found.ok_or_else(|| AppError::not_found("The user or organization"))
    }

    /// Checks that an actor may read runners at all.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` for nobody, `FORBIDDEN` for a token that may not.
    pub fn may_read_runners(&self, actor: &Actor) -> Result<()> {
        actor.require_reader(AccessTokenScope::ReadRunner)
    }

    /// Checks that an actor may change runners at all.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` for nobody, `FORBIDDEN` for a runner or a token that may not.
    pub fn may_change_runners(&self, actor: &Actor) -> Result<()> {
        actor.user(AccessTokenScope::WriteRunner).map(|_| ())
    }

    /// A runner, if it exists for the actor.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` for nobody, `FORBIDDEN` for a token that may not read runners.
    pub async fn seen_runner(&self, actor: &Actor, id: i64) -> Result<Option<RunnerRow>> {
        actor.require_reader(AccessTokenScope::ReadRunner)?;
        let found = read!(self.store, |db, queries| queries::runners::by_ids(db, vec![id]).await)?.pop();
        Ok(found.filter(|row| actor.sees_runner(row.id, row.owner_id)))
    }

    /// A runner by its UUID, if it exists for the actor.
    ///
    /// # Errors
    /// As [`Fleet::seen_runner`].
    pub async fn seen_runner_by_uuid(&self, actor: &Actor, uuid: Uuid) -> Result<Option<RunnerRow>> {
        actor.require_reader(AccessTokenScope::ReadRunner)?;
        let uuid = uuid.hyphenated().to_string();
        let found = read!(self.store, |db, queries| queries::runners::by_uuid(db, &uuid).await)?;
        Ok(found.filter(|row| actor.sees_runner(row.id, row.owner_id)))
    }

    /// The runners of a scope, or without one all that exist for the actor.
    ///
    /// # Errors
    /// `NOT_FOUND` for a scope that does not exist for the actor, `BAD_USER_INPUT`, `UNAUTHENTICATED`, `FORBIDDEN`.
    pub async fn runner_list(
        &self,
        actor: &Actor,
        scope: Option<&ScopeRow>,
        include_inherited: bool,
        query: &RunnerQuery,
        order: RunnerOrder,
    ) -> Result<RunnerList> {
        actor.require_reader(AccessTokenScope::ReadRunner)?;
        let filter = self.runner_filter(query).await?;
        let Some(scope) = scope else {
            return Ok(RunnerList { parent: RunnerParent::Everything, visible: actor.visible(), filter, order });
        };
        if !actor.sees(scope) {
            return Err(AppError::not_found(&describe(scope.kind)));
        }
        let mut scopes = vec![scope.id];
        if include_inherited {
            scopes.extend([scope.owner_id(), INSTANCE]);
            scopes.sort_unstable();
            scopes.dedup();
        }
        // Whoever sees a scope sees all its runners and those above; a runner sees itself.
        let visible = match actor.visible() {
            Visible::Runner(id) => Visible::Runner(id),
            _ => Visible::Everything,
        };
        Ok(RunnerList { parent: RunnerParent::Scopes(scopes), visible, filter, order })
    }

    /// The runners that a registration token made, for those who manage its scope.
    ///
    /// # Errors
    /// As [`Fleet::runner_list`].
    pub async fn runners_of_token(
        &self,
        actor: &Actor,
        token_id: i64,
        query: &RunnerQuery,
        order: RunnerOrder,
    ) -> Result<RunnerList> {
        actor.require_reader(AccessTokenScope::ReadRunner)?;
        let filter = self.runner_filter(query).await?;
        Ok(RunnerList { parent: RunnerParent::Token(token_id), visible: actor.visible(), filter, order })
    }

    async fn runner_filter(&self, query: &RunnerQuery) -> Result<RunnerFilter> {
        let search = super::names::search("filter", query.search.as_deref())?;
        if query.labels.iter().any(|label| label.contains('\0')) {
            return Err(AppError::bad_input("filter", "The filter has the character U+0000, which no label has."));
        }
        if query.labels.len() > super::names::MOST_LABELS {
            return Err(AppError::bad_input("filter", "At most 100 labels can be asked for."));
        }
        if query.offline_for_seconds.is_some_and(|seconds| seconds < 0) {
            return Err(AppError::bad_input("filter", "offlineForSeconds cannot be negative."));
        }
        if query.offline_for_seconds.is_some() {
            // The database decides this one, so it has to know what memory knows.
            self.presence.write(&self.store).await?;
        }
        let statuses = match &query.statuses {
            Some(statuses) => Some(self.presence.status_filter(statuses, &self.store).await?),
            None => None,
        };
        Ok(RunnerFilter {
            statuses,
            labels: query.labels.clone(),
            search,
            ephemeral: query.ephemeral,
            disabled: query.disabled,
            last_online_before: query.offline_for_seconds.map(|seconds| self.seconds_ago(seconds).as_micros()),
        })
    }

    pub(super) fn seconds_ago(&self, seconds: i64) -> Timestamp {
        self.now() - std::time::Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
    }

    /// Checks that an actor may see the registration tokens of a scope.
    ///
    /// # Errors
    /// `NOT_FOUND`, `FORBIDDEN`, `UNAUTHENTICATED`.
    pub fn may_list_registration_tokens(&self, actor: &Actor, scope: &ScopeRow) -> Result<()> {
        actor.require_manager(scope, AccessTokenScope::ReadRunner)
    }

    /// Checks that a scope exists for an actor, for what hangs on it.
    ///
    /// # Errors
    /// `NOT_FOUND`, `UNAUTHENTICATED`.
    pub fn may_look_into(&self, actor: &Actor, scope: &ScopeRow) -> Result<()> {
        self.may_look(actor)?;
        if actor.sees(scope) { Ok(()) } else { Err(AppError::not_found(&describe(scope.kind))) }
    }

    /// Checks that an actor may see who and what belongs to an account, which is nothing to a runner: it runs other people's
    /// code.
    ///
    /// # Errors
    /// `NOT_FOUND`, `FORBIDDEN` for a runner, `UNAUTHENTICATED`.
    pub fn may_look_around(&self, actor: &Actor, scope: &ScopeRow) -> Result<()> {
        self.may_look_into(actor, scope)?;
        match actor {
            Actor::Runner(_) => {
                Err(AppError::forbidden("A runner sees itself, not the people and repositories of its scope."))
            }
            _ => Ok(()),
        }
    }

    /// How many runners there are of what: in a scope itself, or without one among all that exist for the actor.
    ///
    /// # Errors
    /// `NOT_FOUND`, `FORBIDDEN`, `UNAUTHENTICATED`.
    pub fn summary(&self, actor: &Actor, scope: Option<&ScopeRow>) -> Result<Counts> {
        actor.require_reader(AccessTokenScope::ReadRunner)?;
        if matches!(actor, Actor::Runner(_)) {
            return Err(AppError::forbidden("A runner sees itself and not the fleet. Use a user's access token."));
        }
        if let Some(scope) = scope {
            self.may_look_into(actor, scope)?;
            let live = match scope.kind {
                ScopeKind::Repository => self.board.of_repository(scope.id),
                ScopeKind::Organization | ScopeKind::User => self.board.of_owners(&[scope.id]),
                ScopeKind::Global => self.live_tasks(actor),
            };
            return Ok(with_tasks(self.presence.in_scope(scope.id), live));
        }
        let counts = match actor.visible() {
            Visible::Everything => self.presence.everything(),
            Visible::Owners(owners) => self.presence.of_owners(&owners),
            Visible::Runner(_) => Counts::default(),
        };
        Ok(with_tasks(counts, self.live_tasks(actor)))
    }

    /// The tasks that wait and run among all that exist for an actor.
    fn live_tasks(&self, actor: &Actor) -> Live {
        match actor.visible() {
            Visible::Everything => self.board.everything(),
            Visible::Owners(owners) => self.board.of_owners(&owners),
            Visible::Runner(_) => Live::default(),
        }
    }

    /// The last changes of runners, newest first, those that are not written yet included.
    ///
    /// # Errors
    /// `UNAVAILABLE`.
    pub async fn histories(&self, ids: &[i64]) -> Result<Vec<TransitionRow>> {
        // Memory first: what is written between the two looks is then in both, and never in neither.
        let unwritten = self.presence.unwritten_histories(ids);
        let ids = ids.to_vec();
        let mut rows = read!(self.store, |db, queries| queries::presence::histories(db, ids).await)?;
        rows.extend(unwritten);
        rows.sort_by_key(|row| (row.runner_id, std::cmp::Reverse(row.number)));
        rows.dedup_by_key(|row| (row.runner_id, row.number));
        let mut kept = (0, 0);
        rows.retain(|row| {
            kept = if kept.0 == row.runner_id { (kept.0, kept.1 + 1) } else { (row.runner_id, 1) };
            kept.1 <= HISTORY_LENGTH
        });
        Ok(rows)
    }
}

fn with_tasks(counts: Counts, live: Live) -> Counts {
    let count = |tasks: i64| u32::try_from(tasks.max(0)).unwrap_or(u32::MAX);
    Counts { queued_tasks: count(live.queued), running_tasks: count(live.running), ..counts }
}
