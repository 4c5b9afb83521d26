//! What can be watched.

mod cleanup;
mod tasks;

use std::time::Duration;

use async_graphql::{Context, ID, MergedSubscription, SimpleObject, Subscription, Union};
use futures_util::stream::{self, Stream};

use super::context::{ContextExt as _, RequestContext};
use super::node_id::{NodeKind, decode_as, encode};
use super::scalars::DateTime;
use super::types::{FleetSummary, Runner, RunnerStatus, ScopeInput};
use crate::error::{AppError, Result};
use crate::events::{Event, EventKind, Occurrence};
use crate::fleet::{Watch, Watched, Watcher};
use crate::store::models::ScopeRow;

/// Shortest time between two values of `fleetSummary`.
const SUMMARY_PAUSE: Duration = Duration::from_secs(1);

/// What can be watched, over WebSocket (graphql-transport-ws) or SSE. A stream ends with an error as soon as its credentials
/// are revoked or its viewer may no longer see what it is about.
#[derive(Default, MergedSubscription)]
pub(super) struct Subscription(FleetSubscriptions, tasks::TaskSubscriptions, cleanup::CleanupSubscriptions);

#[derive(Default)]
struct FleetSubscriptions;

/// A heartbeat that a runner sent.
#[derive(SimpleObject)]
struct Heartbeat {
    /// The runner.
    runner: Runner,
    /// When the heartbeat came.
    at: DateTime,
    /// The runner's status after it.
    status: RunnerStatus,
    /// How many heartbeats were left out just before this one, because the subscriber read too slowly.
    missed_events: u64,
}

/// A change of a runner's status.
#[derive(SimpleObject)]
struct RunnerStatusChange {
    /// The runner.
    runner: Runner,
    /// The status before.
    previous: RunnerStatus,
    /// The status since.
    current: RunnerStatus,
    /// When it changed.
    at: DateTime,
    /// How many changes were left out just before this one, because the subscriber read too slowly. When it is not 0, this
    /// and the following entries tell the current status of every runner that changed meanwhile: nobody's last status is
    /// ever missed.
    missed_events: u64,
}

/// A runner registered, or a known machine registered anew.
#[derive(SimpleObject)]
struct RunnerRegistered {
    /// The runner.
    runner: Runner,
    /// When it registered.
    at: DateTime,
}

/// A runner's record changed: its name, labels, token, or whether it is disabled.
#[derive(SimpleObject)]
struct RunnerUpdated {
    /// The runner as it is now.
    runner: Runner,
    /// When it changed.
    at: DateTime,
}

/// A runner is gone.
#[derive(SimpleObject)]
struct RunnerDeleted {
    /// The id it had.
    deleted_id: ID,
    /// The name it authenticated with.
    uuid: uuid::Uuid,
    /// The name that people saw.
    name: String,
    /// When it went.
    at: DateTime,
}

/// The subscriber read too slowly, and events were left out here. Ask for the list again to know what is true now.
#[derive(SimpleObject)]
struct RunnerEventsMissed {
    /// How many events were left out at least.
    missed_events: u64,
}

/// What happened to a runner's record.
#[derive(Union)]
enum RunnerEvent {
    Registered(RunnerRegistered),
    Updated(RunnerUpdated),
    Deleted(RunnerDeleted),
    Missed(RunnerEventsMissed),
}

#[Subscription]
impl FleetSubscriptions {
    /// Every heartbeat, as it comes.
    async fn heartbeats(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "Only of runners of this scope; without, of all that you may see.")] scope: Option<ScopeInput>,
        #[graphql(desc = "Only of these runners, at most 100.")] runner_ids: Option<Vec<ID>>,
    ) -> Result<impl Stream<Item = Result<Heartbeat, AppError>>, AppError> {
        let watcher = watch(context.request(), vec![EventKind::Heartbeat], scope, runner_ids).await?;
        Ok(events(context, watcher, |occurrence, missed_events| match occurrence.event {
            Event::Heartbeat { status } => Some(Heartbeat {
                runner: Runner::of_id(occurrence.runner_id),
                at: occurrence.at.into(),
                status: status.into(),
                missed_events,
            }),
            _ => None,
        }))
    }

    /// Every change of a runner's status, as it happens: OFFLINE too is told when the deadline passes, not when somebody
    /// looks.
    async fn runner_status_changed(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "Only of runners of this scope; without, of all that you may see.")] scope: Option<ScopeInput>,
        #[graphql(desc = "Only of these runners, at most 100.")] runner_ids: Option<Vec<ID>>,
        #[graphql(desc = "Only changes to one of these statuses.")] to: Option<Vec<RunnerStatus>>,
    ) -> Result<impl Stream<Item = Result<RunnerStatusChange, AppError>>, AppError> {
        let watcher = watch(context.request(), vec![EventKind::Status], scope, runner_ids).await?;
        Ok(events(context, watcher, move |occurrence, missed_events| match occurrence.event {
            Event::StatusChanged { previous, current } => {
                let current = RunnerStatus::from(current);
                to.as_ref().is_none_or(|to| to.contains(&current)).then(|| RunnerStatusChange {
                    runner: Runner::of_id(occurrence.runner_id),
                    previous: previous.into(),
                    current,
                    at: occurrence.at.into(),
                    missed_events,
                })
            }
            _ => None,
        }))
    }

    /// Runners that register, change or go.
    async fn runner_events(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "Only of runners of this scope; without, of all that you may see.")] scope: Option<ScopeInput>,
    ) -> Result<impl Stream<Item = Result<RunnerEvent, AppError>>, AppError> {
        let watcher = watch(context.request(), vec![EventKind::Runner], scope, None).await?;
        let request = context.data_unchecked::<std::sync::Arc<RequestContext>>().clone();
        Ok(stream::unfold(watcher, move |mut watcher| {
            let request = request.clone();
            async move {
                loop {
                    let event = match watcher.next().await? {
                        Err(error) => return Some((Err(error), watcher)),
                        Ok(Watched::Missed(missed_events)) => RunnerEvent::Missed(RunnerEventsMissed { missed_events }),
                        Ok(Watched::Occurrence(occurrence)) => match runner_event(&occurrence) {
                            Some(event) => event,
                            None => continue,
                        },
                    };
                    request.begin_answer(watcher.actor());
                    return Some((Ok(event), watcher));
                }
            }
        }))
    }

    /// How many runners there are of what, and how much work: the first value at once, then at most one a second, and only when it changed.
    async fn fleet_summary(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "Of the runners of this scope; without, of all that you may see.")] scope: Option<ScopeInput>,
    ) -> Result<impl Stream<Item = Result<FleetSummary, AppError>>, AppError> {
        let request = context.data_unchecked::<std::sync::Arc<RequestContext>>().clone();
        let scope = named(&request, scope).await?;
        // Refused before the stream opens, and not with each of its values.
        request.fleet.summary(&request.actor(), scope.as_ref())?;
        let kinds = vec![EventKind::Status, EventKind::Runner, EventKind::Task];
        let watch = Watch { kinds, scope: scope.clone(), runner_ids: None, task_id: None };
        let watcher = request.fleet.watch(&request.actor(), watch).await?;
        let summary = Summary { request, scope, watcher, last: None, is_over: false };
        Ok(stream::unfold(summary, |mut summary| async move {
            let value = summary.next().await?;
            Some((value, summary))
        }))
    }
}

/// The state of one `fleetSummary`.
struct Summary {
    request: std::sync::Arc<RequestContext>,
    scope: Option<ScopeRow>,
    watcher: Watcher,
    last: Option<(FleetSummary, crate::clock::Timestamp)>,
    is_over: bool,
}

impl Summary {
    async fn next(&mut self) -> Option<Result<FleetSummary>> {
        if self.is_over {
            return None;
        }
        let clock = self.request.fleet.clock.clone();
        let mut is_stale = self.last.is_none();
        loop {
            let due = self.last.map(|(_, at)| at + SUMMARY_PAUSE);
            let pause = async {
                match due.filter(|_| is_stale) {
                    Some(due) => clock.sleep_until(due).await,
                    None if is_stale => {}
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                event = self.watcher.next() => match event? {
                    Ok(_) => is_stale = true,
                    Err(error) => return Some(Err(error)),
                },
                () = pause => {
                    is_stale = false;
                    let counts = match self.request.fleet.summary(self.watcher.actor(), self.scope.as_ref()) {
                        Ok(counts) => FleetSummary::from(counts),
                        Err(error) => {
                            self.is_over = true;
                            return Some(Err(error));
                        }
                    };
                    if self.last.is_none_or(|(last, _)| last != counts) {
                        self.last = Some((counts, clock.now()));
                        return Some(Ok(counts));
                    }
                }
            }
        }
    }
}

async fn named(request: &RequestContext, scope: Option<ScopeInput>) -> Result<Option<ScopeRow>> {
    match scope {
        Some(scope) => Ok(Some(request.fleet.scope(&request.actor(), &scope.reference()?).await?)),
        None => Ok(None),
    }
}

async fn watch(
    request: &RequestContext,
    kinds: Vec<EventKind>,
    scope: Option<ScopeInput>,
    runner_ids: Option<Vec<ID>>,
) -> Result<Watcher> {
    let ids = runner_ids.map(|ids| {
        let ids = ids.iter().map(|id| decode_as(NodeKind::Runner, "runnerIds", id));
        ids.collect::<Result<Vec<_>>>()
    });
    let (scope, runner_ids) = (named(request, scope).await?, ids.transpose()?);
    request.fleet.watch(&request.actor(), Watch { kinds, scope, runner_ids, task_id: None }).await
}

/// Makes a stream of what a watcher sees. A gap is told with the next entry.
fn events<T, E>(context: &Context<'_>, watcher: Watcher, entry: E) -> impl Stream<Item = Result<T>> + use<T, E>
where
    T: Send + 'static,
    E: Fn(&Occurrence, u64) -> Option<T> + Send + Sync + Clone + 'static,
{
    let request = context.data_unchecked::<std::sync::Arc<RequestContext>>().clone();
    stream::unfold((watcher, 0), move |(mut watcher, mut missed)| {
        let (request, entry) = (request.clone(), entry.clone());
        async move {
            loop {
                match watcher.next().await? {
                    Err(error) => return Some((Err(error), (watcher, 0))),
                    Ok(Watched::Missed(more)) => missed += more,
                    Ok(Watched::Occurrence(occurrence)) => {
                        if let Some(entry) = entry(&occurrence, missed) {
                            request.begin_answer(watcher.actor());
                            return Some((Ok(entry), (watcher, 0)));
                        }
                    }
                }
            }
        }
    })
}

fn runner_event(occurrence: &Occurrence) -> Option<RunnerEvent> {
    let (runner, at) = (Runner::of_id(occurrence.runner_id), occurrence.at.into());
    match &occurrence.event {
        Event::RunnerRegistered => Some(RunnerEvent::Registered(RunnerRegistered { runner, at })),
        Event::RunnerUpdated => Some(RunnerEvent::Updated(RunnerUpdated { runner, at })),
        Event::RunnerDeleted { uuid, name } => Some(RunnerEvent::Deleted(RunnerDeleted {
            deleted_id: encode(NodeKind::Runner, occurrence.runner_id),
            uuid: *uuid,
            name: name.clone(),
            at,
        })),
        _ => None,
    }
}
