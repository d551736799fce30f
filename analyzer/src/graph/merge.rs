//! The graph itself: what reports add up to.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use couplet_telemetry::example::Examples;
use couplet_telemetry::expected::ExpectedStats;
use couplet_telemetry::names::{OTHER, UNLINKED};
use couplet_telemetry::opaque::{OpaqueReport, OpaqueStats, Protocol};
use couplet_telemetry::outcome::Evidence;
use couplet_telemetry::path::PathId;
use couplet_telemetry::propagation::Propagation;
use couplet_telemetry::report::{CallStats, Callee, ExpectedReport, HandlingStats, PathDefinition, PathKind, Report};
use couplet_telemetry::window::Loss;

use super::directory::{Directory, EndpointId, ServiceId};
use super::limits::{GraphLimits, GraphLoss};
use super::table::{Row, Table};
use crate::packed::{self, Measures, Packed, Scratch, Writer};

/// Merges reports. Bounded by its limits, whatever is reported; no handling and no call is ever left out of the totals.
///
/// Reports are not trusted: the first definition of a path is kept, parents may be missing or form loops, and depths
/// are not read at all.
#[derive(Debug)]
pub struct Graph {
    limits: GraphLimits,
    pub(super) directory: Directory,
    pub(super) paths: Table<PathNode>,
    pub(super) calls: Table<CallNode>,
    /// Example requests of paths, by where the path is. Shared with snapshots.
    pub(super) examples: HashMap<u32, Arc<Examples>>,
    /// The pairs of endpoints among `calls`.
    pairs: HashSet<(EndpointId, EndpointId)>,
    /// Connections between services that nobody can read: they are no calls and on no path.
    pub(super) opaque: BTreeMap<(ServiceId, ServiceId, Protocol), OpaqueStats>,
    /// What services pass on, as their own proxies see it.
    pub(super) propagation: BTreeMap<ServiceId, Propagation>,
    /// What endpoints were found to call by timing: sums that say nothing of any single request.
    pub(super) expected: BTreeMap<(EndpointId, EndpointId), ExpectedStats>,
    pub(super) proxy_losses: BTreeMap<Loss, u64>,
    pub(super) losses: BTreeMap<GraphLoss, u64>,
    pub(super) window: Option<(u64, u64)>,
    pub(super) reports: u64,
    /// What comes unpacked.
    row: Writer,
    scratch: Scratch,
}

/// One report that is being merged.
#[derive(Debug)]
pub(crate) struct Filing {
    service: ServiceId,
    /// Whether the service has no name of its own here.
    folded: bool,
    /// Paths of this report that are counted elsewhere: so must their calls be.
    refused: HashSet<PathId>,
}

/// Names a node: a path, or the overflow path of one service (all services use the same id for theirs).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum PathKey {
    Path(PathId),
    Overflow(ServiceId),
}

/// One of a million: every byte of it counts.
#[derive(Debug)]
pub(super) struct PathNode {
    id: PathId,
    /// Means nothing where there is no parent.
    parent: PathId,
    pub(super) service: ServiceId,
    pub(super) endpoint: EndpointId,
    pub(super) caller: Option<ServiceId>,
    has_parent: bool,
    pub(super) kind: PathKind,
    pub(super) evidence: Evidence,
    /// Shared with snapshots: a snapshot costs one copy of what changes after it, and no copy of the rest.
    pub(super) stats: Packed<HandlingStats>,
}

impl PathNode {
    pub(super) fn id(&self) -> PathId {
        self.id
    }

    pub(super) fn parent(&self) -> Option<PathId> {
        self.has_parent.then_some(self.parent)
    }
}

impl Row for PathNode {
    type Key = PathKey;

    fn key(&self) -> PathKey {
        if self.id == PathId::OVERFLOW { PathKey::Overflow(self.service) } else { PathKey::Path(self.id) }
    }
}

#[derive(Debug, Clone)]
pub(super) struct CallNode {
    /// Where the path is.
    pub(super) path: u32,
    pub(super) callee: EndpointId,
    /// Of the callee, as reports name it.
    key: u64,
    pub(super) stats: Packed<CallStats>,
}

impl Row for CallNode {
    type Key = (u32, u64);

    fn key(&self) -> (u32, u64) {
        (self.path, self.key)
    }
}

impl Graph {
    /// An empty graph.
    #[must_use]
    pub fn new(limits: GraphLimits) -> Self {
        Self {
            limits,
            directory: Directory::default(),
            paths: Table::default(),
            calls: Table::default(),
            examples: HashMap::new(),
            pairs: HashSet::new(),
            opaque: BTreeMap::new(),
            propagation: BTreeMap::new(),
            expected: BTreeMap::new(),
            proxy_losses: BTreeMap::new(),
            losses: BTreeMap::new(),
            window: None,
            reports: 0,
            row: Writer::default(),
            scratch: Scratch::default(),
        }
    }

    /// How many paths there are: what the memory of a snapshot and the time for it are in proportion to.
    #[must_use]
    pub fn paths(&self) -> usize {
        self.paths.len()
    }

    /// Gives the calls away, and what only merging needs goes.
    pub(super) fn end(&mut self) -> std::vec::IntoIter<CallNode> {
        self.pairs = HashSet::new();
        std::mem::take(&mut self.calls).into_rows().into_iter()
    }

    /// Merges one report. Whoever calls sees to it that a report is applied once.
    pub fn apply(&mut self, report: &Report) {
        let mut filing = self.begin(report);
        let mut row = std::mem::take(&mut self.row);
        for path in &report.paths {
            row.clear();
            path.stats.write(&mut row);
            self.add_path(&mut filing, &path.path, row.bytes());
            self.add_examples(&filing, path.path.id, &path.stats.examples);
        }
        for call in &report.calls {
            row.clear();
            call.stats.write(&mut row);
            self.add_call(&filing, call.path, &call.callee, row.bytes());
        }
        self.row = row;
    }

    /// Merges what a report says beside its paths and calls, which are to follow: first the paths, then the calls.
    pub(crate) fn begin(&mut self, report: &Report) -> Filing {
        self.reports = self.reports.saturating_add(1);
        self.extend_window(report.start, report.end);
        let service = self.directory.service(&report.origin.service, self.limits.services);
        if !self.directory.note(service, &report.origin, self.limits.instances) {
            self.lose(GraphLoss::Instances, 1);
        }
        let folded = report.origin.service != self.directory.service_name(service);
        for opaque in &report.opaque {
            self.opaque(service, opaque);
        }
        if !report.propagation.is_empty() {
            self.propagation.entry(service).or_default().merge(&report.propagation);
        }
        for expected in &report.expected {
            self.expected(service, expected);
        }
        for (loss, count) in &report.losses {
            let slot = self.proxy_losses.entry(*loss).or_default();
            *slot = slot.saturating_add(*count);
        }
        Filing { service, folded, refused: HashSet::new() }
    }

    /// Merges the handlings of one path, packed.
    pub(crate) fn add_path(&mut self, filing: &mut Filing, path: &PathDefinition, handlings: &[u8]) {
        let count = packed::total(handlings);
        if filing.folded {
            self.lose(GraphLoss::Services, count);
        }
        let place = match self.admit(filing.service, path, count) {
            Ok(place) => place,
            Err(loss) => {
                self.lose(loss, count);
                filing.refused.insert(path.id);
                self.overflow(filing.service)
            }
        };
        if let Some(node) = self.paths.get_mut(place) {
            node.stats.merge_bytes(handlings, &mut self.scratch);
        }
    }

    /// Takes in example requests of a path that was merged.
    pub(crate) fn add_examples(&mut self, filing: &Filing, path: PathId, examples: &Examples) {
        // What is put together from many paths is an example of none.
        if examples.is_empty() || path == PathId::OVERFLOW || filing.refused.contains(&path) {
            return;
        }
        let Some(place) = self.paths.find(&PathKey::Path(path)) else { return };
        if self.paths.get(place).is_none_or(|node| node.service != filing.service) {
            return;
        }
        if let Some(known) = self.examples.get_mut(&place) {
            Arc::make_mut(known).merge(examples);
        } else if self.examples.len() < self.limits.examples {
            self.examples.insert(place, Arc::new(examples.clone()));
        } else {
            self.lose(GraphLoss::Examples, 1);
        }
    }

    /// Where the node of a path is, made if there is room; else what it costs that there is none.
    fn admit(&mut self, service: ServiceId, path: &PathDefinition, count: u64) -> Result<u32, GraphLoss> {
        if path.kind == PathKind::Overflow || path.id == PathId::OVERFLOW {
            return Ok(self.overflow(service));
        }
        let place = self.paths.find(&PathKey::Path(path.id));
        if let Some((place, node)) = place.and_then(|place| Some((place, self.paths.get_mut(place)?))) {
            let name = self.directory.endpoint_name(node.endpoint);
            let same_endpoint = name == path.endpoint || name == OTHER || path.kind == PathKind::Unlinked;
            let same_parent = node.parent() == path.parent || path.kind == PathKind::Unlinked;
            if node.service != service || node.kind != path.kind || !same_endpoint || !same_parent {
                return Err(GraphLoss::Conflicts);
            }
            node.evidence = node.evidence.max(path.evidence);
            if name == OTHER && path.endpoint != OTHER {
                self.lose(GraphLoss::Endpoints, count);
            }
            return Ok(place);
        }
        if self.paths.len() >= self.limits.paths {
            return Err(GraphLoss::Paths);
        }
        let node = self.node(service, path, count);
        Ok(self.paths.push(node))
    }

    fn node(&mut self, service: ServiceId, path: &PathDefinition, count: u64) -> PathNode {
        let (endpoint, parent, caller) = match path.kind {
            PathKind::Handler => (path.endpoint.as_str(), path.parent, path.caller.as_deref()),
            // A path without handlings begins a chain; whatever is said to be above it is not believed.
            PathKind::Unlinked => (UNLINKED, None, None),
            PathKind::Overflow => (OTHER, None, None),
        };
        let endpoint = self.endpoint(service, endpoint, count);
        let caller = caller.map(|name| self.directory.service(name, self.limits.services));
        PathNode {
            id: path.id,
            parent: parent.unwrap_or(PathId::OVERFLOW),
            service,
            endpoint,
            caller,
            has_parent: parent.is_some(),
            kind: path.kind,
            evidence: path.evidence,
            stats: Packed::default(),
        }
    }

    fn overflow(&mut self, service: ServiceId) -> u32 {
        if let Some(place) = self.paths.find(&PathKey::Overflow(service)) {
            return place;
        }
        let node = self.node(service, &PathDefinition::overflow(), 0);
        self.paths.push(node)
    }

    /// Merges the calls of one path to one callee, packed.
    pub(crate) fn add_call(&mut self, filing: &Filing, path: PathId, callee: &Callee, calls: &[u8]) {
        let count = packed::total(calls);
        let known = self.paths.find(&PathKey::Path(path)).filter(|place| {
            let own = self.paths.get(*place).is_some_and(|node| node.service == filing.service);
            own && !filing.refused.contains(&path)
        });
        let path = known.unwrap_or_else(|| {
            if path != PathId::OVERFLOW {
                self.lose(GraphLoss::Paths, count);
            }
            self.overflow(filing.service)
        });
        let call = self.calls.find(&(path, callee.key()));
        match call.and_then(|place| self.calls.get_mut(place)) {
            Some(node) => {
                node.stats.merge_bytes(calls, &mut self.scratch);
                let known = node.callee;
                self.lose_names(known, callee, count);
            }
            None => self.first_call(path, callee, calls),
        }
    }

    /// As many edges of this kind as of the other; beyond that only the caller and the protocol are known.
    fn opaque(&mut self, service: ServiceId, report: &OpaqueReport) {
        let peer = self.directory.service(&report.peer, self.limits.services);
        if self.directory.service_name(peer) != report.peer {
            self.lose(GraphLoss::Services, report.stats.asked());
        }
        let mut key = (service, peer, report.protocol);
        if !self.opaque.contains_key(&key) && self.opaque.len() >= self.limits.edges {
            self.lose(GraphLoss::Edges, report.stats.asked());
            key.1 = self.directory.service(OTHER, self.limits.services);
        }
        self.opaque.entry(key).or_default().merge(&report.stats);
    }

    /// As many pairs as edges; what is beyond is lost, since nothing can be said of several pairs together.
    fn expected(&mut self, service: ServiceId, report: &ExpectedReport) {
        let callee = self.directory.service(report.callee.service(), self.limits.services);
        let source = self.directory.endpoint(service, &report.endpoint, self.limits.endpoints);
        let destination = self.directory.endpoint(callee, report.callee.endpoint(), self.limits.endpoints);
        if !self.expected.contains_key(&(source, destination)) && self.expected.len() >= self.limits.edges {
            return self.lose(GraphLoss::Expected, 1);
        }
        self.expected.entry((source, destination)).or_default().merge(&report.stats);
    }

    /// Makes room for calls to a callee that this path has not called before: the callee endpoint itself; else only
    /// the callee's service, below the overflow path of the caller; else nothing but the fact that there were calls.
    fn first_call(&mut self, path: u32, named: &Callee, calls: &[u8]) {
        let count = packed::total(calls);
        let callee = self.directory.service(named.service(), self.limits.services);
        let endpoint = self.directory.endpoint(callee, named.endpoint(), self.limits.endpoints);
        self.lose_names(endpoint, named, count);
        let Some(node) = self.paths.get(path) else { return };
        let (caller, source) = (node.service, node.endpoint);
        if self.fits((source, endpoint), 1) {
            self.merge_call((path, named.key()), endpoint, calls);
            return;
        }
        self.lose(GraphLoss::Edges, count);
        let below = self.overflow(caller);
        let source = self.directory.endpoint(caller, OTHER, 0);
        let mut merged = self.directory.endpoint(callee, OTHER, 0);
        if !self.fits((source, merged), 2) {
            let rest = self.directory.service(OTHER, self.limits.services);
            merged = self.directory.endpoint(rest, OTHER, 0);
        }
        let service = self.directory.service_of(merged);
        let key = Callee::key_of(self.directory.service_name(service), OTHER);
        self.merge_call((below, key), merged, calls);
    }

    /// Counts what it costs that a callee is not kept apart by its names.
    fn lose_names(&mut self, callee: EndpointId, named: &Callee, count: u64) {
        // To look at names takes longer than all the rest of a call.
        if self.directory.is_whole() {
            return;
        }
        if self.directory.service_name(self.directory.service_of(callee)) != named.service() {
            self.lose(GraphLoss::Services, count);
        }
        if self.directory.endpoint_name(callee) != named.endpoint() {
            self.lose(GraphLoss::Endpoints, count);
        }
    }

    /// Whether calls between two endpoints fit `times` the limits. A path has a callee endpoint or two: one that it
    /// leads on to, and a store. That is what the number of calls is bounded by.
    fn fits(&mut self, pair: (EndpointId, EndpointId), times: usize) -> bool {
        if self.calls.len() >= self.limits.paths.saturating_mul(2).saturating_mul(times) {
            return false;
        }
        if !self.pairs.contains(&pair) {
            if self.pairs.len() >= self.limits.edges.saturating_mul(times) {
                return false;
            }
            self.pairs.insert(pair);
        }
        true
    }

    fn merge_call(&mut self, (path, key): (u32, u64), callee: EndpointId, calls: &[u8]) {
        let known = self.calls.find(&(path, key));
        let fresh = || CallNode { path, callee, key, stats: Packed::default() };
        let place = known.unwrap_or_else(|| self.calls.push(fresh()));
        if let Some(node) = self.calls.get_mut(place) {
            node.stats.merge_bytes(calls, &mut self.scratch);
        }
    }

    /// The endpoint of this name; counts what it costs where it is not kept apart.
    fn endpoint(&mut self, service: ServiceId, name: &str, count: u64) -> EndpointId {
        let endpoint = self.directory.endpoint(service, name, self.limits.endpoints);
        if self.directory.endpoint_name(endpoint) != name {
            self.lose(GraphLoss::Endpoints, count);
        }
        endpoint
    }

    /// A report that says nothing of its time says nothing here either.
    fn extend_window(&mut self, start: u64, end: u64) {
        if start == 0 || end < start {
            return;
        }
        let (first, last) = self.window.unwrap_or((start, end));
        self.window = Some((first.min(start), last.max(end)));
    }

    fn lose(&mut self, loss: GraphLoss, count: u64) {
        if count > 0 {
            let slot = self.losses.entry(loss).or_default();
            *slot = slot.saturating_add(count);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::graph::{Edge, Snapshot};
    use crate::traffic::{chain, on, snapshot_of, traffic};

    fn limited(limits: GraphLimits, reports: &[Report]) -> Snapshot {
        let mut graph = Graph::new(limits);
        reports.iter().for_each(|report| graph.apply(report));
        graph.snapshot()
    }

    fn handlings(snapshot: &Snapshot) -> u64 {
        snapshot.services().iter().map(|service| service.outcomes.total()).sum()
    }

    fn calls(snapshot: &Snapshot) -> u64 {
        snapshot.calls().iter().map(|call| call.stats.total()).sum()
    }

    fn edge<'a>(snapshot: &'a Snapshot, source: &str, destination: &str) -> Option<&'a Edge> {
        let named =
            |edge: &&Edge| &*snapshot[edge.source].name == source && &*snapshot[edge.destination].name == destination;
        snapshot.edges().iter().find(named)
    }

    /// Ten services of which each calls five external ones at four endpoints.
    fn wide() -> Vec<Report> {
        let mut all = traffic();
        for n in 0..10 {
            let name = format!("s{n}");
            let root = (0..20).fold(on(&name, "GET /"), |root, m| {
                root.calls(1, on(&format!("x{}", m % 5), &format!("GET /{m}")).external())
            });
            all = all.of(3, &root);
        }
        all.reports()
    }

    #[test]
    fn both_sides_of_a_call_are_one_call() {
        let snapshot = traffic().of(100, &chain(&["a", "b", "c"])).snapshot();
        assert_eq!(snapshot.edges().len(), 2);
        assert_eq!(edge(&snapshot, "a", "b").map(Edge::calls), Some(100));
        assert_eq!(edge(&snapshot, "a", "b").map(|edge| edge.server.total()), Some(100));
        assert_eq!(snapshot.requests(), 100);
    }

    #[test]
    fn a_caller_that_does_not_report_is_known_from_its_callee() {
        let mut reports = traffic().of(100, &chain(&["a", "b", "c"])).reports();
        reports.retain(|report| report.origin.service != "a");
        let snapshot = snapshot_of(&reports);
        assert_eq!(edge(&snapshot, "a", "b").map(Edge::calls), Some(100));
        assert!(!snapshot.services()[0].observed);
        assert_eq!(snapshot.requests(), 0, "b was not called from outside");
        assert_eq!(snapshot.paths().iter().filter(|path| path.complete).count(), 0);
    }

    #[test]
    fn a_peer_that_never_reports_is_external() {
        let snapshot = traffic().of(100, &on("a", "GET /").calls(2, on("db", "query").external())).snapshot();
        let kinds: Vec<_> = snapshot.services().iter().map(|service| (&*service.name, service.observed)).collect();
        assert_eq!(kinds, [("a", true), ("db", false)]);
        assert_eq!(edge(&snapshot, "a", "db").map(Edge::calls), Some(200));
    }

    #[test]
    fn a_service_that_calls_itself_has_no_edge_and_gains_no_depth() {
        let snapshot = traffic().of(10, &chain(&["a", "a", "b"])).snapshot();
        assert_eq!(snapshot.edges().len(), 1);
        assert_eq!(snapshot.paths().iter().map(|path| path.depth).max(), Some(1));
    }

    #[test]
    fn services_beyond_the_limit_are_one_and_no_handling_is_lost() {
        let reports = wide();
        let snapshot = limited(GraphLimits { services: 4, ..GraphLimits::default() }, &reports);
        assert_eq!(snapshot.services().len(), 5);
        assert_eq!(&*snapshot.services()[0].name, "(other)");
        assert_eq!((handlings(&snapshot), calls(&snapshot)), (30, 600));
        assert!(snapshot.losses()["graph_services"] > 0);
    }

    #[test]
    fn endpoints_beyond_the_limit_are_one_per_service() {
        let snapshot = limited(GraphLimits { endpoints: 7, ..GraphLimits::default() }, &wide());
        assert_eq!(snapshot.endpoints().iter().filter(|endpoint| endpoint.is_one()).count(), 7);
        assert_eq!((handlings(&snapshot), calls(&snapshot)), (30, 600));
        assert!(snapshot.losses()["graph_endpoints"] > 0);
    }

    #[test]
    fn edges_beyond_the_limit_are_counted_per_pair_of_services_and_then_together() {
        let snapshot = limited(GraphLimits { edges: 30, ..GraphLimits::default() }, &wide());
        assert!(snapshot.pairs().len() <= 60 + snapshot.services().len(), "{}", snapshot.pairs().len());
        assert_eq!((handlings(&snapshot), calls(&snapshot)), (30, 600));
        assert!(snapshot.losses()["graph_edges"] > 0);
    }

    #[test]
    fn paths_beyond_the_limit_are_one_per_service() {
        let reports = traffic().of(5, &chain(&["a", "b", "c", "d"])).of(5, &chain(&["b", "c", "d"])).reports();
        let snapshot = limited(GraphLimits { paths: 2, ..GraphLimits::default() }, &reports);
        assert!(snapshot.paths().len() <= 2 + 4);
        assert_eq!((handlings(&snapshot), calls(&snapshot)), (35, 25));
        assert!(snapshot.losses()["graph_paths"] > 0);
    }

    #[test]
    fn instances_beyond_the_limit_are_not_told_apart_but_count() {
        let reports = traffic().with_replicas(5).of(50, &chain(&["a", "b"])).reports();
        let snapshot = limited(GraphLimits { instances: 3, ..GraphLimits::default() }, &reports);
        assert_eq!(snapshot.services().iter().map(|service| service.instances).sum::<u64>(), 3);
        assert_eq!(handlings(&snapshot), 100);
        assert_eq!(snapshot.losses()["graph_instances"], reports.len() as u64 - 3);
    }

    #[test]
    fn a_lie_about_a_path_does_not_change_what_others_said_of_it() {
        let truth = traffic().of(10, &chain(&["a", "b"])).reports();
        let mut lies = truth.clone();
        for report in &mut lies {
            report.origin.service = "liar".to_owned();
        }
        let mut other_endpoint = truth.clone();
        for path in other_endpoint.iter_mut().flat_map(|report| &mut report.paths) {
            path.path = Arc::new(PathDefinition { endpoint: "GET /lie".to_owned(), ..(*path.path).clone() });
        }
        let honest = snapshot_of(&truth);
        let snapshot = snapshot_of(&[truth, lies, other_endpoint].concat());
        let stats = |snapshot: &Snapshot| {
            let real = snapshot.paths().iter().filter(|path| path.kind == PathKind::Handler);
            real.map(|path| (path.id, snapshot.label(path.endpoint), path.stats.total())).collect::<Vec<_>>()
        };
        assert_eq!(stats(&snapshot), stats(&honest));
        assert_eq!(
            edge(&snapshot, "a", "b").map(|edge| edge.pairs.len()),
            edge(&honest, "a", "b").map(|edge| edge.pairs.len() + 1)
        );
        assert_eq!(handlings(&snapshot), 60, "what the lies counted is counted, elsewhere");
        assert_eq!(snapshot.losses()["graph_conflicts"], 40);
    }

    #[test]
    fn names_that_cannot_be_names_are_not_kept() {
        let root = on("a", "GET /").calls(1, on("evil\u{1b}[2J", &"x".repeat(10_000)).external());
        let snapshot = traffic().of(10, &root).snapshot();
        let names: Vec<_> = snapshot.services().iter().map(|service| &*service.name).collect();
        assert_eq!(names, ["(other)", "a"]);
        assert!(snapshot.endpoints().iter().all(|endpoint| endpoint.name.len() <= 200));
    }

    #[test]
    fn counters_end_at_the_largest_number() {
        let mut reports = traffic().of(1, &chain(&["a", "b"])).reports();
        for path in reports.iter_mut().flat_map(|report| &mut report.paths) {
            path.stats.outcomes.add(couplet_telemetry::outcome::Outcome::Ok, u64::MAX);
            path.stats.depth_below.record_many(u32::MAX, u64::MAX);
            path.stats.blocked = u64::MAX;
        }
        let doubled = [reports.clone(), reports].concat();
        assert_eq!(snapshot_of(&doubled).requests(), u64::MAX);
    }

    #[test]
    fn a_snapshot_does_not_change_when_the_graph_does() {
        let reports = traffic().of(10, &chain(&["a", "b"])).reports();
        let mut graph = Graph::new(GraphLimits::default());
        reports.iter().for_each(|report| graph.apply(report));
        let before = graph.snapshot();
        reports.iter().for_each(|report| graph.apply(report));
        assert_eq!((before.requests(), graph.snapshot().requests()), (10, 20));
        assert_eq!(before.calls()[0].stats.total(), 10);
    }
}
