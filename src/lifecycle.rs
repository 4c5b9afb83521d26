//! Start, signals, and the end: a background task that dies stops the server.

use std::fs;
use std::future::Future;
use std::time::Duration;

use futures_util::future::select_all;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The exit status of a process that a second signal has ended.
pub const HURRIED: i32 = 130;

/// What is left of the process after a second signal.
const LAST_MOMENT: Duration = Duration::from_millis(300);

/// The tasks that a server lives by.
pub struct Lifecycle {
    stop: CancellationToken,
    tasks: JoinSet<(&'static str, Result<(), String>)>,
}

impl Lifecycle {
    /// A lifecycle that ends when `stop` is cancelled.
    pub fn new(stop: CancellationToken) -> Self {
        Self { stop, tasks: JoinSet::new() }
    }

    /// What a task watches to know when to end.
    pub fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Starts a task that the server cannot live without. It ends when the stop token is cancelled.
    pub fn spawn(&mut self, name: &'static str, task: impl Future<Output = Result<(), String>> + Send + 'static) {
        self.tasks.spawn(async move { (name, task.await) });
    }

    /// Ends when a task has failed or ended by itself, and says which; never while all is well.
    pub async fn failed(&mut self) -> String {
        match self.tasks.join_next().await {
            None => std::future::pending().await,
            Some(ended) => describe(ended),
        }
    }

    /// Tells every task to end, and waits for them; returns what went wrong meanwhile.
    pub async fn end(mut self) -> Vec<String> {
        self.stop.cancel();
        let mut problems = Vec::new();
        while let Some(ended) = self.tasks.join_next().await {
            match ended {
                Ok((_, Ok(()))) => {}
                failed => problems.push(describe(failed)),
            }
        }
        problems
    }
}

fn describe(ended: Result<(&'static str, Result<(), String>), tokio::task::JoinError>) -> String {
    match ended {
        Ok((name, Ok(()))) => format!("the task {name} ended"),
        Ok((name, Err(error))) => format!("the task {name} failed: {error}"),
        Err(error) => format!("a task panicked: {error}"),
    }
}

/// What signals ask for.
#[derive(Clone, Debug, Default)]
pub struct Signals {
    /// To end, in good order.
    pub stop: CancellationToken,
    /// To leave nothing behind: the process ends in a moment, whatever it still has to do.
    pub at_once: CancellationToken,
}

/// What SIGTERM, SIGINT and SIGHUP ask for. A second SIGTERM or SIGINT ends the process.
///
/// # Errors
/// When the handlers cannot be installed.
pub fn on_signals() -> std::io::Result<Signals> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut heard = vec![signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?];
    let urgent = heard.len();
    if !is_hangup_ignored() {
        heard.push(signal(SignalKind::hangup())?);
    }
    let signals = Signals::default();
    let told = signals.clone();
    tokio::spawn(async move {
        let mut count = 0;
        while count < 2 {
            let (_, index, _) = select_all(heard.iter_mut().map(|signal| Box::pin(signal.recv()))).await;
            told.stop.cancel();
            // A terminal that is closed sends SIGHUP twice, and systemd may send it after SIGTERM: there is no hurry.
            if index < urgent {
                count += 1;
            }
        }
        told.at_once.cancel();
        tokio::time::sleep(LAST_MOMENT).await;
        std::process::exit(HURRIED);
    });
    Ok(signals)
}

/// Whether whoever has started this process wants it to outlive the terminal, as `nohup` does.
fn is_hangup_ignored() -> bool {
    fs::read_to_string("/proc/self/status").is_ok_and(|status| ignores_hangup(&status))
}

/// SIGHUP is signal 1, and so the lowest bit.
fn ignores_hangup(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ignored_hangup_is_known() {
        assert!(ignores_hangup("Name:\tx\nSigIgn:\t0000000000001001\nSigCgt:\t0\n"));
        assert!(!ignores_hangup("SigIgn:\t0000000000001000\nSigCgt:\t0000000000000001\n"));
        assert!(!ignores_hangup(""));
    }
}
