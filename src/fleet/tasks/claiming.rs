//! How a runner gets a task: exactly one runner for each, and without asking over and over.

use std::time::Duration;

use futures_util::StreamExt as _;
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

use super::dispatch::{Ticket, Via};
use super::machine::Input;
use super::{Moved, changes, plan, relabelled};
use crate::auth::{Actor, RunnerActor};
use crate::error::{AppError, Result};
use crate::events::{EventKind, Topic};
use crate::fleet::Fleet;
use crate::fleet::presence::Profile;
use crate::model::PlacementVerdict;
use crate::store::lists::Reach;
use crate::store::models::TaskRow;

/// Longest wait of one call, in seconds.
const LONGEST_WAIT: i64 = 30;
/// Looks at the head of the queue in one transaction: others may be taking what was seen there. What is left over is looked after
/// a moment later.
const MOST_LOOKS: usize = 5;
/// When a task is offered again of which it is not certain that somebody has it.
const CHECK_AFTER: Duration = Duration::from_secs(1);

/// A task on its way to a runner.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The task.
    pub task: TaskRow,
    /// What it carries, as JSON.
    pub payload: String,
    /// What it may show to others as proof of what it is.
    pub job_token: SecretString,
}

/// What a look into the queue found.
enum Claim {
    /// A task, which the runner has now.
    Got(Box<Fetched>),
    /// Nothing that the runner could take.
    Nothing,
    /// The runner gets no work, whatever there is.
    NotNow,
}

/// What the transaction of a claim did.
#[derive(Default)]
struct Taken {
    fetched: Option<Fetched>,
    moved: Vec<Moved>,
    is_refused: bool,
}

impl Fleet {
    /// Gives the runner a task, or waits for one for so many seconds. `caller_gone` is cancelled when nobody waits for the
    /// answer any more: then no task is taken, and one that was goes back.
    ///
    /// # Errors
    /// `BAD_USER_INPUT`; `UNAUTHENTICATED` or `FORBIDDEN` for whoever is no runner, also when the credentials end while it waits.
    pub async fn fetch_task(
        &self,
        actor: &Actor,
        wait_seconds: i64,
        caller_gone: &CancellationToken,
    ) -> Result<Option<Fetched>> {
        let runner = *actor.runner()?;
        if !(0..=LONGEST_WAIT).contains(&wait_seconds) {
            return Err(AppError::bad_input(
                "waitSeconds",
                format!("waitSeconds is from 0 to {LONGEST_WAIT}, not {wait_seconds}. Call again when nothing came."),
            ));
        }
        let wait = Duration::from_secs(u64::try_from(wait_seconds).unwrap_or(0));
        let deadline = self.now() + wait;
        let mut access = self.bus.subscribe(&[EventKind::Access], [Topic::Runner(runner.id)]);
        let profile = self.profile(&runner)?;
        // First the place among those who wait, then the look: a task that is committed meanwhile is offered.
        let ticket = self.dispatch.join(runner.id, profile.scope_id, profile.labels, Via::Fetch);
        let mut hear_at = self.now() + self.hearing_interval();
        loop {
            let offered = ticket.begin();
            let profile = self.profile(&runner)?;
            ticket.carry(&profile.labels);
            match self.claim(&runner, &profile).await {
                Ok(Claim::Got(fetched)) => return Ok(self.deliver(*fetched, offered, &ticket, caller_gone).await),
                // Usually somebody else has it; but it may be that it only seemed so.
                Ok(Claim::Nothing) => self.check_soon(offered),
                Ok(Claim::NotNow) => {
                    for offer in [offered, ticket.step_aside()].into_iter().flatten() {
                        self.pass_on(offer);
                    }
                }
                Err(error) => {
                    self.check_soon(offered);
                    return Err(error);
                }
            }
            if wait.is_zero() {
                return Ok(None);
            }
            loop {
                tokio::select! {
                    biased;
                    () = caller_gone.cancelled() => return Ok(None),
                    // Its token was rotated, it was removed, or so many such things happened that some were missed.
                    _ = access.next() => { self.authenticator.again(actor).await?; }
                    () = ticket.called() => break,
                    () = self.closing.cancelled() => return Ok(None),
                    () = self.clock.sleep_until(deadline) => return Ok(None),
                    // Whoever waits is here.
                    () = self.clock.sleep_until(hear_at) => {
                        hear_at = self.now() + self.hearing_interval();
                        self.presence.hear(runner.id);
                    }
                }
            }
        }
    }

    /// A task is offered again in a moment, if it still waits then.
    fn check_soon(&self, offer: Option<super::Offer>) {
        if let Some(offer) = offer {
            self.dispatch.check_later(offer, self.now() + CHECK_AFTER);
        }
    }

    /// How often somebody who holds a connection open is taken note of.
    pub(super) fn hearing_interval(&self) -> Duration {
        (self.settings.offline_after / 4).min(Duration::from_secs(10))
    }

    pub(super) fn profile(&self, runner: &RunnerActor) -> Result<Profile> {
        self.presence.profile(runner.id).ok_or_else(|| AppError::not_found("The runner"))
    }

    /// The last moment before the answer: does anybody still want it?
    async fn deliver(
        &self,
        fetched: Fetched,
        offered: Option<super::Offer>,
        ticket: &Ticket,
        caller_gone: &CancellationToken,
    ) -> Option<Fetched> {
        let unused = [offered, ticket.take_offer()];
        for offer in unused.into_iter().flatten().filter(|offer| offer.task_id != fetched.task.id) {
            self.pass_on(offer);
        }
        if !caller_gone.is_cancelled() {
            return Some(fetched);
        }
        if let Err(error) = self.take_back(&fetched.task).await {
            tracing::warn!(task = fetched.task.id, %error, "a task whose runner went away could not be queued again at once");
        }
        None
    }

    /// A task never reached its runner: it goes back as if it had not been given out, and so does the one task of an ephemeral
    /// runner.
    async fn take_back(&self, task: &TaskRow) -> Result<()> {
        let (id, attempt) = (task.id, task.attempt);
        let Some(runner_id) = task.runner_id else { return Ok(()) };
        let (now, times, ids) = (self.now(), self.settings.tasks.times, self.ids.clone());
        let moved = transact!(self.store, |db, queries| {
            queries::runners::lock_for_work(db, runner_id).await?;
            let before = queries::tasks::lock(db, id).await?;
            let before = before.filter(|now| now.attempt == attempt && now.runner_id == Some(runner_id));
            let Some(before) = before.filter(|now| now.status.is_held()) else { return Ok(None) };
            let Some(plan) = plan::plan(&before, Input::Undelivered, now, &times)? else { return Ok(None) };
            let mut changes = changes!(queries, &before, &plan, now.as_micros());
            changes.label_node = relabelled!(db, queries, &before, &plan, now, ids);
            let after = queries::tasks::apply(db, id, changes).await?;
            queries::runners::set_used(db, runner_id, None).await?;
            Ok(Some(Moved { before, after }))
        });
        if let Some(moved) = self.doubting(moved)? {
            self.presence.set_used(runner_id, false);
            self.task_moved(&moved);
        }
        Ok(())
    }

    async fn claim(&self, runner: &RunnerActor, profile: &Profile) -> Result<Claim> {
        if profile.verdict == PlacementVerdict::Disabled {
            return Ok(Claim::NotNow);
        }
        let reach = Reach::of(profile.scope_id, profile.owner_id);
        let labels = profile.labels.clone();
        let since = self.labels_used_since();
        let heads = read!(self.store, |db, queries| queries::tasks::queue_heads(db, reach, &labels, since).await)?;
        if heads.is_empty() {
            return Ok(Claim::Nothing);
        }
        let taken = self.take(runner.id, reach).await;
        let taken = self.doubting(taken)?;
        for moved in &taken.moved {
            self.task_moved(moved);
        }
        let Some(fetched) = taken.fetched else {
            return Ok(if taken.is_refused { Claim::NotNow } else { Claim::Nothing });
        };
        self.presence.set_used(runner.id, true);
        self.presence.work(runner.id);
        // Its stream tells it of no more than it has room for.
        self.dispatch.look_again(runner.id);
        Ok(Claim::Got(Box::new(fetched)))
    }

    /// Takes the first task that the runner can run, in one transaction that locks the runner and then the task.
    async fn take(&self, runner_id: i64, reach: Reach) -> Result<Taken> {
        let (now, times, fleet) = (self.now(), self.settings.tasks.times, self.clone());
        let since = self.labels_used_since();
        transact!(self.store, |db, queries| {
            let mut taken = Taken::default();
            let runner = queries::runners::lock_for_work(db, runner_id).await?;
            let runner = runner.ok_or_else(|| AppError::not_found("The runner"))?;
            if runner.disabled || (runner.ephemeral && runner.used_at.is_some()) {
                return Ok(Taken { is_refused: true, ..taken });
            }
            let labels = queries::runners::labels(db, vec![runner_id]).await?;
            let labels: Vec<String> = labels.into_iter().map(|(_, label)| label).collect();
            for _ in 0..MOST_LOOKS {
                let heads = queries::tasks::queue_heads(db, reach, &labels, since).await?;
                if heads.is_empty() {
                    break;
                }
                let Some(before) = queries::tasks::lock_first(db, &heads).await? else {
                    // Each of them is being taken by somebody: the next look sees what is left.
                    tokio::task::yield_now().await;
                    continue;
                };
                let payload = queries::tasks::payloads(db, vec![before.id]).await?.pop().map(|row| row.payload);
                let payload = payload.filter(|text| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok());
                let repository = queries::scopes::by_ids(db, vec![before.repository_id]).await?.pop();
                let (Some(payload), Some(repository)) = (payload, repository) else {
                    // It would stand in front of the queue for ever.
                    if let Some(plan) = plan::plan(&before, Input::Broken, now, &times)? {
                        let changes = changes!(queries, &before, &plan, now.as_micros());
                        let after = queries::tasks::apply(db, before.id, changes).await?;
                        taken.moved.push(Moved { before, after });
                    }
                    continue;
                };
                let Some(plan) = plan::plan(&before, Input::Claimed, now, &times)? else { continue };
                let mut changes = changes!(queries, &before, &plan, now.as_micros());
                changes.runner_id = Some(Some(runner_id));
                changes.runner_name = Some(Some(runner.name.clone()));
                changes.runner_uuid = Some(Some(runner.uuid.clone()));
                let after = queries::tasks::apply(db, before.id, changes).await?;
                queries::tasks::put_attempt(db, after.id, after.attempt, runner_id, now.as_micros()).await?;
                if runner.ephemeral {
                    queries::runners::set_used(db, runner_id, Some(now.as_micros())).await?;
                }
                let lifetime = Duration::from_secs(u64::try_from(after.timeout_seconds).unwrap_or(0))
                    + times.cancel_timeout
                    + times.late_reports;
                let job_token = fleet
                    .job_tokens
                    .sign(after.id, &repository.path, after.attempt, now, lifetime)
                    .map_err(AppError::internal)?;
                taken.moved.push(Moved { before, after: after.clone() });
                taken.fetched = Some(Fetched { task: after, payload, job_token });
                break;
            }
            Ok(taken)
        })
    }

    /// What a job token was made for, while its task runs.
    ///
    /// # Errors
    /// `UNAVAILABLE`.
    pub async fn verify_job_token(&self, token: &SecretString) -> Result<Option<crate::auth::JobClaims>> {
        let Some(claims) = self.job_tokens.read(token, self.now()) else { return Ok(None) };
        let id = claims.task_id;
        let task = read!(self.store, |db, queries| queries::tasks::by_ids(db, vec![id]).await)?.pop();
        Ok(task.filter(|task| task.status.is_held() && task.attempt == claims.attempt).map(|_| claims))
    }
}
