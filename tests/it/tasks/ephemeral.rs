//! Runners that take one task, ever, and are gone when it is over.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{TestApp, TestRunner, on_both};

const RUNNER: &str = "query($id: ID!) { runner(id: $id) { name busy } }";

async fn ephemeral(app: &TestApp, name: &str) -> TestRunner {
    app.register(&app.registration_token, json!({"name": name, "ephemeral": true})).await
}

/// The answer of a fetch when there is no task.
fn nothing() -> Value {
    json!({"task": null, "jobToken": null})
}

on_both! {
    async fn of_two_fetches_at_the_same_time_one_gets_a_task(database) {
        let app = TestApp::start(database).await;
        let olga = app.acme().await;
        for round in 0..5 {
            let runner = ephemeral(&app, "short").await;
            let ids = [olga.enqueue(json!({})).await, olga.enqueue(json!({})).await];
            let (one, two) = tokio::join!(runner.fetch(0), runner.fetch(0));
            let fetched: Vec<&Value> = [&one, &two].into_iter().filter(|it| !it["task"].is_null()).collect();
            assert_eq!(fetched.len(), 1, "round {round}: {one} and {two}");
            assert_eq!(fetched[0]["task"]["id"], ids[0]);
            assert_eq!(olga.task(&ids[1]).await["status"], "QUEUED");
            assert_eq!(runner.fetch(0).await, nothing());
            runner.finish(&ids[0], "SUCCEEDED").await;
            assert_eq!(olga.cancel(&ids[1]).await.task_status(), "CANCELLED");
        }
    }

    async fn a_runner_gets_no_second_task_whatever_became_of_the_first(database) {
        let app = TestApp::start(database).await;
        let olga = app.acme().await;
        let next = olga.enqueue(json!({"priority": -1})).await;
        for end in ["SUCCEEDED", "FAILED", "CANCELLED"] {
            let runner = ephemeral(&app, "short").await;
            let id = olga.enqueue(json!({})).await;
            assert_eq!(runner.take().await, id);
            runner.finish(&id, end).await;
            assert_eq!(runner.fetch(0).await, nothing(), "{end}");
            assert_eq!(runner.directives(json!({"freeSlots": 1})).await, json!([]), "{end}");
        }
        let runner = ephemeral(&app, "short").await;
        let id = olga.enqueue(json!({})).await;
        assert_eq!(runner.take().await, id);
        assert_eq!(runner.release(&id).await.task_status(), "QUEUED");
        assert_eq!(runner.fetch(0).await, nothing(), "handed back");
        let other = app.register_runner("lasting").await;
        assert_eq!([other.take().await, other.take().await], [id, next]);
    }

    async fn of_two_fetches_that_wait_one_gets_a_task_and_the_other_keeps_none_from_others(database) {
        let app = TestApp::start(database).await;
        let olga = app.acme().await;
        let runner = ephemeral(&app, "short").await;
        let calls = [runner.wait_for_task(), runner.wait_for_task()];
        app.waits(2).await;
        let first = olga.enqueue(json!({})).await;
        app.waits(1).await;
        let second = olga.enqueue(json!({})).await;
        let other = app.register_runner("lasting").await;
        assert_eq!(other.take().await, second);
        app.advance(Duration::from_secs(30));
        let mut answers = Vec::new();
        for call in calls {
            answers.push(call.await.unwrap());
        }
        answers.retain(|answer| *answer != nothing());
        assert_eq!(answers.len(), 1, "{answers:?}");
        assert_eq!(answers[0]["task"]["id"], first);
    }

    async fn a_runner_may_deliver_its_last_lines_and_is_then_gone(database) {
        let app = TestApp::start(database).await;
        let olga = app.acme().await;
        let runner = ephemeral(&app, "short").await;
        let session = runner.session().await;
        let id = olga.enqueue(json!({})).await;
        assert_eq!(runner.take().await, id);
        assert_eq!(runner.append(&id, 0, &["first"]).await, 1);
        runner.finish(&id, "SUCCEEDED").await;
        assert_eq!(runner.append(&id, 1, &["last"]).await, 2);
        let late = json!({"id": id, "status": "SUCCEEDED", "outputs": [{"name": "a", "value": "1"}]});
        app.pass(Duration::from_secs(59)).await;
        assert_eq!(runner.update(late).await.task_status(), "SUCCEEDED");
        let known = app.admin().data(RUNNER, json!({"id": runner.id})).await;
        assert_eq!(known["runner"], json!({"name": "short", "busy": false}));

        app.pass(Duration::from_secs(2)).await;
        assert_eq!(app.admin().data(RUNNER, json!({"id": runner.id})).await["runner"], Value::Null);
        for client in [&runner.client, &session] {
            let answer = client.post("mutation { heartbeat(input: {}) { serverTime } }", json!({})).await;
            assert_eq!((answer.status, answer.code().as_str()), (401, "UNAUTHENTICATED"), "{}", answer.body);
        }
        // What it did stays, and names it.
        let task = olga.task(&id).await;
        assert_eq!((&task["runner"], &task["runnerName"]), (&Value::Null, &json!("short")));
        assert_eq!((&task["status"], &task["outputs"]), (&json!("SUCCEEDED"), &json!([{"name": "a", "value": "1"}])));
        assert_eq!(olga.log(&id).await, ["first", "last"]);
        let query = "query($id: ID!) { task(id: $id) { runnerUuid } runners { totalCount } }";
        let answer = olga.data(query, json!({"id": id})).await;
        assert_eq!(answer, json!({"task": {"runnerUuid": runner.uuid}, "runners": {"totalCount": 0}}));
    }

    async fn a_runner_that_has_its_task_stays_however_long_that_takes(database) {
        let app = TestApp::start(database).await;
        let olga = app.acme().await;
        let runner = ephemeral(&app, "short").await;
        let id = olga.enqueue(json!({"timeoutSeconds": 86_400})).await;
        assert_eq!(runner.take().await, id);
        for _ in 0..5 {
            app.pass(Duration::from_secs(50)).await;
            assert_eq!(runner.directives(json!({"runningTaskIds": [id]})).await, json!([]));
        }
        let known = app.admin().data(RUNNER, json!({"id": runner.id})).await;
        assert_eq!(known["runner"], json!({"name": "short", "busy": true}));
        runner.finish(&id, "SUCCEEDED").await;
    }

    async fn a_token_for_ephemeral_runners_makes_no_others(database) {
        let app = TestApp::start(database).await;
        let olga = app.acme().await;
        let input = json!({"scope": {"global": true}, "ephemeralOnly": true});
        let token = app.registration_token(&app.admin(), input).await;
        let runner = app.register(&token, json!({"name": "short"})).await;
        let ids = [olga.enqueue(json!({})).await, olga.enqueue(json!({})).await];
        assert_eq!(runner.take().await, ids[0]);
        assert_eq!(runner.fetch(0).await, nothing());
    }
}
