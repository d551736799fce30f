//! Recorded traces from files: the same reports as proxies send, so that live and recorded traffic are judged alike.
//!
//! The life of a span: `file` reads it in one of two formats, `tree` puts it below its parent, `pairs` tells which span
//! is the caller's side of which call, `skew` sets the clocks right, `handlings` finds what each service handled and
//! called, and `fold` counts that in the window of the service that handled it.

mod fold;
mod handlings;
mod skew;
mod pairs;
mod tree;
mod file;
mod format;
mod jaeger;
mod zipkin;
mod scalar;
mod span;
mod naming;
mod error;
mod summary;

use std::path::Path;

use couplet_telemetry::report::Report;

pub use error::TraceError;
pub use summary::{Repair, SetAside, TraceSummary};

use fold::Fold;
use span::Spans;

/// How much is read at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceLimits {
    /// Bytes per file, after decompression.
    pub bytes: u64,
    /// Spans in all files together; about 150 bytes of memory each.
    pub spans: usize,
}

impl Default for TraceLimits {
    fn default() -> Self {
        Self { bytes: 2 << 30, spans: 20_000_000 }
    }
}

/// Reads trace files (Zipkin v2 or Jaeger JSON, plain or gzip) within the default limits.
///
/// Gives one report per service, sorted by service, always the same for the same spans in whatever order, and what
/// became of the spans. A trace may be spread over several files. Files without spans are no error, but a warning in
/// the summary.
///
/// # Errors
/// The first file that cannot be read to its end: see [`TraceError`].
pub fn read<P: AsRef<Path>>(files: &[P]) -> Result<(Vec<Report>, TraceSummary), TraceError> {
    read_within(files, TraceLimits::default())
}

/// Reads trace files like [`read`], within `limits`.
///
/// # Errors
/// The first file that cannot be read to its end: see [`TraceError`].
pub fn read_within<P: AsRef<Path>>(
    files: &[P],
    limits: TraceLimits,
) -> Result<(Vec<Report>, TraceSummary), TraceError> {
    let mut spans = Spans::new(limits.spans);
    for path in files.iter().map(AsRef::as_ref) {
        let before = spans.len();
        file::read(path, limits.bytes, &mut spans)?;
        if spans.len() == before {
            spans.summary.warnings.push(format!("{}: holds no spans", path.display()));
        }
    }
    let (names, mut summary, spans) = spans.into_parts();
    let mut fold = Fold::new(&names);
    for trace in spans.chunk_by(|a, b| a.trace == b.trace) {
        summary.traces += 1;
        let mut tree = tree::build(trace, &mut summary);
        pairs::mark(&mut tree, &names);
        summary.repair(Repair::ClockSkew, skew::correct(&mut tree));
        let handlings = handlings::find(&tree, &mut summary);
        fold.add(&handlings);
    }
    Ok((fold.into_reports(), summary))
}

#[cfg(test)]
mod tests;
