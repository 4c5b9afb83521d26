//! The shortest way through everything.

use std::time::Duration;

use serde_json::json;

use crate::support::{TestApp, on_both};

on_both! {
    async fn a_runner_comes_goes_idle_offline_and_is_removed(database) {
        let app = TestApp::start(database).await;
        let admin = app.admin();
        let mut socket = app.socket(&admin).await;
        socket.subscribe("s", "subscription { runnerStatusChanged { runner { name } previous current } }", json!({})).await;
        socket.is_listening("s").await;

        let runner = app.register_runner("build-1").await;
        runner.heartbeat().await;
        let change = socket.next_data("s").await;
        assert_eq!(
            change["runnerStatusChanged"],
            json!({"runner": {"name": "build-1"}, "previous": "OFFLINE", "current": "IDLE"})
        );

        app.advance(Duration::from_mins(1));
        let change = socket.next_data("s").await;
        assert_eq!(change["runnerStatusChanged"]["current"], "OFFLINE");

        let answer = admin
            .data("mutation($id: ID!) { deleteRunner(input: {id: $id}) { deletedId } }", json!({"id": runner.id}))
            .await;
        assert_eq!(answer["deleteRunner"]["deletedId"], json!(runner.id));
        assert_eq!(runner.client.code("mutation { heartbeat(input: {}) { serverTime } }", json!({})).await, "UNAUTHENTICATED");
    }
}
