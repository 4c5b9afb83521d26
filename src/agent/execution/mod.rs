//! One task, from the answer that gave it out to the last word about it.

mod conduct;
mod folder;
mod lines;
mod mask;
mod outputs;
mod payload;
mod process;
mod report;
mod script;
mod upload;

use std::sync::Arc;

use secrecy::ExposeSecret;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::clock::Stopwatch;

use super::assignments::{Assignment, Order};
use super::operations::{FetchedTask, TaskOutput, TaskStatus};
use super::workshop::Workshop;

use self::conduct::End;
use self::folder::Folder;
use self::lines::lines_of;
use self::mask::Mask;
use self::payload::Payload;
use self::report::Heard;
use self::upload::{Delivery, Rest, deliver, deliver_rest};

/// Lines that wait for the server. When there is no room, the script waits too.
const QUEUE: usize = 256;

/// So many problems of a kind are told one by one.
const MOST_PROBLEMS: usize = 20;

/// How a task ended for this runner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// As it was told to the server, or would have been.
    Ended(TaskStatus),
    /// It was handed back.
    HandedBack,
    /// The server had taken it back.
    Lost,
}

impl Outcome {
    /// In the words of the API, where it has one.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Ended(TaskStatus::Succeeded) => "SUCCEEDED",
            Self::Ended(TaskStatus::Failed) => "FAILED",
            Self::Ended(TaskStatus::Cancelled) => "CANCELLED",
            Self::HandedBack => "handed back",
            Self::Lost => "lost",
        }
    }
}

/// A task that is over.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) outcome: Outcome,
    /// Whether the server knows.
    pub(super) is_reported: bool,
}

/// Runs a task and brings everything of it to the server.
pub(super) async fn perform(shop: Arc<Workshop>, fetched: FetchedTask, assignment: Assignment) -> Ended {
    let watch = Stopwatch::start();
    let task = &fetched.task;
    let (id, name) = (task.id.as_str(), task.name.as_str());
    let repository = task.repository.path.as_str();
    info!(task = id, name, repository, attempt = task.attempt, "task started");
    let over = CancellationToken::new();
    let execution = Execution { shop: &shop, fetched: &fetched, assignment: &assignment, over };
    let (outcome, is_reported) = Box::pin(execution.run()).await;
    info!(task = id, name, status = outcome.name(), seconds = watch.elapsed().as_secs(), "task ended");
    Ended { id: id.to_owned(), name: name.to_owned(), outcome, is_reported }
}

/// Hands a task back that was never started.
pub(super) async fn hand_back(shop: &Workshop, fetched: &FetchedTask) {
    info!(task = fetched.task.id.as_str(), "the task came too late and is handed back");
    report::hand_back(shop, &fetched.task).await;
}

/// A task under way.
struct Execution<'a> {
    shop: &'a Workshop,
    fetched: &'a FetchedTask,
    assignment: &'a Assignment,
    /// Nothing of the script is left, or will be.
    over: CancellationToken,
}

/// What there is to say of a task when nothing of it runs any more.
struct Verdict {
    end: End,
    /// Of the script alone: one that ends well in spite of being cancelled was cancelled.
    has_succeeded: bool,
    of_agent: Vec<TaskOutput>,
    of_script: Vec<TaskOutput>,
    folder: Option<Folder>,
}

impl Verdict {
    /// That of a task whose script never ran.
    fn unfit(folder: Option<Folder>) -> Self {
        Self { end: End::Exited, has_succeeded: false, of_agent: Vec::new(), of_script: Vec::new(), folder }
    }

    const fn status(&self) -> TaskStatus {
        match self.end {
            End::Cancelled => TaskStatus::Cancelled,
            End::Exited if self.has_succeeded => TaskStatus::Succeeded,
            _ => TaskStatus::Failed,
        }
    }
}

impl Execution<'_> {
    /// The outcome, and whether the server knows of it.
    async fn run(&self) -> (Outcome, bool) {
        let (lines, received) = mpsc::channel(QUEUE);
        let clock = &self.shop.clock;
        // Until then the script may well wait for a server that is away. After that it would be a slot that waits.
        let too_late = async {
            self.over.cancelled().await;
            let is_leaving = self.assignment.order() == Order::HandBack;
            clock.sleep(if is_leaving { report::PATIENCE_WHEN_LEAVING } else { report::PATIENCE }).await;
        };
        let task = &self.fetched.task;
        let (mut verdict, (delivery, rest)) =
            tokio::join!(self.play(lines), deliver(&self.shop.link, clock, task, self.assignment, received, too_late));
        let folder = verdict.folder.take();
        let said = self.conclude(&verdict, delivery, rest).await;
        if let Some(folder) = folder
            && let Err(error) = folder.remove().await
        {
            warn!(task = task.id.as_str(), %error, "the folder of the task could not be removed");
        }
        said
    }

    /// Runs the script; ends when nothing of it is left and all its lines are on their way.
    async fn play(&self, lines: mpsc::Sender<String>) -> Verdict {
        // However this ends, lines are not waited for without end after it.
        let _over = self.over.clone().drop_guard();
        match Payload::parse(&self.fetched.task.payload) {
            Ok(payload) => {
                let secrets = payload.secrets.values().chain(&self.fetched.job_token);
                let mask = Mask::new(secrets.map(ExposeSecret::expose_secret));
                let notes = Notes { mask: &mask, lines: &lines };
                if !payload.unknown.is_empty() {
                    let names = payload.unknown.join(", ");
                    notes.add(&format!("these keys of the payload mean nothing to this agent: {names}")).await;
                }
                self.run_script(&payload, &notes).await
            }
            Err(problems) => {
                self.over.cancel();
                let mask = Mask::new(self.fetched.job_token.iter().map(ExposeSecret::expose_secret));
                let notes = Notes { mask: &mask, lines: &lines };
                for problem in first_of(problems) {
                    notes.add(&format!("the payload cannot be used: {problem}")).await;
                }
                Verdict::unfit(None)
            }
        }
    }

    /// Says the last word.
    async fn conclude(&self, verdict: &Verdict, delivery: Delivery, rest: Rest) -> (Outcome, bool) {
        let task = &self.fetched.task;
        let id = task.id.as_str();
        if delivery == Delivery::Incomplete {
            warn!(task = id, "the end of the log could not be delivered in time");
        }
        let is_lost = delivery == Delivery::Lost || verdict.end == End::Lost;
        let heard = if is_lost {
            Heard::Lost
        } else if verdict.end == End::HandedBack {
            report::hand_back(self.shop, task).await;
            return (Outcome::HandedBack, false);
        } else {
            let outputs = [verdict.of_agent.as_slice(), verdict.of_script.as_slice()];
            report::report(self.shop, task, self.assignment, verdict.status(), outputs).await
        };
        if heard == Heard::Lost {
            warn!(task = id, "the server has taken the task back: it was cancelled, or is with another runner");
            return (Outcome::Lost, false);
        }
        if delivery == Delivery::Incomplete && heard == Heard::Yes {
            deliver_rest(&self.shop.link, &self.shop.clock, task, self.assignment, rest).await;
        }
        (Outcome::Ended(verdict.status()), heard == Heard::Yes)
    }
}

/// The first problems, and how many there are besides.
fn first_of(mut problems: Vec<String>) -> Vec<String> {
    let more = problems.len().saturating_sub(MOST_PROBLEMS);
    if more > 0 {
        problems.truncate(MOST_PROBLEMS);
        problems.push(format!("and {more} more"));
    }
    problems
}

/// Lines of the agent's own in the log of a task.
struct Notes<'a> {
    mask: &'a Mask,
    lines: &'a mpsc::Sender<String>,
}

impl Notes<'_> {
    async fn add(&self, text: &str) {
        for line in lines_of(&format!("rollcall: {text}"), self.mask) {
            // Whoever takes lines takes them until there are no more senders.
            let _ = self.lines.send(line).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_problems_the_first_are_told() {
        let problems = |count: usize| (0..count).map(|number| number.to_string()).collect::<Vec<_>>();
        assert_eq!(first_of(problems(MOST_PROBLEMS)), problems(MOST_PROBLEMS));
        let told = first_of(problems(MOST_PROBLEMS + 3));
        assert_eq!((told.len(), told[MOST_PROBLEMS].as_str()), (MOST_PROBLEMS + 1, "and 3 more"));
    }
}
