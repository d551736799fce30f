//! Spans of OpenTelemetry SDKs and Collectors: the same graph as proxies give, within bounds, with the right answers.

use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use serde_json::{Value, json};

use crate::harness::{Analyzer, Answer, analyzer};

const START: u64 = 1_700_000_000_000_000_000;
const MILLI: u64 = 1_000_000;

/// An analyzer that takes a trace for complete when it was quiet for a tenth of a second.
fn collecting() -> Analyzer {
    analyzer().with(|config| config.traces.quiet = Duration::from_millis(100)).start()
}

fn attribute(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(any_value::Value::StringValue(value.to_owned())) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}

fn span(trace: u8, id: u8, parent: u8, kind: i32, name: &str) -> Span {
    Span {
        trace_id: vec![trace; 16],
        span_id: vec![id; 8],
        parent_span_id: if parent == 0 { Vec::new() } else { vec![parent; 8] },
        name: name.to_owned(),
        kind,
        start_time_unix_nano: START + u64::from(id) * MILLI,
        end_time_unix_nano: START + (100 - u64::from(id)) * MILLI,
        ..Span::default()
    }
}

fn of(service: &str, spans: Vec<Span>) -> ResourceSpans {
    let resource = Some(Resource { attributes: vec![attribute("service.name", service)], ..Resource::default() });
    let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    ResourceSpans { resource, scope_spans, ..ResourceSpans::default() }
}

/// A request to `shop` that calls `stock`, which asks a database.
fn trace(number: u8) -> ExportTraceServiceRequest {
    let mut query = span(number, 4, 3, 3, "SELECT items");
    query.attributes = vec![attribute("db.system.name", "postgresql")];
    let shop = vec![span(number, 1, 0, 2, "GET /"), span(number, 2, 1, 3, "GET")];
    let stock = vec![span(number, 3, 2, 2, "GET /items/{id}"), query];
    ExportTraceServiceRequest { resource_spans: vec![of("shop", shop), of("stock", stock)] }
}

fn post(analyzer: &Analyzer, media_type: &str, body: &[u8]) -> Answer {
    let length = body.len();
    let head = format!(
        "POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: {media_type}\r\n\
         Content-Length: {length}\r\n\r\n"
    );
    analyzer.send(&[head.as_bytes(), body].concat())
}

fn export(analyzer: &Analyzer, request: &ExportTraceServiceRequest) -> Answer {
    post(analyzer, "application/x-protobuf", &request.encode_to_vec())
}

fn edges(document: &Value) -> Vec<(String, String, u64)> {
    let text = |edge: &Value, key: &str| edge[key].as_str().unwrap().to_owned();
    let edge = |edge: &Value| (text(edge, "source"), text(edge, "destination"), edge["calls"].as_u64().unwrap());
    document["edges"].as_array().unwrap().iter().map(edge).collect()
}

fn named(source: &str, destination: &str, calls: u64) -> (String, String, u64) {
    (source.to_owned(), destination.to_owned(), calls)
}

#[test]
fn spans_in_protobuf_become_the_graph_of_their_services() {
    let analyzer = collecting();
    for number in 1..=20 {
        let answer = export(&analyzer, &trace(number));
        assert_eq!((answer.status, answer.body.len()), (200, 0), "taken in whole");
    }
    let document = analyzer.document_with_requests(20);
    assert_eq!(edges(&document), [named("shop", "stock", 20), named("stock", "postgresql", 20)]);
    assert_eq!(document["services"][0]["kind"], "external");
    assert_eq!(document["entries"][0]["endpoint"], "GET /");
    assert_eq!(document["losses"], json!({}));
    analyzer.stop();
}

#[test]
fn a_trace_that_comes_in_pieces_is_put_together_and_json_says_the_same() {
    let analyzer = collecting();
    let span = |id: &str, parent: &str, kind: u64, start: u64, end: u64| {
        json!({ "traceId": "5b8efff798038103d269b633813fc60c", "spanId": id, "parentSpanId": parent, "name": "GET /",
                "kind": kind, "startTimeUnixNano": (START + start * MILLI).to_string(),
                "endTimeUnixNano": (START + end * MILLI).to_string() })
    };
    let export = |service: &str, spans: &[Value]| {
        json!({ "resourceSpans": [{
            "resource": { "attributes": [{ "key": "service.name", "value": { "stringValue": service } }] },
            "scopeSpans": [{ "spans": spans }] }] })
    };
    let below = export("b", &[span("0000000000000003", "0000000000000002", 2, 2, 8)]);
    let above =
        export("a", &[span("0000000000000001", "", 2, 0, 10), span("0000000000000002", "0000000000000001", 3, 1, 9)]);
    for part in [below, above] {
        let answer = post(&analyzer, "application/json", part.to_string().as_bytes());
        assert_eq!((answer.status, answer.text().as_str()), (200, "{}"));
    }
    assert_eq!(edges(&analyzer.document_with_requests(1)), [named("a", "b", 1)]);
}

#[test]
fn spans_without_ids_are_rejected_and_the_others_taken() {
    let analyzer = collecting();
    let mut request = trace(1);
    request.resource_spans.push(of("shop", vec![Span { trace_id: Vec::new(), ..span(1, 9, 0, 2, "GET /") }]));
    let answer = export(&analyzer, &request);
    let partial = ExportTraceServiceResponse::decode(answer.body.as_slice()).unwrap().partial_success.unwrap();
    assert_eq!((answer.status, partial.rejected_spans), (200, 1));
    assert_eq!(analyzer.document_with_requests(1)["requests"], 1);
    assert_eq!(analyzer.json("/api/v1/status")["limits"]["spans_set_aside"], 1);
}

#[test]
fn what_is_no_export_is_refused_and_too_many_are_asked_to_come_again() {
    let analyzer = analyzer().with(|config| config.traces.spans_per_second = 5).start();
    assert_eq!(post(&analyzer, "text/plain", b"{}").status, 415);
    assert_eq!(post(&analyzer, "application/json", b"[1]").status, 400);
    assert_eq!(post(&analyzer, "application/x-protobuf", b"\xff\xff").status, 400);
    assert_eq!(export(&analyzer, &trace(1)).status, 200);
    let refused = (2..=60).map(|number| export(&analyzer, &trace(number))).find(|answer| answer.status != 200);
    let refused = refused.expect("sixty requests take less than half a minute");
    assert_eq!(refused.status, 429);
    assert!(refused.head.contains("retry-after"), "{}", refused.head);
}

#[test]
fn traces_that_a_sampler_chose_are_labelled() {
    let analyzer = collecting();
    let mut request = trace(1);
    request.resource_spans[0].scope_spans[0].spans[0].trace_state = "ot=th:c".to_owned();
    export(&analyzer, &request);
    let document = analyzer.document_with_requests(1);
    assert_eq!(document["losses"]["sampled"], 2, "handlings of the trace");
}

#[test]
fn spans_that_come_late_count_as_a_piece_of_which_the_caller_is_unknown() {
    let analyzer = collecting();
    let ExportTraceServiceRequest { resource_spans } = trace(1);
    let [shop, stock]: [ResourceSpans; 2] = resource_spans.try_into().unwrap();
    export(&analyzer, &ExportTraceServiceRequest { resource_spans: vec![shop] });
    analyzer.document_with_requests(1);
    export(&analyzer, &ExportTraceServiceRequest { resource_spans: vec![stock] });
    let mut events = analyzer.events();
    while events.next().unwrap().1["edges"] == 0 {}
    let document = analyzer.json("/api/v1/document");
    assert_eq!(document["requests"], 1, "it makes no entry");
    assert_eq!(edges(&document), [named("stock", "postgresql", 1)]);
    assert_eq!(analyzer.json("/api/v1/status")["limits"]["spans_late"], 2);
}
