//! What requests lead to where links are missing: depth and calls of an entry, put together from what each endpoint does
//! on average. Statistics, not chains: nobody has seen one of these requests whole.
//!
//! Rests on the assumption that what an endpoint does does not depend on who called it, and that its calls are
//! independent of one another. Calls are the sums of a Markov chain with absorption, `(I − M)⁻¹ M 1`; the depth is the
//! largest over callees, level by level.

use std::collections::BTreeMap;

use super::fan_out;
use crate::graph::{EndpointIx, Entry, Snapshot};

/// What requests of an entry come to on average.
#[derive(Debug, Clone, PartialEq)]
pub struct Composed {
    /// The entry.
    pub endpoint: EndpointIx,
    /// Calls per request, on all levels.
    pub calls: f64,
    /// Changes of service on the longest way, on average; and what 1 of 20 requests reaches.
    pub depth: f64,
    /// See `depth`.
    pub depth_p95: u32,
    /// Other services that more than 1 of 20 requests comes to.
    pub services: usize,
    /// The way on which requests go deepest, from the entry on.
    pub steps: Vec<Step>,
    /// Of all that it is put together from, how sure the least sure part is, 0 to 1.
    pub confidence: f64,
    /// Whether any of it is in doubt: disputed, true on average only, or a poor fit.
    pub doubtful: bool,
}

/// One step of a way.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Where it leads.
    pub endpoint: EndpointIx,
    /// Share of the requests that come here on this way, 0 to 1.
    pub share: f64,
}

/// What an endpoint calls.
struct Calls {
    to: EndpointIx,
    per_handling: f64,
    /// Share of the handlings with at least one.
    share: f64,
    /// Whether it is another service's.
    hop: u32,
    /// Where timing says more than links do.
    found: Option<Found>,
}

#[derive(Clone, Copy)]
struct Found {
    confidence: f64,
    doubtful: bool,
}

/// Levels that are looked at, as deep as paths are kept by default.
const DEEPEST: usize = 32;
/// Share of requests from which something counts.
const RARELY: f64 = 0.05;
/// Calls per handling that links must fall short of what timing says for there to be anything to add.
const MISSING: f64 = 0.05;
/// Most calls that are told: circles without end may call for ever on average.
const MOST_CALLS: f64 = 1e6;

/// All entries whose requests come to where links are missing, in their order.
#[must_use]
pub fn composed(snapshot: &Snapshot) -> Vec<Composed> {
    let callees = callees(snapshot);
    if callees.values().flatten().all(|calls| calls.found.is_none()) {
        return Vec::new();
    }
    let (calls, deeper) = (all_calls(&callees), depths(&callees));
    let told = |entry: &Entry| of(snapshot, &callees, &calls, &deeper, entry.endpoint);
    snapshot.entries().iter().filter_map(told).collect()
}

type Callees = BTreeMap<EndpointIx, Vec<Calls>>;
/// By level, and there by endpoint: the share of its handlings that go at least so deep.
type Depths = Vec<BTreeMap<EndpointIx, f64>>;

/// What each endpoint calls: what timing says where that is more than is linked, else what is linked.
fn callees(snapshot: &Snapshot) -> Callees {
    let hop = |from: EndpointIx, to: EndpointIx| u32::from(snapshot[from].service != snapshot[to].service);
    let mut all: BTreeMap<(EndpointIx, EndpointIx), Calls> = BTreeMap::new();
    for pair in snapshot.pairs().iter().filter(|pair| !snapshot[pair.source].is_unlinked()) {
        let per_handling = fan_out::expected_calls(snapshot, pair).unwrap_or(0.0);
        let share = fan_out::probability(snapshot, pair).unwrap_or(0.0);
        let (to, hop) = (pair.destination, hop(pair.source, pair.destination));
        all.insert((pair.source, to), Calls { to, per_handling, share, hop, found: None });
    }
    for pair in snapshot.expected().iter().filter(|pair| !snapshot[pair.source].is_unlinked() && pair.is_told()) {
        let per_handling = pair.share.calls / (pair.stats.handlings as f64).max(1.0);
        let linked = all.get(&(pair.source, pair.destination)).map_or(0.0, |calls| calls.per_handling);
        if per_handling - linked < MISSING {
            continue;
        }
        let stats = &pair.stats;
        let doubtful = stats.is_disputed() || stats.is_crowded() || stats.is_misfit();
        let found = Some(Found { confidence: stats.confidence(), doubtful });
        let (to, hop) = (pair.destination, hop(pair.source, pair.destination));
        all.insert((pair.source, to), Calls { to, per_handling, share: per_handling.min(1.0), hop, found });
    }
    let mut callees = Callees::new();
    for ((source, _), calls) in all {
        callees.entry(source).or_default().push(calls);
    }
    callees
}

/// Calls on all levels per handling, by endpoint.
fn all_calls(callees: &Callees) -> BTreeMap<EndpointIx, f64> {
    let mut below: BTreeMap<EndpointIx, f64> = BTreeMap::new();
    for _ in 0..DEEPEST {
        let of = |calls: &Calls| calls.per_handling * (1.0 + below.get(&calls.to).copied().unwrap_or(0.0));
        let sum = |calls: &Vec<Calls>| calls.iter().map(of).sum::<f64>().min(MOST_CALLS);
        below = callees.iter().map(|(endpoint, calls)| (*endpoint, sum(calls))).collect();
    }
    below
}

fn depths(callees: &Callees) -> Depths {
    let mut levels: Depths = Vec::new();
    for _ in 0..DEEPEST {
        let mut level: BTreeMap<EndpointIx, f64> = BTreeMap::new();
        // Calls inside a service change none: what they lead to is on the same level, and found in a second round.
        for _ in 0..2 {
            let reaches = |calls: &Calls| match (calls.hop, levels.last()) {
                (0, _) => level.get(&calls.to).copied().unwrap_or(0.0),
                (_, Some(above)) => above.get(&calls.to).copied().unwrap_or(0.0),
                (_, None) => 1.0,
            };
            let none =
                |calls: &Vec<Calls>| calls.iter().map(|c| 1.0 - (c.share * reaches(c)).min(1.0)).product::<f64>();
            level = callees.iter().map(|(endpoint, calls)| (*endpoint, 1.0 - none(calls))).collect();
        }
        levels.push(level);
    }
    levels
}

fn of(
    snapshot: &Snapshot,
    callees: &Callees,
    calls: &BTreeMap<EndpointIx, f64>,
    deeper: &Depths,
    entry: EndpointIx,
) -> Option<Composed> {
    let reached = reached(callees, entry);
    let parts =
        || reached.iter().flat_map(|(from, share)| callees.get(from).into_iter().flatten().map(move |c| (c, share)));
    let found =
        || parts().filter(|(calls, share)| calls.share * **share >= RARELY).filter_map(|(calls, _)| calls.found);
    found().next()?;
    let at = |level: &BTreeMap<EndpointIx, f64>| level.get(&entry).copied().unwrap_or(0.0);
    let own = snapshot[entry].service;
    let mut services: Vec<_> =
        reached.keys().map(|endpoint| snapshot[*endpoint].service).filter(|s| *s != own).collect();
    services.sort_unstable();
    services.dedup();
    Some(Composed {
        endpoint: entry,
        calls: calls.get(&entry).copied().unwrap_or(0.0),
        depth: deeper.iter().map(at).sum(),
        depth_p95: deeper.iter().filter(|level| at(level) > RARELY).count() as u32,
        services: services.len(),
        steps: deepest(callees, deeper, entry),
        confidence: found().map(|found| found.confidence).fold(1.0, f64::min),
        doubtful: found().any(|found| found.doubtful),
    })
}

/// Where requests come to, with the share of them that do on the likeliest way; what is rare is left out.
fn reached(callees: &Callees, entry: EndpointIx) -> BTreeMap<EndpointIx, f64> {
    let mut reached = BTreeMap::from([(entry, 1.0)]);
    let mut fresh = vec![entry];
    for _ in 0..DEEPEST {
        let mut next = Vec::new();
        for from in fresh {
            let share = reached.get(&from).copied().unwrap_or(0.0);
            for calls in callees.get(&from).into_iter().flatten() {
                let share = share * calls.share.min(1.0);
                if share >= RARELY && reached.get(&calls.to).is_none_or(|known| *known < share) {
                    reached.insert(calls.to, share);
                    next.push(calls.to);
                }
            }
        }
        fresh = next;
    }
    reached
}

/// The way on which most requests go on, preferring what goes deeper; each endpoint once.
fn deepest(callees: &Callees, deeper: &Depths, entry: EndpointIx) -> Vec<Step> {
    let depth = |endpoint: &EndpointIx| deeper.iter().filter_map(|level| level.get(endpoint)).sum::<f64>();
    let mut steps = vec![Step { endpoint: entry, share: 1.0 }];
    while steps.len() <= DEEPEST {
        let Some(last) = steps.last().copied() else { break };
        let open = callees.get(&last.endpoint).into_iter().flatten();
        let open = open.filter(|calls| last.share * calls.share >= RARELY);
        let open = open.filter(|calls| steps.iter().all(|step| step.endpoint != calls.to));
        let weight = |calls: &Calls| calls.share * (f64::from(calls.hop) + depth(&calls.to));
        let Some(best) = open.max_by(|a, b| weight(a).total_cmp(&weight(b))) else { break };
        steps.push(Step { endpoint: best.to, share: (last.share * best.share).min(1.0) });
    }
    steps
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use couplet_telemetry::expected::ExpectedStats;
    use couplet_telemetry::report::{Callee, ExpectedReport, Report};

    use super::*;
    use crate::traffic::{chain, on, snapshot_of, traffic};

    /// `shop` was found by timing to call this, so many times in ten handlings.
    fn found(reports: &mut [Report], service: &str, endpoint: &str, callee: (&str, &str), in_ten: u64) {
        let stats = ExpectedStats {
            handlings: 10,
            stated: in_ten * 900,
            firm: in_ten * 900,
            doubtful: in_ten * 100,
            ..Default::default()
        };
        let callee = Arc::new(Callee::new(callee.0, callee.1));
        let report = reports.iter_mut().find(|report| report.origin.service == service).unwrap();
        report.expected.push(ExpectedReport { endpoint: endpoint.to_owned(), callee, stats });
    }

    fn names(snapshot: &Snapshot, composed: &Composed) -> Vec<String> {
        composed.steps.iter().map(|step| snapshot.label(step.endpoint)).collect()
    }

    #[test]
    fn a_chain_that_is_cut_in_the_middle_is_put_together_from_what_both_halves_do() {
        // front → shop is linked, shop → stock is not; stock → store is linked again below a root of its own.
        let mut reports = traffic()
            .of(10, &on("front", "GET /").calls(1, on("shop", "GET /")))
            .unlinked(10, "shop", &on("stock", "GET /").calls(2, on("store", "GET /")))
            .reports();
        found(&mut reports, "shop", "GET /", ("stock", "GET /"), 10);
        let snapshot = snapshot_of(&reports);
        let all = composed(&snapshot);
        let of_front = all.iter().find(|c| snapshot.label(c.endpoint) == "front GET /").unwrap();
        assert_eq!(names(&snapshot, of_front), ["front GET /", "shop GET /", "stock GET /", "store GET /"]);
        assert!((of_front.calls - 4.0).abs() < 1e-9 && (of_front.depth - 3.0).abs() < 1e-9, "{of_front:?}");
        assert_eq!((of_front.depth_p95, of_front.services, of_front.doubtful), (3, 3, false));
        assert!((of_front.confidence - 0.9).abs() < 1e-9);
        assert!(all.iter().all(|c| snapshot.label(c.endpoint) != "stock GET /"), "nothing is missing below: {all:?}");
    }

    #[test]
    fn where_links_say_the_same_there_is_nothing_to_put_together() {
        let mut reports = traffic().of(10, &chain(&["a", "b", "c"])).reports();
        let endpoint = reports[0].paths[0].path.endpoint.clone();
        let callee = ("b", endpoint.as_str());
        found(&mut reports, "a", &endpoint, callee, 10);
        assert_eq!(composed(&snapshot_of(&reports)), []);
        assert_eq!(composed(&traffic().of(3, &chain(&["a", "b"])).snapshot()), []);
    }

    #[test]
    fn shares_multiply_along_the_way_and_what_is_rare_counts_for_nothing() {
        let mut reports = traffic()
            .of(10, &on("shop", "GET /"))
            .unlinked(10, "shop", &on("stock", "GET /"))
            .unlinked(10, "stock", &on("store", "GET /"))
            .unlinked(10, "shop", &on("audit", "GET /"))
            .reports();
        found(&mut reports, "shop", "GET /", ("stock", "GET /"), 5);
        found(&mut reports, "stock", "GET /", ("store", "GET /"), 5);
        let snapshot = snapshot_of(&reports);
        let all = composed(&snapshot);
        let shop = all.iter().find(|c| snapshot.label(c.endpoint) == "shop GET /").unwrap();
        assert_eq!(shop.steps.iter().map(|step| step.share).collect::<Vec<_>>(), [1.0, 0.5, 0.25]);
        assert!((shop.depth - 0.75).abs() < 1e-9 && (shop.calls - 0.75).abs() < 1e-9, "{shop:?}");
        assert_eq!((shop.depth_p95, shop.services), (2, 2));
    }

    #[test]
    fn a_circle_has_an_end() {
        let mut reports = traffic()
            .of(10, &on("a", "GET /"))
            .unlinked(10, "a", &on("b", "GET /"))
            .unlinked(10, "b", &on("a", "GET /"))
            .reports();
        found(&mut reports, "a", "GET /", ("b", "GET /"), 20);
        found(&mut reports, "b", "GET /", ("a", "GET /"), 20);
        let snapshot = snapshot_of(&reports);
        let all = composed(&snapshot);
        assert!(
            all.iter().all(|c| c.calls <= MOST_CALLS && c.depth <= DEEPEST as f64 && c.steps.len() == 2),
            "{all:?}"
        );
        assert!(!all.is_empty());
    }
}
