use couplet_telemetry::example::{Example, Trace};
use couplet_telemetry::loss::Loss;
use couplet_telemetry::opaque::{OpaqueReport, OpaqueStats, Protocol};
use couplet_telemetry::outcome::Outcome;
use proptest::prelude::*;

use super::*;
use crate::traffic::{on, traffic};

const BOUNDS: Bounds = Bounds { paths: 100, calls: 100 };

/// Reports of three services; one has failures, calls to a store and a path of which the upper part is unknown.
fn reports() -> Vec<Report> {
    let stock = on("stock", "GET /stock/{id}").takes(7).calls(2, on("db", "query").external());
    let root =
        on("shop", "GET /").takes(3).calls(3, stock.clone()).calls(1, on("pay", "POST /").ends(Outcome::ServerError));
    let mut reports = traffic().of(40, &root).of(5, &stock).reports();
    for report in &mut reports {
        report.calls.iter_mut().for_each(|call| call.stats.first_byte.record(1_234_567));
    }
    reports
}

/// The same with examples of every second path.
fn exemplified() -> Vec<Report> {
    let mut reports = reports();
    for (n, path) in (1..).zip(reports.iter_mut().flat_map(|report| &mut report.paths).step_by(2)) {
        let trace = |id, sampled| Trace { id, sampled, at: 1_700_000_000_000_000_000 };
        let slow = Example { trace: trace(n, true), duration: 9_000_000, outcome: Outcome::Ok, calls: 3 };
        path.stats.examples.add(&slow);
        let failed =
            Example { trace: trace(u128::MAX - n, true), outcome: Outcome::ServerError, duration: 1, calls: 0 };
        path.stats.examples.add(&failed);
    }
    reports
}

#[test]
fn examples_are_kept_with_their_paths() {
    let reports = exemplified();
    let with = |reports: &[Report]| {
        reports.iter().flat_map(|report| &report.paths).filter(|path| !path.stats.examples.is_empty()).count()
    };
    assert!(with(&reports) >= 2);
    assert_eq!(read(&write(&reports), &BOUNDS), Some(reports));
}

#[test]
fn examples_that_are_cut_or_of_more_paths_than_there_are_are_not_read() {
    let report =
        exemplified().into_iter().find(|report| report.paths.iter().any(|path| !path.stats.examples.is_empty()));
    let bytes = write(&report);
    assert!(read(&bytes, &BOUNDS).is_some());
    for cut in 1..40 {
        assert_eq!(read(&bytes[..bytes.len() - cut], &BOUNDS), None, "{cut}");
    }
}

#[test]
fn a_report_whose_window_ends_before_it_begins_is_read_as_it_was_written() {
    let report = Report { start: 9, end: 3, ..reports().remove(0) };
    assert_eq!(read(&write([&report]), &BOUNDS), Some(vec![report]));
}

#[test]
fn reports_are_read_as_they_were_written() {
    let reports = reports();
    assert!(reports.iter().any(|report| !report.calls.is_empty()) && reports.len() >= 3);
    assert_eq!(read(&write(&reports), &BOUNDS), Some(reports));
}

#[test]
fn what_is_neither_path_nor_call_is_kept_with_them() {
    let mut report = reports().remove(0);
    report.origin.version = Some("1.2".to_owned());
    let only_origin = report.clone();
    report.losses.push((Loss::Paths, 7));
    let stats = OpaqueStats { opened: 3, ..OpaqueStats::default() };
    report.opaque.push(OpaqueReport { peer: "db:5432".to_owned(), protocol: Protocol::Tcp, stats });
    report.propagation.header("x-request-id").unwrap().inbound = 9;
    let mut long = report.clone();
    let opaque = |n: usize| OpaqueReport { peer: format!("db-{n:03}:5432"), ..report.opaque[0].clone() };
    long.opaque = (0..50).map(opaque).collect();
    let all = vec![only_origin, report, long];
    assert_eq!(read(&write(&all), &BOUNDS), Some(all));
}

#[test]
fn a_path_that_is_told_of_only_by_its_calls_keeps_them() {
    let mut reports = reports();
    let report = reports.iter_mut().find(|report| !report.calls.is_empty()).unwrap();
    report.paths.clear();
    assert_eq!(read(&write(&reports), &BOUNDS), Some(reports));
}

#[test]
fn a_row_takes_half_of_what_it_takes_as_gzipped_otlp() {
    let reports = reports();
    let otlp: usize = reports.iter().map(|report| gzip::pack(&otlp::encode(report)).len()).sum();
    assert!(write(&reports).len() < otlp / 2);
}

#[test]
fn more_rows_than_the_bounds_allow_are_not_read() {
    let reports = reports();
    let most = |rows: fn(&Report) -> usize| reports.iter().map(rows).max().unwrap();
    let (paths, calls) = (most(|report| report.paths.len()), most(|report| report.calls.len()));
    let bytes = write(&reports);
    assert!(read(&bytes, &Bounds { paths, calls }).is_some());
    assert_eq!(read(&bytes, &Bounds { paths: paths - 1, calls }), None);
    assert_eq!(read(&bytes, &Bounds { paths, calls: calls - 1 }), None);
}

#[test]
fn names_that_cannot_be_names_are_not_read() {
    let renamed = |change: fn(&mut Report)| {
        let mut report = reports().into_iter().find(|report| report.origin.service == "stock").unwrap();
        change(&mut report);
        read(&write([&report]), &BOUNDS)
    };
    assert!(renamed(|_| {}).is_some());
    assert_eq!(renamed(|report| report.origin.service = "evil\u{1b}[2J".to_owned()), None);
    assert_eq!(renamed(|report| report.origin.instance = "x".repeat(257)), None);
    assert_eq!(renamed(|report| report.origin.instance.clear()), None);
    assert_eq!(renamed(|report| report.calls[0].callee = Arc::new(Callee::new("a b", "GET /"))), None);
    assert_eq!(renamed(|report| report.calls[0].callee = Arc::new(Callee::new("a", "\n"))), None);
    assert_eq!(
        renamed(|report| report
            .paths
            .iter_mut()
            .for_each(|path| Arc::make_mut(&mut path.path).endpoint = "x".repeat(201))),
        None
    );
    assert_eq!(
        renamed(|report| report
            .paths
            .iter_mut()
            .for_each(|path| Arc::make_mut(&mut path.path).caller = Some("/".to_owned()))),
        None
    );
}

#[test]
fn what_is_cut_off_is_not_read() {
    let bytes = write([&reports().remove(0)]);
    for length in MAGIC.len() + 1..bytes.len() {
        assert_eq!(read(&bytes[..length], &BOUNDS), None, "{length} of {} bytes", bytes.len());
    }
    assert!(read(&[&bytes[..], &[0]].concat(), &BOUNDS).is_none());
}

proptest! {
    #[test]
    fn damaged_bytes_are_refused_or_read_as_other_reports(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..9)) {
        let mut bytes = write(&reports());
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        for report in read(&bytes, &BOUNDS).into_iter().flatten() {
            prop_assert!(report.paths.len() <= BOUNDS.paths && report.calls.len() <= BOUNDS.calls);
            prop_assert!(report.calls.iter().all(|call| is_service_name(call.callee.service())));
        }
    }

    #[test]
    fn no_bytes_ask_for_much_room(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&[&MAGIC[..], &body].concat(), &BOUNDS);
        let mut reader = Reader::new(&body);
        let _ = (reader.clone().counts(), Histogram::read(&mut reader.clone()), HandlingStats::read(&mut reader));
    }
}
