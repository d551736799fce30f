//! TC: temporal coupling. A caller that always needs a callee, waits for it most of its time, or falls with it.
//!
//! Gateways and BFFs are exempt: waiting is what they are for. Where the callee has hardly ever failed, nobody knows
//! whether the caller would cope; then the strongest coupling by waiting alone is information.

use std::collections::BTreeMap;

use serde_json::json;

use super::case::{Case, weakest};
use super::finding::{Evidence, Finding, Rule, Severity, confidence, grade_share, id, sorted};
use super::words::{percent, rounded};
use crate::coupling::interval::beyond;
use crate::coupling::temporal::{Coupling, couplings};
use crate::graph::Edge;

pub(super) fn find(case: &Case<'_>) -> Vec<Finding> {
    let couplings = couplings(case.snapshot, case.thresholds.min_failures);
    let edges = case.snapshot.edges().iter().zip(couplings);
    edges.filter_map(|(edge, coupling)| judge(case, edge, &coupling?)).collect()
}

fn judge(case: &Case<'_>, edge: &Edge, coupling: &Coupling) -> Option<Finding> {
    let levels = &case.thresholds.temporal;
    let exempt = case.is_front(edge.source) || case.is_store(edge.destination);
    let known = case.is_one(edge.source) && case.is_one(edge.destination);
    if exempt || !known || coupling.handlings < case.thresholds.min_samples {
        return None;
    }
    let severity = grade_share(coupling.least, levels)?;
    // Others' services, and stores without a proxy, are there to be waited for.
    let severity = match (coupling.propagation, case.snapshot[edge.destination].observed) {
        (Some(_), true) => severity,
        (Some(_), false) => severity.min(Severity::Warn),
        (None, true) if severity == Severity::Critical => Severity::Info,
        (None, _) => return None,
    };
    Some(finding(case, edge, coupling, severity))
}

fn finding(case: &Case<'_>, edge: &Edge, coupling: &Coupling, severity: Severity) -> Finding {
    let (caller, callee) = (case.name(edge.source), case.name(edge.destination));
    let linked = weakest(&edge.client.links());
    let falls = match coupling.propagation {
        Some(known) => format!(
            "when a call to {callee} fails, {} of its requests fail for it ({} of {} seen)",
            percent(known.share),
            (known.given_failure * known.failures as f64).round(),
            known.failures
        ),
        None => format!("whether it copes when {callee} fails was not seen often enough"),
    };
    let strength = match coupling.propagation {
        Some(_) => format!("{:.2}", coupling.least),
        None => format!("{:.2} to {:.2}", coupling.least, coupling.most),
    };
    // Of the three factors the share of requests is the one that was counted request by request.
    let users = (coupling.used * coupling.handlings as f64).round() as u64;
    let needed = case.thresholds.temporal.warn.min(coupling.least * 0.99);
    Finding {
        id: id(Rule::TC, "", [format!("from {caller}").as_str(), format!("to {callee}").as_str()]),
        rule: Rule::TC,
        severity,
        title: match coupling.propagation {
            Some(_) => format!("{caller} cannot do without {callee}"),
            None => format!("{caller} waits {} of its time for {callee}", percent(coupling.blocked)),
        },
        summary: format!(
            "{} of the requests to {caller} that could call {callee} do and wait, {} of their time; {falls}. Together: a \
             coupling of {strength}.",
            percent(coupling.used),
            percent(coupling.blocked),
        ),
        services: sorted([caller.clone(), callee.clone()]),
        endpoints: sorted(edge.pairs.iter().map(|pair| case.snapshot.label(case.snapshot[*pair].source))),
        evidence: Evidence {
            n: coupling.handlings,
            linked,
            confidence: confidence(beyond(users, coupling.handlings, needed), linked),
            formula: "TC = p · (1 − (1 − β)(1 − λ)); p = share of n that call and wait, β = share of their time that waits, λ = \
                      (P(fails | call failed) − P(fails | none failed)) ÷ (1 − P(fails | none failed))"
                .to_owned(),
            operands: BTreeMap::from([
                ("beta".to_owned(), json!(rounded(coupling.blocked))),
                ("lambda".to_owned(), json!(coupling.propagation.map(|known| rounded(known.share)))),
                (
                    "lambda_interval".to_owned(),
                    json!(coupling.propagation.map(|known| [rounded(known.interval.low), rounded(known.interval.high)])),
                ),
                ("failed_calls".to_owned(), json!(coupling.propagation.map(|known| known.failures))),
                ("p".to_owned(), json!(rounded(coupling.used))),
                ("tc".to_owned(), json!([rounded(coupling.least), rounded(coupling.most)])),
                ("threshold".to_owned(), json!(case.thresholds.temporal)),
            ]),
        },
        why: format!(
            "{caller} is up when {callee} is, and as fast as {callee} is. Two services that can only work at the same time \
             are one service with a network inside."
        ),
        suggestions: vec![
            format!("Let {caller} keep what it needs of {callee} (a cache, a copy fed by events), and answer from that."),
            format!("Where {caller} only tells {callee} something, hand it over through a queue and answer at once."),
            format!("Give the call a time limit, and decide what {caller} answers when it runs out."),
        ],
        path: case.way(edge),
        owners: Vec::new(),
 examples: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::{Request, on, traffic};

    /// `a` works 100 − `waits` ms and waits `waits` ms for `b`; of 100 requests `fail` fail with it.
    fn found(waits: u64, fail: u32, copes: u32) -> Vec<Finding> {
        let a = || on("a", "GET /").takes(100 - waits);
        let b = || on("b", "GET /").takes(waits);
        let entry = |a: Request| on("web", "GET /").takes(500).calls(1, a);
        traffic()
            .of(100 - fail - copes, &entry(a().calls(1, b())))
            .of(fail, &entry(a().fails().calls(1, b().fails())))
            .of(copes, &entry(a().calls(1, b().fails())))
            .finds(Rule::TC)
    }

    fn severity(found: &[Finding]) -> Option<Severity> {
        found.iter().find(|finding| finding.services == ["a", "b"]).map(|finding| finding.severity)
    }

    #[test]
    fn a_caller_that_falls_with_its_callee_is_critical_however_little_it_waits() {
        let found = found(10, 25, 0);
        assert_eq!(severity(&found), Some(Severity::Critical));
        let finding = found.iter().find(|finding| finding.services == ["a", "b"]).unwrap();
        assert_eq!(finding.title, "a cannot do without b");
        assert_eq!((&finding.evidence.operands["tc"], finding.evidence.n), (&json!([1.0, 1.0]), 100));
    }

    #[test]
    fn a_caller_that_copes_is_judged_by_its_waiting() {
        assert_eq!(severity(&found(49, 0, 25)), None);
        assert_eq!(severity(&found(50, 0, 25)), Some(Severity::Warn));
        assert_eq!(severity(&found(80, 0, 25)), Some(Severity::Critical));
    }

    #[test]
    fn waiting_alone_is_information_when_nobody_saw_a_failure() {
        assert_eq!(severity(&found(79, 0, 0)), None);
        assert_eq!(severity(&found(80, 0, 0)), Some(Severity::Info));
    }

    #[test]
    fn a_gateway_may_wait_and_fall() {
        let down = |name: &str| on(name, "GET /").takes(30).fails();
        let gate = on("gate", "GET /").takes(1).fails().calls(1, down("a")).calls(1, down("b")).calls(1, down("c"));
        assert_eq!(traffic().of(100, &gate).finds(Rule::TC), []);
    }

    #[test]
    fn nothing_is_said_below_the_number_of_samples() {
        let down = on("a", "GET /").fails().calls(1, on("b", "GET /").fails());
        assert_eq!(traffic().of(49, &down).finds(Rule::TC), []);
        assert_eq!(traffic().of(50, &down).finds(Rule::TC).len(), 1);
    }
}
