//! Report → OTLP. The bytes are written one after the other, and no message is built for them; fields that have their
//! default value are left out, as protobuf has it.

mod points;

use self::points::{Attribute, Key, Keys, Metrics, Times};
use super::words;
use super::write::Writer;
use crate::breaker::BreakerReport;
use crate::counts::Counts;
use crate::opaque::{OpaqueReport, OpaqueStats};
use crate::outcome::{Evidence, Links};
use crate::propagation::Propagation;
use crate::report::{CallReport, CallStats, ExpectedReport, HandlingStats, PathReport, Report};

/// Writes a report as the protobuf bytes of an `ExportMetricsServiceRequest`.
#[must_use]
pub fn encode(report: &Report) -> Vec<u8> {
    let mut out = Writer::default();
    // The numbers of the fields are those of opentelemetry-proto: of the request, a `ResourceMetrics`, a `ScopeMetrics`.
    out.message(1, |out| {
        out.message(1, |out| resource(out, report));
        out.message(2, |out| {
            out.message(1, |out| {
                out.sized(1, b"couplet");
                out.sized(2, env!("CARGO_PKG_VERSION").as_bytes());
            });
            let metrics = &mut Metrics { out, times: Times { start: report.start, end: report.end } };
            handlings(metrics, &report.paths);
            calls(metrics, &report.calls);
            opaque(metrics, &report.opaque);
            propagation(metrics, &report.propagation);
            breakers(metrics, &report.breakers);
            expected(metrics, &report.expected);
            metrics.sum(words::LOSSES, "1", |sum| {
                for (loss, n) in &report.losses {
                    sum.add(*n, Key::NONE, &[Attribute::Text(words::LOSS, loss.as_str())]);
                }
            });
        });
    });
    out.into_inner()
}

fn resource(out: &mut Writer, report: &Report) {
    let origin = &report.origin;
    out.text(1, words::SERVICE, &origin.service);
    out.text(1, words::INSTANCE, &origin.instance);
    out.int(1, words::SEQUENCE, report.sequence);
    // Repeated here because a report without any data point must still tell its window.
    out.int(1, words::WINDOW_START, report.start);
    out.int(1, words::WINDOW_END, report.end);
    if let Some(version) = &origin.version {
        out.text(1, words::VERSION, version);
    }
    if let Some(inbound) = &origin.inbound {
        out.text(1, words::INBOUND, inbound);
    }
}

fn handlings(metrics: &mut Metrics<'_>, paths: &[PathReport]) {
    let keys = Keys::of(paths, 1, |report, keys| keys.push(words::PATH, report.path.id.hex()));
    let rows = || paths.iter().map(|report| &report.stats).zip(keys.iter());
    metrics.durations(words::SERVER_DURATION, |points| {
        for (report, key) in paths.iter().zip(keys.iter()) {
            points.add(&report.stats.duration, key, &definition(report), report.stats.examples.distinct());
        }
    });
    metrics.sum(words::HANDLINGS, "{request}", |sum| {
        for (stats, key) in rows() {
            for (outcome, n) in stats.outcomes.iter() {
                sum.add(n, key, &[Attribute::Text(words::OUTCOME, outcome.as_str())]);
            }
        }
    });
    metrics.links(words::HANDLING_LINKS, rows().map(|(stats, key)| (stats.links, key)));
    metrics.links(words::HANDLING_BELOW, rows().map(|(stats, key)| (stats.below, key)));
    metrics.sum(words::HANDLING_ORIGINS, "{handling}", |sum| {
        for (stats, key) in rows() {
            for (service, n) in stats.origins.iter() {
                sum.add(n, key, &[Attribute::Text(words::ORIGIN, service)]);
            }
        }
    });
    type Number = fn(&HandlingStats) -> u64;
    let numbers: [(&str, &str, Number); 4] = [
        (words::HANDLING_RETRIES, "{call}", |stats| stats.retries),
        (words::HANDLING_BLOCKED, "ns", |stats| stats.blocked),
        (words::HANDLING_BUSY, "ns", |stats| stats.busy),
        (words::HANDLING_ASYNCHRONOUS, "{call}", |stats| stats.asynchronous),
    ];
    for (name, unit, of) in numbers {
        metrics.sum(name, unit, |sum| rows().for_each(|(stats, key)| sum.add(of(stats), key, &[])));
    }
    type Distribution = fn(&HandlingStats) -> &Counts;
    let distributions: [(&str, Distribution); 5] = [
        (words::HANDLING_CALLS, |stats| &stats.calls),
        (words::HANDLING_CALLEES, |stats| &stats.callees),
        (words::DEPTH_BELOW, |stats| &stats.depth_below),
        (words::CALLS_BELOW, |stats| &stats.calls_below),
        (words::SERVICES_BELOW, |stats| &stats.services_below),
    ];
    for (name, of) in distributions {
        metrics.counts(name, |points| rows().for_each(|(stats, key)| points.add(of(stats), key)));
    }
}

/// What defines a path, beside its id; it rides on the duration, which every path has, be it empty.
fn definition(report: &PathReport) -> Vec<Attribute<'_>> {
    let path = &report.path;
    let mut attributes = vec![
        Attribute::Path(words::ROOT, path.root),
        Attribute::Text(words::ENDPOINT, &path.endpoint),
        Attribute::Int(words::DEPTH, u64::from(path.depth)),
        Attribute::Text(words::KIND, path.kind.as_str()),
        Attribute::Text(words::EVIDENCE, path.evidence.as_str()),
    ];
    attributes.extend(path.parent.map(|parent| Attribute::Path(words::PARENT, parent)));
    attributes.extend(path.caller.as_deref().map(|caller| Attribute::Text(words::CALLER, caller)));
    attributes
}

fn calls(metrics: &mut Metrics<'_>, calls: &[CallReport]) {
    let keys = Keys::of(calls, 3, |report, keys| {
        keys.push(words::PATH, report.path.hex());
        keys.push(words::PEER, report.callee.service());
        keys.push(words::PEER_ENDPOINT, report.callee.endpoint());
    });
    let rows = || calls.iter().map(|report| &report.stats).zip(keys.iter());
    // As with paths: the duration is there for every pair, be it empty, and makes the pair known.
    metrics.durations(words::CLIENT_DURATION, |points| {
        rows().for_each(|(stats, key)| points.add(&stats.duration, key, &[], []));
    });
    metrics.durations(words::FIRST_BYTE, |points| {
        let some = rows().filter(|(stats, _)| stats.first_byte.count() > 0);
        some.for_each(|(stats, key)| points.add(&stats.first_byte, key, &[], []));
    });
    metrics.sum(words::CALLS, "{request}", |sum| {
        for (stats, key) in rows() {
            for (outcome, n) in stats.outcomes.iter() {
                sum.add(n, key, &[Attribute::Text(words::OUTCOME, outcome.as_str())]);
            }
        }
    });
    type Number = fn(&CallStats) -> u64;
    let numbers: [(&str, &str, Number); 7] = [
        (words::CALL_BLOCKING, "{call}", |stats| stats.blocking),
        (words::CALL_BLOCKED, "ns", |stats| stats.blocked),
        (words::CALL_ATTEMPTS, "{attempt}", |stats| stats.attempts),
        (words::CALL_DELAYED, "{request}", |stats| stats.delayed),
        (words::CALL_ABORTED, "{request}", |stats| stats.aborted),
        (words::CALL_REQUEST_BYTES, "By", |stats| stats.request_bytes),
        (words::CALL_RESPONSE_BYTES, "By", |stats| stats.response_bytes),
    ];
    for (name, unit, of) in numbers {
        metrics.sum(name, unit, |sum| rows().for_each(|(stats, key)| sum.add(of(stats), key, &[])));
    }
    metrics.counts(words::CALL_PER_HANDLING, |points| {
        rows().for_each(|(stats, key)| points.add(&stats.per_handling, key));
    });
    metrics.links(words::CALL_LINKS, rows().map(|(stats, key)| (stats.links, key)));
    metrics.sum(words::CALL_JOINT, "{handling}", |sum| {
        for (stats, key) in rows() {
            let table = stats.joint;
            let cells = [
                (false, false, table.neither),
                (false, true, table.handling_only),
                (true, false, table.call_only),
                (true, true, table.both),
            ];
            for (call, handling, n) in cells {
                let call = Attribute::Flag(words::CALL_FAILED, call);
                sum.add(n, key, &[call, Attribute::Flag(words::HANDLING_FAILED, handling)]);
            }
        }
    });
}

fn opaque(metrics: &mut Metrics<'_>, opaque: &[OpaqueReport]) {
    let keys = Keys::of(opaque, 2, |report, keys| {
        keys.push(words::PEER, &report.peer);
        keys.push(words::PROTOCOL, report.protocol.as_str());
    });
    let rows = || opaque.iter().map(|report| &report.stats).zip(keys.iter());
    // There for every peer, be it empty: so a peer of which nothing else is told is known as well.
    metrics.durations(words::OPAQUE_DURATION, |points| {
        rows().for_each(|(stats, key)| points.add(&stats.duration, key, &[], []));
    });
    type Number = fn(&OpaqueStats) -> u64;
    let events: [(&str, Number); 4] = [
        (words::OPENED, |stats| stats.opened),
        (words::CLOSED, |stats| stats.closed),
        (words::FAILED, |stats| stats.failed),
        (words::BROKEN, |stats| stats.broken),
    ];
    let directions: [(&str, Number); 2] =
        [(words::TRANSMIT, |stats| stats.sent), (words::RECEIVE, |stats| stats.received)];
    let mut sum = |name, unit, attribute, numbers: &[(&'static str, Number)]| {
        metrics.sum(name, unit, |sum| {
            for (stats, key) in rows() {
                numbers.iter().for_each(|(word, of)| sum.add(of(stats), key, &[Attribute::Text(attribute, word)]));
            }
        });
    };
    sum(words::OPAQUE_CONNECTIONS, "{connection}", words::EVENT, &events);
    sum(words::OPAQUE_IO, "By", words::DIRECTION, &directions);
}

fn propagation(metrics: &mut Metrics<'_>, propagation: &Propagation) {
    metrics.sum(words::HEADERS, "1", |sum| {
        for (name, used) in &propagation.headers {
            let events = [
                (words::INBOUND_REQUEST, used.inbound),
                (words::OUTBOUND_CALL, used.outbound),
                (words::LINKED_CALL, used.linked),
            ];
            for (event, n) in events {
                let name = Attribute::Text(words::HEADER, name);
                sum.add(n, Key::NONE, &[name, Attribute::Text(words::HEADER_EVENT, event)]);
            }
        }
    });
    metrics.sum(words::CLIENTS, "1", |sum| {
        for (client, links) in &propagation.clients {
            for evidence in Evidence::ALL {
                let client = Attribute::Text(words::CLIENT, client.as_str());
                sum.add(links.get(evidence), Key::NONE, &[client, Attribute::Text(words::EVIDENCE, evidence.as_str())]);
            }
        }
    });
}

fn breakers(metrics: &mut Metrics<'_>, breakers: &[BreakerReport]) {
    // There for every breaker: makes it known. Its value is the peak of calls under way.
    metrics.gauge(words::BREAKER_PEAK, "{call}", |gauge| {
        for report in breakers {
            let state = Attribute::Text(words::BREAKER_STATE, &report.state);
            let mode = Attribute::Text(words::BREAKER_MODE, &report.mode);
            gauge.set(report.peak, Key::NONE, &of_breaker(report, [state, mode]));
        }
    });
    metrics.sum(words::BREAKER_COUNTS, "1", |sum| {
        for report in breakers {
            for (count, n) in report.counts.iter() {
                let count = Attribute::Text(words::BREAKER_COUNT, count.as_str());
                sum.add(n, Key::NONE, &of_breaker(report, [count]));
            }
        }
    });
    metrics.sum(words::BREAKER_TRANSITIONS, "{transition}", |sum| {
        for report in breakers {
            for record in report.transitions.iter().filter_map(|record| serde_json::to_string(record).ok()) {
                let record = Attribute::Text(words::BREAKER_RECORD, &record);
                sum.add(1, Key::NONE, &of_breaker(report, [record]));
            }
        }
    });
}

/// What names a breaker, and more.
fn of_breaker<'a>(report: &'a BreakerReport, more: impl IntoIterator<Item = Attribute<'a>>) -> Vec<Attribute<'a>> {
    let class = report.class.as_ref().map(|class| Attribute::Text(words::BREAKER_CLASS, class));
    std::iter::once(Attribute::Text(words::PEER, &report.to)).chain(class).chain(more).collect()
}

fn expected(metrics: &mut Metrics<'_>, expected: &[ExpectedReport]) {
    metrics.sum(words::EXPECTED, "1", |sum| {
        for report in expected {
            for (word, n) in report.stats.parts() {
                let attributes = [
                    Attribute::Text(words::ENDPOINT, &report.endpoint),
                    Attribute::Text(words::PEER, report.callee.service()),
                    Attribute::Text(words::PEER_ENDPOINT, report.callee.endpoint()),
                    Attribute::Text(words::PART, word),
                ];
                sum.add(n, Key::NONE, &attributes);
            }
        }
    });
}
