//! One error type for everything a caller may be told, with a closed list of codes.
//!
//! It knows neither GraphQL nor HTTP. The message is written for whoever made the request: what was wrong and what to do
//! next. Causes of the inside go into `source`, which reaches the log and never a client.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::sync::Arc;

/// The codes that clients are written against (`errors[].extensions.code`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The credentials are missing where they are needed, or are wrong.
    Unauthenticated,
    /// The caller may see it but not do it, or its token lacks the scope.
    Forbidden,
    /// It does not exist, or the caller may not know that it does.
    NotFound,
    /// An argument is wrong; `field` names it.
    BadUserInput,
    /// It cannot be done in the state things are in.
    Conflict,
    /// Too much at once; `retry_after_seconds` says when to come back.
    RateLimited,
    /// The document is nested too deep.
    QueryTooDeep,
    /// The document asks for too much.
    QueryTooComplex,
    /// The document is not GraphQL.
    GraphqlParseFailed,
    /// The document does not fit the schema.
    GraphqlValidationFailed,
    /// No document is known under this hash.
    PersistedQueryNotFound,
    /// Something the server needs is away for the moment; try again.
    Unavailable,
    /// A fault of the server.
    Internal,
}

impl ErrorCode {
    /// The code as it stands in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unauthenticated => "UNAUTHENTICATED",
            Self::Forbidden => "FORBIDDEN",
            Self::NotFound => "NOT_FOUND",
            Self::BadUserInput => "BAD_USER_INPUT",
            Self::Conflict => "CONFLICT",
            Self::RateLimited => "RATE_LIMITED",
            Self::QueryTooDeep => "QUERY_TOO_DEEP",
            Self::QueryTooComplex => "QUERY_TOO_COMPLEX",
            Self::GraphqlParseFailed => "GRAPHQL_PARSE_FAILED",
            Self::GraphqlValidationFailed => "GRAPHQL_VALIDATION_FAILED",
            Self::PersistedQueryNotFound => "PERSISTED_QUERY_NOT_FOUND",
            Self::Unavailable => "UNAVAILABLE",
            Self::Internal => "INTERNAL",
        }
    }
}

/// The result of everything that can fail in front of a caller.
pub type Result<T, E = AppError> = std::result::Result<T, E>;

/// What went wrong, told to the caller. Cheap to clone: loaders hand one failure to many fields.
#[derive(Clone, Debug)]
pub struct AppError {
    /// The code a program decides by.
    pub code: ErrorCode,
    /// The sentence a person reads.
    pub message: Cow<'static, str>,
    /// The input field that was wrong, for [`ErrorCode::BadUserInput`].
    pub field: Option<Cow<'static, str>>,
    /// When to try again, for [`ErrorCode::RateLimited`].
    pub retry_after_seconds: Option<u32>,
    /// The cause, for the log alone.
    pub source: Option<Arc<dyn Error + Send + Sync>>,
}

impl AppError {
    /// An error with a code and a message for the caller.
    pub fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), field: None, retry_after_seconds: None, source: None }
    }

    /// [`ErrorCode::BadUserInput`] in the named input field.
    pub fn bad_input(field: impl Into<Cow<'static, str>>, message: impl Into<Cow<'static, str>>) -> Self {
        Self { field: Some(field.into()), ..Self::new(ErrorCode::BadUserInput, message) }
    }

    /// [`ErrorCode::NotFound`]: the same words for what is missing and for what is hidden.
    pub fn not_found(what: &str) -> Self {
        Self::new(
            ErrorCode::NotFound,
            format!("{what} does not exist, or you may not see it. Check the name and your credentials."),
        )
    }

    /// [`ErrorCode::Forbidden`].
    pub fn forbidden(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::Forbidden, message)
    }

    /// [`ErrorCode::Unauthenticated`].
    pub fn unauthenticated(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::Unauthenticated, message)
    }

    /// [`ErrorCode::Conflict`].
    pub fn conflict(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::Conflict, message)
    }

    /// [`ErrorCode::RateLimited`], with the seconds to wait.
    pub fn rate_limited(retry_after_seconds: u32, message: impl Into<Cow<'static, str>>) -> Self {
        Self { retry_after_seconds: Some(retry_after_seconds), ..Self::new(ErrorCode::RateLimited, message) }
    }

    /// [`ErrorCode::Unavailable`]: something outside is away; the caller may try again.
    pub fn unavailable(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            source: Some(Arc::from(source.into())),
            ..Self::new(
                ErrorCode::Unavailable,
                "The database cannot be reached at the moment. Nothing was lost; try again in a few seconds.",
            )
        }
    }

    /// [`ErrorCode::Internal`]: a fault of ours. The cause is for the log.
    pub fn internal(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            source: Some(Arc::from(source.into())),
            ..Self::new(
                ErrorCode::Internal,
                "The server failed to answer this. Report the request id to whoever runs it.",
            )
        }
    }
}

impl fmt::Display for AppError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl Error for AppError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}
