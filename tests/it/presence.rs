//! Who is here: statuses by the clock, their history, what survives a restart, and the sums.

use std::time::Duration;

use futures_util::future::join_all;
use rollcall::auth::Actor;
use rollcall::fleet::Registration;
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::support::{Client, Shown, TestApp, TestRunner, eventually, on_both};

/// Presence is written to the database when the test says so, and not before.
const WRITTEN_BY_HAND: [(&str, &str); 1] = [("presence-flush-interval", "24h")];

const STATE: &str = "query($id: ID!) { runner(id: $id) { status statusSince lastOnlineAt } }";

/// What a manager sees of a runner's presence.
async fn state(app: &TestApp, runner: &TestRunner) -> Value {
    let answer = app.admin().data(STATE, json!({"id": runner.id})).await;
    answer["runner"].clone()
}

async fn status(app: &TestApp, runner: &TestRunner) -> Value {
    state(app, runner).await["status"].clone()
}

/// The runner's identifier in the database.
async fn row_id(app: &TestApp, runner: &TestRunner) -> i64 {
    let uuid = runner.uuid.parse().unwrap();
    app.fleet.seen_runner_by_uuid(&Actor::System, uuid).await.unwrap().unwrap().id
}

/// Writes presence to the database.
async fn write(app: &TestApp) {
    app.fleet.presence.write(&app.fleet.store).await.unwrap();
}

async fn set_disabled(app: &TestApp, runner: &TestRunner, disabled: bool) {
    let query = "mutation($id: ID!, $disabled: Boolean!) { updateRunner(input: {id: $id, disabled: $disabled}) { \
                 runner { disabled } } }";
    app.admin().data(query, json!({"id": runner.id, "disabled": disabled})).await;
}

async fn history(app: &TestApp, runner: &TestRunner) -> Value {
    let query = "query($id: ID!) { runner(id: $id) { history { at from to cause } } }";
    let answer = app.admin().data(query, json!({"id": runner.id})).await;
    answer["runner"]["history"].clone()
}

fn change(at: &str, from: &str, to: &str, cause: &str) -> Value {
    json!({"at": at, "from": from, "to": to, "cause": cause})
}

/// The names of the runners that have one of these statuses; the total is checked too.
async fn names_with(app: &TestApp, statuses: &[&str]) -> Value {
    let query = "query($statuses: [RunnerStatus!]) { runners(filter: {statuses: $statuses}) { totalCount nodes { \
                 name status } } }";
    let answer = app.admin().data(query, json!({"statuses": statuses})).await;
    let nodes = answer["runners"]["nodes"].as_array().unwrap();
    assert_eq!(answer["runners"]["totalCount"], json!(nodes.len()), "{answer}");
    for node in nodes {
        assert!(statuses.contains(&node["status"].as_str().unwrap()), "{answer}");
    }
    nodes.iter().map(|node| node["name"].clone()).collect()
}

fn sums(total: u32, offline: u32, idle: u32, active: u32, disabled: u32) -> Value {
    json!({"total": total, "offline": offline, "idle": idle, "active": active, "disabled": disabled})
}

/// The sums of the instance, of the organization acme, and of its one repository.
async fn fleets(client: &Client) -> [Value; 3] {
    let query = "{ instance { fleet { ...Sums } } organization(login: \"acme\") { fleet { ...Sums } \
                 repositories(first: 1) { nodes { fleet { ...Sums } } } } } \
                 fragment Sums on FleetSummary { total offline idle active disabled }";
    let answer = client.data(query, json!({})).await;
    let organization = &answer["organization"];
    [
        answer["instance"]["fleet"].clone(),
        organization["fleet"].clone(),
        organization["repositories"]["nodes"][0]["fleet"].clone(),
    ]
}

on_both! {
    async fn a_runner_is_offline_exactly_when_it_was_silent_for_the_configured_time(database) {
        let app = TestApp::start(database).await;
        let runner = app.register_runner("build-1").await;
        app.advance(Duration::from_secs(5));
        let heard_at = app.now().to_rfc3339();
        let answer = runner.heartbeat().await;
        assert_eq!(answer["serverTime"], json!(heard_at));
        let here = json!({"status": "IDLE", "statusSince": heard_at, "lastOnlineAt": heard_at});
        assert_eq!(state(&app, &runner).await, here);
        app.advance(Duration::from_millis(59_999));
        assert_eq!(state(&app, &runner).await, here);

        app.advance(Duration::from_millis(1));
        let lost_at = app.now().to_rfc3339();
        let away = json!({"status": "OFFLINE", "statusSince": lost_at, "lastOnlineAt": heard_at});
        assert_eq!(state(&app, &runner).await, away);
        app.advance(Duration::from_hours(1));
        assert_eq!(state(&app, &runner).await, away);

        let heard_at = app.now().to_rfc3339();
        runner.heartbeat().await;
        let back = json!({"status": "IDLE", "statusSince": heard_at, "lastOnlineAt": heard_at});
        assert_eq!(state(&app, &runner).await, back);
    }

    async fn each_call_moves_the_deadline_and_not_the_beginning(database) {
        let app = TestApp::start_with(database, &[("offline-after", "30s")]).await;
        let runner = app.register_runner("build-1").await;
        let since = app.now().to_rfc3339();
        runner.heartbeat().await;
        for _ in 0..4 {
            app.advance(Duration::from_secs(29));
            runner.heartbeat().await;
            let expected = json!({"status": "IDLE", "statusSince": since, "lastOnlineAt": app.now().to_rfc3339()});
            assert_eq!(state(&app, &runner).await, expected);
        }
        app.advance(Duration::from_millis(29_999));
        assert_eq!(status(&app, &runner).await, "IDLE");
        app.advance(Duration::from_millis(1));
        assert_eq!(status(&app, &runner).await, "OFFLINE");
    }

    async fn any_authenticated_call_of_a_runner_counts(database) {
        let app = TestApp::start(database).await;
        let runner = app.register_runner("build-1").await;
        let calls = [
            "{ viewer { __typename } }",
            "{ runners { totalCount } }",
            "mutation { openRunnerSession { expiresAt } }",
            "mutation { declareRunner(input: {version: \"2\"}) { runner { id } } }",
            "mutation { rotateRunnerToken(input: {}) { previousValidUntil } }",
        ];
        for query in calls {
            assert_eq!(status(&app, &runner).await, "OFFLINE", "before {query}");
            let heard_at = app.now().to_rfc3339();
            runner.client.data(query, json!({})).await;
            let expected = json!({"status": "IDLE", "statusSince": heard_at, "lastOnlineAt": heard_at});
            assert_eq!(state(&app, &runner).await, expected, "after {query}");
            app.advance(Duration::from_mins(1));
        }
        // With a session, one that is refused, and a socket that only says who it is.
        let session = runner.session().await;
        app.advance(Duration::from_mins(1));
        let wrong = "mutation { deleteRunner(input: {id: \"x\"}) { deletedId } }";
        session.code(wrong, json!({})).await;
        assert_eq!(status(&app, &runner).await, "IDLE");
        app.advance(Duration::from_mins(1));
        assert_eq!(status(&app, &runner).await, "OFFLINE");
        let _socket = app.socket(&session).await;
        assert_eq!(status(&app, &runner).await, "IDLE");
    }

    async fn what_others_do_with_a_runner_does_not_count(database) {
        let app = TestApp::start(database).await;
        let runner = app.register_runner("build-1").await;
        set_disabled(&app, &runner, true).await;
        let wrong = Shown::Runner { uuid: runner.uuid.clone(), secret: app.admin_token.clone() };
        assert_eq!(app.client(wrong).code("{ viewer { __typename } }", json!({})).await, "UNAUTHENTICATED");
        let seen = state(&app, &runner).await;
        assert_eq!((&seen["status"], &seen["lastOnlineAt"]), (&json!("OFFLINE"), &Value::Null));
    }

    async fn task_work_makes_a_runner_active_until_it_has_rested(database) {
        let app = TestApp::start(database).await;
        let runner = app.register_runner("build-1").await;
        let id = row_id(&app, &runner).await;
        let worked_at = app.now().to_rfc3339();
        app.fleet.presence.work(id).unwrap();
        app.advance(Duration::from_millis(9_999));
        let expected = json!({"status": "ACTIVE", "statusSince": worked_at, "lastOnlineAt": worked_at});
        assert_eq!(state(&app, &runner).await, expected);
        app.advance(Duration::from_millis(1));
        let rested_at = app.now().to_rfc3339();
        let expected = json!({"status": "IDLE", "statusSince": rested_at, "lastOnlineAt": worked_at});
        assert_eq!(state(&app, &runner).await, expected);
        app.advance(Duration::from_secs(50));
        let lost_at = app.now().to_rfc3339();
        let changes = json!([
            change(&lost_at, "IDLE", "OFFLINE", "NOT_HEARD_FROM"),
            change(&rested_at, "ACTIVE", "IDLE", "WORK_ENDED"),
            change(&worked_at, "OFFLINE", "ACTIVE", "TASK_WORK"),
        ]);
        assert_eq!(history(&app, &runner).await, changes);
        let query = "query($id: ID!) { runner(id: $id) { lastActiveAt } }";
        let answer = app.admin().data(query, json!({"id": runner.id})).await;
        assert_eq!(answer["runner"]["lastActiveAt"], json!(worked_at));
    }

    async fn the_history_tells_what_happened_and_why_newest_first(database) {
        let app = TestApp::start(database).await;
        let runner = app.register_runner("build-1").await;
        assert_eq!(history(&app, &runner).await, json!([]));
        app.advance(Duration::from_secs(1));
        let heard_at = app.now().to_rfc3339();
        runner.heartbeat().await;
        app.advance(Duration::from_secs(1));
        let disabled_at = app.now().to_rfc3339();
        set_disabled(&app, &runner, true).await;
        // What changes nothing is no change.
        set_disabled(&app, &runner, true).await;
        runner.heartbeat().await;
        app.advance(Duration::from_mins(1));
        let lost_at = app.now().to_rfc3339();
        app.advance(Duration::from_secs(1));
        let enabled_at = app.now().to_rfc3339();
        set_disabled(&app, &runner, false).await;
        let changes = json!([
            change(&enabled_at, "OFFLINE", "OFFLINE", "ENABLED"),
            change(&lost_at, "IDLE", "OFFLINE", "NOT_HEARD_FROM"),
            change(&disabled_at, "IDLE", "IDLE", "DISABLED"),
            change(&heard_at, "OFFLINE", "IDLE", "HEARD_FROM"),
        ]);
        assert_eq!(history(&app, &runner).await, changes);
    }

    async fn the_history_keeps_20_changes_across_writes_and_a_restart(database) {
        let app = TestApp::start_with(database, &WRITTEN_BY_HAND).await;
        let runner = app.register_runner("build-1").await;
        let mut expected: Vec<Value> = Vec::new();
        for number in 1..=30 {
            app.advance(Duration::from_millis(1));
            let disabled = number % 2 == 1;
            set_disabled(&app, &runner, disabled).await;
            let cause = if disabled { "DISABLED" } else { "ENABLED" };
            expected.insert(0, change(&app.now().to_rfc3339(), "OFFLINE", "OFFLINE", cause));
            expected.truncate(20);
            if number == 7 || number == 25 {
                assert_eq!(history(&app, &runner).await, json!(expected), "before the write after {number}");
                write(&app).await;
            }
            if number % 5 == 0 {
                assert_eq!(history(&app, &runner).await, json!(expected), "after {number}");
            }
        }
        // More changes at once than are kept, none of them written.
        for number in 1..=25 {
            app.advance(Duration::from_millis(1));
            let disabled = number % 2 == 1;
            set_disabled(&app, &runner, disabled).await;
            let cause = if disabled { "DISABLED" } else { "ENABLED" };
            expected.insert(0, change(&app.now().to_rfc3339(), "OFFLINE", "OFFLINE", cause));
        }
        expected.truncate(20);
        assert_eq!(history(&app, &runner).await, json!(expected));
        write(&app).await;
        assert_eq!(history(&app, &runner).await, json!(expected));

        let app = app.restart().await;
        assert_eq!(history(&app, &runner).await, json!(expected));
        app.advance(Duration::from_millis(1));
        set_disabled(&app, &runner, false).await;
        expected.insert(0, change(&app.now().to_rfc3339(), "OFFLINE", "OFFLINE", "ENABLED"));
        expected.truncate(20);
        assert_eq!(history(&app, &runner).await, json!(expected));
    }

    async fn presence_is_written_behind_within_a_second(database) {
        let app = TestApp::start(database).await;
        let runner = app.register_runner("build-1").await;
        let id = row_id(&app, &runner).await;
        let heard_at = app.now();
        runner.heartbeat().await;
        app.advance(Duration::from_secs(1));
        eventually("the heartbeat is in the database", async || {
            let uuid = runner.uuid.parse().unwrap();
            let row = app.fleet.seen_runner_by_uuid(&Actor::System, uuid).await.unwrap().unwrap();
            row.last_online_at == heard_at.as_micros()
        })
        .await;
        let is_written = async || app.fleet.presence.unwritten_histories(&[id]).is_empty();
        eventually("nothing waits to be written", is_written).await;
        let changes = json!([change(&heard_at.to_rfc3339(), "OFFLINE", "IDLE", "HEARD_FROM")]);
        assert_eq!(history(&app, &runner).await, changes);
        // Nobody was heard since: nothing is written.
        app.advance(Duration::from_secs(1));
        let ((), statements) = app.statements(tokio::time::sleep(Duration::from_millis(200))).await;
        assert_eq!(statements, 0);
    }

    async fn after_a_restart_nobody_is_called_offline_who_was_not(database) {
        let mut app = TestApp::start(database).await;
        let present = app.register_runner("present").await;
        let absent = app.register_runner("absent").await;
        absent.heartbeat().await;
        let last_heard = app.now().to_rfc3339();
        app.advance(Duration::from_mins(1));
        let away = json!({"status": "OFFLINE", "statusSince": app.now().to_rfc3339(), "lastOnlineAt": last_heard});
        present.heartbeat().await;
        let heard_at = app.now().to_rfc3339();
        let here = json!({"status": "IDLE", "statusSince": heard_at, "lastOnlineAt": heard_at});
        app.advance(Duration::from_secs(30));

        app.shut_down().await;
        app.advance(Duration::from_hours(1));
        let app = app.restart().await;
        assert_eq!(state(&app, &present).await, here);
        assert_eq!(state(&app, &absent).await, away);
        assert_eq!(names_with(&app, &["IDLE"]).await, json!(["present"]));
        assert_eq!(names_with(&app, &["OFFLINE"]).await, json!(["absent"]));
        app.advance(Duration::from_millis(59_999));
        assert_eq!(state(&app, &present).await, here);
        assert_eq!(state(&app, &absent).await, away);

        app.advance(Duration::from_millis(1));
        let lost = json!({"status": "OFFLINE", "statusSince": app.now().to_rfc3339(), "lastOnlineAt": heard_at});
        assert_eq!(state(&app, &present).await, lost);
        assert_eq!(state(&app, &absent).await, away);
    }

    async fn a_runner_that_is_heard_after_a_restart_was_never_gone(database) {
        let mut app = TestApp::start(database).await;
        let runner = app.register_runner("build-1").await;
        let since = app.now().to_rfc3339();
        runner.heartbeat().await;
        app.shut_down().await;
        app.advance(Duration::from_mins(10));
        let app = app.restart().await;
        app.advance(Duration::from_secs(50));
        app.client(runner.client.shown.clone()).data("{ viewer { __typename } }", json!({})).await;
        let heard_at = app.now().to_rfc3339();
        app.advance(Duration::from_millis(59_999));
        let expected = json!({"status": "IDLE", "statusSince": since, "lastOnlineAt": heard_at});
        assert_eq!(state(&app, &runner).await, expected);
        let changes = json!([change(&since, "OFFLINE", "IDLE", "HEARD_FROM")]);
        assert_eq!(history(&app, &runner).await, changes);
    }

    async fn the_next_heartbeat_is_asked_for_in_10_to_20_seconds(database) {
        let app = TestApp::start(database).await;
        let runner = app.register_runner("build-1").await;
        for _ in 0..30 {
            let seconds = runner.heartbeat().await["nextHeartbeatInSeconds"].as_u64().unwrap();
            assert!((10..=20).contains(&seconds), "{seconds}");
        }
    }

    async fn a_short_deadline_asks_for_heartbeats_each_second(database) {
        let app = TestApp::start_with(database, &[("offline-after", "3s"), ("idle-after", "3s")]).await;
        let runner = app.register_runner("build-1").await;
        for _ in 0..10 {
            assert_eq!(runner.heartbeat().await["nextHeartbeatInSeconds"], 1);
        }
        app.advance(Duration::from_millis(2_999));
        assert_eq!(status(&app, &runner).await, "IDLE");
        app.advance(Duration::from_millis(1));
        assert_eq!(status(&app, &runner).await, "OFFLINE");
    }

    async fn lists_by_status_are_right_in_the_moment_of_the_change(database) {
        let app = TestApp::start_with(database, &WRITTEN_BY_HAND).await;
        let one = app.register_runner("one").await;
        let two = app.register_runner("two").await;
        assert_eq!(names_with(&app, &["OFFLINE"]).await, json!(["one", "two"]));
        assert_eq!(names_with(&app, &["IDLE", "ACTIVE"]).await, json!([]));

        // The database still has it OFFLINE.
        one.heartbeat().await;
        assert_eq!(names_with(&app, &["OFFLINE"]).await, json!(["two"]));
        assert_eq!(names_with(&app, &["IDLE"]).await, json!(["one"]));
        assert_eq!(names_with(&app, &["IDLE", "OFFLINE"]).await, json!(["one", "two"]));
        write(&app).await;
        assert_eq!(names_with(&app, &["OFFLINE"]).await, json!(["two"]));
        assert_eq!(names_with(&app, &["IDLE"]).await, json!(["one"]));

        // Now the database has it IDLE, and it goes to work.
        let id = row_id(&app, &one).await;
        app.fleet.presence.work(id).unwrap();
        assert_eq!(names_with(&app, &["IDLE"]).await, json!([]));
        assert_eq!(names_with(&app, &["ACTIVE"]).await, json!(["one"]));
        two.heartbeat().await;
        assert_eq!(names_with(&app, &["IDLE"]).await, json!(["two"]));
        write(&app).await;
        app.advance(Duration::from_mins(1));
        assert_eq!(names_with(&app, &["IDLE"]).await, json!([]));
        assert_eq!(names_with(&app, &["ACTIVE"]).await, json!([]));
        assert_eq!(names_with(&app, &["OFFLINE"]).await, json!(["one", "two"]));
        // There and back before anything was written.
        one.heartbeat().await;
        app.advance(Duration::from_mins(1));
        assert_eq!(names_with(&app, &["OFFLINE"]).await, json!(["one", "two"]));
        write(&app).await;
        assert_eq!(names_with(&app, &["OFFLINE"]).await, json!(["one", "two"]));
    }

    async fn lists_by_status_are_right_when_many_runners_change_at_once(database) {
        let app = TestApp::start_with(database, &WRITTEN_BY_HAND).await;
        let mut ids = Vec::new();
        for batch in 0..13 {
            let calls = (0..40).map(|number| {
                let registration = Registration {
                    token: SecretString::from(app.registration_token.clone()),
                    name: format!("build-{batch}-{number}"),
                    labels: Vec::new(),
                    version: None,
                    os: None,
                    arch: None,
                    description: None,
                    ephemeral: None,
                    machine_id: None,
                };
                app.fleet.register(registration, None)
            });
            ids.extend(join_all(calls).await.into_iter().map(|registered| registered.unwrap().runner.id));
        }
        for id in ids.iter().skip(3) {
            app.fleet.presence.hear(*id).unwrap();
        }
        let query = "{ idle: runners(filter: {statuses: [IDLE]}) { totalCount } \
                     offline: runners(filter: {statuses: [OFFLINE]}) { totalCount nodes { status } } }";
        let answer = app.admin().data(query, json!({})).await;
        let silent = json!({"status": "OFFLINE"});
        let offline = json!({"totalCount": 3, "nodes": [silent, silent, silent]});
        assert_eq!(answer, json!({"idle": {"totalCount": ids.len() - 3}, "offline": offline}));
    }

    async fn the_sums_of_scopes_follow_every_change(database) {
        let app = TestApp::start(database).await;
        let olga = app.user("olga").await;
        app.organization(&olga, "acme").await;
        app.repository(&olga, "acme", "api").await;
        let nothing = sums(0, 0, 0, 0, 0);
        assert_eq!(fleets(&olga).await, [nothing.clone(), nothing.clone(), nothing.clone()]);

        let token = app.registration_token(&olga, json!({"scope": {"owner": "acme"}})).await;
        let inner = app.registration_token(&olga, json!({"scope": {"repository": "acme/api"}})).await;
        let runner = app.register(&token, json!({"name": "of acme"})).await;
        let inside = app.register(&inner, json!({"name": "of acme/api"})).await;
        let silent = sums(1, 1, 0, 0, 0);
        assert_eq!(fleets(&olga).await, [nothing.clone(), silent.clone(), silent.clone()]);
        app.register_runner("of the instance").await.heartbeat().await;
        let idle = sums(1, 0, 1, 0, 0);
        assert_eq!(fleets(&olga).await, [idle.clone(), silent.clone(), silent.clone()]);
        runner.heartbeat().await;
        assert_eq!(fleets(&olga).await, [idle.clone(), idle.clone(), silent.clone()]);
        set_disabled(&app, &runner, true).await;
        assert_eq!(fleets(&olga).await, [idle.clone(), sums(1, 0, 1, 0, 1), silent.clone()]);
        let id = row_id(&app, &inside).await;
        app.fleet.presence.work(id).unwrap();
        assert_eq!(fleets(&olga).await, [idle, sums(1, 0, 1, 0, 1), sums(1, 0, 0, 1, 0)]);

        app.advance(Duration::from_mins(1));
        let lost = [silent.clone(), sums(1, 1, 0, 0, 1), silent.clone()];
        assert_eq!(fleets(&olga).await, lost);
        let app = app.restart().await;
        let olga = app.client(olga.shown);
        assert_eq!(fleets(&olga).await, lost);

        let delete = "mutation($id: ID!) { deleteRunner(input: {id: $id}) { deletedId } }";
        olga.data(delete, json!({"id": runner.id})).await;
        assert_eq!(fleets(&olga).await, [silent.clone(), nothing.clone(), silent.clone()]);
        app.client(inside.client.shown).data("mutation { deregisterRunner { deletedId } }", json!({})).await;
        assert_eq!(fleets(&olga).await, [silent, nothing.clone(), nothing]);
    }
}
