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

/// The shape of an answer that has two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people
    Text,
    /// For programs
    Json,
}

/// Names come from strangers: nothing of theirs may move the cursor, break a line or turn the direction of writing.
pub(crate) use couplet_analyzer::export::plain_name as name;

/// The same for a text of several lines.
pub(crate) fn printable(text: &str) -> String {
    text.split('\n').map(name).collect::<Vec<_>>().join("\n")
}

/// An answer for programs, indented, with a line end.
pub(crate) fn json(answer: &impl serde::Serialize) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(answer)? + "\n")
}

/// A duration for people: `840 µs`, `52 ms`, `1.40 s`.
pub(crate) fn seconds(seconds: f64) -> String {
    match seconds {
        s if s < 1e-3 => format!("{:.0} µs", s * 1e6),
        s if s < 1e-2 => format!("{:.1} ms", s * 1e3),
        s if s < 1.0 => format!("{:.0} ms", s * 1e3),
        s => format!("{s:.2} s"),
    }
}

/// Writes a remark to standard error, where it disturbs no reader of the result.
pub(crate) fn remark(text: &str) {
    // A remark that nobody can read is not worth an error.
    let _ = writeln!(std::io::stderr().lock(), "couplet: {text}");
}
