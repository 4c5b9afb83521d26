//! Acme and its surroundings: everybody who tries something, and what they try it on.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::support::{Client, Database, Shown, TestApp, TestRunner};

/// Whoever tries something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// Shows no credentials.
    Nobody,
    /// A user who has nothing to do with acme.
    Stranger,
    /// A member of acme: the user `max`.
    Member,
    /// An owner of acme: the user `olivia`.
    Owner,
    /// An administrator of the instance.
    Admin,
    /// The administrator, with a token that has the scope `READ_RUNNER` alone.
    Reader,
    /// A runner of acme: the one that the cell is about.
    Runner,
    /// A runner of the organization `other`.
    OtherRunner,
    /// An owner of the organization `other`: the user `oscar`.
    OtherOwner,
    /// A runner of the instance.
    InstanceRunner,
}

impl Who {
    /// The columns of the table, from left to right.
    pub(super) const COLUMNS: [Self; 8] = [
        Self::Nobody,
        Self::Stranger,
        Self::Member,
        Self::Owner,
        Self::Admin,
        Self::Reader,
        Self::Runner,
        Self::OtherRunner,
    ];

    /// Whether nothing of acme exists for it.
    pub(super) const fn is_outside(self) -> bool {
        matches!(self, Self::Nobody | Self::Stranger | Self::OtherRunner | Self::OtherOwner | Self::InstanceRunner)
    }
}

/// A document with its variables.
pub(super) struct Operation {
    pub(super) document: String,
    pub(super) variables: Value,
}

impl Operation {
    pub(super) fn new(document: &str, variables: Value) -> Self {
        Self { document: document.to_owned(), variables }
    }

    /// A mutation as they all are: one input, whose type is called like the field.
    pub(super) fn mutation(field: &str, input: &Value, selection: &str) -> Self {
        let (first, rest) = field.split_at(1);
        let input_type = format!("{}{rest}Input", first.to_uppercase());
        Self {
            document: format!("mutation($input: {input_type}!) {{ {field}(input: $input) {{ {selection} }} }}"),
            variables: json!({"input": input}),
        }
    }

    /// Executes what must succeed.
    pub(super) async fn run(self, client: &Client) -> Value {
        client.data(&self.document, self.variables).await
    }
}

/// Starts a cleanup that finds nothing in the scope of an account; returns the job's id.
pub(super) async fn cleanup_of(owner: &Client, login: &str) -> String {
    let input = json!({"targets": ["EXPIRED_TOKENS"], "scope": {"owner": login}, "olderThanSeconds": 86400});
    let started = Operation::mutation("startCleanup", &input, "cleanupJob { id }").run(owner).await;
    started["startCleanup"]["cleanupJob"]["id"].as_str().unwrap().to_owned()
}

/// The name of every runner of acme, which nobody outside gets to see.
pub(super) const RUNNER: &str = "acme-runner";

pub(super) struct World {
    pub(super) app: TestApp,
    pub(super) owner: Client,
    /// What registers runners of acme.
    pub(super) acme_token: String,
    pub(super) organization_id: String,
    pub(super) repository_id: String,
    /// The id of the user `max`.
    pub(super) user_id: String,
    /// The id of a cleanup job of acme.
    pub(super) cleanup_id: String,
    stranger: Client,
    member: Client,
    reader: Client,
    other_owner: Client,
    other_token: String,
    instance_runner: TestRunner,
    named: AtomicU32,
}

impl World {
    pub(super) async fn start(database: Database) -> Self {
        let app = TestApp::start(database).await;
        let owner = app.user("olivia").await;
        let member = app.user("max").await;
        let other_owner = app.user("oscar").await;
        let stranger = app.user("stranger").await;
        // Whom the rows do something with, and who does nothing.
        app.user("guest").await;
        app.organization(&owner, "acme").await;
        app.add_member(&owner, "acme", "max", "MEMBER").await;
        app.repository(&owner, "acme", "api").await;
        app.organization(&other_owner, "other").await;
        app.repository(&other_owner, "other", "app").await;
        app.repository(&stranger, "stranger", "own").await;
        let acme_token = app.registration_token(&owner, json!({"scope": {"owner": "acme"}})).await;
        let other_token = app.registration_token(&other_owner, json!({"scope": {"owner": "other"}})).await;
        let reader = app.admin_with(&["READ_RUNNER"]).await;
        let instance_runner = app.register_runner("instance-runner").await;
        let ids = app
            .admin()
            .data(
                r#"{ organization(login: "acme") { id } repository(owner: "acme", name: "api") { id } user(login: "max") { id } }"#,
                json!({}),
            )
            .await;
        let id = |of: &str| ids[of]["id"].as_str().unwrap().to_owned();
        let cleanup_id = cleanup_of(&owner, "acme").await;
        Self {
            cleanup_id,
            organization_id: id("organization"),
            repository_id: id("repository"),
            user_id: id("user"),
            app,
            owner,
            acme_token,
            stranger,
            member,
            reader,
            other_owner,
            other_token,
            instance_runner,
            named: AtomicU32::new(0),
        }
    }

    /// A name that nothing has.
    pub(super) fn name(&self, of: &str) -> String {
        format!("{of}-{}", self.named.fetch_add(1, Ordering::Relaxed))
    }

    /// Makes a runner of acme.
    pub(super) async fn acme_runner(&self) -> TestRunner {
        self.app.register(&self.acme_token, json!({"name": RUNNER})).await
    }

    /// Makes an organization with the people of acme, and the guest.
    pub(super) async fn organization(&self) -> String {
        let login = self.name("org");
        self.app.organization(&self.owner, &login).await;
        for user in ["max", "guest"] {
            self.app.add_member(&self.owner, &login, user, "MEMBER").await;
        }
        login
    }

    /// Makes an organization like [`World::organization`], with a runner.
    pub(super) async fn organization_with_runner(&self) -> String {
        let login = self.organization().await;
        let token = self.app.registration_token(&self.owner, json!({"scope": {"owner": login}})).await;
        self.app.register(&token, json!({"name": "its-runner"})).await;
        login
    }

    /// Makes an access token that may do everything its user may; returns its id and the secret.
    pub(super) async fn access_token(&self, user: &str, expires_in_seconds: Option<u32>) -> (String, String) {
        let input = json!({"name": "test", "scopes": ["ADMIN"], "user": user, "expiresInSeconds": expires_in_seconds});
        let made = Operation::mutation("createAccessToken", &input, "accessToken { id } secret");
        let made = made.run(&self.app.admin()).await["createAccessToken"].take();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (text(&made["accessToken"]["id"]), text(&made["secret"]))
    }

    /// Makes a registration token of acme; returns its id.
    pub(super) async fn registration_token_id(&self) -> String {
        let input = json!({"scope": {"owner": "acme"}});
        let made = Operation::mutation("createRegistrationToken", &input, "registrationToken { id }");
        let made = made.run(&self.owner).await;
        made["createRegistrationToken"]["registrationToken"]["id"].as_str().unwrap().to_owned()
    }

    /// Enqueues a task that no runner can take but those with its one label; returns its id.
    pub(super) async fn task(&self, repository: &str, label: &str) -> String {
        let input = json!({"repository": repository, "name": "build", "labels": [label], "payload": {}});
        let made = Operation::mutation("enqueueTask", &input, "task { id }").run(&self.app.admin()).await;
        made["enqueueTask"]["task"]["id"].as_str().unwrap().to_owned()
    }

    /// Clients whose credentials are well formed and do not work: all but the last did, a moment ago.
    pub(super) async fn refused_clients(&self) -> Vec<(&'static str, Client)> {
        let (revoked_id, revoked) = self.access_token("admin", None).await;
        let (_, expired) = self.access_token("admin", Some(60)).await;
        let login = self.name("leaver");
        let leaver = self.app.user(&login).await;
        let removed = self.acme_runner().await;
        let session = removed.session().await;
        let bearer = |secret: String| self.app.client(Shown::Bearer(secret));
        let mut clients = vec![
            ("a revoked access token", bearer(revoked)),
            ("an expired access token", bearer(expired)),
            ("the access token of a deleted user", leaver),
            ("the token of a removed runner", removed.client.clone()),
            ("the session of a removed runner", session),
        ];
        for (what, client) in &clients {
            let answer = client.data("{ viewer { __typename } }", json!({})).await;
            assert!(answer["viewer"].is_object(), "{what}: {answer}");
        }

        let admin = self.app.admin();
        Operation::mutation("revokeAccessToken", &json!({"id": revoked_id}), "accessToken { id }").run(&admin).await;
        Operation::mutation("deleteUser", &json!({"login": login}), "deletedId").run(&admin).await;
        Operation::mutation("deleteRunner", &json!({"id": removed.id}), "deletedId").run(&admin).await;
        self.app.advance(Duration::from_mins(1));
        let (one, two) = (self.acme_runner().await, self.acme_runner().await);
        let posing = Shown::Runner { uuid: two.uuid, secret: one.secret };
        clients.push(("a runner's token with another's UUID", self.app.client(posing)));
        clients
    }

    /// Makes what one cell of the table needs.
    pub(super) async fn cell(&self, who: Who) -> Cell<'_> {
        let runner = self.acme_runner().await;
        let (client, acting) = match who {
            Who::Nobody => (self.app.anonymous(), None),
            Who::Stranger => (self.stranger.clone(), None),
            Who::Member => (self.member.clone(), None),
            Who::Owner => (self.owner.clone(), None),
            Who::Admin => (self.app.admin(), None),
            Who::Reader => (self.reader.clone(), None),
            Who::OtherOwner => (self.other_owner.clone(), None),
            Who::Runner => (runner.client.clone(), None),
            Who::OtherRunner => {
                let acting = self.app.register(&self.other_token, json!({"name": "other-runner"})).await;
                (acting.client.clone(), Some(acting))
            }
            Who::InstanceRunner => {
                let acting = self.app.register_runner("another-of-the-instance").await;
                (acting.client.clone(), Some(acting))
            }
        };
        Cell { world: self, client, runner, acting, watched: OnceCell::new() }
    }
}

/// One cell of the table: an actor, and a runner of acme that nobody else has to do with.
pub(super) struct Cell<'a> {
    pub(super) world: &'a World,
    pub(super) client: Client,
    /// The runner that the row is about; [`Who::Runner`] is this one itself.
    pub(super) runner: TestRunner,
    /// The runner that acts, where it is another.
    acting: Option<TestRunner>,
    /// The task whose events are watched.
    watched: OnceCell<String>,
}

impl Cell<'_> {
    /// Makes a task of acme that no runner can take; returns its id.
    pub(super) async fn waiting_task(&self) -> String {
        self.world.task("acme/api", &self.world.name("label")).await
    }

    /// Makes a task of acme that was cancelled; returns its id.
    pub(super) async fn ended_task(&self) -> String {
        let id = self.waiting_task().await;
        let admin = self.world.app.admin();
        Operation::mutation("cancelTask", &json!({"id": id}), "task { id }").run(&admin).await;
        id
    }

    /// Makes a task that the cell's runner has, with a line in its log; returns its id and its job token.
    pub(super) async fn running_task(&self) -> (String, String) {
        let (world, runner) = (self.world, &self.runner.client);
        let label = world.name("label");
        let input = json!({"id": self.runner.id, "labels": [label]});
        Operation::mutation("updateRunner", &input, "runner { id }").run(&world.app.admin()).await;
        let id = world.task("acme/api", &label).await;
        let fetched = Operation::mutation("fetchTask", &json!({}), "task { id } jobToken").run(runner).await;
        assert_eq!(fetched["fetchTask"]["task"]["id"], json!(id));
        let input = json!({"id": id, "startLine": 0, "lines": ["hello"]});
        Operation::mutation("appendTaskLog", &input, "acknowledgedLine").run(runner).await;
        (id, fetched["fetchTask"]["jobToken"].as_str().unwrap().to_owned())
    }

    /// The task whose events are watched.
    pub(super) async fn watched_task(&self) -> &str {
        self.watched.get_or_init(|| self.waiting_task()).await
    }

    /// Lets tasks change: the watched one, and one of everybody who sees tasks.
    async fn stir_tasks(&self) {
        let world = self.world;
        if let Some(id) = self.watched.get() {
            for mutation in ["cancelTask", "retryTask"] {
                Operation::mutation(mutation, &json!({"id": id}), "task { id }").run(&world.app.admin()).await;
            }
        }
        for repository in ["acme/api", "other/app", "stranger/own"] {
            world.task(repository, &world.name("label")).await;
        }
    }

    /// Lets something happen that a subscription tells: to the cell's runner first, then to one of the instance, and to the
    /// runner that acts.
    pub(super) async fn stir(&self, subscription: &str) {
        let world = self.world;
        match subscription {
            "taskEvents" => return self.stir_tasks().await,
            // What is there already is told.
            "taskLog" => return,
            "runnerDirectives" => {
                for runner in [Some(&self.runner), self.acting.as_ref()].into_iter().flatten() {
                    let input = json!({"id": runner.id, "disabled": true});
                    Operation::mutation("updateRunner", &input, "runner { id }").run(&world.app.admin()).await;
                }
                return;
            }
            _ => {}
        }
        if subscription == "runnerStatusChanged" {
            world.app.advance(Duration::from_mins(1));
        }
        let runners = [Some(&self.runner), Some(&world.instance_runner), self.acting.as_ref()];
        for runner in runners.into_iter().flatten() {
            if subscription == "runnerEvents" {
                let input = json!({"id": runner.id, "description": world.name("description")});
                Operation::mutation("updateRunner", &input, "runner { id }").run(&world.app.admin()).await;
            } else {
                runner.heartbeat().await;
            }
        }
    }

    /// Whether the cell's runner is as it was made.
    pub(super) async fn is_runner_untouched(&self) -> bool {
        let document = "mutation { heartbeat(input: {}) { runner { name disabled } } }";
        let answer = self.runner.client.post(document, json!({})).await;
        answer.body["data"]["heartbeat"]["runner"] == json!({"name": RUNNER, "disabled": false})
    }
}
