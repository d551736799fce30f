//! The best cuts: one after the other the one that takes most points from the score.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use couplet_config::{Architecture, FindingThresholds};
use serde::{Deserialize, Serialize};

use super::Cut;
use super::apply::apply;
use super::spread::Spread;
use crate::coupling::flow::Flows;
use crate::graph::{ServiceIx, Snapshot};
use crate::score::Scorer;

/// One of the best cuts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BestCut {
    /// As it is written for `couplet whatif`.
    pub cut: String,
    /// What would be changed, for people.
    pub says: String,
    /// Points that it takes from the score, after the cuts before it.
    pub points: f64,
    /// The score after it.
    pub score: f64,
    /// Share of all time of requests from outside that it saves, 0 to 1, after the cuts before it.
    pub saved: f64,
    /// Calls that it rests on.
    pub n: u64,
}

/// Edges that are tried: those that requests wait for longest, and those that fail most.
const TRIED: usize = 60;

/// At most `k` cuts, the best first; fewer where no other gains anything.
#[must_use]
pub fn best_cuts(
    snapshot: &Snapshot,
    thresholds: &FindingThresholds,
    architecture: &Architecture,
    k: usize,
) -> Vec<BestCut> {
    let scorer = Scorer::new(snapshot, thresholds, architecture);
    let mut flows = Flows::of(snapshot);
    let candidates = candidates(&flows, thresholds.min_samples);
    let spread = Spread::of(snapshot);
    let mut best = Vec::new();
    let Some(mut score) = scorer.value(&flows) else { return best };
    while best.len() < k {
        let time = time(&flows);
        let tried = candidates.iter().filter_map(|(cut, n)| {
            let after = apply(&flows, *cut, &spread);
            let gain = score - scorer.value(&after)?;
            let saved = if time > 0.0 { 1.0 - self::time(&after) / time } else { 0.0 };
            Some(Tried { cut: *cut, n: *n, gain, saved, after })
        });
        let Some(winner) = tried.filter(Tried::is_worth_it).max_by(Tried::compare) else { break };
        score -= winner.gain;
        flows = winner.after;
        best.push(BestCut {
            cut: winner.cut.write(snapshot),
            says: says(snapshot, winner.cut),
            points: (winner.gain * 10.0).round() / 10.0,
            score: (score * 10.0).round() / 10.0,
            saved: (winner.saved * 1e4).round() / 1e4,
            n: winner.n,
        });
    }
    best
}

struct Tried {
    cut: Cut,
    n: u64,
    gain: f64,
    saved: f64,
    after: Flows,
}

impl Tried {
    fn is_worth_it(&self) -> bool {
        self.gain >= 0.05 || self.saved >= 0.01
    }

    /// By points; of equals by time; of equals the one that was tried first, which is the lesser change.
    fn compare(&self, other: &Self) -> Ordering {
        let points = |gain: f64| (gain * 10.0).round();
        points(self.gain).total_cmp(&points(other.gain)).then_with(|| {
            let percent = |saved: f64| (saved * 100.0).round();
            percent(self.saved).total_cmp(&percent(other.saved)).then(Ordering::Greater)
        })
    }
}

/// Time of all requests from outside.
fn time(flows: &Flows) -> f64 {
    flows.iter().filter_map(|flow| flow.root()).map(|root| root.nanos as f64).sum()
}

/// Cuts of the edges that matter most, lesser changes first: of two that gain the same the first is taken.
fn candidates(flows: &Flows, min_samples: u64) -> Vec<(Cut, u64)> {
    #[derive(Default)]
    struct Edge {
        calls: u64,
        users: u64,
        blocked: u64,
        failed: u64,
    }
    let mut edges: BTreeMap<(ServiceIx, ServiceIx), Edge> = BTreeMap::new();
    for flow in flows {
        for node in &flow.nodes {
            let Some(above) = flow.parent(node) else { continue };
            let edge = edges.entry((above.service, node.service)).or_default();
            edge.calls = edge.calls.saturating_add(node.calls);
            edge.users = edge.users.saturating_add(node.users);
            edge.blocked = edge.blocked.saturating_add(node.blocked_on);
            edge.failed = edge.failed.saturating_add(node.joint.both);
        }
    }
    let mut edges: Vec<_> = edges.into_iter().filter(|(_, edge)| edge.calls >= min_samples).collect();
    edges.sort_by(|a, b| (b.1.blocked, b.1.failed, a.0).cmp(&(a.1.blocked, a.1.failed, b.0)));
    edges.truncate(TRIED);
    let mut cuts = Vec::new();
    for ((a, b), edge) in &edges {
        if edge.failed > 0 {
            cuts.push((Cut::Breaker(*a, *b), edge.calls));
        }
        if edge.calls > edge.users.saturating_mul(2) {
            cuts.push((Cut::Batch(*a, *b), edge.calls));
        }
    }
    cuts.extend(edges.iter().map(|((a, b), edge)| (Cut::Async(*a, *b), edge.calls)));
    cuts.extend(edges.iter().map(|((a, b), edge)| (Cut::Merge(*a, *b), edge.calls)));
    cuts
}

fn says(snapshot: &Snapshot, cut: Cut) -> String {
    let name = |service: ServiceIx| &*snapshot[service].name;
    match cut {
        Cut::Async(a, b) => format!("{} hands its work to {} over and does not wait", name(a), name(b)),
        Cut::Cache(a, b, _) => format!("{} keeps answers of {}", name(a), name(b)),
        Cut::Batch(a, b) => format!("{} asks {} once for all that it needs", name(a), name(b)),
        Cut::Parallel(a) => format!("{} makes its calls at the same time", name(a)),
        Cut::Merge(a, b) => format!("{} and {} become one service", name(a), name(b)),
        Cut::Breaker(a, b) => format!("{} copes when {} fails: a breaker with a fallback", name(a), name(b)),
    }
}
