//! `rollcall agent`: the reference runner.

use std::error::Error;

use tokio_util::sync::CancellationToken;

use crate::agent;
use crate::clock::Clock;
use crate::config::AgentConfig;
use crate::rng::Rng;

/// Runs the agent on the machine's clock until it is stopped.
pub(super) async fn run(config: AgentConfig, stop: CancellationToken) -> Result<(), Box<dyn Error + Send + Sync>> {
    agent::run(config, Clock::system(), Rng::from_system(), stop).await.map_err(Into::into)
}
