//! The calling-context tree below an entry: which way requests take, how often, and where they wait.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use couplet_telemetry::histogram::Quantiles;
use couplet_telemetry::outcome::Evidence;
use couplet_telemetry::path::PathId;
use couplet_telemetry::report::PathKind;
use serde::Serialize;

use crate::graph::{Entry, PathIx, Snapshot};
use crate::view::document::{Links, Origin, origins};

/// Most nodes of one answer; the ways that most requests take come first.
const MOST_NODES: usize = 2_000;

/// The answer.
#[derive(Debug, Serialize)]
pub(super) struct Tree {
    /// The nodes, by depth and id: parents before their children.
    paths: Vec<Node>,
    /// Whether there are more than fit.
    truncated: bool,
}

#[derive(Debug, Serialize)]
struct Node {
    id: PathId,
    parent: Option<PathId>,
    service: String,
    endpoint: String,
    /// Service changes from the top.
    depth: u32,
    handlings: u64,
    failures: u64,
    /// Handlings per root request; above 1 where requests come here several times.
    share: Option<f64>,
    duration: Quantiles,
    /// Share of the handling time in which a blocking call was open.
    blocked_share: Option<f64>,
    /// The weakest link from the top to here.
    evidence: Evidence,
    /// Handlings by the weakest link above them, and by the weakest below.
    links: Links,
    below: Links,
    /// Calls that outlived their handling, and calls that were made again after they had failed.
    asynchronous: u64,
    retries: u64,
    /// Where failures began.
    origins: Vec<Origin>,
}

/// The tree below `entry` (the id of its root, or `service endpoint`), or below all tops; none for an unknown entry.
pub(super) fn below(snapshot: &Snapshot, entry: Option<&str>) -> Option<Tree> {
    let (tops, requests): (Vec<PathIx>, u64) = match entry {
        None => {
            (snapshot.path_indices().filter(|path| snapshot[*path].parent.is_none()).collect(), snapshot.requests())
        }
        Some(name) => {
            let entry = snapshot.entries().iter().find(|entry| is_called(snapshot, entry, name))?;
            (entry.roots.clone(), entry.stats.outcomes.total())
        }
    };
    let (mut chosen, truncated) = heaviest(snapshot, &tops, MOST_NODES);
    chosen.sort_unstable_by_key(|path| (snapshot[*path].depth, snapshot[*path].id));
    Some(Tree { paths: chosen.into_iter().map(|path| node(snapshot, path, requests)).collect(), truncated })
}

fn is_called(snapshot: &Snapshot, entry: &Entry, name: &str) -> bool {
    match PathId::parse(name) {
        Some(id) => entry.roots.iter().any(|root| snapshot[*root].id == id),
        None => snapshot.label(entry.endpoint) == name,
    }
}

/// At most `most` nodes of the trees below `tops`: always the one with most handlings next, so that every chosen node
/// has its parent with it. Whether something was left out.
fn heaviest(snapshot: &Snapshot, tops: &[PathIx], most: usize) -> (Vec<PathIx>, bool) {
    // Every service has its own overflow path, and all have the same id: as nodes of a tree they mean nothing.
    let is_node = |path: &PathIx| snapshot[*path].kind != PathKind::Overflow;
    let weighed = |path: PathIx| (snapshot[path].stats.total(), Reverse(path));
    let mut open: BinaryHeap<_> = tops.iter().copied().filter(is_node).map(weighed).collect();
    let mut chosen = Vec::new();
    while let Some((_, Reverse(path))) = open.pop() {
        if chosen.len() == most {
            return (chosen, true);
        }
        chosen.push(path);
        open.extend(snapshot.children(path).iter().copied().filter(is_node).map(weighed));
    }
    (chosen, false)
}

fn node(snapshot: &Snapshot, at: PathIx, requests: u64) -> Node {
    let path = &snapshot[at];
    let endpoint = &snapshot[path.endpoint];
    let stats = path.stats.unpack();
    let handlings = stats.outcomes.total();
    let time = stats.duration.sum();
    Node {
        id: path.id,
        parent: path.parent.map(|parent| snapshot[parent].id),
        service: snapshot[endpoint.service].name.to_string(),
        endpoint: endpoint.name.to_string(),
        depth: path.depth,
        handlings,
        failures: stats.outcomes.failures(),
        share: (requests > 0).then(|| handlings as f64 / requests as f64),
        duration: stats.duration.quantiles(),
        blocked_share: (time > 0).then(|| (stats.blocked as f64 / time as f64).min(1.0)),
        evidence: path.evidence,
        links: (&stats.links).into(),
        below: (&stats.below).into(),
        asynchronous: stats.asynchronous,
        retries: stats.retries,
        origins: origins(&stats.origins),
    }
}
