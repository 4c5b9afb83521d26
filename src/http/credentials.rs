//! The interceptor: what a request or a `connection_init` shows of itself, and who that is.

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use secrecy::SecretString;
use serde_json::Value;

use super::Shared;
use crate::auth::{Actor, Credentials};
use crate::error::{AppError, Result};

/// Says who shows these credentials, and takes note of a runner's call.
pub(super) async fn authenticate(shared: &Shared, credentials: &Credentials) -> Result<Actor> {
    let actor = shared.fleet.authenticator.authenticate(credentials).await?;
    shared.fleet.hear(&actor);
    Ok(actor)
}

/// The credentials in a request's headers.
pub(super) fn of_headers(headers: &HeaderMap) -> Result<Credentials> {
    let text = |name: &str| -> Result<Option<&str>> {
        let mut values = headers.get_all(name).iter();
        match (values.next(), values.next()) {
            (None, _) => Ok(None),
            (Some(value), None) => value.to_str().map(Some).map_err(|_| malformed(name)),
            (Some(_), Some(_)) => Err(malformed(name)),
        }
    };
    read(text(AUTHORIZATION.as_str())?, text("x-runner-uuid")?, text("x-runner-token")?)
}

/// The credentials in a `connection_init` payload: the same keys, in any letter case.
pub(super) fn of_payload(payload: Option<&Value>) -> Result<Credentials> {
    let Some(payload) = payload.and_then(Value::as_object) else { return Ok(Credentials::None) };
    let text = |name: &str| -> Result<Option<&str>> {
        let mut values = payload.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
        match (values.next(), values.next()) {
            (None | Some(Value::Null), None) => Ok(None),
            (Some(Value::String(text)), None) => Ok(Some(text)),
            _ => Err(malformed(name)),
        }
    };
    read(text("authorization")?, text("x-runner-uuid")?, text("x-runner-token")?)
}

fn malformed(name: &str) -> AppError {
    AppError::unauthenticated(format!("{name} is malformed or given twice. Send it once, as plain text."))
}

fn read(authorization: Option<&str>, uuid: Option<&str>, token: Option<&str>) -> Result<Credentials> {
    match (authorization, uuid, token) {
        (None, None, None) => Ok(Credentials::None),
        (Some(authorization), None, None) => {
            let bearer = authorization.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
            let token = bearer.map(|(_, token)| token.trim()).filter(|token| !token.is_empty());
            let token = token.ok_or_else(|| {
                AppError::unauthenticated(
                    "Authorization has to be Bearer, a space, and an access token (rc_pat_…) or a runner session.",
                )
            })?;
            Ok(Credentials::Bearer(SecretString::from(token.to_owned())))
        }
        (None, Some(uuid), Some(token)) => {
            Ok(Credentials::Runner { uuid: uuid.trim().to_owned(), token: SecretString::from(token.trim().to_owned()) })
        }
        (None, _, _) => Err(AppError::unauthenticated(
            "A runner shows both X-Runner-UUID and X-Runner-Token; one of them is missing.",
        )),
        (Some(_), _, _) => Err(AppError::unauthenticated(
            "Both Authorization and X-Runner-… are given. Send one of them, so that it is clear who you are.",
        )),
    }
}
