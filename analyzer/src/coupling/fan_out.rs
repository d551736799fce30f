//! Fan-out: how much one handler calls, how often the same, and whether at once or one after the other.

use couplet_telemetry::report::HandlingStats;

use crate::graph::{EndpointIx, Pair, ServiceIx, Snapshot};

/// M\[a→b\]: expected calls of the callee endpoint per handling of the calling one. None without handlings.
#[must_use]
pub fn expected_calls(snapshot: &Snapshot, pair: &Pair) -> Option<f64> {
    let handlings = snapshot[pair.source].stats.outcomes.total();
    (handlings > 0).then(|| pair.client.total() as f64 / handlings as f64)
}

/// p\[a→b\]: share of the handlings of the calling endpoint that make at least one call, 0 to 1. None without handlings.
#[must_use]
pub fn probability(snapshot: &Snapshot, pair: &Pair) -> Option<f64> {
    let handlings = snapshot[pair.source].stats.outcomes.total();
    (handlings > 0).then(|| (pair.client.totals().users as f64 / handlings as f64).min(1.0))
}

/// π: the time of all blocking calls ÷ the time in which at least one was open. 1 is one after the other. None where
/// nothing blocks.
#[must_use]
pub fn parallelism(stats: &HandlingStats) -> Option<f64> {
    (stats.blocked > 0).then(|| stats.busy as f64 / stats.blocked as f64)
}

/// What sequential calls cost at least: the share of handler time that would be saved if the calls to different callees
/// overlapped completely, 0 to 1. The calls to one callee count as one group, because repeating a call is another problem
/// with another way out. Whether the calls depend on one another's answers is not known.
#[must_use]
pub fn sequential_potential(snapshot: &Snapshot, endpoint: EndpointIx) -> f64 {
    let stats = &snapshot[endpoint].stats;
    // The pairs of one callee stand together.
    let by_callee = snapshot.pairs_from(endpoint).chunk_by(|a, b| callee(snapshot, a) == callee(snapshot, b));
    let longest =
        by_callee.map(|pairs| pairs.iter().fold(0_u64, |sum, pair| sum.saturating_add(pair.client.totals().blocked)));
    let longest = longest.max().unwrap_or(0);
    let time = stats.duration.sum();
    if time == 0 { 0.0 } else { (stats.blocked.saturating_sub(longest) as f64 / time as f64).clamp(0.0, 1.0) }
}

fn callee(snapshot: &Snapshot, pair: &Pair) -> ServiceIx {
    snapshot[pair.destination].service
}
