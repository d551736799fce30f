//! What is taken in, and what is not.

use std::io::Write;

use couplet_config::ByteSize;
use couplet_telemetry::otlp;
use flate2::Compression;
use flate2::write::GzEncoder;
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse};
use opentelemetry_proto::tonic::metrics::v1::{
    Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, metric::Data,
};
use prost::Message;

use crate::harness::{Analyzer, analyzer, report};

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// What a Collector sends of somebody else: one gauge with so many points.
fn foreign(points: usize) -> ExportMetricsServiceRequest {
    let data = Data::Gauge(Gauge { data_points: vec![NumberDataPoint::default(); points] });
    let metric = Metric { name: "cpu".to_owned(), data: Some(data), ..Metric::default() };
    let scope = ScopeMetrics { metrics: vec![metric], ..ScopeMetrics::default() };
    let resource = ResourceMetrics { scope_metrics: vec![scope], ..ResourceMetrics::default() };
    ExportMetricsServiceRequest { resource_metrics: vec![resource] }
}

fn refused(analyzer: &Analyzer, reason: &str) -> u64 {
    analyzer.json("/api/v1/status")["limits"][format!("rejected_{reason}")].as_u64().unwrap_or(0)
}

#[test]
fn a_packed_report_counts_like_any_other_also_after_a_restart() {
    let data = tempfile::tempdir().unwrap();
    let first = analyzer().data(data.path()).start();
    let answer = first.post(&packed(&otlp::encode(&report("s1", 1, 3))), "Content-Encoding: gzip\r\n");
    assert_eq!(answer.status, 200);
    assert_eq!(first.document_with_requests(3)["requests"], 3);
    first.stop();
    assert_eq!(analyzer().data(data.path()).start().json("/api/v1/document")["requests"], 3);
}

#[test]
fn what_is_too_large_is_refused_packed_or_not() {
    let analyzer = analyzer().with(|config| config.limits.report_bytes = ByteSize::kib(64)).start();
    assert_eq!(analyzer.post(&vec![0; 65 << 10], "").status, 413);
    assert_eq!(analyzer.post(&packed(&vec![0; 100 << 20]), "Content-Encoding: gzip\r\n").status, 413);
    assert_eq!(refused(&analyzer, "too_large"), 2);
    assert_eq!(analyzer.report(&report("s1", 1, 1)), 200);
}

#[test]
fn what_cannot_be_read_is_refused_with_the_reason() {
    let analyzer = analyzer().start();
    for (body, headers) in [(&b"hello"[..], ""), (&b"hello"[..], "Content-Encoding: gzip\r\n")] {
        let answer = analyzer.post(body, headers);
        assert_eq!(answer.status, 400);
        assert!(answer.text().len() > 10, "{}", answer.text());
    }
    assert_eq!(refused(&analyzer, "malformed"), 2);
    assert_eq!(analyzer.post_as("application/json", b"{}", "").status, 415);
    assert_eq!(analyzer.post(b"", "Content-Encoding: br\r\n").status, 415);
    assert_eq!(refused(&analyzer, "media_type"), 2);
}

#[test]
fn only_who_knows_the_token_reports() {
    let analyzer = analyzer().token("open sesame").start();
    let body = otlp::encode(&report("s1", 1, 2));
    for wrong in [
        "",
        "Authorization: Bearer open\r\n",
        "Authorization: Bearer open sesame!\r\n",
        "Authorization: Basic open sesame\r\n",
    ] {
        let answer = analyzer.post(&body, wrong);
        assert_eq!(answer.status, 401, "{wrong:?}");
        assert!(answer.head.contains("www-authenticate: bearer"), "{}", answer.head);
        assert!(!answer.text().contains("sesame"));
    }
    assert_eq!(refused(&analyzer, "unauthorized"), 4);
    assert_eq!(analyzer.post(&body, "Authorization: Bearer open sesame\r\n").status, 200);
    assert_eq!(analyzer.document_with_requests(2)["requests"], 2);
}

#[test]
fn what_is_not_ours_is_accepted_and_counted() {
    let data = tempfile::tempdir().unwrap();
    let first = analyzer().data(data.path()).start();
    // One request with two reports and something else, as a Collector in between makes them.
    let mut request = foreign(3);
    for report in [report("s1", 1, 2), report("s2", 1, 3)] {
        let ours = ExportMetricsServiceRequest::decode(otlp::encode(&report).as_slice()).unwrap();
        request.resource_metrics.extend(ours.resource_metrics);
    }
    let answer = first.post(&request.encode_to_vec(), "");
    assert_eq!(answer.status, 200);
    let partial = ExportMetricsServiceResponse::decode(answer.body.as_slice()).unwrap().partial_success.unwrap();
    assert_eq!(partial.rejected_data_points, 3);
    let document = first.document_with_requests(5);
    first.stop();
    assert_eq!(analyzer().data(data.path()).start().json("/api/v1/document"), document);
}

#[test]
fn proxies_beyond_the_limit_are_asked_to_come_again_and_known_ones_are_not() {
    let analyzer = analyzer().with(|config| config.limits.proxies = 2).start();
    assert_eq!(analyzer.report(&report("s1", 1, 1)), 200);
    assert_eq!(analyzer.report(&report("s2", 1, 1)), 200);
    let answer = analyzer.post(&otlp::encode(&report("s3", 1, 1)), "");
    assert_eq!(answer.status, 429);
    assert!(answer.head.contains("retry-after") && answer.text().contains("limits.proxies"), "{}", answer.text());
    assert_eq!(analyzer.report(&report("s1", 2, 1)), 200);
    assert_eq!(refused(&analyzer, "proxies"), 1);
}
