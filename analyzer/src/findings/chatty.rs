//! CH: chatty pairs. Two services that talk back and forth many times for one request of an entry.
//!
//! Calls of one endpoint over and over are reported as repeated calls (NP) and not again here.

use std::collections::{BTreeMap, BTreeSet};

use couplet_telemetry::outcome;
use serde_json::json;

use super::case::Case;
use super::finding::{Evidence, Finding, Rule, confidence, grade_warn, id, sorted};
use super::repeat::repeats;
use super::words::{percent, rounded};
use crate::coupling::flow::Flow;
use crate::graph::{EntryIx, ServiceIx};

/// What two services say to one another for the requests of one entry.
struct Talk {
    entry: EntryIx,
    requests: u64,
    /// Calls per request, both directions.
    calls: f64,
    /// Those from the second service to the first.
    back: f64,
}

pub(super) fn find(case: &Case<'_>) -> Vec<Finding> {
    let mut loudest: BTreeMap<(ServiceIx, ServiceIx), Talk> = BTreeMap::new();
    case.flows.each(&mut |flow| {
        if flow.requests < case.thresholds.min_samples {
            return;
        }
        for (pair, (there, back)) in talks(flow) {
            let (calls, back) = (flow.per_request(there.saturating_add(back)), flow.per_request(back));
            let talk = Talk { entry: flow.entry, requests: flow.requests, calls, back };
            match loudest.get(&pair) {
                Some(known) if known.calls >= talk.calls => {}
                _ => drop(loudest.insert(pair, talk)),
            }
        }
    });
    let repeated = repeated(case);
    let fresh = |(pair, _): &(&(ServiceIx, ServiceIx), _)| !repeated.contains(pair);
    loudest.iter().filter(fresh).filter_map(|(pair, talk)| judge(case, *pair, talk)).collect()
}

/// Calls between every two services, from the lesser to the greater and back.
fn talks(flow: &Flow) -> BTreeMap<(ServiceIx, ServiceIx), (u64, u64)> {
    let mut talks: BTreeMap<(ServiceIx, ServiceIx), (u64, u64)> = BTreeMap::new();
    for node in &flow.nodes {
        let Some(above) = flow.parent(node) else { continue };
        let there = above.service < node.service;
        let pair = if there { (above.service, node.service) } else { (node.service, above.service) };
        let slot = talks.entry(pair).or_default();
        let slot = if there { &mut slot.0 } else { &mut slot.1 };
        *slot = slot.saturating_add(node.calls);
    }
    talks
}

fn repeated(case: &Case<'_>) -> BTreeSet<(ServiceIx, ServiceIx)> {
    let snapshot = case.snapshot;
    repeats(snapshot, snapshot.pairs(), &case.thresholds)
        .map(|repeat| (snapshot[repeat.pair.source].service, snapshot[repeat.pair.destination].service))
        .map(|(a, b)| if a < b { (a, b) } else { (b, a) })
        .collect()
}

fn judge(case: &Case<'_>, (a, b): (ServiceIx, ServiceIx), talk: &Talk) -> Option<Finding> {
    let levels = &case.thresholds.chatty;
    let severity = grade_warn(talk.calls.floor() as u32, levels).filter(|_| case.is_one(a) && case.is_one(b))?;
    let (first, second) = (case.name(a), case.name(b));
    let label = case.snapshot.label(case.snapshot[talk.entry].endpoint);
    let linked = outcome::Evidence::Exact;
    let both = talk.back > 0.0 && talk.back < talk.calls;
    Some(Finding {
        id: id(Rule::CH, "", [first.as_str(), second.as_str()]),
        rule: Rule::CH,
        severity,
        title: format!("{first} and {second} exchange {:.1} calls for one request", talk.calls),
        summary: format!(
            "For one request of {label}, on average over {} requests.{}",
            talk.requests,
            if both { format!(" {} of the calls go the other way.", percent((talk.back / talk.calls).min(1.0 - talk.back / talk.calls))) } else { String::new() }
        ),
        services: sorted([first.clone(), second.clone()]),
        endpoints: vec![label],
        evidence: Evidence {
            n: talk.requests,
            linked,
            confidence: confidence(1.0, linked),
            formula: "calls between the two services in both directions, at all endpoints, ÷ n requests of the entry where they \
                      talk most"
                .to_owned(),
            operands: BTreeMap::from([
                ("back".to_owned(), json!(rounded(talk.back))),
                ("calls".to_owned(), json!(rounded(talk.calls))),
                ("threshold".to_owned(), json!(levels)),
            ]),
        },
        why: "Each of these calls is a round trip that the request waits for, and each is a way for the two services to misunderstand one \
              another. What talks this much is one thing cut in the wrong place."
            .to_owned(),
        suggestions: vec![
            format!("Let one call between {first} and {second} carry all that the request needs."),
            format!("Move what they talk about to one side: the data of {second} that {first} asks for, or the other way round."),
            format!("Merge {first} and {second} if the same people change them for the same reasons."),
        ],
        path: Vec::new(),
        owners: Vec::new(),
 examples: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::findings::Severity;
    use crate::traffic::{on, traffic};

    fn found(calls: u32) -> Vec<Finding> {
        let a = (0..calls).fold(on("a", "GET /"), |a, n| a.calls(1, on("b", &format!("GET /{n}/x"))));
        traffic().of(50, &a).finds(Rule::CH)
    }

    #[test]
    fn five_calls_at_any_endpoints_are_a_warning_and_ten_critical() {
        assert_eq!(found(4), []);
        assert_eq!(found(5)[0].severity, Severity::Warn);
        assert_eq!(found(9)[0].severity, Severity::Warn);
        assert_eq!(found(10)[0].severity, Severity::Critical);
    }

    #[test]
    fn calls_back_count_too() {
        let ask = |n: u32| on("b", &format!("POST /{n}/x")).calls(1, on("a", &format!("GET /{n}/x")));
        let a = (0..3).fold(on("a", "GET /"), |a, n| a.calls(1, ask(n)));
        let found = traffic().of(50, &a).finds(Rule::CH);
        assert_eq!(found[0].title, "a and b exchange 6.0 calls for one request");
        assert_eq!(
            found[0].summary,
            "For one request of a GET /, on average over 50 requests. 50 % of the calls go the other way."
        );
    }

    #[test]
    fn repeated_calls_are_reported_once_and_elsewhere() {
        let a = on("a", "GET /").calls(12, on("b", "GET /{id}").takes(20));
        let all = traffic().of(50, &a).findings();
        assert_eq!(all.iter().filter(|finding| finding.rule == Rule::CH).count(), 0, "{all:?}");
        assert_eq!(all.iter().filter(|finding| finding.rule == Rule::NP).count(), 1);
    }
}
