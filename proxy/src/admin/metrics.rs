//! `/metrics`: durations and outcomes from the totals, the rest from the counters.

mod breakers;
mod concurrency;

use couplet_telemetry::exposition::{Kind, Text, write_process};
use couplet_telemetry::opaque::OpaqueStats;
use couplet_telemetry::outcome::Evidence;
use tokio::time::Instant;

use super::bypass::past;
use crate::link::Headers;
use crate::metrics::{Counter, Metrics};
use crate::policy::Concurrency;
use crate::ship::Collector;
use crate::sidecar::{InForce, Sidecar};
use crate::totals::{Family, Totals};
use crate::verdicts::Verdicts;
use breakers::breakers;
use concurrency::concurrency;

/// Writes the whole page.
pub(super) fn write(in_force: &InForce, collector: &Collector, headers: &Headers, protects: &Concurrency) -> String {
    let sidecar = in_force.sidecar();
    let mut text = Text::default();
    text.family("couplet_build_info", Kind::Gauge, "Always 1; the labels say which build this is.");
    let version = [("version", env!("CARGO_PKG_VERSION")), ("service", sidecar.config.service.as_str())];
    text.sample("couplet_build_info", &version, 1.0);
    collector.totals(|totals| {
        traffic(&mut text, totals);
        opaque(&mut text, totals);
    });
    propagation(&mut text, headers);
    counters(&mut text, &sidecar.metrics);
    reloads(&mut text, &sidecar.metrics);
    text.family("couplet_config_generation", Kind::Gauge, "Which configuration is in force, counted from 1.");
    text.sample("couplet_config_generation", &[], sidecar.generation as f64);
    let success = "couplet_config_last_reload_success";
    text.family(success, Kind::Gauge, "0 when the last attempt to replace the configuration failed, else 1.");
    text.sample(success, &[], if in_force.problem().is_some() { 0.0 } else { 1.0 });
    timing(&mut text, &sidecar.metrics);
    tls(&mut text, &sidecar);
    breakers(&mut text, &sidecar.breakers);
    concurrency(&mut text, protects);
    super::faults::count(&mut text, &sidecar.injections);
    verdicts(&mut text, &sidecar.verdicts);
    capture(&mut text, &sidecar);
    takeover(&mut text, &sidecar.metrics);
    write_process(&mut text);
    text.finish()
}

/// What timing made of calls that no header links.
fn timing(text: &mut Text, metrics: &Metrics) {
    let name = "couplet_timing_calls_total";
    text.family(name, Kind::Counter, "Calls that no header links, by what timing said of their path and when.");
    let rows = [
        ("at_once", &metrics.timing_inferred),
        ("not_at_once", &metrics.timing_abstained),
        ("afterwards", &metrics.timing_inferred_later),
    ];
    for (said, counter) in rows {
        text.sample(name, &[("said", said)], counter.get() as f64);
    }
    let name = "couplet_timing_limits_total";
    text.family(name, Kind::Counter, "What the limits of learning from timing cost, by reason.");
    metrics.timing_limits.each(|reason, cost| text.sample(name, &[("reason", reason)], cost as f64));
}

fn tls(text: &mut Text, sidecar: &Sidecar) {
    let name = "couplet_tls_certificate_not_after_timestamp_seconds";
    text.family(name, Kind::Gauge, "When the own certificates end, in seconds since 1970.");
    for (certificate, second) in sidecar.tls.expiries() {
        text.sample(name, &[("certificate", certificate)], second as f64);
    }
    let metrics = &sidecar.metrics;
    text.family("couplet_tls_handshakes_total", Kind::Counter, "TLS handshakes that succeeded.");
    for (side, counter) in [("inbound", &metrics.tls_accepted), ("outbound", &metrics.tls_connected)] {
        text.sample("couplet_tls_handshakes_total", &[("side", side)], counter.get() as f64);
    }
    text.family("couplet_tls_refused_total", Kind::Counter, "Connections on which there was no TLS, by reason.");
    for (side, reason, count) in metrics.tls_refused() {
        text.sample("couplet_tls_refused_total", &[("side", side), ("reason", reason)], count as f64);
    }
    mesh(text, sidecar);
    text.family("couplet_tls_reloads_total", Kind::Counter, "Changes of certificate and key files, by result.");
    for (result, counter) in [("ok", &metrics.tls_reloads), ("failed", &metrics.tls_reloads_failed)] {
        text.sample("couplet_tls_reloads_total", &[("result", result)], counter.get() as f64);
    }
}

/// What was found out about destinations that nobody configured.
fn mesh(text: &mut Text, sidecar: &Sidecar) {
    let (metrics, said) = (&sidecar.metrics, sidecar.mesh.said(Instant::now()));
    text.family("couplet_mesh_addresses", Kind::Gauge, "Destinations by whether a sidecar was found there of late.");
    for (found, count) in [("sidecar", said.sidecars), ("other", said.others)] {
        text.sample("couplet_mesh_addresses", &[("found", found)], count as f64);
    }
    let rows: [(&str, &str, u64); 4] = [
        ("couplet_mesh_secured_total", "Connections on which a sidecar was found.", metrics.mesh_secured.get()),
        ("couplet_mesh_clear_total", "Connections on which none was, in the clear.", metrics.mesh_clear.get()),
        ("couplet_mesh_downgrades_total", "The same where one was found before.", metrics.mesh_downgrades.get()),
        ("couplet_mesh_overflow_total", "Findings that were not remembered.", said.overflow),
    ];
    for (name, explanation, count) in rows {
        text.family(name, Kind::Counter, explanation);
        text.sample(name, &[], count as f64);
    }
}

fn traffic(text: &mut Text, totals: &Totals) {
    type Row<'a> = (&'a str, &'a str, &'a str, &'a Family);
    let durations: [Row<'_>; 2] = [
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
    for (name, label, explanation, family) in durations {
        text.family(name, Kind::Histogram, explanation);
        for (value, duration) in &family.durations {
            text.histogram(name, &[(label, value)], duration);
        }
    }
    let outcomes: [Row<'_>; 2] = [
        ("couplet_handlings_total", "http_route", "Inbound requests by how they ended.", &totals.endpoints),
        ("couplet_calls_total", "service_peer_name", "Outbound requests by how they ended.", &totals.peers),
    ];
    for (name, label, explanation, family) in outcomes {
        text.family(name, Kind::Counter, explanation);
        for (value, outcomes) in &family.outcomes {
            for (outcome, count) in outcomes.iter() {
                text.sample(name, &[(label, value), ("outcome", outcome.as_str())], count as f64);
            }
        }
    }
    let name = "couplet_call_attempts_total";
    text.family(
        name,
        Kind::Counter,
        "Outbound requests as they were sent; by couplet_calls_total, their amplification.",
    );
    for (peer, count) in &totals.attempts {
        text.sample(name, &[("service_peer_name", peer)], *count as f64);
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
    for (family, count) in [("endpoint", totals.endpoints.overflow), ("peer", totals.peers.overflow)] {
        text.sample("couplet_series_overflow_total", &[("family", family)], count as f64);
    }
}

fn propagation(text: &mut Text, headers: &Headers) {
    let name = "couplet_link_headers_total";
    text.family(
        name,
        Kind::Counter,
        "Requests and calls that had a header that may link them, and calls that it linked.",
    );
    for (header, _, tally) in headers.tallies() {
        for (event, count) in [("inbound", tally.inbound), ("outbound", tally.outbound), ("linked", tally.linked)] {
            if tally.inbound + tally.outbound > 0 {
                text.sample(name, &[("header", &header), ("event", event)], count as f64);
            }
        }
    }
    text.family("couplet_links_ambiguous_total", Kind::Counter, "Calls whose headers several requests share.");
    text.sample("couplet_links_ambiguous_total", &[], headers.ambiguous() as f64);
    text.family("couplet_link_learning", Kind::Gauge, "1 while headers are being learned.");
    text.sample("couplet_link_learning", &[], f64::from(u8::from(headers.is_learning())));
}

/// Whether what should be captured is, as far as that can be told from here.
fn capture(text: &mut Text, sidecar: &Sidecar) {
    let (capture, metrics) = (&sidecar.config.capture, &sidecar.metrics);
    if capture.outbound.is_none() && !capture.inbound {
        return;
    }
    let past = past();
    let directions = [
        ("outbound", capture.outbound.is_some(), metrics.captured_outbound.get(), past.outbound),
        ("inbound", capture.inbound, metrics.captured_inbound.get(), past.inbound),
    ];
    let directions: Vec<_> = directions.into_iter().filter(|(_, wanted, ..)| *wanted).collect();
    text.family("couplet_captured_connections_total", Kind::Counter, "Connections that the kernel brought here.");
    for (direction, _, captured, _) in &directions {
        text.sample("couplet_captured_connections_total", &[("direction", direction)], *captured as f64);
    }
    let name = "couplet_capture_bypassed_connections";
    text.family(name, Kind::Gauge, "Open connections with other hosts that go past the proxy.");
    for (direction, _, _, past) in &directions {
        text.sample(name, &[("direction", direction)], *past as f64);
    }
    let name = "couplet_capture_in_order";
    text.family(name, Kind::Gauge, "0 while connections go past the proxy and none was ever captured, else 1.");
    for (direction, _, captured, past) in &directions {
        let in_order = *captured > 0 || *past == 0;
        text.sample(name, &[("direction", direction)], f64::from(u8::from(in_order)));
    }
}

fn takeover(text: &mut Text, metrics: &Metrics) {
    let name = "couplet_takeover_failures_total";
    text.family(name, Kind::Counter, "Steps of a takeover that could not be made: connections may be lost by it.");
    for (step, counter) in [("steer", &metrics.takeover_unsteered), ("turn_away", &metrics.takeover_unturned)] {
        text.sample(name, &[("step", step)], counter.get() as f64);
    }
}

fn verdicts(text: &mut Text, verdicts: &Verdicts) {
    let said = verdicts.said(Instant::now());
    let families = [
        ("couplet_protocol_verdicts", Kind::Gauge, "Captured destinations by what they spoke of late.", said.kept),
        ("couplet_protocol_verdicts_total", Kind::Counter, "Captured connections by what they spoke.", said.counts),
    ];
    for (name, kind, explanation, counts) in families {
        text.family(name, kind, explanation);
        for (spoken, count) in counts {
            text.sample(name, &[("protocol", spoken.as_str())], count as f64);
        }
    }
    text.family("couplet_protocol_verdict_seconds", Kind::Histogram, "From the first byte to the verdict.");
    text.histogram("couplet_protocol_verdict_seconds", &[], &said.took);
    text.family("couplet_protocol_verdicts_overflow_total", Kind::Counter, "Verdicts that were not kept.");
    text.sample("couplet_protocol_verdicts_overflow_total", &[], said.overflow as f64);
}

fn opaque(text: &mut Text, totals: &Totals) {
    type Row = (&'static str, &'static str, &'static str, &'static [(&'static str, fn(&OpaqueStats) -> u64)]);
    let rows: [Row; 2] = [
        (
            "couplet_opaque_connections_total",
            "Connections that were passed on untouched, by what became of them.",
            "event",
            &[
                ("opened", |stats| stats.opened),
                ("closed", |stats| stats.closed),
                ("failed", |stats| stats.failed),
                ("broken", |stats| stats.broken),
            ],
        ),
        (
            "couplet_opaque_bytes_total",
            "Bytes on them.",
            "direction",
            &[("transmit", |stats| stats.sent), ("receive", |stats| stats.received)],
        ),
    ];
    for (name, explanation, label, numbers) in rows {
        text.family(name, Kind::Counter, explanation);
        for (peer, stats) in &totals.opaque {
            for (word, of) in numbers {
                text.sample(name, &[("service_peer_name", peer), (label, word)], of(stats) as f64);
            }
        }
    }
}

fn reloads(text: &mut Text, metrics: &Metrics) {
    text.family("couplet_config_reloads_total", Kind::Counter, "Attempts to replace the configuration.");
    for (result, counter) in [
        ("applied", &metrics.reloads_applied),
        ("unchanged", &metrics.reloads_unchanged),
        ("refused", &metrics.reloads_refused),
    ] {
        text.sample("couplet_config_reloads_total", &[("result", result)], counter.get() as f64);
    }
}

fn counters(text: &mut Text, metrics: &Metrics) {
    for (name, explanation, gauge) in [
        ("couplet_connections", "Downstream connections that are open.", &metrics.connections),
        ("couplet_opaque_connections", "Connections that are passed on untouched.", &metrics.opaque_connections),
        ("couplet_admin_connections", "Connections to the admin listener.", &metrics.admin_connections),
        ("couplet_in_flight", "Requests in flight, both directions.", &metrics.requests_in_flight),
        ("couplet_upstream_idle", "HTTP/1 connections to upstreams that are kept for later.", &metrics.upstream_idle),
        ("couplet_upstream_endpoints", "Endpoints of upstreams, each worker's own.", &metrics.endpoints),
        ("couplet_tls_handshakes_in_flight", "TLS handshakes of clients under way.", &metrics.tls_handshakes),
    ] {
        text.family(name, Kind::Gauge, explanation);
        text.sample(name, &[], gauge.get() as f64);
        let peak = format!("{name}_peak");
        text.family(&peak, Kind::Gauge, "The highest value so far.");
        text.sample(&peak, &[], gauge.peak() as f64);
    }
    type Row<'a> = (&'a str, &'a str, &'a Counter);
    let rows: [Row<'_>; 31] = [
        ("couplet_connections_accepted_total", "Downstream connections.", &metrics.connections_accepted),
        ("couplet_connections_refused_total", "Closed at once: limits.connections.", &metrics.connections_refused),
        ("couplet_admin_refused_total", "Closed at once: limits.admin_connections.", &metrics.admin_refused),
        ("couplet_connections_malformed_total", "Closed: malformed requests.", &metrics.connections_malformed),
        ("couplet_connections_timed_out_total", "Closed: timeouts.header.", &metrics.connections_timed_out),
        ("couplet_streams_timed_out_total", "Closed: timeouts.stream_idle.", &metrics.streams_timed_out),
        ("couplet_captured_loops_total", "Refused: captured from this very proxy.", &metrics.captured_loops),
        ("couplet_captured_resets_total", "Reset: no connection to the destination.", &metrics.captured_reset),
        ("couplet_opaque_idle_total", "Closed: capture.idle.", &metrics.opaque_idle),
        ("couplet_infra_requests_total", "Requests of the platform, such as probes.", &metrics.infra_requests),
        ("couplet_accept_errors_total", "Connections that could not be accepted.", &metrics.accept_errors),
        (
            "couplet_upstream_connections_opened_total",
            "Connections to upstreams.",
            &metrics.upstream_connections_opened,
        ),
        ("couplet_upstream_connections_reused_total", "Requests on a kept one.", &metrics.upstream_connections_reused),
        ("couplet_upstream_idle_overflow_total", "Not kept: too many idle ones.", &metrics.upstream_idle_overflow),
        ("couplet_upstream_replays_total", "Requests sent again, unsent before.", &metrics.upstream_replays),
        (
            "couplet_grpc_timeouts_malformed_total",
            "Calls whose grpc-timeout is none.",
            &metrics.grpc_timeouts_malformed,
        ),
        (
            "couplet_explicit_overflow_total",
            "Requests beyond the kept destinations.",
            &metrics.explicit_upstreams_overflow,
        ),
        ("couplet_upstream_names_overflow_total", "Names beyond those kept fresh.", &metrics.names_overflow),
        ("couplet_upstream_endpoints_overflow_total", "Endpoints beyond those used.", &metrics.endpoints_overflow),
        ("couplet_resolution_failures_total", "Questions to DNS without an answer.", &metrics.resolution_failures),
        ("couplet_contexts_malformed_total", "Calling contexts that could not be read.", &metrics.contexts_malformed),
        (
            "couplet_traceparents_malformed_total",
            "Inbound requests with a traceparent that could not be read.",
            &metrics.traceparents_malformed,
        ),
        (
            "couplet_tracestates_malformed_total",
            "Inbound requests with a tracestate that could not be read or is too long.",
            &metrics.tracestates_malformed,
        ),
        ("couplet_contexts_untrusted_total", "Calling contexts of untrusted peers.", &metrics.contexts_untrusted),
        ("couplet_summaries_malformed_total", "Summaries that could not be read.", &metrics.summaries_malformed),
        ("couplet_summaries_untrusted_total", "Summaries nobody asked for.", &metrics.summaries_untrusted),
        (
            "couplet_timing_busy_total",
            "Calls that timing could not place at once, since another worker was at its book.",
            &metrics.timing_busy,
        ),
        ("couplet_timing_events_lost_total", "Events that timing was not told.", &metrics.timing_events_lost),
        (
            "couplet_timing_names_refused_total",
            "Handlings and calls beyond the endpoints it tells apart.",
            &metrics.timing_names_refused,
        ),
        ("couplet_reports_sent_total", "Reports that were acknowledged.", &metrics.reports_sent),
        ("couplet_reports_refused_total", "Reports that were refused for good.", &metrics.reports_refused),
    ];
    for (name, explanation, counter) in rows {
        text.family(name, Kind::Counter, explanation);
        text.sample(name, &[], counter.get() as f64);
    }
    text.family("couplet_report_failures_total", Kind::Counter, "Attempts to deliver a report that failed.");
    text.sample("couplet_report_failures_total", &[], metrics.report_failures.get() as f64);
    text.family("couplet_malformed_total", Kind::Counter, "HTTP/1 connections ended for what came on them, by kind.");
    for (side, kind, count) in metrics.malformed() {
        text.sample("couplet_malformed_total", &[("side", side), ("kind", kind)], count as f64);
    }
    text.family("couplet_connect_failures_total", Kind::Counter, "Connections to upstreams that could not be made.");
    metrics.connect_failures.each(|name, count| {
        text.sample("couplet_connect_failures_total", &[("service_peer_name", name)], count as f64);
    });
    text.family("couplet_answers_total", Kind::Counter, "Answers that the proxy made itself, by reason.");
    for (reason, count) in metrics.faults() {
        text.sample("couplet_answers_total", &[("reason", reason)], count as f64);
    }
    let name = "couplet_retries_total";
    text.family(name, Kind::Counter, "Calls that were tried again, since their route says so.");
    metrics.retries.each(|to, count| text.sample(name, &[("service_peer_name", to)], count as f64));
    let name = "couplet_retries_denied_total";
    text.family(name, Kind::Counter, "Calls that could have been tried again and were not, by reason.");
    for (reason, count) in metrics.retries_denied() {
        text.sample(name, &[("reason", reason)], count as f64);
    }
    let name = "couplet_retry_kept_bytes";
    text.family(name, Kind::Gauge, "Bodies of requests that are kept until the heads of their answers come.");
    text.sample(name, &[], metrics.kept_bytes.taken() as f64);
    text.family("couplet_http2_floods_total", Kind::Counter, "HTTP/2 connections that were cut, by kind of flood.");
    for (kind, count) in metrics.abuses() {
        text.sample("couplet_http2_floods_total", &[("kind", kind)], count as f64);
    }
}
