//! What nobody should send, and what is said to those who do: a code, the field, a sentence, and nothing of the inside.

use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rollcall::auth::{SecretKind, mint, parse};
use rollcall::rng::Rng;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use crate::http::raw;
use crate::support::{Answer, Client, ServerProcess, Shown, TestApp, on_both};

const REGISTER: &str = "mutation($input: RegisterRunnerInput!) { registerRunner(input: $input) { runner { id } } }";
const UPDATE: &str = "mutation($input: UpdateRunnerInput!) { updateRunner(input: $input) { runner { id } } }";
const DECLARE: &str = "mutation($input: DeclareRunnerInput!) { declareRunner(input: $input) { runner { id } } }";
const CREATE_USER: &str = "mutation($input: CreateUserInput!) { createUser(input: $input) { user { id } } }";
const CREATE_ORGANIZATION: &str =
    "mutation($input: CreateOrganizationInput!) { createOrganization(input: $input) { organization { id } } }";
const CREATE_REPOSITORY: &str =
    "mutation($input: CreateRepositoryInput!) { createRepository(input: $input) { repository { id } } }";
const CREATE_ACCESS_TOKEN: &str =
    "mutation($input: CreateAccessTokenInput!) { createAccessToken(input: $input) { accessToken { id } } }";
const CREATE_TOKEN: &str = "mutation($input: CreateRegistrationTokenInput!) {
    createRegistrationToken(input: $input) { registrationToken { id } secret }
}";

/// What Rust and databases say, and no message does.
const NOISE: [&str; 14] = [
    "Some(",
    "None)",
    "Err(",
    "Ok(",
    "Error(",
    "Error {",
    "panicked",
    "unwrap()",
    ".rs:",
    "diesel",
    "SELECT ",
    "INSERT ",
    "constraint",
    "SQL",
];
/// Longer messages repeat what was sent.
const LONGEST_MESSAGE: usize = 600;
/// How long an answer may take that refuses: reading would take for ever.
const AT_ONCE: Duration = Duration::from_secs(5);

const SESSION_KEY: &str = "this key signs the sessions of one server";
const OTHER_KEY: &str = "and this one signs those of another server";

/// The largest body that is read, unless configured.
const LARGEST_BODY: usize = 262_144;

/// Checks that every error of an answer has a code, which is not the server's own fault, and a sentence for people.
fn assert_readable(what: &str, answer: &Answer) {
    let errors = answer.body["errors"].as_array().unwrap_or_else(|| panic!("{what} was taken: {}", answer.body));
    assert!((1..=10).contains(&errors.len()), "{what}: {} errors", errors.len());
    for error in errors {
        let code = error["extensions"]["code"].as_str().unwrap_or_default();
        assert!(!code.is_empty() && code != "INTERNAL", "{what}: {error}");
        let message = error["message"].as_str().unwrap_or_default();
        assert!(!message.trim().is_empty(), "{what}: {error}");
        assert!(message.chars().count() <= LONGEST_MESSAGE, "{what}: {error}");
        for noise in NOISE {
            assert!(!message.contains(noise), "{what}: {message}");
        }
    }
}

/// Sends what has to be refused with this code, about this field (empty: about none).
async fn refused(client: &Client, what: &str, document: &str, variables: Value, code: &str, field: &str) -> Answer {
    let answer = client.post(document, variables).await;
    assert_readable(what, &answer);
    assert_eq!((answer.code().as_str(), answer.field().as_str()), (code, field), "{what}: {}", answer.body);
    answer
}

/// Checks that credentials are refused whole.
async fn unauthenticated(client: &Client, what: &str) {
    let answer = refused(client, what, "{ viewer { __typename } }", json!({}), "UNAUTHENTICATED", "").await;
    assert_eq!(answer.status, 401, "{what}: {}", answer.body);
    assert!(answer.headers.contains_key("www-authenticate"), "{what}: {:?}", answer.headers);
    assert!(answer.body.get("data").is_none(), "{what}: {}", answer.body);
}

async fn still_answers(app: &TestApp) {
    let answer = app.admin().data("{ viewer { __typename } }", json!({})).await;
    assert_eq!(answer, json!({"viewer": {"__typename": "User"}}));
}

async fn runner_count(app: &TestApp) -> Value {
    app.admin().data("{ runners { totalCount } }", json!({})).await["runners"]["totalCount"].clone()
}

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

fn claims(session: &str) -> Value {
    let part = session.split('.').nth(1).unwrap();
    serde_json::from_slice(&BASE64URL_NOPAD.decode(part.as_bytes()).unwrap()).unwrap()
}

fn signed(algorithm: Algorithm, claims: &Value, key: &str) -> String {
    jsonwebtoken::encode(&Header::new(algorithm), claims, &EncodingKey::from_secret(key.as_bytes())).unwrap()
}

fn unsigned_part(json: &Value) -> String {
    BASE64URL_NOPAD.encode(json.to_string().as_bytes())
}

/// Claims with one of them changed.
fn with(claims: &Value, name: &str, value: Value) -> Value {
    let mut changed = claims.clone();
    changed[name] = value;
    changed
}

fn bearer(app: &TestApp, token: &str) -> Client {
    app.client(Shown::Bearer(token.to_owned()))
}

/// The bearer token that a client shows.
fn bearer_of(client: &Client) -> &str {
    let Shown::Bearer(token) = &client.shown else { panic!("no bearer token: {:?}", client.shown) };
    token
}

/// Makes a registration token of the instance; returns its id and its secret.
async fn make_token(app: &TestApp, mut input: Value) -> (String, String) {
    input["scope"] = json!({"global": true});
    let answer = app.admin().data(CREATE_TOKEN, json!({"input": input})).await;
    let made = &answer["createRegistrationToken"];
    (made["registrationToken"]["id"].as_str().unwrap().to_owned(), made["secret"].as_str().unwrap().to_owned())
}

async fn viewer_id(app: &TestApp) -> String {
    let answer = app.admin().data("{ viewer { ... on User { id } } }", json!({})).await;
    answer["viewer"]["id"].as_str().unwrap().to_owned()
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

    async fn forged_and_expired_sessions_are_refused(database) {
        let app = TestApp::start_with(database, &[("session-key", SESSION_KEY)]).await;
        let runner = app.register_runner("build-1").await;
        let real = runner.session().await;
        let session = bearer_of(&real);
        let claims = claims(session);
        let (head, rest) = session.split_once('.').unwrap();
        let (body, signature) = rest.split_once('.').unwrap();

        // What is forged below differs from this in one thing each.
        let fair = bearer(&app, &signed(Algorithm::HS256, &claims, SESSION_KEY));
        let viewer = json!({"viewer": {"__typename": "Runner"}});
        assert_eq!(fair.data("{ viewer { __typename } }", json!({})).await, viewer);

        let mut endless = claims.clone();
        endless.as_object_mut().unwrap().remove("exp");
        let (nothing, unsigned) = (json!({"alg": "none", "typ": "JWT"}), unsigned_part(&claims));
        let other_claims = unsigned_part(&with(&claims, "sub", json!("1")));
        let key = SESSION_KEY;
        for (what, forged) in [
            ("another key", signed(Algorithm::HS256, &claims, OTHER_KEY)),
            ("an empty key", signed(Algorithm::HS256, &claims, "")),
            ("HS384", signed(Algorithm::HS384, &claims, key)),
            ("HS512", signed(Algorithm::HS512, &claims, key)),
            ("alg: none", format!("{}.{unsigned}.", unsigned_part(&nothing))),
            ("alg: none with a signature", format!("{}.{body}.{signature}", unsigned_part(&nothing))),
            ("no signature", format!("{head}.{body}.")),
            ("two parts", format!("{head}.{body}")),
            ("other claims under the signature", format!("{head}.{other_claims}.{signature}")),
            ("another audience", signed(Algorithm::HS256, &with(&claims, "aud", json!("rollcall-job")), key)),
            ("another issuer", signed(Algorithm::HS256, &with(&claims, "iss", json!("elsewhere")), key)),
            ("no end", signed(Algorithm::HS256, &endless, key)),
            ("long over", signed(Algorithm::HS256, &with(&claims, "exp", json!(1)), key)),
            ("an end before all time", signed(Algorithm::HS256, &with(&claims, "exp", json!(i64::MIN)), key)),
            ("nobody's", signed(Algorithm::HS256, &with(&claims, "sub", json!("1")), key)),
            ("a subject that is no number", signed(Algorithm::HS256, &with(&claims, "sub", json!("build-1")), key)),
            ("an older generation", signed(Algorithm::HS256, &with(&claims, "gen", json!(0)), key)),
            ("a newer generation", signed(Algorithm::HS256, &with(&claims, "gen", json!(2)), key)),
            ("more at the end", format!("{session}x")),
            ("garbage", "garbage".to_owned()),
            ("three parts of garbage", "a.b.c".to_owned()),
            ("only dots", "..".to_owned()),
            ("ten thousand characters", "a".repeat(10_000)),
        ] {
            unauthenticated(&bearer(&app, &forged), what).await;
        }

        let other = TestApp::start_with(database, &[("session-key", OTHER_KEY)]).await;
        let theirs = other.register_runner("build-1").await.session().await.shown;
        unauthenticated(&app.client(theirs), "a session of another server").await;

        // 2026 in a test, and long past for a machine: the App's clock decides.
        app.advance(Duration::from_secs(3_599));
        assert_eq!(real.data("{ viewer { __typename } }", json!({})).await, viewer);
        app.advance(Duration::from_secs(1));
        unauthenticated(&real, "an expired session").await;
        runner.session().await.data("{ viewer { __typename } }", json!({})).await;
        still_answers(&app).await;
    }

    async fn ambiguous_and_malformed_credentials_are_refused(database) {
        let app = TestApp::start(database).await;
        let (runner, other) = (app.register_runner("build-1").await, app.register_runner("build-2").await);
        let nobody = app.anonymous();
        let body = json!({"query": "{ viewer { __typename } }"});
        let both = format!("Bearer {}", app.admin_token);
        let session = format!("Bearer {}", bearer_of(&runner.session().await));
        let (both, session) = (both.as_str(), session.as_str());
        let (uuid, secret) = (runner.uuid.as_str(), runner.secret.as_str());
        let nil = "00000000-0000-0000-0000-000000000000";
        let cases: Vec<(&str, Vec<(&str, &str)>)> = vec![
            ("both kinds", vec![("authorization", both), ("x-runner-uuid", uuid), ("x-runner-token", secret)]),
            (
                "its session and its token",
                vec![("authorization", session), ("x-runner-uuid", uuid), ("x-runner-token", secret)],
            ),
            ("a token beside a UUID", vec![("authorization", both), ("x-runner-uuid", uuid)]),
            ("a UUID alone", vec![("x-runner-uuid", uuid)]),
            ("a runner's token alone", vec![("x-runner-token", secret)]),
            ("Basic", vec![("authorization", "Basic YWRtaW46YWRtaW4=")]),
            ("Digest", vec![("authorization", "Digest username=\"admin\"")]),
            ("no scheme", vec![("authorization", app.admin_token.as_str())]),
            ("no token", vec![("authorization", "Bearer")]),
            ("a blank token", vec![("authorization", "Bearer  ")]),
            ("nothing", vec![("authorization", "")]),
            ("two of one header", vec![("authorization", both), ("authorization", both)]),
            ("a malformed UUID", vec![("x-runner-uuid", "nonsense"), ("x-runner-token", secret)]),
            ("an empty UUID", vec![("x-runner-uuid", ""), ("x-runner-token", secret)]),
            ("an unknown UUID", vec![("x-runner-uuid", nil), ("x-runner-token", secret)]),
            ("another runner's UUID", vec![("x-runner-uuid", other.uuid.as_str()), ("x-runner-token", secret)]),
            ("a mistyped token", vec![("x-runner-uuid", uuid), ("x-runner-token", &secret[..secret.len() - 1])]),
        ];
        for (what, headers) in cases {
            let mut request = nobody.http.post(format!("{}/graphql", app.url)).json(&body);
            for (name, value) in headers {
                request = request.header(name, value);
            }
            let answer = nobody.send(request).await;
            assert_readable(what, &answer);
            assert_eq!((answer.status, answer.code().as_str()), (401, "UNAUTHENTICATED"), "{what}: {}", answer.body);
            assert!(answer.body.get("data").is_none(), "{what}: {}", answer.body);
        }
        // A scheme has no letter case, and a UUID may be written in several ways.
        for headers in [
            vec![("authorization", both.replacen("Bearer", "bEARER", 1))],
            vec![("x-runner-uuid", uuid.to_uppercase()), ("x-runner-token", secret.to_owned())],
            vec![("x-runner-uuid", uuid.replace('-', "")), ("x-runner-token", secret.to_owned())],
        ] {
            let mut request = nobody.http.post(format!("{}/graphql", app.url)).json(&body);
            for (name, value) in headers {
                request = request.header(name, value);
            }
            let answer = nobody.send(request).await;
            assert_eq!(answer.status, 200, "{}", answer.body);
            assert!(answer.body["data"]["viewer"].is_object(), "{}", answer.body);
        }
        still_answers(&app).await;
    }

    async fn registration_tokens_say_why_they_do_not_work(database) {
        let app = TestApp::start(database).await;
        let nobody = app.anonymous();
        let runner = app.register_runner("build-1").await;
        let good = app.registration_token.as_str();
        let input = |token: &str| json!({"input": {"token": token, "name": "build-2"}});
        let last = if good.ends_with('0') { "1" } else { "0" };
        let mistyped = format!("{}{last}", &good[..good.len() - 1]);
        let foreign = mint(SecretKind::AccessToken, 1, &Rng::seeded(7));
        for (what, token) in [
            ("nothing", ""),
            ("nonsense", "nonsense"),
            ("an access token", app.admin_token.as_str()),
            ("an unknown access token", foreign.expose_secret()),
            ("a runner token", runner.secret.as_str()),
            ("a prefix", "rc_reg_"),
            ("a mistyped token", mistyped.as_str()),
            ("a token that was cut", &good[..good.len() - 1]),
            ("a token with more behind it", format!("{good}0").as_str()),
            ("a token in capitals", good.to_uppercase().as_str()),
            ("a token with a NUL", good.replacen('0', "\u{0}", 1).as_str()),
        ] {
            refused(&nobody, what, REGISTER, input(token), "BAD_USER_INPUT", "token").await;
        }
        let unknown = mint(SecretKind::RegistrationToken, 1, &Rng::seeded(7));
        let known = parse(SecretKind::RegistrationToken, good).unwrap().id;
        let guessed = mint(SecretKind::RegistrationToken, known, &Rng::seeded(7));
        for (what, token) in [("an unknown token", unknown), ("a guessed secret", guessed)] {
            refused(&nobody, what, REGISTER, input(token.expose_secret()), "UNAUTHENTICATED", "").await;
        }

        let (id, revoked) = make_token(&app, json!({})).await;
        let revoke = "mutation($id: ID!) {
            revokeRegistrationToken(input: {id: $id}) { registrationToken { isActive } }
        }";
        app.admin().data(revoke, json!({"id": id})).await;
        let (_, used) = make_token(&app, json!({"maxUses": 1})).await;
        app.register(&used, json!({"name": "the one"})).await;
        let (_, elsewhere) = make_token(&app, json!({"allowedCidrs": ["10.0.0.0/8", "2001:db8::/32"]})).await;
        let (_, short) = make_token(&app, json!({"expiresInSeconds": 60})).await;
        app.advance(Duration::from_secs(60));
        for (what, token) in [
            ("a revoked token", revoked),
            ("a token that is used up", used),
            ("a token for another network", elsewhere.clone()),
            ("an expired token", short),
        ] {
            refused(&nobody, what, REGISTER, input(&token), "FORBIDDEN", "").await;
        }
        // Nobody says where it comes from but a proxy that is trusted, and none is.
        let request = nobody.http.post(format!("{}/graphql", app.url)).header("x-forwarded-for", "10.1.2.3");
        let variables = input(&elsewhere);
        let answer = nobody.send(request.json(&json!({"query": REGISTER, "variables": variables}))).await;
        assert_readable("a claimed address", &answer);
        assert_eq!(answer.code(), "FORBIDDEN", "{}", answer.body);

        let (_, ephemeral) = make_token(&app, json!({"ephemeralOnly": true})).await;
        let lasting = json!({"input": {"token": ephemeral, "name": "build-2", "ephemeral": false}});
        refused(&nobody, "a lasting runner", REGISTER, lasting, "BAD_USER_INPUT", "ephemeral").await;
        // Of all these only the first runner and the one use were made.
        assert_eq!(runner_count(&app).await, 2);
        still_answers(&app).await;
    }

    async fn runners_and_people_cannot_do_the_work_of_each_other(database) {
        let app = TestApp::start(database).await;
        let (admin, nobody) = (app.admin(), app.anonymous());
        let runner = app.register_runner("build-1").await;
        let session = runner.session().await;
        let (id, user) = (runner.id.as_str(), viewer_id(&app).await);
        let (token, _) = make_token(&app, json!({})).await;
        let access = admin.data("{ viewer { ... on User { accessTokens { id } } } }", json!({})).await;
        let access = access["viewer"]["accessTokens"][0]["id"].as_str().unwrap().to_owned();
        for (call, selection) in [
            (r#"createUser(input: {login: "x", name: "x"})"#.to_owned(), "user { id }"),
            (r#"createOrganization(input: {login: "x", name: "x"})"#.to_owned(), "organization { id }"),
            (r#"createRepository(input: {owner: "admin", name: "x"})"#.to_owned(), "repository { id }"),
            (
                r#"addOrganizationMember(input: {organization: "x", user: "admin", role: OWNER})"#.to_owned(),
                "organization { id }",
            ),
            (
                r#"removeOrganizationMember(input: {organization: "x", user: "admin"})"#.to_owned(),
                "organization { id }",
            ),
            (r#"deleteUser(input: {login: "admin"})"#.to_owned(), "deletedId"),
            (r#"deleteOrganization(input: {login: "x"})"#.to_owned(), "deletedId"),
            (r#"deleteRepository(input: {owner: "admin", name: "x"})"#.to_owned(), "deletedId"),
            (r#"createAccessToken(input: {name: "x", scopes: [ADMIN]})"#.to_owned(), "secret"),
            (r#"createAccessToken(input: {name: "x", scopes: [ADMIN], user: "admin"})"#.to_owned(), "secret"),
            (format!(r#"revokeAccessToken(input: {{id: "{access}"}})"#), "accessToken { id }"),
            ("createRegistrationToken(input: {scope: {global: true}})".to_owned(), "secret"),
            ("resetRegistrationTokens(input: {scope: {global: true}})".to_owned(), "secret"),
            (format!(r#"revokeRegistrationToken(input: {{id: "{token}"}})"#), "registrationToken { id }"),
            (format!(r#"updateRunner(input: {{id: "{id}", disabled: true}})"#), "runner { id }"),
            (format!(r#"deleteRunner(input: {{id: "{id}"}})"#), "deletedId"),
            (format!(r#"deleteRunners(input: {{ids: ["{id}"]}})"#), "matchedCount"),
            (format!(r#"setRunnersDisabled(input: {{ids: ["{id}"], disabled: true}})"#), "matchedCount"),
        ] {
            let document = format!("mutation {{ {call} {{ {selection} }} }}");
            refused(&runner.client, &format!("a runner: {document}"), &document, json!({}), "FORBIDDEN", "").await;
            refused(&session, &format!("a session: {document}"), &document, json!({}), "FORBIDDEN", "").await;
            refused(&nobody, &format!("nobody: {document}"), &document, json!({}), "UNAUTHENTICATED", "").await;
        }
        for document in [
            "mutation { openRunnerSession { token } }",
            "mutation { declareRunner(input: {version: \"1\"}) { runner { id } } }",
            "mutation { heartbeat(input: {}) { serverTime } }",
            "mutation { deregisterRunner { deletedId } }",
        ] {
            refused(&admin, &format!("a person: {document}"), document, json!({}), "FORBIDDEN", "").await;
            refused(&nobody, &format!("nobody: {document}"), document, json!({}), "UNAUTHENTICATED", "").await;
        }
        let answer = admin
            .data("query($id: ID!) { runner(id: $id) { disabled version } }", json!({"id": id}))
            .await;
        assert_eq!(answer, json!({"runner": {"disabled": false, "version": null}}));
        assert_eq!(viewer_id(&app).await, user);
        still_answers(&app).await;
    }

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
        let (bombs, open) = ([bomb(21), bomb(40)], [lists("100", 3), lists("$n", 3), lists("100", 2)]);
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
