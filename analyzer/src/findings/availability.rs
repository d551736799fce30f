//! CA: chain availability. Requests of an entry fail because what it waits for does, and more often than its budget
//! allows.

use std::collections::BTreeMap;

use couplet_telemetry::outcome;
use serde_json::json;

use super::case::Case;
use super::finding::{Evidence, Finding, Rule, Severity, confidence, id, sorted, step};
use super::words::{percent, rounded};
use crate::coupling::availability::{Availability, availability, origins};
use crate::coupling::flow::Flow;
use crate::coupling::interval::beyond;
use crate::graph::ServiceIx;

/// So many times the budget is critical.
const CRITICAL: f64 = 10.0;
/// Origins with a smaller part of the failures take no part in the finding.
const NOTABLE: f64 = 0.1;
/// Origins that the evidence names.
const MOST_ORIGINS: usize = 10;

pub(super) fn find(case: &Case<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    case.flows.each(&mut |flow| found.extend(judge(case, flow)));
    found
}

fn judge(case: &Case<'_>, flow: &Flow) -> Option<Finding> {
    let seen = availability(flow).filter(|_| flow.requests >= case.thresholds.min_samples)?;
    let budget = case.thresholds.availability.budget;
    if seen.explained < case.thresholds.min_failures || seen.lost_to_dependencies <= budget {
        return None;
    }
    let severity = if seen.lost_to_dependencies > budget * CRITICAL { Severity::Critical } else { Severity::Warn };
    Some(finding(case, flow, &seen, severity, budget))
}

fn finding(case: &Case<'_>, flow: &Flow, seen: &Availability, severity: Severity, budget: f64) -> Finding {
    let snapshot = case.snapshot;
    let entry = &snapshot[flow.entry];
    let root = step(snapshot, entry.endpoint);
    let label = snapshot.label(entry.endpoint);
    let own = snapshot[entry.endpoint].service;
    let below: Vec<(ServiceIx, f64)> = origins(flow).into_iter().filter(|(service, _)| *service != own).collect();
    let total: f64 = below.iter().map(|(_, count)| count).sum();
    let notable: Vec<String> =
        below.iter().filter(|(_, count)| *count >= total * NOTABLE).map(|(service, _)| case.name(*service)).collect();
    let culprit = notable.first().cloned().unwrap_or_else(|| "its dependencies".to_owned());
    let linked = entry.roots.iter().map(|root| snapshot[*root].evidence).max().unwrap_or(outcome::Evidence::Exact);
    let named: BTreeMap<String, f64> =
        below.iter().take(MOST_ORIGINS).map(|(service, count)| (case.name(*service), rounded(*count))).collect();
    Finding {
        id: id(Rule::CA, "", [label.as_str()]),
        rule: Rule::CA,
        severity,
        title: format!("{label} fails {} of its requests because of {culprit}", percent(seen.lost_to_dependencies)),
        summary: format!(
            "{} of its requests succeed. Judged by what every service below fails by itself it would be {} to {}; if nothing \
             below failed, {}.",
            availability_words(seen.measured),
            availability_words(seen.predicted.low),
            availability_words(seen.predicted.high),
            availability_words(seen.own),
        ),
        services: sorted(notable.iter().cloned().chain([root.service.clone()])),
        endpoints: vec![label],
        evidence: Evidence {
            n: flow.requests,
            linked,
            confidence: confidence(beyond(seen.explained, flow.requests, budget), linked),
            formula: "lost = failed requests with a failed blocking call ÷ n, against the budget; predicted = product over \
                      the services below of 1 − their own failures (high), or 1 − all their own failures ÷ n (low)"
                .to_owned(),
            operands: BTreeMap::from([
                ("budget".to_owned(), json!(budget)),
                ("lost".to_owned(), json!(rounded(seen.lost_to_dependencies))),
                ("measured".to_owned(), json!(rounded(seen.measured))),
                ("origins".to_owned(), json!(named)),
                ("own".to_owned(), json!(rounded(seen.own))),
                ("predicted".to_owned(), json!([rounded(seen.predicted.low), rounded(seen.predicted.high)])),
            ]),
        },
        why: "A request that waits for several services succeeds only when all of them do, so it cannot be better than the \
              worst of them. A dependency should fail ten times less often than what depends on it may."
            .to_owned(),
        suggestions: vec![
            format!("Decide what the answer looks like without {culprit}, and answer that when its call fails."),
            format!("Let {culprit} be asked with a time limit and one retry inside it, so that short failures do not show."),
            format!("Take {culprit} out of the request: keep a copy of what is needed, or hand the work over to a queue."),
        ],
        path: vec![root],
        owners: Vec::new(),
 examples: Vec::new(),
    }
}

/// Availability needs more digits than other shares.
fn availability_words(share: f64) -> String {
    format!("{:.2} %", (share * 1e4).floor() / 1e2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::{chain, on, traffic};

    fn found(failing: u32, of: u32) -> Vec<Finding> {
        let broken = on("shop", "GET /").fails().calls(1, on("stock", "GET /").fails());
        traffic().of(failing, &broken).of(of - failing, &chain(&["shop", "stock"])).finds(Rule::CA)
    }

    #[test]
    fn failures_of_a_dependency_beyond_the_budget_are_a_finding_of_the_entry() {
        let found = found(20, 4_000);
        let [finding] = &found[..] else { panic!("{found:?}") };
        assert_eq!(finding.title, "shop GET / fails 0.5 % of its requests because of stock");
        assert_eq!(
            (finding.severity, &finding.services[..]),
            (Severity::Warn, &["shop".to_owned(), "stock".to_owned()][..])
        );
        assert_eq!(finding.evidence.operands["measured"], json!(0.995));
        assert_eq!(finding.evidence.operands["predicted"], json!([0.995, 0.995]));
        assert!(finding.evidence.confidence > 0.99);
    }

    #[test]
    fn ten_times_the_budget_is_critical() {
        assert_eq!(found(40, 4_000)[0].severity, Severity::Warn);
        assert_eq!(found(41, 4_000)[0].severity, Severity::Critical);
    }

    #[test]
    fn few_failures_or_few_for_the_traffic_are_none() {
        assert_eq!(found(19, 4_000), []);
        assert_eq!(found(20, 20_000), [], "exactly the budget");
    }

    #[test]
    fn failures_of_its_own_and_failures_it_copes_with_are_no_finding_of_the_chain() {
        let own = on("shop", "GET /").fails().calls(1, on("stock", "GET /"));
        assert_eq!(traffic().of(50, &own).of(50, &chain(&["shop", "stock"])).finds(Rule::CA), []);
        let copes = on("shop", "GET /").calls(1, on("stock", "GET /").fails());
        assert_eq!(traffic().of(50, &copes).of(50, &chain(&["shop", "stock"])).finds(Rule::CA), []);
    }
}
