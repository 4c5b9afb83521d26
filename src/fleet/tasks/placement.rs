//! Why a task has not started, and who could take it: the truth, from what memory knows of sets of labels.

use std::collections::HashMap;

use super::dispatch::covers;
use crate::auth::Actor;
use crate::error::Result;
use crate::fleet::presence::Verdicts;
use crate::fleet::{Fleet, RunnerQuery, names};
use crate::model::{AccessTokenScope, INSTANCE, PlacementVerdict, TaskStatus, WaitingReason};
use crate::store::lists::{QueuePlace, RunnerList, RunnerOrder};
use crate::store::models::{TaskRow, list};

/// Places in the queue are counted up to this.
const LAST_PLACE: i64 = 1_000;

/// Why a task waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// What keeps it.
    pub reason: WaitingReason,
    /// Its place among the waiting tasks of the same account and labels, from 1; 1001 stands for all beyond.
    pub position: i64,
    /// Runners that carry its labels and serve its repository, whatever they are doing.
    pub matching_runners: u32,
    /// What the nearest runner lacks.
    pub missing_labels: Vec<String>,
}

/// Who could take a task.
#[derive(Clone, Debug)]
pub struct Placed {
    /// What would keep it.
    pub reason: WaitingReason,
    /// What the nearest runner lacks.
    pub missing_labels: Vec<String>,
    /// What was asked for, in alphabetical order.
    pub labels: Vec<String>,
    /// Every runner that serves the repository.
    pub candidates: RunnerList,
}

impl Fleet {
    /// Why tasks wait; nothing for those that do not.
    ///
    /// # Errors
    /// `UNAVAILABLE`.
    pub async fn waiting(&self, tasks: &[TaskRow]) -> Result<Vec<(i64, Waiting)>> {
        let queued: Vec<&TaskRow> = tasks.iter().filter(|task| task.status == TaskStatus::Queued).collect();
        let places: Vec<QueuePlace> = queued
            .iter()
            .map(|task| QueuePlace {
                id: task.id,
                owner_id: task.owner_id,
                label_node: task.label_node,
                priority: task.priority,
            })
            .collect();
        if places.is_empty() {
            return Ok(Vec::new());
        }
        let ahead = read!(self.store, |db, queries| queries::tasks::ahead(db, &places, LAST_PLACE).await)?;
        let mut known: HashMap<(i64, &str), (WaitingReason, u32, Vec<String>)> = HashMap::new();
        let waiting = queued.iter().zip(ahead).map(|(task, (_, ahead))| {
            // The tasks of a page are often of few kinds.
            let kept = known.entry((task.repository_id, task.labels.as_str()));
            let kept = kept.or_insert_with(|| self.what_keeps(task.repository_id, task.owner_id, &list(&task.labels)));
            let (reason, matching_runners, missing_labels) = kept.clone();
            (task.id, Waiting { reason, position: ahead + 1, matching_runners, missing_labels })
        });
        Ok(waiting.collect())
    }

    /// Who could take a task of a repository with these labels. For whoever sees the repository.
    ///
    /// # Errors
    /// `NOT_FOUND`, `BAD_USER_INPUT`, `UNAUTHENTICATED`, `FORBIDDEN`.
    pub async fn placement(&self, actor: &Actor, repository: &str, labels: &[String]) -> Result<Placed> {
        actor.user(AccessTokenScope::ReadRunner)?;
        let labels = names::labels("labels", labels)?;
        let scope = self.repository(actor, repository).await?;
        let query = RunnerQuery::default();
        let candidates = self.runner_list(actor, Some(&scope), true, &query, RunnerOrder::DEFAULT).await?;
        let (reason, _, missing_labels) = self.what_keeps(scope.id, scope.owner_id(), &labels);
        Ok(Placed { reason, missing_labels, labels, candidates })
    }

    /// Whether a runner could take a task with these labels, and which it lacks. Whether it serves the repository is another
    /// question.
    pub fn verdict(&self, runner_id: i64, labels: &[String]) -> Option<(PlacementVerdict, Vec<String>)> {
        let profile = self.presence.profile(runner_id)?;
        let missing = missing(&profile.labels, labels);
        Some(if missing.is_empty() { (profile.verdict, missing) } else { (PlacementVerdict::LabelsMissing, missing) })
    }

    fn what_keeps(&self, repository_id: i64, owner_id: i64, labels: &[String]) -> (WaitingReason, u32, Vec<String>) {
        let sets = self.presence.label_sets(&[repository_id, owner_id, INSTANCE]);
        let sets: Vec<_> = sets.iter().filter(|(_, verdicts)| verdicts.usable() > 0).collect();
        let matching = sets.iter().filter(|(carried, _)| covers(carried, labels));
        let matching = matching.fold(Verdicts::default(), |sum, (_, verdicts)| sum.plus(*verdicts));
        let nearest = sets.iter().map(|(carried, _)| missing(carried, labels)).min_by_key(Vec::len);
        (reason(&matching, sets.is_empty()), matching.usable(), nearest.unwrap_or_else(|| labels.to_vec()))
    }
}

/// What would have to change first for a task to start.
fn reason(matching: &Verdicts, is_nobody: bool) -> WaitingReason {
    match matching {
        _ if is_nobody => WaitingReason::NoRunnerInScope,
        Verdicts { ready: 0, busy: 0, offline: 0, disabled: 0, .. } => WaitingReason::NoRunnerWithLabels,
        Verdicts { ready: 1.., .. } => WaitingReason::AboutToStart,
        Verdicts { busy: 1.., .. } => WaitingReason::AllBusy,
        Verdicts { offline: 1.., .. } => WaitingReason::AllOffline,
        _ => WaitingReason::AllDisabled,
    }
}

/// What is needed and not carried; both in alphabetical order.
fn missing(carried: &[String], needed: &[String]) -> Vec<String> {
    needed.iter().filter(|label| carried.binary_search(label).is_err()).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_keeps_a_task() {
        let of = |ready, busy, offline, disabled| Verdicts { ready, busy, offline, disabled, used: 5 };
        let table = [
            (of(0, 0, 0, 0), true, WaitingReason::NoRunnerInScope),
            (of(0, 0, 0, 0), false, WaitingReason::NoRunnerWithLabels),
            (of(1, 1, 1, 1), false, WaitingReason::AboutToStart),
            (of(0, 1, 1, 1), false, WaitingReason::AllBusy),
            (of(0, 0, 1, 1), false, WaitingReason::AllOffline),
            (of(0, 0, 0, 1), false, WaitingReason::AllDisabled),
        ];
        for (verdicts, is_nobody, expected) in table {
            assert_eq!(reason(&verdicts, is_nobody), expected, "{verdicts:?}");
        }
    }
}
