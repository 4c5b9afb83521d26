//! A server in this process: the same that `rollcall serve` builds, on a clock that the test moves and with seeded randomness.

use std::time::Duration;

use rollcall::app::App;
use rollcall::clock::{Clock, ManualClock, Timestamp};
use rollcall::config::{Layers, Section as _, ServerConfig};
use rollcall::fleet::Fleet;
use rollcall::rng::Rng;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Client, Database, EventStream, Shown, Socket, TestDatabase};

/// When every test begins: 2026-01-01T00:00:00Z.
pub const START: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);

pub struct TestApp {
    pub url: String,
    pub fleet: Fleet,
    pub database: TestDatabase,
    pub admin_token: String,
    pub registration_token: String,
    settings: Vec<(String, String)>,
    http: reqwest::Client,
    clock: Clock,
    hand: ManualClock,
    stop: CancellationToken,
    server: Option<JoinHandle<Result<(), String>>>,
}

/// A runner of the instance that has registered and not been heard from.
#[derive(Clone, Debug)]
pub struct TestRunner {
    pub id: String,
    pub uuid: String,
    pub secret: String,
    /// A client that shows UUID and token.
    pub client: Client,
}

impl TestRunner {
    pub async fn heartbeat(&self) -> Value {
        let answer = self
            .client
            .data(
                "mutation { heartbeat(input: {}) { serverTime nextHeartbeatInSeconds directives { __typename } } }",
                json!({}),
            )
            .await;
        answer["heartbeat"].clone()
    }

    /// Opens a session and returns a client that shows it.
    pub async fn session(&self) -> Client {
        let answer = self.client.data("mutation { openRunnerSession { token expiresAt } }", json!({})).await;
        let token = answer["openRunnerSession"]["token"].as_str().unwrap().to_owned();
        Client { shown: Shown::Bearer(token), ..self.client.clone() }
    }
}

impl TestApp {
    pub async fn start(database: Database) -> Self {
        Self::start_with(database, &[]).await
    }

    /// Starts a server with settings of its own, as flags have them: `("offline-after", "30s")`.
    pub async fn start_with(database: Database, settings: &[(&str, &str)]) -> Self {
        let database = TestDatabase::create(database).await;
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let (clock, hand) = Clock::manual(START);
        Self::build(database, settings, clock, hand, None).await
    }

    async fn build(
        database: TestDatabase,
        settings: Vec<(String, String)>,
        clock: Clock,
        hand: ManualClock,
        known: Option<(String, String)>,
    ) -> Self {
        let mut flags = vec![
            ("listen".to_owned(), "127.0.0.1:0".to_owned()),
            ("data-dir".to_owned(), database.folder.path().display().to_string()),
            ("database-url".to_owned(), database.url.clone()),
            ("database-pool-size".to_owned(), "4".to_owned()),
            // A cleanup that pauses waits for the clock, which stands still; and none begins unasked when it is moved.
            ("cleanup-pause".to_owned(), "0s".to_owned()),
            ("cleanup-schedule".to_owned(), String::new()),
        ];
        flags.extend(settings.iter().cloned());
        let config = ServerConfig::load(&Layers::from_flags(flags)).unwrap();
        let listener = TcpListener::bind(config.listen).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        // A second life of the same database must not make the first one's secrets again.
        let rng = Rng::seeded(if known.is_some() { 43 } else { 42 });
        let app = App::build(config, clock.clone(), rng, stop.clone()).await.unwrap();
        let fleet = app.fleet.clone();
        let first = fleet.first_start(|_| Ok(())).await.unwrap();
        let (admin_token, registration_token) = known.unwrap_or_else(|| {
            let first = first.unwrap();
            (first.admin_token.expose_secret().to_owned(), first.registration_token.expose_secret().to_owned())
        });
        let server = Some(tokio::spawn(app.run(listener, stop.clone())));
        let http = reqwest_client();
        Self { url, fleet, database, admin_token, registration_token, settings, http, clock, hand, stop, server }
    }

    /// Ends the server gracefully and starts another on the same database, folder and clock.
    pub async fn restart(mut self) -> Self {
        self.shut_down().await;
        let known = Some((self.admin_token.clone(), self.registration_token.clone()));
        let Self { database, settings, clock, hand, .. } = &mut self;
        let database =
            std::mem::replace(database, TestDatabase { url: String::new(), folder: tempfile::tempdir().unwrap() });
        Self::build(database, std::mem::take(settings), clock.clone(), hand.clone(), known).await
    }

    /// Ends the server gracefully.
    pub async fn shut_down(&mut self) {
        self.stop.cancel();
        if let Some(server) = self.server.take() {
            server.await.unwrap().unwrap();
        }
    }

    /// Tells the server to end, without waiting.
    pub fn begin_shutdown(&self) {
        self.stop.cancel();
    }

    /// Moves the clock, and lets the deadlines that passed take effect.
    pub fn advance(&self, duration: Duration) {
        self.hand.advance(duration);
        self.fleet.presence.expire();
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub fn client(&self, shown: Shown) -> Client {
        Client::new(&self.http, &self.url, shown)
    }

    pub fn anonymous(&self) -> Client {
        self.client(Shown::Nothing)
    }

    /// The first administrator, with a token that may do everything.
    pub fn admin(&self) -> Client {
        self.client(Shown::Bearer(self.admin_token.clone()))
    }

    /// The first administrator with a token of these scopes, such as `["READ_RUNNER"]`.
    pub async fn admin_with(&self, scopes: &[&str]) -> Client {
        self.client(Shown::Bearer(self.access_token("admin", scopes).await))
    }

    /// Makes an access token for a user and returns its secret.
    pub async fn access_token(&self, user: &str, scopes: &[&str]) -> String {
        let input = json!({"name": "test", "scopes": scopes, "user": user});
        let answer = self
            .admin()
            .data(
                "mutation($input: CreateAccessTokenInput!) { createAccessToken(input: $input) { secret } }",
                json!({"input": input}),
            )
            .await;
        answer["createAccessToken"]["secret"].as_str().unwrap().to_owned()
    }

    /// Makes a user and returns a client with a token that may do everything the user may.
    pub async fn user(&self, login: &str) -> Client {
        let input = json!({"login": login, "name": login});
        self.admin()
            .data(
                "mutation($input: CreateUserInput!) { createUser(input: $input) { user { id } } }",
                json!({"input": input}),
            )
            .await;
        self.client(Shown::Bearer(self.access_token(login, &["ADMIN"]).await))
    }

    /// Makes an organization with an owner (a client of [`TestApp::user`]).
    pub async fn organization(&self, owner: &Client, login: &str) {
        let input = json!({"login": login, "name": login});
        owner
            .data(
                "mutation($input: CreateOrganizationInput!) { createOrganization(input: $input) { organization { id } } }",
                json!({"input": input}),
            )
            .await;
    }

    /// Makes a user a member; `role` is `OWNER` or `MEMBER`.
    pub async fn add_member(&self, owner: &Client, organization: &str, user: &str, role: &str) {
        let input = json!({"organization": organization, "user": user, "role": role});
        owner
            .data(
                "mutation($input: AddOrganizationMemberInput!) { addOrganizationMember(input: $input) { organization { id } } }",
                json!({"input": input}),
            )
            .await;
    }

    pub async fn repository(&self, owner: &Client, account: &str, name: &str) {
        let input = json!({"owner": account, "name": name});
        owner
            .data(
                "mutation($input: CreateRepositoryInput!) { createRepository(input: $input) { repository { id } } }",
                json!({"input": input}),
            )
            .await;
    }

    /// Makes a registration token and returns its secret. `input` has the fields of the mutation, such as
    /// `{"scope": {"owner": "acme"}, "maxUses": 1}`.
    pub async fn registration_token(&self, client: &Client, input: Value) -> String {
        let answer = client
            .data(
                "mutation($input: CreateRegistrationTokenInput!) { createRegistrationToken(input: $input) { secret } }",
                json!({"input": input}),
            )
            .await;
        answer["createRegistrationToken"]["secret"].as_str().unwrap().to_owned()
    }

    /// Registers a runner of the instance.
    pub async fn register_runner(&self, name: &str) -> TestRunner {
        self.register(&self.registration_token, json!({"name": name})).await
    }

    /// Registers a runner. `input` has the fields of the mutation but the token.
    pub async fn register(&self, token: &str, mut input: Value) -> TestRunner {
        input["token"] = json!(token);
        let answer = self
            .anonymous()
            .data(
                "mutation($input: RegisterRunnerInput!) { registerRunner(input: $input) { runner { id uuid } secret } }",
                json!({"input": input}),
            )
            .await;
        let answer = &answer["registerRunner"];
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let (id, uuid, secret) =
            (text(&answer["runner"]["id"]), text(&answer["runner"]["uuid"]), text(&answer["secret"]));
        let client = self.client(Shown::Runner { uuid: uuid.clone(), secret: secret.clone() });
        TestRunner { id, uuid, secret, client }
    }

    /// Opens a WebSocket that has been acknowledged with the client's credentials.
    pub async fn socket(&self, client: &Client) -> Socket {
        let mut socket = Socket::open(&self.url).await;
        socket.init(&client.shown).await;
        socket
    }

    /// Opens a subscription over SSE.
    pub async fn events(&self, client: &Client, query: &str, variables: Value) -> EventStream {
        EventStream::open(client, query, variables).await
    }

    /// How many statements ran while `work` did.
    pub async fn statements<T>(&self, work: impl Future<Output = T>) -> (T, u64) {
        let before = self.fleet.store.statements();
        let result = work.await;
        (result, self.fleet.store.statements() - before)
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub fn reqwest_client() -> reqwest::Client {
    // The first caller installs it; the others find it there.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build().unwrap()
}
