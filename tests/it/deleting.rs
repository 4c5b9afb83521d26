//! Repositories and accounts that are deleted while there is work in them, or much history.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::cleanup::{add_tasks, count};
use crate::support::{Client, Database, TestApp, TestRunner, new_task, on_both};

const DELETE_REPOSITORY: &str =
    "mutation($name: String!) { deleteRepository(input: {owner: \"acme\", name: $name}) { deletedId } }";
const DELETE_ORGANIZATION: &str = "mutation { deleteOrganization(input: {login: \"acme\"}) { deletedId } }";
const DELETE_USER: &str = "mutation { deleteUser(input: {login: \"olga\"}) { deletedId } }";
const ENQUEUE: &str = "mutation($input: EnqueueTaskInput!) { enqueueTask(input: $input) { task { id } } }";
const SET_DISABLED: &str = "mutation($input: SetRunnersDisabledInput!) { setRunnersDisabled(input: $input) { \
    matchedCount refused { id } } }";

/// How many tasks wait and run, as memory knows it.
async fn live(app: &TestApp) -> Value {
    let query = "{ instance { fleet { queuedTasks runningTasks } } }";
    app.admin().data(query, json!({})).await["instance"]["fleet"].clone()
}

fn tasks(queued: u32, running: u32) -> Value {
    json!({"queuedTasks": queued, "runningTasks": running})
}

async fn is_busy(app: &TestApp, runner: &TestRunner) -> Value {
    let query = "query($id: ID!) { runner(id: $id) { busy } }";
    app.admin().data(query, json!({"id": runner.id})).await["runner"]["busy"].clone()
}

/// Who was given the tasks so far, so many times each.
async fn add_attempts(app: &TestApp, times: i64) {
    for attempt in 1..=times {
        let statement = format!(
            "INSERT INTO task_attempts (task_id, attempt, runner_id, started_at) SELECT id, {attempt}, 1, 0 FROM tasks"
        );
        app.database.run(&statement).await;
    }
}

/// Checks how many tasks there are, each with a payload.
async fn has_tasks(app: &TestApp, expected: i64) {
    for table in ["tasks", "task_payloads"] {
        assert_eq!(count(&app.database, table).await, expected, "{table}");
    }
}

/// The organization acme, a task that a runner of the instance has, and two that wait.
async fn at_work(app: &TestApp) -> (Client, TestRunner, String) {
    let (olga, runner, id) = app.running_task().await;
    for _ in 0..2 {
        olga.enqueue(json!({})).await;
    }
    assert_eq!((live(app).await, is_busy(app, &runner).await), (tasks(2, 1), json!(true)));
    (olga, runner, id)
}

/// Checks that nobody has or waits for a task any more.
async fn nothing_is_left(app: &TestApp, runner: &TestRunner, id: &str) {
    assert_eq!((live(app).await, is_busy(app, runner).await), (tasks(0, 0), json!(false)));
    has_tasks(app, 0).await;
    assert_eq!(runner.report(id, "SUCCEEDED").await.code(), "NOT_FOUND");
    assert_eq!(runner.fetch(0).await["task"], Value::Null);
}

on_both! {
    async fn a_repository_goes_with_its_tasks(database) {
        let app = TestApp::start(database).await;
        let (olga, runner, id) = at_work(&app).await;
        olga.data(DELETE_REPOSITORY, json!({"name": "api"})).await;
        nothing_is_left(&app, &runner, &id).await;
    }

    async fn an_organization_goes_with_its_tasks(database) {
        let app = TestApp::start(database).await;
        let (olga, runner, id) = at_work(&app).await;
        olga.data(DELETE_ORGANIZATION, json!({})).await;
        nothing_is_left(&app, &runner, &id).await;
    }

    async fn tasks_that_come_and_go_meanwhile_leave_nothing_behind(database) {
        let app = TestApp::start(database).await;
        let olga = app.acme().await;
        let mut runners = Vec::new();
        for number in 0..3 {
            runners.push(app.register_runner(&format!("build-{number}")).await);
        }
        for round in 0..20 {
            let name = format!("repository-{round}");
            app.repository(&olga, "acme", &name).await;
            let task = json!({"repository": format!("acme/{name}")});
            for _ in 0..3 {
                olga.enqueue(task.clone()).await;
            }
            let ended = olga.enqueue(task.clone()).await;
            assert_eq!(olga.cancel(&ended).await.task_status(), "CANCELLED");
            let input = json!({"input": new_task(task)});
            let enqueueing = (0..4).map(|_| olga.post(ENQUEUE, input.clone()));
            let fetching = runners.iter().map(|runner| runner.try_fetch(0));
            let (deleted, enqueued, fetched, retried) = tokio::join!(
                olga.post(DELETE_REPOSITORY, json!({"name": name})),
                join_all(enqueueing),
                join_all(fetching),
                olga.retry(&ended),
            );
            assert_eq!(deleted.code(), "", "round {round}: {}", deleted.body);
            for answer in enqueued.iter().chain([&retried]) {
                let is_expected = ["", "NOT_FOUND", "CONFLICT"].contains(&answer.code().as_str());
                assert!(is_expected, "round {round}: {}", answer.body);
            }
            for answer in &fetched {
                assert_eq!(answer.code(), "", "round {round}: {}", answer.body);
            }
            assert_eq!(live(&app).await, tasks(0, 0), "round {round}");
        }
        for runner in &runners {
            assert_eq!(is_busy(&app, runner).await, false);
        }
        has_tasks(&app, 0).await;
    }

    async fn a_long_history_goes_with_its_repository(database) {
        let app = TestApp::start(database).await;
        let olga = app.acme().await;
        app.repository(&olga, "acme", "web").await;
        let now = app.now().as_micros();
        add_tasks(&app.database, "acme/api", 1..901, now, (2, 1)).await;
        add_tasks(&app.database, "acme/web", 1_001..1_006, now, (1, 1)).await;
        add_attempts(&app, 2).await;
        olga.enqueue(json!({})).await;
        // For one there may be more to come.
        app.database.run("UPDATE tasks SET reports_until = 9000000000000000000 WHERE id = 1").await;
        olga.data(DELETE_REPOSITORY, json!({"name": "api"})).await;
        has_tasks(&app, 5).await;
        assert_eq!(live(&app).await, tasks(0, 0));
        for (table, expected) in [("task_log_chunks", 5), ("task_outputs", 5), ("task_attempts", 10)] {
            assert_eq!(count(&app.database, table).await, expected, "{table}");
        }
        olga.data(DELETE_ORGANIZATION, json!({})).await;
        has_tasks(&app, 0).await;
    }

    async fn a_user_who_has_to_stay_keeps_everything(database) {
        let app = TestApp::start(database).await;
        let olga = app.acme().await;
        app.repository(&olga, "olga", "own").await;
        add_tasks(&app.database, "olga/own", 1..11, app.now().as_micros(), (1, 0)).await;
        let id = olga.enqueue(json!({})).await;
        let named = "SELECT count(*) FROM tasks WHERE created_by IS NOT NULL";
        assert_eq!(olga.code(DELETE_USER, json!({})).await, "CONFLICT");
        has_tasks(&app, 11).await;
        assert_eq!((count(&app.database, "task_log_chunks").await, app.database.number(named).await), (10, 1));

        let otto = app.user("otto").await;
        app.add_member(&olga, "acme", "otto", "OWNER").await;
        olga.data(DELETE_USER, json!({})).await;
        has_tasks(&app, 1).await;
        assert_eq!((count(&app.database, "task_log_chunks").await, app.database.number(named).await), (0, 0));
        assert_eq!((otto.task(&id).await["status"].clone(), live(&app).await), (json!("QUEUED"), tasks(1, 0)));
    }
}

/// Two that need many of the same rows must not wait for each other in a circle.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_runners_are_disabled_while_presence_is_written() {
    const COPIES: i64 = 300;
    let app = TestApp::start(Database::Postgres).await;
    app.register_runner("build").await;
    // Copies, which lie the other way round in the table.
    let columns = "scope_id, owner_id, name, name_key, description, note, ephemeral, disabled, token_hash, \
                   token_generation, token_issued_at, registered_with, last_online_at, last_active_at, status, \
                   status_since, transition_count, created_at, updated_at";
    let copies = format!(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {COPIES}) \
         INSERT INTO runners (id, uuid, {columns}) \
         SELECT {COPIES} + 1 - n.i, 'copy-' || n.i, {columns} FROM runners CROSS JOIN n"
    );
    app.database.run(&copies).await;
    let app = app.restart().await;
    let admin = app.admin();
    let disabling = async {
        for round in 0..50 {
            let input = json!({"scope": {"global": true}, "disabled": round % 2 == 0});
            let answer = admin.post(SET_DISABLED, json!({"input": input})).await;
            assert_eq!(answer.code(), "", "round {round}: {}", answer.body);
            let matched = &answer.body["data"]["setRunnersDisabled"]["matchedCount"];
            assert_eq!(*matched, json!(COPIES + 1), "round {round}");
        }
    };
    let writing = async {
        for _ in 0..200 {
            app.advance(Duration::from_millis(1));
            for id in 1..=COPIES {
                app.fleet.presence.heartbeat(id);
            }
            app.fleet.presence.write(&app.fleet.store).await.unwrap();
        }
    };
    tokio::join!(disabling, writing);
}
