//! The calling-context tree: from what paths say of their parents to a forest without loops.

/// The forest over nodes `0..n`. There are a million of them, so they are small numbers.
#[derive(Debug, Default)]
pub(super) struct Tree {
    /// The parent of each node, or [`NONE`].
    pub(super) parents: Vec<u32>,
    /// The children of all nodes, those of one node together and ascending.
    pub(super) children: Vec<u32>,
    /// Where the children of each node are.
    pub(super) ranges: Vec<(u32, u32)>,
    /// All nodes, parents before children.
    pub(super) order: Vec<u32>,
    /// How many loops were cut.
    pub(super) loops: u64,
}

/// The parent of a node that has none.
pub(super) const NONE: u32 = u32::MAX;

impl Tree {
    /// The forest in which every node hangs below its parent; a loop of parents is cut above its first node.
    /// Takes time in proportion to the number of nodes, however long or twisted the chains are.
    pub(super) fn new(mut parents: Vec<u32>) -> Self {
        let loops = cut_loops(&mut parents);
        let (children, ranges) = children(&parents);
        let mut order = Vec::with_capacity(parents.len());
        order.extend((0..parents.len() as u32).filter(|node| parent(&parents, *node).is_none()));
        let mut next = 0;
        while let Some(node) = order.get(next).copied() {
            let (start, end) = ranges.get(node as usize).copied().unwrap_or_default();
            order.extend_from_slice(children.get(start as usize..end as usize).unwrap_or_default());
            next += 1;
        }
        Self { parents, children, ranges, order, loops }
    }

    pub(super) fn parent(&self, node: usize) -> Option<usize> {
        parent(&self.parents, node as u32).map(|parent| parent as usize)
    }
}

fn parent(parents: &[u32], node: u32) -> Option<u32> {
    parents.get(node as usize).copied().filter(|parent| (*parent as usize) < parents.len())
}

/// Walks up from every node until somebody has been there; who meets his own traces walks in a loop.
fn cut_loops(parents: &mut [u32]) -> u64 {
    let mut walked_by = vec![NONE; parents.len()];
    let mut loops = 0;
    for walker in 0..parents.len() as u32 {
        let mut at = Some(walker);
        while let Some(node) = at {
            match walked_by.get_mut(node as usize) {
                Some(mark) if *mark == NONE => *mark = walker,
                Some(mark) if *mark == walker => {
                    cut(parents, node);
                    loops += 1;
                    break;
                }
                _ => break,
            }
            at = parent(parents, node);
        }
    }
    loops
}

/// Cuts the loop through `node` above its first member: the same one from wherever it is found.
fn cut(parents: &mut [u32], node: u32) {
    let (mut first, mut at) = (node, parent(parents, node));
    while let Some(member) = at.filter(|member| *member != node) {
        first = first.min(member);
        at = parent(parents, member);
    }
    if let Some(slot) = parents.get_mut(first as usize) {
        *slot = NONE;
    }
}

fn children(parents: &[u32]) -> (Vec<u32>, Vec<(u32, u32)>) {
    let nodes = 0..parents.len() as u32;
    let mut children: Vec<u32> = nodes.filter(|node| parent(parents, *node).is_some()).collect();
    children.shrink_to_fit();
    children.sort_unstable_by_key(|node| (parent(parents, *node), *node));
    let mut ranges = vec![(0, 0); parents.len()];
    for (position, node) in (0..).zip(&children) {
        let range = parent(parents, *node).and_then(|parent| ranges.get_mut(parent as usize));
        if let Some((start, end)) = range {
            if *end == 0 {
                *start = position;
            }
            *end = position + 1;
        }
    }
    (children, ranges)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_come_before_their_children() {
        let tree = Tree::new(vec![2, 2, 3, NONE]);
        assert_eq!(tree.order, [3, 2, 0, 1]);
        assert_eq!(tree.ranges, [(0, 0), (0, 0), (0, 2), (2, 3)]);
        assert_eq!(tree.children, [0, 1, 2]);
        assert_eq!(tree.loops, 0);
    }

    #[test]
    fn a_loop_is_cut_once_and_every_node_stays_in_the_forest() {
        let tree = Tree::new(vec![0, 3, 1, 2, 3, NONE]);
        assert_eq!(tree.loops, 2);
        assert_eq!(tree.order.len(), 6);
        assert_eq!(tree.parents[0], NONE, "its own parent");
        assert_eq!(tree.parents[1], NONE, "first of 1, 2, 3");
        assert_eq!(tree.parents[4], 3);
    }

    #[test]
    fn a_chain_of_a_million_paths_is_no_problem() {
        let tree = Tree::new((0..1_000_000).map(|node: u32| node.checked_sub(1).unwrap_or(NONE)).collect());
        assert_eq!(tree.order.len(), 1_000_000);
    }
}
