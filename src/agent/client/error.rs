//! Why a call failed, and whether it may be worth another try.

use std::error::Error;
use std::time::Duration;

/// Error messages are shown on one line of a terminal.
const MAX_MESSAGE_CHARS: usize = 500;

/// Why a call brought no result.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ClientError {
    /// The server was not reached, or did not answer in time, or something before it answered in its place.
    #[error("{0}")]
    Unreachable(String),
    /// The server answered with an error: the first one.
    #[error("{message} ({code})")]
    Refused {
        /// `extensions.code`.
        code: String,
        /// The sentence for people.
        message: String,
        /// `extensions.field`: the part of the input that was wrong.
        field: Option<String>,
        /// When to try again, if the server said so.
        retry_after_seconds: Option<u64>,
    },
    /// What was to be sent or what came back makes no sense.
    #[error("{0}")]
    Malformed(String),
}

impl ClientError {
    /// Whether the same call may succeed later without anyone doing something about it.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            Self::Refused { code, .. } => matches!(code.as_str(), "RATE_LIMITED" | "UNAVAILABLE" | "INTERNAL"),
            Self::Malformed(_) => false,
        }
    }

    /// Whether the credentials were refused.
    pub fn is_unauthenticated(&self) -> bool {
        self.code() == "UNAUTHENTICATED"
    }

    /// The server's error code, or one of our own for what never got that far.
    pub fn code(&self) -> &str {
        match self {
            Self::Unreachable(_) => "UNREACHABLE",
            Self::Refused { code, .. } => code,
            Self::Malformed(_) => "MALFORMED",
        }
    }

    /// The part of the input that the server named as wrong.
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::Refused { field, .. } => field.as_deref(),
            Self::Unreachable(_) | Self::Malformed(_) => None,
        }
    }

    /// How long the server asked to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after_seconds, .. } => retry_after_seconds.map(Duration::from_secs),
            Self::Unreachable(_) | Self::Malformed(_) => None,
        }
    }
}

/// Text of the other side as it may stand in a log or on a terminal: short, and without control characters.
pub(super) fn one_line(text: &str) -> String {
    text.chars().take(MAX_MESSAGE_CHARS).map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

/// The cause at the bottom: `Connection refused` says more than `error sending request`.
pub(super) fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
