//! How large an answer can be: payloads, outputs and logs count each time that they are told.

use serde_json::{Value, json};

use super::assert_refused;
use crate::lists::{costs_the_same, statements_of};
use crate::support::{Answer, TestApp, TestRunner, on_both};

/// Most bytes of an answer in these tests.
const MOST: usize = 20_000;
const SETTINGS: [(&str, &str); 2] = [("max-answer-bytes", "20000"), ("max-body-bytes", "20000")];

/// A payload of so many bytes of JSON: a text has two quotes.
fn payload(bytes: usize) -> Value {
    json!("x".repeat(bytes - 2))
}

/// Checks that an answer was refused for its size.
#[track_caller]
fn assert_too_large(answer: &Answer) {
    assert_refused(answer, "QUERY_TOO_COMPLEX", "");
    assert_eq!(answer.status, 200, "it was begun");
    let message = answer.message();
    assert!(message.contains("20000 bytes") && message.contains("max_answer_bytes"), "{message}");
}

/// Reports an output of a task that goes on.
async fn put_output(runner: &TestRunner, id: &str, name: &str, bytes: usize) {
    let outputs = json!([{"name": name, "value": "x".repeat(bytes)}]);
    let answer = runner.update(json!({"id": id, "status": "RUNNING", "outputs": outputs})).await;
    assert_eq!(answer.task_status(), "RUNNING");
}

on_both! {
    async fn payloads_fit_into_an_answer_up_to_the_last_byte(database) {
        let app = TestApp::start_with(database, &SETTINGS).await;
        let olga = app.acme().await;
        let large = olga.enqueue(json!({"payload": payload(12_000)})).await;
        let small = olga.enqueue(json!({"payload": payload(MOST - 12_000)})).await;
        let all = "{ tasks { nodes { payload } } }";
        let expected = json!([{"payload": payload(MOST - 12_000)}, {"payload": payload(12_000)}]);
        assert_eq!(olga.data(all, json!({})).await["tasks"]["nodes"], expected);

        // One byte more.
        let last = olga.enqueue(json!({"payload": 1})).await;
        assert_too_large(&olga.post(all, json!({})).await);
        let fewer = "{ tasks(first: 2) { nodes { payload } } }";
        let expected = json!([{"payload": 1}, {"payload": payload(MOST - 12_000)}]);
        assert_eq!(olga.data(fewer, json!({})).await["tasks"]["nodes"], expected);

        // What fits is there beside what does not.
        let query = "query($a: ID!, $b: ID!, $c: ID!) { \
                     a: task(id: $a) { payload } b: task(id: $b) { payload } c: task(id: $c) { payload } }";
        let answer = olga.post(query, json!({"a": large, "b": small, "c": last})).await;
        assert_too_large(&answer);
        let expected = json!({"a": {"payload": payload(12_000)}, "b": {"payload": payload(MOST - 12_000)}, "c": null});
        assert_eq!(answer.body["data"], expected);
        assert_eq!(answer.body["errors"].as_array().unwrap().len(), 1);

        // Each name counts, although it is read once.
        let query = "query($id: ID!) { task(id: $id) { a: payload b: payload } }";
        let expected = json!({"a": payload(8_000), "b": payload(8_000)});
        assert_eq!(olga.data(query, json!({"id": small})).await["task"], expected);
        let answer = olga.post(query, json!({"id": large})).await;
        assert_too_large(&answer);
        assert_eq!(answer.body["data"]["task"], Value::Null);
    }

    async fn outputs_fit_into_an_answer_up_to_the_last_byte(database) {
        let app = TestApp::start_with(database, &SETTINGS).await;
        let (olga, runner, id) = app.running_task().await;
        // With its name each is a byte longer.
        put_output(&runner, &id, "a", 11_999).await;
        put_output(&runner, &id, "b", 7_999).await;
        let query = "query($id: ID!) { task(id: $id) { outputs { name value } } }";
        let expected = json!([{"name": "a", "value": "x".repeat(11_999)}, {"name": "b", "value": "x".repeat(7_999)}]);
        assert_eq!(olga.data(query, json!({"id": id})).await["task"]["outputs"], expected);
        for more in ["outputs { name again: name value }", "outputs { name value } more: outputs { value }"] {
            let query = format!("query($id: ID!) {{ task(id: $id) {{ {more} }} }}");
            assert_too_large(&olga.post(&query, json!({"id": id})).await);
        }
        let names = "query($id: ID!) { task(id: $id) { outputs { name again: name } more: outputs { name } } }";
        assert_eq!(olga.data(names, json!({"id": id})).await["task"]["more"], json!([{"name": "a"}, {"name": "b"}]));

        // One byte more, and they are not even read.
        put_output(&runner, &id, "c", 0).await;
        assert_too_large(&olga.post(query, json!({"id": id})).await);
        assert_too_large(&olga.post(names, json!({"id": id})).await);
        // The rest of the task is there all the same.
        let rest = olga.data("{ tasks { nodes { status } } }", json!({})).await;
        assert_eq!(rest["tasks"]["nodes"], json!([{"status": "RUNNING"}]));
    }

    async fn lines_of_logs_fit_into_an_answer_up_to_a_number_of_bytes(database) {
        let app = TestApp::start_with(database, &SETTINGS).await;
        let (olga, runner, id) = app.running_task().await;
        let lines = [11_000, 8_000, 1_100].map(|bytes| "x".repeat(bytes));
        assert_eq!(runner.append(&id, 0, &[&lines[0]]).await, 1);
        assert_eq!(runner.append(&id, 1, &[&lines[1]]).await, 2);
        let query = "query($id: ID!, $first: Int) { task(id: $id) { log(first: $first) { nodes { text } } } }";
        let expected = json!([{"text": lines[0]}, {"text": lines[1]}]);
        assert_eq!(olga.data(query, json!({"id": id, "first": 100})).await["task"]["log"]["nodes"], expected);
        for more in [
            "log { nodes { text again: text } }",
            "log { nodes { text } edges { node { text } } }",
            "log { nodes { text } } more: log { nodes { text } }",
        ] {
            let query = format!("query($id: ID!) {{ task(id: $id) {{ {more} }} }}");
            assert_too_large(&olga.post(&query, json!({"id": id})).await);
        }

        assert_eq!(runner.append(&id, 2, &[&lines[2]]).await, 3);
        assert_too_large(&olga.post(query, json!({"id": id, "first": 100})).await);
        let expected = json!([{"text": lines[0]}]);
        assert_eq!(olga.data(query, json!({"id": id, "first": 1})).await["task"]["log"]["nodes"], expected);
    }

    async fn each_part_of_a_log_that_is_followed_is_an_answer_of_its_own(database) {
        let app = TestApp::start_with(database, &SETTINGS).await;
        let (olga, runner, id) = app.running_task().await;
        let lines: Vec<String> = (0..4).map(|number| number.to_string().repeat(9_000)).collect();
        for (number, line) in (0..).zip(&lines) {
            assert_eq!(runner.append(&id, number, &[line]).await, number + 1);
        }
        let follow = "subscription($id: ID!) { taskLog(taskId: $id) { lines { text } } }";
        let mut stream = app.events(&olga, follow, json!({"id": id})).await;
        let mut heard: Vec<String> = Vec::new();
        while heard.len() < lines.len() {
            let (_, message) = stream.next().await.unwrap();
            assert!(message.get("errors").is_none(), "{}", message["errors"]);
            let part = message["data"]["taskLog"]["lines"].as_array().unwrap();
            heard.extend(part.iter().map(|line| line["text"].as_str().unwrap().to_owned()));
        }
        assert!(heard == lines, "the lines are not those that were sent");

        let follow = "subscription($id: ID!) { taskLog(taskId: $id) { lines { text b: text c: text } } }";
        let mut stream = app.events(&olga, follow, json!({"id": id})).await;
        let (_, message) = stream.next().await.unwrap();
        assert_eq!(message["errors"][0]["extensions"]["code"], "QUERY_TOO_COMPLEX");
    }

    async fn no_task_is_taken_whose_payload_would_not_fit(database) {
        let app = TestApp::start_with(database, &SETTINGS).await;
        let olga = app.acme().await;
        let runner = app.register_runner("one").await;
        let first = olga.enqueue(json!({"payload": payload(19_000)})).await;
        let second = olga.enqueue(json!({"payload": payload(19_000)})).await;
        let twice = "mutation { a: fetchTask(input: {}) { task { payload } } \
                     b: fetchTask(input: {}) { task { payload } } }";
        assert_too_large(&runner.client.post(twice, json!({})).await);
        assert_eq!(olga.task(&first).await["status"], "RUNNING");
        assert_eq!(olga.task(&second).await["status"], "QUEUED");
        // By itself it is given out.
        let fetched = runner.fetch(0).await;
        assert_eq!((&fetched["task"]["id"], &fetched["task"]["payload"]), (&json!(second), &payload(19_000)));
    }

    async fn a_payload_is_the_same_over_every_transport(database) {
        let app = TestApp::start(database).await;
        let olga = app.acme().await;
        let payload = json!({"z": [0, -1.5, null, {}, []], "a": "\u{df} \"\n\u{1}", "": {"b": true}});
        let id = olga.enqueue(json!({"payload": payload})).await;
        let query = "query($id: ID!) { task(id: $id) { name payload } }";
        let expected = json!({"task": {"name": "build", "payload": payload}});
        assert_eq!(olga.data(query, json!({"id": id})).await, expected);
        let (_, message) = app.events(&olga, query, json!({"id": id})).await.next().await.unwrap();
        assert_eq!(message["data"], expected);
        let mut socket = app.socket(&olga).await;
        socket.subscribe("task", query, json!({"id": id})).await;
        assert_eq!(socket.next_data("task").await, expected);
    }

    async fn the_sizes_of_many_cost_as_many_statements_as_that_of_one(database) {
        let app = TestApp::start_with(database, &SETTINGS).await;
        let olga = app.acme().await;
        let runner = app.register_runner("one").await;
        let add = async || {
            let id = olga.enqueue(json!({"payload": payload(1_000)})).await;
            assert_eq!(runner.take().await, id);
            put_output(&runner, &id, "a", 500).await;
            assert_eq!(runner.append(&id, 0, &["a line", "another"]).await, 2);
        };
        add().await;
        let query = "{ tasks { nodes { payload outputs { name value } log(first: 1) { nodes { text } } } } }";
        let lone = statements_of(&app, &olga, query).await;
        for _ in 1..12 {
            add().await;
        }
        assert_eq!(olga.data(query, json!({})).await["tasks"]["nodes"].as_array().unwrap().len(), 12);
        costs_the_same(&app, &olga, query, lone).await;
    }
}
