//! Start, signals, and the end: a background task that dies stops the server.

use std::future::Future;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

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

/// A token that SIGTERM and SIGINT cancel. A second signal ends the process at once.
///
/// # Errors
/// When the handlers cannot be installed.
pub fn on_signals() -> std::io::Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let stop = CancellationToken::new();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let told = stop.clone();
    tokio::spawn(async move {
        let mut signals = 0;
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            signals += 1;
            told.cancel();
            if signals > 1 {
                std::process::exit(130);
            }
        }
    });
    Ok(stop)
}
