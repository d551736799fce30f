//! From a graph to a snapshot: names become sorted tables, paths become a tree, calls become edges.
//!
//! The numbers of the graph depend on the order in which reports came. Nothing of that may be seen in a snapshot, so
//! everything is first sorted by name, and only then put in relation.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use couplet_telemetry::example::Examples;
use couplet_telemetry::expected::{ExpectedStats, shared};
use couplet_telemetry::histogram::Histogram;
use couplet_telemetry::names::UNLINKED;
use couplet_telemetry::opaque::OpaqueStats;
use couplet_telemetry::outcome::{Links, Outcomes};
use couplet_telemetry::path::PathId;
use couplet_telemetry::propagation::Propagation;
use couplet_telemetry::report::{HandlingStats, PathKind};

use super::directory::{EndpointId, ServiceEntry, ServiceId};
use super::index::{EndpointIx, PairIx, PathIx, ServiceIx};
use super::limits::GraphLoss;
use super::merge::{CallNode, Graph, PathKey, PathNode};
use super::snapshot::{Call, Edge, Endpoint, Entry, Expected, OpaqueEdge, Pair, Path, Service, Snapshot};
use super::tree::{NONE, Tree};
use crate::packed::{Packed, Scratch, ServerSide};

impl Graph {
    /// The graph at this moment. Takes time in proportion to its size.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.resolve(self.calls.rows().iter().cloned())
    }

    /// The graph at its end: calls, of which there are most, move into the snapshot, and are not there twice.
    #[must_use]
    pub fn into_snapshot(mut self) -> Snapshot {
        let calls = self.end();
        self.resolve(calls)
    }

    fn resolve(&self, rows: impl ExactSizeIterator<Item = CallNode>) -> Snapshot {
        let nodes = Nodes::sorted(self);
        let names = Names::sorted(self, &nodes);
        let mut snapshot = Snapshot {
            services: names.services(self),
            endpoints: names.endpoints(),
            window: self.window.unwrap_or_default(),
            reports: self.reports,
            ..Snapshot::default()
        };
        paths(&mut snapshot, &nodes, &names);
        calls(&mut snapshot, rows, &nodes, &names);
        handlings(&mut snapshot);
        pairs(&mut snapshot, &nodes, &names);
        edges(&mut snapshot);
        snapshot.opaque = opaque(self, &names);
        snapshot.expected = expected(self, &names);
        snapshot.examples = examples(self, &nodes);
        links(&mut snapshot);
        losses(&mut snapshot, self, nodes.tree.loops);
        snapshot
    }
}

/// The nodes of the graph in the order of the snapshot, and the tree that they make.
struct Nodes<'a> {
    graph: &'a Graph,
    /// Where in the graph each node is, in the order of the snapshot.
    order: Vec<u32>,
    /// Where in that order each node of the graph is.
    ranks: Vec<u32>,
    tree: Tree,
}

impl<'a> Nodes<'a> {
    fn sorted(graph: &'a Graph) -> Self {
        let rows = graph.paths.rows();
        let id = |place: &u32| rows.get(*place as usize).map_or(PathId::OVERFLOW, PathNode::id);
        let name =
            |place: &u32| rows.get(*place as usize).map_or(UNLINKED, |node| graph.directory.service_name(node.service));
        let mut order: Vec<u32> = (0..rows.len() as u32).collect();
        order.sort_unstable_by(|a, b| id(a).cmp(&id(b)).then_with(|| name(a).cmp(name(b))));
        let mut ranks = vec![0; order.len()];
        for (rank, place) in (0..).zip(&order) {
            if let Some(slot) = ranks.get_mut(*place as usize) {
                *slot = rank;
            }
        }
        let rank = |id: PathId| {
            let place = graph.paths.find(&PathKey::Path(id)).filter(|_| id != PathId::OVERFLOW)?;
            ranks.get(place as usize).copied()
        };
        let parent = |place: &u32| rows.get(*place as usize)?.parent().and_then(rank);
        let tree = Tree::new(order.iter().map(|place| parent(place).unwrap_or(NONE)).collect());
        Self { graph, order, ranks, tree }
    }

    fn node(&self, position: usize) -> Option<&'a PathNode> {
        self.order.get(position).and_then(|place| self.graph.paths.get(*place))
    }

    /// Who called a path: an endpoint of the caller, or only the caller's name where its path is not known.
    fn caller(&self, position: usize) -> Option<Result<EndpointId, ServiceId>> {
        let node = self.node(position).filter(|node| node.kind == PathKind::Handler)?;
        let parent = self.tree.parent(position).and_then(|parent| self.node(parent));
        match (parent, node.caller) {
            (Some(parent), None) => Some(Ok(parent.endpoint)),
            (Some(parent), Some(caller)) if parent.service == caller => Some(Ok(parent.endpoint)),
            (_, Some(caller)) => Some(Err(caller)),
            (None, None) => None,
        }
    }
}

/// Where the names of the graph are in the snapshot.
struct Names {
    /// By [`ServiceId`].
    services: Vec<ServiceIx>,
    /// By [`EndpointId`].
    endpoints: Vec<EndpointIx>,
    /// The endpoint that stands for unknown handlers of a service, where one is needed.
    unlinked: BTreeMap<ServiceId, EndpointIx>,
    /// All endpoints, sorted.
    table: Vec<(ServiceIx, Arc<str>)>,
}

impl Names {
    fn sorted(graph: &Graph, nodes: &Nodes<'_>) -> Self {
        let directory = &graph.directory;
        let services =
            ranks(directory.services().iter().map(|entry| &entry.name)).map(ServiceIx::at).collect::<Vec<_>>();
        let at = |id: ServiceId| services.get(id.position()).copied().unwrap_or(ServiceIx::at(0));
        let callers: BTreeSet<ServiceId> =
            (0..nodes.order.len()).filter_map(|position| nodes.caller(position)?.err()).collect();

        let known = directory.endpoints().iter().map(|(service, name)| (at(*service), Arc::clone(name)));
        let unlinked: Arc<str> = UNLINKED.into();
        let made = callers.iter().map(|service| (at(*service), Arc::clone(&unlinked)));
        let mut table: Vec<_> = known.clone().chain(made.clone()).collect();
        table.sort_unstable();
        table.dedup();
        let find = |row: (ServiceIx, Arc<str>)| EndpointIx::at(table.binary_search(&row).unwrap_or_default());
        let endpoints = known.map(find).collect();
        let unlinked = callers.iter().copied().zip(made.map(find)).collect();
        Self { services, endpoints, unlinked, table }
    }

    fn service(&self, id: ServiceId) -> ServiceIx {
        self.services.get(id.position()).copied().unwrap_or(ServiceIx::at(0))
    }

    fn endpoint(&self, id: EndpointId) -> EndpointIx {
        self.endpoints.get(id.position()).copied().unwrap_or(EndpointIx::at(0))
    }

    fn caller(&self, caller: Result<EndpointId, ServiceId>) -> Option<EndpointIx> {
        match caller {
            Ok(endpoint) => Some(self.endpoint(endpoint)),
            Err(service) => self.unlinked.get(&service).copied(),
        }
    }

    fn services(&self, graph: &Graph) -> Vec<Service> {
        let mut rows: Vec<_> = self.services.iter().zip(graph.directory.services()).collect();
        rows.sort_unstable_by_key(|(at, _)| **at);
        let mut propagation: BTreeMap<ServiceIx, Propagation> =
            graph.propagation.iter().map(|(service, seen)| (self.service(*service), seen.clone())).collect();
        let service = |(at, entry): (&ServiceIx, &ServiceEntry)| Service {
            name: Arc::clone(&entry.name),
            observed: entry.observed,
            outcomes: Outcomes::default(),
            duration: Histogram::default(),
            endpoints: 0,
            fan_in: 0,
            fan_out: 0,
            links: Links::default(),
            propagation: propagation.remove(at).unwrap_or_default(),
            instances: entry.instances.len() as u64,
            versions: entry.versions.iter().cloned().collect(),
        };
        rows.into_iter().map(service).collect()
    }

    fn endpoints(&self) -> Vec<Endpoint> {
        let endpoint = |(service, name): &(ServiceIx, Arc<str>)| Endpoint {
            service: *service,
            name: Arc::clone(name),
            stats: HandlingStats::default(),
        };
        self.table.iter().map(endpoint).collect()
    }
}

/// For each item its place among all, sorted. The items are distinct.
fn ranks<T: Ord>(items: impl Iterator<Item = T>) -> impl Iterator<Item = usize> {
    let mut sorted: Vec<(T, usize)> = items.enumerate().map(|(position, item)| (item, position)).collect();
    sorted.sort_unstable();
    let mut ranks = vec![0; sorted.len()];
    for (rank, (_, position)) in sorted.iter().enumerate() {
        if let Some(slot) = ranks.get_mut(*position) {
            *slot = rank;
        }
    }
    ranks.into_iter()
}

fn paths(snapshot: &mut Snapshot, nodes: &Nodes<'_>, names: &Names) {
    snapshot.children = nodes.tree.children.iter().map(|child| PathIx::at(*child as usize)).collect();
    let path = |(position, node): (usize, &PathNode)| Path {
        id: node.id(),
        endpoint: names.endpoint(node.endpoint),
        parent: nodes.tree.parent(position).map(PathIx::at),
        top: PathIx::at(position),
        complete: node.kind == PathKind::Handler && node.parent().is_none(),
        depth: 0,
        kind: node.kind,
        evidence: node.evidence,
        stats: node.stats.clone(),
        children: nodes.tree.ranges.get(position).copied().unwrap_or_default(),
        calls: (0, 0),
    };
    let sorted = nodes.order.iter().filter_map(|place| nodes.graph.paths.get(*place));
    snapshot.paths.reserve_exact(nodes.order.len());
    snapshot.paths.extend(sorted.enumerate().map(path));
    // From the top down: what is known of the parent is known when its children come.
    for position in &nodes.tree.order {
        let position = *position as usize;
        let at = PathIx::at(position);
        let Some(parent) = snapshot[at].parent else { continue };
        let changes = u32::from(snapshot.service_of(parent) != snapshot.service_of(at));
        let Path { top, complete, depth, evidence, .. } = snapshot[parent];
        if let Some(path) = snapshot.paths.get_mut(position) {
            (path.top, path.complete) = (top, complete);
            path.depth = depth.saturating_add(changes);
            path.evidence = path.evidence.max(evidence);
        }
    }
}

fn calls(snapshot: &mut Snapshot, rows: impl ExactSizeIterator<Item = CallNode>, nodes: &Nodes<'_>, names: &Names) {
    let call = |node: CallNode| {
        let path = PathIx::at(*nodes.ranks.get(node.path as usize)? as usize);
        Some(Call { path, callee: names.endpoint(node.callee), stats: node.stats })
    };
    let mut calls: Vec<Call> = Vec::with_capacity(rows.len());
    calls.extend(rows.filter_map(call));
    calls.sort_unstable_by_key(|call| (call.path, call.callee));
    for (position, call) in calls.iter().enumerate() {
        if let Some(path) = snapshot.paths.get_mut(call.path.position()) {
            if path.calls.1 == 0 {
                path.calls.0 = position as u32;
            }
            path.calls.1 = position as u32 + 1;
        }
    }
    snapshot.calls = calls;
}

/// Handlings by endpoint, by service, and by entry.
fn handlings(snapshot: &mut Snapshot) {
    let mut roots: BTreeMap<EndpointIx, Vec<PathIx>> = BTreeMap::new();
    for (position, path) in snapshot.paths.iter().enumerate() {
        let stats = path.stats.unpack();
        if stats.outcomes.total() == 0 {
            continue;
        }
        if let Some(endpoint) = snapshot.endpoints.get_mut(path.endpoint.position()) {
            endpoint.stats.merge(&stats);
        }
        if path.complete && path.parent.is_none() {
            roots.entry(path.endpoint).or_default().push(PathIx::at(position));
        }
    }
    for endpoint in &snapshot.endpoints {
        if let Some(service) = snapshot.services.get_mut(endpoint.service.position()) {
            service.outcomes.merge(&endpoint.stats.outcomes);
            service.duration.merge(&endpoint.stats.duration);
            service.endpoints += u64::from(endpoint.is_one());
        }
    }
    let entry = |(endpoint, roots): (EndpointIx, Vec<PathIx>)| {
        let mut stats = HandlingStats::default();
        for root in &roots {
            stats.merge(&snapshot[*root].stats.unpack());
        }
        Entry { endpoint, roots, stats }
    };
    snapshot.entries = roots.into_iter().map(entry).collect();
}

fn pairs(snapshot: &mut Snapshot, nodes: &Nodes<'_>, names: &Names) {
    // Which calls and which paths belong to every pair, by what they are told by.
    let by_pair = |(position, call): (usize, &Call)| ((snapshot[call.path].endpoint, call.callee), position as u32);
    let mut clients: Vec<(Ends, u32)> = snapshot.calls.iter().enumerate().map(by_pair).collect();
    let by_pair = |(position, path): (usize, &Path)| {
        let caller = nodes.caller(position).and_then(|caller| names.caller(caller))?;
        (path.stats.total() > 0).then_some(((caller, path.endpoint), position as u32))
    };
    let mut servers: Vec<(Ends, u32)> = snapshot.paths.iter().enumerate().filter_map(by_pair).collect();
    clients.sort_unstable();
    servers.sort_unstable();
    let mut ends: Vec<Ends> = clients.iter().chain(&servers).map(|(ends, _)| *ends).collect();
    ends.sort_unstable();
    ends.dedup();
    let (mut clients, mut servers) = (clients.as_slice(), servers.as_slice());
    let mut scratch = Scratch::default();
    let pair = |(source, destination): Ends| {
        let calls = split_off(&mut clients, (source, destination)).iter();
        let calls = calls.filter_map(|(_, at)| snapshot.calls.get(*at as usize));
        let client = Packed::sum(calls.map(|call| &call.stats), &mut scratch);
        let mut server = ServerSide::default();
        for (_, at) in split_off(&mut servers, (source, destination)) {
            let Some(path) = snapshot.paths.get(*at as usize) else { continue };
            server.merge(&path.stats.server_side());
        }
        Pair { source, destination, client, server: Packed::new(&server) }
    };
    snapshot.pairs = ends.into_iter().map(pair).collect();
}

/// The two ends of a pair: who calls, and who is called.
type Ends = (EndpointIx, EndpointIx);

/// Takes what is about `ends` from the front of what is sorted by them.
fn split_off<'a>(sorted: &mut &'a [(Ends, u32)], ends: Ends) -> &'a [(Ends, u32)] {
    let (found, rest) = sorted.split_at(sorted.partition_point(|(of, _)| *of <= ends));
    *sorted = rest;
    found
}

fn edges(snapshot: &mut Snapshot) {
    let between = |(position, pair): (usize, &Pair)| {
        let (source, destination) = (snapshot[pair.source].service, snapshot[pair.destination].service);
        // A service that calls itself depends on nobody.
        (source != destination).then_some(((source, destination), PairIx::at(position)))
    };
    let mut pairs: Vec<_> = snapshot.pairs.iter().enumerate().filter_map(between).collect();
    pairs.sort_unstable();
    let mut scratch = Scratch::default();
    let edge = |of_one: &[((ServiceIx, ServiceIx), PairIx)]| {
        let (source, destination) = of_one.first()?.0;
        let pairs: Box<[PairIx]> = of_one.iter().map(|(_, pair)| *pair).collect();
        let client = Packed::sum(pairs.iter().map(|pair| &snapshot[*pair].client), &mut scratch);
        let server = Packed::sum(pairs.iter().map(|pair| &snapshot[*pair].server), &mut scratch);
        Some(Edge { source, destination, client, server, pairs }).filter(|edge| edge.calls() > 0)
    };
    let mut edges: Vec<Edge> = pairs.chunk_by(|a, b| a.0 == b.0).filter_map(edge).collect();
    edges.shrink_to_fit();
    snapshot.edges = edges;
    for edge in &snapshot.edges {
        if let Some(service) = snapshot.services.get_mut(edge.source.position()) {
            service.fan_out += 1;
        }
        if let Some(service) = snapshot.services.get_mut(edge.destination.position()) {
            service.fan_in += 1;
        }
    }
}

fn opaque(graph: &Graph, names: &Names) -> Vec<OpaqueEdge> {
    let edge = |((source, destination, protocol), stats): (&(ServiceId, ServiceId, _), &OpaqueStats)| OpaqueEdge {
        source: names.service(*source),
        destination: names.service(*destination),
        protocol: *protocol,
        stats: stats.clone(),
    };
    let mut edges: Vec<_> = graph.opaque.iter().map(edge).collect();
    edges.sort_unstable_by_key(|edge| (edge.source, edge.destination, edge.protocol));
    edges
}

/// Doubtful calls are shared among the endpoints of one service that call the same.
fn expected(graph: &Graph, names: &Names) -> Vec<Expected> {
    let mut alike: BTreeMap<(ServiceIx, EndpointIx), Vec<(EndpointIx, ExpectedStats)>> = BTreeMap::new();
    for ((source, destination), stats) in &graph.expected {
        let (source, destination) = (names.endpoint(*source), names.endpoint(*destination));
        let service = names.table.get(source.position()).map_or(ServiceIx::at(0), |(service, _)| *service);
        alike.entry((service, destination)).or_default().push((source, *stats));
    }
    let mut all = Vec::new();
    for ((_, destination), mut pairs) in alike {
        pairs.sort_unstable_by_key(|(source, _)| *source);
        let stats: Vec<ExpectedStats> = pairs.iter().map(|(_, stats)| *stats).collect();
        let shares = shared(&stats);
        let row = |((source, stats), share)| Expected { source, destination, stats, share };
        all.extend(pairs.into_iter().zip(shares).map(row));
    }
    all.sort_unstable_by_key(|expected| (expected.source, expected.destination));
    all
}

/// Example requests, in the order of the paths.
fn examples(graph: &Graph, nodes: &Nodes<'_>) -> Vec<(PathIx, Arc<Examples>)> {
    let at = |place: &u32| nodes.ranks.get(*place as usize).map(|rank| PathIx::at(*rank as usize));
    let mut all: Vec<_> =
        graph.examples.iter().filter_map(|(place, examples)| Some((at(place)?, Arc::clone(examples)))).collect();
    all.sort_unstable_by_key(|(path, _)| *path);
    all
}

fn links(snapshot: &mut Snapshot) {
    for pair in &snapshot.pairs {
        let links = pair.client.links();
        snapshot.links.merge(&links);
        let service = snapshot.endpoints.get(pair.source.position()).map(|endpoint| endpoint.service);
        if let Some(service) = service.and_then(|service| snapshot.services.get_mut(service.position())) {
            service.links.merge(&links);
        }
    }
}

fn losses(snapshot: &mut Snapshot, graph: &Graph, loops: u64) {
    let proxies = graph.proxy_losses.iter().map(|(loss, count)| (loss.as_str(), *count));
    let own = graph.losses.iter().map(|(loss, count)| (loss.as_str(), *count));
    let cut = std::iter::once((GraphLoss::Loops.as_str(), loops));
    snapshot.losses = proxies.chain(own).chain(cut).filter(|(_, count)| *count > 0).collect();
}

#[cfg(test)]
mod tests {
    use super::*;
    use couplet_config::{Architecture, FindingThresholds};
    use couplet_telemetry::report::{PathDefinition, Report};

    use crate::findings::findings;
    use crate::traffic::{chain, on, snapshot_of, traffic};
    use crate::view::document::Document;

    /// Changes the definition of every path.
    fn redefined(mut reports: Vec<Report>, change: impl Fn(&PathDefinition) -> PathDefinition) -> Vec<Report> {
        for path in reports.iter_mut().flat_map(|report| &mut report.paths) {
            path.path = Arc::new(change(&path.path));
        }
        reports
    }

    #[test]
    fn depth_is_counted_in_the_tree_and_not_believed() {
        let lies = |path: &PathDefinition| PathDefinition { depth: 77, ..path.clone() };
        let snapshot = snapshot_of(&redefined(traffic().of(10, &chain(&["a", "b", "c"])).reports(), lies));
        let mut depths: Vec<_> = snapshot.paths().iter().map(|path| path.depth).collect();
        depths.sort_unstable();
        assert_eq!(depths, [0, 1, 2]);
    }

    #[test]
    fn parents_in_a_loop_are_cut_and_make_no_entry() {
        let reports = traffic().of(60, &chain(&["a", "b", "c"])).reports();
        let ids: Vec<PathId> = reports.iter().flat_map(|report| &report.paths).map(|path| path.path.id).collect();
        let looped = redefined(reports, |path| {
            let at = ids.iter().position(|id| *id == path.id).unwrap();
            PathDefinition { parent: Some(ids[(at + 1) % ids.len()]), ..path.clone() }
        });
        let snapshot = snapshot_of(&looped);
        assert_eq!(snapshot.losses()["graph_loops"], 1);
        assert!(snapshot.entries().is_empty());
        let document =
            Document::new(&snapshot, &findings(&snapshot, &FindingThresholds::default(), &Architecture::default()), "");
        assert_eq!(document.services.iter().map(|service| service.requests).sum::<u64>(), 180);
    }

    #[test]
    fn paths_that_are_their_own_parents_hang_below_nothing() {
        let reports = traffic().of(60, &chain(&["a", "b"])).reports();
        let snapshot =
            snapshot_of(&redefined(reports, |path| PathDefinition { parent: Some(path.id), ..path.clone() }));
        assert!(snapshot.paths().iter().all(|path| path.parent.is_none() && !path.complete));
    }

    #[test]
    fn a_chain_of_a_hundred_thousand_hops_costs_time_in_proportion() {
        let mut report = traffic().of(1, &on("a", "GET /")).reports().remove(0);
        let mut other = report.clone();
        other.origin.service = "b".to_owned();
        let template = report.paths.remove(0);
        other.paths.clear();
        let mut parent: Option<PathId> = None;
        for n in 0..100_000 {
            let (service, list) = if n % 2 == 0 { ("a", &mut report.paths) } else { ("b", &mut other.paths) };
            let id = parent.map_or(PathId::root(service, "GET /"), |parent| parent.child(service, "GET /"));
            let caller = parent.map(|_| if n % 2 == 0 { "b".to_owned() } else { "a".to_owned() });
            let mut path = template.clone();
            path.path = Arc::new(PathDefinition { id, parent, caller, ..(*template.path).clone() });
            list.push(path);
            parent = Some(id);
        }
        let snapshot = snapshot_of(&[report, other]);
        assert_eq!(snapshot.paths().iter().map(|path| path.depth).max(), Some(99_999));
        let found = findings(&snapshot, &FindingThresholds::default(), &Architecture::default());
        assert_eq!(found.iter().filter(|finding| finding.rule == crate::findings::Rule::CY).count(), 1);
        assert_eq!(Document::new(&snapshot, &found, "").edges.len(), 2);
    }

    #[test]
    fn a_piece_without_its_upper_part_keeps_what_is_known_below() {
        let mut reports = traffic().of(60, &chain(&["a", "b", "c", "d"])).reports();
        reports.retain(|report| report.origin.service != "b");
        let snapshot = snapshot_of(&reports);
        let path = |service: &str| {
            snapshot.paths().iter().find(|path| &*snapshot[snapshot[path.endpoint].service].name == service)
        };
        assert_eq!(path("d").map(|path| (path.depth, path.complete)), Some((1, false)));
        assert_eq!(path("a").map(|path| (path.depth, path.complete)), Some((0, true)));
        let edges: Vec<_> = snapshot
            .edges()
            .iter()
            .map(|edge| (&*snapshot[edge.source].name, &*snapshot[edge.destination].name))
            .collect();
        assert_eq!(edges, [("a", "b"), ("b", "c"), ("c", "d")]);
    }
}
