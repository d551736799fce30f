//! The calling-context tree: from what paths say of their parents to a forest without loops.

/// The forest over nodes `0..n`.
#[derive(Debug, Default)]
pub(super) struct Tree {
    /// The parent of each node.
    pub(super) parents: Vec<Option<usize>>,
    /// The children of all nodes, those of one node together and ascending.
    pub(super) children: Vec<usize>,
    /// Where the children of each node are.
    pub(super) ranges: Vec<(usize, usize)>,
    /// All nodes, parents before children.
    pub(super) order: Vec<usize>,
    /// How many loops were cut.
    pub(super) loops: u64,
}

impl Tree {
    /// The forest in which every node hangs below its parent; a loop of parents is cut above its first node.
    /// Takes time in proportion to the number of nodes, however long or twisted the chains are.
    pub(super) fn new(mut parents: Vec<Option<usize>>) -> Self {
        let loops = cut_loops(&mut parents);
        let (children, ranges) = children(&parents);
        let mut order: Vec<usize> = (0..parents.len()).filter(|node| parent(&parents, *node).is_none()).collect();
        let mut next = 0;
        while let Some(node) = order.get(next).copied() {
            let (start, end) = ranges.get(node).copied().unwrap_or_default();
            order.extend_from_slice(children.get(start..end).unwrap_or_default());
            next += 1;
        }
        Self { parents, children, ranges, order, loops }
    }

    pub(super) fn parent(&self, node: usize) -> Option<usize> {
        parent(&self.parents, node)
    }
}

fn parent(parents: &[Option<usize>], node: usize) -> Option<usize> {
    parents.get(node).copied().flatten().filter(|parent| *parent < parents.len())
}

/// Walks up from every node until somebody has been there; who meets his own traces walks in a loop.
fn cut_loops(parents: &mut [Option<usize>]) -> u64 {
    let mut walked_by = vec![usize::MAX; parents.len()];
    let mut loops = 0;
    for walker in 0..parents.len() {
        let mut at = Some(walker);
        while let Some(node) = at {
            match walked_by.get_mut(node) {
                Some(mark) if *mark == usize::MAX => *mark = walker,
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
fn cut(parents: &mut [Option<usize>], node: usize) {
    let (mut first, mut at) = (node, parent(parents, node));
    while let Some(member) = at.filter(|member| *member != node) {
        first = first.min(member);
        at = parent(parents, member);
    }
    if let Some(slot) = parents.get_mut(first) {
        *slot = None;
    }
}

fn children(parents: &[Option<usize>]) -> (Vec<usize>, Vec<(usize, usize)>) {
    let mut pairs: Vec<(usize, usize)> =
        parents.iter().enumerate().filter_map(|(node, parent)| parent.map(|parent| (parent, node))).collect();
    pairs.sort_unstable();
    let mut ranges = vec![(0, 0); parents.len()];
    for (position, (parent, _)) in pairs.iter().enumerate() {
        if let Some(range) = ranges.get_mut(*parent) {
            if range.1 == 0 {
                range.0 = position;
            }
            range.1 = position + 1;
        }
    }
    (pairs.into_iter().map(|(_, node)| node).collect(), ranges)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_come_before_their_children() {
        let tree = Tree::new(vec![Some(2), Some(2), Some(3), None]);
        assert_eq!(tree.order, [3, 2, 0, 1]);
        assert_eq!(tree.children[tree.ranges[2].0..tree.ranges[2].1], [0, 1]);
        assert_eq!(tree.loops, 0);
    }

    #[test]
    fn a_loop_is_cut_once_and_every_node_stays_in_the_forest() {
        let tree = Tree::new(vec![Some(0), Some(3), Some(1), Some(2), Some(3), None]);
        assert_eq!(tree.loops, 2);
        assert_eq!(tree.order.len(), 6);
        assert_eq!(tree.parents[0], None, "its own parent");
        assert_eq!(tree.parents[1], None, "first of 1, 2, 3");
        assert_eq!(tree.parents[4], Some(3));
    }

    #[test]
    fn a_chain_of_a_million_paths_is_no_problem() {
        let tree = Tree::new((0..1_000_000).map(|node: usize| node.checked_sub(1)).collect());
        assert_eq!(tree.order.len(), 1_000_000);
    }
}
