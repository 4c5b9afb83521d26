//! What is known in memory of tasks that wait or run: how many there are where, and who has which. The database is the truth;
//! this is kept beside it so that a heartbeat, a status and a summary cost no statement.
//!
//! Changes are told after their commit and may overtake each other, so everything here is a sum of differences: the order in
//! which they arrive does not matter.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::clock::Timestamp;
use crate::fleet::presence::Presence;
use crate::model::{INSTANCE, TaskStatus};
use crate::store::lists::Reach;
use crate::store::models::{HeldTask, LiveTasks, TaskRow};

/// A task that a runner has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The task.
    pub task_id: i64,
    /// Since when.
    pub since: Timestamp,
    /// Whether it is to stop.
    pub is_cancelling: bool,
}

/// How many tasks wait and run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Live {
    /// Waiting for a runner.
    pub queued: i64,
    /// With a runner.
    pub running: i64,
}

/// Sets of labels that a heartbeat looks at.
const MOST_SETS: usize = 64;

/// The board.
#[derive(Debug, Default)]
pub struct Board(Mutex<Sums>);

#[derive(Debug, Default)]
struct Sums {
    by_repository: HashMap<i64, Live>,
    by_owner: HashMap<i64, Live>,
    everything: Live,
    /// Sets of labels that waiting tasks ask for, by what a runner belongs to that could take them.
    queued: HashMap<i64, HashMap<String, i64>>,
    /// By runner and task.
    held: HashMap<i64, HashMap<i64, Weight>>,
    /// When a task's time comes next, or earlier.
    next_due: Option<i64>,
    /// Changes so far: who reads the database beside them can tell whether some came between.
    changes: u64,
    /// Whether a commit may have happened that was not told.
    is_doubtful: bool,
}

/// How often a task was taken less how often it was given up by a runner, and the same for being stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Weight {
    held: i32,
    cancelling: i32,
    since: i64,
}

impl Sums {
    fn add(&mut self, row: &TaskRow, sign: i32, touched: &mut Vec<i64>) {
        let live = match row.status {
            TaskStatus::Queued => Live { queued: 1, running: 0 },
            status if status.is_held() => Live { queued: 0, running: 1 },
            _ => return,
        };
        self.count(row.repository_id, row.owner_id, &row.labels, live, i64::from(sign));
        let Some(runner_id) = row.runner_id.filter(|_| row.status.is_held()) else { return };
        let tasks = self.held.entry(runner_id).or_default();
        let weight = tasks.entry(row.id).or_default();
        weight.held += sign;
        weight.since = row.started_at.unwrap_or_default();
        if row.status == TaskStatus::Cancelling {
            weight.cancelling += sign;
        }
        if weight.held == 0 && weight.cancelling == 0 {
            tasks.remove(&row.id);
        }
        if tasks.is_empty() {
            self.held.remove(&runner_id);
        }
        touched.push(runner_id);
    }

    fn count(&mut self, repository_id: i64, owner_id: i64, labels: &str, live: Live, sign: i64) {
        if live.queued > 0 {
            for scope in [repository_id, owner_id, INSTANCE] {
                let sets = self.queued.entry(scope).or_default();
                let count = sets.entry(labels.to_owned()).or_default();
                *count += sign * live.queued;
                if *count == 0 {
                    sets.remove(labels);
                }
                if sets.is_empty() {
                    self.queued.remove(&scope);
                }
            }
        }
        for (counts, key) in [(&mut self.by_repository, repository_id), (&mut self.by_owner, owner_id)] {
            let entry = counts.entry(key).or_default();
            entry.queued += sign * live.queued;
            entry.running += sign * live.running;
            if *entry == Live::default() {
                counts.remove(&key);
            }
        }
        self.everything.queued += sign * live.queued;
        self.everything.running += sign * live.running;
    }

    fn running(&self, runner_id: i64) -> u16 {
        let held = self.held.get(&runner_id).map_or(0, |tasks| tasks.values().filter(|it| it.held > 0).count());
        u16::try_from(held).unwrap_or(u16::MAX)
    }
}

impl Board {
    /// A task changed, after the commit: from one record to another. None: it was not there, or is no more.
    pub(super) fn changed(&self, before: Option<&TaskRow>, after: Option<&TaskRow>, presence: &Presence) {
        let mut sums = self.0.lock();
        let mut touched = Vec::new();
        for (row, sign) in [(before, -1), (after, 1)] {
            if let Some(row) = row {
                sums.add(row, sign, &mut touched);
            }
        }
        sums.changes += 1;
        let due = after.and_then(|row| row.due_at);
        sums.next_due = [sums.next_due, due].into_iter().flatten().min();
        touched.sort_unstable();
        touched.dedup();
        // Under the lock, so that of two changes the later count is told last.
        for runner_id in touched {
            presence.set_running(runner_id, sums.running(runner_id));
        }
    }

    /// The tasks that a runner has.
    pub fn held(&self, runner_id: i64) -> Vec<Held> {
        let sums = self.0.lock();
        let Some(tasks) = sums.held.get(&runner_id) else { return Vec::new() };
        let held = tasks.iter().filter(|(_, weight)| weight.held > 0);
        held.map(|(task_id, weight)| Held {
            task_id: *task_id,
            since: Timestamp::from_micros(weight.since),
            is_cancelling: weight.cancelling > 0,
        })
        .collect()
    }

    /// Whether a task waits that somebody with these labels could take, as far as a short look can tell.
    pub(in crate::fleet) fn has_work(&self, reach: Reach, labels: &[String]) -> bool {
        let scope = match reach {
            Reach::Everything => INSTANCE,
            Reach::Owner(id) | Reach::Repository(id) => id,
        };
        let sums = self.0.lock();
        let Some(sets) = sums.queued.get(&scope) else { return false };
        let mut sets = sets.iter().take(MOST_SETS);
        sets.any(|(needed, count)| *count > 0 && super::dispatch::covers(labels, &super::split(needed)))
    }

    /// The runners that have tasks.
    pub(super) fn holders(&self) -> Vec<i64> {
        self.0.lock().held.keys().copied().collect()
    }

    /// The tasks of a repository.
    pub fn of_repository(&self, id: i64) -> Live {
        self.0.lock().by_repository.get(&id).copied().unwrap_or_default()
    }

    /// The tasks of the repositories of these accounts.
    pub fn of_owners(&self, ids: &[i64]) -> Live {
        let sums = self.0.lock();
        ids.iter()
            .filter_map(|id| sums.by_owner.get(id))
            .fold(Live::default(), |sum, it| Live { queued: sum.queued + it.queued, running: sum.running + it.running })
    }

    /// All tasks.
    pub fn everything(&self) -> Live {
        self.0.lock().everything
    }

    /// Whether the time of a task may have come.
    pub(super) fn is_due(&self, now: i64) -> bool {
        self.0.lock().next_due.is_some_and(|due| due <= now)
    }

    /// No task's time has come; the next does then. What was told since `changes` were counted may come before.
    pub(super) fn set_next_due(&self, changes: u64, next_due: Option<i64>) {
        let mut sums = self.0.lock();
        if sums.changes == changes {
            sums.next_due = next_due;
        }
    }

    /// A commit may have happened that nobody could tell of: the database has to be asked.
    pub(super) fn doubt(&self) {
        self.0.lock().is_doubtful = true;
    }

    /// Whether the database has to be asked, and the number of changes until now.
    pub(super) fn doubts(&self) -> (bool, u64) {
        let sums = self.0.lock();
        (sums.is_doubtful, sums.changes)
    }

    /// Takes what the database has, unless something changed since `changes` was read; then it has to be asked again.
    pub(super) fn replace(
        &self,
        changes: u64,
        live: &[LiveTasks],
        held: &[HeldTask],
        next_due: Option<i64>,
        presence: &Presence,
    ) -> bool {
        let mut sums = self.0.lock();
        if sums.changes != changes {
            return false;
        }
        let before: Vec<i64> = sums.held.keys().copied().collect();
        *sums = Sums { changes: changes + 1, next_due, ..Sums::default() };
        for tasks in live {
            let one = if tasks.is_queued { Live { queued: 1, running: 0 } } else { Live { queued: 0, running: 1 } };
            sums.count(tasks.repository_id, tasks.owner_id, &tasks.labels, one, tasks.count);
        }
        for task in held {
            let weight = Weight { held: 1, cancelling: i32::from(task.is_cancelling), since: task.started_at };
            sums.held.entry(task.runner_id).or_default().insert(task.id, weight);
        }
        let mut touched: Vec<i64> = sums.held.keys().copied().chain(before).collect();
        touched.sort_unstable();
        touched.dedup();
        for runner_id in touched {
            presence.set_running(runner_id, sums.running(runner_id));
        }
        true
    }
}
