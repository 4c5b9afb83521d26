//! The tasks that the runner holds, and what each of them is told.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::operations::HeartbeatInput;

/// What a task is told. The later ones overrule the earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Order {
    /// Nothing: let it run.
    GoOn,
    /// Somebody wants it to end.
    Cancel,
    /// The runner leaves: end it, and let another one have it.
    HandBack,
    /// The runner does not hold it any more: kill it, and say nothing about it.
    Forget,
}

/// The tasks of a runner.
pub(super) struct Assignments {
    capacity: u32,
    list: Mutex<List>,
    is_draining: watch::Sender<bool>,
}

#[derive(Default)]
struct List {
    held: BTreeMap<u64, Held>,
    /// How many were ever taken.
    taken: u64,
    takes_one: bool,
    is_closed: bool,
}

struct Held {
    id: String,
    orders: watch::Sender<Order>,
}

impl Assignments {
    pub(super) fn new(capacity: u32, takes_one: bool) -> Self {
        let list = Mutex::new(List { takes_one, ..List::default() });
        Self { capacity, list, is_draining: watch::channel(false).0 }
    }

    /// Takes a task on. From now on the server is told that it is here.
    ///
    /// When it is here already, the server has given it out anew: what is left of it belongs to nobody.
    pub(super) fn take(self: &Arc<Self>, id: &str) -> Assignment {
        let (orders, _) = watch::channel(Order::GoOn);
        let mut list = self.list.lock();
        for held in list.held.values().filter(|held| held.id == id) {
            give(&held.orders, Order::Forget);
        }
        list.taken += 1;
        let number = list.taken;
        list.held.insert(number, Held { id: id.to_owned(), orders: orders.clone() });
        Assignment { number, orders, assignments: Arc::clone(self) }
    }

    /// Tells a task to end, if it is here.
    pub(super) fn cancel(&self, id: &str) {
        for held in self.list.lock().held.values().filter(|held| held.id == id) {
            give(&held.orders, Order::Cancel);
        }
    }

    /// Tells every task to end, so that another runner can have it.
    pub(super) fn hand_all_back(&self) {
        self.tell_all(Order::HandBack);
    }

    /// Says of every task that the runner does not hold it any more.
    pub(super) fn forget_all(&self) {
        self.tell_all(Order::Forget);
    }

    fn tell_all(&self, order: Order) {
        for held in self.list.lock().held.values() {
            give(&held.orders, order);
        }
    }

    /// Takes nothing new any more.
    pub(super) fn close(&self) {
        self.list.lock().is_closed = true;
    }

    /// Takes one task and no other: so the server wants it of this runner.
    pub(super) fn take_one(&self) {
        self.list.lock().takes_one = true;
    }

    /// Whether one task is all.
    pub(super) fn takes_one(&self) -> bool {
        self.list.lock().takes_one
    }

    /// Whether a task was ever taken.
    pub(super) fn has_taken(&self) -> bool {
        self.list.lock().taken > 0
    }

    /// How many more tasks there is room for.
    pub(super) fn free_slots(&self) -> u32 {
        let list = self.list.lock();
        if list.is_closed {
            return 0;
        }
        let held = u32::try_from(list.held.len()).unwrap_or(u32::MAX);
        if list.takes_one { u32::from(list.taken == 0) } else { self.capacity.saturating_sub(held) }
    }

    /// What the server is told of them.
    pub(super) fn heartbeat(&self) -> HeartbeatInput {
        let mut ids: Vec<String> = self.list.lock().held.values().map(|held| held.id.clone()).collect();
        ids.sort_unstable();
        ids.dedup();
        HeartbeatInput { running_task_ids: Some(ids), free_slots: Some(self.free_slots()) }
    }

    /// Whether the server gives this runner no new work. True when that has changed.
    pub(super) fn set_draining(&self, is_draining: bool) -> bool {
        self.is_draining.send_if_modified(|before| std::mem::replace(before, is_draining) != is_draining)
    }

    /// Ends when the server gives this runner no new work, or gives it work again.
    pub(super) async fn until_draining(&self, wanted: bool) {
        let mut is_draining = self.is_draining.subscribe();
        // The sender is ours, and so cannot be gone.
        let _ = is_draining.wait_for(|it| *it == wanted).await;
    }
}

fn give(orders: &watch::Sender<Order>, order: Order) {
    orders.send_if_modified(|before| {
        let is_stronger = order > *before;
        if is_stronger {
            *before = order;
        }
        is_stronger
    });
}

/// A task that the runner holds, until its end was reported. Dropped, it is not told to the server any more.
pub(super) struct Assignment {
    number: u64,
    orders: watch::Sender<Order>,
    assignments: Arc<Assignments>,
}

impl Assignment {
    /// What it was told last.
    pub(super) fn order(&self) -> Order {
        *self.orders.borrow()
    }

    /// Waits until it is told something.
    pub(super) async fn ordered(&self) -> Order {
        self.at_least(Order::Cancel).await
    }

    /// Waits until the runner leaves, or does not hold it any more.
    pub(super) async fn leaving(&self) {
        self.at_least(Order::HandBack).await;
    }

    /// Waits until the runner does not hold it any more.
    pub(super) async fn forgotten(&self) {
        self.at_least(Order::Forget).await;
    }

    /// Says that the runner does not hold it any more.
    pub(super) fn forget(&self) {
        give(&self.orders, Order::Forget);
    }

    async fn at_least(&self, least: Order) -> Order {
        let mut orders = self.orders.subscribe();
        let order = orders.wait_for(|order| *order >= least).await;
        // The sender is ours, and so cannot be gone.
        order.map_or(Order::Forget, |order| *order)
    }
}

impl Drop for Assignment {
    fn drop(&mut self) {
        self.assignments.list.lock().held.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assignments(capacity: u32, takes_one: bool) -> Arc<Assignments> {
        Arc::new(Assignments::new(capacity, takes_one))
    }

    fn told(assignments: &Assignments) -> (Vec<String>, u32) {
        let input = assignments.heartbeat();
        (input.running_task_ids.unwrap(), input.free_slots.unwrap())
    }

    #[test]
    fn the_server_is_told_what_is_held() {
        let assignments = assignments(2, false);
        assert_eq!(told(&assignments), (vec![], 2));
        let first = assignments.take("T_2");
        let second = assignments.take("T_1");
        assert_eq!(told(&assignments), (vec!["T_1".to_owned(), "T_2".to_owned()], 0));
        drop(first);
        assert_eq!(told(&assignments), (vec!["T_1".to_owned()], 1));
        assignments.close();
        assert_eq!(told(&assignments).1, 0);
        drop(second);
        assert!(assignments.has_taken());
    }

    #[test]
    fn one_task_is_all_where_one_is_taken() {
        let assignments = assignments(5, false);
        assignments.take_one();
        assert_eq!(assignments.free_slots(), 1);
        drop(assignments.take("T_1"));
        assert_eq!(assignments.free_slots(), 0);
    }

    #[tokio::test]
    async fn orders_overrule_weaker_ones_only() {
        let assignments = assignments(2, false);
        let (first, second) = (assignments.take("T_1"), assignments.take("T_2"));
        assignments.cancel("T_1");
        assert_eq!((first.ordered().await, second.order()), (Order::Cancel, Order::GoOn));
        assignments.hand_all_back();
        assignments.cancel("T_1");
        assert_eq!((first.order(), second.order()), (Order::HandBack, Order::HandBack));
        first.forget();
        first.forgotten().await;
        assert_eq!((first.order(), second.order()), (Order::Forget, Order::HandBack));
        second.leaving().await;
        assignments.forget_all();
        second.forgotten().await;
    }

    #[test]
    fn a_task_that_comes_again_replaces_itself() {
        let assignments = assignments(2, false);
        let (first, second) = (assignments.take("T_1"), assignments.take("T_1"));
        assert_eq!((first.order(), second.order()), (Order::Forget, Order::GoOn));
        assert_eq!(told(&assignments).0, ["T_1"]);
        drop(first);
        assert_eq!(told(&assignments).0, ["T_1"]);
    }
}
