//! Cleanup jobs: who works on them, how far they have come, and what keeps two of a kind apart.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::super::{Connection, Dialect, lock_rows};
use crate::error::Result;
use crate::model::{CleanupStatus, CleanupTarget};
use crate::page::PageRequest;
use crate::store::lists::Visible;
use crate::store::models::{CleanupHold, CleanupJobRow, CleanupProgress};
use crate::store::schema::{cleanup_jobs, cleanup_locks};

/// The jobs of these identifiers, in no order.
pub async fn by_ids(db: &mut Connection, ids: Vec<i64>) -> Result<Vec<CleanupJobRow>> {
    Ok(cleanup_jobs::table.filter(cleanup_jobs::id.eq_any(ids)).select(CleanupJobRow::as_select()).load(db).await?)
}

/// Adds a job. When an open one has one of its targets in the same scope, nothing is added, and that target is returned
/// with that job.
pub async fn insert(
    db: &mut Connection,
    row: CleanupJobRow,
    targets: &[CleanupTarget],
) -> Result<Option<(CleanupTarget, i64)>> {
    let (id, scope_id) = (row.id, row.scope_id);
    diesel::insert_into(cleanup_jobs::table).values(row).execute(db).await?;
    // In one order for all, so that two that start at once do not wait for each other.
    let mut targets = targets.to_vec();
    targets.sort_unstable();
    for target in targets {
        if let Some(other) = take_target(db, target, scope_id, id).await? {
            diesel::delete(cleanup_jobs::table.filter(cleanup_jobs::id.eq(id))).execute(db).await?;
            return Ok(Some((target, other)));
        }
    }
    Ok(None)
}

/// Takes a target of a scope for a job; returns the job that has it, if another does.
async fn take_target(db: &mut Connection, target: CleanupTarget, scope_id: i64, job_id: i64) -> Result<Option<i64>> {
    loop {
        let lock = (
            cleanup_locks::target.eq(target.as_str()),
            cleanup_locks::scope_id.eq(scope_id),
            cleanup_locks::job_id.eq(job_id),
        );
        let taken = diesel::insert_into(cleanup_locks::table).values(lock).on_conflict_do_nothing().execute(db).await?;
        if taken == 1 {
            return Ok(None);
        }
        let other: Option<i64> = cleanup_locks::table
            .filter(cleanup_locks::target.eq(target.as_str()))
            .filter(cleanup_locks::scope_id.eq(scope_id))
            .select(cleanup_locks::job_id)
            .first(db)
            .await
            .optional()?;
        if other.is_some() {
            return Ok(other);
        }
        // The other one ended between the two looks.
    }
}

/// The open jobs with the time until which each is being worked on: those of the schedule before the others, and the
/// oldest first.
pub async fn open(db: &mut Connection, limit: i64) -> Result<Vec<(i64, i64)>> {
    Ok(cleanup_jobs::table
        .filter(cleanup_jobs::finished_at.is_null())
        .order((cleanup_jobs::is_scheduled.desc(), cleanup_jobs::id.asc()))
        .limit(limit)
        .select((cleanup_jobs::id, cleanup_jobs::lease_until))
        .load(db)
        .await?)
}

/// How many open jobs an account has, together with those that a user started elsewhere.
pub async fn count_open(db: &mut Connection, owner_id: i64, started_by: Option<i64>) -> Result<i64> {
    Ok(cleanup_jobs::table
        .filter(cleanup_jobs::finished_at.is_null())
        .filter(cleanup_jobs::owner_id.eq(owner_id).or(cleanup_jobs::started_by.eq(started_by)))
        .count()
        .get_result(db)
        .await?)
}

/// Removes jobs of an account that have ended, so many at most, and keeps so many of the newest.
pub async fn prune(db: &mut Connection, owner_id: i64, kept: i64, most: i64) -> Result<()> {
    let old: Vec<i64> = cleanup_jobs::table
        .filter(cleanup_jobs::owner_id.eq(owner_id))
        .filter(cleanup_jobs::finished_at.is_not_null())
        .order(cleanup_jobs::id.desc())
        .limit(most)
        .offset(kept)
        .select(cleanup_jobs::id)
        .load(db)
        .await?;
    if !old.is_empty() {
        lock_rows(db, "cleanup_jobs", &old).await?;
        diesel::delete(cleanup_jobs::table.filter(cleanup_jobs::id.eq_any(old))).execute(db).await?;
    }
    Ok(())
}

/// Gives an open job that nobody works on to a worker.
pub async fn take(db: &mut Connection, id: i64, holder: &str, at: i64, until: i64) -> Result<Option<CleanupJobRow>> {
    let free = cleanup_jobs::table
        .filter(cleanup_jobs::id.eq(id))
        .filter(cleanup_jobs::finished_at.is_null())
        .filter(cleanup_jobs::lease_until.le(at));
    let taken: Option<CleanupJobRow> = diesel::update(free)
        .set((
            cleanup_jobs::status.eq(CleanupStatus::Running.as_str()),
            cleanup_jobs::lease_holder.eq(holder),
            cleanup_jobs::lease_until.eq(until),
        ))
        .returning(CleanupJobRow::as_returning())
        .get_result(db)
        .await
        .optional()?;
    match taken {
        Some(job) if job.started_at.is_none() => {
            diesel::update(cleanup_jobs::table.filter(cleanup_jobs::id.eq(id)))
                .set(cleanup_jobs::started_at.eq(at))
                .execute(db)
                .await?;
            Ok(Some(CleanupJobRow { started_at: Some(at), ..job }))
        }
        taken => Ok(taken),
    }
}

/// Locks a job until the transaction ends and keeps it for its worker; false when it stands elsewhere than the worker
/// believes, is another's by now, or is to stop.
pub async fn hold(db: &mut Connection, hold: &CleanupHold) -> Result<bool> {
    let own = cleanup_jobs::table
        .filter(cleanup_jobs::id.eq(hold.id))
        .filter(cleanup_jobs::lease_holder.assume_not_null().eq(hold.holder.as_str()))
        .filter(cleanup_jobs::finished_at.is_null())
        .filter(cleanup_jobs::cancel_requested.eq(false))
        .filter(cleanup_jobs::examined.eq(hold.examined))
        .filter(cleanup_jobs::target_number.eq(hold.target_number))
        .filter(cleanup_jobs::row_cursor.eq(hold.row_cursor));
    Ok(diesel::update(own).set(cleanup_jobs::lease_until.eq(hold.until)).execute(db).await? == 1)
}

/// Notes how far a job has come that the transaction holds.
pub async fn advance(db: &mut Connection, id: i64, progress: CleanupProgress) -> Result<()> {
    diesel::update(cleanup_jobs::table.filter(cleanup_jobs::id.eq(id))).set(progress).execute(db).await?;
    Ok(())
}

/// Locks a job until the transaction ends, keeps it for its worker, and returns it as it is now; nothing when it ended,
/// or is another's.
pub async fn renew(db: &mut Connection, id: i64, holder: &str, until: i64) -> Result<Option<CleanupJobRow>> {
    let own = cleanup_jobs::table
        .filter(cleanup_jobs::id.eq(id))
        .filter(cleanup_jobs::lease_holder.assume_not_null().eq(holder))
        .filter(cleanup_jobs::finished_at.is_null());
    Ok(diesel::update(own)
        .set(cleanup_jobs::lease_until.eq(until))
        .returning(CleanupJobRow::as_returning())
        .get_result(db)
        .await
        .optional()?)
}

/// Ends a job that the transaction has locked, and frees its targets.
pub async fn end(
    db: &mut Connection,
    id: i64,
    status: CleanupStatus,
    error: Option<&str>,
    at: i64,
) -> Result<Option<CleanupJobRow>> {
    diesel::delete(cleanup_locks::table.filter(cleanup_locks::job_id.eq(id))).execute(db).await?;
    Ok(diesel::update(cleanup_jobs::table.filter(cleanup_jobs::id.eq(id)))
        .set((
            cleanup_jobs::status.eq(status.as_str()),
            cleanup_jobs::error.eq(error),
            cleanup_jobs::finished_at.eq(at),
            cleanup_jobs::lease_holder.eq(None::<String>),
            cleanup_jobs::lease_until.eq(0_i64),
        ))
        .returning(CleanupJobRow::as_returning())
        .get_result(db)
        .await
        .optional()?)
}

/// Asks a job to stop, and returns it as it is then. One that nobody works on ends at once; one that has ended stays as
/// it is.
pub async fn cancel(db: &mut Connection, id: i64, at: i64) -> Result<Option<CleanupJobRow>> {
    let open = cleanup_jobs::table.filter(cleanup_jobs::id.eq(id)).filter(cleanup_jobs::finished_at.is_null());
    let asked: Option<CleanupJobRow> = diesel::update(open)
        .set(cleanup_jobs::cancel_requested.eq(true))
        .returning(CleanupJobRow::as_returning())
        .get_result(db)
        .await
        .optional()?;
    match asked {
        Some(job) if job.lease_until <= at => end(db, id, CleanupStatus::Cancelled, None, at).await,
        Some(job) => Ok(Some(job)),
        None => Ok(by_ids(db, vec![id]).await?.pop()),
    }
}

type Boxed = diesel::dsl::IntoBoxed<
    'static,
    diesel::dsl::Select<cleanup_jobs::table, diesel::dsl::AsSelect<CleanupJobRow, Dialect>>,
    Dialect,
>;

fn one_page(page: &PageRequest) -> Boxed {
    let mut query = cleanup_jobs::table
        .select(CleanupJobRow::as_select())
        .limit(i64::try_from(page.limit).unwrap_or(i64::MAX).saturating_add(1))
        .into_boxed::<Dialect>();
    if let Some(after) = &page.after {
        query = query.filter(cleanup_jobs::id.lt(after.id));
    }
    if let Some(before) = &page.before {
        query = query.filter(cleanup_jobs::id.gt(before.id));
    }
    if page.from_end { query.order(cleanup_jobs::id.asc()) } else { query.order(cleanup_jobs::id.desc()) }
}

/// A page of the jobs of each of these, newest first; one row more than the limit where there are more.
pub async fn pages(db: &mut Connection, lists: &[Visible], page: &PageRequest) -> Result<Vec<Vec<CleanupJobRow>>> {
    let mut found = Vec::with_capacity(lists.len());
    for list in lists {
        let query = match list {
            Visible::Everything => one_page(page),
            Visible::Owners(ids) => one_page(page).filter(cleanup_jobs::owner_id.eq_any(ids.clone())),
            Visible::Runner(_) => {
                found.push(Vec::new());
                continue;
            }
        };
        found.push(query.load(db).await?);
    }
    Ok(found)
}

/// How many jobs each of these has.
pub async fn counts(db: &mut Connection, lists: &[Visible]) -> Result<Vec<i64>> {
    let mut counts = Vec::with_capacity(lists.len());
    for list in lists {
        let count: i64 = match list {
            Visible::Everything => cleanup_jobs::table.count().get_result(db).await?,
            Visible::Owners(ids) => {
                let theirs = cleanup_jobs::table.filter(cleanup_jobs::owner_id.eq_any(ids.clone()));
                theirs.count().get_result(db).await?
            }
            Visible::Runner(_) => 0,
        };
        counts.push(count);
    }
    Ok(counts)
}
