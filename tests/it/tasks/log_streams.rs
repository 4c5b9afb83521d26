//! Logs that are followed: what is there, then what comes, each line once, until nothing more can come.

use std::time::Duration;

use rollcall::events::EventKind;
use serde_json::{Value, json};

use super::text;
use crate::support::{Client, Socket, TestApp, on_both};

/// A clock that is moved does not make the server ping.
const CALM: [(&str, &str); 1] = [("keepalive-interval", "24h")];
/// How long nothing has to come to count as nothing.
const A_WHILE: Duration = Duration::from_millis(200);
const FOLLOW: &str = "subscription($id: ID!, $after: Int!) { taskLog(taskId: $id, afterLine: $after) { \
    firstLine lines { line text at } } }";

/// A socket with one subscription to a log, named `log`.
async fn follow(app: &TestApp, client: &Client, id: &str, after: usize) -> Socket {
    let mut socket = app.socket(client).await;
    socket.subscribe("log", FOLLOW, json!({"id": id, "after": after})).await;
    socket
}

/// The lines of a chunk, with the number of the first; they are numbered one after the other.
fn lines(chunk: &Value) -> (usize, Vec<String>) {
    let first = usize::try_from(chunk["firstLine"].as_u64().unwrap()).unwrap();
    let lines = chunk["lines"].as_array().unwrap();
    assert!(!lines.is_empty(), "{chunk}");
    for (number, line) in (first..).zip(lines) {
        assert_eq!(line["line"], number, "{chunk}");
    }
    (first, lines.iter().map(|line| text(&line["text"])).collect())
}

async fn next_lines(socket: &mut Socket) -> (usize, Vec<String>) {
    lines(&socket.next_data("log").await["taskLog"])
}

fn chunk(first: usize, lines: &[&str]) -> (usize, Vec<String>) {
    (first, lines.iter().map(|line| (*line).to_owned()).collect())
}

async fn assert_complete(socket: &mut Socket) {
    assert_eq!(socket.next_of("log").await, json!({"type": "complete", "id": "log"}));
}

/// All lines that come until the stream is complete; the first has this number.
async fn all_lines(socket: &mut Socket, first: usize) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        let message = socket.next_of("log").await;
        if message["type"] == "complete" {
            return all;
        }
        assert!(message["payload"].get("errors").is_none(), "{message}");
        let (start, more) = lines(&message["payload"]["data"]["taskLog"]);
        assert_eq!(start, first + all.len(), "a line is missing, or came again: {message}");
        all.extend(more);
    }
}

on_both! {
    async fn a_log_is_told_as_it_is_and_then_as_it_grows(database) {
        let app = TestApp::start_with(database, &CALM).await;
        let (olga, runner, id) = app.running_task().await;
        assert_eq!(runner.append(&id, 0, &["a", "b"]).await, 2);
        let at = app.now().to_rfc3339();
        let mut socket = follow(&app, &olga, &id, 0).await;
        let expected = json!([{"line": 0, "text": "a", "at": at}, {"line": 1, "text": "b", "at": at}]);
        assert_eq!(socket.next_data("log").await["taskLog"], json!({"firstLine": 0, "lines": expected}));
        app.advance(Duration::from_secs(1));
        assert_eq!(runner.append(&id, 1, &["b", "c"]).await, 3);
        let expected = json!([{"line": 2, "text": "c", "at": app.now().to_rfc3339()}]);
        assert_eq!(socket.next_data("log").await["taskLog"], json!({"firstLine": 2, "lines": expected}));
        // What came before is not told again.
        assert_eq!(runner.append(&id, 0, &["a", "b", "c"]).await, 3);
        assert!(socket.is_quiet_for(A_WHILE).await);
        runner.finish(&id, "SUCCEEDED").await;
        assert!(socket.is_quiet_for(A_WHILE).await, "there may be lines to come");
        let last = json!({"id": id, "startLine": 3, "lines": ["d"], "final": true});
        assert!(runner.try_append(last).await.code().is_empty());
        assert_eq!(next_lines(&mut socket).await, chunk(3, &["d"]));
        assert_complete(&mut socket).await;
    }

    async fn a_log_whose_last_line_came_before_the_end_is_complete_at_the_end(database) {
        let app = TestApp::start_with(database, &CALM).await;
        let (olga, runner, id) = app.running_task().await;
        let mut socket = follow(&app, &olga, &id, 0).await;
        let last = json!({"id": id, "startLine": 0, "lines": ["a"], "final": true});
        assert!(runner.try_append(last).await.code().is_empty());
        assert_eq!(next_lines(&mut socket).await, chunk(0, &["a"]));
        // The task may be given out again.
        assert!(socket.is_quiet_for(A_WHILE).await);
        runner.finish(&id, "FAILED").await;
        assert_complete(&mut socket).await;
    }

    async fn a_log_without_a_last_line_is_complete_when_no_more_is_taken(database) {
        let app = TestApp::start_with(database, &CALM).await;
        let (olga, runner, id) = app.running_task().await;
        let mut socket = app.socket(&olga).await;
        app.listen(&mut socket, "log", EventKind::Log, FOLLOW, json!({"id": id, "after": 0})).await;
        assert_eq!(runner.append(&id, 0, &["a"]).await, 1);
        assert_eq!(next_lines(&mut socket).await, chunk(0, &["a"]));
        runner.finish(&id, "SUCCEEDED").await;
        assert_eq!(runner.append(&id, 1, &["b"]).await, 2);
        assert_eq!(next_lines(&mut socket).await, chunk(1, &["b"]));
        app.advance(Duration::from_millis(59_999));
        assert!(socket.is_quiet_for(A_WHILE).await);
        app.advance(Duration::from_millis(1));
        assert_complete(&mut socket).await;
    }

    async fn the_log_of_a_task_that_is_cancelled_before_it_began_is_complete(database) {
        let app = TestApp::start_with(database, &CALM).await;
        let olga = app.acme().await;
        let id = olga.enqueue(json!({})).await;
        let mut socket = app.socket(&olga).await;
        app.listen(&mut socket, "log", EventKind::Log, FOLLOW, json!({"id": id, "after": 0})).await;
        assert_eq!(olga.cancel(&id).await.task_status(), "CANCELLED");
        assert_complete(&mut socket).await;
    }

    async fn a_log_that_is_complete_is_told_and_ends(database) {
        let app = TestApp::start_with(database, &CALM).await;
        let (olga, runner, id) = app.running_task().await;
        assert_eq!(runner.append(&id, 0, &["a", "b", "c"]).await, 3);
        assert_eq!(runner.append(&id, 3, &["d"]).await, 4);
        runner.finish(&id, "SUCCEEDED").await;
        app.advance(Duration::from_mins(1));
        let table: [(usize, &[&str]); 5] =
            [(0, &["a", "b", "c", "d"]), (1, &["b", "c", "d"]), (3, &["d"]), (4, &[]), (9, &[])];
        for (after, expected) in table {
            let mut socket = follow(&app, &olga, &id, after).await;
            assert_eq!(all_lines(&mut socket, after).await, expected, "after {after}");
        }
    }

    async fn a_follower_may_have_lines_already(database) {
        let app = TestApp::start_with(database, &CALM).await;
        let (olga, runner, id) = app.running_task().await;
        assert_eq!(runner.append(&id, 0, &["a", "b", "c"]).await, 3);
        let mut middle = follow(&app, &olga, &id, 1).await;
        assert_eq!(next_lines(&mut middle).await, chunk(1, &["b", "c"]));
        // One that has more than there is waits for what it lacks.
        let mut ahead = app.socket(&olga).await;
        app.listen(&mut ahead, "log", EventKind::Log, FOLLOW, json!({"id": id, "after": 5})).await;
        assert_eq!(runner.append(&id, 3, &["d"]).await, 4);
        assert_eq!(runner.append(&id, 4, &["e", "f"]).await, 6);
        assert_eq!(next_lines(&mut middle).await, chunk(3, &["d"]));
        assert_eq!(next_lines(&mut middle).await, chunk(4, &["e", "f"]));
        assert_eq!(next_lines(&mut ahead).await, chunk(5, &["f"]));
        for socket in [&mut middle, &mut ahead] {
            assert!(socket.is_quiet_for(A_WHILE).await);
        }
        let mut refused = app.socket(&olga).await;
        refused.subscribe("log", FOLLOW, json!({"id": id, "after": -1})).await;
        assert_eq!(refused.end_of("log").await, "BAD_USER_INPUT");
    }

    async fn a_follower_goes_along_into_the_next_attempt(database) {
        let app = TestApp::start_with(database, &CALM).await;
        let (olga, runner, id) = app.running_task().await;
        let mut socket = follow(&app, &olga, &id, 0).await;
        assert_eq!(runner.append(&id, 0, &["a", "b"]).await, 2);
        assert_eq!(next_lines(&mut socket).await, chunk(0, &["a", "b"]));
        assert_eq!(runner.release(&id).await.task_status(), "QUEUED");
        let other = app.register_runner("two").await;
        assert_eq!(other.take().await, id);
        assert_eq!(other.append(&id, 0, &["c"]).await, 1);
        assert_eq!(next_lines(&mut socket).await, chunk(2, &["c"]));
        let last = json!({"id": id, "startLine": 1, "lines": [], "final": true});
        assert!(other.try_append(last).await.code().is_empty());
        other.finish(&id, "SUCCEEDED").await;
        assert_complete(&mut socket).await;
    }

    async fn followers_that_begin_at_any_time_get_every_line_once(database) {
        let app = TestApp::start_with(database, &CALM).await;
        let (olga, runner, id) = app.running_task().await;
        let expected: Vec<String> = (0..600).map(|number| format!("line {number}")).collect();
        let mut followers = Vec::new();
        for (batch, lines) in expected.chunks(4).enumerate() {
            if batch.is_multiple_of(25) {
                // From the start, and with a part of it.
                for after in [0, (4 * batch).saturating_sub(2)] {
                    followers.push((after, follow(&app, &olga, &id, after).await));
                }
            }
            let input = json!({"id": id, "startLine": 4 * batch, "lines": lines});
            assert!(runner.try_append(input).await.code().is_empty());
        }
        let last = json!({"id": id, "startLine": expected.len(), "lines": [], "final": true});
        assert!(runner.try_append(last).await.code().is_empty());
        runner.finish(&id, "SUCCEEDED").await;
        for (after, mut socket) in followers {
            assert_eq!(all_lines(&mut socket, after).await, expected[after..], "after {after}");
        }
    }

    async fn a_follower_that_reads_nothing_for_a_while_misses_nothing(database) {
        let app = TestApp::start_with(database, &[CALM[0], ("subscription-buffer", "4")]).await;
        let (olga, runner, id) = app.running_task().await;
        let mut socket = app.socket(&olga).await;
        app.listen(&mut socket, "log", EventKind::Log, FOLLOW, json!({"id": id, "after": 0})).await;
        // Far more than a connection holds.
        let long = "x".repeat(60_000);
        let expected: Vec<String> = (0..200).map(|number| format!("{number} {long}")).collect();
        for (number, line) in expected.iter().enumerate() {
            let input = json!({"id": id, "startLine": number, "lines": [line]});
            assert!(runner.try_append(input).await.code().is_empty());
        }
        let last = json!({"id": id, "startLine": expected.len(), "lines": [], "final": true});
        assert!(runner.try_append(last).await.code().is_empty());
        runner.finish(&id, "SUCCEEDED").await;
        assert!(all_lines(&mut socket, 0).await == expected, "the lines are not those that were sent");
    }

    async fn over_server_sent_events_a_log_is_the_same(database) {
        let app = TestApp::start_with(database, &CALM).await;
        let (olga, runner, id) = app.running_task().await;
        assert_eq!(runner.append(&id, 0, &["a", "b"]).await, 2);
        let mut stream = app.events(&olga, FOLLOW, json!({"id": id, "after": 1})).await;
        let (event, data) = stream.next().await.unwrap();
        assert_eq!((event.as_str(), lines(&data["data"]["taskLog"])), ("next", chunk(1, &["b"])));
        assert_eq!(runner.append(&id, 2, &["c"]).await, 3);
        let (event, data) = stream.next().await.unwrap();
        assert_eq!((event.as_str(), lines(&data["data"]["taskLog"])), ("next", chunk(2, &["c"])));
        let last = json!({"id": id, "startLine": 3, "lines": ["d"], "final": true});
        assert!(runner.try_append(last).await.code().is_empty());
        let (event, data) = stream.next().await.unwrap();
        assert_eq!((event.as_str(), lines(&data["data"]["taskLog"])), ("next", chunk(3, &["d"])));
        runner.finish(&id, "SUCCEEDED").await;
        assert_eq!(stream.next().await, Some(("complete".to_owned(), Value::Null)));
        assert_eq!(stream.next().await, None);
    }
}
