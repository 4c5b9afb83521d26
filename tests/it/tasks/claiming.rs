//! Each task is given to exactly one runner, at a price that does not grow with the queue.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{assert_refused, text};
use crate::support::{Client, TestApp, TestRunner, on_both};

/// On a busy machine a hundred callers wait for a connection longer than anybody would like.
const PATIENT: [(&str, &str); 2] = [("database-wait-timeout", "60s"), ("database-statement-timeout", "60s")];
/// Runners that ask at the same time, and the tasks that there are for them.
const RUNNERS: usize = 100;
const TASKS: usize = 1_000;

const DELETE: &str =
    "mutation($id: ID!, $ifIdle: Boolean) { deleteRunner(input: {id: $id, ifIdle: $ifIdle}) { deletedId } }";

/// Takes tasks until there are none left.
async fn take_all(runner: &TestRunner) -> Vec<String> {
    let mut taken = Vec::new();
    loop {
        let fetched = runner.fetch(0).await;
        if fetched["task"].is_null() {
            return taken;
        }
        assert_eq!(fetched["task"]["attempt"], 1, "{fetched}");
        taken.push(text(&fetched["task"]["id"]));
    }
}

/// Every running task, and the runner that has it.
async fn holders(client: &Client) -> BTreeMap<String, String> {
    let query = "query($after: String) { tasks(first: 100, after: $after, filter: {statuses: [RUNNING]}) { \
                 nodes { id attempt runner { id } } pageInfo { hasNextPage endCursor } } }";
    let (mut holders, mut after) = (BTreeMap::new(), Value::Null);
    loop {
        let answer = client.data(query, json!({"after": after})).await;
        let page = &answer["tasks"];
        for task in page["nodes"].as_array().unwrap() {
            assert_eq!(task["attempt"], 1, "{task}");
            holders.insert(text(&task["id"]), text(&task["runner"]["id"]));
        }
        if page["pageInfo"]["hasNextPage"] != true {
            return holders;
        }
        after = page["pageInfo"]["endCursor"].clone();
    }
}

/// How many statements it usually takes to give out a task.
async fn cost_of_a_claim(app: &TestApp, client: &Client, runner: &TestRunner) -> u64 {
    let mut costs = Vec::new();
    for _ in 0..5 {
        let id = client.enqueue(json!({"labels": ["x64"]})).await;
        let (fetched, statements) = app.statements(runner.fetch(0)).await;
        assert_eq!(fetched["task"]["id"], id);
        costs.push(statements);
    }
    costs.sort_unstable();
    costs[costs.len() / 2]
}

on_both! {
    async fn a_hundred_runners_take_each_of_a_thousand_tasks_once(database) {
        let app = TestApp::start_with(database, &PATIENT).await;
        let olga = app.acme().await;
        olga.enqueue(json!({"name": "many"})).await;
        app.copy_task("many", TASKS - 1).await;
        let summary = "{ instance { fleet { queuedTasks runningTasks } } }";
        let counts = app.admin().data(summary, json!({})).await;
        assert_eq!(counts["instance"]["fleet"], json!({"queuedTasks": TASKS, "runningTasks": 0}));
        let mut runners = Vec::new();
        for number in 0..RUNNERS {
            runners.push(app.register_runner(&format!("runner-{number}")).await);
        }

        let taken = join_all(runners.iter().map(take_all)).await;
        let count: usize = taken.iter().map(Vec::len).sum();
        let of_runner = |(runner, tasks): (&TestRunner, Vec<String>)| {
            let id = runner.id.clone();
            tasks.into_iter().map(move |task| (task, id.clone())).collect::<Vec<_>>()
        };
        let given: BTreeMap<String, String> = runners.iter().zip(taken).flat_map(of_runner).collect();
        assert_eq!((count, given.len()), (TASKS, TASKS), "tasks that were given out, and different ones among them");
        assert_eq!(holders(&olga).await, given);
        let counts = app.admin().data(summary, json!({})).await;
        assert_eq!(counts["instance"]["fleet"], json!({"queuedTasks": 0, "runningTasks": TASKS}));
    }

    async fn a_backlog_for_others_does_not_make_a_claim_dearer(database) {
        let app = TestApp::start_with(database, &PATIENT).await;
        let olga = app.acme().await;
        let runner = app.runner_in("acme", json!({"name": "one", "labels": ["x64"]})).await;
        let before = cost_of_a_claim(&app, &olga, &runner).await;
        // Older and more urgent than what comes.
        for (name, labels) in [("elsewhere", json!(["gpu", "x64"])), ("below", json!(["x64", "z"]))] {
            olga.enqueue(json!({"name": name, "labels": labels, "priority": 100})).await;
            app.copy_task(name, 9_999).await;
        }
        let count = app.admin().data("{ instance { fleet { queuedTasks } } }", json!({})).await;
        assert_eq!(count["instance"]["fleet"]["queuedTasks"], 20_000);
        assert_eq!(cost_of_a_claim(&app, &olga, &runner).await, before);
    }

    async fn a_fetch_that_finds_nothing_is_one_statement(database) {
        let app = TestApp::start(database).await;
        let olga = app.acme().await;
        let runner = app.runner_in("acme", json!({"name": "one", "labels": ["x64"]})).await;
        for labels in [json!(["gpu"]), json!(["gpu", "x64"])] {
            olga.enqueue(json!({"labels": labels})).await;
        }
        runner.fetch(0).await;
        let (fetched, statements) = app.statements(runner.fetch(0)).await;
        assert_eq!((&fetched["task"], statements), (&Value::Null, 1));
    }

    async fn a_task_that_cannot_be_given_out_fails_and_the_next_is_given_out(database) {
        let app = TestApp::start(database).await;
        let olga = app.acme().await;
        let runner = app.register_runner("one").await;
        let mut broken = Vec::new();
        for name in ["missing", "half", "empty"] {
            broken.push(olga.enqueue(json!({"name": name})).await);
        }
        let sound = olga.enqueue(json!({})).await;
        let task = |name: &str| format!("task_id IN (SELECT id FROM tasks WHERE name = '{name}')");
        app.database.run(&format!("DELETE FROM task_payloads WHERE {}", task("missing"))).await;
        for (name, payload) in [("half", r#"{"run": "#), ("empty", "")] {
            app.database.run(&format!("UPDATE task_payloads SET payload = '{payload}' WHERE {}", task(name))).await;
        }
        assert_eq!(runner.take().await, sound);
        for id in &broken {
            let task = olga.task(id).await;
            assert_eq!((&task["status"], &task["attempt"]), (&json!("FAILED"), &json!(0)), "{task}");
            assert_eq!(task["finishedAt"], app.now().to_rfc3339());
            assert!(text(&task["failureReason"]).contains("cannot be read"), "{task}");
        }
        let counts = app.admin().data("{ instance { fleet { queuedTasks runningTasks } } }", json!({})).await;
        assert_eq!(counts["instance"]["fleet"], json!({"queuedTasks": 0, "runningTasks": 1}));
        // With nothing else behind them it is the same.
        olga.enqueue(json!({"name": "last"})).await;
        app.database.run(&format!("DELETE FROM task_payloads WHERE {}", task("last"))).await;
        assert_eq!(runner.fetch(0).await["task"], Value::Null);
    }

    async fn a_runner_that_has_a_task_is_not_deleted_if_it_has_to_be_idle(database) {
        let app = TestApp::start(database).await;
        let (olga, runner, id) = app.running_task().await;
        let refused = app.admin().post(DELETE, json!({"id": runner.id, "ifIdle": true})).await;
        assert_refused(&refused, "CONFLICT", "");
        assert!(refused.message().contains("build"), "it names the task: {}", refused.message());
        assert_eq!(olga.cancel(&id).await.task_status(), "CANCELLING");
        let refused = app.admin().post(DELETE, json!({"id": runner.id, "ifIdle": true})).await;
        assert_refused(&refused, "CONFLICT", "");
        runner.finish(&id, "CANCELLED").await;
        let deleted = app.admin().data(DELETE, json!({"id": runner.id, "ifIdle": true})).await;
        assert_eq!(deleted["deleteRunner"]["deletedId"], runner.id);

        let runner = app.register_runner("two").await;
        let id = olga.enqueue(json!({})).await;
        assert_eq!(runner.take().await, id);
        app.admin().data(DELETE, json!({"id": runner.id})).await;
        let task = olga.task(&id).await;
        assert_eq!((&task["runner"], &task["runnerName"]), (&Value::Null, &json!("two")), "{task}");
    }

    async fn of_a_fetch_and_a_deletion_if_idle_at_the_same_time_one_succeeds(database) {
        let app = TestApp::start(database).await;
        let (olga, admin) = (app.acme().await, app.admin());
        for round in 0..20 {
            let runner = app.register_runner(&format!("racer-{round}")).await;
            runner.heartbeat().await;
            let id = olga.enqueue(json!({})).await;
            let deletion = admin.post(DELETE, json!({"id": runner.id, "ifIdle": true}));
            let (deleted, fetched) = tokio::join!(deletion, runner.try_fetch(0));
            let is_deleted = deleted.code().is_empty();
            let has_task = fetched.body["data"]["fetchTask"]["task"]["id"] == id;
            assert_ne!(is_deleted, has_task, "round {round}: {} and {}", deleted.body, fetched.body);
            let task = olga.task(&id).await;
            if is_deleted {
                let code = fetched.code();
                assert!(["", "UNAUTHENTICATED", "NOT_FOUND"].contains(&code.as_str()), "{}", fetched.body);
                assert_eq!((&task["status"], &task["attempt"]), (&json!("QUEUED"), &json!(0)), "round {round}");
                assert_eq!(olga.cancel(&id).await.task_status(), "CANCELLED");
            } else {
                assert_refused(&deleted, "CONFLICT", "");
                assert_eq!((&task["status"], &task["attempt"]), (&json!("RUNNING"), &json!(1)), "round {round}");
                runner.finish(&id, "SUCCEEDED").await;
            }
        }
    }
}
