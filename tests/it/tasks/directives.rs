//! What runners are told as it happens, on a stream that is their heartbeat.

use std::time::Duration;

use rollcall::events::EventKind;
use serde_json::{Value, json};

use crate::support::{Socket, TestApp, TestRunner, eventually, on_both};

/// A clock that is moved does not make the server ping.
const CALM: [(&str, &str); 1] = [("keepalive-interval", "24h")];
/// How long nothing has to come to count as nothing.
const A_WHILE: Duration = Duration::from_millis(200);
const DIRECTIVES: &str = "subscription { runnerDirectives { __typename ... on CancelTask { taskId } } }";

/// A runner's stream of directives, named `d`.
async fn listening(app: &TestApp, runner: &TestRunner) -> Socket {
    let mut socket = app.socket(&runner.client).await;
    app.listen(&mut socket, "d", EventKind::Directive, DIRECTIVES, json!({})).await;
    socket
}

async fn next_directive(socket: &mut Socket) -> Value {
    socket.next_data("d").await["runnerDirectives"].clone()
}

fn available() -> Value {
    json!({"__typename": "TaskAvailable"})
}

fn cancel(id: &str) -> Value {
    json!({"__typename": "CancelTask", "taskId": id})
}

on_both! {
    async fn a_runner_is_told_of_a_task_and_then_to_stop_it(database) {
        let app = TestApp::start_with(database, &CALM).await;
        let olga = app.acme().await;
        let runner = app.register_runner("one").await;
        let mut socket = listening(&app, &runner).await;
        let id = olga.enqueue(json!({})).await;
        assert_eq!(next_directive(&mut socket).await, available());
        assert_eq!(runner.take().await, id);
        // It has no room for another.
        olga.enqueue(json!({})).await;
        assert!(socket.is_quiet_for(A_WHILE).await);
        assert_eq!(olga.cancel(&id).await.task_status(), "CANCELLING");
        assert_eq!(next_directive(&mut socket).await, cancel(&id));
        // Free again, it is told of what waits.
        runner.finish(&id, "CANCELLED").await;
        assert_eq!(next_directive(&mut socket).await, available());
        assert!(socket.is_quiet_for(A_WHILE).await);
    }

    async fn a_stream_begins_with_what_the_runner_would_be_told_now(database) {
        let app = TestApp::start_with(database, &CALM).await;
        let (olga, runner, id) = app.running_task().await;
        assert_eq!(olga.cancel(&id).await.task_status(), "CANCELLING");
        let mut socket = app.socket(&runner.client).await;
        socket.subscribe("d", DIRECTIVES, json!({})).await;
        assert_eq!(next_directive(&mut socket).await, cancel(&id));

        let other = app.register_runner("two").await;
        olga.enqueue(json!({})).await;
        let mut socket = app.socket(&other.client).await;
        socket.subscribe("d", DIRECTIVES, json!({})).await;
        assert_eq!(next_directive(&mut socket).await, available());
    }

    async fn a_heartbeat_tells_of_work_as_long_as_there_is_room(database) {
        let app = TestApp::start(database).await;
        let olga = app.acme().await;
        let runner = app.runner_in("acme", json!({"name": "one", "labels": ["linux"]})).await;
        assert_eq!(runner.directives(json!({})).await, json!([]));
        olga.enqueue(json!({"labels": ["gpu"]})).await;
        assert_eq!(runner.directives(json!({})).await, json!([]));
        let id = olga.enqueue(json!({"labels": ["linux"]})).await;
        assert_eq!(runner.directives(json!({})).await, json!([available()]));
        olga.enqueue(json!({})).await;
        assert_eq!(runner.take().await, id);
        assert_eq!(runner.directives(json!({})).await, json!([]));
        assert_eq!(runner.directives(json!({"freeSlots": 1})).await, json!([available()]));
        assert_eq!(runner.directives(json!({"freeSlots": 0})).await, json!([]));
        runner.finish(&id, "SUCCEEDED").await;
        assert_eq!(runner.directives(json!({})).await, json!([available()]));
    }

    async fn of_several_who_listen_one_is_told_of_a_task(database) {
        let app = TestApp::start_with(database, &CALM).await;
        let olga = app.acme().await;
        let (one, two) = (app.register_runner("one").await, app.register_runner("two").await);
        let mut first = listening(&app, &one).await;
        let mut second = listening(&app, &two).await;
        let id = olga.enqueue(json!({})).await;
        assert_eq!(next_directive(&mut first).await, available());
        assert!(second.is_quiet_for(A_WHILE).await);
        assert_eq!(one.take().await, id);
        // The first has no room now.
        olga.enqueue(json!({})).await;
        assert_eq!(next_directive(&mut second).await, available());
        assert!(first.is_quiet_for(A_WHILE).await);
    }

    async fn whoever_waits_in_a_call_goes_before_those_who_listen(database) {
        let app = TestApp::start_with(database, &CALM).await;
        let olga = app.acme().await;
        let (one, two) = (app.register_runner("one").await, app.register_runner("two").await);
        let mut socket = listening(&app, &one).await;
        let call = two.wait_for_task();
        app.waits(1).await;
        let id = olga.enqueue(json!({})).await;
        assert_eq!(call.await.unwrap()["task"]["id"], id);
        assert!(socket.is_quiet_for(A_WHILE).await);
    }

    async fn a_task_that_nobody_fetches_is_told_to_another(database) {
        let app = TestApp::start_with(database, &CALM).await;
        let olga = app.acme().await;
        let (one, two) = (app.register_runner("one").await, app.register_runner("two").await);
        let mut first = listening(&app, &one).await;
        let mut second = listening(&app, &two).await;
        let id = olga.enqueue(json!({})).await;
        assert_eq!(next_directive(&mut first).await, available());
        app.pass(Duration::from_millis(4_999)).await;
        assert!(second.is_quiet_for(A_WHILE).await);
        app.pass(Duration::from_millis(1)).await;
        assert_eq!(next_directive(&mut second).await, available());
        assert_eq!(two.take().await, id);
    }

    async fn a_task_whose_listener_went_away_is_told_to_another(database) {
        let app = TestApp::start_with(database, &CALM).await;
        let olga = app.acme().await;
        let (one, two) = (app.register_runner("one").await, app.register_runner("two").await);
        let mut first = listening(&app, &one).await;
        let mut second = listening(&app, &two).await;
        let id = olga.enqueue(json!({})).await;
        assert_eq!(next_directive(&mut first).await, available());
        drop(first);
        eventually("one runner listens", async || app.fleet.dispatch.waiting().1 == 1).await;
        app.pass(Duration::from_secs(5)).await;
        assert_eq!(next_directive(&mut second).await, available());
        assert_eq!(two.take().await, id);
    }

    async fn a_disabled_runner_is_told_to_drain_and_when_it_is_enabled_of_what_waits(database) {
        let app = TestApp::start_with(database, &CALM).await;
        let olga = app.acme().await;
        let runner = app.register_runner("one").await;
        let mut socket = listening(&app, &runner).await;
        let update = "mutation($id: ID!, $disabled: Boolean!) { \
                      updateRunner(input: {id: $id, disabled: $disabled}) { runner { disabled } } }";
        app.admin().data(update, json!({"id": runner.id, "disabled": true})).await;
        assert_eq!(next_directive(&mut socket).await, json!({"__typename": "Drain"}));
        olga.enqueue(json!({})).await;
        assert!(socket.is_quiet_for(A_WHILE).await);
        assert_eq!(runner.directives(json!({})).await, json!([{"__typename": "Drain"}]));
        app.admin().data(update, json!({"id": runner.id, "disabled": false})).await;
        assert_eq!(next_directive(&mut socket).await, available());
    }

    async fn a_repository_that_goes_stops_what_runs_of_it(database) {
        let app = TestApp::start_with(database, &CALM).await;
        let (olga, runner, id) = app.running_task().await;
        let mut socket = listening(&app, &runner).await;
        let delete = "mutation { deleteRepository(input: {owner: \"acme\", name: \"api\"}) { deletedId } }";
        olga.data(delete, json!({})).await;
        assert_eq!(next_directive(&mut socket).await, cancel(&id));
    }

    async fn being_subscribed_is_a_heartbeat(database) {
        let app = TestApp::start_with(database, &[CALM[0], ("offline-after", "12s")]).await;
        let runner = app.register_runner("one").await;
        let _socket = listening(&app, &runner).await;
        let query = "query($id: ID!) { runner(id: $id) { status lastOnlineAt } }";
        for _ in 0..6 {
            app.advance(Duration::from_secs(3));
            let expected = json!({"status": "IDLE", "lastOnlineAt": app.now().to_rfc3339()});
            let is_heard = async || app.admin().data(query, json!({"id": runner.id})).await["runner"] == expected;
            eventually("the runner is heard", is_heard).await;
        }
    }

    async fn a_stream_ends_with_its_credentials_and_is_for_runners(database) {
        let app = TestApp::start_with(database, &CALM).await;
        let runner = app.register_runner("one").await;
        let mut socket = listening(&app, &runner).await;
        let delete = "mutation($id: ID!) { deleteRunner(input: {id: $id}) { deletedId } }";
        app.admin().data(delete, json!({"id": runner.id})).await;
        assert_eq!(socket.end_of("d").await, "UNAUTHENTICATED");
        for (client, code) in [(app.admin(), "FORBIDDEN"), (app.anonymous(), "UNAUTHENTICATED")] {
            let mut socket = app.socket(&client).await;
            socket.subscribe("d", DIRECTIVES, json!({})).await;
            assert_eq!(socket.end_of("d").await, code);
        }
    }
}
