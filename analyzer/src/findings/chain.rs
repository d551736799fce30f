//! SC: synchronous chains. A request from outside that is only answered when many others have been, one below another.
//!
//! Judged by the 95th percentile over requests: depth, and only where there is a chain at all, the number of services
//! needed and the number of calls made. One finding per entry.

use std::collections::BTreeMap;

use couplet_config::{FindingThresholds, Levels};
use couplet_telemetry::outcome;
use serde_json::json;

use super::finding::{
    Evidence, Finding, Rule, Severity, Step, chance_of_quantile, confidence, grade, id, sorted, step,
};
use super::words::{count, percent};
use crate::coupling::chain::{QUANTILE, deepest};
use crate::graph::{Entry, Snapshot};

/// From this depth on, needing many services is a matter of chains and not of one wide handler.
const SHALLOWEST: u32 = 2;

pub(super) fn find(snapshot: &Snapshot, thresholds: &FindingThresholds) -> Vec<Finding> {
    let enough = |entry: &&Entry| entry.stats.outcomes.total() >= thresholds.min_samples;
    snapshot.entries().iter().filter(enough).filter_map(|entry| judge(snapshot, entry, thresholds)).collect()
}

/// What makes the finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Depth,
    Services,
    Calls,
}

fn judge(snapshot: &Snapshot, entry: &Entry, thresholds: &FindingThresholds) -> Option<Finding> {
    let levels = &thresholds.chain;
    let stats = &entry.stats;
    let measures = [&stats.depth_below, &stats.services_below, &stats.calls_below];
    let [depth, services, calls] = measures.map(|counts| counts.quantile(QUANTILE));
    // Width alone is information at most, and there is another finding for it.
    let wide = |grade: Option<Severity>| grade.filter(|grade| depth >= SHALLOWEST && *grade >= Severity::Warn);
    let (severity, cause) = gravest([
        (grade(depth, &levels.depth), Cause::Depth),
        (wide(grade(services, &levels.services)), Cause::Services),
        (wide(grade(calls, &levels.calls)), Cause::Calls),
    ])?;

    let n = stats.outcomes.total();
    let root = step(snapshot, entry.endpoint);
    let chain = deepest(snapshot, entry)?;
    let path: Vec<Step> = chain.steps.iter().map(|endpoint| step(snapshot, *endpoint)).collect();
    let linked = linked(&chain.evidence, entry, snapshot);
    let (counts, levels_of_cause) = match cause {
        Cause::Depth => (&stats.depth_below, &levels.depth),
        Cause::Services => (&stats.services_below, &levels.services),
        Cause::Calls => (&stats.calls_below, &levels.calls),
    };
    let above = counts.at_least(level(severity, levels_of_cause));
    let entry_label = snapshot.label(entry.endpoint);
    let services_on_path = sorted(path.iter().map(|step| step.service.clone()));
    let distinct = services_on_path.len();
    let title = match cause {
        // A chain that comes back to a service has fewer services than hops.
        Cause::Depth if distinct <= depth as usize => format!("{entry_label} waits for a chain of {depth} hops"),
        Cause::Depth => format!("{entry_label} waits for a chain of {depth} services"),
        Cause::Services => format!("{entry_label} needs {services} services at once"),
        Cause::Calls => format!("{entry_label} takes {calls} calls for one request"),
    };
    let share = stats.depth_below.at_least(levels.depth.warn) as f64 / n.max(1) as f64;
    let median = [&stats.depth_below, &stats.services_below, &stats.calls_below].map(|counts| counts.quantile(0.5));
    let (who, compared) = if median == [depth, services, calls] {
        ("A typical request", String::new())
    } else {
        ("1 of 20 requests", format!(" or more (the median: {}, {} and {})", median[0], median[1], median[2]))
    };
    let summary = format!(
        "{who} goes {} deep, needs {} and makes {} before it is answered{compared}. \
         {} of {n} requests are at least {} hops deep.",
        count(depth.into(), "hop", "hops"),
        count(services.into(), "other service", "other services"),
        count(calls.into(), "call", "calls"),
        percent(share),
        levels.depth.warn,
    );
    Some(Finding {
        id: id(Rule::SC, "", [root.service.as_str(), &entry_label]),
        rule: Rule::SC,
        severity,
        title,
        summary,
        services: services_on_path,
        endpoints: vec![entry_label],
        evidence: Evidence {
            n,
            linked,
            confidence: confidence(chance_of_quantile(above, n), linked),
            formula:
                "depth = most service changes on one chain of blocking calls; services = distinct other services, \
                      calls = blocking calls, both anywhere below; each judged by its 95th percentile over n requests"
                    .to_owned(),
            operands: BTreeMap::from([
                ("calls".to_owned(), json!(stats.calls_below.quantiles())),
                ("cause".to_owned(), json!(cause.as_str())),
                ("depth".to_owned(), json!(stats.depth_below.quantiles())),
                ("path_calls".to_owned(), json!(chain.calls)),
                ("services".to_owned(), json!(stats.services_below.quantiles())),
                ("share_over_warn".to_owned(), json!(super::words::rounded(share))),
                ("threshold".to_owned(), json!(levels)),
            ]),
        },
        why: why(depth, services, cause),
        suggestions: suggestions(&path, cause),
        path,
        owners: Vec::new(),
        examples: Vec::new(),
    })
}

impl Cause {
    fn as_str(self) -> &'static str {
        match self {
            Cause::Depth => "depth",
            Cause::Services => "services",
            Cause::Calls => "calls",
        }
    }
}

/// The value from which on something has this severity.
fn level(severity: Severity, levels: &Levels) -> u32 {
    match severity {
        Severity::Info => levels.info,
        Severity::Warn => levels.warn,
        Severity::Critical => levels.critical,
    }
}

/// The gravest; of equals the first.
fn gravest(grades: [(Option<Severity>, Cause); 3]) -> Option<(Severity, Cause)> {
    let graded = grades.into_iter().filter_map(|(severity, cause)| Some((severity?, cause)));
    graded.rev().max_by_key(|(severity, _)| *severity)
}

/// How surely the chain is one: its weakest link, and that of the root itself.
fn linked(chain: &outcome::Evidence, entry: &Entry, snapshot: &Snapshot) -> outcome::Evidence {
    entry.roots.iter().map(|root| snapshot[*root].evidence).fold(*chain, Ord::max)
}

fn why(depth: u32, services: u32, cause: Cause) -> String {
    let needed = if cause == Cause::Depth { depth } else { services.max(depth) };
    let at_best = 0.99_f64.powi(i32::try_from(needed).unwrap_or(i32::MAX)) * 100.0;
    let parts = match cause {
        Cause::Depth => "Every hop of a chain adds its latency to the answer",
        Cause::Services => "Every service that must answer first adds its own bad moments to the request",
        Cause::Calls => "Every call that must return first adds its latency and its chance to fail",
    };
    format!(
        "{parts}, and the request fails when one of them does. \
         With {needed} services below that are each available 99 % of the time, at best {at_best:.1} % of the requests \
         succeed."
    )
}

fn suggestions(path: &[Step], cause: Cause) -> Vec<String> {
    let mut all = Vec::new();
    if let [.., caller, callee] = path {
        all.push(format!(
            "Ask whether {} must have the answer of {} before it replies itself; if not, hand the work over through a \
             queue or an event.",
            caller.service, callee.service
        ));
    }
    all.push(match cause {
        Cause::Depth => "Let a service near the entry keep its own copy of the data that now comes from the end of \
                         the chain (a cache, a read model fed by events)."
            .to_owned(),
        Cause::Services => "Decide which of these services the answer really needs, and load the rest later or leave \
                            it out when it is slow."
            .to_owned(),
        Cause::Calls => {
            "Offer calls that answer for several items at once, so that one request needs fewer of them.".to_owned()
        }
    });
    if let [_, inner @ ..] = path
        && let [first, second, ..] = inner
    {
        all.push(format!(
            "Check whether {} only passes requests on to {}: two services that always answer together may be one.",
            first.service, second.service
        ));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::{Request, chain, on, traffic};

    #[test]
    fn a_chain_is_as_grave_as_it_is_deep() {
        let severity =
            |services: &[&str]| traffic().of(100, &chain(services)).finds(Rule::SC).first().map(|f| f.severity);
        assert_eq!(severity(&["a", "b", "c"]), None);
        assert_eq!(severity(&["a", "b", "c", "d"]), Some(Severity::Info));
        assert_eq!(severity(&["a", "b", "c", "d", "e"]), Some(Severity::Warn));
        assert_eq!(severity(&["a", "b", "c", "d", "e", "f"]), Some(Severity::Warn));
        assert_eq!(severity(&["a", "b", "c", "d", "e", "f", "g"]), Some(Severity::Critical));
    }

    #[test]
    fn a_finding_names_the_chain_service_by_service() {
        let found = traffic().of(100, &chain(&["a", "b", "c", "d", "e"])).finds(Rule::SC);
        let [finding] = &found[..] else { panic!("{found:?}") };
        assert_eq!(finding.title, "a GET / waits for a chain of 4 services");
        assert_eq!(
            finding.path.iter().map(|step| step.service.as_str()).collect::<Vec<_>>(),
            ["a", "b", "c", "d", "e"]
        );
        assert_eq!(finding.evidence.operands["depth"]["p95"], 4);
        assert_eq!(finding.evidence.n, 100);
        assert!(finding.why.contains("96.1 %"), "{}", finding.why);
    }

    #[test]
    fn calls_of_a_service_to_itself_are_no_hops() {
        let inner =
            on("a", "GET /2").calls(1, on("a", "GET /3").calls(1, on("a", "GET /4").calls(1, chain(&["b", "c"]))));
        assert_eq!(traffic().of(100, &on("a", "GET /1").calls(1, inner)).finds(Rule::SC), []);
    }

    #[test]
    fn what_nobody_waits_for_is_no_chain() {
        let deep = on("a", "GET /").calls(1, chain(&["b", "c", "d", "e", "f"]).later());
        let found = traffic().of(100, &deep).finds(Rule::SC);
        assert_eq!(found, [], "the root answers without them");
    }

    #[test]
    fn rare_deep_requests_do_not_make_a_chain_but_one_in_ten_do() {
        let mixed = |deep, flat| {
            let shallow = on("a", "GET /");
            traffic().of(deep, &chain(&["a", "b", "c", "d", "e"])).of(flat, &shallow).finds(Rule::SC).len()
        };
        assert_eq!(mixed(4, 96), 0);
        assert_eq!(mixed(10, 90), 1);
    }

    #[test]
    fn a_flat_request_over_many_services_is_not_a_chain_but_a_layered_one_needs_them_at_once() {
        let leaves =
            |names: &[&str], root: Request| names.iter().fold(root, |root, name| root.calls(1, on(name, "GET /")));
        let flat = leaves(&["b", "c", "d", "e", "f", "g"], on("a", "GET /"));
        assert_eq!(traffic().of(100, &flat).finds(Rule::SC), []);
        let layered = on("a", "GET /").calls(1, leaves(&["c", "d", "e", "f", "g"], on("b", "GET /")));
        let found = traffic().of(100, &layered).finds(Rule::SC);
        let [finding] = &found[..] else { panic!("{found:?}") };
        assert_eq!((finding.severity, finding.title.as_str()), (Severity::Warn, "a GET / needs 6 services at once"));
    }

    #[test]
    fn a_service_that_does_not_report_is_still_the_end_of_a_chain() {
        let root = on("a", "GET /")
            .calls(1, on("b", "GET /").calls(1, on("c", "GET /").calls(1, on("db", "query").external())));
        let found = traffic().of(100, &root).finds(Rule::SC);
        assert_eq!(found[0].path.last().map(|step| step.service.as_str()), Some("db"));
    }

    #[test]
    fn pieces_of_a_chain_are_not_joined() {
        let found =
            traffic().of(100, &chain(&["a", "b", "c"])).unlinked(100, "c", &chain(&["d", "e", "f"])).finds(Rule::SC);
        assert_eq!(found, []);
    }

    #[test]
    fn nothing_is_said_below_the_number_of_samples() {
        let deep = chain(&["a", "b", "c", "d", "e"]);
        assert_eq!(traffic().of(49, &deep).finds(Rule::SC).len(), 0);
        assert_eq!(traffic().of(50, &deep).finds(Rule::SC).len(), 1);
    }

    #[test]
    fn a_chain_that_comes_back_is_counted_in_hops() {
        let found = traffic().of(100, &chain(&["a", "b", "c", "a", "d"])).finds(Rule::SC);
        assert_eq!(found[0].title, "a GET / waits for a chain of 4 hops");
    }
}
