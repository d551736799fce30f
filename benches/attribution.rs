//! How well calls are attributed to handlers by timing alone, compared with the truth that traces hold.
//!
//! `cargo bench --bench attribution -- [FILE[:MOST_TRACES] RATE[,RATE...]]...`; without arguments, the sets under
//! `../shared/data/traces` where there are any. Parents are forgotten, whole traces start as a Poisson process at each
//! rate, and the events of each service go to the online estimator in the order of time. One line per set and rate:
//! - `L`: handlers in flight when a call is made, mean, in the busiest service;
//! - `link`: calls whose most likely handler is the true one, %; `parent`, `fifo`: the same for the handler that
//!   started last, and for the earliest one that has not called this callee yet;
//! - `cover`, `right`: links stated, and how many of them are right, %; also of services up to 6 in flight;
//! - `error`: total variation of endpoint → callee expectations, %; `nnls`: the same for least squares on seconds;
//! - `pairs`: true pairs with at least 20 calls that were found; `false`: pairs said to call at least once in twenty
//!   handlings, with no such call in truth.

#![expect(clippy::indexing_slicing, clippy::print_stdout, reason = "a program for one who looks at its output")]

#[path = "attribution/baselines.rs"]
mod baselines;
#[path = "attribution/random.rs"]
mod random;
#[path = "attribution/replay.rs"]
mod replay;
#[path = "attribution/score.rs"]
mod score;
#[path = "attribution/traces.rs"]
mod traces;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Instant;

use score::Score;

/// Services with fewer handlers than this are left out: there is nothing to learn from.
const FEWEST_HANDLERS: usize = 30;
const SEED: u32 = 1;

/// The sets that are known, with the rates per second at which they are looked at and the traces taken.
const SETS: [(&str, &str, usize); 5] = [
    ("hotel25", "10,100,400,1000", usize::MAX),
    ("hotel75", "10,100,400,1000", usize::MAX),
    ("node50", "10,100,400,1000", usize::MAX),
    ("boutique", "10,60,200", 1_500),
    ("trainticket29", "5,20,60,200", 1_200),
];

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    println!("{}", Score::HEADER);
    if arguments.is_empty() {
        let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/traces"));
        for (set, rates, most) in SETS {
            let path = folder.join(format!("{set}.zipkin.json.gz"));
            if path.exists() {
                measure(&path, rates, most)?;
            }
        }
    }
    for pair in arguments.chunks(2) {
        let [file, rates] = pair else { return Err("rates are missing after the file".into()) };
        let (file, most) = match file.rsplit_once(':') {
            Some((file, most)) => (file, most.parse()?),
            None => (file.as_str(), usize::MAX),
        };
        measure(Path::new(file), rates, most)?;
    }
    Ok(())
}

fn measure(path: &Path, rates: &str, most: usize) -> Result<(), Box<dyn Error>> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let set = name.split('.').next().unwrap_or(name);
    let traces = traces::read(path, most)?;
    for rate in rates.split(',') {
        let mut total = Score::default();
        let started = Instant::now();
        for traffic in traces::retimed(&traces, rate.parse()?, SEED).values() {
            if traffic.handlers.len() >= FEWEST_HANDLERS && !traffic.calls.is_empty() {
                total.add(traffic, &replay::linked(traffic));
            }
        }
        println!("{}", total.line(set, rate, started.elapsed()));
    }
    Ok(())
}
