//! `couplet cuts`: what to cut first.

use std::fmt::Write as _;
use std::process::ExitCode;

use couplet_analyzer::whatif::BestCut;
use serde::{Deserialize, Serialize};

use crate::client::WindowArgs;
use crate::exit::Fault;
use crate::output;
use crate::output::{Format, printable};

/// What `couplet cuts` is told.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// How many cuts, each after the ones before it
    #[arg(short, default_value_t = 5, value_name = "NUMBER", value_parser = clap::value_parser!(u8).range(1..=20))]
    k: u8,

    /// Shape of the answer
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,

    #[command(flatten)]
    analyzer: WindowArgs,
}

const EXAMPLES: &str = "\
Examples:
  couplet cuts
  couplet cuts -k 3 --format json | jq -r '.cuts[].cut'

Each cut can be looked at with `couplet whatif`. The exit code is 3 when too few requests were seen for a score.";

#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    cuts: Vec<BestCut>,
    score: Option<f64>,
    requests: u64,
}

/// Prints the best cuts.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let answer: Answer = args.analyzer.client().ask(&format!("/api/v1/cuts?k={}", args.k))?;
    output::result(&match args.format {
        Format::Text => printable(&text(&answer)),
        Format::Json => output::json(&answer)?,
    })?;
    if answer.score.is_none() {
        let seen = answer.requests;
        return Err(Fault::Evidence.because(format_args!("{seen} requests are too few for a score")).into());
    }
    Ok(ExitCode::SUCCESS)
}

fn text(answer: &Answer) -> String {
    let Some(score) = answer.score else { return String::new() };
    let mut out = format!("coupling score now: {score:.1}, if everything else behaves as recorded\n");
    for (number, cut) in answer.cuts.iter().enumerate() {
        let _ = writeln!(
            out,
            "{}. {}\n   score {:.1} (−{:.1}), {:.0} % of all request time saved; seen in {} calls\n   couplet whatif --{}",
            number + 1,
            cut.says,
            cut.score,
            cut.points,
            cut.saved * 100.0,
            cut.n,
            command(&cut.cut),
        );
    }
    if answer.cuts.is_empty() {
        out.push_str("no single cut gains anything\n");
    }
    out
}

/// A cut as the flag of `couplet whatif`; a shell must not read the arrow in it.
fn command(cut: &str) -> String {
    match cut.split_once(' ') {
        Some((kind, what)) => format!("{kind} '{}'", what.replace('\'', "'\\''")),
        None => cut.to_owned(),
    }
}
