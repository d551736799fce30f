//! Questions that are worked out when they are asked.

use std::io::Write as _;

use couplet_analyzer::history::recording::Writer;
use couplet_analyzer::slots::fetched;
use couplet_telemetry::otlp::Bounds;
use couplet_telemetry::window::WindowLimits;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::harness::{analyzer, report};

#[test]
fn blame_names_the_entry_and_where_its_time_goes() {
    let analyzer = analyzer().start();
    analyzer.report(&report("s1", 1, 100));
    analyzer.document_with_requests(100);
    let blamed = analyzer.json("/api/v1/blame?entry=shop%20GET%20%2F");
    let entry = &blamed["entries"][0];
    assert_eq!(
        (&entry["entry"], &entry["requests"], &entry["failures"]),
        (&"shop GET /".into(), &100.into(), &0.into())
    );
    // 3 of 5 ms are its own, 2 those of the call.
    assert_eq!((&entry["time"][0]["service"], &entry["time"][0]["share"]), (&"shop".into(), &0.6.into()));
    assert_eq!((&entry["time"][1]["service"], &entry["time"][1]["share"]), (&"stock".into(), &0.4.into()));
    assert_eq!(blamed, analyzer.json("/api/v1/blame"));
    assert_eq!(analyzer.get("/api/v1/blame?entry=nobody").status, 404);
}

#[test]
fn a_cut_changes_what_it_cuts_and_says_what_it_assumes() {
    let analyzer = analyzer().start();
    analyzer.report(&report("s1", 1, 100));
    analyzer.document_with_requests(100);
    let told = analyzer.json("/api/v1/whatif?async=shop-%3Estock");
    assert_eq!(told["cuts"][0], "async shop->stock");
    assert!(told["assumption"].as_str().unwrap().contains("as recorded"));
    let entry = &told["entries"][0];
    assert_eq!(entry["depth"], serde_json::json!({ "before": 1, "after": 0 }));
    assert_eq!(entry["saved"][1], 0.4);
}

#[test]
fn questions_can_be_about_the_latest_stretch_of_time_alone() {
    let data = tempfile::tempdir().unwrap();
    let file = data.path().join("recording.couplet");
    let mut writer = Writer::create(&file, "shop").unwrap();
    // Eight minutes lie between them.
    for (sequence, requests) in [(1, 100), (100, 60)] {
        let report = report("s1", sequence, requests);
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(&couplet_telemetry::otlp::encode(&report)).unwrap();
        let times = (report.start / 1_000_000, report.end / 1_000_000);
        let limits = WindowLimits { paths: 100, callees: 100 };
        let rollups = fetched(&packed.finish().unwrap(), times, &Bounds { paths: 100, calls: 100 }, limits).unwrap();
        writer.add(&rollups).unwrap();
    }
    let showing = analyzer().with(|config| config.recording = Some(file.clone())).start();
    for (window, requests) in [("all", 160), ("1m", 60), ("15m", 160)] {
        let blamed = showing.json(&format!("/api/v1/blame?entry=shop%20GET%20%2F&window={window}"));
        assert_eq!(blamed["entries"][0]["requests"], requests, "{window}");
        assert_eq!(showing.json(&format!("/api/v1/cuts?k=1&window={window}"))["requests"], requests, "{window}");
        let told = showing.json(&format!("/api/v1/whatif?async=shop-%3Estock&window={window}"));
        assert_eq!(told["entries"][0]["requests"], requests, "{window}");
        assert_eq!(showing.json(&format!("/api/v1/score?window={window}"))["value"], 15.0, "{window}");
    }
}

#[test]
fn a_question_that_is_put_wrongly_is_told_what_is_wrong() {
    let analyzer = analyzer().start();
    analyzer.report(&report("s1", 1, 100));
    analyzer.document_with_requests(100);
    for (path, says) in [
        ("/api/v1/whatif", "name 1 to 20 cuts"),
        ("/api/v1/whatif?asink=a-%3Eb", "use async, cache"),
        ("/api/v1/whatif?async=shop-%3Enobody", "no service `nobody`"),
        ("/api/v1/cuts?k=many", "a number"),
        ("/api/v1/cuts?window=2m", "no such window"),
        ("/api/v1/whatif?async=shop-%3Estock&window=2m", "no such window"),
        ("/api/v1/blame?k=1", "cannot be read"),
    ] {
        let answer = analyzer.get(path);
        assert_eq!(answer.status, 400, "{path}");
        assert!(answer.json()["error"].as_str().unwrap().contains(says), "{path}: {}", answer.text());
    }
}

#[test]
fn the_score_is_part_of_document_and_metrics_and_unknown_before_there_is_evidence() {
    let analyzer = analyzer().start();
    assert_eq!(analyzer.json("/api/v1/score")["value"], serde_json::Value::Null);
    analyzer.report(&report("s1", 1, 100));
    let document = analyzer.document_with_requests(100);
    assert_eq!(document["score"], analyzer.json("/api/v1/score"));
    // It waits 40 % of its time; whether it would cope with a failure, nobody knows.
    assert_eq!((&document["score"]["value"], &document["score"]["observed"]), (&15.0.into(), &3.into()));
    let metrics = analyzer.get("/metrics").text();
    assert!(metrics.contains("\ncouplet_coupling_score 15\n"), "{metrics}");
    assert_eq!(analyzer.json("/api/v1/cuts?k=1")["cuts"][0]["cut"], "async shop->stock");
}

#[test]
fn an_architecture_that_cannot_be_read_stops_the_start() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "layers: [a, a]\n").unwrap();
    let config = analyzer().with(|config| config.architecture = Some(file.path().to_owned())).0;
    let error = couplet_analyzer::start(config).unwrap_err().to_string();
    assert!(error.contains("the layer `a` is there twice"), "{error}");
}
