//! What is done thousands of times a second, measured: `cargo bench`. The figures are in `docs/performance.md`.

use std::net::IpAddr;
use std::sync::Arc;

use async_graphql::Variables;
use diesel::{Connection as _, RunQueryDsl as _, SqliteConnection};
use divan::{Bencher, black_box};
use futures_util::{FutureExt as _, StreamExt as _};
use rollcall::app::App;
use rollcall::auth::{Actor, Credentials};
use rollcall::clock::{Clock, Timestamp};
use rollcall::config::{Layers, Section as _, ServerConfig};
use rollcall::events::{Bus, Event, EventKind, Occurrence, Topic};
use rollcall::fleet::Registration;
use rollcall::graphql::Incoming;
use rollcall::model::RunnerStatus;
use rollcall::rng::Rng;
use secrecy::SecretString;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

fn main() {
    divan::main();
}

/// A server without its HTTP face, on SQLite.
struct Bench {
    runtime: Runtime,
    app: App,
    admin: Actor,
    registration_token: SecretString,
    folder: TempDir,
}

const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

impl Bench {
    fn start() -> Self {
        Self::start_in(tempfile::tempdir().expect("a temporary folder"))
    }

    fn start_in(folder: TempDir) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let flags = [("data-dir".to_owned(), folder.path().display().to_string())];
        let config = ServerConfig::load(&Layers::from_flags(flags)).expect("the configuration is valid");
        let (app, admin, registration_token) = runtime.block_on(async {
            let app = App::build(config, Clock::system(), Rng::from_system(), CancellationToken::new())
                .await
                .expect("the server is built");
            let first = app.fleet.first_start(|_| Ok(())).await.expect("the first start").expect("it is the first");
            let shown = Credentials::Bearer(first.admin_token.clone());
            let admin = app.fleet.authenticator.authenticate(&shown).await.expect("the administrator");
            (app, admin, first.registration_token)
        });
        Self { runtime, app, admin, registration_token, folder }
    }

    /// Registers a runner and returns what it shows, and who it is then.
    fn runner(&self, name: &str) -> (Credentials, Actor) {
        let registration = Registration {
            token: self.registration_token.clone(),
            name: name.to_owned(),
            labels: Vec::new(),
            version: None,
            os: None,
            arch: None,
            description: None,
            ephemeral: None,
            machine_id: None,
        };
        self.runtime.block_on(async {
            let registered = self.app.fleet.register(registration, Some(ADDRESS)).await.expect("a runner");
            let shown = Credentials::Runner { uuid: registered.runner.uuid, token: registered.secret };
            let actor = self.app.fleet.authenticator.authenticate(&shown).await.expect("the runner");
            (shown, actor)
        })
    }

    fn execute(&self, query: &str, actor: &Actor) -> usize {
        let prepared = self.app.graphql.prepare(incoming(query, actor)).expect("a valid document");
        let answer = self.runtime.block_on(self.app.graphql.execute(prepared));
        assert!(answer.code().is_none(), "{answer:?}");
        serde_json::to_vec(&answer).expect("an answer is JSON").len()
    }

    /// Fills the database with runners, far faster than they could register.
    fn fill(&self, count: u32) {
        let url = self.folder.path().join("rollcall.sqlite3").display().to_string();
        let mut connection = SqliteConnection::establish(&url).expect("the database");
        diesel::sql_query(format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) \
             INSERT INTO runners (id, uuid, scope_id, owner_id, name, name_key, description, note, ephemeral, disabled, \
             token_hash, token_generation, token_issued_at, last_online_at, last_active_at, status, status_since, \
             transition_count, created_at, updated_at) \
             SELECT i + 1000, 'u' || i, 1, 1, 'runner ' || i, 'runner ' || (i * 7919 % {count}), '', '', 0, 0, '', 1, 0, i, 0, \
             'OFFLINE', 0, 0, 0, 0 FROM n"
        ))
        .execute(&mut connection)
        .expect("runners");
        diesel::sql_query(
            "INSERT INTO runner_labels (runner_id, label, forced) SELECT id, 'linux', 0 FROM runners WHERE id > 1000",
        )
        .execute(&mut connection)
        .expect("labels");
    }
}

fn incoming(query: &str, actor: &Actor) -> Incoming {
    Incoming {
        query: query.to_owned(),
        operation_name: None,
        variables: Variables::default(),
        actor: actor.clone(),
        address: Some(ADDRESS),
        request_id: Arc::from("bench"),
    }
}

const HEARTBEAT: &str =
    "mutation Heartbeat { heartbeat(input: {}) { serverTime nextHeartbeatInSeconds directives { __typename } } }";

#[divan::bench]
fn heartbeat_through_the_schema(bencher: Bencher) {
    let bench = Bench::start();
    let (_, runner) = bench.runner("one");
    bencher.bench_local(|| bench.execute(black_box(HEARTBEAT), &runner));
}

#[divan::bench]
fn heartbeat_with_a_document_never_seen_before(bencher: Bencher) {
    let bench = Bench::start();
    let (_, runner) = bench.runner("one");
    let mut number = 0_u64;
    bencher.bench_local(|| {
        number += 1;
        bench.execute(&format!("{HEARTBEAT} # {number}"), &runner)
    });
}

#[divan::bench]
fn token_checked_warm(bencher: Bencher) {
    let bench = Bench::start();
    let (shown, _) = bench.runner("one");
    bencher.bench_local(|| {
        bench.runtime.block_on(bench.app.fleet.authenticator.authenticate(black_box(&shown))).expect("the runner")
    });
}

#[divan::bench(sample_count = 20, sample_size = 1)]
fn token_checked_cold(bencher: Bencher) {
    let bench = Bench::start();
    bencher
        .with_inputs(|| {
            let registered = bench.runtime.block_on(bench.app.fleet.register(
                Registration {
                    token: bench.registration_token.clone(),
                    name: "cold".to_owned(),
                    labels: Vec::new(),
                    version: None,
                    os: None,
                    arch: None,
                    description: None,
                    ephemeral: None,
                    machine_id: None,
                },
                Some(ADDRESS),
            ));
            let registered = registered.expect("a runner");
            Credentials::Runner { uuid: registered.runner.uuid, token: registered.secret }
        })
        .bench_local_values(|shown| {
            bench.runtime.block_on(bench.app.fleet.authenticator.authenticate(&shown)).expect("the runner")
        });
}

#[divan::bench]
fn session_checked(bencher: Bencher) {
    let bench = Bench::start();
    let (_, runner) = bench.runner("one");
    let (session, _) = bench.app.fleet.open_session(&runner).expect("a session");
    let shown = Credentials::Bearer(session);
    bencher.bench_local(|| {
        bench.runtime.block_on(bench.app.fleet.authenticator.authenticate(black_box(&shown))).expect("the runner")
    });
}

#[divan::bench(args = [1_000, 100_000])]
fn presence_stamp(bencher: Bencher, runners: u32) {
    let bench = Bench::start();
    bench.fill(runners);
    bench.runtime.block_on(bench.app.fleet.presence.load(&bench.app.fleet.store)).expect("presence");
    let presence = &bench.app.fleet.presence;
    let mut next = 0;
    bencher.bench_local(|| {
        next = (next + 7_919) % i64::from(runners);
        presence.hear(black_box(1_001 + next))
    });
    assert!(presence.bytes_per_runner() < 500, "{} bytes a runner", presence.bytes_per_runner());
}

#[divan::bench(args = [1, 1_000])]
fn event_to_subscribers(bencher: Bencher, subscribers: usize) {
    let bus = Bus::new(1_024);
    let mut streams: Vec<_> =
        (0..subscribers).map(|_| bus.subscribe(&[EventKind::Status], [Topic::Everything])).collect();
    let occurrence = Occurrence {
        event: Event::StatusChanged { previous: RunnerStatus::Offline, current: RunnerStatus::Idle },
        runner_id: 5,
        scope_id: 1,
        owner_id: 1,
        at: Timestamp::from_micros(0),
    };
    bencher.bench_local(|| {
        bus.publish(occurrence.clone());
        // Received as well: an event is told when everybody has it.
        streams.iter_mut().filter_map(|stream| stream.next().now_or_never()).count()
    });
}

const PAGE: &str = "{ runners(first: 100, orderBy: {field: NAME, direction: ASC}) { nodes { id name status labels scope { path } \
                    registeredWith { description createdBy { login } } } pageInfo { hasNextPage endCursor } } }";

#[divan::bench(args = [1_000, 100_000], sample_count = 50)]
fn page_of_100_runners(bencher: Bencher, runners: u32) {
    let bench = Bench::start();
    bench.fill(runners);
    bencher.bench_local(|| bench.execute(black_box(PAGE), &bench.admin));
}

#[divan::bench(args = [1_000, 10_000], sample_count = 20)]
fn presence_written_behind(bencher: Bencher, runners: u32) {
    let bench = Bench::start();
    bench.fill(runners);
    bench.runtime.block_on(bench.app.fleet.presence.load(&bench.app.fleet.store)).expect("presence");
    let presence = &bench.app.fleet.presence;
    bencher
        .with_inputs(|| {
            for id in 0..i64::from(runners) {
                presence.hear(1_001 + id);
            }
        })
        .bench_local_values(|()| {
            bench.runtime.block_on(presence.write(&bench.app.fleet.store)).expect("presence is written")
        });
}
