//! What keeps cleanup jobs from being in the way: of others, of each other, and of themselves.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    BATCH, CANCEL, HOUR, START, STEP_BY_STEP, acme, add_tasks, count, ended, ended_step_by_step, has_deleted, job,
    start,
};
use crate::support::{Database, TestApp, eventually, on_both};

/// All rows that tasks are made of.
async fn task_rows(app: &TestApp) -> i64 {
    let mut rows = 0;
    for table in ["tasks", "task_payloads", "task_attempts", "task_outputs", "task_log_chunks"] {
        rows += count(&app.database, table).await;
    }
    rows
}

on_both! {
    async fn a_transaction_removes_at_most_500_rows(database) {
        let app = TestApp::start_with(database, &STEP_BY_STEP).await;
        acme(&app).await;
        let admin = app.admin();
        add_tasks(&app.database, "acme/api", 1..601, app.now().as_micros() - 2 * HOUR, (0, 0)).await;
        app.database
            .run(
                "INSERT INTO task_attempts (task_id, attempt, runner_id, started_at) SELECT id, 1, 1, 0 FROM tasks; \
                 INSERT INTO task_outputs (task_id, name, value) SELECT id, 'name', 'value' FROM tasks WHERE id = 1",
            )
            .await;
        let rows = task_rows(&app).await;
        let id = start(&admin, json!({"targets": ["FINISHED_TASKS"], "olderThanSeconds": 3600})).await;
        // One output, 250 attempts, and as many tasks with what they carry as there is room for.
        has_deleted(&admin, &id, 124).await;
        assert_eq!(rows - task_rows(&app).await, 1 + 250 + 2 * 124);
        let job = ended_step_by_step(&app, &id).await;
        assert_eq!((&job["status"], &job["deleted"]), (&json!("SUCCEEDED"), &json!(600)));
        assert_eq!(task_rows(&app).await, 0);
    }

    async fn an_account_has_at_most_20_open_jobs(database) {
        let app = TestApp::start_with(database, &STEP_BY_STEP).await;
        let owner = acme(&app).await;
        for name in ["web", "lib", "docs"] {
            app.repository(&owner, "acme", name).await;
        }
        add_tasks(&app.database, "acme/api", 1..601, app.now().as_micros() - 2 * HOUR, (0, 0)).await;
        let input = |target: &str, scope: Value| json!({"targets": [target], "scope": scope, "olderThanSeconds": 3600});
        let first = start(&owner, input("FINISHED_TASKS", json!({"owner": "acme"}))).await;
        // The worker is at this one as long as the clock stands.
        has_deleted(&owner, &first, BATCH).await;
        let mut waiting = Vec::new();
        for repository in ["acme/api", "acme/web", "acme/lib", "acme/docs"] {
            for target in ["EPHEMERAL_RUNNERS", "STALE_RUNNERS", "EXPIRED_TOKENS", "TASK_LOGS", "AUDIT_EVENTS"] {
                if waiting.len() < 19 {
                    waiting.push(start(&owner, input(target, json!({"repository": repository}))).await);
                }
            }
        }
        let more = json!({"input": input("FINISHED_TASKS", json!({"repository": "acme/web"}))});
        let answer = owner.post(START, more.clone()).await;
        assert_eq!(answer.code(), "CONFLICT", "{}", answer.body);
        assert!(answer.message().contains("cancelCleanup"), "{}", answer.message());
        // Nor does the same user get more of the worker by another account; others do.
        let own = json!({"input": input("EXPIRED_TOKENS", json!({"owner": "olivia"}))});
        assert_eq!(owner.code(START, own).await, "CONFLICT");
        let other = app.user("max").await;
        start(&other, input("EXPIRED_TOKENS", json!({"owner": "max"}))).await;
        assert_eq!(count(&app.database, "cleanup_jobs").await, 21);

        owner.data(CANCEL, json!({"id": waiting[0]})).await;
        owner.data(START, more).await;
    }

    async fn the_scheduled_job_goes_before_those_that_wait(database) {
        let settings = [
            ("cleanup-schedule", "0 3 * * *"),
            ("cleanup-pause", "1s"),
            ("retain-finished-tasks", "1h"),
            ("retain-task-logs", "0s"),
        ];
        let app = TestApp::start_with(database, &settings).await;
        acme(&app).await;
        let admin = app.admin();
        add_tasks(&app.database, "acme/api", 1..601, app.now().as_micros() - 2 * HOUR, (1, 0)).await;
        let input = |target: &str| json!({"targets": [target], "scope": {"owner": "acme"}, "olderThanSeconds": 3600});
        let first = start(&admin, input("TASK_LOGS")).await;
        has_deleted(&admin, &first, BATCH).await;
        let second = start(&admin, input("EXPIRED_TOKENS")).await;
        app.advance(Duration::from_hours(3));
        let jobs = "{ cleanupJobs(first: 1) { nodes { id isScheduled } } }";
        let newest = async || admin.data(jobs, json!({})).await["cleanupJobs"]["nodes"][0].clone();
        eventually("the schedule starts a job", async || newest().await["isScheduled"] == true).await;
        let scheduled = newest().await["id"].as_str().unwrap().to_owned();
        let second = ended_step_by_step(&app, &second).await;
        let scheduled = job(&admin, &scheduled).await;
        assert_eq!((&scheduled["status"], &second["status"]), (&json!("SUCCEEDED"), &json!("SUCCEEDED")));
        assert!(scheduled["startedAt"].as_str() < second["startedAt"].as_str(), "{scheduled}\n{second}");
    }

    async fn of_jobs_that_ended_the_newest_are_kept(database) {
        let app = TestApp::start(database).await;
        let owner = acme(&app).await;
        app.database
            .run(
                "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1005) \
                 INSERT INTO cleanup_jobs (id, status, targets, scope_id, owner_id, dry_run, examined, deleted, \
                 results, target_number, row_cursor, is_scheduled, cancel_requested, lease_until, created_at, \
                 finished_at) SELECT n.i, 'SUCCEEDED', 'EXPIRED_TOKENS', scopes.id, scopes.id, false, 0, 0, '[]', 0, \
                 0, false, false, 0, 0, 0 FROM n CROSS JOIN scopes WHERE scopes.path = 'acme'",
            )
            .await;
        let input = |login: &str| json!({"targets": ["EXPIRED_TOKENS"], "scope": {"owner": login}});
        let other = start(&owner, input("olivia")).await;
        ended(&owner, &other).await;
        assert_eq!(count(&app.database, "cleanup_jobs").await, 1_006);
        let id = start(&owner, input("acme")).await;
        ended(&owner, &id).await;
        let is_pruned = async || count(&app.database, "cleanup_jobs").await == 1_001;
        eventually("old jobs are removed", is_pruned).await;
        assert_eq!(app.database.number("SELECT min(id) FROM cleanup_jobs").await, 7);
        assert_eq!(job(&owner, &id).await["status"], "SUCCEEDED");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_cannot_be_counted_in_time_goes_on_without() {
    let app = TestApp::start_with(Database::Postgres, &[("database-statement-timeout", "1s")]).await;
    acme(&app).await;
    let admin = app.admin();
    add_tasks(&app.database, "acme/api", 1..301, app.now().as_micros() - 2 * HOUR, (0, 0)).await;
    let (client, connection) = tokio_postgres::connect(&app.database.url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute("BEGIN; LOCK TABLE tasks IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let id = start(&admin, json!({"targets": ["FINISHED_TASKS"], "olderThanSeconds": 3600})).await;
    eventually("the job begins", async || job(&admin, &id).await["status"] == "RUNNING").await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    client.batch_execute("COMMIT").await.unwrap();
    let job = ended_step_by_step(&app, &id).await;
    assert_eq!((&job["status"], &job["deleted"], &job["total"]), (&json!("SUCCEEDED"), &json!(300), &Value::Null));
}
