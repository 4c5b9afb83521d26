//! A new token for a runner, with some time to change over.

use secrecy::SecretString;

use super::Fleet;
use crate::auth::{Actor, SecretKind, mint};
use crate::clock::Timestamp;
use crate::error::{AppError, Result};
use crate::events::{AccessChange, Event};
use crate::store::models::RunnerRow;

/// A runner with a new token.
#[derive(Clone, Debug)]
pub struct Rotated {
    /// The runner.
    pub runner: RunnerRow,
    /// Its new token, shown once.
    pub secret: SecretString,
    /// Until when the old one works, unless the new one is used before.
    pub previous_valid_until: Timestamp,
}

impl Fleet {
    /// Gives a runner a new token. The runner itself may, and whoever manages it. Sessions opened before are over at once;
    /// the old token opens new ones until the new one is first used, or the overlap has passed.
    ///
    /// # Errors
    /// `NOT_FOUND`, `FORBIDDEN`, `BAD_USER_INPUT` when nobody is named.
    pub async fn rotate_runner_token(&self, actor: &Actor, id: Option<i64>) -> Result<Rotated> {
        let id = match (actor, id) {
            // Whoever stole the old token must not get a new one while the rightful holder changes over.
            (Actor::Runner(runner), _) if runner.previous => {
                return Err(AppError::forbidden(
                    "The token was rotated already and this is the one before. Use the new one, or ask whoever manages the \
                     runner to rotate it again.",
                ));
            }
            (Actor::Runner(runner), None) => runner.id,
            (Actor::Runner(runner), Some(id)) if runner.id == id => id,
            (Actor::Runner(_), Some(_)) => {
                return Err(AppError::forbidden("A runner may only rotate its own token. Leave id out."));
            }
            (_, Some(id)) => self.managed_runner(actor, id).await?.id,
            (_, None) => {
                actor.user(crate::model::AccessTokenScope::WriteRunner)?;
                return Err(AppError::bad_input("id", "Name the runner whose token is to be rotated."));
            }
        };
        let now = self.now();
        let previous_valid_until = now + self.settings.rotation_overlap;
        let secret = mint(SecretKind::RunnerToken, id, &self.rng);
        let token_hash = self.hasher.hash_token(&secret).await?;
        let runner = transact!(self.store, |db, queries| {
            let known = queries::runners::lock(db, id, now.as_micros()).await?;
            let known = known.ok_or_else(|| AppError::not_found("The runner"))?;
            let changes = queries::runners::RunnerChanges {
                token_hash: Some(token_hash),
                token_generation: Some(known.token_generation + 1),
                token_issued_at: Some(now.as_micros()),
                previous_token_hash: Some(Some(known.token_hash)),
                previous_valid_until: Some(Some(previous_valid_until.as_micros())),
                updated_at: Some(now.as_micros()),
                ..Default::default()
            };
            queries::runners::update(db, id, changes).await?.ok_or_else(|| AppError::not_found("The runner"))
        })?;
        let issued_at = runner.token_issued_at;
        self.presence.set_token(id, runner.token_generation, issued_at, runner.previous_valid_until);
        self.tell_access(AccessChange::Runner(id));
        self.tell(Event::RunnerUpdated, runner.id, runner.scope_id, runner.owner_id);
        Ok(Rotated { runner, secret, previous_valid_until })
    }
}
