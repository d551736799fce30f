//! What a command says: results to standard output, everything else to standard error.

use std::io::{ErrorKind, Write as _};

use anyhow::Context as _;

/// Writes a result to standard output. A reader that has gone away has seen enough; that is no error.
pub(crate) fn result(text: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to standard output"),
    }
}

/// Writes a remark to standard error, where it disturbs no reader of the result.
pub(crate) fn remark(text: &str) {
    // A remark that nobody can read is not worth an error.
    let _ = writeln!(std::io::stderr().lock(), "couplet: {text}");
}
