//! Pages of tasks, each part of a list through an index of its own.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::super::{Connection, Dialect};
use super::containing;
use super::union::{MOST_SELECTS, UnionAll};
use crate::error::Result;
use crate::model::TaskStatus;
use crate::page::PageRequest;
use crate::store::lists::{TaskFilter, TaskList, TaskParent, Visible};
use crate::store::models::TaskRow;
use crate::store::schema::tasks;

type Condition = Box<dyn BoxableExpression<tasks::table, Dialect, SqlType = diesel::sql_types::Bool>>;

/// Most accounts that a list is cut up by.
const MOST_OWNERS: usize = 50;

/// The parts of a list that each walk one index in the order of the page; merged, their first rows are the list's.
fn parts(list: &TaskList) -> Vec<TaskList> {
    let by_owner = match (list.parent, &list.visible) {
        (TaskParent::Everything, Visible::Owners(ids)) if ids.len() <= MOST_OWNERS => ids
            .iter()
            .map(|id| TaskList { parent: TaskParent::Owner(*id), visible: Visible::Everything, ..list.clone() })
            .collect(),
        _ => vec![list.clone()],
    };
    let Some(statuses) = list.filter.statuses.as_ref().filter(|statuses| statuses.len() > 1) else { return by_owner };
    let with_status = |part: &TaskList, status: TaskStatus| TaskList {
        filter: TaskFilter { statuses: Some(vec![status]), ..part.filter.clone() },
        ..part.clone()
    };
    by_owner.iter().flat_map(|part| statuses.iter().map(move |status| with_status(part, *status))).collect()
}

fn conditions(list: &TaskList) -> Vec<Condition> {
    let mut conditions: Vec<Condition> = Vec::new();
    match list.parent {
        TaskParent::Everything => {}
        TaskParent::Owner(id) => conditions.push(Box::new(tasks::owner_id.eq(id))),
        TaskParent::Repository(id) => conditions.push(Box::new(tasks::repository_id.eq(id))),
        TaskParent::Runner(id) => conditions.push(Box::new(tasks::runner_id.assume_not_null().eq(id))),
    }
    match &list.visible {
        Visible::Everything => {}
        Visible::Owners(ids) => conditions.push(Box::new(tasks::owner_id.eq_any(ids.clone()))),
        Visible::Runner(id) => conditions.push(Box::new(tasks::runner_id.assume_not_null().eq(*id))),
    }
    if let Some(statuses) = &list.filter.statuses {
        match statuses.as_slice() {
            [status] => conditions.push(Box::new(tasks::status.eq(status.as_str()))),
            statuses => {
                let words: Vec<&'static str> = statuses.iter().map(|status| status.as_str()).collect();
                conditions.push(Box::new(tasks::status.eq_any(words)));
            }
        }
    }
    for label in &list.filter.labels {
        let labels = ",".into_sql::<diesel::sql_types::Text>().concat(tasks::labels).concat(",");
        conditions.push(Box::new(labels.like(containing(&format!(",{label},"))).escape('\\')));
    }
    if let Some(search) = &list.filter.search {
        conditions.push(Box::new(tasks::name_key.like(containing(&search.to_lowercase())).escape('\\')));
    }
    if let Some(id) = list.filter.runner_id {
        conditions.push(Box::new(tasks::runner_id.assume_not_null().eq(id)));
    }
    conditions
}

type Boxed = diesel::dsl::IntoBoxed<
    'static,
    diesel::dsl::Select<
        tasks::table,
        (diesel::dsl::AsExprOf<i64, diesel::sql_types::BigInt>, diesel::dsl::AsSelect<TaskRow, Dialect>),
    >,
    Dialect,
>;

fn one_page(number: usize, list: &TaskList, page: &PageRequest) -> Boxed {
    let number = i64::try_from(number).unwrap_or(i64::MAX);
    let mut query = tasks::table
        .select((number.into_sql::<diesel::sql_types::BigInt>(), TaskRow::as_select()))
        .limit(i64::try_from(page.limit).unwrap_or(i64::MAX).saturating_add(1))
        .into_boxed::<Dialect>();
    for condition in conditions(list) {
        query = query.filter(condition);
    }
    if let Some(after) = &page.after {
        query = query.filter(tasks::id.lt(after.id));
    }
    if let Some(before) = &page.before {
        query = query.filter(tasks::id.gt(before.id));
    }
    if page.from_end { query.order(tasks::id.asc()) } else { query.order(tasks::id.desc()) }
}

/// A page of each list, newest first; one row more than the limit where there are more. One statement for hundreds of lists.
pub async fn pages(db: &mut Connection, lists: &[TaskList], page: &PageRequest) -> Result<Vec<Vec<TaskRow>>> {
    let mut found: Vec<Vec<TaskRow>> = vec![Vec::new(); lists.len()];
    let parts: Vec<(usize, TaskList)> = lists
        .iter()
        .enumerate()
        .flat_map(|(number, list)| parts(list).into_iter().map(move |part| (number, part)))
        .collect();
    for chunk in parts.chunks(MOST_SELECTS) {
        let queries = chunk.iter().map(|(number, part)| one_page(*number, part, page));
        let rows: Vec<(i64, TaskRow)> = UnionAll(queries.collect()).load(db).await?;
        for (number, row) in rows {
            if let Some(list) = usize::try_from(number).ok().and_then(|number| found.get_mut(number)) {
                list.push(row);
            }
        }
    }
    for rows in &mut found {
        rows.sort_by_key(|row| row.id);
        if !page.from_end {
            rows.reverse();
        }
        rows.truncate(page.limit.saturating_add(1));
    }
    Ok(found)
}

/// How many tasks each list has, in one statement for up to 400 lists.
pub async fn counts(db: &mut Connection, lists: &[TaskList]) -> Result<Vec<i64>> {
    let mut counts = vec![0; lists.len()];
    for (chunk_number, chunk) in lists.chunks(MOST_SELECTS).enumerate() {
        let queries = chunk.iter().enumerate().map(|(number, list)| {
            let number = i64::try_from(chunk_number * MOST_SELECTS + number).unwrap_or(i64::MAX);
            let mut query = tasks::table
                .select((number.into_sql::<diesel::sql_types::BigInt>(), diesel::dsl::count_star()))
                .into_boxed::<Dialect>();
            for condition in conditions(list) {
                query = query.filter(condition);
            }
            query
        });
        let rows: Vec<(i64, i64)> = UnionAll(queries.collect()).load(db).await?;
        for (number, count) in rows {
            if let Some(slot) = usize::try_from(number).ok().and_then(|number| counts.get_mut(number)) {
                *slot = count;
            }
        }
    }
    Ok(counts)
}
