//! Waits for the end of a script, or brings it about, and leaves nothing of it behind.

use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio_util::sync::CancellationToken;

use super::super::assignments::Order;
use super::lines::Lines;
use super::process::Process;
use super::{Execution, Notes};

/// The server tells a task to end when its time is over. So much later the agent does it by itself.
const TIMEOUT_MARGIN: Duration = Duration::from_secs(5);

/// How long what a script has left behind may go on to write.
const REST_PATIENCE: Duration = Duration::from_secs(2);

/// How often it is looked whether a group is gone that was asked to go.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A pipe that nobody of the group can write to any more is read until it was empty for so long.
const LAST_READ: Duration = Duration::from_millis(100);

/// No pipe holds more. What comes after that is of a process that has left its group.
const LARGEST_PIPE: usize = 1024 * 1024;

const READ_SIZE: usize = 16 * 1024;

/// Why a script ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// By itself.
    Exited,
    /// Somebody wanted it to.
    Cancelled,
    /// It took too long.
    TimedOut,
    /// The runner leaves.
    HandedBack,
    /// The runner does not hold the task any more.
    Lost,
}

impl From<Order> for End {
    fn from(order: Order) -> Self {
        match order {
            Order::GoOn => Self::Exited,
            Order::Cancel => Self::Cancelled,
            Order::HandBack => Self::HandedBack,
            Order::Forget => Self::Lost,
        }
    }
}

impl Execution<'_> {
    /// Waits for the end of a script, reads what it writes, and leaves nothing of it behind.
    pub(super) async fn mind(
        &self,
        process: Process,
        output: pipe::Receiver,
        notes: &Notes<'_>,
    ) -> (End, io::Result<ExitStatus>) {
        let read = CancellationToken::new();
        let (ended, ()) = tokio::join!(self.conduct(process, notes, &read), async {
            self.read(output, notes).await;
            read.cancel();
        });
        ended
    }

    async fn conduct(
        &self,
        mut process: Process,
        notes: &Notes<'_>,
        read: &CancellationToken,
    ) -> (End, io::Result<ExitStatus>) {
        let allowed = self.fetched.task.timeout_seconds;
        let limit = Duration::from_secs(allowed).saturating_add(TIMEOUT_MARGIN);
        let (end, exit) = tokio::select! {
            biased;
            exit = process.wait() => (End::Exited, Some(exit)),
            order = self.assignment.ordered() => (End::from(order), None),
            () = self.shop.clock.sleep(limit) => (End::TimedOut, None),
        };
        let exit = if let Some(exit) = exit {
            // What it has started may still write, but not for long.
            tokio::select! {
                () = read.cancelled() => {}
                () = self.assignment.forgotten() => {}
                () = self.shop.clock.sleep(REST_PATIENCE) => {}
            }
            exit
        } else {
            self.tell_why(end, allowed, notes).await;
            self.stop(&mut process, end).await
        };
        process.kill();
        self.over.cancel();
        (end, exit)
    }

    async fn tell_why(&self, end: End, allowed: u64, notes: &Notes<'_>) {
        let why = match end {
            End::Cancelled => "the task was cancelled, and its script is being ended".to_owned(),
            End::TimedOut => format!("the task took longer than its {allowed} s, and its script is being ended"),
            End::HandedBack => "the runner leaves; the script is being ended, and the task handed back".to_owned(),
            End::Exited | End::Lost => return,
        };
        tokio::select! {
            () = notes.add(&why) => {}
            // A log that cannot be delivered at the moment must not keep the script alive.
            () = self.shop.clock.sleep(LOOK_AGAIN) => {}
        }
    }

    /// Ends a script: by asking, and when that takes too long, by force.
    async fn stop(&self, process: &mut Process, end: End) -> io::Result<ExitStatus> {
        if end == End::Lost {
            process.kill();
            return process.wait().await;
        }
        process.terminate();
        tokio::select! {
            exit = self.wait_for_all(process) => return exit,
            () = self.shop.clock.sleep(self.shop.cancel_grace) => {}
            () = self.assignment.forgotten() => {}
        }
        process.kill();
        process.wait().await
    }

    /// Waits for the shell and for everything that it has started: that may need its time to clean up.
    async fn wait_for_all(&self, process: &mut Process) -> io::Result<ExitStatus> {
        let exit = process.wait().await;
        while process.has_rest() {
            self.shop.clock.sleep(LOOK_AGAIN).await;
        }
        exit
    }

    /// Makes lines of what the script writes. While the server takes none, nothing is read, and the script waits.
    async fn read(&self, mut output: pipe::Receiver, notes: &Notes<'_>) {
        let mut lines = Lines::new(notes.mask);
        let mut found = Vec::new();
        let mut buffer = vec![0; READ_SIZE];
        let mut left = LARGEST_PIPE;
        while left > 0 {
            let count = tokio::select! {
                biased;
                // A pipe that cannot be read is as good as one that has ended.
                read = output.read(&mut buffer) => read.unwrap_or(0),
                () = self.nothing_more() => 0,
            };
            if count == 0 {
                break;
            }
            if self.over.is_cancelled() {
                left = left.saturating_sub(count);
            }
            lines.push(&buffer[..count], &mut found);
            for line in found.drain(..) {
                // Whoever takes lines takes them until there are no more senders.
                let _ = notes.lines.send(line).await;
            }
        }
        lines.finish(&mut found);
        for line in found {
            let _ = notes.lines.send(line).await;
        }
    }

    async fn nothing_more(&self) {
        self.over.cancelled().await;
        self.shop.clock.sleep(LAST_READ).await;
    }
}
