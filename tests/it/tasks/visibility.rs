//! Who sees and changes which tasks.

use std::time::Duration;

use rollcall::events::EventKind;
use serde_json::{Value, json};

use super::{assert_refused, names};
use crate::support::{Client, Socket, TestApp, TestRunner, new_task, on_both};

/// A clock that is moved does not make the server ping.
const CALM: [(&str, &str); 1] = [("keepalive-interval", "24h")];
/// How long nothing has to come to count as nothing.
const A_WHILE: Duration = Duration::from_millis(200);

const ENQUEUE: &str = "mutation($input: EnqueueTaskInput!) { enqueueTask(input: $input) { task { id } } }";
const LIST: &str = "query($scope: ScopeInput) { tasks(scope: $scope) { totalCount nodes { name } } }";
const EVENTS: &str = "subscription($scope: ScopeInput, $id: ID) { taskEvents(scope: $scope, taskId: $id) { \
    task { name status } previous current at missedEvents } }";
const LOG: &str = "subscription($id: ID!) { taskLog(taskId: $id) { firstLine } }";
const REMOVE_MAX: &str = "mutation { removeOrganizationMember(input: {organization: \"acme\", user: \"max\"}) { \
    organization { login } } }";

/// Acme with the owner olga, the member max and a task of acme/api, `ours`; and globex with the owner gina and a task
/// of globex/app, `theirs`. Both tasks wait; a runner of the instance could take them.
struct World {
    app: TestApp,
    olga: Client,
    max: Client,
    gina: Client,
    shared: TestRunner,
    ours: String,
    theirs: String,
}

impl World {
    async fn new(app: TestApp) -> Self {
        let (olga, max, gina) = (app.acme().await, app.user("max").await, app.user("gina").await);
        app.add_member(&olga, "acme", "max", "MEMBER").await;
        app.organization(&gina, "globex").await;
        app.repository(&gina, "globex", "app").await;
        let shared = app.register_runner("shared").await;
        let ours = olga.enqueue(json!({"name": "ours"})).await;
        let theirs = gina.enqueue(json!({"name": "theirs", "repository": "globex/app"})).await;
        Self { app, olga, max, gina, shared, ours, theirs }
    }

    async fn listen(&self, client: &Client, variables: Value) -> Socket {
        let mut socket = self.app.socket(client).await;
        self.app.listen(&mut socket, "s", EventKind::Task, EVENTS, variables).await;
        socket
    }
}

/// The next event: of which task, from what, to what.
async fn next_event(socket: &mut Socket) -> (Value, Value, Value) {
    let data = socket.next_data("s").await;
    let event = &data["taskEvents"];
    assert_eq!(event["missedEvents"], 0, "{event}");
    (event["task"]["name"].clone(), event["previous"].clone(), event["current"].clone())
}

fn event(name: &str, previous: Option<&str>, current: &str) -> (Value, Value, Value) {
    (json!(name), json!(previous), json!(current))
}

on_both! {
    async fn a_task_exists_for_those_who_see_its_repository(database) {
        let World { app, olga, max, gina, ours, theirs, .. } = World::new(TestApp::start(database).await).await;
        for (client, seen) in [
            (&olga, vec!["ours"]),
            (&max, vec!["ours"]),
            (&gina, vec!["theirs"]),
            (&app.admin(), vec!["theirs", "ours"]),
        ] {
            for (id, name) in [(&ours, "ours"), (&theirs, "theirs")] {
                let query = "query($id: ID!) { task(id: $id) { name } node(id: $id) { ... on Task { name } } }";
                let answer = client.data(query, json!({"id": id})).await;
                let expected = if seen.contains(&name) { json!({"name": name}) } else { Value::Null };
                assert_eq!(answer, json!({"task": expected, "node": expected}), "{seen:?}");
            }
            let answer = client.data(LIST, json!({})).await;
            assert_eq!(names(&answer["tasks"]), seen);
            assert_eq!(answer["tasks"]["totalCount"], seen.len());
        }
        for scope in [json!({"owner": "acme"}), json!({"repository": "acme/api"})] {
            assert_eq!(names(&max.data(LIST, json!({"scope": scope})).await["tasks"]), ["ours"]);
            assert_eq!(gina.code(LIST, json!({"scope": scope})).await, "NOT_FOUND", "{scope}");
        }
        for client in [&olga, &max] {
            let answer = client.data(LIST, json!({"scope": {"global": true}})).await;
            assert_eq!(names(&answer["tasks"]), ["ours"], "the instance has no tasks but those one sees");
        }
        let query = "{ organization(login: \"acme\") { tasks { nodes { name } } } \
                     repository(owner: \"acme\", name: \"api\") { tasks { nodes { name } } } \
                     instance { tasks { nodes { name } } } }";
        let answer = max.data(query, json!({})).await;
        for scope in ["organization", "repository", "instance"] {
            assert_eq!(names(&answer[scope]["tasks"]), ["ours"], "{scope}");
        }
        for query in ["{ tasks { totalCount } }", "{ task(id: \"task_0000000000000\") { id } }"] {
            assert_eq!(app.anonymous().code(query, json!({})).await, "UNAUTHENTICATED");
        }
    }

    async fn a_task_is_changed_by_those_who_may_write_to_its_repository(database) {
        let World { app, olga, max, gina, ours, .. } = World::new(TestApp::start(database).await).await;
        let nobody = app.anonymous();
        for (client, code) in [(&max, "FORBIDDEN"), (&gina, "NOT_FOUND"), (&nobody, "UNAUTHENTICATED")] {
            assert_refused(&client.cancel(&ours).await, code, "");
            assert_refused(&client.retry(&ours).await, code, "");
            assert_refused(&client.post(ENQUEUE, json!({"input": new_task(json!({}))})).await, code, "");
        }
        assert_eq!(olga.task(&ours).await["status"], "QUEUED");
        assert_eq!(olga.cancel(&ours).await.task_status(), "CANCELLED");
        assert_eq!(app.admin().retry(&ours).await.task_status(), "QUEUED");
        assert_eq!(olga.data(LIST, json!({})).await["tasks"]["totalCount"], 1);
    }

    async fn a_runner_sees_the_tasks_that_it_has_or_had(database) {
        let World { app, shared, ours, theirs, .. } = World::new(TestApp::start(database).await).await;
        assert_eq!(shared.client.task(&ours).await, Value::Null);
        assert_eq!(shared.take().await, ours);
        assert_eq!(shared.client.task(&ours).await["name"], "ours");
        assert_eq!(shared.client.task(&theirs).await, Value::Null);
        let query = "query($id: ID!) { task(id: $id) { repository { path } payload createdBy { login } } \
                     tasks { totalCount } }";
        let answer = shared.client.data(query, json!({"id": ours})).await;
        let expected = json!({"repository": {"path": "acme/api"}, "payload": {}, "createdBy": null});
        assert_eq!(answer, json!({"task": expected, "tasks": {"totalCount": 1}}));
        // It reports, and does nothing else.
        assert_refused(&shared.client.cancel(&ours).await, "FORBIDDEN", "");
        shared.finish(&ours, "SUCCEEDED").await;
        assert_refused(&shared.client.retry(&ours).await, "FORBIDDEN", "");
        assert_refused(&shared.client.post(ENQUEUE, json!({"input": new_task(json!({}))})).await, "FORBIDDEN", "");
        assert_eq!(shared.client.task(&ours).await["name"], "ours");
        assert_eq!(app.admin().data(LIST, json!({})).await["tasks"]["totalCount"], 2);
    }

    async fn a_shared_runner_shows_each_their_own_tasks(database) {
        let World { app, olga, max, gina, shared, ours, theirs } = World::new(TestApp::start(database).await).await;
        assert_eq!([shared.take().await, shared.take().await], [ours, theirs]);
        let query = "query($id: ID!) { runner(id: $id) { busy currentTasks { name } \
                     tasks { totalCount nodes { name } } } tasks(filter: {runnerId: $id}) { nodes { name } } }";
        for (client, seen) in [
            (&olga, vec!["ours"]),
            (&max, vec!["ours"]),
            (&gina, vec!["theirs"]),
            (&app.admin(), vec!["theirs", "ours"]),
            (&shared.client, vec!["theirs", "ours"]),
        ] {
            let answer = client.data(query, json!({"id": shared.id})).await;
            let runner = &answer["runner"];
            assert_eq!(names(&runner["tasks"]), seen);
            assert_eq!(names(&answer["tasks"]), seen);
            assert_eq!(runner["tasks"]["totalCount"], seen.len());
            let current: Vec<Value> = seen.iter().rev().map(|name| json!({"name": name})).collect();
            assert_eq!((&runner["busy"], &runner["currentTasks"]), (&json!(true), &json!(current)));
        }
        // Somebody who has nothing to do with it knows that it is busy, and with nothing more.
        let stranger = app.user("stranger").await;
        let answer = stranger.data(query, json!({"id": shared.id})).await;
        let expected = json!({
            "runner": {"busy": true, "currentTasks": [], "tasks": {"totalCount": 0, "nodes": []}},
            "tasks": {"nodes": []},
        });
        assert_eq!(answer, expected);
    }

    async fn events_are_told_of_tasks_that_one_sees(database) {
        let world = World::new(TestApp::start_with(database, &CALM).await).await;
        let mut inside = world.listen(&world.max, json!({})).await;
        let mut outside = world.listen(&world.gina, json!({})).await;
        let mut everything = world.listen(&world.app.admin(), json!({})).await;
        let mut scoped = world.listen(&world.olga, json!({"scope": {"repository": "acme/api"}})).await;
        let mut one = world.listen(&world.olga, json!({"id": world.ours})).await;
        for id in [&world.ours, &world.theirs] {
            assert_eq!(world.shared.take().await, *id);
        }
        let started = |name| event(name, Some("QUEUED"), "RUNNING");
        for socket in [&mut inside, &mut scoped, &mut one] {
            assert_eq!(next_event(socket).await, started("ours"));
        }
        assert_eq!(next_event(&mut outside).await, started("theirs"));
        for name in ["ours", "theirs"] {
            assert_eq!(next_event(&mut everything).await, started(name));
        }

        world.olga.enqueue(json!({"name": "more"})).await;
        for socket in [&mut inside, &mut scoped, &mut everything] {
            assert_eq!(next_event(socket).await, event("more", None, "QUEUED"));
        }
        // A repository of the same owner is another.
        world.app.repository(&world.olga, "acme", "web").await;
        world.olga.enqueue(json!({"name": "web", "repository": "acme/web"})).await;
        for socket in [&mut inside, &mut everything] {
            assert_eq!(next_event(socket).await, event("web", None, "QUEUED"));
        }
        assert_eq!(world.olga.cancel(&world.ours).await.task_status(), "CANCELLING");
        world.shared.finish(&world.ours, "CANCELLED").await;
        assert_eq!(world.olga.retry(&world.ours).await.task_status(), "QUEUED");
        for socket in [&mut inside, &mut scoped, &mut everything, &mut one] {
            for change in [("RUNNING", "CANCELLING"), ("CANCELLING", "CANCELLED"), ("CANCELLED", "QUEUED")] {
                assert_eq!(next_event(socket).await, event("ours", Some(change.0), change.1));
            }
        }
        for socket in [&mut inside, &mut outside, &mut everything, &mut scoped, &mut one] {
            assert!(socket.is_quiet_for(A_WHILE).await);
        }
    }

    async fn what_one_may_not_see_cannot_be_watched(database) {
        let World { app, gina, shared, ours, .. } = World::new(TestApp::start(database).await).await;
        let reader = app.admin_with(&["READ_RUNNER"]).await;
        for (client, code) in [
            (&gina, "NOT_FOUND"),
            (&reader, "FORBIDDEN"),
            // It is told of its own by other means.
            (&shared.client, "FORBIDDEN"),
            (&app.anonymous(), "UNAUTHENTICATED"),
        ] {
            let mut socket = app.socket(client).await;
            socket.subscribe("task", EVENTS, json!({"id": ours})).await;
            assert_eq!(socket.end_of("task").await, code);
            socket.subscribe("log", LOG, json!({"id": ours})).await;
            assert_eq!(socket.end_of("log").await, code);
        }
        let mut socket = app.socket(&gina).await;
        socket.subscribe("scope", EVENTS, json!({"scope": {"owner": "acme"}})).await;
        assert_eq!(socket.end_of("scope").await, "NOT_FOUND");
        // A task of another scope than the one that is named.
        let mut socket = app.socket(&app.admin()).await;
        socket.subscribe("both", EVENTS, json!({"scope": {"owner": "globex"}, "id": ours})).await;
        assert_eq!(socket.end_of("both").await, "NOT_FOUND");
    }

    async fn streams_end_when_a_member_is_removed(database) {
        let world = World::new(TestApp::start_with(database, &CALM).await).await;
        assert_eq!(world.shared.take().await, world.ours);
        let mut socket = world.app.socket(&world.max).await;
        let kind = EventKind::Task;
        for (id, variables) in [
            ("owner", json!({"scope": {"owner": "acme"}})),
            ("repository", json!({"scope": {"repository": "acme/api"}})),
            ("task", json!({"id": world.ours})),
        ] {
            world.app.listen(&mut socket, id, kind, EVENTS, variables).await;
        }
        world.app.listen(&mut socket, "log", EventKind::Log, LOG, json!({"id": world.ours})).await;
        let mut all = world.listen(&world.max, json!({})).await;
        world.olga.data(REMOVE_MAX, json!({})).await;
        for id in ["owner", "repository", "task", "log"] {
            assert_eq!(socket.end_of(id).await, "FORBIDDEN", "{id}");
        }
        // What one sees without naming it becomes less.
        world.shared.finish(&world.ours, "SUCCEEDED").await;
        assert!(all.is_quiet_for(A_WHILE).await);
        assert_eq!(world.max.task(&world.ours).await, Value::Null);
    }

    async fn streams_end_when_the_repository_goes(database) {
        let world = World::new(TestApp::start_with(database, &CALM).await).await;
        let mut socket = world.listen(&world.max, json!({"scope": {"repository": "acme/api"}})).await;
        let delete = "mutation { deleteRepository(input: {owner: \"acme\", name: \"api\"}) { deletedId } }";
        world.olga.data(delete, json!({})).await;
        assert_eq!(socket.end_of("s").await, "FORBIDDEN");
    }

    async fn a_token_reads_and_writes_tasks_only_with_the_scope_for_it(database) {
        let World { app, shared, ours, .. } = World::new(TestApp::start(database).await).await;
        assert_eq!(shared.take().await, ours);
        let task = "query($id: ID!) { task(id: $id) { name } }";
        for scopes in [["READ_RUNNER"], ["WRITE_RUNNER"]] {
            let client = app.admin_with(&scopes).await;
            assert_eq!(client.code(task, json!({"id": ours})).await, "FORBIDDEN");
            assert_eq!(client.code(LIST, json!({})).await, "FORBIDDEN");
            assert_eq!(client.code("{ instance { tasks { totalCount } } }", json!({})).await, "FORBIDDEN");
            let runner = "query($id: ID!) { runner(id: $id) { currentTasks { name } } }";
            assert_eq!(client.code(runner, json!({"id": shared.id})).await, "FORBIDDEN");
            let runner = "query($id: ID!) { runner(id: $id) { tasks { totalCount } } }";
            assert_eq!(client.code(runner, json!({"id": shared.id})).await, "FORBIDDEN");
            let runner = "query($id: ID!) { runner(id: $id) { busy } }";
            assert_eq!(client.data(runner, json!({"id": shared.id})).await["runner"]["busy"], true);
            assert_refused(&client.cancel(&ours).await, "FORBIDDEN", "");
        }
        let reader = app.admin_with(&["READ_TASK"]).await;
        assert_eq!(reader.data(task, json!({"id": ours})).await["task"]["name"], "ours");
        assert!(reader.log(&ours).await.is_empty());
        let answer =
            reader.post("query($id: ID!) { task(id: $id) { name runner { name } } }", json!({"id": ours})).await;
        assert_eq!(answer.code(), "FORBIDDEN", "{}", answer.body);
        assert_eq!(answer.body["data"]["task"], json!({"name": "ours", "runner": null}));
        assert_refused(&reader.cancel(&ours).await, "FORBIDDEN", "");
        assert_refused(&reader.post(ENQUEUE, json!({"input": new_task(json!({}))})).await, "FORBIDDEN", "");
        let writer = app.admin_with(&["WRITE_TASK"]).await;
        assert_eq!(writer.data(task, json!({"id": ours})).await["task"]["name"], "ours");
        assert_eq!(writer.cancel(&ours).await.task_status(), "CANCELLING");
        writer.enqueue(json!({})).await;
    }

    async fn summaries_count_the_tasks_that_one_sees(database) {
        let World { app, olga, max, gina, shared, ours, .. } = World::new(TestApp::start(database).await).await;
        app.repository(&olga, "acme", "web").await;
        olga.enqueue(json!({"repository": "acme/web"})).await;
        let ended = olga.enqueue(json!({})).await;
        assert_eq!(olga.cancel(&ended).await.task_status(), "CANCELLED");
        assert_eq!(shared.take().await, ours);
        let counts = |queued: u32, running: u32| json!({"fleet": {"queuedTasks": queued, "runningTasks": running}});
        let query = "{ instance { fleet { queuedTasks runningTasks } } \
                     organization(login: \"acme\") { fleet { queuedTasks runningTasks } } \
                     api: repository(owner: \"acme\", name: \"api\") { fleet { queuedTasks runningTasks } } \
                     web: repository(owner: \"acme\", name: \"web\") { fleet { queuedTasks runningTasks } } }";
        let of_acme = json!({"organization": counts(1, 1), "api": counts(0, 1), "web": counts(1, 0)});
        for (client, instance) in [(&app.admin(), counts(2, 1)), (&olga, counts(1, 1)), (&max, counts(1, 1))] {
            let mut expected = of_acme.clone();
            expected["instance"] = instance;
            assert_eq!(client.data(query, json!({})).await, expected);
        }
        let answer = gina.data("{ instance { fleet { queuedTasks runningTasks } } }", json!({})).await;
        assert_eq!(answer["instance"], counts(1, 0));
        shared.finish(&ours, "SUCCEEDED").await;
        let answer = max.data(query, json!({})).await;
        assert_eq!((&answer["organization"], &answer["api"]), (&counts(1, 0), &counts(0, 0)));
    }

    async fn a_summary_that_is_watched_tells_of_tasks(database) {
        let world = World::new(TestApp::start_with(database, &CALM).await).await;
        let query = "subscription($scope: ScopeInput) { fleetSummary(scope: $scope) { queuedTasks runningTasks } }";
        let mut socket = world.app.socket(&world.max).await;
        world.app.listen(&mut socket, "s", EventKind::Task, query, json!({"scope": {"owner": "acme"}})).await;
        let summary =
            |queued: u32, running: u32| json!({"fleetSummary": {"queuedTasks": queued, "runningTasks": running}});
        assert_eq!(socket.next_data("s").await, summary(1, 0));
        world.app.advance(Duration::from_secs(2));
        world.olga.enqueue(json!({})).await;
        assert_eq!(socket.next_data("s").await, summary(2, 0));
        world.app.advance(Duration::from_secs(2));
        assert_eq!(world.olga.cancel(&world.ours).await.task_status(), "CANCELLED");
        assert_eq!(socket.next_data("s").await, summary(1, 0));
        // Other people's tasks change nothing.
        world.app.advance(Duration::from_secs(2));
        assert_eq!(world.gina.cancel(&world.theirs).await.task_status(), "CANCELLED");
        assert!(socket.is_quiet_for(A_WHILE).await);
    }
}
