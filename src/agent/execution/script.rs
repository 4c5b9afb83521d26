//! Starts the script of a task, and says what came of it.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::ExitStatus;

use secrecy::ExposeSecret as _;
use tokio::net::unix::pipe;
use tokio::process::Command;

use super::super::operations::TaskOutput;
use super::folder::Folder;
use super::outputs;
use super::payload::Payload;
use super::process::Process;
use super::{Execution, Notes, Verdict, first_of};

/// The longest argument that Linux takes, less the NUL at its end.
const LONGEST_ARGUMENT: usize = 128 * 1024 - 1;

impl Execution<'_> {
    /// Runs the script of a task in a folder of its own.
    pub(super) async fn run_script(&self, payload: &Payload, notes: &Notes<'_>) -> Verdict {
        let folder = match Folder::create(&self.shop.work_dir, &self.shop.rng).await {
            Ok(folder) => folder,
            Err(error) => {
                notes.add(&format!("the runner could not make a folder for the task: {error}")).await;
                return Verdict::unfit(None);
            }
        };
        let (process, output) = match self.start(payload, &folder).await {
            Ok(started) => started,
            Err(problem) => {
                notes.add(&problem).await;
                return Verdict::unfit(Some(folder));
            }
        };
        let (end, exit) = self.mind(process, output, notes).await;
        let (has_succeeded, of_agent) = match exit {
            Ok(status) => (status.success(), outputs_of(status)),
            Err(error) => {
                notes.add(&format!("the end of the script could not be seen: {error}")).await;
                (false, Vec::new())
            }
        };
        let of_script = read_outputs(&folder, notes).await;
        Verdict { end, has_succeeded, of_agent, of_script, folder: Some(folder) }
    }

    async fn start(&self, payload: &Payload, folder: &Folder) -> Result<(Process, pipe::Receiver), String> {
        let directory = folder.start(payload.working_directory.as_deref()).await?;
        let mut command = Command::new(&payload.shell);
        command.arg("-e");
        let script = as_operand(&payload.run);
        if script.len() <= LONGEST_ARGUMENT {
            command.arg("-c").arg(script);
        } else {
            let written = folder.write_script(script).await;
            command.arg(written.map_err(|error| format!("the script could not be written down: {error}"))?);
        }
        command.current_dir(directory).env_clear();
        command.envs(self.shop.environment.iter().map(|(name, value)| (name, value)));
        command.envs(&payload.env);
        command.envs(payload.secrets.iter().map(|(name, value)| (name, value.expose_secret())));
        self.describe(&mut command, &folder.outputs());
        Process::start(command).map_err(|error| format!("{:?} could not be started: {error}", payload.shell))
    }

    /// What a script finds in its environment about its task. It comes last, so that nobody can claim otherwise.
    fn describe(&self, command: &mut Command, outputs: &Path) {
        let task = &self.fetched.task;
        command
            .env("CI", "true")
            .env("ROLLCALL_TASK_ID", &task.id)
            .env("ROLLCALL_TASK_NAME", &task.name)
            .env("ROLLCALL_TASK_ATTEMPT", task.attempt.to_string())
            .env("ROLLCALL_REPOSITORY", &task.repository.path)
            .env("ROLLCALL_OUTPUT", outputs);
        match &self.fetched.job_token {
            Some(token) => command.env("ROLLCALL_JOB_TOKEN", token.expose_secret()),
            None => command.env_remove("ROLLCALL_JOB_TOKEN"),
        };
    }
}

/// A script that begins with a dash or a plus would be taken for options of the shell.
fn as_operand(script: &str) -> String {
    if script.starts_with(['-', '+']) { format!("\n{script}") } else { script.to_owned() }
}

/// What the agent says of a script that has ended, in the way of shells: a signal is 128 and its number.
fn outputs_of(status: ExitStatus) -> Vec<TaskOutput> {
    let output = |name: &str, value: i32| TaskOutput { name: name.to_owned(), value: value.to_string() };
    match (status.code(), status.signal()) {
        (Some(code), _) => vec![output("exit_status", code)],
        (None, Some(signal)) => vec![output("exit_status", 128 + signal), output("signal", signal)],
        (None, None) => Vec::new(),
    }
}

async fn read_outputs(folder: &Folder, notes: &Notes<'_>) -> Vec<TaskOutput> {
    let (found, problems) = match folder.read_outputs().await {
        Ok(content) => outputs::parse(&content, notes.mask),
        Err(error) => (Vec::new(), vec![format!("the file of outputs could not be read: {error}")]),
    };
    for problem in first_of(problems) {
        notes.add(&problem).await;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_script_is_told_as_shells_do() {
        let outputs = |raw| -> Vec<String> {
            let outputs = outputs_of(ExitStatus::from_raw(raw));
            outputs.into_iter().map(|output| format!("{}={}", output.name, output.value)).collect()
        };
        assert_eq!(outputs(0), ["exit_status=0"]);
        assert_eq!(outputs(3 << 8), ["exit_status=3"]);
        assert_eq!(outputs(9), ["exit_status=137", "signal=9"]);
    }

    #[test]
    fn a_script_is_never_taken_for_options() {
        assert_eq!(as_operand("make"), "make");
        assert_eq!(as_operand("-x\necho"), "\n-x\necho");
        assert_eq!(as_operand("+x"), "\n+x");
    }
}
