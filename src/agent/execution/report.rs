//! The last word about a task.

use std::time::Duration;

use tracing::{error, warn};

use super::super::assignments::Assignment;
use super::super::link::is_lost;
use super::super::operations::{ReleaseTaskInput, Task, TaskOutput, TaskStatus, UpdateTaskInput};
use super::super::workshop::Workshop;

/// How long the end of a task is told to a server that does not answer. It queues the task again then.
pub(super) const PATIENCE: Duration = Duration::from_mins(1);

/// Whoever stops the agent waits for it.
pub(super) const PATIENCE_WHEN_LEAVING: Duration = Duration::from_secs(5);

/// How long an answer may be on its way when the runner is gone: one that is for a single task is removed with its end.
const LAST_ANSWER: Duration = Duration::from_secs(1);

/// What became of the last word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// The server knows.
    Yes,
    /// The server does not know.
    No,
    /// The runner does not hold the task any more.
    Lost,
}

/// Says how a task ended.
///
/// The status matters more than the outputs: when the server refuses it with them, it is told without those of the
/// script, and then without any.
pub(super) async fn report(
    shop: &Workshop,
    task: &Task,
    assignment: &Assignment,
    status: TaskStatus,
    outputs: [&[TaskOutput]; 2],
) -> Heard {
    let [of_agent, of_script] = outputs;
    let all = [of_agent, of_script].concat();
    let tries: [&[TaskOutput]; 3] = [&all, of_agent, &[]];
    let too_late = async {
        assignment.forgotten().await;
        shop.clock.sleep(LAST_ANSWER).await;
    };
    tokio::select! {
        heard = insist(shop, task, status, tries) => heard,
        () = too_late => Heard::Lost,
        () = shop.clock.sleep(PATIENCE) => {
            error!(task = task.id.as_str(), "the server did not hear how the task ended, and will queue it again");
            Heard::No
        }
    }
}

async fn insist(shop: &Workshop, task: &Task, status: TaskStatus, tries: [&[TaskOutput]; 3]) -> Heard {
    let id = task.id.as_str();
    for outputs in tries {
        let input = UpdateTaskInput { id, attempt: task.attempt, status, outputs };
        match shop.link.insist(|| shop.link.update_task(&input)).await {
            Ok(()) => return Heard::Yes,
            Err(error) if is_lost(&error) => return Heard::Lost,
            Err(error) => warn!(task = id, outputs = outputs.len(), %error, "the server refuses how the task ended"),
        }
    }
    Heard::No
}

/// Hands a task back, so that another runner can have it at once.
pub(super) async fn hand_back(shop: &Workshop, task: &Task) {
    let input = ReleaseTaskInput { id: &task.id, attempt: task.attempt };
    let outcome = tokio::select! {
        outcome = shop.link.insist(|| shop.link.release_task(&input)) => outcome.map_err(|error| error.to_string()),
        () = shop.clock.sleep(PATIENCE_WHEN_LEAVING) => Err("no answer in time".to_owned()),
    };
    if let Err(error) = outcome {
        warn!(task = input.id, %error, "the task could not be handed back; the server will notice by itself");
    }
}
