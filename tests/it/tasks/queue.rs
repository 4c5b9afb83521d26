//! What comes in, goes out, in which order, and to whom.

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::assert_refused;
use crate::support::{TestApp, on_both};

/// The answer of a fetch when there is no task.
fn nothing() -> Value {
    json!({"task": null, "jobToken": null})
}

on_both! {
    async fn a_task_reaches_its_runner_with_what_it_carries(database) {
        let app = TestApp::start(database).await;
        let olga = app.acme().await;
        let runner = app.register_runner("one").await;
        let payload = json!({
            "run": "make", "list": [null, true, -1.5, u64::MAX, []], "": "\u{0} \"ß\" 走", "deep": {"a": {}},
        });
        let input = json!({"repository": "acme/api", "name": " build ", "labels": [], "payload": payload});
        let enqueue = "mutation($input: EnqueueTaskInput!) { enqueueTask(input: $input) { task { \
                       id status name labels payload priority attempt maxAttempts timeoutSeconds failureReason \
                       outputs { name } repository { path } runner { name } createdBy { login } \
                       createdAt startedAt finishedAt } } }";
        let answer = olga.data(enqueue, json!({"input": input})).await;
        let mut task = answer["enqueueTask"]["task"].clone();
        let id = task["id"].take();
        let expected = json!({
            "id": null, "status": "QUEUED", "name": "build", "labels": [], "payload": payload, "priority": 0,
            "attempt": 0, "maxAttempts": 3, "timeoutSeconds": 10_800, "failureReason": null, "outputs": [],
            "repository": {"path": "acme/api"}, "runner": null, "createdBy": {"login": "olga"},
            "createdAt": app.now().to_rfc3339(), "startedAt": null, "finishedAt": null,
        });
        assert_eq!(task, expected);

        let mut fetched = runner.fetch(0).await;
        assert!(fetched["jobToken"].take().is_string());
        let expected = json!({"id": id, "name": "build", "payload": payload, "attempt": 1});
        assert_eq!(fetched, json!({"task": expected, "jobToken": null}));
        let task = olga.task(id.as_str().unwrap()).await;
        assert_eq!((&task["status"], &task["runner"]["name"]), (&json!("RUNNING"), &json!("one")));
        assert_eq!(task["startedAt"], app.now().to_rfc3339());
        assert_eq!(runner.fetch(0).await, nothing());
    }

    async fn what_a_payload_may_be_comes_back_as_it_was_given(database) {
        let app = TestApp::start(database).await;
        let olga = app.acme().await;
        let runner = app.register_runner("one").await;
        for payload in [json!({}), json!([]), json!("text"), json!(""), json!(0), json!(-7.25), json!(false)] {
            olga.enqueue(json!({"payload": payload})).await;
            assert_eq!(runner.fetch(0).await["task"]["payload"], payload);
        }
        // Written into the document itself.
        let enqueue = "mutation { enqueueTask(input: {repository: \"acme/api\", name: \"x\", labels: [], \
                       payload: {list: [1, null, {a: \"b\"}]}}) { task { id } } }";
        olga.data(enqueue, json!({})).await;
        assert_eq!(runner.fetch(0).await["task"]["payload"], json!({"list": [1, null, {"a": "b"}]}));
    }

    async fn the_greater_priority_goes_first_and_then_the_older(database) {
        let app = TestApp::start(database).await;
        let olga = app.acme().await;
        let mut ids = Vec::new();
        for (labels, priority) in [
            (json!([]), 0),
            (json!(["gpu"]), 5),
            (json!(["gpu", "linux"]), 5),
            (json!(["linux"]), -1),
            (json!([]), 0),
            (json!(["linux"]), 1_000_000),
            (json!(["x64"]), -1_000_000),
        ] {
            ids.push(olga.enqueue(json!({"labels": labels, "priority": priority})).await);
        }
        let runner = app.runner_in("", json!({"name": "one", "labels": ["gpu", "linux", "x64"]})).await;
        let mut order = Vec::new();
        for _ in &ids {
            let id = runner.take().await;
            order.push(ids.iter().position(|known| *known == id).unwrap());
        }
        assert_eq!(order, [5, 1, 2, 0, 4, 3, 6]);
        assert_eq!(runner.fetch(0).await, nothing());
    }

    async fn a_runner_gets_only_what_its_labels_cover(database) {
        let app = TestApp::start(database).await;
        let olga = app.acme().await;
        let runner = app.runner_in("", json!({"name": "one", "labels": ["linux", "x64"]})).await;
        let mut beyond = Vec::new();
        for labels in [&["gpu"][..], &["linux", "gpu"], &["Linux"], &["linux", "x64", "z"], &["x6"], &["x64-2"]] {
            beyond.push(olga.enqueue(json!({"labels": labels})).await);
        }
        assert_eq!(runner.fetch(0).await, nothing());
        for labels in [json!([]), json!(["linux"]), json!(["x64"]), json!(["x64", "linux", "x64"])] {
            let id = olga.enqueue(json!({"labels": labels})).await;
            assert_eq!(runner.take().await, id, "{labels}");
        }
        assert_eq!(runner.fetch(0).await, nothing());
        // What it carries from now on decides from now on.
        let declare = "mutation { declareRunner(input: {labels: [\"gpu\", \"linux\"]}) { runner { id } } }";
        runner.client.data(declare, json!({})).await;
        assert_eq!([runner.take().await, runner.take().await], beyond[..2]);
        assert_eq!(runner.fetch(0).await, nothing());
    }

    async fn a_runner_serves_its_scope_and_what_is_below(database) {
        let app = TestApp::start(database).await;
        let (olga, gina, admin) = (app.acme().await, app.user("gina").await, app.admin());
        app.organization(&gina, "globex").await;
        for (owner, account, name) in [(&olga, "acme", "web"), (&olga, "olga", "own"), (&gina, "globex", "app")] {
            app.repository(owner, account, name).await;
        }
        let repositories = ["acme/api", "acme/web", "olga/own", "globex/app"];
        let table: [(&str, &[&str]); 8] = [
            ("", &repositories),
            ("acme", &["acme/api", "acme/web"]),
            ("acme/api", &["acme/api"]),
            ("acme/web", &["acme/web"]),
            ("olga", &["olga/own"]),
            ("olga/own", &["olga/own"]),
            ("globex", &["globex/app"]),
            ("gina", &[]),
        ];
        for (path, served) in table {
            let runner = app.runner_in(path, json!({"name": format!("of {path}")})).await;
            for repository in repositories {
                let id = admin.enqueue(json!({"repository": repository})).await;
                let expected = if served.contains(&repository) { json!(id) } else { Value::Null };
                let fetched = runner.fetch(0).await;
                assert_eq!(fetched["task"]["id"], expected, "a runner of {path:?} and a task of {repository}");
                if expected.is_null() {
                    assert_eq!(admin.cancel(&id).await.task_status(), "CANCELLED");
                }
            }
        }
    }

    async fn of_five_simultaneous_fetches_one_gets_the_task(database) {
        let app = TestApp::start(database).await;
        let olga = app.acme().await;
        let mut runners = Vec::new();
        for number in 0..5 {
            runners.push(app.register_runner(&format!("runner-{number}")).await);
        }
        let id = olga.enqueue(json!({})).await;
        let mut answers = join_all(runners.iter().map(|runner| runner.fetch(0))).await;
        answers.retain(|answer| !answer["task"].is_null());
        assert_eq!(answers.len(), 1, "{answers:?}");
        assert_eq!((&answers[0]["task"]["id"], &answers[0]["task"]["attempt"]), (&json!(id), &json!(1)));

        // The same runner may ask five times at once, too.
        let id = olga.enqueue(json!({})).await;
        let mut answers = join_all((0..5).map(|_| runners[0].fetch(0))).await;
        answers.retain(|answer| !answer["task"].is_null());
        assert_eq!(answers.len(), 1, "{answers:?}");
        assert_eq!(answers[0]["task"]["id"], id);
    }

    async fn a_disabled_runner_gets_nothing_and_finishes_what_it_has(database) {
        let app = TestApp::start(database).await;
        let (olga, runner, id) = app.running_task().await;
        let update = "mutation($id: ID!, $disabled: Boolean!) { \
                      updateRunner(input: {id: $id, disabled: $disabled}) { runner { disabled } } }";
        app.admin().data(update, json!({"id": runner.id, "disabled": true})).await;
        let waiting = olga.enqueue(json!({})).await;
        assert_eq!(runner.fetch(0).await, nothing());
        assert_eq!(runner.append(&id, 0, &["still here"]).await, 1);
        runner.finish(&id, "SUCCEEDED").await;
        assert_eq!(runner.fetch(0).await, nothing());
        app.admin().data(update, json!({"id": runner.id, "disabled": false})).await;
        assert_eq!(runner.take().await, waiting);
    }

    async fn a_task_that_has_ended_can_be_run_again(database) {
        let app = TestApp::start(database).await;
        let olga = app.acme().await;
        let runner = app.register_runner("one").await;
        let id = olga.enqueue(json!({"maxAttempts": 1})).await;
        for (attempt, end) in [(1, "FAILED"), (2, "SUCCEEDED"), (3, "CANCELLED"), (4, "FAILED")] {
            let fetched = runner.fetch(0).await;
            assert_eq!((&fetched["task"]["id"], &fetched["task"]["attempt"]), (&json!(id), &json!(attempt)));
            let outputs = json!([{"name": "attempt", "value": attempt.to_string()}]);
            assert_eq!(runner.update(json!({"id": id, "status": end, "outputs": outputs})).await.task_status(), end);
            let task = olga.task(&id).await;
            assert_eq!((&task["status"], &task["outputs"]), (&json!(end), &outputs));
            assert_eq!(task["failureReason"].is_string(), end != "SUCCEEDED", "{task}");
            assert_eq!(task["finishedAt"], app.now().to_rfc3339());

            assert_eq!(olga.retry(&id).await.task_status(), "QUEUED");
            let expected = json!({
                "id": id, "name": "build", "status": "QUEUED", "attempt": attempt, "maxAttempts": attempt + 1,
                "failureReason": null, "runner": null, "runnerName": null, "outputs": [], "startedAt": null,
                "finishedAt": null,
            });
            assert_eq!(olga.task(&id).await, expected);
        }
    }

    async fn only_what_has_ended_can_be_run_again(database) {
        let app = TestApp::start(database).await;
        let (olga, _, running) = app.running_task().await;
        let queued = olga.enqueue(json!({})).await;
        for id in [&queued, &running] {
            assert_refused(&olga.retry(id).await, "CONFLICT", "");
        }
        assert_eq!(olga.cancel(&running).await.task_status(), "CANCELLING");
        assert_refused(&olga.retry(&running).await, "CONFLICT", "");
        // Nothing of it changed anything.
        assert_eq!(olga.task(&queued).await["status"], "QUEUED");
        assert_eq!(olga.task(&running).await["status"], "CANCELLING");
    }

    async fn what_waits_and_runs_survives_a_restart(database) {
        let app = TestApp::start(database).await;
        let (_, mut runner, running) = app.running_task().await;
        let mut queued = Vec::new();
        for labels in [json!([]), json!(["gpu"])] {
            queued.push(app.admin().enqueue(json!({"labels": labels})).await);
        }
        let app = app.restart().await;
        runner.client = app.client(runner.client.shown.clone());
        let summary = app.admin().data("{ instance { fleet { queuedTasks runningTasks } } }", json!({})).await;
        assert_eq!(summary["instance"]["fleet"], json!({"queuedTasks": 2, "runningTasks": 1}));
        let query = "query($id: ID!) { runner(id: $id) { busy status currentTasks { id } } }";
        let known = app.admin().data(query, json!({"id": runner.id})).await;
        assert_eq!(known["runner"], json!({"busy": true, "status": "ACTIVE", "currentTasks": [{"id": running}]}));
        assert_eq!(runner.append(&running, 0, &["after the restart"]).await, 1);
        runner.finish(&running, "SUCCEEDED").await;
        assert_eq!(runner.take().await, queued[0]);
        assert_eq!(runner.fetch(0).await, nothing());
    }
}
