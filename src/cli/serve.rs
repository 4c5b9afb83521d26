//! `rollcall serve`.

use std::fs::{File, OpenOptions};
use std::io::{IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use secrecy::ExposeSecret as _;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::Failure;
use crate::app::{self, App};
use crate::clock::Clock;
use crate::config::ServerConfig;
use crate::fleet::{ADMIN_LOGIN, FirstStart};
use crate::rng::Rng;

const FIRST_START_FILE: &str = "first-start.json";
const LOCK_FILE: &str = "rollcall.lock";

/// What `first-start.json` holds.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FirstStartFile<'a> {
    url: &'a str,
    admin_login: &'a str,
    admin_token: &'a str,
    agent_command: String,
}

pub(super) async fn run(config: ServerConfig, stop: CancellationToken) -> Result<(), Failure> {
    // Each connection is a file, and many systems allow a thousand unless asked.
    let files = rlimit::increase_nofile_limit(u64::MAX).unwrap_or_default();
    tracing::debug!(files, "files that may be open at once");
    app::make_folder(&config.data_dir)?;
    let _lock = lock(&config.data_dir)?;
    // Before the database is touched: a port that is taken is the likeliest mistake.
    let listener = TcpListener::bind(config.listen).await.map_err(|error| {
        format!("cannot listen on {}: {error}; is another server running? Choose another with --listen", config.listen)
    })?;
    let bound = listener.local_addr()?;
    let url = config.effective_public_url(bound);
    let data_dir = config.data_dir.clone();
    let building = App::build(config, Clock::system(), Rng::from_system(), stop.clone());
    let Some(app) = stop.run_until_cancelled(building).await else { return Ok(()) };
    let app = app?;
    if !app.migrations.applied.is_empty() {
        tracing::info!(versions = app.migrations.applied.join(", "), "database migrated");
    }
    let path = data_dir.join(FIRST_START_FILE);
    let mut is_kept = false;
    let first = app
        .fleet
        .first_start(|made| {
            is_kept = true;
            keep(&path, &url, made)
        })
        .await?;
    if is_kept && first.is_none() {
        // Another server on the same database was quicker, and these secrets are nobody's.
        std::fs::remove_file(&path)?;
    }
    announce(&url, bound, &path, first.as_ref())?;
    app.run(listener, stop).await?;
    tracing::info!("stopped");
    Ok(())
}

/// One server a data folder: two would each hold their own idea of who is here.
fn lock(folder: &Path) -> Result<File, Failure> {
    let path = folder.join(LOCK_FILE);
    let file =
        OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path).map_err(|error| {
            format!("cannot write to the data folder {}: {error}; choose another with --data-dir", folder.display())
        })?;
    file.try_lock().map_err(|_| {
        format!(
            "another rollcall uses the data folder {}; stop it, or choose another with --data-dir",
            folder.display()
        )
    })?;
    Ok(file)
}

/// Writes the secrets of the first start where only this user reads them.
fn keep(path: &Path, url: &str, made: &FirstStart) -> std::io::Result<()> {
    let file = FirstStartFile {
        url,
        admin_login: ADMIN_LOGIN,
        admin_token: made.admin_token.expose_secret(),
        agent_command: agent_command(url, made),
    };
    let text = serde_json::to_string_pretty(&file)?;
    let fresh = path.with_extension("json.new");
    let mut output = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&fresh)?;
    output.write_all(text.as_bytes())?;
    output.write_all(b"\n")?;
    output.sync_all()?;
    std::fs::rename(&fresh, path)
}

/// The command that starts a first runner, with this program as it was called.
fn agent_command(url: &str, made: &FirstStart) -> String {
    let program = std::env::args().next().unwrap_or_else(|| "rollcall".to_owned());
    format!("{program} agent --url {url} --token {}", made.registration_token.expose_secret())
}

fn announce(url: &str, bound: SocketAddr, path: &Path, first: Option<&FirstStart>) -> std::io::Result<()> {
    tracing::info!(listen = %bound, "ready at {url}");
    let Some(first) = first else { return Ok(()) };
    let mut terminal = std::io::stderr();
    if !terminal.is_terminal() {
        tracing::info!(
            "first start: the administrator's access token and the first runner's command are in {}",
            path.display()
        );
        return Ok(());
    }
    let token = first.admin_token.expose_secret();
    let command = agent_command(url, first);
    writeln!(
        terminal,
        "
  Rollcall is ready. This is its first start, so here is what you need; it is also in {path}.

  1. Open {url}/graphiql and put this under Headers:

       {{ \"Authorization\": \"Bearer {token}\" }}

  2. Start a first runner in another terminal:

       {command}
",
        path = path.display()
    )
}
