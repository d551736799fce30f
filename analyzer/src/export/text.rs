//! The graph for a terminal: findings first, then entries, then services from the top down with whom they call.

use std::collections::BTreeMap;
use std::fmt::Write;

use couplet_telemetry::outcome::Evidence;

use super::layers::layers;
use super::plain::{bytes, duration, name, percent, rate};
use crate::findings::{Finding, Severity};
use crate::score::Score;
use crate::view::document::{Distribution, Document, Edge, Entry, Links, OpaqueEdge, Service, ServiceKind};

/// The document as text for people: no colours, no control characters, lines end with `\n`.
#[must_use]
pub fn text(document: &Document) -> String {
    let mut out = String::new();
    heading(&mut out, document);
    score(&mut out, document.score.as_ref());
    findings(&mut out, &document.findings);
    entries(&mut out, document);
    services(&mut out, document);
    expected(&mut out, document);
    composed(&mut out, document);
    losses(&mut out, document);
    out
}

/// Writing to a string cannot fail; this says so once.
macro_rules! line {
    ($out:expr, $($text:tt)*) => {
        let _ = writeln!($out, $($text)*);
    };
}

fn heading(out: &mut String, document: &Document) {
    let system = if document.name.is_empty() { "system" } else { &document.name };
    line!(
        out,
        "{}: {}, {}, {}, {}{}",
        name(system),
        count(document.services.len(), "service", "services"),
        count(document.edges.len(), "edge", "edges"),
        count(document.requests as usize, "request", "requests"),
        count(document.findings.len(), "finding", "findings"),
        coverage(&document.links),
    );
}

fn score(out: &mut String, score: Option<&Score>) {
    let Some((score, value)) = score.and_then(|score| Some((score, score.value?))) else { return };
    let interval = score.interval.map(|[low, high]| format!(" ({low:.0}–{high:.0})")).unwrap_or_default();
    let label = score.label.as_ref().map(|label| format!(", {label}")).unwrap_or_default();
    let all = score.dimensions.len();
    line!(out, "coupling score {value:.0}{interval}{label}; {} of {all} dimensions observed", score.observed);
}

fn coverage(links: &Links) -> String {
    links.coverage.map(|share| format!(", links {} exact", percent(share))).unwrap_or_default()
}

fn findings(out: &mut String, findings: &[Finding]) {
    if findings.is_empty() {
        return;
    }
    line!(out, "\nFINDINGS");
    for finding in findings {
        line!(
            out,
            "{} {:<8} {}  {}",
            mark(finding.severity),
            finding.severity.as_str(),
            finding.id,
            name(&finding.title)
        );
        for part in wrapped(&name(&finding.summary)) {
            line!(out, "{INDENT}{part}");
        }
        let way: Vec<String> =
            finding.path.iter().map(|step| format!("{} {}", name(&step.service), name(&step.endpoint))).collect();
        if way.len() > 2 {
            line!(out, "{INDENT}{}", way.join(" → "));
        }
    }
}

/// Under the id of a finding.
const INDENT: &str = "           ";
/// Characters of a line of a summary.
const WIDTH: usize = 100;

/// Lines of whole words.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + word.chars().count() < WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

fn mark(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "‼",
        Severity::Warn => "!",
        Severity::Info => "·",
    }
}

fn entries(out: &mut String, document: &Document) {
    if document.entries.is_empty() {
        return;
    }
    line!(out, "\nENTRIES{:33}requests       p95   depth  services     calls  (median/p95)", "");
    let mut entries: Vec<&Entry> = document.entries.iter().collect();
    entries.sort_by(|a, b| {
        b.requests.cmp(&a.requests).then_with(|| (&a.service, &a.endpoint).cmp(&(&b.service, &b.endpoint)))
    });
    for entry in entries {
        let label = format!("{} {}", name(&entry.service), name(&entry.endpoint));
        let spread = |counts: &Distribution| format!("{}/{}", counts.p50, counts.p95);
        line!(
            out,
            "{label:<38} {:>9} {:>9} {:>7} {:>9} {:>9}{}",
            entry.requests,
            duration(entry.duration.p95),
            spread(&entry.depth),
            spread(&entry.services),
            spread(&entry.calls),
            doubt(entry.evidence),
        );
        for origin in entry.origins.iter().take(3) {
            let share = origin.failures as f64 / entry.failures.max(1) as f64;
            line!(out, "    fails because of {}: {} ({})", name(&origin.service), origin.failures, percent(share));
        }
        if !entry.incomplete.is_empty() {
            let services: Vec<String> = entry.incomplete.iter().map(|service| name(service)).collect();
            line!(
                out,
                "    not all of it is seen: calls of {} are linked to no request (couplet doctor)",
                services.join(", ")
            );
        }
    }
}

/// What is no proof is said to be none.
fn doubt(evidence: Evidence) -> &'static str {
    match evidence {
        Evidence::Exact => "",
        Evidence::Inferred => "  chain inferred from timing",
        Evidence::Unknown => "  chain not linked",
    }
}

fn services(out: &mut String, document: &Document) {
    if document.services.is_empty() {
        return;
    }
    line!(out, "\nSERVICES");
    let window = document.window.end - document.window.start;
    let mut calls: BTreeMap<&str, Vec<&Edge>> = BTreeMap::new();
    for edge in &document.edges {
        calls.entry(&edge.source).or_default().push(edge);
    }
    let mut worst: BTreeMap<&str, Severity> = BTreeMap::new();
    for finding in &document.findings {
        for service in &finding.services {
            let slot = worst.entry(service).or_insert(finding.severity);
            *slot = finding.severity.max(*slot);
        }
    }
    let mut rows: Vec<(usize, &Service)> = layers(document).into_iter().zip(&document.services).collect();
    rows.sort_by(|a, b| a.0.cmp(&b.0).then_with(|| a.1.name.cmp(&b.1.name)));
    for (_, service) in rows {
        let mark = worst.get(service.name.as_str()).map_or(" ", |severity| mark(*severity));
        line!(out, "{mark} {}{}", name(&service.name), about(service));
        let edges = calls.get(service.name.as_str()).map(Vec::as_slice).unwrap_or_default();
        let opaque = document.opaque.iter().filter(|edge| edge.source == service.name).map(connections);
        let lines: Vec<String> = edges.iter().map(|edge| call(edge, window)).chain(opaque).collect();
        for (position, line) in lines.iter().enumerate() {
            let branch = if position + 1 == lines.len() { "└─" } else { "├─" };
            line!(out, "    {branch} {line}");
        }
    }
}

/// What timing says where headers say nothing: means, no chains.
fn expected(out: &mut String, document: &Document) {
    if document.expected.is_empty() {
        return;
    }
    line!(out, "\nFOUND BY TIMING{:28}calls per request  nearly certain", "");
    for pair in &document.expected {
        let source = pair.source_endpoint.as_deref().map_or("(in the background)".into(), name);
        let label = format!(
            "{} {source} → {} {}",
            name(&pair.source),
            name(&pair.destination),
            name(&pair.destination_endpoint)
        );
        let per = pair.per_handling.map_or("–".to_owned(), |calls| format!("{calls:.2}"));
        let mut doubts = String::new();
        if pair.disputed {
            doubts.push_str("  uncertain: counts per second say otherwise");
        }
        if pair.aggregate_only {
            doubts.push_str("  true on average only");
        }
        if pair.poor_fit {
            doubts.push_str("  uncertain: the endpoint does what is not to be expected");
        }
        let order = pair.position.map_or(String::new(), |position| format!("  {}", ordered(position, pair.parallel)));
        line!(out, "{label:<43} {per:>16} {:>15}{order}{doubts}", percent(pair.confidence));
    }
}

/// Where a call stands among those of its endpoint.
fn ordered(position: f64, parallel: Option<f64>) -> String {
    let beside = if parallel.is_some_and(|share| share > 0.5) { ", beside others" } else { "" };
    match position {
        ..0.5 => format!("first{beside}"),
        _ => format!("after {position:.0}{beside}"),
    }
}

/// What is put together from averages where links are missing.
fn composed(out: &mut String, document: &Document) {
    if document.composed.is_empty() {
        return;
    }
    line!(out, "\nLIKELY CHAINS, put together from averages: no request was seen whole");
    for likely in &document.composed {
        let doubt = if likely.doubtful { ", uncertain" } else { "" };
        line!(
            out,
            "{:<43} depth {:.1} (1 in 20: {}), {} per request, {}, nearly certain {}{doubt}",
            format!("{} {}", name(&likely.service), name(&likely.endpoint)),
            likely.depth,
            likely.depth_p95,
            format!("{:.1} calls", likely.calls),
            count(likely.services, "other service", "other services"),
            percent(likely.confidence),
        );
        let steps: Vec<String> =
            likely.steps.iter().map(|step| format!("{} {}", name(&step.service), percent(step.share))).collect();
        line!(out, "    {}", steps.join(" → "));
    }
}

fn about(service: &Service) -> String {
    if service.kind == ServiceKind::External {
        return "  (external)".to_owned();
    }
    let failures = if service.failures > 0 { format!(", {} failed", service.failures) } else { String::new() };
    format!(
        "  {}, p95 {}{failures}",
        count(service.requests as usize, "request", "requests"),
        duration(service.duration.p95)
    )
}

fn call(edge: &Edge, window: f64) -> String {
    let mut text =
        format!("{}  {}, p95 {}", name(&edge.destination), rate(edge.calls, window), duration(edge.duration.p95));
    if edge.failures > 0 {
        let _ = write!(text, ", {} failed", edge.failures);
    }
    if let Some(share) = edge.blocked_share.filter(|share| *share >= 0.005) {
        let _ = write!(text, ", blocks {}", percent(share));
    }
    if edge.circular {
        text.push_str(", circular");
    }
    text
}

/// An opaque edge.
fn connections(edge: &OpaqueEdge) -> String {
    let mut text = format!(
        "{}  {} {}, {} open, {} sent, {} received",
        name(&edge.destination),
        count(edge.opened as usize, "connection", "connections"),
        name(&edge.protocol),
        edge.open,
        bytes(edge.sent_bytes),
        bytes(edge.received_bytes)
    );
    if edge.failed > 0 {
        let _ = write!(text, ", {} failed", edge.failed);
    }
    text
}

fn losses(out: &mut String, document: &Document) {
    if document.losses.is_empty() {
        return;
    }
    let losses: Vec<String> = document.losses.iter().map(|(loss, count)| format!("{} {count}", name(loss))).collect();
    line!(out, "\nLimits cost: {}", losses.join(", "));
}

fn count(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}
