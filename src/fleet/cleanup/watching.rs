//! Watching a job until its end.

use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};

use super::super::Fleet;
use super::missing;
use crate::auth::Actor;
use crate::error::{AppError, Result};
use crate::events::{AccessChange, Event, EventKind, Subscription, Topic};
use crate::store::models::CleanupJobRow;

/// How often a job is looked at that nothing is heard of: another process may work on it.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// An open watch of a job.
pub struct CleanupWatcher {
    fleet: Fleet,
    actor: Actor,
    id: i64,
    changes: Subscription,
    access: Subscription,
    /// What was handed out last.
    shown: Option<CleanupJobRow>,
    /// The job may have changed. A field, since whoever waits may give up in the middle of the look.
    needs_look: bool,
    /// Rights may have changed: nothing is told before they were looked at again.
    needs_check: bool,
    is_over: bool,
}

impl Fleet {
    /// Begins to watch a job.
    ///
    /// # Errors
    /// `NOT_FOUND` when it does not exist for the actor; as [`Fleet::may_read_cleanups`].
    pub async fn watch_cleanup(&self, actor: &Actor, id: i64) -> Result<CleanupWatcher> {
        // First the watching, then the look, so that nothing falls between.
        let access = self.bus.subscribe(&[EventKind::Access], [Topic::Everything]);
        let changes = self.bus.subscribe(&[EventKind::Job], [Topic::Job(id)]);
        self.seen_cleanup(actor, id).await?.ok_or_else(missing)?;
        Ok(CleanupWatcher {
            fleet: self.clone(),
            actor: actor.clone(),
            id,
            changes,
            access,
            shown: None,
            needs_look: true,
            needs_check: true,
            is_over: false,
        })
    }
}

impl CleanupWatcher {
    /// The job as it is now, and then after each change; nothing after its end, or after an error.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` when the credentials ended, `FORBIDDEN` when the right to see did, `NOT_FOUND` when the job is
    /// gone with its scope.
    pub async fn next(&mut self) -> Option<Result<CleanupJobRow>> {
        if self.is_over {
            return None;
        }
        let next = self.news().await;
        self.is_over = match &next {
            Ok(job) => job.status.is_ended(),
            Err(_) => true,
        };
        Some(next)
    }

    async fn news(&mut self) -> Result<CleanupJobRow> {
        loop {
            if self.needs_check {
                self.actor = self.fleet.authenticator.again(&self.actor).await?;
                self.needs_check = false;
            }
            if self.needs_look {
                let job = self.look().await?;
                self.needs_look = false;
                if self.shown.as_ref().is_none_or(|shown| is_news(shown, &job)) {
                    self.shown = Some(job.clone());
                    return Ok(job);
                }
            }
            self.wait().await;
        }
    }

    async fn look(&self) -> Result<CleanupJobRow> {
        self.fleet.may_read_cleanups(&self.actor)?;
        let id = self.id;
        let found = read!(self.fleet.store, |db, queries| queries::cleanup::by_ids(db, vec![id]).await)?.pop();
        let job = found.ok_or_else(missing)?;
        if self.fleet.sees_cleanup(&self.actor, &job) {
            Ok(job)
        } else {
            Err(AppError::forbidden("You may no longer see the cleanup job; the stream ends."))
        }
    }

    /// Waits until there is something to look at.
    async fn wait(&mut self) {
        let expiry = self.fleet.clock.sleep_until_any(self.actor.expires_at());
        tokio::select! {
            biased;
            change = self.access.next() => {
                let is_others = matches!(&change, Some(Ok(change)) if !self.concerns(&change.event));
                self.needs_check = !is_others;
                self.needs_look = !is_others;
            }
            () = expiry => {
                self.needs_check = true;
                self.needs_look = true;
            }
            _ = self.changes.next() => {
                // Whatever came meanwhile is seen with the same look.
                while let Some(Some(_)) = self.changes.next().now_or_never() {}
                self.needs_look = true;
            }
            () = self.fleet.clock.sleep(LOOK_EVERY) => self.needs_look = true,
        }
    }

    fn concerns(&self, event: &Event) -> bool {
        match event {
            Event::AccessChanged(AccessChange::User(id)) => matches!(&self.actor, Actor::User(user) if user.id == *id),
            // The job goes with its scope.
            Event::AccessChanged(AccessChange::Scope(_)) => true,
            _ => false,
        }
    }

    /// Who watches, as of the last check.
    pub const fn actor(&self) -> &Actor {
        &self.actor
    }
}

/// Whether there is something in a job that was not shown.
fn is_news(shown: &CleanupJobRow, job: &CleanupJobRow) -> bool {
    let told =
        |job: &CleanupJobRow| (job.status, job.examined, job.deleted, job.total, job.started_at, job.finished_at);
    told(shown) != told(job)
}
