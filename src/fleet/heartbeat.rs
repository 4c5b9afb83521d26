//! The hot path: a heartbeat reads and writes memory and nothing else.

use std::time::Duration;

use secrecy::SecretString;

use super::Fleet;
use super::presence::{Snapshot, next_heartbeat_in};
use crate::auth::Actor;
use crate::clock::Timestamp;
use crate::error::{AppError, Result};
use crate::events::Directive;
use crate::model::PlacementVerdict;
use crate::store::lists::Reach;

/// How long a task that was given out may be missing from what its runner says it works on.
const UNHEARD_OF: Duration = Duration::from_secs(30);
/// Most tasks that a runner can say it works on.
const MOST_RUNNING: usize = 1_000;

/// What a runner says of itself with a heartbeat.
#[derive(Clone, Debug, Default)]
pub struct HeartbeatReport {
    /// The tasks that it works on.
    pub running_task_ids: Option<Vec<i64>>,
    /// How many more it could take.
    pub free_slots: Option<u32>,
}

/// The answer to a heartbeat.
#[derive(Clone, Debug)]
pub struct HeartbeatAnswer {
    /// The runner, as it is now.
    pub runner: Snapshot,
    /// The server's time.
    pub server_time: Timestamp,
    /// When to come again.
    pub next_in_seconds: u64,
    /// What to do.
    pub directives: Vec<Directive>,
}

impl Fleet {
    /// Takes note of an authenticated call of a runner. Everything that a runner does passes here first.
    pub fn hear(&self, actor: &Actor) {
        if let Actor::Runner(runner) = actor {
            self.presence.hear(runner.id);
        }
    }

    /// Takes a heartbeat. It touches the database only when the runner knows nothing of a task that it should have.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` or `FORBIDDEN` for whoever is no runner; `NOT_FOUND` when it was removed a moment ago.
    pub async fn heartbeat(&self, actor: &Actor, report: HeartbeatReport) -> Result<HeartbeatAnswer> {
        let id = actor.runner()?.id;
        let running = report.running_task_ids.as_deref();
        if running.is_some_and(|running| running.len() > MOST_RUNNING) {
            return Err(AppError::bad_input(
                "runningTaskIds",
                format!("A runner works on at most {MOST_RUNNING} tasks at once."),
            ));
        }
        if let Some(free) = report.free_slots
            && self.presence.set_free_slots(id, u16::try_from(free).unwrap_or(u16::MAX))
        {
            self.dispatch.look_again(id);
        }
        let runner = self.presence.heartbeat(id).ok_or_else(|| AppError::not_found("The runner"))?;
        if let Some(running) = running {
            self.lose_unheard_of(id, running).await?;
        }
        let mut directives = self.standing_directives(id, running);
        if let Some(profile) = self.presence.profile(id).filter(|it| it.verdict == PlacementVerdict::Ready)
            && self.board.has_work(Reach::of(profile.scope_id, profile.owner_id), &profile.labels)
        {
            directives.push(Directive::TaskAvailable);
        }
        let settings = &self.settings;
        let next_in_seconds = next_heartbeat_in(
            self.presence.present(),
            settings.max_heartbeats_per_second,
            settings.offline_after,
            &self.rng,
        );
        Ok(HeartbeatAnswer { runner, server_time: self.now(), next_in_seconds, directives })
    }

    /// A runner that was given a task a while ago and does not speak of it never got the answer, or began anew.
    async fn lose_unheard_of(&self, runner_id: i64, running: &[i64]) -> Result<()> {
        let since = self.now() - UNHEARD_OF;
        for held in self.board.held(runner_id) {
            if held.since <= since && !running.contains(&held.task_id) {
                self.lose_task(held.task_id, runner_id).await?;
            }
        }
        Ok(())
    }

    /// Opens a session, which is checked by signature and token generation alone.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` or `FORBIDDEN` for whoever is no runner.
    pub fn open_session(&self, actor: &Actor) -> Result<(SecretString, Timestamp)> {
        self.authenticator.open_session(actor.runner()?)
    }
}
