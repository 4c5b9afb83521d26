//! What a request carries, read as GraphQL over HTTP has it: from a body, an address, or a message of a socket.

use std::time::Duration;

use async_graphql::Variables;
use axum::body::{Body, Bytes};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde_json::{Map, Value};

use crate::error::{AppError, ErrorCode, Result};

/// A refusal, with the status that it has whatever the client accepts.
pub(super) struct Refusal(pub(super) AppError, pub(super) Option<StatusCode>);

impl From<AppError> for Refusal {
    fn from(error: AppError) -> Self {
        Self(error, None)
    }
}

/// What a request carries, before anyone has looked whose it is.
pub(super) struct Raw {
    pub(super) query: String,
    pub(super) operation_name: Option<String>,
    pub(super) variables: Variables,
}

/// How long a body may take to arrive.
const BODY_PATIENCE: Duration = Duration::from_secs(20);

/// Reads a request from a body, no further than the limit.
pub(super) async fn from_body(headers: &HeaderMap, body: Body, limit: usize) -> Result<Raw, Refusal> {
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
    let reading = tokio::time::timeout(BODY_PATIENCE, Limited::new(body, limit).collect());
    let Ok(read) = reading.await else {
        let message = format!("The body did not arrive within {BODY_PATIENCE:?}. Send it again, at once.");
        return Err(Refusal(AppError::bad_input("body", message), Some(StatusCode::REQUEST_TIMEOUT)));
    };
    let body: Bytes = match read {
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

/// Reads a request from the query of an address.
pub(super) fn from_address(query: &str) -> Result<Raw, Refusal> {
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
