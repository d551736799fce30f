//! What must not matter: twelve systems at random, each seen in two ways that mean the same. No finding may change, and
//! the score may move by less than a point.

use std::collections::BTreeSet;

use couplet_config::{Architecture, FindingThresholds};
use couplet_telemetry::report::Report;

use crate::findings::{Finding, Rule, Severity, findings};
use crate::graph::Snapshot;
use crate::score::score;
use crate::traffic::{Request, Traffic, on, snapshot_of, traffic};

/// A small generator of systems: always the same for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// A request tree: its shape depends on the seed only, and not on `part`, the endpoint template that inner services use.
fn tree(random: &mut Random, depth: u64, service: u64, part: &str, fails: bool) -> Request {
    let endpoint = if depth == 0 { "GET /".to_owned() } else { format!("GET /inner{part}") };
    let mut request = on(&format!("s{service}"), &endpoint).takes(1 + random.below(20));
    let calls = if depth >= 4 { 0 } else { random.below(3) + u64::from(depth == 0) };
    let mut failing = fails;
    for _ in 0..calls {
        // Usually downward, sometimes anywhere: a circle.
        let callee = if random.one_in(6) { random.below(8) } else { service + 1 + random.below(3) };
        let (times, later) = (if random.one_in(8) { 2 + random.below(6) } else { 1 }, random.one_in(9));
        let child = tree(random, depth + 1, callee, part, failing && !later);
        failing &= later;
        request = request.calls(times as u32, if later { child.later() } else { child });
    }
    if fails { request.fails() } else { request }
}

/// A system: some entries, each with requests that go well and requests that fail somewhere below.
fn system(seed: u64, times: u32, parts: &[&str]) -> Traffic {
    system_of(traffic(), seed, times, parts)
}

fn system_of(mut all: Traffic, seed: u64, times: u32, parts: &[&str]) -> Traffic {
    for entry in 0..6 {
        for (share, part) in parts.iter().enumerate() {
            let shape = || Random(seed * 1_000 + entry);
            let times = times / parts.len() as u32 + u32::from(share < times as usize % parts.len());
            all = all.of(times, &tree(&mut shape(), 0, entry, part, false));
            all = all.of(times / 3, &tree(&mut shape(), 0, entry, part, true));
        }
    }
    all
}

const SYSTEMS: u64 = 12;
const TIMES: u32 = 48;

struct Seen {
    findings: BTreeSet<(Rule, Severity, Vec<String>)>,
    ids: BTreeSet<String>,
    score: f64,
}

fn see(snapshot: &Snapshot) -> Seen {
    // Small systems, seen briefly: what matters here is not how much is enough.
    let thresholds = FindingThresholds { min_samples: 20, min_failures: 5, ..FindingThresholds::default() };
    let architecture = Architecture::default();
    let found = findings(snapshot, &thresholds, &architecture);
    // The way that a chain is shown by is an example of several.
    let key = |finding: &Finding| match finding.rule {
        Rule::SC => (finding.rule, finding.severity, finding.endpoints.clone()),
        _ => (finding.rule, finding.severity, finding.services.clone()),
    };
    Seen {
        findings: found.iter().map(key).collect(),
        ids: found.iter().map(|finding| finding.id.clone()).collect(),
        score: score(snapshot, &thresholds, &architecture).value.unwrap(),
    }
}

/// Shows only what is different.
fn assert_same<T: Ord + std::fmt::Debug>(before: &BTreeSet<T>, after: &BTreeSet<T>, seed: u64) {
    let (lost, won): (Vec<_>, Vec<_>) = (before.difference(after).collect(), after.difference(before).collect());
    assert!(lost.is_empty() && won.is_empty(), "system {seed}: lost {lost:?}, won {won:?}");
}

/// Sees every system as it is and after `change`.
fn unchanged(change: impl Fn(Vec<Report>) -> Vec<Report>) {
    let mut seen = BTreeSet::new();
    for seed in 0..SYSTEMS {
        let reports = system(seed, TIMES, &[""]).reports();
        let (before, after) = (see(&snapshot_of(&reports)), see(&snapshot_of(&change(reports))));
        assert_same(&before.findings, &after.findings, seed);
        assert_same(&before.ids, &after.ids, seed);
        assert!((before.score - after.score).abs() < 1.0, "system {seed}: {} {}", before.score, after.score);
        seen.extend(before.findings.into_iter().map(|(rule, ..)| rule));
    }
    assert!(seen.len() >= 8, "the systems have too few problems to prove anything: {seen:?}");
}

#[test]
fn the_number_of_replicas_does_not_matter() {
    for seed in 0..SYSTEMS {
        let one = see(&system(seed, TIMES, &[""]).snapshot());
        let five = see(&system_of(traffic().with_replicas(5), seed, TIMES, &[""]).snapshot());
        assert_same(&one.findings, &five.findings, seed);
        assert_same(&one.ids, &five.ids, seed);
        assert!((one.score - five.score).abs() < 1.0);
    }
}

#[test]
fn ten_times_the_traffic_does_not_matter() {
    unchanged(|reports| std::iter::repeat_n(reports, 10).flatten().collect());
}

#[test]
fn services_that_do_nothing_do_not_matter() {
    unchanged(|mut reports| {
        let idle = (0..30).fold(traffic(), |all, n| all.of(1, &on(&format!("idle{n}"), "GET /health")));
        let idle = idle.reports().into_iter().map(|report| Report { paths: Vec::new(), ..report });
        reports.extend(idle);
        reports
    });
}

#[test]
fn the_clock_of_a_host_does_not_matter() {
    unchanged(|mut reports| {
        for report in reports.iter_mut().filter(|report| report.origin.service == "s3") {
            report.start += 3_600_000_000_000;
            report.end += 3_600_000_000_000;
        }
        reports
    });
}

#[test]
fn the_order_of_reports_does_not_matter() {
    unchanged(|mut reports| {
        reports.reverse();
        reports
    });
}

#[test]
fn into_how_many_templates_a_service_is_cut_does_not_matter() {
    for seed in 0..SYSTEMS {
        let whole = see(&system(seed, TIMES, &[""]).snapshot());
        let cut = see(&system(seed, TIMES, &["/a", "/b"]).snapshot());
        // Findings about single endpoints are found once for each; they are the same ones.
        assert_same(&whole.findings, &cut.findings, seed);
        assert!((whole.score - cut.score).abs() < 1.0, "system {seed}: {} {}", whole.score, cut.score);
    }
}

#[test]
fn a_call_that_both_ends_report_is_counted_once() {
    for seed in 0..SYSTEMS {
        let mut reports = system(seed, TIMES, &[""]).reports();
        let both = snapshot_of(&reports);
        // Leaves say nothing that their callers do not know.
        reports.retain(|report| !report.calls.is_empty());
        let one = snapshot_of(&reports);
        let calls = |snapshot: &Snapshot| -> Vec<(String, String, u64)> {
            let name = |service: crate::graph::ServiceIx| snapshot[service].name.to_string();
            snapshot.edges().iter().map(|edge| (name(edge.source), name(edge.destination), edge.calls())).collect()
        };
        assert_eq!(calls(&both), calls(&one), "system {seed}");
        let (both, one) = (see(&both), see(&one));
        // How grave it is to hang on somebody whom nobody knows from inside is another question.
        let known = |seen: &Seen| seen.findings.iter().filter(|(rule, ..)| *rule != Rule::TC).cloned().collect();
        assert!((both.score - one.score).abs() < 1.0, "system {seed}: {} {}", both.score, one.score);
        assert_same(&known(&both), &known(&one), seed);
    }
}
