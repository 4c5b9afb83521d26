//! Tasks that somebody stops, whether they wait or run.

use std::time::Duration;

use serde_json::{Value, json};

use super::assert_refused;
use crate::support::{TestApp, on_both};

/// What a runner is told to stop.
fn cancel(id: &str) -> Value {
    json!([{"__typename": "CancelTask", "taskId": id}])
}

on_both! {
    async fn a_task_that_waits_is_cancelled_at_once(database) {
        let app = TestApp::start(database).await;
        let olga = app.acme().await;
        let runner = app.register_runner("one").await;
        let id = olga.enqueue(json!({})).await;
        app.advance(Duration::from_secs(5));
        assert_eq!(olga.cancel(&id).await.task_status(), "CANCELLED");
        let expected = json!({
            "id": id, "name": "build", "status": "CANCELLED", "attempt": 0, "maxAttempts": 3,
            "failureReason": "It was cancelled.", "runner": null, "runnerName": null, "outputs": [], "startedAt": null,
            "finishedAt": app.now().to_rfc3339(),
        });
        assert_eq!(olga.task(&id).await, expected);
        assert_eq!(runner.fetch(0).await["task"], Value::Null);
    }

    async fn the_runner_of_a_running_task_is_told_to_stop_until_it_has(database) {
        let app = TestApp::start(database).await;
        let (olga, runner, id) = app.running_task().await;
        assert_eq!(runner.directives(json!({})).await, json!([]));
        assert_eq!(olga.cancel(&id).await.task_status(), "CANCELLING");
        for input in [json!({}), json!({"runningTaskIds": [id]}), json!({"runningTaskIds": []})] {
            assert_eq!(runner.directives(input).await, cancel(&id));
        }
        // Once more is no mistake, and neither is a sign of life.
        assert_eq!(olga.cancel(&id).await.task_status(), "CANCELLING");
        assert_eq!(runner.report(&id, "RUNNING").await.task_status(), "CANCELLING");
        assert_eq!(runner.append(&id, 0, &["cleaning up"]).await, 1);
        assert_eq!(runner.directives(json!({})).await, cancel(&id));

        runner.finish(&id, "CANCELLED").await;
        assert_eq!(runner.directives(json!({})).await, json!([]));
        let task = olga.task(&id).await;
        assert_eq!((&task["status"], &task["failureReason"]), (&json!("CANCELLED"), &json!("It was cancelled.")));
        assert_eq!(task["runner"]["name"], "one");
    }

    async fn whatever_the_runner_says_in_the_end_is_taken(database) {
        let app = TestApp::start(database).await;
        let olga = app.acme().await;
        let runner = app.register_runner("one").await;
        for (said, status, reason) in [
            ("CANCELLED", "CANCELLED", json!("It was cancelled.")),
            ("FAILED", "CANCELLED", json!("It was cancelled.")),
            // It came to its end before it could be stopped.
            ("SUCCEEDED", "SUCCEEDED", Value::Null),
        ] {
            let id = olga.enqueue(json!({})).await;
            assert_eq!(runner.take().await, id);
            assert_eq!(olga.cancel(&id).await.task_status(), "CANCELLING");
            assert_eq!(runner.report(&id, said).await.task_status(), status, "{said}");
            // The same report again, since its answer may have been lost.
            assert_eq!(runner.report(&id, said).await.task_status(), status, "{said}");
            assert_eq!(olga.task(&id).await["failureReason"], reason, "{said}");
        }
        let id = olga.enqueue(json!({})).await;
        assert_eq!(runner.take().await, id);
        assert_eq!(olga.cancel(&id).await.task_status(), "CANCELLING");
        assert_eq!(runner.release(&id).await.task_status(), "CANCELLED");
    }

    async fn what_has_ended_cannot_be_cancelled(database) {
        let app = TestApp::start(database).await;
        let olga = app.acme().await;
        let runner = app.register_runner("one").await;
        for end in ["SUCCEEDED", "FAILED", "CANCELLED"] {
            let id = olga.enqueue(json!({})).await;
            assert_eq!(runner.take().await, id);
            runner.finish(&id, end).await;
            assert_refused(&olga.cancel(&id).await, "CONFLICT", "");
            assert_eq!(olga.task(&id).await["status"], end);
        }
        let id = olga.enqueue(json!({})).await;
        assert_eq!(olga.cancel(&id).await.task_status(), "CANCELLED");
        assert_refused(&olga.cancel(&id).await, "CONFLICT", "");
    }

    async fn a_runner_that_does_not_stop_is_not_waited_for_any_longer_than_a_minute(database) {
        let app = TestApp::start(database).await;
        let (olga, runner, id) = app.running_task().await;
        assert_eq!(olga.cancel(&id).await.task_status(), "CANCELLING");
        app.pass(Duration::from_millis(59_999)).await;
        assert_eq!(olga.task(&id).await["status"], "CANCELLING");
        assert_eq!(runner.directives(json!({})).await, cancel(&id));
        app.pass(Duration::from_millis(1)).await;
        let task = olga.task(&id).await;
        assert_eq!((&task["status"], &task["failureReason"]), (&json!("CANCELLED"), &json!("It was cancelled.")));
        // It comes too late, and is told so each time that it names the task.
        assert_refused(&runner.report(&id, "SUCCEEDED").await, "CONFLICT", "");
        assert_eq!(runner.directives(json!({"runningTaskIds": [id]})).await, cancel(&id));
        assert_eq!(runner.directives(json!({})).await, json!([]));
    }

    async fn a_repository_that_goes_takes_its_tasks_along(database) {
        let app = TestApp::start(database).await;
        let (olga, runner, running) = app.running_task().await;
        let waiting = olga.enqueue(json!({})).await;
        assert_eq!(runner.append(&running, 0, &["a line"]).await, 1);
        let delete = "mutation { deleteRepository(input: {owner: \"acme\", name: \"api\"}) { deletedId } }";
        olga.data(delete, json!({})).await;
        for id in [&running, &waiting] {
            assert_eq!(app.admin().task(id).await, Value::Null);
        }
        assert_eq!(runner.fetch(0).await["task"], Value::Null);
        assert_eq!(runner.directives(json!({"runningTaskIds": [running]})).await, cancel(&running));
        assert_refused(&runner.report(&running, "SUCCEEDED").await, "NOT_FOUND", "");
        let query = "query($id: ID!) { runner(id: $id) { busy currentTasks { id } tasks { totalCount } } \
                     instance { fleet { queuedTasks runningTasks } } tasks { totalCount } }";
        let answer = app.admin().data(query, json!({"id": runner.id})).await;
        let expected = json!({
            "runner": {"busy": false, "currentTasks": [], "tasks": {"totalCount": 0}},
            "instance": {"fleet": {"queuedTasks": 0, "runningTasks": 0}},
            "tasks": {"totalCount": 0},
        });
        assert_eq!(answer, expected);
    }
}
