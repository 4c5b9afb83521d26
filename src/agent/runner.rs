//! The life of one runner: registration, session, heartbeats, a new secret now and then, leave.

mod rotation;

use std::env::consts::{ARCH, OS};
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::clock::{Clock, Timestamp};
use crate::config::AgentConfig;
use crate::rng::Rng;

use super::AgentError;
use super::client::{ClientError, GraphqlClient};
use super::operations::{DeclareRunnerInput, Heartbeat, RegisterRunnerInput, Told};
use super::retry::{Backoff, up_to};
use super::session::{self, Session};
use super::state::{Identity, State};
use super::workshop::Workshop;

/// What this agent calls its version.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Whoever stops the agent waits for it; a server that is away must not hold them up.
const LEAVE_WITHIN: Duration = Duration::from_millis(800);

/// How long to leave a server alone that refuses the session it has just opened.
const AFTER_A_REFUSED_SESSION: Duration = Duration::from_secs(5);

/// How long to wait with a session when the one before was refused elsewhere than in a heartbeat.
const AFTER_A_REFUSED_CALL: Duration = Duration::from_millis(500);

pub(super) struct Runner {
    config: AgentConfig,
    clock: Clock,
    rng: Rng,
    client: GraphqlClient,
    state: State,
    shop: Arc<Workshop>,
    backoff: Backoff,
    /// Since when every call has failed, if it has.
    failing_since: Option<Timestamp>,
    is_declared: bool,
    /// A secret that could not be written down yet. The one before is used until it is.
    unsaved: Option<SecretString>,
    /// When the secret may be replaced again, after that has failed.
    next_rotation: Option<Timestamp>,
}

impl Runner {
    pub(super) fn new(config: AgentConfig, client: GraphqlClient, state: State, shop: Arc<Workshop>) -> Self {
        Self {
            config,
            clock: shop.clock.clone(),
            rng: shop.rng.clone(),
            client,
            state,
            shop,
            backoff: Backoff::new(LONGEST_WAIT),
            failing_since: None,
            is_declared: false,
            unsaved: None,
            next_rotation: None,
        }
    }

    /// Sends heartbeats until the runner is over. Comes back earlier only with the reason why it cannot go on.
    pub(super) async fn serve(&mut self, over: &CancellationToken) -> Result<(), AgentError> {
        loop {
            // Whatever it is waiting for, it is dropped at once. Nothing is lost by that: a registration whose answer is
            // lost is taken over at the next start, and the state file is written without an await.
            match over.run_until_cancelled(self.attend()).await {
                None => return Ok(()),
                Some(Err(error)) => return Err(error),
                // The answer to this is the new secret, and is waited for.
                Some(Ok(())) => self.rotate(over).await,
            }
        }
    }

    /// Sends heartbeats until the secret is to be replaced.
    async fn attend(&mut self) -> Result<(), AgentError> {
        let mut session = self.open_session().await?;
        loop {
            match self.turn(&mut session).await {
                Ok(beat) => {
                    self.note_answer();
                    if self.is_rotation_due(&beat) {
                        return Ok(());
                    }
                    if session.is_due() {
                        self.renew(&mut session).await?;
                    }
                    if self.is_refused_within(beat.interval()).await {
                        debug!("a call found the session refused");
                        self.clock.sleep(up_to(AFTER_A_REFUSED_CALL, &self.rng)).await;
                        session = self.open_session().await?;
                    }
                }
                Err(error) if error.is_unauthenticated() => {
                    debug!(%error, "the session is not accepted any more");
                    self.shop.link.withdraw();
                    if !session.has_worked() {
                        self.clock.sleep(up_to(AFTER_A_REFUSED_SESSION, &self.rng)).await;
                    }
                    session = self.open_session().await?;
                }
                // What worked before comes back: a malformed answer is that of a proxy, or of a server being replaced.
                Err(error) if error.is_temporary() || matches!(error, ClientError::Malformed(_)) => {
                    self.wait_after(&error).await;
                }
                Err(error) => return Err(AgentError::Refused(error)),
            }
        }
    }

    /// Waits until the next heartbeat is due. True when a session has to be opened before.
    async fn is_refused_within(&self, interval: Duration) -> bool {
        tokio::select! {
            () = self.clock.sleep(interval) => false,
            () = self.shop.link.heartbeat_wanted() => false,
            () = self.shop.link.session_wanted() => true,
        }
    }

    /// Says what is to be said, and takes note of what is told.
    async fn turn(&mut self, session: &mut Session) -> Result<Heartbeat, ClientError> {
        self.save_secret();
        if !self.is_declared {
            let input = DeclareRunnerInput { labels: self.labels(), version: VERSION, os: OS, arch: ARCH };
            session.declare(&self.client, &input).await?;
            self.is_declared = true;
            info!(runner = self.name(), "online");
        }
        let beat = session.heartbeat(&self.client, &self.shop.assignments.heartbeat()).await?;
        self.note_directives(&beat);
        Ok(beat)
    }

    async fn open_session(&mut self) -> Result<Session, AgentError> {
        let mut has_registered_again = false;
        loop {
            let Some(credentials) = self.state.credentials() else {
                self.register().await?;
                continue;
            };
            match Session::open(&self.client, &credentials).await {
                Ok(session) => {
                    self.note_answer();
                    self.publish(&session);
                    return Ok(session);
                }
                Err(error) if error.is_temporary() => self.wait_after(&error).await,
                Err(error) if error.is_unauthenticated() && self.unsaved.is_some() => self.use_unsaved_secret(),
                // It is gone as it should be, or deleted. What is left to do is for those who run its task to know.
                Err(error) if error.is_unauthenticated() && self.is_spent() => {
                    debug!(%error, "the server knows this runner no more");
                    self.shop.link.give_up();
                    // Nobody waits for what their scripts would still do.
                    self.shop.assignments.forget_all();
                    std::future::pending::<()>().await;
                }
                // Once only: a server that refuses the runner it has just registered does not improve by more of them.
                Err(error) if error.is_unauthenticated() && !has_registered_again => {
                    self.replace_identity(&error).await?;
                    has_registered_again = true;
                }
                Err(error) => return Err(AgentError::Refused(error)),
            }
        }
    }

    /// Opens the next session while the old one still works, so that a busy server delays no heartbeat.
    async fn renew(&mut self, session: &mut Session) -> Result<(), AgentError> {
        let Some(credentials) = self.state.credentials() else {
            return Ok(());
        };
        match Session::open(&self.client, &credentials).await {
            Ok(fresh) => {
                *session = fresh;
                self.publish(session);
                debug!("session renewed");
            }
            Err(error) if error.is_temporary() => debug!(%error, "the session is renewed at the next heartbeat"),
            Err(_) => *session = self.open_session().await?,
        }
        Ok(())
    }

    /// Lets everyone use a session.
    fn publish(&self, session: &Session) {
        if self.is_ephemeral() {
            // So the server may have decided: by the registration token.
            self.shop.assignments.take_one();
        }
        self.shop.link.publish(session.credentials().clone());
    }

    /// Whether it is for one task, and had that.
    fn is_spent(&self) -> bool {
        self.is_ephemeral() && self.shop.assignments.has_taken()
    }

    pub(super) fn is_ephemeral(&self) -> bool {
        self.state.identity().is_some_and(|identity| identity.ephemeral)
    }

    async fn register(&mut self) -> Result<(), AgentError> {
        let Some(token) = self.config.token.clone() else {
            return Err(AgentError::NoToken);
        };
        // Written down before it is asked for: should the answer be lost, the next attempt takes the same record over.
        self.state.save()?;
        let name = self.wanted_name();
        let registration = loop {
            let input = RegisterRunnerInput {
                token: token.expose_secret(),
                name: &name,
                labels: self.labels(),
                version: VERSION,
                os: OS,
                arch: ARCH,
                ephemeral: self.config.ephemeral.then_some(true),
                machine_id: self.state.machine_id(),
            };
            match session::register(&self.client, &input).await {
                Ok(registration) => break registration,
                Err(error) if error.is_temporary() => self.wait_after(&error).await,
                Err(error) => return Err(AgentError::Registration(error)),
            }
        };
        self.note_answer();
        let runner = registration.runner;
        info!("registered as {} ({})", runner.name, runner.id);
        self.state.adopt(Identity {
            runner_id: runner.id,
            uuid: runner.uuid,
            name: runner.name,
            secret: registration.secret,
            ephemeral: runner.ephemeral,
        })?;
        Ok(())
    }

    async fn replace_identity(&mut self, error: &ClientError) -> Result<(), AgentError> {
        let name = self.name().to_owned();
        if self.config.token.is_none() {
            return Err(AgentError::Forgotten { name, path: self.state.path().to_owned() });
        }
        warn!(runner = name, %error, "the server no longer accepts this runner; registering it again");
        self.register().await
    }

    /// Says goodbye if it shall, and never takes long over it. One that is for a single task always shall: it would not
    /// come back.
    pub(super) async fn leave(&self) {
        if !self.config.deregister_on_exit && !self.is_ephemeral() {
            return;
        }
        let Some(credentials) = self.state.credentials() else {
            return;
        };
        let answer = tokio::select! {
            answer = session::deregister(&self.client, &credentials) => answer,
            () = self.clock.sleep(LEAVE_WITHIN) => Err(ClientError::Unreachable("no answer in time".to_owned())),
        };
        match answer {
            Ok(()) => info!(runner = self.name(), "deregistered"),
            // It is gone already, which is what was wanted.
            Err(error) if error.is_unauthenticated() => debug!(%error, "the server knew this runner no more"),
            Err(error) => {
                warn!(runner = self.name(), %error, "left without deregistering; delete the runner on the server");
                if !self.is_ephemeral() {
                    return;
                }
            }
        }
        self.forget();
    }

    /// Removes the identity from this machine.
    pub(super) fn forget(&self) {
        if let Err(error) = self.state.remove() {
            warn!("{error}");
        }
    }

    /// Waits before the next attempt. An outage is told once, however long it lasts.
    async fn wait_after(&mut self, error: &ClientError) {
        let delay = self.backoff.delay_after(error, &self.rng);
        if self.failing_since.is_none() {
            self.failing_since = Some(self.clock.now());
            warn!(%error, "a call failed; trying again until the server answers");
        } else {
            debug!(%error, delay_ms = delay.as_millis(), "a call failed again");
        }
        self.clock.sleep(delay).await;
    }

    fn note_answer(&mut self) {
        self.backoff.reset();
        if let Some(since) = self.failing_since.take() {
            info!("the server answers again, after {} s", self.clock.now().since(since).as_secs());
        }
    }

    fn note_directives(&self, beat: &Heartbeat) {
        for directive in &beat.directives {
            if let Told::Cancel(id) = directive.told() {
                self.shop.assignments.cancel(id);
            }
        }
        let is_draining = beat.is_draining();
        if self.shop.assignments.set_draining(is_draining) {
            if is_draining {
                info!("the runner is disabled on the server and gets no new work");
            } else {
                info!("the runner is enabled again");
            }
        }
    }

    fn labels(&self) -> Option<&[String]> {
        (!self.config.labels.is_empty()).then_some(self.config.labels.as_slice())
    }

    /// The name on the server.
    fn name(&self) -> &str {
        self.state.identity().map_or("", |identity| identity.name.as_str())
    }

    /// The name to register with: as configured, as it was before, or the machine's.
    fn wanted_name(&self) -> String {
        let before = || self.state.identity().map(|identity| identity.name.clone());
        self.config.name.clone().or_else(before).unwrap_or_else(host_name)
    }
}

fn host_name() -> String {
    ["/proc/sys/kernel/hostname", "/etc/hostname"]
        .into_iter()
        .find_map(|path| {
            let text = fs::read_to_string(path).ok()?;
            let name = text.trim();
            (!name.is_empty()).then(|| name.to_owned())
        })
        .unwrap_or_else(|| "runner".to_owned())
}
