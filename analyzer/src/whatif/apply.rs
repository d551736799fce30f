//! Makes a cut in recorded flows.

use crate::coupling::flow::{Flow, Flows, Node};
use crate::graph::ServiceIx;

use super::Cut;
use super::spread::Spread;

/// The flows after a cut.
pub(super) fn apply(flows: &Flows, cut: Cut, spread: &Spread) -> Flows {
    flows.iter().map(|flow| if is_concerned(flow, cut) { cut_flow(flow, cut, spread) } else { flow.clone() }).collect()
}

fn is_concerned(flow: &Flow, cut: Cut) -> bool {
    let edge = |a: ServiceIx, b: ServiceIx| {
        flow.nodes.iter().any(|node| node.service == b && flow.parent(node).is_some_and(|above| above.service == a))
    };
    match cut {
        Cut::Async(a, b) | Cut::Cache(a, b, _) | Cut::Batch(a, b) | Cut::Breaker(a, b) => edge(a, b),
        Cut::Merge(a, b) => {
            edge(a, b) || edge(b, a) || flow.nodes.iter().any(|node| node.service == a || node.service == b)
        }
        Cut::Parallel(a) => flow.nodes.iter().any(|node| node.service == a),
    }
}

fn cut_flow(flow: &Flow, cut: Cut, spread: &Spread) -> Flow {
    let mut new = flow.clone();
    match cut {
        Cut::Merge(a, b) => merge(&mut new, a, b),
        Cut::Parallel(a) => {
            for at in 0..new.nodes.len() {
                if new.nodes.get(at).is_some_and(|node| node.service == a) {
                    overlap(&mut new, at, spread);
                }
            }
        }
        Cut::Async(a, b) | Cut::Cache(a, b, _) | Cut::Batch(a, b) | Cut::Breaker(a, b) => {
            for at in 0..new.nodes.len() {
                let matches = new
                    .nodes
                    .get(at)
                    .is_some_and(|node| node.service == b && new.parent(node).is_some_and(|above| above.service == a));
                if matches {
                    cut_edge(&mut new, at, cut);
                }
            }
        }
    }
    reach_again(&mut new);
    new
}

fn cut_edge(flow: &mut Flow, at: usize, cut: Cut) {
    match cut {
        Cut::Async(..) => {
            save(flow, at, 1.0);
            spare(flow, at, 1.0);
            if let Some(node) = flow.nodes.get_mut(at) {
                node.blocking = 0;
            }
        }
        Cut::Cache(_, _, share) => {
            save(flow, at, share);
            spare(flow, at, share);
            thin(flow, at, 1.0 - share, true);
        }
        Cut::Batch(..) => {
            let Some(node) = flow.nodes.get(at) else { return };
            let left = if node.calls == 0 { 1.0 } else { (node.users as f64 / node.calls as f64).min(1.0) };
            save(flow, at, 1.0 - left);
            thin(flow, at, left, false);
        }
        Cut::Breaker(..) => spare(flow, at, 1.0),
        Cut::Merge(..) | Cut::Parallel(_) => {}
    }
}

/// Takes a share of the time that is waited for a node out of all that wait for it, from the node above to the root.
fn save(flow: &mut Flow, at: usize, share: f64) {
    let Some(node) = flow.nodes.get_mut(at) else { return };
    let removed = node.blocked_on as f64 * share;
    node.blocked_on = less(node.blocked_on, removed);
    let parent = node.parent;
    // Where calls overlap, waiting for one of them less is not waiting less by as much.
    let above = parent.and_then(|parent| flow.nodes.get(parent));
    let overlap = above
        .map_or(1.0, |above| if above.busy == 0 { 1.0 } else { (above.blocked as f64 / above.busy as f64).min(1.0) });
    save_upward(flow, parent, removed * overlap, removed);
}

/// Takes nanoseconds out of the handlings of a node and of all above it. `busy` is what its calls are shorter by.
fn save_upward(flow: &mut Flow, mut at: Option<usize>, mut nanos: f64, mut busy: f64) {
    while let Some(node) = at.and_then(|at| flow.nodes.get_mut(at)) {
        let factor = if node.nanos == 0 { 0.0 } else { (nanos / node.nanos as f64).min(1.0) };
        node.blocked = less(node.blocked, nanos);
        node.busy = less(node.busy, busy);
        node.nanos = less(node.nanos, nanos);
        // Those who wait for this node wait less in the same proportion.
        let waited = node.blocked_on as f64 * factor;
        node.blocked_on = less(node.blocked_on, waited);
        node.call_nanos = less(node.call_nanos, node.call_nanos as f64 * factor);
        let parent = node.parent;
        let above = parent.and_then(|parent| flow.nodes.get(parent));
        let overlap =
            above.map_or(
                1.0,
                |above| if above.busy == 0 { 1.0 } else { (above.blocked as f64 / above.busy as f64).min(1.0) },
            );
        (busy, nanos) = (waited, waited * overlap);
        at = parent;
    }
}

/// Spares those above a share of the failures that come from a node.
fn spare(flow: &mut Flow, at: usize, share: f64) {
    let Some(node) = flow.nodes.get_mut(at) else { return };
    let mut spared = node.joint.both as f64 * share;
    let both = node.joint.both;
    node.joint.both = less(both, spared);
    node.joint.call_only = node.joint.call_only.saturating_add(both - node.joint.both);
    let mut parent = node.parent;
    while let Some(above) = parent.and_then(|at| flow.nodes.get_mut(at)) {
        // Some of the failed handlings have another failed call that explains them just as well.
        spared = spared.min(above.explained as f64);
        above.explained = less(above.explained, spared);
        let failed = above.handling_failures.max(1) as f64;
        let factor = (spared / failed).min(1.0);
        above.handling_failures = less(above.handling_failures, spared);
        let calls = above.failures as f64 * factor;
        above.failures = less(above.failures, calls);
        spared = above.joint.both as f64 * factor;
        above.joint.both = less(above.joint.both, spared);
        parent = above.parent;
    }
}

/// Leaves a share of the calls that lead to a node, and of everything below it. `users`: of the handlings that make them,
/// too.
fn thin(flow: &mut Flow, at: usize, left: f64, users: bool) {
    let mut inside = vec![false; flow.nodes.len()];
    if let Some(slot) = inside.get_mut(at) {
        *slot = true;
    }
    for position in at..flow.nodes.len() {
        let parent = flow.nodes.get(position).and_then(|node| node.parent);
        let below = parent.is_some_and(|parent| parent >= at && inside.get(parent) == Some(&true));
        if position != at && !below {
            continue;
        }
        if let Some(slot) = inside.get_mut(position) {
            *slot = true;
        }
        if let Some(node) = flow.nodes.get_mut(position) {
            scale(node, left, users || position != at);
        }
    }
}

fn scale(node: &mut Node, left: f64, users: bool) {
    let counts = [
        &mut node.calls,
        &mut node.blocking,
        &mut node.failures,
        &mut node.call_nanos,
        &mut node.handlings,
        &mut node.handling_failures,
        &mut node.explained,
        &mut node.nanos,
        &mut node.blocked,
        &mut node.busy,
    ];
    for count in counts {
        *count = (*count as f64 * left).round() as u64;
    }
    if users {
        node.users = (node.users as f64 * left).round() as u64;
        node.joint.neither = (node.joint.neither as f64 * left).round() as u64;
        node.joint.call_only = (node.joint.call_only as f64 * left).round() as u64;
        node.joint.both = (node.joint.both as f64 * left).round() as u64;
        node.joint.handling_only = (node.joint.handling_only as f64 * left).round() as u64;
    }
}

/// Lets all calls of a node overlap: the longest callee remains, which is another one from request to request.
fn overlap(flow: &mut Flow, at: usize, spread: &Spread) {
    let Some((node, longest)) = flow.nodes.get(at).zip(spread.longest(flow, at)) else { return };
    let handlings = if node.handlings == 0 { node.calls } else { node.handlings };
    let saved = less(node.blocked, longest * handlings as f64) as f64;
    save_upward(flow, Some(at), saved, 0.0);
}

/// Puts two services together: nodes of `b` become `a`, and a node below one of its own service becomes part of it.
fn merge(flow: &mut Flow, a: ServiceIx, b: ServiceIx) {
    let mut place: Vec<usize> = Vec::with_capacity(flow.nodes.len());
    let mut merged: Vec<Node> = Vec::with_capacity(flow.nodes.len());
    for node in &flow.nodes {
        let mut node = node.clone();
        if node.service == b {
            node.service = a;
        }
        node.parent = node.parent.and_then(|parent| place.get(parent)).copied();
        let above = node.parent.and_then(|parent| merged.get_mut(parent));
        match (above, node.parent) {
            (Some(above), Some(parent)) if above.service == a && node.service == a => {
                // What was waited for is now own work; only the way there and back is saved.
                above.blocked = above.blocked.saturating_sub(node.blocked_on).saturating_add(node.blocked);
                above.busy = above.busy.saturating_sub(node.blocked_on).saturating_add(node.busy);
                above.explained = above.explained.saturating_sub(node.joint.both).saturating_add(node.explained);
                place.push(parent);
                let way = node.call_nanos.saturating_sub(node.nanos).min(node.blocked_on) as f64;
                let mut reduced =
                    Flow { entry: flow.entry, requests: flow.requests, nodes: std::mem::take(&mut merged) };
                save_upward(&mut reduced, Some(parent), way, 0.0);
                merged = reduced.nodes;
            }
            _ => {
                place.push(merged.len());
                merged.push(node);
            }
        }
    }
    flow.nodes = merged;
}

/// Depth and reach anew, from the top down.
fn reach_again(flow: &mut Flow) {
    for at in 0..flow.nodes.len() {
        let Some((above, node)) = flow.nodes.get(at).and_then(|node| Some((flow.parent(node)?, node))) else {
            continue;
        };
        let (depth, reach) = (above.depth + 1, above.reach * node.used(above));
        if let Some(node) = flow.nodes.get_mut(at) {
            (node.depth, node.reach) = (depth, reach);
        }
    }
}

fn less(count: u64, by: f64) -> u64 {
    count.saturating_sub(by.round().max(0.0) as u64)
}
