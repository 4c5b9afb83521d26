//! The reference runner: it registers, keeps a session, and says with its heartbeats that it is here.
//!
//! It knows a server only by its address and by `schema.graphql`, as every other runner would, and so shows that
//! nothing more is needed. Of this crate it uses the settings, the clock and the source of randomness.

pub mod client;
pub mod operations;
mod retry;
mod runner;
mod session;
pub mod simulation;
mod state;

use std::path::PathBuf;

use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::AgentConfig;
use crate::rng::Rng;

use self::client::{ClientError, GraphqlClient};
use self::runner::Runner;
use self::state::State;
pub use self::state::StateError;

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
    /// The client cannot be made.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The state file is not usable.
    #[error(transparent)]
    State(#[from] StateError),
}

/// Runs the agent until `stop`, or until nothing but a person can help.
pub async fn run(config: AgentConfig, clock: Clock, rng: Rng, stop: CancellationToken) -> Result<(), AgentError> {
    let client = GraphqlClient::new(&config.url)?;
    let state = State::load(&config.state, &config.url, &rng)?;
    let mut runner = Runner::new(config, clock, rng, client, state);
    // Whatever the runner is waiting for, it is dropped at once when it shall stop. Nothing is lost by that: a
    // registration whose answer is lost is taken over at the next start, and the state file is written without an await.
    let outcome = stop.run_until_cancelled(runner.serve()).await;
    if let Some(outcome) = outcome {
        return outcome;
    }
    runner.leave().await;
    Ok(())
}
