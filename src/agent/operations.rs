//! The documents that a runner sends, and the shapes of what it sends with them and gets back.
//!
//! The documents are constants: each is parsed by the server once and then known to it, and a test can hold all of them
//! against the schema.

mod tasks;

use std::time::Duration;

use secrecy::SecretString;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use uuid::Uuid;

use crate::clock::Timestamp;

pub use self::tasks::{APPEND_TASK_LOG, FETCH_TASK, RELEASE_TASK, UPDATE_TASK};
pub(super) use self::tasks::{
    AppendTaskLogData, AppendTaskLogInput, FetchTaskData, FetchTaskInput, FetchedTask, ReleaseTaskInput, Task,
    TaskOutput, TaskStatus, UpdateTaskInput,
};

/// Registers a runner, or takes over the record of the same machine.
pub const REGISTER_RUNNER: &str = "mutation AgentRegister($input: RegisterRunnerInput!) {
  registerRunner(input: $input) { runner { id uuid name ephemeral } secret }
}";

/// Trades the runner's secret for a session, which is cheap to check.
pub const OPEN_RUNNER_SESSION: &str = "mutation AgentOpenSession {
  openRunnerSession { token expiresAt }
}";

/// Says what the runner is, once after it has started.
pub const DECLARE_RUNNER: &str = "mutation AgentDeclare($input: DeclareRunnerInput!) {
  declareRunner(input: $input) { runner { id } }
}";

/// Says that the runner is here, and asks what it shall do.
pub const HEARTBEAT: &str = "mutation AgentHeartbeat($input: HeartbeatInput!) {
  heartbeat(input: $input) {
    serverTime nextHeartbeatInSeconds directives { __typename ... on CancelTask { taskId } }
  }
}";

/// Hears what the runner shall do without waiting for the next heartbeat.
pub const RUNNER_DIRECTIVES: &str = "subscription AgentDirectives {
  runnerDirectives { __typename ... on CancelTask { taskId } }
}";

/// Replaces the runner's secret. Every session ends.
pub const ROTATE_RUNNER_TOKEN: &str = "mutation AgentRotateToken {
  rotateRunnerToken(input: {}) { secret previousValidUntil }
}";

/// Removes the runner from the server.
pub const DEREGISTER_RUNNER: &str = "mutation AgentDeregister {
  deregisterRunner { deletedId }
}";

/// Every document of this module.
pub const ALL: &[&str] = &[
    REGISTER_RUNNER,
    OPEN_RUNNER_SESSION,
    DECLARE_RUNNER,
    HEARTBEAT,
    RUNNER_DIRECTIVES,
    ROTATE_RUNNER_TOKEN,
    FETCH_TASK,
    UPDATE_TASK,
    APPEND_TASK_LOG,
    RELEASE_TASK,
    DEREGISTER_RUNNER,
];

/// A runner that is told nothing useful about its next heartbeat comes back after this time.
const FALLBACK_INTERVAL: Duration = Duration::from_secs(10);

/// The variables of a document without any.
#[derive(Serialize)]
pub(super) struct NoVariables {}

/// The variables of a document that takes one input.
#[derive(Serialize)]
pub(super) struct Input<T> {
    pub(super) input: T,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RegisterRunnerInput<'a> {
    pub(super) token: &'a str,
    pub(super) name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) labels: Option<&'a [String]>,
    pub(super) version: &'static str,
    pub(super) os: &'static str,
    pub(super) arch: &'static str,
    /// Left out unless it is true: then the registration token decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ephemeral: Option<bool>,
    pub(super) machine_id: Uuid,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DeclareRunnerInput<'a> {
    /// Left out when there are none to say: an empty list would take those away that the runner was given by people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) labels: Option<&'a [String]>,
    pub(super) version: &'static str,
    pub(super) os: &'static str,
    pub(super) arch: &'static str,
}

/// What a runner says of its work. Those who have none leave both out.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct HeartbeatInput {
    /// Every task that the runner holds: what is missing here is given to another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) running_task_ids: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) free_slots: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RegisterRunnerData {
    pub(super) register_runner: Registration,
}

#[derive(Deserialize)]
pub(super) struct Registration {
    pub(super) runner: RegisteredRunner,
    pub(super) secret: SecretString,
}

#[derive(Deserialize)]
pub(super) struct RegisteredRunner {
    pub(super) id: String,
    pub(super) uuid: Uuid,
    pub(super) name: String,
    pub(super) ephemeral: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OpenRunnerSessionData {
    pub(super) open_runner_session: OpenedSession,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OpenedSession {
    pub(super) token: SecretString,
    #[serde(deserialize_with = "timestamp")]
    pub(super) expires_at: Timestamp,
}

#[derive(Deserialize)]
pub(super) struct HeartbeatData {
    pub(super) heartbeat: Heartbeat,
}

/// What the server answers to a heartbeat.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Heartbeat {
    #[serde(deserialize_with = "timestamp")]
    pub(super) server_time: Timestamp,
    next_heartbeat_in_seconds: f64,
    pub(super) directives: Vec<Directive>,
}

impl Heartbeat {
    /// How long to wait before the next one, within bounds that no number in an answer can break.
    pub(super) fn interval(&self) -> Duration {
        let seconds = self.next_heartbeat_in_seconds.clamp(0.05, 3_600.0);
        Duration::try_from_secs_f64(seconds).unwrap_or(FALLBACK_INTERVAL)
    }

    /// Whether the runner is disabled and gets no new work.
    pub(super) fn is_draining(&self) -> bool {
        self.directives.iter().any(|directive| directive.told() == Told::Drain)
    }

    /// Whether the runner shall replace its secret.
    pub(super) fn asks_to_rotate(&self) -> bool {
        self.directives.iter().any(|directive| directive.told() == Told::Rotate)
    }
}

/// Something that the server wants of a runner.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Directive {
    #[serde(rename = "__typename")]
    kind: String,
    task_id: Option<String>,
}

/// What a directive says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Told<'a> {
    /// End this task.
    Cancel(&'a str),
    /// Replace the runner's secret.
    Rotate,
    /// Take nothing new.
    Drain,
    /// What an agent need not know, or what a newer server says.
    Nothing,
}

impl Directive {
    pub(super) fn told(&self) -> Told<'_> {
        match (self.kind.as_str(), &self.task_id) {
            ("CancelTask", Some(id)) => Told::Cancel(id),
            ("RotateToken", _) => Told::Rotate,
            ("Drain", _) => Told::Drain,
            _ => Told::Nothing,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RunnerDirectivesData {
    pub(super) runner_directives: Directive,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RotateRunnerTokenData {
    pub(super) rotate_runner_token: RotatedToken,
}

/// A runner's new secret.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RotatedToken {
    pub(super) secret: SecretString,
    /// Until when the one before works, unless this one is used earlier.
    #[serde(deserialize_with = "timestamp")]
    pub(super) previous_valid_until: Timestamp,
}

fn timestamp<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    let text = String::deserialize(deserializer)?;
    let time = chrono::DateTime::parse_from_rfc3339(&text).map_err(D::Error::custom)?;
    Ok(Timestamp::from_micros(time.timestamp_micros()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn heartbeat(seconds: f64, kinds: &[&str]) -> Heartbeat {
        let directives: Vec<_> = kinds.iter().map(|kind| json!({"__typename": kind})).collect();
        let time = "2026-01-31T12:00:00.25+01:00";
        serde_json::from_value(json!({"serverTime": time, "nextHeartbeatInSeconds": seconds, "directives": directives}))
            .unwrap()
    }

    #[test]
    fn an_interval_is_never_absurd() {
        assert_eq!(heartbeat(20.0, &[]).interval(), Duration::from_secs(20));
        assert_eq!(heartbeat(0.5, &[]).interval(), Duration::from_millis(500));
        assert_eq!(heartbeat(-3.0, &[]).interval(), Duration::from_millis(50));
        assert_eq!(heartbeat(1e300, &[]).interval(), Duration::from_hours(1));
    }

    #[test]
    fn directives_and_times_are_understood() {
        let beat = heartbeat(20.0, &["TaskAvailable", "Drain"]);
        assert!(beat.is_draining());
        assert_eq!(beat.server_time.to_rfc3339(), "2026-01-31T11:00:00.250000Z");
        assert!(!beat.asks_to_rotate() && heartbeat(20.0, &["RotateToken"]).asks_to_rotate());
        let unknown = heartbeat(20.0, &["SomethingNew"]);
        assert!(!unknown.is_draining() && !unknown.asks_to_rotate());
        let cancel: Directive = serde_json::from_value(json!({"__typename": "CancelTask", "taskId": "T_1"})).unwrap();
        assert_eq!(cancel.told(), Told::Cancel("T_1"));
    }

    #[test]
    fn what_a_runner_does_not_say_is_left_out() {
        assert_eq!(serde_json::to_value(HeartbeatInput::default()).unwrap(), json!({}));
        let input = HeartbeatInput { running_task_ids: Some(Vec::new()), free_slots: Some(2) };
        assert_eq!(serde_json::to_value(input).unwrap(), json!({"runningTaskIds": [], "freeSlots": 2}));
    }
}
