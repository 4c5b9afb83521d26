//! The documents of a runner's work, and their shapes.

use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Asks for a task, and waits a while for one.
pub const FETCH_TASK: &str = "mutation AgentFetchTask($input: FetchTaskInput!) {
  fetchTask(input: $input) {
    task { id name payload attempt timeoutSeconds repository { path } } jobToken
  }
}";

/// Says how a task ended.
pub const UPDATE_TASK: &str = "mutation AgentUpdateTask($input: UpdateTaskInput!) {
  updateTask(input: $input) { task { status } }
}";

/// Adds lines to the log of a task. Sending the same lines again changes nothing.
pub const APPEND_TASK_LOG: &str = "mutation AgentAppendTaskLog($input: AppendTaskLogInput!) {
  appendTaskLog(input: $input) { acknowledgedLine }
}";

/// Hands a task back, for another runner to take.
pub const RELEASE_TASK: &str = "mutation AgentReleaseTask($input: ReleaseTaskInput!) {
  releaseTask(input: $input) { task { status } }
}";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::agent) struct FetchTaskInput {
    pub(in crate::agent) wait_seconds: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::agent) struct FetchTaskData {
    pub(in crate::agent) fetch_task: FetchTaskAnswer,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::agent) struct FetchTaskAnswer {
    task: Option<Task>,
    job_token: Option<SecretString>,
}

impl FetchTaskAnswer {
    /// The task, if there was one.
    pub(in crate::agent) fn into_fetched(self) -> Option<FetchedTask> {
        Some(FetchedTask { task: self.task?, job_token: self.job_token })
    }
}

/// A task as the server gave it out. It is not shown anywhere: its payload holds secrets.
pub(in crate::agent) struct FetchedTask {
    pub(in crate::agent) task: Task,
    /// By which what runs in the task shows itself to the server.
    pub(in crate::agent) job_token: Option<SecretString>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::agent) struct Task {
    pub(in crate::agent) id: String,
    pub(in crate::agent) name: String,
    pub(in crate::agent) payload: Value,
    pub(in crate::agent) attempt: u32,
    pub(in crate::agent) timeout_seconds: u64,
    pub(in crate::agent) repository: TaskRepository,
}

#[derive(Deserialize)]
pub(in crate::agent) struct TaskRepository {
    pub(in crate::agent) path: String,
}

#[derive(Serialize)]
pub(in crate::agent) struct UpdateTaskInput<'a> {
    pub(in crate::agent) id: &'a str,
    /// Which attempt at the task speaks: what is left of one must not speak for the next.
    pub(in crate::agent) attempt: u32,
    pub(in crate::agent) status: TaskStatus,
    pub(in crate::agent) outputs: &'a [TaskOutput],
}

/// How a task can end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(in crate::agent) enum TaskStatus {
    Succeeded,
    Failed,
    Cancelled,
}

/// A value that a task leaves behind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(in crate::agent) struct TaskOutput {
    pub(in crate::agent) name: String,
    pub(in crate::agent) value: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::agent) struct AppendTaskLogInput<'a> {
    pub(in crate::agent) id: &'a str,
    pub(in crate::agent) attempt: u32,
    /// The number of the first line, from 0.
    pub(in crate::agent) start_line: u64,
    pub(in crate::agent) lines: &'a [String],
    /// Whether nothing comes after.
    #[serde(rename = "final")]
    pub(in crate::agent) is_final: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::agent) struct AppendTaskLogData {
    pub(in crate::agent) append_task_log: AppendTaskLogAnswer,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::agent) struct AppendTaskLogAnswer {
    /// How many lines the server has: the number of the next.
    pub(in crate::agent) acknowledged_line: u64,
}

#[derive(Serialize)]
pub(in crate::agent) struct ReleaseTaskInput<'a> {
    pub(in crate::agent) id: &'a str,
    pub(in crate::agent) attempt: u32,
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_task_is_read_and_its_absence_too() {
        let answer = json!({"fetchTask": {
            "task": {
                "id": "T_1", "name": "build", "payload": {"run": "make"}, "attempt": 2, "timeoutSeconds": 60,
                "repository": {"path": "acme/api"},
            },
            "jobToken": "jwt",
        }});
        let data: FetchTaskData = serde_json::from_value(answer).unwrap();
        let fetched = data.fetch_task.into_fetched().unwrap();
        assert_eq!((fetched.task.id.as_str(), fetched.task.attempt, fetched.task.timeout_seconds), ("T_1", 2, 60));
        assert_eq!(fetched.task.repository.path, "acme/api");
        assert_eq!(fetched.job_token.unwrap().expose_secret(), "jwt");

        let none = json!({"fetchTask": {"task": null, "jobToken": null}});
        let data: FetchTaskData = serde_json::from_value(none).unwrap();
        assert!(data.fetch_task.into_fetched().is_none());
    }

    #[test]
    fn what_is_sent_has_the_names_of_the_schema() {
        let lines = ["a".to_owned()];
        let input = AppendTaskLogInput { id: "T_1", attempt: 2, start_line: 3, lines: &lines, is_final: true };
        let expected = json!({"id": "T_1", "attempt": 2, "startLine": 3, "lines": ["a"], "final": true});
        assert_eq!(serde_json::to_value(input).unwrap(), expected);
        let outputs = [TaskOutput { name: "a".to_owned(), value: "b".to_owned() }];
        let input = UpdateTaskInput { id: "T_1", attempt: 2, status: TaskStatus::Succeeded, outputs: &outputs };
        let outputs = json!([{"name": "a", "value": "b"}]);
        let expected = json!({"id": "T_1", "attempt": 2, "status": "SUCCEEDED", "outputs": outputs});
        assert_eq!(serde_json::to_value(input).unwrap(), expected);
        let input = ReleaseTaskInput { id: "T_1", attempt: 2 };
        assert_eq!(serde_json::to_value(input).unwrap(), json!({"id": "T_1", "attempt": 2}));
    }
}
