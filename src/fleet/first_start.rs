//! A new instance gets its first administrator, and what is needed for a first runner.

use secrecy::SecretString;

use super::{Fleet, NewAccessToken, NewRegistrationToken};
use crate::error::{AppError, Result};
use crate::model::{AccessTokenScope, INSTANCE, ScopeKind};
use crate::store::models::{ScopeRow, UserRow};

/// The first administrator's login.
pub const ADMIN_LOGIN: &str = "admin";

/// What the first start makes.
pub struct FirstStart {
    /// An access token of the administrator.
    pub admin_token: SecretString,
    /// A registration token of the instance.
    pub registration_token: SecretString,
}

impl Fleet {
    /// Makes the first administrator, an access token and a registration token, if there is no user yet. `keep` stores the
    /// secrets before they are committed: whenever the process dies, either they are kept or the next start makes new ones.
    /// When several servers start at once on one database, one does.
    ///
    /// # Errors
    /// `UNAVAILABLE` when the database is away; what `keep` returns.
    pub async fn first_start(
        &self,
        keep: impl FnOnce(&FirstStart) -> std::io::Result<()> + Send,
    ) -> Result<Option<FirstStart>> {
        if read!(self.store, |db, queries| queries::users::any(db).await)? {
            return Ok(None);
        }
        let now = self.now().as_micros();
        let scope = ScopeRow {
            id: self.ids.next(),
            kind: ScopeKind::User,
            parent_id: Some(INSTANCE),
            path: ADMIN_LOGIN.to_owned(),
            path_key: ADMIN_LOGIN.to_owned(),
            name: "Administrator".to_owned(),
            created_at: now,
            updated_at: now,
        };
        let token = NewAccessToken {
            name: "First start".to_owned(),
            scopes: vec![AccessTokenScope::Admin],
            expires_in_seconds: None,
            user: None,
        };
        let (access, admin_token) = self.new_access_token(scope.id, &token).await?;
        let token = NewRegistrationToken {
            description: Some("First runners, made at the first start".to_owned()),
            ..NewRegistrationToken::default()
        };
        let (registration, registration_token) = self.new_registration_token(Some(scope.id), INSTANCE, token).await?;
        let made = FirstStart { admin_token, registration_token };
        keep(&made).map_err(AppError::internal)?;
        let is_first = transact!(self.store, |db, queries| {
            if !queries::scopes::insert(db, &scope).await? {
                return Ok(false);
            }
            queries::users::insert(db, &UserRow { id: scope.id, password_hash: None, is_admin: true }).await?;
            queries::access_tokens::insert(db, access).await?;
            queries::registration_tokens::insert(db, registration).await?;
            Ok(true)
        })?;
        Ok(is_first.then_some(made))
    }
}
