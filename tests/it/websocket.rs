//! graphql-transport-ws: every message, every close code, every limit.

mod limits;

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{Client, Database, Frame, Shown, Socket, TestApp};

const PROTOCOL: &str = "graphql-transport-ws";
/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long nothing has to come to count as nothing.
const A_WHILE: Duration = Duration::from_millis(200);

const WATCH: &str = "subscription { heartbeats { runner { name } } }";
/// Its first value comes at once.
const SUMMARY: &str = "subscription { fleetSummary { total } }";

async fn start() -> TestApp {
    start_with(&[]).await
}

async fn start_with(settings: &[(&str, &str)]) -> TestApp {
    Box::pin(TestApp::start_with(Database::Sqlite, settings)).await
}

/// The code with which the server closes; other messages may come before.
async fn close_code(socket: &mut Socket) -> u16 {
    loop {
        match socket.next().await {
            Frame::Message(_) => {}
            Frame::Close(code, reason) => {
                assert!((1..=123).contains(&reason.len()), "{code} {reason:?}");
                return code;
            }
            Frame::Gone => panic!("the connection broke without a close frame"),
        }
    }
}

/// The payload of an operation that gives one answer and is complete.
async fn answered(socket: &mut Socket, id: &str) -> Value {
    let message = socket.next_of(id).await;
    assert_eq!(message["type"], "next", "{message}");
    assert_eq!(socket.next_of(id).await, json!({"type": "complete", "id": id}));
    message["payload"].clone()
}

/// The errors of an operation that was refused.
async fn refusal(socket: &mut Socket, id: &str) -> Value {
    let message = socket.next_of(id).await;
    assert_eq!(message["type"], "error", "{message}");
    let errors = message["payload"].as_array().unwrap_or_else(|| panic!("not a list: {message}"));
    assert!((1..=10).contains(&errors.len()), "{message}");
    assert!(!errors[0]["message"].as_str().unwrap_or_default().is_empty(), "{message}");
    errors[0].clone()
}

/// A round trip: what was sent before has been taken.
async fn round_trip(socket: &mut Socket) {
    socket.subscribe("round-trip", "{ __typename }", json!({})).await;
    assert_eq!(answered(socket, "round-trip").await, json!({"data": {"__typename": "Query"}}));
}

async fn viewer(socket: &mut Socket) -> Value {
    socket.subscribe("viewer", "{ viewer { __typename } }", json!({})).await;
    let payload = answered(socket, "viewer").await;
    assert!(payload.get("errors").is_none(), "{payload}");
    payload["data"]["viewer"].clone()
}

/// Opens a socket and waits until the server is listening: from then on its deadlines run.
async fn open(app: &TestApp) -> Socket {
    let mut socket = Socket::open(&app.url).await;
    socket.send(json!({"type": "ping"})).await;
    assert_eq!(socket.next().await, Frame::Message(json!({"type": "pong"})));
    socket
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_are_not_of_the_protocol_close_with_4400() {
    let app = start().await;
    let long = "x".repeat(257);
    let query = json!({"query": "{ __typename }"});
    let messages = [
        "hello".to_owned(),
        String::new(),
        "{".to_owned(),
        "[]".to_owned(),
        "null".to_owned(),
        "{}".to_owned(),
        json!({"type": "nope"}).to_string(),
        json!({"type": 5}).to_string(),
        json!({"type": "connection_ack"}).to_string(),
        json!({"type": "next", "id": "1", "payload": {}}).to_string(),
        json!({"type": "start", "id": "1", "payload": query}).to_string(),
        json!({"type": "subscribe", "payload": query}).to_string(),
        json!({"type": "subscribe", "id": 1, "payload": query}).to_string(),
        json!({"type": "subscribe", "id": null, "payload": query}).to_string(),
        json!({"type": "subscribe", "id": "", "payload": query}).to_string(),
        json!({"type": "subscribe", "id": long, "payload": query}).to_string(),
        json!({"type": "subscribe", "id": "1"}).to_string(),
        json!({"type": "complete"}).to_string(),
    ];
    for message in messages {
        let mut socket = app.socket(&app.admin()).await;
        socket.send_text(&message).await;
        assert_eq!(close_code(&mut socket).await, 4400, "{message:.80}");
    }
    let mut socket = app.socket(&app.admin()).await;
    socket.send_binary(json!({"type": "ping"}).to_string().as_bytes()).await;
    assert_eq!(close_code(&mut socket).await, 4400);
    for payload in [json!("x"), json!(["x"]), json!(5)] {
        let mut socket = Socket::open(&app.url).await;
        socket.send(json!({"type": "connection_init", "payload": payload})).await;
        assert_eq!(close_code(&mut socket).await, 4400, "{payload}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_before_the_acknowledgement_closes_with_4401() {
    let app = start().await;
    let mut socket = Socket::open(&app.url).await;
    socket.subscribe("1", "{ __typename }", json!({})).await;
    assert_eq!(close_code(&mut socket).await, 4401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_credentials_close_with_4403() {
    let app = start().await;
    let runner = app.register_runner("build-1").await;
    let admin = format!("Bearer {}", app.admin_token);
    for payload in [
        json!({"authorization": "Bearer nonsense"}),
        json!({"authorization": format!("Bearer {}", app.registration_token)}),
        json!({"authorization": app.admin_token}),
        json!({"authorization": "Basic YWRtaW46YWRtaW4="}),
        json!({"authorization": ""}),
        json!({"authorization": 5}),
        json!({"authorization": [admin]}),
        json!({"x-runner-uuid": runner.uuid}),
        json!({"x-runner-token": runner.secret}),
        json!({"x-runner-uuid": "nonsense", "x-runner-token": runner.secret}),
        json!({"x-runner-uuid": runner.uuid, "x-runner-token": app.admin_token}),
        json!({"authorization": admin, "x-runner-uuid": runner.uuid, "x-runner-token": runner.secret}),
    ] {
        let mut socket = Socket::open(&app.url).await;
        socket.send(json!({"type": "connection_init", "payload": payload})).await;
        assert_eq!(close_code(&mut socket).await, 4403, "{payload}");
    }
    // What the upgrade shows counts when the payload shows nothing; wrong is wrong there too.
    for payload in [None, Some(json!({})), Some(Value::Null)] {
        let wrong = [("authorization", "Bearer nonsense")];
        let mut socket = Socket::open_with(&app.url, Some(PROTOCOL), &wrong).await;
        let mut message = json!({"type": "connection_init"});
        if let Some(payload) = payload {
            message["payload"] = payload;
        }
        socket.send(message).await;
        assert_eq!(close_code(&mut socket).await, 4403);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_that_are_given_twice_close_with_4403() {
    let app = start().await;
    let right = format!("Bearer {}", app.admin_token);
    for (first, second) in [(&*right, "Bearer nonsense"), ("Bearer nonsense", &*right), (&*right, &*right)] {
        let mut socket = Socket::open(&app.url).await;
        let payload = json!({"AUTHORIZATION": first, "authorization": second});
        socket.send(json!({"type": "connection_init", "payload": payload})).await;
        assert_eq!(close_code(&mut socket).await, 4403, "as over HTTP, where a doubled header is refused");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_subprotocol_or_none_closes_with_4406() {
    let app = start().await;
    let mut socket = Socket::open_with(&app.url, None, &[]).await;
    assert_eq!(close_code(&mut socket).await, 4406);

    // A client that asked for another protocol would refuse the handshake: so by hand.
    for protocol in ["graphql-ws", "chat, superchat"] {
        let request = format!(
            "GET /graphql HTTP/1.1\r\nhost: localhost\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             sec-websocket-protocol: {protocol}\r\n\r\n"
        );
        let mut stream = TcpStream::connect(app.url.trim_start_matches("http://")).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        let reading = async { while let Ok(1..) = stream.read_buf(&mut bytes).await {} };
        tokio::time::timeout(PATIENCE, reading).await.expect("the server did not hang up");
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("the server did not answer");
        let (head, frames) = bytes.split_at(end + 4);
        assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(head));
        let head = String::from_utf8_lossy(head).to_ascii_lowercase();
        assert!(!head.contains("sec-websocket-protocol"), "{head}");
        // A whole close frame, unmasked: two bytes of head, two of code, the reason.
        assert_eq!(frames[0], 0x88, "{frames:?}");
        assert_eq!(usize::from(frames[1]), frames.len() - 2, "{frames:?}");
        assert_eq!(u16::from_be_bytes([frames[2], frames[3]]), 4406, "{frames:?}");
    }
    // Among several, ours is chosen.
    let mut socket = Socket::open_with(&app.url, Some("graphql-ws, graphql-transport-ws"), &[]).await;
    socket.init(&app.admin().shown).await;
    round_trip(&mut socket).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_before_the_init_closes_with_4408() {
    let app = start().await;
    let (mut silent, mut eager) = (open(&app).await, open(&app).await);
    eager.init(&app.admin().shown).await;
    app.advance(Duration::from_millis(4_999));
    // A ping is no initialisation.
    silent.send(json!({"type": "ping"})).await;
    assert_eq!(silent.next().await, Frame::Message(json!({"type": "pong"})));
    app.advance(Duration::from_millis(1));
    assert_eq!(close_code(&mut silent).await, 4408);
    round_trip(&mut eager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_in_use_closes_with_4409() {
    let app = start().await;
    for again in [WATCH, "{ __typename }", "no GraphQL"] {
        let mut socket = app.socket(&app.admin()).await;
        socket.subscribe("1", WATCH, json!({})).await;
        socket.subscribe("1", again, json!({})).await;
        assert_eq!(close_code(&mut socket).await, 4409, "{again}");
    }
    // However long the id is, the close frame holds its reason.
    for long in ["x".repeat(256), "é".repeat(128), "🏃".repeat(64)] {
        let mut socket = app.socket(&app.admin()).await;
        socket.subscribe(&long, WATCH, json!({})).await;
        socket.subscribe(&long, WATCH, json!({})).await;
        assert_eq!(close_code(&mut socket).await, 4409, "{long}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_init_closes_with_4429() {
    let app = start().await;
    let mut socket = app.socket(&app.admin()).await;
    socket.send(json!({"type": "connection_init"})).await;
    assert_eq!(close_code(&mut socket).await, 4429);

    let mut socket = Socket::open(&app.url).await;
    for _ in 0..2 {
        socket.send(json!({"type": "connection_init"})).await;
    }
    assert_eq!(close_code(&mut socket).await, 4429);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pings_are_answered_with_their_payload() {
    let app = start().await;
    let (mut fresh, mut known) = (Socket::open(&app.url).await, app.socket(&app.admin()).await);
    for socket in [&mut fresh, &mut known] {
        socket.send(json!({"type": "ping", "payload": {"a": [1, null]}})).await;
        assert_eq!(socket.next().await, Frame::Message(json!({"type": "pong", "payload": {"a": [1, null]}})));
        // Pongs that nobody asked for are no mistake, and nothing answers them.
        socket.send(json!({"type": "pong"})).await;
        socket.send(json!({"type": "pong", "payload": {"a": 1}})).await;
        socket.send(json!({"type": "ping"})).await;
        assert_eq!(socket.next().await, Frame::Message(json!({"type": "pong"})));
    }
    assert!(known.is_quiet_for(A_WHILE).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_and_mutations_give_one_answer_and_complete() {
    let app = start().await;
    let mut socket = app.socket(&app.admin()).await;
    assert_eq!(viewer(&mut socket).await, json!({"__typename": "User"}));

    let mutation = "mutation($login: String!) {
        createOrganization(input: {login: $login, name: \"Acme\"}) { organization { login } }
    }";
    socket.subscribe("make", mutation, json!({"login": "acme"})).await;
    let payload = answered(&mut socket, "make").await;
    assert_eq!(payload, json!({"data": {"createOrganization": {"organization": {"login": "acme"}}}}));
    // It failed, but it was executed: that is an answer too.
    socket.subscribe("again", mutation, json!({"login": "acme"})).await;
    let payload = answered(&mut socket, "again").await;
    assert_eq!(payload["errors"][0]["extensions"]["code"], "CONFLICT", "{payload}");

    let payload = json!({"query": "query A { a: __typename } query B { b: __typename }", "operationName": "B"});
    socket.send(json!({"type": "subscribe", "id": "named", "payload": payload})).await;
    assert_eq!(answered(&mut socket, "named").await, json!({"data": {"b": "Query"}}));
    let answer = app.admin().data(r#"{ organization(login: "acme") { login } }"#, json!({})).await;
    assert_eq!(answer["organization"]["login"], "acme");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_can_be_used_again_when_its_operation_is_over() {
    let app = start().await;
    let runner = app.register_runner("build-1").await;
    let mut socket = app.socket(&app.admin()).await;
    for _ in 0..3 {
        // Over by itself.
        socket.subscribe("1", "{ __typename }", json!({})).await;
        assert_eq!(answered(&mut socket, "1").await, json!({"data": {"__typename": "Query"}}));
        // Over because it was refused.
        socket.subscribe("1", "{ nope }", json!({})).await;
        refusal(&mut socket, "1").await;
        // Over because the client completes it, in the same breath.
        socket.subscribe("1", WATCH, json!({})).await;
        socket.send(json!({"type": "complete", "id": "1"})).await;
    }
    socket.subscribe("1", WATCH, json!({})).await;
    socket.is_listening("1").await;
    runner.heartbeat().await;
    assert_eq!(socket.next_data("1").await, json!({"heartbeats": {"runner": {"name": "build-1"}}}));
    assert!(socket.is_quiet_for(A_WHILE).await, "the ones that were completed are silent");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_before_it_is_executed_gives_an_error_and_no_complete() {
    let app = start().await;
    let mut socket = app.socket(&app.admin()).await;
    let deep = format!("{}a{}", "{a".repeat(30), "}".repeat(30));
    for (what, payload, code) in [
        ("an unknown field", json!({"query": "{ nope }"}), "GRAPHQL_VALIDATION_FAILED"),
        ("an unknown subscription", json!({"query": "subscription { nope }"}), "GRAPHQL_VALIDATION_FAILED"),
        ("an unknown operation", json!({"query": "{ __typename }", "operationName": "A"}), "GRAPHQL_VALIDATION_FAILED"),
        ("a missing variable", json!({"query": "{ runner(id: $id) { id } }"}), "GRAPHQL_VALIDATION_FAILED"),
        ("no GraphQL", json!({"query": "{ a "}), "GRAPHQL_PARSE_FAILED"),
        ("too deep", json!({"query": deep}), "QUERY_TOO_DEEP"),
        ("nothing", json!({"query": ""}), "BAD_USER_INPUT"),
        ("no query", json!({}), "BAD_USER_INPUT"),
        ("a query that is a number", json!({"query": 5}), "BAD_USER_INPUT"),
        ("variables that are a list", json!({"query": "{ __typename }", "variables": []}), "BAD_USER_INPUT"),
        ("a payload that is a text", json!("{ __typename }"), "BAD_USER_INPUT"),
    ] {
        socket.send(json!({"type": "subscribe", "id": "1", "payload": payload})).await;
        let error = refusal(&mut socket, "1").await;
        assert_eq!(error["extensions"]["code"], code, "{what}: {error}");
        assert!(socket.is_quiet_for(Duration::from_millis(50)).await, "{what}: nothing follows an error");
    }
    round_trip(&mut socket).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_has_one_root_field() {
    // The specification says so. Besides, each would hold as much as a subscription does, and count as none.
    let app = start().await;
    for query in [
        "subscription { a: heartbeats { at } b: heartbeats { at } }",
        "subscription { heartbeats { at } runnerEvents { __typename } }",
        "subscription { ...F } fragment F on Subscription { heartbeats { at } runnerEvents { __typename } }",
    ] {
        let mut socket = app.socket(&app.admin()).await;
        socket.subscribe("1", query, json!({})).await;
        let Ok(error) = tokio::time::timeout(Duration::from_secs(2), refusal(&mut socket, "1")).await else {
            panic!("{query} was taken");
        };
        assert_eq!(error["extensions"]["code"], "GRAPHQL_VALIDATION_FAILED", "{query}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_root_field_of_a_subscription_may_stand_in_a_fragment() {
    let app = start().await;
    for query in [
        "subscription { ...F } fragment F on Subscription { fleetSummary { total } }",
        "subscription { ... on Subscription { fleetSummary { total } } }",
        "subscription { ... { fleetSummary { total } } }",
        "subscription { fleetSummary { ...F } } fragment F on FleetSummary { total }",
    ] {
        let mut socket = app.socket(&app.admin()).await;
        socket.subscribe("1", query, json!({})).await;
        assert_eq!(socket.next_data("1").await, json!({"fleetSummary": {"total": 0}}), "{query}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_to_what_one_may_not_see_ends_like_one_to_what_is_not_there() {
    let app = start().await;
    let (owner, stranger) = (app.user("owner").await, app.user("stranger").await);
    app.organization(&owner, "acme").await;
    app.repository(&owner, "acme", "api").await;
    let token = app.registration_token(&owner, json!({"scope": {"owner": "acme"}})).await;
    let hidden = app.register(&token, json!({"name": "hidden"})).await;
    let gone = app.register(&token, json!({"name": "gone"})).await;
    let delete = "mutation($id: ID!) { deleteRunner(input: {id: $id}) { deletedId } }";
    owner.data(delete, json!({"id": gone.id})).await;

    let mut socket = app.socket(&stranger).await;
    let by_scope = "subscription($scope: ScopeInput) { heartbeats(scope: $scope) { at } }";
    let by_id = "subscription($ids: [ID!]) { heartbeats(runnerIds: $ids) { at } }";
    let summary = "subscription($scope: ScopeInput) { fleetSummary(scope: $scope) { total } }";
    for (query, there, nowhere) in [
        (by_scope, json!({"scope": {"owner": "acme"}}), json!({"scope": {"owner": "nobody"}})),
        (by_scope, json!({"scope": {"repository": "acme/api"}}), json!({"scope": {"repository": "acme/nothing"}})),
        (summary, json!({"scope": {"owner": "acme"}}), json!({"scope": {"owner": "nobody"}})),
        (by_id, json!({"ids": [hidden.id]}), json!({"ids": [gone.id]})),
    ] {
        socket.subscribe("there", query, there).await;
        let there = answered(&mut socket, "there").await;
        assert_eq!(there["errors"][0]["extensions"]["code"], "NOT_FOUND", "{query}: {there}");
        socket.subscribe("nowhere", query, nowhere).await;
        assert_eq!(answered(&mut socket, "nowhere").await, there, "{query}: the two must not be told apart");
    }
    let mut socket = app.socket(&app.anonymous()).await;
    socket.subscribe("1", WATCH, json!({})).await;
    let payload = answered(&mut socket, "1").await;
    assert_eq!(payload["errors"][0]["extensions"]["code"], "UNAUTHENTICATED", "{payload}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_come_in_any_letter_case() {
    let app = start().await;
    let runner = app.register_runner("build-1").await;
    let session = runner.session().await;
    let Shown::Bearer(session) = &session.shown else { panic!("a session is a bearer token") };
    let (admin, session) = (format!("Bearer {}", app.admin_token), format!("bearer {session}"));
    let (uuid, secret) = (&runner.uuid, &runner.secret);
    for (payload, expected) in [
        (json!({"authorization": admin}), "User"),
        (json!({"Authorization": admin}), "User"),
        (json!({"AUTHORIZATION": admin, "client": "test"}), "User"),
        (json!({"aUTHORIZATION": session}), "Runner"),
        (json!({"x-runner-uuid": uuid, "x-runner-token": secret}), "Runner"),
        (json!({"X-Runner-UUID": uuid, "X-Runner-Token": secret}), "Runner"),
        (json!({"X-RUNNER-UUID": uuid, "x-RUNNER-token": secret}), "Runner"),
        (json!({"X-Runner-Uuid": uuid, "x-runner-Token": secret, "authorization": null}), "Runner"),
    ] {
        let mut socket = Socket::open(&app.url).await;
        socket.send(json!({"type": "connection_init", "payload": payload})).await;
        assert_eq!(socket.next().await, Frame::Message(json!({"type": "connection_ack"})), "{payload}");
        assert_eq!(viewer(&mut socket).await, json!({"__typename": expected}), "{payload}");
    }
    for payload in [json!({}), Value::Null, json!({"client": "test"})] {
        let mut socket = Socket::open(&app.url).await;
        socket.send(json!({"type": "connection_init", "payload": payload})).await;
        assert_eq!(socket.next().await, Frame::Message(json!({"type": "connection_ack"})), "{payload}");
        assert_eq!(viewer(&mut socket).await, Value::Null, "{payload}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_of_the_upgrade_count_when_the_payload_has_none() {
    let app = start().await;
    let runner = app.register_runner("build-1").await;
    let admin = format!("Bearer {}", app.admin_token);
    let mut socket = Socket::open_with(&app.url, Some(PROTOCOL), &[("authorization", admin.as_str())]).await;
    socket.init(&Shown::Nothing).await;
    assert_eq!(viewer(&mut socket).await, json!({"__typename": "User"}));
    // The payload goes before.
    let mut socket = Socket::open_with(&app.url, Some(PROTOCOL), &[("authorization", admin.as_str())]).await;
    socket.init(&runner.client.shown).await;
    assert_eq!(viewer(&mut socket).await, json!({"__typename": "Runner"}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runner_may_work_over_a_socket() {
    let app = start().await;
    let (admin, runner) = (app.admin(), app.register_runner("build-1").await);
    let status = async |client: &Client| {
        let query = "query($id: ID!) { runner(id: $id) { status } }";
        client.data(query, json!({"id": runner.id})).await["runner"]["status"].clone()
    };
    assert_eq!(status(&admin).await, "OFFLINE");
    let mut socket = app.socket(&runner.client).await;
    assert_eq!(status(&admin).await, "IDLE", "to connect is to be heard from");
    assert_eq!(viewer(&mut socket).await, json!({"__typename": "Runner"}));

    // The socket is open all the time, but only what it sends is a sign of life.
    app.advance(Duration::from_mins(1));
    assert_eq!(status(&admin).await, "OFFLINE");
    socket.subscribe("beat", "mutation { heartbeat(input: {}) { runner { status } } }", json!({})).await;
    let payload = answered(&mut socket, "beat").await;
    assert_eq!(payload["data"]["heartbeat"]["runner"]["status"], "IDLE", "{payload}");
    assert_eq!(status(&admin).await, "IDLE");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn complete_stops_the_stream() {
    let app = start().await;
    let runner = app.register_runner("build-1").await;
    let mut socket = app.socket(&app.admin()).await;
    for id in ["stopped", "going"] {
        socket.subscribe(id, WATCH, json!({})).await;
        socket.is_listening(id).await;
    }
    runner.heartbeat().await;
    for id in ["stopped", "going"] {
        assert_eq!(socket.next_data(id).await, json!({"heartbeats": {"runner": {"name": "build-1"}}}));
    }
    socket.send(json!({"type": "complete", "id": "stopped"})).await;
    // To complete what is not there is no mistake: the server's own complete may be on its way.
    socket.send(json!({"type": "complete", "id": "stopped"})).await;
    socket.send(json!({"type": "complete", "id": "unknown"})).await;
    round_trip(&mut socket).await;
    runner.heartbeat().await;
    assert_eq!(socket.next_data("going").await, json!({"heartbeats": {"runner": {"name": "build-1"}}}));
    assert!(socket.is_quiet_for(A_WHILE).await, "a completed stream goes on, or was completed once more");
}
