//! Names, labels, networks, times and counts.

use data_encoding::BASE64URL_NOPAD;
use serde_json::json;

use super::{CREATE_TOKEN, REGISTER, assert_readable, refused, runner_count, still_answers};
use crate::support::{TestApp, on_both};

const UPDATE: &str = "mutation($input: UpdateRunnerInput!) { updateRunner(input: $input) { runner { id } } }";
const DECLARE: &str = "mutation($input: DeclareRunnerInput!) { declareRunner(input: $input) { runner { id } } }";
const CREATE_USER: &str = "mutation($input: CreateUserInput!) { createUser(input: $input) { user { id } } }";
const CREATE_ORGANIZATION: &str =
    "mutation($input: CreateOrganizationInput!) { createOrganization(input: $input) { organization { id } } }";
const CREATE_REPOSITORY: &str =
    "mutation($input: CreateRepositoryInput!) { createRepository(input: $input) { repository { id } } }";
const CREATE_ACCESS_TOKEN: &str =
    "mutation($input: CreateAccessTokenInput!) { createAccessToken(input: $input) { accessToken { id } } }";

/// Names that nothing may have, and what is wrong with each.
fn bad_names() -> Vec<(&'static str, String)> {
    vec![
        ("empty", String::new()),
        ("blank", "   ".to_owned()),
        ("256 characters", "a".repeat(256)),
        ("256 characters of two bytes", "é".repeat(256)),
        ("a NUL", "a\u{0}b".to_owned()),
        ("a line break", "a\nb".to_owned()),
        ("an escape sequence", "a\u{1b}[2Jb".to_owned()),
        ("a turned direction", "a\u{202e}gnp.exe".to_owned()),
        ("an isolated direction", "a\u{2067}b".to_owned()),
    ]
}

fn bad_labels() -> Vec<(&'static str, Vec<String>)> {
    let many = |count: usize| (0..count).map(|number| format!("label-{number}")).collect::<Vec<_>>();
    let one = |label: &str| vec!["good".to_owned(), label.to_owned()];
    vec![
        ("101 labels", many(101)),
        ("1,000 labels", many(1_000)),
        ("a label with a space", one("two words")),
        ("a label with a comma", one("a,b")),
        ("an empty label", one("")),
        ("a label that is not ASCII", one("größer")),
        ("a label of 100 emoji", one(&"🏃".repeat(100))),
        ("a label with a NUL", one("a\u{0}b")),
        ("a label with a line break", one("a\nb")),
        ("a label of 256 characters", one(&"a".repeat(256))),
    ]
}

on_both! {
    async fn bad_names_are_refused(database) {
        let app = TestApp::start(database).await;
        let (admin, runner) = (app.admin(), app.register_runner("build-1").await);
        for (what, name) in bad_names() {
            let cases = [
                ("runner", REGISTER, json!({"token": app.registration_token, "name": name}), "name"),
                ("changed runner", UPDATE, json!({"id": runner.id, "name": name}), "name"),
                ("user", CREATE_USER, json!({"login": name, "name": "x"}), "login"),
                ("shown user", CREATE_USER, json!({"login": "x", "name": name}), "name"),
                ("organization", CREATE_ORGANIZATION, json!({"login": name, "name": "x"}), "login"),
                ("shown organization", CREATE_ORGANIZATION, json!({"login": "x", "name": name}), "name"),
                ("repository", CREATE_REPOSITORY, json!({"owner": "admin", "name": name}), "name"),
                ("access token", CREATE_ACCESS_TOKEN, json!({"name": name, "scopes": ["READ_RUNNER"]}), "name"),
            ];
            for (kind, document, input, field) in cases {
                let what = format!("{what} as the name of a {kind}");
                refused(&admin, &what, document, json!({"input": input}), "BAD_USER_INPUT", field).await;
            }
        }
        for login in ["-a", "a-", "a--b", "a b", "a/b", "ä", "."] {
            let input = json!({"login": login, "name": "x"});
            refused(&admin, login, CREATE_USER, json!({"input": input}), "BAD_USER_INPUT", "login").await;
        }
        for name in [".", "..", "api.git", "a/b", "a b", "ä"] {
            let input = json!({"owner": "admin", "name": name});
            refused(&admin, name, CREATE_REPOSITORY, json!({"input": input}), "BAD_USER_INPUT", "name").await;
        }
        let answer = admin.data(r#"{ user(login: "x") { id } organization(login: "x") { id } }"#, json!({})).await;
        assert_eq!(answer, json!({"user": null, "organization": null}));
        assert_eq!(runner_count(&app).await, 1);
        still_answers(&app).await;
    }

    async fn names_that_nothing_has_are_not_found(database) {
        let app = TestApp::start(database).await;
        let admin = app.admin();
        let cursor = |text: &str| BASE64URL_NOPAD.encode(text.as_bytes());
        for name in ["a\u{0}b", "a\nb", "a\u{202e}b", "%", "_", "\\", "'", "\"; --", &"a".repeat(100_000)] {
            let path = format!("admin/{name}");
            let by_name = cursor(&format!("runners.name:1:t{name}"));
            let by_path = cursor(&format!("repositories:1:t{name}"));
            for (document, name) in [
                ("query($name: String!) { user(login: $name) { login } }", name),
                ("query($name: String!) { organization(login: $name) { login } }", name),
                ("query($name: String!) { repository(owner: $name, name: $name) { name } }", name),
                ("query($name: String!) { runners(filter: {search: $name}) { totalCount nodes { id } } }", name),
                ("query($name: String!) { runners(filter: {labels: [$name]}) { totalCount nodes { id } } }", name),
                ("query($name: String!) { runners(scope: {owner: $name}) { totalCount } }", name),
                ("query($name: String!) { runners(scope: {repository: $name}) { totalCount } }", path.as_str()),
                ("mutation($name: String!) { deleteUser(input: {login: $name}) { deletedId } }", name),
                ("mutation($name: String!) { deleteOrganization(input: {login: $name}) { deletedId } }", name),
                (
                    "mutation($name: String!) { deleteRepository(input: {owner: $name, name: $name}) { deletedId } }",
                    name,
                ),
                (
                    "mutation($name: String!) {
                        addOrganizationMember(input: {organization: $name, user: $name, role: OWNER}) { __typename }
                    }",
                    name,
                ),
                (
                    "mutation($name: String!) {
                        createAccessToken(input: {name: \"x\", scopes: [READ_RUNNER], user: $name}) { secret }
                    }",
                    name,
                ),
                (
                    "query($name: String!) {
                        runners(orderBy: {field: NAME, direction: ASC}, after: $name) { nodes { id } }
                    }",
                    by_name.as_str(),
                ),
                (
                    "query($name: String!) { user(login: \"admin\") { repositories(after: $name) { nodes { id } } } }",
                    by_path.as_str(),
                ),
            ] {
                let answer = admin.post(document, json!({"name": name})).await;
                // Nothing has such a name: to say so, and to say that nothing can, are both right.
                let code = answer.code();
                assert!(["", "NOT_FOUND", "BAD_USER_INPUT"].contains(&code.as_str()), "{document}: {}", answer.body);
                if !code.is_empty() {
                    assert_readable(document, &answer);
                }
            }
        }
        still_answers(&app).await;
    }

    async fn bad_labels_are_refused(database) {
        let app = TestApp::start(database).await;
        let (admin, runner) = (app.admin(), app.register_runner("build-1").await);
        for (what, labels) in bad_labels() {
            let cases = [
                (&admin, REGISTER, json!({"token": app.registration_token, "name": "x", "labels": labels})),
                (&admin, UPDATE, json!({"id": runner.id, "labels": labels})),
                (&runner.client, DECLARE, json!({"labels": labels})),
                (&admin, CREATE_TOKEN, json!({"scope": {"global": true}, "labels": labels})),
            ];
            for (client, document, input) in cases {
                refused(client, what, document, json!({"input": input}), "BAD_USER_INPUT", "labels").await;
            }
        }
        let many: Vec<String> = (0..101).map(|number| format!("label-{number}")).collect();
        let filter = json!({"filter": {"labels": many}});
        let list = "query($filter: RunnerFilter) { runners(filter: $filter) { totalCount } }";
        refused(&admin, "101 labels to look for", list, filter, "BAD_USER_INPUT", "filter").await;
        assert_eq!(runner_count(&app).await, 1);
        still_answers(&app).await;
    }

    async fn bad_networks_times_and_counts_are_refused(database) {
        let app = TestApp::start(database).await;
        let (admin, runner) = (app.admin(), app.register_runner("build-1").await);
        for network in [
            "",
            "nonsense",
            "10.0.0.0/33",
            "10.0.0.0/",
            "300.0.0.1/8",
            "2001:db8::/129",
            "10.0.0.0/8,192.168.0.0/16",
            "10.0.0.0/8\u{0}",
        ] {
            let input = json!({"scope": {"global": true}, "allowedCidrs": ["127.0.0.1/32", network]});
            refused(&admin, network, CREATE_TOKEN, json!({"input": input}), "BAD_USER_INPUT", "allowedCidrs").await;
        }
        let input = json!({"scope": {"global": true}, "allowedCidrs": vec!["127.0.0.1/32"; 101]});
        refused(&admin, "101 networks", CREATE_TOKEN, json!({"input": input}), "BAD_USER_INPUT", "allowedCidrs").await;

        for number in [0, -1, i64::from(i32::MIN), i64::from(i32::MAX), i64::MAX] {
            for (document, input, field) in [
                (CREATE_TOKEN, json!({"scope": {"global": true}, "expiresInSeconds": number}), "expiresInSeconds"),
                (CREATE_TOKEN, json!({"scope": {"global": true}, "maxUses": number}), "maxUses"),
                (
                    CREATE_ACCESS_TOKEN,
                    json!({"name": "x", "scopes": ["READ_RUNNER"], "expiresInSeconds": number}),
                    "expiresInSeconds",
                ),
            ] {
                let what = format!("{field}: {number}");
                refused(&admin, &what, document, json!({"input": input}), "BAD_USER_INPUT", field).await;
            }
        }
        for number in [json!(1e30), json!(1.5), json!("1"), json!(true), json!([])] {
            let input = json!({"scope": {"global": true}, "maxUses": number});
            let what = format!("maxUses: {number}");
            let answer = admin.post(CREATE_TOKEN, json!({"input": input})).await;
            assert_readable(&what, &answer);
            assert_eq!(answer.code(), "GRAPHQL_VALIDATION_FAILED", "{what}: {}", answer.body);
        }
        let document = "query($filter: RunnerFilter) { runners(filter: $filter) { totalCount } }";
        let filter = json!({"filter": {"offlineForSeconds": -1}});
        refused(&admin, "a negative silence", document, filter, "BAD_USER_INPUT", "filter").await;
        let document = "mutation { heartbeat(input: {freeSlots: -1}) { serverTime } }";
        refused(&runner.client, "negative slots", document, json!({}), "BAD_USER_INPUT", "freeSlots").await;
        let input = json!({"name": "x", "scopes": []});
        refused(&admin, "no scopes", CREATE_ACCESS_TOKEN, json!({"input": input}), "BAD_USER_INPUT", "scopes").await;
        let input = json!({"login": "x", "name": "x", "password": "short"});
        refused(&admin, "a short password", CREATE_USER, json!({"input": input}), "BAD_USER_INPUT", "password").await;
        still_answers(&app).await;
    }
}
