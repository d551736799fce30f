//! `GET /metrics`: the latest snapshot and the analyzer's own counters, for Prometheus.
//!
//! Written anew for every snapshot from what is there, and the analyzer's own counters for every scrape, so that nothing is
//! registered, and several analyzers can live in one process. The names and labels of `traces_service_graph_*` are those of Tempo and the OpenTelemetry Collector:
//! Grafana's service graph works unchanged. Every family has a budget of label sets.

mod budget;

use std::time::Instant;

use couplet_config::ServiceRole;
use couplet_telemetry::exposition::{Kind, Text, write_process};
use couplet_telemetry::histogram::Histogram;
use couplet_telemetry::outcome::Outcomes;

pub(super) use budget::Budgets;

use super::document::Document;
use crate::board::{Board, Published};
use crate::counters::Refusal;
use crate::findings::{Rule, Severity};
use crate::graph::{Edge, Snapshot};

/// What is to be said of a state: the same text for every scrape of it.
pub(super) fn of_state(published: &Published, document: &Document, budgets: &mut Budgets) -> String {
    let mut text = Text::default();
    service_graph(&mut text, published, budgets);
    chains(&mut text, document, budgets);
    fan_out(&mut text, &published.snapshot, budgets);
    blocked(&mut text, document, budgets);
    score(&mut text, published);
    findings(&mut text, published);
    coverage(&mut text, document, budgets);
    text.family("couplet_series_overflow_total", Kind::Counter, "Label sets beyond the budget of a family.");
    for (family, count) in budgets.overflow() {
        text.sample("couplet_series_overflow_total", &[("family", family)], count as f64);
    }
    text.finish()
}

/// How the analyzer itself is doing.
pub(super) fn of_analyzer(published: &Published, board: &Board, now: Instant) -> String {
    let mut text = Text::default();
    let dropped = "traces_service_graph_dropped_spans_total";
    text.family(dropped, Kind::Counter, "Spans of exporters for which there was no room; of which edge, nobody knows.");
    text.sample(dropped, &Row::default().labels(), board.counters.spans_dropped.get() as f64);
    analyzer(&mut text, published, board, now);
    write_process(&mut text);
    text.finish()
}

/// One edge as the families of the service graph show it; all edges beyond the budget together are one.
#[derive(Default)]
struct Row<'a> {
    client: &'a str,
    server: &'a str,
    connection_type: &'static str,
    outcomes: Outcomes,
    client_seconds: Histogram,
    server_seconds: Histogram,
    unpaired: u64,
}

impl Row<'_> {
    fn labels(&self) -> [(&str, &str); 3] {
        [("client", self.client), ("server", self.server), ("connection_type", self.connection_type)]
    }

    fn add(&mut self, snapshot: &Snapshot, edge: &Edge) {
        self.outcomes.merge(&edge.outcomes());
        self.client_seconds.merge(&edge.client.duration());
        self.server_seconds.merge(&edge.server.duration());
        self.unpaired = self.unpaired.saturating_add(snapshot.unpaired(edge));
    }
}

/// Tempo's name for whoever sends requests from outside.
const USER: &str = "user";
/// Tempo's word for a peer that only others know of.
const VIRTUAL: &str = "virtual_node";

fn service_graph(text: &mut Text, published: &Published, budgets: &mut Budgets) {
    let mut rows = edges(published, budgets);
    rows.extend(users(&published.snapshot, budgets));
    let total = "traces_service_graph_request_total";
    text.family(total, Kind::Counter, "Calls from one service to another.");
    for row in &rows {
        text.sample(total, &row.labels(), row.outcomes.total() as f64);
    }
    let failed = "traces_service_graph_request_failed_total";
    text.family(failed, Kind::Counter, "Calls from one service to another that failed.");
    for row in &rows {
        text.sample(failed, &row.labels(), row.outcomes.failures() as f64);
    }
    let client = "traces_service_graph_request_client_seconds";
    text.family(client, Kind::Histogram, "Duration of calls as the caller saw them.");
    for row in rows.iter().filter(|row| row.client_seconds.count() > 0) {
        text.histogram(client, &row.labels(), &row.client_seconds);
    }
    let server = "traces_service_graph_request_server_seconds";
    text.family(server, Kind::Histogram, "Duration of calls as the callee saw them.");
    for row in rows.iter().filter(|row| row.server_seconds.count() > 0) {
        text.histogram(server, &row.labels(), &row.server_seconds);
    }
    let unpaired = "traces_service_graph_unpaired_spans_total";
    text.family(unpaired, Kind::Counter, "Calls that only one side counted although both report.");
    for row in &rows {
        text.sample(unpaired, &row.labels(), row.unpaired as f64);
    }
}

fn edges<'a>(published: &'a Published, budgets: &mut Budgets) -> Vec<Row<'a>> {
    let snapshot = &published.snapshot;
    let mut other = Row { client: budget::REST, server: budget::REST, ..Row::default() };
    let mut rows = Vec::new();
    for edge in snapshot.edges() {
        let (source, destination) = (&snapshot[edge.source], &snapshot[edge.destination]);
        if !budgets.edges.admits(&[&source.name, &destination.name]) {
            other.add(snapshot, edge);
            continue;
        }
        let connection_type = match published.roles.get(edge.destination.position()) {
            Some(ServiceRole::Store) => "database",
            _ if destination.observed => "",
            _ => VIRTUAL,
        };
        let mut row = Row { client: &source.name, server: &destination.name, connection_type, ..Row::default() };
        row.add(snapshot, edge);
        rows.push(row);
    }
    if other.outcomes.total() > 0 {
        rows.push(other);
    }
    rows
}

/// One row for every service that is called from outside. None where a service is named like those outside: its series
/// could not be told from theirs.
fn users<'a>(snapshot: &'a Snapshot, budgets: &mut Budgets) -> Vec<Row<'a>> {
    if snapshot.services().iter().any(|service| &*service.name == USER) {
        return Vec::new();
    }
    let mut rows: Vec<Row<'a>> = Vec::new();
    for entry in snapshot.entries() {
        let server = &*snapshot[snapshot[entry.endpoint].service].name;
        // The entries of one service stand together.
        if rows.last().is_none_or(|row| row.server != server) {
            if !budgets.edges.admits(&[USER, server]) {
                continue;
            }
            rows.push(Row { client: USER, server, connection_type: VIRTUAL, ..Row::default() });
        }
        if let Some(row) = rows.last_mut() {
            row.outcomes.merge(&entry.stats.outcomes);
            row.server_seconds.merge(&entry.stats.duration);
        }
    }
    rows
}

fn chains(text: &mut Text, document: &Document, budgets: &mut Budgets) {
    let name = "couplet_chain_depth";
    text.family(name, Kind::Gauge, "Service changes in the longest blocking chain of a request, 95th percentile.");
    for entry in &document.entries {
        if budgets.entries.admits(&[&entry.service, &entry.endpoint]) {
            let label = format!("{} {}", entry.service, entry.endpoint);
            text.sample(name, &[("entry", &label)], f64::from(entry.depth.p95));
        }
    }
}

fn fan_out(text: &mut Text, snapshot: &Snapshot, budgets: &mut Budgets) {
    let name = "couplet_fan_out";
    text.family(name, Kind::Gauge, "Distinct services that a handling calls, 95th percentile.");
    for endpoint in snapshot.endpoints().iter().filter(|endpoint| endpoint.is_one() && endpoint.stats.callees.max() > 0)
    {
        let service = &snapshot[endpoint.service].name;
        if budgets.endpoints.admits(&[service, &endpoint.name]) {
            let labels = [("service", &**service), ("endpoint", &*endpoint.name)];
            text.sample(name, &labels, f64::from(endpoint.stats.callees.quantile(0.95)));
        }
    }
}

fn blocked(text: &mut Text, document: &Document, budgets: &mut Budgets) {
    let name = "couplet_blocked_share";
    text.family(name, Kind::Gauge, "Share of the caller's handling time that waits for the callee.");
    for edge in &document.edges {
        let Some(share) = edge.blocked_share else { continue };
        if budgets.edges.admits(&[&edge.source, &edge.destination]) {
            text.sample(name, &[("client", &edge.source), ("server", &edge.destination)], share);
        }
    }
}

fn score(text: &mut Text, published: &Published) {
    let score = &published.score;
    text.family("couplet_coupling_score", Kind::Gauge, "How much of a distributed monolith the system is, 0 to 100.");
    if let Some(value) = score.value {
        text.sample("couplet_coupling_score", &[], value);
    }
    let observed = "couplet_coupling_score_dimensions";
    text.family(observed, Kind::Gauge, "Dimensions of the score that were observed.");
    text.sample(observed, &[], score.observed as f64);
}

fn findings(text: &mut Text, published: &Published) {
    let name = "couplet_findings";
    text.family(name, Kind::Gauge, "Findings at present.");
    for rule in Rule::ALL {
        for severity in Severity::ALL {
            let found = &published.findings;
            let count = found.iter().filter(|finding| finding.rule == rule && finding.severity == severity).count();
            text.sample(name, &[("rule", rule.as_str()), ("severity", severity.as_str())], count as f64);
        }
    }
}

fn coverage(text: &mut Text, document: &Document, budgets: &mut Budgets) {
    let name = "couplet_link_coverage_ratio";
    text.family(name, Kind::Gauge, "Share of a service's outbound calls that are linked to a handler exactly.");
    for service in &document.services {
        let Some(coverage) = service.links.coverage else { continue };
        if budgets.services.admits(&[&service.name]) {
            text.sample(name, &[("service", &service.name)], coverage);
        }
    }
}

fn analyzer(text: &mut Text, published: &Published, board: &Board, now: Instant) {
    let counters = &board.counters;
    let single = [
        ("couplet_analyzer_reports_total", Kind::Counter, "Reports applied.", counters.reports.get()),
        ("couplet_analyzer_duplicates_total", Kind::Counter, "Reports that came again.", counters.duplicates.get()),
        ("couplet_analyzer_missing_total", Kind::Counter, "Reports that never came.", counters.missing.get()),
        (
            "couplet_analyzer_foreign_points_total",
            Kind::Counter,
            "Data points of others.",
            counters.foreign_points.get(),
        ),
        ("couplet_analyzer_instances", Kind::Gauge, "Proxies whose sequence is known.", counters.instances.get()),
        ("couplet_analyzer_snapshots_total", Kind::Counter, "Snapshots published.", published.number),
        ("couplet_analyzer_connections", Kind::Gauge, "Open connections.", counters.connections.get()),
        (
            "couplet_analyzer_connections_refused_total",
            Kind::Counter,
            "Connections beyond the limit.",
            counters.connections_refused.get(),
        ),
        (
            "couplet_analyzer_accept_errors_total",
            Kind::Counter,
            "Connections that could not be accepted.",
            counters.accept_errors.get(),
        ),
        ("couplet_analyzer_ui_clients", Kind::Gauge, "Open pages.", counters.ui_clients.get()),
        (
            "couplet_analyzer_ui_clients_refused_total",
            Kind::Counter,
            "Pages beyond the limit.",
            counters.ui_clients_refused.get(),
        ),
        ("couplet_analyzer_history_bytes", Kind::Gauge, "Size of the history.", counters.history_bytes.get()),
        (
            "couplet_analyzer_history_pruned_total",
            Kind::Counter,
            "Rows deleted from the history by its limits.",
            counters.history_pruned.get(),
        ),
        (
            "couplet_analyzer_history_damaged_total",
            Kind::Counter,
            "Rows of the history that could not be read.",
            counters.history_damaged.get(),
        ),
        (
            "couplet_analyzer_history_damages_total",
            Kind::Counter,
            "Times that damage to the history was found; what could be read was kept.",
            counters.history_damages.get(),
        ),
        (
            "couplet_analyzer_history_failing",
            Kind::Gauge,
            "1 while the history cannot be written and reports are refused.",
            counters.history_failing.get(),
        ),
        (
            "couplet_analyzer_history_failures_total",
            Kind::Counter,
            "Attempts to write the history that failed.",
            counters.history_failures.get(),
        ),
        (
            "couplet_analyzer_notes_lost_total",
            Kind::Counter,
            "Notes about findings and events that could not be written.",
            counters.notes_lost.get(),
        ),
        (
            "couplet_analyzer_traces_total",
            Kind::Counter,
            "Traces of exporters that were folded.",
            counters.traces.get(),
        ),
        (
            "couplet_analyzer_traces_early_total",
            Kind::Counter,
            "Traces folded before they were complete.",
            counters.traces_early.get(),
        ),
        ("couplet_analyzer_spans_total", Kind::Counter, "Spans received from exporters.", counters.spans.get()),
        (
            "couplet_analyzer_spans_late_total",
            Kind::Counter,
            "Spans that came after their trace was folded.",
            counters.spans_late.get(),
        ),
        (
            "couplet_analyzer_spans_dropped_total",
            Kind::Counter,
            "Spans beyond what one trace may have.",
            counters.spans_dropped.get(),
        ),
        (
            "couplet_analyzer_spans_set_aside_total",
            Kind::Counter,
            "Spans that made no sense.",
            counters.spans_set_aside.get(),
        ),
        (
            "couplet_analyzer_span_bytes",
            Kind::Gauge,
            "Memory of spans that wait for their trace.",
            counters.span_bytes.get(),
        ),
        (
            "couplet_analyzer_slot_bytes",
            Kind::Gauge,
            "Memory of the slots of sliding windows.",
            counters.slot_bytes.get(),
        ),
        (
            "couplet_analyzer_slots_dropped_total",
            Kind::Counter,
            "Slots for which limits.slot_bytes had no room.",
            counters.slots_dropped.get(),
        ),
    ];
    for (name, kind, explanation, value) in single {
        text.family(name, kind, explanation);
        text.sample(name, &[], value as f64);
    }
    let rejected = "couplet_analyzer_rejected_total";
    text.family(rejected, Kind::Counter, "Requests with reports that were refused.");
    for refusal in Refusal::ALL {
        text.sample(rejected, &[("reason", refusal.as_str())], counters.refused(refusal) as f64);
    }
    let lost = "couplet_analyzer_lost_total";
    text.family(lost, Kind::Counter, "What limits cost, here and at the proxies.");
    for (loss, count) in published.snapshot.losses() {
        text.sample(lost, &[("limit", loss)], *count as f64);
    }
    let lag = "couplet_analyzer_lag_seconds";
    text.family(lag, Kind::Gauge, "How long the oldest report that no snapshot shows has been waiting.");
    text.sample(lag, &[], board.lag_of(published, now).as_secs_f64());
    text.family("couplet_build_info", Kind::Gauge, "The release that runs.");
    text.sample("couplet_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1.0);
}
