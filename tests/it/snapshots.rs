//! Whole answers, word for word: what a client sees may only change on purpose. Clock and randomness are the test's own, so
//! nothing has to be blanked out. To take new ones: `INSTA_UPDATE=always tests/run.sh snapshots`, then read the difference.

use std::time::Duration;

use insta::assert_json_snapshot;
use serde_json::json;

use crate::support::{TestApp, on_both};

const RUNNER: &str = "query($id: ID!) { runner(id: $id) { id uuid name description note scope { __typename kind path } labels \
                      version os arch ephemeral disabled status statusSince lastOnlineAt lastActiveAt tokenIssuedAt \
                      history { at from to cause } registeredFrom createdAt updatedAt \
                      registeredWith { id description ephemeralOnly maxUses useCount allowedCidrs labels expiresAt revokedAt \
                      revokedReason lastUsedAt lastUsedFrom isActive createdAt createdBy { id login name isAdmin } } } }";

on_both! {
    async fn a_runner_with_everything_it_has(database) {
        let app = TestApp::start(database).await;
        let admin = app.admin();
        app.organization(&admin, "acme").await;
        let input = json!({"scope": {"owner": "acme"}, "description": "builders", "maxUses": 5, "labels": ["on-site"],
                           "allowedCidrs": ["127.0.0.0/8"], "expiresInSeconds": 86_400});
        let token = app.registration_token(&admin, input).await;
        let runner = app
            .register(&token, json!({"name": "build-1", "labels": ["linux", "x64"], "version": "1.2.3", "os": "linux",
                                     "arch": "x86_64", "description": "under the desk"}))
            .await;
        app.advance(Duration::from_secs(5));
        runner.heartbeat().await;
        app.advance(Duration::from_secs(90));
        let answer = admin.post(RUNNER, json!({"id": runner.id})).await;
        assert_json_snapshot!("a_runner", answer.body);
    }

    async fn a_page_with_its_cursors(database) {
        let app = TestApp::start(database).await;
        for name in ["b", "a", "c"] {
            app.register_runner(name).await;
        }
        let page = "{ runners(first: 2, orderBy: {field: NAME, direction: ASC}) { totalCount edges { cursor node { id name } } \
                    pageInfo { hasPreviousPage hasNextPage startCursor endCursor } } }";
        assert_json_snapshot!("a_page", app.admin().post(page, json!({})).await.body);
    }

    async fn refusals_of_each_code(database) {
        let app = TestApp::start(database).await;
        let (admin, reader, nobody) = (app.admin(), app.admin_with(&["READ_RUNNER"]).await, app.anonymous());
        let delete = "mutation { deleteOrganization(input: {login: \"acme\"}) { deletedId } }";
        let user = "mutation { createUser(input: {login: \"Admin\", name: \"Another\"}) { user { id } } }";
        let deep = format!("{}{}", "{ a ".repeat(25), "}".repeat(25));
        let large = "{ runners(first: 100) { nodes { scope { runners(first: 100) { nodes { id name } } } } } }";
        let refusals = json!({
            "UNAUTHENTICATED": nobody.post("{ runners { totalCount } }", json!({})).await.body,
            "FORBIDDEN": reader.post(delete, json!({})).await.body,
            "NOT_FOUND": admin.post(delete, json!({})).await.body,
            "BAD_USER_INPUT": admin.post("{ runners(first: 101) { totalCount } }", json!({})).await.body,
            "CONFLICT": admin.post(user, json!({})).await.body,
            "QUERY_TOO_DEEP": admin.post(&deep, json!({})).await.body,
            "QUERY_TOO_COMPLEX": admin.post(large, json!({})).await.body,
            "GRAPHQL_PARSE_FAILED": admin.post("{ runners(", json!({})).await.body,
            "GRAPHQL_VALIDATION_FAILED": admin.post("{ runers { totalCount } }", json!({})).await.body,
        });
        assert_json_snapshot!("refusals", refusals);
    }
}
