//! Waits for the end of a script, or brings it about, and leaves nothing of it behind.

use std::io;
use std::pin::pin;
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

/// The server's watch has started somewhat earlier than the agent's.
const LATE_START: Duration = Duration::from_secs(1);

/// How long what a script has left behind may go on to write.
const REST_PATIENCE: Duration = Duration::from_secs(2);

/// How often it is looked whether a group is gone that was asked to go.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// So many times it is looked whether a group is gone that was killed.
const LAST_LOOKS: u32 = 20;

/// A pipe that nobody of the group can write to any more is waited for so long.
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

/// Why a script is to end. The server cancels a task whose time is over like any other.
fn cause(order: Order, elapsed: Duration, allowed: Duration) -> End {
    let nearly = allowed.saturating_sub(LATE_START.min(allowed / 10));
    if order == Order::Cancel && elapsed >= nearly { End::TimedOut } else { End::from(order) }
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
        let (clock, longest) = (&self.shop.clock, Duration::from_secs(allowed));
        let began = clock.now();
        let (end, exit) = tokio::select! {
            biased;
            exit = process.wait() => (End::Exited, Some(exit)),
            order = self.assignment.ordered() => (cause(order, clock.now().since(began), longest), None),
            () = clock.sleep(longest.saturating_add(TIMEOUT_MARGIN)) => (End::TimedOut, None),
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
        self.see_off(&mut process).await;
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

    /// Waits for those who were killed, so that none of them is left behind.
    async fn see_off(&self, process: &mut Process) {
        for _ in 0..LAST_LOOKS {
            if !process.has_rest() {
                return;
            }
            self.shop.clock.sleep(LOOK_AGAIN).await;
        }
    }

    /// Makes lines of what the script writes. While the server takes none, nothing is read, and the script waits.
    async fn read(&self, mut output: pipe::Receiver, notes: &Notes<'_>) {
        let mut lines = Lines::new(notes.mask);
        let mut found = Vec::new();
        let mut buffer = vec![0; READ_SIZE];
        let mut left = LARGEST_PIPE;
        // Once for all reads: whoever goes on to write would put it off for ever.
        let mut enough = pin!(self.enough());
        let mut is_late = false;
        while left > 0 {
            // A pipe that cannot be read is as good as one that has ended.
            let count = if is_late {
                // What was written in time is taken, and more is not waited for.
                output.try_read(&mut buffer).unwrap_or(0)
            } else {
                tokio::select! {
                    biased;
                    () = &mut enough => {
                        is_late = true;
                        continue;
                    }
                    read = output.read(&mut buffer) => read.unwrap_or(0),
                }
            };
            if count == 0 {
                break;
            }
            if is_late || self.over.is_cancelled() {
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

    /// Ends when nothing of the script can write any more, or when nobody wants to know.
    async fn enough(&self) {
        let last_read = async {
            self.over.cancelled().await;
            self.shop.clock.sleep(LAST_READ).await;
        };
        tokio::select! {
            () = last_read => {}
            () = self.assignment.forgotten() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cancellation_at_the_end_of_the_time_is_its_end() {
        let seconds = Duration::from_secs;
        assert_eq!(cause(Order::Cancel, seconds(60), seconds(60)), End::TimedOut);
        assert_eq!(cause(Order::Cancel, Duration::from_millis(59_100), seconds(60)), End::TimedOut);
        assert_eq!(cause(Order::Cancel, seconds(58), seconds(60)), End::Cancelled);
        assert_eq!(cause(Order::Cancel, Duration::from_millis(800), seconds(1)), End::Cancelled);
        assert_eq!(cause(Order::HandBack, seconds(60), seconds(60)), End::HandedBack);
        assert_eq!(cause(Order::Forget, seconds(60), seconds(60)), End::Lost);
    }
}
