//! The real program as a process of its own, for what only a process can suffer.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::app::reqwest_client;
use super::{Client, Shown};

/// The program under test.
pub fn program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_rollcall"))
}

pub struct ServerProcess {
    child: Child,
    pub url: String,
    pub folder: PathBuf,
}

impl ServerProcess {
    /// Starts a server on a free port and waits until it is ready.
    pub async fn start(folder: &Path, database_url: &str, flags: &[&str]) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self::start_on(port, folder, database_url, flags).await
    }

    pub async fn start_on(port: u16, folder: &Path, database_url: &str, flags: &[&str]) -> Self {
        let log = std::fs::File::options().create(true).append(true).open(folder.join("server.log")).unwrap();
        let child = Command::new(program())
            .args(["serve", "--listen", &format!("127.0.0.1:{port}"), "--database-url", database_url])
            .arg("--data-dir")
            .arg(folder)
            .args(flags)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let server = Self { child, url: format!("http://127.0.0.1:{port}"), folder: folder.to_owned() };
        server.wait_until_ready().await;
        server
    }

    async fn wait_until_ready(&self) {
        let http = reqwest_client();
        for _ in 0..300 {
            if http.get(format!("{}/readyz", self.url)).send().await.is_ok_and(|it| it.status().is_success()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the server did not become ready: {}", self.log());
    }

    pub fn port(&self) -> u16 {
        self.url.rsplit_once(':').unwrap().1.parse().unwrap()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("server.log")).unwrap()
    }

    /// What the first start wrote.
    pub fn first_start(&self) -> Value {
        serde_json::from_str(&std::fs::read_to_string(self.folder.join("first-start.json")).unwrap()).unwrap()
    }

    pub fn client(&self, shown: Shown) -> Client {
        Client::new(&reqwest_client(), &self.url, shown)
    }

    pub fn admin(&self) -> Client {
        self.client(Shown::Bearer(self.first_start()["adminToken"].as_str().unwrap().to_owned()))
    }

    /// The registration token of the first start.
    pub fn registration_token(&self) -> String {
        let command = self.first_start()["agentCommand"].as_str().unwrap().to_owned();
        command.rsplit_once(' ').unwrap().1.to_owned()
    }

    /// SIGKILL: nothing is flushed, nobody is told.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM; returns the exit status.
    pub fn terminate(mut self) -> std::process::ExitStatus {
        Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        self.child.wait().unwrap()
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
