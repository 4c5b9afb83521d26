//! Lists: pages, filters, what one may see of them, and that they cost the same however long they are.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Client, TestApp, on_both};

/// Presence is written to the database when the test says so, and not before.
const WRITTEN_BY_HAND: [(&str, &str); 1] = [("presence-flush-interval", "24h")];

const PAGE: &str = "query($order: RunnerOrder, $first: Int, $after: String, $last: Int, $before: String) { \
    runners(orderBy: $order, first: $first, after: $after, last: $last, before: $before) { \
    totalCount nodes { id } edges { cursor node { id } } \
    pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } }";

/// Runners on a page when a list is walked.
const SIZE: usize = 7;
/// Runners of the list that is walked.
const LENGTH: usize = 25;

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// The names of a list's nodes.
fn names(list: &Value) -> Vec<&str> {
    list["nodes"].as_array().unwrap().iter().map(|node| node["name"].as_str().unwrap()).collect()
}

/// A runner of the list that is walked: its id, its name as it is ordered by, and when it was heard from.
struct Listed {
    id: String,
    key: String,
    heard: i64,
}

/// Registers the runners that are walked through: many of the same name, some heard from at the same time, some never.
async fn register_many(app: &TestApp) -> Vec<Listed> {
    let mut listed = Vec::new();
    for number in 0..LENGTH {
        let name = match number % 5 {
            0 | 3 => "same".to_owned(),
            1 => "Same".to_owned(),
            2 => format!("Zeta {}", LENGTH - number),
            _ => format!("ärger-{number}"),
        };
        let runner = app.register_runner(&name).await;
        let mut heard = 0;
        if number % 3 > 0 {
            if number % 4 == 0 {
                app.advance(Duration::from_secs(1));
            }
            runner.heartbeat().await;
            heard = app.now().as_micros();
        }
        listed.push(Listed { id: runner.id, key: name.to_lowercase(), heard });
    }
    app.fleet.presence.write(&app.fleet.store).await.unwrap();
    listed
}

/// Walks through all runners in one direction and returns the ids on the pages, in the order of the list.
async fn walk(client: &Client, order: &Value, forward: bool) -> Vec<Vec<String>> {
    let mut pages: Vec<Vec<String>> = Vec::new();
    let mut cursor = Value::Null;
    loop {
        let variables = if forward {
            json!({"order": order, "first": SIZE, "after": cursor})
        } else {
            json!({"order": order, "last": SIZE, "before": cursor})
        };
        let answer = client.data(PAGE, variables).await;
        let list = &answer["runners"];
        assert_eq!(list["totalCount"], json!(LENGTH));
        let page: Vec<String> = list["nodes"].as_array().unwrap().iter().map(|it| text(&it["id"])).collect();
        let edges = list["edges"].as_array().unwrap();
        assert_eq!(edges.iter().map(|edge| text(&edge["node"]["id"])).collect::<Vec<_>>(), page);
        let info = &list["pageInfo"];
        assert_eq!(info["startCursor"], edges.first().unwrap()["cursor"]);
        assert_eq!(info["endCursor"], edges.last().unwrap()["cursor"]);
        let (ahead, behind) =
            if forward { ("hasNextPage", "hasPreviousPage") } else { ("hasPreviousPage", "hasNextPage") };
        assert_eq!(info[behind], json!(!pages.is_empty()), "{order}, page {}", pages.len());
        cursor = info[if forward { "endCursor" } else { "startCursor" }].clone();
        pages.push(page);
        if !info[ahead].as_bool().unwrap() {
            break;
        }
        assert!(pages.len() < LENGTH, "{order}: the list has no end");
    }
    if !forward {
        pages.reverse();
    }
    pages
}

/// Walks through all runners both ways, in both directions of an order.
async fn walk_every_way(client: &Client, field: &str, expected: &[String]) {
    for direction in ["ASC", "DESC"] {
        let order = json!({"field": field, "direction": direction});
        let mut expected = expected.to_vec();
        if direction == "DESC" {
            expected.reverse();
        }
        let forward = walk(client, &order, true).await;
        assert_eq!(forward.iter().map(Vec::len).collect::<Vec<_>>(), [7, 7, 7, 4]);
        assert_eq!(forward.concat(), expected, "forward, {order}");
        let backward = walk(client, &order, false).await;
        assert_eq!(backward.iter().map(Vec::len).collect::<Vec<_>>(), [4, 7, 7, 7]);
        assert_eq!(backward.concat(), expected, "backward, {order}");
    }
}

/// Checks that a filter lets exactly these runners through, in the order in which they registered.
async fn finds(client: &Client, filter: Value, expected: &[&str]) {
    let query = "query($filter: RunnerFilter) { runners(filter: $filter, first: 100) { totalCount nodes { name } } }";
    let answer = client.data(query, json!({"filter": filter})).await;
    assert_eq!(names(&answer["runners"]), expected, "{filter}");
    assert_eq!(answer["runners"]["totalCount"], json!(expected.len()), "{filter}");
}

/// How many statements a query usually takes: on a busy machine one batch may now and then be cut in two, which is not
/// what is looked for here.
pub(super) async fn statements_of(app: &TestApp, client: &Client, query: &str) -> u64 {
    let mut counts = Vec::new();
    for _ in 0..7 {
        let (_, statements) = app.statements(client.data(query, json!({}))).await;
        counts.push(statements);
    }
    counts.sort_unstable();
    counts[counts.len() / 2]
}

/// Checks that a query cost as much for many things as it did for one.
pub(super) async fn costs_the_same(app: &TestApp, client: &Client, query: &str, before: u64) {
    let now = statements_of(app, client, query).await;
    assert_eq!(now, before, "{before} statements for one, {now} for many:\n{query}");
}

/// A fleet of two organizations: acme with the owner olga, the member max and the repositories acme/api and acme/web,
/// and globex with the owner gina. Each of these, the instance, and the user max have a runner of that name.
struct World {
    app: TestApp,
    olga: Client,
    max: Client,
    gina: Client,
}

impl World {
    async fn new(app: TestApp) -> Self {
        let olga = app.user("olga").await;
        let max = app.user("max").await;
        let gina = app.user("gina").await;
        app.organization(&olga, "acme").await;
        app.organization(&gina, "globex").await;
        app.add_member(&olga, "acme", "max", "MEMBER").await;
        for name in ["api", "web"] {
            app.repository(&olga, "acme", name).await;
        }
        let world = Self { app, olga, max, gina };
        world.app.register_runner("instance").await;
        for path in ["acme", "acme/api", "acme/web", "globex", "max"] {
            world.register(path, path).await;
        }
        world
    }

    /// Registers a runner in a scope; returns its id.
    async fn register(&self, path: &str, name: &str) -> String {
        let scope = if path.contains('/') { json!({"repository": path}) } else { json!({"owner": path}) };
        let token = self.app.registration_token(&self.app.admin(), json!({"scope": scope})).await;
        self.app.register(&token, json!({"name": name})).await.id
    }
}

on_both! {
    async fn pages_by_name_visit_every_runner_once_whichever_way(database) {
        let app = TestApp::start_with(database, &WRITTEN_BY_HAND).await;
        let mut listed = register_many(&app).await;
        listed.sort_by_cached_key(|it| it.key.clone());
        let expected: Vec<String> = listed.into_iter().map(|it| it.id).collect();
        walk_every_way(&app.admin(), "NAME", &expected).await;
    }

    async fn pages_by_creation_visit_every_runner_once_whichever_way(database) {
        let app = TestApp::start_with(database, &WRITTEN_BY_HAND).await;
        let expected: Vec<String> = register_many(&app).await.into_iter().map(|it| it.id).collect();
        walk_every_way(&app.admin(), "CREATED_AT", &expected).await;
        // It is the order when none is asked for.
        let answer = app.admin().data("{ runners(first: 100) { nodes { id } } }", json!({})).await;
        let ids: Vec<String> =
            answer["runners"]["nodes"].as_array().unwrap().iter().map(|it| text(&it["id"])).collect();
        assert_eq!(ids, expected);
    }

    async fn pages_by_last_call_visit_every_runner_once_whichever_way(database) {
        let app = TestApp::start_with(database, &WRITTEN_BY_HAND).await;
        let mut listed = register_many(&app).await;
        listed.sort_by_key(|it| it.heard);
        let expected: Vec<String> = listed.into_iter().map(|it| it.id).collect();
        walk_every_way(&app.admin(), "LAST_ONLINE_AT", &expected).await;
    }

    async fn a_page_between_two_cursors_has_what_lies_between(database) {
        let app = TestApp::start(database).await;
        for number in 0..5 {
            app.register_runner(&format!("build-{number}")).await;
        }
        let query = "query($after: String, $before: String, $first: Int, $last: Int) { runners(after: $after, \
                     before: $before, first: $first, last: $last) { totalCount nodes { name } edges { cursor } \
                     pageInfo { hasNextPage hasPreviousPage startCursor } } }";
        let answer = app.admin().data(query, json!({})).await;
        let cursor = |place: usize| answer["runners"]["edges"][place]["cursor"].clone();
        let between = json!({"after": cursor(0), "before": cursor(4)});
        let list = app.admin().data(query, between).await;
        assert_eq!(names(&list["runners"]), ["build-1", "build-2", "build-3"]);
        assert_eq!(list["runners"]["totalCount"], 5);
        let list = app.admin().data(query, json!({"after": cursor(0), "before": cursor(4), "last": 1})).await;
        assert_eq!(names(&list["runners"]), ["build-3"]);
        assert_eq!(list["runners"]["pageInfo"]["hasPreviousPage"], true);
        let list = app.admin().data(query, json!({"after": cursor(4)})).await;
        let list = &list["runners"];
        assert!(names(list).is_empty(), "{list}");
        let info = json!({"hasNextPage": false, "hasPreviousPage": true, "startCursor": null});
        assert_eq!(list["pageInfo"], info);
    }

    async fn a_filter_by_labels_wants_all_of_them(database) {
        let app = TestApp::start(database).await;
        let admin = app.admin();
        let token = json!({"scope": {"global": true}, "labels": ["linux"]});
        let token = app.registration_token(&admin, token).await;
        for (name, labels) in [("one", json!(["gpu"])), ("two", json!(["gpu", "arm"])), ("three", json!([]))] {
            app.register(&token, json!({"name": name, "labels": labels})).await;
        }
        app.register(&app.registration_token, json!({"name": "four", "labels": ["gpu"]})).await;
        finds(&admin, json!({"labels": []}), &["one", "two", "three", "four"]).await;
        finds(&admin, json!({"labels": ["gpu"]}), &["one", "two", "four"]).await;
        finds(&admin, json!({"labels": ["gpu", "linux"]}), &["one", "two"]).await;
        finds(&admin, json!({"labels": ["arm", "gpu", "linux"]}), &["two"]).await;
        finds(&admin, json!({"labels": ["gpu", "gpu"]}), &["one", "two", "four"]).await;
        finds(&admin, json!({"labels": ["linux", "windows"]}), &[]).await;
        finds(&admin, json!({"labels": ["GPU"]}), &[]).await;
        finds(&admin, json!({"labels": ["gp"]}), &[]).await;
    }

    async fn a_search_looks_for_the_text_as_it_stands_without_regard_to_case(database) {
        let app = TestApp::start(database).await;
        let admin = app.admin();
        let mut uuids = Vec::new();
        for name in ["Linux-100%", "linux-1000", "a_b", "axb", "back\\slash", "БЕГУН"] {
            uuids.push(app.register_runner(name).await.uuid);
        }
        app.register(&app.registration_token, json!({"name": "described", "description": "In the GPU rack"})).await;
        finds(&admin, json!({"search": "LINUX"}), &["Linux-100%", "linux-1000"]).await;
        finds(&admin, json!({"search": "linux-100"}), &["Linux-100%", "linux-1000"]).await;
        finds(&admin, json!({"search": "100%"}), &["Linux-100%"]).await;
        finds(&admin, json!({"search": "%"}), &["Linux-100%"]).await;
        finds(&admin, json!({"search": "a_b"}), &["a_b"]).await;
        finds(&admin, json!({"search": "_"}), &["a_b"]).await;
        finds(&admin, json!({"search": "\\"}), &["back\\slash"]).await;
        finds(&admin, json!({"search": "бегун"}), &["БЕГУН"]).await;
        finds(&admin, json!({"search": uuids[1].to_uppercase()}), &["linux-1000"]).await;
        finds(&admin, json!({"search": &uuids[3][4..30]}), &["axb"]).await;
        finds(&admin, json!({"search": "'; --"}), &[]).await;
    }

    async fn a_search_looks_into_descriptions_without_regard_to_case(database) {
        let app = TestApp::start(database).await;
        let admin = app.admin();
        app.register(&app.registration_token, json!({"name": "one", "description": "In the GPU rack"})).await;
        app.register(&app.registration_token, json!({"name": "two", "description": "100% idle"})).await;
        for search in ["the GPU", "the gpu", "THE GPU"] {
            finds(&admin, json!({"search": search}), &["one"]).await;
        }
        finds(&admin, json!({"search": "0%"}), &["two"]).await;
        finds(&admin, json!({"search": "1_0"}), &[]).await;
    }

    async fn a_search_knows_capitals_beyond_ascii_in_descriptions_too(database) {
        let app = TestApp::start(database).await;
        let admin = app.admin();
        let register = |description: &str| {
            let input = json!({"name": "one", "description": description, "machineId": "machine-1"});
            app.register(&app.registration_token, input)
        };
        let one = register("ÄPFEL für Öl").await;
        for search in ["äpfel", "ÖL", "FÜR ö"] {
            finds(&admin, json!({"search": search}), &["one"]).await;
        }
        // A manager changes the description, and so does the machine when it registers again.
        let update = "mutation($id: ID!, $text: String!) { \
                      updateRunner(input: {id: $id, description: $text}) { runner { description } } }";
        let answer = admin.data(update, json!({"id": one.id, "text": "Тихий БЕГУН"})).await;
        assert_eq!(answer["updateRunner"]["runner"]["description"], "Тихий БЕГУН");
        finds(&admin, json!({"search": "ТИХИЙ бегун"}), &["one"]).await;
        finds(&admin, json!({"search": "äpfel"}), &[]).await;
        register("Große ÜBUNG").await;
        finds(&admin, json!({"search": "GROßE übung"}), &["one"]).await;
        finds(&admin, json!({"search": "бегун"}), &[]).await;
    }

    async fn filters_tell_ephemeral_and_disabled_runners_apart_and_add_up(database) {
        let app = TestApp::start(database).await;
        let admin = app.admin();
        app.register(&app.registration_token, json!({"name": "plain"})).await;
        let short = json!({"name": "short", "ephemeral": true, "labels": ["gpu"]});
        let short = app.register(&app.registration_token, short).await;
        app.register(&app.registration_token, json!({"name": "brief", "ephemeral": true})).await;
        let disable = "mutation($id: ID!) { updateRunner(input: {id: $id, disabled: true}) { runner { id } } }";
        admin.data(disable, json!({"id": short.id})).await;
        finds(&admin, json!({}), &["plain", "short", "brief"]).await;
        finds(&admin, json!({"ephemeral": true}), &["short", "brief"]).await;
        finds(&admin, json!({"ephemeral": false}), &["plain"]).await;
        finds(&admin, json!({"disabled": true}), &["short"]).await;
        finds(&admin, json!({"disabled": false}), &["plain", "brief"]).await;
        finds(&admin, json!({"ephemeral": true, "disabled": false}), &["brief"]).await;
        finds(&admin, json!({"ephemeral": true, "labels": ["gpu"], "search": "ORT"}), &["short"]).await;
        finds(&admin, json!({"ephemeral": true, "labels": ["gpu"], "statuses": ["IDLE"]}), &[]).await;
        short.heartbeat().await;
        finds(&admin, json!({"ephemeral": true, "labels": ["gpu"], "statuses": ["IDLE"]}), &["short"]).await;
    }

    async fn a_repository_may_use_its_own_runners_its_owners_and_the_instances(database) {
        let world = World::new(TestApp::start(database).await).await;
        let query = "query($path: String!, $inherited: Boolean!) { \
                     runners(scope: {repository: $path}, includeInherited: $inherited) { totalCount nodes { name } } \
                     repository(owner: \"acme\", name: \"api\") { \
                     runners(includeInherited: $inherited) { totalCount nodes { name } } } }";
        for viewer in [&world.app.admin(), &world.olga, &world.max] {
            for (inherited, expected) in [(false, vec!["acme/api"]), (true, vec!["instance", "acme", "acme/api"])] {
                let variables = json!({"path": "acme/api", "inherited": inherited});
                let answer = viewer.data(query, variables).await;
                for list in [&answer["runners"], &answer["repository"]["runners"]] {
                    assert_eq!(names(list), expected);
                    assert_eq!(list["totalCount"], json!(expected.len()));
                }
            }
        }
        let query = "query($inherited: Boolean!) { \
                     acme: runners(scope: {owner: \"ACME\"}, includeInherited: $inherited) { nodes { name } } \
                     all: runners(scope: {global: true}, includeInherited: $inherited) { nodes { name } } }";
        let answer = world.max.data(query, json!({"inherited": true})).await;
        assert_eq!(names(&answer["acme"]), ["instance", "acme"]);
        assert_eq!(names(&answer["all"]), ["instance"]);
        let answer = world.max.data(query, json!({"inherited": false})).await;
        assert_eq!(names(&answer["acme"]), ["acme"]);
        assert_eq!(names(&answer["all"]), ["instance"]);
    }

    async fn without_a_scope_a_list_has_what_one_may_see(database) {
        let world = World::new(TestApp::start(database).await).await;
        let query = "{ runners { totalCount nodes { name } } }";
        let expected: [(&str, &Client, &[&str]); 4] = [
            ("admin", &world.app.admin(), &["instance", "acme", "acme/api", "acme/web", "globex", "max"]),
            ("olga", &world.olga, &["instance", "acme", "acme/api", "acme/web"]),
            ("max", &world.max, &["instance", "acme", "acme/api", "acme/web", "max"]),
            ("gina", &world.gina, &["instance", "globex"]),
        ];
        for (who, client, expected) in expected {
            let answer = client.data(query, json!({})).await;
            assert_eq!(names(&answer["runners"]), expected, "{who}");
            assert_eq!(answer["runners"]["totalCount"], json!(expected.len()), "{who}");
        }
        let runner = world.app.register_runner("itself").await;
        let answer = runner.client.data(query, json!({})).await;
        assert_eq!(answer["runners"], json!({"totalCount": 1, "nodes": [{"name": "itself"}]}));
        // Of its scope, too, a runner sees itself alone.
        let scoped = "{ runners(scope: {global: true}) { totalCount nodes { name } } }";
        assert_eq!(runner.client.data(scoped, json!({})).await, answer);
        assert_eq!(world.app.anonymous().code(query, json!({})).await, "UNAUTHENTICATED");
    }

    async fn what_one_may_not_see_does_not_exist(database) {
        let world = World::new(TestApp::start(database).await).await;
        let id = world.register("globex", "hidden").await;
        for scope in ["owner: \"globex\"", "owner: \"gina\"", "owner: \"nobody\"", "repository: \"globex/x\""] {
            let query = format!("{{ runners(scope: {{{scope}}}) {{ totalCount }} }}");
            assert_eq!(world.max.code(&query, json!({})).await, "NOT_FOUND", "{scope}");
        }
        let query = "query($id: ID!) { runner(id: $id) { id } node(id: $id) { id } \
                     organization(login: \"globex\") { id } user(login: \"gina\") { id } \
                     repository(owner: \"globex\", name: \"x\") { id } }";
        let nothing = json!({"runner": null, "node": null, "organization": null, "user": null, "repository": null});
        assert_eq!(world.max.data(query, json!({"id": id})).await, nothing);
        let answer = world.gina.data(query, json!({"id": id})).await;
        assert_eq!(answer["runner"]["id"], json!(id));
        assert!(answer["organization"].is_object() && answer["user"].is_object(), "{answer}");
    }

    async fn lists_nest(database) {
        let world = World::new(TestApp::start(database).await).await;
        world.register("acme/api", "second").await;
        let query = "{ viewer { ... on User { login organizations(first: 5) { totalCount nodes { login \
                     runners(first: 1) { totalCount nodes { name scope { path kind } } } \
                     members(first: 5) { totalCount nodes { role user { login } } } \
                     repositories(first: 5) { totalCount nodes { path owner { path } \
                     runners(first: 1) { totalCount nodes { name } pageInfo { hasNextPage } } } } } } } } }";
        let answer = world.olga.data(query, json!({})).await;
        let expected = json!({"viewer": {"login": "olga", "organizations": {"totalCount": 1, "nodes": [{
            "login": "acme",
            "runners": {"totalCount": 1, "nodes": [
                {"name": "acme", "scope": {"path": "acme", "kind": "ORGANIZATION"}},
            ]},
            "members": {"totalCount": 2, "nodes": [
                {"role": "OWNER", "user": {"login": "olga"}},
                {"role": "MEMBER", "user": {"login": "max"}},
            ]},
            "repositories": {"totalCount": 2, "nodes": [
                {"path": "acme/api", "owner": {"path": "acme"}, "runners": {
                    "totalCount": 2, "nodes": [{"name": "acme/api"}], "pageInfo": {"hasNextPage": true},
                }},
                {"path": "acme/web", "owner": {"path": "acme"}, "runners": {
                    "totalCount": 1, "nodes": [{"name": "acme/web"}], "pageInfo": {"hasNextPage": false},
                }},
            ]},
        }]}}});
        assert_eq!(answer, expected);
    }

    async fn everything_with_an_id_is_found_by_it(database) {
        let world = World::new(TestApp::start(database).await).await;
        let token = "mutation($input: CreateRegistrationTokenInput!) { createRegistrationToken(input: $input) { \
                     registrationToken { id } } }";
        let answer = world.olga.data(token, json!({"input": {"scope": {"owner": "acme"}}})).await;
        let token = text(&answer["createRegistrationToken"]["registrationToken"]["id"]);
        let query = "{ viewer { ... on User { id accessTokens { id } } } organization(login: \"acme\") { id \
                     runners { nodes { id } } } repository(owner: \"acme\", name: \"api\") { id } }";
        let answer = world.olga.data(query, json!({})).await;
        let ids = [
            ("User", text(&answer["viewer"]["id"])),
            ("AccessToken", text(&answer["viewer"]["accessTokens"][0]["id"])),
            ("Organization", text(&answer["organization"]["id"])),
            ("Runner", text(&answer["organization"]["runners"]["nodes"][0]["id"])),
            ("Repository", text(&answer["repository"]["id"])),
            ("RegistrationToken", token),
        ];
        let one = "query($id: ID!) { node(id: $id) { __typename id } }";
        for (kind, id) in &ids {
            let expected = json!({"__typename": kind, "id": id});
            assert_eq!(world.olga.data(one, json!({"id": id})).await["node"], expected);
            assert_eq!(world.gina.data(one, json!({"id": id})).await["node"], Value::Null, "{kind}");
        }

        let many = "query($ids: [ID!]!) { nodes(ids: $ids) { __typename id } }";
        let unseen = world.register("globex", "hidden").await;
        let mut asked: Vec<&String> = ids.iter().map(|(_, id)| id).collect();
        asked.reverse();
        asked.insert(2, &unseen);
        let answer = world.olga.data(many, json!({"ids": asked})).await;
        let mut expected: Vec<Value> = ids.iter().map(|(kind, id)| json!({"__typename": kind, "id": id})).collect();
        expected.reverse();
        expected.insert(2, Value::Null);
        assert_eq!(answer["nodes"], json!(expected));
        assert_eq!(world.olga.code(one, json!({"id": "nonsense"})).await, "BAD_USER_INPUT");
        assert_eq!(world.olga.code(many, json!({"ids": vec![&unseen; 101]})).await, "BAD_USER_INPUT");
    }

    async fn a_page_of_50_runners_costs_as_many_statements_as_a_page_of_one(database) {
        let world = World::new(TestApp::start(database).await).await;
        let app = &world.app;
        let admin = app.admin();
        let deep = "{ runners(first: 50, filter: {search: \"counted\"}) { nodes { id name scope { path kind } labels \
                    history { at cause } registeredWith { id createdBy { login } } } } }";
        let counting = deep.replace("{ nodes", "{ totalCount nodes");
        assert_ne!(deep, counting);
        let mut tokens = Vec::new();
        for scope in [json!({"owner": "acme"}), json!({"repository": "acme/api"}), json!({"repository": "acme/web"})] {
            tokens.push(app.registration_token(&world.olga, json!({"scope": scope, "labels": ["linux"]})).await);
        }
        tokens.push(app.registration_token(&admin, json!({"scope": {"global": true}, "labels": ["linux"]})).await);

        app.register(&tokens[0], json!({"name": "counted-0", "labels": ["gpu"]})).await.heartbeat().await;
        let (lone, lone_counting) =
            (statements_of(app, &admin, deep).await, statements_of(app, &admin, &counting).await);
        for number in 1..50 {
            let input = json!({"name": format!("counted-{number}"), "labels": ["gpu", format!("own-{number}")]});
            app.register(&tokens[number % tokens.len()], input).await.heartbeat().await;
        }
        let answer = admin.data(deep, json!({})).await;
        assert_eq!(answer["runners"]["nodes"].as_array().unwrap().len(), 50);
        for runner in answer["runners"]["nodes"].as_array().unwrap() {
            assert!(runner["registeredWith"]["createdBy"]["login"].is_string(), "{runner}");
            assert_eq!(runner["history"].as_array().unwrap().len(), 1, "{runner}");
        }
        costs_the_same(app, &admin, deep, lone).await;
        costs_the_same(app, &admin, &counting, lone_counting).await;
        assert_eq!(lone_counting, lone + 1, "the total is one statement more, and only when it is asked for");
    }

    async fn lists_in_lists_cost_the_same_however_many_there_are(database) {
        let world = World::new(TestApp::start(database).await).await;
        let app = &world.app;
        let admin = app.admin();
        // One organization, one repository, one member.
        app.organization(&world.olga, "small").await;
        app.repository(&world.olga, "small", "first").await;
        let otto = app.user("otto").await;
        app.organization(&otto, "otto-1").await;
        let queries = [
            "{ user(login: \"otto\") { organizations(first: 10) { nodes { login \
             runners(first: 2) { nodes { name } } } } } }",
            "{ organization(login: \"small\") { repositories(first: 10) { nodes { path \
             runners(first: 2) { nodes { name } } } } } }",
            "{ organization(login: \"small\") { members(first: 10) { nodes { role user { login \
             runners(first: 2) { nodes { name } } } } } } }",
        ];
        let counting = queries.map(|query| query.replace("runners(first: 2) {", "runners(first: 2) { totalCount"));
        let mut lone = Vec::new();
        for (query, counting) in queries.iter().zip(&counting) {
            let plain = statements_of(app, &admin, query).await;
            let counted = statements_of(app, &admin, counting).await;
            assert_eq!(counted, plain + 1, "the totals are one statement more: {counting}");
            lone.push((plain, counted));
        }

        for number in 2..=6 {
            let (organization, user) = (format!("otto-{number}"), format!("user-{number}"));
            app.organization(&otto, &organization).await;
            app.repository(&world.olga, "small", &format!("more-{number}")).await;
            app.user(&user).await;
            app.add_member(&world.olga, "small", &user, "MEMBER").await;
            for path in [&organization, &user, &format!("small/more-{number}")] {
                for name in ["one", "two", "three"] {
                    world.register(path, name).await;
                }
            }
        }
        for ((query, counting), (plain, counted)) in queries.iter().zip(&counting).zip(lone) {
            let answer = admin.data(counting, json!({})).await.to_string();
            assert_eq!(answer.matches("\"totalCount\":3").count(), 5, "{answer}");
            costs_the_same(app, &admin, query, plain).await;
            costs_the_same(app, &admin, counting, counted).await;
        }
    }
}
