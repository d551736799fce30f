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
    /// The report without its paths and calls.
    pub report: Report,
    /// All of it in few bytes: what is stored, merged, and gathers in a slot.
    pub body: Bytes,
}

impl PackedReport {
    /// Packs a report.
    #[must_use]
    pub fn new(mut report: Report) -> Self {
        let body = rows::write([&report]).into();
        // Here they came into being, and here they end: nobody else has to give their memory back.
        (report.paths, report.calls) = (Vec::new(), Vec::new());
        Self { report, body }
    }

    /// Merges it into a graph, as it is packed.
    pub fn add_to(&self, graph: &mut Graph) {
        let mut filing = graph.begin(&self.report);
        let read = rows::each_row(&self.body, &ALL, |piece| match piece {
            Piece::Report(_) => {}
            Piece::Path(path, handlings) => graph.add_path(&mut filing, &path, handlings),
            Piece::Call { path, callee, calls, first_byte: _ } => graph.add_call(&filing, path, callee, calls),
            Piece::Examples(path, examples) => graph.add_examples(&filing, path, &examples),
        });
        if read.is_none() {
            // It was written here, so this is an error of ours: the graph misses what the history has.
            tracing::error!(origin = %self.report.origin.service, "a packed report cannot be read back, and is not shown");
        }
    }
}

#[cfg(test)]
mod tests {
    use couplet_telemetry::loss::Loss;

    use super::*;
    use crate::graph::GraphLimits;
    use crate::traffic::{chain, traffic};

    #[test]
    fn a_packed_report_says_to_a_graph_what_it_says_itself_whoever_sends_it_and_whatever_else_is_in_it() {
        let plain = traffic().with_replicas(2).of(10, &chain(&["web", "orders", "billing"])).reports();
        let (mut named, mut lossy) = (plain.clone(), plain.clone());
        for report in &mut named {
            report.origin.version = Some("2.1".to_owned());
            report.origin.inbound = Some("10.0.0.1:15406".to_owned());
        }
        lossy.iter_mut().for_each(|report| report.losses = vec![(Loss::Paths, 3)]);
        for reports in [plain, named, lossy] {
            let (mut told, mut packed) = (Graph::new(GraphLimits::default()), Graph::new(GraphLimits::default()));
            for report in reports {
                told.apply(&report);
                let report = PackedReport::new(report);
                assert!(report.report.paths.is_empty() && report.report.calls.is_empty());
                report.add_to(&mut packed);
            }
            assert_eq!(packed.snapshot().requests(), 10);
            assert_eq!(format!("{:?}", packed.snapshot()), format!("{:?}", told.snapshot()));
        }
    }
}
