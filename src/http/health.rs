//! Liveness and readiness, and the public key of job tokens.

use std::sync::atomic::Ordering;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};

use super::HttpState;

/// The process answers.
pub(super) async fn live() -> &'static str {
    "ok\n"
}

/// The server can serve: it is not shutting down, and its database answers.
pub(super) async fn ready(State(state): State<HttpState>) -> Response {
    if state.is_draining.load(Ordering::Relaxed) {
        return (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n").into_response();
    }
    match state.fleet.store.ping().await {
        Ok(()) => "ready\n".into_response(),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the database does not answer\n").into_response(),
    }
}

/// The public key that job tokens are checked with. It changes only when the operator changes the key.
pub(super) async fn jwks(State(state): State<HttpState>) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/jwk-set+json"), (header::CACHE_CONTROL, "public, max-age=300")];
    (headers, state.fleet.job_tokens.jwks().to_owned()).into_response()
}
