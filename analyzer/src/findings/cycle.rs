//! CY: circular flows. One finding per circle, whichever way requests take round it.
//!
//! - A circle that single requests close, between endpoints that can reach themselves again: a real recursion. Critical.
//! - A circle that single requests close, through endpoints that do not: A needs B needs another part of A. A warning.
//! - Endpoints that can reach themselves again, though no request was seen to do so: a warning, because nothing but the
//!   data keeps requests from going round.
//! - Services that depend on one another through different requests only: information.

use std::collections::{BTreeMap, BTreeSet};

use couplet_config::FindingThresholds;
use couplet_telemetry::outcome;
use serde_json::json;

use super::finding::{Evidence, Finding, Rule, Severity, Step, confidence, id, sorted, step};
use super::words::{count, way};
use crate::coupling::cycles::{closed, endpoint_components, service_components};
use crate::graph::{EndpointIx, ServiceIx, Snapshot};

pub(super) fn find(snapshot: &Snapshot, thresholds: &FindingThresholds) -> Vec<Finding> {
    let min = thresholds.min_samples.max(1);
    let closed = closed(snapshot).cycles;
    let recursions = endpoint_components(snapshot, min);
    let mut circles: Vec<Circle> = closed
        .into_iter()
        .filter(|cycle| cycle.calls >= min)
        .map(|cycle| {
            let recursion = recursions.iter().any(|component| contains(&component.services, &cycle.services));
            let kind = if recursion { Kind::Recursion } else { Kind::Closed };
            Circle { kind, services: cycle.services, steps: cycle.steps, n: cycle.calls, linked: Some(cycle.evidence) }
        })
        .collect();
    // A component says something new only about services that no circle before has named.
    let statics = recursions.into_iter().map(|component| (Kind::Possible, component));
    let statics =
        statics.chain(service_components(snapshot, min).into_iter().map(|component| (Kind::Layers, component)));
    for (kind, component) in statics {
        let named: BTreeSet<ServiceIx> = circles
            .iter()
            .filter(|circle| contains(&component.services, &circle.services))
            .flat_map(|circle| circle.services.iter().copied())
            .collect();
        if component.services.iter().any(|service| !named.contains(service)) {
            let (services, steps, n) = (component.services, component.steps, component.calls);
            circles.push(Circle { kind, services, steps, n, linked: None });
        }
    }
    circles.iter().map(|circle| finding(snapshot, circle)).collect()
}

#[derive(Debug)]
struct Circle {
    kind: Kind,
    services: Vec<ServiceIx>,
    steps: Vec<EndpointIx>,
    n: u64,
    /// The weakest link of a request that closed it.
    linked: Option<outcome::Evidence>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Recursion,
    Closed,
    Possible,
    Layers,
}

impl Kind {
    fn severity(self) -> Severity {
        match self {
            Kind::Recursion => Severity::Critical,
            Kind::Closed | Kind::Possible => Severity::Warn,
            Kind::Layers => Severity::Info,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Kind::Recursion => "recursion",
            Kind::Closed => "closed",
            Kind::Possible => "possible",
            Kind::Layers => "layers",
        }
    }
}

fn finding(snapshot: &Snapshot, circle: &Circle) -> Finding {
    let path: Vec<Step> = circle.steps.iter().map(|endpoint| step(snapshot, *endpoint)).collect();
    let services = sorted(circle.services.iter().map(|service| snapshot[*service].name.to_string()));
    let round = way(path.iter().map(|step| step.service.as_str()));
    let title = match circle.kind {
        Kind::Recursion | Kind::Closed => format!("Requests go in a circle: {round}"),
        Kind::Possible => format!("Requests could go in a circle: {round}"),
        Kind::Layers => {
            format!("{} depend on one another: {round}", count(services.len() as u64, "service", "services"))
        }
    };
    let summary = match circle.kind {
        Kind::Recursion => format!(
            "{} came back to a service that was still waiting further up in the same request, and the endpoints on the \
             way can reach themselves again.",
            count(circle.n, "call", "calls")
        ),
        Kind::Closed => format!(
            "{} came back to a service that was still waiting further up in the same request, at another endpoint.",
            count(circle.n, "call", "calls")
        ),
        Kind::Possible => format!(
            "The endpoints on the way call one another in a circle; the rarest of these calls was seen {}. No single \
             request was seen to go all the way round.",
            count(circle.n, "time", "times")
        ),
        Kind::Layers => format!(
            "Different requests call in both directions; the rarest of these calls was seen {}. No single request was \
             seen to go all the way round.",
            count(circle.n, "time", "times")
        ),
    };
    let linked = circle.linked.unwrap_or_else(|| weakest_link(snapshot, &circle.services));
    Finding {
        id: id(Rule::CY, "", services.iter().map(String::as_str)),
        rule: Rule::CY,
        severity: circle.kind.severity(),
        title,
        summary,
        endpoints: sorted(circle.steps.iter().filter(|at| snapshot[**at].is_one()).map(|at| snapshot.label(*at))),
        evidence: Evidence {
            n: circle.n,
            linked,
            confidence: confidence(1.0, linked),
            formula: "closed = calls that enter a service which is a proper ancestor of itself on the same path, with \
                      another service between; else the strongly connected components of the graph of endpoints \
                      (possible) and of services (layers), n = calls on the weakest edge of the way round"
                .to_owned(),
            operands: BTreeMap::from([
                ("kind".to_owned(), json!(circle.kind.as_str())),
                ("members".to_owned(), json!(services.len())),
            ]),
        },
        why: why(circle.kind).to_owned(),
        suggestions: suggestions(circle.kind, &path),
        services,
        path,
        owners: Vec::new(),
        examples: Vec::new(),
    }
}

fn why(kind: Kind) -> &'static str {
    match kind {
        Kind::Recursion | Kind::Closed | Kind::Possible => {
            "A request that comes back holds several handlers of the same service at once, so under load they can all \
             wait for one another. None of these services can be changed, deployed or understood without the others."
        }
        Kind::Layers => {
            "Services that need one another in both directions have no order in which they can be started, deployed or \
             tested. They tend to grow together."
        }
    }
}

fn suggestions(kind: Kind, path: &[Step]) -> Vec<String> {
    let mut all = Vec::new();
    if let [.., before, last] = path {
        all.push(format!(
            "Let {} be given what it now asks {} for: as part of the request, or through an event.",
            before.service, last.service
        ));
        all.push(format!(
            "Move what both need out of {} into a service of its own, below both, so that calls only go downward.",
            last.service
        ));
    }
    if kind != Kind::Layers {
        all.push("Until then, keep separate limits for calls from outside and for calls that come back.".to_owned());
    }
    all
}

/// How surely the calls among services are linked to handlers; what is not linked is only known as an edge.
fn weakest_link(snapshot: &Snapshot, services: &[ServiceIx]) -> outcome::Evidence {
    let inside = |service: &ServiceIx| services.binary_search(service).is_ok();
    let edges = snapshot.edges().iter().filter(|edge| inside(&edge.source) && inside(&edge.destination));
    let worst = |edge: &crate::graph::Edge| {
        let seen = |evidence: &outcome::Evidence| edge.client.links().get(*evidence) > 0;
        outcome::Evidence::ALL.into_iter().rev().find(seen).unwrap_or(outcome::Evidence::Unknown)
    };
    edges.map(worst).max().unwrap_or(outcome::Evidence::Unknown)
}

/// Whether all of `few` are among `many`; both ascending.
fn contains(many: &[ServiceIx], few: &[ServiceIx]) -> bool {
    few.iter().all(|service| many.binary_search(service).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::{chain, on, traffic};

    fn only(found: Vec<Finding>) -> Finding {
        let [finding] = <[Finding; 1]>::try_from(found).expect("one finding");
        finding
    }

    #[test]
    fn a_request_that_comes_back_to_another_endpoint_is_a_warning() {
        let round = on("orders", "POST /orders")
            .calls(1, on("billing", "POST /bills").calls(1, on("orders", "GET /orders/{id}")));
        let finding = only(traffic().of(100, &round).finds(Rule::CY));
        assert_eq!(
            (finding.severity, finding.title.as_str()),
            (Severity::Warn, "Requests go in a circle: orders → billing → orders")
        );
        assert_eq!(finding.services, ["billing", "orders"]);
        assert_eq!(finding.path.last().map(|step| step.endpoint.as_str()), Some("GET /orders/{id}"));
    }

    #[test]
    fn a_request_that_can_go_round_again_is_critical() {
        let finding = only(traffic().of(100, &chain(&["a", "b", "c", "a", "b"])).finds(Rule::CY));
        assert_eq!(finding.severity, Severity::Critical);
        assert_eq!(finding.services, ["a", "b", "c"]);
    }

    #[test]
    fn endpoints_in_a_circle_that_no_request_closed_are_a_warning() {
        let finding = only(traffic().of(100, &chain(&["a", "b"])).of(100, &chain(&["b", "a"])).finds(Rule::CY));
        assert_eq!((finding.severity, finding.evidence.operands["kind"].as_str()), (Severity::Warn, Some("possible")));
    }

    #[test]
    fn services_that_call_one_another_at_unrelated_endpoints_are_information() {
        let there = on("a", "GET /1").calls(1, on("b", "GET /2"));
        let back = on("b", "GET /3").calls(1, on("a", "GET /4"));
        let finding = only(traffic().of(100, &there).of(100, &back).finds(Rule::CY));
        assert_eq!((finding.severity, finding.evidence.operands["kind"].as_str()), (Severity::Info, Some("layers")));
        assert_eq!(finding.path.len(), 3);
    }

    #[test]
    fn chains_diamonds_and_services_that_call_themselves_are_no_circle() {
        let diamond = on("a", "GET /").calls(1, chain(&["b", "d"])).calls(1, chain(&["c", "d"]));
        assert_eq!(traffic().of(100, &diamond).of(100, &chain(&["a", "a", "a", "b"])).finds(Rule::CY), []);
    }

    #[test]
    fn a_circle_is_one_finding_whichever_way_requests_enter_it() {
        let found =
            traffic().of(100, &chain(&["x", "a", "b", "a"])).of(100, &chain(&["y", "b", "a", "b"])).finds(Rule::CY);
        assert_eq!(only(found).services, ["a", "b"]);
    }

    #[test]
    fn a_circle_that_was_seen_too_seldom_is_not_reported() {
        let round = on("a", "GET /1").calls(1, on("b", "GET /2").calls(1, on("a", "GET /3")));
        assert_eq!(traffic().of(49, &round).finds(Rule::CY), []);
        assert_eq!(traffic().of(50, &round).finds(Rule::CY).len(), 1);
    }

    #[test]
    fn the_other_services_beyond_the_limit_make_no_circle() {
        let there = chain(&["a", "(other)", "b", "(other)"]);
        let found = traffic().of(100, &there).of(100, &chain(&["(other)", "a"])).finds(Rule::CY);
        assert_eq!(found, []);
    }
}
