//! The analyzer before fleets of which everything is known.
//!
//! `cargo bench --bench fleet -- [SEED] [ground | predict | scale | intake | answers | weigh]... [traced] [SIZE]...`; all of it
//! where nothing is named.
//!
//! `ground`: 100 fleets of 10 to 1 000 services with problems planted in them, and decoys just below the thresholds; what
//! sidecars would report of their traffic goes over the wire format into a graph. Precision and recall by rule, with
//! everything that is wrong in words. `predict`: availability and cuts, predicted from recorded traffic, against the same
//! system simulated again. `scale`: an analyzer in a process of its own takes in reports over HTTP: reports of
//! 2 000 services and 10 000 edges, then of 20 000, 200 000 and a million paths. Records are rows of reports: one for each
//! path, one for each callee of a path. `intake` is the part of it that says what taking in costs, `answers` the one that says
//! how long answers take meanwhile. `weigh`: what the memory of an analyzer is made of.
//!
//! A size is services, edges and paths: `20000:200000:400000`. `scale` then measures memory for these alone. With `traced`
//! requests have traces, as those that proxies see, and so every path comes with examples.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a program for one who looks at its output"
)]

#[path = "fleet/counted.rs"]
mod counted;
#[path = "fleet/ground.rs"]
#[expect(dead_code, reason = "shared with the end-to-end tests; each uses a part of it")]
mod ground;
#[path = "fleet/intake.rs"]
mod intake;
#[path = "fleet/large.rs"]
mod large;
#[path = "fleet/scale.rs"]
mod scale;
#[path = "fleet/weigh.rs"]
mod weigh;

use std::collections::BTreeMap;
use std::path::PathBuf;

use couplet_analyzer::findings::Rule;
use ground::judge::{RULES, Tally, judge};

const SEED: u64 = 1;
const FLEETS: u64 = 100;
/// Requests of every entry, where predictions are put to the test.
const REQUESTS: usize = 1_000;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [scale::SERVE, millis, data @ ..] = words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        return scale::serve(millis.parse().expect("milliseconds"), data.first().map(PathBuf::from));
    }
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let seed = arguments.iter().find_map(|argument| argument.parse().ok()).unwrap_or(SEED);
    let sizes: Vec<large::Size> = arguments.iter().filter_map(|argument| large::Size::parse(argument)).collect();
    let traced = arguments.iter().any(|argument| argument == "traced");
    let words = ["ground", "predict", "scale", "intake", "answers", "weigh"];
    let asked = |word: &str| {
        let named = arguments.iter().any(|argument| words.contains(&argument.as_str()));
        !named || arguments.iter().any(|argument| argument == word)
    };
    if asked("ground") {
        truth(seed);
    }
    if asked("predict") {
        predictions(seed);
    }
    if asked("scale") {
        scale::measure(&sizes, seed, traced);
    }
    // These are parts of `scale`.
    if asked("answers") && !asked("scale") {
        scale::answers(&large::Large::new(scale::USUAL, seed).traced(traced));
    }
    if asked("intake") && !asked("scale") {
        scale::taken_in(seed, traced);
    }
    if asked("weigh") {
        let sizes = if sizes.is_empty() { scale::LARGE.to_vec() } else { sizes };
        sizes.iter().for_each(|size| weigh::weigh(&large::Large::new(*size, seed).traced(traced)));
    }
}

fn truth(seed: u64) {
    let mut tallies: BTreeMap<Rule, Tally> = BTreeMap::new();
    let (mut services, mut decoys, mut planted) = (0, 0, 0);
    for number in 0..FLEETS {
        let size = 10.0 * 100_f64.powf(number as f64 / (FLEETS - 1) as f64);
        let fleet = ground::fleet(seed * 1_000 + number, size as usize);
        let (found, remarks) = judge(&fleet, &ground::traffic::reports(&fleet.system, fleet.seed));
        for (rule, tally) in &found {
            tallies.entry(*rule).or_default().add(tally);
        }
        (services, decoys, planted) =
            (services + fleet.system.services.len(), decoys + fleet.decoys, planted + fleet.truth.len());
        remarks.iter().for_each(|remark| println!("{remark}"));
    }
    println!("{FLEETS} fleets, {services} services, {planted} problems, {decoys} decoys");
    println!(
        "{:<6}{:>8}{:>8}{:>8}{:>11}{:>11}{:>8}",
        "rule", "right", "wrong", "missed", "misgraded", "precision", "recall"
    );
    for rule in RULES {
        let tally = tallies.get(&rule).copied().unwrap_or_default();
        let Tally { right, wrong, missed, misgraded } = tally;
        let (precision, recall) = (tally.precision(), tally.recall());
        println!("{:<6}{right:>8}{wrong:>8}{missed:>8}{misgraded:>11}{precision:>11.3}{recall:>8.3}", rule.as_str());
    }
}

fn predictions(seed: u64) {
    let (mut right, mut all) = (0, 0);
    let mut errors: BTreeMap<(&str, &str), Vec<f64>> = BTreeMap::new();
    for number in 0..FLEETS {
        let (covered, cases) = ground::availability(seed * 1_000 + number, REQUESTS);
        (right, all) = (right + covered, all + cases);
        for prediction in ground::what_if(seed * 1_000 + number, REQUESTS) {
            errors.entry((prediction.kind, prediction.measure)).or_default().push(prediction.error.abs());
        }
    }
    println!("availability: {right} of {all} entries inside the predicted range");
    println!("{:<10}{:<14}{:>6}{:>12}{:>8}{:>8}", "cut", "measure", "cases", "within 10 %", "p95", "worst");
    for ((kind, measure), mut errors) in errors {
        errors.sort_by(f64::total_cmp);
        let within = errors.iter().filter(|error| **error <= 0.1).count();
        let p95 = errors[(errors.len() - 1) * 95 / 100];
        let worst = errors[errors.len() - 1];
        println!("{kind:<10}{measure:<14}{:>6}{within:>12}{p95:>8.3}{worst:>8.3}", errors.len());
    }
}
