//! BR: blast radius. A service whose failure takes a large share of all requests from outside with it.
//!
//! Graded by what was proven: failures that were seen to reach the caller. Where a service has hardly ever failed, the
//! radius that the structure allows is information.

use std::collections::BTreeMap;

use couplet_telemetry::outcome;
use serde_json::json;

use super::case::Case;
use super::finding::{Evidence, Finding, Rule, Severity, confidence, grade_share, id};
use super::words::{count, percent, rounded};
use crate::coupling::blast::{Radius, radii};
use crate::graph::ServiceIx;

pub(super) fn find(case: &Case<'_>) -> Vec<Finding> {
    let radii = radii(case.snapshot, case.flows, case.thresholds.min_failures);
    // In a system of few entries everything is needed by half of them.
    let many = case.entries() as u64 >= case.thresholds.single_point.min_entries;
    let requests = case.flows.requests();
    radii.into_iter().filter_map(|(service, radius)| judge(case, service, &radius, many, requests)).collect()
}

fn judge(case: &Case<'_>, service: ServiceIx, radius: &Radius, many: bool, requests: u64) -> Option<Finding> {
    let levels = &case.thresholds.blast;
    if radius.requests < case.thresholds.min_samples || !case.is_one(service) {
        return None;
    }
    let proven = grade_share(radius.proven, levels);
    // What is known to be caught is no threat; what is unknown is worth knowing where it is large.
    let feared = (many && radius.effective >= levels.critical).then_some(Severity::Info);
    let severity = proven.or(feared)?;
    let name = case.name(service);
    let seen = proven.is_some();
    let linked = outcome::Evidence::Exact;
    let title = if seen {
        format!("When {name} fails, {} of all requests fail", percent(radius.proven))
    } else {
        format!("{} of all requests wait for {name}", percent(radius.structural))
    };
    let known = if seen {
        "Failures were seen to reach the callers."
    } else {
        "It has not failed often enough to know who copes without it."
    };
    Some(Finding {
        id: id(Rule::BR, "", [name.as_str()]),
        rule: Rule::BR,
        severity,
        title,
        summary: format!(
            "It is needed by {}, with {} of all requests. If nobody coped, {} of all requests would fail with it; judged by what was \
             seen, {}. {known}",
            count(radius.entries, "entry", "entries"),
            percent(radius.requests as f64 / requests.max(1) as f64),
            percent(radius.structural),
            percent(if seen { radius.proven } else { radius.effective }),
        ),
        services: vec![name.clone()],
        endpoints: Vec::new(),
        evidence: Evidence {
            n: radius.requests,
            linked,
            confidence: confidence(1.0, linked),
            formula: "f(x) = 1 − Π over the calls of x of (1 − p · λ · f(callee)), f = 1 where it fails; summed over the entries by \
                      their share of n. structural: λ = 1; proven: λ as measured, 0 where unknown; effective: 1 where unknown"
                .to_owned(),
            operands: BTreeMap::from([
                ("effective".to_owned(), json!(rounded(radius.effective))),
                ("entries".to_owned(), json!(radius.entries)),
                ("proven".to_owned(), json!(rounded(radius.proven))),
                ("structural".to_owned(), json!(rounded(radius.structural))),
                ("threshold".to_owned(), json!(levels)),
            ]),
        },
        why: format!(
            "An outage, a bad deployment or a slow hour of {name} is one of everything that waits for it. The gap between what \
             could fail and what does is the worth of the fallbacks that are there."
        ),
        suggestions: vec![
            format!("Put a breaker with a fallback around the calls to {name}, where most requests come from first."),
            format!("Let those who read from {name} keep a copy that is good enough for minutes."),
            format!("Split {name} so that what all need can be run, deployed and scaled apart from the rest."),
        ],
        path: Vec::new(),
        owners: Vec::new(),
 examples: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::{chain, on, traffic};

    /// `with` requests of 100 need `core`; in 25 of them it fails, and takes them down or not.
    fn found(with: u32, falls: bool) -> Option<Finding> {
        let down = on("web", "GET /").calls(1, on("core", "GET /").fails());
        let down = if falls { down.fails() } else { down };
        let all = traffic().of(25, &down).of(with - 25, &chain(&["web", "core"])).of(100 - with, &on("api", "GET /"));
        all.finds(Rule::BR).into_iter().find(|finding| finding.services == ["core"])
    }

    #[test]
    fn a_service_that_takes_a_quarter_down_is_a_warning_and_half_is_critical() {
        // 25 of 100 need samples of their own: the smallest system here has 50 of 100.
        assert_eq!(found(50, true).map(|finding| finding.severity), Some(Severity::Critical));
        let a_third = traffic()
            .of(60, &on("web", "GET /").fails().calls(1, on("core", "GET /").fails()))
            .of(120, &on("api", "GET /"))
            .finds(Rule::BR);
        assert_eq!(a_third[0].severity, Severity::Warn);
        let a_fifth = traffic()
            .of(60, &on("web", "GET /").fails().calls(1, on("core", "GET /").fails()))
            .of(240, &on("api", "GET /"))
            .finds(Rule::BR);
        assert_eq!(a_fifth, []);
    }

    #[test]
    fn a_service_without_which_all_cope_is_none() {
        assert_eq!(found(100, false), None);
    }

    #[test]
    fn a_service_that_never_failed_is_information_where_half_of_all_wait_for_it() {
        assert_eq!(traffic().of(100, &chain(&["web", "core"])).finds(Rule::BR), [], "a system of one entry");
        let needs = |times| {
            let others = (0..4).fold(traffic(), |all, n| all.of(50, &on("api", &format!("GET /{n}/x"))));
            others.of(times, &chain(&["web", "core"])).finds(Rule::BR)
        };
        assert_eq!(needs(199), []);
        let found = needs(200);
        assert_eq!(
            (found[0].severity, found[0].title.as_str()),
            (Severity::Info, "50 % of all requests wait for core")
        );
    }
}
