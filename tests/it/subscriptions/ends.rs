//! Streams end with the right to see what they are about, and begin to show what may be seen later.

use std::time::Duration;

use rollcall::events::EventKind;
use serde_json::json;

use super::*;
use crate::support::{TestApp, on_both};

on_both! {
    async fn a_stream_ends_when_its_access_token_is_revoked_and_others_go_on(database) {
        let app = TestApp::start_with(database, &CALM).await;
        let runner = app.register_runner("build-1").await;
        app.user("max").await;
        let input = json!({"name": "token", "scopes": ["READ_RUNNER"], "user": "max"});
        let (id, client) = access_token(&app, input.clone()).await;
        let (_, other) = access_token(&app, input).await;
        let mut ended = statuses(&app, &client, json!({})).await;
        listen(&app, &mut ended, "two", EventKind::Heartbeat, HEARTBEATS, json!({})).await;
        listen(&app, &mut ended, "three", EventKind::Runner, EVENTS, json!({})).await;
        listen(&app, &mut ended, "four", EventKind::Status, FLEET, json!({})).await;
        ended.next_data("four").await;
        let mut open = statuses(&app, &other, json!({})).await;
        revoke(&app, &id).await;
        for stream in ["s", "two", "three", "four"] {
            assert_eq!(end_of(&mut ended, stream).await, "UNAUTHENTICATED", "{stream}");
        }
        // Nothing new begins on the same socket.
        ended.subscribe("again", STATUSES, json!({})).await;
        assert_eq!(end_of(&mut ended, "again").await, "UNAUTHENTICATED");
        runner.heartbeat().await;
        assert_eq!(next_change(&mut open, "s").await, change("build-1", "OFFLINE", "IDLE"));
    }

    async fn a_stream_ends_when_its_access_token_expires_by_the_clock(database) {
        let app = TestApp::start_with(database, &CALM).await;
        let runner = app.register_runner("build-1").await;
        let input = json!({"name": "short", "scopes": ["READ_RUNNER"], "expiresInSeconds": 10});
        let (_, client) = access_token(&app, input).await;
        let mut socket = statuses(&app, &client, json!({})).await;
        app.advance(Duration::from_millis(9_999));
        runner.heartbeat().await;
        assert_eq!(next_change(&mut socket, "s").await, change("build-1", "OFFLINE", "IDLE"));
        app.advance(Duration::from_millis(1));
        assert_eq!(end_of(&mut socket, "s").await, "UNAUTHENTICATED");
    }

    async fn a_stream_ends_when_its_user_is_deleted(database) {
        let app = TestApp::start_with(database, &CALM).await;
        let max = app.user("max").await;
        let mut socket = statuses(&app, &max, json!({})).await;
        let delete = "mutation { deleteUser(input: {login: \"max\"}) { deletedId } }";
        app.admin().data(delete, json!({})).await;
        assert_eq!(end_of(&mut socket, "s").await, "UNAUTHENTICATED");
    }

    async fn a_runners_stream_ends_when_its_token_is_rotated(database) {
        let app = TestApp::start_with(database, &CALM).await;
        let runner = app.register_runner("build-1").await;
        for client in [&runner.session().await, &runner.client] {
            let mut socket = statuses(&app, client, json!({})).await;
            let rotate = "mutation($id: ID) { rotateRunnerToken(input: {id: $id}) { previousValidUntil } }";
            app.admin().data(rotate, json!({"id": runner.id})).await;
            assert_eq!(end_of(&mut socket, "s").await, "UNAUTHENTICATED");
        }
    }

    async fn a_runners_stream_ends_when_the_machine_registers_anew(database) {
        let app = TestApp::start_with(database, &CALM).await;
        let input = json!({"name": "build-1", "machineId": "machine-1"});
        let runner = app.register(&app.registration_token, input.clone()).await;
        let mut socket = statuses(&app, &runner.session().await, json!({})).await;
        app.register(&app.registration_token, input).await;
        assert_eq!(end_of(&mut socket, "s").await, "UNAUTHENTICATED");
    }

    async fn a_runners_stream_ends_when_it_is_deleted_and_when_its_session_expires(database) {
        let app = TestApp::start_with(database, &[CALM[0], ("session-lifetime", "10m")]).await;
        let runner = app.register_runner("build-1").await;
        let session = runner.session().await;
        let mut expiring = statuses(&app, &session, json!({"to": ["ACTIVE"]})).await;
        app.advance(Duration::from_mins(10));
        assert_eq!(end_of(&mut expiring, "s").await, "UNAUTHENTICATED");

        let mut deleted = statuses(&app, &runner.client, json!({})).await;
        let delete = "mutation($id: ID!) { deleteRunner(input: {id: $id}) { deletedId } }";
        app.admin().data(delete, json!({"id": runner.id})).await;
        assert_eq!(end_of(&mut deleted, "s").await, "UNAUTHENTICATED");
    }

    async fn a_stream_of_a_scope_ends_when_the_member_is_removed(database) {
        let app = TestApp::start_with(database, &CALM).await;
        let (olga, max, owned) = acme(&app).await;
        app.repository(&olga, "acme", "api").await;
        let mut socket = app.socket(&max).await;
        let kind = EventKind::Status;
        listen(&app, &mut socket, "owner", kind, STATUSES, json!({"scope": {"owner": "acme"}})).await;
        listen(&app, &mut socket, "inner", kind, STATUSES, json!({"scope": {"repository": "acme/api"}})).await;
        listen(&app, &mut socket, "ids", kind, STATUSES, json!({"ids": [owned.id]})).await;
        listen(&app, &mut socket, "sums", kind, FLEET, json!({"scope": {"owner": "acme"}})).await;
        socket.next_data("sums").await;
        let mut stays = statuses(&app, &olga, json!({"scope": {"owner": "acme"}})).await;
        let remove = "mutation { removeOrganizationMember(input: {organization: \"acme\", user: \"max\"}) { \
                      organization { login } } }";
        olga.data(remove, json!({})).await;
        for stream in ["owner", "inner", "ids", "sums"] {
            assert_eq!(end_of(&mut socket, stream).await, "FORBIDDEN", "{stream}");
        }
        owned.heartbeat().await;
        assert_eq!(next_change(&mut stays, "s").await, change("of acme", "OFFLINE", "IDLE"));
    }

    async fn a_removed_member_is_told_no_more_of_the_organization(database) {
        let app = TestApp::start_with(database, &CALM).await;
        let (olga, max, owned) = acme(&app).await;
        let shared = app.register_runner("of the instance").await;
        app.advance(Duration::from_secs(1));
        let mut socket = statuses(&app, &max, json!({})).await;
        app.advance(Duration::from_secs(1));
        owned.heartbeat().await;
        assert_eq!(next_change(&mut socket, "s").await, change("of acme", "OFFLINE", "IDLE"));
        let remove = "mutation { removeOrganizationMember(input: {organization: \"acme\", user: \"max\"}) { \
                      organization { login } } }";
        olga.data(remove, json!({})).await;
        app.advance(Duration::from_mins(1));
        shared.heartbeat().await;
        assert_eq!(next_change(&mut socket, "s").await, change("of the instance", "OFFLINE", "IDLE"));
        assert!(socket.is_quiet_for(Duration::from_millis(100)).await);
    }

    async fn a_member_who_is_added_later_begins_to_see(database) {
        let app = TestApp::start_with(database, &CALM).await;
        let (olga, _, owned) = acme(&app).await;
        let gina = app.user("gina").await;
        owned.heartbeat().await;
        app.advance(Duration::from_secs(1));
        let mut socket = statuses(&app, &gina, json!({})).await;
        app.add_member(&olga, "acme", "gina", "MEMBER").await;
        app.advance(Duration::from_secs(59));
        assert_eq!(next_change(&mut socket, "s").await, change("of acme", "IDLE", "OFFLINE"));
        app.advance(Duration::from_millis(1));
        owned.heartbeat().await;
        assert_eq!(next_change(&mut socket, "s").await, change("of acme", "OFFLINE", "IDLE"));
        assert!(socket.is_quiet_for(Duration::from_millis(100)).await);
    }

    async fn a_stream_of_a_scope_ends_when_the_scope_is_deleted(database) {
        let app = TestApp::start_with(database, &CALM).await;
        let (olga, max, _) = acme(&app).await;
        for name in ["api", "web"] {
            app.repository(&olga, "acme", name).await;
        }
        let mut socket = app.socket(&max).await;
        let kind = EventKind::Status;
        listen(&app, &mut socket, "owner", kind, STATUSES, json!({"scope": {"owner": "acme"}})).await;
        listen(&app, &mut socket, "api", kind, STATUSES, json!({"scope": {"repository": "acme/api"}})).await;
        listen(&app, &mut socket, "web", kind, STATUSES, json!({"scope": {"repository": "acme/web"}})).await;
        let mut admin = statuses(&app, &app.admin(), json!({"scope": {"owner": "acme"}})).await;
        let delete = "mutation { deleteRepository(input: {owner: \"acme\", name: \"api\"}) { deletedId } }";
        olga.data(delete, json!({})).await;
        assert_eq!(end_of(&mut socket, "api").await, "FORBIDDEN");
        assert!(socket.is_quiet_for(Duration::from_millis(100)).await);

        let delete = "mutation { deleteOrganization(input: {login: \"acme\"}) { deletedId } }";
        olga.data(delete, json!({})).await;
        for stream in ["owner", "web"] {
            assert_eq!(end_of(&mut socket, stream).await, "FORBIDDEN", "{stream}");
        }
        assert_eq!(end_of(&mut admin, "s").await, "FORBIDDEN");
    }
}
