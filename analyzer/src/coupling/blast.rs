//! Blast radius of a service: the share of all requests from outside that fail when it does.
//!
//! Upward through the flow of every entry: f(x) = 1 − Π over the calls of x of (1 − p · λ · f(callee)), with f = 1 at the
//! service that fails; weighted by the requests of the entries. With λ = 1 everywhere it is the *structural* radius, what
//! would fail if nobody coped; with measured λ the *effective* one. The gap is what fallbacks and breakers are worth.

use std::collections::{BTreeMap, HashMap};

use couplet_telemetry::report::Joint;

use super::flow::{EachFlow, Flow};
use super::propagation::share;
use crate::graph::{ServiceIx, Snapshot};

/// The blast radius of one service. Shares of all requests from outside, 0 to 1.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Radius {
    /// With λ = 1 everywhere.
    pub structural: f64,
    /// With λ where it was measured, and 1 where too few failures were seen.
    pub effective: f64,
    /// With λ where it was measured, and 0 elsewhere: what is proven.
    pub proven: f64,
    /// Entries that are concerned at all.
    pub entries: u64,
    /// Requests of those entries.
    pub requests: u64,
}

/// The radius of every service that requests wait for, by service; not that of the entry's own service in its own flow.
#[must_use]
pub fn radii(snapshot: &Snapshot, flows: &dyn EachFlow, min_failures: u64) -> BTreeMap<ServiceIx, Radius> {
    Lambdas::of(snapshot, min_failures).radii(flows)
}

/// λ of every edge where it is known: what the radii of changed flows rest on, too.
#[derive(Debug)]
pub struct Lambdas {
    by_edge: HashMap<(ServiceIx, ServiceIx), f64>,
    min_failures: u64,
}

impl Lambdas {
    /// Those of a snapshot.
    #[must_use]
    pub fn of(snapshot: &Snapshot, min_failures: u64) -> Self {
        let lambda = |edge: &crate::graph::Edge| {
            let mut joint = Joint::default();
            edge.pairs.iter().for_each(|pair| joint.merge(&snapshot[*pair].client.totals().joint));
            Some(((edge.source, edge.destination), share(&joint, min_failures)?))
        };
        Self { by_edge: snapshot.edges().iter().filter_map(lambda).collect(), min_failures }
    }

    /// As [`radii`].
    #[must_use]
    pub fn radii(&self, flows: &dyn EachFlow) -> BTreeMap<ServiceIx, Radius> {
        let total = flows.requests();
        let mut radii: BTreeMap<ServiceIx, Radius> = BTreeMap::new();
        if total == 0 {
            return radii;
        }
        flows.each(&mut |flow| {
            let weight = flow.requests as f64 / total as f64;
            for (service, [structural, effective, proven]) in hit(flow, &self.by_edge, self.min_failures) {
                let radius = radii.entry(service).or_default();
                radius.structural += weight * structural;
                radius.effective += weight * effective;
                radius.proven += weight * proven;
                radius.entries += 1;
                radius.requests = radius.requests.saturating_add(flow.requests);
            }
        });
        radii
    }
}

/// For every service of a flow the share of its requests that fail when the service does: structural, effective, proven.
fn hit(flow: &Flow, edges: &HashMap<(ServiceIx, ServiceIx), f64>, min_failures: u64) -> Vec<(ServiceIx, [f64; 3])> {
    // How strongly each node pulls the one above it.
    let pull: Vec<[f64; 3]> = flow
        .nodes
        .iter()
        .map(|node| {
            let Some(above) = flow.parent(node) else { return [0.0; 3] };
            let used = node.used(above);
            let known = share(&node.joint, min_failures);
            let known = known.or_else(|| edges.get(&(above.service, node.service)).copied());
            [used, used * known.unwrap_or(1.0), used * known.unwrap_or(0.0)]
        })
        .collect();
    let root = flow.root().map(|root| root.service);
    let others = flow.nodes.iter().enumerate().filter(|(_, node)| Some(node.service) != root);
    let mut nodes: Vec<(ServiceIx, usize)> = others.map(|(at, node)| (node.service, at)).collect();
    nodes.sort_unstable();
    let mut survive = BTreeMap::new();
    let of_one =
        |failing: &[(ServiceIx, usize)]| Some((failing.first()?.0, upward(flow, &pull, failing, &mut survive)));
    nodes.chunk_by(|a, b| a.0 == b.0).filter_map(of_one).collect()
}

/// What reaches the root when all of `failing` fail. `survive` is cleared: room that is used again.
fn upward(
    flow: &Flow,
    pull: &[[f64; 3]],
    failing: &[(ServiceIx, usize)],
    survive: &mut BTreeMap<usize, [f64; 3]>,
) -> [f64; 3] {
    if let [(_, only)] = failing {
        // Most services are at one place of a flow, and only what is above them is concerned.
        let (mut at, mut survives) = (*only, [0.0; 3]);
        while let Some(parent) = flow.nodes.get(at).and_then(|node| node.parent) {
            let pulls = pull.get(at).copied().unwrap_or_default();
            for (survives, pull) in survives.iter_mut().zip(pulls) {
                *survives = 1.0 - pull * (1.0 - *survives);
            }
            at = parent;
        }
        return survives.map(|survives| 1.0 - survives);
    }
    // Children come after their parents, so the largest position is always ready.
    survive.clear();
    survive.extend(failing.iter().map(|(_, at)| (*at, [0.0; 3])));
    while let Some((at, survives)) = survive.pop_last() {
        let Some(parent) = flow.nodes.get(at).and_then(|node| node.parent) else {
            return survives.map(|survives| 1.0 - survives);
        };
        let pulls = pull.get(at).copied().unwrap_or_default();
        let slot = survive.entry(parent).or_insert([1.0; 3]);
        for ((slot, pull), survives) in slot.iter_mut().zip(pulls).zip(survives) {
            *slot *= 1.0 - pull * (1.0 - survives);
        }
    }
    [0.0; 3]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coupling::flow::Flows;
    use crate::traffic::{chain, on, traffic};

    fn radius(snapshot: &Snapshot, name: &str) -> Radius {
        let all = radii(snapshot, &Flows::of(snapshot), 20);
        let named = |service: &ServiceIx| &*snapshot[*service].name == name;
        all.into_iter().find(|(service, _)| named(service)).map(|(_, radius)| radius).unwrap_or_default()
    }

    #[test]
    fn a_service_that_every_second_request_needs_can_take_half_of_them_down() {
        let snapshot = traffic().of(50, &chain(&["a", "b", "c"])).of(50, &on("a", "GET /other")).snapshot();
        assert_eq!(
            radius(&snapshot, "c"),
            Radius { structural: 0.5, effective: 0.5, proven: 0.0, entries: 1, requests: 50 }
        );
    }

    #[test]
    fn two_ways_to_a_service_are_one_failure() {
        let diamond = on("a", "GET /").calls(1, chain(&["b", "d"])).calls(1, chain(&["c", "d"]));
        assert_eq!(radius(&traffic().of(100, &diamond).snapshot(), "d").structural, 1.0);
    }

    #[test]
    fn a_fallback_shrinks_the_effective_radius_and_not_the_structural_one() {
        let copes = on("a", "GET /").calls(1, on("b", "GET /").fails());
        let snapshot = traffic().of(30, &copes).of(70, &chain(&["a", "b"])).snapshot();
        let radius = radius(&snapshot, "b");
        assert_eq!((radius.structural, radius.effective, radius.proven), (1.0, 0.0, 0.0));
    }

    #[test]
    fn measured_failures_prove_a_radius() {
        let down = on("a", "GET /").fails().calls(1, on("b", "GET /").fails());
        let snapshot = traffic().of(30, &down).of(70, &chain(&["a", "b"])).snapshot();
        assert_eq!(radius(&snapshot, "b").proven, 1.0);
    }

    #[test]
    fn what_nobody_waits_for_takes_nobody_down() {
        let root = on("a", "GET /").calls(1, on("mail", "POST /").later());
        assert_eq!(radius(&traffic().of(100, &root).snapshot(), "mail").structural, 0.0);
    }
}
