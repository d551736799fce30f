//! Blocked share β: how much of the callers' time is spent waiting for a callee.

use std::collections::BTreeMap;

use crate::graph::{Pair, ServiceIx, Snapshot};

/// For every edge, in their order: β = (time in which a blocking call on the edge is open) ÷ (time of the handlers of
/// the endpoints that use the edge), 0 to 1. None where the caller does not report, or has no handler.
///
/// Calls to different endpoints of one callee may overlap; their sum is capped, path by path, by the time in which any
/// blocking call was open. So β is an upper bound where a handler calls one service at several endpoints in parallel,
/// and exact elsewhere.
#[must_use]
pub fn shares(snapshot: &Snapshot) -> Vec<Option<f64>> {
    let blocked = blocked(snapshot);
    let share = |edge: &crate::graph::Edge| {
        let mut sources: Vec<_> = edge
            .pairs
            .iter()
            .map(|pair| &snapshot[*pair])
            .filter(|pair| pair.client.total() > 0)
            .map(|pair| pair.source)
            .collect();
        sources.dedup();
        let time = sources.iter().fold(0, |sum: u64, at| sum.saturating_add(snapshot[*at].stats.duration.sum()));
        ratio(blocked.get(&(edge.source, edge.destination)).copied().unwrap_or(0), time)
    };
    snapshot.edges().iter().map(share).collect()
}

/// β of a pair of endpoints; as [`shares`], but of the handlers of one endpoint.
#[must_use]
pub fn pair_share(snapshot: &Snapshot, pair: &Pair) -> Option<f64> {
    ratio(pair.client.totals().blocked, snapshot[pair.source].stats.duration.sum())
}

/// Nanoseconds per (caller, callee) in which a blocking call was open.
fn blocked(snapshot: &Snapshot) -> BTreeMap<(ServiceIx, ServiceIx), u64> {
    let mut blocked = BTreeMap::new();
    for at in snapshot.path_indices() {
        let mut by_callee: BTreeMap<ServiceIx, u64> = BTreeMap::new();
        for call in snapshot.calls_of(at) {
            let slot = by_callee.entry(snapshot[call.callee].service).or_default();
            *slot = slot.saturating_add(call.stats.totals().blocked);
        }
        if by_callee.is_empty() {
            continue;
        }
        let most = snapshot[at].stats.totals().blocked;
        for (callee, nanos) in by_callee {
            let slot: &mut u64 = blocked.entry((snapshot.service_of(at), callee)).or_default();
            *slot = slot.saturating_add(nanos.min(most));
        }
    }
    blocked
}

fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| (part as f64 / whole as f64).clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::{on, traffic};

    #[test]
    fn a_caller_that_waits_most_of_its_time_has_a_high_share() {
        let root = on("a", "GET /")
            .takes(20)
            .calls(3, on("b", "GET /").takes(20))
            .calls(1, on("c", "GET /").takes(20).later());
        assert_eq!(shares(&traffic().of(10, &root).snapshot()), [Some(0.75), Some(0.0)]);
    }

    #[test]
    fn handlers_that_never_use_the_edge_do_not_dilute_it() {
        let root = on("a", "GET /").takes(50).calls(1, on("b", "GET /").takes(50));
        let snapshot = traffic().of(10, &root).of(1_000, &on("a", "GET /health").takes(1_000)).snapshot();
        assert_eq!(shares(&snapshot), [Some(0.5)]);
        assert_eq!(pair_share(&snapshot, &snapshot.pairs()[0]), Some(0.5));
    }

    #[test]
    fn overlapping_calls_to_two_endpoints_are_not_waited_for_twice() {
        let root = on("a", "GET /").takes(50).at_once();
        let root = root.calls(1, on("b", "GET /1").takes(50)).calls(1, on("b", "GET /2").takes(50));
        assert_eq!(shares(&traffic().of(10, &root).snapshot()), [Some(0.5)]);
    }

    #[test]
    fn calls_without_a_handler_have_no_share() {
        let snapshot = traffic().unlinked(10, "a", &on("b", "GET /")).snapshot();
        assert_eq!(shares(&snapshot), [None]);
    }
}
