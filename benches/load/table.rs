//! What was measured, for people and for programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use serde_json::{Value, json};

use crate::Results;
use crate::bars::{Bar, median};
use crate::cases::Case;
use crate::measure::Measured;
use crate::rig::peers::Peer;

type Missing = [(Peer, anyhow::Error)];

/// Everything, each single measurement among it.
pub(crate) fn document(
    cases: &[Case],
    results: &Results,
    releases: &BTreeMap<Peer, String>,
    missing: &Missing,
    bars: &[Bar],
) -> Value {
    let measured: Vec<_> = results
        .iter()
        .filter_map(|((number, peer), rounds)| {
            let case = cases.get(*number)?;
            Some(json!({"case": case.name, "peer": peer.name(), "rounds": rounds}))
        })
        .collect();
    let releases: BTreeMap<_, _> = releases.iter().map(|(peer, release)| (peer.name(), release)).collect();
    let missing: BTreeMap<_, _> = missing.iter().map(|(peer, why)| (peer.name(), format!("{why:#}"))).collect();
    json!({"machine": machine(), "date": date(), "releases": releases, "missing": missing, "measured": measured, "bars": bars})
}

/// Tables of medians.
pub(crate) fn markdown(
    cases: &[Case],
    results: &Results,
    releases: &BTreeMap<Peer, String>,
    missing: &Missing,
    bars: &[Bar],
) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{}, {}.\n", machine(), date());
    for (peer, release) in releases {
        let _ = writeln!(text, "* {} {release}", peer.name());
    }
    for (peer, why) in missing {
        let _ = writeln!(text, "* **missing**: {}: {why:#}", peer.name());
    }
    text.push_str("\nProcessor time for one request, µs (lowest–highest round), and ÷ HAProxy's:\n\n| case |");
    text.extend(releases.keys().map(|peer| format!(" {} |", peer.name())));
    text.push_str("\n|---|");
    text.push_str(&"---|".repeat(releases.len()));
    text.push('\n');
    let cpu = |measured: &Measured| measured.cpu;
    for (number, case) in cases.iter().enumerate() {
        let at = |peer: Peer| results.get(&(number, peer)).filter(|rounds| rounds.iter().any(|one| one.cpu.is_some()));
        let haproxy = at(Peer::Haproxy).and_then(|rounds| median(rounds, cpu));
        if releases.keys().all(|peer| at(*peer).is_none()) {
            continue;
        }
        let _ = write!(text, "| {} |", case.name);
        for peer in releases.keys() {
            let cell = at(*peer).and_then(|rounds| {
                let middle = median(rounds, cpu)?;
                let (low, high) = range(rounds, cpu);
                let ratio = haproxy.map(|haproxy| format!(", **{:.2}**", middle / haproxy)).unwrap_or_default();
                Some(format!("{middle:.1} ({low:.1}–{high:.1}){ratio}"))
            });
            let _ = write!(text, " {} |", cell.as_deref().unwrap_or("–"));
        }
        text.push('\n');
    }
    text.push_str(
        "\n| case | proxy | requests/s | p50 µs | p99 µs | p99.9 µs | memory before, MiB | after | per idle connection, KiB |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    for ((number, peer), rounds) in results {
        let Some(case) = cases.get(*number) else { continue };
        let cell = |of: &dyn Fn(&Measured) -> Option<f64>, digits: usize| {
            median(rounds, of).map_or("–".to_owned(), |value| format!("{value:.digits$}"))
        };
        let mib = 1024.0 * 1024.0;
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            case.name,
            peer.name(),
            cell(&|one| one.requests_per_second, 0),
            cell(&|one| one.latency.map(|latency| latency.p50), 0),
            cell(&|one| one.latency.map(|latency| latency.p99), 0),
            cell(&|one| one.latency.map(|latency| latency.p999), 0),
            cell(&|one| Some(one.resident_before / mib), 1),
            cell(&|one| Some(one.resident / mib), 1),
            cell(&|one| one.per_connection.map(|bytes| bytes / 1024.0), 1),
        );
    }
    text.push_str("\n| budget of Couplet | is | first bar | goal | |\n|---|---|---|---|---|\n");
    for bar in bars {
        let is = bar.is.map_or("not measured".to_owned(), |is| format!("{is:.2}"));
        let verdict = match (bar.is, bar.is_met()) {
            (None, _) => "",
            (Some(is), _) if is <= bar.goal => "goal",
            (Some(_), true) => "met",
            (Some(_), false) => "**missed**",
        };
        let _ = writeln!(text, "| {} | {is} | ≤ {} | ≤ {} | {verdict} |", bar.what, bar.first_bar, bar.goal);
    }
    text
}

fn range(rounds: &[Measured], of: impl Fn(&Measured) -> Option<f64>) -> (f64, f64) {
    let values = rounds.iter().filter_map(of);
    values.fold((f64::INFINITY, 0.0), |(low, high), value| (value.min(low), value.max(high)))
}

/// Processor and kernel.
fn machine() -> String {
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processors.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let count = processors.lines().filter(|line| line.starts_with("processor")).count();
    format!("{}, {count} cores, Linux {}", model.unwrap_or("unknown processor"), kernel.trim())
}

/// Of today, in UTC.
fn date() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let (year, month, day) = civil(now.as_secs() / 86_400);
    format!("{year}-{month:02}-{day:02}")
}

/// Year, month and day, so many days after 1970-01-01 (H. Hinnant, "chrono-compatible low-level date algorithms").
fn civil(days: u64) -> (u64, u64, u64) {
    let z = days + 719_468;
    let (era, doe) = (z / 146_097, z % 146_097);
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (day, month) = (doy - (153 * mp + 2) / 5 + 1, if mp < 10 { mp + 3 } else { mp - 9 });
    (yoe + era * 400 + u64::from(month <= 2), month, day)
}
