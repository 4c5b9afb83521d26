//! Who may watch what, for as long as it may: streams of events that end with the right to see them.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use futures_util::StreamExt as _;

use super::Fleet;
use super::presence::Snapshot;
use crate::auth::Actor;
use crate::clock::Timestamp;
use crate::error::{AppError, Result};
use crate::events::{AccessChange, Event, EventKind, Missed, Occurrence, Subscription, Topic};
use crate::model::{AccessTokenScope, ScopeKind};
use crate::store::lists::Visible;
use crate::store::models::{ScopeRow, TaskRow};

/// Most runners of one subscription.
const MOST_RUNNERS: usize = 100;

/// What is to be watched.
#[derive(Clone, Debug)]
pub struct Watch {
    /// Events of these kinds.
    pub kinds: Vec<EventKind>,
    /// Of runners of this scope; without, of all that exist for the actor.
    pub scope: Option<ScopeRow>,
    /// Of these runners only.
    pub runner_ids: Option<Vec<i64>>,
    /// Of this task only.
    pub task_id: Option<i64>,
}

impl Watch {
    /// What an access token must cover for this.
    fn needed(&self) -> AccessTokenScope {
        let is_of_tasks = self.kinds.iter().all(|kind| matches!(kind, EventKind::Task | EventKind::Log));
        if is_of_tasks { AccessTokenScope::ReadTask } else { AccessTokenScope::ReadRunner }
    }
}

/// What a watcher gets.
#[derive(Clone, Debug)]
pub enum Watched {
    /// Something happened.
    Occurrence(Arc<Occurrence>),
    /// So many events were missed at least, because the watcher was too slow. What follows is what is true now.
    Missed(u64),
}

/// An open watch.
pub struct Watcher {
    fleet: Fleet,
    actor: Actor,
    watch: Watch,
    /// The runners of `watch.runner_ids` with the account above each.
    runners: Vec<(i64, i64)>,
    /// The task of `watch.task_id`, as it was.
    task: Option<TaskRow>,
    events: Subscription,
    access: Subscription,
    ready: VecDeque<Watched>,
    /// When the last event that was handed out happened: after a gap, what changed since is told again.
    seen_until: Timestamp,
    /// What was told after a gap, so that the same change does not come twice.
    told: HashMap<i64, Timestamp>,
    is_over: bool,
    /// Rights may have changed: nothing is told before they were looked at again. A field, since whoever waits for the next
    /// event may give up in the middle of the look.
    needs_check: bool,
}

impl Fleet {
    /// Begins to watch.
    ///
    /// # Errors
    /// `NOT_FOUND` for a scope or a runner that does not exist for the actor, `BAD_USER_INPUT`, `UNAUTHENTICATED`,
    /// `FORBIDDEN`.
    pub async fn watch(&self, actor: &Actor, watch: Watch) -> Result<Watcher> {
        actor.require_reader(watch.needed())?;
        if matches!(actor, Actor::Runner(_)) && watch.needed() == AccessTokenScope::ReadTask {
            return Err(AppError::forbidden(
                "A runner is told of its tasks by fetchTask, heartbeat and runnerDirectives. Use a user's access token.",
            ));
        }
        if let Some(scope) = &watch.scope {
            self.may_look_into(actor, scope)?;
        }
        let runners = match &watch.runner_ids {
            Some(ids) => self.watched_runners(actor, ids, watch.scope.as_ref()).await?,
            None => Vec::new(),
        };
        let task = match watch.task_id {
            Some(id) => Some(self.seen_task(actor, id).await?),
            None => None,
        };
        let is_elsewhere = |task: &TaskRow, scope: &ScopeRow| {
            scope.kind != ScopeKind::Global && ![task.repository_id, task.owner_id].contains(&scope.id)
        };
        if let (Some(task), Some(scope)) = (&task, &watch.scope)
            && is_elsewhere(task, scope)
        {
            return Err(AppError::not_found("The task"));
        }
        // Rights first: a change of them between the check and the first event must not be missed.
        let access = self.bus.subscribe(&[EventKind::Access], [Topic::Everything]);
        let events = self.bus.subscribe_each(topics(actor, &watch, &runners));
        let mut watcher = Watcher {
            fleet: self.clone(),
            actor: actor.clone(),
            watch,
            runners,
            task,
            events,
            access,
            ready: VecDeque::new(),
            seen_until: self.now(),
            told: HashMap::new(),
            is_over: false,
            needs_check: false,
        };
        watcher.check_again().await?;
        Ok(watcher)
    }

    async fn watched_runners(&self, actor: &Actor, ids: &[i64], scope: Option<&ScopeRow>) -> Result<Vec<(i64, i64)>> {
        if ids.is_empty() || ids.len() > MOST_RUNNERS {
            return Err(AppError::bad_input(
                "runnerIds",
                format!("Name 1 to {MOST_RUNNERS} runners, or leave runnerIds out to watch all of a scope."),
            ));
        }
        let wanted = ids.to_vec();
        let rows = read!(self.store, |db, queries| queries::runners::by_ids(db, wanted).await)?;
        let runners: Vec<(i64, i64)> = rows
            .iter()
            .filter(|row| actor.sees_runner(row.id, row.owner_id))
            .filter(|row| scope.is_none_or(|scope| scope.id == row.scope_id))
            .map(|row| (row.id, row.owner_id))
            .collect();
        if ids.iter().all(|id| runners.iter().any(|(runner, _)| runner == id)) {
            Ok(runners)
        } else {
            Err(AppError::not_found("A runner of runnerIds"))
        }
    }
}

/// The topics of a watch, for each kind of event. They do not overlap.
fn topics(actor: &Actor, watch: &Watch, runners: &[(i64, i64)]) -> Vec<(EventKind, Topic)> {
    let of_kind = |kind: EventKind| {
        let topics = match kind {
            EventKind::Task | EventKind::Log => task_topics(actor, watch),
            _ => runner_topics(actor, watch, runners),
        };
        topics.into_iter().map(move |topic| (kind, topic))
    };
    watch.kinds.iter().copied().flat_map(of_kind).collect()
}

/// Tasks belong to repositories: those of an account are told to whoever watches it, and those of the instance are all.
fn task_topics(actor: &Actor, watch: &Watch) -> Vec<Topic> {
    if let Some(id) = watch.task_id {
        return vec![Topic::Task(id)];
    }
    match watch.scope.as_ref().map(|scope| (scope.kind, scope.id)) {
        Some((ScopeKind::Repository, id)) => vec![Topic::Scope(id)],
        Some((ScopeKind::Organization | ScopeKind::User, id)) => vec![Topic::Owner(id)],
        Some((ScopeKind::Global, _)) | None => wide_topics(actor),
    }
}

/// All that exist for an actor.
fn wide_topics(actor: &Actor) -> Vec<Topic> {
    match actor.visible() {
        Visible::Everything => vec![Topic::Everything],
        Visible::Owners(owners) => owners.into_iter().map(Topic::Owner).collect(),
        Visible::Runner(id) => vec![Topic::Runner(id)],
    }
}

fn runner_topics(actor: &Actor, watch: &Watch, runners: &[(i64, i64)]) -> Vec<Topic> {
    if watch.runner_ids.is_some() {
        let mut ids: Vec<i64> = runners.iter().map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids.dedup();
        return ids.into_iter().map(Topic::Runner).collect();
    }
    match (&watch.scope, actor.visible()) {
        (_, Visible::Runner(id)) => vec![Topic::Runner(id)],
        (Some(scope), _) => vec![Topic::Scope(scope.id)],
        (None, _) => wide_topics(actor),
    }
}

impl Watcher {
    /// The next event; after an error nothing more comes.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` when the credentials ended, `FORBIDDEN` when the right to see did.
    pub async fn next(&mut self) -> Option<Result<Watched>> {
        if self.is_over {
            return None;
        }
        loop {
            if self.needs_check {
                if let Err(error) = self.check_again().await {
                    self.is_over = true;
                    return Some(Err(error));
                }
                self.needs_check = false;
            }
            if let Some(watched) = self.ready.pop_front() {
                return Some(Ok(watched));
            }
            let expiry = self.fleet.clock.sleep_until_any(self.actor.expires_at());
            tokio::select! {
                biased;
                change = self.access.next() => {
                    self.needs_check = !matches!(change, Some(Ok(change)) if !self.concerns(&change.event));
                }
                () = expiry => self.needs_check = true,
                event = self.events.next() => match event {
                    Some(Ok(occurrence)) => self.take(occurrence),
                    Some(Err(Missed(missed))) => self.start_over(missed),
                    None => return None,
                },
            }
        }
    }

    fn concerns(&self, event: &Event) -> bool {
        let Event::AccessChanged(change) = event else { return false };
        match (change, &self.actor) {
            (AccessChange::User(id), Actor::User(user)) => user.id == *id,
            (AccessChange::Runner(id), Actor::Runner(runner)) => runner.id == *id,
            (AccessChange::Scope(id), _) => {
                self.watch.scope.as_ref().is_some_and(|scope| scope.id == *id)
                    || self.task.as_ref().is_some_and(|task| [task.repository_id, task.owner_id].contains(id))
            }
            _ => false,
        }
    }

    /// Shows the credentials again, and watches what they allow now.
    async fn check_again(&mut self) -> Result<()> {
        let actor = self.fleet.authenticator.again(&self.actor).await?;
        let lost = |what: &str| AppError::forbidden(format!("You may no longer see {what}; the stream ends."));
        actor.require_reader(self.watch.needed())?;
        if let Some(task) = &self.task {
            let id = task.id;
            // A log that goes with its task is complete; nothing more happens to the task itself.
            let is_gone = self.watch.kinds.contains(&EventKind::Task)
                && read!(self.fleet.store, |db, queries| queries::tasks::by_ids(db, vec![id]).await)?.is_empty();
            if is_gone || !self.fleet.sees_task(&actor, task) {
                return Err(lost("the task"));
            }
        }
        if let Some(scope) = &self.watch.scope {
            let id = scope.id;
            let found = read!(self.fleet.store, |db, queries| queries::scopes::by_ids(db, vec![id]).await)?;
            if !found.iter().any(|scope| actor.sees(scope)) {
                return Err(lost("the scope"));
            }
        }
        if self.runners.iter().any(|(id, owner)| !actor.sees_runner(*id, *owner)) {
            return Err(lost("one of the runners"));
        }
        let before = topics(&self.actor, &self.watch, &self.runners);
        self.actor = actor;
        if topics(&self.actor, &self.watch, &self.runners) != before {
            self.start_over(0);
        }
        Ok(())
    }

    fn take(&mut self, occurrence: Arc<Occurrence>) {
        let is_told = matches!(occurrence.event, Event::StatusChanged { .. })
            && self.told.get(&occurrence.runner_id).is_some_and(|told| occurrence.at <= *told);
        if is_told {
            return;
        }
        self.seen_until = self.seen_until.max(occurrence.at);
        self.ready.push_back(Watched::Occurrence(occurrence));
    }

    /// After a gap: watches afresh, and tells the current status of every runner whose status changed meanwhile. First the
    /// watching, then the look, so that nothing falls between.
    fn start_over(&mut self, missed: u64) {
        self.events = self.fleet.bus.subscribe_each(topics(&self.actor, &self.watch, &self.runners));
        self.told.clear();
        if missed > 0 {
            self.ready.push_back(Watched::Missed(missed));
        }
        if !self.watch.kinds.contains(&EventKind::Status) {
            return;
        }
        let mut changed = self.fleet.presence.changed_since(self.seen_until);
        changed.retain(|runner| self.covers(runner));
        changed.sort_by_key(|runner| (runner.status_since, runner.id));
        for runner in changed {
            self.told.insert(runner.id, runner.status_since);
            self.seen_until = self.seen_until.max(runner.status_since);
            self.ready.push_back(Watched::Occurrence(Arc::new(Occurrence {
                event: Event::StatusChanged { previous: runner.previous, current: runner.status },
                runner_id: runner.id,
                scope_id: runner.scope_id,
                owner_id: runner.owner_id,
                at: runner.status_since,
            })));
        }
    }

    fn covers(&self, runner: &Snapshot) -> bool {
        if self.watch.runner_ids.is_some() {
            return self.runners.iter().any(|(id, _)| *id == runner.id);
        }
        self.actor.sees_runner(runner.id, runner.owner_id)
            && self.watch.scope.as_ref().is_none_or(|scope| scope.id == runner.scope_id)
    }

    /// The actor, as of the last check.
    pub const fn actor(&self) -> &Actor {
        &self.actor
    }
}
