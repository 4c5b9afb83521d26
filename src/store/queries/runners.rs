//! Runners and their labels.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

pub use super::super::insert_labels;

use super::super::{Connection, Dialect, lock_rows};
use super::containing;
use super::union::{MOST_SELECTS, UnionAll};
use crate::error::Result;
use crate::page::{PageRequest, Position, SortKey};
use crate::store::lists::{RunnerFilter, RunnerList, RunnerOrder, RunnerOrderField, RunnerParent, Visible};
use crate::store::models::{RunnerName, RunnerRow};
use crate::store::schema::{runner_labels, runners};

/// The runners of these identifiers, in no order.
pub async fn by_ids(db: &mut Connection, ids: Vec<i64>) -> Result<Vec<RunnerRow>> {
    Ok(runners::table.filter(runners::id.eq_any(ids)).select(RunnerRow::as_select()).load(db).await?)
}

/// The runner of a UUID, in its usual form.
pub async fn by_uuid(db: &mut Connection, uuid: &str) -> Result<Option<RunnerRow>> {
    Ok(runners::table.filter(runners::uuid.eq(uuid)).select(RunnerRow::as_select()).first(db).await.optional()?)
}

/// The runner that a machine has in a scope.
pub async fn by_machine(db: &mut Connection, scope_id: i64, machine_id: &str) -> Result<Option<RunnerRow>> {
    Ok(runners::table
        .filter(runners::scope_id.eq(scope_id))
        .filter(runners::machine_id.eq(machine_id))
        .select(RunnerRow::as_select())
        .first(db)
        .await
        .optional()?)
}

/// Locks a runner until the transaction ends, and returns it as it is now.
pub async fn lock(db: &mut Connection, id: i64, at: i64) -> Result<Option<RunnerRow>> {
    let changes = RunnerChanges { updated_at: Some(at), ..RunnerChanges::default() };
    update(db, id, changes).await
}

/// Locks a runner until the transaction ends, without a trace in its record: whoever gives it work and whoever deletes it take
/// turns.
pub async fn lock_for_work(db: &mut Connection, id: i64) -> Result<Option<RunnerRow>> {
    Ok(diesel::update(runners::table.filter(runners::id.eq(id)))
        .set(runners::disabled.eq(runners::disabled))
        .returning(RunnerRow::as_returning())
        .get_result(db)
        .await
        .optional()?)
}

/// Notes when an ephemeral runner took its one task.
pub async fn set_used(db: &mut Connection, id: i64, at: Option<i64>) -> Result<()> {
    diesel::update(runners::table.filter(runners::id.eq(id))).set(runners::used_at.eq(at)).execute(db).await?;
    Ok(())
}

/// Adds a runner; false when its machine has one in the scope already.
pub async fn insert(db: &mut Connection, row: RunnerRow) -> Result<bool> {
    let inserted = diesel::insert_into(runners::table).values(row).on_conflict_do_nothing().execute(db).await?;
    Ok(inserted == 1)
}

/// Deletes runners with all that belongs to them; returns those that were there.
pub async fn delete(db: &mut Connection, ids: Vec<i64>) -> Result<Vec<RunnerName>> {
    lock_rows(db, "runners", &ids).await?;
    Ok(diesel::delete(runners::table.filter(runners::id.eq_any(ids)))
        .returning(RunnerName::as_returning())
        .get_results(db)
        .await?)
}

/// What changes in a runner's record; `None` leaves a column as it is.
#[derive(Clone, Debug, Default, AsChangeset)]
#[diesel(table_name = runners)]
pub struct RunnerChanges {
    /// Display name.
    pub name: Option<String>,
    /// The name in lower case.
    pub name_key: Option<String>,
    /// What it is, for people.
    pub description: Option<String>,
    /// The description in lower case.
    pub description_key: Option<String>,
    /// A manager's remark.
    pub note: Option<String>,
    /// Whether it gets no new work.
    pub disabled: Option<bool>,
    /// The agent's version.
    pub version: Option<String>,
    /// Operating system.
    pub os: Option<String>,
    /// Processor architecture.
    pub arch: Option<String>,
    /// Whether it takes one task and is then removed.
    pub ephemeral: Option<bool>,
    /// The token's hash.
    pub token_hash: Option<String>,
    /// The token's number.
    pub token_generation: Option<i64>,
    /// When the token was made.
    pub token_issued_at: Option<i64>,
    /// The token before; `Some(None)` ends it.
    pub previous_token_hash: Option<Option<String>>,
    /// Until when the token before works.
    pub previous_valid_until: Option<Option<i64>>,
    /// The registration token that made it.
    pub registered_with: Option<Option<i64>>,
    /// The address it registered from.
    pub registered_from: Option<Option<String>>,
    /// When it was last changed.
    pub updated_at: Option<i64>,
    /// When an ephemeral runner took its one task.
    pub used_at: Option<Option<i64>>,
}

/// Changes a runner and returns it as it is then; nothing when it is gone.
pub async fn update(db: &mut Connection, id: i64, changes: RunnerChanges) -> Result<Option<RunnerRow>> {
    Ok(diesel::update(runners::table.filter(runners::id.eq(id)))
        .set(changes)
        .returning(RunnerRow::as_returning())
        .get_result(db)
        .await
        .optional()?)
}

/// Ends the token before this generation of a runner's token, unless there is a newer one already.
pub async fn retire_previous(db: &mut Connection, id: i64, generation: i64) -> Result<()> {
    let runner = runners::table.filter(runners::id.eq(id)).filter(runners::token_generation.eq(generation));
    diesel::update(runner)
        .set((runners::previous_token_hash.eq(None::<String>), runners::previous_valid_until.eq(None::<i64>)))
        .execute(db)
        .await?;
    Ok(())
}

/// Disables or enables runners; returns those that were otherwise before.
pub async fn set_disabled(db: &mut Connection, ids: Vec<i64>, disabled: bool, at: i64) -> Result<Vec<i64>> {
    lock_rows(db, "runners", &ids).await?;
    Ok(diesel::update(runners::table.filter(runners::id.eq_any(ids)).filter(runners::disabled.ne(disabled)))
        .set((runners::disabled.eq(disabled), runners::updated_at.eq(at)))
        .returning(runners::id)
        .get_results(db)
        .await?)
}

/// The labels of these runners, in the order of labels.
pub async fn labels(db: &mut Connection, ids: Vec<i64>) -> Result<Vec<(i64, String)>> {
    Ok(runner_labels::table
        .filter(runner_labels::runner_id.eq_any(ids))
        .order(runner_labels::label.asc())
        .select((runner_labels::runner_id, runner_labels::label))
        .load(db)
        .await?)
}

/// Replaces a runner's labels, all but the forced ones.
pub async fn replace_labels(db: &mut Connection, id: i64, labels: &[String]) -> Result<()> {
    diesel::delete(
        runner_labels::table.filter(runner_labels::runner_id.eq(id)).filter(runner_labels::forced.eq(false)),
    )
    .execute(db)
    .await?;
    let rows: Vec<(i64, String, bool)> = labels.iter().map(|label| (id, label.clone(), false)).collect();
    insert_labels(db, &rows).await
}

/// Takes every label from a runner, the forced ones too.
pub async fn clear_labels(db: &mut Connection, id: i64) -> Result<()> {
    diesel::delete(runner_labels::table.filter(runner_labels::runner_id.eq(id))).execute(db).await?;
    Ok(())
}

type Condition = Box<dyn BoxableExpression<runners::table, Dialect, SqlType = diesel::sql_types::Bool>>;

fn belongs(parent: &RunnerParent) -> Option<Condition> {
    match parent {
        RunnerParent::Everything => None,
        RunnerParent::Scopes(ids) => match ids.as_slice() {
            // An equality walks an index in the order of the page; a list does not.
            [id] => Some(Box::new(runners::scope_id.eq(*id))),
            _ => Some(Box::new(runners::scope_id.eq_any(ids.clone()))),
        },
        RunnerParent::Token(id) => Some(Box::new(runners::registered_with.assume_not_null().eq(*id))),
        RunnerParent::Ids(ids) => Some(Box::new(runners::id.eq_any(ids.clone()))),
    }
}

fn may_see(visible: &Visible) -> Option<Condition> {
    match visible {
        Visible::Everything => None,
        Visible::Owners(ids) => match ids.as_slice() {
            [id] => Some(Box::new(runners::owner_id.eq(*id))),
            _ => Some(Box::new(runners::owner_id.eq_any(ids.clone()))),
        },
        Visible::Runner(id) => Some(Box::new(runners::id.eq(*id))),
    }
}

fn passes(filter: &RunnerFilter) -> Vec<Condition> {
    let mut conditions: Vec<Condition> = Vec::new();
    if let Some(statuses) = &filter.statuses {
        let words: Vec<&'static str> = statuses.wanted.iter().map(|status| status.as_str()).collect();
        let settled = runners::status.eq_any(words);
        if statuses.unsettled.is_empty() {
            conditions.push(Box::new(settled));
        } else {
            conditions.push(Box::new(
                settled
                    .and(runners::id.ne_all(statuses.unsettled.clone()))
                    .or(runners::id.eq_any(statuses.unsettled_wanted.clone())),
            ));
        }
    }
    for label in &filter.labels {
        let carriers =
            runner_labels::table.filter(runner_labels::label.eq(label.clone())).select(runner_labels::runner_id);
        conditions.push(Box::new(runners::id.eq_any(carriers)));
    }
    if let Some(search) = &filter.search {
        let pattern = containing(&search.to_lowercase());
        conditions.push(Box::new(
            runners::name_key
                .like(pattern.clone())
                .escape('\\')
                .or(runners::uuid.like(pattern.clone()).escape('\\'))
                .or(runners::description_key.like(pattern).escape('\\')),
        ));
    }
    if let Some(ephemeral) = filter.ephemeral {
        conditions.push(Box::new(runners::ephemeral.eq(ephemeral)));
    }
    if let Some(disabled) = filter.disabled {
        conditions.push(Box::new(runners::disabled.eq(disabled)));
    }
    if let Some(before) = filter.last_online_before {
        conditions.push(Box::new(runners::last_online_at.lt(before).and(runners::created_at.lt(before))));
    }
    conditions
}

/// The rows on one side of a place. Written so that the first comparison can be looked up in an index.
fn beyond(order: RunnerOrder, place: &Position, forward: bool) -> Option<Condition> {
    let greater = forward != order.descending;
    let id = place.id;
    macro_rules! side {
        ($column:expr, $key:expr) => {
            if greater {
                Box::new($column.ge($key.clone()).and($column.gt($key).or(runners::id.gt(id))))
            } else {
                Box::new($column.le($key.clone()).and($column.lt($key).or(runners::id.lt(id))))
            }
        };
    }
    Some(match (order.field, &place.key) {
        (RunnerOrderField::Name, SortKey::Text(key)) => side!(runners::name_key, key.clone()),
        (RunnerOrderField::LastOnlineAt, SortKey::Number(key)) => {
            let key = *key;
            side!(runners::last_online_at, key)
        }
        (RunnerOrderField::CreatedAt, _) if greater => Box::new(runners::id.gt(id)),
        (RunnerOrderField::CreatedAt, _) => Box::new(runners::id.lt(id)),
        _ => return None,
    })
}

type Boxed = diesel::dsl::IntoBoxed<
    'static,
    diesel::dsl::Select<
        runners::table,
        (diesel::dsl::AsExprOf<i64, diesel::sql_types::BigInt>, diesel::dsl::AsSelect<RunnerRow, Dialect>),
    >,
    Dialect,
>;

fn one_page(number: usize, list: &RunnerList, page: &PageRequest) -> Boxed {
    let number = i64::try_from(number).unwrap_or(i64::MAX);
    let mut query = runners::table
        .select((number.into_sql::<diesel::sql_types::BigInt>(), RunnerRow::as_select()))
        .limit(i64::try_from(page.limit).unwrap_or(i64::MAX).saturating_add(1))
        .into_boxed::<Dialect>();
    let after = page.after.as_ref().and_then(|place| beyond(list.order, place, true));
    let before = page.before.as_ref().and_then(|place| beyond(list.order, place, false));
    let conditions = belongs(&list.parent)
        .into_iter()
        .chain(may_see(&list.visible))
        .chain(passes(&list.filter))
        .chain(after)
        .chain(before);
    for condition in conditions {
        query = query.filter(condition);
    }
    let descending = list.order.descending != page.from_end;
    match (list.order.field, descending) {
        (RunnerOrderField::Name, false) => query.order((runners::name_key.asc(), runners::id.asc())),
        (RunnerOrderField::Name, true) => query.order((runners::name_key.desc(), runners::id.desc())),
        (RunnerOrderField::LastOnlineAt, false) => query.order((runners::last_online_at.asc(), runners::id.asc())),
        (RunnerOrderField::LastOnlineAt, true) => query.order((runners::last_online_at.desc(), runners::id.desc())),
        (RunnerOrderField::CreatedAt, false) => query.order(runners::id.asc()),
        (RunnerOrderField::CreatedAt, true) => query.order(runners::id.desc()),
    }
}

/// Most scopes or accounts that a list is cut up by.
const MOST_PARTS: usize = 100;

/// The parts of a list that each walk one index in the order of the page; merged, their first rows are the list's.
fn parts(list: &RunnerList) -> Vec<RunnerList> {
    let part = |parent: RunnerParent, visible: Visible| RunnerList { parent, visible, ..list.clone() };
    match (&list.parent, &list.visible) {
        (RunnerParent::Scopes(ids), visible) if (2..=MOST_PARTS).contains(&ids.len()) => {
            ids.iter().map(|id| part(RunnerParent::Scopes(vec![*id]), visible.clone())).collect()
        }
        (RunnerParent::Everything, Visible::Owners(ids)) if (2..=MOST_PARTS).contains(&ids.len()) => {
            ids.iter().map(|id| part(RunnerParent::Everything, Visible::Owners(vec![*id]))).collect()
        }
        _ => vec![list.clone()],
    }
}

/// Most values in one statement, well under what SQLite takes.
const MOST_BINDS: usize = 20_000;

/// How many of these lists go into one statement.
fn at_once<'a>(lists: impl Iterator<Item = &'a RunnerList>) -> usize {
    let binds = |list: &RunnerList| {
        let parent = match &list.parent {
            RunnerParent::Scopes(ids) | RunnerParent::Ids(ids) => ids.len(),
            RunnerParent::Everything | RunnerParent::Token(_) => 1,
        };
        let statuses = list.filter.statuses.as_ref().map_or(0, |it| 3 + 2 * it.unsettled.len());
        let visible = if let Visible::Owners(ids) = &list.visible { ids.len() } else { 1 };
        20 + parent + statuses + visible + list.filter.labels.len()
    };
    (MOST_BINDS / lists.map(binds).max().unwrap_or(1)).clamp(1, MOST_SELECTS)
}

/// A page of each list; one row more than the limit where there are more. One statement for hundreds of lists.
pub async fn pages(db: &mut Connection, lists: &[RunnerList], page: &PageRequest) -> Result<Vec<Vec<RunnerRow>>> {
    let mut found: Vec<Vec<RunnerRow>> = vec![Vec::new(); lists.len()];
    let parts: Vec<(usize, RunnerList)> = lists
        .iter()
        .enumerate()
        .flat_map(|(number, list)| parts(list).into_iter().map(move |part| (number, part)))
        .collect();
    for chunk in parts.chunks(at_once(parts.iter().map(|(_, part)| part))) {
        let queries = chunk.iter().map(|(number, part)| one_page(*number, part, page));
        let rows: Vec<(i64, RunnerRow)> = UnionAll(queries.collect()).load(db).await?;
        for (number, row) in rows {
            if let Some(list) = usize::try_from(number).ok().and_then(|number| found.get_mut(number)) {
                list.push(row);
            }
        }
    }
    for (rows, list) in found.iter_mut().zip(lists) {
        rows.sort_by_cached_key(|row| list.order.position(row));
        if list.order.descending != page.from_end {
            rows.reverse();
        }
        rows.truncate(page.limit.saturating_add(1));
    }
    Ok(found)
}

/// How many runners each list has, in one statement for up to 400 lists.
pub async fn counts(db: &mut Connection, lists: &[RunnerList]) -> Result<Vec<i64>> {
    let mut counts = vec![0; lists.len()];
    let size = at_once(lists.iter());
    for (chunk_number, chunk) in lists.chunks(size).enumerate() {
        let queries = chunk.iter().enumerate().map(|(number, list)| {
            let number = i64::try_from(chunk_number * size + number).unwrap_or(i64::MAX);
            let mut query = runners::table
                .select((number.into_sql::<diesel::sql_types::BigInt>(), diesel::dsl::count_star()))
                .into_boxed::<Dialect>();
            let conditions =
                belongs(&list.parent).into_iter().chain(may_see(&list.visible)).chain(passes(&list.filter));
            for condition in conditions {
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
