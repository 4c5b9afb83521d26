//! `rollcall token create`: a registration token straight from the database, for an operator without a browser.

use std::io::Write as _;

use secrecy::{ExposeSecret as _, SecretString};
use tokio_util::sync::CancellationToken;

use super::Failure;
use crate::app::{self, App, Keys};
use crate::auth::Actor;
use crate::clock::Clock;
use crate::config::{ServerConfig, TokenConfig};
use crate::error::ErrorCode;
use crate::fleet::{NewRegistrationToken, ScopeRef};
use crate::rng::Rng;

pub(super) async fn create(server: ServerConfig, token: TokenConfig) -> Result<(), Failure> {
    let (store, _) = app::open_store(&server).await?;
    let rng = Rng::from_system();
    // Nothing is signed here, so any key will do.
    let any_key = || SecretString::from(data_encoding::HEXLOWER.encode(&rng.bytes::<32>()));
    let keys = Keys { sessions: any_key(), job_tokens: any_key() };
    let fleet = App::fleet(&server, store, Clock::system(), rng.clone(), &keys, CancellationToken::new())?;
    let scope = match token.scope.as_str() {
        "" => ScopeRef::Global,
        path if path.contains('/') => ScopeRef::Repository(path.to_owned()),
        login => ScopeRef::Owner(login.to_owned()),
    };
    let scope = fleet.scope(&Actor::System, &scope).await.map_err(|error| match error.code {
        ErrorCode::NotFound | ErrorCode::BadUserInput => format!(
            "there is no user, organization or repository {:?}; write --scope acme or --scope acme/api, or leave it empty for \
             the instance",
            token.scope
        ),
        _ => error.to_string(),
    })?;
    let wanted = NewRegistrationToken {
        description: Some(token.description).filter(|text| !text.is_empty()),
        expires_in_seconds: token.expires_in.map(|time| i64::try_from(time.as_secs()).unwrap_or(i64::MAX)),
        max_uses: token.max_uses.map(i64::from),
        ephemeral_only: token.ephemeral_only,
        allowed_cidrs: token.allowed_cidrs.iter().map(ToString::to_string).collect(),
        labels: token.labels,
    };
    let (_, secret) = fleet.create_registration_token(&Actor::System, &scope, wanted).await?;
    writeln!(std::io::stdout(), "{}", secret.expose_secret())?;
    Ok(())
}
