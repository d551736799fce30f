//! HB: hubs. A service that many call and that calls many: whatever happens in the system happens through it.
//!
//! Gateways and BFFs are exempt: they are hubs by design.

use std::collections::BTreeMap;

use couplet_telemetry::outcome;
use serde_json::json;

use super::case::Case;
use super::finding::{Evidence, Finding, Rule, Severity, confidence, id};
use super::words::{percent, rounded};
use crate::coupling::hub::{FAR_OUT, Share, scores, shares};
use crate::graph::ServiceIx;

pub(super) fn find(case: &Case<'_>) -> Vec<Finding> {
    let snapshot = case.snapshot;
    // Edges that were hardly used are no ground for anything.
    let mut degrees = vec![(0_u64, 0_u64); snapshot.services().len()];
    let edges = snapshot.edges().iter().filter(|edge| edge.calls() >= case.thresholds.min_samples);
    for edge in edges.filter(|edge| case.is_one(edge.source) && case.is_one(edge.destination)) {
        if let Some((_, callees)) = degrees.get_mut(edge.source.position()) {
            *callees += 1;
        }
        if let Some((callers, _)) = degrees.get_mut(edge.destination.position()) {
            *callers += 1;
        }
    }
    let floor = &case.thresholds.hub;
    let hubs: Vec<_> = snapshot
        .service_indices()
        .zip(degrees)
        .filter(|(service, (callers, callees))| {
            *callers >= floor.callers && *callees >= floor.callees && case.is_one(*service) && !case.is_front(*service)
        })
        .collect();
    if hubs.is_empty() {
        return Vec::new();
    }
    let (scores, shares) = (scores(snapshot), shares(case.flows));
    let judged = |(service, degree): (ServiceIx, (u64, u64))| {
        let score = scores.get(service.position()).copied().unwrap_or(0.0);
        finding(case, service, degree, score, shares.get(&service).copied().unwrap_or_default())
    };
    hubs.into_iter().map(judged).collect()
}

fn finding(case: &Case<'_>, service: ServiceIx, (callers, callees): (u64, u64), score: f64, share: Share) -> Finding {
    let name = case.name(service);
    // In a small system anybody with some connections is far out.
    let floor = &case.thresholds.hub;
    let large = callers >= floor.callers.saturating_mul(2) && callees >= floor.callees.saturating_mul(2);
    let far_out = score > FAR_OUT && large;
    let linked = outcome::Evidence::Exact;
    let compared = if far_out { " No other service is nearly as connected." } else { "" };
    Finding {
        id: id(Rule::HB, "", [name.as_str()]),
        rule: Rule::HB,
        severity: if far_out { Severity::Critical } else { Severity::Warn },
        title: format!("{name} stands between {callers} callers and {callees} callees"),
        summary: format!(
            "{} of the requests from outside pass through it, and {} of the calls that they cause are made by it.{compared}",
            percent(share.flows),
            percent(share.orchestration),
        ),
        services: vec![name.clone()],
        endpoints: Vec::new(),
        evidence: Evidence {
            n: case.snapshot[service].outcomes.total(),
            linked,
            confidence: confidence(1.0, linked),
            formula: "callers (AIS) and callees (ADS) over edges with enough calls, both at or above the threshold; z = robust \
                      z-score of log(1 + degree), critical above 3.5 and from twice the threshold on; ACS = AIS · ADS"
                .to_owned(),
            operands: BTreeMap::from([
                ("acs".to_owned(), json!(callers * callees)),
                ("ads".to_owned(), json!(callees)),
                ("ais".to_owned(), json!(callers)),
                ("flow_share".to_owned(), json!(rounded(share.flows))),
                ("orchestration".to_owned(), json!(rounded(share.orchestration))),
                ("threshold".to_owned(), json!(case.thresholds.hub)),
                ("z".to_owned(), json!(rounded(score))),
            ]),
        },
        why: format!(
            "Everybody who changes anything meets {name}, and everybody who waits in a queue waits in its queue. It is the one \
             place that all teams must agree on."
        ),
        suggestions: vec![
            format!("Look at which callers use which callees through {name}: groups that do not mix can become services of their own."),
            format!("Let callers that {name} only passes on ask the callee themselves."),
            format!("Turn steps that {name} orchestrates one by one into events that the callees follow by themselves."),
        ],
        path: Vec::new(),
        owners: Vec::new(),
 examples: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::findings::findings;
    use crate::traffic::{on, traffic};
    use couplet_config::{Architecture, ConfigFile, FindingThresholds, Sources};

    fn star(callers: u32, callees: u32) -> crate::traffic::Traffic {
        let hub =
            (0..callees).fold(on("hub", "GET /").takes(50), |hub, n| hub.calls(1, on(&format!("leaf{n}"), "GET /")));
        (0..callers).fold(traffic(), |all, n| all.of(50, &on(&format!("caller{n}"), "GET /").calls(1, hub.clone())))
    }

    #[test]
    fn five_callers_and_five_callees_make_a_hub() {
        assert_eq!(star(4, 5).finds(Rule::HB), []);
        assert_eq!(star(5, 4).finds(Rule::HB), []);
        let found = star(5, 5).finds(Rule::HB);
        let [finding] = &found[..] else { panic!("{found:?}") };
        assert_eq!((finding.severity, finding.services.as_slice()), (Severity::Warn, &["hub".to_owned()][..]));
        assert_eq!(
            (&finding.evidence.operands["flow_share"], &finding.evidence.operands["acs"]),
            (&json!(1.0), &json!(25))
        );
    }

    #[test]
    fn a_hub_that_is_far_out_is_critical() {
        assert_eq!(star(20, 20).finds(Rule::HB)[0].severity, Severity::Critical);
    }

    #[test]
    fn what_the_architecture_calls_a_gateway_is_no_hub() {
        let file = ConfigFile::from_bytes("a.yaml", "services: {hub: {role: gateway}}").unwrap();
        let architecture = Architecture::load(&Sources { file: Some(file), ..Sources::new(&|_| None) }).unwrap();
        let found = findings(&star(5, 5).snapshot(), &FindingThresholds::default(), &architecture);
        assert!(found.iter().all(|finding| finding.rule != Rule::HB), "{found:?}");
    }
}
