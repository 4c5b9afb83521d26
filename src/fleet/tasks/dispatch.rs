//! Who waits for work, and who is told of it: only a runner that could take the task, and one for each task.
//!
//! A runner joins before it looks into the queue, and a task is offered after it was committed: whichever comes first, one of
//! them sees the other, so no wake-up is lost between looking and waiting. An offer that its runner does not use (it went away, it
//! took another task) goes on to the next.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::clock::Timestamp;
use crate::model::INSTANCE;
use crate::store::models::{TaskRow, list};

/// How long a runner that was only told of a task may take to fetch it before others are told.
const TOLD_FOR: Duration = Duration::from_secs(5);

/// A task that somebody could take, as far as choosing goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Offer {
    pub(super) task_id: i64,
    repository_id: i64,
    owner_id: i64,
    labels: Arc<[String]>,
    /// Runners on streams that were told of it and did not fetch it.
    told: Vec<i64>,
}

impl Offer {
    pub(super) fn of(task: &TaskRow) -> Self {
        Self {
            task_id: task.id,
            repository_id: task.repository_id,
            owner_id: task.owner_id,
            labels: list(&task.labels).into(),
            told: Vec::new(),
        }
    }
}

/// How a runner waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Via {
    /// In a call that answers with the task.
    Fetch,
    /// On a stream that tells it to fetch.
    Stream,
}

/// Everyone who waits. Clones share it.
#[derive(Clone, Default)]
pub struct Dispatch(Arc<Mutex<Waiting>>);

#[derive(Default)]
struct Waiting {
    next_key: u64,
    tickets: HashMap<u64, Entry>,
    of_runner: HashMap<i64, BTreeSet<u64>>,
    fetching: Places,
    streaming: Places,
    /// Tasks to be offered again then, if they still wait: a runner on a stream was told of them, or it is not certain who has
    /// them.
    later: Vec<(Timestamp, Offer)>,
}

/// Waiting tickets by scope and labels, so that choosing one looks at sets of labels and not at runners.
type Places = HashMap<i64, HashMap<Arc<[String]>, BTreeSet<u64>>>;

struct Entry {
    runner_id: i64,
    scope_id: i64,
    labels: Arc<[String]>,
    via: Via,
    is_listed: bool,
    offer: Option<Offer>,
    look_again: bool,
    notify: Arc<Notify>,
}

/// A runner's place among those who wait. Dropping it gives an unused offer to the next.
pub(super) struct Ticket {
    dispatch: Dispatch,
    key: u64,
    notify: Arc<Notify>,
}

impl Waiting {
    fn places(&mut self, via: Via) -> &mut Places {
        match via {
            Via::Fetch => &mut self.fetching,
            Via::Stream => &mut self.streaming,
        }
    }

    fn list(&mut self, key: u64) {
        let Some(entry) = self.tickets.get_mut(&key).filter(|entry| !entry.is_listed) else { return };
        entry.is_listed = true;
        let (via, scope_id, labels) = (entry.via, entry.scope_id, entry.labels.clone());
        self.places(via).entry(scope_id).or_default().entry(labels).or_default().insert(key);
    }

    fn unlist(&mut self, key: u64) {
        let Some(entry) = self.tickets.get_mut(&key).filter(|entry| entry.is_listed) else { return };
        entry.is_listed = false;
        let (via, scope_id, labels) = (entry.via, entry.scope_id, entry.labels.clone());
        let places = self.places(via);
        let Some(groups) = places.get_mut(&scope_id) else { return };
        if let Some(keys) = groups.get_mut(&labels) {
            keys.remove(&key);
            if keys.is_empty() {
                groups.remove(&labels);
            }
        }
        if groups.is_empty() {
            places.remove(&scope_id);
        }
    }

    /// Whoever has waited longest of those who could take it.
    fn choose(&self, offer: &Offer, via: Via, may: impl Fn(i64) -> bool) -> Option<u64> {
        let places = if via == Via::Fetch { &self.fetching } else { &self.streaming };
        let mut scopes = vec![offer.repository_id, offer.owner_id, INSTANCE];
        scopes.dedup();
        let groups = scopes.iter().filter_map(|scope| places.get(scope)).flatten();
        let fitting = groups.filter(|(labels, _)| covers(labels, &offer.labels));
        let first = |keys: &BTreeSet<u64>| {
            keys.iter().copied().find(|key| self.tickets.get(key).is_some_and(|entry| may(entry.runner_id)))
        };
        fitting.filter_map(|(_, keys)| first(keys)).min()
    }

    fn call(&mut self, key: u64) {
        if let Some(entry) = self.tickets.get_mut(&key) {
            entry.look_again = true;
            entry.notify.notify_one();
        }
    }

    fn give(&mut self, key: u64, offer: Offer) {
        self.unlist(key);
        if let Some(entry) = self.tickets.get_mut(&key) {
            entry.offer = Some(offer);
            entry.notify.notify_one();
        }
    }
}

/// Whether somebody who carries these labels carries all of those; both in alphabetical order.
pub(super) fn covers(carried: &[String], needed: &[String]) -> bool {
    let mut carried = carried.iter();
    needed.iter().all(|label| carried.any(|own| own == label))
}

impl Dispatch {
    /// A runner waits from now on.
    pub(super) fn join(&self, runner_id: i64, scope_id: i64, labels: Arc<[String]>, via: Via) -> Ticket {
        let notify = Arc::new(Notify::new());
        let mut waiting = self.0.lock();
        let key = waiting.next_key;
        waiting.next_key += 1;
        let entry = Entry {
            runner_id,
            scope_id,
            labels,
            via,
            is_listed: false,
            offer: None,
            look_again: false,
            notify: notify.clone(),
        };
        waiting.tickets.insert(key, entry);
        waiting.of_runner.entry(runner_id).or_default().insert(key);
        waiting.list(key);
        Ticket { dispatch: self.clone(), key, notify }
    }

    /// A task can be taken: tells one runner of it. `may` says whether a runner on a stream has room for it now.
    pub(super) fn offer(&self, mut offer: Offer, now: Timestamp, may: impl Fn(i64) -> bool) {
        let mut waiting = self.0.lock();
        if let Some(key) = waiting.choose(&offer, Via::Fetch, |_| true) {
            waiting.give(key, offer);
            return;
        }
        let mut chosen = waiting.choose(&offer, Via::Stream, |id| may(id) && !offer.told.contains(&id));
        if chosen.is_none() && !offer.told.is_empty() {
            // Everyone was told: the round begins anew.
            offer.told.clear();
            chosen = waiting.choose(&offer, Via::Stream, may);
        }
        if let Some(key) = chosen {
            offer.told.extend(waiting.tickets.get(&key).map(|entry| entry.runner_id));
            waiting.later.push((now + TOLD_FOR, offer.clone()));
            waiting.give(key, offer);
        }
    }

    /// Something about a runner changed that decides what it can take: it looks again, by its labels as they are now.
    pub(in crate::fleet) fn look_again(&self, runner_id: i64) {
        let mut waiting = self.0.lock();
        let keys: Vec<u64> = waiting.of_runner.get(&runner_id).into_iter().flatten().copied().collect();
        for key in keys {
            waiting.call(key);
        }
    }

    /// There may be tasks that nobody was told of: everyone looks again.
    pub(super) fn all_look_again(&self) {
        let mut waiting = self.0.lock();
        let keys: Vec<u64> = waiting.tickets.keys().copied().collect();
        for key in keys {
            waiting.call(key);
        }
    }

    /// A task is to be offered again then, if it still waits.
    pub(super) fn check_later(&self, offer: Offer, at: Timestamp) {
        self.0.lock().later.push((at, offer));
    }

    /// Tasks to be offered again now, if they still wait.
    pub(super) fn overdue(&self, now: Timestamp) -> Vec<Offer> {
        let mut waiting = self.0.lock();
        let (due, later) = std::mem::take(&mut waiting.later).into_iter().partition(|(at, _)| *at <= now);
        waiting.later = later;
        let due: Vec<(Timestamp, Offer)> = due;
        due.into_iter().map(|(_, offer)| offer).collect()
    }

    /// How many runners wait in calls, and on streams.
    pub fn waiting(&self) -> (usize, usize) {
        let waiting = self.0.lock();
        let on = |via| waiting.tickets.values().filter(|entry| entry.via == via).count();
        (on(Via::Fetch), on(Via::Stream))
    }
}

impl Ticket {
    /// Waits for an offer, or for a reason to look again.
    pub(super) async fn called(&self) {
        loop {
            let called = self.notify.notified();
            {
                let mut waiting = self.dispatch.0.lock();
                let entry = waiting.tickets.get_mut(&self.key);
                if entry.is_some_and(|entry| std::mem::take(&mut entry.look_again) || entry.offer.is_some()) {
                    return;
                }
            }
            called.await;
        }
    }

    /// Before a look into the queue: from here on offers are taken again. Returns what was offered before, which the look is for.
    /// What decides about the runner is to be read after this: a change of it calls again.
    pub(super) fn begin(&self) -> Option<Offer> {
        let mut waiting = self.dispatch.0.lock();
        let entry = waiting.tickets.get_mut(&self.key)?;
        entry.look_again = false;
        let offer = entry.offer.take();
        waiting.list(self.key);
        offer
    }

    /// The runner carries these labels.
    pub(super) fn carry(&self, labels: &Arc<[String]>) {
        let mut waiting = self.dispatch.0.lock();
        let is_changed = waiting.tickets.get(&self.key).is_some_and(|entry| entry.labels != *labels);
        if is_changed {
            let was_listed = waiting.tickets.get(&self.key).is_some_and(|entry| entry.is_listed);
            waiting.unlist(self.key);
            if let Some(entry) = waiting.tickets.get_mut(&self.key) {
                entry.labels = labels.clone();
            }
            if was_listed {
                waiting.list(self.key);
            }
        }
    }

    /// The runner can take nothing for now: offers go to others.
    pub(super) fn step_aside(&self) -> Option<Offer> {
        let mut waiting = self.dispatch.0.lock();
        waiting.unlist(self.key);
        waiting.tickets.get_mut(&self.key).and_then(|entry| entry.offer.take())
    }

    /// What was offered, which the runner does not need any more.
    pub(super) fn take_offer(&self) -> Option<Offer> {
        self.dispatch.0.lock().tickets.get_mut(&self.key).and_then(|entry| entry.offer.take())
    }

    /// Leaves the queue of those who wait; returns an offer that was not used.
    fn leave(&self) -> Option<Offer> {
        let mut waiting = self.dispatch.0.lock();
        waiting.unlist(self.key);
        let entry = waiting.tickets.remove(&self.key)?;
        if let Some(keys) = waiting.of_runner.get_mut(&entry.runner_id) {
            keys.remove(&self.key);
            if keys.is_empty() {
                waiting.of_runner.remove(&entry.runner_id);
            }
        }
        entry.offer
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(offer) = self.leave() {
            // Whoever waits in a call may have it; for streams the keeper's round comes.
            let mut waiting = self.dispatch.0.lock();
            match waiting.choose(&offer, Via::Fetch, |_| true) {
                Some(key) => waiting.give(key, offer),
                None => waiting.later.push((Timestamp::default(), offer)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn labels(names: &[&str]) -> Arc<[String]> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn offer(task_id: i64, names: &[&str]) -> Offer {
        Offer { task_id, repository_id: 20, owner_id: 10, labels: labels(names), told: Vec::new() }
    }

    const NOW: Timestamp = Timestamp::from_micros(1_000_000);

    fn is_called(ticket: &Ticket) -> bool {
        ticket.called().now_or_never().is_some()
    }

    #[test]
    fn one_runner_that_can_take_it_is_told() {
        let dispatch = Dispatch::default();
        let other = dispatch.join(1, 20, labels(&["arm"]), Via::Fetch);
        let elsewhere = dispatch.join(2, 21, labels(&["x64"]), Via::Fetch);
        let first = dispatch.join(3, INSTANCE, labels(&["gpu", "x64"]), Via::Fetch);
        let second = dispatch.join(4, 20, labels(&["x64"]), Via::Fetch);
        dispatch.offer(offer(7, &["x64"]), NOW, |_| true);
        assert!(is_called(&first));
        assert!(![&other, &elsewhere, &second].into_iter().any(is_called));
        dispatch.offer(offer(8, &["x64"]), NOW, |_| true);
        assert!(is_called(&second));
        // Nobody is left who could take a third.
        dispatch.offer(offer(9, &["x64"]), NOW, |_| true);
        assert!(![&other, &elsewhere].into_iter().any(is_called));
    }

    #[test]
    fn an_offer_that_is_not_used_goes_on() {
        let dispatch = Dispatch::default();
        let first = dispatch.join(1, 20, labels(&[]), Via::Fetch);
        let second = dispatch.join(2, 20, labels(&[]), Via::Fetch);
        dispatch.offer(offer(7, &[]), NOW, |_| true);
        assert!(is_called(&first) && !is_called(&second));
        drop(first);
        assert!(is_called(&second));
        // The last one leaves: the task is for the next round.
        drop(second);
        assert_eq!(dispatch.overdue(NOW)[0].task_id, 7);
        let waiting = dispatch.0.lock();
        assert!(waiting.fetching.is_empty() && waiting.tickets.is_empty() && waiting.of_runner.is_empty());
    }

    #[test]
    fn an_offer_during_the_look_is_not_lost() {
        let dispatch = Dispatch::default();
        let ticket = dispatch.join(1, 20, labels(&[]), Via::Fetch);
        assert_eq!(ticket.begin(), None);
        dispatch.offer(offer(7, &[]), NOW, |_| true);
        assert!(is_called(&ticket));
        // And when its labels are found to be others meanwhile, it stays where it can be called.
        assert_eq!(ticket.begin().map(|offer| offer.task_id), Some(7));
        ticket.carry(&labels(&["x64"]));
        dispatch.offer(offer(8, &["x64"]), NOW, |_| true);
        assert!(is_called(&ticket));
    }

    #[test]
    fn whoever_is_told_by_a_stream_has_some_seconds() {
        let dispatch = Dispatch::default();
        let busy = dispatch.join(1, 20, labels(&[]), Via::Stream);
        let free = dispatch.join(2, 20, labels(&[]), Via::Stream);
        dispatch.offer(offer(7, &[]), NOW, |runner| runner == 2);
        assert!(is_called(&free) && !is_called(&busy));
        assert!(dispatch.overdue(NOW + Duration::from_secs(4)).is_empty());
        let overdue = dispatch.overdue(NOW + TOLD_FOR).remove(0);
        // Then another is told, if there is one.
        drop(free.begin());
        dispatch.offer(overdue, NOW, |_| true);
        assert!(is_called(&busy) && !is_called(&free));
    }

    #[test]
    fn labels_are_covered() {
        let cases = [
            (&["a", "b", "c"][..], &["a", "c"][..], true),
            (&["a"], &[], true),
            (&[], &["a"], false),
            (&["b", "c"], &["a", "b"], false),
            (&["a", "b"], &["b", "c"], false),
        ];
        for (carried, needed, expected) in cases {
            assert_eq!(covers(&labels(carried), &labels(needed)), expected, "{carried:?} for {needed:?}");
        }
    }
}
