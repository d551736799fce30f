use super::*;
use crate::traffic::{Request, chain, on, traffic};

fn system(request: &Request) -> Snapshot {
    traffic().of(1_000, request).snapshot()
}

fn changed(snapshot: &Snapshot, kind: &str, what: &str) -> WhatIf {
    let cut = parse(snapshot, kind, what).unwrap();
    what_if(snapshot, &FindingThresholds::default(), &Architecture::default(), &[cut])
}

/// The p95 of the entry after a cut, and as it is when the system is built that way.
fn assert_predicts(kind: &str, what: &str, before: &Request, built: &Request) {
    let predicted = &changed(&system(before), kind, what).entries[0];
    let really = system(built);
    let real = really.entries()[0].stats.duration.mean() / really_mean(before);
    let ratio = predicted.p95.after / predicted.p95.before;
    assert!((ratio / real - 1.0).abs() < 0.1, "{kind} {what}: predicted {ratio}, really {real}");
    let depth = really.entries()[0].stats.depth_below.quantile(0.95);
    assert_eq!(predicted.depth.after, depth, "{kind} {what}");
    assert_eq!(predicted.services.after, really.entries()[0].stats.services_below.quantile(0.95), "{kind} {what}");
    assert_eq!(predicted.calls.after, really.entries()[0].stats.calls_below.mean(), "{kind} {what}");
}

fn really_mean(request: &Request) -> f64 {
    system(request).entries()[0].stats.duration.mean()
}

fn deep(times: u32, later: bool) -> Request {
    let c = on("c", "GET /").takes(10).calls(1, on("d", "GET /").takes(50));
    let c = if later { c.later() } else { c };
    on("a", "GET /").takes(20).calls(1, on("b", "GET /").takes(10).calls(times, c))
}

#[test]
fn an_edge_that_nobody_waits_for_leaves_time_depth_and_calls_as_if_built_so() {
    assert_predicts("async", "b->c", &deep(1, false), &deep(1, true));
    assert_predicts("async", "b->c", &deep(3, false), &deep(3, true));
}

#[test]
fn repeated_calls_become_one() {
    assert_predicts("batch", "b->c", &deep(5, false), &deep(1, false));
}

#[test]
fn calls_side_by_side_take_as_long_as_the_longest() {
    let calls = |root: Request| {
        root.calls(1, on("b", "GET /").takes(30))
            .calls(1, on("c", "GET /").takes(50))
            .calls(1, on("d", "GET /").takes(10))
    };
    let row = calls(on("a", "GET /").takes(10));
    assert_predicts("parallel", "a", &row, &row.clone().at_once());
}

#[test]
fn merged_services_are_one_hop_less() {
    let predicted = &changed(&system(&chain(&["a", "b", "c", "d"])), "merge", "b,c").entries[0];
    assert_eq!(predicted.depth, Change { before: 3, after: 2 });
    assert_eq!(predicted.services, Change { before: 3, after: 2 });
    assert_eq!(predicted.calls, Change { before: 3.0, after: 2.0 });
}

#[test]
fn a_cache_leaves_its_share_of_the_calls_and_of_the_time() {
    let predicted = &changed(&system(&deep(1, false)), "cache", "b->c=0.75").entries[0];
    assert_eq!(predicted.calls, Change { before: 3.0, after: 1.5 });
    // 45 of 90 ms.
    assert!((predicted.saved[1] - 0.5).abs() < 0.01, "{predicted:?}");
}

#[test]
fn a_breaker_saves_the_failures_that_come_over_its_edge_and_no_others() {
    let fails = |at: &str| {
        let one = |name: &str| if name == at { on(name, "GET /").fails() } else { on(name, "GET /") };
        on("a", "GET /").fails().calls(1, one("b")).calls(1, one("c"))
    };
    let snapshot = traffic().of(30, &fails("b")).of(20, &fails("c")).of(950, &fails("")).snapshot();
    // The last 950 fail by themselves.
    let predicted = &changed(&snapshot, "breaker", "a->b").entries[0];
    assert_eq!(predicted.availability, Change { before: 0.0, after: 0.03 });
    let healthy = on("a", "GET /").calls(1, on("b", "GET /")).calls(1, on("c", "GET /"));
    let snapshot = traffic().of(30, &fails("b")).of(20, &fails("c")).of(950, &healthy).snapshot();
    let predicted = &changed(&snapshot, "breaker", "a->b").entries[0];
    assert_eq!(predicted.availability, Change { before: 0.95, after: 0.98 });
}

#[test]
fn entries_that_do_not_use_what_is_cut_are_not_mentioned() {
    let snapshot = traffic().of(100, &deep(1, false)).of(100, &chain(&["x", "y"])).snapshot();
    let seen = changed(&snapshot, "async", "b->c");
    assert_eq!(seen.entries.iter().map(|entry| entry.entry.as_str()).collect::<Vec<_>>(), ["a GET /"]);
}

#[test]
fn a_cut_of_what_was_never_seen_is_refused() {
    let snapshot = system(&chain(&["a", "b"]));
    for (kind, what, says) in [
        ("asink", "a->b", "`asink` is no cut"),
        ("async", "a", "names no edge"),
        ("async", "a->z", "no service `z`"),
        ("async", "b->a", "`b` never called `a`"),
        ("cache", "a->b=2", "`2` is no share"),
        ("merge", "a", "names no two services"),
    ] {
        let error = parse(&snapshot, kind, what).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn the_best_cut_of_a_deep_chain_is_in_its_middle_and_the_score_falls() {
    let snapshot = system(&chain(&["a", "b", "c", "d", "e", "f", "g"]));
    let cuts = best_cuts(&snapshot, &FindingThresholds::default(), &Architecture::default(), 3);
    assert!(!cuts.is_empty());
    let mut last = 100.0;
    for cut in &cuts {
        assert!(cut.score <= last, "{cuts:?}");
        last = cut.score;
        let (kind, what) = cut.cut.split_once(' ').unwrap();
        assert!(parse(&snapshot, kind, what).is_ok(), "{cut:?}");
    }
    assert_eq!(best_cuts(&Snapshot::default(), &FindingThresholds::default(), &Architecture::default(), 3), []);
}
