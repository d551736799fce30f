//! Flows: what the requests of one entry need, service by service.
//!
//! A flow is the calling-context tree below one entry in which endpoints are put together: one node for every chain of
//! services. Calls of a service to itself stay in its node. So it does not matter into how many endpoint templates a
//! service is cut, nor how many replicas it has; and because it is a tree, circular flows end where requests ended.

use std::collections::HashMap;
use std::fmt;

use couplet_telemetry::report::Joint;

use crate::graph::{Call, CallTotals, EntryIx, PathIx, ServiceIx, Snapshot};

/// Flows that can be looked at one after the other, as often as somebody likes.
pub trait EachFlow: fmt::Debug {
    /// Shows every flow, in the order of the entries.
    fn each(&self, look: &mut dyn FnMut(&Flow));

    /// Requests over all entries.
    fn requests(&self) -> u64;

    /// Paths that they are made of, at least as many as they have nodes.
    fn paths(&self) -> usize;
}

/// All flows of a snapshot, in the order of its entries: kept, to be looked at often, or to be changed.
#[derive(Debug, Clone, Default)]
pub struct Flows {
    flows: Vec<Flow>,
}

/// All flows of a snapshot, each made when it is looked at, and gone then: those of a million paths take more room than the
/// paths themselves.
#[derive(Debug, Clone, Copy)]
pub struct Passing<'a> {
    snapshot: &'a Snapshot,
}

/// What the requests of one entry need.
#[derive(Debug, Clone)]
pub struct Flow {
    /// Whose requests.
    pub entry: EntryIx,
    /// How many.
    pub requests: u64,
    /// The nodes, each after its parent; the first is the root.
    pub nodes: Vec<Node>,
}

/// One service at the end of one chain of services.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Node {
    /// Position of the node above; none for the root.
    pub parent: Option<usize>,
    /// Position of the service in the snapshot.
    pub service: ServiceIx,
    /// Service changes from the root.
    pub depth: u32,
    /// Calls that led here, as the caller counted them where it reports; for the root its requests.
    pub calls: u64,
    /// Those that the caller waited for.
    pub blocking: u64,
    /// Those that failed, seen from the caller.
    pub failures: u64,
    /// Handlings above that made at least one of these calls.
    pub users: u64,
    /// Those handlings by whether one of these calls failed and whether they did.
    pub joint: Joint,
    /// Nanoseconds of these calls, seen from the caller.
    pub call_nanos: u64,
    /// Nanoseconds in which handlings above waited for these calls.
    pub blocked_on: u64,
    /// Handlings here, without those in which the service called itself.
    pub handlings: u64,
    /// Those that failed.
    pub handling_failures: u64,
    /// Failed handlings here in which a call to another service failed, too: at most `handling_failures`.
    pub explained: u64,
    /// Nanoseconds of the handlings here.
    pub nanos: u64,
    /// Nanoseconds of them in which a blocking call to another service was open.
    pub blocked: u64,
    /// Nanoseconds of all blocking calls from here added up.
    pub busy: u64,
    /// Probability that a request of the entry waits for a handling here, 0 to 1.
    pub reach: f64,
}

impl Flows {
    /// The flows of a snapshot. Takes time in proportion to the tree of paths.
    #[must_use]
    pub fn of(snapshot: &Snapshot) -> Self {
        Self { flows: snapshot.entry_indices().map(|entry| Flow::of(snapshot, entry)).collect() }
    }

    /// All of them.
    pub fn iter(&self) -> std::slice::Iter<'_, Flow> {
        self.flows.iter()
    }

    /// The flow of an entry.
    #[must_use]
    pub fn get(&self, entry: EntryIx) -> Option<&Flow> {
        self.flows.get(entry.position())
    }
}

impl EachFlow for Flows {
    fn each(&self, look: &mut dyn FnMut(&Flow)) {
        self.flows.iter().for_each(look);
    }

    fn requests(&self) -> u64 {
        self.flows.iter().fold(0, |sum, flow| sum.saturating_add(flow.requests))
    }

    fn paths(&self) -> usize {
        self.flows.iter().map(|flow| flow.nodes.len()).sum()
    }
}

impl<'a> Passing<'a> {
    /// The flows of a snapshot.
    #[must_use]
    pub fn of(snapshot: &'a Snapshot) -> Self {
        Self { snapshot }
    }
}

impl EachFlow for Passing<'_> {
    fn each(&self, look: &mut dyn FnMut(&Flow)) {
        self.snapshot.entry_indices().for_each(|entry| look(&Flow::of(self.snapshot, entry)));
    }

    fn requests(&self) -> u64 {
        self.snapshot.requests()
    }

    fn paths(&self) -> usize {
        self.snapshot.paths().len()
    }
}

impl FromIterator<Flow> for Flows {
    /// In the order of the entries.
    fn from_iter<I: IntoIterator<Item = Flow>>(flows: I) -> Self {
        Self { flows: flows.into_iter().collect() }
    }
}

impl<'a> IntoIterator for &'a Flows {
    type Item = &'a Flow;
    type IntoIter = std::slice::Iter<'a, Flow>;

    fn into_iter(self) -> Self::IntoIter {
        self.flows.iter()
    }
}

impl Flow {
    fn of(snapshot: &Snapshot, entry: EntryIx) -> Self {
        let row = &snapshot[entry];
        let requests = row.stats.outcomes.total();
        let root = Node {
            service: snapshot[row.endpoint].service,
            calls: requests,
            blocking: requests,
            failures: row.stats.outcomes.failures(),
            users: requests,
            call_nanos: row.stats.duration.sum(),
            reach: 1.0,
            ..Node::default()
        };
        let mut building = Building { snapshot, nodes: vec![root], heads: vec![row.roots.clone()] };
        let mut next = 0;
        while next < building.nodes.len() {
            building.expand(next);
            next += 1;
        }
        // There are as many nodes as paths, over all flows.
        building.nodes.shrink_to_fit();
        Self { entry, requests, nodes: building.nodes }
    }

    /// The node above.
    #[must_use]
    pub fn parent(&self, node: &Node) -> Option<&Node> {
        node.parent.and_then(|parent| self.nodes.get(parent))
    }

    /// The root.
    #[must_use]
    pub fn root(&self) -> Option<&Node> {
        self.nodes.first()
    }

    /// For every service of the flow but that of the root the largest probability that a request waits for it, by service.
    /// That of several nodes together is larger, but nobody counted by how much.
    #[must_use]
    pub fn reach(&self) -> Vec<(ServiceIx, f64)> {
        let root = self.root().map(|root| root.service);
        let others = self.nodes.iter().filter(|node| Some(node.service) != root);
        let mut reach: Vec<(ServiceIx, f64)> = others.map(|node| (node.service, node.reach)).collect();
        reach.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(b.1.total_cmp(&a.1)));
        reach.dedup_by_key(|(service, _)| *service);
        reach
    }

    /// For every node the share of its calls that the request as a whole waits for, 0 to 1.
    #[must_use]
    pub fn awaited(&self) -> Vec<f64> {
        let mut awaited: Vec<f64> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let above = node.parent.map_or(Some(1.0), |parent| awaited.get(parent).copied());
            awaited.push(above.unwrap_or(0.0) * node.waited());
        }
        awaited
    }

    /// Calls for one request of the entry that it waits for, over the whole chain.
    #[must_use]
    pub fn awaited_calls(&self) -> f64 {
        let calls = self.nodes.iter().zip(self.awaited()).skip(1);
        calls.map(|(node, share)| self.per_request(node.calls) * share).sum()
    }

    /// Calls on the edge to a node for one request of the entry.
    #[must_use]
    pub fn per_request(&self, calls: u64) -> f64 {
        if self.requests == 0 { 0.0 } else { calls as f64 / self.requests as f64 }
    }
}

impl Node {
    /// Failures here that no failed call below explains: those of its calls where the caller reports, else those of its
    /// handlings.
    #[must_use]
    pub fn own_failures(&self) -> u64 {
        let explained = if self.handlings == 0 { 0 } else { self.explained };
        self.failures.max(if self.calls == 0 { self.handling_failures } else { 0 }).saturating_sub(explained)
    }

    /// Share of the calls that the caller waited for, 0 to 1.
    #[must_use]
    pub fn waited(&self) -> f64 {
        if self.calls == 0 { 0.0 } else { (self.blocking as f64 / self.calls as f64).min(1.0) }
    }

    /// Probability that a handling above calls this node at all and waits, 0 to 1. Several endpoints of one service are
    /// taken to be called by different handlings: an upper bound where they are not.
    #[must_use]
    pub fn used(&self, above: &Node) -> f64 {
        let handlings = above.handlings.max(if above.parent.is_none() { above.calls } else { 0 });
        let share = if handlings == 0 { 0.0 } else { (self.users as f64 / handlings as f64).min(1.0) };
        share * self.waited()
    }

    /// Nanoseconds that handlings here spent on themselves.
    #[must_use]
    pub fn own_nanos(&self) -> u64 {
        self.nanos.saturating_sub(self.blocked)
    }
}

struct Building<'a> {
    snapshot: &'a Snapshot,
    nodes: Vec<Node>,
    /// The paths that lead into each node from another service.
    heads: Vec<Vec<PathIx>>,
}

/// What is below a node, while it is collected.
#[derive(Default)]
struct Below {
    node: Node,
    heads: Vec<PathIx>,
    /// Handlings below, where the caller does not report its calls.
    server_only: (u64, u64),
}

impl Building<'_> {
    /// Measures a node, and appends one node for every service that it calls.
    fn expand(&mut self, at: usize) {
        let Some(heads) = self.heads.get_mut(at).map(std::mem::take) else { return };
        let Some(mut node) = self.nodes.get(at).cloned() else { return };
        let mut below: HashMap<ServiceIx, Below> = HashMap::new();
        let mut open: Vec<(PathIx, bool)> = heads.into_iter().map(|head| (head, true)).collect();
        while let Some((path, head)) = open.pop() {
            self.measure(&mut node, path, head);
            for call in self.snapshot.calls_of(path) {
                let callee = self.snapshot[call.callee].service;
                if callee != node.service {
                    let calls = call.stats.totals();
                    node.explained = node.explained.saturating_add(calls.joint.both);
                    below.entry(callee).or_default().add_calls(&calls);
                }
            }
            for child in self.snapshot.children(path) {
                let callee = self.snapshot.service_of(*child);
                if callee == node.service {
                    open.push((*child, false));
                    continue;
                }
                let reported = !self.snapshot.calls_between(path, callee).is_empty();
                let slot = below.entry(callee).or_default();
                slot.heads.push(*child);
                if !reported {
                    let outcomes = self.snapshot[*child].stats.outcomes();
                    slot.server_only.0 = slot.server_only.0.saturating_add(outcomes.total());
                    slot.server_only.1 = slot.server_only.1.saturating_add(outcomes.failures());
                }
            }
        }
        node.explained = node.explained.min(node.handling_failures);
        let mut below: Vec<(ServiceIx, Below)> = below.into_iter().collect();
        below.sort_unstable_by_key(|(service, _)| *service);
        for (service, below) in below {
            self.append(at, &node, service, below);
        }
        if let Some(slot) = self.nodes.get_mut(at) {
            *slot = node;
        }
    }

    fn measure(&self, node: &mut Node, path: PathIx, head: bool) {
        let stats = self.snapshot[path].stats.totals();
        if head {
            node.handlings = node.handlings.saturating_add(stats.outcomes.total());
            node.handling_failures = node.handling_failures.saturating_add(stats.outcomes.failures());
            node.nanos = node.nanos.saturating_add(stats.nanos);
        }
        // What a service waits for when it calls itself is its own time, unless it then waits for others.
        let calls = || self.snapshot.calls_of(path).iter();
        let own = |call: &&Call| self.snapshot[call.callee].service == node.service;
        let on_itself = calls().filter(own).fold(0, |sum: u64, call| sum.saturating_add(call.stats.totals().blocked));
        node.blocked = node.blocked.saturating_add(stats.blocked.saturating_sub(on_itself));
        node.busy = node.busy.saturating_add(stats.busy.saturating_sub(on_itself));
    }

    fn append(&mut self, parent: usize, above: &Node, service: ServiceIx, below: Below) {
        let mut node = below.node;
        let (handled, failed) = below.server_only;
        node.calls = node.calls.saturating_add(handled);
        // Nobody said whether these were waited for; a request that is answered is the normal case.
        node.blocking = node.blocking.saturating_add(handled);
        node.users = node.users.saturating_add(handled);
        node.failures = node.failures.saturating_add(failed);
        node.parent = Some(parent);
        node.service = service;
        node.depth = above.depth.saturating_add(1);
        node.reach = above.reach * node.used(above);
        self.nodes.push(node);
        self.heads.push(below.heads);
    }
}

impl Below {
    fn add_calls(&mut self, calls: &CallTotals) {
        let node = &mut self.node;
        node.calls = node.calls.saturating_add(calls.outcomes.total());
        node.blocking = node.blocking.saturating_add(calls.blocking);
        node.failures = node.failures.saturating_add(calls.outcomes.failures());
        node.users = node.users.saturating_add(calls.users);
        node.joint.merge(&calls.joint);
        node.call_nanos = node.call_nanos.saturating_add(calls.nanos);
        node.blocked_on = node.blocked_on.saturating_add(calls.blocked);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::{chain, on, traffic};

    /// Chain of services, calls per request, and reach of every node.
    fn nodes(snapshot: &Snapshot) -> Vec<(String, f64, f64)> {
        let flows = Flows::of(snapshot);
        let flow = flows.iter().next().unwrap();
        let mut chains: Vec<String> = Vec::new();
        let mut seen = Vec::new();
        for node in &flow.nodes {
            let name = snapshot[node.service].name.to_string();
            let chain = node.parent.map_or(name.clone(), |parent| format!("{}>{name}", chains[parent]));
            chains.push(chain.clone());
            seen.push((chain, flow.per_request(node.calls), (node.reach * 1e6).round() / 1e6));
        }
        seen.sort_by(|a, b| a.0.cmp(&b.0));
        seen
    }

    #[test]
    fn a_flow_says_how_often_a_request_needs_whom() {
        let often = on("a", "GET /").calls(2, chain(&["b", "c"]));
        let snapshot = traffic().of(50, &often).of(50, &on("a", "GET /")).snapshot();
        assert_eq!(
            nodes(&snapshot),
            [("a".to_owned(), 1.0, 1.0), ("a>b".to_owned(), 1.0, 0.5), ("a>b>c".to_owned(), 1.0, 0.5)]
        );
    }

    #[test]
    fn endpoints_of_one_service_are_one_node_and_calls_to_oneself_none() {
        let root =
            |at: &str| on("a", "GET /").calls(1, on("a", "GET /self").calls(1, on("b", at).calls(1, on("c", at))));
        let snapshot = traffic().of(50, &root("GET /1")).of(50, &root("GET /2")).snapshot();
        assert_eq!(
            nodes(&snapshot),
            [("a".to_owned(), 1.0, 1.0), ("a>b".to_owned(), 1.0, 1.0), ("a>b>c".to_owned(), 1.0, 1.0)]
        );
    }

    #[test]
    fn what_nobody_waits_for_is_called_but_not_reached() {
        let root = on("a", "GET /").calls(1, on("mail", "POST /").later()).calls(1, on("db", "query").external());
        let seen = nodes(&traffic().of(10, &root).snapshot());
        assert_eq!(seen[1], ("a>db".to_owned(), 1.0, 1.0));
        assert_eq!(seen[2], ("a>mail".to_owned(), 1.0, 0.0));
    }

    #[test]
    fn a_failure_is_explained_by_the_failed_call_below_it() {
        let broken = on("a", "GET /").fails().calls(1, on("b", "GET /").fails().calls(1, on("c", "GET /").fails()));
        let alone = on("a", "GET /").fails().calls(1, chain(&["b", "c"]));
        let flows = Flows::of(&traffic().of(7, &broken).of(2, &alone).of(91, &chain(&["a", "b", "c"])).snapshot());
        let own: Vec<u64> = flows.iter().next().unwrap().nodes.iter().map(Node::own_failures).collect();
        assert_eq!(own, [2, 0, 7]);
    }
}
