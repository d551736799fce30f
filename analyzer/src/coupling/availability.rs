//! Availability of an entry: measured, predicted from what each service below fails by itself, and its own.
//!
//! Source: Treynor, Dahlin, Rau, Beyer, "The Calculus of Service Availability" (2017): a service needs every unique
//! dependency, so its availability is at most the product of theirs. Failures come together in the best case, each in a
//! request of its own in the worst (Boole's inequality): the prediction is the range between the two. The worst case
//! counts failures, not calls: those that a failed request does not come to make change nothing.

use std::collections::BTreeMap;

use super::flow::Flow;
use super::interval::Interval;
use crate::graph::ServiceIx;

/// The availability of an entry. All shares of its requests, 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Availability {
    /// Requests that did not fail.
    pub measured: f64,
    /// What it would be if every failure below failed the request: above it, fallbacks work; below it, failures come
    /// together, or time limits make them.
    pub predicted: Interval,
    /// What it would be if nothing below failed.
    pub own: f64,
    /// Requests that failed because a call of theirs did.
    pub lost_to_dependencies: f64,
    /// How many those are.
    pub explained: u64,
}

/// The availability of the entry of a flow; none where it has no request.
#[must_use]
pub fn availability(flow: &Flow) -> Option<Availability> {
    let root = flow.root().filter(|_| flow.requests > 0)?;
    let share = |count: u64| (count as f64 / flow.requests as f64).min(1.0);
    let (mut failures, mut once) = (0.0, BTreeMap::<ServiceIx, f64>::new());
    for (node, awaited) in flow.nodes.iter().zip(flow.awaited()) {
        if node.calls == 0 {
            continue;
        }
        let fails = (node.own_failures() as f64 / node.calls as f64).min(1.0);
        failures += flow.per_request(node.own_failures().min(node.calls)) * awaited;
        let slot = once.entry(node.service).or_default();
        *slot = slot.max(node.reach * fails);
    }
    let best = once.values().fold(1.0, |product, fails| product * (1.0 - fails));
    let worst = (1.0 - failures).max(0.0);
    Some(Availability {
        measured: 1.0 - share(root.failures),
        predicted: Interval { low: worst.min(best), high: best },
        own: 1.0 - share(root.own_failures()),
        lost_to_dependencies: share(root.explained),
        explained: root.explained,
    })
}

/// Where the failures of an entry began: for every service the number of failed requests that are traced down to its
/// own failures, the most first. Where several calls of one request failed, each is blamed for its part.
#[must_use]
pub fn origins(flow: &Flow) -> Vec<(ServiceIx, f64)> {
    let mut both = vec![0_u64; flow.nodes.len()];
    for node in &flow.nodes {
        if let Some(slot) = node.parent.and_then(|parent| both.get_mut(parent)) {
            *slot = slot.saturating_add(node.joint.both);
        }
    }
    let mut blamed: BTreeMap<ServiceIx, f64> = BTreeMap::new();
    // From the top down: failed requests of the entry that are traced to a node, and those passed on to its calls.
    let mut passed_on = vec![0.0; flow.nodes.len()];
    for (at, node) in flow.nodes.iter().enumerate() {
        let part = |whole: u64| if whole == 0 { 0.0 } else { node.joint.both as f64 / whole as f64 };
        let here = match node.parent {
            None => node.failures as f64,
            Some(above) => passed_on.get(above).copied().unwrap_or(0.0) * both.get(above).copied().map_or(0.0, part),
        };
        let failures = node.failures.max(node.explained);
        let explained =
            if both.get(at) == Some(&0) || failures == 0 { 0.0 } else { node.explained as f64 / failures as f64 };
        if let Some(slot) = passed_on.get_mut(at) {
            *slot = here * explained;
        }
        *blamed.entry(node.service).or_default() += here * (1.0 - explained);
    }
    let mut blamed: Vec<(ServiceIx, f64)> = blamed.into_iter().filter(|(_, count)| *count > 0.0).collect();
    blamed.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    blamed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coupling::flow::Flows;
    use crate::graph::Snapshot;
    use crate::traffic::{chain, on, traffic};

    fn of(snapshot: &Snapshot) -> (Availability, Vec<(String, f64)>) {
        let flows = Flows::of(snapshot);
        let flow = flows.iter().next().unwrap();
        let names = |(service, count): (ServiceIx, f64)| (snapshot[service].name.to_string(), count);
        (availability(flow).unwrap(), origins(flow).into_iter().map(names).collect())
    }

    #[test]
    fn a_failure_at_the_end_of_a_chain_is_blamed_on_its_end() {
        let broken = on("a", "GET /").fails().calls(1, on("b", "GET /").fails().calls(1, on("c", "GET /").fails()));
        let (seen, origins) = of(&traffic().of(10, &broken).of(90, &chain(&["a", "b", "c"])).snapshot());
        assert_eq!((seen.measured, seen.own, seen.lost_to_dependencies), (0.9, 1.0, 0.1));
        assert!((seen.predicted.low - 0.9).abs() < 1e-9 && (seen.predicted.high - 0.9).abs() < 1e-9);
        assert_eq!(origins, [("c".to_owned(), 10.0)]);
    }

    #[test]
    fn a_caller_that_copes_is_better_than_predicted() {
        let copes = on("a", "GET /").calls(1, on("b", "GET /").fails());
        let (seen, origins) = of(&traffic().of(20, &copes).of(80, &chain(&["a", "b"])).snapshot());
        assert_eq!((seen.measured, seen.lost_to_dependencies), (1.0, 0.0));
        assert!((seen.predicted.high - 0.8).abs() < 1e-9, "{seen:?}");
        assert_eq!(origins, []);
    }

    #[test]
    fn repeated_calls_make_the_range_of_a_prediction() {
        let b = |fails: bool| if fails { on("b", "GET /").fails() } else { on("b", "GET /") };
        let broken = on("a", "GET /").fails().calls(1, b(true)).calls(4, b(false));
        let well = on("a", "GET /").calls(5, b(false));
        let (seen, _) = of(&traffic().of(50, &broken).of(50, &well).snapshot());
        assert!((seen.predicted.high - 0.9).abs() < 1e-9, "{seen:?}");
        // One of five failed in every second request: that is the worst that fifty failures can do.
        assert!((seen.predicted.low - 0.5).abs() < 1e-9 && seen.measured == 0.5, "{seen:?}");
    }

    #[test]
    fn calls_that_a_failed_request_does_not_come_to_make_do_not_improve_the_prediction() {
        let ends_early = on("a", "GET /").fails().calls(1, on("b", "GET /").fails());
        let well = on("a", "GET /").calls(5, on("b", "GET /"));
        let (seen, _) = of(&traffic().of(40, &ends_early).of(60, &well).snapshot());
        assert!((seen.predicted.low - 0.6).abs() < 1e-9 && seen.measured == 0.6, "{seen:?}");
    }

    #[test]
    fn failures_without_a_failed_call_are_the_entrys_own() {
        let own = on("a", "GET /").fails().calls(1, on("b", "GET /"));
        let (seen, origins) = of(&traffic().of(5, &own).of(95, &chain(&["a", "b"])).snapshot());
        assert_eq!((seen.own, seen.lost_to_dependencies), (0.95, 0.0));
        assert_eq!(origins, [("a".to_owned(), 5.0)]);
    }

    #[test]
    fn the_failures_of_a_service_without_a_proxy_are_seen_by_its_caller() {
        let broken = on("a", "GET /").fails().calls(1, on("db", "query").external().fails());
        let well = on("a", "GET /").calls(1, on("db", "query").external());
        let (_, origins) = of(&traffic().of(5, &broken).of(95, &well).snapshot());
        assert_eq!(origins, [("db".to_owned(), 5.0)]);
    }
}
