//! What happened, and the bus that carries it to whoever watches.
//!
//! The fleet publishes, after the commit that an event speaks of. An event goes to four topics (everything, the account
//! above, the scope, the runner), so that a subscriber pays for what it asked for and not for the whole fleet. Each topic
//! is a bounded ring: a publisher never waits, and a subscriber that fell behind is told how much it missed.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use dashmap::DashMap;
use futures_util::stream::{SelectAll, Stream, StreamExt as _};
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::model::{RunnerStatus, TaskStatus};

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A runner's heartbeat was taken.
    Heartbeat {
        /// The status after it.
        status: RunnerStatus,
    },
    /// A runner's status changed.
    StatusChanged {
        /// The status before.
        previous: RunnerStatus,
        /// The status since.
        current: RunnerStatus,
    },
    /// A runner registered, or registered anew.
    RunnerRegistered,
    /// A runner's record changed.
    RunnerUpdated,
    /// A runner is gone.
    RunnerDeleted {
        /// The name it authenticated with.
        uuid: Uuid,
        /// Its display name.
        name: String,
    },
    /// Credentials or memberships changed: whoever watches has to show again that it may.
    AccessChanged(AccessChange),
    /// A task was queued, or went from one status to another.
    TaskChanged {
        /// The task.
        task_id: i64,
        /// The status before; none: it is new.
        previous: Option<TaskStatus>,
        /// The status since.
        current: TaskStatus,
    },
    /// A task went, with its repository.
    TaskRemoved {
        /// The task.
        task_id: i64,
    },
    /// A task's log grew, or something changed that decides when it is complete.
    LogChanged {
        /// The task.
        task_id: i64,
        /// What was added.
        added: LogLines,
        /// Whether the log may be complete, or not be complete any more.
        look_again: bool,
    },
    /// A runner is told to do something.
    Directed(Directive),
    /// A cleanup job made progress, or ended.
    JobChanged {
        /// The job.
        job_id: i64,
    },
}

/// Lines of a task's log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogLines {
    /// The number of the first of them.
    pub first_line: i64,
    /// The lines.
    pub lines: Arc<[String]>,
}

/// What a runner is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Directive {
    /// There is a task that you could take.
    TaskAvailable,
    /// Stop a task that you run.
    CancelTask(i64),
    /// Get a new token before the current one has the age that is allowed.
    RotateToken(Timestamp),
    /// Finish what you have and take nothing new: somebody disabled you.
    Drain,
}

/// Whose rights changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessChange {
    /// Those of a user: an access token was revoked, a membership changed, the user is gone.
    User(i64),
    /// Those of a runner: its token changed, or it is gone.
    Runner(i64),
    /// Those of everybody who watches a scope that is gone.
    Scope(i64),
}

impl Event {
    const fn kind(&self) -> EventKind {
        match self {
            Self::Heartbeat { .. } => EventKind::Heartbeat,
            Self::StatusChanged { .. } => EventKind::Status,
            Self::RunnerRegistered | Self::RunnerUpdated | Self::RunnerDeleted { .. } => EventKind::Runner,
            Self::AccessChanged(_) => EventKind::Access,
            Self::TaskChanged { .. } | Self::TaskRemoved { .. } => EventKind::Task,
            Self::LogChanged { .. } => EventKind::Log,
            Self::Directed(_) => EventKind::Directive,
            Self::JobChanged { .. } => EventKind::Job,
        }
    }
}

/// An event with its place and time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Occurrence {
    /// What happened.
    pub event: Event,
    /// The runner it happened to; 0 when it was none.
    pub runner_id: i64,
    /// The runner's scope; of a task, its repository.
    pub scope_id: i64,
    /// The account above, or the instance.
    pub owner_id: i64,
    /// When.
    pub at: Timestamp,
}

impl Occurrence {
    /// Everyone who is told.
    fn topics(&self) -> impl Iterator<Item = Topic> {
        let wide = [Topic::Everything, Topic::Owner(self.owner_id), Topic::Scope(self.scope_id)];
        let (wide, own) = match self.event {
            Event::TaskChanged { task_id, .. } | Event::TaskRemoved { task_id } => (Some(wide), Topic::Task(task_id)),
            Event::LogChanged { task_id, .. } => (None, Topic::Task(task_id)),
            Event::Directed(_) => (None, Topic::Runner(self.runner_id)),
            Event::JobChanged { job_id } => (None, Topic::Job(job_id)),
            _ => (Some(wide), Topic::Runner(self.runner_id)),
        };
        wide.into_iter().flatten().chain([own])
    }
}

/// Kinds of events that are subscribed to apart: who waits for status changes is not woken by heartbeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// Heartbeats.
    Heartbeat,
    /// Changes of status.
    Status,
    /// Runners that came, changed or went.
    Runner,
    /// Changes of rights.
    Access,
    /// Tasks that came or changed their status.
    Task,
    /// Lines of tasks' logs.
    Log,
    /// What runners are told to do.
    Directive,
    /// Progress of cleanup jobs.
    Job,
}

const KINDS: usize = 8;

/// A part of the fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Topic {
    /// All of it.
    Everything,
    /// What belongs to an account and its repositories; the instance counts as an account.
    Owner(i64),
    /// What belongs to a scope.
    Scope(i64),
    /// One runner.
    Runner(i64),
    /// One task.
    Task(i64),
    /// One cleanup job.
    Job(i64),
}

/// The bus. Clones share the topics.
#[derive(Clone)]
pub struct Bus(Arc<Topics>);

struct Topics {
    rings: DashMap<(EventKind, Topic), broadcast::Sender<Arc<Occurrence>>>,
    /// Topics with subscribers, by kind: a heartbeat that nobody watches costs one look here.
    watched: [AtomicUsize; KINDS],
    capacity: usize,
}

impl Bus {
    /// A bus whose subscribers may fall so many events behind.
    pub fn new(capacity: usize) -> Self {
        Self(Arc::new(Topics { rings: DashMap::new(), watched: Default::default(), capacity: capacity.max(1) }))
    }

    /// Tells everyone who watches the runner, its scope, the account above, or everything.
    pub fn publish(&self, occurrence: Occurrence) {
        let kind = occurrence.event.kind();
        if self.0.watched[kind as usize].load(Ordering::Acquire) == 0 {
            return;
        }
        let occurrence = Arc::new(occurrence);
        for topic in occurrence.topics() {
            let unheard = self.0.rings.get(&(kind, topic)).is_some_and(|ring| ring.send(occurrence.clone()).is_err());
            if unheard {
                self.forget(kind, topic);
            }
        }
    }

    /// Whether anybody watches events of a kind.
    pub fn is_watched(&self, kind: EventKind) -> bool {
        self.0.watched[kind as usize].load(Ordering::Acquire) > 0
    }

    /// Watches topics that do not overlap. What is published from now on arrives, in order within a topic and kind.
    pub fn subscribe(&self, kinds: &[EventKind], topics: impl IntoIterator<Item = Topic>) -> Subscription {
        let watched = topics.into_iter().flat_map(|topic| kinds.iter().map(move |kind| (*kind, topic)));
        self.subscribe_each(watched.collect())
    }

    /// Watches topics, each for a kind of event.
    pub fn subscribe_each(&self, keys: Vec<(EventKind, Topic)>) -> Subscription {
        let rings = keys.iter().map(|&(kind, topic)| {
            let ring = self.0.rings.entry((kind, topic)).or_insert_with(|| {
                self.0.watched[kind as usize].fetch_add(1, Ordering::AcqRel);
                // One runner has few events; a ring's memory is taken when it is made.
                let is_wide = matches!(topic, Topic::Everything | Topic::Owner(_) | Topic::Scope(_));
                let capacity = if is_wide { self.0.capacity } else { self.0.capacity.min(64) };
                broadcast::channel(capacity).0
            });
            BroadcastStream::new(ring.subscribe())
        });
        Subscription { streams: rings.collect(), bus: self.clone(), watched: keys }
    }

    fn forget(&self, kind: EventKind, topic: Topic) {
        let removed = self.0.rings.remove_if(&(kind, topic), |_, ring| ring.receiver_count() == 0);
        if removed.is_some() {
            self.0.watched[kind as usize].fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// A stream of events. It has no end; an error tells how many were missed just before the next.
pub struct Subscription {
    streams: SelectAll<BroadcastStream<Arc<Occurrence>>>,
    bus: Bus,
    watched: Vec<(EventKind, Topic)>,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        // First the receivers, then the rings that nobody listens to any more.
        self.streams.clear();
        for (kind, topic) in self.watched.drain(..) {
            self.bus.forget(kind, topic);
        }
    }
}

/// So many events were missed: the subscriber was too slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missed(pub u64);

impl Stream for Subscription {
    type Item = Result<Arc<Occurrence>, Missed>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.streams
            .poll_next_unpin(context)
            .map(|item| item.map(|item| item.map_err(|BroadcastStreamRecvError::Lagged(missed)| Missed(missed))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(runner_id: i64, current: RunnerStatus) -> Occurrence {
        Occurrence {
            event: Event::StatusChanged { previous: RunnerStatus::Offline, current },
            runner_id,
            scope_id: 10,
            owner_id: 1,
            at: Timestamp::from_micros(0),
        }
    }

    #[tokio::test]
    async fn a_subscriber_gets_what_its_topic_is_about() {
        let bus = Bus::new(8);
        let mut one = bus.subscribe(&[EventKind::Status], [Topic::Runner(5)]);
        let mut scope = bus.subscribe(&[EventKind::Status], [Topic::Scope(10)]);
        let mut other = bus.subscribe(&[EventKind::Status], [Topic::Scope(11)]);
        bus.publish(change(4, RunnerStatus::Idle));
        bus.publish(change(5, RunnerStatus::Idle));
        assert_eq!(one.next().await.unwrap().unwrap().runner_id, 5);
        assert_eq!(scope.next().await.unwrap().unwrap().runner_id, 4);
        assert_eq!(scope.next().await.unwrap().unwrap().runner_id, 5);
        assert!(futures_util::poll!(other.next()).is_pending());
    }

    #[tokio::test]
    async fn a_slow_subscriber_is_told_what_it_missed_and_goes_on() {
        let bus = Bus::new(4);
        let mut slow = bus.subscribe(&[EventKind::Status], [Topic::Everything]);
        for runner in 0..10 {
            bus.publish(change(runner, RunnerStatus::Idle));
        }
        assert_eq!(slow.next().await.unwrap(), Err(Missed(6)));
        assert_eq!(slow.next().await.unwrap().unwrap().runner_id, 6);
    }

    #[test]
    fn topics_without_subscribers_are_forgotten() {
        let bus = Bus::new(4);
        let subscription = bus.subscribe(&[EventKind::Status], [Topic::Everything, Topic::Runner(1)]);
        assert!(bus.is_watched(EventKind::Status));
        drop(subscription);
        assert!(!bus.is_watched(EventKind::Status));
        assert!(bus.0.rings.is_empty());
    }
}
