//! How a command ends: one message on standard error, and an exit code that a script can rely on.

use std::fmt;
use std::io::Write as _;
use std::process::ExitCode;

/// Something that the user can put right. The message says what is wrong and the way out of it.
#[derive(Debug)]
pub(crate) struct Failure {
    fault: Fault,
    message: String,
}

/// Whose fault it is that a command failed. Each has its own exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A flag, a file or an address that cannot be used: 2.
    Input,
    /// There is nothing yet to judge by: 3. An idle system must not look like a healthy one.
    Evidence,
    /// The analyzer cannot be reached, or what answers is none: 4.
    Analyzer,
    /// The sidecar cannot be reached, or is not ready: 5.
    Sidecar,
    /// The command to be wrapped exists but cannot be executed: 126, as shells have it.
    NotExecutable,
    /// The command to be wrapped does not exist: 127, as shells have it.
    NotFound,
}

impl Fault {
    /// The exit code.
    pub(crate) fn code(self) -> u8 {
        match self {
            Fault::Input => 2,
            Fault::Evidence => 3,
            Fault::Analyzer => 4,
            Fault::Sidecar => 5,
            Fault::NotExecutable => 126,
            Fault::NotFound => 127,
        }
    }

    /// A failure of this kind with what the user should read.
    pub(crate) fn because(self, message: impl fmt::Display) -> Failure {
        Failure { fault: self, message: message.to_string() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// Ends a command: says on standard error what went wrong, if something did, and gives the exit code.
pub(crate) fn report(outcome: anyhow::Result<ExitCode>) -> ExitCode {
    match outcome {
        Ok(code) => code,
        Err(error) => {
            // Nobody is left to tell when standard error is gone, too.
            let _ = writeln!(std::io::stderr().lock(), "error: {error:#}");
            ExitCode::from(code_of(&error))
        }
    }
}

fn code_of(error: &anyhow::Error) -> u8 {
    error.chain().find_map(|cause| cause.downcast_ref::<Failure>()).map_or(Fault::Input, |failure| failure.fault).code()
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn every_fault_has_its_own_exit_code_and_none_looks_like_success_or_a_failed_gate() {
        let faults =
            [Fault::Input, Fault::Evidence, Fault::Analyzer, Fault::Sidecar, Fault::NotExecutable, Fault::NotFound];
        let mut codes = faults.map(Fault::code).to_vec();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), faults.len());
        assert!(codes.iter().all(|code| *code > 1));
    }

    #[test]
    fn a_failure_keeps_its_code_when_context_is_put_around_it() {
        let error = Err::<(), _>(Fault::Analyzer.because("it is away")).context("cannot read the graph").unwrap_err();
        assert_eq!(code_of(&error), 4);
        assert_eq!(format!("{error:#}"), "cannot read the graph: it is away");
        assert_eq!(code_of(&anyhow::anyhow!("something else")), 2);
    }
}
