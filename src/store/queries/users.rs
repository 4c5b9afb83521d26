//! What users have beyond a scope.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::super::Connection;
use crate::error::Result;
use crate::store::models::UserRow;
use crate::store::schema::users;

/// The users of these identifiers, in no order.
pub async fn by_ids(db: &mut Connection, ids: Vec<i64>) -> Result<Vec<UserRow>> {
    Ok(users::table.filter(users::id.eq_any(ids)).select(UserRow::as_select()).load(db).await?)
}

/// Makes a scope a user.
pub async fn insert(db: &mut Connection, row: &UserRow) -> Result<()> {
    diesel::insert_into(users::table)
        .values((users::id.eq(row.id), users::password_hash.eq(&row.password_hash), users::is_admin.eq(row.is_admin)))
        .execute(db)
        .await?;
    Ok(())
}

/// How many administrators there are.
pub async fn count_admins(db: &mut Connection) -> Result<i64> {
    Ok(users::table.filter(users::is_admin.eq(true)).count().get_result(db).await?)
}

/// Whether there is any user.
pub async fn any(db: &mut Connection) -> Result<bool> {
    Ok(diesel::select(diesel::dsl::exists(users::table.select(users::id))).get_result(db).await?)
}
