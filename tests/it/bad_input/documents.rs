//! Documents that are no GraphQL, do not fit, or ask for too much; and bodies that are too large to hold one.

use std::time::Duration;

use serde_json::{Value, json};

use super::{assert_readable, refused, still_answers};
use crate::http::raw;
use crate::support::{Answer, ServerProcess, Shown, TestApp, on_both};

/// How long an answer may take that refuses: reading would take for ever.
const AT_ONCE: Duration = Duration::from_secs(5);

/// The largest body that is read, unless configured.
const LARGEST_BODY: usize = 1_572_864;

/// A document whose fragments spread each other twice.
fn bomb(fragments: usize) -> String {
    let parts = (0..fragments).map(|number| {
        let next = number + 1;
        format!(" fragment F{number} on Query {{ ...F{next} ...F{next} }}")
    });
    let parts: Vec<String> = parts.collect();
    format!("{{ ...F0 }}{} fragment F{fragments} on Query {{ __typename }}", parts.concat())
}

/// A document of fragments that spread each one the next; `around` is what stands around a spread.
fn chain(fragments: usize, around: (&str, &str)) -> String {
    let (before, after) = around;
    let parts = (0..fragments).map(|number| format!("fragment f{number} on Q{{{before}...f{}{after}}}", number + 1));
    let parts: Vec<String> = parts.collect();
    format!("{{...f0}}{}fragment f{fragments} on Q{{a}}", parts.concat())
}

on_both! {
    async fn invalid_documents_are_refused(database) {
        let app = TestApp::start(database).await;
        let admin = app.admin();
        for document in [
            "{ nope }",
            "{ runner { id nope } }",
            "{ runners(nope: 1) { totalCount } }",
            "{ viewer }",
            "{ viewer { login } }",
            "{ runners { totalCount { x } } }",
            "{ runner(id: $id) { id } }",
            "query($id: ID!) { __typename }",
            "query($id: Nope) { runner(id: $id) { id } }",
            "query($id: Runner) { runner(id: $id) { id } }",
            "{ ...Nope }",
            "{ __typename } fragment Unused on Query { __typename }",
            "{ ...F } fragment F on Query { ...F }",
            "{ ...F } fragment F on Query { ...G } fragment G on Query { ...F }",
            "{ ...F } fragment F on Runner { id }",
            "{ viewer @nope { __typename } }",
            "{ a: __typename a: viewer { __typename } }",
            "mutation { heartbeat { serverTime } }",
            "mutation { heartbeat(input: {nope: 1}) { serverTime } }",
            "mutation { nope }",
            "query($statuses: [RunnerStatus!]) { runners(filter: {statuses: $statuses}) { totalCount } }",
        ] {
            let variables = json!({"statuses": ["NOPE"]});
            refused(&admin, document, document, variables, "GRAPHQL_VALIDATION_FAILED", "").await;
        }
        for document in [
            "{ ",
            "{ a ",
            "}",
            "{ }",
            "hello",
            "query",
            "{ a(b: ) }",
            "{ a(b: \"unclosed) }",
            "{ a(b: \"\"\"unclosed) }",
            "{ a(b: \"\\ud800\") }",
            "{ a(b: \"\\udc00\") }",
            "{ a(b: \"\\x\") }",
            "{ a(b: 01) }",
            "{ a } { b }",
            "query A { a } query A { b }",
            "fragment F on Query { a }",
            "{ a \u{0} }",
            "\u{202e}{ a }",
        ] {
            refused(&admin, document, document, json!({}), "GRAPHQL_PARSE_FAILED", "").await;
        }
        for document in ["", "   ", "\n\t"] {
            refused(&admin, "nothing", document, json!({}), "BAD_USER_INPUT", "query").await;
        }
        still_answers(&app).await;
    }

    async fn documents_that_nest_too_deep_are_refused(database) {
        let app = TestApp::start(database).await;
        let admin = app.admin();
        for (what, document) in [
            ("fields, 100 deep", format!("{}a{}", "{a".repeat(100), "}".repeat(100))),
            ("fields, 50,000 deep", format!("{}a{}", "{a".repeat(50_000), "}".repeat(50_000))),
            ("fields, never closed", "{a".repeat(50_000)),
            ("inline fragments", format!("{}a{}", "{... on Query".repeat(15_000), "}".repeat(15_000))),
            ("lists", format!("{{a(b:{}{})}}", "[".repeat(50_000), "]".repeat(50_000))),
            ("lists, never closed", format!("{{a(b:{}", "[".repeat(50_000))),
            ("objects", format!("{{a(b:{}1{})}}", "{c:".repeat(50_000), "}".repeat(50_000))),
            ("types", format!("query($a:{}Int{}) {{a}}", "[".repeat(50_000), "]".repeat(50_000))),
            ("brackets alone", "(".repeat(100_000)),
            ("fragments that nest a field each", chain(100, ("a{", "}"))),
        ] {
            let answer = refused(&admin, what, &document, json!({}), "QUERY_TOO_DEEP", "");
            assert!(tokio::time::timeout(AT_ONCE, answer).await.is_ok(), "{what} took too long");
        }
        still_answers(&app).await;
    }

    async fn fragments_that_nest_only_each_other_are_too_deep(database) {
        let app = TestApp::start(database).await;
        refused(&app.admin(), "100 fragments", &chain(100, ("", "")), json!({}), "QUERY_TOO_DEEP", "").await;
        still_answers(&app).await;
    }

    async fn documents_that_cost_too_much_are_refused_at_once(database) {
        let app = TestApp::start(database).await;
        let admin = app.admin();
        let lists = |size: &str, depth: usize| {
            let list = format!("runners(first: {size}) {{ nodes {{ scope {{ ");
            format!("query($n: Int = 100) {{ {}path{} }}", list.repeat(depth), " } } }".repeat(depth))
        };
        let aliases: Vec<String> = (0..1_001).map(|number| format!("a{number}: __typename")).collect();
        let (bombs, open) = ([bomb(21), bomb(25)], [lists("100", 3), lists("$n", 3), lists("100", 2)]);
        for document in bombs.iter().chain(&open).chain([&format!("{{ {} }}", aliases.join(" "))]) {
            let what: String = document.chars().take(60).collect();
            let over_http = refused(&admin, &what, document, json!({}), "QUERY_TOO_COMPLEX", "");
            assert!(tokio::time::timeout(AT_ONCE, over_http).await.is_ok(), "{what} took too long over HTTP");

            let over_events = async {
                let request = admin.http.post(format!("{}/graphql", app.url)).header("accept", "text/event-stream");
                admin.send(request.json(&json!({"query": document}))).await
            };
            let answer = tokio::time::timeout(AT_ONCE, over_events).await.expect("it took too long over SSE");
            assert!(answer.body.to_string().contains("QUERY_TOO_COMPLEX"), "{what}: {}", answer.body);

            let over_socket = async {
                let mut socket = app.socket(&admin).await;
                socket.subscribe("bomb", document, json!({})).await;
                socket.next_of("bomb").await
            };
            let message = tokio::time::timeout(AT_ONCE, over_socket).await.expect("it took too long over WebSocket");
            assert_eq!(message["type"], "error", "{message}");
            assert_eq!(message["payload"][0]["extensions"]["code"], "QUERY_TOO_COMPLEX", "{message}");
        }
        // A size that a variable sets counts with its value.
        let fair = lists("$n", 2);
        let fair = fair.as_str();
        refused(&admin, "a hundred hundreds", fair, json!({"n": 100}), "QUERY_TOO_COMPLEX", "").await;
        admin.data(fair, json!({"n": 10})).await;
        still_answers(&app).await;
    }

    async fn errors_are_few_and_short(database) {
        let app = TestApp::start(database).await;
        let admin = app.admin();
        let long = "x".repeat(300);
        let invalid: Vec<String> = (0..500).map(|number| format!("nope{number}{long}")).collect();
        let failing = (0..300).map(|number| format!("a{number}: runner(id: \"{long}\") {{ id }}"));
        let failing: Vec<String> = failing.collect();
        let name = "x".repeat(100_000);
        for (what, document, variables) in [
            ("hundreds of invalid fields", format!("{{ {} }}", invalid.join(" ")), json!({})),
            ("hundreds of failing fields", format!("{{ {} }}", failing.join(" ")), json!({})),
            ("a long field", format!("{{ {name} }}"), json!({})),
            ("a long argument", format!("{{ runners({name}: 1) {{ totalCount }} }}"), json!({})),
            ("a long fragment", format!("{{ ...{name} }}"), json!({})),
            ("a long variable", format!("{{ runners(first: ${name}) {{ totalCount }} }}"), json!({})),
            ("a long directive", format!("{{ viewer @{name} {{ __typename }} }}"), json!({})),
            ("a long operation", format!("query {name} {{ __typename nope }}"), json!({})),
            (
                "a long value",
                "query($scope: ScopeInput) { runners(scope: $scope) { totalCount } }".to_owned(),
                json!({"scope": name}),
            ),
            ("a long id", "query($id: ID!) { node(id: $id) { id } }".to_owned(), json!({"id": name})),
            ("a long UUID", "query($id: UUID!) { runner(uuid: $id) { id } }".to_owned(), json!({"id": name})),
            ("no GraphQL", format!("{{ {name} {name} ("), json!({})),
        ] {
            let answer = admin.post(&document, variables).await;
            assert_readable(what, &answer);
            let errors = answer.body["errors"].as_array().unwrap();
            let longest = errors.iter().map(|error| error["message"].as_str().unwrap().chars().count()).max();
            assert!(longest <= Some(256), "{what}: {longest:?} characters");
        }
        still_answers(&app).await;
    }

    async fn a_name_that_is_there_twice_is_not_repeated_at_length(database) {
        let app = TestApp::start(database).await;
        let name = "x".repeat(100_000);
        let operations = format!("query {name} {{ a }} query {name} {{ a }}");
        let fragments = format!("{{ a }} fragment {name} on Query {{ a }} fragment {name} on Query {{ a }}");
        for (what, document) in [("an operation", operations), ("a fragment", fragments)] {
            let answer = app.admin().post(&document, json!({})).await;
            assert_readable(what, &answer);
            assert!(answer.message().chars().count() <= 256, "{what}: {}", answer.message());
        }
        still_answers(&app).await;
    }

    async fn bodies_that_are_too_large_are_not_read(database) {
        let app = TestApp::start(database).await;
        let admin = app.admin();
        let query = json!({"query": "{ viewer { __typename } }"}).to_string();
        let head = "POST /graphql HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
        let size = 3 * 1024 * 1024;

        let announced = format!("{head}content-length: {size}\r\n\r\n{}", "x".repeat(size));
        let part = "x".repeat(64 * 1024);
        let parts = format!("{:x}\r\n{part}\r\n", part.len()).repeat(size / part.len());
        let chunked = format!("{head}transfer-encoding: chunked\r\n\r\n{parts}0\r\n\r\n");
        let padded = |size: usize| format!("{query}{}", " ".repeat(size - query.len()));
        let valid = padded(LARGEST_BODY + 1);
        let valid = format!("{head}content-length: {}\r\n\r\n{valid}", valid.len());
        for (what, request) in [("announced", announced), ("in parts", chunked), ("a byte too many", valid)] {
            let answer = raw(&app.url, request.into_bytes()).await;
            assert_eq!(answer.status, 413, "{what}: {}", answer.body);
            assert!(answer.head.contains("\r\nconnection: close"), "{what}: {}", answer.head);
            let body: Value = serde_json::from_str(&answer.body).unwrap();
            let answer = Answer { status: answer.status, headers: reqwest::header::HeaderMap::new(), body };
            assert_readable(what, &answer);
            assert_eq!((answer.code().as_str(), answer.field().as_str()), ("BAD_USER_INPUT", "body"), "{what}");
            still_answers(&app).await;
        }
        // Nobody has to send what will not be read.
        let answer = raw(&app.url, format!("{head}content-length: {size}\r\n\r\n").into_bytes()).await;
        assert_eq!(answer.status, 413, "{}", answer.body);

        let request = admin.http.post(format!("{}/graphql", app.url)).header("content-type", "application/json");
        let answer = admin.send(request.body(padded(LARGEST_BODY))).await;
        assert_eq!((answer.status, &answer.body["data"]["viewer"]["__typename"]), (200, &json!("User")));
    }
}

/// What exhausts a stack ends the whole process, so this one has a process of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_document_exhausts_the_stack() {
    let folder = tempfile::tempdir().unwrap();
    let database = format!("sqlite://{}", folder.path().join("rollcall.sqlite3").display());
    let server = Box::pin(ServerProcess::start(folder.path(), &database, &[])).await;
    let client = server.client(Shown::Nothing);
    // The three quotes open no block string that ends: an eye that skips such a string does not see the brackets.
    let hidden = |open: &str, close: &str| format!("{{a(b:[\"\"\"x\" {}1{}])}}", open.repeat(700), close.repeat(700));
    for (what, document) in [
        ("a chain of 9,000 fragments", chain(9_000, ("", ""))),
        ("a chain of 7,000 fragments with a field each", chain(7_000, ("a{", "}"))),
        ("lists behind a string", hidden("[", "]")),
        ("objects behind a string", hidden("{c:", "}")),
        ("lists in objects behind a string", hidden("[{c:", "}]")),
        ("fields behind a string", format!("{{a(b:[\"\"\"x\"]){}", "{a".repeat(50_000))),
    ] {
        assert!(document.len() < LARGEST_BODY - 1_000, "{what}: {} bytes", document.len());
        let answer = client.post(&document, json!({})).await;
        assert_readable(what, &answer);
        let codes = ["QUERY_TOO_DEEP", "QUERY_TOO_COMPLEX", "GRAPHQL_PARSE_FAILED"];
        assert!(codes.contains(&answer.code().as_str()), "{what}: {}", answer.body);
        assert_eq!(client.data("{ __typename }", json!({})).await, json!({"__typename": "Query"}), "after {what}");
    }
}
