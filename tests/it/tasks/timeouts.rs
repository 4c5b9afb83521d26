//! No task waits or runs for ever.

use std::time::Duration;

use serde_json::{Value, json};

use super::{assert_refused, text};
use crate::support::{TestApp, TestRunner, eventually, on_both};

/// A task that may run for 30 seconds, at its runner.
async fn short_task(app: &TestApp) -> (String, TestRunner) {
    let olga = app.acme().await;
    let runner = app.register_runner("one").await;
    let id = olga.enqueue(json!({"timeoutSeconds": 30})).await;
    assert_eq!(runner.take().await, id);
    (id, runner)
}

fn cancel(id: &str) -> Value {
    json!([{"__typename": "CancelTask", "taskId": id}])
}

on_both! {
    async fn a_task_that_runs_too_long_is_stopped_and_then_given_up(database) {
        let app = TestApp::start(database).await;
        let (id, runner) = short_task(&app).await;
        let admin = app.admin();
        app.pass(Duration::from_millis(29_999)).await;
        // Signs of life do not make it longer.
        assert_eq!(runner.report(&id, "RUNNING").await.task_status(), "RUNNING");
        assert_eq!(runner.directives(json!({})).await, json!([]));
        app.pass(Duration::from_millis(1)).await;
        assert_eq!(admin.task(&id).await["status"], "CANCELLING");
        assert_eq!(runner.directives(json!({"runningTaskIds": [id]})).await, cancel(&id));
        app.pass(Duration::from_millis(59_999)).await;
        assert_eq!(admin.task(&id).await["status"], "CANCELLING");
        assert_eq!(runner.directives(json!({})).await, cancel(&id));
        app.pass(Duration::from_millis(1)).await;
        let task = admin.task(&id).await;
        assert_eq!((&task["status"], &task["finishedAt"]), (&json!("FAILED"), &json!(app.now().to_rfc3339())));
        let reason = text(&task["failureReason"]);
        assert!(reason.contains("timeoutSeconds") && reason.contains("30"), "{reason}");
        assert_refused(&runner.report(&id, "SUCCEEDED").await, "CONFLICT", "");
    }

    async fn a_task_that_ran_too_long_has_failed_whatever_its_runner_calls_it(database) {
        for (said, status) in [("CANCELLED", "FAILED"), ("FAILED", "FAILED"), ("SUCCEEDED", "SUCCEEDED")] {
            let app = TestApp::start(database).await;
            let (id, runner) = short_task(&app).await;
            app.pass(Duration::from_secs(30)).await;
            assert_eq!(runner.report(&id, said).await.task_status(), status, "{said}");
            let reason = app.admin().task(&id).await["failureReason"].clone();
            assert_eq!(reason.is_string(), status == "FAILED", "{said}: {reason}");
            // The answer may have been lost.
            assert_eq!(runner.report(&id, said).await.task_status(), status, "{said}");
        }
    }

    async fn each_attempt_has_its_whole_time(database) {
        let app = TestApp::start(database).await;
        let (id, runner) = short_task(&app).await;
        app.pass(Duration::from_secs(20)).await;
        assert_eq!(runner.release(&id).await.task_status(), "QUEUED");
        app.pass(Duration::from_secs(20)).await;
        assert_eq!(runner.take().await, id);
        app.pass(Duration::from_secs(29)).await;
        assert_eq!(app.admin().task(&id).await["status"], "RUNNING");
        app.pass(Duration::from_secs(1)).await;
        assert_eq!(app.admin().task(&id).await["status"], "CANCELLING");
    }

    async fn a_task_that_nobody_takes_for_a_day_is_cancelled(database) {
        let app = TestApp::start(database).await;
        let olga = app.acme().await;
        let id = olga.enqueue(json!({"labels": ["gpu"]})).await;
        app.pass(Duration::from_secs(86_399)).await;
        assert_eq!(olga.task(&id).await["status"], "QUEUED");
        app.pass(Duration::from_secs(1)).await;
        let task = olga.task(&id).await;
        assert_eq!((&task["status"], &task["finishedAt"]), (&json!("CANCELLED"), &json!(app.now().to_rfc3339())));
        let reason = text(&task["failureReason"]);
        assert!(reason.contains("queue_timeout") && reason.contains("86400"), "{reason}");
        // It may be queued again, and has a day once more.
        assert_eq!(olga.retry(&id).await.task_status(), "QUEUED");
        app.pass(Duration::from_secs(86_399)).await;
        assert_eq!(olga.task(&id).await["status"], "QUEUED");
    }

    async fn the_server_looks_after_what_is_due_by_itself(database) {
        let app = TestApp::start_with(database, &[("queue-timeout", "10m")]).await;
        let olga = app.acme().await;
        for _ in 0..3 {
            olga.enqueue(json!({})).await;
        }
        app.advance(Duration::from_mins(10));
        let query = "{ tasks(filter: {statuses: [CANCELLED]}) { totalCount } instance { fleet { queuedTasks } } }";
        let expected = json!({"tasks": {"totalCount": 3}, "instance": {"fleet": {"queuedTasks": 0}}});
        let are_over = async || app.admin().data(query, json!({})).await == expected;
        eventually("all are cancelled", are_over).await;
    }

    async fn what_became_due_while_the_server_was_away_is_looked_after(database) {
        let mut app = TestApp::start_with(database, &[("queue-timeout", "10m")]).await;
        let olga = app.acme().await;
        let id = olga.enqueue(json!({})).await;
        app.shut_down().await;
        app.advance(Duration::from_hours(1));
        let app = app.restart().await;
        let is_over = async || {
            app.advance(Duration::from_secs(1));
            app.admin().task(&id).await["status"] == "CANCELLED"
        };
        eventually("it is cancelled", is_over).await;
    }
}
