//! FO: fan-out. One handling that calls many services, or makes many calls; and, as information only, one that calls
//! several services one after the other although nothing shows that it must.

use std::collections::BTreeMap;

use couplet_config::{FindingThresholds, WarnLevels};
use couplet_telemetry::outcome;
use serde_json::{Value, json};

use super::finding::{Evidence, Finding, Rule, Severity, chance_of_quantile, confidence, grade_warn, id, sorted, step};
use super::repeat::{linked, repeats};
use super::words::{count, percent, rounded};
use crate::coupling::chain::QUANTILE;
use crate::coupling::fan_out::{expected_calls, parallelism, probability, sequential_potential};
use crate::graph::{EndpointIx, Snapshot};

/// Calls that overlap less than this are made one after the other.
const SEQUENTIAL: f64 = 1.2;
/// Distinct callees from which on making calls one after the other is worth a word.
const SEVERAL: u32 = 3;
/// Share of the handler's time that overlapping calls must promise to save.
const WORTHWHILE: f64 = 0.2;
/// A callee that fewer of the handlings call has no say in their 95th percentile.
const SELDOM: f64 = 0.05;

pub(super) fn find(snapshot: &Snapshot, thresholds: &FindingThresholds) -> Vec<Finding> {
    let measured = |endpoint: EndpointIx| Measures::of(snapshot, endpoint, thresholds);
    let judged = |measures: Measures| wide(snapshot, &measures, thresholds).or_else(|| sequential(snapshot, &measures));
    snapshot.endpoint_indices().filter_map(measured).filter_map(judged).collect()
}

/// What is known of the fan-out of one endpoint.
#[derive(Debug, Clone, Copy)]
struct Measures {
    endpoint: EndpointIx,
    /// Handlings.
    n: u64,
    /// Distinct callee services, 95th percentile.
    callees: u32,
    /// Calls, 95th percentile, without what the rule for repeated calls reports.
    calls: u32,
    /// What was left out of `calls`.
    repeated: u32,
    /// π.
    parallelism: Option<f64>,
    potential: f64,
}

impl Measures {
    fn of(snapshot: &Snapshot, endpoint: EndpointIx, thresholds: &FindingThresholds) -> Option<Self> {
        let stats = &snapshot[endpoint].stats;
        let n = stats.outcomes.total();
        if n < thresholds.min_samples.max(1) {
            return None;
        }
        let all = stats.calls.quantile(QUANTILE);
        let repeated = repeated(snapshot, endpoint, thresholds).min(all);
        Some(Self {
            endpoint,
            n,
            callees: stats.callees.quantile(QUANTILE),
            calls: all - repeated,
            repeated,
            parallelism: parallelism(stats),
            potential: sequential_potential(snapshot, endpoint),
        })
    }

    fn operands(&self, snapshot: &Snapshot, kind: &str) -> BTreeMap<String, Value> {
        let stats = &snapshot[self.endpoint].stats;
        BTreeMap::from([
            ("callees".to_owned(), json!(stats.callees.quantiles())),
            ("calls".to_owned(), json!(stats.calls.quantiles())),
            ("calls_counted".to_owned(), json!(self.calls)),
            ("calls_repeated".to_owned(), json!(self.repeated)),
            ("expected".to_owned(), expected(snapshot, self.endpoint)),
            ("kind".to_owned(), json!(kind)),
            ("parallelism".to_owned(), json!(self.parallelism.map(rounded))),
            ("sequential_potential".to_owned(), json!(rounded(self.potential))),
        ])
    }
}

/// Calls that are left out because the rule for repeated calls reports them: twenty calls to one endpoint are one
/// problem and not two. One call of each repeated endpoint stays. The difference of percentiles is not the percentile
/// of the difference, but it errs to the side of silence, and what is left out is reported all the same.
fn repeated(snapshot: &Snapshot, endpoint: EndpointIx, thresholds: &FindingThresholds) -> u32 {
    repeats(snapshot, snapshot.pairs_from(endpoint), thresholds)
        .filter(|repeat| probability(snapshot, repeat.pair).is_some_and(|p| p >= SELDOM))
        .fold(0, |sum, repeat| sum.saturating_add(repeat.calls.saturating_sub(1)))
}

/// M, for the callee endpoints that are called most.
fn expected(snapshot: &Snapshot, endpoint: EndpointIx) -> Value {
    let mut all: Vec<(String, f64)> = snapshot
        .pairs_from(endpoint)
        .iter()
        .filter_map(|pair| Some((snapshot.label(pair.destination), rounded(expected_calls(snapshot, pair)?))))
        .collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    all.truncate(MOST_CALLED);
    Value::Object(all.into_iter().map(|(label, calls)| (label, json!(calls))).collect())
}

/// Callee endpoints that the evidence names one by one.
const MOST_CALLED: usize = 20;

fn wide(snapshot: &Snapshot, measures: &Measures, thresholds: &FindingThresholds) -> Option<Finding> {
    let levels = &thresholds.fan_out;
    let by_callees = grade_warn(measures.callees, &levels.callees);
    let by_calls = grade_warn(measures.calls, &levels.calls);
    let severity = by_callees.max(by_calls)?;
    let label = snapshot.label(measures.endpoint);
    let title = if by_callees >= by_calls {
        format!("{label} calls {} services in one request", measures.callees)
    } else {
        format!("{label} makes {} calls in one request", measures.calls)
    };
    let stats = &snapshot[measures.endpoint].stats;
    let level = |levels: &WarnLevels| if severity == Severity::Critical { levels.critical } else { levels.warn };
    let above = match by_callees >= by_calls {
        true => stats.callees.at_least(level(&levels.callees)),
        false => stats.calls.at_least(level(&levels.calls).saturating_add(measures.repeated)),
    };
    let chance = chance_of_quantile(above, measures.n);
    let order = match measures.parallelism {
        Some(pi) if pi < SEQUENTIAL => format!(
            " They are made one after the other (parallelism {pi:.2}); overlapping them would save up to {} of its time.",
            percent(measures.potential)
        ),
        Some(pi) => format!(" They overlap {pi:.1} times on average."),
        None => String::new(),
    };
    let summary = format!(
        "1 of 20 requests calls {} and makes {}, or more (the median: {} and {}).{order}",
        count(measures.callees.into(), "service", "services"),
        count((measures.calls + measures.repeated).into(), "call", "calls"),
        stats.callees.quantile(0.5),
        stats.calls.quantile(0.5),
    );
    let mut operands = measures.operands(snapshot, "breadth");
    operands.insert("threshold".to_owned(), json!(levels));
    let formula = "95th percentile over n handlings of distinct callees and of calls; calls that are reported as \
                   repeated (NP) count once";
    let why = "A request is as slow as the slowest answer it waits for, and the more it asks the more often one of them \
               is slow. A change or a failure of any of these services is felt here.";
    let suggestions = vec![
        "Make the calls that do not need one another's answers at the same time, each with its own time limit."
            .to_owned(),
        "Answer without what is not essential when it is late, and load it afterwards.".to_owned(),
        "Move what always belongs together behind one call: a service that owns the view, or a read model.".to_owned(),
    ];
    Some(finding(
        snapshot,
        measures,
        Draft { severity, variant: "", chance, title, summary, formula, operands, why, suggestions },
    ))
}

/// Information only: nearly every system makes its calls in a row, and whether they depend on one another is not seen.
fn sequential(snapshot: &Snapshot, measures: &Measures) -> Option<Finding> {
    let stats = &snapshot[measures.endpoint].stats;
    let pi = measures.parallelism.filter(|pi| *pi < SEQUENTIAL)?;
    // What can be gained is a mean, so it is the usual request that must call several services.
    let callees = stats.callees.quantile(0.5);
    if callees < SEVERAL || measures.potential < WORTHWHILE {
        return None;
    }
    let label = snapshot.label(measures.endpoint);
    let title = format!("{label} calls {callees} services one after the other");
    let summary = format!(
        "Its calls hardly overlap (parallelism {pi:.2}). If they do not need one another's answers, making them at the \
         same time would save about {} of the time of a request.",
        percent(measures.potential)
    );
    let mut operands = measures.operands(snapshot, "sequential");
    let threshold = json!({ "callees": SEVERAL, "parallelism": SEQUENTIAL, "sequential_potential": WORTHWHILE });
    operands.insert("threshold".to_owned(), threshold);
    let formula = "parallelism = time of all blocking calls / time in which at least one is open; potential = share of \
                   handler time spent in blocking calls beyond the callee that takes longest";
    let why = "Calls in a row add up their times, calls side by side take as long as the longest. Whether one call \
               needs the answer of another cannot be seen from outside, so this is a hint and no more.";
    let suggestions =
        vec!["Start the calls that do not depend on one another together, and wait for all of them.".to_owned()];
    let severity = Severity::Info;
    let variant = "sequential";
    Some(finding(
        snapshot,
        measures,
        Draft { severity, variant, chance: 1.0, title, summary, formula, operands, why, suggestions },
    ))
}

struct Draft {
    severity: Severity,
    variant: &'static str,
    /// That the figures are really beyond the threshold.
    chance: f64,
    title: String,
    summary: String,
    formula: &'static str,
    operands: BTreeMap<String, Value>,
    why: &'static str,
    suggestions: Vec<String>,
}

fn finding(snapshot: &Snapshot, measures: &Measures, draft: Draft) -> Finding {
    let label = snapshot.label(measures.endpoint);
    let own = step(snapshot, measures.endpoint).service;
    let pairs = snapshot.pairs_from(measures.endpoint);
    let callees = pairs.iter().map(|pair| step(snapshot, pair.destination).service);
    let link = pairs.iter().map(linked).max().unwrap_or(outcome::Evidence::Exact);
    Finding {
        id: id(Rule::FO, draft.variant, [own.as_str(), &label]),
        rule: Rule::FO,
        severity: draft.severity,
        title: draft.title,
        summary: draft.summary,
        services: sorted(callees.chain([own.clone()])),
        endpoints: vec![label],
        path: Vec::new(),
        evidence: Evidence {
            n: measures.n,
            linked: link,
            confidence: confidence(draft.chance, link),
            formula: draft.formula.to_owned(),
            operands: draft.operands,
        },
        why: draft.why.to_owned(),
        suggestions: draft.suggestions,
        owners: Vec::new(),
        examples: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::{Request, on, traffic};

    fn calls_each_of(services: u32, times: u32) -> Request {
        (0..services).fold(on("gateway", "GET /home").takes(20), |root, n| {
            root.calls(times, on(&format!("s{n}"), "GET /").takes(10))
        })
    }

    fn found(request: &Request) -> Vec<Finding> {
        traffic().of(100, request).finds(Rule::FO)
    }

    #[test]
    fn from_eight_services_on_it_is_a_warning_from_fifteen_on_critical() {
        let severity = |services| found(&calls_each_of(services, 1).at_once()).first().map(|finding| finding.severity);
        assert_eq!(severity(7), None);
        assert_eq!(severity(8), Some(Severity::Warn));
        assert_eq!(severity(14), Some(Severity::Warn));
        assert_eq!(severity(15), Some(Severity::Critical));
    }

    #[test]
    fn many_calls_to_few_services_are_fan_out_too() {
        let many = |times| found(&calls_each_of(5, times).at_once());
        assert!(many(3).is_empty());
        assert_eq!(many(4)[0].title, "gateway GET /home makes 20 calls in one request");
    }

    #[test]
    fn calls_that_only_repeat_one_call_are_left_to_that_rule() {
        let loops = on("cart", "GET /cart").calls(25, on("catalog", "GET /product/{id}").takes(20));
        let all = traffic().of(100, &loops).findings();
        let count = |rule: Rule| all.iter().filter(|finding| finding.rule == rule).count();
        assert_eq!((count(Rule::NP), count(Rule::FO)), (1, 0));
    }

    #[test]
    fn calls_one_after_the_other_are_information_until_they_overlap() {
        let found_in_a_row = found(&calls_each_of(3, 1));
        let [finding] = &found_in_a_row[..] else { panic!("{found_in_a_row:?}") };
        assert_eq!((finding.severity, &finding.evidence.operands["kind"]), (Severity::Info, &json!("sequential")));
        assert_eq!(finding.title, "gateway GET /home calls 3 services one after the other");
        assert_eq!(finding.evidence.operands["sequential_potential"], json!(0.4), "20 of 50 ms");
        assert!(found(&calls_each_of(3, 1).at_once()).is_empty());
        assert!(found(&calls_each_of(2, 1)).is_empty());
        assert!(found(&calls_each_of(3, 1).takes(100)).is_empty(), "20 of 130 ms are not worth it");
    }

    #[test]
    fn a_wide_endpoint_is_one_finding_even_where_its_calls_are_in_a_row() {
        let wide = found(&calls_each_of(9, 1));
        let [finding] = &wide[..] else { panic!("{wide:?}") };
        assert_eq!(finding.severity, Severity::Warn);
        assert!(finding.summary.contains("one after the other (parallelism 1.00)"), "{}", finding.summary);
        assert_eq!(finding.services.len(), 10);
    }

    #[test]
    fn both_findings_of_an_endpoint_have_different_ids() {
        assert_ne!(found(&calls_each_of(9, 1))[0].id, found(&calls_each_of(3, 1))[0].id);
    }
}
