//! The domain: every rule lives here, one verb a file, and nothing here knows GraphQL or HTTP.
//!
//! Each entry takes the [`Actor`](crate::auth::Actor) and begins by asking what it may do. Changes are committed first and
//! then told: to presence, and to the bus. Whoever calls an entry that changes something runs it to its end
//! ([`Store::to_the_end`]), so that a client that hangs up cannot keep the second from following the first.

mod access_tokens;
mod accounts;
mod bulk;
mod cleanup;
mod declaration;
mod ephemeral;
mod first_start;
mod heartbeat;
mod management;
pub mod names;
pub mod presence;
mod reading;
mod registration;
mod registration_tokens;
mod repositories;
mod rotation;
pub mod tasks;
mod watching;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

pub use access_tokens::{MOST_ACCESS_TOKENS, NewAccessToken};
pub use accounts::NewUser;
pub use bulk::{BulkRefusal, BulkResult, BulkTarget};
pub use cleanup::{
    CleanupQueue, CleanupRequest, CleanupResult, CleanupStart, CleanupStep, CleanupWatcher, CleanupWork, NextCleanup,
    Retention, results_of, scope_needed,
};
pub use declaration::Declaration;
pub use ephemeral::EphemeralTimes;
pub use first_start::{ADMIN_LOGIN, FirstStart};
pub use heartbeat::{HeartbeatAnswer, HeartbeatReport};
pub use management::RunnerUpdate;
pub use reading::{RunnerQuery, ScopeRef};
pub use registration::{Registered, Registration};
pub use registration_tokens::NewRegistrationToken;
pub use rotation::Rotated;
pub use tasks::{
    DirectiveStream, Fetched, LogFollower, LogLine, LogPart, NewTask, Placed, TaskQuery, TaskReport, Waiting,
};
pub use watching::{Watch, Watched, Watcher};

pub use crate::auth::JobClaims;
use crate::auth::{Authenticator, Hasher, JobTokens};
use crate::clock::{Clock, Timestamp};
pub use crate::events::Directive;
use crate::events::{AccessChange, Bus, Event, Occurrence};
use crate::model::INSTANCE;
use crate::rng::{Ids, Rng};
use crate::store::Store;
use crate::store::models::RunnerName;
use presence::Presence;
use tasks::{Board, Dispatch, TaskSettings};

/// What the fleet needs of the configuration.
#[derive(Clone, Copy, Debug)]
pub struct FleetSettings {
    /// Silence that makes a runner OFFLINE.
    pub offline_after: Duration,
    /// The heartbeats a second that the fleet should not pass.
    pub max_heartbeats_per_second: u32,
    /// How long an old runner token works beside its successor.
    pub rotation_overlap: Duration,
    /// The age at which a runner is to have another token; zero: any.
    pub token_max_age: Duration,
    /// What tasks are about.
    pub tasks: TaskSettings,
    /// The life of an ephemeral runner.
    pub ephemeral: EphemeralTimes,
    /// What is removed at which age.
    pub retention: Retention,
    /// How long a cleanup job waits for a worker that gives no sign of life.
    pub cleanup_lease: Duration,
}

/// The fleet. Clones share everything.
#[derive(Clone)]
pub struct Fleet(Arc<Parts>);

/// What the fleet is made of.
pub struct Parts {
    /// The database.
    pub store: Store,
    /// Who is here.
    pub presence: Presence,
    /// Who is told.
    pub bus: Bus,
    /// Who is asking.
    pub authenticator: Authenticator,
    /// Argon2id.
    pub hasher: Hasher,
    /// What tasks prove themselves with.
    pub job_tokens: JobTokens,
    /// Tasks that wait and run.
    pub board: Board,
    /// Runners that wait for tasks.
    pub dispatch: Dispatch,
    /// Sets of labels that tasks have asked for, with their place in the database.
    pub label_nodes: moka::sync::Cache<String, (i64, Timestamp)>,
    /// Wakes the worker of cleanup jobs.
    pub cleanup: CleanupQueue,
    /// Cancelled when the server begins to end: calls that wait come back then.
    pub closing: CancellationToken,
    /// The time.
    pub clock: Clock,
    /// Randomness.
    pub rng: Rng,
    /// Identifiers.
    pub ids: Ids,
    /// The configuration.
    pub settings: FleetSettings,
}

impl std::ops::Deref for Fleet {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl Fleet {
    /// A fleet of these parts.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Tells whoever watches that something happened to a runner.
    fn tell(&self, event: Event, runner_id: i64, scope_id: i64, owner_id: i64) {
        self.bus.publish(Occurrence { event, runner_id, scope_id, owner_id, at: self.now() });
    }

    /// Tells streams that rights changed, so that they end, or see less.
    fn tell_access(&self, change: AccessChange) {
        let runner_id = if let AccessChange::Runner(id) = change { id } else { 0 };
        self.tell(Event::AccessChanged(change), runner_id, INSTANCE, INSTANCE);
    }

    /// Runners are gone from the database: forgets them, ends their streams, and tells whoever watches.
    fn forget_runners(&self, gone: &[RunnerName]) {
        let ids: Vec<i64> = gone.iter().map(|runner| runner.id).collect();
        self.presence.remove(&ids);
        for runner in gone {
            self.tell_access(AccessChange::Runner(runner.id));
            let event =
                Event::RunnerDeleted { uuid: runner.uuid.parse().unwrap_or_default(), name: runner.name.clone() };
            self.tell(event, runner.id, runner.scope_id, runner.owner_id);
        }
    }
}
