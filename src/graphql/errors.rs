//! From our errors, and the library's, to what stands in an answer: the one mapping.

use async_graphql::{PathSegment, Response, ServerError, Value};
use serde::Serialize;
use serde::ser::{Error as _, SerializeMap as _};

use super::document::{Document, shortened};
use super::scalars::raw;
use crate::error::{AppError, ErrorCode};

/// Most errors in one answer.
const MOST_ERRORS: usize = 10;
/// An answer to a request.
#[derive(Debug)]
pub struct Answer {
    /// The data; nothing when the request was refused before anything was executed.
    data: Option<Value>,
    errors: Vec<AnswerError>,
}

#[derive(Debug, Serialize)]
struct AnswerError {
    message: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    locations: Vec<async_graphql::Pos>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    path: Vec<PathSegment>,
    extensions: Extensions,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Extensions {
    #[serde(serialize_with = "code")]
    code: ErrorCode,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_seconds: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
fn code<S: serde::Serializer>(code: &ErrorCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(code.as_str())
}

impl Answer {
    /// An answer to a request of which nothing was executed.
    pub fn refused(error: &AppError, request_id: &str) -> Self {
        Self { data: None, errors: vec![AnswerError::of(error, Vec::new(), Vec::new(), request_id)] }
    }

    pub(super) fn executed(response: Response, document: &Document, request_id: &str) -> Self {
        // Validation fails before there is any path, and leaves no data.
        let was_executed = response.data != Value::Null || response.errors.iter().any(|error| !error.path.is_empty());
        let is_refused = !was_executed && response.errors.iter().all(|error| error.source.is_none());
        let errors = response.errors.into_iter().take(MOST_ERRORS);
        let errors: Vec<AnswerError> =
            errors.map(|error| AnswerError::from_server(error, is_refused, document, request_id)).collect();
        Self { data: (!is_refused || errors.is_empty()).then_some(response.data), errors }
    }

    /// Whether the request was refused before anything was executed.
    pub const fn is_refused(&self) -> bool {
        self.data.is_none()
    }

    /// The code of the first error.
    pub fn code(&self) -> Option<ErrorCode> {
        self.errors.first().map(|error| error.extensions.code)
    }

    /// After how many seconds a caller that did too much may come back.
    pub fn retry_after_seconds(&self) -> Option<u32> {
        self.errors.iter().find_map(|error| error.extensions.retry_after_seconds)
    }

    /// The errors alone, as a list.
    pub fn errors(&self) -> impl Serialize + '_ {
        &self.errors
    }
}

impl Serialize for Answer {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(data) = &self.data {
            map.serialize_entry("data", &Written(data))?;
        }
        if !self.errors.is_empty() {
            map.serialize_entry("errors", &self.errors)?;
        }
        map.end()
    }
}

/// A value as it is written: what is stored as JSON goes out as it is stored.
struct Written<'a>(&'a Value);

impl Serialize for Written<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::List(items) => serializer.collect_seq(items.iter().map(Written)),
            Value::Object(fields) => serializer.collect_map(fields.iter().map(|(name, value)| (name, Written(value)))),
            Value::Binary(text) => raw(text).map_err(S::Error::custom)?.serialize(serializer),
            value => value.serialize(serializer),
        }
    }
}

impl AnswerError {
    fn of(error: &AppError, locations: Vec<async_graphql::Pos>, path: Vec<PathSegment>, request_id: &str) -> Self {
        let is_ours = matches!(error.code, ErrorCode::Internal | ErrorCode::Unavailable);
        if let Some(cause) = error.source.as_ref().filter(|_| is_ours) {
            if error.code == ErrorCode::Internal {
                tracing::error!(request_id, cause = %cause, "a request failed inside");
            } else {
                tracing::warn!(request_id, cause = %cause, "a request could not be served");
            }
        }
        Self {
            message: error.message.to_string(),
            locations,
            path,
            extensions: Extensions {
                code: error.code,
                field: error.field.as_ref().map(ToString::to_string),
                retry_after_seconds: error.retry_after_seconds,
                request_id: (error.code == ErrorCode::Internal).then(|| request_id.to_owned()),
            },
        }
    }

    fn from_server(error: ServerError, is_refused: bool, document: &Document, request_id: &str) -> Self {
        let ServerError { message, source, locations, path, .. } = error;
        if let Some(known) = source.as_ref().and_then(|source| source.downcast_ref::<AppError>()) {
            return Self::of(known, locations, path, request_id);
        }
        // What is left was said by the library: about the document, or about an argument's value.
        let code = if is_refused { ErrorCode::GraphqlValidationFailed } else { ErrorCode::BadUserInput };
        let argument = locations.iter().find_map(|place| document.argument_at(*place)).filter(|_| !is_refused);
        let field = argument.or_else(|| {
            path.iter().rev().find_map(|segment| match segment {
                PathSegment::Field(name) if !is_refused => Some(name.clone()),
                _ => None,
            })
        });
        Self {
            message: shortened(&message),
            locations,
            path,
            extensions: Extensions { code, field, retry_after_seconds: None, request_id: None },
        }
    }
}

#[cfg(test)]
mod tests {
    use async_graphql::value;

    use super::*;

    #[test]
    fn what_is_stored_as_json_is_written_as_it_is_stored() {
        let stored = r#"{"z": [0,-1.50,{}], "a": "\u00df\n"}"#;
        let mut data = value!({"list": [1, "two", null, {"on": true}, [], {}], "payload": null});
        if let Value::Object(fields) = &mut data {
            fields.insert(async_graphql::Name::new("payload"), Value::Binary(stored.into()));
        }
        let answer = Answer { data: Some(data), errors: Vec::new() };
        let expected = format!(r#"{{"data":{{"list":[1,"two",null,{{"on":true}},[],{{}}],"payload":{stored}}}}}"#);
        assert_eq!(serde_json::to_string(&answer).unwrap(), expected);
    }
}
