//! `/graphql`: POST and GET, and the doors to WebSocket and SSE.

use std::net::SocketAddr;
use std::sync::Arc;

use async_graphql::Variables;
use async_graphql_axum::GraphQLProtocol;
use axum::body::{Body, Bytes};
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{ConnectInfo, FromRequestParts as _, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, UPGRADE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream::{self, StreamExt as _};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde_json::{Map, Value};

use super::client_address::client_address;
use super::respond::{Media, answer, refuse, status};
use super::{HttpState, credentials, socket, sse};
use crate::clock::Stopwatch;
use crate::error::{AppError, ErrorCode, Result};
use crate::graphql::{Answer, Incoming, OperationKind};

/// A refusal, with the status that it has whatever the client accepts.
struct Refusal(AppError, Option<StatusCode>);

impl From<AppError> for Refusal {
    fn from(error: AppError) -> Self {
        Self(error, None)
    }
}

/// What a request carries, before anyone has looked whose it is.
struct Raw {
    query: String,
    operation_name: Option<String>,
    variables: Variables,
}

/// Answers whatever comes to `/graphql`.
pub(super) async fn handle(
    State(state): State<HttpState>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request<Body>,
) -> Response {
    let request_id = state.request_id();
    let (mut parts, body) = request.into_parts();
    if parts.headers.get(UPGRADE).is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket")) {
        let protocol = GraphQLProtocol::from_request_parts(&mut parts, &state).await.ok();
        return match WebSocketUpgrade::from_request_parts(&mut parts, &state).await {
            Ok(upgrade) => {
                let address = client_address(peer, &parts.headers, &state.settings.trusted_proxies);
                socket::open(state, upgrade, protocol, &parts.headers, address)
            }
            Err(rejection) => rejection.into_response(),
        };
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

async fn from_body(headers: &HeaderMap, body: Body, limit: usize) -> Result<Raw, Refusal> {
    // A page of another site can send a form or plain text with a visitor's cookie, but not JSON.
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (media_type, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
    let charset =
        parameters.split(';').find_map(|it| it.trim().to_ascii_lowercase().strip_prefix("charset=").map(str::to_owned));
    if !media_type.trim().eq_ignore_ascii_case("application/json")
        || charset.is_some_and(|charset| charset.trim_matches('"') != "utf-8")
    {
        let error =
            AppError::bad_input("content-type", "Send the request as JSON, with content-type: application/json.");
        return Err(Refusal(error, Some(StatusCode::UNSUPPORTED_MEDIA_TYPE)));
    }
    let too_large = || {
        let message = format!("The body has more than {limit} bytes, which is the most that is read. Send less.");
        Refusal(AppError::bad_input("body", message), Some(StatusCode::PAYLOAD_TOO_LARGE))
    };
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    let body: Bytes = match Limited::new(body, limit).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => return Err(too_large()),
        Err(_) => return Err(malformed("body", "The body could not be read to its end. Send it again.")),
    };
    let value: Value = serde_json::from_slice(&body).map_err(|error| {
        // The place helps; what stood there may be a secret.
        malformed("body", &format!("The body is not JSON (line {}, column {}).", error.line(), error.column()))
    })?;
    match value {
        Value::Object(fields) => from_fields(fields),
        Value::Array(_) => {
            Err(malformed("body", "Several requests in one body are not taken. Send one object a request."))
        }
        _ => Err(malformed(
            "body",
            "The body has to be a JSON object with query, and perhaps variables and operationName.",
        )),
    }
}

fn from_address(query: &str) -> Result<Raw, Refusal> {
    let mut fields = Map::new();
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let value = match &*name {
            "query" | "operationName" => Value::String(value.into_owned()),
            "variables" | "extensions" if value.is_empty() => Value::Null,
            "variables" | "extensions" => serde_json::from_str(&value).map_err(|_| {
                malformed("variables", "variables and extensions have to be JSON objects, percent-encoded.")
            })?,
            _ => continue,
        };
        fields.insert(name.into_owned(), value);
    }
    from_fields(fields)
}

/// Reads the fields of a request, as GraphQL over HTTP has them.
fn from_fields(mut fields: Map<String, Value>) -> Result<Raw, Refusal> {
    let names_persisted = fields.get("extensions").is_some_and(|extensions| extensions.get("persistedQuery").is_some());
    if names_persisted && fields.get("query").is_none_or(Value::is_null) {
        let message = "No document is known under this hash. Send the document itself as query.";
        return Err(AppError::new(ErrorCode::PersistedQueryNotFound, message).into());
    }
    let query = match fields.remove("query") {
        Some(Value::String(query)) => query,
        Some(Value::Null) | None => return Err(malformed("query", "The request has no document. Send it as query.")),
        Some(_) => return Err(malformed("query", "query has to be a string.")),
    };
    let operation_name = match fields.remove("operationName") {
        Some(Value::String(name)) if !name.is_empty() => Some(name),
        Some(Value::String(_) | Value::Null) | None => None,
        Some(_) => return Err(malformed("operationName", "operationName has to be a string.")),
    };
    let variables = match fields.remove("variables") {
        Some(variables @ Value::Object(_)) => Variables::from_json(variables),
        Some(Value::Null) | None => Variables::default(),
        Some(_) => return Err(malformed("variables", "variables has to be an object.")),
    };
    match fields.remove("extensions") {
        Some(Value::Object(_) | Value::Null) | None => {}
        Some(_) => return Err(malformed("extensions", "extensions has to be an object.")),
    }
    Ok(Raw { query, operation_name, variables })
}

fn malformed(field: &'static str, message: &str) -> Refusal {
    Refusal(AppError::bad_input(field, message.to_owned()), Some(StatusCode::BAD_REQUEST))
}

/// Reads the payload of a `subscribe` message, which has the same fields.
pub(super) fn of_payload(payload: Value) -> Result<(String, Option<String>, Variables)> {
    let Value::Object(fields) = payload else {
        return Err(AppError::bad_input("payload", "The payload of subscribe has to be an object with query."));
    };
    let Raw { query, operation_name, variables } = from_fields(fields).map_err(|Refusal(error, _)| error)?;
    Ok((query, operation_name, variables))
}
