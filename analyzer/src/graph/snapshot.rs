//! The coupling graph at one moment: immutable, resolved, sorted by name.

use std::collections::BTreeMap;
use std::ops::Index;
use std::sync::Arc;

use couplet_telemetry::example::Examples;
use couplet_telemetry::expected::{ExpectedStats, Share};
use couplet_telemetry::histogram::Histogram;
use couplet_telemetry::names::{OTHER, UNLINKED};
use couplet_telemetry::opaque::{OpaqueStats, Protocol};
use couplet_telemetry::outcome::{Evidence, Links, Outcome, Outcomes};
use couplet_telemetry::path::PathId;
use couplet_telemetry::propagation::Propagation;
use couplet_telemetry::report::{CallStats, HandlingStats, PathKind};

use super::index::{EdgeIx, EndpointIx, EntryIx, PairIx, PathIx, ServiceIx};
use crate::packed::{CallTotals, Packed, ServerSide};

/// The coupling graph at one moment. Every table is sorted by what names its rows; the rows of one table point into
/// the others by index (`snapshot[path.endpoint]`).
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    pub(super) services: Vec<Service>,
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) pairs: Vec<Pair>,
    pub(super) edges: Vec<Edge>,
    pub(super) entries: Vec<Entry>,
    pub(super) paths: Vec<Path>,
    pub(super) calls: Vec<Call>,
    /// The children of all paths, one after the other; a path knows its range.
    pub(super) children: Vec<PathIx>,
    pub(super) opaque: Vec<OpaqueEdge>,
    pub(super) expected: Vec<Expected>,
    pub(super) examples: Vec<(PathIx, Arc<Examples>)>,
    pub(super) links: Links,
    pub(super) losses: BTreeMap<&'static str, u64>,
    pub(super) window: (u64, u64),
    pub(super) reports: u64,
}

/// A service that reported, called, or was called.
#[derive(Debug, Clone)]
pub struct Service {
    /// Its name.
    pub name: Arc<str>,
    /// Whether its proxy reports. If not, only its callers know it: a database, a service of somebody else.
    pub observed: bool,
    /// Handlings by how they ended.
    pub outcomes: Outcomes,
    /// Durations of its handlings.
    pub duration: Histogram,
    /// Endpoints that handled or were called.
    pub endpoints: u64,
    /// Distinct other services that call it.
    pub fan_in: u64,
    /// Distinct other services that it calls.
    pub fan_out: u64,
    /// How its outbound calls were linked to handlers.
    pub links: Links,
    /// Which headers it passes on.
    pub propagation: Propagation,
    /// Proxies that reported for it.
    pub instances: u64,
    /// Versions that reported, sorted.
    pub versions: Vec<String>,
}

/// An endpoint of a service: method and route template, or one of the names [`OTHER`] and [`UNLINKED`].
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Whose it is.
    pub service: ServiceIx,
    /// Its name.
    pub name: Arc<str>,
    /// Measures over its handlings, all paths together.
    pub stats: HandlingStats,
}

impl Endpoint {
    /// Whether this stands for all endpoints beyond a limit.
    #[must_use]
    pub fn is_other(&self) -> bool {
        &*self.name == OTHER
    }

    /// Whether this stands for calls that could not be linked to a handler.
    #[must_use]
    pub fn is_unlinked(&self) -> bool {
        &*self.name == UNLINKED
    }

    /// Whether this is one endpoint, and not a name that stands for several.
    #[must_use]
    pub fn is_one(&self) -> bool {
        !self.is_other() && !self.is_unlinked()
    }
}

/// What a caller knows of calls.
pub type ClientSide = Packed<CallStats>;

/// One endpoint that calls another. The two may belong to the same service.
#[derive(Debug, Clone)]
pub struct Pair {
    /// The endpoint that calls.
    pub source: EndpointIx,
    /// The endpoint that is called, as the side that reports it names it.
    pub destination: EndpointIx,
    /// What the caller says; nothing where only the callee reports.
    pub client: ClientSide,
    /// What the callee says; nothing where only the caller reports.
    pub server: Packed<ServerSide>,
}

/// One service that calls another.
#[derive(Debug, Clone)]
pub struct Edge {
    /// The service that calls.
    pub source: ServiceIx,
    /// The service that is called; never the source itself.
    pub destination: ServiceIx,
    /// What the caller says; nothing where only the callee reports.
    pub client: ClientSide,
    /// What the callee says; nothing where only the caller reports.
    pub server: Packed<ServerSide>,
    /// The pairs of endpoints, sorted.
    pub pairs: Box<[PairIx]>,
}

impl Edge {
    /// Whether the caller reports. Both sides count the same calls; where the caller reports, it is believed.
    #[must_use]
    pub fn has_client_side(&self) -> bool {
        self.client.total() > 0
    }

    /// The calls, by how they ended.
    #[must_use]
    pub fn outcomes(&self) -> Outcomes {
        if self.has_client_side() { self.client.outcomes() } else { self.server.outcomes() }
    }

    /// How long the calls took.
    #[must_use]
    pub fn duration(&self) -> Histogram {
        if self.has_client_side() { self.client.duration() } else { self.server.duration() }
    }

    /// How many calls.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.outcomes().total()
    }

    /// Nanoseconds per call between the two, mean: what the caller waits for and the callee does not work on. None where
    /// one side does not report.
    #[must_use]
    pub fn on_the_way(&self) -> Option<f64> {
        let (client, server) = (self.client.duration(), self.server.duration());
        (client.count() > 0 && server.count() > 0).then(|| (client.mean() - server.mean()).max(0.0))
    }

    /// Calls that only one side counted, beyond what is explained by calls that never arrived and by attempts that arrived
    /// more often than once.
    fn unpaired(&self) -> u64 {
        let CallTotals { outcomes: client, attempts, .. } = self.client.totals();
        let answered = [Outcome::Ok, Outcome::ClientError, Outcome::ServerError];
        let least = answered.into_iter().fold(0_u64, |sum, outcome| sum.saturating_add(client.get(outcome)));
        let most = attempts.max(client.total());
        let seen = self.server.total();
        least.saturating_sub(seen).max(seen.saturating_sub(most))
    }
}

/// Connections from one service to another that nobody can read: to a database, a queue, inside TLS. They are an edge of
/// their own kind: no calls, on no path, and no finding that counts calls counts them.
#[derive(Debug, Clone)]
pub struct OpaqueEdge {
    /// The service that connects.
    pub source: ServiceIx,
    /// The peer; may be the source itself.
    pub destination: ServiceIx,
    /// What is spoken.
    pub protocol: Protocol,
    /// What was measured.
    pub stats: OpaqueStats,
}

/// What the handlings of an endpoint were found to call at another one by timing, where no header links them.
#[derive(Debug, Clone)]
pub struct Expected {
    /// The endpoint that calls; the one of unlinked calls for those that no handling made.
    pub source: EndpointIx,
    /// The endpoint that is called.
    pub destination: EndpointIx,
    /// What was found.
    pub stats: ExpectedStats,
    /// Calls, the doubtful ones shared with the other endpoints that may have made them.
    pub share: Share,
}

impl Expected {
    /// Whether the endpoint is said to make such calls.
    #[must_use]
    pub fn is_told(&self) -> bool {
        self.share.is_told(self.stats.handlings, self.stats.firm as f64 / 1_000.0)
    }
}

/// An endpoint that somebody outside calls.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Which endpoint.
    pub endpoint: EndpointIx,
    /// Its root paths: one, unless endpoints had to be put together.
    pub roots: Vec<PathIx>,
    /// Measures over its root requests only.
    pub stats: HandlingStats,
}

/// A node of the calling-context tree.
#[derive(Debug, Clone)]
pub struct Path {
    /// Its name; [`PathId::OVERFLOW`] once per service.
    pub id: PathId,
    /// The endpoint at its end.
    pub endpoint: EndpointIx,
    /// The node above, where it is known.
    pub parent: Option<PathIx>,
    /// The node at the top: an entry, calls without a handler, or a piece whose upper part is unknown.
    pub top: PathIx,
    /// Whether the node at the top is an entry: only then is the chain known from its beginning.
    pub complete: bool,
    /// Service changes from the top; counted in the tree, whatever reports claim.
    pub depth: u32,
    /// What is behind it.
    pub kind: PathKind,
    /// The weakest link of the chain.
    pub evidence: Evidence,
    /// Measures over its handlings.
    pub stats: Packed<HandlingStats>,
    pub(super) children: (u32, u32),
    pub(super) calls: (u32, u32),
}

/// Calls from one path to one endpoint, as the caller saw them.
#[derive(Debug, Clone)]
pub struct Call {
    /// The path of the handler that called.
    pub path: PathIx,
    /// Who was called.
    pub callee: EndpointIx,
    /// What was measured.
    pub stats: Packed<CallStats>,
}

impl Snapshot {
    /// All services, by name.
    #[must_use]
    pub fn services(&self) -> &[Service] {
        &self.services
    }

    /// All endpoints, by service and name.
    #[must_use]
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// All pairs of endpoints, by source and destination.
    #[must_use]
    pub fn pairs(&self) -> &[Pair] {
        &self.pairs
    }

    /// All edges, by source and destination.
    #[must_use]
    pub fn edges(&self) -> &[Edge] {
        &self.edges
    }

    /// All opaque edges, by source, destination and protocol.
    #[must_use]
    pub fn opaque(&self) -> &[OpaqueEdge] {
        &self.opaque
    }

    /// What endpoints were found to call by timing, by source and destination.
    #[must_use]
    pub fn expected(&self) -> &[Expected] {
        &self.expected
    }

    /// Example requests of paths, where there are some, by path.
    #[must_use]
    pub fn examples(&self) -> &[(PathIx, Arc<Examples>)] {
        &self.examples
    }

    /// All entries, by endpoint.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// All paths, by id.
    #[must_use]
    pub fn paths(&self) -> &[Path] {
        &self.paths
    }

    /// All calls, by path and callee.
    #[must_use]
    pub fn calls(&self) -> &[Call] {
        &self.calls
    }

    /// The indices of all services.
    pub fn service_indices(&self) -> impl DoubleEndedIterator<Item = ServiceIx> + use<> {
        (0..self.services.len()).map(ServiceIx::at)
    }

    /// The indices of all endpoints.
    pub fn endpoint_indices(&self) -> impl DoubleEndedIterator<Item = EndpointIx> + use<> {
        (0..self.endpoints.len()).map(EndpointIx::at)
    }

    /// The indices of all edges.
    pub fn edge_indices(&self) -> impl DoubleEndedIterator<Item = EdgeIx> + use<> {
        (0..self.edges.len()).map(EdgeIx::at)
    }

    /// The indices of all entries.
    pub fn entry_indices(&self) -> impl DoubleEndedIterator<Item = EntryIx> + use<> {
        (0..self.entries.len()).map(EntryIx::at)
    }

    /// The indices of all paths.
    pub fn path_indices(&self) -> impl DoubleEndedIterator<Item = PathIx> + use<> {
        (0..self.paths.len()).map(PathIx::at)
    }

    /// The path with this id; none for the overflow paths, of which every service has its own.
    #[must_use]
    pub fn path(&self, id: PathId) -> Option<PathIx> {
        let found = self.paths.binary_search_by_key(&id, |path| path.id).ok()?;
        (id != PathId::OVERFLOW).then(|| PathIx::at(found))
    }

    /// The paths one hop below `path`, by id.
    #[must_use]
    pub fn children(&self, path: PathIx) -> &[PathIx] {
        slice(&self.children, self[path].children)
    }

    /// The calls that handlers on `path` made, by callee.
    #[must_use]
    pub fn calls_of(&self, path: PathIx) -> &[Call] {
        slice(&self.calls, self[path].calls)
    }

    /// The calls that handlers on `path` made to one service, by endpoint.
    #[must_use]
    pub fn calls_between(&self, path: PathIx, service: ServiceIx) -> &[Call] {
        let calls = self.calls_of(path);
        let start = calls.partition_point(|call| self[call.callee].service < service);
        let end = calls.partition_point(|call| self[call.callee].service <= service);
        calls.get(start..end).unwrap_or_default()
    }

    /// The pairs in which `source` calls.
    #[must_use]
    pub fn pairs_from(&self, source: EndpointIx) -> &[Pair] {
        let start = self.pairs.partition_point(|pair| pair.source < source);
        let end = self.pairs.partition_point(|pair| pair.source <= source);
        self.pairs.get(start..end).unwrap_or_default()
    }

    /// The service of a path.
    #[must_use]
    pub fn service_of(&self, path: PathIx) -> ServiceIx {
        self[self[path].endpoint].service
    }

    /// An endpoint as people call it: `frontend GET /cart`.
    #[must_use]
    pub fn label(&self, endpoint: EndpointIx) -> String {
        let endpoint = &self[endpoint];
        format!("{} {}", self[endpoint.service].name, endpoint.name)
    }

    /// Calls of an edge that only one of its sides counted although both report: reports under way, lost contexts, limits.
    #[must_use]
    pub fn unpaired(&self, edge: &Edge) -> u64 {
        if self[edge.source].observed && self[edge.destination].observed { edge.unpaired() } else { 0 }
    }

    /// How all outbound calls were linked.
    #[must_use]
    pub fn links(&self) -> &Links {
        &self.links
    }

    /// What limits cost, at the proxies and here, by [`GraphLoss::as_str`](super::GraphLoss::as_str) and
    /// [`Loss::as_str`](couplet_telemetry::window::Loss::as_str); only what is not zero.
    #[must_use]
    pub fn losses(&self) -> &BTreeMap<&'static str, u64> {
        &self.losses
    }

    /// Start of the first and end of the last window, nanoseconds since the Unix epoch; zeros before the first report.
    #[must_use]
    pub fn window(&self) -> (u64, u64) {
        self.window
    }

    /// How many reports are in it.
    #[must_use]
    pub fn reports(&self) -> u64 {
        self.reports
    }

    /// How many requests came from outside.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.entries.iter().fold(0, |sum, entry| sum.saturating_add(entry.stats.outcomes.total()))
    }
}

macro_rules! index_by {
    ($($index:ident => $table:ident: $row:ty;)*) => {$(
        impl Index<$index> for Snapshot {
            type Output = $row;

            #[expect(clippy::indexing_slicing, reason = "the builder makes indices from the tables that it fills")]
            fn index(&self, at: $index) -> &$row {
                &self.$table[at.position()]
            }
        }
    )*};
}

index_by! {
    ServiceIx => services: Service;
    EndpointIx => endpoints: Endpoint;
    PairIx => pairs: Pair;
    EdgeIx => edges: Edge;
    PathIx => paths: Path;
    EntryIx => entries: Entry;
}

fn slice<T>(all: &[T], (start, end): (u32, u32)) -> &[T] {
    all.get(start as usize..end as usize).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use crate::traffic::{on, snapshot_of, traffic};

    #[test]
    fn both_sides_of_an_edge_count_the_same_and_what_only_one_counts_is_known() {
        let root = on("a", "GET /").calls(2, on("b", "GET /").takes(4));
        let reports = traffic().with_replicas(2).of(50, &root).reports();
        let whole = snapshot_of(&reports);
        let edge = &whole.edges()[0];
        assert_eq!((edge.calls(), whole.unpaired(edge)), (100, 0));
        let one_replica = reports.iter().rposition(|report| report.origin.service == "b").unwrap();
        let missing = reports[one_replica].paths.iter().map(|path| path.stats.outcomes.total()).sum::<u64>();
        let part: Vec<_> =
            reports.iter().enumerate().filter(|(at, _)| *at != one_replica).map(|(_, report)| report.clone()).collect();
        let part = snapshot_of(&part);
        assert!(missing > 20 && part.unpaired(&part.edges()[0]) == missing, "{missing}");
    }

    #[test]
    fn the_way_is_what_the_caller_waits_for_and_the_callee_does_not_work_on() {
        let root = on("a", "GET /").calls(1, on("b", "GET /").takes(4)).calls(1, on("db", "query").external());
        let mut reports = traffic().of(50, &root).reports();
        for path in
            reports.iter_mut().filter(|report| report.origin.service == "b").flat_map(|report| &mut report.paths)
        {
            path.stats.duration = couplet_telemetry::histogram::Histogram::default();
            (0..50).for_each(|_| path.stats.duration.record(3_000_000));
        }
        let snapshot = snapshot_of(&reports);
        let way: Vec<_> = snapshot.edges().iter().map(super::Edge::on_the_way).collect();
        assert_eq!(way, [Some(1_000_000.0), None], "b, and one that does not report");
        assert_eq!(snapshot.unpaired(&snapshot.edges()[1]), 0, "nobody is asked who does not report");
    }

    #[test]
    fn calls_that_never_arrived_are_no_disagreement() {
        use couplet_telemetry::outcome::Outcome;
        let refused = on("a", "GET /").calls(1, on("b", "GET /").external().ends(Outcome::Connect));
        let well = on("a", "GET /").calls(1, on("b", "GET /"));
        let snapshot = traffic().of(10, &refused).of(50, &well).snapshot();
        assert_eq!((snapshot.edges()[0].calls(), snapshot.unpaired(&snapshot.edges()[0])), (60, 0));
    }
}
