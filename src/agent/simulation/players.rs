//! The simulated runners, and what they share.

use std::env::consts::{ARCH, OS};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::SimulateConfig;
use crate::rng::Rng;

use super::super::AgentError;
use super::super::client::{ClientError, Credentials, GraphqlClient};
use super::super::operations::{HeartbeatInput, RegisterRunnerInput};
use super::super::retry::{Backoff, up_to};
use super::super::runner::VERSION;
use super::super::session::{self, Session};
use super::tally::{Kind, Tally};

const ARRIVALS_AT_ONCE: usize = 32;
const DEPARTURES_AT_ONCE: usize = 64;

const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// How long one runner tries to arrive or to leave before it takes the server for gone.
const PATIENCE: Duration = Duration::from_secs(30);

/// The time over which first heartbeats are spread while the server has not told anyone an interval.
const UNTOLD_INTERVAL: Duration = Duration::from_secs(1);

/// By which simulated runners are found on a dashboard, should any be left.
const LABEL: &str = "simulated";

/// What the runners of a simulation share.
pub(super) struct Fleet {
    client: GraphqlClient,
    clock: Clock,
    rng: Rng,
    runners: u32,
    token: SecretString,
    /// What the names begin with, so that two simulations do not mix them up.
    prefix: String,
    /// The interval between heartbeats, when it is not the server's to tell.
    interval: Option<Duration>,
    keep: bool,
    /// The interval that the server told last, in milliseconds; 0 before it told any.
    told_millis: AtomicU64,
    arrivals: Semaphore,
    departures: Semaphore,
    /// How many runners have arrived or given it up.
    settled: AtomicU32,
    /// The time is over: no more heartbeats.
    pub(super) over: CancellationToken,
    /// No more arrivals: the time is over, or the server refuses them.
    closed: CancellationToken,
    /// The server is gone, and nobody can take leave of it.
    gone: CancellationToken,
    pub(super) tally: Tally,
}

/// A runner that has arrived.
struct Player {
    credentials: Credentials,
    session: Option<Session>,
}

/// The life of one runner.
pub(super) async fn play(fleet: Arc<Fleet>, index: u32) {
    let player = fleet.arrive(index).await;
    fleet.settled.fetch_add(1, Ordering::Relaxed);
    let Some(player) = player else {
        return;
    };
    let is_known = match player.session {
        Some(session) => fleet.attend(&player.credentials, session).await,
        None => true,
    };
    if is_known && !fleet.keep {
        fleet.leave(&player.credentials).await;
    }
}

impl Fleet {
    pub(super) fn new(config: &SimulateConfig, clock: &Clock, rng: &Rng) -> Result<Self, AgentError> {
        let over = CancellationToken::new();
        Ok(Self {
            client: GraphqlClient::new(&config.url)?,
            clock: clock.clone(),
            rng: rng.clone(),
            runners: config.runners,
            token: config.token.clone().ok_or(AgentError::NoToken)?,
            prefix: format!("sim-{:06x}", rng.below(1 << 24)),
            interval: match config.interval {
                0 => None,
                seconds => Some(Duration::from_secs(seconds)),
            },
            keep: config.keep,
            told_millis: AtomicU64::new(0),
            arrivals: Semaphore::new(ARRIVALS_AT_ONCE),
            departures: Semaphore::new(DEPARTURES_AT_ONCE),
            settled: AtomicU32::new(0),
            closed: over.child_token(),
            over,
            gone: CancellationToken::new(),
            tally: Tally::new(),
        })
    }

    /// Whether each runner has arrived or has given it up.
    pub(super) fn has_settled(&self) -> bool {
        self.settled.load(Ordering::Relaxed) == self.runners
    }

    /// Registers and opens a session. None when the server would not have the runner.
    async fn arrive(&self, index: u32) -> Option<Player> {
        let _turn = self.closed.run_until_cancelled(self.arrivals.acquire()).await?.ok()?;
        let name = format!("{}-{index:05}", self.prefix);
        let labels = [LABEL.to_owned()];
        let input = RegisterRunnerInput {
            token: self.token.expose_secret(),
            name: &name,
            labels: Some(&labels),
            version: VERSION,
            os: OS,
            arch: ARCH,
            ephemeral: None,
            // Should an answer be lost, the next attempt takes the same record over.
            machine_id: self.rng.uuid(),
        };
        let registered =
            self.insist(Kind::Registration, &self.closed, || session::register(&self.client, &input)).await?;
        let Ok(registration) = registered else {
            // The token is refused, or the server is gone: it is the same for all who wait behind.
            self.closed.cancel();
            return None;
        };
        let credentials = Credentials::Runner { uuid: registration.runner.uuid, secret: registration.secret };
        let opened = self.insist(Kind::Session, &self.closed, || Session::open(&self.client, &credentials)).await;
        Some(Player { session: opened.and_then(Result::ok), credentials })
    }

    /// Sends heartbeats until the time is over. False when the server does not know the runner any more.
    async fn attend(&self, credentials: &Credentials, mut session: Session) -> bool {
        let mut backoff = Backoff::new(LONGEST_WAIT);
        // Runners that arrived in one moment must not beat in step ever after.
        let mut pause = up_to(self.expected_interval(), &self.rng);
        loop {
            if self.over.run_until_cancelled(self.clock.sleep(pause)).await.is_none() {
                return true;
            }
            let Some(outcome) = self.over.run_until_cancelled(self.beat(&mut session)).await else {
                return true;
            };
            pause = match outcome {
                Ok(interval) => {
                    backoff.reset();
                    if session.is_due() {
                        // When it fails it is counted, and the next heartbeat tries again.
                        let renewal = self.tally.measure(Kind::Session, Session::open(&self.client, credentials));
                        if let Ok(fresh) = renewal.await {
                            session = fresh;
                        }
                    }
                    interval
                }
                Err(error) if error.is_unauthenticated() => {
                    let open = || Session::open(&self.client, credentials);
                    match self.insist(Kind::Session, &self.over, open).await {
                        None => return true,
                        Some(Err(error)) if error.is_unauthenticated() => return false,
                        Some(Err(error)) => backoff.delay_after(&error, &self.rng),
                        Some(Ok(fresh)) => {
                            session = fresh;
                            up_to(UNTOLD_INTERVAL, &self.rng)
                        }
                    }
                }
                Err(error) => backoff.delay_after(&error, &self.rng),
            };
        }
    }

    async fn beat(&self, session: &mut Session) -> Result<Duration, ClientError> {
        let input = HeartbeatInput::default();
        let beat = self.tally.measure(Kind::Heartbeat, session.heartbeat(&self.client, &input)).await?;
        let told = beat.interval();
        self.told_millis.store(u64::try_from(told.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        Ok(self.interval.unwrap_or(told))
    }

    /// The interval that a runner will most likely be told.
    fn expected_interval(&self) -> Duration {
        self.interval.unwrap_or_else(|| match self.told_millis.load(Ordering::Relaxed) {
            0 => UNTOLD_INTERVAL,
            millis => Duration::from_millis(millis),
        })
    }

    async fn leave(&self, credentials: &Credentials) {
        let Ok(_turn) = self.departures.acquire().await else {
            return;
        };
        let goodbye = || session::deregister(&self.client, credentials);
        if let Some(Err(error)) = self.insist(Kind::Deregistration, &self.gone, goodbye).await
            && error.is_temporary()
        {
            // The others need not find out one after the other.
            self.gone.cancel();
        }
    }

    /// Makes a call until it succeeds, or fails for good, or has failed for too long. None when `until` came first.
    async fn insist<T, F>(
        &self,
        kind: Kind,
        until: &CancellationToken,
        mut call: impl FnMut() -> F,
    ) -> Option<Result<T, ClientError>>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let mut backoff = Backoff::new(LONGEST_WAIT);
        let began = self.clock.now();
        while !until.is_cancelled() {
            match self.tally.measure(kind, call()).await {
                Err(error) if error.is_temporary() && self.clock.now().since(began) < PATIENCE => {
                    let delay = backoff.delay_after(&error, &self.rng);
                    until.run_until_cancelled(self.clock.sleep(delay)).await?;
                }
                settled => return Some(settled),
            }
        }
        None
    }
}
