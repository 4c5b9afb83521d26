//! Ephemeral runners that are spent: with the clock, and by a cleanup.

use std::time::Duration;

use serde_json::json;

use super::{acme, add_tasks, count, ended, start};
use crate::support::{TestApp, TestRunner, eventually, on_both};

async fn ephemeral(app: &TestApp, name: &str) -> TestRunner {
    app.register(&app.registration_token, json!({"name": name, "ephemeral": true})).await
}

async fn is_there(app: &TestApp, runner: &TestRunner) -> bool {
    let query = "query($id: ID!) { runner(id: $id) { id } }";
    app.admin().data(query, json!({"id": runner.id})).await["runner"].is_object()
}

/// Lets what is spent be removed, as the server does each second, with a database that knows what memory knows.
async fn sweep(app: &TestApp) {
    app.fleet.presence.write(&app.fleet.store).await.unwrap();
    app.fleet.remove_spent_runners().await.unwrap();
}

/// Checks that a runner is removed, by this sweep or by one of the server's own.
async fn goes(app: &TestApp, runner: &TestRunner) {
    sweep(app).await;
    eventually("the runner is removed", async || !is_there(app, runner).await).await;
    let answer = runner.client.post("mutation { heartbeat(input: {}) { serverTime } }", json!({})).await;
    assert_eq!((answer.status, answer.code()), (401, "UNAUTHENTICATED".to_owned()));
}

async fn stays(app: &TestApp, runner: &TestRunner) {
    sweep(app).await;
    assert!(is_there(app, runner).await);
}

/// Lets a runner have had, or have, its one task, whose number is `id`.
async fn give_task(app: &TestApp, runner: &TestRunner, id: i64, status: &str, reports_until: i64) {
    let now = app.now().as_micros();
    add_tasks(&app.database, "acme/api", id..id + 1, now, (1, 1)).await;
    app.database
        .run(&format!(
            "UPDATE tasks SET status = '{status}', reports_until = {reports_until}, runner_name = 'named', \
             runner_uuid = '{uuid}', runner_id = (SELECT id FROM runners WHERE uuid = '{uuid}'), \
             finished_at = CASE WHEN '{status}' = 'RUNNING' THEN NULL ELSE finished_at END WHERE id = {id}; \
             UPDATE runners SET used_at = {now} WHERE uuid = '{uuid}'",
            uuid = runner.uuid
        ))
        .await;
}

on_both! {
    async fn one_that_never_got_a_task_goes_after_a_day(database) {
        let app = TestApp::start(database).await;
        let (never, here) = (ephemeral(&app, "never").await, ephemeral(&app, "here").await);
        let lasting = app.register_runner("lasting").await;
        app.advance(Duration::from_hours(23));
        here.heartbeat().await;
        app.advance(Duration::from_mins(59));
        here.heartbeat().await;
        for runner in [&never, &here, &lasting] {
            stays(&app, runner).await;
        }
        app.advance(Duration::from_mins(1));
        goes(&app, &never).await;
        goes(&app, &here).await;
        stays(&app, &lasting).await;
    }

    async fn one_that_went_away_goes_after_an_hour(database) {
        let app = TestApp::start(database).await;
        let (away, here) = (ephemeral(&app, "away").await, ephemeral(&app, "here").await);
        let lasting = app.register_runner("lasting").await;
        for runner in [&away, &here, &lasting] {
            runner.heartbeat().await;
        }
        app.advance(Duration::from_mins(1));
        here.heartbeat().await;
        app.advance(Duration::from_secs(3_599));
        here.heartbeat().await;
        stays(&app, &away).await;
        app.advance(Duration::from_secs(1));
        goes(&app, &away).await;
        for runner in [&here, &lasting] {
            stays(&app, runner).await;
        }
    }

    async fn one_that_had_its_task_goes_when_nothing_more_may_come(database) {
        let app = TestApp::start(database).await;
        acme(&app).await;
        let minute = 60_000_000;
        let runner = ephemeral(&app, "build").await;
        runner.heartbeat().await;
        give_task(&app, &runner, 1, "RUNNING", 0).await;
        stays(&app, &runner).await;
        let until = app.now().as_micros() + minute;
        app.database
            .run(&format!("UPDATE tasks SET status = 'SUCCEEDED', finished_at = 1, reports_until = {until}"))
            .await;
        stays(&app, &runner).await;
        app.advance(Duration::from_secs(59));
        runner.heartbeat().await;
        stays(&app, &runner).await;
        app.advance(Duration::from_secs(1));
        goes(&app, &runner).await;
        // What it did stays and names it.
        let named = format!("runner_name = 'named' AND runner_uuid = '{}'", runner.uuid);
        assert_eq!(app.database.number(&format!("SELECT count(*) FROM tasks WHERE {named}")).await, 1);
        assert_eq!(count(&app.database, "task_log_chunks").await, 1);
        assert_eq!(count(&app.database, "task_outputs").await, 1);
    }

    async fn one_whose_task_went_to_another_goes_at_once(database) {
        let app = TestApp::start(database).await;
        acme(&app).await;
        let (first, second) = (ephemeral(&app, "first").await, ephemeral(&app, "second").await);
        give_task(&app, &first, 1, "RUNNING", 0).await;
        give_task(&app, &second, 2, "RUNNING", 0).await;
        let taken = format!("UPDATE tasks SET runner_id = (SELECT id FROM runners WHERE uuid = '{}')", second.uuid);
        app.database.run(&taken).await;
        goes(&app, &first).await;
        stays(&app, &second).await;
    }

    async fn many_go_at_once(database) {
        let app = TestApp::start(database).await;
        let labels: Vec<String> = (0..90).map(|number| format!("label-{number}")).collect();
        for number in 0..12 {
            let input = json!({"name": format!("build-{number}"), "ephemeral": true, "labels": labels});
            app.register(&app.registration_token, input).await;
        }
        app.advance(Duration::from_hours(24));
        sweep(&app).await;
        eventually("all are removed", async || count(&app.database, "runners").await == 0).await;
        assert_eq!(count(&app.database, "runner_labels").await, 0);
        assert_eq!(app.fleet.presence.everything().total, 0);
    }

    async fn with_nothing_to_remove_it_is_one_statement(database) {
        let app = TestApp::start(database).await;
        acme(&app).await;
        for number in 0..5 {
            let runner = ephemeral(&app, &format!("build-{number}")).await;
            runner.heartbeat().await;
            if number > 2 {
                give_task(&app, &runner, number, "RUNNING", 0).await;
            }
        }
        let (removed, statements) = app.statements(app.fleet.remove_spent_runners()).await;
        assert_eq!((removed.unwrap(), statements), (0, 1));
    }

    async fn a_cleanup_removes_them_earlier(database) {
        let app = TestApp::start(database).await;
        acme(&app).await;
        let (away, waits) = (ephemeral(&app, "away").await, ephemeral(&app, "waits").await);
        let busy = ephemeral(&app, "busy").await;
        away.heartbeat().await;
        app.advance(Duration::from_mins(1));
        app.advance(Duration::from_mins(10));
        busy.heartbeat().await;
        give_task(&app, &busy, 1, "RUNNING", 0).await;
        stays(&app, &away).await;
        let id = start(&app.admin(), json!({"targets": ["EPHEMERAL_RUNNERS"], "olderThanSeconds": 600})).await;
        let job = ended(&app.admin(), &id).await;
        assert_eq!((&job["status"], &job["deleted"]), (&json!("SUCCEEDED"), &json!(1)));
        assert!(!is_there(&app, &away).await);
        for runner in [&waits, &busy] {
            stays(&app, runner).await;
        }
    }
}
