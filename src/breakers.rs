//! `couplet breakers`: what circuit breakers did, and what they would have done if they had been allowed to.

mod simulate;
mod suggest;
mod rehearsal;

use std::fmt::Write as _;
use std::process::ExitCode;

use couplet_analyzer::breakers::{BreakerEdge, BreakerPage};
use couplet_telemetry::breaker::WouldHave;

use crate::client::AnalyzerArgs;
use crate::exit::Fault;
use crate::output;

/// What `couplet breakers` is told.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// For each destination: what enforcing stopped, or would have stopped, and how much of that failed anyway
    Report(ReportArgs),
    /// What breakers with other rules would have done with the calls that were recorded
    Simulate(simulate::SimulateArgs),
    /// Rules for the calls of a service from what was recorded, as a file that a proxy takes
    Suggest(suggest::SuggestArgs),
}

#[derive(Debug, clap::Args)]
struct ReportArgs {
    /// Show also breakers that never opened
    #[arg(long)]
    all: bool,

    /// Shape of the report
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,

    #[command(flatten)]
    analyzer: AnalyzerArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// Sentences for people
    Text,
    /// {"edges": [...], "transitions": [...]}
    Json,
}

const EXAMPLES: &str = "\
Examples:
  couplet breakers report
  couplet breakers report --format json | jq '.edges[] | {from, to, would_have}'
  couplet breakers simulate --to payments --set breakers.defaults.failure_rate=0.3
  couplet breakers suggest --recording monday.couplet --from shop > rules.yaml

The exit code is 3 when no breaker has seen a call yet.";

/// Does what was asked for.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.command {
        Command::Report(args) => report(args),
        Command::Simulate(args) => simulate::simulate(args),
        Command::Suggest(args) => suggest::suggest(args),
    }
}

fn report(args: &ReportArgs) -> anyhow::Result<ExitCode> {
    let page: BreakerPage = args.analyzer.client().read("/api/v1/breakers")?;
    output::result(&match args.format {
        Format::Json => output::json(&page)?,
        Format::Text => output::printable(&text(&page, args.all)),
    })?;
    if page.edges.is_empty() {
        let way_out = "send requests through a sidecar, wait a few seconds and ask again";
        return Err(Fault::Evidence.because(format_args!("no breaker has seen a call yet: {way_out}")).into());
    }
    let opened = page.edges.iter().filter(|edge| edge.opened > 0).count();
    output::remark(&format!("{opened} of {} breakers opened", page.edges.len()));
    Ok(ExitCode::SUCCESS)
}

/// A paragraph for each breaker that opened; those that would have stopped most first.
fn text(page: &BreakerPage, all: bool) -> String {
    let mut edges: Vec<&BreakerEdge> = page.edges.iter().filter(|edge| all || edge.opened > 0).collect();
    edges.sort_by_key(|edge| std::cmp::Reverse(edge.would_have.rejected + edge.rejected));
    let mut text = String::new();
    for edge in edges {
        let _ = writeln!(text, "{}", paragraph(edge));
    }
    text
}

pub(crate) fn paragraph(edge: &BreakerEdge) -> String {
    let BreakerEdge { from, to, class, opened, stopped_seconds, rejected, would_have, .. } = edge;
    let states: Vec<String> =
        edge.states.iter().map(|(state, n)| if *n == 1 { state.clone() } else { format!("{n} {state}") }).collect();
    let modes: Vec<&str> = edge.modes.keys().map(String::as_str).collect();
    let class = class.as_ref().map_or(String::new(), |class| format!(" ({class})"));
    let mut text = format!("{from} → {to}{class}  [{}; {}]", modes.join(", "), states.join(", "));
    if *opened == 0 {
        let calls: u64 = edge.calls.values().sum();
        let _ = write!(text, "\n  never opened in {calls} calls; at most {} at the same time", edge.peak);
        return text;
    }
    let enforces = edge.modes.contains_key("enforce");
    let verb = if enforces { "opened" } else { "would have opened" };
    let _ = write!(text, "\n  {verb} {} ({stopped_seconds:.0} s in all)", times(*opened));
    if let Some(reason) = &edge.last_reason {
        let _ = write!(text, ", the last time for {reason}");
    }
    if *rejected > 0 {
        let _ = write!(text, "\n  rejected {}", requests(*rejected));
    }
    if would_have.rejected > 0 {
        let _ = write!(text, "\n  would have rejected {}", shadow(would_have));
        let _ = write!(text, "\n  {}", verdict(would_have));
    }
    text
}

fn shadow(would_have: &WouldHave) -> String {
    let share = would_have
        .precision
        .map_or("nothing is known of them".to_owned(), |share| format!("{:.1} % of them failed anyway", share * 100.0));
    let slow = if would_have.slow > 0 { format!(", {} were slow", would_have.slow) } else { String::new() };
    let seconds = would_have.seconds;
    let lost = would_have.succeeded;
    format!("{}, {share}{slow}; {seconds:.1} s of waiting saved, {lost} good ones lost", requests(would_have.rejected))
}

/// What to do about it. Enforcing is safe where what it stops fails anyway.
fn verdict(would_have: &WouldHave) -> &'static str {
    let known = would_have.rejected - would_have.unknown;
    match would_have.precision {
        _ if known < ENOUGH => "too few to say whether enforcing is safe",
        Some(precision) if precision >= SAFE => "safe to enforce",
        Some(precision) if precision >= DOUBTFUL => {
            "enforcing costs good requests: raise failure_rate, or look at the route that still works"
        }
        _ => "do not enforce with these rules: most of what they stop works",
    }
}

/// Requests below which a share says nothing.
const ENOUGH: u64 = 20;
/// From this share of failures on what is stopped is no loss.
const SAFE: f64 = 0.95;
/// Below this one the rules are wrong.
const DOUBTFUL: f64 = 0.5;

fn times(n: u64) -> String {
    if n == 1 { "once".to_owned() } else { format!("{n} times") }
}

fn requests(n: u64) -> String {
    if n == 1 { "1 request".to_owned() } else { format!("{n} requests") }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn edge(would_have: WouldHave) -> BreakerEdge {
        let one = |word: &str| BTreeMap::from([(word.to_owned(), 1)]);
        BreakerEdge {
            from: "shop".to_owned(),
            to: "stock".to_owned(),
            class: None,
            states: one("closed"),
            modes: one("observe"),
            calls: BTreeMap::from([("failure".to_owned(), 40)]),
            rejected: 0,
            opened: 3,
            stopped_seconds: 41.2,
            peak: 17,
            would_have,
            last_reason: Some("failure_rate".to_owned()),
            last_opened: None,
        }
    }

    fn shadow(failed: u64, succeeded: u64) -> WouldHave {
        let rejected = failed + succeeded;
        let precision = (rejected > 0).then(|| failed as f64 / rejected as f64);
        WouldHave { rejected, failed, slow: 0, succeeded, unknown: 0, seconds: 12.34, precision }
    }

    #[test]
    fn a_breaker_that_only_observes_says_what_it_would_have_done_and_whether_that_is_safe() {
        assert_eq!(
            paragraph(&edge(shadow(1190, 14))),
            "shop → stock  [observe; closed]\n  would have opened 3 times (41 s in all), the last time for failure_rate\n  \
             would have rejected 1204 requests, 98.8 % of them failed anyway; 12.3 s of waiting saved, 14 good ones lost\n  \
             safe to enforce"
        );
        assert!(paragraph(&edge(shadow(70, 30))).ends_with("look at the route that still works"));
        assert!(paragraph(&edge(shadow(10, 90))).contains("do not enforce"));
        assert!(paragraph(&edge(shadow(10, 0))).contains("too few"));
    }
}
