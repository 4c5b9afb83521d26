//! Credentials that are wrong, ambiguous or of the wrong kind, and registration tokens that do not work.

use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rollcall::auth::{SecretKind, mint, parse};
use rollcall::rng::Rng;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::{CREATE_TOKEN, REGISTER, assert_readable, refused, runner_count, still_answers, viewer_id};
use crate::support::{Client, Shown, TestApp, on_both};

const SESSION_KEY: &str = "this key signs the sessions of one server";
const OTHER_KEY: &str = "and this one signs those of another server";

/// Checks that credentials are refused whole.
async fn unauthenticated(client: &Client, what: &str) {
    let answer = refused(client, what, "{ viewer { __typename } }", json!({}), "UNAUTHENTICATED", "").await;
    assert_eq!(answer.status, 401, "{what}: {}", answer.body);
    assert!(answer.headers.contains_key("www-authenticate"), "{what}: {:?}", answer.headers);
    assert!(answer.body.get("data").is_none(), "{what}: {}", answer.body);
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

on_both! {
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
        app.advance(Duration::from_mins(1));
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
}
