//! What stands on the request path or behind every report: templates, records, reports.
//!
//! `cargo bench --bench record`. Compare runs of one machine with one another, nothing else.

use std::hint::black_box;
use std::sync::Arc;

use couplet_telemetry::endpoint::Templates;
use couplet_telemetry::otlp::{Bounds, decode, encode};
use couplet_telemetry::outcome::{Evidence, Outcome};
use couplet_telemetry::report::{Callee, Origin, PathDefinition};
use couplet_telemetry::window::{Call, CalleeUse, Handling, Window, WindowLimits};
use criterion::{Criterion, criterion_group, criterion_main};

const LIMITS: WindowLimits = WindowLimits { paths: 2_048, callees: 2_048 };

fn path(n: usize) -> Arc<PathDefinition> {
    Arc::new(PathDefinition::root("shop", &format!("GET /orders/{n}")))
}

fn callee(n: usize) -> Arc<Callee> {
    Arc::new(Callee::new("stock", format!("GET /items/{n}")))
}

fn handling(uses: &[CalleeUse]) -> Handling<'_> {
    Handling {
        outcome: Outcome::Ok,
        duration: 1_234_567,
        blocked: 600_000,
        busy: 700_000,
        asynchronous: 0,
        calls: 1,
        callees: 1,
        depth_below: 2,
        calls_below: 3,
        services_below: 2,
        uses,
    }
}

const CALL: Call = Call {
    outcome: Outcome::Ok,
    duration: 654_321,
    first_byte: Some(600_000),
    blocking: true,
    evidence: Evidence::Exact,
    attempts: 1,
    request_bytes: 0,
    response_bytes: 512,
};

fn templates(c: &mut Criterion) {
    let templates = Templates::default();
    let mut out = String::new();
    c.bench_function("endpoint of a target", |b| {
        b.iter(|| templates.endpoint("GET", black_box("/orders/1234567/lines?expand=1"), &mut out));
    });
}

fn records(c: &mut Criterion) {
    for size in [1, 100, 1_000] {
        let pairs: Vec<_> = (0..size).map(|n| (path(n), callee(n))).collect();
        let uses: Vec<_> = pairs
            .iter()
            .map(|(_, callee)| [CalleeUse { callee: Arc::clone(callee), calls: 1, failed: false, blocked: 600_000 }])
            .collect();
        let mut window = Window::new(LIMITS);
        let mut next = (0..size).cycle();
        c.bench_function(&format!("one handling with one call, {size} paths"), |b| {
            b.iter(|| {
                let Some(((path, callee), uses)) = next.next().and_then(|n| Some((pairs.get(n)?, uses.get(n)?))) else {
                    return;
                };
                window.call(path, callee, black_box(&CALL));
                window.handling(path, black_box(&handling(uses)));
            });
        });
    }
}

fn reports(c: &mut Criterion) {
    let mut window = Window::new(LIMITS);
    for n in 0..100 {
        window.call(&path(n), &callee(n), &CALL);
        window.handling(&path(n), &handling(&[]));
    }
    let origin = Origin { service: "shop".to_owned(), instance: "shop-1".to_owned(), ..Origin::default() };
    let report = window.close(origin, 1, 0, 1);
    let bytes = encode(&report);
    c.bench_function("encode a report of 100 paths and 100 callees", |b| b.iter(|| encode(black_box(&report))));
    let bounds = Bounds { paths: 10_000, calls: 10_000 };
    c.bench_function("decode the same", |b| b.iter(|| decode(black_box(&bytes), &bounds)));
}

criterion_group!(all, templates, records, reports);
criterion_main!(all);
