//! Access tokens of users.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::super::Connection;
use crate::error::Result;
use crate::store::models::{AccessTokenRow, ScopeRow, UserRow};
use crate::store::schema::{access_tokens, scopes, users};

/// A token with its user, in one statement: every call of a person makes it.
pub async fn with_user(db: &mut Connection, id: i64) -> Result<Option<(AccessTokenRow, ScopeRow, UserRow)>> {
    Ok(access_tokens::table
        .inner_join(scopes::table.on(scopes::id.eq(access_tokens::user_id)))
        .inner_join(users::table.on(users::id.eq(access_tokens::user_id)))
        .filter(access_tokens::id.eq(id))
        .select((AccessTokenRow::as_select(), ScopeRow::as_select(), UserRow::as_select()))
        .first(db)
        .await
        .optional()?)
}

/// The token of an identifier.
pub async fn by_id(db: &mut Connection, id: i64) -> Result<Option<AccessTokenRow>> {
    Ok(access_tokens::table
        .filter(access_tokens::id.eq(id))
        .select(AccessTokenRow::as_select())
        .first(db)
        .await
        .optional()?)
}

/// Every token of a user, oldest first.
pub async fn of_user(db: &mut Connection, user_id: i64, limit: i64) -> Result<Vec<AccessTokenRow>> {
    Ok(access_tokens::table
        .filter(access_tokens::user_id.eq(user_id))
        .order(access_tokens::id.asc())
        .limit(limit)
        .select(AccessTokenRow::as_select())
        .load(db)
        .await?)
}

/// Adds a token.
pub async fn insert(db: &mut Connection, row: AccessTokenRow) -> Result<()> {
    diesel::insert_into(access_tokens::table).values(row).execute(db).await?;
    Ok(())
}

/// Revokes a token that is not revoked yet.
pub async fn revoke(db: &mut Connection, id: i64, at: i64) -> Result<()> {
    diesel::update(access_tokens::table.filter(access_tokens::id.eq(id)).filter(access_tokens::revoked_at.is_null()))
        .set(access_tokens::revoked_at.eq(at))
        .execute(db)
        .await?;
    Ok(())
}
