//! The wrapped command: started, told of signals, and outlived.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Child;

use super::terminal;
use crate::exit::{Failure, Fault};
use crate::signals::{Signals, exit_code};

/// A running command. It is killed when this is dropped before it ended.
pub(super) struct Command {
    child: Child,
}

impl Command {
    /// Starts `words`, a program and its arguments, in this environment plus `variables`. It stays in the same process
    /// group, so that it can read from the terminal and Ctrl-Z stops both.
    pub(super) fn start(words: &[OsString], variables: Vec<(&str, OsString)>) -> anyhow::Result<Self> {
        let (program, arguments) = words.split_first().context("there is no command to run")?;
        let child = tokio::process::Command::new(program)
            .args(arguments)
            .envs(variables)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| cannot_start(program, &error))?;
        Ok(Self { child })
    }

    /// Waits for the command to end and meanwhile hands it every signal that it has not got already. Gives the exit
    /// code: its own, or 128 and the number of the signal that ended it.
    pub(super) async fn run(&mut self, signals: &mut Signals) -> anyhow::Result<u8> {
        loop {
            tokio::select! {
                status = self.child.wait() => return Ok(code_of(status.context("cannot wait for the command")?)),
                signal = signals.next() => self.forward(signal),
            }
        }
    }

    /// A process id can only be reused after it was waited for; `id` is `None` from then on.
    fn forward(&self, signal: i32) {
        let pid = self.child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
        let signal = Signal::from_named_raw(signal);
        let (Some(pid), Some(signal)) = (pid, signal) else { return };
        if terminal::has_sent(signal) {
            return;
        }
        if let Err(error) = kill_process(pid, signal) {
            tracing::warn!(?signal, %error, "the command could not be told of a signal");
        }
    }
}

/// As in a shell: 127 for a command that does not exist, 126 for one that cannot be executed.
fn cannot_start(program: &OsString, error: &std::io::Error) -> Failure {
    let program = program.to_string_lossy();
    match error.kind() {
        ErrorKind::NotFound => Fault::NotFound
            .because(format_args!("cannot run `{program}`: there is no such command; is it installed and in PATH?")),
        ErrorKind::PermissionDenied => Fault::NotExecutable
            .because(format_args!("cannot run `{program}`: it may not be executed; is it a program, and `chmod +x`?")),
        _ => Fault::NotExecutable.because(format_args!("cannot run `{program}`: {error}")),
    }
}

fn code_of(status: ExitStatus) -> u8 {
    match (status.code(), status.signal()) {
        (Some(code), _) => u8::try_from(code).unwrap_or(u8::MAX),
        (None, Some(signal)) => exit_code(signal),
        (None, None) => u8::MAX,
    }
}
