//! Lists of tasks: newest first, in pages, and filtered.

use serde_json::{Value, json};

use super::{names, text};
use crate::support::{Client, TestApp, on_both};

const PAGE: &str = "query($filter: TaskFilter, $first: Int, $after: String, $last: Int, $before: String) { \
    tasks(filter: $filter, first: $first, after: $after, last: $last, before: $before) { \
    totalCount nodes { id } edges { cursor node { id } } \
    pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } }";

/// Checks that a filter lets exactly these tasks through, newest first.
async fn finds(client: &Client, filter: Value, expected: &[&str]) {
    let query = "query($filter: TaskFilter) { tasks(filter: $filter, first: 100) { totalCount nodes { name } } }";
    let answer = client.data(query, json!({"filter": filter})).await;
    assert_eq!(names(&answer["tasks"]), expected, "{filter}");
    assert_eq!(answer["tasks"]["totalCount"], expected.len(), "{filter}");
}

/// Walks through all tasks that a filter lets through, in one direction; returns their ids in the order of the list.
async fn walk(client: &Client, filter: &Value, forward: bool) -> Vec<String> {
    let mut pages: Vec<Vec<String>> = Vec::new();
    let mut cursor = Value::Null;
    loop {
        let variables = if forward {
            json!({"filter": filter, "first": 7, "after": cursor})
        } else {
            json!({"filter": filter, "last": 7, "before": cursor})
        };
        let answer = client.data(PAGE, variables).await;
        let list = &answer["tasks"];
        let page: Vec<String> = list["nodes"].as_array().unwrap().iter().map(|it| text(&it["id"])).collect();
        let edges = list["edges"].as_array().unwrap();
        assert_eq!(edges.iter().map(|edge| text(&edge["node"]["id"])).collect::<Vec<_>>(), page);
        let info = &list["pageInfo"];
        assert_eq!(info["startCursor"], edges.first().unwrap()["cursor"]);
        assert_eq!(info["endCursor"], edges.last().unwrap()["cursor"]);
        let (ahead, behind) =
            if forward { ("hasNextPage", "hasPreviousPage") } else { ("hasPreviousPage", "hasNextPage") };
        assert_eq!(info[behind], !pages.is_empty());
        cursor = info[if forward { "endCursor" } else { "startCursor" }].clone();
        pages.push(page);
        if info[ahead] == false {
            break;
        }
        assert!(pages.len() < 20, "the list has no end");
    }
    if !forward {
        pages.reverse();
    }
    pages.concat()
}

on_both! {
    async fn pages_visit_every_task_once_whichever_way(database) {
        let app = TestApp::start(database).await;
        let olga = app.acme().await;
        let runner = app.register_runner("one").await;
        let (mut ids, mut open) = (Vec::new(), Vec::new());
        for number in 0..25 {
            let id = olga.enqueue(json!({})).await;
            match number % 3 {
                0 => open.push(id.clone()),
                1 => assert_eq!(olga.cancel(&id).await.task_status(), "CANCELLED"),
                _ => {
                    // It takes the oldest that waits, which need not be this one.
                    runner.take().await;
                    open.push(id.clone());
                }
            }
            ids.push(id);
        }
        ids.reverse();
        open.reverse();
        for client in [&olga, &app.admin()] {
            for forward in [true, false] {
                assert_eq!(walk(client, &json!({}), forward).await, ids, "forward: {forward}");
                let filter = json!({"statuses": ["RUNNING", "QUEUED", "QUEUED"]});
                assert_eq!(walk(client, &filter, forward).await, open, "forward: {forward}");
            }
        }
    }

    async fn a_filter_lets_those_through_of_which_all_of_it_is_true(database) {
        let app = TestApp::start(database).await;
        let olga = app.acme().await;
        let one = app.runner_in("acme", json!({"name": "one", "labels": ["arm", "gpu", "linux"]})).await;
        let two = app.runner_in("acme", json!({"name": "two", "labels": ["arm", "gpu", "linux"]})).await;
        for (name, labels) in [
            ("Build API", json!(["linux"])),
            ("build 100%", json!(["gpu", "linux"])),
            ("deploy_a", json!(["arm", "gpu"])),
            ("deploy-ä", json!(["gpu"])),
        ] {
            olga.enqueue(json!({"name": name, "labels": labels})).await;
        }
        let first = one.take().await;
        one.finish(&first, "SUCCEEDED").await;
        two.take().await;
        let third = one.take().await;
        one.finish(&third, "FAILED").await;

        let all = ["deploy-ä", "deploy_a", "build 100%", "Build API"];
        finds(&olga, json!({}), &all).await;
        finds(&olga, json!({"labels": [], "search": " "}), &all).await;
        finds(&olga, json!({"statuses": ["SUCCEEDED"]}), &["Build API"]).await;
        finds(&olga, json!({"statuses": ["QUEUED", "SUCCEEDED", "RUNNING"]}), &[all[0], all[2], all[3]]).await;
        finds(&olga, json!({"statuses": ["CANCELLING", "CANCELLED"]}), &[]).await;
        finds(&olga, json!({"labels": ["gpu"]}), &all[..3]).await;
        finds(&olga, json!({"labels": ["linux", "gpu"]}), &["build 100%"]).await;
        finds(&olga, json!({"labels": ["gp"]}), &[]).await;
        finds(&olga, json!({"labels": ["GPU"]}), &[]).await;
        finds(&olga, json!({"search": "BUILD"}), &all[2..]).await;
        finds(&olga, json!({"search": "Ä"}), &["deploy-ä"]).await;
        finds(&olga, json!({"search": "%"}), &["build 100%"]).await;
        finds(&olga, json!({"search": "y_a"}), &["deploy_a"]).await;
        finds(&olga, json!({"search": "'; --"}), &[]).await;
        finds(&olga, json!({"runnerId": one.id}), &["deploy_a", "Build API"]).await;
        finds(&olga, json!({"runnerId": two.id}), &["build 100%"]).await;
        let both = json!({"runnerId": one.id, "statuses": ["FAILED", "QUEUED"], "labels": ["arm"], "search": "deploy"});
        finds(&olga, both, &["deploy_a"]).await;
        // The same through a runner.
        let query = "query($id: ID!) { runner(id: $id) { tasks(filter: {statuses: [FAILED]}) { nodes { name } } } }";
        let answer = olga.data(query, json!({"id": one.id})).await;
        assert_eq!(names(&answer["runner"]["tasks"]), ["deploy_a"]);
    }

    async fn a_scope_has_the_tasks_of_its_repositories(database) {
        let app = TestApp::start(database).await;
        let olga = app.acme().await;
        app.repository(&olga, "acme", "web").await;
        app.repository(&olga, "olga", "own").await;
        for repository in ["acme/api", "acme/web", "olga/own"] {
            olga.enqueue(json!({"name": repository, "repository": repository})).await;
        }
        let query = "query($scope: ScopeInput!) { tasks(scope: $scope) { totalCount nodes { name } } }";
        let table: [(Value, &[&str]); 5] = [
            (json!({"global": true}), &["olga/own", "acme/web", "acme/api"]),
            (json!({"owner": "acme"}), &["acme/web", "acme/api"]),
            (json!({"owner": "olga"}), &["olga/own"]),
            (json!({"repository": "acme/api"}), &["acme/api"]),
            (json!({"repository": "ACME/Web"}), &["acme/web"]),
        ];
        for (scope, expected) in table {
            let answer = olga.data(query, json!({"scope": scope})).await;
            assert_eq!(names(&answer["tasks"]), expected, "{scope}");
        }
        for scope in [json!({"owner": "nobody"}), json!({"repository": "acme/nope"})] {
            assert_eq!(olga.code(query, json!({"scope": scope})).await, "NOT_FOUND", "{scope}");
        }
    }

    async fn nodes_are_found_by_their_ids(database) {
        let app = TestApp::start(database).await;
        let (olga, runner, running) = app.running_task().await;
        let queued = olga.enqueue(json!({"name": "waits"})).await;
        let query = "query($ids: [ID!]!) { nodes(ids: $ids) { __typename id ... on Task { name runner { id } } } }";
        let answer = olga.data(query, json!({"ids": [queued, running]})).await;
        let expected = json!([
            {"__typename": "Task", "id": queued, "name": "waits", "runner": null},
            {"__typename": "Task", "id": running, "name": "build", "runner": {"id": runner.id}},
        ]);
        assert_eq!(answer["nodes"], expected);
    }
}
