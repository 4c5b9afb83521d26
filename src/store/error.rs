//! What a failing database means to a caller: it is away, or we are wrong. Nothing of its text reaches a client.

use diesel::result::{ConnectionError, DatabaseErrorKind, Error as DieselError};
use diesel_async::pooled_connection::PoolError;

use crate::error::AppError;

/// The deadline of a unit of work has passed.
#[derive(Debug, thiserror::Error)]
#[error("no answer within {0:?}")]
pub(super) struct TooLate(pub std::time::Duration);

/// Whether work was given up because it took too long, by us or by a server that has a limit of its own.
pub fn is_too_late(error: &AppError) -> bool {
    let by_server = "canceling statement due to statement timeout";
    error.source.as_ref().is_some_and(|source| source.is::<TooLate>() || source.to_string().contains(by_server))
}

impl From<DieselError> for AppError {
    fn from(error: DieselError) -> Self {
        match &error {
            _ if is_away(&error) => Self::unavailable(error),
            // Each of our own checks was passed, so another call came between.
            DieselError::DatabaseError(
                DatabaseErrorKind::ForeignKeyViolation | DatabaseErrorKind::UniqueViolation,
                _,
            ) => Self {
                source: Some(std::sync::Arc::new(error)),
                ..Self::conflict(
                    "Another call changed or deleted what this one refers to at the same moment. Look again, and try again.",
                )
            },
            _ => Self::internal(error),
        }
    }
}

impl From<deadpool::managed::PoolError<PoolError>> for AppError {
    fn from(error: deadpool::managed::PoolError<PoolError>) -> Self {
        Self::unavailable(error)
    }
}

impl From<ConnectionError> for AppError {
    fn from(error: ConnectionError) -> Self {
        Self::unavailable(error)
    }
}

/// Whether the statement failed for a reason that may pass: no connection, a locked or full database, a shutdown.
fn is_away(error: &DieselError) -> bool {
    match error {
        DieselError::DatabaseError(kind, information) => match kind {
            DatabaseErrorKind::ClosedConnection
            | DatabaseErrorKind::UnableToSendCommand
            | DatabaseErrorKind::SerializationFailure
            | DatabaseErrorKind::ReadOnlyTransaction => true,
            _ => PASSING.iter().any(|text| information.message().contains(text)),
        },
        DieselError::BrokenTransactionManager | DieselError::AlreadyInTransaction => true,
        DieselError::RollbackErrorOnCommit { commit_error, .. } => is_away(commit_error),
        _ => false,
    }
}

/// What the two databases say of troubles that pass; neither has a code for them in diesel.
const PASSING: [&str; 10] = [
    "database is locked",
    "database or disk is full",
    "disk I/O error",
    "connection closed",
    "error communicating with the server",
    "terminating connection",
    "the database system is",
    "deadlock detected",
    "No space left on device",
    "canceling statement due to",
];
