//! Circular flows: on single requests, and in the graphs that all requests together make.
//!
//! On a request, a flow is circular when a service is a proper ancestor of itself with another service between. In a
//! graph it is a strongly connected component: of *endpoints*, where a real recursion is possible, or only of
//! *services*, where two flows in opposite directions meet and no single request may ever close the circle.

use std::collections::BTreeMap;

use couplet_telemetry::names::OTHER;
use couplet_telemetry::outcome::Evidence;

use super::chain::{leaves, push_step, steps};
use super::digraph::Digraph;
use crate::graph::{EndpointIx, Pair, PathIx, ServiceIx, Snapshot};

/// A circle that was closed within single requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// The services on it, ascending.
    pub services: Vec<ServiceIx>,
    /// The way round that has most traffic: from a service back to the same service.
    pub steps: Vec<EndpointIx>,
    /// How often it was closed, on all ways round.
    pub calls: u64,
    /// How often it was closed on the way in `steps`.
    pub heaviest: u64,
    /// The weakest link of that way.
    pub evidence: Evidence,
}

/// All circles that single requests close.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClosedCycles {
    /// One for every set of services, ordered by it.
    pub cycles: Vec<Closed>,
    /// How often a circle was closed beyond the number of circles that are kept.
    pub unkept: u64,
}

/// Sets of services that are kept apart.
const MAX_CYCLES: usize = 1_000;
/// A circle over more services than these is not looked for: the bound on what a hostile chain can cost.
const MAX_LENGTH: usize = 128;

/// Finds the circles that single requests close.
#[must_use]
pub fn closed(snapshot: &Snapshot) -> ClosedCycles {
    let mut found = Found { snapshot, cycles: BTreeMap::new(), unkept: 0 };
    // The services above the current path, one per service change, with the path where each was entered.
    let mut above: Vec<ServiceIx> = Vec::new();
    let mut open: Vec<(PathIx, usize)> =
        snapshot.path_indices().rev().filter(|path| snapshot[*path].parent.is_none()).map(|path| (path, 0)).collect();
    while let Some((at, depth)) = open.pop() {
        above.truncate(depth);
        let service = snapshot.service_of(at);
        if above.last() != Some(&service) {
            found.offer(&above, service, at, None, snapshot[at].stats.total());
            above.push(service);
        }
        for call in leaves(snapshot, at) {
            let callee = snapshot[call.callee].service;
            found.offer(&above, callee, at, Some(call.callee), call.stats.total());
        }
        let depth = above.len();
        open.extend(snapshot.children(at).iter().rev().map(|child| (*child, depth)));
    }
    ClosedCycles { cycles: found.cycles.into_values().collect(), unkept: found.unkept }
}

struct Found<'a> {
    snapshot: &'a Snapshot,
    cycles: BTreeMap<Vec<ServiceIx>, Closed>,
    unkept: u64,
}

impl Found<'_> {
    /// Looks whether entering `service` closes a circle, and if so keeps it.
    fn offer(&mut self, above: &[ServiceIx], service: ServiceIx, at: PathIx, beyond: Option<EndpointIx>, calls: u64) {
        let Some(back) = above.iter().rev().take(MAX_LENGTH).position(|other| *other == service) else { return };
        if calls == 0 || !is_one(self.snapshot, service) {
            return;
        }
        let mut services: Vec<_> = above.iter().rev().take(back + 1).copied().collect();
        services.sort_unstable();
        services.dedup();
        let length = back + 2;
        if let Some(known) = self.cycles.get_mut(&services) {
            known.calls = known.calls.saturating_add(calls);
            if calls > known.heaviest {
                known.heaviest = calls;
                known.steps = way_round(self.snapshot, at, beyond, length);
                known.evidence = self.snapshot[at].evidence;
            }
        } else if self.cycles.len() < MAX_CYCLES {
            let steps = way_round(self.snapshot, at, beyond, length);
            let evidence = self.snapshot[at].evidence;
            let fresh = Closed { services: services.clone(), steps, calls, heaviest: calls, evidence };
            self.cycles.insert(services, fresh);
        } else {
            self.unkept = self.unkept.saturating_add(calls);
        }
    }
}

/// The last `length` steps of the chain to `path`, and `beyond` it.
fn way_round(snapshot: &Snapshot, path: PathIx, beyond: Option<EndpointIx>, length: usize) -> Vec<EndpointIx> {
    let mut steps = steps(snapshot, path);
    if let Some(callee) = beyond {
        push_step(snapshot, &mut steps, callee);
    }
    steps.split_off(steps.len().saturating_sub(length))
}

/// A strongly connected component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Component {
    /// The services in it, ascending; at least two.
    pub services: Vec<ServiceIx>,
    /// A way round: from an endpoint back to the same service.
    pub steps: Vec<EndpointIx>,
    /// Calls on the weakest edge of that way.
    pub calls: u64,
}

/// Components of the graph of endpoints over at least two services, from pairs with at least `min_calls` calls.
#[must_use]
pub fn endpoint_components(snapshot: &Snapshot, min_calls: u64) -> Vec<Component> {
    // Names that stand for several would close circles that are none.
    let one = |endpoint: EndpointIx| snapshot[endpoint].is_one() && is_one(snapshot, snapshot[endpoint].service);
    let graph = Digraph::new(
        snapshot.endpoints().len(),
        snapshot
            .pairs()
            .iter()
            .filter(|pair| one(pair.source) && one(pair.destination) && pair_calls(pair) >= min_calls.max(1))
            .map(|pair| (pair.source.position(), pair.destination.position(), pair_calls(pair))),
    );
    let endpoints: Vec<EndpointIx> = snapshot.endpoint_indices().collect();
    let component = |members: &Vec<usize>| {
        let at = |position: &usize| endpoints.get(*position).copied();
        let mut services: Vec<_> = members.iter().filter_map(at).map(|endpoint| snapshot[endpoint].service).collect();
        services.sort_unstable();
        services.dedup();
        let (trip, calls) = graph.round_trip(members)?;
        (services.len() > 1).then(|| Component { services, steps: trip.iter().filter_map(at).collect(), calls })
    };
    graph.components().iter().filter_map(component).collect()
}

/// Components of the graph of services, from edges with at least `min_calls` calls. The way round names for every hop
/// the endpoints with most traffic; they need not follow from one another.
#[must_use]
pub fn service_components(snapshot: &Snapshot, min_calls: u64) -> Vec<Component> {
    let graph = service_graph(snapshot, min_calls);
    let services: Vec<ServiceIx> = snapshot.service_indices().collect();
    let component = |members: &Vec<usize>| {
        let at = |position: &usize| services.get(*position).copied();
        let (trip, calls) = graph.round_trip(members)?;
        let trip: Vec<ServiceIx> = trip.iter().filter_map(at).collect();
        let steps = endpoints_of(snapshot, &trip);
        Some(Component { services: members.iter().filter_map(at).collect(), steps, calls })
    };
    graph.components().iter().filter_map(component).collect()
}

/// For every edge, in their order, whether its callee depends on its caller.
#[must_use]
pub fn circular_edges(snapshot: &Snapshot) -> Vec<bool> {
    let mut component_of = vec![usize::MAX; snapshot.services().len()];
    for (number, members) in service_graph(snapshot, 1).components().iter().enumerate() {
        for member in members {
            if let Some(slot) = component_of.get_mut(*member) {
                *slot = number;
            }
        }
    }
    let component = |service: ServiceIx| component_of.get(service.position()).copied().unwrap_or(usize::MAX);
    let inside = |(source, destination)| component(source) != usize::MAX && component(source) == component(destination);
    snapshot.edges().iter().map(|edge| inside((edge.source, edge.destination))).collect()
}

fn service_graph(snapshot: &Snapshot, min_calls: u64) -> Digraph {
    let one = |service: ServiceIx| is_one(snapshot, service);
    let edges = snapshot.edges().iter();
    let edges = edges.filter(|edge| one(edge.source) && one(edge.destination) && edge.calls() >= min_calls.max(1));
    let edges = edges.map(|edge| (edge.source.position(), edge.destination.position(), edge.calls()));
    Digraph::new(snapshot.services().len(), edges)
}

/// The first endpoint that calls, then every endpoint that is called, by most traffic.
fn endpoints_of(snapshot: &Snapshot, trip: &[ServiceIx]) -> Vec<EndpointIx> {
    let heaviest = |hop: &[ServiceIx]| {
        let &[source, destination] = hop else { return None };
        let found =
            snapshot.edges().binary_search_by_key(&(source, destination), |edge| (edge.source, edge.destination));
        let edge = snapshot.edges().get(found.ok()?)?;
        edge.pairs.iter().rev().map(|pair| &snapshot[*pair]).max_by_key(|pair| pair_calls(pair))
    };
    let mut steps = Vec::new();
    for pair in trip.windows(2).filter_map(heaviest) {
        if steps.is_empty() {
            steps.push(pair.source);
        }
        steps.push(pair.destination);
    }
    steps
}

/// Whether this is one service, and not the name for all beyond a limit.
fn is_one(snapshot: &Snapshot, service: ServiceIx) -> bool {
    &*snapshot[service].name != OTHER
}

/// Both sides count the same calls; where one is missing or short, the other knows.
fn pair_calls(pair: &Pair) -> u64 {
    pair.client.total().max(pair.server.total())
}
