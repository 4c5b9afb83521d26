//! Relay's global identifiers: a prefix that says of what, and 13 characters.

use async_graphql::ID;
use data_encoding::{Encoding, Specification};

use crate::error::{AppError, Result};
use crate::model::ScopeKind;

/// What an identifier is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NodeKind {
    User,
    Organization,
    Repository,
    Runner,
    RegistrationToken,
    AccessToken,
    Task,
    CleanupJob,
}

impl NodeKind {
    const ALL: [Self; 8] = [
        Self::User,
        Self::Organization,
        Self::Repository,
        Self::Runner,
        Self::RegistrationToken,
        Self::AccessToken,
        Self::Task,
        Self::CleanupJob,
    ];

    const fn prefix(self) -> &'static str {
        match self {
            Self::User => "user_",
            Self::Organization => "org_",
            Self::Repository => "repo_",
            Self::Runner => "runner_",
            Self::RegistrationToken => "regtoken_",
            Self::AccessToken => "token_",
            Self::Task => "task_",
            Self::CleanupJob => "cleanup_",
        }
    }

    /// The kind of node that a scope is; the instance is none.
    pub(super) const fn of_scope(kind: ScopeKind) -> Option<Self> {
        match kind {
            ScopeKind::Global => None,
            ScopeKind::Organization => Some(Self::Organization),
            ScopeKind::User => Some(Self::User),
            ScopeKind::Repository => Some(Self::Repository),
        }
    }
}

fn base32() -> Encoding {
    let mut specification = Specification::new();
    specification.symbols.push_str("0123456789abcdefghjkmnpqrstvwxyz");
    specification.encoding().expect("the alphabet is a valid one")
}

/// The identifier of a row.
pub(super) fn encode(kind: NodeKind, id: i64) -> ID {
    ID(format!("{}{}", kind.prefix(), base32().encode(&id.to_be_bytes())))
}

/// What an identifier is of, and the row.
pub(super) fn decode(field: &'static str, id: &ID) -> Result<(NodeKind, i64)> {
    let malformed = || {
        let shown: String = id.chars().take(60).collect();
        AppError::bad_input(field, format!("{shown:?} is not an id of this server. Take ids from answers, unchanged."))
    };
    let kind = NodeKind::ALL.into_iter().find(|kind| id.starts_with(kind.prefix())).ok_or_else(malformed)?;
    let bytes = base32().decode(&id.as_bytes()[kind.prefix().len()..]).map_err(|_| malformed())?;
    let bytes = <[u8; 8]>::try_from(bytes.as_slice()).map_err(|_| malformed())?;
    Ok((kind, i64::from_be_bytes(bytes)))
}

/// The row of an identifier that has to be of one kind.
pub(super) fn decode_as(kind: NodeKind, field: &'static str, id: &ID) -> Result<i64> {
    match decode(field, id)? {
        (found, row) if found == kind => Ok(row),
        _ => Err(AppError::bad_input(
            field,
            format!(
                "The id {:?} is of another kind; one that begins with {} is needed here.",
                id.as_str(),
                kind.prefix()
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_back_and_nothing_else_does() {
        for kind in NodeKind::ALL {
            let id = encode(kind, 123_456_789);
            assert_eq!(decode("id", &id).unwrap(), (kind, 123_456_789));
        }
        for wrong in
            ["", "runner_", "runner_x", "runner_0000000000000000", "worker_0000000000000", "runner_é000000000000"]
        {
            assert!(decode("id", &ID(wrong.to_owned())).is_err(), "{wrong}");
        }
        assert!(decode_as(NodeKind::Runner, "id", &encode(NodeKind::User, 1)).is_err());
    }
}
