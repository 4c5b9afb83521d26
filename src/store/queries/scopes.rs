//! Scopes: the instance, accounts, repositories.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

pub use super::super::keep_scope;

use super::super::{Connection, Dialect, lock_rows};
use super::union::{MOST_SELECTS, UnionAll};
use crate::error::Result;
use crate::model::ScopeKind;
use crate::page::{PageRequest, SortKey};
use crate::store::lists::ScopeParent;
use crate::store::models::{DeletedScope, RunnerName, ScopeRow};
use crate::store::schema::{cleanup_jobs, organization_members, registration_tokens, runners, scopes};

/// A scope and the repositories below it.
macro_rules! within {
    ($id:expr) => {
        scopes::table.filter(scopes::id.eq($id).or(scopes::parent_id.eq($id))).select(scopes::id)
    };
}

/// The scope of a path, given in lower case.
pub async fn by_path(db: &mut Connection, path_key: &str) -> Result<Option<ScopeRow>> {
    Ok(scopes::table.filter(scopes::path_key.eq(path_key)).select(ScopeRow::as_select()).first(db).await.optional()?)
}

/// The scopes of these identifiers, in no order.
pub async fn by_ids(db: &mut Connection, ids: Vec<i64>) -> Result<Vec<ScopeRow>> {
    Ok(scopes::table.filter(scopes::id.eq_any(ids)).select(ScopeRow::as_select()).load(db).await?)
}

/// Adds a scope; false when its path is taken.
pub async fn insert(db: &mut Connection, row: &ScopeRow) -> Result<bool> {
    let inserted = diesel::insert_into(scopes::table)
        .values((
            scopes::id.eq(row.id),
            scopes::kind.eq(row.kind.as_str()),
            scopes::parent_id.eq(row.parent_id),
            scopes::path.eq(&row.path),
            scopes::path_key.eq(&row.path_key),
            scopes::name.eq(&row.name),
            scopes::created_at.eq(row.created_at),
            scopes::updated_at.eq(row.updated_at),
        ))
        .on_conflict_do_nothing()
        .execute(db)
        .await?;
    Ok(inserted == 1)
}

/// Locks a scope until the transaction ends, so that what is counted within it stays true; false when it is gone.
pub async fn lock(db: &mut Connection, id: i64, at: i64) -> Result<bool> {
    let locked = diesel::update(scopes::table.filter(scopes::id.eq(id))).set(scopes::updated_at.eq(at));
    Ok(locked.execute(db).await? == 1)
}

/// Deletes a scope with all that belongs to it, and returns what others have to know of that; nothing when it was not
/// there.
///
/// What goes with it, or names it, is locked first: tables in the order that all keep to (scopes, cleanup jobs,
/// registration tokens, runners, tasks), and so what is returned is what goes.
pub async fn delete(db: &mut Connection, id: i64) -> Result<Option<DeletedScope>> {
    // Whatever is added to a scope refers to it, and waits from here on.
    lock_rows(db, "scopes", &[id]).await?;
    let below = scopes::table.filter(scopes::parent_id.eq(id)).select(scopes::id);
    let mut gone: Vec<i64> = below.load(db).await?;
    lock_rows(db, "scopes", &gone).await?;
    gone.push(id);
    let jobs: Vec<i64> = cleanup_jobs::table
        .filter(cleanup_jobs::scope_id.eq_any(within!(id)).or(cleanup_jobs::started_by.eq(id)))
        .select(cleanup_jobs::id)
        .load(db)
        .await?;
    lock_rows(db, "cleanup_jobs", &jobs).await?;
    let tokens: Vec<i64> = registration_tokens::table
        .filter(registration_tokens::scope_id.eq_any(within!(id)).or(registration_tokens::created_by.eq(id)))
        .select(registration_tokens::id)
        .load(db)
        .await?;
    lock_rows(db, "registration_tokens", &tokens).await?;
    let runners: Vec<RunnerName> =
        runners::table.filter(runners::scope_id.eq_any(within!(id))).select(RunnerName::as_select()).load(db).await?;
    let runner_ids: Vec<i64> = runners.iter().map(|runner| runner.id).collect();
    lock_rows(db, "runners", &runner_ids).await?;
    let task_ids = super::tasks::ids_within(db, id).await?;
    lock_rows(db, "tasks", &task_ids).await?;
    let tasks = super::tasks::live_within(db, id).await?;
    let deleted = diesel::delete(scopes::table.filter(scopes::id.eq(id))).execute(db).await?;
    Ok((deleted == 1).then_some(DeletedScope { scopes: gone, runners, tasks }))
}

/// A page of each list, in the order of paths; one row more than the limit where there are more.
pub async fn pages(db: &mut Connection, parents: &[ScopeParent], page: &PageRequest) -> Result<Vec<Vec<ScopeRow>>> {
    let mut lists = vec![Vec::new(); parents.len()];
    for (chunk_number, chunk) in parents.chunks(MOST_SELECTS).enumerate() {
        let first = chunk_number * MOST_SELECTS;
        let queries = chunk.iter().enumerate().map(|(number, parent)| one_page(first + number, *parent, page));
        let rows: Vec<(i64, ScopeRow)> = UnionAll(queries.collect()).load(db).await?;
        for (number, row) in rows {
            if let Some(list) = usize::try_from(number).ok().and_then(|number| lists.get_mut(number)) {
                list.push(row);
            }
        }
    }
    for list in &mut lists {
        list.sort_by(|a: &ScopeRow, b| a.path_key.cmp(&b.path_key));
        if page.from_end {
            list.reverse();
        }
    }
    Ok(lists)
}

type Boxed = diesel::dsl::IntoBoxed<
    'static,
    diesel::dsl::Select<
        scopes::table,
        (diesel::dsl::AsExprOf<i64, diesel::sql_types::BigInt>, diesel::dsl::AsSelect<ScopeRow, Dialect>),
    >,
    Dialect,
>;

fn one_page(number: usize, parent: ScopeParent, page: &PageRequest) -> Boxed {
    let number = i64::try_from(number).unwrap_or(i64::MAX);
    let mut query = scopes::table
        .select((number.into_sql::<diesel::sql_types::BigInt>(), ScopeRow::as_select()))
        .limit(i64::try_from(page.limit).unwrap_or(i64::MAX).saturating_add(1))
        .into_boxed::<Dialect>();
    query = match parent {
        ScopeParent::Repositories(owner) => {
            query.filter(scopes::parent_id.eq(owner)).filter(scopes::kind.eq(ScopeKind::Repository.as_str()))
        }
        ScopeParent::OrganizationsOf(user) => query.filter(
            scopes::id.eq_any(
                organization_members::table
                    .filter(organization_members::user_id.eq(user))
                    .select(organization_members::organization_id),
            ),
        ),
    };
    if let Some(SortKey::Text(key)) = page.after.as_ref().map(|after| after.key.clone()) {
        query = query.filter(scopes::path_key.gt(key));
    }
    if let Some(SortKey::Text(key)) = page.before.as_ref().map(|before| before.key.clone()) {
        query = query.filter(scopes::path_key.lt(key));
    }
    if page.from_end { query.order(scopes::path_key.desc()) } else { query.order(scopes::path_key.asc()) }
}

/// How many each list has.
pub async fn counts(db: &mut Connection, parents: &[ScopeParent]) -> Result<Vec<i64>> {
    let (mut owners, mut users) = (Vec::new(), Vec::new());
    for parent in parents {
        match parent {
            ScopeParent::Repositories(id) => owners.push(*id),
            ScopeParent::OrganizationsOf(id) => users.push(*id),
        }
    }
    let mut counted: Vec<(ScopeParent, i64)> = Vec::new();
    if !owners.is_empty() {
        let rows: Vec<(Option<i64>, i64)> = scopes::table
            .filter(scopes::parent_id.eq_any(owners))
            .filter(scopes::kind.eq(ScopeKind::Repository.as_str()))
            .group_by(scopes::parent_id)
            .select((scopes::parent_id, diesel::dsl::count_star()))
            .load(db)
            .await?;
        counted.extend(rows.into_iter().filter_map(|(id, count)| Some((ScopeParent::Repositories(id?), count))));
    }
    if !users.is_empty() {
        let rows: Vec<(i64, i64)> = organization_members::table
            .filter(organization_members::user_id.eq_any(users))
            .group_by(organization_members::user_id)
            .select((organization_members::user_id, diesel::dsl::count_star()))
            .load(db)
            .await?;
        counted.extend(rows.into_iter().map(|(id, count)| (ScopeParent::OrganizationsOf(id), count)));
    }
    let count_of = |parent| counted.iter().find(|(counted, _)| counted == parent).map_or(0, |(_, count)| *count);
    Ok(parents.iter().map(count_of).collect())
}
