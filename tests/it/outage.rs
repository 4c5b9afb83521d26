//! What a fleet notices when PostgreSQL goes away or hangs: as little as can be.
//!
//! These tests wait on the wall clock, since the outage is one of another process.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use rollcall::clock::Stopwatch;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_postgres::NoTls;

use crate::support::{Client, ServerProcess, Shown, Socket};

const REGISTER: &str =
    "mutation($input: RegisterRunnerInput!) { registerRunner(input: $input) { runner { id uuid } secret } }";
const HEARTBEAT: &str = "mutation { heartbeat(input: {}) { serverTime nextHeartbeatInSeconds } }";
const VIEWER: &str = "{ viewer { __typename } }";

/// How long PostgreSQL is away.
const OUTAGE: Duration = Duration::from_secs(10);
/// How long it hangs.
const STALL: Duration = Duration::from_secs(8);
/// How long anyone waits then: 2 s for a connection, 2 s for an answer on it, and something for a busy machine.
const LONGEST_WAIT: Duration = Duration::from_secs(6);
/// How long the server may take to be ready again.
const RECOVERY: Duration = Duration::from_secs(10);
/// Runners that are played meanwhile.
const RUNNERS: u64 = 500;

/// A PostgreSQL of one test's own, which may be taken away.
struct Postgres {
    folder: TempDir,
    port: u16,
    postmaster: Option<Child>,
}

impl Postgres {
    async fn create() -> Self {
        let folder = tempfile::tempdir().unwrap();
        if is_root() {
            let status = Command::new("chown").arg("postgres").arg(folder.path()).status().unwrap();
            assert!(status.success(), "the folder cannot be given to the user postgres");
        }
        let mut postgres = Self { folder, port: free_port(), postmaster: None };
        let made = as_its_user("initdb")
            .arg("-D")
            .arg(postgres.data())
            .args(["-U", "rollcall", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        postgres.start().await;
        postgres
    }

    fn url(&self) -> String {
        format!("postgres://rollcall@127.0.0.1:{}/postgres", self.port)
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Starts it, and waits until it answers.
    async fn start(&mut self) {
        let path = self.folder.path().join("log");
        let log = File::options().create(true).append(true).open(&path).unwrap();
        let postmaster = as_its_user("postgres")
            .arg("-D")
            .arg(self.data())
            .arg("-k")
            .arg(self.folder.path())
            .args(["-p", &self.port.to_string(), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.postmaster = Some(postmaster);
        for _ in 0..300 {
            if tokio_postgres::connect(&self.url(), NoTls).await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("PostgreSQL did not start: {}", fs::read_to_string(path).unwrap());
    }

    /// Takes it away at once: nothing is finished, nobody is told.
    fn crash(&mut self) {
        if let Some(mut postmaster) = self.postmaster.take() {
            signal("-QUIT", &[postmaster.id()]);
            let _ = postmaster.wait();
        }
    }

    /// Stops every one of its processes where it is; each has a group of its own.
    fn freeze(&self) {
        if let Some(postmaster) = &self.postmaster {
            signal("-STOP", &[postmaster.id()]);
            signal("-STOP", &children_of(postmaster.id()));
        }
    }

    fn thaw(&self) {
        if let Some(postmaster) = &self.postmaster {
            signal("-CONT", &children_of(postmaster.id()));
            signal("-CONT", &[postmaster.id()]);
        }
    }

    /// When the database has it that a runner was last heard from.
    async fn last_online_at(&self, uuid: &str) -> i64 {
        let (client, connection) = tokio_postgres::connect(&self.url(), NoTls).await.unwrap();
        let connection = tokio::spawn(connection);
        let query = "SELECT last_online_at FROM runners WHERE uuid = $1";
        let row = client.query_one(query, &[&uuid]).await.unwrap();
        drop(client);
        connection.await.unwrap().unwrap();
        row.get(0)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.thaw();
        self.crash();
    }
}

fn id(arguments: &[&str]) -> String {
    let output = Command::new("id").args(arguments).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn is_root() -> bool {
    id(&["-u"]) == "0"
}

/// One of PostgreSQL's programs. It refuses root: then its own user runs it.
fn as_its_user(program: &str) -> Command {
    #[expect(clippy::disallowed_methods, reason = "tests/run.sh says where the programs are")]
    let folder = std::env::var("ROLLCALL_TEST_POSTGRES_BIN")
        .expect("ROLLCALL_TEST_POSTGRES_BIN is not set: run the tests with tests/run.sh, which sets it");
    let program = Path::new(&folder).join(program);
    let mut command = if is_root() {
        let mut command = Command::new("setpriv");
        let group = id(&["-g", "postgres"]);
        command.args(["--reuid", "postgres", "--regid", &group, "--clear-groups"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    // That user need not be allowed to be where this process is.
    command.current_dir("/");
    command
}

/// A port below those that the system hands out by itself: nobody takes it while PostgreSQL is away.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + u16::try_from(std::process::id() % 10_000).unwrap();
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

fn signal(name: &str, processes: &[u32]) {
    if !processes.is_empty() {
        // One that has just ended is no trouble.
        let _ = Command::new("kill").arg(name).args(processes.iter().map(u32::to_string)).output();
    }
}

fn children_of(parent: u32) -> Vec<u32> {
    let parent = parent.to_string();
    let entries = fs::read_dir("/proc").unwrap();
    let processes = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let is_child = |process: &u32| {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        // The program's name stands in parentheses and may have spaces; then come the state and the parent.
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.split(' ').nth(1) == Some(parent.as_str()))
    };
    processes.filter(is_child).collect()
}

/// What to register a runner with.
fn registration(server: &ServerProcess, name: &str) -> Value {
    json!({"input": {"token": server.registration_token(), "name": name, "labels": ["kept"]}})
}

/// Registers a runner; returns its UUID, and a client that shows UUID and token.
async fn register(server: &ServerProcess, name: &str) -> (String, Client) {
    let answer = server.client(Shown::Nothing).data(REGISTER, registration(server, name)).await;
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let uuid = text(&answer["registerRunner"]["runner"]["uuid"]);
    let secret = text(&answer["registerRunner"]["secret"]);
    (uuid.clone(), server.client(Shown::Runner { uuid, secret }))
}

/// The same runner with a session.
async fn with_session(runner: &Client) -> Client {
    let answer = runner.data("mutation { openRunnerSession { token } }", json!({})).await;
    let token = answer["openRunnerSession"]["token"].as_str().unwrap().to_owned();
    Client { shown: Shown::Bearer(token), ..runner.clone() }
}

/// A runner that says ten times a second that it is here.
struct Pulse {
    answered: Arc<AtomicUsize>,
    refused: Arc<Mutex<Vec<Value>>>,
    task: JoinHandle<()>,
}

impl Pulse {
    fn start(session: Client) -> Self {
        let (answered, refused) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let (counted, kept) = (Arc::clone(&answered), Arc::clone(&refused));
        let task = tokio::spawn(async move {
            loop {
                let answer = session.post(HEARTBEAT, json!({})).await;
                if answer.body["data"]["heartbeat"]["serverTime"].is_string() {
                    counted.fetch_add(1, Ordering::Relaxed);
                } else {
                    kept.lock().unwrap().push(answer.body);
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        Self { answered, refused, task }
    }

    fn answered(&self) -> usize {
        self.answered.load(Ordering::Relaxed)
    }

    fn refused(&self) -> Vec<Value> {
        self.refused.lock().unwrap().clone()
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn readiness(client: &Client) -> u16 {
    client.http.get(format!("{}/readyz", client.url)).send().await.unwrap().status().as_u16()
}

async fn wait_until(what: &str, patience: Duration, holds: impl AsyncFn() -> bool) {
    let watch = Stopwatch::start();
    while !holds().await {
        assert!(watch.elapsed() < patience, "not within {patience:?}: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let watch = Stopwatch::start();
    let result = work.await;
    (result, watch.elapsed())
}

/// `rollcall simulate` as a process of its own.
fn simulate(server: &ServerProcess) -> tokio::process::Child {
    tokio::process::Command::new(env!("CARGO_BIN_EXE_rollcall"))
        .args(["simulate", "--url", &server.url, "--token", &server.registration_token()])
        .args(["--runners", &RUNNERS.to_string(), "--duration", "30s", "--json"])
        .current_dir(&server.folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_of_postgresql_turns_nobody_offline_and_loses_nothing() {
    let mut postgres = Postgres::create().await;
    let folder = tempfile::tempdir().unwrap();
    // If heartbeats waited for the database, runners would be OFFLINE before it is back. No ping comes between the messages.
    let flags = ["--offline-after", "9s", "--idle-after", "3s", "--keepalive-interval", "10m"];
    let server = ServerProcess::start(folder.path(), &postgres.url(), &flags).await;
    let (admin, anonymous) = (server.admin(), server.client(Shown::Nothing));
    let mut socket = Socket::open(&server.url).await;
    socket.init(&admin.shown).await;
    let offline = "subscription { runnerStatusChanged(to: OFFLINE) { runner { name } previous at } }";
    socket.subscribe("offline", offline, json!({})).await;
    socket.is_listening("offline").await;

    let (uuid, own) = register(&server, "own").await;
    let pulse = Pulse::start(with_session(&own).await);
    let simulation = simulate(&server);
    wait_until("the whole fleet is here", Duration::from_secs(30), async || {
        admin.data("{ instance { fleet { idle } } }", json!({})).await["instance"]["fleet"]["idle"] == RUNNERS + 1
    })
    .await;
    let idle = "subscription { runnerStatusChanged(to: IDLE) { runner { name } } }";
    socket.subscribe("idle", idle, json!({})).await;
    socket.is_listening("idle").await;

    let written = postgres.last_online_at(&uuid).await;
    postgres.crash();
    let (outage, answered) = (Stopwatch::start(), pulse.answered());
    assert_eq!(readiness(&anonymous).await, 503);
    assert_eq!(admin.code(VIEWER, json!({})).await, "UNAVAILABLE");
    assert_eq!(anonymous.code(REGISTER, registration(&server, "during")).await, "UNAVAILABLE");
    tokio::time::sleep(OUTAGE.saturating_sub(outage.elapsed())).await;
    assert_eq!(readiness(&anonymous).await, 503);
    let answered = pulse.answered() - answered;
    assert!(answered >= 40, "only {answered} heartbeats were answered in {OUTAGE:?} without a database");
    postgres.start().await;
    wait_until("the server is ready again", RECOVERY, async || readiness(&anonymous).await == 200).await;

    let query = r#"{ runners(filter: {search: "own"}) { nodes { name labels status } } }"#;
    let listed = admin.data(query, json!({})).await;
    assert_eq!(listed["runners"]["nodes"], json!([{"name": "own", "labels": ["kept"], "status": "IDLE"}]));
    let (_, after) = register(&server, "after").await;
    wait_until("presence is written again", RECOVERY, async || postgres.last_online_at(&uuid).await > written).await;

    let output = tokio::time::timeout(Duration::from_mins(1), simulation.wait_with_output());
    let output = output.await.expect("the simulation does not end").unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).expect(&error);
    assert_eq!(report["registrations"]["count"], RUNNERS, "{report}");
    assert_eq!(report["heartbeats"]["errors"], 0, "{report}");
    // One in three seconds, from each.
    assert!(report["heartbeats"]["count"].as_u64().unwrap() >= 5 * RUNNERS, "{report}");
    assert!(report["errorsByCode"].as_object().unwrap().keys().all(|code| code == "UNAVAILABLE"), "{report}");
    assert_eq!(report["deregistrations"]["count"], RUNNERS, "{report}");
    let is_ok = report["ok"].as_bool().unwrap();
    assert_eq!(output.status.code(), Some(i32::from(!is_ok)), "{error}");
    assert_eq!(pulse.refused(), Vec::<Value>::new());

    // The stream is alive, and told of nobody but the runner that has just come for the first time.
    after.data(HEARTBEAT, json!({})).await;
    assert_eq!(socket.next_data("idle").await, json!({"runnerStatusChanged": {"runner": {"name": "after"}}}));
    assert!(socket.is_quiet_for(Duration::from_millis(500)).await, "somebody was announced OFFLINE");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgresql_that_hangs_makes_nobody_wait_for_long() {
    let postgres = Postgres::create().await;
    let folder = tempfile::tempdir().unwrap();
    let flags = ["--database-statement-timeout", "2s", "--database-wait-timeout", "2s"];
    let server = ServerProcess::start(folder.path(), &postgres.url(), &flags).await;
    let (admin, anonymous) = (server.admin(), server.client(Shown::Nothing));
    let (_, own) = register(&server, "own").await;
    let pulse = Pulse::start(with_session(&own).await);

    postgres.freeze();
    let (stall, answered) = (Stopwatch::start(), pulse.answered());
    // The first round hangs on connections that there are, the second on new ones; both ask for more than there may be.
    for _ in 0..2 {
        let queries = (0..12).map(|_| timed(admin.post(VIEWER, json!({}))));
        let registrations = (0..4).map(|_| timed(anonymous.post(REGISTER, registration(&server, "during"))));
        let (queries, registrations, (status, time)) =
            tokio::join!(join_all(queries), join_all(registrations), timed(readiness(&anonymous)));
        assert_eq!(status, 503);
        assert!(time < LONGEST_WAIT, "/readyz took {time:?}");
        for (answer, time) in queries.into_iter().chain(registrations) {
            assert_eq!(answer.code(), "UNAVAILABLE", "{}", answer.body);
            assert!(time < LONGEST_WAIT, "an answer took {time:?}");
        }
    }
    tokio::time::sleep(STALL.saturating_sub(stall.elapsed())).await;
    let answered = pulse.answered() - answered;
    assert!(answered >= 30, "only {answered} heartbeats were answered while the database hung");
    postgres.thaw();

    wait_until("the server is ready again", RECOVERY, async || readiness(&anonymous).await == 200).await;
    admin.data(VIEWER, json!({})).await;
    own.data(HEARTBEAT, json!({})).await;
    register(&server, "after").await;
    let listed = admin.data(r#"{ runners(filter: {search: "after"}) { totalCount } }"#, json!({})).await;
    assert_eq!(listed["runners"]["totalCount"], 1);
    assert_eq!(pulse.refused(), Vec::<Value>::new());
}
