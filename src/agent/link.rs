//! The session that all calls of a runner share, and the calls about its work.
//!
//! The loop of heartbeats alone opens sessions. Whoever finds one refused takes it back, and waits for the next like all
//! others.

use std::time::Duration;

use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use tokio::sync::{Notify, watch};
use tracing::debug;

use crate::clock::Clock;
use crate::rng::Rng;

use super::client::{ClientError, Credentials, EventStream, GraphqlClient};
use super::operations::{
    self, AppendTaskLogData, AppendTaskLogInput, FetchTaskData, FetchTaskInput, FetchedTask, Input, NoVariables,
    ReleaseTaskInput, UpdateTaskInput,
};
use super::retry::Backoff;

/// The longest that the server takes.
const FETCH_WAIT: Duration = Duration::from_secs(30);

/// A server that is busy may answer somewhat later than it was asked to.
const FETCH_LIMIT: Duration = Duration::from_secs(45);

const CALL_LIMIT: Duration = Duration::from_secs(30);

const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// How many answers that make no sense are taken for those of a proxy, or of a server that is being replaced.
const MALFORMED_ANSWERS: u32 = 5;

/// The server, as the parts of an agent share it.
pub(super) struct Link {
    client: GraphqlClient,
    clock: Clock,
    rng: Rng,
    shown: watch::Sender<Shown>,
    heartbeat_due: Notify,
}

/// What the runner shows with its calls.
#[derive(Clone)]
struct Shown {
    /// Tells sessions apart: who takes one back must not take back its successor.
    number: u64,
    standing: Standing,
}

#[derive(Clone)]
enum Standing {
    /// A session is being opened.
    Waiting,
    Session(Credentials),
    /// There will be none: the server knows the runner no more.
    Gone,
}

impl Link {
    pub(super) fn new(client: GraphqlClient, clock: Clock, rng: Rng) -> Self {
        let (shown, _) = watch::channel(Shown { number: 0, standing: Standing::Waiting });
        Self { client, clock, rng, shown, heartbeat_due: Notify::new() }
    }

    /// Gives all callers a session.
    pub(super) fn publish(&self, credentials: Credentials) {
        self.shown.send_modify(|shown| {
            shown.number += 1;
            shown.standing = Standing::Session(credentials);
        });
    }

    /// Lets all callers wait for the next session.
    pub(super) fn withdraw(&self) {
        self.shown.send_modify(|shown| shown.standing = Standing::Waiting);
    }

    /// Lets all callers fail: there will be no other session.
    pub(super) fn give_up(&self) {
        self.shown.send_modify(|shown| shown.standing = Standing::Gone);
    }

    /// Says that a session was refused.
    pub(super) fn take_back(&self, number: u64) {
        self.shown.send_if_modified(|shown| {
            let is_current = shown.number == number && matches!(shown.standing, Standing::Session(_));
            if is_current {
                shown.standing = Standing::Waiting;
            }
            is_current
        });
    }

    /// Ends when somebody has taken the session back.
    pub(super) async fn session_wanted(&self) {
        let mut shown = self.shown.subscribe();
        // The sender is ours, and so cannot be gone.
        let _ = shown.wait_for(|shown| matches!(shown.standing, Standing::Waiting)).await;
    }

    /// Asks for a heartbeat now, for the directives that come with its answer.
    pub(super) fn want_heartbeat(&self) {
        self.heartbeat_due.notify_one();
    }

    /// Ends when somebody has asked for a heartbeat.
    pub(super) async fn heartbeat_wanted(&self) {
        self.heartbeat_due.notified().await;
    }

    /// Asks for a task and waits for one; none when there was none for a while.
    pub(super) async fn fetch_task(&self) -> Result<Option<FetchedTask>, ClientError> {
        let input = FetchTaskInput { wait_seconds: FETCH_WAIT.as_secs() };
        let data: FetchTaskData = self.call(operations::FETCH_TASK, Input { input }, FETCH_LIMIT).await?;
        Ok(data.fetch_task.into_fetched())
    }

    /// Adds lines to the log of a task, and says how many of its lines the server has then.
    pub(super) async fn append_log(&self, input: &AppendTaskLogInput<'_>) -> Result<u64, ClientError> {
        let data: AppendTaskLogData = self.call(operations::APPEND_TASK_LOG, Input { input }, CALL_LIMIT).await?;
        Ok(data.append_task_log.acknowledged_line)
    }

    /// Says how a task ended.
    pub(super) async fn update_task(&self, input: &UpdateTaskInput<'_>) -> Result<(), ClientError> {
        let _: IgnoredAny = self.call(operations::UPDATE_TASK, Input { input }, CALL_LIMIT).await?;
        Ok(())
    }

    /// Hands a task back.
    pub(super) async fn release_task(&self, input: &ReleaseTaskInput<'_>) -> Result<(), ClientError> {
        let _: IgnoredAny = self.call(operations::RELEASE_TASK, Input { input }, CALL_LIMIT).await?;
        Ok(())
    }

    /// Opens the stream of directives. The number is that of the session that it lives by.
    pub(super) async fn directives(&self) -> Result<(EventStream, u64), ClientError> {
        let (number, credentials) = self.session().await?;
        let opened = self.client.subscribe(&credentials, operations::RUNNER_DIRECTIVES, NoVariables {}).await;
        self.note_refusal(&opened, number);
        Ok((opened?, number))
    }

    /// Makes a call until it succeeds or fails for good. How long that may take is for the caller to say.
    pub(super) async fn insist<T, F>(&self, mut call: impl FnMut() -> F) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let mut backoff = Backoff::new(LONGEST_WAIT);
        let mut malformed = 0;
        loop {
            let error = match call().await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let may_pass = if matches!(error, ClientError::Malformed(_)) {
                malformed += 1;
                malformed <= MALFORMED_ANSWERS
            } else {
                error.is_temporary() || (error.is_unauthenticated() && !self.is_given_up())
            };
            if !may_pass {
                return Err(error);
            }
            debug!(%error, "a call about a task failed; it is made again");
            self.clock.sleep(backoff.delay_after(&error, &self.rng)).await;
        }
    }

    async fn call<T: DeserializeOwned>(
        &self,
        query: &'static str,
        variables: impl Serialize,
        limit: Duration,
    ) -> Result<T, ClientError> {
        let (number, credentials) = self.session().await?;
        let answer = self.client.call_within(&credentials, query, variables, limit).await;
        self.note_refusal(&answer, number);
        answer
    }

    /// The session to show, once there is one.
    async fn session(&self) -> Result<(u64, Credentials), ClientError> {
        let mut receiver = self.shown.subscribe();
        let shown = receiver.wait_for(|shown| !matches!(shown.standing, Standing::Waiting)).await;
        match shown.map(|shown| Shown::clone(&shown)) {
            Ok(Shown { number, standing: Standing::Session(credentials) }) => Ok((number, credentials)),
            _ => Err(ClientError::Refused {
                code: "UNAUTHENTICATED".to_owned(),
                message: "the server no longer accepts the runner".to_owned(),
                field: None,
                retry_after_seconds: None,
            }),
        }
    }

    fn note_refusal<T>(&self, answer: &Result<T, ClientError>, number: u64) {
        if answer.as_ref().is_err_and(ClientError::is_unauthenticated) {
            self.take_back(number);
        }
    }

    fn is_given_up(&self) -> bool {
        matches!(self.shown.borrow().standing, Standing::Gone)
    }
}

/// Whether an answer means that the runner does not hold the task any more.
pub(super) fn is_lost(error: &ClientError) -> bool {
    matches!(error.code(), "CONFLICT" | "NOT_FOUND" | "UNAUTHENTICATED")
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;
    use crate::clock::Timestamp;

    fn link() -> Link {
        let client = GraphqlClient::new("http://127.0.0.1:1").unwrap();
        Link::new(client, Clock::system(), Rng::seeded(1))
    }

    fn session() -> Credentials {
        Credentials::Bearer(SecretString::from("jwt"))
    }

    #[tokio::test]
    async fn a_session_is_taken_back_once_and_its_successor_stays() {
        let link = link();
        link.publish(session());
        let (first, _) = link.session().await.unwrap();
        link.take_back(first);
        link.session_wanted().await;
        link.publish(session());
        link.take_back(first);
        let (second, _) = link.session().await.unwrap();
        assert!(second > first);
    }

    #[tokio::test]
    async fn nobody_waits_for_a_session_that_will_not_come() {
        let link = link();
        link.give_up();
        let input = ReleaseTaskInput { id: "T_1", attempt: 1 };
        let error = link.insist(|| link.release_task(&input)).await.unwrap_err();
        assert!(is_lost(&error), "{error}");
    }

    #[tokio::test]
    async fn answers_without_sense_are_not_asked_for_for_ever() {
        let (clock, hand) = Clock::manual(Timestamp::from_micros(0));
        let client = GraphqlClient::new("http://127.0.0.1:1").unwrap();
        let link = Link::new(client, clock, Rng::seeded(1));
        let mut calls = 0;
        let insisted = link.insist(|| {
            calls += 1;
            std::future::ready(Err::<(), _>(ClientError::Malformed("no".to_owned())))
        });
        let time_passes = async {
            for _ in 0..1_000 {
                hand.advance(Duration::from_secs(1));
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            outcome = insisted => assert!(outcome.is_err()),
            () = time_passes => {}
        }
        assert_eq!(calls, MALFORMED_ANSWERS + 1);
    }
}
