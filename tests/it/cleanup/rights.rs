//! Who may clean up what, and who sees it. The table of permissions has the rest.

use serde_json::{Value, json};

use super::{CANCEL, HOUR, JOB, PROGRESS, START, STEP, STEP_BY_STEP, acme, add_tasks, ended, has_deleted, start};
use crate::support::{Client, Shown, Socket, TestApp, on_both};

async fn with_scopes(app: &TestApp, user: &str, scopes: &[&str]) -> Client {
    app.client(Shown::Bearer(app.access_token(user, scopes).await))
}

/// The code of the error that ends a stream.
async fn end_of(socket: &mut Socket, id: &str) -> String {
    let message = socket.next_of(id).await;
    let is_next = message["type"] == "next";
    let errors = if is_next { &message["payload"]["errors"] } else { &message["payload"] };
    let code = errors[0]["extensions"]["code"].as_str().unwrap_or_else(|| panic!("no error: {message}"));
    if is_next {
        assert_eq!(socket.next_of(id).await["type"], "complete");
    }
    code.to_owned()
}

on_both! {
    async fn a_token_has_to_cover_every_target(database) {
        let app = TestApp::start(database).await;
        acme(&app).await;
        let (runners, tasks) = (
            with_scopes(&app, "olivia", &["WRITE_RUNNER"]).await,
            with_scopes(&app, "olivia", &["WRITE_TASK"]).await,
        );
        let both = with_scopes(&app, "olivia", &["WRITE_RUNNER", "WRITE_TASK"]).await;
        let everything = with_scopes(&app, "olivia", &["ADMIN"]).await;
        for (client, targets, expected) in [
            (&runners, json!(["STALE_RUNNERS"]), ""),
            (&runners, json!(["EPHEMERAL_RUNNERS", "EXPIRED_TOKENS"]), ""),
            (&runners, json!(["FINISHED_TASKS"]), "FORBIDDEN"),
            (&runners, json!(["STALE_RUNNERS", "TASK_LOGS"]), "FORBIDDEN"),
            (&tasks, json!(["FINISHED_TASKS", "TASK_LOGS"]), ""),
            (&tasks, json!(["FINISHED_TASKS", "STALE_RUNNERS"]), "FORBIDDEN"),
            (&both, json!(["FINISHED_TASKS", "STALE_RUNNERS"]), ""),
            (&both, json!(["AUDIT_EVENTS"]), "FORBIDDEN"),
            (&everything, json!(["AUDIT_EVENTS", "FINISHED_TASKS"]), ""),
        ] {
            let input = json!({"targets": targets, "scope": {"owner": "acme"}, "olderThanSeconds": 3600});
            let answer = client.post(START, json!({"input": input})).await;
            assert_eq!(answer.code(), expected, "{targets}: {}", answer.body);
            if let Some(id) = answer.body["data"]["startCleanup"]["cleanupJob"]["id"].as_str() {
                ended(client, id).await;
            }
        }
        // Who may not start it may not stop it, and sees it.
        let input = json!({"targets": ["STALE_RUNNERS"], "scope": {"owner": "acme"}, "olderThanSeconds": 3600});
        let id = start(&runners, input).await;
        assert_eq!(tasks.code(CANCEL, json!({"id": id})).await, "FORBIDDEN");
        assert_eq!(ended(&tasks, &id).await["status"], "SUCCEEDED");
    }

    async fn jobs_are_seen_by_those_who_manage_what_they_clean_up(database) {
        let app = TestApp::start(database).await;
        let owner = acme(&app).await;
        let member = app.user("max").await;
        app.add_member(&owner, "acme", "max", "MEMBER").await;
        let admin = app.admin();
        let input = |scope: Value| json!({"targets": ["EXPIRED_TOKENS"], "scope": scope});
        let mut ids = Vec::new();
        for (client, scope) in [
            (&owner, json!({"owner": "acme"})),
            (&owner, json!({"repository": "acme/api"})),
            (&owner, json!({"owner": "olivia"})),
            (&member, json!({"owner": "max"})),
            (&admin, json!({"global": true})),
        ] {
            let id = start(client, input(scope)).await;
            ended(client, &id).await;
            ids.push(id);
        }
        let list = "{ cleanupJobs(first: 10) { totalCount nodes { id } } }";
        for (client, seen) in [
            (&owner, vec![&ids[2], &ids[1], &ids[0]]),
            (&member, vec![&ids[3]]),
            (&admin, vec![&ids[4], &ids[3], &ids[2], &ids[1], &ids[0]]),
        ] {
            let nodes: Vec<Value> = seen.iter().map(|id| json!({"id": id})).collect();
            let expected = json!({"cleanupJobs": {"totalCount": seen.len(), "nodes": nodes}});
            assert_eq!(client.data(list, json!({})).await, expected);
            for id in &ids {
                let found = client.data(JOB, json!({"id": id})).await;
                assert_eq!(found["cleanupJob"].is_null(), !seen.contains(&id), "{found}");
                let node = "query($id: ID!) { node(id: $id) { __typename id } }";
                let node = client.data(node, json!({"id": id})).await;
                assert_eq!(node["node"].is_null(), !seen.contains(&id), "{node}");
                if !seen.contains(&id) {
                    assert_eq!(client.code(CANCEL, json!({"id": id})).await, "NOT_FOUND");
                }
            }
        }
        // Page by page, and back.
        let page = "query($after: String, $before: String, $first: Int, $last: Int) { cleanupJobs(first: $first, \
                    after: $after, last: $last, before: $before) { nodes { id } \
                    pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } }";
        let first = admin.data(page, json!({"first": 2})).await["cleanupJobs"].clone();
        assert_eq!(first["nodes"], json!([{"id": ids[4]}, {"id": ids[3]}]));
        let next = json!({"first": 2, "after": first["pageInfo"]["endCursor"]});
        let second = admin.data(page, next).await["cleanupJobs"].clone();
        assert_eq!(second["nodes"], json!([{"id": ids[2]}, {"id": ids[1]}]));
        assert_eq!(second["pageInfo"]["hasNextPage"], true);
        let back = json!({"last": 2, "before": second["pageInfo"]["startCursor"]});
        assert_eq!(admin.data(page, back).await["cleanupJobs"]["nodes"], first["nodes"]);
    }

    async fn a_stream_ends_with_the_right_to_see_its_job(database) {
        let app = TestApp::start_with(database, &STEP_BY_STEP).await;
        let owner = acme(&app).await;
        let second = app.user("paul").await;
        app.add_member(&owner, "acme", "paul", "OWNER").await;
        add_tasks(&app.database, "acme/api", 1..601, app.now().as_micros() - 2 * HOUR, (0, 0)).await;
        let input = json!({"targets": ["FINISHED_TASKS"], "scope": {"owner": "acme"}, "olderThanSeconds": 3600});
        let id = start(&owner, input).await;
        has_deleted(&owner, &id, crate::cleanup::BATCH).await;
        let mut socket = app.socket(&second).await;
        socket.subscribe("p", PROGRESS, json!({"id": id})).await;
        assert_eq!(socket.next_data("p").await["cleanupProgress"]["status"], "RUNNING");
        let demote = json!({"organization": "acme", "user": "paul", "role": "MEMBER"});
        let document = "mutation($input: AddOrganizationMemberInput!) { addOrganizationMember(input: $input) { \
                        organization { id } } }";
        owner.data(document, json!({"input": demote})).await;
        assert_eq!(end_of(&mut socket, "p").await, "FORBIDDEN");
        // The job goes on.
        app.advance(STEP);
        has_deleted(&owner, &id, 2 * crate::cleanup::BATCH).await;
    }

    async fn a_job_goes_with_its_scope(database) {
        let app = TestApp::start_with(database, &STEP_BY_STEP).await;
        let owner = acme(&app).await;
        add_tasks(&app.database, "acme/api", 1..601, app.now().as_micros() - 2 * HOUR, (0, 0)).await;
        let input = json!({"targets": ["FINISHED_TASKS"], "scope": {"owner": "acme"}, "olderThanSeconds": 3600});
        let id = start(&owner, input).await;
        has_deleted(&owner, &id, crate::cleanup::BATCH).await;
        let mut socket = app.socket(&owner).await;
        socket.subscribe("p", PROGRESS, json!({"id": id})).await;
        socket.next_data("p").await;
        let document = r#"mutation { deleteOrganization(input: {login: "acme"}) { deletedId } }"#;
        owner.data(document, json!({})).await;
        assert_eq!(end_of(&mut socket, "p").await, "NOT_FOUND");
        // The worker is free for others.
        app.advance(STEP);
        let other = start(&owner, json!({"targets": ["EXPIRED_TOKENS"], "scope": {"owner": "olivia"}})).await;
        assert_eq!(ended(&owner, &other).await["status"], "SUCCEEDED");
    }
}
