//! NP: repeated calls. One handling calls the same endpoint again and again (1+N), and that takes a noticeable time.

use std::collections::BTreeMap;

use couplet_config::FindingThresholds;
use couplet_telemetry::outcome;
use serde_json::json;

use super::finding::{Evidence, Finding, Rule, Severity, chance_of_quantile, confidence, grade_warn, id, sorted, step};
use super::words::{duration, percent, rounded};
use crate::coupling::chain::QUANTILE;
use crate::graph::{Pair, Snapshot};

/// A pair of endpoints that repeats too often for too long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Repeat<'a> {
    pub(super) pair: &'a Pair,
    pub(super) severity: Severity,
    /// Calls per handling that makes any, 95th percentile.
    pub(super) calls: u32,
    /// Nanoseconds that such a handling waits for them, mean.
    waits: f64,
    /// The same as share of the mean handling, 0 to 1.
    share: f64,
}

pub(super) fn find(snapshot: &Snapshot, thresholds: &FindingThresholds) -> Vec<Finding> {
    repeats(snapshot, snapshot.pairs(), thresholds).map(|repeat| finding(snapshot, &repeat, thresholds)).collect()
}

/// The pairs that are findings. A service that calls itself again and again is its own business, and an endpoint that
/// stands for several is not called again and again.
pub(super) fn repeats<'a>(
    snapshot: &'a Snapshot,
    pairs: &'a [Pair],
    thresholds: &'a FindingThresholds,
) -> impl Iterator<Item = Repeat<'a>> {
    let levels = &thresholds.repeat;
    pairs.iter().filter_map(move |pair| {
        let client = pair.client.totals();
        let handlings = client.users;
        let own = snapshot[pair.source].service == snapshot[pair.destination].service;
        if handlings < thresholds.min_samples.max(1) || own || !snapshot[pair.destination].is_one() {
            return None;
        }
        let calls = pair.client.per_handling().quantile(QUANTILE);
        let severity = grade_warn(calls, &levels.calls)?;
        let waits = client.blocked as f64 / handlings as f64;
        let whole = snapshot[pair.source].stats.duration.mean();
        let share = if whole > 0.0 { (waits / whole).min(1.0) } else { 0.0 };
        let long = waits >= levels.min_time.as_nanos() as f64 || whole > 0.0 && share >= levels.min_share;
        long.then_some(Repeat { pair, severity, calls, waits, share })
    })
}

fn finding(snapshot: &Snapshot, repeat: &Repeat<'_>, thresholds: &FindingThresholds) -> Finding {
    let Repeat { pair, severity, calls, waits, share } = *repeat;
    let (caller, callee) = (step(snapshot, pair.source), step(snapshot, pair.destination));
    let labels = [snapshot.label(pair.source), snapshot.label(pair.destination)];
    let [caller_label, callee_label] = &labels;
    let often = pair.client.per_handling();
    let (n, per_handling) = (often.count(), often.quantiles());
    let one = pair.client.duration().mean();
    let link = linked(pair);
    let levels = &thresholds.repeat.calls;
    let above = often.at_least(if severity == Severity::Critical { levels.critical } else { levels.warn });
    Finding {
        id: id(Rule::NP, "", labels.iter().map(String::as_str)),
        rule: Rule::NP,
        severity,
        title: format!("{caller_label} calls {callee_label} {calls} times per request"),
        summary: format!(
            "A request that calls it at all does so {:.1} times on average; 1 of 20 does it {calls} times or more. \
             The calls take {} of such a request, {} of its time; a single one takes {}.",
            per_handling.mean,
            duration(waits),
            percent(share),
            duration(one),
        ),
        services: sorted([caller.service.clone(), callee.service.clone()]),
        endpoints: sorted(labels.clone()),
        evidence: Evidence {
            n,
            linked: link,
            confidence: confidence(chance_of_quantile(above, n), link),
            formula: "95th percentile of calls to one endpoint per handling that makes any, over n handlings; \
                      together they must take min_time or min_share of the handling"
                .to_owned(),
            operands: BTreeMap::from([
                ("calls".to_owned(), json!(per_handling)),
                ("seconds_per_handling".to_owned(), json!(waits / 1e9)),
                ("share_of_handling".to_owned(), json!(rounded(share))),
                ("threshold".to_owned(), json!(thresholds.repeat)),
            ]),
        },
        why: format!(
            "The time of the request grows with the number of items, because every item costs a round trip of its own. \
             Under load {} sees the same traffic many times over.",
            callee.service
        ),
        suggestions: vec![
            format!("Let {callee_label} answer for a list of items, and call it once."),
            format!(
                "If only one item at a time can be asked for, let {} make the calls at the same time.",
                caller.service
            ),
            format!(
                "Keep answers that are asked for again within a request, or for a short time, in {}.",
                caller.service
            ),
        ],
        path: vec![caller, callee],
        owners: Vec::new(),
        examples: Vec::new(),
    }
}

/// The weakest evidence among the calls that were linked to a handler at all.
pub(super) fn linked(pair: &Pair) -> outcome::Evidence {
    match pair.client.links().get(outcome::Evidence::Inferred) {
        0 => outcome::Evidence::Exact,
        _ => outcome::Evidence::Inferred,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::{Request, on, traffic};

    fn severity(request: &Request) -> Option<Severity> {
        traffic().of(100, request).finds(Rule::NP).first().map(|finding| finding.severity)
    }

    fn repeats(times: u32) -> Request {
        on("cart", "GET /cart").takes(10).calls(times, on("catalog", "GET /product/{id}").takes(20))
    }

    #[test]
    fn from_five_equal_calls_on_it_is_a_warning_from_ten_on_critical() {
        assert_eq!(severity(&repeats(4)), None);
        assert_eq!(severity(&repeats(5)), Some(Severity::Warn));
        assert_eq!(severity(&repeats(9)), Some(Severity::Warn));
        assert_eq!(severity(&repeats(10)), Some(Severity::Critical));
    }

    #[test]
    fn the_finding_says_who_calls_whom_how_often_and_for_how_long() {
        let found = traffic().of(100, &repeats(12)).finds(Rule::NP);
        let [finding] = &found[..] else { panic!("{found:?}") };
        assert_eq!(finding.title, "cart GET /cart calls catalog GET /product/{id} 12 times per request");
        assert_eq!(finding.services, ["cart", "catalog"]);
        assert_eq!(finding.evidence.operands["seconds_per_handling"], json!(0.24));
        assert_eq!(finding.evidence.operands["share_of_handling"], json!(0.96));
    }

    #[test]
    fn calls_that_take_neither_time_nor_share_are_no_finding() {
        let quick = |own| on("cart", "GET /cart").takes(own).calls(8, on("cache", "GET /{id}"));
        assert_eq!(severity(&quick(200)), None, "8 ms of 208 ms");
        assert_eq!(severity(&quick(40)), Some(Severity::Warn), "8 ms of 48 ms");
        let slow = on("cart", "GET /cart").takes(2_000).calls(8, on("cache", "GET /{id}").takes(7));
        assert_eq!(severity(&slow), Some(Severity::Warn), "56 ms, whatever the share");
    }

    #[test]
    fn different_endpoints_are_not_the_same_call() {
        let all = (0..8)
            .fold(on("cart", "GET /cart"), |cart, n| cart.calls(1, on("catalog", &format!("GET /{n}/x")).takes(20)));
        assert_eq!(severity(&all), None);
    }

    #[test]
    fn a_service_may_call_itself_as_often_as_it_likes() {
        assert_eq!(severity(&on("cart", "GET /cart").calls(20, on("cart", "GET /line").takes(20))), None);
    }

    #[test]
    fn the_same_pair_on_two_paths_is_one_finding() {
        let found = traffic().of(60, &repeats(6)).of(60, &on("shop", "GET /").calls(1, repeats(6))).finds(Rule::NP);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].evidence.n, 120);
    }

    #[test]
    fn requests_that_make_no_such_call_do_not_hide_those_that_do() {
        let found = traffic().of(950, &on("cart", "GET /cart")).of(50, &repeats(6)).finds(Rule::NP);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].evidence.n, 50);
    }
}
