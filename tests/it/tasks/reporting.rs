//! What runners say of the tasks that they have, and of those that they have not.

use std::time::Duration;

use serde_json::{Value, json};

use super::{assert_refused, text};
use crate::support::{TestApp, on_both};

on_both! {
    async fn outputs_are_kept_and_added_to(database) {
        let app = TestApp::start(database).await;
        let (olga, runner, id) = app.running_task().await;
        let report = async |status: &str, outputs: Value| {
            runner.update(json!({"id": id, "status": status, "outputs": outputs})).await
        };
        let first = json!([{"name": "b", "value": "1"}, {"name": " a ", "value": ""}]);
        assert_eq!(report("RUNNING", first).await.task_status(), "RUNNING");
        let expected = json!([{"name": "a", "value": ""}, {"name": "b", "value": "1"}]);
        assert_eq!(olga.task(&id).await["outputs"], expected);
        let second = json!([
            {"name": "b", "value": "2"}, {"name": "c", "value": "\u{0}\n走"}, {"name": "d", "value": "x"},
            {"name": "d", "value": "y"},
        ]);
        assert_eq!(report("SUCCEEDED", second).await.task_status(), "SUCCEEDED");
        let expected = json!([
            {"name": "a", "value": ""}, {"name": "b", "value": "2"}, {"name": "c", "value": "\u{fffd}\n走"},
            {"name": "d", "value": "y"},
        ]);
        assert_eq!(olga.task(&id).await["outputs"], expected);
    }

    async fn the_same_end_may_be_reported_again_for_a_minute(database) {
        let app = TestApp::start(database).await;
        let (olga, runner, id) = app.running_task().await;
        runner.finish(&id, "SUCCEEDED").await;
        let finished_at = app.now().to_rfc3339();
        app.advance(Duration::from_millis(59_999));
        let again = json!({"id": id, "status": "SUCCEEDED", "outputs": [{"name": "late", "value": "1"}]});
        assert_eq!(runner.update(again).await.task_status(), "SUCCEEDED");
        app.advance(Duration::from_millis(1));
        let late = json!({"id": id, "status": "SUCCEEDED", "outputs": [{"name": "late", "value": "2"}]});
        assert_refused(&runner.update(late).await, "CONFLICT", "");
        let task = olga.task(&id).await;
        assert_eq!(task["outputs"], json!([{"name": "late", "value": "1"}]));
        assert_eq!((&task["status"], &task["finishedAt"]), (&json!("SUCCEEDED"), &json!(finished_at)));
    }

    async fn a_task_that_has_ended_does_not_end_otherwise(database) {
        let app = TestApp::start(database).await;
        let olga = app.acme().await;
        let runner = app.register_runner("one").await;
        let table: [(&str, &[&str]); 3] = [
            ("SUCCEEDED", &["RUNNING", "FAILED", "CANCELLED"]),
            ("FAILED", &["RUNNING", "SUCCEEDED"]),
            ("CANCELLED", &["RUNNING", "SUCCEEDED"]),
        ];
        for (end, others) in table {
            let id = olga.enqueue(json!({})).await;
            assert_eq!(runner.take().await, id);
            runner.finish(&id, end).await;
            for other in others {
                let outputs = json!([{"name": "not", "value": "kept"}]);
                let answer = runner.update(json!({"id": id, "status": other, "outputs": outputs})).await;
                assert_refused(&answer, "CONFLICT", "");
                assert!(answer.message().contains(end), "{end}, then {other}: {}", answer.message());
            }
            assert_refused(&runner.release(&id).await, "CONFLICT", "");
            let task = olga.task(&id).await;
            assert_eq!((&task["status"], &task["outputs"]), (&json!(end), &json!([])), "{end}");
        }
    }

    async fn a_runner_reports_no_status_that_is_not_its_own_to_say(database) {
        let app = TestApp::start(database).await;
        let (olga, runner, id) = app.running_task().await;
        for status in ["QUEUED", "CANCELLING"] {
            assert_refused(&runner.report(&id, status).await, "BAD_USER_INPUT", "status");
        }
        assert_eq!(olga.task(&id).await["status"], "RUNNING");
    }

    async fn what_a_runner_never_had_does_not_exist_for_it(database) {
        let app = TestApp::start(database).await;
        let (olga, _, running) = app.running_task().await;
        let other = app.register_runner("two").await;
        let queued = olga.enqueue(json!({"labels": ["gpu"]})).await;
        for id in [&running, &queued] {
            for status in ["RUNNING", "SUCCEEDED"] {
                assert_refused(&other.report(id, status).await, "NOT_FOUND", "");
            }
            assert_refused(&other.release(id).await, "NOT_FOUND", "");
            let append = json!({"id": id, "startLine": 0, "lines": ["not mine"], "final": true});
            assert_refused(&other.try_append(append).await, "NOT_FOUND", "");
            assert_eq!(other.client.task(id).await, Value::Null);
        }
        assert_eq!(olga.task(&running).await["status"], "RUNNING");
        assert!(olga.log(&running).await.is_empty());
        // People report nothing.
        let update = "mutation($id: ID!) { updateTask(input: {id: $id, status: SUCCEEDED}) { task { id } } }";
        assert_eq!(olga.code(update, json!({"id": running})).await, "FORBIDDEN");
        assert_eq!(app.anonymous().code(update, json!({"id": running})).await, "UNAUTHENTICATED");
    }

    async fn a_task_that_is_handed_back_goes_to_another_and_is_no_more_its_runners(database) {
        let app = TestApp::start(database).await;
        let (olga, runner, id) = app.running_task().await;
        let outputs = json!([{"name": "half", "value": "done"}]);
        assert_eq!(
            runner.update(json!({"id": id, "status": "RUNNING", "outputs": outputs})).await.task_status(),
            "RUNNING"
        );
        assert_eq!(runner.release(&id).await.task_status(), "QUEUED");
        let task = olga.task(&id).await;
        assert_eq!(
            (&task["attempt"], &task["runner"], &task["outputs"]),
            (&json!(1), &Value::Null, &json!([])),
            "{task}"
        );
        for status in ["RUNNING", "SUCCEEDED", "FAILED"] {
            assert_refused(&runner.report(&id, status).await, "CONFLICT", "");
        }
        assert_refused(&runner.release(&id).await, "CONFLICT", "");
        let other = app.register_runner("two").await;
        let fetched = other.fetch(0).await;
        assert_eq!((&fetched["task"]["id"], &fetched["task"]["attempt"]), (&json!(id), &json!(2)));
        assert_refused(&runner.report(&id, "SUCCEEDED").await, "CONFLICT", "");
        other.finish(&id, "SUCCEEDED").await;
        assert_refused(&runner.report(&id, "SUCCEEDED").await, "CONFLICT", "");
    }

    async fn a_task_is_handed_back_only_as_often_as_it_may_be_given_out(database) {
        let app = TestApp::start(database).await;
        let olga = app.acme().await;
        let runner = app.register_runner("one").await;
        let id = olga.enqueue(json!({"maxAttempts": 2})).await;
        for status in ["QUEUED", "FAILED"] {
            assert_eq!(runner.take().await, id);
            assert_eq!(runner.release(&id).await.task_status(), status);
        }
        let reason = text(&olga.task(&id).await["failureReason"]);
        assert!(reason.contains("handed") && reason.contains("maxAttempts") && reason.contains("one"), "{reason}");
    }

    async fn a_runner_may_have_several_tasks(database) {
        let app = TestApp::start(database).await;
        let olga = app.acme().await;
        let runner = app.register_runner("one").await;
        let mut ids = Vec::new();
        for _ in 0..3 {
            ids.push(olga.enqueue(json!({})).await);
            runner.take().await;
        }
        let query = "query($id: ID!) { runner(id: $id) { status busy currentTasks { id } } }";
        let tasks = |ids: &[String]| json!(ids.iter().map(|id| json!({"id": id})).collect::<Vec<_>>());
        let known = app.admin().data(query, json!({"id": runner.id})).await;
        assert_eq!(known["runner"], json!({"status": "ACTIVE", "busy": true, "currentTasks": tasks(&ids)}));
        runner.finish(&ids[1], "FAILED").await;
        runner.finish(&ids[0], "SUCCEEDED").await;
        let known = app.admin().data(query, json!({"id": runner.id})).await;
        assert_eq!(known["runner"]["currentTasks"], tasks(&ids[2..]));
        runner.finish(&ids[2], "SUCCEEDED").await;
        app.advance(Duration::from_secs(10));
        let known = app.admin().data(query, json!({"id": runner.id})).await;
        assert_eq!(known["runner"], json!({"status": "IDLE", "busy": false, "currentTasks": []}));
    }

    async fn a_runner_is_active_as_long_as_it_has_a_task(database) {
        let app = TestApp::start(database).await;
        let (_, runner, id) = app.running_task().await;
        let query = "query($id: ID!) { runner(id: $id) { status } }";
        app.advance(Duration::from_secs(50));
        runner.heartbeat().await;
        assert_eq!(app.admin().data(query, json!({"id": runner.id})).await["runner"]["status"], "ACTIVE");
        runner.finish(&id, "SUCCEEDED").await;
        app.advance(Duration::from_millis(9_999));
        assert_eq!(app.admin().data(query, json!({"id": runner.id})).await["runner"]["status"], "ACTIVE");
        app.advance(Duration::from_millis(1));
        assert_eq!(app.admin().data(query, json!({"id": runner.id})).await["runner"]["status"], "IDLE");
    }
}
