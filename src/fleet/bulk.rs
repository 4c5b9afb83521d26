//! What people do with many runners at once.

use super::{Fleet, RunnerQuery};
use crate::auth::Actor;
use crate::error::{AppError, Result};
use crate::events::Event;
use crate::page::PageRequest;
use crate::store::lists::{RunnerFilter, RunnerList, RunnerOrder, RunnerParent, Visible};
use crate::store::models::{RunnerRow, ScopeRow};

/// Most runners of one call.
pub(super) const MOST_AT_ONCE: usize = 1_000;

/// Which runners are meant.
#[derive(Clone, Debug)]
pub enum BulkTarget {
    /// These.
    Ids(Vec<i64>),
    /// Those of a scope (without one: all that the actor sees) that a filter lets through, oldest first.
    Filter(Option<ScopeRow>, RunnerQuery),
}

/// A runner that was asked for and left alone.
#[derive(Clone, Debug)]
pub struct BulkRefusal {
    /// The runner.
    pub id: i64,
    /// Why.
    pub error: AppError,
}

/// What was done, or with `dryRun` would be.
#[derive(Clone, Debug)]
pub struct BulkResult {
    /// How many runners match and may be changed by the actor.
    pub matched: usize,
    /// The first of them, as they were before.
    pub runners: Vec<RunnerRow>,
    /// The others.
    pub refused: Vec<BulkRefusal>,
}

impl Fleet {
    /// Deletes runners.
    ///
    /// # Errors
    /// `BAD_USER_INPUT` for too many; a runner that may not be deleted is a refusal and no error.
    pub async fn delete_runners(&self, actor: &Actor, target: BulkTarget, dry_run: bool) -> Result<BulkResult> {
        let result = self.matching(actor, target).await?;
        if !dry_run {
            let ids: Vec<i64> = result.0.iter().map(|row| row.id).collect();
            let gone = transact!(self.store, |db, queries| queries::runners::delete(db, ids).await)?;
            self.forget_runners(&gone);
        }
        Ok(shown(result))
    }

    /// Disables or enables runners.
    ///
    /// # Errors
    /// As [`Fleet::delete_runners`].
    pub async fn set_runners_disabled(
        &self,
        actor: &Actor,
        target: BulkTarget,
        disabled: bool,
        dry_run: bool,
    ) -> Result<BulkResult> {
        let (mut rows, refused) = self.matching(actor, target).await?;
        if !dry_run {
            let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
            let now = self.now().as_micros();
            let changed =
                transact!(self.store, |db, queries| queries::runners::set_disabled(db, ids, disabled, now).await)?;
            self.now_disabled(&changed, disabled);
            for row in &mut rows {
                if changed.contains(&row.id) {
                    self.tell(Event::RunnerUpdated, row.id, row.scope_id, row.owner_id);
                }
                row.disabled = disabled;
            }
        }
        Ok(shown((rows, refused)))
    }

    async fn matching(&self, actor: &Actor, target: BulkTarget) -> Result<(Vec<RunnerRow>, Vec<BulkRefusal>)> {
        self.may_change_runners(actor)?;
        let silent_since = match &target {
            BulkTarget::Filter(_, query) => query.offline_for_seconds.map(|seconds| self.seconds_ago(seconds)),
            BulkTarget::Ids(_) => None,
        };
        let (list, named) = match target {
            BulkTarget::Ids(ids) if ids.len() > MOST_AT_ONCE => {
                return Err(AppError::bad_input(
                    "ids",
                    format!("{} runners are named; at most {MOST_AT_ONCE} are changed by one call.", ids.len()),
                ));
            }
            BulkTarget::Ids(ids) => {
                let list = RunnerList {
                    parent: RunnerParent::Ids(ids.clone()),
                    visible: Visible::Everything,
                    filter: RunnerFilter::default(),
                    order: RunnerOrder::DEFAULT,
                };
                (list, ids)
            }
            BulkTarget::Filter(scope, query) => {
                (self.runner_list(actor, scope.as_ref(), false, &query, RunnerOrder::DEFAULT).await?, Vec::new())
            }
        };
        let page = PageRequest::first(MOST_AT_ONCE);
        let found = read!(self.store, |db, queries| queries::runners::pages(db, &[list], &page).await)?;
        let found = found.into_iter().flatten().take(MOST_AT_ONCE);
        let (mut mine, mut refused) = (Vec::new(), Vec::new());
        let mut unseen = named;
        for row in found.filter(|row| actor.sees_runner(row.id, row.owner_id)) {
            unseen.retain(|id| *id != row.id);
            // One that was heard while we looked is not silent.
            let heard = self.presence.get(row.id).and_then(|known| known.last_online_at);
            if silent_since.is_some_and(|since| heard.is_some_and(|heard| heard >= since)) {
                continue;
            }
            if actor.manages(row.owner_id) {
                mine.push(row);
            } else {
                let error = AppError::forbidden("You may see this runner but not manage it.");
                refused.push(BulkRefusal { id: row.id, error });
            }
        }
        refused.extend(unseen.into_iter().map(|id| BulkRefusal { id, error: AppError::not_found("The runner") }));
        Ok((mine, refused))
    }
}

/// Runners that an answer shows.
const SHOWN: usize = 100;

fn shown((mut rows, refused): (Vec<RunnerRow>, Vec<BulkRefusal>)) -> BulkResult {
    let matched = rows.len();
    rows.truncate(SHOWN);
    BulkResult { matched, runners: rows, refused }
}
