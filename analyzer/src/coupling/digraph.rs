//! Directed graphs without names: strongly connected components, and round trips through them.

use std::collections::{HashMap, HashSet, VecDeque};

use petgraph::algo::kosaraju_scc;
use petgraph::graph::DiGraph;

/// A directed graph over nodes `0..nodes` with a weight on every edge.
#[derive(Debug, Clone)]
pub struct Digraph {
    nodes: usize,
    /// (source, destination, weight), sorted.
    edges: Vec<(usize, usize, u64)>,
}

impl Digraph {
    /// The graph with these edges; edges from or to other nodes, and from a node to itself, are left out.
    #[must_use]
    pub fn new(nodes: usize, edges: impl IntoIterator<Item = (usize, usize, u64)>) -> Self {
        let inside = |(a, b, _): &(usize, usize, u64)| *a < nodes && *b < nodes && a != b;
        let mut edges: Vec<_> = edges.into_iter().filter(inside).collect();
        edges.sort_unstable();
        Self { nodes, edges }
    }

    /// The strongly connected components of two nodes or more; members ascending, components by their first member.
    ///
    /// Kosaraju's algorithm, because it does not recurse: a chain of any length is no danger to the stack.
    #[must_use]
    pub fn components(&self) -> Vec<Vec<usize>> {
        let mut graph = DiGraph::<(), ()>::with_capacity(self.nodes, self.edges.len());
        let nodes: Vec<_> = (0..self.nodes).map(|_| graph.add_node(())).collect();
        for (source, destination, _) in &self.edges {
            if let (Some(source), Some(destination)) = (nodes.get(*source), nodes.get(*destination)) {
                graph.add_edge(*source, *destination, ());
            }
        }
        let members = |component: Vec<petgraph::graph::NodeIndex>| {
            let mut members: Vec<usize> = component.into_iter().map(petgraph::graph::NodeIndex::index).collect();
            members.sort_unstable();
            members
        };
        let mut components: Vec<_> =
            kosaraju_scc(&graph).into_iter().filter(|component| component.len() > 1).map(members).collect();
        components.sort_unstable();
        components
    }

    /// A round trip inside a component, over its heaviest edge and back on the shortest way: the nodes in order, the
    /// first again at the end, and the smallest weight on the way.
    #[must_use]
    pub fn round_trip(&self, component: &[usize]) -> Option<(Vec<usize>, u64)> {
        let members: HashSet<usize> = component.iter().copied().collect();
        let inner = || self.edges.iter().filter(|(a, b, _)| members.contains(a) && members.contains(b));
        // `max_by_key` takes the last of equals; reversed, that is the first by position.
        let (first, second, weight) = inner().rev().max_by_key(|(_, _, weight)| *weight).copied()?;
        let mut next: HashMap<usize, Vec<(usize, u64)>> = HashMap::new();
        for (source, destination, weight) in inner() {
            next.entry(*source).or_default().push((*destination, *weight));
        }
        let mut came_from = HashMap::from([(second, (first, weight))]);
        let mut open = VecDeque::from([second]);
        while let Some(at) = open.pop_front().filter(|at| *at != first) {
            for (to, weight) in next.get(&at).into_iter().flatten() {
                came_from.entry(*to).or_insert_with(|| {
                    open.push_back(*to);
                    (at, *weight)
                });
            }
        }
        let (mut trip, mut least, mut at) = (vec![first], u64::MAX, first);
        while let Some((before, weight)) = came_from.get(&at) {
            trip.push(*before);
            least = least.min(*weight);
            at = *before;
            if at == first {
                trip.reverse();
                return Some((trip, least));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_graph_without_cycles_has_no_component() {
        assert!(Digraph::new(3, [(0, 1, 1), (0, 2, 1), (1, 2, 1), (2, 2, 9)]).components().is_empty());
    }

    #[test]
    fn a_round_trip_takes_the_heaviest_edge_and_the_shortest_way_back() {
        let graph = Digraph::new(6, [(0, 1, 5), (1, 2, 9), (2, 3, 4), (3, 1, 7), (2, 0, 3), (4, 5, 50)]);
        assert_eq!(graph.components(), [vec![0, 1, 2, 3]]);
        assert_eq!(graph.round_trip(&[0, 1, 2, 3]), Some((vec![1, 2, 0, 1], 3)));
    }

    #[test]
    fn a_long_ring_does_not_exhaust_the_stack() {
        let n = 200_000;
        let graph = Digraph::new(n, (0..n).map(|at| (at, (at + 1) % n, 1)));
        let components = graph.components();
        assert_eq!(components.len(), 1);
        assert_eq!(graph.round_trip(&components[0]).map(|(trip, _)| trip.len()), Some(n + 1));
    }
}
