//! What points at something else: ids, cursors, pages, scopes.

use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};

use super::{refused, runner_count, still_answers, viewer_id};
use crate::support::{TestApp, on_both};

on_both! {
    async fn malformed_ids_are_refused(database) {
        let app = TestApp::start(database).await;
        let admin = app.admin();
        app.register_runner("build-1").await;
        for id in [
            "",
            "nonsense",
            "5",
            "runner_",
            "runner_x",
            "runner_0000000000000000",
            "RUNNER_0000000000000",
            "runner_é\u{0}",
        ] {
            for (document, field) in [
                ("query($id: ID!) { node(id: $id) { id } }", "id"),
                ("query($id: ID!) { nodes(ids: [$id]) { id } }", "ids"),
                ("query($id: ID!) { runner(id: $id) { id } }", "id"),
                ("mutation($id: ID!) { updateRunner(input: {id: $id, name: \"x\"}) { runner { id } } }", "id"),
                ("mutation($id: ID!) { deleteRunner(input: {id: $id}) { deletedId } }", "id"),
                ("mutation($id: ID!) { deleteRunners(input: {ids: [$id]}) { matchedCount } }", "ids"),
                (
                    "mutation($id: ID!) { setRunnersDisabled(input: {ids: [$id], disabled: true}) { matchedCount } }",
                    "ids",
                ),
                ("mutation($id: ID!) { rotateRunnerToken(input: {id: $id}) { secret } }", "id"),
                ("mutation($id: ID!) { revokeAccessToken(input: {id: $id}) { accessToken { id } } }", "id"),
                ("mutation($id: ID!) { revokeRegistrationToken(input: {id: $id}) { registrationToken { id } } }", "id"),
            ] {
                let what = format!("{id:?} in {document}");
                refused(&admin, &what, document, json!({"id": id}), "BAD_USER_INPUT", field).await;
            }
        }
        let many = vec![viewer_id(&app).await; 101];
        let nodes = "query($ids: [ID!]!) { nodes(ids: $ids) { id } }";
        refused(&admin, "101 ids", nodes, json!({"ids": many}), "BAD_USER_INPUT", "ids").await;
        let query = "{ runner { id } }";
        refused(&admin, "neither id nor UUID", query, json!({}), "BAD_USER_INPUT", "id").await;
        assert_eq!(runner_count(&app).await, 1);
        still_answers(&app).await;
    }

    async fn ids_of_another_kind_are_refused(database) {
        let app = TestApp::start(database).await;
        let (admin, runner) = (app.admin(), app.register_runner("build-1").await);
        let user = viewer_id(&app).await;
        for (document, id, field) in [
            ("query($id: ID!) { runner(id: $id) { id } }", &user, "id"),
            ("mutation($id: ID!) { updateRunner(input: {id: $id, name: \"x\"}) { runner { id } } }", &user, "id"),
            ("mutation($id: ID!) { deleteRunner(input: {id: $id}) { deletedId } }", &user, "id"),
            ("mutation($id: ID!) { deleteRunners(input: {ids: [$id]}) { matchedCount } }", &user, "ids"),
            ("mutation($id: ID!) { rotateRunnerToken(input: {id: $id}) { secret } }", &user, "id"),
            ("mutation($id: ID!) { revokeAccessToken(input: {id: $id}) { accessToken { id } } }", &runner.id, "id"),
            (
                "mutation($id: ID!) { revokeRegistrationToken(input: {id: $id}) { registrationToken { id } } }",
                &runner.id,
                "id",
            ),
        ] {
            refused(&admin, document, document, json!({"id": id}), "BAD_USER_INPUT", field).await;
        }
        // The same row under another kind's prefix is nothing.
        let disguised = user.replacen("user_", "org_", 1);
        let answer = admin.data("query($id: ID!) { node(id: $id) { id } }", json!({"id": disguised})).await;
        assert_eq!(answer, json!({"node": null}));
        still_answers(&app).await;
    }

    async fn cursors_of_nothing_or_of_another_list_are_refused(database) {
        let app = TestApp::start(database).await;
        let admin = app.admin();
        for number in 0..3 {
            app.register_runner(&format!("build-{number}")).await;
        }
        let of_runners = "query($order: RunnerOrder, $cursor: String) {
            runners(first: 1, orderBy: $order, after: $cursor) { pageInfo { endCursor } }
        }";
        let before = "query($cursor: String) { runners(last: 1, before: $cursor) { pageInfo { endCursor } } }";
        let of_tokens = "query($cursor: String) {
            instance { registrationTokens(first: 1, after: $cursor) { pageInfo { endCursor } } }
        }";
        let of_repositories = "query($cursor: String) {
            user(login: \"admin\") { repositories(first: 1, after: $cursor) { pageInfo { endCursor } } }
        }";
        let names = json!({"field": "NAME", "direction": "ASC"});
        let of_page = async |document: &str, variables: Value, place: &str| {
            let answer = admin.data(document, variables).await;
            answer.pointer(place).unwrap().as_str().unwrap().to_owned()
        };
        let runner = of_page(of_runners, json!({}), "/runners/pageInfo/endCursor").await;
        let name = of_page(of_runners, json!({"order": names}), "/runners/pageInfo/endCursor").await;
        let token = of_page(of_tokens, json!({}), "/instance/registrationTokens/pageInfo/endCursor").await;
        admin.data(of_runners, json!({"order": names, "cursor": name})).await;

        let forged = |text: &str| BASE64URL_NOPAD.encode(text.as_bytes());
        let mut wrong = vec![String::new(), "nonsense".to_owned(), "%%%".to_owned(), "A".repeat(10_000)];
        wrong.push(format!("{runner}="));
        wrong.extend(["runners.created", "runners.created:1", "runners.created:x:", "runners.created:1:?"].map(forged));
        wrong.push(BASE64URL_NOPAD.encode(b"runners.created:\xff\xff:"));
        for cursor in &wrong {
            let what = format!("the cursor {cursor:.40}");
            for document in [of_runners, of_tokens, of_repositories] {
                refused(&admin, &what, document, json!({"cursor": cursor}), "BAD_USER_INPUT", "after").await;
            }
            refused(&admin, &what, before, json!({"cursor": cursor}), "BAD_USER_INPUT", "before").await;
        }
        let reversed = json!({"field": "CREATED_AT", "direction": "DESC"});
        for (what, document, variables, field) in [
            ("a cursor of tokens, for runners", of_runners, json!({"cursor": token}), "after"),
            ("a cursor of tokens, backward", before, json!({"cursor": token}), "before"),
            ("a cursor of runners, for tokens", of_tokens, json!({"cursor": runner}), "after"),
            ("a cursor of runners, for repositories", of_repositories, json!({"cursor": runner}), "after"),
            ("a cursor by time, by name", of_runners, json!({"cursor": runner, "order": names}), "after"),
            ("a cursor by name, by time", of_runners, json!({"cursor": name}), "after"),
            ("a cursor the other way round", of_runners, json!({"cursor": runner, "order": reversed}), "after"),
        ] {
            refused(&admin, what, document, variables, "BAD_USER_INPUT", field).await;
        }
        still_answers(&app).await;
    }

    async fn cursors_with_the_key_of_another_order_are_refused(database) {
        let app = TestApp::start(database).await;
        let admin = app.admin();
        let document = "query($order: RunnerOrder, $cursor: String) {
            runners(orderBy: $order, after: $cursor) { nodes { id } }
        }";
        for (field, forged) in [
            ("NAME", "runners.name:1:"),
            ("NAME", "runners.name:1:n5"),
            ("LAST_ONLINE_AT", "runners.online:1:"),
            ("LAST_ONLINE_AT", "runners.online:1:tx"),
            ("CREATED_AT", "runners.created:1:tx"),
        ] {
            let cursor = BASE64URL_NOPAD.encode(forged.as_bytes());
            let variables = json!({"order": {"field": field, "direction": "ASC"}, "cursor": cursor});
            refused(&admin, forged, document, variables, "BAD_USER_INPUT", "after").await;
        }
    }

    async fn bad_page_sizes_are_refused(database) {
        let app = TestApp::start(database).await;
        let admin = app.admin();
        let lists = [
            "query($first: Int, $last: Int) { runners(first: $first, last: $last) { totalCount } }",
            "query($first: Int, $last: Int) { instance { runners(first: $first, last: $last) { totalCount } } }",
            "query($first: Int, $last: Int) {
                instance { registrationTokens(first: $first, last: $last) { totalCount } }
            }",
            "query($first: Int, $last: Int) {
                user(login: \"admin\") { repositories(first: $first, last: $last) { totalCount } }
            }",
            "query($first: Int, $last: Int) {
                user(login: \"admin\") { organizations(first: $first, last: $last) { totalCount } }
            }",
        ];
        for document in lists {
            for (what, variables, field) in [
                ("both", json!({"first": 1, "last": 1}), "first"),
                ("first: -1", json!({"first": -1}), "first"),
                ("first: 101", json!({"first": 101}), "first"),
                ("last: -1", json!({"last": -1}), "last"),
                ("last: 101", json!({"last": 101}), "last"),
            ] {
                refused(&admin, what, document, variables, "BAD_USER_INPUT", field).await;
            }
        }
        still_answers(&app).await;
    }

    async fn a_scope_is_named_in_exactly_one_way(database) {
        let app = TestApp::start(database).await;
        let admin = app.admin();
        let list = "query($scope: ScopeInput!) { runners(scope: $scope) { totalCount } }";
        let make = "mutation($scope: ScopeInput!) {
            createRegistrationToken(input: {scope: $scope}) { secret }
        }";
        for document in [list, make] {
            for (what, scope) in [
                ("two keys", json!({"global": true, "owner": "admin"})),
                ("three keys", json!({"global": true, "owner": "admin", "repository": "admin/api"})),
                ("two keys, one of them null", json!({"owner": "admin", "repository": null})),
                ("no key", json!({})),
                ("a null key", json!({"owner": null})),
                ("an unknown key", json!({"user": "admin"})),
            ] {
                refused(&admin, what, document, json!({"scope": scope}), "GRAPHQL_VALIDATION_FAILED", "").await;
            }
            for (what, scope) in [
                ("global: false", json!({"global": false})),
                ("an owner with a slash", json!({"owner": "admin/api"})),
                ("an empty owner", json!({"owner": ""})),
                ("a repository without an owner", json!({"repository": "api"})),
                ("a repository without a name", json!({"repository": "admin/"})),
                ("a repository with two slashes", json!({"repository": "admin/api/more"})),
                ("an empty repository", json!({"repository": ""})),
            ] {
                refused(&admin, what, document, json!({"scope": scope}), "BAD_USER_INPUT", "scope").await;
            }
            for (what, scope) in
                [("nobody", json!({"owner": "nobody"})), ("nobody's repository", json!({"repository": "nobody/api"}))]
            {
                refused(&admin, what, document, json!({"scope": scope}), "NOT_FOUND", "").await;
            }
        }
        for (what, input) in [
            ("neither ids nor a scope", json!({})),
            ("ids and a scope", json!({"ids": [], "scope": {"global": true}})),
            ("ids and a filter", json!({"ids": [], "filter": {}})),
        ] {
            let document = "mutation($input: DeleteRunnersInput!) { deleteRunners(input: $input) { matchedCount } }";
            refused(&admin, what, document, json!({"input": input}), "BAD_USER_INPUT", "ids").await;
        }
        still_answers(&app).await;
    }

    async fn a_value_of_another_form_is_told_by_the_name_of_its_argument(database) {
        let app = TestApp::start(database).await;
        let admin = app.admin();
        for (document, variables, field) in [
            ("{ runner(uuid: \"nonsense\") { id } }", json!({}), "uuid"),
            ("query($uuid: UUID) { runner(uuid: $uuid) { id } }", json!({"uuid": "nonsense"}), "uuid"),
            ("query($uuid: UUID) { runner(uuid: $uuid) { id } }", json!({"uuid": ""}), "uuid"),
            ("query($uuid: UUID) { runner(uuid: $uuid) { id } }", json!({"uuid": 5}), "uuid"),
            ("{ runners(first: 2147483648) { totalCount } }", json!({}), "first"),
            ("query($n: Int) { runners(last: $n) { totalCount } }", json!({"n": 2_147_483_648_i64}), "last"),
        ] {
            let what = format!("{document} with {variables}");
            refused(&admin, &what, document, variables, "BAD_USER_INPUT", field).await;
        }
        still_answers(&app).await;
    }
}
