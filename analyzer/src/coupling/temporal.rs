//! Temporal coupling of an edge: TC = p · (1 − (1 − β)(1 − λ)), 0 to 1.
//!
//! p: how likely a handling of the caller that could use the edge does so and waits; β: the share of the caller's time
//! in which it waits for the callee; λ: how likely the caller fails because the callee did. All over the endpoints of the
//! caller that use the edge, so that endpoints that have nothing to do with it do not dilute it.

use couplet_telemetry::report::Joint;

use super::blocking;
use super::propagation::{Propagation, propagation};
use crate::graph::{Edge, Snapshot};

/// How strongly a caller hangs on a callee.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Coupling {
    /// Handlings of the endpoints that use the edge.
    pub handlings: u64,
    /// p.
    pub used: f64,
    /// β.
    pub blocked: f64,
    /// λ; none where too few failures were seen.
    pub propagation: Option<Propagation>,
    /// TC with λ where it is known, else with λ = 0.
    pub least: f64,
    /// TC with λ where it is known, else with λ = 1.
    pub most: f64,
}

/// The coupling of every edge, in their order; none where the caller does not report.
#[must_use]
pub fn couplings(snapshot: &Snapshot, min_failures: u64) -> Vec<Option<Coupling>> {
    let shares = blocking::shares(snapshot).into_iter();
    let edges = snapshot.edges().iter();
    edges.zip(shares).map(|(edge, blocked)| coupling(snapshot, edge, blocked?, min_failures)).collect()
}

fn coupling(snapshot: &Snapshot, edge: &Edge, blocked: f64, min_failures: u64) -> Option<Coupling> {
    let (mut handlings, mut users) = (0_u64, 0_u64);
    let mut joint = Joint::default();
    let linked =
        |pair: &&crate::graph::Pair| pair.client.total() > 0 && snapshot[pair.source].stats.outcomes.total() > 0;
    let pairs: Vec<_> = edge.pairs.iter().map(|pair| &snapshot[*pair]).filter(linked).collect();
    for of_one_source in pairs.chunk_by(|a, b| a.source == b.source) {
        let Some(first) = of_one_source.first() else { continue };
        let all = snapshot[first.source].stats.outcomes.total();
        let calling = of_one_source.iter().fold(0_u64, |sum, pair| sum.saturating_add(pair.client.totals().users));
        handlings = handlings.saturating_add(all);
        users = users.saturating_add(calling.min(all));
        of_one_source.iter().for_each(|pair| joint.merge(&pair.client.totals().joint));
    }
    let calls = edge.client.totals();
    if handlings == 0 || calls.outcomes.total() == 0 {
        return None;
    }
    let waited = calls.blocking as f64 / calls.outcomes.total() as f64;
    let used = users as f64 / handlings as f64 * waited.min(1.0);
    let propagation = propagation(&joint, min_failures);
    let strength = |lambda: f64| used * (1.0 - (1.0 - blocked) * (1.0 - lambda));
    let (low, high) = propagation.map_or((0.0, 1.0), |known| (known.share, known.share));
    Some(Coupling { handlings, used, blocked, propagation, least: strength(low), most: strength(high) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::{on, traffic};

    fn only(snapshot: &Snapshot) -> Coupling {
        couplings(snapshot, 20)[0].unwrap()
    }

    #[test]
    fn a_caller_that_only_waits_is_coupled_by_its_share_of_waiting() {
        let root = on("a", "GET /").takes(20).calls(1, on("b", "GET /").takes(60));
        let coupling = only(&traffic().of(100, &root).snapshot());
        assert_eq!((coupling.used, coupling.blocked, coupling.least, coupling.most), (1.0, 0.75, 0.75, 1.0));
    }

    #[test]
    fn a_callee_that_takes_its_caller_down_couples_it_however_fast_it_is() {
        let well = on("a", "GET /").takes(99).calls(1, on("b", "GET /").takes(1));
        let down = on("a", "GET /").takes(99).fails().calls(1, on("b", "GET /").takes(1).fails());
        let copes = on("a", "GET /").takes(99).calls(1, on("b", "GET /").takes(1).fails());
        assert_eq!(only(&traffic().of(80, &well).of(20, &down).snapshot()).least, 1.0);
        let resilient = only(&traffic().of(80, &well).of(20, &copes).snapshot());
        assert!((resilient.most - 0.01).abs() < 1e-9, "{resilient:?}");
    }

    #[test]
    fn what_is_seldom_used_or_not_waited_for_couples_little() {
        let often = on("a", "GET /").takes(10).calls(1, on("b", "GET /").takes(30));
        let mixed = traffic().of(25, &often).of(75, &on("a", "GET /").takes(40)).snapshot();
        assert_eq!(only(&mixed).used, 0.25);
        let later = on("a", "GET /").takes(10).calls(1, on("b", "GET /").takes(30).later());
        assert_eq!(only(&traffic().of(100, &later).snapshot()).most, 0.0);
    }
}
