//! What nobody should send, and what is said to those who do: a code, the field, a sentence, and nothing of the inside.

mod cleanup;
mod credentials;
mod documents;
mod names;
mod references;
mod tasks;

use serde_json::{Value, json};

use crate::support::{Answer, Client, TestApp};

const REGISTER: &str = "mutation($input: RegisterRunnerInput!) { registerRunner(input: $input) { runner { id } } }";
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

async fn still_answers(app: &TestApp) {
    let answer = app.admin().data("{ viewer { __typename } }", json!({})).await;
    assert_eq!(answer, json!({"viewer": {"__typename": "User"}}));
}

async fn runner_count(app: &TestApp) -> Value {
    app.admin().data("{ runners { totalCount } }", json!({})).await["runners"]["totalCount"].clone()
}

async fn viewer_id(app: &TestApp) -> String {
    let answer = app.admin().data("{ viewer { ... on User { id } } }", json!({})).await;
    answer["viewer"]["id"].as_str().unwrap().to_owned()
}
