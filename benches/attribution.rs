//! How well calls are attributed to handlers by timing alone, compared with the truth that traces hold.
//!
//! `cargo bench --bench attribution -- [SEED] [cost | cross | FILE[:MOST_TRACES] RATE[,RATE...]]...`; without files, the sets
//! under `../shared/data/traces` where there are any. Parents are forgotten, whole traces start as a Poisson process at each
//! rate, and the events of each service go to the online estimator in the order of time. One line per set and rate:
//! - `L`: handlers in flight when a call is made, mean, in the busiest service;
//! - `link`: calls whose most likely handler is the true one, %; `parent`, `fifo`: the same for the handler that
//!   started last, and for the earliest one that has not called this callee yet;
//! - `cover`, `right`: links stated, and how many of them are right, %; also of services up to 6 in flight;
//! - `at once`: the same as cover and right, of the paths that calls are said to be on at the moment they are made, after
//!   the first look; each endpoint has one path, or (of two) its handlers come on two paths by turns;
//! - `error`: total variation of endpoint → callee expectations, %; `nnls`: the same for least squares on seconds;
//! - `pairs`: true pairs with at least 20 calls that were found; `false`: pairs that are told, with no such call in truth;
//! - `bounds cost`: what the limits of the estimator cost, all kinds together; `µs/call`: processor time of linking.
//!
//! A second table is about cost: every trace comes several times, so that the first look at a service weighs as little as
//! it does in a life of days. `of recording`: how much linking is of recording a call whose handler is known; `at sight`:
//! calls that were linked without draws, because the limit was reached, %; `at once`: what the request path itself does
//! for a call and its handler, locks and rings apart.
//!
//! `cross` chooses how far the model is believed on every three sets and tests that on the others.

#![expect(clippy::indexing_slicing, clippy::print_stdout, reason = "a program for one who looks at its output")]

#[path = "attribution/baselines.rs"]
mod baselines;
#[path = "attribution/cost.rs"]
mod cost;
#[path = "attribution/cross.rs"]
mod cross;
#[path = "attribution/random.rs"]
mod random;
#[path = "attribution/replay.rs"]
mod replay;
#[path = "attribution/score.rs"]
mod score;
#[path = "attribution/traces.rs"]
mod traces;
mod sample;

use std::error::Error;
use std::path::{Path, PathBuf};

use couplet_proxy::attribution::Settings;
use score::{FEWEST_HANDLERS, Score};
use traces::{Trace, retimed};

const SEED: u32 = 1;

/// The sets that are known, with the rates per second at which they are looked at and the traces taken.
const SETS: [(&str, &str, usize); 5] = [
    ("hotel25", "10,100,400,1000", usize::MAX),
    ("hotel75", "10,100,400,1000", usize::MAX),
    ("node50", "10,100,400,1000", usize::MAX),
    ("boutique", "10,60,200", 1_500),
    ("trainticket29", "5,20,60,200", 1_200),
];

/// The sets and rates of which the cost is looked at: up to about six in flight, and one far beyond.
const COSTS: [(&str, f64, usize); 5] = [
    ("hotel75", 100.0, usize::MAX),
    ("node50", 100.0, usize::MAX),
    ("trainticket29", 20.0, 1_200),
    ("boutique", 10.0, 1_500),
    ("boutique", 200.0, 1_500),
];
const TIMES: usize = 8;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let seed = arguments.first().and_then(|argument| argument.parse().ok());
    let files = arguments.get(usize::from(seed.is_some())..).unwrap_or_default();
    let seed = seed.unwrap_or(SEED);
    let word = files.first().map(String::as_str).filter(|word| ["cost", "cross"].contains(word));
    if files.is_empty() || word.is_some() {
        let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/traces"));
        let path = |set: &str| folder.join(format!("{set}.zipkin.json.gz"));
        if word == Some("cross") {
            return cross::print(path);
        }
        if word.is_none() {
            println!("{}", Score::HEADER);
            for (set, rates, most) in SETS.into_iter().filter(|(set, ..)| path(set).exists()) {
                measure(&path(set), rates, most, seed)?;
            }
            println!();
        }
        println!("{}", cost::HEADER);
        for (set, rate, most) in COSTS.into_iter().filter(|(set, ..)| path(set).exists()) {
            println!("{}", cost::line(&traces::read(&path(set), most)?, set, rate, seed, TIMES));
        }
        return Ok(());
    }
    println!("{}", Score::HEADER);
    for pair in files.chunks(2) {
        let [file, rates] = pair else { return Err("rates are missing after the file".into()) };
        let (file, most) = match file.rsplit_once(':') {
            Some((file, most)) => (file, most.parse()?),
            None => (file.as_str(), usize::MAX),
        };
        measure(Path::new(file), rates, most, seed)?;
    }
    Ok(())
}

fn measure(path: &Path, rates: &str, most: usize, seed: u32) -> Result<(), Box<dyn Error>> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let set = name.split('.').next().unwrap_or(name);
    let traces = traces::read(path, most)?;
    for rate in rates.split(',') {
        let total = measured(&traces, rate.parse()?, seed, &Settings::default());
        println!("{}", total.line(set, rate));
    }
    Ok(())
}

/// All services of a set at one rate.
fn measured(traces: &[Trace], rate: f64, seed: u32, settings: &Settings) -> Score {
    let mut total = Score::default();
    for traffic in retimed(traces, rate, seed, 1).values() {
        if traffic.handlers.len() >= FEWEST_HANDLERS && !traffic.calls.is_empty() {
            total.add(traffic, &replay::linked(traffic, settings.clone()));
        }
    }
    total
}
