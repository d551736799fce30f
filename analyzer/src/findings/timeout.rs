//! TO: time limits. A caller that gives up before its callee usually answers, or one that never gives up.
//!
//! A caller gave up where the proxy's limit ran out, or where the application went away while its own caller still waited.
//! When more than 1 % of the calls end so, the limit is below the callee's 99th percentile: the callee works for nobody.

use std::collections::BTreeMap;

use couplet_telemetry::outcome::Outcome;
use serde_json::json;

use super::case::Case;
use super::finding::{Evidence, Finding, Rule, Severity, confidence, grade_share, id, sorted, step};
use super::repeat::linked;
use super::words::{duration, percent, rounded};
use crate::coupling::interval::beyond;
use crate::graph::{Pair, Snapshot};

pub(super) fn find(case: &Case<'_>) -> Vec<Finding> {
    case.snapshot.pairs().iter().filter_map(|pair| judge(case, pair)).collect()
}

fn judge(case: &Case<'_>, pair: &Pair) -> Option<Finding> {
    let snapshot = case.snapshot;
    let thresholds = &case.thresholds.timeout;
    let client = pair.client.totals();
    let calls = client.outcomes.total();
    let one = snapshot[pair.source].is_one() && snapshot[pair.destination].is_one();
    if !one || calls < case.thresholds.min_samples.max(1) {
        return None;
    }
    let given_up = given_up(snapshot, pair);
    let share = given_up as f64 / calls as f64;
    if let Some(severity) = grade_share(share, &thresholds.given_up)
        && given_up >= case.thresholds.min_failures
    {
        return Some(short(case, pair, given_up, share, severity));
    }
    if given_up > 0 || client.blocking != calls {
        return None;
    }
    let slowest = u128::from(pair.client.duration().max());
    (slowest >= thresholds.endless.as_nanos()).then(|| none(case, pair))
}

/// Calls that the caller itself gave up; those that ended because its own caller went away are not its doing.
fn given_up(snapshot: &Snapshot, pair: &Pair) -> u64 {
    let handlings = &snapshot[pair.source].stats.outcomes;
    let calls = pair.client.outcomes();
    let cancelled = calls.get(Outcome::Cancelled).saturating_sub(handlings.get(Outcome::Cancelled));
    calls.get(Outcome::Timeout).saturating_add(cancelled)
}

fn short(case: &Case<'_>, pair: &Pair, given_up: u64, share: f64, severity: Severity) -> Finding {
    let labels = labels(case.snapshot, pair);
    let [caller, callee] = &labels;
    let n = pair.client.total();
    let (link, took) = (linked(pair), pair.client.duration());
    let levels = &case.thresholds.timeout.given_up;
    Finding {
        id: id(Rule::TO, "short", labels.iter().map(String::as_str)),
        rule: Rule::TO,
        severity,
        title: format!("{caller} gives up on {} of its calls to {callee}", percent(share)),
        summary: format!(
            "Its time limit is below the callee's 99th percentile: {given_up} of {n} calls were given up while {callee} was still \
             at work. Calls took {} at the median and {} at most.",
            duration(took.quantile(0.5)),
            duration(took.max() as f64),
        ),
        evidence: Evidence {
            n,
            linked: link,
            confidence: confidence(beyond(given_up, n, levels.warn), link),
            formula: "calls that ended by the caller's time limit ÷ n calls; above 1 % the limit is below the callee's 99th \
                      percentile"
                .to_owned(),
            operands: BTreeMap::from([
                ("given_up".to_owned(), json!(given_up)),
                ("share".to_owned(), json!(rounded(share))),
                ("threshold".to_owned(), json!(levels)),
            ]),
        },
        why: "Work that nobody waits for any more is still done, and done again when the caller tries once more. Under load more and \
              more of the work is of this kind."
            .to_owned(),
        suggestions: vec![
            format!("Set the limit of {caller} above the callee's 99th percentile, or make the callee fast enough for it."),
            "Let the limit travel with the request (a deadline), so that the callee stops when nobody waits.".to_owned(),
            "Do not try again after a time limit while the first try may still be at work.".to_owned(),
        ],
        ..blank(case, pair)
    }
}

fn none(case: &Case<'_>, pair: &Pair) -> Finding {
    let labels = labels(case.snapshot, pair);
    let [caller, callee] = &labels;
    let took = pair.client.duration();
    let slowest = duration(took.max() as f64);
    let link = linked(pair);
    Finding {
        id: id(Rule::TO, "none", labels.iter().map(String::as_str)),
        rule: Rule::TO,
        severity: Severity::Info,
        title: format!("{caller} waited {slowest} for {callee}"),
        summary: format!(
            "The longest call took {slowest}, the median {}, and no call was ever given up: there seems to be no time limit.",
            duration(took.quantile(0.5))
        ),
        evidence: Evidence {
            n: pair.client.total(),
            linked: link,
            confidence: confidence(1.0, link),
            formula: "longest call ≥ endless, and none given up".to_owned(),
            operands: BTreeMap::from([
                ("endless_seconds".to_owned(), json!(case.thresholds.timeout.endless.as_secs_f64())),
                ("slowest_seconds".to_owned(), json!(rounded(took.max() as f64 / 1e9))),
            ]),
        },
        why: "When the callee hangs, every request that needs it hangs, until threads, connections or memory of the caller end. A caller \
              without a limit fails later and harder than its callee."
            .to_owned(),
        suggestions: vec![
            format!("Give the call a limit somewhat above the callee's 99th percentile of {}.", duration(took.quantile(0.99))),
            "Where it is meant to last (a stream, a long poll), say so, and watch for silence instead.".to_owned(),
        ],
        ..blank(case, pair)
    }
}

fn labels(snapshot: &Snapshot, pair: &Pair) -> [String; 2] {
    [snapshot.label(pair.source), snapshot.label(pair.destination)]
}

/// What both kinds have in common.
fn blank(case: &Case<'_>, pair: &Pair) -> Finding {
    let (caller, callee) = (step(case.snapshot, pair.source), step(case.snapshot, pair.destination));
    Finding {
        services: sorted([caller.service.clone(), callee.service.clone()]),
        endpoints: sorted(labels(case.snapshot, pair)),
        path: vec![caller, callee],
        ..Finding::blank(Rule::TO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::{on, traffic};

    fn found(given_up: u32, of: u32) -> Vec<Finding> {
        let late = on("a", "GET /").fails().calls(1, on("b", "GET /").takes(500).ends(Outcome::Timeout));
        let well = on("a", "GET /").calls(1, on("b", "GET /").takes(100));
        traffic().of(given_up, &late).of(of - given_up, &well).finds(Rule::TO)
    }

    #[test]
    fn a_caller_that_gives_up_one_call_of_a_hundred_is_a_warning_and_one_of_twenty_critical() {
        assert_eq!(found(20, 2_001), []);
        assert_eq!(found(20, 2_000)[0].severity, Severity::Warn);
        assert_eq!(found(20, 400)[0].severity, Severity::Critical);
        assert_eq!(found(20, 400)[0].title, "a GET / gives up on 5 % of its calls to b GET /");
        assert_eq!(found(19, 100), [], "too few to say");
    }

    #[test]
    fn calls_that_end_because_the_user_left_are_not_the_callers_doing() {
        let left = on("a", "GET /").ends(Outcome::Cancelled).calls(1, on("b", "GET /").ends(Outcome::Cancelled));
        assert_eq!(traffic().of(50, &left).of(50, &on("a", "GET /").calls(1, on("b", "GET /"))).finds(Rule::TO), []);
        let impatient = on("a", "GET /").calls(1, on("b", "GET /").ends(Outcome::Cancelled));
        let found = traffic().of(50, &impatient).of(50, &on("a", "GET /").calls(1, on("b", "GET /"))).finds(Rule::TO);
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn a_caller_that_waited_half_a_minute_seems_to_have_no_limit() {
        let slow = |millis| {
            let hangs = on("a", "GET /").calls(1, on("b", "GET /").takes(millis));
            traffic().of(1, &hangs).of(99, &on("a", "GET /").calls(1, on("b", "GET /"))).finds(Rule::TO)
        };
        assert_eq!(slow(29_999), []);
        assert_eq!(
            (slow(30_000)[0].severity, slow(30_000)[0].title.as_str()),
            (Severity::Info, "a GET / waited 30.0 s for b GET /")
        );
    }
}
