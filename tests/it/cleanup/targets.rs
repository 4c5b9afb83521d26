//! What each target removes, and what it leaves.

use std::time::Duration;

use serde_json::{Value, json};

use super::{HOUR, acme, add_tasks, count, ended, start};
use crate::support::{Client, TestApp, TestRunner, on_both};

/// Runs a cleanup to its end.
async fn clean(client: &Client, input: Value) -> Value {
    let id = start(client, input).await;
    let job = ended(client, &id).await;
    assert_eq!((&job["status"], &job["error"]), (&json!("SUCCEEDED"), &json!(null)));
    job
}

/// Checks the numbers of a job; all that was looked at was removed.
fn removed(job: &Value, count: i64) {
    let numbers = (&job["examined"], &job["deleted"], &job["total"]);
    assert_eq!(numbers, (&json!(count), &json!(count), &json!(count)), "{job}");
}

/// The names of the runners that are left, oldest first.
async fn runners(app: &TestApp) -> Vec<String> {
    let answer = app.admin().data("{ runners(first: 100) { nodes { name } } }", json!({})).await;
    let nodes = answer["runners"]["nodes"].as_array().unwrap();
    nodes.iter().map(|node| node["name"].as_str().unwrap().to_owned()).collect()
}

async fn registered(app: &TestApp, names: &[&str]) -> Vec<TestRunner> {
    let mut runners = Vec::new();
    for name in names {
        runners.push(app.register_runner(name).await);
    }
    runners
}

/// Makes a registration token of a scope, a runner with it, and revokes it.
async fn revoked_token(app: &TestApp, client: &Client, scope: Value) {
    let make = "mutation($input: CreateRegistrationTokenInput!) { createRegistrationToken(input: $input) { \
                registrationToken { id } secret } }";
    let made = client.data(make, json!({"input": {"scope": scope}})).await;
    let made = &made["createRegistrationToken"];
    app.register(made["secret"].as_str().unwrap(), json!({"name": "made-before"})).await;
    let revoke = "mutation($id: ID!) { revokeRegistrationToken(input: {id: $id}) { registrationToken { id } } }";
    client.data(revoke, json!({"id": made["registrationToken"]["id"]})).await;
}

on_both! {
    async fn finished_tasks_go_with_all_that_hangs_on_them(database) {
        let app = TestApp::start(database).await;
        acme(&app).await;
        let (now, database) = (app.now().as_micros(), &app.database);
        let (old, young) = (now - 2 * HOUR, now - HOUR / 2);
        add_tasks(database, "acme/api", 1..701, old, (0, 0)).await;
        add_tasks(database, "acme/api", 701..731, old, (40, 20)).await;
        add_tasks(database, "acme/api", 731..732, old, (1_300, 700)).await;
        add_tasks(database, "acme/api", 801..841, young, (2, 1)).await;
        // Three that are not over: one waits again, one runs again, one may still be delivered for.
        add_tasks(database, "acme/api", 901..904, old, (2, 1)).await;
        database
            .run(&format!(
                "UPDATE tasks SET status = 'QUEUED', finished_at = NULL WHERE id = 901; \
                 UPDATE tasks SET status = 'RUNNING' WHERE id = 902; \
                 UPDATE tasks SET reports_until = {} WHERE id = 903",
                now + HOUR
            ))
            .await;
        let job = clean(&app.admin(), json!({"targets": ["FINISHED_TASKS"], "olderThanSeconds": 3600})).await;
        removed(&job, 731);
        assert_eq!(database.number("SELECT count(*) FROM tasks WHERE id < 800").await, 0);
        assert_eq!(count(database, "tasks").await, 43);
        assert_eq!(count(database, "task_payloads").await, 43);
        assert_eq!(count(database, "task_log_chunks").await, 86);
        assert_eq!(count(database, "task_outputs").await, 43);
    }

    async fn logs_go_and_their_tasks_stay(database) {
        let app = TestApp::start(database).await;
        acme(&app).await;
        let (now, database) = (app.now().as_micros(), &app.database);
        add_tasks(database, "acme/api", 1..31, now - 2 * HOUR, (40, 1)).await;
        add_tasks(database, "acme/api", 31..32, now - 2 * HOUR, (1_300, 1)).await;
        // Its log fits into what is removed at once to the last row.
        add_tasks(database, "acme/api", 32..33, now - 2 * HOUR, (500, 1)).await;
        add_tasks(database, "acme/api", 33..40, now - 2 * HOUR, (0, 1)).await;
        add_tasks(database, "acme/api", 40..45, now - HOUR / 2, (3, 1)).await;
        let job = clean(&app.admin(), json!({"targets": ["TASK_LOGS"], "olderThanSeconds": 3600})).await;
        removed(&job, 32);
        assert_eq!(count(database, "task_log_chunks").await, 15);
        assert_eq!(count(database, "tasks").await, 44);
        assert_eq!(count(database, "task_outputs").await, 44);
        assert_eq!(database.number("SELECT log_lines FROM tasks WHERE id = 31").await, 1_300);
        let again = clean(&app.admin(), json!({"targets": ["TASK_LOGS"], "olderThanSeconds": 3600})).await;
        removed(&again, 0);
    }

    async fn runners_go_that_are_offline_for_long_or_were_never_here(database) {
        let app = TestApp::start(database).await;
        acme(&app).await;
        let old = registered(&app, &["away", "never", "busy", "here"]).await;
        for runner in [&old[0], &old[2], &old[3]] {
            runner.heartbeat().await;
        }
        app.advance(Duration::from_hours(2));
        old[3].heartbeat().await;
        registered(&app, &["new"]).await;
        add_tasks(&app.database, "acme/api", 1..2, app.now().as_micros(), (0, 0)).await;
        let holds = format!(
            "UPDATE tasks SET status = 'RUNNING', finished_at = NULL, \
             runner_id = (SELECT id FROM runners WHERE uuid = '{}')",
            old[2].uuid
        );
        app.database.run(&holds).await;
        let job = clean(&app.admin(), json!({"targets": ["STALE_RUNNERS"], "olderThanSeconds": 3600})).await;
        assert_eq!((&job["examined"], &job["deleted"], &job["total"]), (&json!(3), &json!(2), &json!(3)));
        assert_eq!(runners(&app).await, ["busy", "here", "new"]);
        // Their credentials went with them, and presence has forgotten them.
        for runner in &old[..2] {
            let answer = runner.client.post("mutation { heartbeat(input: {}) { serverTime } }", json!({})).await;
            assert_eq!((answer.status, answer.code()), (401, "UNAUTHENTICATED".to_owned()));
        }
        assert_eq!(app.fleet.presence.everything().total, 3);
        // Whoever is here stays, whatever the age.
        app.advance(Duration::from_secs(30));
        let job = clean(&app.admin(), json!({"targets": ["STALE_RUNNERS"], "olderThanSeconds": 0})).await;
        assert_eq!(job["status"], "SUCCEEDED");
        assert!(runners(&app).await.contains(&"here".to_owned()));
    }

    async fn many_stale_runners_go_with_their_labels_and_histories(database) {
        let app = TestApp::start(database).await;
        let labels: Vec<String> = (0..100).map(|number| format!("label-{number}")).collect();
        for number in 0..12 {
            let input = json!({"name": format!("build-{number}"), "labels": labels});
            app.register(&app.registration_token, input).await.heartbeat().await;
        }
        app.advance(Duration::from_hours(2));
        let job = clean(&app.admin(), json!({"targets": ["STALE_RUNNERS"], "olderThanSeconds": 3600})).await;
        removed(&job, 12);
        for table in ["runners", "runner_labels", "runner_transitions"] {
            assert_eq!(count(&app.database, table).await, 0, "{table}");
        }
    }

    async fn tokens_go_that_ended_long_ago(database) {
        let app = TestApp::start(database).await;
        let owner = acme(&app).await;
        let admin = app.admin();
        revoked_token(&app, &owner, json!({"owner": "acme"})).await;
        revoked_token(&app, &owner, json!({"repository": "acme/api"})).await;
        revoked_token(&app, &admin, json!({"global": true})).await;
        let expiring = json!({"scope": {"owner": "acme"}, "expiresInSeconds": 60});
        app.registration_token(&owner, expiring).await;
        let token = "mutation($input: CreateAccessTokenInput!) { createAccessToken(input: $input) { secret } }";
        for user in ["olivia", "admin"] {
            let input = json!({"name": "short", "scopes": ["READ_RUNNER"], "user": user, "expiresInSeconds": 60});
            admin.data(token, json!({"input": input})).await;
        }
        let tokens = count(&app.database, "registration_tokens").await;
        let accesses = count(&app.database, "access_tokens").await;
        app.advance(Duration::from_hours(2));
        revoked_token(&app, &owner, json!({"owner": "acme"})).await;

        let of = async |client: &Client, scope: Value| {
            clean(client, json!({"targets": ["EXPIRED_TOKENS"], "scope": scope, "olderThanSeconds": 3600})).await
        };
        removed(&of(&owner, json!({"repository": "acme/api"})).await, 1);
        removed(&of(&owner, json!({"owner": "acme"})).await, 2);
        removed(&of(&owner, json!({"owner": "olivia"})).await, 1);
        removed(&of(&admin, json!({"global": true})).await, 2);
        // One was revoked a moment ago, and the others still work.
        assert_eq!(count(&app.database, "registration_tokens").await, tokens - 4 + 1);
        assert_eq!(count(&app.database, "access_tokens").await, accesses - 2);
        // The runners they made stay, and do not name them any more.
        let made = "{ runners(filter: {search: \"made-before\"}) { nodes { registeredWith { id } } } }";
        let answer = admin.data(made, json!({})).await;
        let made = answer["runners"]["nodes"].as_array().unwrap();
        let forgotten = made.iter().filter(|runner| runner["registeredWith"].is_null()).count();
        assert_eq!((made.len(), forgotten), (4, 3), "{answer}");
    }

    async fn a_token_that_made_many_runners_goes_too(database) {
        let app = TestApp::start(database).await;
        let owner = acme(&app).await;
        revoked_token(&app, &owner, json!({"owner": "acme"})).await;
        // Copies of the one runner that it made.
        let columns = "scope_id, owner_id, name, name_key, description, note, ephemeral, disabled, token_hash, \
                       token_generation, token_issued_at, registered_with, last_online_at, last_active_at, status, \
                       status_since, transition_count, created_at, updated_at";
        let copies = format!(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1200) \
             INSERT INTO runners (id, uuid, {columns}) SELECT n.i, 'copy-' || n.i, {columns} FROM runners CROSS JOIN n"
        );
        app.database.run(&copies).await;
        app.advance(Duration::from_hours(2));
        let input = json!({"targets": ["EXPIRED_TOKENS"], "scope": {"owner": "acme"}, "olderThanSeconds": 60});
        removed(&clean(&owner, input).await, 1);
        assert_eq!(app.database.number("SELECT count(*) FROM runners WHERE registered_with IS NULL").await, 1_201);
    }

    async fn the_audit_trail_has_nothing_to_clean_up_yet(database) {
        let app = TestApp::start(database).await;
        removed(&clean(&app.admin(), json!({"targets": ["AUDIT_EVENTS"]})).await, 0);
    }

    async fn a_scope_is_itself_and_the_repositories_below_it(database) {
        let app = TestApp::start(database).await;
        let owner = acme(&app).await;
        app.repository(&owner, "acme", "web").await;
        app.repository(&owner, "olivia", "own").await;
        let old = app.now().as_micros() - 2 * HOUR;
        for (repository, first) in [("acme/api", 1), ("acme/web", 11), ("olivia/own", 21)] {
            add_tasks(&app.database, repository, first..first + 5, old, (1, 0)).await;
        }
        for path in ["acme", "acme/api", "acme/web", "olivia"] {
            let scope = if path.contains('/') { json!({"repository": path}) } else { json!({"owner": path}) };
            let token = app.registration_token(&owner, json!({"scope": scope})).await;
            app.register(&token, json!({"name": path})).await;
        }
        app.register_runner("instance").await;
        app.advance(Duration::from_hours(2));
        let of = |scope: Value| {
            let targets = ["STALE_RUNNERS", "TASK_LOGS", "FINISHED_TASKS"];
            json!({"targets": targets, "scope": scope, "olderThanSeconds": 3600})
        };
        removed(&clean(&owner, of(json!({"repository": "acme/web"}))).await, 1 + 5 + 5);
        assert_eq!(runners(&app).await, ["acme", "acme/api", "olivia", "instance"]);
        removed(&clean(&owner, of(json!({"owner": "acme"}))).await, 2 + 5 + 5);
        assert_eq!(runners(&app).await, ["olivia", "instance"]);
        assert_eq!(count(&app.database, "tasks").await, 5);
        removed(&clean(&app.admin(), of(json!({"global": true}))).await, 2 + 5 + 5);
        assert_eq!(count(&app.database, "tasks").await, 0);
    }

    async fn a_dry_run_counts_and_changes_nothing(database) {
        let app = TestApp::start(database).await;
        let owner = acme(&app).await;
        registered(&app, &["never"]).await;
        app.register(&app.registration_token, json!({"name": "short", "ephemeral": true})).await.heartbeat().await;
        revoked_token(&app, &owner, json!({"owner": "acme"})).await;
        add_tasks(&app.database, "acme/api", 1..701, app.now().as_micros() - 2 * HOUR, (1, 1)).await;
        app.advance(Duration::from_mins(1));
        app.advance(Duration::from_mins(30));
        registered(&app, &["here"]).await[0].heartbeat().await;
        let tables = ["runners", "registration_tokens", "access_tokens", "tasks", "task_log_chunks", "task_outputs"];
        let mut before = Vec::new();
        for table in tables {
            before.push(count(&app.database, table).await);
        }
        let targets = "EPHEMERAL_RUNNERS STALE_RUNNERS EXPIRED_TOKENS FINISHED_TASKS TASK_LOGS AUDIT_EVENTS";
        let targets: Vec<&str> = targets.split(' ').collect();
        let input = json!({"targets": targets, "olderThanSeconds": 600, "dryRun": true});
        let job = clean(&app.admin(), input).await;
        assert_eq!(job["dryRun"], true);
        let deleted: Vec<i64> =
            job["results"].as_array().unwrap().iter().map(|result| result["deleted"].as_i64().unwrap()).collect();
        // Of the runners: the ephemeral one; and it, the one that was never here, and the one that the token made.
        assert_eq!(deleted, [1, 3, 1, 700, 700, 0], "{job}");
        for (table, before) in tables.iter().zip(before) {
            assert_eq!(count(&app.database, table).await, before, "{table}");
        }
    }
}
