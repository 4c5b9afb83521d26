//! A fleet of light runners in one process, to see what a server bears.
//!
//! They take no work: each registers, opens a session, sends heartbeats and leaves, as the reference runner does.

mod players;
mod tally;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::{Clock, Timestamp};
use crate::config::SimulateConfig;
use crate::rng::Rng;

use super::AgentError;

use self::players::{Fleet, play};
pub use self::tally::{Figures, Report};
use self::tally::{Kind, Played, Tally};

/// How often progress is told.
const TICK: Duration = Duration::from_millis(250);

/// What a simulation does at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Runners are being registered; those that are send heartbeats already.
    Registering,
    /// All runners are registered and send heartbeats.
    Playing,
    /// The time is over, and runners are being deregistered.
    Leaving,
}

impl fmt::Display for Phase {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Registering => "registering",
            Self::Playing => "playing",
            Self::Leaving => "leaving",
        })
    }
}

/// How far a simulation is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// What is being done.
    pub phase: Phase,
    /// How many runners are to be played.
    pub runners: u32,
    /// How many were registered so far.
    pub registered: u64,
    /// Heartbeats that were answered so far.
    pub heartbeats: u64,
    /// How many were deregistered so far.
    pub deregistered: u64,
    /// Calls that failed so far.
    pub errors: u64,
    /// The time since the start.
    pub elapsed: Duration,
}

impl Progress {
    fn of(tally: &Tally, runners: u32, phase: Phase) -> Self {
        Self {
            phase,
            runners,
            registered: tally.count(Kind::Registration),
            heartbeats: tally.count(Kind::Heartbeat),
            deregistered: tally.count(Kind::Deregistration),
            errors: tally.errors(),
            elapsed: tally.elapsed(),
        }
    }
}

/// Plays a fleet until its time is over or until `stop`, and says how it went.
///
/// Refused and failed calls are figures of the report; an error means that nothing could be tried at all.
pub async fn simulate(
    config: &SimulateConfig,
    clock: &Clock,
    rng: &Rng,
    stop: &CancellationToken,
    mut progress: impl FnMut(&Progress) + Send,
) -> Result<Report, AgentError> {
    let fleet = Arc::new(Fleet::new(config, clock, rng)?);
    // Should the caller drop this future, the runners must not play on without it.
    let _end = fleet.over.clone().drop_guard();
    let runners = TaskTracker::new();
    for index in 0..config.runners {
        runners.spawn(play(Arc::clone(&fleet), index));
    }
    runners.close();

    let mut stage = Stage::Registering;
    let mut played = Played::default();
    loop {
        progress(&Progress::of(&fleet.tally, config.runners, stage.phase()));
        let all_are_gone = tokio::select! {
            () = runners.wait() => true,
            () = stop.cancelled(), if !fleet.over.is_cancelled() => {
                fleet.over.cancel();
                false
            }
            () = clock.sleep(stage.nap(config.duration, clock)) => false,
        };
        if all_are_gone {
            fleet.over.cancel();
        }
        stage = match stage {
            Stage::Registering if fleet.over.is_cancelled() => Stage::Leaving,
            Stage::Registering if fleet.has_settled() => {
                Stage::Playing { since: clock.now(), heartbeats: fleet.tally.count(Kind::Heartbeat) }
            }
            Stage::Playing { since, heartbeats }
                if fleet.over.is_cancelled() || clock.now().since(since) >= config.duration =>
            {
                fleet.over.cancel();
                played = Played {
                    time: clock.now().since(since),
                    heartbeats: fleet.tally.count(Kind::Heartbeat) - heartbeats,
                };
                Stage::Leaving
            }
            unchanged => unchanged,
        };
        if all_are_gone {
            break;
        }
    }
    progress(&Progress::of(&fleet.tally, config.runners, stage.phase()));
    Ok(fleet.tally.report(config.runners, played))
}

/// The phases, with what has to be remembered in them.
#[derive(Clone, Copy)]
enum Stage {
    Registering,
    Playing { since: Timestamp, heartbeats: u64 },
    Leaving,
}

impl Stage {
    const fn phase(self) -> Phase {
        match self {
            Self::Registering => Phase::Registering,
            Self::Playing { .. } => Phase::Playing,
            Self::Leaving => Phase::Leaving,
        }
    }

    /// How long to sleep before looking again: a short simulation must not end late.
    fn nap(self, duration: Duration, clock: &Clock) -> Duration {
        match self {
            Self::Playing { since, .. } => duration.saturating_sub(clock.now().since(since)).min(TICK),
            Self::Registering | Self::Leaving => TICK,
        }
    }
}
