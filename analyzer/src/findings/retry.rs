//! RT: retry amplification. A callee that fails is asked again, and gets more load just when it can bear less.
//!
//! Retries of the proxy are counted on the wire. Those of an application are calls like any other; they are taken for
//! retries where a handling calls once when all goes well, and again about as often as a call has failed. That is
//! inferred, and said so, unless proxies saw the handlings make failed calls again.

use std::collections::{BTreeMap, BTreeSet};

use couplet_telemetry::counts::Counts;
use couplet_telemetry::outcome;
use serde_json::json;

use super::case::Case;
use super::finding::{Evidence, Finding, Rule, Severity, confidence, id, sorted, step};
use super::repeat::linked;
use super::words::{percent, rounded};
use crate::graph::{CallTotals, EndpointIx, Pair, Snapshot};

/// Calls that follow failed ones may differ from their number by so much: handlings that were cut off, windows that ended.
const ABOUT: f64 = 0.05;
/// Of the handlings that saw a failure so many must have tried again.
const MOST: f64 = 0.5;

/// How often a callee is tried for one call that is meant.
#[derive(Debug, Clone, Copy)]
struct Retries<'a> {
    pair: &'a Pair,
    /// Attempts of the proxy for one call of the application.
    by_proxy: f64,
    /// Calls of the application for one that it means; 1 where it does not look like retrying.
    by_application: f64,
    /// Whether proxies saw that handlings made these calls again, so that nothing of it is inferred.
    seen: bool,
    /// Calls that failed.
    failures: u64,
}

impl Retries<'_> {
    fn tries(&self) -> f64 {
        self.by_proxy * self.by_application
    }
}

pub(super) fn find(case: &Case<'_>) -> Vec<Finding> {
    let levels = &case.thresholds.retry;
    let amplified: Vec<_> = case
        .snapshot
        .pairs()
        .iter()
        .filter_map(|pair| retries(case.snapshot, pair, case.thresholds.min_samples, case.thresholds.min_failures))
        .filter(|retries| retries.tries() >= levels.warn)
        .collect();
    let retrying: BTreeSet<EndpointIx> = amplified.iter().map(|retries| retries.pair.source).collect();
    let judged = |retries: &Retries<'_>| {
        // Tries multiply: each of the upper ones makes all of the lower ones.
        let layered = retrying.contains(&retries.pair.destination);
        let critical = layered || retries.tries() >= levels.critical;
        finding(case, retries, layered, if critical { Severity::Critical } else { Severity::Warn })
    };
    amplified.iter().map(judged).collect()
}

fn retries<'a>(snapshot: &Snapshot, pair: &'a Pair, min_samples: u64, min_failures: u64) -> Option<Retries<'a>> {
    let client = pair.client.totals();
    let (calls, failures) = (client.outcomes.total(), client.outcomes.failures());
    let one = snapshot[pair.source].is_one() && snapshot[pair.destination].is_one();
    if !one || calls < min_samples.max(1) {
        return None;
    }
    let by_proxy = (client.attempts as f64 / calls as f64).max(1.0);
    let per_handling = pair.client.per_handling();
    let by_application = by_application(&client, &per_handling, min_failures);
    // A proxy that tries again with success leaves no failure behind.
    let repeated = client.attempts.saturating_sub(calls);
    let extra = per_handling.sum().saturating_sub(per_handling.count());
    let seen = snapshot[pair.source].stats.retries as f64 >= extra as f64 * (1.0 - ABOUT);
    (failures.max(repeated) >= min_failures).then_some(Retries { pair, by_proxy, by_application, seen, failures })
}

fn by_application(client: &CallTotals, per_handling: &Counts, min_failures: u64) -> f64 {
    let failed = client.joint.both.saturating_add(client.joint.call_only);
    let extra = per_handling.sum().saturating_sub(per_handling.count());
    let (again, failures) = (per_handling.at_least(2) as f64, client.outcomes.failures() as f64);
    let looks_like_it = failed >= min_failures
        && per_handling.quantile(0.5) == 1
        && extra as f64 <= failures * (1.0 + ABOUT)
        && again <= failed as f64 * (1.0 + ABOUT)
        && again >= failed as f64 * MOST;
    if looks_like_it && per_handling.count() > 0 {
        per_handling.sum() as f64 / per_handling.count() as f64
    } else {
        1.0
    }
}

fn finding(case: &Case<'_>, retries: &Retries<'_>, layered: bool, severity: Severity) -> Finding {
    let Retries { pair, by_proxy, by_application, seen, failures } = *retries;
    let snapshot = case.snapshot;
    let (caller, callee) = (step(snapshot, pair.source), step(snapshot, pair.destination));
    let labels = [snapshot.label(pair.source), snapshot.label(pair.destination)];
    let [caller_label, callee_label] = &labels;
    let n = pair.client.total();
    let per_handling = pair.client.per_handling();
    let most = per_handling.max().max(1);
    let who = match (by_proxy > 1.0, by_application > 1.0) {
        (true, true) if seen => "the proxy and the application",
        (true, true) => "the proxy and, it seems, the application",
        (true, false) => "the proxy",
        _ if seen => "the application",
        _ => "it seems, the application",
    };
    let inferred = by_application > 1.0 && !seen;
    let link = linked(pair).max(if inferred { outcome::Evidence::Inferred } else { outcome::Evidence::Exact });
    Finding {
        id: id(Rule::RT, "", labels.iter().map(String::as_str)),
        rule: Rule::RT,
        severity,
        title: format!("{caller_label} tries {callee_label} {:.1} times for one answer", retries.tries()),
        summary: format!(
            "{} of {n} calls failed and were made again, by {who}: {} more load on {} than was meant, up to {most} calls for one \
             request.{}",
            percent(failures as f64 / n.max(1) as f64),
            percent(retries.tries() - 1.0),
            callee.service,
            if layered { " The callee tries its own calls again, too, and the tries multiply." } else { "" },
        ),
        services: sorted([caller.service.clone(), callee.service.clone()]),
        endpoints: sorted(labels.clone()),
        evidence: Evidence {
            n,
            linked: link,
            confidence: confidence(1.0, link),
            formula: "tries = attempts ÷ calls (by the proxy) × calls per handling (by the application, where a handling calls once \
                      when all goes well and again about as often as a call failed)"
                .to_owned(),
            operands: BTreeMap::from([
                ("by_application".to_owned(), json!(rounded(by_application))),
                ("by_proxy".to_owned(), json!(rounded(by_proxy))),
                ("failures".to_owned(), json!(failures)),
                ("layered".to_owned(), json!(layered)),
                ("per_handling".to_owned(), json!(per_handling.quantiles())),
                ("threshold".to_owned(), json!(case.thresholds.retry)),
                ("tries".to_owned(), json!(rounded(retries.tries()))),
            ]),
        },
        why: format!(
            "A service that fails because it has too much to do is given more of it, so a short failure becomes a long one. \
             Everybody who waits for {} waits for all the tries.",
            caller.service
        ),
        suggestions: vec![
            format!("Give {} a budget: retries for at most 10 % of its calls, none when more than that fail.", caller.service),
            "Try again at one level only, the one nearest to the user or the one nearest to the failure.".to_owned(),
            format!("Let a breaker refuse the calls to {} while it fails, and answer without it.", callee.service),
        ],
        path: vec![caller, callee],
        owners: Vec::new(),
 examples: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::{Request, on, traffic};

    /// Of 100 requests to `a`, `again` see their first call of `b` fail and make another.
    fn found(again: u32) -> Vec<Finding> {
        let b = |fails: bool| if fails { on("b", "GET /").fails() } else { on("b", "GET /") };
        let retried = on("a", "GET /").calls(1, b(true)).calls(1, b(false));
        traffic().of(again, &retried).of(1_000 - again, &on("a", "GET /").calls(1, b(false))).finds(Rule::RT)
    }

    #[test]
    fn a_tenth_more_calls_after_failures_is_a_warning() {
        assert_eq!(found(99), []);
        let found = found(100);
        let [finding] = &found[..] else { panic!("{found:?}") };
        assert_eq!((finding.severity, finding.evidence.linked), (Severity::Warn, outcome::Evidence::Inferred));
        assert_eq!(finding.title, "a GET / tries b GET / 1.1 times for one answer");
    }

    #[test]
    fn what_proxies_saw_made_again_is_not_inferred() {
        let b = |fails: bool| if fails { on("b", "GET /").fails() } else { on("b", "GET /") };
        let retried = on("a", "GET /").calls(1, b(true)).calls(1, b(false));
        let mut reports = traffic().of(200, &retried).of(800, &on("a", "GET /").calls(1, b(false))).reports();
        let linked = |reports: &[couplet_telemetry::report::Report]| {
            let snapshot = crate::traffic::snapshot_of(reports);
            let all = crate::findings::findings(&snapshot, &Default::default(), &Default::default());
            all.into_iter().find(|finding| finding.rule == Rule::RT).unwrap().evidence.linked
        };
        let mut of_a = |retries: u64| {
            let report = reports.iter_mut().find(|report| report.origin.service == "a").unwrap();
            report.paths[0].stats.retries = retries;
            linked(&reports)
        };
        assert_eq!((of_a(180), of_a(200)), (outcome::Evidence::Inferred, outcome::Evidence::Exact));
    }

    #[test]
    fn twice_as_many_is_critical() {
        let b = |fails: bool| if fails { on("b", "GET /").fails() } else { on("b", "GET /") };
        let four = on("a", "GET /").fails().calls(4, b(true));
        let all = traffic().of(40, &four).of(60, &on("a", "GET /").calls(1, b(false))).finds(Rule::RT);
        assert_eq!(all[0].severity, Severity::Critical);
    }

    #[test]
    fn tries_at_two_levels_are_critical_because_they_multiply() {
        let c = |fails: bool| if fails { on("c", "GET /").fails() } else { on("c", "GET /") };
        let b = |fails: bool| {
            let b: Request = on("b", "GET /").calls(1, c(true)).calls(1, c(!fails));
            if fails { b.fails() } else { b }
        };
        let bad = on("a", "GET /").calls(1, b(true)).calls(1, b(false));
        let well = on("a", "GET /").calls(1, on("b", "GET /").calls(1, c(false)));
        let all = traffic().of(30, &bad).of(100, &well).finds(Rule::RT);
        let of =
            |caller: &str| all.iter().find(|finding| finding.path[0].service == caller).map(|finding| finding.severity);
        assert_eq!((of("a"), of("b")), (Some(Severity::Critical), Some(Severity::Warn)), "{all:#?}");
    }

    #[test]
    fn calls_that_are_made_again_without_a_failure_are_no_retries() {
        let twice = on("a", "GET /").calls(2, on("b", "GET /"));
        assert_eq!(traffic().of(30, &twice).of(70, &on("a", "GET /").calls(1, on("b", "GET /"))).finds(Rule::RT), []);
    }

    #[test]
    fn a_loop_over_items_of_which_some_fail_is_no_retrying() {
        let looped = on("a", "GET /").calls(9, on("b", "GET /")).calls(1, on("b", "GET /").fails());
        assert_eq!(traffic().of(100, &looped).finds(Rule::RT), []);
    }

    #[test]
    fn few_failures_say_nothing() {
        let b = |fails: bool| if fails { on("b", "GET /").fails() } else { on("b", "GET /") };
        let retried = on("a", "GET /").calls(1, b(true)).calls(1, b(false));
        assert_eq!(traffic().of(19, &retried).of(81, &on("a", "GET /").calls(1, b(false))).finds(Rule::RT), []);
    }
}
