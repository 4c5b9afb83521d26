//! Who is here. Memory is the truth and the database its shadow.
//!
//! A heartbeat touches no database: it stamps the runner, moves its deadline, and announces a change of status. Stamps are
//! written in batches of one statement. Deadlines are timers, so that OFFLINE is announced when it happens and not when
//! somebody looks. Losing the last second of stamps in a crash costs nothing but their exact time.

mod counts;
mod groups;
mod interval;
mod map;
mod rule;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub use counts::Counts;
pub use groups::Verdicts;
pub use interval::next_heartbeat_in;
pub use map::{Profile, Snapshot};
pub use rule::{Rules, Signs, cause};

use crate::auth::{RunnerDirectory, TokenState};
use crate::clock::{Clock, Timestamp};
use crate::error::Result;
use crate::events::{Bus, Event, Occurrence};
use crate::model::RunnerStatus;
use crate::store::Store;
use crate::store::lists::StatusFilter;
use crate::store::models::{PresenceRow, TransitionRow};

/// Rows in one statement of a write.
const BATCH: usize = 10_000;
/// Deadlines handled under one hold of the lock.
const EXPIRE_AT_ONCE: usize = 1_000;
/// So many runners may be left out of what the database decides in a filter; with more, it is brought up to date first.
const MOST_UNSETTLED: usize = 500;

/// The presence of every runner. Clones share it.
#[derive(Clone)]
pub struct Presence(Arc<Inner>);

struct Inner {
    clock: Clock,
    bus: Bus,
    map: Mutex<map::Map>,
    /// Wakes the timers when a deadline comes before the one they wait for.
    earlier: Notify,
    /// One write at a time, so that an older stamp never overwrites a newer one.
    writing: tokio::sync::Mutex<()>,
}

impl Presence {
    /// An empty presence.
    pub fn new(rules: Rules, clock: Clock, bus: Bus) -> Self {
        let map = Mutex::new(map::Map::new(rules, bus.clone()));
        Self(Arc::new(Inner { clock, bus, map, earlier: Notify::new(), writing: tokio::sync::Mutex::new(()) }))
    }

    /// Takes up every runner of the database.
    ///
    /// # Errors
    /// `UNAVAILABLE` when it cannot be read.
    pub async fn load(&self, store: &Store) -> Result<usize> {
        let (mut last, mut count) = (0, 0);
        loop {
            let rows = read!(store, |db, queries| queries::presence::after(db, last, 10_000).await)?;
            let Some(newest) = rows.last() else { return Ok(count) };
            last = newest.id;
            count += rows.len();
            let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
            let mut labels: HashMap<i64, Vec<String>> = HashMap::new();
            for (id, label) in read!(store, |db, queries| queries::runners::labels(db, ids).await)? {
                labels.entry(id).or_default().push(label);
            }
            let now = self.0.clock.now();
            let mut map = self.0.map.lock();
            for row in &rows {
                map.load(row, labels.get(&row.id).map_or(&[], Vec::as_slice), now);
            }
        }
    }

    /// Takes up a runner that has just registered.
    pub fn register(&self, row: &PresenceRow, labels: &[String]) {
        let now = self.0.clock.now();
        self.change(|map| map.register(row, labels, now));
    }

    /// A runner carries other labels, after the database has it.
    pub fn set_labels(&self, id: i64, labels: &[String]) {
        self.0.map.lock().set_labels(id, labels);
    }

    /// A runner has so many tasks, after the database has it.
    pub fn set_running(&self, id: i64, running: u16) {
        let now = self.0.clock.now();
        self.change(|map| map.set_running(id, running, now));
    }

    /// A runner could take so many more tasks, it says; returns whether that changes what it could do.
    pub fn set_free_slots(&self, id: i64, free: u16) -> bool {
        self.0.map.lock().set_free_slots(id, free)
    }

    /// An ephemeral runner took its one task, or gave it up before it had it.
    pub fn set_used(&self, id: i64, is_used: bool) {
        self.0.map.lock().set_used(id, is_used);
    }

    /// Whether there are ephemeral runners.
    pub fn has_ephemeral(&self) -> bool {
        self.0.map.lock().ephemerals > 0
    }

    /// What decides which tasks a runner can take.
    pub fn profile(&self, id: i64) -> Option<Profile> {
        self.0.map.lock().profile(id)
    }

    /// The sets of labels of the runners of these scopes, with how many carry each.
    pub fn label_sets(&self, scopes: &[i64]) -> Vec<(Arc<[String]>, Verdicts)> {
        self.0.map.lock().label_sets(scopes)
    }

    /// Forgets runners.
    pub fn remove(&self, ids: &[i64]) {
        let mut map = self.0.map.lock();
        for id in ids {
            map.remove(*id);
        }
    }

    /// An authenticated call of the runner came in.
    pub fn hear(&self, id: i64) -> Option<Snapshot> {
        let now = self.0.clock.now();
        self.change(|map| map.hear(id, now))
    }

    /// A heartbeat came in: like [`Presence::hear`], and told to whoever watches heartbeats.
    pub fn heartbeat(&self, id: i64) -> Option<Snapshot> {
        let heard = self.hear(id)?;
        self.0.bus.publish(Occurrence {
            event: Event::Heartbeat { status: heard.status },
            runner_id: id,
            scope_id: heard.scope_id,
            owner_id: heard.owner_id,
            at: heard.last_online_at.unwrap_or(heard.status_since),
        });
        Some(heard)
    }

    /// The runner reported task work.
    pub fn work(&self, id: i64) -> Option<Snapshot> {
        let now = self.0.clock.now();
        self.change(|map| map.work(id, now))
    }

    /// Disables or enables runners, after the database has it; returns those that were otherwise.
    pub fn set_disabled(&self, ids: &[i64], disabled: bool) -> Vec<i64> {
        let now = self.0.clock.now();
        let mut map = self.0.map.lock();
        ids.iter().copied().filter(|id| map.set_disabled(*id, disabled, now)).collect()
    }

    /// A runner has a new token, after the database has it.
    pub fn set_token(&self, id: i64, generation: i64, issued_at: i64, previous_valid_until: Option<i64>) {
        self.0.map.lock().set_token(id, generation, issued_at, previous_valid_until);
    }

    /// What is known of a runner.
    pub fn get(&self, id: i64) -> Option<Snapshot> {
        self.0.map.lock().snapshot(id)
    }

    /// Runners whose status changed at or after a time.
    pub fn changed_since(&self, since: Timestamp) -> Vec<Snapshot> {
        self.0.map.lock().changed_since(since)
    }

    /// The runners that belong to a scope itself.
    pub fn in_scope(&self, scope_id: i64) -> Counts {
        self.0.map.lock().in_scope(scope_id)
    }

    /// The runners of these accounts and their repositories.
    pub fn of_owners(&self, owners: &[i64]) -> Counts {
        self.0.map.lock().of_owners(owners)
    }

    /// All runners.
    pub fn everything(&self) -> Counts {
        self.0.map.lock().everything()
    }

    /// How many runners are not OFFLINE.
    pub fn present(&self) -> usize {
        self.0.map.lock().present()
    }

    /// The changes of runners that are not in the database yet.
    pub fn unwritten_histories(&self, ids: &[i64]) -> Vec<TransitionRow> {
        let map = self.0.map.lock();
        ids.iter().flat_map(|id| map.unwritten_history(*id)).collect()
    }

    /// A filter on statuses that is true to memory although the database decides most of it.
    ///
    /// # Errors
    /// `UNAVAILABLE` when the database had to be brought up to date and could not.
    pub async fn status_filter(&self, wanted: &[RunnerStatus], store: &Store) -> Result<StatusFilter> {
        let behind = self.0.map.lock().unsettled_count();
        if behind > MOST_UNSETTLED {
            self.write(store).await?;
        }
        let unsettled = self.0.map.lock().unsettled();
        Ok(StatusFilter {
            wanted: wanted.to_vec(),
            unsettled_wanted: unsettled.iter().filter(|(_, it)| wanted.contains(it)).map(|(id, _)| *id).collect(),
            unsettled: unsettled.into_iter().map(|(id, _)| id).collect(),
        })
    }

    /// Writes what is not in the database yet, as of now: what comes in meanwhile is for the next write. It runs to its end
    /// even when the caller goes away, so that what was taken is marked as written, or taken again.
    ///
    /// # Errors
    /// `UNAVAILABLE` when the database is away; nothing is lost then, the next write carries it.
    pub async fn write(&self, store: &Store) -> Result<usize> {
        let (presence, own) = (self.clone(), store.clone());
        store.to_the_end(async move { presence.write_now(&own).await }).await
    }

    async fn write_now(&self, store: &Store) -> Result<usize> {
        let _turn = self.0.writing.lock().await;
        let mut left = self.0.map.lock().pending_count();
        let mut written = 0;
        while left > 0 {
            let pending = self.0.map.lock().take_pending(left.min(BATCH));
            left -= left.min(BATCH);
            let work = pending.clone();
            let result = transact!(store, |db, queries| {
                let write = queries::presence::write_presence(db, &work.stamps, &work.transitions);
                write.await
            });
            let mut map = self.0.map.lock();
            match result {
                Ok(()) => {
                    written += pending.stamps.len();
                    map.written(&pending);
                }
                Err(error) => {
                    map.not_written(&pending);
                    return Err(error);
                }
            }
        }
        Ok(written)
    }

    /// Writes behind until told to stop, then one last time.
    ///
    /// # Errors
    /// When the last write fails.
    pub async fn write_behind(&self, store: Store, every: Duration, stop: CancellationToken) -> Result<()> {
        let mut failing = false;
        loop {
            tokio::select! {
                () = self.0.clock.sleep(every) => {}
                () = stop.cancelled() => return self.write(&store).await.map(|_| ()),
            }
            let result = self.write(&store).await;
            match (failing, &result) {
                (true, Ok(_)) => tracing::info!("presence is written to the database again"),
                (false, Err(error)) => {
                    let cause = error.source.as_ref().map(ToString::to_string).unwrap_or_default();
                    tracing::warn!(cause, "presence cannot be written; it is kept in memory and written later");
                }
                _ => {}
            }
            failing = result.is_err();
        }
    }

    /// Lets the deadlines that have passed take effect; returns the time of the next.
    pub fn expire(&self) -> Option<Timestamp> {
        loop {
            let now = self.0.clock.now();
            let next = self.0.map.lock().expire(now, EXPIRE_AT_ONCE);
            if next.is_none_or(|next| next > now) {
                return next;
            }
        }
    }

    /// Lets deadlines take effect when they come, until told to stop.
    pub async fn keep_time(&self, stop: CancellationToken) {
        loop {
            let earlier = self.0.earlier.notified();
            let next = self.expire();
            tokio::select! {
                () = self.0.clock.sleep_until_any(next) => {}
                () = earlier => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Bytes that a runner takes in memory.
    pub fn bytes_per_runner(&self) -> usize {
        self.0.map.lock().bytes_per_runner()
    }

    /// Changes the map, and wakes the timers when that brought a deadline forward.
    fn change<T>(&self, change: impl FnOnce(&mut map::Map) -> T) -> T {
        let mut map = self.0.map.lock();
        let before = map.next_deadline();
        let result = change(&mut map);
        let is_earlier = match (before, map.next_deadline()) {
            (Some(before), Some(after)) => after < before,
            (None, Some(_)) => true,
            _ => false,
        };
        drop(map);
        if is_earlier {
            self.0.earlier.notify_one();
        }
        result
    }
}

impl RunnerDirectory for Presence {
    fn token_state(&self, runner_id: i64) -> Option<TokenState> {
        self.get(runner_id).map(|known| TokenState {
            scope_id: known.scope_id,
            generation: known.generation,
            previous_valid_until: known.previous_valid_until,
        })
    }

    fn previous_retired(&self, runner_id: i64, generation: i64) {
        self.0.map.lock().retire_previous(runner_id, generation);
    }

    fn learned(&self, row: &PresenceRow, labels: &[String]) {
        self.register(row, labels);
    }
}
