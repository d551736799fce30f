//! `couplet breakers suggest`: rules for each edge from what was recorded, as a file that a proxy takes.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use couplet_analyzer::breakers::EdgeHistory;
use couplet_config::{BreakerMode, BreakerSettings};
use couplet_telemetry::breaker::{BreakerCounts, Count};

use super::rehearsal::rehearse;
use super::simulate::{NOTHING, history, recorded};
use super::{ENOUGH, SAFE, requests, times};
use crate::client::WindowArgs;
use crate::exit::Fault;
use crate::output;

/// What `couplet breakers suggest` is told.
#[derive(Debug, clap::Args)]
pub(super) struct SuggestArgs {
    /// The service whose calls the rules are for; not needed where there is one alone
    #[arg(long, value_name = "SERVICE")]
    from: Option<String>,

    #[command(flatten)]
    analyzer: WindowArgs,
}

/// Writes the file.
pub(super) fn suggest(args: &SuggestArgs) -> anyhow::Result<ExitCode> {
    let history = history(&args.analyzer)?;
    let mut callers: Vec<&str> = history.edges.iter().map(|edge| edge.from.as_str()).collect();
    callers.dedup();
    let from = match (args.from.as_deref(), callers.as_slice()) {
        (Some(from), _) => from,
        (None, [only]) => only,
        (None, []) => return Err(Fault::Evidence.because(NOTHING).into()),
        (None, several) => {
            let names = several.join(", ");
            return Err(Fault::Input.because(format_args!("whose calls? --from takes one of {names}")).into());
        }
    };
    let edges: Vec<&EdgeHistory> = history.edges.iter().filter(|edge| edge.from == from).collect();
    if edges.is_empty() {
        return Err(Fault::Evidence.because(NOTHING).into());
    }
    output::result(&file(from, &edges))?;
    Ok(ExitCode::SUCCESS)
}

fn file(from: &str, edges: &[&EdgeHistory]) -> String {
    let mut text = format!("service: {}\nbreakers:\n  edges:\n", quoted(from));
    for edge in edges {
        match &edge.class {
            None => text.push_str(&entry(edge)),
            // It is nothing without a route that says which calls those are.
            Some(class) => {
                let _ = writeln!(text, "    # Calls to {} of class {class} are left out.", edge.to);
            }
        }
    }
    text
}

/// The rules of one edge, each with what it rests on.
fn entry(edge: &EdgeHistory) -> String {
    let seen = recorded(edge);
    let calls: u64 = seen.ended().map(|(_, n)| n).sum::<u64>() + seen.shadowed();
    let mut text = format!("    # {} in {}.\n", plural(calls), length(edge));
    if calls < LEAST {
        let _ = writeln!(text, "    # Too few to suggest anything but the defaults.\n    - to: {}", quoted(&edge.to));
        return text;
    }
    let mut rules = BreakerSettings::default();
    let mut lines: Vec<String> = Vec::new();
    if let Some((p99, slow)) = slow(edge) {
        rules.slow_call.duration = Some(slow);
        lines.push(format!("# Of 100 calls 99 took no longer than {}: three times that is slow.", millis(p99)));
        lines.push(format!("slow_call: {{ duration: {} }}", millis(slow)));
    }
    if let Some((window, least, rate)) = seldom(edge) {
        (rules.window, rules.min_requests) = (window, least);
        lines.push(format!("# A replica makes {rate:.2} calls a second: ten seconds hold too few for a rate."));
        lines.push(format!("window: {}s", window.as_secs()));
        lines.push(format!("min_requests: {least}"));
    }
    let rehearsed = rehearse(edge, &rules).counts;
    let (mode, why) = mode(&seen, &rehearsed);
    let _ = writeln!(text, "    # {why}\n    - to: {}\n      mode: {}", quoted(&edge.to), mode.as_str());
    for line in lines {
        let _ = writeln!(text, "      {line}");
    }
    text
}

/// Whether to enforce, and why. `rehearsed` is what breakers with the suggested rules would have done.
fn mode(seen: &BreakerCounts, rehearsed: &BreakerCounts) -> (BreakerMode, String) {
    let known = rehearsed.shadowed() - rehearsed.get(Count::ShadowUnknown);
    let opened = rehearsed.get(Count::Opened);
    match rehearsed.precision() {
        _ if seen.get(Count::Rejected) > 0 && opened == 0 => (
            BreakerMode::Enforce,
            format!("It enforces already, and rejected {}.", requests(seen.get(Count::Rejected))),
        ),
        _ if opened == 0 => (
            BreakerMode::Observe,
            "With these rules it would never have opened: nothing shows what enforcing does.".to_owned(),
        ),
        Some(precision) if known >= ENOUGH && precision >= SAFE => (
            BreakerMode::Enforce,
            format!(
                "With these rules it would have opened {} and rejected {}, of which {:.1} % failed anyway.",
                times(opened),
                requests(rehearsed.shadowed()),
                precision * 100.0
            ),
        ),
        precision => (
            BreakerMode::Observe,
            format!(
                "With these rules it would have opened {} and rejected {}, of which {} failed anyway: not enough to enforce.",
                times(opened),
                requests(rehearsed.shadowed()),
                precision.map_or("nobody knows how many".to_owned(), |share| format!("{:.1} %", share * 100.0))
            ),
        ),
    }
}

/// The p99 over the whole time, and three times that in two digits.
fn slow(edge: &EdgeHistory) -> Option<(Duration, Duration)> {
    let mut all: Vec<(f64, u64)> = edge.durations.values().flatten().copied().collect();
    all.sort_by(|one, other| one.0.total_cmp(&other.0));
    let total: u64 = all.iter().map(|(_, n)| n).sum();
    let mut left = total - total / 100;
    let found = all.iter().find(|(_, n)| {
        left = left.saturating_sub(*n);
        left == 0
    });
    let (p99, _) = found.filter(|_| total >= LEAST)?;
    let p99 = Duration::try_from_secs_f64(*p99).ok()?;
    let slow = (p99 * 3).clamp(Duration::from_millis(10), Duration::from_secs(3600));
    let millis = slow.as_millis() as u64;
    let unit = 10_u64.pow(millis.ilog10().saturating_sub(1));
    Some((p99, Duration::from_millis(millis.div_ceil(unit) * unit)))
}

/// A window and a least number of calls for destinations that are called so seldom that the usual ones say nothing; and how
/// often a replica calls while it calls at all.
fn seldom(edge: &EdgeHistory) -> Option<(Duration, u32, f64)> {
    let (mut calls, mut millis) = (0, 0);
    for step in edge.replicas.values().flatten() {
        let shadowed = Count::SHADOWED.into_iter().map(|count| step.get(count)).sum::<u64>();
        let ended = Count::ENDED.into_iter().map(|count| step.get(count)).sum::<u64>();
        if shadowed + ended > 0 {
            calls += shadowed + ended;
            millis += step.end.saturating_sub(step.start);
        }
    }
    let rate = calls as f64 * 1_000.0 / (millis.max(1)) as f64;
    let usual = BreakerSettings::default();
    // Twice the least number of calls in a usual window: then half of them can be missing.
    let wanted = 2.0 * f64::from(usual.min_requests);
    if rate * usual.window.as_secs_f64() >= wanted {
        return None;
    }
    let window = (wanted / rate.max(0.001)).ceil().clamp(10.0, 60.0);
    let least = (rate * window / 2.0).floor().clamp(5.0, f64::from(usual.min_requests));
    Some((Duration::from_secs(window as u64), least as u32, rate))
}

fn length(edge: &EdgeHistory) -> String {
    let steps = || edge.replicas.values().flatten();
    let start = steps().map(|step| step.start).min().unwrap_or(0);
    let end = steps().map(|step| step.end).max().unwrap_or(start);
    format!("{} s", (end - start) / 1_000)
}

fn plural(calls: u64) -> String {
    if calls == 1 { "1 call".to_owned() } else { format!("{calls} calls") }
}

fn millis(time: Duration) -> String {
    format!("{}ms", time.as_millis().max(1))
}

/// A name as YAML takes it for a text, whatever it is.
fn quoted(name: &str) -> String {
    serde_json::Value::from(name).to_string()
}

/// Calls below which nothing is suggested.
const LEAST: u64 = 100;
