//! Chains: what one request from outside waits for, hop by hop.
//!
//! The depth of a request is the largest number of *service changes* on one chain of blocking calls. A call of a
//! service to itself is none, and the root alone has depth 0. Depth, calls and distinct services come per request from
//! the root's own measures; the tree of paths is only asked for an example of the chain.

use couplet_telemetry::outcome::Evidence;

use crate::graph::{Call, EndpointIx, Entry, PathIx, ServiceIx, Snapshot};

/// A chain of endpoints, from the root down: one for every service on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// The endpoints; the first is the root.
    pub steps: Vec<EndpointIx>,
    /// How often its end was reached.
    pub calls: u64,
    /// The weakest link.
    pub evidence: Evidence,
}

/// The 95th percentile that stands for "deep" in findings: one request of twenty is at least that deep.
pub const QUANTILE: f64 = 0.95;

/// A chain is followed over so many nodes of the tree. Requests that real services answer are far from it.
const MAX_NODES: usize = 4_096;

/// A chain that represents the deep requests of an entry: among the paths whose depth is the 95th percentile of the
/// requests' depths, the one with most traffic. Where the tree does not reach that deep, the deepest it knows.
#[must_use]
pub fn deepest(snapshot: &Snapshot, entry: &Entry) -> Option<Chain> {
    let wanted = entry.stats.depth_below.quantile(QUANTILE);
    let mut best: Option<Candidate> = None;
    let mut open: Vec<PathIx> = entry.roots.iter().rev().copied().collect();
    while let Some(at) = open.pop() {
        let path = &snapshot[at];
        offer(&mut best, Candidate { depth: path.depth, calls: path.stats.total(), path: at, beyond: None });
        for call in leaves(snapshot, at).filter(|call| waited_for(call) && path.depth < wanted) {
            let (depth, calls) = (path.depth + 1, call.stats.total());
            offer(&mut best, Candidate { depth, calls, path: at, beyond: Some(call.callee) });
        }
        let below = snapshot.children(at).iter().rev().copied();
        open.extend(below.filter(|child| snapshot[*child].depth <= wanted && is_waited_for(snapshot, at, *child)));
    }
    best.map(|best| best.chain(snapshot))
}

/// Calls from a path to other services of which no path below tells: services that do not report, or not yet.
pub(crate) fn leaves(snapshot: &Snapshot, path: PathIx) -> impl Iterator<Item = &Call> {
    let mut told: Vec<ServiceIx> = snapshot.children(path).iter().map(|child| snapshot.service_of(*child)).collect();
    told.push(snapshot.service_of(path));
    told.sort_unstable();
    let untold = move |call: &&Call| told.binary_search(&snapshot[call.callee].service).is_err();
    snapshot.calls_of(path).iter().filter(untold)
}

/// The endpoints from the top of a tree to `path`, one per service change; of an absurdly long chain, its last part.
pub(crate) fn steps(snapshot: &Snapshot, path: PathIx) -> Vec<EndpointIx> {
    let upward = std::iter::successors(Some(path), |at| snapshot[*at].parent);
    let upward: Vec<PathIx> = upward.take(MAX_NODES).collect();
    let mut steps: Vec<EndpointIx> = Vec::new();
    for path in upward.into_iter().rev() {
        push_step(snapshot, &mut steps, snapshot[path].endpoint);
    }
    steps
}

/// Adds a step where the service changes. Of several endpoints of one service the first stays, unless it is the one
/// that stands for an unknown handler.
pub(crate) fn push_step(snapshot: &Snapshot, steps: &mut Vec<EndpointIx>, endpoint: EndpointIx) {
    match steps.last_mut() {
        Some(last) if snapshot[*last].service == snapshot[endpoint].service => {
            if !snapshot[*last].is_one() {
                *last = endpoint;
            }
        }
        _ => steps.push(endpoint),
    }
}

#[derive(Debug, Clone, Copy)]
struct Candidate {
    depth: u32,
    calls: u64,
    path: PathIx,
    /// A callee below the path that does not report itself.
    beyond: Option<EndpointIx>,
}

impl Candidate {
    fn chain(self, snapshot: &Snapshot) -> Chain {
        let mut steps = steps(snapshot, self.path);
        let mut evidence = snapshot[self.path].evidence;
        if let Some(callee) = self.beyond {
            push_step(snapshot, &mut steps, callee);
            let calls = snapshot.calls_of(self.path).iter().filter(|call| call.callee == callee);
            evidence = calls.filter_map(|call| call.stats.links().weakest()).fold(evidence, Ord::max);
        }
        Chain { steps, calls: self.calls, evidence }
    }
}

/// The deeper wins, then the one with more traffic, then the one that came first.
fn offer(best: &mut Option<Candidate>, candidate: Candidate) {
    if best.is_none_or(|best| (candidate.depth, candidate.calls) > (best.depth, best.calls)) {
        *best = Some(candidate);
    }
}

/// Whether handlers on `path` mostly wait for what happens on `child`. Where only the callee reports, nobody knows, and
/// a request that is answered is the normal case.
fn is_waited_for(snapshot: &Snapshot, path: PathIx, child: PathIx) -> bool {
    let endpoint = snapshot[child].endpoint;
    let calls = snapshot.calls_between(path, snapshot[endpoint].service);
    match calls.binary_search_by_key(&endpoint, |call| call.callee).ok().and_then(|at| calls.get(at)) {
        Some(call) => waited_for(call),
        None => calls.is_empty() || calls.iter().any(waited_for),
    }
}

fn waited_for(call: &Call) -> bool {
    let calls = call.stats.totals();
    calls.blocking.saturating_mul(2) >= calls.outcomes.total() && calls.blocking > 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::{Request, chain, on, traffic};

    fn deepest_of(snapshot: &Snapshot) -> Vec<String> {
        let chain = deepest(snapshot, &snapshot.entries()[0]).unwrap();
        chain.steps.into_iter().map(|endpoint| snapshot.label(endpoint)).collect()
    }

    #[test]
    fn of_several_chains_of_the_wanted_depth_the_busiest_represents_the_entry() {
        let root = |below: Request| on("a", "GET /").calls(1, below);
        let snapshot = traffic().of(30, &root(chain(&["b", "c"]))).of(70, &root(chain(&["d", "e"]))).snapshot();
        assert_eq!(deepest_of(&snapshot), ["a GET /", "d GET /", "e GET /"]);
    }

    #[test]
    fn a_rarely_taken_deeper_chain_does_not_represent_the_entry() {
        let snapshot = traffic().of(2, &chain(&["a", "x", "y", "z"])).of(98, &chain(&["a", "b"])).snapshot();
        assert_eq!(deepest_of(&snapshot), ["a GET /", "b GET /"]);
    }

    #[test]
    fn the_chain_goes_round_what_is_not_waited_for() {
        let root = on("a", "GET /").calls(1, chain(&["mail", "smtp"]).later()).calls(1, chain(&["b", "c"]));
        assert_eq!(deepest_of(&traffic().of(10, &root).snapshot()), ["a GET /", "b GET /", "c GET /"]);
    }
}
