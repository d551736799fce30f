//! `couplet explain`: one finding with everything it rests on.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::{Duration, UNIX_EPOCH};

use couplet_analyzer::findings::Finding;

use crate::client::{WindowArgs, query};
use crate::output;
use crate::output::{Format, printable};

/// What `couplet explain` is told.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Id of the finding, as `couplet findings` shows it
    id: String,

    /// Shape of the answer
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,

    #[command(flatten)]
    analyzer: WindowArgs,
}

const EXAMPLES: &str = "\
Examples:
  couplet explain SC-3fa9c1
  couplet explain SC-3fa9c1 --format json | jq .evidence";

/// Prints the finding.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let finding: Finding = args.analyzer.client().ask(&format!("/api/v1/findings/{}", query(&args.id)))?;
    output::result(&match args.format {
        Format::Text => printable(&text(&finding)),
        Format::Json => output::json(&finding)?,
    })?;
    Ok(ExitCode::SUCCESS)
}

fn text(finding: &Finding) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "{} {} ({}): {}", finding.id, finding.severity, finding.rule.name(), finding.title);
    let _ = writeln!(out, "{}", finding.summary);
    if !finding.owners.is_empty() {
        let _ = writeln!(out, "Looked after by {}.", finding.owners.join(", "));
    }
    if !finding.path.is_empty() {
        let steps: Vec<String> =
            finding.path.iter().map(|step| format!("{} {}", step.service, step.endpoint)).collect();
        let _ = writeln!(out, "\nWAY\n  {}", steps.join("\n  → "));
    }
    let evidence = &finding.evidence;
    let _ = writeln!(
        out,
        "\nEVIDENCE\n  n = {}, links {}, confidence {:.0} %\n  {}",
        evidence.n,
        evidence.linked.as_str(),
        evidence.confidence * 100.0,
        evidence.formula
    );
    for (name, value) in &evidence.operands {
        let _ = writeln!(out, "  {name} = {value}");
    }
    if !finding.examples.is_empty() {
        let _ = writeln!(out, "\nEXAMPLE REQUESTS");
    }
    for example in &finding.examples {
        let recorded = if example.sampled { "" } else { ", not sampled" };
        let _ = writeln!(
            out,
            "  {}\n    {}: {} {} in {}, calls waited for: {}, {}{recorded}",
            example.trace,
            example.what,
            example.endpoint,
            example.outcome.as_str(),
            output::seconds(example.seconds),
            example.calls,
            when(example.at),
        );
    }
    let _ = writeln!(out, "\nWHY IT MATTERS\n  {}", finding.why);
    if !finding.suggestions.is_empty() {
        let _ = writeln!(out, "\nWAYS OUT");
    }
    for (number, suggestion) in finding.suggestions.iter().enumerate() {
        let _ = writeln!(out, "  {}. {suggestion}", number + 1);
    }
    out
}

/// Seconds since the Unix epoch as a moment, in UTC.
fn when(seconds: f64) -> String {
    // Up to the year 9999.
    let since = Duration::try_from_secs_f64(seconds.min(253_402_300_799.0)).unwrap_or_default();
    humantime::format_rfc3339_seconds(UNIX_EPOCH + since).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_told_whatever_number_an_analyzer_gives() {
        assert_eq!(when(1_700_000_000.0), "2023-11-14T22:13:20Z");
        for odd in [f64::NAN, f64::INFINITY, -1.0, 1e300] {
            assert_eq!(when(odd).len(), 20, "{odd}");
        }
    }
}
