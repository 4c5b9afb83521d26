//! Users, organizations, repositories and access tokens, and what is done with many runners at once.

use std::time::Duration;

use rollcall::events::EventKind;
use serde_json::{Value, json};

use crate::support::{Answer, Client, Shown, TestApp, TestRunner, on_both};

const CREATE_USER: &str = "mutation($input: CreateUserInput!) { createUser(input: $input) { user { login isAdmin } } }";
const CREATE_ORGANIZATION: &str =
    "mutation($input: CreateOrganizationInput!) { createOrganization(input: $input) { organization { login name } } }";
const CREATE_REPOSITORY: &str =
    "mutation($input: CreateRepositoryInput!) { createRepository(input: $input) { repository { name path } } }";
const ADD: &str =
    "mutation($input: AddOrganizationMemberInput!) { addOrganizationMember(input: $input) { organization { login } } }";
const REMOVE: &str = "mutation($input: RemoveOrganizationMemberInput!) { removeOrganizationMember(input: $input) { \
    organization { login } } }";
const DELETE_USER: &str = "mutation($login: String!) { deleteUser(input: {login: $login}) { deletedId } }";
const DELETE_ORGANIZATION: &str =
    "mutation($login: String!) { deleteOrganization(input: {login: $login}) { deletedId } }";
const CREATE_TOKEN: &str =
    "mutation($input: CreateAccessTokenInput!) { createAccessToken(input: $input) { accessToken { id } secret } }";
const DELETE_RUNNERS: &str = "mutation($input: DeleteRunnersInput!) { deleteRunners(input: $input) { \
    matchedCount runners { name } refused { id code message } } }";
const SET_DISABLED: &str = "mutation($input: SetRunnersDisabledInput!) { setRunnersDisabled(input: $input) { \
    matchedCount runners { name disabled } refused { id code message } } }";
const HEARTBEAT: &str = "mutation { heartbeat(input: {}) { directives { __typename } } }";

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// The code of the first error and the field that it is about.
fn fault(answer: &Answer) -> (String, String) {
    (answer.code(), answer.field())
}

fn bad_input(field: &str) -> (String, String) {
    ("BAD_USER_INPUT".to_owned(), field.to_owned())
}

/// Registers a runner in a scope, given as the mutation has it.
async fn register_in(app: &TestApp, scope: Value, name: &str) -> TestRunner {
    let token = app.registration_token(&app.admin(), json!({"scope": scope})).await;
    app.register(&token, json!({"name": name})).await
}

/// The members of an organization with their roles.
async fn members(client: &Client, login: &str) -> Vec<(String, String)> {
    let query = "query($login: String!) { organization(login: $login) { members { nodes { role user { login } } } } }";
    let answer = client.data(query, json!({"login": login})).await;
    let nodes = answer["organization"]["members"]["nodes"].as_array().unwrap();
    nodes.iter().map(|node| (text(&node["user"]["login"]), text(&node["role"]))).collect()
}

fn member(login: &str, role: &str) -> (String, String) {
    (login.to_owned(), role.to_owned())
}

/// The names of all runners there are.
async fn all_names(app: &TestApp) -> Vec<String> {
    let answer = app.admin().data("{ runners(first: 100) { nodes { name } } }", json!({})).await;
    answer["runners"]["nodes"].as_array().unwrap().iter().map(|node| text(&node["name"])).collect()
}

/// What a call for many runners at once did: how many, which, and the refusals.
struct Bulk {
    matched: Value,
    names: Vec<String>,
    refused: Vec<(String, String)>,
}

async fn bulk(client: &Client, query: &str, input: Value) -> Bulk {
    let answer = client.data(query, json!({"input": input})).await;
    let answer = answer.as_object().unwrap().values().next().unwrap();
    let refused = answer["refused"].as_array().unwrap();
    for refusal in refused {
        assert!(!refusal["message"].as_str().unwrap().is_empty(), "{answer}");
    }
    Bulk {
        matched: answer["matchedCount"].clone(),
        names: answer["runners"].as_array().unwrap().iter().map(|runner| text(&runner["name"])).collect(),
        refused: refused.iter().map(|refusal| (text(&refusal["id"]), text(&refusal["code"]))).collect(),
    }
}

/// The organization acme with the owner olga and the member max, and one runner each of acme, of its repository
/// acme/api, of the instance, and of the user gina.
struct World {
    app: TestApp,
    olga: Client,
    max: Client,
    owned: TestRunner,
    inner: TestRunner,
    shared: TestRunner,
    foreign: TestRunner,
}

impl World {
    async fn new(app: TestApp) -> Self {
        let olga = app.user("olga").await;
        let max = app.user("max").await;
        app.user("gina").await;
        app.organization(&olga, "acme").await;
        app.add_member(&olga, "acme", "max", "MEMBER").await;
        app.repository(&olga, "acme", "api").await;
        let owned = register_in(&app, json!({"owner": "acme"}), "owned").await;
        let inner = register_in(&app, json!({"repository": "acme/api"}), "inner").await;
        let shared = app.register_runner("shared").await;
        let foreign = register_in(&app, json!({"owner": "gina"}), "foreign").await;
        Self { app, olga, max, owned, inner, shared, foreign }
    }
}

on_both! {
    async fn a_login_is_taken_without_regard_to_case_by_users_and_organizations_alike(database) {
        let app = TestApp::start(database).await;
        let admin = app.admin();
        let olga = app.user("Olga").await;
        app.organization(&olga, "Acme").await;
        for taken in ["Olga", "olga", "OLGA", "acme", "ACME", "Admin"] {
            let input = json!({"input": {"login": taken, "name": "Again"}});
            assert_eq!(admin.code(CREATE_USER, input.clone()).await, "CONFLICT", "{taken}");
            assert_eq!(olga.code(CREATE_ORGANIZATION, input).await, "CONFLICT", "{taken}");
        }
        let query = "{ user(login: \"oLGA\") { login } organization(login: \"aCME\") { login } \
                     no: user(login: \"acme\") { login } neither: organization(login: \"olga\") { login } }";
        let expected = json!({
            "user": {"login": "Olga"}, "organization": {"login": "Acme"}, "no": null, "neither": null,
        });
        assert_eq!(admin.data(query, json!({})).await, expected);
        for wrong in ["", "-a", "a b", "a/b", "ä"] {
            let input = json!({"input": {"login": wrong, "name": "Wrong"}});
            assert_eq!(fault(&admin.post(CREATE_USER, input.clone()).await), bad_input("login"), "{wrong}");
            assert_eq!(fault(&olga.post(CREATE_ORGANIZATION, input).await), bad_input("login"), "{wrong}");
        }
    }

    async fn administrators_make_users_and_users_make_organizations(database) {
        let app = TestApp::start(database).await;
        let admin = app.admin();
        let olga = app.user("olga").await;
        let input = json!({"input": {"login": "max", "name": "Max", "isAdmin": true, "password": "long enough"}});
        assert_eq!(olga.code(CREATE_USER, input.clone()).await, "FORBIDDEN");
        assert_eq!(app.anonymous().code(CREATE_USER, input.clone()).await, "UNAUTHENTICATED");
        let answer = admin.data(CREATE_USER, input).await;
        assert_eq!(answer["createUser"]["user"], json!({"login": "max", "isAdmin": true}));
        let input = json!({"input": {"login": "mia", "name": "Mia", "password": "short"}});
        assert_eq!(fault(&admin.post(CREATE_USER, input).await), bad_input("password"));

        let input = json!({"input": {"login": "acme", "name": "Acme Corporation"}});
        let runner = app.register_runner("build-1").await;
        assert_eq!(runner.client.code(CREATE_ORGANIZATION, input.clone()).await, "FORBIDDEN");
        assert_eq!(app.anonymous().code(CREATE_ORGANIZATION, input.clone()).await, "UNAUTHENTICATED");
        let answer = olga.data(CREATE_ORGANIZATION, input).await;
        let made = json!({"login": "acme", "name": "Acme Corporation"});
        assert_eq!(answer["createOrganization"]["organization"], made);
        assert_eq!(members(&olga, "acme").await, [member("olga", "OWNER")]);
    }

    async fn owners_make_repositories(database) {
        let app = TestApp::start(database).await;
        let olga = app.user("olga").await;
        let max = app.user("max").await;
        let gina = app.user("gina").await;
        app.organization(&olga, "Acme").await;
        app.add_member(&olga, "acme", "max", "MEMBER").await;
        let input = |owner: &str, name: &str| json!({"input": {"owner": owner, "name": name}});
        let answer = olga.data(CREATE_REPOSITORY, input("ACME", "Api")).await;
        assert_eq!(answer["createRepository"]["repository"], json!({"name": "Api", "path": "Acme/Api"}));
        let answer = gina.data(CREATE_REPOSITORY, input("gina", "api")).await;
        assert_eq!(answer["createRepository"]["repository"]["path"], "gina/api");
        app.admin().data(CREATE_REPOSITORY, input("acme", "by-admin")).await;

        assert_eq!(olga.code(CREATE_REPOSITORY, input("acme", "API")).await, "CONFLICT");
        assert_eq!(max.code(CREATE_REPOSITORY, input("acme", "web")).await, "FORBIDDEN");
        assert_eq!(gina.code(CREATE_REPOSITORY, input("acme", "web")).await, "NOT_FOUND");
        assert_eq!(olga.code(CREATE_REPOSITORY, input("gina", "web")).await, "NOT_FOUND");
        assert_eq!(olga.code(CREATE_REPOSITORY, input("nobody", "web")).await, "NOT_FOUND");
        assert_eq!(app.anonymous().code(CREATE_REPOSITORY, input("acme", "web")).await, "UNAUTHENTICATED");
        for wrong in ["", "..", "a/b", "x.git"] {
            assert_eq!(fault(&olga.post(CREATE_REPOSITORY, input("acme", wrong)).await), bad_input("name"), "{wrong}");
        }
        let query = "{ organization(login: \"acme\") { repositories { totalCount nodes { name } } } \
                     repository(owner: \"acme\", name: \"api\") { path } }";
        let repositories = json!({"totalCount": 2, "nodes": [{"name": "Api"}, {"name": "by-admin"}]});
        let expected = json!({
            "organization": {"repositories": repositories}, "repository": {"path": "Acme/Api"},
        });
        assert_eq!(max.data(query, json!({})).await, expected);
    }

    async fn an_organization_keeps_an_owner(database) {
        let app = TestApp::start(database).await;
        let olga = app.user("olga").await;
        let max = app.user("max").await;
        app.organization(&olga, "acme").await;
        let joining = |user: &str, role: &str| json!({"input": {"organization": "acme", "user": user, "role": role}});
        let leaving = |user: &str| json!({"input": {"organization": "acme", "user": user}});
        olga.data(ADD, joining("max", "MEMBER")).await;
        for client in [&olga, &app.admin()] {
            assert_eq!(client.code(REMOVE, leaving("olga")).await, "CONFLICT");
            assert_eq!(client.code(ADD, joining("olga", "MEMBER")).await, "CONFLICT");
            assert_eq!(client.code(DELETE_USER, json!({"login": "olga"})).await, "CONFLICT");
        }
        assert_eq!(members(&olga, "acme").await, [member("olga", "OWNER"), member("max", "MEMBER")]);
        assert_eq!(max.code(ADD, joining("max", "OWNER")).await, "FORBIDDEN");
        assert_eq!(max.code(REMOVE, leaving("olga")).await, "FORBIDDEN");

        olga.data(ADD, joining("max", "OWNER")).await;
        assert_eq!(members(&olga, "acme").await, [member("olga", "OWNER"), member("max", "OWNER")]);
        max.data(ADD, joining("olga", "MEMBER")).await;
        assert_eq!(olga.code(ADD, joining("max", "MEMBER")).await, "FORBIDDEN");
        // A member may leave by itself.
        olga.data(REMOVE, leaving("olga")).await;
        assert_eq!(members(&max, "acme").await, [member("max", "OWNER")]);
        assert_eq!(max.code(REMOVE, leaving("olga")).await, "NOT_FOUND");
        assert_eq!(max.code(REMOVE, leaving("nobody")).await, "NOT_FOUND");
        assert_eq!(olga.code(REMOVE, leaving("olga")).await, "NOT_FOUND");
        olga.data(DELETE_USER, json!({"login": "olga"})).await;
    }

    async fn two_owners_who_leave_at_once_leave_one_behind(database) {
        let app = TestApp::start(database).await;
        let olga = app.user("olga").await;
        let otto = app.user("otto").await;
        for round in 0..10 {
            let login = format!("acme-{round}");
            app.organization(&olga, &login).await;
            app.add_member(&olga, &login, "otto", "OWNER").await;
            let leaving = |user: &str| json!({"input": {"organization": login, "user": user}});
            let (one, two) = tokio::join!(olga.post(REMOVE, leaving("olga")), otto.post(REMOVE, leaving("otto")));
            let mut codes = [one.code(), two.code()];
            codes.sort_unstable();
            assert_eq!(codes, ["", "CONFLICT"], "round {round}");
            assert_eq!(members(&app.admin(), &login).await.len(), 1, "round {round}");
        }
    }

    async fn the_instance_keeps_an_administrator(database) {
        let app = TestApp::start(database).await;
        assert_eq!(app.admin().code(DELETE_USER, json!({"login": "admin"})).await, "CONFLICT");
        let mut others = Vec::new();
        for login in ["root-1", "root-2"] {
            let input = json!({"input": {"login": login, "name": login, "isAdmin": true}});
            app.admin().data(CREATE_USER, input).await;
            others.push(app.client(Shown::Bearer(app.access_token(login, &["ADMIN"]).await)));
        }
        others[0].data(DELETE_USER, json!({"login": "admin"})).await;
        assert_eq!(app.admin().code("{ instance { path } }", json!({})).await, "UNAUTHENTICATED");
        // Both at once: one of them has to stay.
        let (one, two) = tokio::join!(
            others[0].post(DELETE_USER, json!({"login": "root-1"})),
            others[1].post(DELETE_USER, json!({"login": "root-2"})),
        );
        let mut codes = [one.code(), two.code()];
        codes.sort_unstable();
        assert_eq!(codes, ["", "CONFLICT"]);
    }

    async fn an_organization_goes_with_everything_that_belongs_to_it(database) {
        let World { app, olga, max, owned, inner, shared, foreign } = World::new(TestApp::start(database).await).await;
        let inside = app.registration_token(&olga, json!({"scope": {"owner": "acme"}})).await;
        let deeper = app.registration_token(&olga, json!({"scope": {"repository": "acme/api"}})).await;
        let session = owned.session().await;
        for runner in [&owned, &inner, &shared, &foreign] {
            runner.heartbeat().await;
        }
        let query = "query($ids: [ID!]!) { nodes(ids: $ids) { id } organization(login: \"acme\") { id } \
                     repository(owner: \"acme\", name: \"api\") { id } }";
        let answer = olga.data(query, json!({"ids": []})).await;
        let ids = [text(&answer["organization"]["id"]), text(&answer["repository"]["id"])];
        assert_eq!(max.code(DELETE_ORGANIZATION, json!({"login": "acme"})).await, "FORBIDDEN");
        let stranger = app.user("stranger").await;
        assert_eq!(stranger.code(DELETE_ORGANIZATION, json!({"login": "acme"})).await, "NOT_FOUND");
        assert_eq!(olga.code(DELETE_USER, json!({"login": "acme"})).await, "NOT_FOUND");

        let answer = olga.data(DELETE_ORGANIZATION, json!({"login": "ACME"})).await;
        assert_eq!(answer["deleteOrganization"]["deletedId"], json!(ids[0]));
        let ids = json!([ids[0], ids[1], owned.id, inner.id, shared.id]);
        let expected = json!({
            "nodes": [null, null, null, null, {"id": shared.id}], "organization": null, "repository": null,
        });
        assert_eq!(app.admin().data(query, json!({"ids": ids})).await, expected);
        assert_eq!(all_names(&app).await, ["shared", "foreign"]);
        for client in [&owned.client, &inner.client, &session] {
            assert_eq!(client.code(HEARTBEAT, json!({})).await, "UNAUTHENTICATED");
        }
        for runner in [&shared, &foreign] {
            runner.heartbeat().await;
        }
        let register = "mutation($input: RegisterRunnerInput!) { registerRunner(input: $input) { secret } }";
        for token in [&inside, &deeper] {
            let input = json!({"input": {"token": token, "name": "late"}});
            assert_eq!(app.anonymous().code(register, input).await, "UNAUTHENTICATED");
        }
        let summary = "{ instance { fleet { total idle } } viewer { ... on User { organizations { totalCount } } } }";
        let expected = json!({
            "instance": {"fleet": {"total": 1, "idle": 1}}, "viewer": {"organizations": {"totalCount": 0}},
        });
        assert_eq!(olga.data(summary, json!({})).await, expected);
        // The name is free again, for something new.
        app.organization(&stranger, "acme").await;
        assert_eq!(olga.code(DELETE_ORGANIZATION, json!({"login": "acme"})).await, "NOT_FOUND");
        assert_eq!(members(&stranger, "acme").await, [member("stranger", "OWNER")]);
    }

    async fn the_runners_of_a_deleted_organization_are_told_of_one_by_one(database) {
        let World { app, olga, owned, inner, .. } = World::new(TestApp::start(database).await).await;
        let mut socket = app.socket(&app.admin()).await;
        let events = "subscription { runnerEvents { ... on RunnerDeleted { deletedId uuid name } } }";
        socket.subscribe("s", events, json!({})).await;
        for _ in 0..500 {
            if app.fleet.bus.is_watched(EventKind::Runner) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        olga.data(DELETE_ORGANIZATION, json!({"login": "acme"})).await;
        let mut told = Vec::new();
        for _ in 0..2 {
            told.push(socket.next_data("s").await["runnerEvents"].clone());
        }
        told.sort_by_key(|event| text(&event["name"]));
        let gone = |runner: &TestRunner, name: &str| {
            json!({"deletedId": runner.id, "uuid": runner.uuid, "name": name})
        };
        assert_eq!(told, [gone(&inner, "inner"), gone(&owned, "owned")]);
        assert!(socket.is_quiet_for(Duration::from_millis(100)).await);
    }

    async fn a_repository_goes_with_its_runners_and_the_owner_stays(database) {
        let World { app, olga, max, owned, inner, .. } = World::new(TestApp::start(database).await).await;
        let delete = "mutation($name: String!) { \
                      deleteRepository(input: {owner: \"acme\", name: $name}) { deletedId } }";
        assert_eq!(max.code(delete, json!({"name": "api"})).await, "FORBIDDEN");
        assert_eq!(olga.code(delete, json!({"name": "web"})).await, "NOT_FOUND");
        olga.data(delete, json!({"name": "API"})).await;
        assert_eq!(inner.client.code(HEARTBEAT, json!({})).await, "UNAUTHENTICATED");
        owned.heartbeat().await;
        assert_eq!(all_names(&app).await, ["owned", "shared", "foreign"]);
        app.repository(&olga, "acme", "api").await;
    }

    async fn a_user_goes_with_everything_that_belongs_to_it(database) {
        let app = TestApp::start(database).await;
        let admin = app.admin();
        let olga = app.user("olga").await;
        let max = app.user("max").await;
        app.organization(&olga, "acme").await;
        app.add_member(&olga, "acme", "max", "OWNER").await;
        app.repository(&max, "max", "dotfiles").await;
        let own = register_in(&app, json!({"owner": "max"}), "own").await;
        let inner = register_in(&app, json!({"repository": "max/dotfiles"}), "inner").await;
        // What max made for the organization stays with it.
        let token = app.registration_token(&max, json!({"scope": {"owner": "acme"}})).await;
        let kept = app.register(&token, json!({"name": "kept"})).await;

        assert_eq!(olga.code(DELETE_USER, json!({"login": "max"})).await, "NOT_FOUND");
        assert_eq!(own.client.code(DELETE_USER, json!({"login": "max"})).await, "FORBIDDEN");
        let answer = max.data(DELETE_USER, json!({"login": "max"})).await;
        assert!(answer["deleteUser"]["deletedId"].as_str().unwrap().starts_with("user_"));
        assert_eq!(max.code("{ instance { path } }", json!({})).await, "UNAUTHENTICATED");
        for runner in [&own, &inner] {
            assert_eq!(runner.client.code(HEARTBEAT, json!({})).await, "UNAUTHENTICATED");
        }
        kept.heartbeat().await;
        app.register(&token, json!({"name": "more"})).await;
        assert_eq!(all_names(&app).await, ["kept", "more"]);
        assert_eq!(members(&olga, "acme").await, [member("olga", "OWNER")]);
        let query = "query($id: ID!) { runner(id: $id) { registeredWith { useCount createdBy { login } } } \
                     user(login: \"max\") { id } repository(owner: \"max\", name: \"dotfiles\") { id } }";
        let expected = json!({
            "runner": {"registeredWith": {"useCount": 2, "createdBy": null}}, "user": null, "repository": null,
        });
        assert_eq!(admin.data(query, json!({"id": kept.id})).await, expected);
    }

    async fn access_tokens_are_listed_for_their_user_and_for_administrators(database) {
        let app = TestApp::start(database).await;
        let max = app.user("max").await;
        let (short, gone) = (
            json!({"input": {"name": "short", "scopes": ["READ_RUNNER", "WRITE_TASK"], "expiresInSeconds": 60}}),
            json!({"input": {"name": "gone", "scopes": ["WRITE_RUNNER"]}}),
        );
        max.data(CREATE_TOKEN, short).await;
        let answer = max.data(CREATE_TOKEN, gone).await;
        let id = text(&answer["createAccessToken"]["accessToken"]["id"]);
        let made_at = app.now().to_rfc3339();
        let end = (app.now() + Duration::from_mins(1)).to_rfc3339();
        app.advance(Duration::from_mins(1));
        let revoke = "mutation($id: ID!) { revokeAccessToken(input: {id: $id}) { accessToken { id } } }";
        max.data(revoke, json!({"id": id})).await;

        let query = "{ user(login: \"max\") { accessTokens { name scopes isActive createdAt expiresAt revokedAt \
                     user { login } } } }";
        let entry = |name: &str, scopes: Value, is_active: bool, end: Value, revoked: Value| {
            json!({
                "name": name, "scopes": scopes, "isActive": is_active, "createdAt": made_at, "expiresAt": end,
                "revokedAt": revoked, "user": {"login": "max"},
            })
        };
        let revoked_at = json!(app.now().to_rfc3339());
        let expected = json!([
            entry("test", json!(["ADMIN"]), true, Value::Null, Value::Null),
            entry("short", json!(["READ_RUNNER", "WRITE_TASK"]), false, json!(end), Value::Null),
            entry("gone", json!(["WRITE_RUNNER"]), false, Value::Null, revoked_at),
        ]);
        for client in [&max, &app.admin()] {
            assert_eq!(client.data(query, json!({})).await["user"]["accessTokens"], expected);
        }
        // Who only reads runners does not read tokens; who is somebody else does not see the user.
        let weak = app.client(Shown::Bearer(app.access_token("max", &["WRITE_RUNNER"]).await));
        assert_eq!(weak.code(query, json!({})).await, "FORBIDDEN");
        let gina = app.user("gina").await;
        assert_eq!(gina.data(query, json!({})).await["user"], Value::Null);
    }

    async fn access_tokens_are_made_and_revoked_by_their_user_and_by_administrators(database) {
        let app = TestApp::start(database).await;
        let (max, gina) = (app.user("max").await, app.user("gina").await);
        let input = |user: Value| json!({"input": {"name": "token", "scopes": ["READ_RUNNER"], "user": user}});
        let revoke = "mutation($id: ID!) { revokeAccessToken(input: {id: $id}) { accessToken { isActive } } }";
        let mut ids = Vec::new();
        for (client, user) in [(&max, Value::Null), (&max, json!("MAX")), (&app.admin(), json!("max"))] {
            let answer = client.data(CREATE_TOKEN, input(user)).await;
            assert!(text(&answer["createAccessToken"]["secret"]).starts_with("rc_pat_"));
            ids.push(text(&answer["createAccessToken"]["accessToken"]["id"]));
        }
        assert_eq!(gina.code(CREATE_TOKEN, input(json!("max"))).await, "FORBIDDEN");
        assert_eq!(app.admin().code(CREATE_TOKEN, input(json!("nobody"))).await, "NOT_FOUND");
        let none = json!({"input": {"name": "token", "scopes": []}});
        assert_eq!(fault(&max.post(CREATE_TOKEN, none).await), bad_input("scopes"));
        let weak = app.client(Shown::Bearer(app.access_token("max", &["WRITE_RUNNER"]).await));
        assert_eq!(weak.code(CREATE_TOKEN, input(Value::Null)).await, "FORBIDDEN");

        assert_eq!(gina.code(revoke, json!({"id": ids[0]})).await, "NOT_FOUND");
        assert_eq!(weak.code(revoke, json!({"id": ids[0]})).await, "FORBIDDEN");
        for (client, id) in [(&max, &ids[0]), (&app.admin(), &ids[1])] {
            let answer = client.data(revoke, json!({"id": id})).await;
            assert_eq!(answer["revokeAccessToken"]["accessToken"]["isActive"], false);
        }
    }

    async fn many_runners_are_deleted_by_id_and_what_is_not_allowed_is_said_one_by_one(database) {
        let World { app, olga, max, owned, inner, shared, foreign } = World::new(TestApp::start(database).await).await;
        let removed = app.register_runner("removed").await;
        removed.client.data("mutation { deregisterRunner { deletedId } }", json!({})).await;
        let ids = json!([owned.id, shared.id, inner.id, foreign.id, removed.id]);
        let mut refused = vec![
            (shared.id.clone(), "FORBIDDEN".to_owned()),
            (foreign.id.clone(), "NOT_FOUND".to_owned()),
            (removed.id.clone(), "NOT_FOUND".to_owned()),
        ];
        refused.sort_unstable();
        for dry_run in [true, false] {
            let mut result = bulk(&olga, DELETE_RUNNERS, json!({"ids": ids, "dryRun": dry_run})).await;
            result.refused.sort_unstable();
            assert_eq!((result.matched, result.names), (json!(2), vec!["owned".to_owned(), "inner".to_owned()]));
            assert_eq!(result.refused, refused);
            let left: &[&str] = if dry_run { &["owned", "inner", "shared", "foreign"] } else { &["shared", "foreign"] };
            assert_eq!(all_names(&app).await, left, "dryRun {dry_run}");
        }
        for runner in [&owned, &inner] {
            assert_eq!(runner.client.code(HEARTBEAT, json!({})).await, "UNAUTHENTICATED");
        }
        shared.heartbeat().await;
        // Again, they are no longer there.
        let result = bulk(&olga, DELETE_RUNNERS, json!({"ids": [owned.id]})).await;
        assert_eq!((result.matched, result.refused), (json!(0), vec![(owned.id, "NOT_FOUND".to_owned())]));
        for (client, code) in [(&shared.client, "FORBIDDEN"), (&app.anonymous(), "UNAUTHENTICATED")] {
            assert_eq!(client.code(DELETE_RUNNERS, json!({"input": {"ids": [shared.id]}})).await, code);
        }
        let weak = app.client(Shown::Bearer(app.access_token("max", &["READ_RUNNER"]).await));
        assert_eq!(weak.code(DELETE_RUNNERS, json!({"input": {"ids": [shared.id]}})).await, "FORBIDDEN");
        let result = bulk(&max, DELETE_RUNNERS, json!({"filter": {"search": "a"}})).await;
        assert_eq!((result.matched, result.refused), (json!(0), vec![(shared.id, "FORBIDDEN".to_owned())]));
    }

    async fn many_runners_are_disabled_by_scope_and_filter(database) {
        let World { app, olga, owned, inner, .. } = World::new(TestApp::start(database).await).await;
        let idle = register_in(&app, json!({"owner": "acme"}), "idle").await;
        idle.heartbeat().await;
        let input = |filter: Value, disabled: bool| {
            json!({"scope": {"owner": "acme"}, "filter": filter, "disabled": disabled})
        };
        let mut dry = input(json!({"statuses": ["IDLE"]}), true);
        dry["dryRun"] = json!(true);
        let result = bulk(&olga, SET_DISABLED, dry).await;
        assert_eq!((result.matched, result.names), (json!(1), vec!["idle".to_owned()]));
        assert_eq!(idle.heartbeat().await["directives"], json!([]));

        let result = bulk(&olga, SET_DISABLED, input(json!({"statuses": ["IDLE"]}), true)).await;
        assert_eq!((result.matched, result.names), (json!(1), vec!["idle".to_owned()]));
        assert!(result.refused.is_empty());
        assert_eq!(idle.heartbeat().await["directives"], json!([{"__typename": "Drain"}]));
        assert_eq!(owned.heartbeat().await["directives"], json!([]));
        // Without a filter all of the scope itself are meant, those that are so already too.
        let result = bulk(&olga, SET_DISABLED, input(Value::Null, true)).await;
        assert_eq!((result.matched, result.names), (json!(2), vec!["owned".to_owned(), "idle".to_owned()]));
        assert_eq!(inner.heartbeat().await["directives"], json!([]));
        let query = "{ organization(login: \"acme\") { fleet { total disabled } } \
                     runners(filter: {disabled: true}) { nodes { name disabled history { cause } } } }";
        let answer = olga.data(query, json!({})).await;
        assert_eq!(answer["organization"]["fleet"], json!({"total": 2, "disabled": 2}));
        let history = json!([{"cause": "DISABLED"}, {"cause": "HEARD_FROM"}]);
        let node = |name: &str| json!({"name": name, "disabled": true, "history": history});
        assert_eq!(answer["runners"]["nodes"], json!([node("owned"), node("idle")]));
        let result = bulk(&olga, SET_DISABLED, input(json!({"disabled": true, "search": "IDL"}), false)).await;
        assert_eq!((result.matched, result.names), (json!(1), vec!["idle".to_owned()]));
        assert_eq!(idle.heartbeat().await["directives"], json!([]));
    }

    async fn a_call_for_many_runners_says_which_ones_and_at_most_1000(database) {
        let app = TestApp::start(database).await;
        let admin = app.admin();
        let runner = app.register_runner("build-1").await;
        for input in [
            json!({}),
            json!({"ids": vec![&runner.id; 1_001]}),
            json!({"ids": [runner.id], "scope": {"global": true}}),
            json!({"ids": [runner.id], "filter": {"ephemeral": false}}),
            json!({"ids": ["nonsense"]}),
        ] {
            let mut disable = input.clone();
            disable["disabled"] = json!(true);
            let answers = [
                admin.post(DELETE_RUNNERS, json!({"input": input})).await,
                admin.post(SET_DISABLED, json!({"input": disable})).await,
            ];
            for answer in answers {
                assert_eq!(fault(&answer), bad_input("ids"), "{}", answer.body);
            }
        }
        // A thousand are taken. The same one twice is one.
        let result = bulk(&admin, DELETE_RUNNERS, json!({"ids": vec![&runner.id; 1_000], "dryRun": true})).await;
        assert_eq!((result.matched, result.names), (json!(1), vec!["build-1".to_owned()]));
        assert!(result.refused.is_empty());
        runner.heartbeat().await;
        let everything = json!({"input": {"scope": {"owner": "nobody"}}});
        assert_eq!(admin.code(DELETE_RUNNERS, everything).await, "NOT_FOUND");
        let result = bulk(&admin, DELETE_RUNNERS, json!({"filter": {}})).await;
        assert_eq!(result.matched, json!(1));
        assert!(all_names(&app).await.is_empty());
    }

    async fn runners_that_were_silent_for_long_are_deleted_and_those_that_were_heard_are_not(database) {
        // Presence is not written to the database meanwhile: the server itself knows who was heard.
        let app = TestApp::start_with(database, &[("presence-flush-interval", "24h")]).await;
        let admin = app.admin();
        app.register_runner("never heard").await;
        app.register_runner("heard before").await.heartbeat().await;
        let back = app.register_runner("heard again").await;
        back.heartbeat().await;
        app.advance(Duration::from_hours(2));
        app.register_runner("new").await;
        back.heartbeat().await;
        let input = json!({"filter": {"offlineForSeconds": 3_600}});
        let result = bulk(&admin, DELETE_RUNNERS, input).await;
        assert_eq!(result.names, ["never heard", "heard before"]);
        assert_eq!(all_names(&app).await, ["heard again", "new"]);
        back.heartbeat().await;
    }

    async fn what_follows_in_a_request_is_done_with_the_rights_that_one_has_then(database) {
        let app = TestApp::start(database).await;
        let olga = app.user("olga").await;
        let both = "mutation { createOrganization(input: {login: \"acme\", name: \"Acme\"}) { organization { login } } \
                    createRepository(input: {owner: \"acme\", name: \"api\"}) { repository { path } } }";
        let answer = olga.data(both, json!({})).await;
        assert_eq!(answer["createRepository"]["repository"]["path"], "acme/api");
    }
}
