//! `couplet whatif`: what a change would gain, from what was recorded.

use std::fmt::Write as _;
use std::process::ExitCode;

use couplet_analyzer::whatif::{Change, EntryChange, WhatIf};

use crate::client::{WindowArgs, query};
use crate::exit::Fault;
use crate::output;
use crate::output::{Format, printable};

/// What `couplet whatif` is told.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Nobody waits for these calls any more
    #[arg(long = "async", value_name = "FROM->TO", help_heading = "Cuts")]
    asynchronous: Vec<String>,

    /// A share of these calls (80 % unless said otherwise) is answered without the callee
    #[arg(long, value_name = "FROM->TO[=SHARE]", help_heading = "Cuts")]
    cache: Vec<String>,

    /// Calls that a request repeats become one
    #[arg(long, value_name = "FROM->TO", help_heading = "Cuts")]
    batch: Vec<String>,

    /// The calls of this service overlap
    #[arg(long, value_name = "SERVICE", help_heading = "Cuts")]
    parallel: Vec<String>,

    /// Two services become one
    #[arg(long, value_name = "A,B", help_heading = "Cuts")]
    merge: Vec<String>,

    /// Failures of these calls become fallbacks
    #[arg(long, value_name = "FROM->TO", help_heading = "Cuts")]
    breaker: Vec<String>,

    /// Shape of the answer
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,

    #[command(flatten)]
    analyzer: WindowArgs,
}

const EXAMPLES: &str = "\
Examples:
  couplet whatif --async 'orders->billing'
  couplet whatif --cache 'web->catalog=0.9' --merge orders,billing --format json

Several cuts are made one after the other, kind by kind. Everything else is taken to behave as recorded.";

/// Prints what the cuts would gain.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let kinds = [
        ("async", &args.asynchronous),
        ("cache", &args.cache),
        ("batch", &args.batch),
        ("parallel", &args.parallel),
        ("merge", &args.merge),
        ("breaker", &args.breaker),
    ];
    let cuts = kinds.iter().flat_map(|(kind, all)| all.iter().map(move |what| format!("{kind}={}", query(what))));
    let cuts: Vec<String> = cuts.collect();
    if cuts.is_empty() {
        return Err(Fault::Input.because("nothing to change: name a cut, such as --async 'orders->billing'").into());
    }
    let told: WhatIf = args.analyzer.client().ask(&format!("/api/v1/whatif?{}", cuts.join("&")))?;
    output::result(&match args.format {
        Format::Text => printable(&text(&told)),
        Format::Json => output::json(&told)?,
    })?;
    Ok(ExitCode::SUCCESS)
}

fn text(told: &WhatIf) -> String {
    let mut out = format!("{}, if {}\n", told.cuts.join(", then "), told.assumption);
    if let Change { before: Some(before), after: Some(after) } = told.score {
        let _ = writeln!(out, "coupling score {before:.1} → {after:.1}");
    }
    let percent = |share: f64| format!("{:.2} %", share * 100.0);
    let _ = writeln!(out, "largest blast radius {} → {}", percent(told.blast.before), percent(told.blast.after));
    for entry in &told.entries {
        let EntryChange { depth, services, calls, p50, p95, p99, availability, .. } = entry;
        let time =
            |change: &Change<f64>| format!("{} → {}", output::seconds(change.before), output::seconds(change.after));
        let _ = writeln!(
            out,
            "\n{} ({} requests)\n  depth {} → {}, services {} → {}, calls {:.1} → {:.1}\n  p50 {}, p95 {}, p99 {} (at most)\n  \
             availability {} → {}",
            entry.entry,
            entry.requests,
            depth.before,
            depth.after,
            services.before,
            services.after,
            calls.before,
            calls.after,
            time(p50),
            time(p95),
            time(p99),
            percent(availability.before),
            percent(availability.after),
        );
    }
    if told.entries.is_empty() {
        out.push_str("no entry is concerned\n");
    }
    out
}
