//! The one place that builds things. Tests build the same.

use std::path::Path;
use std::sync::Arc;

use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::auth::{Authenticator, Hasher, JobTokens, Sessions, load_or_make_key};
use crate::clock::Clock;
use crate::config::ServerConfig;
use crate::events::Bus;
use crate::fleet::presence::{Presence, Rules};
use crate::fleet::tasks::{Board, Dispatch, TaskSettings, TaskTimes};
use crate::fleet::{CleanupQueue, EphemeralTimes, Fleet, FleetSettings, Parts, Retention};
use crate::graphql::{self, DocumentLimits, GraphQl, GraphQlSettings};
use crate::http::{self, HttpSettings, HttpState, ServerLimits};
use crate::jobs::{self, Schedule};
use crate::lifecycle::Lifecycle;
use crate::rng::{Ids, Rng};
use crate::store::{MigrationReport, OpenError, PoolLimits, Store};

/// The file in the data folder that keeps the key of runner sessions.
const SESSION_KEY_FILE: &str = "session.key";
/// The file in the data folder that keeps the key of job tokens.
const JOB_TOKEN_KEY_FILE: &str = "job-token.key";
/// Sets of labels whose place in the database is remembered.
const REMEMBERED_LABEL_SETS: u64 = 10_000;

/// What the server signs with.
pub struct Keys {
    /// Runner sessions.
    pub sessions: SecretString,
    /// Job tokens.
    pub job_tokens: SecretString,
}

/// A server that is built and not yet running.
pub struct App {
    /// The domain.
    pub fleet: Fleet,
    /// The GraphQL face.
    pub graphql: GraphQl,
    /// The HTTP face.
    pub http: HttpState,
    /// What opening the database did.
    pub migrations: MigrationReport,
    config: ServerConfig,
}

/// Why a server could not be built, for the operator.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The database.
    #[error(transparent)]
    Database(#[from] OpenError),
    /// A file in the data folder.
    #[error("{0}")]
    DataFolder(String),
}

/// Opens the database of a configuration; one in the data folder with a folder that only this user reads.
///
/// # Errors
/// As [`Store::open`], or when the folder cannot be made.
pub async fn open_store(config: &ServerConfig) -> Result<(Store, MigrationReport), BuildError> {
    if config.database_url.is_none() {
        make_folder(&config.data_dir)?;
    }
    let limits = PoolLimits {
        size: config.database_pool_size,
        wait: config.database_wait_timeout,
        work: config.database_statement_timeout,
    };
    Ok(Store::open(&config.effective_database_url(), &limits).await?)
}

impl App {
    /// Builds a server: opens the database, takes up every runner, and puts the faces on.
    ///
    /// # Errors
    /// A message for the operator.
    pub async fn build(
        config: ServerConfig,
        clock: Clock,
        rng: Rng,
        stop: CancellationToken,
    ) -> Result<Self, BuildError> {
        let (store, migrations) = open_store(&config).await?;
        let keys = keys(&config, &rng)?;
        let fleet = Self::fleet(&config, store, clock, rng, &keys, stop.clone())?;
        fleet.presence.load(&fleet.store).await.map_err(OpenError::from)?;
        fleet.load_tasks().await.map_err(OpenError::from)?;
        let graphql = GraphQl::new(
            fleet.clone(),
            GraphQlSettings {
                limits: DocumentLimits {
                    depth: config.max_query_depth,
                    selections: config.max_query_selections,
                    cost: config.max_query_cost,
                },
                remembered_documents: config.document_cache,
                max_answer_bytes: config.max_answer_bytes,
                query_timeout: config.query_timeout,
                max_subscriptions: config.max_subscriptions,
            },
        );
        let settings = HttpSettings {
            max_body_bytes: config.max_body_bytes,
            trusted_proxies: config.trusted_proxies.clone(),
            connection_init_timeout: config.connection_init_timeout,
            keepalive_interval: config.keepalive_interval,
            max_operations_per_socket: config.max_operations_per_socket,
        };
        let http = HttpState::new(fleet.clone(), graphql.clone(), settings, stop);
        Ok(Self { fleet, graphql, http, migrations, config })
    }

    /// The domain alone, for commands that work on the database without serving it. Calls that wait end when `closing` is
    /// cancelled.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn fleet(
        config: &ServerConfig,
        store: Store,
        clock: Clock,
        rng: Rng,
        keys: &Keys,
        closing: CancellationToken,
    ) -> Result<Fleet, BuildError> {
        let bus = Bus::new(config.subscription_buffer);
        let rules = Rules { offline_after: config.offline_after, idle_after: config.idle_after };
        let presence = Presence::new(rules, clock.clone(), bus.clone());
        let threads = match config.hashing_threads {
            0 => std::thread::available_parallelism().map_or(1, |count| count.get().saturating_sub(1).max(1)),
            threads => threads,
        };
        let hasher = Hasher::new(rng.clone(), threads, config.hashing_queue, config.verified_token_cache);
        let sessions = Arc::new(Sessions::new(&keys.sessions, config.session_lifetime));
        let authenticator =
            Authenticator::new(store.clone(), clock.clone(), hasher.clone(), sessions, Arc::new(presence.clone()));
        let ids = Ids::new(clock.clone(), rng.clone());
        let settings = FleetSettings {
            offline_after: config.offline_after,
            max_heartbeats_per_second: config.max_heartbeats_per_second,
            rotation_overlap: config.rotation_overlap,
            token_max_age: config.token_max_age,
            tasks: TaskSettings {
                times: TaskTimes {
                    queue_timeout: config.queue_timeout,
                    lost_after: config.task_lost_after,
                    cancel_timeout: config.cancel_timeout,
                    late_reports: config.late_report_window,
                },
                max_log_bytes: config.max_task_log_bytes,
            },
            ephemeral: EphemeralTimes { ttl: config.ephemeral_ttl, offline_after: config.ephemeral_offline_after },
            retention: Retention {
                ephemeral_runners: config.retain_ephemeral_runners,
                stale_runners: config.retain_stale_runners,
                expired_tokens: config.retain_expired_tokens,
                finished_tasks: config.retain_finished_tasks,
                task_logs: config.retain_task_logs,
                audit_events: config.retain_audit_events,
            },
            cleanup_lease: config.cleanup_lease,
        };
        let job_tokens = JobTokens::new(&keys.job_tokens, graphql::task_id).map_err(BuildError::DataFolder)?;
        Ok(Fleet::new(Parts {
            store,
            presence,
            bus,
            authenticator,
            hasher,
            job_tokens,
            board: Board::default(),
            dispatch: Dispatch::default(),
            label_nodes: moka::sync::Cache::new(REMEMBERED_LABEL_SETS),
            cleanup: CleanupQueue::default(),
            closing,
            clock,
            rng,
            ids,
            settings,
        }))
    }

    /// Serves until the token given to [`App::build`] is cancelled, then ends gracefully: streams are told, requests under
    /// way finish, and presence is written a last time.
    ///
    /// # Errors
    /// When a task that the server lives by failed.
    pub async fn run(self, listener: TcpListener, stop: CancellationToken) -> Result<(), String> {
        // Presence outlives the requests: it is written when nothing changes it any more.
        let mut lifecycle = Lifecycle::new(CancellationToken::new());
        self.start(&mut lifecycle);
        let limits = ServerLimits {
            max_connections: self.config.max_connections,
            header_timeout: self.config.header_timeout,
            peer_timeout: self.config.peer_timeout,
            shutdown_grace: self.config.shutdown_grace,
        };
        let router = http::router(self.http.clone());
        let server = tokio::spawn(http::serve(listener, router, limits, stop.clone()));
        let failure = tokio::select! {
            () = stop.cancelled() => None,
            problem = lifecycle.failed() => {
                stop.cancel();
                Some(problem)
            }
        };
        self.http.start_draining();
        let grace = self.config.shutdown_grace;
        let ended = async {
            let _ = server.await;
            self.http.streams_ended().await;
            self.fleet.store.drain().await;
        };
        if tokio::time::timeout(grace * 2, ended).await.is_err() {
            tracing::warn!("some work did not end in time and was given up");
        }
        let problems: Vec<String> = failure.into_iter().chain(lifecycle.end().await).collect();
        if problems.is_empty() { Ok(()) } else { Err(problems.join("; ")) }
    }

    /// Starts what runs beside the requests.
    fn start(&self, lifecycle: &mut Lifecycle) {
        let presence = self.fleet.presence.clone();
        let stop = lifecycle.stop_token();
        lifecycle.spawn("presence deadlines", async move {
            presence.keep_time(stop).await;
            Ok(())
        });
        let (presence, store) = (self.fleet.presence.clone(), self.fleet.store.clone());
        let (every, stop) = (self.config.presence_flush_interval, lifecycle.stop_token());
        lifecycle.spawn("presence write-behind", async move {
            presence.write_behind(store, every, stop).await.map_err(|error| error.to_string())
        });
        let (fleet, stop) = (self.fleet.clone(), lifecycle.stop_token());
        lifecycle.spawn("task keeper", async move {
            fleet.keep_tasks(stop).await;
            Ok(())
        });
        let cleanup = jobs::work(self.fleet.clone(), self.config.cleanup_pause, lifecycle.stop_token());
        lifecycle.spawn("cleanup", async move {
            cleanup.await;
            Ok(())
        });
        if let Some(cron) = self.config.cleanup_schedule.clone() {
            let schedule = Schedule::new(cron, self.config.cleanup_time_zone);
            let scheduled = schedule.keep(self.fleet.clone(), lifecycle.stop_token());
            lifecycle.spawn("cleanup schedule", async move {
                scheduled.await;
                Ok(())
            });
        }
    }
}

/// The keys that the server signs with: configured, or kept in the data folder.
///
/// # Errors
/// When the data folder cannot be written.
pub fn keys(config: &ServerConfig, rng: &Rng) -> Result<Keys, BuildError> {
    let kept = |configured: &Option<SecretString>, file: &str| {
        if let Some(key) = configured {
            return Ok(key.clone());
        }
        make_folder(&config.data_dir)?;
        let path = config.data_dir.join(file);
        load_or_make_key(&path, rng)
            .map_err(|error| BuildError::DataFolder(format!("cannot keep a key in {}: {error}", path.display())))
    };
    Ok(Keys {
        sessions: kept(&config.session_key, SESSION_KEY_FILE)?,
        job_tokens: kept(&config.job_token_key, JOB_TOKEN_KEY_FILE)?,
    })
}

/// Makes the data folder, for this user alone.
///
/// # Errors
/// When it cannot be made.
pub fn make_folder(folder: &Path) -> Result<(), BuildError> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| {
        BuildError::DataFolder(format!(
            "cannot make the data folder {}: {error}; choose another with --data-dir",
            folder.display()
        ))
    })
}
