//! The program as it is called: help, settings, exit statuses, and every command but `serve` at work.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use diesel::{Connection as _, RunQueryDsl as _, SqliteConnection};
use rollcall::clock::Stopwatch;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::support::{Client, Database, ServerProcess, Shown, TestDatabase, eventually, on_both};

/// How long a run may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Makes a server tell runners to send a heartbeat each second.
const QUICK: [&str; 4] = ["--offline-after", "3s", "--idle-after", "1s"];
/// The agent's state file, in the server's folder.
const STATE: &str = "agent.json";

/// How a run ended.
struct Ended {
    code: i32,
    output: String,
    error: String,
}

/// The program, in a folder where there is no configuration but the test's.
fn program(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rollcall"));
    command.current_dir(folder).stdin(Stdio::null()).kill_on_drop(true);
    command
}

async fn finish(command: &mut Command) -> Ended {
    let output = tokio::time::timeout(PATIENCE, command.output()).await.expect("the program does not end").unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code().unwrap(), output: text(output.stdout), error: text(output.stderr) }
}

async fn run(folder: &Path, arguments: &[&str]) -> Ended {
    finish(program(folder).args(arguments)).await
}

fn empty_folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// Nothing was printed, and one line on standard error says all of this.
fn assert_refused(ended: &Ended, code: i32, words: &[&str]) {
    let error = &ended.error;
    assert_eq!((ended.code, ended.output.as_str()), (code, ""), "{error}");
    assert!(error.starts_with("rollcall: ") && error.lines().count() == 1, "{error}");
    for word in words {
        assert!(error.contains(word), "{word} is not in: {error}");
    }
}

/// The words of every command at and below this one, such as `token create`.
fn commands(command: &clap::Command, above: &[String]) -> Vec<Vec<String>> {
    let mut found = vec![above.to_vec()];
    for below in command.get_subcommands() {
        let mut words = above.to_vec();
        words.push(below.get_name().to_owned());
        found.extend(commands(below, &words));
    }
    found
}

#[tokio::test]
async fn every_command_has_help_with_an_example() {
    let folder = empty_folder();
    let commands = commands(&rollcall::cli::command(), &[]);
    assert!(commands.len() >= 8, "{commands:?}");
    let mut missing = Vec::new();
    for words in commands {
        let ended = finish(program(folder.path()).args(&words).arg("--help")).await;
        assert_eq!((ended.code, ended.error.as_str()), (0, ""), "{words:?}");
        // Lines are broken where the terminal ends.
        let help = ended.output.split_whitespace().collect::<Vec<_>>().join(" ");
        let example = ["rollcall".to_owned()].into_iter().chain(words).collect::<Vec<_>>().join(" ");
        let shown = help.split_once("Example").map_or("", |(_, examples)| examples);
        if !shown.contains(&example) {
            missing.push(example);
        }
    }
    assert!(missing.is_empty(), "the help of these commands shows no example: {missing:?}");
}

#[tokio::test]
async fn what_the_command_line_does_not_know_is_wrong_usage() {
    let folder = empty_folder();
    for arguments in [
        "--lisen 127.0.0.1:0",
        "serve --nonsense",
        "srve",
        "agent --url",
        "token",
        "token create --scop acme",
        "simulate 10",
        "schema --json",
    ] {
        let ended = finish(program(folder.path()).args(arguments.split(' '))).await;
        assert_eq!((ended.code, ended.output.as_str()), (2, ""), "{arguments}: {}", ended.error);
        assert!(!ended.error.is_empty(), "{arguments}");
    }
}

#[tokio::test]
async fn a_wrong_value_is_wrong_usage_and_names_the_setting() {
    let folder = empty_folder();
    for (arguments, setting) in [
        ("serve --offline-after 60", "offline_after"),
        ("--listen 8080", "listen"),
        ("serve --hashing-threads -1", "hashing_threads"),
        ("serve --allow-plaintext=maybe", "allow_plaintext"),
        ("serve --session-key short", "session_key"),
        ("serve --idle-after 2h", "idle_after"),
        ("serve --log rollcall=loud", "log"),
        ("serve --log-format xml", "log_format"),
        ("serve --trusted-proxies 10.0.0.0/33", "trusted_proxies"),
        ("migrate --database-pool-size 0", "database_pool_size"),
        ("token create --expires-in tomorrow", "token.expires_in"),
        ("agent --capacity 0", "agent.capacity"),
        ("agent --url ftp://127.0.0.1", "agent.url"),
        ("simulate --runners many", "simulate.runners"),
    ] {
        let ended = finish(program(folder.path()).args(arguments.split(' '))).await;
        assert_refused(&ended, 2, &[setting]);
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "something was left behind");
}

#[tokio::test]
async fn a_wrong_value_is_named_with_where_it_stands() {
    let folder = empty_folder();
    fs::write(folder.path().join("rollcall.toml"), "offline_after = 60\n").unwrap();
    assert_refused(&run(folder.path(), &["serve"]).await, 2, &["offline_after", "rollcall.toml"]);
    let mut command = program(folder.path());
    command.args(["serve", "--offline-after", "30s"]).env("ROLLCALL_LISTEN", "8080");
    assert_refused(&finish(&mut command).await, 2, &["listen", "ROLLCALL_LISTEN"]);
    let ended = run(folder.path(), &["serve", "--config", "absent.toml"]).await;
    assert_refused(&ended, 2, &["absent.toml"]);
}

#[tokio::test]
async fn an_unknown_key_of_the_file_is_named() {
    let folder = empty_folder();
    fs::write(folder.path().join("rollcall.toml"), "offline_afer = \"30s\"\n").unwrap();
    assert_refused(&run(folder.path(), &["serve"]).await, 2, &["offline_afer", "rollcall.toml"]);
    fs::write(folder.path().join("other.toml"), "[agent]\nurll = \"http://127.0.0.1\"\n").unwrap();
    let ended = run(folder.path(), &["agent", "--config", "other.toml"]).await;
    assert_refused(&ended, 2, &["agent.urll", "other.toml"]);
}

#[tokio::test]
async fn print_config_shows_where_each_value_comes_from() {
    let folder = empty_folder();
    let file = "offline_after = \"50s\"\nidle_after = \"5s\"\npublic_url = \"http://file\"\n[agent]\nname = \"box\"\n";
    fs::write(folder.path().join("rollcall.toml"), file).unwrap();
    let mut command = program(folder.path());
    command
        .args(["serve", "--print-config", "--offline-after", "30s", "--allow-plaintext"])
        .env("ROLLCALL_OFFLINE_AFTER", "40s")
        .env("ROLLCALL_PUBLIC_URL", "http://variable")
        .env("ROLLCALL_SESSION_KEY", "hunter2-hunter2-hunter2-hunter2-hunter2");
    let ended = finish(&mut command).await;
    assert_eq!((ended.code, ended.error.as_str()), (0, ""));
    for line in [
        "offline_after = \"30s\"  # --offline-after",
        "allow_plaintext = \"true\"  # --allow-plaintext",
        "public_url = \"http://variable\"  # ROLLCALL_PUBLIC_URL",
        "idle_after = \"5s\"  # rollcall.toml",
        "max_heartbeats_per_second = \"1000\"  # default",
        "session_key = \"(secret)\"  # ROLLCALL_SESSION_KEY",
    ] {
        assert!(ended.output.lines().any(|shown| shown == line), "{line} is not in:\n{}", ended.output);
    }
    assert!(!ended.output.contains("hunter2"), "{}", ended.output);

    let agent = run(folder.path(), &["agent", "--print-config", "--labels", "a,b"]).await;
    assert_eq!((agent.code, agent.error.as_str()), (0, ""));
    for line in ["name = \"box\"  # rollcall.toml", "labels = \"a,b\"  # --labels", "capacity = \"1\"  # default"] {
        assert!(agent.output.lines().any(|shown| shown == line), "{line} is not in:\n{}", agent.output);
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "something was left behind");
}

#[tokio::test]
async fn an_address_that_others_reach_needs_a_word() {
    let folder = empty_folder();
    let ended = run(folder.path(), &["serve", "--listen", "0.0.0.0:0"]).await;
    assert_refused(&ended, 2, &["listen", "--allow-plaintext", "127.0.0.1"]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "something was left behind");
}

#[tokio::test]
async fn a_port_in_use_is_told() {
    let folder = empty_folder();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ended = run(folder.path(), &["serve", "--listen", &address]).await;
    assert_refused(&ended, 1, &["in use", &address, "--listen"]);
}

#[tokio::test]
async fn a_data_folder_that_cannot_be_is_told() {
    let folder = empty_folder();
    fs::write(folder.path().join("file"), "").unwrap();
    let ended = run(folder.path(), &["serve", "--listen", "127.0.0.1:0", "--data-dir", "file/data"]).await;
    assert_refused(&ended, 1, &["file/data", "--data-dir"]);
    let ended = run(folder.path(), &["migrate", "--data-dir", "file/data"]).await;
    assert_refused(&ended, 1, &["file/data"]);
}

#[tokio::test]
async fn a_database_that_cannot_be_used_is_told() {
    let folder = empty_folder();
    let serve = ["serve", "--listen", "127.0.0.1:0", "--database-url"];
    let other = run(folder.path(), &[&serve[..], &["mysql://root:hunter2@127.0.0.1/rollcall"]].concat()).await;
    assert_refused(&other, 1, &["postgres://", "sqlite://"]);
    // Nobody listens on port 1.
    let away = run(folder.path(), &[&serve[..], &["postgres://rollcall:hunter2@127.0.0.1:1/rollcall"]].concat()).await;
    assert_refused(&away, 1, &["PostgreSQL", "refused", "--database-url"]);
    for ended in [other, away] {
        assert!(!ended.error.contains("hunter2"), "{}", ended.error);
    }
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_left_alone() {
    let folder = empty_folder();
    let migrated = run(folder.path(), &["migrate", "--data-dir", "data"]).await;
    assert_eq!(migrated.code, 0, "{}", migrated.error);
    let path = folder.path().join("data/rollcall.sqlite3");
    let mut connection = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
    diesel::sql_query("INSERT INTO __diesel_schema_migrations (version) VALUES ('99991231000000')")
        .execute(&mut connection)
        .unwrap();
    drop(connection);
    let before = fs::read(&path).unwrap();
    for command in ["serve", "migrate"] {
        let ended = run(folder.path(), &[command, "--listen", "127.0.0.1:0", "--data-dir", "data"]).await;
        assert_refused(&ended, 1, &["newer", "99991231000000"]);
    }
    assert!(fs::read(&path).unwrap() == before, "the database was changed");
    assert!(!folder.path().join("data/first-start.json").exists());
}

#[tokio::test]
async fn schema_prints_the_committed_schema() {
    let folder = empty_folder();
    let ended = run(folder.path(), &["schema"]).await;
    assert_eq!((ended.code, ended.error.as_str()), (0, ""));
    let committed = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("schema.graphql")).unwrap();
    assert!(ended.output == committed, "schema.graphql is stale: run `cargo run -- schema > schema.graphql`");
}

on_both! {
    async fn migrating_a_second_time_changes_nothing(database) {
        let database = TestDatabase::create(database).await;
        let arguments = ["migrate", "--database-url", &database.url];
        let first = run(database.folder.path(), &arguments).await;
        assert_eq!((first.code, first.error.as_str()), (0, ""));
        assert!(first.output.starts_with("Applied "), "{}", first.output);
        let second = run(database.folder.path(), &arguments).await;
        assert_eq!((second.code, second.error.as_str()), (0, ""));
        assert_eq!(second.output, "The database is up to date.\n");
    }
}

async fn start(flags: &[&str]) -> (TestDatabase, ServerProcess) {
    let database = TestDatabase::create(Database::Sqlite).await;
    let server = ServerProcess::start(database.folder.path(), &database.url, flags).await;
    (database, server)
}

/// Registers a runner and returns its id.
async fn register(server: &ServerProcess, token: &str, name: &str) -> Value {
    let query = "mutation($input: RegisterRunnerInput!) { registerRunner(input: $input) { runner { id } } }";
    let input = json!({"token": token, "name": name});
    let answer = server.client(Shown::Nothing).data(query, json!({"input": input})).await;
    answer["registerRunner"]["runner"]["id"].clone()
}

async fn delete(admin: &Client, id: &Value) {
    let query = "mutation($id: ID!) { deleteRunner(input: {id: $id}) { deletedId } }";
    admin.data(query, json!({"id": id})).await;
}

/// How many runners there are, by the list and by presence.
async fn counts(admin: &Client) -> (Value, Value) {
    let answer = admin.data("{ runners { totalCount } instance { fleet { total } } }", json!({})).await;
    (answer["runners"]["totalCount"].clone(), answer["instance"]["fleet"]["total"].clone())
}

#[tokio::test]
async fn token_create_prints_a_token_of_the_scope_and_nothing_else() {
    let (database, server) = start(&[]).await;
    let admin = server.admin();
    let make = r#"mutation {
        createOrganization(input: {login: "acme", name: "Acme"}) { organization { id } }
        createRepository(input: {owner: "acme", name: "api"}) { repository { id } }
    }"#;
    admin.data(make, json!({})).await;
    let create = ["token", "create", "--database-url", &database.url, "--labels", "forced", "--scope"];
    for scope in ["", "acme", "acme/api"] {
        let ended = run(database.folder.path(), &[&create[..], &[scope]].concat()).await;
        assert_eq!((ended.code, ended.error.as_str()), (0, ""));
        let token = ended.output.strip_suffix('\n').unwrap();
        assert!(token.starts_with("rc_reg_") && !token.contains(char::is_whitespace), "{token}");
        let id = register(&server, token, "made").await;
        let query = "query($id: ID!) { runner(id: $id) { labels scope { path } } }";
        let answer = admin.data(query, json!({"id": id})).await;
        assert_eq!(answer["runner"], json!({"labels": ["forced"], "scope": {"path": scope}}));
    }
    for scope in ["nobody", "acme/nothing"] {
        let ended = run(database.folder.path(), &[&create[..], &[scope]].concat()).await;
        assert!([1, 2].contains(&ended.code), "{}", ended.error);
        assert_refused(&ended, ended.code, &[scope]);
    }
}

#[tokio::test]
async fn the_first_start_keeps_its_secrets_once_and_for_this_user_alone() {
    let (database, server) = start(&[]).await;
    let path = database.folder.path().join("first-start.json");
    let written = fs::read(&path).unwrap();
    assert_eq!(mode(&path), 0o600);
    let first = server.first_start();
    let mut keys: Vec<&String> = first.as_object().unwrap().keys().collect();
    keys.sort();
    assert_eq!(keys, ["adminLogin", "adminToken", "agentCommand", "url"]);
    assert_eq!((&first["url"], &first["adminLogin"]), (&json!(server.url), &json!("admin")));
    let (token, registration_token) = (first["adminToken"].as_str().unwrap(), server.registration_token());
    assert!(token.starts_with("rc_pat_") && registration_token.starts_with("rc_reg_"));
    let command = format!(" agent --url {} --token {registration_token}", server.url);
    assert!(first["agentCommand"].as_str().unwrap().ends_with(&command), "{first}");

    // What is done with them is not logged either, however much is.
    let port = server.port();
    server.terminate();
    let server = ServerProcess::start_on(port, database.folder.path(), &database.url, &["--log", "debug"]).await;
    assert!(fs::read(&path).unwrap() == written, "the second start wrote first-start.json again");
    assert_eq!(counts(&server.admin()).await, (json!(0), json!(0)));
    register(&server, &registration_token, "box").await;
    let wrong = format!("{token}x");
    let refused = server.client(Shown::Bearer(wrong)).code("{ viewer { __typename } }", json!({})).await;
    assert_eq!(refused, "UNAUTHENTICATED");
    let log = server.log();
    assert!(log.contains("ready at") && log.contains("DEBUG"), "{log}");
    for secret in [token, &registration_token] {
        assert!(!log.contains(secret), "the log has a secret");
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// Starts an agent of a server, with its state in the server's folder.
fn agent(server: &ServerProcess, flags: &[&str]) -> Child {
    let log = File::options().create(true).append(true).open(server.folder.join("agent.log")).unwrap();
    program(&server.folder)
        .args(["agent", "--url", &server.url, "--state", STATE])
        .args(flags)
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// Sends SIGTERM; returns the exit status, and how long the end took.
async fn terminate(mut child: Child) -> (Option<i32>, Duration) {
    let id = child.id().expect("the agent has ended by itself").to_string();
    let watch = Stopwatch::start();
    Command::new("kill").args(["-TERM", &id]).status().await.unwrap();
    let status = tokio::time::timeout(PATIENCE, child.wait()).await.expect("the agent does not end").unwrap();
    (status.code(), watch.elapsed())
}

fn state(server: &ServerProcess) -> Value {
    serde_json::from_slice(&fs::read(server.folder.join(STATE)).unwrap()).unwrap()
}

/// The only runner, once it is IDLE and this holds of it.
async fn the_runner(admin: &Client, holds: impl Fn(&Value) -> bool) -> Value {
    let mut seen = Value::Null;
    for _ in 0..300 {
        let answer = admin.data("{ runners { nodes { id name labels status lastOnlineAt } } }", json!({})).await;
        seen = answer["runners"]["nodes"].clone();
        if let [runner] = seen.as_array().unwrap().as_slice()
            && runner["status"] == "IDLE"
            && holds(runner)
        {
            return runner.clone();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the runner did not come: {seen}");
}

#[tokio::test]
async fn an_agent_comes_online_and_is_the_same_runner_when_it_comes_again() {
    let (_database, server) = start(&[]).await;
    let (admin, token) = (server.admin(), server.registration_token());
    let first = agent(&server, &["--token", &token, "--labels", "a,b", "--name", "box"]);
    let runner = the_runner(&admin, |_| true).await;
    assert_eq!((&runner["name"], &runner["labels"]), (&json!("box"), &json!(["a", "b"])));
    assert_eq!(mode(&server.folder.join(STATE)), 0o600);
    assert_eq!(state(&server)["runnerId"], runner["id"]);
    let (code, time) = terminate(first).await;
    assert_eq!(code, Some(0));
    assert!(time < Duration::from_secs(1), "it took {time:?} to leave");

    // It has its identity, and needs no token any more.
    let second = agent(&server, &["--labels", "c"]);
    let again = the_runner(&admin, |it| it["lastOnlineAt"].as_str() > runner["lastOnlineAt"].as_str()).await;
    assert_eq!((&again["id"], &again["name"]), (&runner["id"], &json!("box")));
    the_runner(&admin, |it| it["labels"] == json!(["c"])).await;
    assert_eq!(terminate(second).await.0, Some(0));
    let log = fs::read_to_string(server.folder.join("agent.log")).unwrap();
    let state = state(&server);
    assert!(!log.contains(&token) && !log.contains(state["secret"].as_str().unwrap()), "the log has a secret: {log}");
}

#[tokio::test]
async fn an_agent_goes_on_when_the_server_does() {
    let (database, server) = start(&QUICK).await;
    let token = server.registration_token();
    let mut agent = agent(&server, &["--token", &token, "--name", "box", "--deregister-on-exit"]);
    let runner = the_runner(&server.admin(), |_| true).await;
    let port = server.port();
    assert_eq!(server.terminate().code(), Some(0));

    let server = ServerProcess::start_on(port, database.folder.path(), &database.url, &QUICK).await;
    let is_later = |it: &Value| it["lastOnlineAt"].as_str() > runner["lastOnlineAt"].as_str();
    assert_eq!(the_runner(&server.admin(), is_later).await["id"], runner["id"]);
    assert!(agent.try_wait().unwrap().is_none(), "the agent has ended");

    // A server that is away holds nobody up who wants to leave.
    server.kill();
    let (code, time) = terminate(agent).await;
    assert_eq!(code, Some(0));
    assert!(time < Duration::from_secs(1), "it took {time:?} to leave");
}

#[tokio::test]
async fn an_agent_whose_runner_was_deleted_registers_again() {
    let (_database, server) = start(&QUICK).await;
    let (admin, token) = (server.admin(), server.registration_token());
    let agent = agent(&server, &["--token", &token, "--labels", "a", "--name", "box"]);
    let runner = the_runner(&admin, |_| true).await;
    delete(&admin, &runner["id"]).await;
    let again = the_runner(&admin, |it| it["id"] != runner["id"]).await;
    assert_eq!((&again["name"], &again["labels"]), (&json!("box"), &json!(["a"])));
    assert_eq!(state(&server)["runnerId"], again["id"]);
    assert_eq!(terminate(agent).await.0, Some(0));
}

/// A task of this script, once it has this status.
async fn task_of(admin: &Client, run: &str, status: &str) -> Value {
    let payload = json!({"run": run, "secrets": {"PASSWORD": "hunter2"}});
    let id = admin.enqueue(json!({"repository": "admin/api", "name": "a", "labels": [], "payload": payload})).await;
    let query = "query($id: ID!) { task(id: $id) { id status failureReason outputs { name value } } }";
    for _ in 0..300 {
        let task = admin.data(query, json!({"id": id})).await["task"].clone();
        if task["status"] == status {
            return task;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the task {run:?} did not become {status}");
}

#[tokio::test]
async fn an_agent_runs_scripts_and_leaves_none_behind() {
    let (_database, server) = start(&[]).await;
    let (admin, token) = (server.admin(), server.registration_token());
    let create = "mutation { createRepository(input: {owner: \"admin\", name: \"api\"}) { repository { id } } }";
    admin.data(create, json!({})).await;
    let mut child = agent(&server, &["--token", &token, "--name", "box"]);
    the_runner(&admin, |_| true).await;

    let script = "echo my $PASSWORD; echo to stderr >&2; echo answer=42 >> $ROLLCALL_OUTPUT";
    let done = task_of(&admin, script, "SUCCEEDED").await;
    assert_eq!(admin.log(done["id"].as_str().unwrap()).await, ["my ***", "to stderr"]);
    assert_eq!(done["outputs"], json!([{"name": "answer", "value": "42"}, {"name": "exit_status", "value": "0"}]));
    let failed = task_of(&admin, "exit 3", "FAILED").await;
    assert_eq!(failed["outputs"], json!([{"name": "exit_status", "value": "3"}]));

    // Its identity is its own while it runs.
    let other = run(&server.folder, &["agent", "--url", &server.url, "--state", STATE]).await;
    assert_eq!(other.code, 1, "{}", other.error);
    assert!(other.error.contains("another agent uses the state file"), "{}", other.error);

    // Whoever cannot wait says it twice, and no script stays behind.
    let pid = server.folder.join("script.pid");
    task_of(&admin, &format!("echo $$ > {}; sleep 500", pid.display()), "RUNNING").await;
    eventually("the script runs", async || fs::read_to_string(&pid).is_ok_and(|text| !text.trim().is_empty())).await;
    let id = child.id().unwrap().to_string();
    for _ in 0..2 {
        Command::new("kill").args(["-TERM", &id]).status().await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let status = tokio::time::timeout(PATIENCE, child.wait()).await.expect("the agent does not end").unwrap();
    assert_eq!(status.code(), Some(130));
    let script = fs::read_to_string(&pid).unwrap();
    eventually("the script is gone", async || !Path::new("/proc").join(script.trim()).exists()).await;
}

#[tokio::test]
async fn an_agent_that_needs_a_token_says_so() {
    let (_database, server) = start(&[]).await;
    let admin = server.admin();
    let arguments = ["agent", "--url", &server.url, "--state", STATE, "--log", "off"];
    assert_refused(&run(&server.folder, &arguments).await, 1, &["--token"]);

    let agent = agent(&server, &["--token", &server.registration_token(), "--name", "box"]);
    let runner = the_runner(&admin, |_| true).await;
    assert_eq!(terminate(agent).await.0, Some(0));
    delete(&admin, &runner["id"]).await;
    assert_refused(&run(&server.folder, &arguments).await, 1, &["box", "--token", STATE]);
}

#[tokio::test]
async fn an_agent_removes_its_runner_when_it_is_told_to() {
    let (_database, server) = start(&[]).await;
    let admin = server.admin();
    let agent = agent(&server, &["--token", &server.registration_token(), "--deregister-on-exit"]);
    the_runner(&admin, |_| true).await;
    let (code, time) = terminate(agent).await;
    assert_eq!(code, Some(0));
    assert!(time < Duration::from_secs(1), "it took {time:?} to leave");
    assert_eq!(counts(&admin).await, (json!(0), json!(0)));
    assert!(!server.folder.join(STATE).exists(), "the identity of a runner that is gone was kept");
}

#[tokio::test]
async fn a_simulation_without_errors_is_ok_and_leaves_no_runner_behind() {
    let (_database, server) = start(&QUICK).await;
    let token = server.registration_token();
    let arguments =
        ["simulate", "--url", &server.url, "--token", &token, "--runners", "20", "--duration", "3s", "--json"];
    let ended = run(&server.folder, &arguments).await;
    assert_eq!(ended.code, 0, "{}", ended.error);
    let report: Value = serde_json::from_str(&ended.output).unwrap();
    assert_eq!((&report["ok"], &report["errorsByCode"]), (&json!(true), &json!({})), "{report}");
    assert_eq!(report["runners"], 20);
    for kind in ["registrations", "sessions", "deregistrations"] {
        assert_eq!((&report[kind]["count"], &report[kind]["errors"]), (&json!(20), &json!(0)), "{report}");
    }
    assert!(report["heartbeats"]["count"].as_u64().unwrap() >= 20, "{report}");
    assert_eq!(counts(&server.admin()).await, (json!(0), json!(0)));

    let wrong = ["simulate", "--url", &server.url, "--token", "rc_reg_wrong", "--runners", "2", "--duration", "1s"];
    let ended = run(&server.folder, &wrong).await;
    assert_eq!(ended.code, 1, "{}", ended.error);
    assert_eq!(ended.error.lines().count(), 1, "{}", ended.error);
}
