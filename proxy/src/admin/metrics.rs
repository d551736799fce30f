//! `/metrics`: durations and outcomes from the totals, the rest from the counters.

use std::collections::BTreeMap;

use couplet_telemetry::exposition::{Kind, Text, write_process};
use couplet_telemetry::outcome::Evidence;

use crate::metrics::{Counter, Metrics};
use crate::ship::Collector;
use crate::sidecar::Sidecar;
use crate::totals::{Total, Totals};

/// Writes the whole page.
pub(super) fn write(sidecar: &Sidecar, collector: &Collector) -> String {
    let mut text = Text::default();
    text.family("couplet_build_info", Kind::Gauge, "Always 1; the labels say which build this is.");
    let version = [("version", env!("CARGO_PKG_VERSION")), ("service", sidecar.config.service.as_str())];
    text.sample("couplet_build_info", &version, 1.0);
    collector.totals(|totals| traffic(&mut text, totals));
    counters(&mut text, &sidecar.metrics);
    write_process(&mut text);
    text.finish()
}

fn traffic(text: &mut Text, totals: &Totals) {
    type Family<'a> = (&'a str, &'a str, &'a str, &'a BTreeMap<String, Total>);
    let families: [Family<'_>; 2] = [
        (
            "http_server_request_duration_seconds",
            "http_route",
            "Inbound requests, to the last byte.",
            &totals.endpoints,
        ),
        (
            "http_client_request_duration_seconds",
            "service_peer_name",
            "Outbound requests, to the last byte.",
            &totals.peers,
        ),
    ];
    for (name, label, explanation, series) in families {
        text.family(name, Kind::Histogram, explanation);
        for (value, total) in series {
            text.histogram(name, &[(label, value)], &total.duration);
        }
    }
    for (name, label, explanation, series) in [
        ("couplet_handlings_total", "http_route", "Inbound requests by how they ended.", &totals.endpoints),
        ("couplet_calls_total", "service_peer_name", "Outbound requests by how they ended.", &totals.peers),
    ] {
        text.family(name, Kind::Counter, explanation);
        for (value, total) in series {
            for (outcome, count) in total.outcomes.iter() {
                text.sample(name, &[(label, value), ("outcome", outcome.as_str())], count as f64);
            }
        }
    }
    text.family("couplet_links_total", Kind::Counter, "Outbound requests by how surely their handler is known.");
    for evidence in Evidence::ALL {
        text.sample("couplet_links_total", &[("evidence", evidence.as_str())], totals.links.get(evidence) as f64);
    }
    text.family("couplet_telemetry_dropped_total", Kind::Counter, "Records that a limit made coarser, by limit.");
    for (loss, count) in &totals.losses {
        text.sample("couplet_telemetry_dropped_total", &[("reason", loss.as_str())], *count as f64);
    }
    text.family("couplet_series_overflow_total", Kind::Counter, "Records counted under (other) on this page.");
    for (family, count) in [("endpoint", totals.endpoint_overflow), ("peer", totals.peer_overflow)] {
        text.sample("couplet_series_overflow_total", &[("family", family)], count as f64);
    }
}

fn counters(text: &mut Text, metrics: &Metrics) {
    for (name, explanation, gauge) in [
        ("couplet_connections", "Downstream connections that are open.", &metrics.connections),
        ("couplet_in_flight", "Requests in flight, both directions.", &metrics.requests_in_flight),
    ] {
        text.family(name, Kind::Gauge, explanation);
        text.sample(name, &[], gauge.get() as f64);
        let peak = format!("{name}_peak");
        text.family(&peak, Kind::Gauge, "The highest value so far.");
        text.sample(&peak, &[], gauge.peak() as f64);
    }
    type Row<'a> = (&'a str, &'a str, &'a Counter);
    let rows: [Row<'_>; 15] = [
        ("couplet_connections_accepted_total", "Downstream connections.", &metrics.connections_accepted),
        ("couplet_connections_refused_total", "Closed at once: limits.connections.", &metrics.connections_refused),
        ("couplet_connections_malformed_total", "Closed: not HTTP/1.", &metrics.connections_malformed),
        ("couplet_connections_timed_out_total", "Closed: timeouts.header.", &metrics.connections_timed_out),
        ("couplet_accept_errors_total", "Connections that could not be accepted.", &metrics.accept_errors),
        (
            "couplet_upstream_connections_opened_total",
            "Connections to upstreams.",
            &metrics.upstream_connections_opened,
        ),
        ("couplet_upstream_connections_reused_total", "Requests on a kept one.", &metrics.upstream_connections_reused),
        ("couplet_upstream_replays_total", "Requests sent again, unsent before.", &metrics.upstream_replays),
        (
            "couplet_explicit_overflow_total",
            "Requests beyond the kept destinations.",
            &metrics.explicit_upstreams_overflow,
        ),
        ("couplet_contexts_malformed_total", "Calling contexts that could not be read.", &metrics.contexts_malformed),
        ("couplet_contexts_untrusted_total", "Calling contexts of untrusted peers.", &metrics.contexts_untrusted),
        ("couplet_summaries_malformed_total", "Summaries that could not be read.", &metrics.summaries_malformed),
        ("couplet_summaries_untrusted_total", "Summaries nobody asked for.", &metrics.summaries_untrusted),
        ("couplet_reports_sent_total", "Reports that were acknowledged.", &metrics.reports_sent),
        ("couplet_reports_refused_total", "Reports that were refused for good.", &metrics.reports_refused),
    ];
    for (name, explanation, counter) in rows {
        text.family(name, Kind::Counter, explanation);
        text.sample(name, &[], counter.get() as f64);
    }
    text.family("couplet_report_failures_total", Kind::Counter, "Attempts to deliver a report that failed.");
    text.sample("couplet_report_failures_total", &[], metrics.report_failures.get() as f64);
    text.family("couplet_answers_total", Kind::Counter, "Answers that the proxy made itself, by reason.");
    for (reason, count) in metrics.faults() {
        text.sample("couplet_answers_total", &[("reason", reason)], count as f64);
    }
}
