//! Every runner's presence, in memory: what a heartbeat changes, and what is waiting to be written.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use super::counts::Counts;
use super::groups::{Groups, Verdicts};
use super::rule::{Rules, Signs, cause};
use crate::clock::Timestamp;
use crate::events::{Bus, Event, Occurrence};
use crate::model::{PlacementVerdict, RunnerStatus, TransitionCause};
use crate::store::models::{HISTORY_LENGTH, PresenceRow, PresenceStamp, TransitionRow};

/// One runner. Kept small: there may be a hundred thousand.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "flags of a runner, in as little memory as they take")]
pub(super) struct Entry {
    pub(super) scope_id: i64,
    pub(super) owner_id: i64,
    present_until: Timestamp,
    last_online_at: i64,
    last_active_at: i64,
    status_since: Timestamp,
    /// When the timers will look at it; `i64::MAX`: not at all.
    timer_at: i64,
    /// 0: there is no token before the current one.
    previous_valid_until: i64,
    token_issued_at: i64,
    /// In alphabetical order; shared by all runners of the scope that carry the same.
    labels: Arc<[String]>,
    generation: u32,
    transitions: u32,
    running: u16,
    /// How many more tasks it could take, as it last said.
    free_slots: Option<u16>,
    ephemeral: bool,
    /// Whether it is ephemeral and has had its task.
    is_used: bool,
    /// What its group counts it as.
    verdict: PlacementVerdict,
    status: RunnerStatus,
    /// The status that the database has.
    written: RunnerStatus,
    /// The status before this one.
    previous: RunnerStatus,
    disabled: bool,
    /// Whether it is in `dirty`.
    is_dirty: bool,
}

impl Entry {
    /// Takes note of a new token. Commits are in order and those who tell of them may overtake each other, so an older token
    /// never replaces a newer one.
    fn take_token(&mut self, generation: i64, issued_at: i64, previous_valid_until: Option<i64>) {
        let generation = u32::try_from(generation).unwrap_or(u32::MAX);
        if generation >= self.generation {
            self.generation = generation;
            self.token_issued_at = issued_at;
            self.previous_valid_until = previous_valid_until.unwrap_or(0);
        }
    }

    /// Whether it could take a task, labels aside. What people can mend comes first.
    fn could_work(&self) -> PlacementVerdict {
        if self.is_used {
            PlacementVerdict::EphemeralUsed
        } else if self.disabled {
            PlacementVerdict::Disabled
        } else if self.status == RunnerStatus::Offline {
            PlacementVerdict::Offline
        } else if self.free_slots.map_or(self.running > 0, |free| free == 0) {
            PlacementVerdict::Busy
        } else {
            PlacementVerdict::Ready
        }
    }
}

/// What decides which tasks a runner can take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// What it belongs to.
    pub scope_id: i64,
    /// The account above, or the instance.
    pub owner_id: i64,
    /// What it carries, in alphabetical order.
    pub labels: Arc<[String]>,
    /// Whether it could take a task, labels aside.
    pub verdict: PlacementVerdict,
}

/// What is known of a runner's presence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The runner.
    pub id: i64,
    /// The status.
    pub status: RunnerStatus,
    /// The status before.
    pub previous: RunnerStatus,
    /// Since when it has the status.
    pub status_since: Timestamp,
    /// When it was last heard from.
    pub last_online_at: Option<Timestamp>,
    /// When it last did task work.
    pub last_active_at: Option<Timestamp>,
    /// Whether it gets no new work.
    pub disabled: bool,
    /// The generation of its token.
    pub generation: i64,
    /// When its token was made.
    pub token_issued_at: Timestamp,
    /// Until when the token before works.
    pub previous_valid_until: Option<Timestamp>,
    /// What it belongs to.
    pub scope_id: i64,
    /// The account above, or the instance.
    pub owner_id: i64,
}

/// What the next write to the database has to carry.
#[derive(Clone, Debug, Default)]
pub(super) struct Pending {
    pub(super) stamps: Vec<PresenceStamp>,
    pub(super) transitions: Vec<TransitionRow>,
}

pub(super) struct Map {
    pub(super) rules: Rules,
    bus: Bus,
    entries: HashMap<i64, Entry>,
    timers: BinaryHeap<Reverse<(i64, i64)>>,
    dirty: Vec<i64>,
    /// Runners of which the database has another status than the true one.
    unsettled: HashSet<i64>,
    /// Changes of status that are not written yet, at most 20 a runner.
    histories: HashMap<i64, VecDeque<TransitionRow>>,
    by_scope: HashMap<i64, Counts>,
    by_owner: HashMap<i64, Counts>,
    everything: Counts,
    groups: Groups,
    /// Runners that are ephemeral.
    pub(super) ephemerals: usize,
}

impl Map {
    pub(super) fn new(rules: Rules, bus: Bus) -> Self {
        Self {
            rules,
            bus,
            entries: HashMap::new(),
            timers: BinaryHeap::new(),
            dirty: Vec::new(),
            unsettled: HashSet::new(),
            histories: HashMap::new(),
            by_scope: HashMap::new(),
            by_owner: HashMap::new(),
            everything: Counts::default(),
            groups: Groups::default(),
            ephemerals: 0,
        }
    }

    /// Takes up a runner that the database knows. Who was not OFFLINE stays so for `offline_after` from now: while the
    /// server was away, nobody could be heard.
    pub(super) fn load(&mut self, row: &PresenceRow, labels: &[String], now: Timestamp) {
        let present_until = if row.status == RunnerStatus::Offline { now } else { now + self.rules.offline_after };
        let entry = Entry {
            scope_id: row.scope_id,
            owner_id: row.owner_id,
            present_until,
            last_online_at: row.last_online_at,
            last_active_at: row.last_active_at,
            status_since: Timestamp::from_micros(row.status_since),
            timer_at: i64::MAX,
            previous_valid_until: row.previous_valid_until.unwrap_or(0),
            token_issued_at: row.token_issued_at,
            labels: labels.into(),
            generation: u32::try_from(row.token_generation).unwrap_or(u32::MAX),
            transitions: u32::try_from(row.transition_count).unwrap_or(u32::MAX),
            running: 0,
            free_slots: None,
            ephemeral: row.ephemeral,
            is_used: row.ephemeral && row.used_at.is_some(),
            verdict: PlacementVerdict::Offline,
            status: row.status,
            written: row.status,
            previous: row.status,
            disabled: row.disabled,
            is_dirty: false,
        };
        self.insert(row.id, entry);
        self.settle(row.id, now);
    }

    /// Takes up a runner that has just registered, or a known one that registered anew.
    pub(super) fn register(&mut self, row: &PresenceRow, labels: &[String], now: Timestamp) {
        if let Some(entry) = self.entries.get_mut(&row.id) {
            entry.take_token(row.token_generation, row.token_issued_at, row.previous_valid_until);
            self.ephemerals = self.ephemerals + usize::from(row.ephemeral) - usize::from(entry.ephemeral);
            entry.ephemeral = row.ephemeral;
            entry.is_used = row.ephemeral && row.used_at.is_some();
            self.set_labels(row.id, labels);
        } else {
            self.load(row, labels, now);
        }
    }

    fn insert(&mut self, id: i64, mut entry: Entry) {
        entry.verdict = entry.could_work();
        entry.labels = self.groups.enter(entry.scope_id, &entry.labels, entry.verdict);
        self.ephemerals += usize::from(entry.ephemeral);
        self.count(&entry, |counts, entry| {
            counts.total += 1;
            *counts.of(entry.status) += 1;
            counts.disabled += u32::from(entry.disabled);
        });
        self.entries.insert(id, entry);
    }

    pub(super) fn remove(&mut self, id: i64) -> bool {
        let Some(entry) = self.entries.remove(&id) else { return false };
        self.groups.leave(entry.scope_id, &entry.labels, entry.verdict);
        self.ephemerals -= usize::from(entry.ephemeral);
        self.count(&entry, |counts, entry| {
            counts.total -= 1;
            *counts.of(entry.status) -= 1;
            counts.disabled -= u32::from(entry.disabled);
        });
        for (counts, key) in [(&mut self.by_scope, entry.scope_id), (&mut self.by_owner, entry.owner_id)] {
            if counts.get(&key).is_some_and(|counts| counts.total == 0) {
                counts.remove(&key);
            }
        }
        self.unsettled.remove(&id);
        self.histories.remove(&id);
        true
    }

    fn count(&mut self, entry: &Entry, change: impl Fn(&mut Counts, &Entry)) {
        change(self.by_scope.entry(entry.scope_id).or_default(), entry);
        change(self.by_owner.entry(entry.owner_id).or_default(), entry);
        change(&mut self.everything, entry);
    }

    /// The runner was heard from. Nothing when there is no such runner.
    pub(super) fn hear(&mut self, id: i64, now: Timestamp) -> Option<Snapshot> {
        let offline_after = self.rules.offline_after;
        let entry = self.entries.get_mut(&id)?;
        entry.last_online_at = now.as_micros();
        entry.present_until = entry.present_until.max(now + offline_after);
        if !entry.is_dirty {
            entry.is_dirty = true;
            self.dirty.push(id);
        }
        self.settle(id, now);
        self.snapshot(id)
    }

    /// Brings a runner's group in line with what it could do.
    fn regroup(&mut self, id: i64) -> bool {
        let Some(entry) = self.entries.get_mut(&id) else { return false };
        let verdict = entry.could_work();
        if verdict == entry.verdict {
            return false;
        }
        self.groups.change(entry.scope_id, &entry.labels, entry.verdict, verdict);
        entry.verdict = verdict;
        true
    }

    /// The runner carries other labels.
    pub(super) fn set_labels(&mut self, id: i64, labels: &[String]) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        self.groups.leave(entry.scope_id, &entry.labels, entry.verdict);
        entry.verdict = entry.could_work();
        entry.labels = self.groups.enter(entry.scope_id, labels, entry.verdict);
    }

    /// The runner has so many tasks.
    pub(super) fn set_running(&mut self, id: i64, running: u16, now: Timestamp) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        // What it said of its room was of before.
        if let Some(free) = entry.free_slots.as_mut() {
            *free = (i32::from(*free) + i32::from(entry.running) - i32::from(running))
                .clamp(0, i32::from(u16::MAX))
                .try_into()
                .unwrap_or(0);
        }
        entry.running = running;
        self.settle(id, now);
        self.regroup(id);
    }

    /// The runner could take so many more tasks, it says.
    pub(super) fn set_free_slots(&mut self, id: i64, free: u16) -> bool {
        let Some(entry) = self.entries.get_mut(&id).filter(|entry| entry.free_slots != Some(free)) else {
            return false;
        };
        entry.free_slots = Some(free);
        self.regroup(id)
    }

    /// An ephemeral runner took its task, or gave it up before it had it.
    pub(super) fn set_used(&mut self, id: i64, is_used: bool) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.is_used = entry.ephemeral && is_used;
            self.regroup(id);
        }
    }

    pub(super) fn profile(&self, id: i64) -> Option<Profile> {
        self.entries.get(&id).map(|entry| Profile {
            scope_id: entry.scope_id,
            owner_id: entry.owner_id,
            labels: entry.labels.clone(),
            verdict: entry.verdict,
        })
    }

    /// The sets of labels of the runners of these scopes, with how many carry each.
    pub(super) fn label_sets(&self, scopes: &[i64]) -> Vec<(Arc<[String]>, Verdicts)> {
        self.groups.within(scopes)
    }

    /// The runner did task work, which is also hearing from it.
    pub(super) fn work(&mut self, id: i64, now: Timestamp) -> Option<Snapshot> {
        self.entries.get_mut(&id)?.last_active_at = now.as_micros();
        self.hear(id, now)
    }

    /// Disables or enables a runner; false when it was so already.
    pub(super) fn set_disabled(&mut self, id: i64, disabled: bool, now: Timestamp) -> bool {
        let Some(entry) = self.entries.get_mut(&id).filter(|entry| entry.disabled != disabled) else { return false };
        entry.disabled = disabled;
        let (status, entry) = (entry.status, entry.clone());
        self.count(&entry, |counts, entry| if entry.disabled { counts.disabled += 1 } else { counts.disabled -= 1 });
        let cause = if disabled { TransitionCause::Disabled } else { TransitionCause::Enabled };
        self.remember(id, now, status, status, cause);
        self.regroup(id);
        true
    }

    pub(super) fn set_token(&mut self, id: i64, generation: i64, issued_at: i64, previous_valid_until: Option<i64>) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.take_token(generation, issued_at, previous_valid_until);
        }
    }

    pub(super) fn retire_previous(&mut self, id: i64, generation: i64) {
        let entry = self.entries.get_mut(&id);
        if let Some(entry) = entry.filter(|entry| i64::from(entry.generation) == generation) {
            entry.previous_valid_until = 0;
        }
    }

    /// Brings a runner's status in line with its signs, announces a change, and sets its timer.
    fn settle(&mut self, id: i64, now: Timestamp) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let signs = Signs {
            present_until: entry.present_until,
            worked_at: (entry.last_active_at > 0).then(|| Timestamp::from_micros(entry.last_active_at)),
            running: entry.running,
        };
        let (status, next) = self.rules.status(signs, now);
        if let Some(next) = next.map(Timestamp::as_micros).filter(|next| *next < entry.timer_at) {
            entry.timer_at = next;
            self.timers.push(Reverse((next, id)));
        }
        if status == entry.status {
            return;
        }
        let before = std::mem::replace(&mut entry.status, status);
        entry.previous = before;
        entry.status_since = now;
        if entry.written == status {
            self.unsettled.remove(&id);
        } else {
            self.unsettled.insert(id);
        }
        let entry = entry.clone();
        self.count(&entry, |counts, _| {
            *counts.of(before) -= 1;
            *counts.of(status) += 1;
        });
        self.regroup(id);
        self.remember(id, now, before, status, cause(before, status));
        // Under the lock, so that the changes of one runner are told in their order.
        self.bus.publish(Occurrence {
            event: Event::StatusChanged { previous: before, current: status },
            runner_id: id,
            scope_id: entry.scope_id,
            owner_id: entry.owner_id,
            at: now,
        });
    }

    fn remember(&mut self, id: i64, at: Timestamp, from: RunnerStatus, to: RunnerStatus, cause: TransitionCause) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        entry.transitions = entry.transitions.saturating_add(1);
        if !entry.is_dirty {
            entry.is_dirty = true;
            self.dirty.push(id);
        }
        let history = self.histories.entry(id).or_default();
        history.push_back(TransitionRow {
            runner_id: id,
            number: i64::from(entry.transitions),
            at: at.as_micros(),
            from_status: from,
            to_status: to,
            cause,
        });
        while history.len() > usize::try_from(HISTORY_LENGTH).unwrap_or(usize::MAX) {
            history.pop_front();
        }
    }

    /// Lets deadlines that have passed take effect, at most `limit` of them; returns the time of the next.
    pub(super) fn expire(&mut self, now: Timestamp, limit: usize) -> Option<Timestamp> {
        for _ in 0..limit {
            match self.timers.peek() {
                Some(Reverse((at, _))) if *at <= now.as_micros() => {}
                next => return next.map(|Reverse((at, _))| Timestamp::from_micros(*at)),
            }
            let Reverse((at, id)) = self.timers.pop()?;
            match self.entries.get_mut(&id) {
                // Only the newest timer of a runner counts; those that it replaced are passed over.
                Some(entry) if entry.timer_at == at => entry.timer_at = i64::MAX,
                _ => continue,
            }
            self.settle(id, now);
        }
        Some(now)
    }

    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        self.timers.peek().map(|Reverse((at, _))| Timestamp::from_micros(*at))
    }

    pub(super) fn snapshot(&self, id: i64) -> Option<Snapshot> {
        let time = |micros: i64| (micros > 0).then(|| Timestamp::from_micros(micros));
        self.entries.get(&id).map(|entry| Snapshot {
            id,
            status: entry.status,
            previous: entry.previous,
            status_since: entry.status_since,
            last_online_at: time(entry.last_online_at),
            last_active_at: time(entry.last_active_at),
            disabled: entry.disabled,
            generation: i64::from(entry.generation),
            token_issued_at: Timestamp::from_micros(entry.token_issued_at),
            previous_valid_until: time(entry.previous_valid_until),
            scope_id: entry.scope_id,
            owner_id: entry.owner_id,
        })
    }

    /// Runners whose status changed at or after a time.
    pub(super) fn changed_since(&self, since: Timestamp) -> Vec<Snapshot> {
        let is_changed = |entry: &Entry| entry.status_since >= since && entry.previous != entry.status;
        let changed = self.entries.iter().filter(|(_, entry)| is_changed(entry));
        changed.filter_map(|(id, _)| self.snapshot(*id)).collect()
    }

    pub(super) fn in_scope(&self, scope_id: i64) -> Counts {
        self.by_scope.get(&scope_id).copied().unwrap_or_default()
    }

    /// The runners of these accounts and their repositories.
    pub(super) fn of_owners(&self, owners: &[i64]) -> Counts {
        owners.iter().filter_map(|owner| self.by_owner.get(owner)).fold(Counts::default(), |sum, it| sum.plus(*it))
    }

    pub(super) const fn everything(&self) -> Counts {
        self.everything
    }

    pub(super) fn present(&self) -> usize {
        let count = self.everything.idle + self.everything.active;
        usize::try_from(count).unwrap_or(usize::MAX)
    }

    /// Runners of which the database has another status than the true one, with that.
    pub(super) fn unsettled(&self) -> Vec<(i64, RunnerStatus)> {
        self.unsettled.iter().filter_map(|id| Some((*id, self.entries.get(id)?.status))).collect()
    }

    pub(super) fn unsettled_count(&self) -> usize {
        self.unsettled.len()
    }

    /// The changes of a runner that are not written yet, oldest first.
    pub(super) fn unwritten_history(&self, id: i64) -> Vec<TransitionRow> {
        self.histories.get(&id).map(|history| history.iter().copied().collect()).unwrap_or_default()
    }

    /// Takes what has to be written, for at most `limit` runners.
    pub(super) fn take_pending(&mut self, limit: usize) -> Pending {
        let from = self.dirty.len().saturating_sub(limit);
        let mut pending = Pending::default();
        for id in self.dirty.split_off(from) {
            let Some(entry) = self.entries.get_mut(&id) else { continue };
            entry.is_dirty = false;
            pending.stamps.push(PresenceStamp {
                id,
                last_online_at: entry.last_online_at,
                last_active_at: entry.last_active_at,
                status: entry.status,
                status_since: entry.status_since.as_micros(),
                transition_count: i64::from(entry.transitions),
            });
            if let Some(history) = self.histories.get(&id) {
                pending.transitions.extend(history.iter().copied());
            }
        }
        pending
    }

    /// What was taken is in the database now.
    pub(super) fn written(&mut self, pending: &Pending) {
        for stamp in &pending.stamps {
            let Some(entry) = self.entries.get_mut(&stamp.id) else { continue };
            entry.written = stamp.status;
            if entry.written == entry.status {
                self.unsettled.remove(&stamp.id);
            } else {
                self.unsettled.insert(stamp.id);
            }
            if let Some(history) = self.histories.get_mut(&stamp.id) {
                history.retain(|it| it.number > stamp.transition_count);
                if history.is_empty() {
                    self.histories.remove(&stamp.id);
                }
            }
        }
    }

    /// What was taken could not be written: it will be taken again.
    pub(super) fn not_written(&mut self, pending: &Pending) {
        for stamp in &pending.stamps {
            if let Some(entry) = self.entries.get_mut(&stamp.id).filter(|entry| !entry.is_dirty) {
                entry.is_dirty = true;
                self.dirty.push(stamp.id);
            }
        }
    }

    pub(super) fn pending_count(&self) -> usize {
        self.dirty.len()
    }

    /// Bytes that a runner takes here, the room of the collections counted and divided among them.
    pub(super) fn bytes_per_runner(&self) -> usize {
        // A hash table keeps one control byte a slot and, at a power of two of slots, up to 8/7 of what it holds.
        let table = self.entries.capacity() * 8 / 7 * (size_of::<(i64, Entry)>() + 1);
        let timers = self.timers.capacity() * size_of::<Reverse<(i64, i64)>>();
        let dirty = self.dirty.capacity() * size_of::<i64>();
        (table + timers + dirty) / self.entries.len().max(1)
    }
}
