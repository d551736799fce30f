//! What an analyzer's memory is made of: bytes that are given out, step by step, on one thread.

use couplet_analyzer::coupling::flow::Passing;
use couplet_analyzer::coupling::roles::roles;
use couplet_analyzer::findings::findings_in;
use couplet_analyzer::graph::{Graph, GraphLimits};
use couplet_analyzer::score::Scorer;
use couplet_analyzer::slots::{OpenSlot, PackedReport};
use couplet_analyzer::view::document::Document;
use couplet_config::{Architecture, FindingThresholds};
use couplet_telemetry::otlp::Bounds;
use couplet_telemetry::window::WindowLimits;

use super::counted;
use super::large::Large;

/// Records of one slot at most, about: what is beyond begins the next one.
const SLOT: usize = 25_000;

pub(crate) fn weigh(large: &Large) {
    counted::count();
    let scale = Scale { paths: large.paths() };
    println!(
        "\n{} services, {} edges, {} paths: bytes in use, and the most while it is made",
        large.services(),
        large.edges(),
        large.paths()
    );
    let limits = GraphLimits {
        services: 30_000,
        endpoints: 100_000,
        edges: 300_000,
        paths: 1_200_000,
        instances: 30_000,
        examples: 50_000,
    };
    let mut graph = Graph::new(limits);
    let window = |graph: &mut Graph, sequence| {
        (0..large.services()).for_each(|service| graph.apply(&large.report(service, sequence)));
    };
    scale.step("graph, first window", || window(&mut graph, 1));
    scale.step("graph, second window", || window(&mut graph, 2));
    let snapshot = scale.step("snapshot", || graph.snapshot());
    scale.step("graph, what changed since the snapshot", || window(&mut graph, 3));
    let flows = Passing::of(&snapshot);
    let (thresholds, architecture) = (FindingThresholds::default(), Architecture::default());
    let found = scale.step("findings", || findings_in(&snapshot, &flows, &thresholds, &architecture));
    drop(scale.step("score", || Scorer::new(&snapshot, &thresholds, &architecture).score(&flows)));
    drop(scale.step("roles", || roles(&snapshot, &architecture)));
    let document = scale.step("document", || Document::new(&snapshot, &found, "fleet"));
    drop(scale.step("document, written", || document.to_json()));
    drop((document, found));
    let rollups = slots(large, &scale);
    drop((snapshot, graph));
    let bounds = Bounds { paths: 1_200_000, calls: 1_200_000 };
    let mut hour = Graph::new(limits);
    scale.step("graph of the slots", || {
        for rollup in &rollups {
            rollup.reports(&bounds).iter().flatten().for_each(|report| hour.apply(report));
        }
    });
    let snapshot = scale.step("snapshot of the slots, in their place", || hour.into_snapshot());
    println!("resident {} MiB, in use {} MiB", resident() >> 20, counted::live() >> 20);
    drop(snapshot);
}

/// The slots of one window, packed; and the last one while it is open.
fn slots(large: &Large, scale: &Scale) -> Vec<couplet_analyzer::slots::Rollup> {
    let limits = WindowLimits { paths: 1_200_000, callees: 2_400_000 };
    let mut open = OpenSlot::new(limits, 0);
    let (mut service, mut records) = (0, 0);
    let mut fill = |open: &mut OpenSlot| {
        let begun = records;
        while records < begun + SLOT && service < large.services() {
            let report = large.report(service, 1);
            records += report.paths.len() + report.calls.len();
            open.absorb(PackedReport::new(report));
            service += 1;
        }
        records > begun
    };
    scale.step("open slot, full", || fill(&mut open));
    let mut rollups = scale.step("the same, packed", || open.replace(0).seal(10_000));
    scale.step("all other slots of one window, packed", || {
        while fill(&mut open) {
            rollups.extend(open.replace(0).seal(10_000));
        }
    });
    rollups
}

struct Scale {
    paths: usize,
}

impl Scale {
    fn step<T>(&self, what: &str, work: impl FnOnce() -> T) -> T {
        let before = counted::live();
        let _ = counted::peak();
        let made = work();
        let most = counted::peak().saturating_sub(before);
        let kept = counted::live().cast_signed() - before.cast_signed();
        let each = kept as f64 / self.paths as f64;
        println!(
            "{what:<42}{:>9.1} MiB{each:>8.0} bytes per path; at most {:>9.1} MiB",
            mib(kept),
            mib(most.cast_signed())
        );
        made
    }
}

fn mib(bytes: isize) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).expect("a number") << 10
}
