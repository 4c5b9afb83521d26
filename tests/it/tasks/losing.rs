//! Runners that go away with a task, or never heard that they have it.

use std::time::Duration;

use serde_json::{Value, json};

use super::{assert_refused, text};
use crate::support::{TestApp, eventually, on_both};

on_both! {
    async fn a_task_whose_runner_went_away_goes_to_another(database) {
        let app = TestApp::start(database).await;
        let (olga, lost, id) = app.running_task().await;
        let other = app.register_runner("two").await;
        assert_eq!(lost.append(&id, 0, &["the first"]).await, 1);
        // OFFLINE, which is no reason yet.
        app.pass(Duration::from_mins(1)).await;
        other.heartbeat().await;
        app.pass(Duration::from_millis(59_999)).await;
        assert_eq!(olga.task(&id).await["status"], "RUNNING");
        app.pass(Duration::from_millis(1)).await;
        let task = olga.task(&id).await;
        assert_eq!((&task["status"], &task["attempt"], &task["runner"]), (&json!("QUEUED"), &json!(1), &Value::Null));

        // It comes back too late.
        for status in ["RUNNING", "SUCCEEDED", "FAILED"] {
            let answer = lost.report(&id, status).await;
            assert_refused(&answer, "CONFLICT", "");
            assert!(answer.message().contains("Stop"), "{}", answer.message());
        }
        let append = json!({"id": id, "startLine": 1, "lines": ["late"]});
        assert_refused(&lost.try_append(append.clone()).await, "CONFLICT", "");
        assert_refused(&lost.release(&id).await, "CONFLICT", "");
        let told = lost.directives(json!({"runningTaskIds": [id]})).await;
        assert_eq!(told[0], json!({"__typename": "CancelTask", "taskId": id}));

        let fetched = other.fetch(0).await;
        assert_eq!((&fetched["task"]["id"], &fetched["task"]["attempt"]), (&json!(id), &json!(2)));
        assert_refused(&lost.report(&id, "SUCCEEDED").await, "CONFLICT", "");
        assert_refused(&lost.try_append(append).await, "CONFLICT", "");
        other.finish(&id, "SUCCEEDED").await;
        assert_eq!(olga.task(&id).await["runnerName"], "two");
        assert_eq!(olga.log(&id).await, ["the first"]);
    }

    async fn a_runner_that_is_heard_in_time_keeps_its_task(database) {
        let app = TestApp::start(database).await;
        let (olga, runner, id) = app.running_task().await;
        app.pass(Duration::from_mins(1)).await;
        app.pass(Duration::from_secs(59)).await;
        runner.heartbeat().await;
        app.pass(Duration::from_secs(59)).await;
        assert_eq!(olga.task(&id).await["status"], "RUNNING");
        runner.finish(&id, "SUCCEEDED").await;
    }

    async fn a_task_is_lost_only_as_often_as_it_may_be_given_out(database) {
        let app = TestApp::start(database).await;
        let olga = app.acme().await;
        let runner = app.register_runner("one").await;
        let id = olga.enqueue(json!({"maxAttempts": 2})).await;
        for (attempt, status) in [(1, "QUEUED"), (2, "FAILED")] {
            assert_eq!(runner.fetch(0).await["task"]["attempt"], attempt);
            app.pass(Duration::from_mins(1)).await;
            app.pass(Duration::from_mins(1)).await;
            assert_eq!(olga.task(&id).await["status"], status);
        }
        let task = olga.task(&id).await;
        let reason = text(&task["failureReason"]);
        assert!(reason.contains("went away") && reason.contains("maxAttempts") && reason.contains("one"), "{reason}");
        assert_eq!((&task["runner"]["name"], &task["finishedAt"]), (&json!("one"), &json!(app.now().to_rfc3339())));
        // Nothing more is taken of a runner that was given up.
        assert_refused(&runner.report(&id, "FAILED").await, "CONFLICT", "");
        let append = json!({"id": id, "startLine": 0, "lines": ["late"]});
        assert_refused(&runner.try_append(append).await, "CONFLICT", "");
    }

    async fn what_is_left_of_an_attempt_does_not_speak_for_the_next(database) {
        let app = TestApp::start(database).await;
        let (olga, runner, id) = app.running_task().await;
        for _ in 0..2 {
            app.pass(Duration::from_mins(1)).await;
        }
        assert_eq!(olga.task(&id).await["status"], "QUEUED");
        // The same runner gets it again, while something of it still works on the first attempt.
        let fetched = runner.fetch(0).await;
        assert_eq!((&fetched["task"]["id"], &fetched["task"]["attempt"]), (&json!(id), &json!(2)));
        let release = "mutation($id: ID!, $attempt: Int!) { \
                       releaseTask(input: {id: $id, attempt: $attempt}) { task { status } } }";
        for attempt in [1, 3] {
            for status in ["RUNNING", "SUCCEEDED", "FAILED", "CANCELLED"] {
                let outputs = json!([{"name": "other", "value": "attempt"}]);
                let report = json!({"id": id, "attempt": attempt, "status": status, "outputs": outputs});
                assert_refused(&runner.update(report).await, "CONFLICT", "");
            }
            let append = json!({"id": id, "attempt": attempt, "startLine": 0, "lines": ["other"], "final": true});
            assert_refused(&runner.try_append(append).await, "CONFLICT", "");
            let released = runner.client.post(release, json!({"id": id, "attempt": attempt})).await;
            assert_refused(&released, "CONFLICT", "");
        }
        let task = olga.task(&id).await;
        assert_eq!(
            (&task["status"], &task["attempt"], &task["outputs"]),
            (&json!("RUNNING"), &json!(2), &json!([])),
            "{task}"
        );
        let append = json!({"id": id, "attempt": 2, "startLine": 0, "lines": ["the second"], "final": true});
        let appended = runner.try_append(append).await;
        assert_eq!(appended.body["data"]["appendTaskLog"]["acknowledgedLine"], 1, "{}", appended.body);
        let end = json!({"id": id, "attempt": 2, "status": "SUCCEEDED"});
        assert_eq!(runner.update(end).await.task_status(), "SUCCEEDED");
        assert_eq!(olga.log(&id).await, ["the second"]);

        // With its number an attempt is handed back, too.
        let other = olga.enqueue(json!({})).await;
        assert_eq!(runner.take().await, other);
        let released = runner.client.post(release, json!({"id": other, "attempt": 1})).await;
        assert_eq!(released.task_status(), "QUEUED");
    }

    async fn a_task_that_was_to_stop_is_over_when_its_runner_goes_away(database) {
        let app = TestApp::start_with(database, &[("cancel-timeout", "1h")]).await;
        let (olga, _, id) = app.running_task().await;
        assert_eq!(olga.cancel(&id).await.task_status(), "CANCELLING");
        app.pass(Duration::from_mins(1)).await;
        assert_eq!(olga.task(&id).await["status"], "CANCELLING");
        app.pass(Duration::from_mins(1)).await;
        let task = olga.task(&id).await;
        assert_eq!((&task["status"], &task["failureReason"]), (&json!("CANCELLED"), &json!("It was cancelled.")));
    }

    async fn a_task_whose_runner_was_deleted_goes_to_another(database) {
        let app = TestApp::start(database).await;
        let (olga, runner, id) = app.running_task().await;
        let delete = "mutation($id: ID!) { deleteRunner(input: {id: $id}) { deletedId } }";
        app.admin().data(delete, json!({"id": runner.id})).await;
        let other = app.register_runner("two").await;
        let call = other.wait_for_task();
        app.waits(1).await;
        // The server's own round comes within a second.
        app.advance(Duration::from_secs(1));
        assert_eq!(call.await.unwrap()["task"], json!({"id": id, "name": "build", "payload": {}, "attempt": 2}));
        assert_eq!(olga.task(&id).await["runner"]["name"], "two");
    }

    async fn a_runner_that_leaves_gives_its_task_back(database) {
        let app = TestApp::start(database).await;
        let (olga, runner, id) = app.running_task().await;
        runner.client.data("mutation { deregisterRunner { deletedId } }", json!({})).await;
        app.advance(Duration::from_secs(1));
        let summary = "{ instance { fleet { queuedTasks runningTasks } } }";
        let is_queued = async || {
            let counts = app.admin().data(summary, json!({})).await;
            counts["instance"]["fleet"] == json!({"queuedTasks": 1, "runningTasks": 0})
        };
        eventually("the task is queued again", is_queued).await;
        assert_eq!(olga.task(&id).await["status"], "QUEUED");
    }

    async fn a_runner_that_does_not_speak_of_a_task_never_got_it(database) {
        let app = TestApp::start(database).await;
        let (olga, runner, unheard) = app.running_task().await;
        let known = olga.enqueue(json!({})).await;
        assert_eq!(runner.take().await, known);
        let status = async |id: &str| olga.task(id).await["status"].clone();
        // The answer may still be on its way.
        app.advance(Duration::from_millis(29_999));
        assert_eq!(runner.directives(json!({"runningTaskIds": []})).await, json!([]));
        assert_eq!((status(&unheard).await, status(&known).await), (json!("RUNNING"), json!("RUNNING")));
        app.advance(Duration::from_secs(1));
        // A runner that says nothing of its tasks says nothing of this one.
        assert_eq!(runner.directives(json!({})).await, json!([]));
        assert_eq!(status(&unheard).await, json!("RUNNING"));
        runner.directives(json!({"runningTaskIds": [known]})).await;
        assert_eq!((status(&unheard).await, status(&known).await), (json!("QUEUED"), json!("RUNNING")));
        let other = app.register_runner("two").await;
        assert_eq!(other.take().await, unheard);
        // It was there after all: whoever has it not must not go on.
        let told = runner.directives(json!({"runningTaskIds": [known, unheard]})).await;
        assert_eq!(told, json!([{"__typename": "CancelTask", "taskId": unheard}]));
        assert_eq!(status(&known).await, json!("RUNNING"));
    }

    async fn a_runner_that_began_anew_gives_up_what_it_had(database) {
        let app = TestApp::start(database).await;
        let olga = app.acme().await;
        let runner = app.register_runner("one").await;
        let id = olga.enqueue(json!({"maxAttempts": 1})).await;
        assert_eq!(runner.take().await, id);
        app.advance(Duration::from_secs(31));
        runner.directives(json!({"runningTaskIds": []})).await;
        let task = olga.task(&id).await;
        assert_eq!((&task["status"], &task["attempt"]), (&json!("FAILED"), &json!(1)));
        assert!(text(&task["failureReason"]).contains("maxAttempts"), "{task}");
    }
}
