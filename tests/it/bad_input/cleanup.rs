//! Cleanups of nothing, of what there is not, and of ages that nothing has.

use serde_json::{Value, json};

use super::{refused, still_answers, viewer_id};
use crate::support::{TestApp, on_both};

const START: &str = "mutation($input: StartCleanupInput!) { startCleanup(input: $input) { cleanupJob { id } } }";
const CANCEL: &str = "mutation($id: ID!) { cancelCleanup(input: {id: $id}) { cleanupJob { id } } }";
const JOB: &str = "query($id: ID!) { cleanupJob(id: $id) { id } }";

async fn job_count(app: &TestApp) -> Value {
    app.admin().data("{ cleanupJobs { totalCount } }", json!({})).await["cleanupJobs"]["totalCount"].clone()
}

on_both! {
    async fn cleanups_of_nothing_or_of_the_unknown_are_refused(database) {
        let app = TestApp::start(database).await;
        let admin = app.admin();
        for (what, input) in [
            ("no input", json!({})),
            ("an unknown target", json!({"targets": ["EVERYTHING"]})),
            ("a target in lower case", json!({"targets": ["finished_tasks"]})),
            ("a null among targets", json!({"targets": ["FINISHED_TASKS", null]})),
            ("null for targets", json!({"targets": null})),
            ("an unknown field", json!({"targets": ["FINISHED_TASKS"], "force": true})),
        ] {
            refused(&admin, what, START, json!({"input": input}), "GRAPHQL_VALIDATION_FAILED", "").await;
        }
        for (what, input, field) in [
            ("no targets", json!({"targets": []}), "targets"),
            ("a target twice", json!({"targets": ["TASK_LOGS", "TASK_LOGS"]}), "targets"),
            ("a target twice, far apart", json!({"targets": ["TASK_LOGS", "AUDIT_EVENTS", "TASK_LOGS"]}), "targets"),
            ("a negative age", json!({"targets": ["TASK_LOGS"], "olderThanSeconds": -1}), "olderThanSeconds"),
            ("the least age", json!({"targets": ["TASK_LOGS"], "olderThanSeconds": i64::MIN}), "olderThanSeconds"),
            ("101 years", json!({"targets": ["TASK_LOGS"], "olderThanSeconds": 3_185_136_000_i64}), "olderThanSeconds"),
            ("the greatest age", json!({"targets": ["TASK_LOGS"], "olderThanSeconds": i64::MAX}), "olderThanSeconds"),
            ("no age, and none is configured", json!({"targets": ["STALE_RUNNERS"]}), "olderThanSeconds"),
            (
                "no age, and none is configured for one of them",
                json!({"targets": ["TASK_LOGS", "STALE_RUNNERS"]}),
                "olderThanSeconds",
            ),
            ("global: false", json!({"targets": ["TASK_LOGS"], "scope": {"global": false}}), "scope"),
            ("no repository", json!({"targets": ["TASK_LOGS"], "scope": {"repository": "api"}}), "scope"),
        ] {
            refused(&admin, what, START, json!({"input": input}), "BAD_USER_INPUT", field).await;
        }
        assert_eq!(job_count(&app).await, 0);
        still_answers(&app).await;
    }

    async fn cleanups_of_what_one_may_not_manage_are_refused(database) {
        let app = TestApp::start(database).await;
        let owner = app.user("olivia").await;
        app.organization(&owner, "acme").await;
        let member = app.user("max").await;
        app.add_member(&owner, "acme", "max", "MEMBER").await;
        let stranger = app.user("stranger").await;
        let input = |scope: Value| json!({"input": {"targets": ["EXPIRED_TOKENS"], "scope": scope}});
        for (what, client, scope, code) in [
            ("of a scope that there is not", &owner, json!({"owner": "nobody"}), "NOT_FOUND"),
            ("of a scope that one does not see", &stranger, json!({"owner": "acme"}), "NOT_FOUND"),
            ("of a scope that one may only see", &member, json!({"owner": "acme"}), "FORBIDDEN"),
            ("of the instance", &owner, json!({"global": true}), "FORBIDDEN"),
            ("of the instance, by saying nothing", &owner, Value::Null, "FORBIDDEN"),
            ("by nobody", &app.anonymous(), json!({"owner": "acme"}), "UNAUTHENTICATED"),
        ] {
            refused(client, what, START, input(scope), code, "").await;
        }
        assert_eq!(job_count(&app).await, 0);
        still_answers(&app).await;
    }

    async fn jobs_that_there_are_not_are_not_found(database) {
        let app = TestApp::start(database).await;
        let admin = app.admin();
        let user = viewer_id(&app).await;
        for (what, id) in [("a user", user.as_str()), ("nonsense", "nonsense"), ("half an id", "cleanup_0")] {
            for document in [CANCEL, JOB] {
                refused(&admin, what, document, json!({"id": id}), "BAD_USER_INPUT", "id").await;
            }
        }
        let id = user.replacen("user_", "cleanup_", 1);
        refused(&admin, "an unknown job", CANCEL, json!({"id": id}), "NOT_FOUND", "").await;
        assert_eq!(admin.data(JOB, json!({"id": id})).await, json!({"cleanupJob": null}));
        let mut socket = app.socket(&admin).await;
        let watch = "subscription($id: ID!) { cleanupProgress(jobId: $id) { status } }";
        for (id, code) in [(id.as_str(), "NOT_FOUND"), (user.as_str(), "BAD_USER_INPUT")] {
            socket.subscribe(id, watch, json!({"id": id})).await;
            let message = socket.next_of(id).await;
            assert!(message.to_string().contains(code), "{message}");
        }
        for document in ["{ cleanupJobs(first: 101) { totalCount } }", "{ cleanupJobs(first: -1) { totalCount } }"] {
            refused(&admin, document, document, json!({}), "BAD_USER_INPUT", "first").await;
        }
        still_answers(&app).await;
    }
}
