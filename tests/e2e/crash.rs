//! The analyzer is killed while reports arrive: what it had acknowledged is there when it is back, once.

use std::io::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{Analyzer, Program, couplet, eventually, free_port};
use crate::sender::{Counts, Senders, counted};

/// What the moments of death and the traffic come from.
const SEED: u64 = 0x0c0d_e5ee_d016_0001;

/// Times that the analyzer is killed. The full number with `COUPLET_HEAVY=1`.
fn kills() -> u64 {
    if std::env::var_os("COUPLET_HEAVY").is_some() { 100 } else { 6 }
}

#[test]
fn killed_at_any_moment_the_analyzer_loses_nothing_that_it_acknowledged_and_counts_nothing_twice() {
    let data = tempfile::tempdir().unwrap();
    let port = free_port();
    let line = format!("analyzer --listen 127.0.0.1:{port} --data {} --log-format json", data.path().display());
    let mut random = fastrand::Rng::with_seed(SEED);
    let mut analyzer = Analyzer::of(&line);
    let senders = Senders::start(SocketAddr::from(([127, 0, 0, 1], port)), SEED);
    let (mut slowest, mut while_starting) = (Duration::ZERO, 0);
    for _ in 0..kills() {
        let enough = senders.reports() + random.u64(1..60);
        eventually("reports are acknowledged", || (senders.reports() >= enough).then_some(()));
        std::thread::park_timeout(Duration::from_micros(random.u64(0..5_000)));
        analyzer.program.signal(Signal::KILL);
        analyzer.program.exit_code();
        // Now and then it dies once more, before it is back.
        if random.u8(0..4) == 0 {
            let mut starting = Program::start(&mut couplet(&line));
            std::thread::park_timeout(Duration::from_micros(random.u64(0..60_000)));
            starting.signal(Signal::KILL);
            starting.exit_code();
            while_starting += 1;
        }
        let told = senders.acknowledged();
        let start = Instant::now();
        analyzer = Analyzer::of(&line);
        slowest = slowest.max(start.elapsed());
        holds_all(&counted(&analyzer.document()), &told);
    }
    let reports = senders.reports();
    let all = senders.stop();
    let document = analyzer.document_when(|document| document["requests"].as_u64() >= Some(all["shop"] + all["stock"]));
    assert_eq!(counted(&document), all, "every report once");
    analyzer.program.signal(Signal::TERM);
    assert_eq!(analyzer.program.exit_code(), Some(0), "{}", analyzer.program.said());
    let analyzer = Analyzer::of(&line);
    assert_eq!(counted(&analyzer.document()), all, "and so it is on disk");
    let _ = writeln!(
        std::io::stderr(),
        "seed {SEED:#x}: {} kills and {while_starting} more while it started, {reports} reports acknowledged, \
         {} counts equal the senders', back after {slowest:?} at the latest",
        kills(),
        all.len()
    );
}

/// Claims that nothing is missing of what was acknowledged.
#[track_caller]
pub(crate) fn holds_all(kept: &Counts, acknowledged: &Counts) {
    for (what, count) in acknowledged {
        let kept = kept.get(what).copied().unwrap_or(0);
        assert!(kept >= *count, "{what}: {count} were acknowledged, {kept} are there");
    }
}
