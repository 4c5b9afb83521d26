//! A script as a process group of its own.

use std::io;
use std::os::fd::OwnedFd;
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, WaitOptions, kill_process_group, test_kill_process_group, waitpgid};
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};

/// A script that runs, or has just ended. Dropped, it is killed with all that it has started.
pub(super) struct Process {
    child: Child,
    /// None once the group is known to be gone: its number may belong to another one then.
    group: Option<Pid>,
}

impl Process {
    /// Starts the command, and hands back what it will write.
    ///
    /// Standard output and standard error are one pipe, so that lines stay in the order in which they were written.
    pub(super) fn start(mut command: Command) -> io::Result<(Self, pipe::Receiver)> {
        let (reader, writer) = io::pipe()?;
        let reader = pipe::Receiver::from_owned_fd(OwnedFd::from(reader))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(writer.try_clone()?)
            .stderr(writer)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        // It holds the other end of the pipe, which would never end otherwise.
        drop(command);
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Ok((Self { child, group }, reader))
    }

    /// Waits for the end of the shell. What it has started may go on.
    pub(super) async fn wait(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await?;
        self.has_rest();
        Ok(status)
    }

    /// Whether any process of the group is left. Once none is, none will be.
    pub(super) fn has_rest(&mut self) -> bool {
        self.reap();
        self.group = self.group.filter(|group| test_kill_process_group(*group).is_ok());
        self.group.is_some()
    }

    /// Asks every process of the group to end.
    pub(super) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Ends every process of the group.
    pub(super) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// What the shell has left behind becomes a child of the agent when that is the first process of a container, and
    /// would stay in the group for ever, ended or not.
    fn reap(&self) {
        // The shell has an id for as long as it was not waited for, and that is not done here.
        if let Some(group) = self.group.filter(|_| self.child.id().is_none()) {
            while matches!(waitpgid(group, WaitOptions::NOHANG), Ok(Some(_))) {}
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            // It fails when there is nobody left, which is as good.
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::path::Path;
    use std::time::Duration;

    use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};

    use super::*;
    use crate::clock::Clock;

    fn start(script: &str) -> (Process, pipe::Receiver) {
        let mut command = Command::new("sh");
        command.args(["-e", "-c", script]);
        Process::start(command).unwrap()
    }

    async fn all_of(mut output: pipe::Receiver) -> String {
        let mut text = String::new();
        output.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn output_comes_in_order_and_ends_with_the_script() {
        let (mut process, output) = start("echo a; echo b >&2; echo c; exit 3");
        assert_eq!(all_of(output).await, "a\nb\nc\n");
        assert_eq!(process.wait().await.unwrap().code(), Some(3));
        assert!(!process.has_rest());
    }

    #[tokio::test]
    async fn the_first_failure_ends_the_script_and_input_is_empty() {
        let (mut process, output) = start("cat; false; echo never");
        assert_eq!(all_of(output).await, "");
        assert_eq!(process.wait().await.unwrap().code(), Some(1));
    }

    #[tokio::test]
    async fn a_signal_reaches_the_whole_group() {
        let (mut process, output) = start("sleep 100 & echo started; wait");
        let mut output = BufReader::new(output);
        let mut text = String::new();
        output.read_line(&mut text).await.unwrap();
        process.terminate();
        assert_eq!(process.wait().await.unwrap().signal(), Some(15));
        // The pipe ends with the sleep, which held it too.
        tokio::select! {
            read = output.read_to_string(&mut text) => assert_eq!(read.unwrap(), 0),
            () = Clock::system().sleep(Duration::from_secs(20)) => panic!("the sleep goes on"),
        }
        assert_eq!(text, "started\n");
    }

    #[tokio::test]
    async fn what_the_shell_leaves_behind_is_known_and_killed() {
        let (mut process, output) = start("sleep 100 & echo $!");
        assert_eq!(process.wait().await.unwrap().code(), Some(0));
        assert!(process.has_rest());
        process.kill();
        // The pipe ends although the sleep held it.
        let id = all_of(output).await;
        assert!(!Path::new("/proc").join(id.trim()).join("fd/1").exists(), "the sleep goes on");
    }

    #[tokio::test]
    async fn a_dropped_script_is_killed() {
        let (process, output) = start("sleep 100 & sleep 100");
        drop(process);
        assert_eq!(all_of(output).await, "");
    }
}
