//! What is told live, to whom, and when a stream ends.

mod ends;

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::FutureExt as _;
use rollcall::auth::Actor;
use rollcall::events::{Event, EventKind};
use rollcall::fleet::{Watch, Watched, Watcher};
use rollcall::model::RunnerStatus;
use serde_json::{Value, json};

use crate::support::{Client, Shown, Socket, TestApp, TestRunner, eventually, on_both};

/// A clock that is moved does not make the server ping.
const CALM: [(&str, &str); 1] = [("keepalive-interval", "24h")];

const STATUSES: &str = "subscription($scope: ScopeInput, $ids: [ID!], $to: [RunnerStatus!]) { \
    runnerStatusChanged(scope: $scope, runnerIds: $ids, to: $to) { \
    runner { name } previous current at missedEvents } }";
const HEARTBEATS: &str = "subscription($scope: ScopeInput, $ids: [ID!]) { \
    heartbeats(scope: $scope, runnerIds: $ids) { runner { name status } at status missedEvents } }";
const EVENTS: &str = "subscription($scope: ScopeInput) { runnerEvents(scope: $scope) { __typename \
    ... on RunnerRegistered { at runner { id name labels disabled } } \
    ... on RunnerUpdated { at runner { id name labels disabled } } \
    ... on RunnerDeleted { at deletedId uuid name } } }";
const FLEET: &str = "subscription($scope: ScopeInput) { fleetSummary(scope: $scope) { \
    total offline idle active disabled } }";

/// Subscribes on a socket and waits until the server watches.
async fn listen(app: &TestApp, socket: &mut Socket, id: &str, kind: EventKind, query: &str, variables: Value) {
    socket.subscribe(id, query, variables).await;
    eventually("the server watches", async || app.fleet.bus.is_watched(kind)).await;
    socket.is_listening(id).await;
}

/// A socket with one subscription to changes of status, named `s`.
async fn statuses(app: &TestApp, client: &Client, variables: Value) -> Socket {
    let mut socket = app.socket(client).await;
    listen(app, &mut socket, "s", EventKind::Status, STATUSES, variables).await;
    socket
}

/// The next change of status: who, from what, to what.
async fn next_change(socket: &mut Socket, id: &str) -> (String, String, String) {
    let data = socket.next_data(id).await;
    let change = &data["runnerStatusChanged"];
    assert_eq!(change["missedEvents"], 0, "{change}");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    (text(&change["runner"]["name"]), text(&change["previous"]), text(&change["current"]))
}

fn change(name: &str, previous: &str, current: &str) -> (String, String, String) {
    (name.to_owned(), previous.to_owned(), current.to_owned())
}

/// The code of the error that a subscription has ended with, or was refused with; nothing else may come before.
async fn end_of(socket: &mut Socket, id: &str) -> String {
    let message = socket.next_of(id).await;
    let is_next = message["type"] == "next";
    let errors = if is_next { &message["payload"]["errors"] } else { &message["payload"] };
    assert!(is_next || message["type"] == "error", "{message}");
    let code = errors[0]["extensions"]["code"].as_str().unwrap_or_else(|| panic!("no error: {message}"));
    if is_next {
        assert_eq!(socket.next_of(id).await["type"], "complete");
    }
    code.to_owned()
}

/// Subscribes to what must be refused; returns the code.
async fn refusal(app: &TestApp, client: &Client, query: &str, variables: Value) -> String {
    let mut socket = app.socket(client).await;
    socket.subscribe("refused", query, variables).await;
    end_of(&mut socket, "refused").await
}

/// Makes an access token of a user; returns its id and a client that shows it.
async fn access_token(app: &TestApp, input: Value) -> (String, Client) {
    let query = "mutation($input: CreateAccessTokenInput!) { createAccessToken(input: $input) { \
                 accessToken { id } secret } }";
    let answer = app.admin().data(query, json!({"input": input})).await;
    let made = &answer["createAccessToken"];
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    (text(&made["accessToken"]["id"]), app.client(Shown::Bearer(text(&made["secret"]))))
}

async fn revoke(app: &TestApp, id: &str) {
    let query = "mutation($id: ID!) { revokeAccessToken(input: {id: $id}) { accessToken { isActive } } }";
    app.admin().data(query, json!({"id": id})).await;
}

async fn update(app: &TestApp, runner: &TestRunner, mut input: Value) {
    input["id"] = json!(runner.id);
    let query = "mutation($input: UpdateRunnerInput!) { updateRunner(input: $input) { runner { id } } }";
    app.admin().data(query, json!({"input": input})).await;
}

/// The runner's identifier in the database.
async fn row_id(app: &TestApp, runner: &TestRunner) -> i64 {
    let uuid = runner.uuid.parse().unwrap();
    app.fleet.seen_runner_by_uuid(&Actor::System, uuid).await.unwrap().unwrap().id
}

/// The organization acme with the owner olga and the member max; returns their clients and a runner of acme.
async fn acme(app: &TestApp) -> (Client, Client, TestRunner) {
    let olga = app.user("olga").await;
    let max = app.user("max").await;
    app.organization(&olga, "acme").await;
    app.add_member(&olga, "acme", "max", "MEMBER").await;
    let token = app.registration_token(&olga, json!({"scope": {"owner": "acme"}})).await;
    let runner = app.register(&token, json!({"name": "of acme"})).await;
    (olga, max, runner)
}

/// Everything that a watcher has to tell at this moment.
fn drain(watcher: &mut Watcher) -> Vec<Watched> {
    let mut told = Vec::new();
    while let Some(next) = watcher.next().now_or_never() {
        told.push(next.expect("the watch goes on").unwrap());
    }
    told
}

/// A watch over everything of one kind, by the server itself.
async fn watch(app: &TestApp, kind: EventKind) -> Watcher {
    let watch = Watch { kinds: vec![kind], scope: None, runner_ids: None, task_id: None };
    app.fleet.watch(&Actor::System, watch).await.unwrap()
}

/// A change of status that was told to a watcher.
fn told_status(watched: &Watched) -> (i64, RunnerStatus) {
    let Watched::Occurrence(occurrence) = watched else { panic!("no event: {watched:?}") };
    let Event::StatusChanged { previous, current } = occurrence.event else { panic!("no change: {occurrence:?}") };
    assert_ne!(previous, current, "a change that is none: {occurrence:?}");
    (occurrence.runner_id, current)
}

on_both! {
    async fn heartbeats_are_told_as_they_come(database) {
        let app = TestApp::start_with(database, &CALM).await;
        let (_, _, owned) = acme(&app).await;
        let (one, two) = (app.register_runner("one").await, app.register_runner("two").await);
        let mut socket = app.socket(&app.admin()).await;
        let kind = EventKind::Heartbeat;
        listen(&app, &mut socket, "all", kind, HEARTBEATS, json!({})).await;
        listen(&app, &mut socket, "two", kind, HEARTBEATS, json!({"ids": [two.id]})).await;
        listen(&app, &mut socket, "acme", kind, HEARTBEATS, json!({"scope": {"owner": "acme"}})).await;
        listen(&app, &mut socket, "both", kind, HEARTBEATS, json!({"scope": {"global": true}, "ids": [two.id]})).await;

        // Another call says that the runner is here and is no heartbeat.
        one.client.data("{ viewer { __typename } }", json!({})).await;
        app.advance(Duration::from_secs(1));
        let mut expected = Vec::new();
        for (name, runner) in [("one", &one), ("two", &two), ("of acme", &owned), ("two", &two)] {
            app.advance(Duration::from_millis(1));
            runner.heartbeat().await;
            let who = json!({"name": name, "status": "IDLE"});
            let at = app.now().to_rfc3339();
            expected.push(json!({"heartbeats": {"runner": who, "at": at, "status": "IDLE", "missedEvents": 0}}));
        }
        for heartbeat in &expected {
            assert_eq!(&socket.next_data("all").await, heartbeat);
        }
        for id in ["two", "both"] {
            assert_eq!(socket.next_data(id).await, expected[1]);
            assert_eq!(socket.next_data(id).await, expected[3]);
        }
        assert_eq!(socket.next_data("acme").await, expected[2]);
        assert!(socket.is_quiet_for(Duration::from_millis(100)).await);
    }

    async fn changes_of_status_are_told_when_they_happen(database) {
        let app = TestApp::start_with(database, &CALM).await;
        let (_, _, owned) = acme(&app).await;
        let (one, two) = (app.register_runner("one").await, app.register_runner("two").await);
        let mut socket = app.socket(&app.admin()).await;
        let kind = EventKind::Status;
        listen(&app, &mut socket, "all", kind, STATUSES, json!({})).await;
        listen(&app, &mut socket, "two", kind, STATUSES, json!({"ids": [two.id]})).await;
        listen(&app, &mut socket, "acme", kind, STATUSES, json!({"scope": {"owner": "acme"}})).await;
        listen(&app, &mut socket, "lost", kind, STATUSES, json!({"to": ["OFFLINE", "ACTIVE"]})).await;

        let heard_at = app.now().to_rfc3339();
        one.heartbeat().await;
        let data = socket.next_data("all").await;
        let expected = json!({
            "runner": {"name": "one"}, "previous": "OFFLINE", "current": "IDLE", "at": heard_at, "missedEvents": 0,
        });
        assert_eq!(data["runnerStatusChanged"], expected);
        // Heartbeats of one who is here change nothing.
        one.heartbeat().await;
        for runner in [&two, &owned] {
            app.advance(Duration::from_millis(1));
            runner.client.data("{ viewer { __typename } }", json!({})).await;
        }
        assert_eq!(next_change(&mut socket, "all").await, change("two", "OFFLINE", "IDLE"));
        assert_eq!(next_change(&mut socket, "two").await, change("two", "OFFLINE", "IDLE"));
        assert_eq!(next_change(&mut socket, "all").await, change("of acme", "OFFLINE", "IDLE"));
        assert_eq!(next_change(&mut socket, "acme").await, change("of acme", "OFFLINE", "IDLE"));

        app.advance(Duration::from_millis(59_998));
        let lost_at = app.now().to_rfc3339();
        let data = socket.next_data("lost").await;
        let expected = json!({
            "runner": {"name": "one"}, "previous": "IDLE", "current": "OFFLINE", "at": lost_at, "missedEvents": 0,
        });
        assert_eq!(data["runnerStatusChanged"], expected);
        assert_eq!(next_change(&mut socket, "all").await, change("one", "IDLE", "OFFLINE"));
        app.advance(Duration::from_millis(1));
        for id in ["lost", "all", "two"] {
            assert_eq!(next_change(&mut socket, id).await, change("two", "IDLE", "OFFLINE"));
        }
        app.advance(Duration::from_millis(1));
        for id in ["lost", "all", "acme"] {
            assert_eq!(next_change(&mut socket, id).await, change("of acme", "IDLE", "OFFLINE"));
        }
        assert!(socket.is_quiet_for(Duration::from_millis(100)).await);
    }

    async fn registered_updated_and_deleted_runners_are_told(database) {
        let app = TestApp::start_with(database, &CALM).await;
        let admin = app.admin();
        let mut socket = app.socket(&admin).await;
        listen(&app, &mut socket, "s", EventKind::Runner, EVENTS, json!({})).await;

        let input = json!({"name": "before", "labels": ["linux"], "machineId": "machine-1"});
        let runner = app.register(&app.registration_token, input).await;
        let event = |kind: &str, name: &str, labels: Value, disabled: bool| {
            let runner = json!({"id": runner.id, "name": name, "labels": labels, "disabled": disabled});
            json!({"runnerEvents": {"__typename": kind, "at": app.now().to_rfc3339(), "runner": runner}})
        };
        let expected = event("RunnerRegistered", "before", json!(["linux"]), false);
        assert_eq!(socket.next_data("s").await, expected);

        app.advance(Duration::from_secs(1));
        update(&app, &runner, json!({"name": "after"})).await;
        assert_eq!(socket.next_data("s").await, event("RunnerUpdated", "after", json!(["linux"]), false));
        update(&app, &runner, json!({"disabled": true})).await;
        assert_eq!(socket.next_data("s").await, event("RunnerUpdated", "after", json!(["linux"]), true));
        let declare = "mutation { declareRunner(input: {labels: [\"arm\"]}) { runner { id } } }";
        runner.client.data(declare, json!({})).await;
        assert_eq!(socket.next_data("s").await, event("RunnerUpdated", "after", json!(["arm"]), true));
        let rotate = "mutation { rotateRunnerToken(input: {}) { previousValidUntil } }";
        runner.client.data(rotate, json!({})).await;
        assert_eq!(socket.next_data("s").await, event("RunnerUpdated", "after", json!(["arm"]), true));
        let enable = "mutation($ids: [ID!]) { setRunnersDisabled(input: {ids: $ids, disabled: false}) { \
                      matchedCount } }";
        admin.data(enable, json!({"ids": [runner.id]})).await;
        assert_eq!(socket.next_data("s").await, event("RunnerUpdated", "after", json!(["arm"]), false));

        // The same machine again is the same runner, and neither gone nor new.
        app.advance(Duration::from_secs(1));
        let again = app.register(&app.registration_token, json!({"name": "again", "machineId": "machine-1"})).await;
        assert_eq!(socket.next_data("s").await, event("RunnerRegistered", "again", json!([]), false));

        app.advance(Duration::from_secs(1));
        again.client.data("mutation { deregisterRunner { deletedId } }", json!({})).await;
        let gone = json!({
            "__typename": "RunnerDeleted", "at": app.now().to_rfc3339(), "deletedId": runner.id, "uuid": runner.uuid,
            "name": "again",
        });
        assert_eq!(socket.next_data("s").await["runnerEvents"], gone);
        assert!(socket.is_quiet_for(Duration::from_millis(100)).await);
    }

    async fn an_event_comes_after_what_it_tells_of_is_there(database) {
        let app = TestApp::start_with(database, &CALM).await;
        let admin = app.admin();
        let mut socket = app.socket(&admin).await;
        listen(&app, &mut socket, "s", EventKind::Runner, EVENTS, json!({})).await;
        let query = "query($id: ID!) { runner(id: $id) { name } runners { totalCount } }";
        for number in 1..=10 {
            let name = format!("build-{number}");
            let (registered, data) = tokio::join!(app.register_runner(&name), async {
                let data = socket.next_data("s").await;
                let id = &data["runnerEvents"]["runner"]["id"];
                assert!(id.is_string(), "{data}");
                (id.clone(), admin.data(query, json!({"id": id})).await)
            });
            assert_eq!(data.0, json!(registered.id));
            assert_eq!(data.1, json!({"runner": {"name": name}, "runners": {"totalCount": number}}));
        }
    }

    async fn the_summary_comes_at_once_and_then_at_most_once_a_second_and_only_changed(database) {
        let app = TestApp::start_with(database, &CALM).await;
        let mut socket = app.socket(&app.admin()).await;
        listen(&app, &mut socket, "s", EventKind::Status, FLEET, json!({})).await;
        let summary = |total: u32, offline: u32, idle: u32, disabled: u32| {
            let sums = json!({"total": total, "offline": offline, "idle": idle, "active": 0, "disabled": disabled});
            json!({"fleetSummary": sums})
        };
        assert_eq!(socket.next_data("s").await, summary(0, 0, 0, 0));

        // Many changes within a second are one value.
        let (one, two) = (app.register_runner("one").await, app.register_runner("two").await);
        one.heartbeat().await;
        update(&app, &two, json!({"disabled": true})).await;
        assert!(socket.is_quiet_for(Duration::from_millis(200)).await, "before a second has passed");
        app.advance(Duration::from_millis(999));
        assert!(socket.is_quiet_for(Duration::from_millis(200)).await, "just before a second has passed");
        app.advance(Duration::from_millis(1));
        assert_eq!(socket.next_data("s").await, summary(2, 1, 1, 1));

        // What was changed back is no change.
        update(&app, &two, json!({"disabled": false})).await;
        update(&app, &two, json!({"disabled": true})).await;
        one.heartbeat().await;
        app.advance(Duration::from_secs(5));
        assert!(socket.is_quiet_for(Duration::from_millis(200)).await, "nothing has changed");
        // After a pause a change comes at once.
        two.heartbeat().await;
        assert_eq!(socket.next_data("s").await, summary(2, 0, 2, 1));
        app.advance(Duration::from_mins(1));
        assert_eq!(socket.next_data("s").await, summary(2, 2, 0, 1));
        app.advance(Duration::from_secs(1));
        let delete = "mutation($id: ID!) { deleteRunner(input: {id: $id}) { deletedId } }";
        app.admin().data(delete, json!({"id": two.id})).await;
        assert_eq!(socket.next_data("s").await, summary(1, 1, 0, 0));
    }

    async fn the_summary_of_a_scope_is_of_its_own_runners(database) {
        let app = TestApp::start_with(database, &CALM).await;
        let (_, max, owned) = acme(&app).await;
        let other = app.register_runner("of the instance").await;
        let mut socket = app.socket(&max).await;
        listen(&app, &mut socket, "acme", EventKind::Status, FLEET, json!({"scope": {"owner": "acme"}})).await;
        listen(&app, &mut socket, "seen", EventKind::Status, FLEET, json!({})).await;
        let summary = |total: u32, idle: u32| {
            let sums = json!({"total": total, "offline": total - idle, "idle": idle, "active": 0, "disabled": 0});
            json!({"fleetSummary": sums})
        };
        assert_eq!(socket.next_data("acme").await, summary(1, 0));
        assert_eq!(socket.next_data("seen").await, summary(2, 0));
        app.advance(Duration::from_secs(2));
        other.heartbeat().await;
        assert_eq!(socket.next_data("seen").await, summary(2, 1));
        app.advance(Duration::from_secs(2));
        owned.heartbeat().await;
        assert_eq!(socket.next_data("acme").await, summary(1, 1));
        assert_eq!(socket.next_data("seen").await, summary(2, 2));
    }

    async fn a_subscriber_is_told_of_what_it_may_see_and_of_nothing_else(database) {
        let app = TestApp::start_with(database, &CALM).await;
        let (_, max, owned) = acme(&app).await;
        let gina = app.user("gina").await;
        app.organization(&gina, "globex").await;
        let shared = app.register_runner("of the instance").await;
        let mut outside = statuses(&app, &gina, json!({})).await;
        let mut inside = statuses(&app, &max, json!({})).await;
        owned.heartbeat().await;
        app.advance(Duration::from_secs(1));
        shared.heartbeat().await;
        assert_eq!(next_change(&mut inside, "s").await, change("of acme", "OFFLINE", "IDLE"));
        assert_eq!(next_change(&mut inside, "s").await, change("of the instance", "OFFLINE", "IDLE"));
        assert_eq!(next_change(&mut outside, "s").await, change("of the instance", "OFFLINE", "IDLE"));
        assert!(outside.is_quiet_for(Duration::from_millis(100)).await);
    }

    async fn a_runner_is_told_of_itself(database) {
        let app = TestApp::start_with(database, &CALM).await;
        let (one, two) = (app.register_runner("one").await, app.register_runner("two").await);
        let mut socket = app.socket(&one.session().await).await;
        listen(&app, &mut socket, "s", EventKind::Heartbeat, HEARTBEATS, json!({})).await;
        two.heartbeat().await;
        one.heartbeat().await;
        assert_eq!(socket.next_data("s").await["heartbeats"]["runner"]["name"], "one");
        let ids = json!({"ids": [two.id]});
        assert_eq!(refusal(&app, &one.client, HEARTBEATS, ids).await, "NOT_FOUND");
    }

    async fn a_runner_cannot_watch_the_fleet_and_is_told_so_once(database) {
        let app = TestApp::start_with(database, &CALM).await;
        let runner = app.register_runner("build-1").await;
        for variables in [json!({}), json!({"scope": {"global": true}})] {
            assert_eq!(refusal(&app, &runner.client, FLEET, variables).await, "FORBIDDEN");
        }
        assert_eq!(refusal(&app, &runner.client, FLEET, json!({"scope": {"owner": "admin"}})).await, "NOT_FOUND");
    }

    async fn what_one_may_not_see_cannot_be_watched(database) {
        let app = TestApp::start_with(database, &CALM).await;
        let (_, max, owned) = acme(&app).await;
        let gina = app.user("gina").await;
        let stray = app.register_runner("of the instance").await;
        for query in [STATUSES, HEARTBEATS, EVENTS, FLEET] {
            for scope in [json!({"owner": "acme"}), json!({"repository": "acme/api"}), json!({"owner": "nobody"})] {
                assert_eq!(refusal(&app, &gina, query, json!({"scope": scope})).await, "NOT_FOUND", "{query} {scope}");
            }
            assert_eq!(refusal(&app, &app.anonymous(), query, json!({})).await, "UNAUTHENTICATED", "{query}");
        }
        let weak = app.client(Shown::Bearer(app.access_token("max", &["READ_TASK"]).await));
        for query in [STATUSES, HEARTBEATS] {
            for ids in [json!([owned.id]), json!([stray.id, owned.id])] {
                assert_eq!(refusal(&app, &gina, query, json!({"ids": ids})).await, "NOT_FOUND", "{query}");
            }
            // A runner of another scope than the one that is named.
            let variables = json!({"ids": [stray.id], "scope": {"owner": "acme"}});
            assert_eq!(refusal(&app, &max, query, variables).await, "NOT_FOUND", "{query}");
            for ids in [json!([]), json!(["nonsense"]), json!(vec![&owned.id; 101])] {
                assert_eq!(refusal(&app, &max, query, json!({"ids": ids})).await, "BAD_USER_INPUT", "{query}");
            }
            assert_eq!(refusal(&app, &weak, query, json!({})).await, "FORBIDDEN", "{query}");
        }
    }

    async fn a_slow_subscriber_is_told_that_it_missed_changes_and_then_what_is_true(database) {
        let app = TestApp::start_with(database, &[("subscription-buffer", "4")]).await;
        let mut ids = Vec::new();
        for name in ["one", "two", "three"] {
            ids.push(row_id(&app, &app.register_runner(name).await).await);
        }
        let presence = &app.fleet.presence;
        app.advance(Duration::from_secs(1));
        let mut watcher = watch(&app, EventKind::Status).await;
        assert!(drain(&mut watcher).is_empty());
        let mut changes = 0;
        for _ in 0..3 {
            for id in &ids {
                app.advance(Duration::from_millis(1));
                presence.hear(*id).unwrap();
                changes += 1;
            }
            app.advance(Duration::from_mins(1));
            changes += 3;
        }
        for id in &ids[..2] {
            app.advance(Duration::from_millis(1));
            presence.hear(*id).unwrap();
            changes += 1;
        }

        let told = drain(&mut watcher);
        let Watched::Missed(missed) = &told[0] else { panic!("nothing was missed: {told:?}") };
        assert_eq!(*missed, changes - 4);
        // Once each: what is true now, and nothing that is not any more.
        let statuses: Vec<(i64, RunnerStatus)> = told[1..].iter().map(told_status).collect();
        assert_eq!(statuses.len(), 3, "{told:?}");
        let statuses: BTreeMap<i64, RunnerStatus> = statuses.into_iter().collect();
        let truth: BTreeMap<i64, RunnerStatus> =
            ids.iter().map(|id| (*id, presence.get(*id).unwrap().status)).collect();
        assert_eq!(statuses, truth);
        assert_eq!(truth[&ids[2]], RunnerStatus::Offline);

        // It goes on with what happens next.
        app.advance(Duration::from_millis(1));
        presence.work(ids[2]).unwrap();
        let told = drain(&mut watcher);
        assert_eq!(told.iter().map(told_status).collect::<Vec<_>>(), [(ids[2], RunnerStatus::Active)]);
        app.advance(Duration::from_millis(1));
        presence.work(ids[0]).unwrap();
        let told = drain(&mut watcher);
        assert_eq!(told.iter().map(told_status).collect::<Vec<_>>(), [(ids[0], RunnerStatus::Active)]);
    }

    async fn after_a_gap_a_runner_whose_status_never_changed_is_not_told(database) {
        let app = TestApp::start_with(database, &[("subscription-buffer", "4")]).await;
        let lively = row_id(&app, &app.register_runner("lively").await).await;
        let mut watcher = watch(&app, EventKind::Status).await;
        app.advance(Duration::from_secs(1));
        // It registers while the watcher sleeps, and is not heard from.
        let silent = row_id(&app, &app.register_runner("silent").await).await;
        for _ in 0..5 {
            app.fleet.presence.hear(lively).unwrap();
            app.advance(Duration::from_mins(1));
        }
        let told = drain(&mut watcher);
        assert!(matches!(told[0], Watched::Missed(_)), "{told:?}");
        let changes: Vec<(i64, RunnerStatus)> = told[1..].iter().map(told_status).collect();
        assert!(changes.iter().all(|(id, _)| *id != silent), "{told:?}");
        assert_eq!(changes, [(lively, RunnerStatus::Offline)]);
    }

    async fn a_slow_subscriber_of_runners_is_told_how_many_events_it_missed_and_goes_on(database) {
        let app = TestApp::start_with(database, &[("subscription-buffer", "4")]).await;
        let mut watcher = watch(&app, EventKind::Runner).await;
        for number in 0..7 {
            app.register_runner(&format!("build-{number}")).await;
        }
        let told = drain(&mut watcher);
        assert!(matches!(told[0], Watched::Missed(3..=7)), "{told:?}");
        app.advance(Duration::from_secs(1));
        let last = row_id(&app, &app.register_runner("last").await).await;
        let told = drain(&mut watcher);
        let [Watched::Occurrence(occurrence)] = told.as_slice() else { panic!("one event was expected: {told:?}") };
        assert_eq!((occurrence.runner_id, &occurrence.event), (last, &Event::RunnerRegistered));
    }

    async fn a_watch_of_a_scope_that_fell_behind_tells_of_that_scope_alone(database) {
        let app = TestApp::start_with(database, &[("subscription-buffer", "4")]).await;
        let (_, _, owned) = acme(&app).await;
        let owned = row_id(&app, &owned).await;
        let other = row_id(&app, &app.register_runner("of the instance").await).await;
        app.advance(Duration::from_secs(1));
        let scope = app.fleet.scope_at(&Actor::System, "acme").await.unwrap();
        let scoped = Watch { kinds: vec![EventKind::Status], scope, runner_ids: None, task_id: None };
        let mut scoped = app.fleet.watch(&Actor::System, scoped).await.unwrap();
        let ids = Watch { kinds: vec![EventKind::Status], scope: None, runner_ids: Some(vec![other]), task_id: None };
        let mut one = app.fleet.watch(&Actor::System, ids).await.unwrap();
        for _ in 0..4 {
            app.advance(Duration::from_millis(1));
            for id in [owned, other] {
                app.fleet.presence.hear(id).unwrap();
            }
            app.advance(Duration::from_mins(1));
        }
        for (watcher, id) in [(&mut scoped, owned), (&mut one, other)] {
            let told = drain(watcher);
            assert!(matches!(told[0], Watched::Missed(4)), "{told:?}");
            let changes: Vec<(i64, RunnerStatus)> = told[1..].iter().map(told_status).collect();
            assert_eq!(changes, [(id, RunnerStatus::Offline)]);
        }
    }

    async fn over_server_sent_events_a_stream_is_the_same_and_ends_the_same(database) {
        let app = TestApp::start_with(database, &CALM).await;
        let (_, _, owned) = acme(&app).await;
        let input = json!({"name": "stream", "scopes": ["READ_RUNNER"], "user": "max"});
        let (id, client) = access_token(&app, input).await;
        let mut stream = app.events(&client, HEARTBEATS, json!({"scope": {"owner": "acme"}})).await;
        eventually("the server watches", async || app.fleet.bus.is_watched(EventKind::Heartbeat)).await;
        for _ in 0..2 {
            app.advance(Duration::from_secs(1));
            owned.heartbeat().await;
            let (event, data) = stream.next().await.unwrap();
            assert_eq!(event, "next");
            let expected = json!({"data": {"heartbeats": {
                "runner": {"name": "of acme", "status": "IDLE"}, "at": app.now().to_rfc3339(), "status": "IDLE",
                "missedEvents": 0,
            }}});
            assert_eq!(data, expected);
        }
        revoke(&app, &id).await;
        let (event, data) = stream.next().await.unwrap();
        assert_eq!(event, "next");
        assert_eq!(data["errors"][0]["extensions"]["code"], "UNAUTHENTICATED", "{data}");
        assert_eq!(stream.next().await.unwrap().0, "complete");
        assert!(stream.next().await.is_none());
    }
}
