//! What nobody should say of tasks.

use serde_json::{Value, json};

use super::{assert_readable, refused, still_answers};
use crate::support::{Client, TestApp, new_task, on_both};

const ENQUEUE: &str = "mutation($input: EnqueueTaskInput!) { enqueueTask(input: $input) { task { id } } }";
const UPDATE: &str = "mutation($input: UpdateTaskInput!) { updateTask(input: $input) { task { id } } }";
const APPEND: &str = "mutation($input: AppendTaskLogInput!) { appendTaskLog(input: $input) { acknowledgedLine } }";
const HEARTBEAT: &str = "mutation($input: HeartbeatInput!) { heartbeat(input: $input) { serverTime } }";
const LIST: &str = "query($filter: TaskFilter) { tasks(filter: $filter) { totalCount } }";
const PLACEMENT: &str = "query($repository: String!, $labels: [String!]!) { \
    placement(repository: $repository, labels: $labels) { reason } }";

/// Sends what either the schema or the server has to refuse.
async fn refused_by_somebody(client: &Client, what: &str, document: &str, variables: Value) {
    let answer = client.post(document, variables).await;
    assert_readable(what, &answer);
    let code = answer.code();
    assert!(["BAD_USER_INPUT", "GRAPHQL_VALIDATION_FAILED"].contains(&code.as_str()), "{what}: {}", answer.body);
}

async fn task_count(app: &TestApp) -> Value {
    app.admin().data("{ tasks { totalCount } }", json!({})).await["tasks"]["totalCount"].clone()
}

on_both! {
    async fn a_task_that_cannot_be_is_refused_and_its_field_named(database) {
        let app = TestApp::start(database).await;
        let olga = app.acme().await;
        let many: Vec<String> = (0..101).map(|number| format!("label-{number}")).collect();
        for (what, input, field) in [
            ("no name", json!({"name": ""}), "name"),
            ("a name of spaces", json!({"name": "   "}), "name"),
            ("a long name", json!({"name": "x".repeat(256)}), "name"),
            ("a name that turns", json!({"name": "x\u{202e}y"}), "name"),
            ("a name with U+0000", json!({"name": "x\u{0}y"}), "name"),
            ("101 labels", json!({"labels": many}), "labels"),
            ("an empty label", json!({"labels": ["gpu", ""]}), "labels"),
            ("two words", json!({"labels": ["two words"]}), "labels"),
            ("two labels in one", json!({"labels": ["gpu,linux"]}), "labels"),
            ("a label with U+0000", json!({"labels": ["gpu\u{0}"]}), "labels"),
            ("a priority too low", json!({"priority": -1_000_001}), "priority"),
            ("a priority too high", json!({"priority": 1_000_001}), "priority"),
            ("the greatest priority there is", json!({"priority": i64::MAX}), "priority"),
            ("the least priority there is", json!({"priority": i64::MIN}), "priority"),
            ("no time", json!({"timeoutSeconds": 0}), "timeoutSeconds"),
            ("less than no time", json!({"timeoutSeconds": -1}), "timeoutSeconds"),
            ("more than a month", json!({"timeoutSeconds": 30 * 86_400 + 1}), "timeoutSeconds"),
            ("all time", json!({"timeoutSeconds": i64::MAX}), "timeoutSeconds"),
            ("no attempt", json!({"maxAttempts": 0}), "maxAttempts"),
            ("less than no attempt", json!({"maxAttempts": -3}), "maxAttempts"),
            ("101 attempts", json!({"maxAttempts": 101}), "maxAttempts"),
        ] {
            let variables = json!({"input": new_task(input)});
            refused(&olga, what, ENQUEUE, variables, "BAD_USER_INPUT", field).await;
        }
        for (what, repository) in [("an unknown repository", "acme/nope"), ("an unknown owner", "nobody/api")] {
            let variables = json!({"input": new_task(json!({"repository": repository}))});
            refused(&olga, what, ENQUEUE, variables, "NOT_FOUND", "").await;
        }
        for repository in ["", "acme", "acme/", "/api", "acme/api/more"] {
            let variables = json!({"input": new_task(json!({"repository": repository}))});
            refused(&olga, repository, ENQUEUE, variables, "BAD_USER_INPUT", "repository").await;
        }
        // Beyond what a number can be.
        for field in ["priority", "timeoutSeconds", "maxAttempts"] {
            for value in [json!(1e20), json!(1.5), json!("1"), json!(true), json!([1])] {
                let what = format!("{field}: {value}");
                refused_by_somebody(&olga, &what, ENQUEUE, json!({"input": new_task(json!({field: value}))})).await;
            }
        }
        assert_eq!(task_count(&app).await, 0);
        for input in [
            json!({"priority": -1_000_000, "timeoutSeconds": 1, "maxAttempts": 1, "labels": many[..100]}),
            json!({"priority": 1_000_000, "timeoutSeconds": 30 * 86_400, "maxAttempts": 100, "name": "x".repeat(255)}),
        ] {
            olga.enqueue(input).await;
        }
        assert_eq!(task_count(&app).await, 2);
        still_answers(&app).await;
    }

    async fn a_payload_is_json_and_has_a_bound(database) {
        let app = TestApp::start(database).await;
        let olga = app.acme().await;
        let largest = 1024 * 1024;
        // With its quotes a text of JSON is two bytes longer.
        let too_large = new_task(json!({"payload": "x".repeat(largest - 1)}));
        refused(&olga, "1 MiB and a byte", ENQUEUE, json!({"input": too_large}), "BAD_USER_INPUT", "payload").await;
        // What is written with escapes is as long as that.
        let escaped = new_task(json!({"payload": "\u{1}".repeat(largest / 5)}));
        refused(&olga, "escapes", ENQUEUE, json!({"input": escaped}), "BAD_USER_INPUT", "payload").await;
        let written = |payload: &str| {
            format!(
                "mutation {{ enqueueTask(input: {{repository: \"acme/api\", name: \"x\", labels: [], \
                 payload: {payload}}}) {{ task {{ id }} }} }}"
            )
        };
        for payload in ["WORD", "{a: WORD}", "[1, [WORD]]", "null"] {
            refused_by_somebody(&olga, payload, &written(payload), json!({})).await;
        }
        let missing =
            "mutation { enqueueTask(input: {repository: \"acme/api\", name: \"x\", labels: []}) { task { id } } }";
        refused_by_somebody(&olga, "no payload", missing, json!({})).await;
        let null = json!({"input": {"repository": "acme/api", "name": "x", "labels": [], "payload": null}});
        refused_by_somebody(&olga, "a payload that is null", ENQUEUE, null).await;
        assert_eq!(task_count(&app).await, 0);
        olga.enqueue(json!({"payload": "x".repeat(largest - 2)})).await;
        assert_eq!(task_count(&app).await, 1);
        still_answers(&app).await;
    }

    async fn a_body_that_is_no_text_is_refused(database) {
        let app = TestApp::start(database).await;
        let olga = app.acme().await;
        let head = json!({"query": ENQUEUE, "variables": {"input": new_task(json!({"payload": "@"}))}}).to_string();
        for (what, bytes) in [("not UTF-8", b"\xff\xfe".as_slice()), ("half a surrogate pair", br"\ud800".as_slice())] {
            let (before, after) = head.split_once('@').unwrap();
            let body = [before.as_bytes(), bytes, after.as_bytes()].concat();
            let request = olga.http.post(format!("{}/graphql", app.url)).header("content-type", "application/json");
            let answer = olga.send(request.body(body)).await;
            assert_readable(what, &answer);
            assert_eq!((answer.status, answer.code().as_str()), (400, "BAD_USER_INPUT"), "{what}: {}", answer.body);
            assert_eq!(answer.field(), "body", "{what}");
        }
        assert_eq!(task_count(&app).await, 0);
    }

    async fn filters_that_cannot_be_are_refused(database) {
        let app = TestApp::start(database).await;
        let (admin, olga) = (app.admin(), app.acme().await);
        let many: Vec<String> = (0..101).map(|number| format!("label-{number}")).collect();
        let task = olga.enqueue(json!({})).await;
        for (what, filter) in [
            ("101 labels", json!({"labels": many})),
            ("a label that cannot be", json!({"labels": ["two words"]})),
            ("a label with U+0000", json!({"labels": ["\u{0}"]})),
            ("a long search", json!({"search": "x".repeat(101)})),
            ("a search with U+0000", json!({"search": "a\u{0}b"})),
            ("a runner that is a task", json!({"runnerId": task})),
            ("a runner that is nothing", json!({"runnerId": "nonsense"})),
        ] {
            refused(&admin, what, LIST, json!({"filter": filter}), "BAD_USER_INPUT", "filter").await;
        }
        for filter in [json!({"statuses": ["WAITING"]}), json!({"unknown": 1}), json!({"search": 5}), json!([])] {
            refused_by_somebody(&admin, &filter.to_string(), LIST, json!({"filter": filter})).await;
        }
        let labels = json!({"repository": "acme/api", "labels": many});
        refused(&olga, "101 labels", PLACEMENT, labels, "BAD_USER_INPUT", "labels").await;
        let path = json!({"repository": "acme", "labels": []});
        refused(&olga, "an owner alone", PLACEMENT, path, "BAD_USER_INPUT", "repository").await;
        let unknown = json!({"repository": "acme/nope", "labels": []});
        refused(&olga, "an unknown repository", PLACEMENT, unknown, "NOT_FOUND", "").await;
        for (what, document, field) in [
            ("101 tasks", "{ tasks(first: 101) { totalCount } }", "first"),
            ("both ends", "{ tasks(first: 1, last: 1) { totalCount } }", "first"),
            ("a cursor of nothing", "{ tasks(after: \"nonsense\") { totalCount } }", "after"),
            ("tasks before nothing", "{ tasks(last: 1, before: \"\") { totalCount } }", "before"),
        ] {
            refused(&admin, what, document, json!({}), "BAD_USER_INPUT", field).await;
        }
        let log = "query($id: ID!, $first: Int, $after: String) { \
                   task(id: $id) { log(first: $first, after: $after) { totalCount } } }";
        let list = admin.data("{ tasks { pageInfo { endCursor } } }", json!({})).await;
        let foreign = &list["tasks"]["pageInfo"]["endCursor"];
        for (what, variables, field) in [
            ("101 lines", json!({"id": task, "first": 101}), "first"),
            ("less than no line", json!({"id": task, "first": -1}), "first"),
            ("a cursor of nothing", json!({"id": task, "after": "nonsense"}), "after"),
            ("a cursor of another list", json!({"id": task, "after": foreign}), "after"),
        ] {
            refused(&admin, what, log, variables, "BAD_USER_INPUT", field).await;
        }
        still_answers(&app).await;
    }

    async fn ids_of_tasks_are_ids_of_tasks(database) {
        let app = TestApp::start(database).await;
        let (olga, runner, task) = app.running_task().await;
        let update = "mutation($id: ID!) { updateTask(input: {id: $id, status: RUNNING}) { task { id } } }";
        let append =
            "mutation($id: ID!) { appendTaskLog(input: {id: $id, startLine: 0, lines: []}) { acknowledgedLine } }";
        for id in [runner.id.as_str(), "", "nonsense", "task_", "task_x", "TASK_0000000000000"] {
            for (client, document) in [
                (&olga, "query($id: ID!) { task(id: $id) { id } }"),
                (&olga, "mutation($id: ID!) { cancelTask(input: {id: $id}) { task { id } } }"),
                (&olga, "mutation($id: ID!) { retryTask(input: {id: $id}) { task { id } } }"),
                (&runner.client, update),
                (&runner.client, append),
                (&runner.client, "mutation($id: ID!) { releaseTask(input: {id: $id}) { task { id } } }"),
            ] {
                let what = format!("{id:?} in {document}");
                refused(client, &what, document, json!({"id": id}), "BAD_USER_INPUT", "id").await;
            }
            let running = json!({"input": {"runningTaskIds": [task, id]}});
            refused(&runner.client, id, HEARTBEAT, running, "BAD_USER_INPUT", "runningTaskIds").await;
        }
        // Where a task is asked for, a task is no runner.
        let query = "query($id: ID!) { runner(id: $id) { id } }";
        refused(&olga, "a runner that is a task", query, json!({"id": task}), "BAD_USER_INPUT", "id").await;
        let many = json!({"input": {"runningTaskIds": vec![&task; 1_001]}});
        refused(&runner.client, "1,001 tasks", HEARTBEAT, many, "BAD_USER_INPUT", "runningTaskIds").await;
        let slots = json!({"input": {"freeSlots": -1}});
        refused(&runner.client, "fewer than no slots", HEARTBEAT, slots, "BAD_USER_INPUT", "freeSlots").await;
        // One that never was.
        let unknown = "task_0000000000002";
        for (client, document) in [
            (&olga, "mutation($id: ID!) { cancelTask(input: {id: $id}) { task { id } } }"),
            (&runner.client, update),
            (&runner.client, append),
        ] {
            refused(client, document, document, json!({"id": unknown}), "NOT_FOUND", "").await;
        }
        assert_eq!(olga.task(unknown).await, Value::Null);
        assert_eq!(olga.task(&task).await["status"], "RUNNING");
        still_answers(&app).await;
    }

    async fn reports_that_cannot_be_are_refused_and_leave_nothing(database) {
        let app = TestApp::start(database).await;
        let (olga, runner, id) = app.running_task().await;
        let output = |name: &str, value: &str| json!({"name": name, "value": value});
        let many: Vec<Value> = (0..101).map(|number| output(&format!("output-{number}"), "x")).collect();
        for (what, outputs) in [
            ("101 outputs", json!(many)),
            ("an output without a name", json!([output("fine", "x"), output(" ", "x")])),
            ("an output with a long name", json!([output(&"x".repeat(256), "x")])),
            ("an output whose name turns", json!([output("x\u{202e}", "x")])),
            (
                "an output of 64 KiB and a byte",
                json!([output("fine", "x"), output("large", &"x".repeat(64 * 1024 + 1))]),
            ),
        ] {
            let report = json!({"input": {"id": id, "status": "SUCCEEDED", "outputs": outputs}});
            refused(&runner.client, what, UPDATE, report, "BAD_USER_INPUT", "outputs").await;
        }
        // Together they are too many, and then none of the second call is kept.
        for (outputs, code) in [(&many[..60], ""), (&many[50..], "BAD_USER_INPUT")] {
            let answer = runner.update(json!({"id": id, "status": "RUNNING", "outputs": outputs})).await;
            assert_eq!(answer.code(), code, "{}", answer.body);
        }
        assert_eq!(olga.task(&id).await["outputs"].as_array().unwrap().len(), 60);
        refused_by_somebody(&runner.client, "no status", UPDATE, json!({"input": {"id": id}})).await;
        let lines = json!({"input": {"id": id, "startLine": 1e19, "lines": ["x"]}});
        refused_by_somebody(&runner.client, "a line number beyond all", APPEND, lines).await;
        let far = json!({"input": {"id": id, "startLine": i64::MAX, "lines": ["x"]}});
        refused(&runner.client, "the last line there is", APPEND, far, "BAD_USER_INPUT", "startLine").await;
        assert_eq!(olga.task(&id).await["status"], "RUNNING");
        assert!(olga.log(&id).await.is_empty());
        let outputs = json!([output("large", &"x".repeat(64 * 1024))]);
        let report = json!({"id": id, "status": "SUCCEEDED", "outputs": outputs});
        assert_eq!(runner.update(report).await.task_status(), "SUCCEEDED");
    }
}
