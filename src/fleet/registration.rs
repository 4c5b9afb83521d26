//! How a machine becomes a runner, and stops being one.

use std::net::IpAddr;

use ipnet::IpNet;
use secrecy::{ExposeSecret as _, SecretString};

use super::{Fleet, names};
use crate::auth::{Actor, SecretKind, mint, parse};
use crate::error::{AppError, Result};
use crate::events::{AccessChange, Event};
use crate::model::RunnerStatus;
use crate::store::models::{PresenceRow, RegistrationTokenRow, RunnerRow, list};

/// What a machine says when it registers.
#[derive(Clone, Debug)]
pub struct Registration {
    /// A registration token.
    pub token: SecretString,
    /// Display name.
    pub name: String,
    /// What tasks choose the runner by.
    pub labels: Vec<String>,
    /// The agent's version.
    pub version: Option<String>,
    /// Operating system.
    pub os: Option<String>,
    /// Processor architecture.
    pub arch: Option<String>,
    /// What it is, for people.
    pub description: Option<String>,
    /// Whether it takes one task and is then removed; without a word, what the token says.
    pub ephemeral: Option<bool>,
    /// What the machine calls itself: the same machine in the same scope takes its old record over.
    pub machine_id: Option<String>,
}

/// A runner that has just registered.
#[derive(Clone, Debug)]
pub struct Registered {
    /// The runner.
    pub runner: RunnerRow,
    /// Its token, shown once.
    pub secret: SecretString,
}

impl Fleet {
    /// Registers a runner for whoever holds a registration token. A use is counted in the transaction that makes the
    /// runner, so that a token never makes more than it may.
    ///
    /// # Errors
    /// `BAD_USER_INPUT`; `UNAUTHENTICATED` for a token that does not exist; `FORBIDDEN` for one that is revoked, expired,
    /// used up, or used from a network it is not for.
    pub async fn register(&self, registration: Registration, address: Option<IpAddr>) -> Result<Registered> {
        let name = names::display_name("name", &registration.name)?;
        let labels = names::labels("labels", &registration.labels)?;
        let description = names::text("description", registration.description.as_deref().unwrap_or_default())?;
        let version = names::machine_word("version", registration.version.as_deref())?;
        let os = names::machine_word("os", registration.os.as_deref())?;
        let arch = names::machine_word("arch", registration.arch.as_deref())?;
        let machine_id = names::machine_word("machineId", registration.machine_id.as_deref())?;

        let token = self.checked_token(&registration.token).await?;
        let now = self.now().as_micros();
        may_use(&token, now, address)?;
        if token.ephemeral_only && registration.ephemeral == Some(false) {
            return Err(AppError::bad_input(
                "ephemeral",
                "This registration token is for ephemeral runners only. Leave ephemeral out, or set it to true.",
            ));
        }
        let ephemeral = registration.ephemeral.unwrap_or(token.ephemeral_only);
        let forced: Vec<String> = list(&token.labels);

        let id = self.ids.next();
        let secret = mint(SecretKind::RunnerToken, id, &self.rng);
        let token_hash = self.hasher.hash_token(&secret).await?;
        let scope_id = token.scope_id;
        let owner_id = self.owner_of(scope_id).await?;
        let row = RunnerRow {
            id,
            uuid: self.rng.uuid().hyphenated().to_string(),
            scope_id,
            owner_id,
            name_key: name.to_lowercase(),
            name,
            description_key: description.to_lowercase(),
            description,
            note: String::new(),
            version,
            os,
            arch,
            ephemeral,
            disabled: false,
            machine_id,
            token_hash,
            token_generation: 1,
            token_issued_at: now,
            previous_token_hash: None,
            previous_valid_until: None,
            registered_with: Some(token.id),
            registered_from: address.map(|address| address.to_string()),
            last_online_at: 0,
            last_active_at: 0,
            status: RunnerStatus::Offline,
            status_since: now,
            transition_count: 0,
            created_at: now,
            updated_at: now,
            used_at: None,
        };
        let mut all: Vec<String> = forced.iter().chain(&labels).cloned().collect();
        all.sort_unstable();
        all.dedup();
        let (runner, is_new) = self.store_registration(row, labels, forced, address).await?;
        self.presence.register(&PresenceRow::from(&runner), &all);
        self.dispatch.look_again(runner.id);
        if !is_new {
            // The secret it had is over, and with it whatever was opened with that.
            self.tell_access(AccessChange::Runner(runner.id));
        }
        self.tell(Event::RunnerRegistered, runner.id, runner.scope_id, runner.owner_id);
        Ok(Registered { runner, secret })
    }

    async fn store_registration(
        &self,
        row: RunnerRow,
        labels: Vec<String>,
        forced: Vec<String>,
        address: Option<IpAddr>,
    ) -> Result<(RunnerRow, bool)> {
        transact!(self.store, |db, queries| {
            let now = row.created_at;
            let token_id = row.registered_with.unwrap_or_default();
            // Whoever deletes the scope locks it before its tokens.
            queries::scopes::keep_scope(db, row.scope_id).await?;
            let from = address.map(|address| address.to_string());
            let token = queries::registration_tokens::lock(db, token_id, now, from.as_deref()).await?;
            let token = token.ok_or_else(unknown_token)?;
            may_use(&token, now, address)?;
            let known = match &row.machine_id {
                Some(machine_id) => match queries::runners::by_machine(db, row.scope_id, machine_id).await? {
                    Some(known) => queries::runners::lock(db, known.id, now).await?,
                    None => None,
                },
                None => None,
            };
            // A machine that asks again with the same token, perhaps because it lost the answer, makes no new runner.
            let is_use = known.as_ref().is_none_or(|known| known.registered_with != Some(token.id));
            if is_use {
                if token.max_uses.is_some_and(|max| token.use_count >= max) {
                    return Err(AppError::forbidden(
                        "The registration token has made as many runners as it may. Ask for a new one.",
                    ));
                }
                queries::registration_tokens::count_use(db, token.id).await?;
            }
            let is_new = known.is_none();
            let runner = if let Some(known) = known {
                let changes = queries::runners::RunnerChanges {
                    name: Some(row.name),
                    name_key: Some(row.name_key),
                    description: Some(row.description),
                    description_key: Some(row.description_key),
                    version: row.version,
                    os: row.os,
                    arch: row.arch,
                    ephemeral: Some(row.ephemeral),
                    token_hash: Some(row.token_hash),
                    token_generation: Some(known.token_generation + 1),
                    token_issued_at: Some(now),
                    previous_token_hash: Some(None),
                    previous_valid_until: Some(None),
                    registered_with: Some(row.registered_with),
                    registered_from: Some(row.registered_from),
                    // The machine begins anew, and with it the one task of an ephemeral runner.
                    used_at: Some(None),
                    updated_at: Some(now),
                    ..Default::default()
                };
                let updated = queries::runners::update(db, known.id, changes).await?;
                queries::runners::clear_labels(db, known.id).await?;
                updated.ok_or_else(|| AppError::not_found("The runner"))?
            } else {
                if !queries::runners::insert(db, row.clone()).await? {
                    return Err(AppError::conflict(
                        "This machine is being registered by another call at this moment. Try again.",
                    ));
                }
                row
            };
            let forced = forced.into_iter().map(|label| (runner.id, label, true));
            let all: Vec<(i64, String, bool)> =
                forced.chain(labels.into_iter().map(|label| (runner.id, label, false))).collect();
            queries::runners::insert_labels(db, &all).await?;
            Ok((runner, is_new))
        })
    }

    /// The registration token of a secret, if the secret is right.
    async fn checked_token(&self, secret: &SecretString) -> Result<RegistrationTokenRow> {
        let presented = parse(SecretKind::RegistrationToken, secret.expose_secret()).map_err(|error| {
            AppError::bad_input("token", format!("The registration token cannot be right: {error}."))
        })?;
        let id = presented.id;
        let found = read!(self.store, |db, queries| queries::registration_tokens::by_ids(db, vec![id]).await)?.pop();
        let hash = found.as_ref().map(|token| token.token_hash.as_str());
        if self.hasher.verify_once(secret, id, hash).await? {
            found.ok_or_else(unknown_token)
        } else {
            Err(unknown_token())
        }
    }

    /// Removes the runner that asks for it.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` or `FORBIDDEN` for whoever is no runner.
    pub async fn deregister(&self, actor: &Actor) -> Result<i64> {
        let id = actor.runner()?.id;
        let gone = transact!(self.store, |db, queries| queries::runners::delete(db, vec![id]).await)?;
        self.forget_runners(&gone);
        if gone.is_empty() { Err(AppError::not_found("The runner")) } else { Ok(id) }
    }

    async fn owner_of(&self, scope_id: i64) -> Result<i64> {
        let scope = read!(self.store, |db, queries| queries::scopes::by_ids(db, vec![scope_id]).await)?.pop();
        // A token goes with its scope.
        scope.map(|scope| scope.owner_id()).ok_or_else(unknown_token)
    }
}

/// Whether a token may be used now and from here, uses aside.
fn may_use(token: &RegistrationTokenRow, now: i64, address: Option<IpAddr>) -> Result<()> {
    if token.revoked_at.is_some() {
        return Err(AppError::forbidden("The registration token was revoked. Ask for a new one."));
    }
    if token.expires_at.is_some_and(|end| end <= now) {
        return Err(AppError::forbidden("The registration token has expired. Ask for a new one."));
    }
    let networks: Vec<IpNet> = token.allowed_cidrs.split(',').filter_map(|it| it.parse().ok()).collect();
    let is_allowed = token.allowed_cidrs.is_empty()
        || address.is_some_and(|address| networks.iter().any(|network| network.contains(&address)));
    if is_allowed {
        return Ok(());
    }
    let from = address.map_or_else(|| "an unknown address".to_owned(), |address| address.to_string());
    Err(AppError::forbidden(format!(
        "The registration token may not be used from {from}. Use it from one of its networks, or ask for another."
    )))
}

fn unknown_token() -> AppError {
    AppError::unauthenticated("The registration token is wrong. Ask for a new one (createRegistrationToken).")
}
