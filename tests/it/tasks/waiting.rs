//! Why a task waits, who could take one, and what it costs to ask.

use serde_json::{Value, json};

use super::text;
use crate::lists::{costs_the_same, statements_of};
use crate::support::{Client, TestApp, TestRunner, on_both};

const WAITING: &str = "query($id: ID!) { task(id: $id) { waiting { reason position matchingRunners missingLabels } } }";
const PLACEMENT: &str = "query($repository: String!, $labels: [String!]!) { \
    placement(repository: $repository, labels: $labels) { reason missingLabels \
    candidates { totalCount nodes { runner { name } verdict missingLabels } } } }";
const UPDATE: &str = "mutation($input: UpdateRunnerInput!) { updateRunner(input: $input) { runner { id } } }";

async fn waiting(client: &Client, id: &str) -> Value {
    client.data(WAITING, json!({"id": id})).await["task"]["waiting"].clone()
}

/// Checks what keeps a task: why, how many runners it would fit, and what the nearest lacks.
async fn is_kept_by(client: &Client, id: &str, reason: &str, matching: u32, missing: &[&str]) {
    let expected = json!({"reason": reason, "position": 1, "matchingRunners": matching, "missingLabels": missing});
    assert_eq!(waiting(client, id).await, expected);
    // Whoever asks before the task is there is told the same.
    let answer = client.data(PLACEMENT, json!({"repository": "acme/api", "labels": ["linux", "gpu"]})).await;
    let placement = &answer["placement"];
    assert_eq!((&placement["reason"], &placement["missingLabels"]), (&json!(reason), &json!(missing)));
}

async fn set_disabled(app: &TestApp, runner: &TestRunner, disabled: bool) {
    app.admin().data(UPDATE, json!({"input": {"id": runner.id, "disabled": disabled}})).await;
}

on_both! {
    async fn it_is_said_what_would_have_to_change_for_a_task_to_start(database) {
        let app = TestApp::start(database).await;
        let (olga, gina) = (app.acme().await, app.user("gina").await);
        app.organization(&gina, "globex").await;
        let id = olga.enqueue(json!({"labels": ["linux", "gpu"]})).await;
        // The runners of others are none.
        app.runner_in("globex", json!({"name": "other", "labels": ["gpu", "linux"]})).await.heartbeat().await;
        is_kept_by(&olga, &id, "NO_RUNNER_IN_SCOPE", 0, &["gpu", "linux"]).await;
        app.runner_in("acme", json!({"name": "far"})).await.heartbeat().await;
        is_kept_by(&olga, &id, "NO_RUNNER_WITH_LABELS", 0, &["gpu", "linux"]).await;
        app.runner_in("acme/api", json!({"name": "near", "labels": ["gpu", "x64"]})).await.heartbeat().await;
        is_kept_by(&olga, &id, "NO_RUNNER_WITH_LABELS", 0, &["linux"]).await;
        let runner = app.runner_in("", json!({"name": "right", "labels": ["gpu", "linux", "x64"]})).await;
        is_kept_by(&olga, &id, "ALL_OFFLINE", 1, &[]).await;
        set_disabled(&app, &runner, true).await;
        is_kept_by(&olga, &id, "ALL_DISABLED", 1, &[]).await;
        runner.heartbeat().await;
        is_kept_by(&olga, &id, "ALL_DISABLED", 1, &[]).await;
        set_disabled(&app, &runner, false).await;
        is_kept_by(&olga, &id, "ABOUT_TO_START", 1, &[]).await;
        let urgent = olga.enqueue(json!({"priority": 1})).await;
        assert_eq!(runner.take().await, urgent);
        is_kept_by(&olga, &id, "ALL_BUSY", 1, &[]).await;
        runner.directives(json!({"freeSlots": 1})).await;
        is_kept_by(&olga, &id, "ABOUT_TO_START", 1, &[]).await;
        runner.directives(json!({"freeSlots": 0})).await;
        let second = app.runner_in("acme", json!({"name": "second", "labels": ["gpu", "linux"]})).await;
        is_kept_by(&olga, &id, "ALL_BUSY", 2, &[]).await;
        second.heartbeat().await;
        is_kept_by(&olga, &id, "ABOUT_TO_START", 2, &[]).await;
        assert_eq!(second.take().await, id);
        assert_eq!(waiting(&olga, &id).await, Value::Null);
        second.finish(&id, "SUCCEEDED").await;
        assert_eq!(waiting(&olga, &id).await, Value::Null);
    }

    async fn ephemeral_runners_that_had_their_task_do_not_count(database) {
        let app = TestApp::start(database).await;
        let olga = app.acme().await;
        let input = json!({"name": "short", "ephemeral": true, "labels": ["gpu", "linux"]});
        let runner = app.runner_in("acme", input).await;
        let first = olga.enqueue(json!({})).await;
        assert_eq!(runner.take().await, first);
        let id = olga.enqueue(json!({"labels": ["gpu", "linux"]})).await;
        is_kept_by(&olga, &id, "NO_RUNNER_IN_SCOPE", 0, &["gpu", "linux"]).await;
    }

    async fn the_place_of_a_task_is_among_those_of_its_account_and_labels(database) {
        let app = TestApp::start(database).await;
        let (olga, gina) = (app.acme().await, app.user("gina").await);
        app.repository(&olga, "acme", "web").await;
        app.organization(&gina, "globex").await;
        app.repository(&gina, "globex", "app").await;
        let admin = app.admin();
        let mut ids = Vec::new();
        for input in [
            json!({"labels": ["gpu"]}),
            json!({"labels": ["gpu"], "repository": "acme/web"}),
            json!({"labels": ["gpu"], "priority": 5}),
            json!({"labels": ["gpu"], "priority": -5}),
            json!({"labels": ["gpu", "linux"], "priority": 9}),
            json!({"labels": ["gpu"], "repository": "globex/app", "priority": 9}),
            json!({}),
        ] {
            ids.push(admin.enqueue(input).await);
        }
        let places = async || {
            let mut places = Vec::new();
            for id in &ids {
                places.push(waiting(&admin, id).await["position"].clone());
            }
            Value::from(places)
        };
        assert_eq!(places().await, json!([2, 3, 1, 4, 1, 1, 1]));
        assert_eq!(admin.cancel(&ids[2]).await.task_status(), "CANCELLED");
        assert_eq!(places().await, json!([1, 2, null, 3, 1, 1, 1]));
        // Whoever comes back is as old as it was.
        assert_eq!(admin.retry(&ids[2]).await.task_status(), "QUEUED");
        assert_eq!(places().await, json!([2, 3, 1, 4, 1, 1, 1]));
    }

    async fn places_are_counted_up_to_a_thousand(database) {
        let app = TestApp::start(database).await;
        let olga = app.acme().await;
        olga.enqueue(json!({"name": "ahead", "labels": ["gpu"]})).await;
        app.copy_task("ahead", 998).await;
        let thousandth = olga.enqueue(json!({"labels": ["gpu"]})).await;
        let last = olga.enqueue(json!({"labels": ["gpu"]})).await;
        let beyond = olga.enqueue(json!({"labels": ["gpu"]})).await;
        for (id, position) in [(thousandth, 1_000), (last, 1_001), (beyond, 1_001)] {
            assert_eq!(waiting(&olga, &id).await["position"], position);
        }
    }

    async fn everyone_who_serves_a_repository_has_a_verdict(database) {
        let app = TestApp::start(database).await;
        let (olga, gina) = (app.acme().await, app.user("gina").await);
        app.organization(&gina, "globex").await;
        app.repository(&olga, "acme", "web").await;
        let make = async |path: &str, name: &str, labels: &[&str], is_ephemeral: bool| {
            app.runner_in(path, json!({"name": name, "labels": labels, "ephemeral": is_ephemeral})).await
        };
        let ready = make("", "ready", &["gpu", "linux"], false).await;
        let busy = make("acme", "busy", &["gpu", "linux", "only-busy"], false).await;
        make("acme/api", "offline", &["gpu", "linux"], false).await;
        let disabled = make("acme", "disabled", &["gpu", "linux"], false).await;
        let lacking = make("", "lacking", &["linux"], false).await;
        let used = make("acme", "used", &["gpu", "linux", "only-used"], true).await;
        make("globex", "elsewhere", &["gpu", "linux"], false).await.heartbeat().await;
        make("acme/web", "next door", &["gpu", "linux"], false).await.heartbeat().await;
        for runner in [&ready, &disabled, &lacking] {
            runner.heartbeat().await;
        }
        set_disabled(&app, &disabled, true).await;
        for (runner, label) in [(&busy, "only-busy"), (&used, "only-used")] {
            let id = olga.enqueue(json!({"labels": [label]})).await;
            assert_eq!(runner.take().await, id);
        }
        let variables = json!({"repository": "acme/api", "labels": ["linux", "gpu", "linux"]});
        let answer = olga.data(PLACEMENT, variables.clone()).await;
        let placement = &answer["placement"];
        assert_eq!((&placement["reason"], &placement["missingLabels"]), (&json!("ABOUT_TO_START"), &json!([])));
        let candidates = placement["candidates"]["nodes"].as_array().unwrap();
        let verdicts: Vec<(String, String, Value)> = candidates
            .iter()
            .map(|it| (text(&it["runner"]["name"]), text(&it["verdict"]), it["missingLabels"].clone()))
            .collect();
        let of = |name: &str, verdict: &str, missing: Value| (name.to_owned(), verdict.to_owned(), missing);
        let expected = [
            of("ready", "READY", json!([])),
            of("busy", "BUSY", json!([])),
            of("offline", "OFFLINE", json!([])),
            of("disabled", "DISABLED", json!([])),
            of("lacking", "LABELS_MISSING", json!(["gpu"])),
            of("used", "EPHEMERAL_USED", json!([])),
        ];
        assert_eq!(verdicts, expected);
        assert_eq!(placement["candidates"]["totalCount"], 6);
        // Nothing was enqueued for it.
        assert_eq!(olga.data("{ tasks { totalCount } }", json!({})).await["tasks"]["totalCount"], 2);
        assert_eq!(gina.code(PLACEMENT, variables.clone()).await, "NOT_FOUND");
        assert_eq!(ready.client.code(PLACEMENT, variables.clone()).await, "FORBIDDEN");
        assert_eq!(app.anonymous().code(PLACEMENT, variables).await, "UNAUTHENTICATED");
    }

    async fn candidates_come_in_pages(database) {
        let app = TestApp::start(database).await;
        let olga = app.acme().await;
        for number in 0..5 {
            app.register_runner(&format!("runner-{number}")).await;
        }
        let query = "query($after: String) { placement(repository: \"acme/api\", labels: []) { \
                     candidates(first: 2, after: $after) { nodes { runner { name } } \
                     pageInfo { hasNextPage endCursor } } } }";
        let (mut found, mut after) = (Vec::new(), Value::Null);
        loop {
            let answer = olga.data(query, json!({"after": after})).await;
            let page = &answer["placement"]["candidates"];
            let nodes = page["nodes"].as_array().unwrap();
            assert!((1..=2).contains(&nodes.len()), "{page}");
            found.extend(nodes.iter().map(|node| text(&node["runner"]["name"])));
            if page["pageInfo"]["hasNextPage"] == false {
                break;
            }
            after = page["pageInfo"]["endCursor"].clone();
        }
        assert_eq!(found, ["runner-0", "runner-1", "runner-2", "runner-3", "runner-4"]);
    }

    async fn fifty_tasks_with_all_that_belongs_to_them_cost_as_much_as_one(database) {
        let app = TestApp::start(database).await;
        let olga = app.acme().await;
        app.repository(&olga, "acme", "web").await;
        let runner = app.runner_in("acme", json!({"name": "one", "labels": ["x64"]})).await;
        let add = async |number: usize| {
            let repository = if number.is_multiple_of(2) { "acme/api" } else { "acme/web" };
            let labels =
                if number.is_multiple_of(3) { json!(["gpu"]) } else { json!(["arm", format!("l{}", number % 7)]) };
            let input = json!({"repository": repository, "labels": labels, "payload": {"number": number}});
            olga.enqueue(input).await;
            let id = olga.enqueue(json!({"repository": repository, "labels": ["x64"]})).await;
            assert_eq!(runner.take().await, id);
            let outputs = json!([{"name": "a", "value": "1"}, {"name": "b", "value": "2"}]);
            let report = json!({"id": id, "status": "RUNNING", "outputs": outputs});
            assert_eq!(runner.update(report).await.task_status(), "RUNNING");
            for line in 0..3 {
                assert_eq!(runner.append(&id, line, &["a line"]).await, line + 1);
            }
        };
        add(0).await;
        let fields = "name labels status payload outputs { name value } repository { path } runner { name status } \
                      createdBy { login } waiting { reason position matchingRunners missingLabels } \
                      log(first: 2) { totalCount nodes { line text } pageInfo { hasNextPage } }";
        let queries = [
            format!("{{ tasks(first: 50, filter: {{statuses: [QUEUED]}}) {{ nodes {{ {fields} }} }} }}"),
            format!("{{ tasks(first: 50, filter: {{statuses: [RUNNING]}}) {{ nodes {{ {fields} }} }} }}"),
            format!("{{ tasks(first: 100) {{ totalCount nodes {{ {fields} }} pageInfo {{ hasNextPage }} }} }}"),
        ];
        let mut before = Vec::new();
        for query in &queries {
            before.push(statements_of(&app, &olga, query).await);
        }
        for number in 1..50 {
            add(number).await;
        }
        let answer = olga.data(&queries[2], json!({})).await;
        assert_eq!(answer["tasks"]["totalCount"], 100);
        let nodes = answer["tasks"]["nodes"].as_array().unwrap();
        assert_eq!(nodes.iter().filter(|task| task["waiting"]["reason"] == "NO_RUNNER_WITH_LABELS").count(), 50);
        assert_eq!(nodes.iter().filter(|task| task["outputs"].as_array().unwrap().len() == 2).count(), 50);
        assert_eq!(nodes.iter().filter(|task| task["runner"]["name"] == "one").count(), 50);
        assert_eq!(nodes.iter().filter(|task| task["log"]["pageInfo"]["hasNextPage"] == true).count(), 50);
        for (query, before) in queries.iter().zip(before) {
            costs_the_same(&app, &olga, query, before).await;
        }
    }

    async fn the_tasks_of_20_runners_cost_as_much_as_those_of_one(database) {
        let app = TestApp::start(database).await;
        let olga = app.acme().await;
        let add = async |number: usize| {
            let runner = app.register_runner(&format!("runner-{number}")).await;
            for _ in 0..2 {
                let id = olga.enqueue(json!({})).await;
                assert_eq!(runner.take().await, id);
            }
        };
        add(0).await;
        let query = "{ runners(first: 20) { nodes { busy currentTasks { name repository { path } } \
                     tasks(first: 5) { totalCount nodes { name status } } } } }";
        let lone = statements_of(&app, &olga, query).await;
        for number in 1..20 {
            add(number).await;
        }
        let answer = olga.data(query, json!({})).await;
        for runner in answer["runners"]["nodes"].as_array().unwrap() {
            assert_eq!((&runner["busy"], &runner["tasks"]["totalCount"]), (&json!(true), &json!(2)), "{runner}");
            assert_eq!(runner["currentTasks"].as_array().unwrap().len(), 2);
        }
        costs_the_same(&app, &olga, query, lone).await;
    }
}
