//! Access tokens of users.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::super::{Connection, Dialect};
use super::union::{MOST_SELECTS, UnionAll};
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

/// The tokens of these identifiers, in no order.
pub async fn by_ids(db: &mut Connection, ids: Vec<i64>) -> Result<Vec<AccessTokenRow>> {
    Ok(access_tokens::table.filter(access_tokens::id.eq_any(ids)).select(AccessTokenRow::as_select()).load(db).await?)
}

type Boxed = diesel::dsl::IntoBoxed<
    'static,
    diesel::dsl::Select<access_tokens::table, diesel::dsl::AsSelect<AccessTokenRow, Dialect>>,
    Dialect,
>;

fn of_one_user(user_id: i64, limit: i64) -> Boxed {
    let query = access_tokens::table
        .filter(access_tokens::user_id.eq(user_id))
        .select(AccessTokenRow::as_select())
        .limit(limit)
        .into_boxed::<Dialect>();
    query.order(access_tokens::id.asc())
}

/// The oldest tokens of each of these users, at most so many of each, oldest first; one statement for 400 users.
pub async fn of_users(db: &mut Connection, ids: &[i64], limit_each: i64) -> Result<Vec<AccessTokenRow>> {
    let mut found: Vec<AccessTokenRow> = Vec::new();
    for chunk in ids.chunks(MOST_SELECTS) {
        let queries = chunk.iter().map(|id| of_one_user(*id, limit_each));
        let rows: Vec<AccessTokenRow> = UnionAll(queries.collect()).load(db).await?;
        found.extend(rows);
    }
    found.sort_unstable_by_key(|row| row.id);
    Ok(found)
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
