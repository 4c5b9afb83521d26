//! Lines of logs: taken in order, kept once, and not without end.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::assert_refused;
use crate::support::{TestApp, TestRunner, on_both};

/// Longest line that is taken, in bytes, and most lines of one call.
const LONGEST_LINE: usize = 64 * 1024;
const MOST_LINES: usize = 1_000;

/// How many lines the server says that it has; with what it does not take it fails.
async fn append(runner: &TestRunner, input: Value) -> Value {
    let answer = runner.try_append(input).await;
    assert!(answer.body.get("errors").is_none(), "{}", answer.body);
    answer.body["data"]["appendTaskLog"]["acknowledgedLine"].clone()
}

on_both! {
    async fn lines_that_come_again_are_kept_once(database) {
        let app = TestApp::start(database).await;
        let (olga, runner, id) = app.running_task().await;
        assert_eq!(runner.append(&id, 0, &[]).await, 0);
        assert_eq!(runner.append(&id, 0, &["a", "b"]).await, 2);
        assert_eq!(runner.append(&id, 0, &["a", "b"]).await, 2);
        assert_eq!(runner.append(&id, 1, &["b", "", "d"]).await, 4);
        // What is there stays as it is.
        assert_eq!(runner.append(&id, 0, &["other"]).await, 4);
        assert_eq!(runner.append(&id, 4, &[]).await, 4);
        assert_eq!(olga.log(&id).await, ["a", "b", "", "d"]);
    }

    async fn the_same_lines_at_the_same_time_are_kept_once(database) {
        let app = TestApp::start(database).await;
        let (olga, runner, id) = app.running_task().await;
        let mut expected = Vec::new();
        for round in 0..5 {
            let lines = [format!("{round} a"), format!("{round} b"), format!("{round} c")];
            let input = json!({"id": id, "startLine": expected.len(), "lines": lines});
            expected.extend(lines);
            let answers = join_all((0..10).map(|_| append(&runner, input.clone()))).await;
            assert_eq!(answers, vec![json!(expected.len()); 10]);
        }
        assert_eq!(olga.log(&id).await, expected);
    }

    async fn a_gap_is_refused_and_says_where_to_go_on(database) {
        let app = TestApp::start(database).await;
        let (olga, runner, id) = app.running_task().await;
        assert_eq!(runner.append(&id, 0, &["a", "b", "c"]).await, 3);
        for start_line in [4, 1_000_000] {
            let input = json!({"id": id, "startLine": start_line, "lines": ["far"]});
            let answer = runner.try_append(input).await;
            assert_refused(&answer, "BAD_USER_INPUT", "startLine");
            assert!(answer.message().contains("from 3 on"), "{}", answer.message());
        }
        let input = json!({"id": id, "startLine": -1, "lines": ["before"]});
        assert_refused(&runner.try_append(input).await, "BAD_USER_INPUT", "startLine");
        assert_eq!(runner.append(&id, 3, &["d"]).await, 4);
        assert_eq!(olga.log(&id).await, ["a", "b", "c", "d"]);
    }

    async fn what_a_call_may_carry_is_bounded(database) {
        let app = TestApp::start(database).await;
        let (olga, runner, id) = app.running_task().await;
        for lines in [
            vec!["x".to_owned(); MOST_LINES + 1],
            vec!["fine".to_owned(), "x".repeat(65 * 1024)],
            // Bytes count, and not characters.
            vec!["ä".repeat(LONGEST_LINE / 2) + "x"],
            vec!["two\nlines".to_owned()],
            vec!["fine".to_owned(), "\n".to_owned()],
        ] {
            let what = format!("{} lines, the last of {} bytes", lines.len(), lines.last().map_or(0, String::len));
            let answer = runner.try_append(json!({"id": id, "startLine": 0, "lines": lines})).await;
            assert_eq!((answer.code().as_str(), answer.field().as_str()), ("BAD_USER_INPUT", "lines"), "{what}");
        }
        assert!(olga.log(&id).await.is_empty(), "a call that is refused leaves nothing");

        let lines = vec!["x".to_owned(); MOST_LINES];
        assert_eq!(append(&runner, json!({"id": id, "startLine": 0, "lines": lines})).await, MOST_LINES);
        let long = "ä".repeat(LONGEST_LINE / 2);
        let input = json!({"id": id, "startLine": MOST_LINES, "lines": [long, "\u{1b}[31mred\r", "a\u{0}b\u{0}"]});
        assert_eq!(append(&runner, input).await, MOST_LINES + 3);
        let log = olga.log(&id).await;
        assert_eq!(log[MOST_LINES..], [long.as_str(), "\u{1b}[31mred\r", "a\u{fffd}b\u{fffd}"]);
    }

    async fn the_last_line_closes_a_log(database) {
        let app = TestApp::start(database).await;
        let (olga, runner, id) = app.running_task().await;
        assert_eq!(append(&runner, json!({"id": id, "startLine": 0, "lines": ["a", "b"], "final": true})).await, 2);
        // The same again, since the answer may have been lost.
        assert_eq!(append(&runner, json!({"id": id, "startLine": 0, "lines": ["a", "b"], "final": true})).await, 2);
        assert_eq!(runner.append(&id, 1, &["b"]).await, 2);
        assert_eq!(runner.append(&id, 2, &[]).await, 2);
        let more = json!({"id": id, "startLine": 1, "lines": ["b", "more"]});
        assert_refused(&runner.try_append(more).await, "CONFLICT", "");
        assert_eq!(olga.log(&id).await, ["a", "b"]);
        runner.finish(&id, "SUCCEEDED").await;
        assert_eq!(runner.append(&id, 0, &["a", "b"]).await, 2);
    }

    async fn a_log_that_is_too_long_ends_with_a_line_that_says_so(database) {
        let app = TestApp::start_with(database, &[("max-task-log-bytes", "100")]).await;
        let (olga, runner, id) = app.running_task().await;
        let line = "x".repeat(40);
        assert_eq!(runner.append(&id, 0, &[&line, &line, "too much", &line, "x"]).await, 5);
        let log = olga.log(&id).await;
        assert_eq!(log[..3], [line.as_str(), line.as_str(), "too much"]);
        let [_, _, _, marker] = log.as_slice() else { panic!("{log:?}") };
        assert!(marker.contains("max_task_log_bytes") && marker.contains("100"), "{marker}");
        // The runner need not know: it goes on, and is told that its lines arrived.
        assert_eq!(runner.append(&id, 5, &["y", "z"]).await, 7);
        assert_eq!(runner.append(&id, 3, &["again"]).await, 4);
        assert_eq!(append(&runner, json!({"id": id, "startLine": 7, "lines": ["last"], "final": true})).await, 8);
        assert_eq!(olga.log(&id).await, log);
        let query = "query($id: ID!) { task(id: $id) { logLineCount logTruncated } }";
        let answer = olga.data(query, json!({"id": id})).await;
        assert_eq!(answer["task"], json!({"logLineCount": 4, "logTruncated": true}));
        // The next attempt has as much room.
        assert_eq!(runner.release(&id).await.task_status(), "QUEUED");
        assert_eq!(runner.take().await, id);
        assert_eq!(runner.append(&id, 0, &["anew", &line]).await, 2);
        assert_eq!(olga.log(&id).await[4..], ["anew", line.as_str()]);
    }

    async fn lines_are_taken_for_a_minute_after_the_end(database) {
        let app = TestApp::start(database).await;
        let (olga, runner, id) = app.running_task().await;
        assert_eq!(runner.append(&id, 0, &["before"]).await, 1);
        runner.finish(&id, "FAILED").await;
        assert_eq!(runner.append(&id, 1, &["after"]).await, 2);
        app.advance(Duration::from_millis(59_999));
        assert_eq!(runner.append(&id, 2, &["late"]).await, 3);
        app.advance(Duration::from_millis(1));
        let too_late = json!({"id": id, "startLine": 3, "lines": ["too late"]});
        assert_refused(&runner.try_append(too_late).await, "CONFLICT", "");
        assert_eq!(olga.log(&id).await, ["before", "after", "late"]);
    }

    async fn a_second_attempt_goes_on_where_the_first_ended(database) {
        let app = TestApp::start(database).await;
        let (olga, runner, id) = app.running_task().await;
        assert_eq!(append(&runner, json!({"id": id, "startLine": 0, "lines": ["a", "b"], "final": true})).await, 2);
        assert_eq!(runner.release(&id).await.task_status(), "QUEUED");
        let other = app.register_runner("two").await;
        assert_eq!(other.take().await, id);
        // Each attempt counts its own lines; the reader counts all.
        let gap = json!({"id": id, "startLine": 2, "lines": ["x"]});
        assert_refused(&other.try_append(gap).await, "BAD_USER_INPUT", "startLine");
        assert_eq!(other.append(&id, 0, &["c"]).await, 1);
        assert_eq!(other.append(&id, 0, &["c", "d"]).await, 2);
        other.finish(&id, "FAILED").await;
        assert_eq!(olga.retry(&id).await.task_status(), "QUEUED");
        assert_eq!(runner.take().await, id);
        assert_eq!(runner.append(&id, 0, &["e"]).await, 1);
        assert_eq!(olga.log(&id).await, ["a", "b", "c", "d", "e"]);
    }

    async fn a_log_is_read_in_pages(database) {
        let app = TestApp::start(database).await;
        let (olga, runner, id) = app.running_task().await;
        let query = "query($id: ID!, $first: Int, $after: String) { task(id: $id) { \
                     log(first: $first, after: $after) { \
                     totalCount nodes { line text at } edges { cursor node { line } } \
                     pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } } }";
        let empty = olga.data(query, json!({"id": id})).await["task"]["log"].clone();
        assert_eq!((&empty["totalCount"], &empty["nodes"], &empty["edges"]), (&json!(0), &json!([]), &json!([])));
        // In calls of different sizes, each at a time of its own.
        let lines: Vec<String> = (0..131).map(|number| format!("line {number}")).collect();
        let mut times = Vec::new();
        for (start, end) in [(0, 1), (1, 60), (60, 61), (61, 131)] {
            app.advance(Duration::from_secs(1));
            append(&runner, json!({"id": id, "startLine": start, "lines": lines[start..end]})).await;
            times.extend(vec![app.now().to_rfc3339(); end - start]);
        }
        let (mut read, mut after, mut sizes) = (Vec::new(), Value::Null, Vec::new());
        loop {
            let answer = olga.data(query, json!({"id": id, "first": 50, "after": after})).await;
            let page = &answer["task"]["log"];
            let (nodes, edges) = (page["nodes"].as_array().unwrap(), page["edges"].as_array().unwrap());
            assert_eq!((page["totalCount"].as_u64(), edges.len()), (Some(131), nodes.len()));
            assert_eq!(page["pageInfo"]["startCursor"], edges[0]["cursor"]);
            assert_eq!(page["pageInfo"]["endCursor"], edges[edges.len() - 1]["cursor"]);
            assert_eq!(page["pageInfo"]["hasPreviousPage"], !after.is_null());
            read.extend(nodes.iter().cloned());
            sizes.push(nodes.len());
            after = page["pageInfo"]["endCursor"].clone();
            if page["pageInfo"]["hasNextPage"] == false {
                break;
            }
        }
        assert_eq!(sizes, [50, 50, 31]);
        let numbered = (0_usize..).zip(lines.iter().zip(&times));
        let expected: Vec<Value> =
            numbered.map(|(line, (text, at))| json!({"line": line, "text": text, "at": at})).collect();
        assert_eq!(read, expected);
        let answer = olga.data(query, json!({"id": id})).await;
        assert_eq!(answer["task"]["log"]["nodes"].as_array().unwrap().len(), 30);
    }
}
