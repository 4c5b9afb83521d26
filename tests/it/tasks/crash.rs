//! A server that is killed in the middle of the work: nothing is lost, and nothing is given out twice.
//!
//! These tests wait on the wall clock, since the server is another process.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rollcall::clock::Stopwatch;
use serde_json::{Value, json};

use super::text;
use crate::support::{Client, ServerProcess, Shown, TestDatabase, on_both};

const REGISTER: &str =
    "mutation($input: RegisterRunnerInput!) { registerRunner(input: $input) { runner { uuid } secret } }";
/// What a worker without a task says: that it has none, and that it wants one.
const NEXT: &str = "mutation { heartbeat(input: {runningTaskIds: []}) { serverTime } \
    fetchTask(input: {waitSeconds: 1}) { task { id attempt } } }";
const UPDATE: &str = "mutation($input: UpdateTaskInput!) { updateTask(input: $input) { task { status } } }";
const APPEND: &str = "mutation($input: AppendTaskLogInput!) { appendTaskLog(input: $input) { acknowledgedLine } }";
const COUNT: &str = "query($status: TaskStatus!) { tasks(filter: {statuses: [$status]}) { totalCount } }";

/// Tasks in the queue.
const TASKS: usize = 5_000;
const WORKERS: usize = 200;
/// Tasks that have ended when the server is killed.
const ENOUGH: usize = 2_000;
/// Lines of a log, how many of them go into one call, and how many are acknowledged when the server is killed.
const LINES: i64 = 700;
const AT_ONCE: i64 = 7;
const ENOUGH_LINES: i64 = 250;
/// What was given out and never arrived is queued again half a minute later.
const PATIENCE: Duration = Duration::from_mins(4);

/// What the workers were told.
#[derive(Default)]
struct Ledger {
    /// Tasks that were given out, each with its attempt.
    claims: Mutex<Vec<(String, i64)>>,
    /// Tasks whose end was acknowledged.
    ends: Mutex<Vec<String>>,
    is_over: AtomicBool,
}

async fn wait_until(what: &str, holds: impl AsyncFn() -> bool) {
    let watch = Stopwatch::start();
    while !holds().await {
        assert!(watch.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn pause() {
    tokio::time::sleep(Duration::from_millis(50)).await;
}

async fn register(server: &ServerProcess, name: &str) -> Client {
    let input = json!({"token": server.registration_token(), "name": name});
    let answer = server.client(Shown::Nothing).data(REGISTER, json!({"input": input})).await;
    let registered = &answer["registerRunner"];
    server.client(Shown::Runner { uuid: text(&registered["runner"]["uuid"]), secret: text(&registered["secret"]) })
}

/// Makes the repository admin/api with one task of this name; returns the task's id.
async fn first_task(admin: &Client, name: &str) -> String {
    let create = "mutation { createRepository(input: {owner: \"admin\", name: \"api\"}) { repository { id } } }";
    admin.data(create, json!({})).await;
    admin.enqueue(json!({"repository": "admin/api", "name": name})).await
}

/// Asks a server that may die of it: nothing when there was no answer, or it could not serve.
async fn attempt(client: &Client, query: &str, variables: Value) -> Option<Value> {
    let body = json!({"query": query, "variables": variables});
    let request = client.http.post(format!("{}/graphql", client.url)).headers(client.headers()).json(&body);
    let answer: Value = request.send().await.ok()?.json().await.ok()?;
    match answer["errors"][0]["extensions"]["code"].as_str() {
        Some("UNAVAILABLE" | "RATE_LIMITED") => None,
        Some(_) => panic!("{variables} was refused: {answer}"),
        None => Some(answer["data"].clone()),
    }
}

/// Takes one task after another, and reports each as done until that is acknowledged.
async fn work(client: Client, ledger: Arc<Ledger>) {
    while !ledger.is_over.load(Ordering::Relaxed) {
        let Some(next) = attempt(&client, NEXT, json!({})).await else {
            pause().await;
            continue;
        };
        let task = &next["fetchTask"]["task"];
        let Some(id) = task["id"].as_str() else { continue };
        ledger.claims.lock().unwrap().push((id.to_owned(), task["attempt"].as_i64().unwrap()));
        let report = json!({"input": {"id": id, "status": "SUCCEEDED"}});
        while attempt(&client, UPDATE, report.clone()).await.is_none() {
            pause().await;
        }
        ledger.ends.lock().unwrap().push(id.to_owned());
    }
}

/// Sends lines until all are acknowledged, or the server is gone; returns how many it has acknowledged.
async fn write(client: Client, id: String, acknowledged: Arc<AtomicI64>) -> i64 {
    let mut next = acknowledged.load(Ordering::Relaxed);
    while next < LINES {
        let lines: Vec<String> = (next..(next + AT_ONCE).min(LINES)).map(line).collect();
        let input = json!({"id": id, "startLine": next, "lines": lines});
        let Some(answer) = attempt(&client, APPEND, json!({"input": input})).await else { break };
        next = answer["appendTaskLog"]["acknowledgedLine"].as_i64().unwrap();
        acknowledged.store(next, Ordering::Relaxed);
    }
    next
}

fn line(number: i64) -> String {
    format!("line {number}")
}

on_both! {
    async fn every_task_is_done_once_although_the_server_was_killed(database) {
        let database = TestDatabase::create(database).await;
        let folder = database.folder.path();
        let server = ServerProcess::start(folder, &database.url, &[]).await;
        let port = server.port();
        first_task(&server.admin(), "many").await;
        database.copy_task("many", TASKS - 1).await;
        let ledger = Arc::new(Ledger::default());
        let mut clients = Vec::new();
        for number in 0..WORKERS {
            clients.push(register(&server, &format!("worker-{number}")).await);
        }
        let begin = |client| tokio::spawn(work(client, Arc::clone(&ledger)));
        let workers: Vec<_> = clients.into_iter().map(begin).collect();
        let is_enough = async || ledger.ends.lock().unwrap().len() >= ENOUGH;
        wait_until("a part of the tasks is done", is_enough).await;
        server.kill();
        let done = ledger.ends.lock().unwrap().len();
        assert!(done < TASKS, "the server died too late for this test to tell anything");

        let server = ServerProcess::start_on(port, folder, &database.url, &[]).await;
        let admin = server.admin();
        let count =
            async |status: &str| admin.data(COUNT, json!({"status": status})).await["tasks"]["totalCount"].clone();
        wait_until("all tasks are done", async || count("SUCCEEDED").await == TASKS).await;
        ledger.is_over.store(true, Ordering::Relaxed);
        for worker in workers {
            worker.await.unwrap();
        }

        for status in ["QUEUED", "RUNNING", "CANCELLING", "FAILED", "CANCELLED"] {
            assert_eq!(count(status).await, 0, "{status}");
        }
        let claims = ledger.claims.lock().unwrap().clone();
        let different: HashSet<&(String, i64)> = claims.iter().collect();
        assert_eq!(different.len(), claims.len(), "an attempt at a task was given to two workers");
        // What is done a second time was lost with its first answer, of which each worker had one under way.
        let repeated = claims.iter().filter(|(_, attempt)| *attempt > 1).count();
        assert!(repeated <= WORKERS, "{repeated} tasks were given out again");
        let ends = ledger.ends.lock().unwrap().clone();
        let different: HashSet<&String> = ends.iter().collect();
        assert_eq!((different.len(), ends.len()), (TASKS, TASKS), "tasks whose end was acknowledged");
        assert!(!server.log().contains("panicked"), "{}", server.log());
    }

    async fn log_lines_that_were_acknowledged_survive_kill_9(database) {
        let database = TestDatabase::create(database).await;
        let folder = database.folder.path();
        let server = ServerProcess::start(folder, &database.url, &[]).await;
        let port = server.port();
        let id = first_task(&server.admin(), "logged").await;
        let runner = register(&server, "writer").await;
        let fetched = attempt(&runner, NEXT, json!({})).await.unwrap();
        assert_eq!(fetched["fetchTask"]["task"]["id"], id);
        let acknowledged = Arc::new(AtomicI64::new(0));
        let writer = tokio::spawn(write(runner.clone(), id.clone(), Arc::clone(&acknowledged)));
        let is_enough = async || acknowledged.load(Ordering::Relaxed) >= ENOUGH_LINES;
        wait_until("a part of the log is written", is_enough).await;
        server.kill();
        let sent = writer.await.unwrap();
        assert!(sent < LINES, "the server died too late for this test to tell anything");

        let server = ServerProcess::start_on(port, folder, &database.url, &[]).await;
        let kept = server.admin().log(&id).await;
        let least = usize::try_from(sent).unwrap();
        assert!(kept.len() >= least, "{sent} lines were acknowledged, and {} are there", kept.len());
        // The runner goes on with what was not acknowledged; some of it may be there already.
        assert_eq!(write(runner.clone(), id.clone(), acknowledged).await, LINES);
        let report = json!({"input": {"id": id, "status": "SUCCEEDED"}});
        attempt(&runner, UPDATE, report).await.unwrap();
        assert_eq!(server.admin().log(&id).await, (0..LINES).map(line).collect::<Vec<_>>());
    }
}
