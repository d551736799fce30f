//! What one service reported in one slot, all its replicas together: packed, as bytes.
//!
//! The bytes are reports again, in few bytes ([`rows`](super::rows)): one with everything that was measured, and an empty one
//! for every further replica, so that none is forgotten. Earlier releases kept OTLP, gzipped, which is still read.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use couplet_telemetry::breaker::BreakerReport;
use couplet_telemetry::names::OTHER;
use couplet_telemetry::otlp::{self, Bounds};
use couplet_telemetry::report::{Origin, Report};
use couplet_telemetry::window::{Window, WindowLimits};

use super::Tier;
use super::rows::{self, Piece};
use crate::graph::Graph;
use crate::gzip;

/// Paths and calls of one rollup at most; what is beyond goes into another one. So no reader ever holds much at once.
const ENTRIES: usize = 5_000;
/// Bytes of one rollup of an earlier release at most, unpacked: far more than so many entries can have.
const UNPACKED: usize = 256 << 20;

/// Breakers of one rollup that are kept apart, over all replicas. Those beyond are one for each replica.
const BREAKERS: usize = 20_000;
/// Changes of one breaker that are kept, the last ones.
const TRANSITIONS: usize = 16;

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
}

/// Folds slots into one of `tier`, service by service. Rollups whose bytes cannot be read are left out; how many.
#[must_use]
pub fn fold(rollups: &[Arc<Rollup>], tier: Tier, bounds: &Bounds, limits: WindowLimits) -> (Vec<Rollup>, u64) {
    let mut by_service: BTreeMap<&str, Vec<&Rollup>> = BTreeMap::new();
    for rollup in rollups {
        by_service.entry(&rollup.service).or_default().push(rollup);
    }
    let (mut folded, mut unreadable) = (Vec::new(), 0);
    for (service, parts) in by_service {
        // One service at a time: that is all that is ever unpacked.
        let mut gathered = Gathered::new(limits);
        for part in &parts {
            match part.reports(bounds) {
                Some(reports) => reports.into_iter().for_each(|report| gathered.absorb(report)),
                None => unreadable += 1,
            }
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

/// The reports of one service, while they gather.
#[derive(Debug)]
pub(super) struct Gathered {
    window: Window,
    /// Who reported.
    sources: BTreeMap<String, Source>,
    /// Breakers of all of them.
    breakers: usize,
    times: Option<(u64, u64)>,
}

/// One replica.
#[derive(Debug)]
struct Source {
    origin: Origin,
    /// Of its last report.
    sequence: u64,
    /// Its breakers, by destination and class of calls: each replica has its own, so they are not added up.
    breakers: BTreeMap<(String, Option<String>), BreakerReport>,
}

impl Gathered {
    pub(super) fn new(limits: WindowLimits) -> Self {
        Self { window: Window::new(limits), sources: BTreeMap::new(), breakers: 0, times: None }
    }

    /// Adds a report; whoever calls sees to it that it is one of this service.
    pub(super) fn absorb(&mut self, report: Report) {
        let source = self.sources.entry(report.origin.instance.clone()).or_insert_with(|| Source {
            // Where it listens is of today; nobody asks for it later.
            origin: Origin { inbound: None, ..report.origin.clone() },
            sequence: report.sequence,
            breakers: BTreeMap::new(),
        });
        source.sequence = source.sequence.max(report.sequence);
        for breaker in &report.breakers {
            let key = (breaker.to.clone(), breaker.class.clone());
            let full = self.breakers >= BREAKERS && !source.breakers.contains_key(&key);
            let key = if full { (OTHER.to_owned(), None) } else { key };
            match source.breakers.get_mut(&key) {
                Some(known) => join(known, breaker),
                None => {
                    self.breakers += 1;
                    let (to, class) = key.clone();
                    source.breakers.insert(key, BreakerReport { to, class, ..breaker.clone() });
                }
            }
        }
        if report.start > 0 && report.end >= report.start {
            let (start, end) = self.times.unwrap_or((report.start, report.end));
            self.times = Some((start.min(report.start), end.max(report.end)));
        }
        self.window.absorb(report);
    }

    /// What its memory is in proportion to.
    pub(super) fn len(&self) -> usize {
        self.window.len() + self.sources.len() + self.breakers
    }

    pub(super) fn pack(self, service: &str, tier: Tier, (start, end): (u64, u64)) -> Vec<Rollup> {
        let Self { mut window, sources, breakers: _, times } = self;
        let mut sources = sources.into_values();
        let Some(Source { origin, sequence, breakers }) = sources.next() else { return Vec::new() };
        let (first, last) = times.unwrap_or_default();
        let only_breakers = |Source { origin, sequence, breakers }| Report {
            breakers: breakers.into_values().collect(),
            ..Report::empty(origin, sequence, first, last)
        };
        let whole =
            Report { breakers: breakers.into_values().collect(), ..window.close(origin, sequence, first, last) };
        let mut parts = whole.into_parts(ENTRIES).into_iter();
        let first: Vec<Report> = parts.next().into_iter().chain(sources.map(only_breakers)).collect();
        let bodies = std::iter::once(rows::write(&first)).chain(parts.map(|report| rows::write([&report])));
        let service: Arc<str> = service.into();
        let rollup =
            |body: Vec<u8>| Rollup { tier, start, end, service: Arc::clone(&service), body: body.into(), row: None };
        bodies.map(rollup).collect()
    }
}

/// Adds what a breaker did later to what it did before.
fn join(known: &mut BreakerReport, later: &BreakerReport) {
    known.counts.merge(&later.counts);
    known.peak = known.peak.max(later.peak);
    (known.state, known.mode) = (later.state.clone(), later.mode.clone());
    known.transitions.extend(later.transitions.iter().cloned());
    let surplus = known.transitions.len().saturating_sub(TRANSITIONS);
    known.transitions.drain(..surplus);
}

#[cfg(test)]
mod tests {
    use couplet_telemetry::breaker::{BreakerCounts, Count};

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

    #[test]
    fn breakers_beyond_the_limit_are_one_and_lose_no_count() {
        let mut gathered = Gathered::new(LIMITS);
        gathered.breakers = BREAKERS;
        (1..=5).for_each(|sequence| gathered.absorb(report("a", sequence, 2, "closed")));
        let packed = gathered.pack("shop", Tier::Seconds, (0, 10_000));
        let reports = packed[0].reports(&BOUNDS).unwrap();
        let [breaker] = reports[0].breakers.as_slice() else { panic!("{reports:?}") };
        assert_eq!((breaker.to.as_str(), breaker.counts.get(Count::Failure)), (OTHER, 10));
    }
}
