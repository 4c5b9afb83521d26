//! The one place that turns what a request shows into an [`Actor`], whatever it came by.

use std::str::FromStr as _;
use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretString};
use uuid::Uuid;

use super::actor::{Actor, RunnerActor, TokenActor, UserActor};
use super::hashing::{Hasher, Verified};
use super::secret::{self, SecretKind};
use super::session::{Session, Sessions};
use crate::clock::{Clock, Timestamp};
use crate::error::{AppError, Result};
use crate::model::AccessTokenScope;
use crate::store::Store;
use crate::store::models::PresenceRow;

/// What a request shows of itself.
#[derive(Clone, Debug, Default)]
pub enum Credentials {
    /// Nothing.
    #[default]
    None,
    /// `Authorization: Bearer …`.
    Bearer(SecretString),
    /// `X-Runner-UUID` and `X-Runner-Token`.
    Runner {
        /// The runner's name for itself, as sent.
        uuid: String,
        /// Its token, as sent.
        token: SecretString,
    },
}

/// What is known in memory of a runner's token, so that a session costs no statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenState {
    /// What the runner belongs to.
    pub scope_id: i64,
    /// The generation of the current token.
    pub generation: i64,
    /// Until when the one before works, if it does.
    pub previous_valid_until: Option<Timestamp>,
}

/// Knows every runner's token state.
pub trait RunnerDirectory: Send + Sync {
    /// The state of a runner's token; nothing when there is no such runner.
    fn token_state(&self, runner_id: i64) -> Option<TokenState>;

    /// The runner used its newest token, of this generation, for the first time: the one before is over.
    fn previous_retired(&self, runner_id: i64, generation: i64);

    /// The database has a runner that memory does not know as it is: the end of a transaction was not heard of.
    fn learned(&self, row: &PresenceRow, labels: &[String]);
}

/// Authenticates requests. Clones share everything.
#[derive(Clone)]
pub struct Authenticator {
    store: Store,
    clock: Clock,
    hasher: Hasher,
    sessions: Arc<Sessions>,
    runners: Arc<dyn RunnerDirectory>,
}

/// One answer for an unknown UUID and a wrong token: the difference is nobody's business.
const WRONG_RUNNER: &str = "The runner UUID or token is wrong. If the runner was removed, register it again.";
const WRONG_TOKEN: &str = "The access token is wrong, expired or revoked. Make a new one with createAccessToken.";

impl Authenticator {
    /// An authenticator over these parts.
    pub fn new(
        store: Store,
        clock: Clock,
        hasher: Hasher,
        sessions: Arc<Sessions>,
        runners: Arc<dyn RunnerDirectory>,
    ) -> Self {
        Self { store, clock, hasher, sessions, runners }
    }

    /// Says who shows these credentials.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` when they are wrong, `RATE_LIMITED` when too many are being checked, `UNAVAILABLE` when the
    /// database is needed and away.
    pub async fn authenticate(&self, credentials: &Credentials) -> Result<Actor> {
        match credentials {
            Credentials::None => Ok(Actor::Anonymous),
            Credentials::Bearer(token) if token.expose_secret().starts_with("rc_") => self.user(token).await,
            Credentials::Bearer(token) => self.session(token.expose_secret()),
            Credentials::Runner { uuid, token } => self.runner(uuid, token).await,
        }
    }

    /// Says who an actor is by now, for what lasts longer than a request.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` when its credentials no longer work.
    pub async fn again(&self, actor: &Actor) -> Result<Actor> {
        match actor {
            Actor::User(user) => {
                let current = self.user_of_token(user.token.id).await?;
                current.map(|(actor, _)| actor).ok_or_else(|| AppError::unauthenticated(WRONG_TOKEN))
            }
            Actor::Runner(runner) => {
                if runner.expires_at.is_some_and(|end| end <= self.clock.now()) {
                    return Err(AppError::unauthenticated(super::session::SessionError::Expired.to_string()));
                }
                self.current_runner(runner.id, runner.generation, runner.previous, runner.expires_at)
            }
            Actor::Anonymous | Actor::System => Ok(actor.clone()),
        }
    }

    /// Opens a session for a runner.
    ///
    /// # Errors
    /// `INTERNAL` when it cannot be signed.
    pub fn open_session(&self, runner: &RunnerActor) -> Result<(SecretString, Timestamp)> {
        self.sessions.open(runner.id, runner.generation, runner.previous, self.clock.now()).map_err(AppError::internal)
    }

    fn session(&self, token: &str) -> Result<Actor> {
        let session = self
            .sessions
            .check(token, self.clock.now())
            .map_err(|error| AppError::unauthenticated(capitalized(&error.to_string())))?;
        let Session { runner_id, generation, previous, expires_at } = session;
        self.current_runner(runner_id, generation, previous, Some(expires_at))
    }

    /// The runner, if this generation of its token still works.
    fn current_runner(&self, id: i64, generation: i64, previous: bool, expires_at: Option<Timestamp>) -> Result<Actor> {
        let state = self.runners.token_state(id).filter(|state| {
            state.generation == generation
                && (!previous || state.previous_valid_until.is_some_and(|end| end > self.clock.now()))
        });
        let state = state.ok_or_else(|| AppError::unauthenticated(WRONG_RUNNER))?;
        Ok(Actor::Runner(RunnerActor { id, scope_id: state.scope_id, generation, previous, expires_at }))
    }

    async fn runner(&self, uuid: &str, token: &SecretString) -> Result<Actor> {
        secret::parse(SecretKind::RunnerToken, token.expose_secret())
            .map_err(|error| AppError::unauthenticated(format!("The runner token cannot be right: {error}.")))?;
        let uuid = Uuid::from_str(uuid).map_err(|_| {
            AppError::unauthenticated("X-Runner-UUID is not a UUID, such as 67e55044-10b1-426f-9247-bb680e5fe0c8.")
        })?;
        let uuid = uuid.hyphenated().to_string();
        let fingerprint = secret::fingerprint(&uuid, token.expose_secret());
        // What is remembered may have been overtaken by a rotation: then the slow way decides.
        if let Some(known) = self.hasher.remembered(&fingerprint)
            && let Ok(actor) = self.current_runner(known.id, known.generation, known.previous, None)
        {
            return Ok(actor);
        }
        let wanted = uuid.clone();
        let row = read!(self.store, |db, queries| queries::runners::by_uuid(db, &wanted).await)?;
        let current = row.as_ref().map(|row| row.token_hash.as_str());
        let fits_current = self.hasher.verify(token, current).await?;
        let now = self.clock.now().as_micros();
        let previous = row.as_ref().filter(|row| row.previous_valid_until > Some(now));
        let previous = previous.and_then(|row| row.previous_token_hash.clone());
        // A second look whether or not there is a second token, so that neither takes another time.
        let fits_previous = !fits_current && self.hasher.verify(token, previous.as_deref()).await?;
        let Some(row) = row else { return Err(AppError::unauthenticated(WRONG_RUNNER)) };
        if fits_current {
            if previous.is_some() {
                self.retire_previous(row.id, row.token_generation).await?;
            }
        } else if !fits_previous {
            return Err(AppError::unauthenticated(WRONG_RUNNER));
        }
        let verified = Verified { id: row.id, generation: row.token_generation, previous: !fits_current };
        let known = self.runners.token_state(row.id).map(|state| state.generation);
        if known.is_none_or(|known| known < row.token_generation) {
            // As it is now: it may have gone while its token was checked.
            let id = row.id;
            let (now, labels) = read!(self.store, |db, queries| {
                let now = queries::runners::by_ids(db, vec![id]).await?;
                Ok((now, queries::runners::labels(db, vec![id]).await?))
            })?;
            if let Some(row) = now.first() {
                let labels: Vec<String> = labels.into_iter().map(|(_, label)| label).collect();
                self.runners.learned(&PresenceRow::from(row), &labels);
            }
        }
        let actor = self.current_runner(verified.id, verified.generation, verified.previous, None)?;
        self.hasher.remember(fingerprint, verified);
        Ok(actor)
    }

    /// The new token was used: from now on the old one is refused. Both steps are done even when the caller goes away.
    async fn retire_previous(&self, id: i64, generation: i64) -> Result<()> {
        let (store, runners) = (self.store.clone(), self.runners.clone());
        let work = async move {
            transact!(store, |db, queries| queries::runners::retire_previous(db, id, generation).await)?;
            runners.previous_retired(id, generation);
            Ok(())
        };
        self.store.to_the_end(work).await
    }

    async fn user(&self, token: &SecretString) -> Result<Actor> {
        let presented = secret::parse(SecretKind::AccessToken, token.expose_secret())
            .map_err(|error| AppError::unauthenticated(format!("The bearer token cannot be right: {error}.")))?;
        let found = self.user_of_token(presented.id).await?;
        let hash = found.as_ref().map(|(_, hash)| hash.as_str());
        if !self.hasher.verify_once(token, presented.id, hash).await? {
            return Err(AppError::unauthenticated(WRONG_TOKEN));
        }
        found.map(|(actor, _)| actor).ok_or_else(|| AppError::unauthenticated(WRONG_TOKEN))
    }

    /// The user whom a usable token belongs to, as of now, with the token's hash.
    async fn user_of_token(&self, id: i64) -> Result<Option<(Actor, String)>> {
        let now = self.clock.now().as_micros();
        read!(self.store, |db, queries| {
            let Some((token, scope, user)) = queries::access_tokens::with_user(db, id).await? else {
                return Ok(None);
            };
            if token.revoked_at.is_some() || token.expires_at.is_some_and(|end| end <= now) {
                return Ok(None);
            }
            let memberships = queries::members::of_user(db, user.id).await?;
            let actor = Actor::User(UserActor {
                id: user.id,
                login: scope.path,
                is_admin: user.is_admin,
                memberships: memberships.into_iter().map(|it| (it.organization_id, it.role)).collect(),
                token: TokenActor {
                    id: token.id,
                    scopes: token.scopes.split(',').filter_map(|it| AccessTokenScope::from_str(it).ok()).collect(),
                    expires_at: token.expires_at.map(Timestamp::from_micros),
                },
            });
            Ok(Some((actor, token.token_hash)))
        })
    }
}

fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| format!("{}{}.", first.to_uppercase(), letters.as_str()))
}
