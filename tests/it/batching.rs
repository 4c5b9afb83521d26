//! What is asked of many things costs as many statements as of one.

use serde_json::{Value, json};

use crate::lists::{costs_the_same, statements_of};
use crate::support::{Client, TestApp, on_both};

/// Things of one kind that are looked up together.
const MANY: usize = 50;

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// The document that looks these up.
fn nodes(ids: &[String]) -> String {
    format!("{{ nodes(ids: {}) {{ __typename id }} }}", json!(ids))
}

/// Checks that looking up all of these costs as much as looking up one of them, and that all are found.
async fn all_cost_as_one(app: &TestApp, client: &Client, ids: &[String]) {
    assert_eq!(ids.len(), MANY);
    let lone = statements_of(app, client, &nodes(&ids[..1])).await;
    let answer = client.data(&nodes(ids), json!({})).await;
    let found: Vec<String> = answer["nodes"].as_array().unwrap().iter().map(|node| text(&node["id"])).collect();
    assert_eq!(found, ids);
    costs_the_same(app, client, &nodes(ids), lone).await;
}

/// Checks that looking up all of these costs as much as looking up one of them, and that none is found.
async fn none_cost_as_one(app: &TestApp, client: &Client, ids: &[String]) {
    assert_eq!(ids.len(), MANY);
    let lone = statements_of(app, client, &nodes(&ids[..1])).await;
    let answer = client.data(&nodes(ids), json!({})).await;
    assert_eq!(answer["nodes"], json!(vec![Value::Null; MANY]));
    costs_the_same(app, client, &nodes(ids), lone).await;
}

/// Makes a registration token; returns its id.
async fn registration_token(client: &Client, scope: &Value) -> String {
    let create = "mutation($scope: ScopeInput!) { \
                  createRegistrationToken(input: {scope: $scope}) { registrationToken { id } } }";
    let answer = client.data(create, json!({"scope": scope})).await;
    text(&answer["createRegistrationToken"]["registrationToken"]["id"])
}

/// Makes an access token of the client's own user; returns its id.
async fn access_token(client: &Client, name: &str) -> String {
    let create = "mutation($name: String!) { \
                  createAccessToken(input: {name: $name, scopes: [READ_RUNNER]}) { accessToken { id } } }";
    let answer = client.data(create, json!({"name": name})).await;
    text(&answer["createAccessToken"]["accessToken"]["id"])
}

/// Makes a user without a token; returns its id.
async fn user(app: &TestApp, login: &str) -> String {
    let create = "mutation($login: String!) { createUser(input: {login: $login, name: $login}) { user { id } } }";
    let answer = app.admin().data(create, json!({"login": login})).await;
    text(&answer["createUser"]["user"]["id"])
}

on_both! {
    async fn looking_up_50_registration_tokens_costs_as_much_as_looking_up_one(database) {
        let app = TestApp::start(database).await;
        let (olga, gina) = (app.user("olga").await, app.user("gina").await);
        app.organization(&olga, "acme").await;
        for name in ["api", "web"] {
            app.repository(&olga, "acme", name).await;
        }
        let scopes = [json!({"owner": "acme"}), json!({"repository": "acme/api"}), json!({"repository": "acme/web"})];
        let mut ids = Vec::new();
        for number in 0..MANY {
            ids.push(registration_token(&olga, &scopes[number % scopes.len()]).await);
        }
        all_cost_as_one(&app, &olga, &ids).await;
        all_cost_as_one(&app, &app.admin(), &ids).await;
        none_cost_as_one(&app, &gina, &ids).await;
    }

    async fn looking_up_50_access_tokens_costs_as_much_as_looking_up_one(database) {
        let app = TestApp::start(database).await;
        let (olga, gina) = (app.user("olga").await, app.user("gina").await);
        let mut ids = Vec::new();
        for number in 0..MANY {
            ids.push(access_token(&olga, &format!("token-{number}")).await);
        }
        all_cost_as_one(&app, &olga, &ids).await;
        all_cost_as_one(&app, &app.admin(), &ids).await;
        none_cost_as_one(&app, &gina, &ids).await;
    }

    async fn looking_up_50_users_costs_as_much_as_looking_up_one(database) {
        let app = TestApp::start(database).await;
        let (olga, gina) = (app.user("olga").await, app.user("gina").await);
        app.organization(&olga, "acme").await;
        let mut ids = Vec::new();
        for number in 0..MANY {
            let login = format!("user-{number}");
            ids.push(user(&app, &login).await);
            app.add_member(&olga, "acme", &login, "MEMBER").await;
        }
        // Administrators see everybody; others whom they share an organization with.
        all_cost_as_one(&app, &app.admin(), &ids).await;
        all_cost_as_one(&app, &olga, &ids).await;
        none_cost_as_one(&app, &gina, &ids).await;
    }

    async fn the_access_tokens_of_20_members_cost_as_much_as_those_of_one(database) {
        let app = TestApp::start(database).await;
        let (admin, olga) = (app.admin(), app.user("olga").await);
        app.organization(&olga, "acme").await;
        let query = "{ organization(login: \"acme\") { \
                     members { nodes { user { login accessTokens { name } } } } } }";
        let lone = statements_of(&app, &admin, query).await;
        let mut expected = vec![json!({"user": {"login": "olga", "accessTokens": [{"name": "test"}]}})];
        for number in 1..20 {
            let login = format!("user-{number}");
            let client = app.user(&login).await;
            app.add_member(&olga, "acme", &login, "MEMBER").await;
            let mut tokens = vec![json!({"name": "test"})];
            if number % 7 == 0 {
                for name in ["second", "third"] {
                    access_token(&client, name).await;
                    tokens.push(json!({"name": name}));
                }
            }
            expected.push(json!({"user": {"login": login, "accessTokens": tokens}}));
        }
        let answer = admin.data(query, json!({})).await;
        assert_eq!(answer["organization"]["members"]["nodes"], json!(expected));
        costs_the_same(&app, &admin, query, lone).await;
        // Of other members even an owner sees none.
        assert_eq!(olga.code(query, json!({})).await, "FORBIDDEN");
    }
}
