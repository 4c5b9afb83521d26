//! What runners and people show of themselves, for how long it works, and that it is told to nobody else.

use std::time::Duration;

use rollcall::auth::{SecretKind, mint, parse};
use rollcall::rng::Rng;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use crate::support::{Client, Shown, TestApp, TestRunner, on_both};

const VIEWER: &str = "{ viewer { __typename ... on Runner { id } ... on User { login } } }";
const HEARTBEAT: &str =
    "mutation { heartbeat(input: {}) { serverTime directives { __typename ... on Drain { reason } } } }";
const REGISTER: &str =
    "mutation($input: RegisterRunnerInput!) { registerRunner(input: $input) { runner { id } secret } }";

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// The client shows credentials that work.
async fn works(client: &Client) {
    let answer = client.data(VIEWER, json!({})).await;
    assert!(answer["viewer"].is_object(), "{answer}");
}

/// The client shows credentials that do not work: nothing is executed.
async fn assert_refused(client: &Client) {
    let answer = client.post(VIEWER, json!({})).await;
    assert_eq!((answer.status, answer.code().as_str()), (401, "UNAUTHENTICATED"), "{}", answer.body);
    assert!(answer.body.get("data").is_none(), "{}", answer.body);
}

/// Opens a session as a client and returns one that shows it.
async fn open_session(app: &TestApp, client: &Client) -> Client {
    let answer = client.data("mutation { openRunnerSession { token expiresAt } }", json!({})).await;
    app.client(Shown::Bearer(text(&answer["openRunnerSession"]["token"])))
}

/// Rotates a runner's token; returns a client that shows the new one, and until when the old one works.
async fn rotate(app: &TestApp, client: &Client, runner: &TestRunner, id: Option<&str>) -> (Client, String) {
    let answer = client
        .data(
            "mutation($id: ID) { rotateRunnerToken(input: {id: $id}) { secret previousValidUntil runner { id } } }",
            json!({"id": id}),
        )
        .await;
    let rotated = &answer["rotateRunnerToken"];
    assert_eq!(rotated["runner"]["id"], json!(runner.id));
    let secret = text(&rotated["secret"]);
    assert!(secret.starts_with("rc_run_"));
    (app.client(Shown::Runner { uuid: runner.uuid.clone(), secret }), text(&rotated["previousValidUntil"]))
}

/// Makes an access token of the first administrator; returns its id and a client that shows it.
async fn access_token(app: &TestApp, input: Value) -> (String, Client) {
    let answer = app
        .admin()
        .data(
            "mutation($input: CreateAccessTokenInput!) { createAccessToken(input: $input) { \
             accessToken { id } secret } }",
            json!({"input": input}),
        )
        .await;
    let made = &answer["createAccessToken"];
    (text(&made["accessToken"]["id"]), app.client(Shown::Bearer(text(&made["secret"]))))
}

/// An answer to the letter.
async fn letters(client: &Client) -> (u16, String) {
    let request = client.http.post(format!("{}/graphql", client.url)).headers(client.headers());
    let response = request.json(&json!({"query": VIEWER})).send().await.unwrap();
    let status = response.status().as_u16();
    (status, response.text().await.unwrap())
}

/// The names of a type's fields that have no fields of their own.
async fn leaves(client: &Client, name: &str) -> String {
    let answer = client
        .data(
            "query($name: String!) { __type(name: $name) { fields { name type { \
             kind ofType { kind ofType { kind ofType { kind } } } } } } }",
            json!({"name": name}),
        )
        .await;
    let mut leaves = Vec::new();
    for field in answer["__type"]["fields"].as_array().unwrap() {
        let mut kind = &field["type"];
        while !kind["ofType"].is_null() {
            kind = &kind["ofType"];
        }
        if kind["kind"] == "SCALAR" || kind["kind"] == "ENUM" {
            leaves.push(field["name"].as_str().unwrap());
        }
    }
    assert!(leaves.len() > 3, "{name}: {leaves:?}");
    leaves.join(" ")
}

fn runner_client(app: &TestApp, uuid: &str, secret: &str) -> Client {
    app.client(Shown::Runner { uuid: uuid.to_owned(), secret: secret.to_owned() })
}

fn minted(kind: SecretKind, id: i64) -> String {
    mint(kind, id, &Rng::seeded(7)).expose_secret().to_owned()
}

on_both! {
    async fn a_runner_shows_uuid_and_token_or_a_session(database) {
        let app = TestApp::start(database).await;
        let runner = app.register_runner("build-1").await;
        let itself = json!({"viewer": {"__typename": "Runner", "id": runner.id}});
        assert_eq!(runner.client.data(VIEWER, json!({})).await, itself);
        let answer = runner.client.data("mutation { openRunnerSession { token expiresAt } }", json!({})).await;
        let session = &answer["openRunnerSession"];
        assert_eq!(session["expiresAt"], json!((app.now() + Duration::from_hours(1)).to_rfc3339()));
        let session = app.client(Shown::Bearer(text(&session["token"])));
        assert_eq!(session.data(VIEWER, json!({})).await, itself);
        // A session may open another.
        works(&open_session(&app, &session).await).await;
        // The UUID may be written in capitals.
        works(&runner_client(&app, &runner.uuid.to_uppercase(), &runner.secret)).await;
        let admin = app.admin().data(VIEWER, json!({})).await;
        assert_eq!(admin, json!({"viewer": {"__typename": "User", "login": "admin"}}));
        assert_eq!(app.anonymous().data(VIEWER, json!({})).await, json!({"viewer": null}));
    }

    async fn a_session_ends_by_the_clock(database) {
        let app = TestApp::start_with(database, &[("session-lifetime", "10m")]).await;
        let runner = app.register_runner("build-1").await;
        let session = runner.session().await;
        app.advance(Duration::from_secs(599));
        works(&session).await;
        app.advance(Duration::from_secs(1));
        assert_refused(&session).await;
        works(&open_session(&app, &runner.client).await).await;
    }

    async fn a_session_ends_with_the_rotation_of_the_token(database) {
        let app = TestApp::start(database).await;
        let runner = app.register_runner("build-1").await;
        let by_itself = runner.session().await;
        rotate(&app, &runner.client, &runner, None).await;
        assert_refused(&by_itself).await;
        let after = open_session(&app, &runner.client).await;
        works(&after).await;
        rotate(&app, &app.admin(), &runner, Some(&runner.id)).await;
        assert_refused(&after).await;
    }

    async fn a_session_may_rotate_the_token_and_ends_with_it(database) {
        let app = TestApp::start(database).await;
        let runner = app.register_runner("build-1").await;
        let session = runner.session().await;
        let (renewed, _) = rotate(&app, &session, &runner, None).await;
        assert_refused(&session).await;
        works(&open_session(&app, &renewed).await).await;
    }

    async fn credentials_end_with_the_runner(database) {
        let app = TestApp::start(database).await;
        let runner = app.register_runner("build-1").await;
        let session = runner.session().await;
        let delete = "mutation($id: ID!) { deleteRunner(input: {id: $id}) { deletedId } }";
        app.admin().data(delete, json!({"id": runner.id})).await;
        assert_refused(&session).await;
        assert_refused(&runner.client).await;
    }

    async fn credentials_end_when_the_machine_registers_anew(database) {
        let app = TestApp::start(database).await;
        let input = json!({"name": "build-1", "machineId": "machine-1"});
        let before = app.register(&app.registration_token, input.clone()).await;
        let session = before.session().await;
        // In the middle of a rotation, too, nothing earlier goes on.
        let (renewed, _) = rotate(&app, &before.client, &before, None).await;
        let overlapping = open_session(&app, &before.client).await;
        let after = app.register(&app.registration_token, input).await;
        for client in [&before.client, &session, &renewed, &overlapping] {
            assert_refused(client).await;
        }
        works(&after.client).await;
        works(&after.session().await).await;
    }

    async fn after_a_rotation_the_old_token_works_until_the_new_one_is_used(database) {
        let app = TestApp::start(database).await;
        let runner = app.register_runner("build-1").await;
        works(&runner.client).await;
        app.advance(Duration::from_secs(5));
        let (renewed, until) = rotate(&app, &runner.client, &runner, None).await;
        assert_eq!(until, (app.now() + Duration::from_hours(1)).to_rfc3339());
        let query = "query($id: ID!) { runner(id: $id) { tokenIssuedAt } }";
        let answer = app.admin().data(query, json!({"id": runner.id})).await;
        assert_eq!(answer["runner"]["tokenIssuedAt"], json!(app.now().to_rfc3339()));

        for _ in 0..2 {
            works(&runner.client).await;
        }
        let session = open_session(&app, &runner.client).await;
        works(&session).await;
        works(&renewed).await;
        assert_refused(&runner.client).await;
        assert_refused(&session).await;
        works(&renewed).await;
        works(&open_session(&app, &renewed).await).await;
    }

    async fn after_a_rotation_the_old_token_works_until_the_overlap_has_passed(database) {
        let app = TestApp::start_with(database, &[("rotation-overlap", "10m")]).await;
        let runner = app.register_runner("build-1").await;
        let (renewed, until) = rotate(&app, &app.admin(), &runner, Some(&runner.id)).await;
        assert_eq!(until, (app.now() + Duration::from_mins(10)).to_rfc3339());
        let session = open_session(&app, &runner.client).await;
        app.advance(Duration::from_millis(599_999));
        works(&runner.client).await;
        works(&session).await;
        app.advance(Duration::from_millis(1));
        // The session lasts for an hour by itself, but no longer than the token that opened it.
        assert_refused(&session).await;
        assert_refused(&runner.client).await;
        works(&renewed).await;
    }

    async fn of_two_rotations_only_the_last_leaves_an_old_token(database) {
        let app = TestApp::start(database).await;
        let runner = app.register_runner("build-1").await;
        let (second, _) = rotate(&app, &runner.client, &runner, None).await;
        let (third, _) = rotate(&app, &app.admin(), &runner, Some(&runner.id)).await;
        assert_refused(&runner.client).await;
        works(&second).await;
        works(&third).await;
        assert_refused(&second).await;
    }

    async fn a_token_is_rotated_by_the_runner_itself_and_by_who_manages_it(database) {
        let app = TestApp::start(database).await;
        let (one, two) = (app.register_runner("build-1").await, app.register_runner("build-2").await);
        let query = "mutation($id: ID) { rotateRunnerToken(input: {id: $id}) { secret } }";
        one.client.data(query, json!({"id": one.id})).await;
        assert_eq!(one.client.code(query, json!({"id": two.id})).await, "FORBIDDEN");
        assert_eq!(app.user("max").await.code(query, json!({"id": two.id})).await, "FORBIDDEN");
        assert_eq!(app.anonymous().code(query, json!({"id": two.id})).await, "UNAUTHENTICATED");
        let answer = app.admin().post(query, json!({})).await;
        assert_eq!((answer.code().as_str(), answer.field().as_str()), ("BAD_USER_INPUT", "id"));
        works(&two.client).await;
    }

    async fn a_disabled_runner_heartbeats_and_is_told_to_drain(database) {
        let app = TestApp::start(database).await;
        let admin = app.admin();
        let runner = app.register_runner("build-1").await;
        let session = runner.session().await;
        let disable = "mutation($id: ID!, $disabled: Boolean!) { updateRunner(input: {id: $id, disabled: $disabled}) { \
                       runner { disabled } } }";
        admin.data(disable, json!({"id": runner.id, "disabled": true})).await;
        for client in [&runner.client, &session, &open_session(&app, &runner.client).await] {
            works(client).await;
            let answer = client.data(HEARTBEAT, json!({})).await;
            let directives = answer["heartbeat"]["directives"].as_array().unwrap();
            assert_eq!(directives.len(), 1);
            assert_eq!(directives[0]["__typename"], "Drain");
            assert!(!directives[0]["reason"].as_str().unwrap().is_empty());
        }
        admin.data(disable, json!({"id": runner.id, "disabled": false})).await;
        let answer = session.data(HEARTBEAT, json!({})).await;
        assert_eq!(answer["heartbeat"]["directives"], json!([]));
    }

    async fn what_worked_before_a_restart_works_after_it(database) {
        let app = TestApp::start(database).await;
        let runner = app.register_runner("build-1").await;
        let session = runner.session().await;
        let rotated = app.register_runner("build-2").await;
        let ended = rotated.session().await;
        let (renewed, _) = rotate(&app, &rotated.client, &rotated, None).await;
        let overlapping = open_session(&app, &rotated.client).await;
        let gone = app.register_runner("build-3").await;
        let removed = gone.session().await;
        gone.client.data("mutation { deregisterRunner { deletedId } }", json!({})).await;

        let app = app.restart().await;
        let again = |client: &Client| app.client(client.shown.clone());
        for client in [&runner.client, &session, &rotated.client, &overlapping] {
            works(&again(client)).await;
        }
        for client in [&ended, &gone.client, &removed] {
            assert_refused(&again(client)).await;
        }
        works(&app.admin()).await;
        works(&again(&renewed)).await;
        for client in [&rotated.client, &overlapping] {
            assert_refused(&again(client)).await;
        }
    }

    async fn an_access_token_expires_by_the_clock(database) {
        let app = TestApp::start(database).await;
        let input = json!({"name": "short", "scopes": ["READ_RUNNER"], "expiresInSeconds": 60});
        let (id, client) = access_token(&app, input).await;
        let query = "query($id: ID!) { node(id: $id) { ... on AccessToken { isActive expiresAt } } }";
        let end = (app.now() + Duration::from_mins(1)).to_rfc3339();
        app.advance(Duration::from_millis(59_999));
        works(&client).await;
        let answer = app.admin().data(query, json!({"id": id})).await;
        assert_eq!(answer["node"], json!({"isActive": true, "expiresAt": end}));
        app.advance(Duration::from_millis(1));
        assert_refused(&client).await;
        let answer = app.admin().data(query, json!({"id": id})).await;
        assert_eq!(answer["node"], json!({"isActive": false, "expiresAt": end}));
    }

    async fn a_revoked_access_token_is_refused_at_once(database) {
        let app = TestApp::start(database).await;
        let (id, client) = access_token(&app, json!({"name": "leaked", "scopes": ["ADMIN"]})).await;
        for _ in 0..2 {
            works(&client).await;
        }
        app.advance(Duration::from_secs(3));
        let revoke = "mutation($id: ID!) { revokeAccessToken(input: {id: $id}) { \
                      accessToken { isActive revokedAt } } }";
        // A token may revoke itself.
        let answer = client.data(revoke, json!({"id": id})).await;
        let expected = json!({"isActive": false, "revokedAt": app.now().to_rfc3339()});
        assert_eq!(answer["revokeAccessToken"]["accessToken"], expected);
        assert_refused(&client).await;
        works(&app.admin()).await;
    }

    async fn nobody_learns_whether_the_uuid_or_the_token_was_wrong(database) {
        let app = TestApp::start(database).await;
        let (one, two) = (app.register_runner("build-1").await, app.register_runner("build-2").await);
        works(&one.client).await;
        let removed = app.register_runner("build-3").await;
        removed.client.data("mutation { deregisterRunner { deletedId } }", json!({})).await;
        let rotated = app.register_runner("build-4").await;
        let (renewed, _) = rotate(&app, &rotated.client, &rotated, None).await;
        works(&renewed).await;

        let unknown = "67e55044-10b1-426f-9247-bb680e5fe0c8";
        let (status, expected) = letters(&runner_client(&app, unknown, &one.secret)).await;
        assert_eq!(status, 401);
        assert!(expected.contains("UNAUTHENTICATED"), "{expected}");
        let never = minted(SecretKind::RunnerToken, 5);
        let attempts = [
            ("a wrong token", runner_client(&app, &one.uuid, &two.secret)),
            ("a token that never was", runner_client(&app, &one.uuid, &never)),
            ("both unknown", runner_client(&app, unknown, &never)),
            ("a runner that is gone", removed.client),
            ("a token that was rotated", rotated.client),
        ];
        for (what, client) in attempts {
            assert_eq!(letters(&client).await, (401, expected.clone()), "{what}");
        }
    }

    async fn nobody_learns_what_was_wrong_with_an_access_token(database) {
        let app = TestApp::start(database).await;
        let (id, revoked) = access_token(&app, json!({"name": "revoked", "scopes": ["ADMIN"]})).await;
        works(&revoked).await;
        let revoke = "mutation($id: ID!) { revokeAccessToken(input: {id: $id}) { accessToken { id } } }";
        app.admin().data(revoke, json!({"id": id})).await;
        let input = json!({"name": "expired", "scopes": ["ADMIN"], "expiresInSeconds": 1});
        let (_, expired) = access_token(&app, input).await;
        app.advance(Duration::from_secs(1));

        let unknown = app.client(Shown::Bearer(minted(SecretKind::AccessToken, 5)));
        let known = parse(SecretKind::AccessToken, &app.admin_token).unwrap().id;
        let wrong = app.client(Shown::Bearer(minted(SecretKind::AccessToken, known)));
        let (status, expected) = letters(&unknown).await;
        assert_eq!(status, 401);
        for (what, client) in [("a wrong secret", wrong), ("a revoked one", revoked), ("an expired one", expired)] {
            assert_eq!(letters(&client).await, (401, expected.clone()), "{what}");
        }
        works(&app.admin()).await;
    }

    async fn a_wrong_registration_token_makes_nothing(database) {
        let app = TestApp::start(database).await;
        let known = parse(SecretKind::RegistrationToken, &app.registration_token).unwrap().id;
        for id in [5, known] {
            let input = json!({"token": minted(SecretKind::RegistrationToken, id), "name": "build-1"});
            assert_eq!(app.anonymous().code(REGISTER, json!({"input": input})).await, "UNAUTHENTICATED");
        }
        let answer = app.admin().data("{ runners { totalCount } }", json!({})).await;
        assert_eq!(answer["runners"]["totalCount"], 0);
    }

    async fn secrets_are_never_told_again(database) {
        let app = TestApp::start(database).await;
        let admin = app.admin();
        let made = app.access_token("admin", &["READ_RUNNER"]).await;
        let registration = app.registration_token(&admin, json!({"scope": {"global": true}})).await;
        let runner = app.register(&registration, json!({"name": "build-1", "machineId": "machine-1"})).await;
        let (renewed, _) = rotate(&app, &runner.client, &runner, None).await;
        let Shown::Runner { secret: rotated, .. } = &renewed.shown else { panic!("a runner shows UUID and token") };

        let runner_leaves = leaves(&admin, "Runner").await;
        let token = leaves(&admin, "RegistrationToken").await;
        let access = leaves(&admin, "AccessToken").await;
        let user = leaves(&admin, "User").await;
        let one = format!(
            "query($id: ID!) {{ runner(id: $id) {{ {runner_leaves} \
             registeredWith {{ {token} createdBy {{ {user} }} }} }} }}"
        );
        let all = format!(
            "query {{ instance {{ registrationTokens(first: 10) {{ nodes {{ {token} }} }} \
             runners(first: 10) {{ nodes {{ {runner_leaves} }} }} }} \
             viewer {{ ... on User {{ {user} accessTokens {{ {access} }} }} }} }}"
        );
        for (viewer, query) in [(&admin, &one), (&renewed, &one), (&admin, &all)] {
            let answer = viewer.data(query, json!({"id": runner.id})).await.to_string();
            assert!(answer.contains(&runner.uuid), "{answer}");
            for secret in [&app.admin_token, &app.registration_token, &made, &registration, &runner.secret, rotated] {
                assert!(!answer.contains(secret.as_str()), "{answer}");
            }
            for trace in ["rc_pat_", "rc_reg_", "rc_run_", "$argon2"] {
                assert!(!answer.contains(trace), "{trace} in {answer}");
            }
        }
    }

    async fn a_verified_runner_costs_no_statement(database) {
        let app = TestApp::start(database).await;
        let runner = app.register_runner("build-1").await;
        let (_, first) = app.statements(runner.heartbeat()).await;
        assert!(first > 0, "the first time somebody has to look");
        let session = runner.session().await;
        let clients = [("UUID and token", &runner.client), ("a session", &session)];
        for (what, client) in clients {
            for round in 0..3 {
                let (_, statements) = app.statements(client.data(HEARTBEAT, json!({}))).await;
                assert_eq!(statements, 0, "{what}, round {round}");
            }
        }
        let (_, statements) = app.statements(open_session(&app, &session)).await;
        assert_eq!(statements, 0, "opening a session");
    }
}
