//! Recorded traces from files: the same reports as proxies send, so that live and recorded traffic are judged alike.
//!
//! The life of a span: `file` reads it in one of three formats, or `pending` lets it wait for the rest of its trace; `tree` puts it below its parent, `pairs` tells which span
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
pub(crate) mod pending;
pub(crate) mod otlp;
mod zipkin;
mod scalar;
mod span;
mod naming;
mod error;
mod summary;

use std::path::Path;

use couplet_telemetry::report::Report;
use couplet_telemetry::window::Loss;

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

/// Reads trace files (Zipkin v2, Jaeger or OTLP JSON, plain or gzip) within the default limits.
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
    Ok(fold(spans))
}

/// Folds traces that came from exporters; gives one report per service, and how many spans made no sense.
pub(crate) fn fold_live(complete: Vec<pending::Complete>) -> (Vec<Report>, u64) {
    let mut reports = Vec::new();
    let mut unusable = 0;
    let (sampled, whole): (Vec<_>, Vec<_>) = complete.into_iter().partition(|trace| trace.sampled);
    for (traces, sampled) in [(whole, false), (sampled, true)] {
        let mut spans = Spans::new(usize::MAX);
        for told in traces.iter().flat_map(|trace| &trace.spans) {
            let _ = spans.add(told); // there is room for all that waited
        }
        let (mut folded, summary) = fold(spans);
        unusable += summary.set_aside.values().sum::<u64>();
        for report in folded.iter_mut().filter(|_| sampled) {
            let handlings = report.paths.iter().map(|path| path.stats.outcomes.total()).sum();
            report.losses.push((Loss::Sampled, handlings));
            report.losses.sort_unstable();
        }
        reports.append(&mut folded);
    }
    (reports, unusable)
}

fn fold(spans: Spans) -> (Vec<Report>, TraceSummary) {
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
    (fold.into_reports(), summary)
}

#[cfg(test)]
mod tests;
