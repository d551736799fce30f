//! A report between its decoding and its slot: packed once, merged and stored as it is then.

use bytes::Bytes;
use couplet_telemetry::otlp::Bounds;
use couplet_telemetry::report::Report;

use super::rows::{self, Piece};
use crate::graph::Graph;

/// What was written here is read as it is.
pub(super) const ALL: Bounds = Bounds { paths: usize::MAX, calls: usize::MAX };

/// A report, packed.
#[derive(Debug, Clone)]
pub struct PackedReport {
    /// The report itself.
    pub report: Report,
    /// All of it in few bytes: what is stored.
    pub body: Bytes,
}

impl PackedReport {
    /// Packs a report.
    #[must_use]
    pub fn new(report: Report) -> Self {
        Self { body: rows::write([&report]).into(), report }
    }

    /// Merges it into a graph, as it is packed.
    pub fn add_to(&self, graph: &mut Graph) {
        let mut filing = graph.begin(&self.report);
        let read = rows::each(&self.body, &ALL, |piece| match piece {
            Piece::Report(_) => {}
            Piece::Path(path, handlings) => graph.add_path(&mut filing, &path, handlings),
            Piece::Call { path, callee, calls, first_byte: _ } => graph.add_call(&filing, path, callee, calls),
            Piece::Examples(path, examples) => graph.add_examples(&filing, path, &examples),
        });
        debug_assert!(read.is_some(), "it was written here");
    }
}
