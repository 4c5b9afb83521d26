//! GraphQL over server-sent events (distinct connections mode): one operation a request, `next` for each answer, and
//! `complete` at the end.

use std::time::Duration;

use reqwest::RequestBuilder;
use serde_json::{Value, json};

use crate::support::{Client, Database, EventStream, Shown, TestApp};

/// As configured when nothing is said.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(10);

const SUMMARY: &str = "subscription { fleetSummary { total offline idle } }";

async fn start() -> TestApp {
    start_with(&[]).await
}

async fn start_with(settings: &[(&str, &str)]) -> TestApp {
    Box::pin(TestApp::start_with(Database::Sqlite, settings)).await
}

/// A request by POST that accepts a stream of events, with the client's credentials.
fn post(client: &Client, query: &str) -> RequestBuilder {
    let request = client.http.post(format!("{}/graphql", client.url)).headers(client.headers());
    request.header("accept", "text/event-stream").json(&json!({"query": query}))
}

/// The same by GET.
fn get(client: &Client, parameters: &[(&str, &str)]) -> RequestBuilder {
    let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
    let request = client.http.get(format!("{}/graphql?{query}", client.url)).headers(client.headers());
    request.header("accept", "text/event-stream")
}

/// The whole text of a stream that ends by itself.
async fn text(request: RequestBuilder) -> String {
    let response = request.send().await.unwrap();
    assert_eq!(response.status().as_u16(), 200);
    let headers = response.headers();
    assert!(headers["content-type"].to_str().unwrap().starts_with("text/event-stream"), "{headers:?}");
    // Nothing on the way may keep a stream, or collect it before passing it on.
    assert_eq!(headers["cache-control"], "no-store");
    assert_eq!(headers["x-accel-buffering"], "no");
    assert!(!headers["x-request-id"].is_empty());
    response.text().await.unwrap()
}

/// The events of a text, as a browser reads them: name and data; comments are skipped.
fn events(text: &str) -> Vec<(String, Value)> {
    assert!(text.ends_with("\n\n"), "the last event is not closed: {text:?}");
    let lines_of = |block: &str| -> Vec<String> {
        block.lines().filter(|line| !line.starts_with(':')).map(str::to_owned).collect()
    };
    let blocks = text.split("\n\n").map(lines_of);
    let events = blocks.filter(|lines| !lines.is_empty()).map(|lines| {
        let field = |name: &str| lines.iter().find_map(|line| line.strip_prefix(name)).map(str::trim_start);
        // Without a line of data a browser drops the event.
        let data = field("data:").unwrap_or_else(|| panic!("no data: {lines:?}"));
        let name = field("event:").unwrap_or_else(|| panic!("no name: {lines:?}"));
        (name.to_owned(), serde_json::from_str(data).unwrap_or(Value::Null))
    });
    events.collect()
}

fn next(payload: Value) -> (String, Value) {
    ("next".to_owned(), payload)
}

fn complete() -> (String, Value) {
    ("complete".to_owned(), Value::Null)
}

/// Reads the one answer of an operation that is refused.
async fn refusal(client: &Client, query: &str) -> Value {
    let mut stream = EventStream::open(client, query, json!({})).await;
    let (name, payload) = stream.next().await.expect("the stream ended without an answer");
    assert_eq!(name, "next", "{payload}");
    assert_eq!(stream.next().await, Some(complete()), "{payload}");
    assert_eq!(stream.next().await, None, "{payload}");
    payload
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_gives_next_and_complete() {
    let app = start().await;
    let admin = app.admin();
    let expected = [next(json!({"data": {"viewer": {"__typename": "User"}}})), complete()];
    assert_eq!(events(&text(post(&admin, "{ viewer { __typename } }")).await), expected);
    assert_eq!(events(&text(get(&admin, &[("query", "{ viewer { __typename } }")])).await), expected);

    let parameters = [
        ("query", "query A { __typename } query B($login: String!) { user(login: $login) { login } }"),
        ("variables", r#"{"login": "admin"}"#),
        ("operationName", "B"),
    ];
    let expected = [next(json!({"data": {"user": {"login": "admin"}}})), complete()];
    assert_eq!(events(&text(get(&admin, &parameters)).await), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mutation_comes_by_post_and_not_by_get() {
    let app = start().await;
    let admin = app.admin();
    let mutation =
        r#"mutation { createOrganization(input: {login: "made", name: "Made"}) { organization { login } } }"#;
    let lookup = r#"{ organization(login: "made") { login } }"#;
    let response = get(&admin, &[("query", mutation)]).send().await.unwrap();
    assert_eq!(response.status().as_u16(), 405);
    assert!(response.headers()["allow"].to_str().unwrap().contains("POST"), "{:?}", response.headers());
    assert_eq!(admin.data(lookup, json!({})).await, json!({"organization": null}));

    // Neither does it come as a form: that is what a page of another site can send.
    let form = url::form_urlencoded::Serializer::new(String::new()).append_pair("query", mutation).finish();
    let request = admin.http.post(format!("{}/graphql", app.url)).headers(admin.headers());
    let request = request.header("accept", "text/event-stream");
    let response = request.header("content-type", "application/x-www-form-urlencoded").body(form).send().await.unwrap();
    assert_eq!(response.status().as_u16(), 415);
    assert_eq!(admin.data(lookup, json!({})).await, json!({"organization": null}));

    let expected = [next(json!({"data": {"createOrganization": {"organization": {"login": "made"}}}})), complete()];
    assert_eq!(events(&text(post(&admin, mutation)).await), expected);
    assert_eq!(admin.data(lookup, json!({})).await, json!({"organization": {"login": "made"}}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_streams() {
    let app = start().await;
    let runner = app.register_runner("build-1").await;
    let mut stream = app.events(&app.admin(), SUMMARY, json!({})).await;
    let summary = |offline: u32, idle: u32| {
        next(json!({"data": {"fleetSummary": {"total": 1, "offline": offline, "idle": idle}}}))
    };
    assert_eq!(stream.next().await, Some(summary(1, 0)));
    runner.heartbeat().await;
    app.advance(Duration::from_secs(1));
    assert_eq!(stream.next().await, Some(summary(0, 1)));
    app.advance(Duration::from_mins(1));
    assert_eq!(stream.next().await, Some(summary(1, 0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_comes_by_get_as_browsers_open_it() {
    let app = start().await;
    let mut response = get(&app.admin(), &[("query", SUMMARY)]).send().await.unwrap();
    assert_eq!(response.status().as_u16(), 200);
    let mut text = String::new();
    while !text.contains("event: next") || !text.ends_with("\n\n") {
        let chunk = tokio::time::timeout(PATIENCE, response.chunk()).await.expect("the stream is silent");
        text += std::str::from_utf8(&chunk.unwrap().expect("the stream ended")).unwrap();
    }
    let expected = next(json!({"data": {"fleetSummary": {"total": 0, "offline": 0, "idle": 0}}}));
    assert_eq!(events(&text), [expected]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_stream_is_kept_alive_with_comments() {
    let app = start().await;
    let mut response = post(&app.admin(), "subscription { heartbeats { at } }").send().await.unwrap();
    // The first comes at once, so that the client knows that the stream is open.
    let first = tokio::time::timeout(PATIENCE, response.chunk()).await.expect("the stream is silent");
    assert_eq!(first.unwrap().as_deref(), Some(b":\n\n".as_slice()));
    for round in 0..3 {
        let mut comment = None;
        // The server may begin to count only after the clock was moved: then it is moved again.
        for _ in 0..100 {
            app.advance(KEEPALIVE);
            if let Ok(chunk) = tokio::time::timeout(Duration::from_millis(100), response.chunk()).await {
                comment = chunk.unwrap();
                break;
            }
        }
        let comment = comment.unwrap_or_else(|| panic!("no comment came in round {round}"));
        assert!(!comment.is_empty() && comment.chunks(3).all(|part| part == b":\n\n"), "{comment:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_validation_error_is_an_answer_in_the_stream() {
    let app = start().await;
    for query in ["{ nope }", "subscription { nope }", "mutation { nope }"] {
        let payload = refusal(&app.admin(), query).await;
        assert_eq!(payload["errors"][0]["extensions"]["code"], "GRAPHQL_VALIDATION_FAILED", "{query}: {payload}");
        assert!(payload.get("data").is_none(), "{query}: {payload}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_document_that_is_refused_unread_is_answered_in_the_stream_too() {
    // A browser shows its page nothing of an answer with another status: the protocol wants these as events.
    let app = start().await;
    let deep = format!("{}a{}", "{a".repeat(30), "}".repeat(30));
    let wide = "{ runners(first: 100) { nodes { scope { runners(first: 100) { nodes { scope { path } } } } } } }";
    for (query, code) in [
        ("{ a ", "GRAPHQL_PARSE_FAILED"),
        (deep.as_str(), "QUERY_TOO_DEEP"),
        (wide, "QUERY_TOO_COMPLEX"),
        ("query A { __typename } query B { __typename }", "GRAPHQL_VALIDATION_FAILED"),
    ] {
        let payload = refusal(&app.admin(), query).await;
        assert_eq!(payload["errors"][0]["extensions"]["code"], code, "{query}: {payload}");
        assert!(payload.get("data").is_none(), "{query}: {payload}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_to_what_one_may_not_see_ends_with_its_error() {
    let app = start().await;
    let (owner, stranger) = (app.user("owner").await, app.user("stranger").await);
    app.organization(&owner, "acme").await;
    let payload = refusal(&stranger, r#"subscription { fleetSummary(scope: {owner: "acme"}) { total } }"#).await;
    assert_eq!(payload["errors"][0]["extensions"]["code"], "NOT_FOUND", "{payload}");
    let payload = refusal(&app.anonymous(), SUMMARY).await;
    assert_eq!(payload["errors"][0]["extensions"]["code"], "UNAUTHENTICATED", "{payload}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_credentials_are_refused_before_the_stream() {
    let app = start().await;
    let runner = app.register_runner("build-1").await;
    for shown in [
        Shown::Bearer("nonsense".to_owned()),
        Shown::Bearer(app.registration_token.clone()),
        Shown::Runner { uuid: runner.uuid.clone(), secret: app.admin_token.clone() },
    ] {
        let client = app.client(shown);
        for request in [post(&client, SUMMARY), get(&client, &[("query", SUMMARY)]), post(&client, "{ __typename }")] {
            let response = request.send().await.unwrap();
            assert_eq!(response.status().as_u16(), 401, "{client:?}");
            let challenge = response.headers()["www-authenticate"].to_str().unwrap();
            assert!(challenge.starts_with("Bearer"), "{challenge}");
            let body: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
            assert_eq!(body["errors"][0]["extensions"]["code"], "UNAUTHENTICATED", "{body}");
            assert!(body.get("data").is_none(), "{body}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runner_is_known_by_its_headers() {
    let app = start().await;
    let runner = app.register_runner("build-1").await;
    let expected = [next(json!({"data": {"viewer": {"name": "build-1"}}})), complete()];
    for client in [runner.client.clone(), runner.session().await] {
        let query = "{ viewer { ... on Runner { name } } }";
        assert_eq!(events(&text(post(&client, query)).await), expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_holds_only_so_many_subscriptions() {
    let app = start_with(&[("max-subscriptions", "1")]).await;
    let admin = app.admin();
    let mut stream = app.events(&admin, SUMMARY, json!({})).await;
    stream.next().await.expect("the stream ended");
    let answer = admin.send(post(&admin, SUMMARY)).await;
    assert_eq!((answer.status, answer.code().as_str()), (429, "RATE_LIMITED"), "{}", answer.body);
    let seconds: u64 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert_eq!(answer.body["errors"][0]["extensions"]["retryAfterSeconds"], json!(seconds));
    assert!(seconds > 0);
    // Queries are not subscriptions.
    text(post(&admin, "{ __typename }")).await;

    // A client that goes away gives its place back.
    drop(stream);
    for _ in 0..100 {
        let response = post(&admin, SUMMARY).send().await.unwrap();
        if response.status().as_u16() == 200 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the place of a stream that is gone was not given back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_is_told_and_completes_the_stream() {
    let mut app = start().await;
    let mut stream = app.events(&app.admin(), SUMMARY, json!({})).await;
    let (name, _) = stream.next().await.expect("the stream ended");
    assert_eq!(name, "next");
    app.begin_shutdown();
    let (name, payload) = stream.next().await.expect("the stream ended without a word");
    assert_eq!(name, "next");
    assert_eq!(payload["errors"][0]["extensions"]["code"], "UNAVAILABLE", "{payload}");
    assert!(!payload["errors"][0]["message"].as_str().unwrap_or_default().is_empty(), "{payload}");
    assert!(payload.get("data").is_none(), "{payload}");
    assert_eq!(stream.next().await, Some(complete()));
    assert_eq!(stream.next().await, None);
    let end = Box::pin(app.shut_down());
    tokio::time::timeout(PATIENCE, end).await.expect("an open stream held the shutdown up");
}
