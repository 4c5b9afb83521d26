//! Cleanup jobs: how they begin, go on through whatever comes, and end.

mod ephemeral;
mod limits;
mod rights;
mod targets;

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Client, ServerProcess, TestApp, TestDatabase, eventually, on_both};

const START: &str =
    "mutation($input: StartCleanupInput!) { startCleanup(input: $input) { cleanupJob { id status examined total } } }";
const CANCEL: &str = "mutation($id: ID!) { cancelCleanup(input: {id: $id}) { cleanupJob { id status } } }";
const JOB: &str = "query($id: ID!) { cleanupJob(id: $id) { id status targets dryRun examined deleted total error \
                   olderThanSeconds isScheduled scope { path } startedBy { login } createdAt startedAt finishedAt \
                   results { target examined deleted olderThanSeconds } } }";
const PROGRESS: &str = "subscription($id: ID!) { cleanupProgress(jobId: $id) { status examined deleted total } }";

/// The worker waits for the clock after each transaction, so that a test sees what is between two of them.
const STEP_BY_STEP: [(&str, &str); 1] = [("cleanup-pause", "1s")];
const STEP: Duration = Duration::from_secs(1);

/// Tasks that go in one transaction when nothing hangs on them but what they carry.
const BATCH: i64 = 250;

const HOUR: i64 = 3_600_000_000;

/// Starts a cleanup; returns the job's id.
async fn start(client: &Client, input: Value) -> String {
    let answer = client.data(START, json!({"input": input})).await;
    let job = &answer["startCleanup"]["cleanupJob"];
    job["id"].as_str().unwrap().to_owned()
}

async fn job(client: &Client, id: &str) -> Value {
    client.data(JOB, json!({"id": id})).await["cleanupJob"].clone()
}

/// A job when it has ended.
async fn ended(client: &Client, id: &str) -> Value {
    for _ in 0..1_000 {
        let job = job(client, id).await;
        if job["finishedAt"].is_string() {
            return job;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the cleanup does not end: {}", job(client, id).await);
}

/// A job when it has ended, while the clock goes on.
async fn ended_step_by_step(app: &TestApp, id: &str) -> Value {
    let admin = app.admin();
    let is_over = async || {
        app.advance(STEP);
        job(&admin, id).await["finishedAt"].is_string()
    };
    eventually("the cleanup ends", is_over).await;
    job(&admin, id).await
}

/// Waits until a job has removed so much.
async fn has_deleted(client: &Client, id: &str, count: i64) {
    eventually("the cleanup gets on", async || job(client, id).await["deleted"] == count).await;
}

/// The organization acme with the owner olivia and the repository acme/api.
async fn acme(app: &TestApp) -> Client {
    let owner = app.user("olivia").await;
    app.organization(&owner, "acme").await;
    app.repository(&owner, "acme", "api").await;
    owner
}

/// Adds tasks that ended, with so many rows of log and outputs each.
pub(super) async fn add_tasks(
    database: &TestDatabase,
    repository: &str,
    ids: std::ops::Range<i64>,
    finished_at: i64,
    (chunks, outputs): (i64, i64),
) {
    let (first, last) = (ids.start, ids.end - 1);
    let numbers = |to: i64| format!("WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {to})");
    let mut statements = vec![
        format!(
            "{} INSERT INTO tasks (id, repository_id, owner_id, name, name_key, labels, label_node, priority, status, \
             attempt, max_attempts, timeout_seconds, reports_until, log_base, log_lines, log_bytes, log_truncated, \
             log_final, created_at, queued_at, finished_at, updated_at) \
             SELECT {first} - 1 + n.i, scopes.id, scopes.parent_id, 'old', 'old', '', 0, 0, 'SUCCEEDED', 1, 1, 60, 0, \
             0, {chunks}, 0, false, true, {finished_at}, {finished_at}, {finished_at}, {finished_at} \
             FROM n CROSS JOIN scopes WHERE scopes.path = '{repository}'",
            numbers(last - first + 1)
        ),
        format!(
            "INSERT INTO task_payloads (task_id, payload) SELECT id, '{{}}' FROM tasks \
             WHERE id BETWEEN {first} AND {last}"
        ),
    ];
    if chunks > 0 {
        statements.push(format!(
            "{} INSERT INTO task_log_chunks (task_id, first_line, line_count, at, body) \
             SELECT tasks.id, n.i - 1, 1, {finished_at}, 'a line' FROM tasks CROSS JOIN n \
             WHERE tasks.id BETWEEN {first} AND {last}",
            numbers(chunks)
        ));
    }
    if outputs > 0 {
        statements.push(format!(
            "{} INSERT INTO task_outputs (task_id, name, value) \
             SELECT tasks.id, 'output-' || n.i, 'value' FROM tasks CROSS JOIN n \
             WHERE tasks.id BETWEEN {first} AND {last}",
            numbers(outputs)
        ));
    }
    database.run(&statements.join(";\n")).await;
}

pub(super) async fn count(database: &TestDatabase, table: &str) -> i64 {
    database.number(&format!("SELECT count(*) FROM {table}")).await
}

on_both! {
    async fn a_cleanup_is_a_job_that_is_answered_at_once_and_ends_with_its_numbers(database) {
        let app = TestApp::start_with(database, &STEP_BY_STEP).await;
        let owner = acme(&app).await;
        add_tasks(&app.database, "acme/api", 1..601, app.now().as_micros() - 2 * HOUR, (0, 0)).await;
        let input = json!({
            "targets": ["FINISHED_TASKS", "EXPIRED_TOKENS"], "scope": {"owner": "acme"}, "olderThanSeconds": 3600,
        });
        let answer = owner.data(START, json!({"input": input})).await;
        let started = &answer["startCleanup"]["cleanupJob"];
        let id = started["id"].as_str().unwrap();
        assert_eq!(started, &json!({"id": id, "status": "QUEUED", "examined": 0, "total": null}));

        has_deleted(&owner, id, BATCH).await;
        let running = job(&owner, id).await;
        assert_eq!((&running["status"], &running["total"]), (&json!("RUNNING"), &json!(600)));
        assert_eq!(running["finishedAt"], Value::Null);
        let now = app.now().to_rfc3339();
        let job = ended_step_by_step(&app, id).await;
        let finished_at = job["finishedAt"].clone();
        assert_eq!(
            job,
            json!({
                "id": id, "status": "SUCCEEDED", "targets": ["FINISHED_TASKS", "EXPIRED_TOKENS"], "dryRun": false,
                "examined": 600, "deleted": 600, "total": 600, "error": null, "olderThanSeconds": 3600,
                "isScheduled": false, "scope": {"path": "acme"}, "startedBy": {"login": "olivia"},
                "createdAt": now, "startedAt": now, "finishedAt": finished_at,
                "results": [
                    {"target": "FINISHED_TASKS", "examined": 600, "deleted": 600, "olderThanSeconds": 3600},
                    {"target": "EXPIRED_TOKENS", "examined": 0, "deleted": 0, "olderThanSeconds": 3600},
                ],
            })
        );
        assert_eq!(count(&app.database, "tasks").await, 0);
        assert_eq!(count(&app.database, "cleanup_locks").await, 0);
    }

    async fn a_second_cleanup_of_the_same_is_told_of_the_first(database) {
        let app = TestApp::start_with(database, &STEP_BY_STEP).await;
        acme(&app).await;
        let admin = app.admin();
        add_tasks(&app.database, "acme/api", 1..601, app.now().as_micros() - 2 * HOUR, (0, 0)).await;
        let input = |targets: &[&str], scope: Value| {
            json!({"input": {"targets": targets, "scope": scope, "olderThanSeconds": 3600}})
        };
        let acme = json!({"owner": "acme"});
        let first = start(&admin, input(&["FINISHED_TASKS"], acme.clone())["input"].clone()).await;
        has_deleted(&admin, &first, BATCH).await;
        for targets in [&["FINISHED_TASKS"][..], &["EXPIRED_TOKENS", "FINISHED_TASKS"]] {
            let answer = admin.post(START, input(targets, acme.clone())).await;
            assert_eq!(answer.code(), "CONFLICT", "{}", answer.body);
            assert!(answer.message().contains(&first), "{}", answer.message());
            assert!(answer.message().contains("FINISHED_TASKS"), "{}", answer.message());
        }
        // Nothing is left of those that were refused: another target, and another scope, are free.
        let second = start(&admin, input(&["EXPIRED_TOKENS"], acme.clone())["input"].clone()).await;
        let repository = json!({"repository": "acme/api"});
        let third = start(&admin, input(&["FINISHED_TASKS"], repository)["input"].clone()).await;
        assert_eq!(ended_step_by_step(&app, &third).await["status"], "SUCCEEDED");
        assert_eq!(job(&admin, &first).await["status"], "SUCCEEDED");
        assert_eq!(job(&admin, &second).await["status"], "SUCCEEDED");
        start(&admin, input(&["FINISHED_TASKS"], acme)["input"].clone()).await;
    }

    async fn many_that_start_the_same_at_once_get_one_job(database) {
        let app = TestApp::start_with(database, &STEP_BY_STEP).await;
        acme(&app).await;
        add_tasks(&app.database, "acme/api", 1..601, app.now().as_micros() - 2 * HOUR, (0, 0)).await;
        let admin = app.admin();
        let calls = (0..8).map(|number| {
            let mut targets = vec!["FINISHED_TASKS", "EXPIRED_TOKENS"];
            targets.rotate_left(number % 2);
            let input = json!({"targets": targets, "olderThanSeconds": 3600});
            let admin = admin.clone();
            async move { admin.post(START, json!({"input": input})).await.code() }
        });
        let codes = futures_util::future::join_all(calls).await;
        assert_eq!(codes.iter().filter(|code| code.is_empty()).count(), 1, "{codes:?}");
        assert_eq!(codes.iter().filter(|code| *code == "CONFLICT").count(), 7, "{codes:?}");
        assert_eq!(count(&app.database, "cleanup_jobs").await, 1);
    }

    async fn a_cleanup_is_cancelled_between_two_transactions(database) {
        let app = TestApp::start_with(database, &STEP_BY_STEP).await;
        acme(&app).await;
        let admin = app.admin();
        add_tasks(&app.database, "acme/api", 1..601, app.now().as_micros() - 2 * HOUR, (0, 0)).await;
        let input = json!({"targets": ["FINISHED_TASKS"], "olderThanSeconds": 3600});
        let id = start(&admin, input.clone()).await;
        has_deleted(&admin, &id, BATCH).await;
        // One that waits behind it ends at once.
        let waiting = start(&admin, json!({"targets": ["EXPIRED_TOKENS"]})).await;
        let answer = admin.data(CANCEL, json!({"id": waiting})).await;
        assert_eq!(answer["cancelCleanup"]["cleanupJob"], json!({"id": waiting, "status": "CANCELLED"}));

        let answer = admin.data(CANCEL, json!({"id": id})).await;
        assert_eq!(answer["cancelCleanup"]["cleanupJob"], json!({"id": id, "status": "RUNNING"}));
        let job = ended_step_by_step(&app, &id).await;
        assert_eq!((&job["status"], &job["deleted"], &job["total"]), (&json!("CANCELLED"), &json!(BATCH), &json!(600)));
        assert_eq!(count(&app.database, "tasks").await, 600 - BATCH);
        // Once more changes nothing, and another may begin.
        let answer = admin.data(CANCEL, json!({"id": id})).await;
        assert_eq!(answer["cancelCleanup"]["cleanupJob"]["status"], "CANCELLED");
        let again = start(&admin, input).await;
        let job = ended_step_by_step(&app, &again).await;
        assert_eq!((&job["status"], &job["deleted"]), (&json!("SUCCEEDED"), &json!(600 - BATCH)));
    }

    async fn progress_is_streamed_and_completes_with_the_job(database) {
        let app = TestApp::start_with(database, &STEP_BY_STEP).await;
        acme(&app).await;
        let admin = app.admin();
        add_tasks(&app.database, "acme/api", 1..601, app.now().as_micros() - 2 * HOUR, (0, 0)).await;
        let id = start(&admin, json!({"targets": ["FINISHED_TASKS"], "olderThanSeconds": 3600})).await;
        has_deleted(&admin, &id, BATCH).await;
        let mut socket = app.socket(&admin).await;
        socket.subscribe("p", PROGRESS, json!({"id": id})).await;
        let first = socket.next_data("p").await["cleanupProgress"].clone();
        assert_eq!(first, json!({"status": "RUNNING", "examined": BATCH, "deleted": BATCH, "total": 600}));
        let mut seen = vec![first];
        for _ in 0..200 {
            app.advance(STEP);
            let next = tokio::time::timeout(Duration::from_millis(100), socket.next_data("p")).await;
            seen.extend(next.into_iter().map(|data| data["cleanupProgress"].clone()));
            if seen.last().is_some_and(|last| last["status"] != "RUNNING") {
                break;
            }
        }
        assert_eq!(seen.last(), Some(&json!({"status": "SUCCEEDED", "examined": 600, "deleted": 600, "total": 600})));
        assert!(seen.is_sorted_by_key(|value| value["deleted"].as_i64()), "{seen:?}");
        assert_eq!(socket.next_of("p").await["type"], "complete");

        // Of a job that has ended there is one value.
        let mut events = app.events(&admin, PROGRESS, json!({"id": id})).await;
        let (event, data) = events.next().await.unwrap();
        assert_eq!((event.as_str(), &data["data"]["cleanupProgress"]["status"]), ("next", &json!("SUCCEEDED")));
        assert_eq!(events.next().await.unwrap().0, "complete");
        assert_eq!(events.next().await, None);
    }

    async fn a_cleanup_goes_on_after_a_restart(database) {
        let app = TestApp::start_with(database, &STEP_BY_STEP).await;
        acme(&app).await;
        add_tasks(&app.database, "acme/api", 1..601, app.now().as_micros() - 2 * HOUR, (0, 0)).await;
        let id = start(&app.admin(), json!({"targets": ["FINISHED_TASKS"], "olderThanSeconds": 3600})).await;
        has_deleted(&app.admin(), &id, BATCH).await;
        let app = app.restart().await;
        let job = ended_step_by_step(&app, &id).await;
        assert_eq!(job["status"], "SUCCEEDED");
        assert_eq!((&job["examined"], &job["deleted"], &job["total"]), (&json!(600), &json!(600), &json!(600)));
        assert_eq!(count(&app.database, "tasks").await, 0);
    }

    async fn a_cleanup_that_was_killed_half_way_goes_on_and_ends_with_right_numbers(database) {
        const OLD: i64 = 3_000;
        const YOUNG: i64 = 40;
        let database = TestDatabase::create(database).await;
        let folder = database.folder.path();
        let flags = ["--cleanup-pause", "150ms", "--cleanup-lease", "1s"];
        let server = ServerProcess::start(folder, &database.url, &flags).await;
        let (port, admin) = (server.port(), server.admin());
        for document in [
            r#"mutation { createOrganization(input: {login: "acme", name: "Acme"}) { organization { id } } }"#,
            r#"mutation { createRepository(input: {owner: "acme", name: "api"}) { repository { id } } }"#,
        ] {
            admin.data(document, json!({})).await;
        }
        let (long_ago, to_come) = (1_600_000_000_000_000, 4_000_000_000_000_000);
        add_tasks(&database, "acme/api", 1..OLD + 1, long_ago, (1, 0)).await;
        add_tasks(&database, "acme/api", OLD + 1..OLD + YOUNG + 1, to_come, (2, 1)).await;
        let id = start(&admin, json!({"targets": ["FINISHED_TASKS"], "olderThanSeconds": 3600})).await;
        let is_under_way = async || job(&admin, &id).await["deleted"].as_i64().is_some_and(|deleted| deleted >= 300);
        eventually("the cleanup is under way", is_under_way).await;
        server.kill();

        // What is noted is what is gone, whenever it died.
        let noted = database.number("SELECT deleted FROM cleanup_jobs").await;
        assert!((300..OLD).contains(&noted), "{noted} were deleted: it died too late for this test to tell anything");
        assert_eq!(count(&database, "tasks").await, OLD + YOUNG - noted);
        assert_eq!(database.number("SELECT count(*) FROM cleanup_jobs WHERE status = 'RUNNING'").await, 1);

        let server = ServerProcess::start_on(port, folder, &database.url, &flags).await;
        let job = ended(&server.admin(), &id).await;
        assert_eq!((&job["status"], &job["error"]), (&json!("SUCCEEDED"), &json!(null)));
        assert_eq!((&job["examined"], &job["deleted"], &job["total"]), (&json!(OLD), &json!(OLD), &json!(OLD)));
        assert_eq!(job["results"][0]["deleted"], json!(OLD));
        assert_eq!(count(&database, "tasks").await, YOUNG);
        assert_eq!(count(&database, "task_payloads").await, YOUNG);
        assert_eq!(count(&database, "task_log_chunks").await, 2 * YOUNG);
        assert_eq!(count(&database, "task_outputs").await, YOUNG);
        assert_eq!(count(&database, "cleanup_locks").await, 0);
    }

    async fn the_schedule_starts_a_job_at_its_time_in_its_place(database) {
        let settings = [
            ("cleanup-schedule", "0 3 * * *"),
            ("cleanup-time-zone", "Europe/Berlin"),
            ("cleanup-pause", "0s"),
            ("retain-finished-tasks", "1h"),
            ("retain-task-logs", "0s"),
        ];
        let app = TestApp::start_with(database, &settings).await;
        acme(&app).await;
        let admin = app.admin();
        add_tasks(&app.database, "acme/api", 1..11, app.now().as_micros(), (0, 0)).await;
        let jobs = "{ cleanupJobs { totalCount nodes { id } } }";
        let total = async || admin.data(jobs, json!({})).await["cleanupJobs"]["totalCount"].clone();
        // 02:59 in Berlin.
        app.advance(Duration::from_mins(119));
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(total().await, 0);
        app.advance(Duration::from_mins(1));
        eventually("the schedule starts a job", async || total().await == 1).await;
        let answer = admin.data(jobs, json!({})).await;
        let job = ended(&admin, answer["cleanupJobs"]["nodes"][0]["id"].as_str().unwrap()).await;
        assert_eq!((&job["status"], &job["isScheduled"]), (&json!("SUCCEEDED"), &json!(true)));
        assert_eq!(job["startedBy"], Value::Null);
        assert_eq!(job["targets"], json!(["EPHEMERAL_RUNNERS", "EXPIRED_TOKENS", "FINISHED_TASKS", "AUDIT_EVENTS"]));
        assert_eq!((&job["scope"]["path"], &job["olderThanSeconds"]), (&json!(""), &json!(null)));
        let of_tasks = json!({"target": "FINISHED_TASKS", "examined": 10, "deleted": 10, "olderThanSeconds": 3600});
        assert_eq!(job["results"][2], of_tasks);
        assert_eq!(count(&app.database, "tasks").await, 0);
        // And every night.
        app.advance(Duration::from_hours(24));
        eventually("the schedule starts another", async || total().await == 2).await;
    }

    async fn the_schedule_leaves_to_others_what_they_are_at(database) {
        let settings = [("cleanup-schedule", "0 3 * * *"), ("cleanup-pause", "1s")];
        let app = TestApp::start_with(database, &settings).await;
        acme(&app).await;
        let admin = app.admin();
        add_tasks(&app.database, "acme/api", 1..1_001, app.now().as_micros() - 2 * HOUR, (0, 0)).await;
        let id = start(&admin, json!({"targets": ["FINISHED_TASKS"], "olderThanSeconds": 3600})).await;
        has_deleted(&admin, &id, BATCH).await;
        app.advance(Duration::from_hours(3));
        let jobs = "{ cleanupJobs(first: 1) { nodes { id isScheduled targets } } }";
        let newest = async || admin.data(jobs, json!({})).await["cleanupJobs"]["nodes"][0].clone();
        eventually("the schedule starts a job", async || newest().await["isScheduled"] == true).await;
        let targets = json!(["EPHEMERAL_RUNNERS", "EXPIRED_TOKENS", "TASK_LOGS", "AUDIT_EVENTS"]);
        assert_eq!(newest().await["targets"], targets);
    }
}
