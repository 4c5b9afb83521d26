//! Who belongs to which organization.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::super::{Connection, Dialect};
use super::union::{MOST_SELECTS, UnionAll};
use crate::error::Result;
use crate::model::MemberRole;
use crate::page::PageRequest;
use crate::store::models::MemberRow;
use crate::store::schema::organization_members as members;

/// The organizations of a user, and what the user may do there.
pub async fn of_user(db: &mut Connection, user_id: i64) -> Result<Vec<MemberRow>> {
    Ok(members::table.filter(members::user_id.eq(user_id)).select(MemberRow::as_select()).load(db).await?)
}

/// The memberships of these users, in no order.
pub async fn of_users(db: &mut Connection, ids: Vec<i64>) -> Result<Vec<MemberRow>> {
    Ok(members::table.filter(members::user_id.eq_any(ids)).select(MemberRow::as_select()).load(db).await?)
}

/// Makes a user a member, or changes what the member may do.
pub async fn upsert(db: &mut Connection, row: &MemberRow) -> Result<()> {
    diesel::insert_into(members::table)
        .values((
            members::organization_id.eq(row.organization_id),
            members::user_id.eq(row.user_id),
            members::role.eq(row.role.as_str()),
            members::created_at.eq(row.created_at),
        ))
        .on_conflict((members::organization_id, members::user_id))
        .do_update()
        .set(members::role.eq(row.role.as_str()))
        .execute(db)
        .await?;
    Ok(())
}

/// Ends a membership; false when there was none.
pub async fn delete(db: &mut Connection, organization_id: i64, user_id: i64) -> Result<bool> {
    let deleted = diesel::delete(
        members::table.filter(members::organization_id.eq(organization_id)).filter(members::user_id.eq(user_id)),
    )
    .execute(db)
    .await?;
    Ok(deleted == 1)
}

/// The other owners that an organization has beside a user.
pub async fn count_other_owners(db: &mut Connection, organization_id: i64, user_id: i64) -> Result<i64> {
    Ok(members::table
        .filter(members::organization_id.eq(organization_id))
        .filter(members::user_id.ne(user_id))
        .filter(members::role.eq(MemberRole::Owner.as_str()))
        .count()
        .get_result(db)
        .await?)
}

type Boxed = diesel::dsl::IntoBoxed<
    'static,
    diesel::dsl::Select<
        members::table,
        (diesel::dsl::AsExprOf<i64, diesel::sql_types::BigInt>, diesel::dsl::AsSelect<MemberRow, Dialect>),
    >,
    Dialect,
>;

fn one_page(number: usize, organization: i64, page: &PageRequest) -> Boxed {
    let number = i64::try_from(number).unwrap_or(i64::MAX);
    let mut query = members::table
        .filter(members::organization_id.eq(organization))
        .select((number.into_sql::<diesel::sql_types::BigInt>(), MemberRow::as_select()))
        .limit(i64::try_from(page.limit).unwrap_or(i64::MAX).saturating_add(1))
        .into_boxed::<Dialect>();
    if let Some(after) = &page.after {
        query = query.filter(members::user_id.gt(after.id));
    }
    if let Some(before) = &page.before {
        query = query.filter(members::user_id.lt(before.id));
    }
    if page.from_end { query.order(members::user_id.desc()) } else { query.order(members::user_id.asc()) }
}

/// A page of the members of each organization, in the order of the users' identifiers; one row more than the limit where
/// there are more.
pub async fn pages(db: &mut Connection, organizations: &[i64], page: &PageRequest) -> Result<Vec<Vec<MemberRow>>> {
    let mut lists = vec![Vec::new(); organizations.len()];
    for (chunk_number, chunk) in organizations.chunks(MOST_SELECTS).enumerate() {
        let first = chunk_number * MOST_SELECTS;
        let queries = chunk.iter().enumerate().map(|(number, id)| one_page(first + number, *id, page));
        let rows: Vec<(i64, MemberRow)> = UnionAll(queries.collect()).load(db).await?;
        for (number, row) in rows {
            if let Some(list) = usize::try_from(number).ok().and_then(|number| lists.get_mut(number)) {
                list.push(row);
            }
        }
    }
    for list in &mut lists {
        list.sort_by_key(|row: &MemberRow| row.user_id);
        if page.from_end {
            list.reverse();
        }
    }
    Ok(lists)
}

/// How many members each organization has.
pub async fn counts(db: &mut Connection, organizations: &[i64]) -> Result<Vec<i64>> {
    let rows: Vec<(i64, i64)> = members::table
        .filter(members::organization_id.eq_any(organizations.to_vec()))
        .group_by(members::organization_id)
        .select((members::organization_id, diesel::dsl::count_star()))
        .load(db)
        .await?;
    let count_of = |id: &i64| rows.iter().find(|(counted, _)| counted == id).map_or(0, |(_, count)| *count);
    Ok(organizations.iter().map(count_of).collect())
}
