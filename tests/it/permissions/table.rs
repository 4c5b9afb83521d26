//! Who may do what: a row for each field of the schema (several where it matters of what), a column for each actor; and the
//! document that a row is tried with.

use serde_json::{Value, json};

use super::world::{Cell, Operation, Who, cleanup_of};

/// It is done, or shown.
pub(super) const OK: &str = "ok";
/// Null, without an error: for this actor there is no such thing.
pub(super) const NULL: &str = "null";
/// The request shows no credentials.
const ANON: &str = "UNAUTHENTICATED";
/// The actor may see it and not do it, or its kind never does it, or its token lacks the scope.
const DENY: &str = "FORBIDDEN";
/// For this actor there is no such thing.
const HIDE: &str = "NOT_FOUND";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Query,
    Mutation,
    Subscription,
}

pub(super) struct Row {
    pub(super) kind: Kind,
    pub(super) field: &'static str,
    /// Of what, where a field has several rows.
    pub(super) of: &'static str,
    cells: [&'static str; Who::COLUMNS.len()],
}

const fn query(field: &'static str, of: &'static str, cells: [&'static str; 8]) -> Row {
    Row { kind: Kind::Query, field, of, cells }
}

const fn mutation(field: &'static str, of: &'static str, cells: [&'static str; 8]) -> Row {
    Row { kind: Kind::Mutation, field, of, cells }
}

const fn subscription(field: &'static str, of: &'static str, cells: [&'static str; 8]) -> Row {
    Row { kind: Kind::Subscription, field, of, cells }
}

#[rustfmt::skip]
pub(super) static TABLE: &[Row] = &[
    //                                                          nobody user   member owner  admin  reader runner other runner
    query("viewer", "",                                        [NULL,  OK,    OK,    OK,    OK,    OK,    OK,    OK]),
    query("instance", "",                                      [ANON,  OK,    OK,    OK,    OK,    OK,    OK,    OK]),
    query("user", "",                                          [ANON,  NULL,  OK,    OK,    OK,    OK,    NULL,  NULL]),
    query("organization", "",                                  [ANON,  NULL,  OK,    OK,    OK,    OK,    OK,    NULL]),
    query("repository", "",                                    [ANON,  NULL,  OK,    OK,    OK,    OK,    NULL,  NULL]),
    query("node", "a user",                                    [ANON,  NULL,  OK,    OK,    OK,    OK,    NULL,  NULL]),
    query("node", "an organization",                           [ANON,  NULL,  OK,    OK,    OK,    OK,    OK,    NULL]),
    query("node", "a repository",                              [ANON,  NULL,  OK,    OK,    OK,    OK,    NULL,  NULL]),
    query("node", "a runner",                                  [ANON,  NULL,  OK,    OK,    OK,    OK,    OK,    NULL]),
    query("node", "its neighbour",                             [ANON,  NULL,  OK,    OK,    OK,    OK,    NULL,  NULL]),
    query("node", "a registration token",                      [ANON,  NULL,  NULL,  OK,    OK,    OK,    NULL,  NULL]),
    query("node", "an access token",                           [ANON,  NULL,  OK,    NULL,  OK,    DENY,  NULL,  NULL]),
    query("node", "a cleanup job",                             [ANON,  NULL,  NULL,  OK,    OK,    OK,    DENY,  DENY]),
    query("nodes", "",                                         [ANON,  NULL,  OK,    OK,    OK,    OK,    OK,    NULL]),
    query("runner", "by id",                                   [ANON,  NULL,  OK,    OK,    OK,    OK,    OK,    NULL]),
    query("runner", "by UUID",                                 [ANON,  NULL,  OK,    OK,    OK,    OK,    OK,    NULL]),
    query("runners", "of acme",                                [ANON,  HIDE,  OK,    OK,    OK,    OK,    OK,    HIDE]),
    query("runners", "of all",                                 [ANON,  OK,    OK,    OK,    OK,    OK,    OK,    OK]),
    query("cleanupJob", "",                                    [ANON,  NULL,  NULL,  OK,    OK,    OK,    DENY,  DENY]),
    query("cleanupJobs", "",                                   [ANON,  OK,    OK,    OK,    OK,    OK,    DENY,  DENY]),
    query("node", "a task",                                    [ANON,  NULL,  OK,    OK,    OK,    DENY,  NULL,  NULL]),
    query("task", "that waits",                                [ANON,  NULL,  OK,    OK,    OK,    DENY,  NULL,  NULL]),
    query("task", "that the runner has",                       [ANON,  NULL,  OK,    OK,    OK,    DENY,  OK,    NULL]),
    query("tasks", "of acme",                                  [ANON,  HIDE,  OK,    OK,    OK,    DENY,  OK,    HIDE]),
    query("tasks", "of all",                                   [ANON,  OK,    OK,    OK,    OK,    DENY,  OK,    OK]),
    query("placement", "",                                     [ANON,  HIDE,  OK,    OK,    OK,    OK,    DENY,  DENY]),
    query("verifyJobToken", "",                                [OK,    OK,    OK,    OK,    OK,    OK,    OK,    OK]),

    //                                                          nobody user   member owner  admin  reader runner other runner
    mutation("createUser", "",                                 [ANON,  DENY,  DENY,  DENY,  OK,    DENY,  DENY,  DENY]),
    mutation("deleteUser", "",                                 [ANON,  HIDE,  HIDE,  HIDE,  OK,    DENY,  DENY,  DENY]),
    mutation("createOrganization", "",                         [ANON,  OK,    OK,    OK,    OK,    DENY,  DENY,  DENY]),
    mutation("deleteOrganization", "",                         [ANON,  HIDE,  DENY,  OK,    OK,    DENY,  DENY,  DENY]),
    mutation("addOrganizationMember", "",                      [ANON,  HIDE,  DENY,  OK,    OK,    DENY,  DENY,  DENY]),
    mutation("removeOrganizationMember", "a fellow",           [ANON,  HIDE,  DENY,  OK,    OK,    DENY,  DENY,  DENY]),
    mutation("removeOrganizationMember", "the member itself",  [ANON,  HIDE,  OK,    OK,    OK,    DENY,  DENY,  DENY]),
    mutation("removeOrganizationMember", "nobody there is",    [ANON,  HIDE,  DENY,  HIDE,  HIDE,  DENY,  DENY,  DENY]),
    mutation("createRepository", "of acme",                    [ANON,  HIDE,  DENY,  OK,    OK,    DENY,  DENY,  DENY]),
    mutation("createRepository", "of the member",              [ANON,  HIDE,  OK,    HIDE,  OK,    DENY,  DENY,  DENY]),
    mutation("deleteRepository", "",                           [ANON,  HIDE,  DENY,  OK,    OK,    DENY,  DENY,  DENY]),

    mutation("createAccessToken", "for oneself",               [ANON,  OK,    OK,    OK,    OK,    DENY,  DENY,  DENY]),
    mutation("createAccessToken", "for another",               [ANON,  DENY,  DENY,  DENY,  OK,    DENY,  DENY,  DENY]),
    mutation("revokeAccessToken", "of the member",             [ANON,  HIDE,  OK,    HIDE,  OK,    DENY,  DENY,  DENY]),
    mutation("revokeAccessToken", "of another",                [ANON,  HIDE,  HIDE,  HIDE,  OK,    DENY,  DENY,  DENY]),
    mutation("createRegistrationToken", "of acme",             [ANON,  HIDE,  DENY,  OK,    OK,    DENY,  DENY,  DENY]),
    mutation("createRegistrationToken", "of acme/api",         [ANON,  HIDE,  DENY,  OK,    OK,    DENY,  DENY,  DENY]),
    mutation("createRegistrationToken", "of the member",       [ANON,  HIDE,  OK,    HIDE,  OK,    DENY,  DENY,  DENY]),
    mutation("createRegistrationToken", "of the instance",     [ANON,  DENY,  DENY,  DENY,  OK,    DENY,  DENY,  DENY]),
    mutation("revokeRegistrationToken", "",                    [ANON,  HIDE,  HIDE,  OK,    OK,    DENY,  DENY,  DENY]),
    mutation("resetRegistrationTokens", "",                    [ANON,  HIDE,  DENY,  OK,    OK,    DENY,  DENY,  DENY]),

    // What runners do. A registration token is all that registerRunner asks for.
    mutation("registerRunner", "",                             [OK,    OK,    OK,    OK,    OK,    OK,    OK,    OK]),
    mutation("openRunnerSession", "",                          [ANON,  DENY,  DENY,  DENY,  DENY,  DENY,  OK,    OK]),
    mutation("declareRunner", "",                              [ANON,  DENY,  DENY,  DENY,  DENY,  DENY,  OK,    OK]),
    mutation("heartbeat", "",                                  [ANON,  DENY,  DENY,  DENY,  DENY,  DENY,  OK,    OK]),
    mutation("deregisterRunner", "",                           [ANON,  DENY,  DENY,  DENY,  DENY,  DENY,  OK,    OK]),

    // What is done with runners.
    mutation("rotateRunnerToken", "of a runner",               [ANON,  HIDE,  DENY,  OK,    OK,    DENY,  OK,    DENY]),
    mutation("rotateRunnerToken", "of its neighbour",          [ANON,  HIDE,  DENY,  OK,    OK,    DENY,  DENY,  DENY]),
    mutation("updateRunner", "",                               [ANON,  HIDE,  DENY,  OK,    OK,    DENY,  DENY,  DENY]),
    mutation("deleteRunner", "",                               [ANON,  HIDE,  DENY,  OK,    OK,    DENY,  DENY,  DENY]),
    mutation("deleteRunners", "by ids",                        [ANON,  HIDE,  DENY,  OK,    OK,    DENY,  DENY,  DENY]),
    mutation("deleteRunners", "of an organization",            [ANON,  HIDE,  DENY,  OK,    OK,    DENY,  DENY,  DENY]),
    mutation("setRunnersDisabled", "by ids",                   [ANON,  HIDE,  DENY,  OK,    OK,    DENY,  DENY,  DENY]),
    mutation("setRunnersDisabled", "of an organization",       [ANON,  HIDE,  DENY,  OK,    OK,    DENY,  DENY,  DENY]),

    // What is done with tasks, and what runners do with them.
    mutation("enqueueTask", "",                                [ANON,  HIDE,  DENY,  OK,    OK,    DENY,  DENY,  DENY]),
    mutation("cancelTask", "",                                 [ANON,  HIDE,  DENY,  OK,    OK,    DENY,  DENY,  DENY]),
    mutation("retryTask", "",                                  [ANON,  HIDE,  DENY,  OK,    OK,    DENY,  DENY,  DENY]),
    mutation("fetchTask", "",                                  [ANON,  DENY,  DENY,  DENY,  DENY,  DENY,  OK,    OK]),
    mutation("updateTask", "",                                 [ANON,  DENY,  DENY,  DENY,  DENY,  DENY,  OK,    HIDE]),
    mutation("appendTaskLog", "",                              [ANON,  DENY,  DENY,  DENY,  DENY,  DENY,  OK,    HIDE]),
    mutation("releaseTask", "",                                [ANON,  DENY,  DENY,  DENY,  DENY,  DENY,  OK,    HIDE]),

    mutation("startCleanup", "of an organization",             [ANON,  HIDE,  DENY,  OK,    OK,    DENY,  DENY,  DENY]),
    mutation("startCleanup", "of the instance",                [ANON,  DENY,  DENY,  DENY,  OK,    DENY,  DENY,  DENY]),
    mutation("cancelCleanup", "",                              [ANON,  HIDE,  HIDE,  OK,    OK,    DENY,  DENY,  DENY]),

    //                                                          nobody user   member owner  admin  reader runner other runner
    subscription("heartbeats", "of acme",                      [ANON,  HIDE,  OK,    OK,    OK,    OK,    OK,    HIDE]),
    subscription("heartbeats", "of a runner",                  [ANON,  HIDE,  OK,    OK,    OK,    OK,    OK,    HIDE]),
    subscription("heartbeats", "of all",                       [ANON,  OK,    OK,    OK,    OK,    OK,    OK,    OK]),
    subscription("runnerStatusChanged", "of acme",             [ANON,  HIDE,  OK,    OK,    OK,    OK,    OK,    HIDE]),
    subscription("runnerStatusChanged", "of a runner",         [ANON,  HIDE,  OK,    OK,    OK,    OK,    OK,    HIDE]),
    subscription("runnerStatusChanged", "of all",              [ANON,  OK,    OK,    OK,    OK,    OK,    OK,    OK]),
    subscription("runnerEvents", "of acme",                    [ANON,  HIDE,  OK,    OK,    OK,    OK,    OK,    HIDE]),
    subscription("runnerEvents", "of all",                     [ANON,  OK,    OK,    OK,    OK,    OK,    OK,    OK]),
    subscription("fleetSummary", "of acme",                    [ANON,  HIDE,  OK,    OK,    OK,    OK,    DENY,  HIDE]),
    subscription("fleetSummary", "of all",                     [ANON,  OK,    OK,    OK,    OK,    OK,    DENY,  DENY]),
    subscription("cleanupProgress", "",                        [ANON,  HIDE,  HIDE,  OK,    OK,    OK,    DENY,  DENY]),
    subscription("taskEvents", "of acme",                      [ANON,  HIDE,  OK,    OK,    OK,    DENY,  DENY,  HIDE]),
    subscription("taskEvents", "of a task",                    [ANON,  HIDE,  OK,    OK,    OK,    DENY,  DENY,  DENY]),
    subscription("taskEvents", "of all",                       [ANON,  OK,    OK,    OK,    OK,    DENY,  DENY,  DENY]),
    subscription("taskLog", "",                                [ANON,  HIDE,  OK,    OK,    OK,    DENY,  DENY,  DENY]),
    subscription("runnerDirectives", "",                       [ANON,  DENY,  DENY,  DENY,  DENY,  DENY,  OK,    OK]),
];

impl Row {
    /// What has to come of it for an actor.
    pub(super) fn expected(&self, who: Who) -> &'static str {
        let column = match who {
            Who::Nobody => 0,
            Who::Stranger | Who::OtherOwner => 1,
            Who::Member => 2,
            Who::Owner => 3,
            Who::Admin => 4,
            Who::Reader => 5,
            Who::Runner => 6,
            Who::OtherRunner | Who::InstanceRunner => 7,
        };
        self.cells[column]
    }

    /// A valid request for a cell, on targets that it may destroy: only permission decides.
    pub(super) async fn operation(&self, cell: &Cell<'_>) -> Operation {
        let found = match self.kind {
            Kind::Query => self.query(cell).await,
            Kind::Subscription => self.subscription(cell).await,
            Kind::Mutation => match self.own_mutation(cell) {
                Some(operation) => Some(operation),
                None => self.mutation(cell).await,
            },
        };
        found.unwrap_or_else(|| panic!("the row {} {} has no document", self.field, self.of))
    }

    async fn query(&self, cell: &Cell<'_>) -> Option<Operation> {
        let (document, variables) = match (self.field, self.of) {
            ("viewer", _) => ("{ viewer { __typename } }", json!({})),
            ("instance", _) => ("{ instance { version } }", json!({})),
            ("user", _) => (r#"{ user(login: "max") { login } }"#, json!({})),
            ("organization", _) => (r#"{ organization(login: "acme") { login } }"#, json!({})),
            ("repository", _) => (r#"{ repository(owner: "acme", name: "api") { name } }"#, json!({})),
            ("node", of) => ("query($id: ID!) { node(id: $id) { id } }", json!({"id": node_id(cell, of).await?})),
            ("nodes", _) => {
                ("query($ids: [ID!]!) { nodes(ids: $ids) { id } }", json!({"ids": [cell.world.organization_id]}))
            }
            ("runner", "by id") => ("query($id: ID!) { runner(id: $id) { name } }", json!({"id": cell.runner.id})),
            ("runner", "by UUID") => {
                ("query($uuid: UUID!) { runner(uuid: $uuid) { name } }", json!({"uuid": cell.runner.uuid}))
            }
            ("runners", "of acme") => {
                (r#"{ runners(scope: { owner: "acme" }, last: 100) { nodes { name } } }"#, json!({}))
            }
            ("runners", "of all") => ("{ runners(last: 100) { nodes { name } } }", json!({})),
            ("cleanupJob", _) => {
                ("query($id: ID!) { cleanupJob(id: $id) { status } }", json!({"id": cell.world.cleanup_id}))
            }
            ("cleanupJobs", _) => ("{ cleanupJobs { nodes { status } } }", json!({})),
            ("task", of) => {
                let id = match of {
                    "that waits" => cell.waiting_task().await,
                    "that the runner has" => Box::pin(cell.running_task()).await.0,
                    _ => return None,
                };
                ("query($id: ID!) { task(id: $id) { name runnerName } }", json!({"id": id}))
            }
            ("tasks", "of acme") => (r#"{ tasks(scope: { owner: "acme" }, last: 100) { nodes { name } } }"#, json!({})),
            ("tasks", "of all") => ("{ tasks(last: 100) { nodes { name runnerName } } }", json!({})),
            ("placement", _) => (
                r#"{ placement(repository: "acme/api", labels: ["linux"]) { reason candidates { nodes { runner { name } } } } }"#,
                json!({}),
            ),
            ("verifyJobToken", _) => (
                "query($token: String!) { verifyJobToken(token: $token) { taskId } }",
                json!({"token": Box::pin(cell.running_task()).await.1}),
            ),
            _ => return None,
        };
        Some(Operation::new(document, variables))
    }

    /// The mutations of runners.
    fn own_mutation(&self, cell: &Cell<'_>) -> Option<Operation> {
        let (input, selection) = match self.field {
            "openRunnerSession" => {
                return Some(Operation::new("mutation { openRunnerSession { expiresAt } }", json!({})));
            }
            "deregisterRunner" => {
                return Some(Operation::new("mutation { deregisterRunner { deletedId } }", json!({})));
            }
            "registerRunner" => (json!({"token": cell.world.acme_token, "name": "newcomer"}), "runner { id }"),
            "declareRunner" => (json!({"version": "2.0.0"}), "runner { id }"),
            "heartbeat" => (json!({}), "serverTime"),
            "fetchTask" => (json!({}), "jobToken"),
            _ => return None,
        };
        Some(Operation::mutation(self.field, &input, selection))
    }

    /// The mutations of people.
    async fn mutation(&self, cell: &Cell<'_>) -> Option<Operation> {
        let found = match self.account_input(cell).await {
            Some(found) => Some(found),
            None => match self.token_input(cell).await {
                Some(found) => Some(found),
                None => match self.runner_input(cell).await {
                    Some(found) => Some(found),
                    None => match self.task_input(cell).await {
                        Some(found) => Some(found),
                        None => self.cleanup_input(cell).await,
                    },
                },
            },
        };
        found.map(|(input, selection)| Operation::mutation(self.field, &input, selection))
    }

    async fn account_input(&self, cell: &Cell<'_>) -> Option<(Value, &'static str)> {
        let world = cell.world;
        Some(match (self.field, self.of) {
            ("createUser", _) => (json!({"login": world.name("user"), "name": "Somebody"}), "user { id }"),
            ("deleteUser", _) => {
                let login = world.name("user");
                world.app.user(&login).await;
                (json!({"login": login}), "deletedId")
            }
            ("createOrganization", _) => (json!({"login": world.name("org"), "name": "Some"}), "organization { id }"),
            ("deleteOrganization", _) => (json!({"login": world.organization().await}), "deletedId"),
            ("addOrganizationMember", _) => {
                (json!({"organization": "acme", "user": "guest", "role": "MEMBER"}), "organization { id }")
            }
            ("removeOrganizationMember", of) => {
                let user = match of {
                    "a fellow" => "guest",
                    "the member itself" => "max",
                    "nobody there is" => "nobody-has-this-login",
                    _ => return None,
                };
                (json!({"organization": world.organization().await, "user": user}), "organization { id }")
            }
            ("createRepository", "of acme") => {
                (json!({"owner": "acme", "name": world.name("repository")}), "repository { id }")
            }
            ("createRepository", "of the member") => {
                (json!({"owner": "max", "name": world.name("repository")}), "repository { id }")
            }
            ("deleteRepository", _) => {
                let name = world.name("repository");
                world.app.repository(&world.owner, "acme", &name).await;
                (json!({"owner": "acme", "name": name}), "deletedId")
            }
            _ => return None,
        })
    }

    async fn token_input(&self, cell: &Cell<'_>) -> Option<(Value, &'static str)> {
        let world = cell.world;
        Some(match (self.field, self.of) {
            ("createAccessToken", "for oneself") => {
                (json!({"name": "mine", "scopes": ["READ_RUNNER"]}), "accessToken { id }")
            }
            ("createAccessToken", "for another") => {
                (json!({"name": "yours", "scopes": ["READ_RUNNER"], "user": "guest"}), "accessToken { id }")
            }
            ("revokeAccessToken", of) => {
                let user = match of {
                    "of the member" => "max",
                    "of another" => "guest",
                    _ => return None,
                };
                let (id, _) = world.access_token(user, None).await;
                (json!({"id": id}), "accessToken { id }")
            }
            ("createRegistrationToken", of) => {
                let scope = match of {
                    "of acme" => json!({"owner": "acme"}),
                    "of acme/api" => json!({"repository": "acme/api"}),
                    "of the member" => json!({"owner": "max"}),
                    "of the instance" => json!({"global": true}),
                    _ => return None,
                };
                (json!({"scope": scope}), "registrationToken { id }")
            }
            ("revokeRegistrationToken", _) => {
                (json!({"id": world.registration_token_id().await}), "registrationToken { id }")
            }
            ("resetRegistrationTokens", _) => {
                (json!({"scope": {"owner": world.organization().await}}), "registrationToken { id }")
            }
            _ => return None,
        })
    }

    async fn runner_input(&self, cell: &Cell<'_>) -> Option<(Value, &'static str)> {
        let (world, runner) = (cell.world, &cell.runner);
        Some(match (self.field, self.of) {
            ("rotateRunnerToken", "of a runner") => (json!({"id": runner.id}), "runner { id }"),
            ("rotateRunnerToken", "of its neighbour") => (json!({"id": world.acme_runner().await.id}), "runner { id }"),
            ("updateRunner", _) => (json!({"id": runner.id, "name": "renamed"}), "runner { id }"),
            ("deleteRunner", _) => (json!({"id": runner.id}), "deletedId"),
            ("deleteRunners", "by ids") => (json!({"ids": [runner.id]}), "matchedCount refused { code }"),
            ("deleteRunners", "of an organization") => {
                let scope = json!({"owner": world.organization_with_runner().await});
                (json!({"scope": scope}), "matchedCount refused { code }")
            }
            ("setRunnersDisabled", "by ids") => {
                (json!({"ids": [runner.id], "disabled": true}), "matchedCount refused { code }")
            }
            ("setRunnersDisabled", "of an organization") => {
                let scope = json!({"owner": world.organization_with_runner().await});
                (json!({"scope": scope, "disabled": true}), "matchedCount refused { code }")
            }
            _ => return None,
        })
    }

    async fn task_input(&self, cell: &Cell<'_>) -> Option<(Value, &'static str)> {
        Some(match self.field {
            "enqueueTask" => {
                let label = cell.world.name("label");
                (json!({"repository": "acme/api", "name": "build", "labels": [label], "payload": {}}), "task { id }")
            }
            "cancelTask" => (json!({"id": cell.waiting_task().await}), "task { id }"),
            "retryTask" => (json!({"id": cell.ended_task().await}), "task { id }"),
            "updateTask" => {
                let (id, _) = Box::pin(cell.running_task()).await;
                (json!({"id": id, "status": "SUCCEEDED"}), "task { id }")
            }
            "appendTaskLog" => {
                let (id, _) = Box::pin(cell.running_task()).await;
                (json!({"id": id, "startLine": 1, "lines": ["more"]}), "acknowledgedLine")
            }
            "releaseTask" => (json!({"id": Box::pin(cell.running_task()).await.0}), "task { id }"),
            _ => return None,
        })
    }

    async fn cleanup_input(&self, cell: &Cell<'_>) -> Option<(Value, &'static str)> {
        let world = cell.world;
        let input = |scope: Value| json!({"targets": ["EXPIRED_TOKENS"], "scope": scope, "olderThanSeconds": 86400});
        Some(match (self.field, self.of) {
            ("startCleanup", "of an organization") => {
                (input(json!({"owner": world.organization().await})), "cleanupJob { id }")
            }
            ("startCleanup", "of the instance") => (input(Value::Null), "cleanupJob { id }"),
            ("cancelCleanup", _) => {
                let login = world.organization().await;
                (json!({"id": cleanup_of(&world.owner, &login).await}), "cleanupJob { id }")
            }
            _ => return None,
        })
    }

    async fn subscription(&self, cell: &Cell<'_>) -> Option<Operation> {
        let document = match self.field {
            "heartbeats" => {
                "subscription($scope: ScopeInput, $ids: [ID!]) \
                 { heartbeats(scope: $scope, runnerIds: $ids) { runner { name } } }"
            }
            "runnerStatusChanged" => {
                "subscription($scope: ScopeInput, $ids: [ID!]) \
                 { runnerStatusChanged(scope: $scope, runnerIds: $ids) { runner { name } } }"
            }
            "runnerEvents" => {
                "subscription($scope: ScopeInput) \
                 { runnerEvents(scope: $scope) { __typename ... on RunnerUpdated { runner { name } } } }"
            }
            "fleetSummary" => "subscription($scope: ScopeInput) { fleetSummary(scope: $scope) { total } }",
            "cleanupProgress" => {
                let document = "subscription($id: ID!) { cleanupProgress(jobId: $id) { status } }";
                return Some(Operation::new(document, json!({"id": cell.world.cleanup_id})));
            }
            "taskEvents" => {
                "subscription($scope: ScopeInput, $task: ID) \
                 { taskEvents(scope: $scope, taskId: $task) { current task { name runnerName } } }"
            }
            "taskLog" => "subscription($task: ID!) { taskLog(taskId: $task) { firstLine } }",
            "runnerDirectives" => "subscription { runnerDirectives { __typename } }",
            _ => return None,
        };
        let variables = match self.of {
            _ if self.field == "taskLog" => json!({"task": Box::pin(cell.running_task()).await.0}),
            _ if self.field == "runnerDirectives" => json!({}),
            "of a task" => json!({"task": cell.watched_task().await}),
            "of acme" => json!({"scope": {"owner": "acme"}}),
            "of a runner" => json!({"ids": [cell.runner.id]}),
            "of all" => json!({}),
            _ => return None,
        };
        Some(Operation::new(document, variables))
    }
}

async fn node_id(cell: &Cell<'_>, of: &str) -> Option<String> {
    let world = cell.world;
    Some(match of {
        "a user" => world.user_id.clone(),
        "an organization" => world.organization_id.clone(),
        "a repository" => world.repository_id.clone(),
        "a runner" => cell.runner.id.clone(),
        "its neighbour" => world.acme_runner().await.id,
        "a registration token" => world.registration_token_id().await,
        "a cleanup job" => world.cleanup_id.clone(),
        "an access token" => world.access_token("max", None).await.0,
        "a task" => cell.waiting_task().await,
        _ => return None,
    })
}
