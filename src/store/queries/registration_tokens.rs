//! Registration tokens of scopes.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::super::{Connection, Dialect};
use super::union::{MOST_SELECTS, UnionAll};
use crate::error::Result;
use crate::page::PageRequest;
use crate::store::models::RegistrationTokenRow;
use crate::store::schema::registration_tokens as tokens;

/// The tokens of these identifiers, in no order.
pub async fn by_ids(db: &mut Connection, ids: Vec<i64>) -> Result<Vec<RegistrationTokenRow>> {
    Ok(tokens::table.filter(tokens::id.eq_any(ids)).select(RegistrationTokenRow::as_select()).load(db).await?)
}

/// Adds a token.
pub async fn insert(db: &mut Connection, row: RegistrationTokenRow) -> Result<()> {
    diesel::insert_into(tokens::table).values(row).execute(db).await?;
    Ok(())
}

/// Notes who wants to use a token, and returns it as it is now. The row stays locked until the transaction ends, so of many
/// simultaneous uses each sees the count that the one before left.
pub async fn lock(db: &mut Connection, id: i64, at: i64, from: Option<&str>) -> Result<Option<RegistrationTokenRow>> {
    Ok(diesel::update(tokens::table.filter(tokens::id.eq(id)))
        .set((tokens::last_used_at.eq(at), tokens::last_used_from.eq(from)))
        .returning(RegistrationTokenRow::as_returning())
        .get_result(db)
        .await
        .optional()?)
}

/// Counts a use of a token that [`lock`] has returned.
pub async fn count_use(db: &mut Connection, id: i64) -> Result<()> {
    diesel::update(tokens::table.filter(tokens::id.eq(id)))
        .set(tokens::use_count.eq(tokens::use_count + 1))
        .execute(db)
        .await?;
    Ok(())
}

/// Revokes a token that is not revoked yet.
pub async fn revoke(db: &mut Connection, id: i64, at: i64, reason: Option<&str>) -> Result<()> {
    diesel::update(tokens::table.filter(tokens::id.eq(id)).filter(tokens::revoked_at.is_null()))
        .set((tokens::revoked_at.eq(at), tokens::revoked_reason.eq(reason)))
        .execute(db)
        .await?;
    Ok(())
}

/// Revokes every usable token of a scope, and says how many there were.
pub async fn revoke_scope(db: &mut Connection, scope_id: i64, at: i64, reason: &str) -> Result<usize> {
    let usable = tokens::table.filter(tokens::scope_id.eq(scope_id)).filter(tokens::revoked_at.is_null());
    Ok(diesel::update(usable).set((tokens::revoked_at.eq(at), tokens::revoked_reason.eq(reason))).execute(db).await?)
}

type Boxed = diesel::dsl::IntoBoxed<
    'static,
    diesel::dsl::Select<
        tokens::table,
        (diesel::dsl::AsExprOf<i64, diesel::sql_types::BigInt>, diesel::dsl::AsSelect<RegistrationTokenRow, Dialect>),
    >,
    Dialect,
>;

fn one_page(number: usize, scope: i64, page: &PageRequest) -> Boxed {
    let number = i64::try_from(number).unwrap_or(i64::MAX);
    let mut query = tokens::table
        .filter(tokens::scope_id.eq(scope))
        .select((number.into_sql::<diesel::sql_types::BigInt>(), RegistrationTokenRow::as_select()))
        .limit(i64::try_from(page.limit).unwrap_or(i64::MAX).saturating_add(1))
        .into_boxed::<Dialect>();
    if let Some(after) = &page.after {
        query = query.filter(tokens::id.gt(after.id));
    }
    if let Some(before) = &page.before {
        query = query.filter(tokens::id.lt(before.id));
    }
    if page.from_end { query.order(tokens::id.desc()) } else { query.order(tokens::id.asc()) }
}

/// A page of the tokens of each scope, oldest first; one row more than the limit where there are more.
pub async fn pages(db: &mut Connection, scopes: &[i64], page: &PageRequest) -> Result<Vec<Vec<RegistrationTokenRow>>> {
    let mut lists = vec![Vec::new(); scopes.len()];
    for (chunk_number, chunk) in scopes.chunks(MOST_SELECTS).enumerate() {
        let first = chunk_number * MOST_SELECTS;
        let queries = chunk.iter().enumerate().map(|(number, id)| one_page(first + number, *id, page));
        let rows: Vec<(i64, RegistrationTokenRow)> = UnionAll(queries.collect()).load(db).await?;
        for (number, row) in rows {
            if let Some(list) = usize::try_from(number).ok().and_then(|number| lists.get_mut(number)) {
                list.push(row);
            }
        }
    }
    for list in &mut lists {
        list.sort_by_key(|row: &RegistrationTokenRow| row.id);
        if page.from_end {
            list.reverse();
        }
    }
    Ok(lists)
}

/// How many tokens each scope has.
pub async fn counts(db: &mut Connection, scopes: &[i64]) -> Result<Vec<i64>> {
    let rows: Vec<(i64, i64)> = tokens::table
        .filter(tokens::scope_id.eq_any(scopes.to_vec()))
        .group_by(tokens::scope_id)
        .select((tokens::scope_id, diesel::dsl::count_star()))
        .load(db)
        .await?;
    let count_of = |id: &i64| rows.iter().find(|(counted, _)| counted == id).map_or(0, |(_, count)| *count);
    Ok(scopes.iter().map(count_of).collect())
}
