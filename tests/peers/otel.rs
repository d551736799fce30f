//! OpenTelemetry's SDK for Python exports straight to the analyzer: the graph is that of its services.

use serde_json::Value;

use crate::harness::Analyzer;
use crate::place::{command, has, program, python};

#[test]
fn the_python_sdk_gives_the_graph_of_its_services() {
    let python = python();
    if !has("OpenTelemetry SDK", &[&python, "-c", "import opentelemetry.sdk, opentelemetry.exporter.otlp.proto.http"]) {
        return;
    }
    let analyzer = Analyzer::of("analyzer --listen 127.0.0.1:0 --log-format json --set traces.quiet=500ms");
    let url = analyzer.url();
    assert!(command(&[&python, &program("otel.py"), &url, "200"]).status().unwrap().success());
    let edge = |document: &Value, at: usize| {
        let edge = &document["edges"][at];
        (edge["source"].clone(), edge["destination"].clone(), edge["calls"].as_u64())
    };
    let document = analyzer.document_when(|document| document["requests"] == 200);
    assert_eq!(edge(&document, 0), ("orders".into(), "postgresql".into(), Some(400)));
    assert_eq!(edge(&document, 1), ("web".into(), "orders".into(), Some(400)));
    assert_eq!(document["entries"][0]["endpoint"], "GET /cart");
    assert_eq!(document["entries"][0]["depth"]["p95"], 2);
}
