//! PR: context not propagated. A service whose calls no header links to the requests that cause them: what is below it is
//! not seen as part of any chain.

use std::collections::BTreeMap;

use couplet_telemetry::outcome;
use serde_json::json;

use super::case::Case;
use super::finding::{Evidence, Finding, Rule, Severity, confidence, id};
use super::words::{percent, rounded};
use crate::coupling::interval::beyond;
use crate::graph::Service;

pub(super) fn find(case: &Case<'_>) -> Vec<Finding> {
    case.snapshot.services().iter().filter_map(|service| judge(case, service)).collect()
}

fn judge(case: &Case<'_>, service: &Service) -> Option<Finding> {
    let min = case.thresholds.min_samples.max(1);
    let n = service.links.total();
    // Who handles no requests has none that its calls could belong to.
    if n < min || service.outcomes.total() < min {
        return None;
    }
    let [inferred, unknown] =
        [outcome::Evidence::Inferred, outcome::Evidence::Unknown].map(|evidence| service.links.get(evidence));
    let lost = inferred.saturating_add(unknown);
    let share = lost as f64 / n as f64;
    let threshold = case.thresholds.propagation.lost;
    if share < threshold || lost == 0 {
        return None;
    }
    let name = service.name.to_string();
    let linked = outcome::Evidence::Exact;
    Some(Finding {
        id: id(Rule::PR, "", [name.as_str()]),
        rule: Rule::PR,
        severity: Severity::Warn,
        title: format!("{name} does not pass on trace headers"),
        summary: format!(
            "No header links {} of its {n} calls to a request: {} were linked by timing, {} not at all.",
            percent(share),
            percent(inferred as f64 / n as f64),
            percent(unknown as f64 / n as f64),
        ),
        services: vec![name.clone()],
        evidence: Evidence {
            n,
            linked,
            confidence: confidence(beyond(lost, n, threshold * 0.99), linked),
            formula: "calls without an exact link ÷ n calls of the service".to_owned(),
            operands: BTreeMap::from([
                ("inferred".to_owned(), json!(inferred)),
                ("lost".to_owned(), json!(rounded(share))),
                ("threshold".to_owned(), json!(threshold)),
                ("unknown".to_owned(), json!(unknown)),
            ]),
        },
        why: format!(
            "What {name} causes cannot be seen as part of the requests that cause it: chains end here, and are longer than they \
             look. The same holds for every trace that others record."
        ),
        suggestions: vec![
            format!(
                "Pass `traceparent` and `tracestate` of the request on to the calls that {name} makes: any tracing library does."
            ),
            "Calls of its own background work need a trace of their own; then they are counted as such.".to_owned(),
        ],
        ..Finding::blank(Rule::PR)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::{chain, on, traffic};

    fn found(unlinked: u32) -> Vec<Finding> {
        traffic()
            .of(100 - unlinked, &chain(&["a", "b"]))
            .of(50, &on("a", "GET /"))
            .unlinked(unlinked, "a", &on("b", "GET /"))
            .finds(Rule::PR)
    }

    #[test]
    fn a_service_that_loses_one_call_of_ten_is_a_warning() {
        assert_eq!(found(9), []);
        let found = found(10);
        assert_eq!((found[0].severity, found[0].title.as_str()), (Severity::Warn, "a does not pass on trace headers"));
        assert_eq!(found[0].evidence.n, 100);
    }

    #[test]
    fn who_handles_no_requests_works_in_the_background() {
        assert_eq!(traffic().unlinked(100, "cron", &on("b", "GET /")).finds(Rule::PR), []);
    }
}
