//! The reference runner: it registers, keeps a session, says with its heartbeats that it is here, and runs tasks.
//!
//! It knows a server only by its address and by `schema.graphql`, as every other runner would, and so shows that
//! nothing more is needed. Of this crate it uses the settings, the clock and the source of randomness.

mod assignments;
pub mod client;
mod directives;
mod execution;
mod link;
pub mod operations;
mod retry;
mod runner;
mod session;
pub mod simulation;
mod state;
mod work;
mod workshop;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, warn};

use crate::clock::Clock;
use crate::config::AgentConfig;
use crate::rng::Rng;

use self::client::{ClientError, GraphqlClient};
use self::execution::{Ended, Outcome};
use self::operations::TaskStatus;
use self::runner::Runner;
pub use self::state::StateError;
use self::state::{State, lock};
use self::work::{Departure, Work};
use self::workshop::Workshop;

/// Why the agent had to give up. What time or the server's return may cure is not among it.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// There is no identity yet, and nothing to get one with.
    #[error(
        "a registration token is needed: give it with --token. Who manages the server makes one with \
         `rollcall token create`"
    )]
    NoToken,
    /// The server refused the registration.
    #[error("the server did not register the runner: {0}")]
    Registration(ClientError),
    /// The server does not accept the runner's credentials any more.
    #[error(
        "the server no longer accepts the runner {name}: it was deleted, or its token was rotated elsewhere. Give a \
         registration token with --token to register it again, or delete {} if it is not needed any more",
        .path.display()
    )]
    Forgotten {
        /// The runner's name.
        name: String,
        /// The state file.
        path: PathBuf,
    },
    /// The server refused what a registered runner asked.
    #[error("the server refused the runner's call: {0}")]
    Refused(ClientError),
    /// Tasks would have no place to work in.
    #[error(
        "cannot make folders for tasks in {}: {source}. Give a folder with --work-dir where this user may write",
        .path.display()
    )]
    WorkFolder {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// With `--once`: the one task did not succeed.
    #[error("the task {name:?} ({id}) did not succeed: {outcome}")]
    NotSucceeded {
        /// The task's name.
        name: String,
        /// The task's id.
        id: String,
        /// How it ended.
        outcome: &'static str,
    },
    /// With `--once`: nobody knows how the one task ended.
    #[error("the task was given up; the lines before say why")]
    GivenUp,
    /// With `--once`: it was stopped before it had run a task.
    #[error("stopped before a task was done")]
    NothingDone,
    /// The client cannot be made.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The state file is not usable.
    #[error(transparent)]
    State(#[from] StateError),
}

/// Runs the agent until `stop`, until its only task is over, or until nothing but a person can help. With `at_once` it
/// kills its scripts.
pub async fn run(
    config: AgentConfig,
    clock: Clock,
    rng: Rng,
    stop: CancellationToken,
    at_once: CancellationToken,
) -> Result<(), AgentError> {
    let client = GraphqlClient::new(&config.url)?;
    let _lock = lock(&config.state)?;
    let state = State::load(&config.state, &config.url, &rng)?;
    if config.ephemeral && state.identity().is_some() {
        return Err(StateError::Lasting { path: config.state }.into());
    }
    if let (Some(wanted), Some(identity)) = (&config.name, state.identity())
        && wanted.trim() != identity.name
    {
        warn!(
            "the state file {} holds the runner {}, and --name {wanted} does not change that. For another runner give \
             another file with --state",
            config.state.display(),
            identity.name
        );
    }
    let is_judged = config.once;
    let shop = Workshop::open(&config, client.clone(), clock, rng)?;
    let assignments = Arc::clone(&shop.assignments);
    let _hurry = AbortOnDropHandle::new(tokio::spawn(async move {
        at_once.cancelled().await;
        assignments.forget_all();
    }));
    let mut work = Work::new(Arc::clone(&shop));
    let mut runner = Runner::new(config, client, state, shop);
    match live(&mut runner, &mut work, &stop).await {
        Err(error) => {
            work.abandon().await;
            Err(error)
        }
        Ok(Departure::Stopped) => {
            runner.leave().await;
            if is_judged { Err(AgentError::NothingDone) } else { Ok(()) }
        }
        Ok(Departure::Done(ended)) => {
            // The server has removed it with the end of its task.
            if runner.is_ephemeral() && ended.as_ref().is_some_and(|ended| ended.is_reported) {
                runner.forget();
            } else {
                runner.leave().await;
            }
            if is_judged { judge(ended) } else { Ok(()) }
        }
    }
}

/// Lets the runner be here for as long as there is work for it.
async fn live(runner: &mut Runner, work: &mut Work, stop: &CancellationToken) -> Result<Departure, AgentError> {
    let over = CancellationToken::new();
    let mut serving = Box::pin(runner.serve(&over));
    tokio::select! {
        served = &mut serving => served.map(|()| Departure::Stopped),
        departure = work.run(stop) => {
            over.cancel();
            if let Err(error) = serving.await {
                debug!(%error, "the runner could not have gone on");
            }
            Ok(departure)
        }
    }
}

fn judge(ended: Option<Ended>) -> Result<(), AgentError> {
    match ended {
        Some(Ended { outcome: Outcome::Ended(TaskStatus::Succeeded), .. }) => Ok(()),
        Some(Ended { id, name, outcome, .. }) => Err(AgentError::NotSucceeded { name, id, outcome: outcome.name() }),
        None => Err(AgentError::GivenUp),
    }
}
