//! What is known in memory of tasks that wait or run: how many there are where, and who has which. The database is the truth;
//! this is kept beside it so that a heartbeat, a status and a summary cost no statement.
//!
//! Changes are told after their commit and may overtake each other. Each record of a task has a revision, and an older one never
//! replaces a newer: so the order in which they arrive does not matter, and what the database has can be taken in at any time.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::Timestamp;
use crate::fleet::presence::Presence;
use crate::model::{INSTANCE, TaskStatus};
use crate::store::lists::Reach;
use crate::store::models::{LiveTask, TaskRow, list};

/// How long the end of a task is remembered, so that what happened before it is not taken for news.
const REMEMBERED: Duration = Duration::from_mins(2);
/// After a failure that leaves a commit open, the database is asked for so long: the commit may come late.
const DOUBTFUL: Duration = Duration::from_secs(30);
/// Time between two looks then.
const LOOKS: Duration = Duration::from_secs(5);
/// Sets of labels that a heartbeat looks at.
const MOST_SETS: usize = 64;

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

/// The board.
#[derive(Debug, Default)]
pub struct Board(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    tasks: HashMap<i64, Entry>,
    /// Tasks that ended or went, each with its last revision and since when.
    ended: HashMap<i64, i64>,
    ended_at: VecDeque<(Timestamp, i64)>,
    by_repository: HashMap<i64, Live>,
    by_owner: HashMap<i64, Live>,
    everything: Live,
    /// Sets of labels that waiting tasks ask for, by what a runner belongs to that could take them.
    queued: HashMap<i64, HashMap<Arc<[String]>, u64>>,
    held: HashMap<i64, HashMap<i64, Held>>,
    /// When a task's time comes next, or earlier.
    next_due: Option<i64>,
    doubtful_until: Option<Timestamp>,
    next_look: Timestamp,
}

#[derive(Clone, Debug)]
struct Entry {
    revision: i64,
    repository_id: i64,
    owner_id: i64,
    /// The runner that has it; none while it waits.
    runner_id: Option<i64>,
    labels: Arc<[String]>,
}

impl Known {
    /// Takes in what is known of a task; none: it waits and runs no more. Returns whether that was news, and adds the runners it
    /// concerns.
    fn take(&mut self, id: i64, revision: i64, task: Option<LiveTask>, now: Timestamp, runners: &mut Vec<i64>) -> bool {
        let known = self.tasks.get(&id).map(|entry| entry.revision).max(self.ended.get(&id).copied());
        if known.is_some_and(|known| known >= revision) {
            return false;
        }
        if let Some(before) = self.tasks.remove(&id) {
            self.count(&before, -1);
            if let Some(runner_id) = before.runner_id {
                runners.push(runner_id);
                let tasks = self.held.entry(runner_id).or_default();
                tasks.remove(&id);
                if tasks.is_empty() {
                    self.held.remove(&runner_id);
                }
            }
        }
        let Some(task) = task else {
            self.ended.insert(id, revision);
            self.ended_at.push_back((now, id));
            return true;
        };
        self.ended.remove(&id);
        let labels = self.shared(&task.labels);
        let (repository_id, owner_id) = (task.repository_id, task.owner_id);
        let runner_id = task.runner_id.filter(|_| task.status.is_held());
        let entry = Entry { revision, repository_id, owner_id, runner_id, labels };
        self.count(&entry, 1);
        if let Some(runner_id) = runner_id {
            runners.push(runner_id);
            let since = Timestamp::from_micros(task.started_at.unwrap_or(0));
            let held = Held { task_id: id, since, is_cancelling: task.status == TaskStatus::Cancelling };
            self.held.entry(runner_id).or_default().insert(id, held);
        }
        self.tasks.insert(id, entry);
        self.next_due = [self.next_due, task.due_at].into_iter().flatten().min();
        true
    }

    /// One copy of each set of labels, for all tasks that wait with it.
    fn shared(&self, labels: &str) -> Arc<[String]> {
        let labels = list(labels);
        let known = self.queued.get(&INSTANCE).and_then(|sets| sets.get_key_value(labels.as_slice()));
        known.map_or_else(|| labels.into(), |(shared, _)| shared.clone())
    }

    fn count(&mut self, entry: &Entry, sign: i64) {
        let Entry { repository_id, owner_id, labels, .. } = entry;
        let is_queued = entry.runner_id.is_none();
        for (counts, key) in [(&mut self.by_repository, *repository_id), (&mut self.by_owner, *owner_id)] {
            let live = counts.entry(key).or_default();
            *(if is_queued { &mut live.queued } else { &mut live.running }) += sign;
            if *live == Live::default() {
                counts.remove(&key);
            }
        }
        *(if is_queued { &mut self.everything.queued } else { &mut self.everything.running }) += sign;
        if !is_queued {
            return;
        }
        for scope in [*repository_id, *owner_id, INSTANCE] {
            let sets = self.queued.entry(scope).or_default();
            let count = sets.entry(labels.clone()).or_default();
            *count = count.saturating_add_signed(sign);
            if *count == 0 {
                sets.remove(labels);
            }
            if sets.is_empty() {
                self.queued.remove(&scope);
            }
        }
    }

    /// Tells presence how many tasks these runners have. Under the lock, so that of two changes the later count is told last.
    fn tell(&mut self, mut runners: Vec<i64>, now: Timestamp, presence: &Presence) {
        runners.sort_unstable();
        runners.dedup();
        for runner_id in runners {
            let running = self.held.get(&runner_id).map_or(0, HashMap::len);
            presence.set_running(runner_id, u16::try_from(running).unwrap_or(u16::MAX));
        }
        while self.ended_at.front().is_some_and(|(at, _)| now.since(*at) > REMEMBERED) {
            if let Some((_, id)) = self.ended_at.pop_front() {
                self.ended.remove(&id);
            }
        }
    }
}

impl Board {
    /// A task is as this record has it, after the commit.
    pub(super) fn changed(&self, row: &TaskRow, now: Timestamp, presence: &Presence) {
        let mut runners = Vec::new();
        let mut known = self.0.lock();
        known.take(row.id, row.revision, LiveTask::of(row), now, &mut runners);
        known.tell(runners, now, presence);
    }

    /// A task is there no more, after the commit.
    pub(super) fn gone(&self, id: i64, now: Timestamp, presence: &Presence) {
        let mut runners = Vec::new();
        let mut known = self.0.lock();
        known.take(id, i64::MAX, None, now, &mut runners);
        known.tell(runners, now, presence);
    }

    /// The tasks that a runner has.
    pub fn held(&self, runner_id: i64) -> Vec<Held> {
        let known = self.0.lock();
        known.held.get(&runner_id).map(|tasks| tasks.values().copied().collect()).unwrap_or_default()
    }

    /// Whether a task waits that somebody with these labels could take. When there are many sets of labels it may say so wrongly;
    /// whoever asks for a task then gets none.
    pub(in crate::fleet) fn has_work(&self, reach: Reach, labels: &[String]) -> bool {
        let scope = match reach {
            Reach::Everything => INSTANCE,
            Reach::Owner(id) | Reach::Repository(id) => id,
        };
        let known = self.0.lock();
        known.queued.get(&scope).is_some_and(|sets| {
            sets.len() > MOST_SETS || sets.keys().any(|needed| super::dispatch::covers(labels, needed))
        })
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
        let known = self.0.lock();
        ids.iter()
            .filter_map(|id| known.by_owner.get(id))
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

    /// Forgets when the next task's time comes, before the database is asked: what is told meanwhile counts.
    pub(super) fn forget_due(&self) {
        self.0.lock().next_due = None;
    }

    /// A task's time comes then.
    pub(super) fn note_due(&self, due: Option<i64>) {
        let mut known = self.0.lock();
        known.next_due = [known.next_due, due].into_iter().flatten().min();
    }

    /// A commit may have happened, or may yet happen, that nobody could tell of: the database has to be asked for a while.
    pub(super) fn doubt(&self, now: Timestamp) {
        self.0.lock().doubtful_until = Some(now + DOUBTFUL);
    }

    /// What is known, if the database has to be asked whether it is true: tasks with their revisions.
    pub(super) fn doubts(&self, now: Timestamp) -> Option<HashMap<i64, i64>> {
        let mut known = self.0.lock();
        let until = known.doubtful_until?;
        if now < known.next_look {
            return None;
        }
        known.next_look = now + LOOKS;
        if now >= until {
            known.doubtful_until = None;
        }
        Some(known.tasks.iter().map(|(id, entry)| (*id, entry.revision)).collect())
    }

    /// Takes in what the database had after `before` was asked for: newer records replace older ones, and a task that was known
    /// before, that nobody told of since, and that the database has not, is there no more.
    pub(super) fn compare(
        &self,
        before: &HashMap<i64, i64>,
        tasks: Vec<LiveTask>,
        now: Timestamp,
        presence: &Presence,
    ) {
        let mut runners = Vec::new();
        let mut known = self.0.lock();
        let found: std::collections::HashSet<i64> = tasks.iter().map(|task| task.id).collect();
        for task in tasks {
            known.take(task.id, task.revision, Some(task), now, &mut runners);
        }
        for (id, revision) in before.iter().filter(|(id, _)| !found.contains(id)) {
            if known.tasks.get(id).is_some_and(|entry| entry.revision == *revision) {
                // One more than what is known, and not more: a later record is news again.
                known.take(*id, revision + 1, None, now, &mut runners);
            }
        }
        known.tell(runners, now, presence);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::Clock;
    use crate::events::Bus;
    use crate::fleet::presence::Rules;

    const NOW: Timestamp = Timestamp::from_micros(1_000_000);

    fn presence() -> Presence {
        let rules = Rules { offline_after: Duration::from_mins(1), idle_after: Duration::from_secs(10) };
        Presence::new(rules, Clock::manual(NOW).0, Bus::new(8))
    }

    /// A record of a task: 0 waits, 1 and 2 run on runners, 3 has ended.
    fn record(id: i64, revision: i64, state: u8) -> Option<LiveTask> {
        let status = if state == 0 { TaskStatus::Queued } else { TaskStatus::Running };
        (state < 3).then(|| LiveTask {
            id,
            revision,
            repository_id: 20 + id % 2,
            owner_id: 10,
            labels: "x64".to_owned(),
            status,
            runner_id: (state > 0).then_some(i64::from(state)),
            started_at: Some(0),
            due_at: None,
        })
    }

    fn take(board: &Board, id: i64, revision: i64, state: u8, presence: &Presence) {
        let mut runners = Vec::new();
        let mut known = board.0.lock();
        known.take(id, revision, record(id, revision, state), NOW, &mut runners);
        known.tell(runners, NOW, presence);
    }

    fn check(board: &Board, truth: &[u8]) {
        let count = |wanted: fn(u8) -> bool| truth.iter().filter(|state| wanted(**state)).map(|_| 1).sum::<i64>();
        let live = board.everything();
        assert_eq!((live.queued, live.running), (count(|it| it == 0), count(|it| it == 1 || it == 2)));
        assert_eq!(live, board.of_owners(&[10]));
        for runner in [1, 2] {
            let held = truth.iter().filter(|state| i64::from(**state) == runner).count();
            assert_eq!(board.held(runner).len(), held);
        }
        let has_work = board.has_work(Reach::Owner(10), &["x64".to_owned()]);
        assert_eq!(has_work, truth.contains(&0));
    }

    proptest! {
        /// Each task's history, told in any order, leaves what its last record says.
        #[test]
        fn the_order_of_news_does_not_matter(
            histories in proptest::collection::vec(proptest::collection::vec(0u8..4, 1..6), 1..5), seed in any::<u64>(),
        ) {
            let mut news = Vec::new();
            for (id, history) in (0..).zip(&histories) {
                news.extend((0..).zip(history).map(|(revision, state)| (id, revision, *state)));
            }
            let mut seed = seed;
            for last in (1..news.len()).rev() {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                news.swap(last, usize::try_from(seed >> 33).unwrap() % (last + 1));
            }
            let (board, presence) = (Board::default(), presence());
            for (id, revision, state) in news {
                take(&board, id, revision, state, &presence);
            }
            let truth: Vec<u8> = histories.iter().map(|history| history[history.len() - 1]).collect();
            check(&board, &truth);
        }
    }

    #[test]
    fn what_nobody_told_of_is_found() {
        let (board, presence) = (Board::default(), presence());
        take(&board, 0, 1, 1, &presence);
        take(&board, 1, 1, 0, &presence);
        assert_eq!(board.doubts(NOW), None);
        board.doubt(NOW);
        let before = board.doubts(NOW).unwrap();
        // The next look comes a little later, and after a while there is none any more.
        assert_eq!(board.doubts(NOW), None);
        // Meanwhile one is told of that the database did not have yet.
        take(&board, 3, 0, 2, &presence);
        let found = [record(1, 2, 2), record(2, 0, 0)].into_iter().flatten().collect();
        board.compare(&before, found, NOW, &presence);
        check(&board, &[3, 2, 0, 2]);
        // What was old when it came changes nothing.
        take(&board, 1, 1, 0, &presence);
        take(&board, 0, 1, 1, &presence);
        check(&board, &[3, 2, 0, 2]);
        assert!(board.doubts(NOW + DOUBTFUL).is_some());
        assert_eq!(board.doubts(NOW + DOUBTFUL * 2), None);
    }
}
