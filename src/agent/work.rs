//! The slots of a runner: what fills them, and what becomes of the tasks in them when the runner shall leave.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, error, info, warn};

use super::assignments::Assignment;
use super::client::ClientError;
use super::directives::listen;
use super::execution::{Ended, hand_back, perform};
use super::operations::FetchedTask;
use super::retry::{Backoff, up_to};
use super::workshop::Workshop;

const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// A server that has no task and does not wait for one is not asked more often than this.
const SHORTEST_TURN: Duration = Duration::from_secs(1);

/// What is left to a task after it was killed: to deliver its last lines and to be handed back.
const LAST_WORDS: Duration = Duration::from_secs(15);

/// Why there is nothing more to be done.
pub(super) enum Departure {
    /// The runner was told to leave.
    Stopped,
    /// The one task that it was to take is over, and how it ended, if that is known.
    Done(Option<Ended>),
}

type Fetched = (FetchedTask, Assignment);

/// The work of a runner.
pub(super) struct Work {
    shop: Arc<Workshop>,
    /// At most one: while it waits for a task, nobody else needs to.
    fetching: JoinSet<Fetched>,
    running: JoinSet<Ended>,
    /// There is something to listen for only while something runs.
    listening: Option<AbortOnDropHandle<()>>,
}

impl Work {
    pub(super) fn new(shop: Arc<Workshop>) -> Self {
        Self { shop, fetching: JoinSet::new(), running: JoinSet::new(), listening: None }
    }

    /// Takes tasks and runs them until it shall stop, or until the only one is over.
    pub(super) async fn run(&mut self, stop: &CancellationToken) -> Departure {
        loop {
            if self.fetching.is_empty() && self.shop.assignments.free_slots() > 0 {
                self.fetching.spawn(fetch(Arc::clone(&self.shop)));
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return self.wind_down().await,
                Some(ended) = self.running.join_next() => {
                    if self.running.is_empty() {
                        self.listening = None;
                    }
                    let ended = settled(ended);
                    if self.shop.assignments.takes_one() {
                        return Departure::Done(ended);
                    }
                }
                Some(fetched) = self.fetching.join_next() => self.start(fetched),
            }
        }
    }

    /// Kills whatever runs. The server will notice by itself.
    pub(super) async fn abandon(&mut self) {
        self.listening = None;
        self.fetching.shutdown().await;
        if !self.running.is_empty() {
            warn!(tasks = self.running.len(), "the running tasks are killed");
        }
        self.running.shutdown().await;
    }

    fn start(&mut self, fetched: Result<Fetched, JoinError>) {
        match fetched {
            Ok((task, assignment)) => {
                self.running.spawn(perform(Arc::clone(&self.shop), task, assignment));
                if self.listening.is_none() {
                    self.listening = Some(AbortOnDropHandle::new(tokio::spawn(listen(Arc::clone(&self.shop)))));
                }
            }
            Err(problem) => error!(%problem, "fetching a task failed"),
        }
    }

    /// Takes nothing new, lets what runs come to its end, and hands back what does not.
    async fn wind_down(&mut self) -> Departure {
        let shop = Arc::clone(&self.shop);
        shop.assignments.close();
        self.fetching.abort_all();
        while let Some(fetched) = self.fetching.join_next().await {
            // It came at the last moment.
            if let Ok((task, _assignment)) = fetched {
                hand_back(&shop, &task).await;
            }
        }
        if self.running.is_empty() {
            return Departure::Stopped;
        }
        let allowed = shop.shutdown_timeout.as_secs();
        info!(tasks = self.running.len(), "leaving when the running tasks have ended; they have {allowed} s");
        let mut last = None;
        if !self.all_end_within(shop.shutdown_timeout, &mut last).await {
            info!(tasks = self.running.len(), "the tasks that still run are ended and handed back");
            shop.assignments.hand_all_back();
            self.all_end_within(shop.cancel_grace.saturating_add(LAST_WORDS), &mut last).await;
            self.running.shutdown().await;
        }
        if shop.assignments.takes_one() { Departure::Done(last) } else { Departure::Stopped }
    }

    /// Waits for all tasks, and says whether they have ended in time.
    async fn all_end_within(&mut self, limit: Duration, last: &mut Option<Ended>) -> bool {
        let mut limit = self.shop.clock.sleep(limit);
        loop {
            tokio::select! {
                biased;
                ended = self.running.join_next() => match ended {
                    Some(ended) => *last = settled(ended),
                    None => return true,
                },
                () = &mut limit => return false,
            }
        }
    }
}

fn settled(ended: Result<Ended, JoinError>) -> Option<Ended> {
    ended.inspect_err(|problem| error!(%problem, "a task was given up")).ok()
}

/// Waits for a task, however long that takes.
async fn fetch(shop: Arc<Workshop>) -> Fetched {
    let mut backoff = Backoff::new(LONGEST_WAIT);
    loop {
        shop.assignments.until_draining(false).await;
        let began = shop.clock.now();
        let answer = tokio::select! {
            answer = shop.link.fetch_task() => answer,
            () = shop.assignments.until_draining(true) => continue,
        };
        let pause = match answer {
            Ok(Some(task)) => {
                let assignment = shop.assignments.take(&task.task.id);
                return (task, assignment);
            }
            Ok(None) => {
                backoff.reset();
                let turn = SHORTEST_TURN.saturating_sub(shop.clock.now().since(began));
                turn + up_to(turn, &shop.rng)
            }
            Err(error) => {
                tell(&error);
                backoff.delay_after(&error, &shop.rng)
            }
        };
        shop.clock.sleep(pause).await;
    }
}

/// An outage is told by the heartbeats, and a refused session renewed by them.
fn tell(error: &ClientError) {
    if error.is_temporary() || error.is_unauthenticated() {
        debug!(%error, "asking for a task failed");
    } else {
        warn!(%error, "the server refuses to give this runner a task; it is asked again");
    }
}
