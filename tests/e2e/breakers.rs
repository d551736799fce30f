//! Breakers after the fact: what a recording says of them, what other rules would have done, and which to take.

use std::path::PathBuf;
use std::sync::Arc;

use couplet_analyzer::history::recording::Writer;
use couplet_analyzer::slots::{OpenSlot, PackedReport};
use couplet_telemetry::breaker::{BreakerCounts, BreakerReport, Count};
use couplet_telemetry::outcome::{Evidence, Outcome};
use couplet_telemetry::report::{Callee, Origin, PathDefinition, Report};
use couplet_telemetry::window::{Call, Window, WindowLimits};
use serde_json::Value;

use crate::harness::ended;

/// Milliseconds since the Unix epoch at which the recording begins: where a slot of every length does.
const BEGIN: u64 = 1_800_000_000_000;
const LIMITS: WindowLimits = WindowLimits { paths: 100, callees: 100 };

/// What the breaker of `shop` for `payments` counted in each ten seconds: an outage from the fifth on, up to `well`.
fn counts(step: u64, well: u64) -> Vec<(Count, u64)> {
    match step {
        4 => {
            vec![(Count::Failure, 70), (Count::ShadowFailed, 130), (Count::Opened, 1), (Count::Stopped, 6_500_000_000)]
        }
        5.. if step < well => vec![(Count::ShadowFailed, 199), (Count::Failure, 1), (Count::Stopped, 10_000_000_000)],
        _ if step == well => vec![(Count::Success, 180), (Count::ShadowSucceeded, 20), (Count::Stopped, 1_000_000_000)],
        _ => vec![(Count::Success, 200)],
    }
}

fn report(step: u64, well: u64, begin: u64) -> Report {
    let (path, callee) =
        (Arc::new(PathDefinition::root("shop", "POST /checkout")), Arc::new(Callee::new("payments", "POST /payments")));
    let call = Call {
        outcome: Outcome::Ok,
        duration: 20_000_000,
        first_byte: None,
        blocking: true,
        evidence: Evidence::Exact,
        attempts: 1,
        request_bytes: 0,
        response_bytes: 0,
    };
    let mut window = Window::new(LIMITS);
    (0..200).for_each(|_| window.call(&path, &callee, &call));
    let origin = Origin { service: "shop".to_owned(), instance: "shop-1".to_owned(), ..Origin::default() };
    let mut breaker = BreakerCounts::default();
    counts(step, well).into_iter().for_each(|(count, n)| breaker.add(count, n));
    let state = if (4..well).contains(&step) { "open" } else { "closed" };
    let breaker = BreakerReport {
        to: "payments".to_owned(),
        class: None,
        state: state.to_owned(),
        mode: "observe".to_owned(),
        peak: 9,
        counts: breaker,
        transitions: Vec::new(),
    };
    let nanos = begin * 1_000_000;
    Report { breakers: vec![breaker], ..window.close(origin, step + 1, nanos, nanos + 10_000_000_000) }
}

/// Two minutes of it in a file.
fn recording(folder: &tempfile::TempDir, well: u64) -> PathBuf {
    let file = folder.path().join("day.couplet");
    let mut writer = Writer::create(&file, "shop").unwrap();
    for step in 0..12 {
        let begin = BEGIN + step * 10_000;
        let mut slot = OpenSlot::new(LIMITS, begin);
        slot.absorb(PackedReport::new(report(step, well, begin)));
        writer.add(&slot.seal(begin + 10_000)).unwrap();
    }
    file
}

#[test]
fn a_recording_says_what_breakers_would_have_done_and_what_other_rules_would_do() {
    let folder = tempfile::tempdir().unwrap();
    let file = recording(&folder, 7);
    let report = ended(&format!("breakers report --recording {}", file.display())).with(0);
    assert!(report.stdout().contains("would have opened once"), "{report}");
    assert!(report.stdout().contains("would have rejected 548 requests, 96.4 % of them failed anyway"), "{report}");

    let simulate = |rules: &str| -> Value {
        let json =
            ended(&format!("breakers simulate --recording {} --format json {rules}", file.display())).with(0).json();
        json["edges"][0].clone()
    };
    let same = simulate("--to payments --set breakers.defaults.open.jitter=0");
    assert_eq!((&same["from"], &same["to"], &same["calls"]), (&"shop".into(), &"payments".into(), &2_400.into()));
    assert_eq!(same["step_seconds"], 10.0);
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{same}"));
    for key in ["opened", "stopped_seconds"] {
        let (was, would_be) = (number(&same["recorded"][key]), number(&same["simulated"][key]));
        assert!((was - would_be).abs() <= 0.35 * was, "{key}: {was} recorded, {would_be} simulated");
    }
    let (was, would_be) =
        (number(&same["recorded"]["would_have"]["rejected"]), number(&same["simulated"]["would_have"]["rejected"]));
    assert!((was - would_be).abs() <= 0.35 * was, "{was} recorded, {would_be} simulated");
    let never = simulate("--set breakers.defaults.failure_rate=off --set breakers.defaults.consecutive_failures=off");
    assert_eq!((&never["simulated"]["opened"], &never["recorded"]["opened"]), (&0.into(), &1.into()));
    let told = ended(&format!("breakers simulate --recording {} --set breakers.defaults.windw=5s", file.display()));
    told.with(2).saying(&["windw", "did you mean"]);
    ended(&format!("breakers simulate --recording {} --to nobody", file.display())).with(3);
}

#[test]
fn the_rules_that_are_suggested_are_a_file_that_a_proxy_takes() {
    let folder = tempfile::tempdir().unwrap();
    // Without an end: none of what is stopped would have succeeded.
    let file = recording(&folder, 12);
    let suggested = ended(&format!("breakers suggest --recording {}", file.display())).with(0);
    let text = suggested.stdout();
    // 20 ms lie in a bucket that ends at 21 ms or so.
    for part in
        ["service: \"shop\"", "- to: \"payments\"\n      mode: enforce", "slow_call: { duration: 6", "% failed anyway"]
    {
        assert!(text.contains(part), "no {part:?}: {suggested}");
    }
    let rules = folder.path().join("rules.yaml");
    std::fs::write(&rules, text).unwrap();
    ended(&format!("check --kind proxy {}", rules.display())).with(0);
    let simulated =
        ended(&format!("breakers simulate --recording {} --config {}", file.display(), rules.display())).with(0);
    assert!(simulated.stdout().contains("with these rules: open"), "{simulated}");
    ended(&format!("breakers suggest --recording {} --from nobody", file.display())).with(3);
}
