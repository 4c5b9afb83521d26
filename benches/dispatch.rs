//! How long it takes from a task that is enqueued to the runner that has it, over HTTP, and what a backlog and a cleanup do to it:
//! `cargo bench --bench dispatch`. The figures are in `docs/performance.md`.
#![expect(clippy::print_stdout, reason = "printing is what it is for")]

use std::sync::Arc;
use std::time::Duration;

use diesel::{Connection as _, RunQueryDsl as _, SqliteConnection};
use hdrhistogram::Histogram;
use rollcall::app::App;
use rollcall::clock::{Clock, Stopwatch};
use rollcall::config::{Layers, Section as _, ServerConfig};
use rollcall::fleet::Fleet;
use rollcall::rng::Rng;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Tasks of one measurement.
const ROUNDS: usize = 300;
/// Tasks in the way, or to be deleted.
const MANY: u32 = 100_000;

struct Server {
    fleet: Fleet,
    url: String,
    admin: String,
    registration_token: String,
    folder: TempDir,
    http: reqwest::Client,
}

impl Server {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let flags = [
            ("data-dir".to_owned(), folder.path().display().to_string()),
            ("listen".to_owned(), "127.0.0.1:0".to_owned()),
        ];
        let config = ServerConfig::load(&Layers::from_flags(flags)).expect("the configuration is valid");
        let listener = TcpListener::bind(config.listen).await.expect("a port");
        let url = format!("http://{}/graphql", listener.local_addr().expect("an address"));
        let stop = CancellationToken::new();
        let app = App::build(config, Clock::system(), Rng::from_system(), stop.clone()).await.expect("a server");
        let fleet = app.fleet.clone();
        let first = fleet.first_start(|_| Ok(())).await.expect("the first start").expect("it is the first");
        tokio::spawn(app.run(listener, stop));
        Self {
            fleet,
            url,
            admin: first.admin_token.expose_secret().to_owned(),
            registration_token: first.registration_token.expose_secret().to_owned(),
            folder,
            http: reqwest::Client::builder().tls_backend_preconfigured(no_tls()).build().expect("a client"),
        }
    }

    async fn call(&self, bearer: &str, query: &str, variables: Value) -> Value {
        let request = self.http.post(&self.url).json(&json!({ "query": query, "variables": variables }));
        let request = if bearer.is_empty() { request } else { request.bearer_auth(bearer) };
        let answer: Value = request.send().await.expect("an answer").json().await.expect("JSON");
        assert!(answer.get("errors").is_none(), "{answer}");
        answer["data"].clone()
    }

    /// A session of a new runner.
    async fn runner(&self, name: &str) -> String {
        let input = json!({ "input": { "token": self.registration_token, "name": name, "labels": ["linux"] } });
        let query =
            "mutation($input: RegisterRunnerInput!) { registerRunner(input: $input) { runner { uuid } secret } }";
        let registered = self.call("", query, input).await["registerRunner"].clone();
        let opened = self
            .http
            .post(&self.url)
            .header("X-Runner-UUID", registered["runner"]["uuid"].as_str().expect("a UUID"))
            .header("X-Runner-Token", registered["secret"].as_str().expect("a secret"))
            .json(&json!({ "query": "mutation { openRunnerSession { token } }" }));
        let opened: Value = opened.send().await.expect("an answer").json().await.expect("JSON");
        opened["data"]["openRunnerSession"]["token"].as_str().expect("a session").to_owned()
    }

    async fn enqueue(&self) {
        let query = "mutation { enqueueTask(input: { repository: \"acme/api\", name: \"build\", labels: [\"linux\"], \
                     payload: { run: \"true\" } }) { task { id } } }";
        self.call(&self.admin, query, json!({})).await;
    }

    /// Fetches a task, ends it, and says when it came.
    async fn fetch(&self, session: &str, watch: Stopwatch) -> Option<Duration> {
        let query = "mutation { fetchTask(input: { waitSeconds: 30 }) { task { id payload } jobToken } }";
        let fetched = self.call(session, query, json!({})).await["fetchTask"]["task"].clone();
        let at = watch.elapsed();
        let id = fetched.get("id")?;
        let query = "mutation($id: ID!) { updateTask(input: { id: $id, status: SUCCEEDED }) { task { id } } }";
        self.call(session, query, json!({ "id": id })).await;
        Some(at)
    }

    fn database(&self) -> SqliteConnection {
        let path = self.folder.path().join("rollcall.sqlite3").display().to_string();
        let mut database = SqliteConnection::establish(&path).expect("the database");
        diesel::sql_query("PRAGMA busy_timeout = 10000").execute(&mut database).expect("a pragma");
        database
    }

    /// Puts tasks into the database, far faster than they could be enqueued.
    fn fill(&self, status: &str, first_id: u32, with_logs: bool) {
        let mut database = self.database();
        let finished = if status == "QUEUED" { "NULL" } else { "1" };
        diesel::sql_query("INSERT OR IGNORE INTO label_nodes (id, parent_id, label) VALUES (7, 0, 'windows')")
            .execute(&mut database)
            .expect("a set of labels");
        diesel::sql_query(format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {MANY}) \
             INSERT INTO tasks (id, repository_id, owner_id, name, name_key, labels, label_node, priority, status, attempt, \
             max_attempts, timeout_seconds, reports_until, log_base, log_lines, log_bytes, log_truncated, log_final, \
             created_at, queued_at, finished_at, updated_at) \
             SELECT i + {first_id}, s.id, s.parent_id, 'old', 'old', 'windows', 7, 0, '{status}', 0, 1, 60, 0, 0, 0, 0, 0, 0, \
             1, 1, {finished}, 1 FROM n, scopes s WHERE s.path = 'acme/api'"
        ))
        .execute(&mut database)
        .expect("tasks");
        let payloads = format!(
            "INSERT INTO task_payloads SELECT id, '{{}}' FROM tasks WHERE id > {first_id} AND id <= {first_id} + {MANY}"
        );
        diesel::sql_query(payloads).execute(&mut database).expect("payloads");
        if with_logs {
            let logs = format!(
                "INSERT INTO task_log_chunks SELECT id, 0, 1, 1, 'a line' FROM tasks WHERE id > {first_id} AND id <= {first_id} + {MANY}"
            );
            diesel::sql_query(logs).execute(&mut database).expect("logs");
        }
    }

    /// Enqueues one task after the other while all these runners wait: how long from the call, and from its answer, to the answer
    /// of the runner that gets it.
    async fn measure(self: &Arc<Self>, what: &str, sessions: &[String]) {
        let watch = Stopwatch::start();
        let (came, mut coming) = mpsc::unbounded_channel();
        let runners: Vec<_> = sessions
            .iter()
            .map(|session| {
                let (server, session, came) = (self.clone(), session.clone(), came.clone());
                tokio::spawn(async move {
                    loop {
                        if let Some(at) = server.fetch(&session, watch).await {
                            let _ = came.send(at);
                        }
                    }
                })
            })
            .collect();
        let (mut from_call, mut from_answer) = (new_histogram(), new_histogram());
        for _ in 0..ROUNDS {
            while self.fleet.dispatch.waiting().0 < sessions.len() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let called = watch.elapsed();
            self.enqueue().await;
            let answered = watch.elapsed();
            let fetched = coming.recv().await.expect("a task");
            record(&mut from_call, fetched.saturating_sub(called));
            record(&mut from_answer, fetched.saturating_sub(answered));
        }
        for runner in runners {
            runner.abort();
        }
        show(&format!("{what}, from enqueueTask's answer"), &from_answer);
        show(&format!("{what}, from enqueueTask's call"), &from_call);
    }

    /// How long heartbeats take, one after the other.
    async fn heartbeats(&self, session: &str) -> Histogram<u64> {
        let mut times = new_histogram();
        for _ in 0..ROUNDS * 3 {
            let watch = Stopwatch::start();
            self.call(session, "mutation { heartbeat(input: {}) { nextHeartbeatInSeconds } }", json!({})).await;
            record(&mut times, watch.elapsed());
        }
        times
    }
}

fn no_tls() -> rustls::ClientConfig {
    rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("protocol versions")
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth()
}

fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).expect("a histogram")
}

fn record(times: &mut Histogram<u64>, time: Duration) {
    times.saturating_record(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
}

#[expect(clippy::cast_precision_loss, reason = "microseconds, for people")]
fn show(what: &str, times: &Histogram<u64>) {
    let at = |percent: f64| times.value_at_percentile(percent) as f64 / 1_000.0;
    println!(
        "{what:<66} p50 {:>7.2} ms   p90 {:>7.2} ms   p99 {:>7.2} ms   max {:>7.2} ms",
        at(50.0),
        at(90.0),
        at(99.0),
        at(100.0)
    );
}

#[tokio::main]
async fn main() {
    let server = Arc::new(Server::start().await);
    server
        .call(
            &server.admin,
            "mutation { createOrganization(input: { login: \"acme\", name: \"A\" }) { organization { id } } }",
            json!({}),
        )
        .await;
    server
        .call(
            &server.admin,
            "mutation { createRepository(input: { owner: \"acme\", name: \"api\" }) { repository { id } } }",
            json!({}),
        )
        .await;
    let mut sessions = Vec::new();
    for number in 0..100 {
        sessions.push(server.runner(&format!("runner {number}")).await);
    }

    println!("To fetchTask's answer, {} runners waiting, SQLite, {ROUNDS} tasks each:", sessions.len());
    server.measure("an empty queue", &sessions).await;
    server.fill("QUEUED", 1_000, false);
    server.measure("100,000 tasks for other labels in front", &sessions).await;

    println!("Deleting {MANY} finished tasks:");
    let heartbeats = server.heartbeats(&sessions[0]).await;
    show("heartbeats before", &heartbeats);
    server.fill("SUCCEEDED", 1_000_000, true);
    let start =
        "mutation { startCleanup(input: { targets: [FINISHED_TASKS], olderThanSeconds: 3600 }) { cleanupJob { id } } }";
    server.call(&server.admin, start, json!({})).await;
    let watch = Stopwatch::start();
    show("heartbeats meanwhile", &server.heartbeats(&sessions[0]).await);
    server.measure("claims meanwhile", &sessions[1..]).await;
    let progress = "{ cleanupJobs(first: 1) { nodes { status examined deleted total } } }";
    loop {
        let job = server.call(&server.admin, progress, json!({})).await["cleanupJobs"]["nodes"][0].clone();
        if job["status"] != "RUNNING" && job["status"] != "QUEUED" {
            println!("the cleanup: {job} after {:.1} s", watch.elapsed().as_secs_f64());
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
