//! How many operations, how large a message, how long a silence; and the end of the server.

use std::time::Duration;

use serde_json::json;

use super::{A_WHILE, PATIENCE, SUMMARY, close_code, open, refusal, round_trip, start, start_with};
use crate::support::{Database, Frame, Shown, Socket, TestApp};

/// As configured when nothing is said.
const KEEPALIVE: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_holds_only_so_many_operations() {
    let app = start_with(&[("max-operations-per-socket", "3")]).await;
    let mut socket = app.socket(&app.admin()).await;
    for id in ["1", "2", "3"] {
        socket.subscribe(id, SUMMARY, json!({})).await;
        socket.next_data(id).await;
    }
    for query in [SUMMARY, "{ __typename }"] {
        socket.subscribe("4", query, json!({})).await;
        let error = refusal(&mut socket, "4").await;
        assert_eq!(error["extensions"]["code"], "RATE_LIMITED", "{error}");
        assert!(error["extensions"]["retryAfterSeconds"].as_u64().is_some_and(|seconds| seconds > 0), "{error}");
    }
    // Another socket has a count of its own, and one that is completed makes room.
    round_trip(&mut app.socket(&app.admin()).await).await;
    socket.send(json!({"type": "complete", "id": "2"})).await;
    socket.subscribe("4", SUMMARY, json!({})).await;
    socket.next_data("4").await;
}

/// Opens a subscription as soon as there is room for it.
async fn subscribe_when_there_is_room(socket: &mut Socket) {
    for round in 0..100 {
        let id = format!("room-{round}");
        socket.subscribe(&id, SUMMARY, json!({})).await;
        let message = socket.next_of(&id).await;
        if message["type"] == "next" {
            return;
        }
        assert_eq!(message["payload"][0]["extensions"]["code"], "RATE_LIMITED", "{message}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the place of a subscription that is over was not given back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_holds_only_so_many_subscriptions() {
    let app = start_with(&[("max-subscriptions", "2")]).await;
    let mut first = app.socket(&app.admin()).await;
    for id in ["1", "2"] {
        first.subscribe(id, SUMMARY, json!({})).await;
        first.next_data(id).await;
    }
    let mut second = app.socket(&app.admin()).await;
    second.subscribe("3", SUMMARY, json!({})).await;
    let error = refusal(&mut second, "3").await;
    assert_eq!(error["extensions"]["code"], "RATE_LIMITED", "{error}");
    assert!(error["extensions"]["retryAfterSeconds"].as_u64().is_some_and(|seconds| seconds > 0), "{error}");
    // Queries are not subscriptions.
    round_trip(&mut second).await;

    first.send(json!({"type": "complete", "id": "1"})).await;
    subscribe_when_there_is_room(&mut second).await;
    // A client that goes away without a word gives its places back too.
    drop(first);
    let mut third = app.socket(&app.admin()).await;
    subscribe_when_there_is_room(&mut third).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_too_big_closes_with_1009() {
    let app = start_with(&[("max-body-bytes", "10000")]).await;
    let sized = |size: usize| {
        let envelope = json!({"type": "ping", "payload": {"x": ""}}).to_string().len();
        json!({"type": "ping", "payload": {"x": "x".repeat(size - envelope)}})
    };
    let mut socket = app.socket(&app.admin()).await;
    socket.send(sized(10_000)).await;
    let Frame::Message(pong) = socket.next().await else { panic!("the largest message was not taken") };
    assert_eq!(pong["type"], "pong");
    socket.send(sized(10_001)).await;
    assert_eq!(close_code(&mut socket).await, 1009);
    app.admin().data("{ __typename }", json!({})).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_that_answers_pings_stays_open() {
    let app = start().await;
    let mut socket = app.socket(&app.admin()).await;
    round_trip(&mut socket).await;
    for round in 0..6 {
        app.advance(KEEPALIVE);
        assert!(!socket.is_quiet_for(PATIENCE).await, "no ping came in round {round}");
        // To read on is to send the pong.
        assert!(socket.is_quiet_for(A_WHILE).await, "the socket did not stay open in round {round}");
    }
    round_trip(&mut socket).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_may_miss_one_ping() {
    let app = start().await;
    let mut socket = app.socket(&app.admin()).await;
    round_trip(&mut socket).await;
    app.advance(KEEPALIVE);
    assert!(!socket.is_quiet_for(PATIENCE).await, "no ping came");
    // It was read and, since nobody reads on, not yet answered.
    app.advance(KEEPALIVE);
    tokio::time::sleep(A_WHILE).await;
    assert!(!socket.is_quiet_for(PATIENCE).await, "no second ping came");
    assert!(socket.is_quiet_for(A_WHILE).await, "the socket was closed after one ping; two may be missed");
    round_trip(&mut socket).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_that_answers_no_ping_is_closed() {
    let app = start_with(&[("max-subscriptions", "1")]).await;
    let mut socket = app.socket(&app.admin()).await;
    socket.subscribe("1", SUMMARY, json!({})).await;
    socket.next_data("1").await;
    // Nothing is read meanwhile, and so nothing answered.
    for _ in 0..6 {
        app.advance(KEEPALIVE);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(close_code(&mut socket).await, 1001);
    let mut other = app.socket(&app.admin()).await;
    subscribe_when_there_is_room(&mut other).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_closes_with_1001() {
    let mut app = start().await;
    let mut fresh = open(&app).await;
    let mut idle = app.socket(&app.admin()).await;
    let mut busy = app.socket(&app.admin()).await;
    busy.subscribe("1", SUMMARY, json!({})).await;
    busy.next_data("1").await;
    app.begin_shutdown();
    for socket in [&mut fresh, &mut idle, &mut busy] {
        assert_eq!(close_code(socket).await, 1001);
    }
    let end = Box::pin(app.shut_down());
    tokio::time::timeout(PATIENCE, end).await.expect("open sockets held the shutdown up");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sockets_count_among_the_connections() {
    let app = TestApp::start_with(Database::Sqlite, &[("max-connections", "3")]).await;
    let mut sockets = Vec::new();
    for _ in 0..3 {
        let mut socket = Socket::open(&app.url).await;
        socket.init(&Shown::Nothing).await;
        sockets.push(socket);
    }
    let health =
        app.anonymous().http.get(format!("{}/healthz", app.url)).timeout(Duration::from_millis(300)).send().await;
    assert!(health.is_err(), "a fourth connection was served");
    sockets.pop();
    let health = app.anonymous().http.get(format!("{}/healthz", app.url)).send().await.unwrap();
    assert_eq!(health.status().as_u16(), 200);
}
