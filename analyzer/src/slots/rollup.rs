//! What one service reported in one slot, all its replicas together: packed, as bytes.
//!
//! The bytes are reports again, in few bytes ([`rows`](super::rows)): one with everything that was measured, and an empty one
//! for every further replica, so that none is forgotten. Earlier releases kept OTLP, gzipped, which is still read.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use couplet_telemetry::otlp::{self, Bounds};
use couplet_telemetry::report::Report;
use couplet_telemetry::window::WindowLimits;

use super::Tier;
use super::gathered::Gathered;
use super::rows::{self, Piece};
use crate::graph::Graph;
use crate::gzip;

/// Bytes of one rollup of an earlier release at most, unpacked: far more than so many entries can have.
const UNPACKED: usize = 256 << 20;

/// Bytes of a whole slot at most, unpacked.
const FETCHED: usize = 2 << 30;

/// What one service reported in one slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rollup {
    /// Length of the slot.
    pub tier: Tier,
    /// Its start, milliseconds since the Unix epoch.
    pub start: u64,
    /// Its end. Less than its length after the start where it was sealed early.
    pub end: u64,
    /// Whose reports.
    pub service: Arc<str>,
    /// The reports, packed.
    pub body: Bytes,
    /// Where it is in the history; none where it is in memory only.
    pub row: Option<i64>,
}

impl Rollup {
    /// The reports; none where the bytes are not what was packed.
    #[must_use]
    pub fn reports(&self, bounds: &Bounds) -> Option<Vec<Report>> {
        if rows::is_packed(&self.body) {
            return rows::read(&self.body, bounds);
        }
        let bytes = gzip::unpack(&self.body, UNPACKED).ok()?;
        Some(otlp::decode(&bytes, bounds).ok()?.reports)
    }
}

impl Rollup {
    /// Merges the reports into a graph. What was packed is merged as it is. None where the bytes cannot be read to their end:
    /// what stands before that is in the graph then.
    pub(crate) fn add_to(&self, graph: &mut Graph, bounds: &Bounds) -> Option<()> {
        if !rows::is_packed(&self.body) {
            self.reports(bounds)?.iter().for_each(|report| graph.apply(report));
            return Some(());
        }
        let mut filing = None;
        rows::each(&self.body, bounds, |piece| match (piece, &mut filing) {
            (Piece::Report(report), filing) => *filing = Some(graph.begin(&report)),
            (Piece::Path(path, handlings), Some(filing)) => graph.add_path(filing, &path, handlings),
            (Piece::Call { path, callee, calls, first_byte: _ }, Some(filing)) => {
                graph.add_call(filing, path, callee, calls);
            }
            (Piece::Examples(path, examples), Some(filing)) => graph.add_examples(filing, path, &examples),
            (Piece::Path(..) | Piece::Call { .. } | Piece::Examples(..), None) => {}
        })
    }

    /// Adds the reports to those of the same service. None as above.
    fn add_up(&self, gathered: &mut Gathered, bounds: &Bounds) -> Option<()> {
        if rows::is_packed(&self.body) {
            return gathered.add(&self.body, bounds);
        }
        self.reports(bounds)?.into_iter().for_each(|report| gathered.absorb(report));
        Some(())
    }
}

/// Folds slots into one of `tier`, service by service. What cannot be read is left out; in how many rollups that is.
#[must_use]
pub fn fold(rollups: &[Arc<Rollup>], tier: Tier, bounds: &Bounds, limits: WindowLimits) -> (Vec<Rollup>, u64) {
    let mut by_service: BTreeMap<&str, Vec<&Rollup>> = BTreeMap::new();
    for rollup in rollups {
        by_service.entry(&rollup.service).or_default().push(rollup);
    }
    let (mut folded, mut unreadable) = (Vec::new(), 0);
    for (service, parts) in by_service {
        // One service at a time, and nothing of it is unpacked but what an earlier release kept.
        let mut gathered = Gathered::new(limits);
        for part in &parts {
            unreadable += u64::from(part.add_up(&mut gathered, bounds).is_none());
        }
        let start = parts.iter().map(|part| part.start).min().unwrap_or(0);
        let end = parts.iter().map(|part| part.end).max().unwrap_or(start);
        folded.extend(gathered.pack(service, tier, (start, end)));
    }
    (folded, unreadable)
}

/// All reports of a slot as OTLP, gzipped: what whoever fetches it can read without knowing how it is kept.
#[must_use]
pub fn archive(rollups: &[Arc<Rollup>], bounds: &Bounds) -> Vec<u8> {
    let mut packer = gzip::Packer::default();
    for rollup in rollups {
        // Requests that stand one after the other are one request with all of it: so protobuf has it.
        rollup.reports(bounds).iter().flatten().for_each(|report| packer.add(&otlp::encode(report)));
    }
    packer.finish()
}

/// The rollups of a slot of ten seconds as it is fetched from a running analyzer: all of them, one after the other. None
/// where the bytes are no such thing.
#[must_use]
pub fn fetched(body: &[u8], times: (u64, u64), bounds: &Bounds, limits: WindowLimits) -> Option<Vec<Rollup>> {
    let bytes = gzip::unpack(body, FETCHED).ok()?;
    let mut services: BTreeMap<String, Gathered> = BTreeMap::new();
    for report in otlp::decode(&bytes, bounds).ok()?.reports {
        let service = report.origin.service.clone();
        services.entry(service).or_insert_with(|| Gathered::new(limits)).absorb(report);
    }
    let pack = |(service, gathered): (String, Gathered)| gathered.pack(&service, Tier::Seconds, times);
    Some(services.into_iter().flat_map(pack).collect())
}

#[cfg(test)]
mod tests {
    use couplet_telemetry::breaker::{BreakerCounts, BreakerReport, Count};
    use couplet_telemetry::report::Origin;
    use couplet_telemetry::window::Window;

    use super::*;

    const LIMITS: WindowLimits = WindowLimits { paths: 100, callees: 100 };
    const BOUNDS: Bounds = Bounds { paths: 1_000, calls: 1_000 };

    fn report(instance: &str, sequence: u64, failed: u64, state: &str) -> Report {
        let origin = Origin { service: "shop".to_owned(), instance: instance.to_owned(), ..Origin::default() };
        let mut counts = BreakerCounts::default();
        counts.add(Count::Failure, failed);
        let (to, state, mode) = ("stock".to_owned(), state.to_owned(), "observe".to_owned());
        let breaker = BreakerReport { to, class: None, state, mode, peak: failed, counts, transitions: Vec::new() };
        Report { breakers: vec![breaker], ..Window::new(LIMITS).close(origin, sequence, 1, 2) }
    }

    fn rollup(start: u64, reports: &[Report]) -> Vec<Arc<Rollup>> {
        let mut gathered = Gathered::new(LIMITS);
        reports.iter().for_each(|report| gathered.absorb(report.clone()));
        gathered.pack("shop", Tier::Seconds, (start, start + 10_000)).into_iter().map(Arc::new).collect()
    }

    #[test]
    fn every_replica_keeps_its_breakers_through_all_folds() {
        let first = rollup(0, &[report("a", 1, 3, "closed"), report("b", 1, 10, "open"), report("a", 2, 4, "open")]);
        let second = rollup(10_000, &[report("b", 2, 7, "half_open")]);
        let (folded, unreadable) = fold(&[first, second].concat(), Tier::Minute, &BOUNDS, LIMITS);
        assert_eq!((folded.len(), unreadable), (1, 0));
        let reports = folded[0].reports(&BOUNDS).unwrap();
        let shown: Vec<_> = reports
            .iter()
            .flat_map(|report| report.breakers.iter().map(|breaker| (report.origin.instance.as_str(), breaker)))
            .map(|(instance, breaker)| {
                (instance, breaker.state.as_str(), breaker.counts.get(Count::Failure), breaker.peak)
            })
            .collect();
        assert_eq!(shown, [("a", "open", 7, 4), ("b", "half_open", 17, 10)]);
    }

    #[test]
    fn a_graph_of_rollups_is_the_graph_of_their_reports() {
        use crate::graph::GraphLimits;
        use crate::traffic::{on, traffic};

        let stock = on("stock", "GET /stock/{id}").takes(7).calls(2, on("db", "query").external());
        let failing = stock.clone().fails();
        let root = on("shop", "GET /").calls(3, stock).calls(1, on("shop", "GET /self").calls(1, failing));
        let reports = traffic().with_replicas(3).of(40, &root).unlinked(9, "shop", &root).reports();
        let wide = GraphLimits::default();
        // Where there is not enough room, too.
        for limits in [wide, GraphLimits { services: 2, endpoints: 2, edges: 2, paths: 3, instances: 2, examples: 2 }] {
            let (mut told, mut kept, mut earlier) = (Graph::new(limits), Graph::new(limits), Graph::new(limits));
            for round in 0..3 {
                for service in ["shop", "stock"] {
                    let mut gathered = Gathered::new(LIMITS);
                    let own = reports.iter().filter(|report| report.origin.service == service);
                    own.for_each(|report| gathered.absorb(report.clone()));
                    for rollup in gathered.pack(service, Tier::Seconds, (round, round + 1)) {
                        rollup.reports(&BOUNDS).iter().flatten().for_each(|report| told.apply(report));
                        assert_eq!(rollup.add_to(&mut kept, &BOUNDS), Some(()));
                        let body = archive(&[Arc::new(rollup.clone())], &BOUNDS).into();
                        assert_eq!(Rollup { body, ..rollup }.add_to(&mut earlier, &BOUNDS), Some(()));
                    }
                }
            }
            let shown = |graph: &Graph| format!("{:?}", graph.snapshot());
            assert_eq!(shown(&kept), shown(&told));
            assert_eq!(shown(&earlier), shown(&told));
            assert_eq!(format!("{:?}", earlier.into_snapshot()), shown(&told));
            let handled = kept.snapshot().paths().iter().map(|path| path.stats.total()).sum::<u64>();
            assert!(handled > 300, "{handled}");
        }
    }

    #[test]
    fn what_an_earlier_release_kept_is_read_and_folded() {
        let whole = rollup(0, &[report("a", 1, 3, "closed"), report("b", 1, 10, "open")]);
        let reports = whole[0].reports(&BOUNDS).unwrap();
        let archived = archive(&whole, &BOUNDS);
        let earlier = Rollup { body: archived.clone().into(), ..Rollup::clone(&whole[0]) };
        assert_eq!(earlier.reports(&BOUNDS), Some(reports.clone()));
        let (folded, unreadable) = fold(&[Arc::new(earlier)], Tier::Minute, &BOUNDS, LIMITS);
        assert_eq!((folded[0].reports(&BOUNDS), unreadable), (Some(reports.clone()), 0));
        let fetched = fetched(&archived, (0, 10_000), &BOUNDS, LIMITS).unwrap();
        assert_eq!(fetched[0].reports(&BOUNDS), Some(reports));
    }
}
