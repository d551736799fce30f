//! What stands on the request path or behind every report: templates, records, reports.
//!
//! `cargo bench --bench record`. Compare runs of one machine with one another, nothing else.

mod sample;

use std::hint::black_box;

use couplet_telemetry::endpoint::Templates;
use couplet_telemetry::otlp::{Bounds, decode, encode};
use couplet_telemetry::report::Origin;
use couplet_telemetry::window::Window;
use criterion::{Criterion, criterion_group, criterion_main};

use sample::{CALL, LIMITS, callee, handling, path, used};

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
        let uses: Vec<_> = pairs.iter().map(|(_, callee)| used(callee)).collect();
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
