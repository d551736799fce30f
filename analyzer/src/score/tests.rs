use super::*;
use crate::traffic::{Request, Traffic, chain, on, traffic};

fn scored(traffic: Traffic) -> Score {
    score(&traffic.snapshot(), &FindingThresholds::default(), &Architecture::default())
}

fn value(score: &Score, dimension: Dimension) -> Option<f64> {
    score.dimensions.iter().find(|row| row.dimension == dimension).and_then(|row| row.value)
}

#[test]
fn a_flat_system_is_modular_and_a_deep_one_that_falls_together_is_not() {
    let flat = scored(
        traffic().of(1_000, &on("a", "GET /").takes(20).calls(1, on("b", "GET /"))).of(1_000, &on("c", "GET /")),
    );
    assert_eq!((flat.value, flat.label.as_deref()), (Some(0.0), Some("modular")));
    let services = ["a", "b", "c", "d", "e", "f", "g"];
    let broken = services.iter().rev().fold(None, |below: Option<Request>, name| {
        let request = on(name, "GET /").fails();
        Some(match below {
            Some(below) => request.calls(1, below),
            None => request,
        })
    });
    let deep = scored(traffic().of(900, &chain(&services)).of(100, &broken.unwrap()));
    assert!(deep.value > Some(70.0), "{deep:?}");
    assert_eq!(value(&deep, Dimension::Temporal), Some(1.0));
    assert_eq!(value(&deep, Dimension::Failure), Some(1.0));
}

#[test]
fn what_was_not_observed_is_not_zero() {
    let score = scored(traffic().of(1_000, &chain(&["a", "b", "c", "d", "e"])));
    assert_eq!(score.observed, 3);
    assert_eq!((value(&score, Dimension::Failure), value(&score, Dimension::Data)), (None, None));
    assert_eq!(value(&score, Dimension::Temporal), Some(0.5), "a chain of 4 hops warns");
    // 3 of 3 + 1 + 1, at one half.
    assert_eq!(score.value, Some(30.0));
}

#[test]
fn a_system_of_which_too_little_was_seen_has_no_score() {
    let score = scored(traffic().of(49, &chain(&["a", "b", "c", "d", "e"])));
    assert_eq!((score.value, score.interval, score.label, score.observed), (None, None, None, 0));
}

#[test]
fn every_driver_says_how_many_points_would_go_with_it() {
    let score = scored(traffic().of(1_000, &chain(&["a", "b", "c", "d", "e"])));
    let first = &score.drivers[0];
    assert_eq!((first.rule.as_str(), &first.services[..]), ("SC", &["a".to_owned()][..]));
    assert!(first.points > 0.0 && first.points <= score.value.unwrap(), "{first:?}");
}

#[test]
fn the_interval_contains_the_score_and_shrinks_with_traffic() {
    let mixed = |times| {
        let deep = on("a", "GET /").calls(1, chain(&["b", "c", "d", "e", "f"]));
        scored(traffic().of(times, &deep).of(times * 15, &chain(&["a", "b"])))
    };
    let width = |score: &Score| score.interval.map(|[low, high]| high - low).unwrap();
    let (few, many) = (mixed(6), mixed(600));
    for score in [&few, &many] {
        let [low, high] = score.interval.unwrap();
        assert!(low <= score.value.unwrap() && score.value.unwrap() <= high, "{score:?}");
    }
    assert!(width(&many) <= width(&few), "{few:?} {many:?}");
    assert!(width(&few) > 0.0, "one request of sixteen is deep: chance decides whether that is one of twenty");
}

#[test]
fn the_number_alone_is_the_number_that_comes_with_its_reasons() {
    let broken = on("a", "GET /").fails().calls(6, chain(&["b", "c", "a"])).calls(1, on("d", "GET /").fails());
    let snapshot = traffic().of(100, &broken).of(900, &chain(&["x", "b", "c", "e", "f", "g"])).snapshot();
    let (thresholds, architecture) = (FindingThresholds::default(), Architecture::default());
    let alone = Scorer::new(&snapshot, &thresholds, &architecture).value(&Flows::of(&snapshot)).unwrap();
    let score = score(&snapshot, &thresholds, &architecture);
    assert_eq!((Some(points(alone)), score.observed), (score.value, 4));
    let rules: Vec<&str> = score.drivers.iter().map(|driver| driver.rule.as_str()).collect();
    for rule in ["SC", "CA", "NP", "CY"] {
        assert!(rules.contains(&rule), "{rule}: {rules:?}");
    }
}

#[test]
fn a_busy_flow_weighs_more_but_not_as_much_more() {
    let score = |deep, flat| {
        scored(traffic().of(deep, &chain(&["a", "b", "c", "d", "e"])).of(flat, &on("x", "GET /"))).value.unwrap()
    };
    assert!((score(100, 400) - 10.0).abs() < 0.11, "a third of the weight: {}", score(100, 400));
    assert!((score(400, 100) - 20.0).abs() < 0.11, "{}", score(400, 100));
}
