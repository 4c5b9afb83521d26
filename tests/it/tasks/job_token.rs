//! What a task shows to others as proof of what it is.

use std::time::Duration;

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use rollcall::clock::Timestamp;
use serde_json::{Value, json};

use super::text;
use crate::support::{Client, Shown, TestApp, TestRunner, on_both};

const VERIFY: &str = "query($token: String!) { verifyJobToken(token: $token) { taskId repository attempt expiresAt } }";

/// What the server says of a token, to somebody without credentials.
async fn verified(client: &Client, token: &str) -> Value {
    client.data(VERIFY, json!({"token": token})).await["verifyJobToken"].clone()
}

/// Takes a task; returns its id and its token.
async fn take(runner: &TestRunner) -> (String, String) {
    let fetched = runner.fetch(0).await;
    (text(&fetched["task"]["id"]), text(&fetched["jobToken"]))
}

/// The public keys, as any service may fetch them.
async fn jwks(app: &TestApp) -> JwkSet {
    let client = app.anonymous();
    let answer = client.send(client.http.get(format!("{}/.well-known/jwks.json", app.url))).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let content_type = answer.headers["content-type"].to_str().unwrap();
    assert!(content_type.contains("json"), "{content_type}");
    let keys = answer.body["keys"].as_array().unwrap();
    assert!(!keys.is_empty() && keys.iter().all(|key| key.get("d").is_none()), "a public key and nothing more");
    serde_json::from_value(answer.body).unwrap()
}

/// The claims of a token, checked with nothing but the public keys.
fn claims(keys: &JwkSet, token: &str) -> Option<Value> {
    let header = jsonwebtoken::decode_header(token).ok()?;
    let key = DecodingKey::from_jwk(keys.find(&header.kid?)?).ok()?;
    let mut validation = Validation::new(Algorithm::ES256);
    validation.set_issuer(&["rollcall"]);
    validation.set_audience(&["rollcall-job"]);
    // The clock of the test is not the machine's.
    validation.validate_exp = false;
    validation.validate_nbf = false;
    jsonwebtoken::decode::<Value>(token, &key, &validation).ok().map(|token| token.claims)
}

on_both! {
    async fn anyone_can_check_a_token_with_the_public_key(database) {
        let app = TestApp::start(database).await;
        let olga = app.acme().await;
        let runner = app.register_runner("one").await;
        olga.enqueue(json!({"timeoutSeconds": 600})).await;
        app.advance(Duration::from_millis(1_500));
        let (id, token) = take(&runner).await;
        let keys = jwks(&app).await;
        let claims_of_it = claims(&keys, &token).unwrap();
        let now = app.now().as_seconds();
        // A minute to stop it, and a minute to tell of it, come on top.
        let end = now + 600 + 60 + 60;
        for (name, expected) in [
            ("iss", json!("rollcall")),
            ("aud", json!("rollcall-job")),
            ("sub", json!("repository:acme/api")),
            ("task", json!(id)),
            ("repository", json!("acme/api")),
            ("attempt", json!(1)),
            ("iat", json!(now)),
            ("exp", json!(end)),
        ] {
            assert_eq!(claims_of_it[name], expected, "{name}: {claims_of_it}");
        }
        let expires_at = Timestamp::from_micros(end * 1_000_000).to_rfc3339();
        let expected = json!({"taskId": id, "repository": "acme/api", "attempt": 1, "expiresAt": expires_at});
        for client in [app.anonymous(), olga, runner.client] {
            assert_eq!(verified(&client, &token).await, expected);
        }
        // One letter of the claims changed, and the signature fits no more.
        let (head, rest) = token.split_once('.').unwrap();
        let other = if rest.starts_with('e') { "f" } else { "e" };
        let forged = format!("{head}.{other}{}", &rest[1..]);
        assert_eq!(claims(&keys, &forged), None);
        assert_eq!(verified(&app.anonymous(), &forged).await, Value::Null);
    }

    async fn what_is_no_token_is_null(database) {
        let app = TestApp::start(database).await;
        let runner = app.register_runner("one").await;
        let Shown::Bearer(session) = runner.session().await.shown else { panic!("a session is a bearer token") };
        let none = format!("{}..", data_encoding::BASE64URL_NOPAD.encode(br#"{"alg":"none"}"#));
        for token in
            ["", "nonsense", "a.b.c", "\u{0}", &none, &session, &runner.secret, &app.admin_token, &"x".repeat(10_000)]
        {
            assert_eq!(verified(&app.anonymous(), token).await, Value::Null, "{token:.40}");
        }
    }

    async fn a_token_is_dead_when_its_task_has_ended(database) {
        let app = TestApp::start(database).await;
        let olga = app.acme().await;
        let runner = app.register_runner("one").await;
        let nobody = app.anonymous();
        for end in ["SUCCEEDED", "FAILED", "CANCELLED"] {
            olga.enqueue(json!({})).await;
            let (id, token) = take(&runner).await;
            assert_eq!(verified(&nobody, &token).await["taskId"], id);
            if end == "CANCELLED" {
                // While it is being stopped it is still at work.
                assert_eq!(olga.cancel(&id).await.task_status(), "CANCELLING");
                assert_eq!(verified(&nobody, &token).await["taskId"], id);
            }
            runner.finish(&id, end).await;
            assert_eq!(verified(&nobody, &token).await, Value::Null, "{end}");
        }
    }

    async fn each_attempt_has_a_token_of_its_own(database) {
        let app = TestApp::start(database).await;
        let olga = app.acme().await;
        let (one, two) = (app.register_runner("one").await, app.register_runner("two").await);
        olga.enqueue(json!({})).await;
        let (id, first) = take(&one).await;
        assert_eq!(one.release(&id).await.task_status(), "QUEUED");
        let nobody = app.anonymous();
        assert_eq!(verified(&nobody, &first).await, Value::Null, "while it waits");
        let (again, second) = take(&two).await;
        assert_eq!(again, id);
        assert_ne!(second, first);
        assert_eq!(verified(&nobody, &first).await, Value::Null, "while another has it");
        let known = verified(&nobody, &second).await;
        assert_eq!((&known["taskId"], &known["attempt"]), (&json!(id), &json!(2)));
        two.finish(&id, "SUCCEEDED").await;
        assert_eq!(olga.retry(&id).await.task_status(), "QUEUED");
        let (_, third) = take(&two).await;
        assert_eq!(verified(&nobody, &second).await, Value::Null);
        assert_eq!(verified(&nobody, &third).await["attempt"], 3);
    }

    async fn a_token_is_no_credential(database) {
        let app = TestApp::start(database).await;
        let olga = app.acme().await;
        let runner = app.register_runner("one").await;
        olga.enqueue(json!({})).await;
        let (_, token) = take(&runner).await;
        for shown in [Shown::Bearer(token.clone()), Shown::Runner { uuid: runner.uuid.clone(), secret: token.clone() }]
        {
            let answer = app.client(shown).post("{ viewer { __typename } }", json!({})).await;
            assert_eq!((answer.status, answer.code().as_str()), (401, "UNAUTHENTICATED"), "{}", answer.body);
        }
    }

    async fn tokens_survive_a_restart(database) {
        let app = TestApp::start(database).await;
        let olga = app.acme().await;
        let runner = app.register_runner("one").await;
        olga.enqueue(json!({})).await;
        let (id, token) = take(&runner).await;
        let app = app.restart().await;
        assert_eq!(claims(&jwks(&app).await, &token).unwrap()["task"], id);
        assert_eq!(verified(&app.anonymous(), &token).await["taskId"], id);
    }
}
