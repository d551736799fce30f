//! What it costs to take reports in, step by step, on one thread and in processor time: other work on the machine does
//! not enter into it.

use std::time::Duration;

use couplet_analyzer::graph::{Graph, GraphLimits};
use couplet_analyzer::slots::{OpenSlot, PackedReport};
use couplet_telemetry::otlp::{self, Bounds};
use couplet_telemetry::window::WindowLimits;
use rustix::time::{ClockId, clock_gettime};

use super::large::Large;

/// Takes in some windows of a system, report after report, as an analyzer does. The graph that comes of it.
pub(crate) fn intake(large: &Large, windows: u64) -> Graph {
    println!("\n{} services, {} edges, {} paths, processor time:", large.services(), large.edges(), large.paths());
    let bounds = Bounds { paths: 1_200_000, calls: 1_200_000 };
    let limits = WindowLimits { paths: 1_200_000, callees: 2_400_000 };
    let mut graph = Graph::new(GraphLimits::default());
    for sequence in 1..=windows {
        let reports: Vec<_> = (0..large.services()).map(|service| large.report(service, sequence)).collect();
        let records: usize = reports.iter().map(|report| report.paths.len() + report.calls.len()).sum();
        let (bodies, encoding) = spent(|| reports.iter().map(otlp::encode).collect::<Vec<_>>());
        drop(reports);
        let bytes: usize = bodies.iter().map(Vec::len).sum();
        let mut slot = OpenSlot::new(limits, 0);
        let [mut decoding, mut writing, mut merging, mut gathering] = [Duration::ZERO; 4];
        for body in &bodies {
            let (decoded, took) = spent(|| otlp::decode(body, &bounds).expect("ours"));
            decoding += took;
            let (packed, took) = spent(|| decoded.reports.into_iter().map(PackedReport::new).collect::<Vec<_>>());
            writing += took;
            merging += spent(|| packed.iter().for_each(|report| report.add_to(&mut graph))).1;
            gathering += spent(|| packed.into_iter().for_each(|report| slot.absorb(report))).1;
        }
        let (rollups, packing) = spent(|| slot.seal(10_000));
        let packed: usize = rollups.iter().map(|rollup| rollup.body.len()).sum();
        let rate = |time: Duration| records as f64 / time.as_secs_f64();
        let taken_in = decoding + writing + merging + gathering;
        println!(
            "window {sequence}: {records} records of {} bytes; decode {decoding:.1?}, pack {writing:.1?}, merge \
             {merging:.1?}, gather {gathering:.1?}: {:.0} records/s; pack the slot {packing:.1?} to {} bytes each: with it {:.0} records/s (a proxy \
             encodes them in {encoding:.1?})",
            bytes / records,
            rate(taken_in),
            packed / records,
            rate(taken_in + packing),
        );
    }
    graph
}

/// What comes of it, and the processor time of this thread that it took.
fn spent<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let begun = processor_time();
    let done = work();
    (done, processor_time().saturating_sub(begun))
}

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}
