//! The verdict: what the analyzer says about the demo, beside what the scenario knows about it. Pure.

use std::collections::BTreeSet;

use couplet_analyzer::{
    breakers::BreakerEdge,
    findings::{Finding, Rule, Severity},
    view::document::{Document, ServiceKind},
};
use serde::Serialize;
use serde_json::Value;

use super::{
    load::Tally,
    scenario::{EndpointSpec, Planted, Scenario},
};

/// How the demo ended: the one object that `--format json` prints.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Verdict {
    /// Whether the analyzer saw everything that it should have seen, and nothing else.
    pub(crate) ok: bool,
    /// Why not; empty when all is well.
    pub(crate) reasons: Vec<String>,
    /// Name of the scenario.
    pub(crate) scenario: String,
    /// How long the load lasted.
    pub(crate) seconds: f64,
    /// Services that reported.
    pub(crate) services: usize,
    /// Requests from outside.
    pub(crate) requests: Requests,
    /// Edges between services.
    pub(crate) edges: usize,
    /// What the analyzer found, the gravest first.
    pub(crate) findings: Vec<Found>,
    /// How calls were linked to the requests that caused them.
    pub(crate) links: LinkShares,
    /// Every planted problem.
    pub(crate) planted: Vec<PlantedProblem>,
    /// Findings that the scenario says must not be there.
    pub(crate) unexpected: Vec<Found>,
    /// Circuit breakers that opened, or would have: what `couplet breakers report` says of them.
    pub(crate) breakers: Vec<BreakerEdge>,
}

/// Requests from outside, on both sides of the entrance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Requests {
    /// Made by the load generator.
    pub(crate) sent: u64,
    /// Those of them that were not answered well.
    pub(crate) failed: u64,
    /// Those of the failed for which there was no connection.
    pub(crate) unconnected: u64,
    /// Not made, because too many were waiting for their answers.
    pub(crate) skipped: u64,
    /// Seen by the analyzer.
    pub(crate) counted: u64,
}

/// A finding in short.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Found {
    /// Its stable name.
    pub(crate) id: String,
    /// The rule that found it.
    pub(crate) rule: Rule,
    /// How grave it is.
    pub(crate) severity: Severity,
    /// One line.
    pub(crate) title: String,
    /// The services that take part.
    pub(crate) services: Vec<String>,
    /// The endpoints that take part.
    pub(crate) endpoints: Vec<String>,
    /// How deep the chain is, where that is what was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) depth: Option<Value>,
    /// How many calls a request makes, where that is what was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) calls: Option<Value>,
    /// How many services a request calls, where that is what was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) callees: Option<Value>,
}

/// Calls by how they were linked.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct LinkShares {
    /// By a header.
    pub(crate) exact: u64,
    /// By timing.
    pub(crate) inferred: u64,
    /// Not at all.
    pub(crate) unknown: u64,
    /// Share of exact links over all services, 0 to 1.
    pub(crate) coverage: Option<f64>,
    /// Share of exact links over the services that forward trace headers, 0 to 1.
    pub(crate) forwarding_coverage: Option<f64>,
}

/// A planted problem, found or not.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct PlantedProblem {
    /// The problem in words.
    pub(crate) problem: String,
    /// The rule that should find it.
    pub(crate) rule: Rule,
    /// Whether it did.
    pub(crate) found: bool,
    /// The finding, if so.
    pub(crate) finding: Option<String>,
}

/// Compares what the analyzer says with what the scenario knows and the load generator did.
pub(crate) fn judge(scenario: &Scenario, document: &Document, tally: Tally, seconds: f64) -> Verdict {
    let counted = document.entries.iter().map(|entry| entry.requests).sum();
    let mut verdict = Verdict {
        ok: false,
        reasons: Vec::new(),
        scenario: scenario.name.clone(),
        seconds,
        services: document.services.iter().filter(|service| service.kind == ServiceKind::Observed).count(),
        requests: Requests {
            sent: tally.sent,
            failed: tally.failed,
            unconnected: tally.unconnected,
            skipped: tally.skipped,
            counted,
        },
        edges: document.edges.len(),
        findings: document.findings.iter().map(Found::from).collect(),
        links: link_shares(scenario, document),
        planted: scenario.planted.iter().map(|planted| look_for(planted, &document.findings)).collect(),
        unexpected: document.findings.iter().filter(|finding| unexpected(scenario, finding)).map(Found::from).collect(),
        breakers: Vec::new(),
    };
    verdict.reasons = reasons(scenario, &verdict, tally.arrived());
    verdict.reasons.extend(wrong_edges(scenario, document));
    verdict.ok = verdict.reasons.is_empty();
    verdict
}

/// Why a verdict is not ok.
fn reasons(scenario: &Scenario, verdict: &Verdict, arrived: u64) -> Vec<String> {
    let mut reasons = Vec::new();
    if arrived == 0 {
        reasons.push("no request arrived".to_owned());
    }
    let counted = verdict.requests.counted;
    if counted != arrived {
        reasons.push(format!("{arrived} requests arrived, the analyzer counted {counted}"));
    }
    if verdict.services != scenario.services.len() {
        reasons.push(format!("{} of {} services were seen", verdict.services, scenario.services.len()));
    }
    match verdict.links.forwarding_coverage {
        Some(coverage) if coverage < MIN_COVERAGE => reasons.push(format!(
            "{:.1} % of the calls of services that forward headers are linked exactly, less than {:.0} %",
            coverage * 100.0,
            MIN_COVERAGE * 100.0
        )),
        Some(_) => {}
        None => reasons.push("no call was seen of a service that forwards headers".to_owned()),
    }
    let missed = verdict.planted.iter().filter(|planted| !planted.found);
    reasons.extend(missed.map(|planted| format!("not found: {} ({})", planted.problem, planted.rule)));
    let unexpected = verdict.unexpected.iter();
    reasons.extend(unexpected.map(|found| format!("unexpected: {} {}: {}", found.severity, found.id, found.title)));
    reasons
}

/// Edges that the analyzer made up, and those that it missed.
fn wrong_edges(scenario: &Scenario, document: &Document) -> Vec<String> {
    let seen: BTreeSet<_> =
        document.edges.iter().map(|edge| (edge.source.as_str(), edge.destination.as_str())).collect();
    let (mut possible, mut certain) = (BTreeSet::new(), BTreeSet::new());
    for (name, service) in &scenario.services {
        for call in service.endpoints.values().flat_map(EndpointSpec::calls) {
            let edge = (name.as_str(), call.to.service.as_str());
            possible.insert(edge);
            if !call.dormant {
                certain.insert(edge);
            }
        }
    }
    let made_up = seen.difference(&possible).map(|(from, to)| format!("nobody made the calls from {from} to {to}"));
    let missed = certain.difference(&seen).map(|(from, to)| format!("the calls from {from} to {to} were not seen"));
    made_up.chain(missed).collect()
}

/// Services that forward trace headers let nearly every call be linked by them.
const MIN_COVERAGE: f64 = 0.95;

fn look_for(planted: &Planted, findings: &[Finding]) -> PlantedProblem {
    let finding = findings.iter().find(|finding| is(planted, finding));
    PlantedProblem {
        problem: planted.problem.clone(),
        rule: planted.rule,
        found: finding.is_some(),
        finding: finding.map(|finding| finding.id.clone()),
    }
}

/// Whether a finding is about the planted problem, and grave enough.
fn is(planted: &Planted, finding: &Finding) -> bool {
    let named = planted.services.iter().all(|service| finding.services.contains(service));
    // A circle is its members: one with more of them is another circle. A chain or fan-out may have side branches.
    let exactly = planted.rule != Rule::CY || finding.services.len() == planted.services.len();
    let endpoint = planted.endpoint.as_ref().is_none_or(|at| finding.endpoints.contains(&at.to_string()));
    finding.rule == planted.rule && finding.severity >= planted.severity && named && exactly && endpoint
}

fn unexpected(scenario: &Scenario, finding: &Finding) -> bool {
    scenario.absent.iter().any(|absent| finding.rule == absent.rule && finding.severity >= absent.severity)
}

fn link_shares(scenario: &Scenario, document: &Document) -> LinkShares {
    let forwards = |name: &str| scenario.services.get(name).is_some_and(|service| service.forward_headers);
    let (mut exact, mut total) = (0_u64, 0_u64);
    for service in document.services.iter().filter(|service| forwards(&service.name)) {
        let links = service.links;
        exact += links.exact;
        total += links.exact + links.inferred + links.unknown;
    }
    let links = document.links;
    #[expect(clippy::cast_precision_loss, reason = "a share of calls of one demo")]
    let share = |part: u64, whole: u64| (whole > 0).then(|| part as f64 / whole as f64);
    LinkShares {
        exact: links.exact,
        inferred: links.inferred,
        unknown: links.unknown,
        coverage: share(links.exact, links.exact + links.inferred + links.unknown),
        forwarding_coverage: share(exact, total),
    }
}

impl From<&Finding> for Found {
    fn from(finding: &Finding) -> Self {
        let operand = |name: &str| finding.evidence.operands.get(name).cloned();
        Self {
            id: finding.id.clone(),
            rule: finding.rule,
            severity: finding.severity,
            title: finding.title.clone(),
            services: finding.services.clone(),
            endpoints: finding.endpoints.clone(),
            depth: operand("depth"),
            calls: operand("calls"),
            callees: operand("callees"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::demo::library;

    fn scenario(expectation: &str) -> Scenario {
        let text = format!(
            r"
name: small
about: three services
services:
  web:
    endpoints:
      GET /: {{work: 1ms..1ms, steps: [{{call: shop GET /}}]}}
  shop:
    endpoints:
      GET /: {{work: 1ms..1ms, steps: [{{call: stock GET /}}]}}
  stock:
    forward_headers: false
    endpoints:
      GET /: {{work: 1ms..1ms}}
load: [{{entry: web GET /, rate: 10}}]
{expectation}
"
        );
        library::parse("small.yaml", &text).unwrap()
    }

    const CHAIN: &str =
        "planted: [{problem: a chain, rule: SC, severity: warn, services: [web, stock], endpoint: web GET /}]";
    const CIRCLE: &str = "planted: [{problem: a circle, rule: CY, services: [shop, stock]}]";
    const HEALTHY: &str = "absent: [{rule: SC}, {rule: FO, severity: warn}]";

    fn finding(rule: &str, severity: &str, services: &[&str], endpoints: &[&str]) -> Value {
        json!({
            "id": format!("{rule}-000001"), "rule": rule, "severity": severity, "title": "t", "summary": "s",
            "services": services, "endpoints": endpoints, "path": [],
            "evidence": {"n": 100, "linked": "exact", "formula": "f", "depth": {"p95": 6}},
            "why": "w", "suggestions": []
        })
    }

    fn document(findings: &[Value]) -> Document {
        let none = json!({"count": 0, "mean": 0.0, "p50": 0.0, "p95": 0.0, "p99": 0.0, "max": 0.0});
        let few = json!({"mean": 1.0, "p50": 1, "p95": 1, "max": 1});
        let service = |name: &str, exact: u64, unknown: u64| {
            json!({
                "name": name, "kind": "observed", "requests": 100, "failures": 0, "endpoints": 1, "fan_in": 0,
                "fan_out": 1, "links": {"exact": exact, "inferred": 0, "unknown": unknown, "coverage": null},
                "instances": 1, "versions": [], "duration": none
            })
        };
        let edge = |source: &str, destination: &str| {
            json!({
                "source": source, "destination": destination, "calls": 100, "failures": 0, "blocking": 100,
                "blocked_share": 0.5, "duration": none, "circular": false, "endpoints": [],
                "links": {"exact": 100, "inferred": 0, "unknown": 0, "coverage": 1.0}
            })
        };
        serde_json::from_value(json!({
            "version": 1, "name": "small", "window": {"start": 0.0, "end": 1.0}, "requests": 100,
            "links": {"exact": 200, "inferred": 0, "unknown": 100, "coverage": 0.66},
            "services": [service("web", 100, 0), service("shop", 100, 0), service("stock", 0, 100)],
            "edges": [edge("shop", "stock"), edge("web", "shop")],
            "entries": [{
                "id": "0000000000000001", "service": "web", "endpoint": "GET /", "requests": 100, "failures": 0,
                "duration": none, "depth": few, "calls": few, "services": few, "deepest": []
            }],
            "findings": findings, "losses": {}
        }))
        .unwrap()
    }

    fn hundred() -> Tally {
        Tally { sent: 100, ..Tally::default() }
    }

    fn verdict(expectation: &str, findings: &[Value]) -> Verdict {
        judge(&scenario(expectation), &document(findings), hundred(), 8.0)
    }

    #[test]
    fn a_planted_problem_that_is_found_makes_the_verdict_ok() {
        let chain = finding("SC", "critical", &["shop", "stock", "web"], &["shop GET /", "web GET /"]);
        let verdict = verdict(CHAIN, &[chain]);
        assert!(verdict.ok, "{:?}", verdict.reasons);
        assert_eq!(verdict.planted[0].finding.as_deref(), Some("SC-000001"));
        assert_eq!(verdict.findings[0].depth, Some(json!({"p95": 6})));
        assert_eq!((verdict.links.coverage, verdict.links.forwarding_coverage), (Some(2.0 / 3.0), Some(1.0)));
    }

    #[test]
    fn a_planted_problem_is_not_found_by_another_rule_place_or_by_too_mild_a_finding() {
        for other in [
            finding("FO", "critical", &["shop", "stock", "web"], &["web GET /"]),
            finding("SC", "info", &["shop", "stock", "web"], &["web GET /"]),
            finding("SC", "critical", &["shop", "web"], &["web GET /"]),
            finding("SC", "critical", &["shop", "stock", "web"], &["web POST /"]),
        ] {
            let verdict = verdict(CHAIN, std::slice::from_ref(&other));
            assert!(!verdict.ok && !verdict.planted[0].found, "{other}");
            assert_eq!(verdict.reasons, ["not found: a chain (SC)"]);
        }
    }

    #[test]
    fn a_circle_with_another_member_is_not_the_planted_circle() {
        assert!(verdict(CIRCLE, &[finding("CY", "warn", &["shop", "stock"], &[])]).ok);
        assert!(!verdict(CIRCLE, &[finding("CY", "warn", &["shop", "stock", "web"], &[])]).ok);
    }

    #[test]
    fn a_healthy_system_has_none_of_the_findings_that_must_be_absent() {
        let mild = finding("FO", "info", &["web"], &[]);
        assert!(verdict(HEALTHY, &[mild]).ok);
        for alarm in [finding("FO", "warn", &["web"], &[]), finding("SC", "info", &["web"], &[])] {
            let verdict = verdict(HEALTHY, &[alarm]);
            assert!(!verdict.ok);
            assert_eq!(verdict.unexpected.len(), 1);
        }
    }

    #[test]
    fn more_findings_than_planted_are_no_fault_of_the_monolith() {
        let chain = finding("SC", "warn", &["stock", "web"], &["web GET /"]);
        assert!(verdict(CHAIN, &[chain, finding("NP", "warn", &["shop", "stock"], &[])]).ok);
    }

    #[test]
    fn every_request_that_arrived_must_be_counted_once() {
        for (sent, unconnected, ok) in [(100, 0, true), (103, 3, true), (101, 0, false), (99, 0, false)] {
            let tally = Tally { sent, unconnected, failed: unconnected, skipped: 0 };
            assert_eq!(judge(&scenario(HEALTHY), &document(&[]), tally, 8.0).ok, ok, "{tally:?}");
        }
    }

    #[test]
    fn the_graph_has_the_edges_that_were_called_and_no_others() {
        let mut document = document(&[]);
        document.edges[1].destination = "stock".to_owned();
        let verdict = judge(&scenario(HEALTHY), &document, hundred(), 8.0);
        let made_up = "nobody made the calls from web to stock";
        assert_eq!(verdict.reasons, [made_up, "the calls from web to shop were not seen"]);
        assert!(!verdict.ok);
    }

    #[test]
    fn services_that_forward_headers_must_be_linked_by_them() {
        let mut document = document(&[]);
        document.services[0].links.exact = 80;
        document.services[0].links.unknown = 20;
        let verdict = judge(&scenario(HEALTHY), &document, hundred(), 8.0);
        assert!(!verdict.ok);
        assert_eq!(verdict.links.forwarding_coverage, Some(0.9));
    }

    #[test]
    fn an_analyzer_that_saw_nothing_is_no_proof_of_health() {
        let mut document = document(&[]);
        (document.services, document.entries) = (Vec::new(), Vec::new());
        let verdict = judge(&scenario(HEALTHY), &document, Tally::default(), 8.0);
        assert!(!verdict.ok);
        assert!(verdict.reasons.contains(&"no request arrived".to_owned()), "{:?}", verdict.reasons);
    }
}
