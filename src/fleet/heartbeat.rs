//! The hot path: a heartbeat reads and writes memory and nothing else.

use secrecy::SecretString;

use super::Fleet;
use super::presence::{Snapshot, next_heartbeat_in};
use crate::auth::Actor;
use crate::clock::Timestamp;
use crate::error::{AppError, Result};

/// What a runner is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Directive {
    /// Finish what you have and take nothing new: somebody disabled you.
    Drain,
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

    /// Takes a heartbeat.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` or `FORBIDDEN` for whoever is no runner; `NOT_FOUND` when it was removed a moment ago.
    pub fn heartbeat(&self, actor: &Actor) -> Result<HeartbeatAnswer> {
        let id = actor.runner()?.id;
        let runner = self.presence.heartbeat(id).ok_or_else(|| AppError::not_found("The runner"))?;
        let settings = &self.settings;
        let next_in_seconds = next_heartbeat_in(
            self.presence.present(),
            settings.max_heartbeats_per_second,
            settings.offline_after,
            &self.rng,
        );
        Ok(HeartbeatAnswer {
            runner,
            server_time: self.now(),
            next_in_seconds,
            directives: if runner.disabled { vec![Directive::Drain] } else { Vec::new() },
        })
    }

    /// Opens a session, which is checked by signature and token generation alone.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` or `FORBIDDEN` for whoever is no runner.
    pub fn open_session(&self, actor: &Actor) -> Result<(SecretString, Timestamp)> {
        self.authenticator.open_session(actor.runner()?)
    }
}
