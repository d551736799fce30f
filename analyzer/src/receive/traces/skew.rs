//! Clocks of different hosts, as Zipkin corrects them: a called span that cannot have happened when it says it did is
//! centred within its caller's span, and all that its host did below moves with it.
//! (Zipkin: `CorrectForClockSkew`, `zipkin2.internal.Node`.)

use super::tree::{Node, Tree};

/// Moves spans whose clock was wrong; returns how many clocks were.
pub(super) fn correct(tree: &mut Tree) -> u64 {
    let mut skews = 0;
    let mut shifts: Vec<i128> = Vec::with_capacity(tree.nodes().len());
    tree.down(|node, before| {
        let shift = match node.parent_in(before) {
            None => 0,
            Some(parent) if !node.marks.entry => shifts.get(parent.at).copied().unwrap_or(0),
            // A message arrives when it arrives.
            Some(_) if node.marks.detached || !node.marks.called => 0,
            Some(parent) => {
                let shift = shift(node, parent, node.marks.via.and_then(|via| before.get(via)));
                skews += u64::from(shift != 0);
                shift
            }
        };
        shifts.push(shift);
        let moved = i128::from(node.span.start).saturating_add(shift);
        node.span.start = u64::try_from(moved.max(0)).unwrap_or(u64::MAX);
    });
    skews
}

fn shift(node: &Node, parent: &Node, via: Option<&Node>) -> i128 {
    let outer = &via.unwrap_or(parent).span;
    let inner = &node.span;
    let early = inner.start < outer.start;
    // Without a span of the call itself, a late end may as well be a handling that nobody waited for.
    let late = via.is_some() && inner.end() > outer.end();
    if !(early || late) || inner.duration > outer.duration {
        return 0;
    }
    let centred = outer.start.saturating_add((outer.duration - inner.duration) / 2);
    i128::from(centred) - i128::from(inner.start)
}
