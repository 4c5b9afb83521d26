//! What a runner is told as it happens. Being on this stream is a heartbeat.

use std::collections::VecDeque;

use futures_util::StreamExt as _;

use super::dispatch::{Ticket, Via};
use crate::auth::{Actor, RunnerActor};
use crate::clock::Timestamp;
use crate::error::Result;
use crate::events::{Directive, Event, EventKind, Subscription, Topic};
use crate::fleet::Fleet;
use crate::model::PlacementVerdict;
use crate::store::lists::Reach;

/// An open stream of directives.
pub struct DirectiveStream {
    fleet: Fleet,
    actor: Actor,
    runner: RunnerActor,
    ticket: Ticket,
    events: Subscription,
    access: Subscription,
    ready: VecDeque<Directive>,
    /// When the runner is taken note of again.
    hear_at: Timestamp,
    /// The end of the token's life that was told, so that it is told once.
    told_rotation: Option<Timestamp>,
    needs_check: bool,
    needs_look: bool,
    is_over: bool,
}

impl Fleet {
    /// Begins to tell a runner what to do, beginning with what it would be told now.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` or `FORBIDDEN` for whoever is no runner.
    pub async fn directives(&self, actor: &Actor) -> Result<DirectiveStream> {
        let runner = *actor.runner()?;
        let profile = self.profile(&runner)?;
        let mut stream = DirectiveStream {
            access: self.bus.subscribe(&[EventKind::Access], [Topic::Runner(runner.id)]),
            events: self.bus.subscribe(&[EventKind::Directive], [Topic::Runner(runner.id)]),
            ticket: self.dispatch.join(runner.id, profile.scope_id, profile.labels, Via::Stream),
            fleet: self.clone(),
            actor: self.authenticator.again(actor).await?,
            runner,
            ready: VecDeque::new(),
            hear_at: self.now(),
            told_rotation: None,
            needs_check: false,
            needs_look: true,
            is_over: false,
        };
        stream.ready.extend(self.standing_directives(runner.id, None));
        Ok(stream)
    }

    /// What a runner is told whenever it asks. `running`: the tasks that it works on, if it says so.
    pub(in crate::fleet) fn standing_directives(&self, runner_id: i64, running: Option<&[i64]>) -> Vec<Directive> {
        let mut directives = Vec::new();
        let Some(known) = self.presence.get(runner_id) else { return directives };
        if known.disabled {
            directives.push(Directive::Drain);
        }
        let held = self.board.held(runner_id);
        directives.extend(held.iter().filter(|it| it.is_cancelling).map(|it| Directive::CancelTask(it.task_id)));
        // What it works on without having it was taken away meanwhile.
        let lost = running.into_iter().flatten().filter(|id| held.iter().all(|it| it.task_id != **id));
        directives.extend(lost.map(|id| Directive::CancelTask(*id)));
        directives.extend(self.rotation_due(known.token_issued_at).map(Directive::RotateToken));
        directives
    }

    /// When a runner's token ends, once it is time to get another: at three quarters of its life.
    fn rotation_due(&self, issued_at: Timestamp) -> Option<Timestamp> {
        let age = self.settings.token_max_age;
        let is_due = !age.is_zero() && self.now() >= issued_at + age / 4 * 3;
        is_due.then_some(issued_at + age)
    }
}

impl DirectiveStream {
    /// The next directive; after an error nothing more comes.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` when the credentials ended.
    pub async fn next(&mut self) -> Option<Result<Directive>> {
        loop {
            if let Some(directive) = self.ready.pop_front() {
                return Some(Ok(directive));
            }
            if self.is_over {
                return None;
            }
            if let Err(error) = self.check().await {
                self.is_over = true;
                return Some(Err(error));
            }
            if self.ready.is_empty() {
                self.wait().await;
            }
        }
    }

    /// Does what an event asked for. Fields and not the events themselves tell of it, since whoever waits for the next directive
    /// may give up in the middle.
    async fn check(&mut self) -> Result<()> {
        if self.needs_check {
            self.actor = self.fleet.authenticator.again(&self.actor).await?;
            self.needs_check = false;
        }
        if self.needs_look {
            self.look().await?;
            self.needs_look = false;
        }
        Ok(())
    }

    async fn wait(&mut self) {
        let clock = self.fleet.clock.clone();
        let expiry = clock.sleep_until_any(self.actor.expires_at());
        tokio::select! {
            biased;
            _ = self.access.next() => self.needs_check = true,
            () = expiry => self.needs_check = true,
            event = self.events.next() => match event {
                Some(Ok(occurrence)) => {
                    if let Event::Directed(directive) = &occurrence.event {
                        self.ready.push_back(*directive);
                    }
                }
                // What was missed is told from what is true now.
                _ => self.ready.extend(self.fleet.standing_directives(self.runner.id, None)),
            },
            () = self.ticket.called() => self.needs_look = true,
            () = clock.sleep_until(self.hear_at) => {
                self.hear_at = self.fleet.now() + self.fleet.hearing_interval();
                if let Some(known) = self.fleet.presence.heartbeat(self.runner.id) {
                    let due = self.fleet.rotation_due(known.token_issued_at);
                    if due.is_some() && due != self.told_rotation {
                        self.told_rotation = due;
                        self.ready.extend(due.map(Directive::RotateToken));
                    }
                }
            }
        }
    }

    /// Looks whether there is work, and tells of it if the runner has room.
    async fn look(&mut self) -> Result<()> {
        // What was offered is for whoever fetches first; if nobody does, it is offered again.
        drop(self.ticket.begin());
        let profile = self.fleet.profile(&self.runner)?;
        self.ticket.carry(&profile.labels);
        if profile.verdict != PlacementVerdict::Ready {
            // Whatever makes it ready calls it.
            if let Some(offer) = self.ticket.step_aside() {
                self.fleet.pass_on(offer);
            }
            return Ok(());
        }
        let reach = Reach::of(profile.scope_id, profile.owner_id);
        let labels = profile.labels;
        let since = self.fleet.labels_used_since();
        let heads =
            read!(self.fleet.store, |db, queries| queries::tasks::queue_heads(db, reach, &labels, since).await)?;
        if !heads.is_empty() {
            self.ready.push_back(Directive::TaskAvailable);
        }
        Ok(())
    }
}
