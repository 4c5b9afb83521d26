//! Runners that wait for a task in a call: who is answered, when, and what becomes of those who go away meanwhile.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::{assert_refused, text};
use crate::support::{TestApp, TestRunner, eventually, on_both};

const DISABLE: &str = "mutation($id: ID!, $disabled: Boolean!) { \
    updateRunner(input: {id: $id, disabled: $disabled}) { runner { disabled } } }";

/// The answer of a fetch when there is no task.
fn nothing() -> Value {
    json!({"task": null, "jobToken": null})
}

/// A call that waits for a task, on a connection of its own.
async fn waiting_call(app: &TestApp, runner: &TestRunner) -> TcpStream {
    let query = "mutation { fetchTask(input: {waitSeconds: 30}) { task { id } } }";
    let body = json!({"query": query}).to_string();
    let (uuid, secret, length) = (&runner.uuid, &runner.secret, body.len());
    let request = format!(
        "POST /graphql HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
         x-runner-uuid: {uuid}\r\nx-runner-token: {secret}\r\n\r\n{body}"
    );
    let mut stream = TcpStream::connect(app.url.trim_start_matches("http://")).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

async fn set_disabled(app: &TestApp, runner: &TestRunner, disabled: bool) {
    app.admin().data(DISABLE, json!({"id": runner.id, "disabled": disabled})).await;
}

on_both! {
    async fn a_fetch_that_waits_is_answered_when_a_task_comes(database) {
        let app = TestApp::start(database).await;
        let olga = app.acme().await;
        let runner = app.register_runner("one").await;
        // The clock stands still all the while: nothing is found by looking now and then.
        for round in 1..=3 {
            let call = runner.wait_for_task();
            app.waits(1).await;
            let id = olga.enqueue(json!({"payload": {"round": round}})).await;
            let fetched = call.await.unwrap();
            assert_eq!((&fetched["task"]["id"], &fetched["task"]["payload"]["round"]), (&json!(id), &json!(round)));
            assert!(fetched["jobToken"].is_string(), "{fetched}");
            assert_eq!(olga.task(&id).await["status"], "RUNNING");
            app.waits(0).await;
        }
    }

    async fn one_task_answers_one_of_those_who_wait(database) {
        let app = TestApp::start(database).await;
        let olga = app.acme().await;
        let mut runners = Vec::new();
        for number in 0..3 {
            runners.push(app.register_runner(&format!("runner-{number}")).await);
        }
        let calls: Vec<_> = runners.iter().map(TestRunner::wait_for_task).collect();
        app.waits(3).await;
        let mut ids = vec![olga.enqueue(json!({})).await];
        app.waits(2).await;
        let answered = async || calls.iter().filter(|call| call.is_finished()).count() == 1;
        eventually("one call is answered", answered).await;
        for _ in 0..2 {
            ids.push(olga.enqueue(json!({})).await);
        }
        let answers = join_all(calls).await.into_iter().map(|call| text(&call.unwrap()["task"]["id"]));
        let mut taken: Vec<String> = answers.collect();
        taken.sort();
        ids.sort();
        assert_eq!(taken, ids);
    }

    async fn a_task_that_comes_back_answers_those_who_wait(database) {
        let app = TestApp::start(database).await;
        let (olga, one, id) = app.running_task().await;
        let two = app.register_runner("two").await;
        let call = two.wait_for_task();
        app.waits(1).await;
        assert_eq!(one.release(&id).await.task_status(), "QUEUED");
        assert_eq!(call.await.unwrap()["task"]["id"], id);
        two.finish(&id, "FAILED").await;
        let call = one.wait_for_task();
        app.waits(1).await;
        assert_eq!(olga.retry(&id).await.task_status(), "QUEUED");
        assert_eq!(call.await.unwrap()["task"], json!({"id": id, "name": "build", "payload": {}, "attempt": 3}));
    }

    async fn a_disabled_runner_that_waits_keeps_no_task_from_others_and_gets_one_when_it_is_enabled(database) {
        let app = TestApp::start(database).await;
        let olga = app.acme().await;
        let (off, on) = (app.register_runner("off").await, app.register_runner("on").await);
        set_disabled(&app, &off, true).await;
        let disabled = off.wait_for_task();
        app.waits(1).await;
        let enabled = on.wait_for_task();
        app.waits(2).await;
        let first = olga.enqueue(json!({})).await;
        assert_eq!(enabled.await.unwrap()["task"]["id"], first);
        let second = olga.enqueue(json!({})).await;
        app.waits(1).await;
        assert!(!disabled.is_finished());
        assert_eq!(olga.task(&second).await["status"], "QUEUED");
        set_disabled(&app, &off, false).await;
        assert_eq!(disabled.await.unwrap()["task"]["id"], second);
    }

    async fn a_runner_that_is_disabled_while_it_waits_gets_nothing(database) {
        let app = TestApp::start(database).await;
        let olga = app.acme().await;
        let runner = app.register_runner("one").await;
        let call = runner.wait_for_task();
        app.waits(1).await;
        set_disabled(&app, &runner, true).await;
        let id = olga.enqueue(json!({})).await;
        let other = app.register_runner("two").await;
        assert_eq!(other.take().await, id);
        app.advance(Duration::from_secs(30));
        assert_eq!(call.await.unwrap(), nothing());
    }

    async fn a_runner_that_declares_labels_while_it_waits_gets_what_they_cover(database) {
        let app = TestApp::start(database).await;
        let olga = app.acme().await;
        let runner = app.runner_in("acme", json!({"name": "one", "labels": ["linux"]})).await;
        let id = olga.enqueue(json!({"labels": ["gpu", "linux"]})).await;
        let call = runner.wait_for_task();
        app.waits(1).await;
        assert!(!call.is_finished());
        let declare = "mutation { declareRunner(input: {labels: [\"gpu\", \"linux\"]}) { runner { id } } }";
        runner.client.data(declare, json!({})).await;
        assert_eq!(call.await.unwrap()["task"]["id"], id);
    }

    async fn a_client_that_hangs_up_while_it_waits_takes_no_task(database) {
        let app = TestApp::start(database).await;
        let olga = app.acme().await;
        let (gone, other) = (app.register_runner("gone").await, app.register_runner("other").await);
        let call = waiting_call(&app, &gone).await;
        app.waits(1).await;
        drop(call);
        app.waits(0).await;
        let id = olga.enqueue(json!({})).await;
        let task = olga.task(&id).await;
        assert_eq!((&task["status"], &task["attempt"], &task["runner"]), (&json!("QUEUED"), &json!(0), &Value::Null));
        assert_eq!(other.take().await, id);
        let task = olga.task(&id).await;
        assert_eq!((&task["attempt"], &task["runner"]["name"]), (&json!(1), &json!("other")));
        let query = "query($id: ID!) { runner(id: $id) { busy currentTasks { id } } }";
        let known = app.admin().data(query, json!({"id": gone.id})).await;
        assert_eq!(known["runner"], json!({"busy": false, "currentTasks": []}));
    }

    async fn a_client_that_hangs_up_while_a_task_comes_loses_none(database) {
        let app = TestApp::start(database).await;
        let olga = app.acme().await;
        let (gone, other) = (app.register_runner("gone").await, app.register_runner("other").await);
        for round in 0..12 {
            let call = waiting_call(&app, &gone).await;
            app.waits(1).await;
            let hanging_up = async {
                // Now before the task is there, now after.
                tokio::time::sleep(Duration::from_millis(round)).await;
                drop(call);
            };
            let (id, ()) = tokio::join!(olga.enqueue(json!({})), hanging_up);
            app.waits(0).await;
            // An answer that was on its way never came: the runner says that it has nothing.
            app.advance(Duration::from_secs(31));
            gone.directives(json!({"runningTaskIds": []})).await;
            assert_eq!(other.take().await, id, "round {round}");
            other.finish(&id, "SUCCEEDED").await;
        }
        let query = "query($id: ID!) { runner(id: $id) { busy } }";
        assert_eq!(app.admin().data(query, json!({"id": gone.id})).await["runner"]["busy"], false);
    }

    async fn a_fetch_that_waits_comes_back_with_nothing_at_a_shutdown(database) {
        let mut app = TestApp::start(database).await;
        let runner = app.register_runner("one").await;
        let call = runner.wait_for_task();
        app.waits(1).await;
        app.begin_shutdown();
        assert_eq!(call.await.unwrap(), nothing());
        app.shut_down().await;
    }

    async fn a_fetch_waits_from_0_to_30_seconds(database) {
        let app = TestApp::start(database).await;
        let runner = app.register_runner("one").await;
        assert_eq!(runner.fetch(0).await, nothing());
        for wait in [-1, 31, 3_600] {
            assert_refused(&runner.try_fetch(wait).await, "BAD_USER_INPUT", "waitSeconds");
        }
        let left_out = "mutation { fetchTask(input: {}) { task { id } jobToken } }";
        assert_eq!(runner.client.data(left_out, json!({})).await["fetchTask"], nothing());

        let call = runner.wait_for_task();
        app.waits(1).await;
        app.advance(Duration::from_millis(29_999));
        runner.directives(json!({})).await;
        app.waits(1).await;
        assert!(!call.is_finished());
        app.advance(Duration::from_millis(1));
        assert_eq!(call.await.unwrap(), nothing());
    }

    async fn whoever_waits_is_here(database) {
        let app = TestApp::start_with(database, &[("offline-after", "12s")]).await;
        let runner = app.register_runner("one").await;
        let call = runner.wait_for_task();
        app.waits(1).await;
        let query = "query($id: ID!) { runner(id: $id) { status lastOnlineAt history { to } } }";
        for _ in 0..8 {
            app.advance(Duration::from_secs(3));
            let expected =
                json!({"status": "IDLE", "lastOnlineAt": app.now().to_rfc3339(), "history": [{"to": "IDLE"}]});
            let is_heard = async || app.admin().data(query, json!({"id": runner.id})).await["runner"] == expected;
            eventually("the runner is heard", is_heard).await;
        }
        assert!(!call.is_finished());
        app.advance(Duration::from_secs(6));
        assert_eq!(call.await.unwrap(), nothing());
    }

    async fn a_fetch_that_waits_ends_with_its_credentials(database) {
        let app = TestApp::start(database).await;
        let olga = app.acme().await;
        for mutation in [
            "mutation($id: ID!) { deleteRunner(input: {id: $id}) { deletedId } }",
            "mutation($id: ID!) { rotateRunnerToken(input: {id: $id}) { previousValidUntil } }",
        ] {
            let runner = app.register_runner("one").await;
            let waiting = runner.clone();
            let call = tokio::spawn(async move { waiting.try_fetch(30).await });
            app.waits(1).await;
            app.admin().data(mutation, json!({"id": runner.id})).await;
            let answer = call.await.unwrap();
            assert_eq!(answer.code(), "UNAUTHENTICATED", "{mutation}: {}", answer.body);
            app.waits(0).await;
            let id = olga.enqueue(json!({})).await;
            assert_eq!(olga.task(&id).await["status"], "QUEUED");
            assert_eq!(olga.cancel(&id).await.task_status(), "CANCELLED");
        }
    }

    async fn only_runners_fetch(database) {
        let app = TestApp::start(database).await;
        let olga = app.acme().await;
        let fetch = "mutation { fetchTask(input: {}) { task { id } } }";
        assert_eq!(olga.code(fetch, json!({})).await, "FORBIDDEN");
        assert_eq!(app.anonymous().code(fetch, json!({})).await, "UNAUTHENTICATED");
    }

    async fn a_task_wakes_nobody_who_cannot_take_it(database) {
        let app = TestApp::start(database).await;
        let olga = app.acme().await;
        // The labels are known from here on.
        olga.enqueue(json!({"labels": ["gpu"]})).await;
        let (_, alone) = app.statements(olga.enqueue(json!({"labels": ["gpu"]}))).await;
        let mut runners = Vec::new();
        for number in 0..10 {
            let input = json!({"name": format!("runner-{number}"), "labels": ["x64"]});
            runners.push(app.runner_in("", input).await);
        }
        let calls: Vec<_> = runners.iter().map(TestRunner::wait_for_task).collect();
        app.waits(10).await;
        // Each has looked before it waits.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let enqueueing = async {
            olga.enqueue(json!({"labels": ["gpu"]})).await;
            tokio::time::sleep(Duration::from_millis(200)).await;
        };
        let ((), with_others) = app.statements(enqueueing).await;
        assert_eq!(with_others, alone);
        app.advance(Duration::from_secs(30));
        for call in calls {
            assert_eq!(call.await.unwrap(), nothing());
        }
    }
}
