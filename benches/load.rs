//! Couplet beside HAProxy, nginx and Envoy, in one run on one machine.
//!
//! `cargo bench --workspace --bench load -- [--quick] [--check] [--cases ...] [--peers ...]`, or `just bench-load`; `benches/load/install`
//! gets the peers. Every measurement starts its proxy afresh on one core, with one thread; clients and backend run on
//! another one. Peers take turns in rotating order. What counts is the processor time of the proxy for one request, as a
//! ratio to HAProxy's in the same run: ratios repeat, microseconds belong to a machine. Results go to
//! `target/bench-load/` as JSON and as Markdown.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for one who looks at its output")]

#[path = "load/bars.rs"]
mod bars;
#[path = "load/cases.rs"]
mod cases;
#[path = "load/measure.rs"]
mod measure;
mod rig;
#[path = "load/table.rs"]
mod table;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Parser as _;

use measure::{Measured, Timing, measure};
use rig::backend::Backend;
use rig::peers::{Peer, Stage};
use rig::program::Core;

/// Proxies beside one another: processor time, latency and memory.
#[derive(Debug, clap::Parser)]
struct Args {
    /// One short round, to see that everything works: less than two minutes, and figures that mean little
    #[arg(long)]
    quick: bool,

    /// Fail unless Couplet is inside the first bar of every budget
    #[arg(long)]
    check: bool,

    /// Rounds [default: 3; with --quick 1]
    #[arg(long)]
    rounds: Option<usize>,

    /// Seconds of each measurement [default: 5; with --quick 0.5]
    #[arg(long)]
    seconds: Option<f64>,

    /// Only these cases
    #[arg(long, value_delimiter = ',')]
    cases: Vec<String>,

    /// Only these peers
    #[arg(long, value_delimiter = ',')]
    peers: Vec<Peer>,

    /// Another binary of Couplet than the one built along
    #[arg(long)]
    couplet: Option<PathBuf>,

    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Everything that was measured, by case and peer, in the order of the rounds.
type Results = BTreeMap<(usize, Peer), Vec<Measured>>;

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<ExitCode> {
    let cases = cases::chosen(&args.cases)?;
    let couplet = args.couplet.clone().unwrap_or_else(|| env!("CARGO_BIN_EXE_couplet").into());
    let (releases, missing) = installed(&couplet, &args.peers);
    for (peer, why) in &missing {
        eprintln!("MISSING: {}: {why:#}", peer.name());
    }
    ensure!(!releases.is_empty(), "there is nothing to measure");

    let (core, other) = Core::pair();
    if !core.is_there() {
        eprintln!("NOTE: one core alone: proxies and load disturb one another, and the figures mean little");
    }
    other.take();
    let backend = Backend::start(other)?;
    let folder = tempfile::tempdir()?;
    let stage = Stage {
        couplet: &couplet,
        folder: folder.path(),
        core,
        other,
        under: Vec::new(),
        settings: &[],
        reports: true,
    };
    let timing = Timing {
        warmup: Duration::from_millis(if args.quick { 150 } else { 1_000 }),
        measured: Duration::try_from_secs_f64(args.seconds.unwrap_or(if args.quick { 0.5 } else { 5.0 }))?,
    };
    let rounds = args.rounds.unwrap_or(if args.quick { 1 } else { 3 });

    let peers: Vec<Peer> = releases.keys().copied().collect();
    let mut results = Results::new();
    for (number, case) in cases.iter().enumerate() {
        for round in 0..rounds {
            for turn in 0..peers.len() {
                let Some(&peer) = peers.get((turn + round) % peers.len()) else { continue };
                if !case.is_for(peer) {
                    continue;
                }
                eprintln!("{}, round {}: {}", case.name, round + 1, peer.name());
                let measured = measure(&stage, &backend, peer, case, timing)
                    .with_context(|| format!("{}: {}", case.name, peer.name()))?;
                results.entry((number, peer)).or_default().push(measured);
            }
        }
    }
    let bars = bars::all(&cases, &results);
    let document = table::document(&cases, &results, &releases, &missing, &bars);
    let markdown = table::markdown(&cases, &results, &releases, &missing, &bars);
    println!("{markdown}");
    save(&document, &markdown)?;
    if !args.check {
        return Ok(ExitCode::SUCCESS);
    }
    let broken: Vec<_> = bars.iter().filter(|bar| !bar.is_met()).collect();
    for bar in &broken {
        let is = bar.is.map_or("was not measured".to_owned(), |is| format!("is {is:.2}"));
        eprintln!("error: {} {is}, and may be {} at most", bar.what, bar.first_bar);
    }
    Ok(if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The peers that are here, with their releases, and those that are not, with the reason.
fn installed(couplet: &Path, wanted: &[Peer]) -> (BTreeMap<Peer, String>, Vec<(Peer, anyhow::Error)>) {
    let (mut releases, mut missing) = (BTreeMap::new(), Vec::new());
    for peer in Peer::ALL.into_iter().filter(|peer| wanted.is_empty() || wanted.contains(peer)) {
        match peer.release(couplet) {
            Ok(release) => drop(releases.insert(peer, release)),
            Err(why) => missing.push((peer, why)),
        }
    }
    (releases, missing)
}

fn save(document: &serde_json::Value, markdown: &str) -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench-load");
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("load.json"), serde_json::to_vec_pretty(document)?)?;
    fs::write(folder.join("load.md"), markdown)?;
    eprintln!("written to {}", folder.display());
    Ok(())
}
