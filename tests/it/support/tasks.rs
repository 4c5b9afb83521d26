//! Tasks, as tests make, take, report and follow them.

use std::time::Duration;

use rollcall::events::EventKind;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::{Answer, Client, Socket, TestApp, TestDatabase, TestRunner, eventually};

const ENQUEUE: &str = "mutation($input: EnqueueTaskInput!) { enqueueTask(input: $input) { task { id } } }";
const TASK: &str = "query($id: ID!) { task(id: $id) { id name status attempt maxAttempts failureReason runner { name } \
    runnerName outputs { name value } startedAt finishedAt } }";
const CANCEL: &str = "mutation($id: ID!) { cancelTask(input: {id: $id}) { task { status } } }";
const RETRY: &str = "mutation($id: ID!) { retryTask(input: {id: $id}) { task { status } } }";
const LOG: &str = "query($id: ID!, $after: String) { task(id: $id) { log(first: 100, after: $after) { \
    totalCount nodes { line text } pageInfo { hasNextPage endCursor } } } }";
const FETCH: &str = "mutation($wait: Int) { fetchTask(input: {waitSeconds: $wait}) { \
    task { id name payload attempt } jobToken } }";
const UPDATE: &str = "mutation($input: UpdateTaskInput!) { updateTask(input: $input) { task { status } } }";
const APPEND: &str = "mutation($input: AppendTaskLogInput!) { appendTaskLog(input: $input) { acknowledgedLine } }";
const RELEASE: &str = "mutation($id: ID!) { releaseTask(input: {id: $id}) { task { status } } }";
const HEARTBEAT: &str = "mutation($input: HeartbeatInput!) { heartbeat(input: $input) { \
    directives { __typename ... on CancelTask { taskId } } } }";

/// The columns that a copy of a waiting task has in common with it.
const COPIED: &str = "repository_id, owner_id, name, name_key, labels, label_node, priority, status, attempt, \
    max_attempts, timeout_seconds, due_at, reports_until, log_base, log_lines, log_bytes, log_truncated, log_final, \
    created_by, created_at, queued_at, updated_at";

/// A new task as the mutation takes it; what is not given is as usual.
pub fn new_task(mut input: Value) -> Value {
    let usual =
        [("repository", json!("acme/api")), ("name", json!("build")), ("labels", json!([])), ("payload", json!({}))];
    for (key, value) in usual {
        if input.get(key).is_none() {
            input[key] = value;
        }
    }
    input
}

impl TestDatabase {
    /// Queues copies of the one task of this name, far faster than they could be enqueued; they are younger than it.
    pub async fn copy_task(&self, name: &str, copies: usize) {
        self.run(&format!(
            "BEGIN; \
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {copies}) \
             INSERT INTO tasks (id, {COPIED}) SELECT id + i, {COPIED} FROM tasks CROSS JOIN n WHERE name = '{name}'; \
             INSERT INTO task_payloads (task_id, payload) SELECT id, '{{}}' FROM tasks WHERE name = '{name}' \
             AND id NOT IN (SELECT task_id FROM task_payloads); \
             COMMIT;"
        ))
        .await;
    }
}

impl TestApp {
    /// The organization acme with the owner olga and the repository acme/api; returns olga's client.
    pub async fn acme(&self) -> Client {
        let olga = self.user("olga").await;
        self.organization(&olga, "acme").await;
        self.repository(&olga, "acme", "api").await;
        olga
    }

    /// A task of acme/api that the runner `one` of the instance has; returns olga's client, the runner, and the id.
    pub async fn running_task(&self) -> (Client, TestRunner, String) {
        let olga = self.acme().await;
        let runner = self.register_runner("one").await;
        let id = olga.enqueue(json!({})).await;
        assert_eq!(runner.take().await, id);
        (olga, runner, id)
    }

    /// Registers a runner in a scope, given by its path. `input` has the fields of the mutation but the token.
    pub async fn runner_in(&self, path: &str, input: Value) -> TestRunner {
        let scope = match path {
            "" => json!({"global": true}),
            path if path.contains('/') => json!({"repository": path}),
            path => json!({"owner": path}),
        };
        let token = self.registration_token(&self.admin(), json!({"scope": scope})).await;
        self.register(&token, input).await
    }

    /// As [`TestDatabase::copy_task`], and lets the server know. A second passes then, so that what comes next has
    /// identifiers of its own.
    pub async fn copy_task(&self, name: &str, copies: usize) {
        self.database.copy_task(name, copies).await;
        self.fleet.load_tasks().await.unwrap();
        self.advance(Duration::from_secs(1));
    }

    /// Moves the clock, and does what the server does in its next round: its own may have been under way when the clock
    /// moved.
    pub async fn pass(&self, duration: Duration) {
        self.advance(duration);
        self.fleet.keep_once().await.unwrap();
    }

    /// Waits until so many calls wait for a task.
    pub async fn waits(&self, calls: usize) {
        let what = format!("{calls} calls wait for a task");
        eventually(&what, async || self.fleet.dispatch.waiting().0 == calls).await;
    }

    /// Subscribes on a socket, and waits until the server watches.
    pub async fn listen(&self, socket: &mut Socket, id: &str, kind: EventKind, query: &str, variables: Value) {
        socket.subscribe(id, query, variables).await;
        eventually("the server watches", async || self.fleet.bus.is_watched(kind)).await;
        socket.is_listening(id).await;
    }
}

impl Client {
    /// Enqueues a task and returns its id. `input` has what is not as usual: a task of acme/api for any runner.
    pub async fn enqueue(&self, input: Value) -> String {
        let answer = self.data(ENQUEUE, json!({"input": new_task(input)})).await;
        answer["enqueueTask"]["task"]["id"].as_str().unwrap().to_owned()
    }

    /// A task as this client sees it; null when it does not.
    pub async fn task(&self, id: &str) -> Value {
        self.data(TASK, json!({"id": id})).await["task"].clone()
    }

    pub async fn cancel(&self, id: &str) -> Answer {
        self.post(CANCEL, json!({"id": id})).await
    }

    pub async fn retry(&self, id: &str) -> Answer {
        self.post(RETRY, json!({"id": id})).await
    }

    /// The whole log of a task, page by page; its lines are numbered from 0.
    pub async fn log(&self, id: &str) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        let mut after = Value::Null;
        loop {
            let answer = self.data(LOG, json!({"id": id, "after": after})).await;
            let page = &answer["task"]["log"];
            for node in page["nodes"].as_array().unwrap() {
                assert_eq!(node["line"], lines.len(), "{page}");
                lines.push(node["text"].as_str().unwrap().to_owned());
            }
            if page["pageInfo"]["hasNextPage"] != true {
                assert_eq!(page["totalCount"], lines.len());
                return lines;
            }
            after = page["pageInfo"]["endCursor"].clone();
        }
    }
}

impl TestRunner {
    /// Asks for a task and returns the whole answer.
    pub async fn try_fetch(&self, wait_seconds: i64) -> Answer {
        self.client.post(FETCH, json!({"wait": wait_seconds})).await
    }

    /// Asks for a task, which may not be refused; returns the payload: `task` and `jobToken`.
    pub async fn fetch(&self, wait_seconds: i64) -> Value {
        let answer = self.try_fetch(wait_seconds).await;
        assert!(answer.body.get("errors").is_none(), "{}", answer.body);
        answer.body["data"]["fetchTask"].clone()
    }

    /// Waits for a task in the background, as long as one may.
    pub fn wait_for_task(&self) -> JoinHandle<Value> {
        let runner = self.clone();
        tokio::spawn(async move { runner.fetch(30).await })
    }

    /// Takes a task that has to be there; returns its id.
    pub async fn take(&self) -> String {
        let fetched = self.fetch(0).await;
        fetched["task"]["id"].as_str().unwrap_or_else(|| panic!("there is no task: {fetched}")).to_owned()
    }

    /// Reports on a task. `input` has the fields of the mutation.
    pub async fn update(&self, input: Value) -> Answer {
        self.client.post(UPDATE, json!({"input": input})).await
    }

    /// Reports a status and nothing else.
    pub async fn report(&self, id: &str, status: &str) -> Answer {
        self.update(json!({"id": id, "status": status})).await
    }

    /// Reports a status that has to be taken as it is.
    pub async fn finish(&self, id: &str, status: &str) {
        let answer = self.report(id, status).await;
        assert_eq!(answer.task_status(), status, "{}", answer.body);
    }

    /// Sends log lines. `input` has the fields of the mutation.
    pub async fn try_append(&self, input: Value) -> Answer {
        self.client.post(APPEND, json!({"input": input})).await
    }

    /// Sends log lines that have to be taken; returns how many the server has.
    pub async fn append(&self, id: &str, start_line: i64, lines: &[&str]) -> i64 {
        let answer = self.try_append(json!({"id": id, "startLine": start_line, "lines": lines})).await;
        let acknowledged = answer.body["data"]["appendTaskLog"]["acknowledgedLine"].as_i64();
        acknowledged.unwrap_or_else(|| panic!("the lines were not taken: {}", answer.body))
    }

    pub async fn release(&self, id: &str) -> Answer {
        self.client.post(RELEASE, json!({"id": id})).await
    }

    /// Sends a heartbeat with what the runner says of itself; returns the directives.
    pub async fn directives(&self, input: Value) -> Value {
        self.client.data(HEARTBEAT, json!({"input": input})).await["heartbeat"]["directives"].clone()
    }
}

impl Answer {
    /// The status of the task that a mutation returned.
    pub fn task_status(&self) -> &str {
        let payload = self.body["data"].as_object().and_then(|data| data.values().next());
        let status = payload.and_then(|payload| payload["task"]["status"].as_str());
        status.unwrap_or_else(|| panic!("no task came back: {}", self.body))
    }
}

impl Socket {
    /// The code of the error that an operation ends with; nothing else may come before.
    pub async fn end_of(&mut self, id: &str) -> String {
        let message = self.next_of(id).await;
        let is_next = message["type"] == "next";
        let errors = if is_next { &message["payload"]["errors"] } else { &message["payload"] };
        let code = errors[0]["extensions"]["code"].as_str().unwrap_or_else(|| panic!("no error: {message}"));
        if is_next {
            assert_eq!(self.next_of(id).await["type"], "complete");
        }
        code.to_owned()
    }
}
