//! `couplet blame`: which service caused the failures that users saw, and which one costs them most time.

use std::fmt::Write as _;
use std::process::ExitCode;

use couplet_analyzer::blame::{EntryBlame, SpentOn};
use serde::Deserialize;

use crate::client::{WindowArgs, query};
use crate::exit::Fault;
use crate::output;
use crate::output::{Format, printable};

/// What `couplet blame` is told.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Only this entry: its service and endpoint
    #[arg(long, value_name = "ENTRY")]
    entry: Option<String>,

    /// Shape of the answer
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,

    #[command(flatten)]
    analyzer: WindowArgs,
}

const EXAMPLES: &str = "\
Examples:
  couplet blame
  couplet blame --entry \"frontend POST /checkout\" --format json | jq '.entries[0].origins'

The exit code is 3 when the analyzer has not seen any request yet.";

#[derive(Debug, Deserialize, serde::Serialize)]
struct Answer {
    entries: Vec<EntryBlame>,
}

/// Prints who is to blame.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let path = match &args.entry {
        Some(entry) => format!("/api/v1/blame?entry={}", query(entry)),
        None => "/api/v1/blame".to_owned(),
    };
    let answer: Answer = args.analyzer.client().ask(&path)?;
    output::result(&match args.format {
        Format::Text => printable(&answer.entries.iter().map(text).collect::<Vec<_>>().join("\n")),
        Format::Json => output::json(&answer)?,
    })?;
    if answer.entries.is_empty() {
        return Err(Fault::Evidence.because("the analyzer has not seen any request from outside yet").into());
    }
    Ok(ExitCode::SUCCESS)
}

/// Parts of the time that people read.
const SHOWN: usize = 5;

fn text(blame: &EntryBlame) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{}: {} of {} requests failed, {} on average",
        blame.entry,
        blame.failures,
        blame.requests,
        output::seconds(blame.seconds)
    );
    for origin in blame.origins.iter().take(SHOWN) {
        let _ = writeln!(out, "  {:>5.1} %  of the failures began in {}", origin.share * 100.0, origin.service);
    }
    for part in blame.time.iter().take(SHOWN) {
        let on = match part.on {
            SpentOn::Work => "work of",
            SpentOn::Way => "way to",
        };
        let _ = writeln!(
            out,
            "  {:>5.1} %  of the time ({}) is {on} {}",
            part.share * 100.0,
            output::seconds(part.seconds),
            part.service
        );
    }
    out
}
