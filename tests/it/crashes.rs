//! What is left when the server dies, and how it ends when it is told to.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rollcall::clock::Stopwatch;
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::sync::mpsc;

use crate::support::{Client, Frame, ServerProcess, Shown, Socket, TestDatabase, on_both};

const REGISTER: &str =
    "mutation($input: RegisterRunnerInput!) { registerRunner(input: $input) { runner { id uuid } secret } }";
const HEARTBEAT: &str = "mutation { heartbeat(input: {}) { runner { name } } }";

/// Registrations that are asked for, how many of them at once, and after how many answers the server is killed.
const REGISTRATIONS: usize = 200;
const AT_ONCE: usize = 16;
const ENOUGH: usize = 60;

/// A runner whose registration was acknowledged.
struct Acknowledged {
    number: usize,
    uuid: String,
    secret: String,
}

fn name(number: usize) -> String {
    format!("crash-{number}")
}

/// Registers a runner, unless the server dies before it has answered.
async fn try_register(client: &Client, token: &str, number: usize) -> Option<Acknowledged> {
    let labels = ["linux".to_owned(), name(number)];
    let input = json!({"token": token, "name": name(number), "labels": labels});
    let body = json!({"query": REGISTER, "variables": {"input": input}});
    let response = client.http.post(format!("{}/graphql", client.url)).json(&body).send().await.ok()?;
    let answer: Value = response.json().await.ok()?;
    assert!(answer.get("errors").is_none(), "{answer}");
    let registered = &answer["data"]["registerRunner"];
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    Some(Acknowledged { number, uuid: text(&registered["runner"]["uuid"]), secret: text(&registered["secret"]) })
}

/// Every runner's labels, by its name.
async fn listed(admin: &Client) -> BTreeMap<String, Value> {
    let query = "query($after: String) { runners(first: 100, after: $after) { nodes { name labels } \
                 pageInfo { hasNextPage endCursor } } }";
    let mut runners = BTreeMap::new();
    let mut after = Value::Null;
    loop {
        let answer = admin.data(query, json!({"after": after})).await;
        let page = &answer["runners"];
        for runner in page["nodes"].as_array().unwrap() {
            let name = runner["name"].as_str().unwrap().to_owned();
            assert!(runners.insert(name, runner["labels"].clone()).is_none(), "{runner} is there twice");
        }
        if page["pageInfo"]["hasNextPage"] != true {
            return runners;
        }
        after = page["pageInfo"]["endCursor"].clone();
    }
}

async fn presence(admin: &Client, id: &Value) -> Value {
    let query = "query($id: ID!) { runner(id: $id) { lastOnlineAt status statusSince history { at from to cause } } }";
    admin.data(query, json!({"id": id})).await["runner"].clone()
}

/// A server that is not waited for.
fn serve(folder: &Path, database_url: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rollcall"));
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--database-url", database_url, "--data-dir"])
        .arg(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true);
    command
}

on_both! {
    async fn a_registration_that_was_acknowledged_survives_kill_9(database) {
        let database = TestDatabase::create(database).await;
        let folder = database.folder.path();
        let server = ServerProcess::start(folder, &database.url, &[]).await;
        let (port, token) = (server.port(), server.registration_token());
        let client = server.client(Shown::Nothing);

        let (sender, mut answers) = mpsc::unbounded_channel();
        let next = Arc::new(AtomicUsize::new(0));
        for _ in 0..AT_ONCE {
            let (client, token, next, sender) = (client.clone(), token.clone(), Arc::clone(&next), sender.clone());
            tokio::spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= REGISTRATIONS {
                        return;
                    }
                    let Some(runner) = try_register(&client, &token, number).await else { return };
                    let _ = sender.send(runner);
                }
            });
        }
        drop(sender);
        let mut runners: Vec<Acknowledged> = Vec::new();
        while runners.len() < ENOUGH {
            runners.push(answers.recv().await.expect("the server does not register runners"));
        }
        server.kill();
        // Some answers were on their way when it died: they are acknowledgements too.
        while let Some(runner) = answers.recv().await {
            runners.push(runner);
        }
        assert!(runners.len() < REGISTRATIONS, "the server died too late for this test to tell anything");

        let server = ServerProcess::start_on(port, folder, &database.url, &[]).await;
        let admin = server.admin();
        let listed = listed(&admin).await;
        for runner in &runners {
            assert!(listed.contains_key(&name(runner.number)), "{} is lost", name(runner.number));
            let shown = Shown::Runner { uuid: runner.uuid.clone(), secret: runner.secret.clone() };
            let answer = Client::new(&admin.http, &server.url, shown).data(HEARTBEAT, json!({})).await;
            assert_eq!(answer["heartbeat"]["runner"]["name"], name(runner.number));
        }
        // Those that were not acknowledged are there whole, or not at all.
        for (name, labels) in &listed {
            assert_eq!(labels, &json!([name, "linux"]));
        }
        let answer = admin.data("{ instance { registrationTokens { nodes { useCount } } } }", json!({})).await;
        assert_eq!(answer["instance"]["registrationTokens"]["nodes"][0]["useCount"], listed.len());
    }

    async fn a_change_that_was_acknowledged_survives_kill_9(database) {
        let database = TestDatabase::create(database).await;
        let folder = database.folder.path();
        let server = ServerProcess::start(folder, &database.url, &[]).await;
        let port = server.port();
        let organization = r#"mutation { createOrganization(input: {login: "acme", name: "Acme"}) { organization { id } } }"#;
        server.admin().data(organization, json!({})).await;
        server.kill();

        let server = ServerProcess::start_on(port, folder, &database.url, &[]).await;
        let token = r#"mutation { createRegistrationToken(input: {scope: {owner: "acme"}, labels: ["forced"]}) { secret } }"#;
        let answer = server.admin().data(token, json!({})).await;
        let token = answer["createRegistrationToken"]["secret"].as_str().unwrap().to_owned();
        server.kill();

        let server = ServerProcess::start_on(port, folder, &database.url, &[]).await;
        let input = json!({"token": token, "name": "before", "labels": ["old"]});
        let answer = server.client(Shown::Nothing).data(REGISTER, json!({"input": input})).await;
        let id = answer["registerRunner"]["runner"]["id"].clone();
        let update = "mutation($input: UpdateRunnerInput!) { updateRunner(input: $input) { runner { id } } }";
        let input = json!({
            "id": id, "name": "after", "description": "what it is", "labels": ["new"], "disabled": true, "note": "a remark",
        });
        server.admin().data(update, json!({"input": input})).await;
        server.kill();

        let server = ServerProcess::start_on(port, folder, &database.url, &[]).await;
        let query = "query($id: ID!) { runner(id: $id) { name description labels disabled note scope { path } } }";
        let answer = server.admin().data(query, json!({"id": id})).await;
        assert_eq!(
            answer["runner"],
            json!({
                "name": "after", "description": "what it is", "labels": ["forced", "new"], "disabled": true,
                "note": "a remark", "scope": {"path": "acme"},
            })
        );
    }

    async fn a_first_start_that_is_killed_is_made_up_for_by_the_next(database) {
        for delay in (0..=150).step_by(10) {
            let place = TestDatabase::create(database).await;
            let folder = place.folder.path();
            for pause in [delay, delay / 2] {
                let mut killed = serve(folder, &place.url).stderr(Stdio::null()).spawn().unwrap();
                tokio::time::sleep(Duration::from_millis(pause)).await;
                killed.kill().await.unwrap();
            }
            let server = ServerProcess::start(folder, &place.url, &[]).await;
            let answer = server.admin().data("{ viewer { ... on User { login isAdmin } } }", json!({})).await;
            assert_eq!(answer["viewer"], json!({"login": "admin", "isAdmin": true}), "killed after {delay} ms");
            let input = json!({"token": server.registration_token(), "name": "first"});
            server.client(Shown::Nothing).data(REGISTER, json!({"input": input})).await;
        }
    }

    async fn sigterm_ends_streams_writes_presence_and_exits_with_0(database) {
        let database = TestDatabase::create(database).await;
        let folder = database.folder.path();
        // Nothing but the end writes presence.
        let flags = ["--presence-flush-interval", "1h"];
        let server = ServerProcess::start(folder, &database.url, &flags).await;
        let port = server.port();
        let admin = server.admin();
        let input = json!({"token": server.registration_token(), "name": "present"});
        let answer = server.client(Shown::Nothing).data(REGISTER, json!({"input": input})).await;
        let registered = &answer["registerRunner"];
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let shown = Shown::Runner { uuid: text(&registered["runner"]["uuid"]), secret: text(&registered["secret"]) };
        server.client(shown).data(HEARTBEAT, json!({})).await;
        let id = &registered["runner"]["id"];
        let before = presence(&admin, id).await;
        assert!(before["lastOnlineAt"].is_string(), "{before}");
        assert_eq!(before["status"], "IDLE");
        let mut socket = Socket::open(&server.url).await;
        socket.init(&admin.shown).await;
        socket.subscribe("s", "subscription { heartbeats { at } }", json!({})).await;
        socket.is_listening("s").await;

        let watch = Stopwatch::start();
        let end = tokio::task::spawn_blocking(move || server.terminate());
        let close = loop {
            match socket.next().await {
                Frame::Message(_) => {}
                close => break close,
            }
        };
        assert!(matches!(close, Frame::Close(1001, _)), "{close:?}");
        drop(socket);
        let status = end.await.unwrap();
        assert_eq!(status.code(), Some(0));
        assert!(watch.elapsed() < Duration::from_secs(5), "it took {:?}", watch.elapsed());

        let server = ServerProcess::start_on(port, folder, &database.url, &flags).await;
        assert_eq!(presence(&server.admin(), id).await, before);
    }

    async fn a_second_server_on_the_same_data_folder_is_refused(database) {
        let database = TestDatabase::create(database).await;
        let folder = database.folder.path();
        let server = ServerProcess::start(folder, &database.url, &[]).await;
        let second = tokio::time::timeout(Duration::from_secs(20), serve(folder, &database.url).output());
        let second = second.await.expect("the second server runs").unwrap();
        let error = String::from_utf8(second.stderr).unwrap();
        assert_eq!(second.status.code(), Some(1), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(error.contains("another rollcall uses the data folder"), "{error}");
        assert!(error.contains(folder.to_str().unwrap()), "{error}");
        // The first goes on.
        server.admin().data("{ viewer { __typename } }", json!({})).await;
    }
}
