//! `rollcall agent`: the reference runner.

use std::error::Error;

use crate::agent;
use crate::clock::Clock;
use crate::config::AgentConfig;
use crate::lifecycle::{HURRIED, Signals};
use crate::rng::Rng;

/// Runs the agent on the machine's clock until it is stopped.
pub(super) async fn run(config: AgentConfig, signals: Signals) -> Result<(), Box<dyn Error + Send + Sync>> {
    let Signals { stop, at_once } = signals;
    let ended = agent::run(config, Clock::system(), Rng::from_system(), stop, at_once.clone()).await;
    if at_once.is_cancelled() {
        // It has left nothing behind before its last moment was over.
        std::process::exit(HURRIED);
    }
    ended.map_err(Into::into)
}
