//! Cleanup jobs, and what decides whether a thing may be removed.

use diesel::prelude::*;

use super::Word;
use crate::model::CleanupStatus;
use crate::store::schema::cleanup_jobs;

/// Most rows that one transaction of a cleanup deletes.
pub const MOST_SWEPT: usize = 500;

/// A cleanup job, with how far it has come.
#[derive(Clone, Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = cleanup_jobs)]
pub struct CleanupJobRow {
    /// Identifier.
    pub id: i64,
    /// Where it stands.
    #[diesel(serialize_as = Word)]
    pub status: CleanupStatus,
    /// Names of targets with commas between, in the order in which they are worked on.
    pub targets: String,
    /// What it cleans up in: this scope and the repositories below it; the instance means everything.
    pub scope_id: i64,
    /// The account above the scope, or the instance.
    pub owner_id: i64,
    /// The age from which on things are removed; without, what was configured for each target when it was asked for.
    pub older_than_seconds: Option<i64>,
    /// Whether it only counts.
    pub dry_run: bool,
    /// Things looked at so far.
    pub examined: i64,
    /// Things removed so far, or with `dry_run` those that would be.
    pub deleted: i64,
    /// Things there are to look at, once they were counted.
    pub total: Option<i64>,
    /// What is to be done for each target and was done so far, as JSON.
    pub results: String,
    /// Where to go on: the number of the target in `targets`.
    pub target_number: i64,
    /// Where to go on: the last thing of that target that was looked at.
    pub row_cursor: i64,
    /// Why it failed.
    pub error: Option<String>,
    /// Who started it; none for those of the schedule.
    pub started_by: Option<i64>,
    /// Whether the schedule started it.
    pub is_scheduled: bool,
    /// Whether somebody wants it to stop.
    pub cancel_requested: bool,
    /// Who works on it.
    pub lease_holder: Option<String>,
    /// Until when that holds without another sign of life.
    pub lease_until: i64,
    /// When it was asked for.
    pub created_at: i64,
    /// When the work began.
    pub started_at: Option<i64>,
    /// When it ended.
    pub finished_at: Option<i64>,
}

/// How far a job has come.
#[derive(Clone, Debug, AsChangeset)]
#[diesel(table_name = cleanup_jobs)]
pub struct CleanupProgress {
    /// Things looked at so far.
    pub examined: i64,
    /// Things removed so far.
    pub deleted: i64,
    /// Things there are to look at; `None` leaves it as it is.
    pub total: Option<i64>,
    /// What was done for each target so far, as JSON.
    pub results: String,
    /// The number of the target to go on with.
    pub target_number: i64,
    /// The last thing of that target that was looked at.
    pub row_cursor: i64,
}

/// Where a worker believes its job to stand, and until when it wants to keep it.
#[derive(Clone, Debug)]
pub struct CleanupHold {
    /// The job.
    pub id: i64,
    /// The worker.
    pub holder: String,
    /// Until when.
    pub until: i64,
    /// Things looked at so far.
    pub examined: i64,
    /// The number of the target to go on with.
    pub target_number: i64,
    /// The last thing of that target that was looked at.
    pub row_cursor: i64,
}

/// What one transaction of a cleanup did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Things that it is done with.
    pub examined: usize,
    /// Those of them that are gone.
    pub deleted: usize,
    /// The last thing that it is done with.
    pub cursor: i64,
}

/// What decides whether a runner may be removed, presence aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunnerFacts {
    /// Identifier.
    pub id: i64,
    /// Whether it takes one task and is then removed.
    pub is_ephemeral: bool,
    /// When an ephemeral runner took its one task.
    pub used_at: Option<i64>,
    /// When it registered.
    pub created_at: i64,
    /// When it was last heard from, as of the last write; 0: never.
    pub last_online_at: i64,
    /// Whether it has a task at this moment.
    pub is_holding: bool,
    /// Until when an ephemeral runner may still deliver for a task that ended; 0: not at all.
    pub reports_until: i64,
}
