//! Recorded traces are judged without an analyzer.

use std::io::Write as _;
use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Ended, couplet};

#[test]
fn a_trace_file_gives_the_graph_on_standard_output_and_remarks_elsewhere() {
    let files = Files::new();
    let path = files.write("shop.json", zipkin().to_string().as_bytes());
    let answer = Ended::of("analyze", couplet("analyze --format json --name shop").arg(&path)).with(0);
    let document = answer.json();
    assert_eq!(document["name"], "shop");
    assert_eq!(edges(&document), [("cart".into(), "stock".into(), 2), ("web".into(), "cart".into(), 1)]);
    assert_eq!(document["entries"][0]["service"], "web");
    assert_eq!(document["entries"][0]["depth"]["max"], 2);
    assert!(!answer.stderr().is_empty(), "a summary is expected on standard error");
}

#[test]
fn the_same_file_gives_the_same_bytes() {
    let files = Files::new();
    let path = files.write("shop.json", zipkin().to_string().as_bytes());
    let answer = || Ended::of("analyze", couplet("analyze --format json").arg(&path)).with(0).stdout().to_owned();
    assert_eq!(answer(), answer());
}

#[test]
fn people_get_a_report_with_the_names_of_their_services() {
    let files = Files::new();
    let path = files.write("shop.json", zipkin().to_string().as_bytes());
    let report = Ended::of("analyze", couplet("analyze").arg(&path)).with(0);
    for service in ["web", "cart", "stock"] {
        assert!(report.stdout().contains(service), "{report}");
    }
}

#[test]
fn a_file_that_holds_no_traces_is_named_with_what_was_expected() {
    let files = Files::new();
    for (name, content) in [
        ("text.json", &b"not json at all"[..]),
        ("other.json", b"{\"hello\": \"world\"}"),
        ("cut.json", b"[{\"traceId\": \"1\", \"id\": "),
        ("cut.gz", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x01"),
        ("empty.json", b""),
    ] {
        let path = files.write(name, content);
        Ended::of(name, couplet("analyze").arg(&path)).with(2).with_one_error().saying(&[name]);
    }
}

#[test]
fn a_call_that_the_architecture_forbids_is_found_and_belongs_to_somebody() {
    let files = Files::new();
    let traces = files.write("shop.json", zipkin().to_string().as_bytes());
    let rules = "services: {cart: {owner: team-cart}}\nforbidden: [{from: cart, to: 'st*'}]\n";
    let rules = files.write("architecture.yaml", rules.as_bytes());
    let mut command = couplet("analyze --format json");
    let document = Ended::of("analyze", command.arg(&traces).arg("--architecture").arg(&rules)).with(0).json();
    let found = document["findings"].as_array().unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((&found[0]["rule"], &found[0]["severity"]), (&json!("FB"), &json!("critical")));
    assert_eq!(found[0]["owners"], json!(["team-cart"]));
}

#[test]
fn a_wrong_architecture_is_shown_with_its_line() {
    let files = Files::new();
    let traces = files.write("shop.json", zipkin().to_string().as_bytes());
    let rules = files.write("architecture.yaml", b"layers: [edge, core]\nservices:\n  web: {layer: egde}\n");
    let place = format!("{}:3:16: services.web.layer", rules.display());
    let mut command = couplet("analyze");
    Ended::of("analyze", command.arg(&traces).arg("--architecture").arg(&rules)).with(2).saying(&[&place, "`edge`"]);
    let mut command = couplet("analyzer --listen 127.0.0.1:0");
    Ended::of("analyzer", command.arg("--architecture").arg(&rules)).with(2).with_one_error().saying(&[&place]);
}

struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::File::create(&path).unwrap().write_all(content).unwrap();
        path
    }
}

/// One request of `web`, which calls `cart` once, which calls `stock` twice.
fn zipkin() -> Value {
    let span = |id: &str, parent: Option<&str>, kind: &str, service: &str, at: u64, duration: u64| {
        json!({
            "traceId": "0000000000000001", "id": id, "parentId": parent, "kind": kind, "name": "get /",
            "timestamp": 1_700_000_000_000_000_u64 + at, "duration": duration,
            "localEndpoint": { "serviceName": service },
        })
    };
    json!([
        span("0000000000000001", None, "SERVER", "web", 0, 100_000),
        span("0000000000000002", Some("0000000000000001"), "CLIENT", "web", 1_000, 90_000),
        span("0000000000000003", Some("0000000000000002"), "SERVER", "cart", 2_000, 88_000),
        span("0000000000000004", Some("0000000000000003"), "CLIENT", "cart", 3_000, 20_000),
        span("0000000000000005", Some("0000000000000004"), "SERVER", "stock", 4_000, 18_000),
        span("0000000000000006", Some("0000000000000003"), "CLIENT", "cart", 30_000, 20_000),
        span("0000000000000007", Some("0000000000000006"), "SERVER", "stock", 31_000, 18_000),
    ])
}

/// Source, destination and number of calls of every edge.
pub(crate) fn edges(document: &Value) -> Vec<(String, String, u64)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let edge = |edge: &Value| (text(&edge["source"]), text(&edge["destination"]), edge["calls"].as_u64().unwrap());
    document["edges"].as_array().unwrap().iter().map(edge).collect()
}
