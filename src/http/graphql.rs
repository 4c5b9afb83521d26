//! `/graphql`: POST and GET, and the doors to WebSocket and SSE.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{ConnectInfo, State};
use axum::http::header::UPGRADE;
use axum::http::request::Parts;
use axum::http::{Method, Request, StatusCode};
use axum::response::Response;
use futures_util::stream::{self, StreamExt as _};

use super::client_address::client_address;
use super::request::{Refusal, from_address, from_body};
use super::respond::{Media, answer, refuse, status};
use super::{HttpState, credentials, socket, sse};
use crate::clock::Stopwatch;
use crate::error::{AppError, ErrorCode, Result};
use crate::graphql::{Answer, Incoming, OperationKind};

/// Answers whatever comes to `/graphql`.
pub(super) async fn handle(
    State(state): State<HttpState>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request<Body>,
) -> Response {
    let request_id = state.request_id();
    let (parts, body) = request.into_parts();
    if parts.headers.get(UPGRADE).is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket")) {
        let address = client_address(peer, &parts.headers, &state.settings.trusted_proxies);
        return socket::open(state, parts, address).await;
    }
    let Some(media) = Media::accepted(&parts.headers) else {
        let error = AppError::bad_input(
            "accept",
            "None of what you accept is offered. Accept application/graphql-response+json, application/json or \
             text/event-stream.",
        );
        return refuse(&error, StatusCode::NOT_ACCEPTABLE, Media::Json, &request_id);
    };
    match serve(&state, peer, &parts, body, media, &request_id).await {
        Ok(response) => response,
        Err(Refusal(error, fixed)) => {
            let code = error.code.as_str();
            if matches!(error.code, ErrorCode::Unauthenticated | ErrorCode::RateLimited) {
                let address = client_address(peer, &parts.headers, &state.settings.trusted_proxies);
                tracing::info!(request_id = &*request_id, code, %address, "request refused");
            } else {
                tracing::debug!(request_id = &*request_id, code, "request refused");
            }
            refuse(&error, fixed.unwrap_or_else(|| status(error.code, media)), media, &request_id)
        }
    }
}

async fn serve(
    state: &HttpState,
    peer: SocketAddr,
    parts: &Parts,
    body: Body,
    media: Media,
    request_id: &Arc<str>,
) -> Result<Response, Refusal> {
    let watch = Stopwatch::start();
    // The credentials first: whoever shows wrong ones learns nothing more, and costs no reading.
    let shown = credentials::of_headers(&parts.headers)?;
    let actor = credentials::authenticate(state, &shown).await?;
    let raw = match parts.method {
        Method::POST => from_body(&parts.headers, body, state.settings.max_body_bytes).await?,
        Method::GET => from_address(parts.uri.query().unwrap_or_default())?,
        _ => {
            let error = AppError::bad_input("method", "Send GraphQL with POST; queries may also come by GET.");
            return Err(Refusal(error, Some(StatusCode::METHOD_NOT_ALLOWED)));
        }
    };
    let incoming = Incoming {
        query: raw.query,
        operation_name: raw.operation_name,
        variables: raw.variables,
        actor,
        address: Some(client_address(peer, &parts.headers, &state.settings.trusted_proxies)),
        request_id: request_id.clone(),
    };
    let (operation, kind_of_actor) = (incoming.operation_name.clone(), incoming.actor.kind());
    let prepared = match state.graphql.prepare(incoming) {
        // A stream is open once its request was understood: what is wrong with the document is told in it.
        Err(error) if media == Media::EventStream => {
            let refused = Answer::refused(&error, request_id);
            return Ok(sse::open(state, stream::once(async { refused }).boxed(), request_id));
        }
        prepared => prepared?,
    };
    let kind = prepared.kind();
    if parts.method == Method::GET && kind == OperationKind::Mutation {
        let error = AppError::bad_input("query", "A mutation cannot come by GET. Send it with POST.");
        return Err(Refusal(error, Some(StatusCode::METHOD_NOT_ALLOWED)));
    }
    if media == Media::EventStream {
        let answers = state.graphql.subscribe(prepared)?;
        return Ok(sse::open(state, answers, request_id));
    }
    if kind == OperationKind::Subscription {
        let error = AppError::bad_input(
            "query",
            "A subscription needs a stream: accept text/event-stream, or open a WebSocket (graphql-transport-ws).",
        );
        return Err(Refusal(error, Some(StatusCode::NOT_ACCEPTABLE)));
    }
    let result = state.graphql.execute(prepared).await;
    log(request_id, operation.as_deref(), kind_of_actor, &result, watch);
    Ok(answer(&result, media, request_id))
}

fn log(request_id: &str, operation: Option<&str>, actor: &str, answer: &Answer, watch: Stopwatch) {
    let elapsed_micros = watch.elapsed().as_micros();
    match answer.code() {
        None => tracing::debug!(request_id, operation, actor, elapsed_micros, "request"),
        Some(code) => {
            tracing::info!(request_id, operation, actor, code = code.as_str(), elapsed_micros, "request with errors");
        }
    }
}
