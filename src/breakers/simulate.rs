//! `couplet breakers simulate`: what breakers with other rules would have done with the calls that were recorded.

use std::fmt::Write as _;
use std::process::ExitCode;

use couplet_analyzer::breakers::{BreakerHistory, EdgeHistory};
use couplet_config::BreakerMode;
use couplet_telemetry::breaker::{BreakerCounts, Count, WouldHave};
use couplet_telemetry::histogram::seconds;
use serde::Serialize;

use super::rehearsal::{Rehearsed, rehearse};
use super::{Format, requests, times};
use crate::client::WindowArgs;
use crate::exit::Fault;
use crate::settings::{FileArgs, Flags, variable};
use crate::{output, settings};

/// What `couplet breakers simulate` is told.
#[derive(Debug, clap::Args)]
pub(super) struct SimulateArgs {
    /// Only calls of this service
    #[arg(long, value_name = "SERVICE")]
    from: Option<String>,

    /// Only calls to this service
    #[arg(long, value_name = "SERVICE")]
    to: Option<String>,

    /// Shape of the answer
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,

    /// The rules: the section `breakers` of a proxy's file, and `--set breakers.defaults.KEY=VALUE`
    #[command(flatten)]
    rules: FileArgs,

    #[command(flatten)]
    analyzer: WindowArgs,
}

/// One edge: what was, and what would have been.
#[derive(Debug, Serialize)]
struct Simulated<'a> {
    from: &'a str,
    to: &'a str,
    /// The class of calls, where they are of one.
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<&'a str>,
    replicas: usize,
    /// The longest step that it rests on, in seconds.
    step_seconds: f64,
    /// What breakers did and would have done, as recorded.
    recorded: Sum,
    /// What they would have done with these rules.
    simulated: Sum,
    /// Calls that were replayed.
    calls: u64,
    /// Calls that a breaker stopped: nobody knows what would have become of them, so they are left out.
    unknown: u64,
}

#[derive(Debug, Serialize)]
struct Sum {
    opened: u64,
    stopped_seconds: f64,
    /// Calls that were stopped.
    rejected: u64,
    would_have: WouldHave,
}

impl From<&BreakerCounts> for Sum {
    fn from(counts: &BreakerCounts) -> Self {
        Self {
            opened: counts.get(Count::Opened),
            stopped_seconds: seconds(counts.get(Count::Stopped)),
            rejected: counts.get(Count::Rejected),
            would_have: WouldHave::from(counts),
        }
    }
}

/// Replays what was recorded.
pub(super) fn simulate(args: &SimulateArgs) -> anyhow::Result<ExitCode> {
    let rules = settings::proxy(&args.rules, Flags::default().set("--service", "service", Some("any")), &variable)?;
    let history = history(&args.analyzer)?;
    let rules_of = |edge: &EdgeHistory| rules.breakers.of(&edge.to, edge.class.as_deref());
    let wanted = |edge: &&EdgeHistory| {
        let is = |asked: &Option<String>, name: &str| asked.as_deref().is_none_or(|asked| asked == name);
        is(&args.from, &edge.from) && is(&args.to, &edge.to) && rules_of(edge).mode != BreakerMode::Off
    };
    let edges = history.edges.iter().filter(wanted);
    let simulated: Vec<_> = edges.map(|edge| simulated(edge, &rehearse(edge, rules_of(edge)))).collect();
    output::result(&match args.format {
        Format::Json => output::json(&serde_json::json!({ "edges": simulated }))?,
        Format::Text => output::printable(&simulated.iter().map(paragraph).collect::<String>()),
    })?;
    if simulated.is_empty() {
        return Err(Fault::Evidence.because(NOTHING).into());
    }
    output::remark(
        "within a step calls are taken to be spread evenly: an outage that is shorter than a step looks thinner than it was",
    );
    Ok(ExitCode::SUCCESS)
}

/// What breakers saw over time.
pub(super) fn history(analyzer: &WindowArgs) -> anyhow::Result<BreakerHistory> {
    let history: BreakerHistory = analyzer.client().read("/api/v1/breakers/history")?;
    if history.not_shown > 0 {
        output::remark(&format!("{} edges or replicas are left out, since there are too many", history.not_shown));
    }
    Ok(history)
}

/// Why there is no answer.
pub(super) const NOTHING: &str =
    "no calls of these services are recorded: a step of ten seconds must be complete first";

fn simulated<'a>(edge: &'a EdgeHistory, rehearsed: &Rehearsed) -> Simulated<'a> {
    let longest = edge.replicas.values().flatten().map(|step| step.end.saturating_sub(step.start)).max();
    Simulated {
        from: &edge.from,
        to: &edge.to,
        class: edge.class.as_deref(),
        replicas: edge.replicas.len(),
        step_seconds: longest.unwrap_or(0) as f64 / 1_000.0,
        recorded: Sum::from(&recorded(edge)),
        simulated: Sum::from(&rehearsed.counts),
        calls: rehearsed.calls,
        unknown: rehearsed.unknown,
    }
}

/// Everything that the breakers of an edge counted.
pub(super) fn recorded(edge: &EdgeHistory) -> BreakerCounts {
    let mut sum = BreakerCounts::default();
    for step in edge.replicas.values().flatten() {
        Count::ALL.into_iter().for_each(|count| sum.add(count, step.get(count)));
    }
    sum
}

fn paragraph(edge: &Simulated<'_>) -> String {
    let Simulated { from, to, class, replicas, step_seconds, recorded, simulated, calls, unknown } = edge;
    let replicas = if *replicas == 1 { "1 replica".to_owned() } else { format!("{replicas} replicas") };
    let class = class.map_or(String::new(), |class| format!(" ({class})"));
    let mut text = format!("{from} → {to}{class}  [{calls} calls of {replicas}, in steps of {step_seconds} s]\n");
    for (what, sum) in [("as recorded", recorded), ("with these rules", simulated)] {
        let _ = writeln!(text, "  {what}: {}", sentence(sum));
    }
    if *unknown > 0 {
        let _ = writeln!(
            text,
            "  {} that were stopped are left out: nobody knows what would have become of them",
            requests(*unknown)
        );
    }
    text
}

fn sentence(sum: &Sum) -> String {
    let Sum { opened, stopped_seconds, rejected, would_have } = sum;
    if *opened == 0 {
        return "never open".to_owned();
    }
    let stopped = if *rejected > 0 { format!(", {} rejected", requests(*rejected)) } else { String::new() };
    let precision = would_have.precision.map_or(String::new(), |share| {
        format!(", {} to be rejected, {:.1} % of them failed anyway", requests(would_have.rejected), share * 100.0)
    });
    format!("open {} ({stopped_seconds:.0} s in all){stopped}{precision}", times(*opened))
}
