//! How machines become runners: what they are told once, what a registration token allows, and what is noted about it.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::{Answer, Client, Shown, TestApp, TestRunner, on_both};

const REGISTER: &str = "mutation($input: RegisterRunnerInput!) { registerRunner(input: $input) { \
    runner { id uuid name labels ephemeral status statusSince lastOnlineAt } secret } }";
const HEARTBEAT: &str = "mutation { heartbeat(input: {}) { serverTime } }";
const RECORD: &str = "query($id: ID!) { node(id: $id) { ... on RegistrationToken { description labels allowedCidrs \
    ephemeralOnly maxUses useCount isActive expiresAt revokedAt revokedReason lastUsedAt lastUsedFrom } } }";
const REVOKE: &str = "mutation($input: RevokeRegistrationTokenInput!) { revokeRegistrationToken(input: $input) { \
    registrationToken { isActive revokedAt revokedReason } } }";

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// Makes a registration token; returns its id and its secret.
async fn new_token(client: &Client, input: Value) -> (String, String) {
    let answer = client
        .data(
            "mutation($input: CreateRegistrationTokenInput!) { createRegistrationToken(input: $input) { \
             registrationToken { id } secret } }",
            json!({"input": input}),
        )
        .await;
    let made = &answer["createRegistrationToken"];
    (text(&made["registrationToken"]["id"]), text(&made["secret"]))
}

/// The record of a registration token.
async fn record(client: &Client, id: &str) -> Value {
    let answer = client.data(RECORD, json!({"id": id})).await;
    answer["node"].clone()
}

/// Tries to register what must be refused; returns the code of the refusal.
async fn refusal(app: &TestApp, token: &str, mut input: Value) -> String {
    input["token"] = json!(token);
    app.anonymous().code(REGISTER, json!({"input": input})).await
}

/// The labels of a runner.
async fn labels(client: &Client, runner: &TestRunner) -> Value {
    let answer = client.data("query($id: ID!) { runner(id: $id) { labels } }", json!({"id": runner.id})).await;
    answer["runner"]["labels"].clone()
}

/// How many runners there are in all.
async fn total(app: &TestApp) -> Value {
    let answer = app.admin().data("{ runners { totalCount } }", json!({})).await;
    answer["runners"]["totalCount"].clone()
}

async fn assert_refused(client: &Client) {
    let answer = client.post(HEARTBEAT, json!({})).await;
    assert_eq!((answer.status, answer.code().as_str()), (401, "UNAUTHENTICATED"), "{}", answer.body);
}

/// Registers as if a proxy had passed the request on.
async fn register_through(app: &TestApp, forwarded_for: &str, token: &str) -> Answer {
    let client = app.anonymous();
    let body = json!({"query": REGISTER, "variables": {"input": {"token": token, "name": "behind a proxy"}}});
    let request = client.http.post(format!("{}/graphql", client.url));
    client.send(request.header("x-forwarded-for", forwarded_for).json(&body)).await
}

/// The address that a runner registered from, as its manager sees it.
async fn registered_from(app: &TestApp, answer: &Answer) -> Value {
    let id = &answer.body["data"]["registerRunner"]["runner"]["id"];
    assert!(id.is_string(), "{}", answer.body);
    let seen = app.admin().data("query($id: ID!) { runner(id: $id) { registeredFrom } }", json!({"id": id})).await;
    seen["runner"]["registeredFrom"].clone()
}

/// Lets many machines use a token at once that may be used less often.
async fn race(app: &TestApp, uses: usize, machines: usize) {
    let admin = app.admin();
    let (id, secret) = new_token(&admin, json!({"scope": {"global": true}, "maxUses": uses})).await;
    let client = app.anonymous();
    let calls = (0..machines).map(|number| {
        let input = json!({"token": secret, "name": format!("racer-{number}")});
        client.post(REGISTER, json!({"input": input}))
    });
    let answers = join_all(calls).await;

    let codes: Vec<String> = answers.iter().map(Answer::code).collect();
    assert_eq!(codes.iter().filter(|code| code.is_empty()).count(), uses, "{codes:?}");
    assert_eq!(codes.iter().filter(|code| *code == "FORBIDDEN").count(), machines - uses, "{codes:?}");
    let answer = admin
        .data(
            "query($id: ID!) { node(id: $id) { ... on RegistrationToken { \
             useCount isActive runners { totalCount } } } }",
            json!({"id": id}),
        )
        .await;
    assert_eq!(answer["node"], json!({"useCount": uses, "isActive": false, "runners": {"totalCount": uses}}));
    assert_eq!(total(app).await, json!(uses));
}

on_both! {
    async fn registering_tells_uuid_and_secret_and_each_runner_has_its_own(database) {
        let app = TestApp::start(database).await;
        let (one, two) = (app.register_runner("build-1").await, app.register_runner("build-1").await);
        for runner in [&one, &two] {
            assert!(runner.uuid.parse::<uuid::Uuid>().is_ok(), "{}", runner.uuid);
            assert!(runner.secret.starts_with("rc_run_"));
            runner.heartbeat().await;
        }
        assert_ne!(one.id, two.id);
        assert_ne!(one.uuid, two.uuid);
        assert_ne!(one.secret, two.secret);
        // The secret of one is none of the other's.
        assert_refused(&app.client(Shown::Runner { uuid: one.uuid.clone(), secret: two.secret.clone() })).await;
        assert_eq!(total(&app).await, json!(2));
    }

    async fn a_runner_carries_the_labels_of_its_token_and_its_own_in_order(database) {
        let app = TestApp::start(database).await;
        let admin = app.admin();
        let input = json!({"scope": {"global": true}, "labels": ["zone-a", "linux"]});
        let token = app.registration_token(&admin, input).await;
        let input = json!({"name": "build-1", "labels": ["x64", "linux", "gpu:a100", "ARM", "x64"]});
        let runner = app.register(&token, input).await;
        assert_eq!(labels(&admin, &runner).await, json!(["ARM", "gpu:a100", "linux", "x64", "zone-a"]));
        let bare = app.register(&token, json!({"name": "build-2"})).await;
        assert_eq!(labels(&admin, &bare).await, json!(["linux", "zone-a"]));
        let free = app.register_runner("build-3").await;
        assert_eq!(labels(&admin, &free).await, json!([]));
    }

    async fn labels_of_the_token_stay_when_the_runner_or_a_manager_changes_the_others(database) {
        let app = TestApp::start(database).await;
        let admin = app.admin();
        let input = json!({"scope": {"global": true}, "labels": ["linux", "zone-a"]});
        let token = app.registration_token(&admin, input).await;
        let runner = app.register(&token, json!({"name": "build-1", "labels": ["old"]})).await;

        let declare = "mutation($labels: [String!]) { declareRunner(input: {labels: $labels}) { runner { labels } } }";
        let answer = runner.client.data(declare, json!({"labels": ["gpu", "zone-a"]})).await;
        assert_eq!(answer["declareRunner"]["runner"]["labels"], json!(["gpu", "linux", "zone-a"]));
        // Left out, they stay as they are.
        runner.client.data("mutation { declareRunner(input: {version: \"2\"}) { runner { id } } }", json!({})).await;
        assert_eq!(labels(&admin, &runner).await, json!(["gpu", "linux", "zone-a"]));

        let update = "mutation($id: ID!, $labels: [String!]) { updateRunner(input: {id: $id, labels: $labels}) { \
                      runner { labels } } }";
        let answer = admin.data(update, json!({"id": runner.id, "labels": ["manual"]})).await;
        assert_eq!(answer["updateRunner"]["runner"]["labels"], json!(["linux", "manual", "zone-a"]));
        let answer = admin.data(update, json!({"id": runner.id, "labels": []})).await;
        assert_eq!(answer["updateRunner"]["runner"]["labels"], json!(["linux", "zone-a"]));
        // Declared by the runner too, a label of the token is still the token's.
        runner.client.data(declare, json!({"labels": ["linux"]})).await;
        runner.client.data(declare, json!({"labels": []})).await;
        assert_eq!(labels(&admin, &runner).await, json!(["linux", "zone-a"]));
    }

    async fn a_machine_that_registers_again_takes_its_old_record_over(database) {
        let app = TestApp::start(database).await;
        let registered_at = app.now().to_rfc3339();
        let input = json!({"name": "before", "labels": ["old"], "machineId": "machine-1"});
        let before = app.register(&app.registration_token, input).await;
        let session = before.session().await;
        app.advance(Duration::from_secs(1));
        let input = json!({"name": "after", "labels": ["new"], "machineId": "machine-1"});
        let after = app.register(&app.registration_token, input).await;

        assert_eq!((&after.id, &after.uuid), (&before.id, &before.uuid));
        assert_ne!(after.secret, before.secret);
        assert_refused(&before.client).await;
        assert_refused(&session).await;
        after.heartbeat().await;
        let query = "{ runners { totalCount nodes { id name labels createdAt tokenIssuedAt } } }";
        let answer = app.admin().data(query, json!({})).await;
        let expected = json!({
            "id": before.id, "name": "after", "labels": ["new"], "createdAt": registered_at,
            "tokenIssuedAt": app.now().to_rfc3339(),
        });
        assert_eq!(answer["runners"], json!({"totalCount": 1, "nodes": [expected]}));
    }

    async fn the_same_machine_may_use_a_used_up_token_again_and_another_may_not(database) {
        let app = TestApp::start(database).await;
        let admin = app.admin();
        let (id, token) = new_token(&admin, json!({"scope": {"global": true}, "maxUses": 1})).await;
        let before = app.register(&token, json!({"name": "build-1", "machineId": "machine-1"})).await;
        let after = app.register(&token, json!({"name": "build-1", "machineId": "machine-1"})).await;
        assert_eq!(after.id, before.id);
        assert_refused(&before.client).await;
        after.heartbeat().await;

        assert_eq!(refusal(&app, &token, json!({"name": "build-2", "machineId": "machine-2"})).await, "FORBIDDEN");
        assert_eq!(refusal(&app, &token, json!({"name": "build-2"})).await, "FORBIDDEN");
        assert_eq!(record(&admin, &id).await["useCount"], 1);
        // What was refused changed nothing.
        after.heartbeat().await;
        assert_eq!(total(&app).await, json!(1));
    }

    async fn a_used_up_token_does_not_take_over_what_another_token_made(database) {
        let app = TestApp::start(database).await;
        let admin = app.admin();
        let known = app.register(&app.registration_token, json!({"name": "known", "machineId": "machine-1"})).await;
        let (id, token) = new_token(&admin, json!({"scope": {"global": true}, "maxUses": 1})).await;
        app.register(&token, json!({"name": "other"})).await;
        assert_eq!(refusal(&app, &token, json!({"name": "known", "machineId": "machine-1"})).await, "FORBIDDEN");
        known.heartbeat().await;
        assert_eq!(record(&admin, &id).await["useCount"], 1);
    }

    async fn the_same_machine_in_another_scope_is_another_runner(database) {
        let app = TestApp::start(database).await;
        let olga = app.user("olga").await;
        app.organization(&olga, "acme").await;
        app.repository(&olga, "acme", "api").await;
        let owned = app.registration_token(&olga, json!({"scope": {"owner": "acme"}})).await;
        let inner = app.registration_token(&olga, json!({"scope": {"repository": "acme/api"}})).await;
        let mut runners = Vec::new();
        for token in [&app.registration_token, &owned, &inner] {
            runners.push(app.register(token, json!({"name": "build-1", "machineId": "machine-1"})).await);
        }
        let mut ids: Vec<&String> = runners.iter().map(|runner| &runner.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 3);
        for runner in &runners {
            runner.heartbeat().await;
        }
    }

    async fn a_token_for_one_runner_makes_one_of_50_simultaneous_ones(database) {
        let app = TestApp::start(database).await;
        race(&app, 1, 50).await;
    }

    async fn a_token_for_five_runners_makes_five_of_30_simultaneous_ones(database) {
        let app = TestApp::start(database).await;
        race(&app, 5, 30).await;
    }

    async fn simultaneous_registrations_of_one_machine_leave_one_runner_with_one_secret(database) {
        let app = TestApp::start(database).await;
        let client = app.anonymous();
        let calls = (0..20).map(|number| {
            let name = format!("racer-{number}");
            let input = json!({"token": app.registration_token, "name": name, "machineId": "machine-1"});
            client.post(REGISTER, json!({"input": input}))
        });
        let answers = join_all(calls).await;
        let made = answers.iter().map(|answer| &answer.body["data"]["registerRunner"]);
        let made: Vec<&Value> = made.filter(|registered| !registered.is_null()).collect();
        assert!(!made.is_empty(), "{answers:?}");
        let mut working = 0;
        for registered in &made {
            assert_eq!(registered["runner"]["id"], made[0]["runner"]["id"]);
            let uuid = text(&registered["runner"]["uuid"]);
            let runner = app.client(Shown::Runner { uuid, secret: text(&registered["secret"]) });
            working += usize::from(runner.post(HEARTBEAT, json!({})).await.code().is_empty());
        }
        assert_eq!(working, 1, "of {} secrets", made.len());
        assert_eq!(total(&app).await, json!(1));
    }

    async fn a_token_works_until_it_expires_by_the_clock(database) {
        let app = TestApp::start(database).await;
        let admin = app.admin();
        let (id, token) = new_token(&admin, json!({"scope": {"global": true}, "expiresInSeconds": 60})).await;
        let end = (app.now() + Duration::from_mins(1)).to_rfc3339();
        app.advance(Duration::from_millis(59_999));
        let runner = app.register(&token, json!({"name": "in time"})).await;
        let seen = record(&admin, &id).await;
        assert_eq!((&seen["isActive"], &seen["expiresAt"]), (&json!(true), &json!(end)));

        app.advance(Duration::from_millis(1));
        assert_eq!(refusal(&app, &token, json!({"name": "late"})).await, "FORBIDDEN");
        assert_eq!(record(&admin, &id).await["isActive"], false);
        runner.heartbeat().await;
    }

    async fn a_revoked_token_makes_no_runner_and_those_it_made_go_on(database) {
        let app = TestApp::start(database).await;
        let admin = app.admin();
        let (id, token) = new_token(&admin, json!({"scope": {"global": true}})).await;
        let runner = app.register(&token, json!({"name": "build-1", "machineId": "machine-1"})).await;
        app.advance(Duration::from_secs(1));
        let revoked_at = app.now().to_rfc3339();
        let answer = admin.data(REVOKE, json!({"input": {"id": id, "reason": "It was in a log."}})).await;
        let expected = json!({"isActive": false, "revokedAt": revoked_at, "revokedReason": "It was in a log."});
        assert_eq!(answer["revokeRegistrationToken"]["registrationToken"], expected);

        for input in [json!({"name": "build-2"}), json!({"name": "build-1", "machineId": "machine-1"})] {
            assert_eq!(refusal(&app, &token, input).await, "FORBIDDEN");
        }
        runner.heartbeat().await;
        let session = runner.session().await;
        session.data(HEARTBEAT, json!({})).await;

        // The first revocation is the one that counts.
        app.advance(Duration::from_secs(1));
        let answer = admin.data(REVOKE, json!({"input": {"id": id, "reason": "Again."}})).await;
        assert_eq!(answer["revokeRegistrationToken"]["registrationToken"], expected);
    }

    async fn resetting_the_tokens_of_a_scope_ends_all_earlier_ones_of_that_scope_alone(database) {
        let app = TestApp::start(database).await;
        let olga = app.user("olga").await;
        app.organization(&olga, "acme").await;
        app.repository(&olga, "acme", "api").await;
        let scope = json!({"owner": "acme"});
        let first = app.registration_token(&olga, json!({"scope": scope})).await;
        let second = app.registration_token(&olga, json!({"scope": scope, "maxUses": 3})).await;
        let (revoked, _) = new_token(&olga, json!({"scope": scope})).await;
        olga.data(REVOKE, json!({"input": {"id": revoked}})).await;
        let inner = app.registration_token(&olga, json!({"scope": {"repository": "acme/api"}})).await;
        let runner = app.register(&first, json!({"name": "build-1"})).await;

        let reset = "mutation($input: ResetRegistrationTokensInput!) { resetRegistrationTokens(input: $input) { \
                     revokedCount secret registrationToken { isActive useCount scope { path } } } }";
        let answer = olga.data(reset, json!({"input": {"scope": scope}})).await;
        let answer = &answer["resetRegistrationTokens"];
        assert_eq!(answer["revokedCount"], 2);
        let expected = json!({"isActive": true, "useCount": 0, "scope": {"path": "acme"}});
        assert_eq!(answer["registrationToken"], expected);

        for token in [&first, &second] {
            assert_eq!(refusal(&app, token, json!({"name": "late"})).await, "FORBIDDEN");
        }
        runner.heartbeat().await;
        for token in [&text(&answer["secret"]), &inner, &app.registration_token] {
            app.register(token, json!({"name": "fine"})).await.heartbeat().await;
        }
    }

    async fn a_token_works_only_from_its_networks(database) {
        let app = TestApp::start(database).await;
        let admin = app.admin();
        let input = json!({"scope": {"global": true}, "allowedCidrs": ["192.0.2.0/24", "127.0.0.0/8"]});
        let (id, near) = new_token(&admin, input).await;
        app.register(&near, json!({"name": "build-1"})).await;
        assert_eq!(record(&admin, &id).await["allowedCidrs"], json!(["192.0.2.0/24", "127.0.0.0/8"]));

        let (id, far) = new_token(&admin, json!({"scope": {"global": true}, "allowedCidrs": ["10.0.0.0/8"]})).await;
        assert_eq!(refusal(&app, &far, json!({"name": "build-2"})).await, "FORBIDDEN");
        // Who was refused has used nothing.
        let seen = record(&admin, &id).await;
        assert_eq!((&seen["useCount"], &seen["lastUsedAt"]), (&json!(0), &Value::Null));

        let create = "mutation($input: CreateRegistrationTokenInput!) { \
                      createRegistrationToken(input: $input) { secret } }";
        let input = json!({"scope": {"global": true}, "allowedCidrs": ["10.0.0.0/33"]});
        let answer = admin.post(create, json!({"input": input})).await;
        assert_eq!((answer.code().as_str(), answer.field().as_str()), ("BAD_USER_INPUT", "allowedCidrs"));
    }

    async fn a_forwarded_address_is_not_believed_of_anyone(database) {
        let app = TestApp::start(database).await;
        let admin = app.admin();
        let input = json!({"scope": {"global": true}, "allowedCidrs": ["10.0.0.0/8"]});
        let far = app.registration_token(&admin, input).await;
        assert_eq!(register_through(&app, "10.1.2.3", &far).await.code(), "FORBIDDEN");
        let answer = register_through(&app, "10.1.2.3", &app.registration_token).await;
        assert_eq!(registered_from(&app, &answer).await, "127.0.0.1");
    }

    async fn a_forwarded_address_of_a_trusted_proxy_decides(database) {
        let app = TestApp::start_with(database, &[("trusted-proxies", "127.0.0.1/32")]).await;
        let admin = app.admin();
        let far = json!({"scope": {"global": true}, "allowedCidrs": ["10.0.0.0/8"]});
        let (id, far) = new_token(&admin, far).await;
        let answer = register_through(&app, "10.1.2.3", &far).await;
        assert_eq!(registered_from(&app, &answer).await, "10.1.2.3");
        assert_eq!(record(&admin, &id).await["lastUsedFrom"], "10.1.2.3");
        // What the client itself put before is not believed: only the last one was written by the proxy.
        assert_eq!(register_through(&app, "10.1.2.3, 203.0.113.9", &far).await.code(), "FORBIDDEN");

        let near = json!({"scope": {"global": true}, "allowedCidrs": ["127.0.0.0/8"]});
        let near = app.registration_token(&admin, near).await;
        assert_eq!(register_through(&app, "10.1.2.3", &near).await.code(), "FORBIDDEN");
        app.register(&near, json!({"name": "on the proxy itself"})).await;
    }

    async fn it_is_noted_with_what_and_from_where_a_runner_registered(database) {
        let app = TestApp::start(database).await;
        let olga = app.user("olga").await;
        let max = app.user("max").await;
        app.organization(&olga, "acme").await;
        app.add_member(&olga, "acme", "max", "MEMBER").await;
        let (id, token) = new_token(&olga, json!({"scope": {"owner": "acme"}})).await;
        let unused = record(&olga, &id).await;
        assert_eq!((&unused["lastUsedAt"], &unused["lastUsedFrom"]), (&Value::Null, &Value::Null));
        app.advance(Duration::from_secs(7));
        let used_at = app.now().to_rfc3339();
        let runner = app.register(&token, json!({"name": "build-1"})).await;
        app.advance(Duration::from_secs(7));

        let query = "query($id: ID!) { runner(id: $id) { registeredFrom registeredWith { \
                     id useCount lastUsedAt lastUsedFrom createdBy { login } } } }";
        let expected = json!({
            "registeredFrom": "127.0.0.1",
            "registeredWith": {
                "id": id, "useCount": 1, "lastUsedAt": used_at, "lastUsedFrom": "127.0.0.1",
                "createdBy": {"login": "olga"},
            },
        });
        for manager in [&olga, &app.admin()] {
            assert_eq!(manager.data(query, json!({"id": runner.id})).await["runner"], expected);
        }
        // A member sees the runner and not what would help to make another.
        let hidden = json!({"registeredFrom": null, "registeredWith": null});
        for viewer in [&max, &runner.client] {
            assert_eq!(viewer.data(query, json!({"id": runner.id})).await["runner"], hidden);
        }
        assert_eq!(record(&max, &id).await, Value::Null);
    }

    async fn a_token_lists_what_it_made(database) {
        let app = TestApp::start(database).await;
        let admin = app.admin();
        let (id, token) = new_token(&admin, json!({"scope": {"global": true}})).await;
        app.register_runner("of another token").await;
        for number in 1..=3 {
            app.register(&token, json!({"name": format!("build-{number}")})).await;
        }
        let query = "query($id: ID!) { node(id: $id) { ... on RegistrationToken { useCount runners(first: 2) { \
                     totalCount nodes { name registeredWith { id } } pageInfo { hasNextPage } } } } }";
        let answer = admin.data(query, json!({"id": id})).await;
        let entry = |name: &str| json!({"name": name, "registeredWith": {"id": id}});
        let list = json!({
            "totalCount": 3, "nodes": [entry("build-1"), entry("build-2")], "pageInfo": {"hasNextPage": true},
        });
        assert_eq!(answer["node"], json!({"useCount": 3, "runners": list}));
    }

    async fn a_token_for_ephemeral_runners_makes_no_others(database) {
        let app = TestApp::start(database).await;
        let admin = app.admin();
        let input = json!({"scope": {"global": true}, "ephemeralOnly": true});
        let token = app.registration_token(&admin, input).await;
        for input in [json!({"name": "silent"}), json!({"name": "outspoken", "ephemeral": true})] {
            let runner = app.register(&token, input).await;
            let query = "query($id: ID!) { runner(id: $id) { ephemeral } }";
            assert_eq!(admin.data(query, json!({"id": runner.id})).await["runner"]["ephemeral"], true);
        }
        let input = json!({"token": token, "name": "stubborn", "ephemeral": false});
        let answer = app.anonymous().post(REGISTER, json!({"input": input})).await;
        assert_eq!((answer.code().as_str(), answer.field().as_str()), ("BAD_USER_INPUT", "ephemeral"));
        assert_eq!(total(&app).await, json!(2));
    }

    async fn a_runner_that_deregisters_is_gone(database) {
        let app = TestApp::start(database).await;
        let admin = app.admin();
        let runner = app.register(&app.registration_token, json!({"name": "build-1", "machineId": "machine-1"})).await;
        let session = runner.session().await;
        let answer = runner.client.data("mutation { deregisterRunner { deletedId } }", json!({})).await;
        assert_eq!(answer["deregisterRunner"]["deletedId"], json!(runner.id));
        assert_refused(&runner.client).await;
        assert_refused(&session).await;
        let query = "query($id: ID!) { node(id: $id) { id } runners { totalCount } }";
        let answer = admin.data(query, json!({"id": runner.id})).await;
        assert_eq!(answer, json!({"node": null, "runners": {"totalCount": 0}}));
        // Ids are never used again, not even for the same machine.
        let again = app.register(&app.registration_token, json!({"name": "build-1", "machineId": "machine-1"})).await;
        assert_ne!(again.id, runner.id);
        assert_eq!(admin.code("mutation { deregisterRunner { deletedId } }", json!({})).await, "FORBIDDEN");
    }

    async fn registering_alone_is_not_being_here(database) {
        let app = TestApp::start(database).await;
        let registered_at = app.now().to_rfc3339();
        let runner = app.register_runner("build-1").await;
        app.advance(Duration::from_secs(5));
        let query = "query($id: ID!) { runner(id: $id) { \
                     status statusSince lastOnlineAt lastActiveAt history { cause } } }";
        let answer = app.admin().data(query, json!({"id": runner.id})).await;
        let expected = json!({
            "status": "OFFLINE", "statusSince": registered_at, "lastOnlineAt": null, "lastActiveAt": null,
            "history": [],
        });
        assert_eq!(answer["runner"], expected);
    }
}
