//! Reports as they come over the network: what decodes, encodes and decodes to the same.

#![no_main]

use couplet_telemetry::counts::Counts;
use couplet_telemetry::histogram::Histogram;
use couplet_telemetry::otlp::{Bounds, Decoded, decode, encode};
use couplet_telemetry::outcome::Evidence;
use couplet_telemetry::report::{CallStats, HandlingStats, Report};
use libfuzzer_sys::fuzz_target;

const BOUNDS: Bounds = Bounds { paths: 64, calls: 64 };

fuzz_target!(|bytes: &[u8]| {
    let Ok(decoded) = decode(bytes, &BOUNDS) else { return };
    for report in decoded.reports {
        assert!(report.paths.len() <= BOUNDS.paths && report.calls.len() <= BOUNDS.calls);
        assert!(report.start <= report.end);
        let again = decode(&encode(&report), &BOUNDS).expect("what was read can be read again");
        if is_exact(&report) {
            assert_eq!(again, Decoded { reports: vec![report.clone()], ignored: 0 });
        }
        if let Some((first, second)) = report.split() {
            for half in [first, second] {
                decode(&encode(&half), &BOUNDS).expect("every half stands alone");
            }
        }
    }
});

/// Whether every number is one that the wire carries without rounding: whole numbers as `i64`, times and sums as `f64`.
fn is_exact(report: &Report) -> bool {
    let handled = |stats: &HandlingStats| {
        let counts = [&stats.calls, &stats.callees, &stats.depth_below, &stats.calls_below, &stats.services_below];
        [stats.blocked, stats.busy, stats.asynchronous].into_iter().all(fits)
            && stats.outcomes.iter().all(|(_, n)| fits(n))
            && counts.into_iter().all(is_whole)
            && is_timed(&stats.duration)
    };
    let called = |stats: &CallStats| {
        let bytes = [stats.attempts, stats.request_bytes, stats.response_bytes];
        let joint = [stats.joint.neither, stats.joint.handling_only, stats.joint.call_only, stats.joint.both];
        [stats.blocking, stats.blocked].into_iter().chain(bytes).chain(joint).all(fits)
            && Evidence::ALL.into_iter().all(|evidence| fits(stats.links.get(evidence)))
            && stats.outcomes.iter().all(|(_, n)| fits(n))
            && is_whole(&stats.per_handling)
            && is_timed(&stats.duration)
            && is_timed(&stats.first_byte)
    };
    report.paths.iter().all(|path| handled(&path.stats))
        && report.calls.iter().all(|call| called(&call.stats))
        && report.losses.iter().all(|(_, n)| fits(*n))
}

fn fits(n: u64) -> bool {
    i64::try_from(n).is_ok()
}

fn is_whole(counts: &Counts) -> bool {
    counts.sum() < EXACT
}

fn is_timed(histogram: &Histogram) -> bool {
    // Half of what an `f64` holds exactly: nanoseconds pass through seconds.
    [histogram.sum(), histogram.max()].into_iter().all(|nanos| nanos < EXACT / 2)
}

const EXACT: u64 = 1 << 53;
