//! What the analyzer does again and again: reports into the graph, the graph into a snapshot, the snapshot into findings
//! and the document. A system of 2 000 services and 10 000 edges.
//!
//! `cargo bench --bench snapshot`. Compare runs of one machine with one another, nothing else.

use std::hint::black_box;
use std::sync::Arc;

use couplet_analyzer::findings::findings;
use couplet_analyzer::graph::{Graph, GraphLimits};
use couplet_analyzer::view::document::Document;
use couplet_config::{Architecture, FindingThresholds};
use couplet_telemetry::outcome::{Evidence, Outcome};
use couplet_telemetry::report::{Callee, Origin, PathDefinition, Report};
use couplet_telemetry::window::{Call, CalleeUse, Handling, Window, WindowLimits};
use criterion::{Criterion, criterion_group, criterion_main};

const SERVICES: usize = 2_000;
const CALLEES: usize = 5;
const REQUESTS: u32 = 60;

fn name(n: usize) -> String {
    format!("service-{}", n % SERVICES)
}

/// One report: the service is called from outside, and calls five others once each.
fn report(n: usize) -> Report {
    let service = name(n);
    let path = Arc::new(PathDefinition::root(&service, "GET /"));
    let mut window = Window::new(WindowLimits { paths: 2_048, callees: 2_048 });
    let callees: Vec<_> = (1..=CALLEES).map(|m| Arc::new(Callee::new(name(n + m * 37), "GET /"))).collect();
    let uses: Vec<_> = callees
        .iter()
        .map(|callee| CalleeUse { callee: Arc::clone(callee), calls: 1, failed: false, blocked: 1_000_000 })
        .collect();
    let call = Call {
        outcome: Outcome::Ok,
        duration: 1_000_000,
        first_byte: Some(900_000),
        blocking: true,
        evidence: Evidence::Exact,
        attempts: 1,
        request_bytes: 0,
        response_bytes: 100,
    };
    let handling = Handling {
        outcome: Outcome::Ok,
        duration: 6_000_000,
        blocked: 5_000_000,
        busy: 5_000_000,
        asynchronous: 0,
        calls: CALLEES as u32,
        callees: CALLEES as u32,
        depth_below: 1,
        calls_below: CALLEES as u32,
        services_below: CALLEES as u32,
        below: Evidence::Exact,
        retries: 0,
        origin: None,
        trace: None,
        uses: &uses,
    };
    for _ in 0..REQUESTS {
        callees.iter().for_each(|callee| window.call(&path, callee, &call));
        window.handling(&path, &handling);
    }
    window.close(Origin { service, instance: format!("instance-{n}"), ..Origin::default() }, 1, 0, 1)
}

fn snapshots(c: &mut Criterion) {
    let reports: Vec<_> = (0..SERVICES).map(report).collect();
    let mut graph = Graph::new(GraphLimits::default());
    reports.iter().for_each(|report| graph.apply(report));
    let thresholds = FindingThresholds::default();
    let snapshot = graph.snapshot();
    let found = findings(&snapshot, &thresholds, &Architecture::default());

    let mut group = c.benchmark_group("2 000 services, 10 000 edges");
    group.sample_size(10);
    group.bench_function("apply a report of every service", |b| {
        b.iter(|| reports.iter().for_each(|report| graph.apply(black_box(report))));
    });
    group.bench_function("snapshot", |b| b.iter(|| graph.snapshot()));
    group.bench_function("findings", |b| {
        b.iter(|| findings(black_box(&snapshot), &thresholds, &Architecture::default()));
    });
    group.bench_function("document", |b| b.iter(|| Document::new(black_box(&snapshot), &found, "bench").to_json()));
    group.finish();
}

criterion_group!(all, snapshots);
criterion_main!(all);
