//! Report → OTLP.

use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram as ExplicitHistogram,
    HistogramDataPoint, Metric, NumberDataPoint, Sum, exponential_histogram_data_point::Buckets, metric::Data,
    number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::encoding::{WireType, encode_key, encode_varint, message};

use super::words;
use crate::breaker::{BreakerReport, Count};
use crate::counts::Counts;
use crate::histogram::{Histogram, SCALE, seconds};
use crate::opaque::{OpaqueReport, OpaqueStats};
use crate::outcome::{Evidence, Links, Outcomes};
use crate::propagation::Propagation;
use crate::report::{CallReport, CallStats, ExpectedReport, HandlingStats, PathReport, Report};

/// Writes a report as the protobuf bytes of an `ExportMetricsServiceRequest`.
///
/// One metric after the other: as messages, all of a full window would take ten times the memory of its bytes.
#[must_use]
pub fn encode(report: &Report) -> Vec<u8> {
    let times = Times { start: report.start, end: report.end };
    let mut metrics = Metrics(Vec::new());
    let scope = InstrumentationScope {
        name: "couplet".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    };
    // The numbers of the fields are those of opentelemetry-proto's metrics.proto: first of a `ScopeMetrics`, then of a
    // `ResourceMetrics`, then of the request.
    message::encode(1, &scope, &mut metrics.0);
    handlings(&mut metrics, times, &report.paths);
    calls(&mut metrics, times, &report.calls);
    opaque(&mut metrics, times, &report.opaque);
    propagation(&mut metrics, times, &report.propagation);
    breakers(&mut metrics, times, &report.breakers);
    expected(&mut metrics, times, &report.expected);
    let losses = report.losses.iter().map(|(loss, n)| (vec![text(words::LOSS, loss.as_str())], *n));
    push_sum(&mut metrics, times, words::LOSSES, "1", losses);

    // What stands before the bytes that are there already, from the inside out.
    let mut head = Vec::new();
    message::encode(1, &resource(report), &mut head);
    prefix(2, metrics.0.len(), &mut head);
    let mut request = Vec::with_capacity(head.len() + 16);
    prefix(1, head.len() + metrics.0.len(), &mut request);
    request.append(&mut head);
    metrics.0.splice(0..0, request);
    metrics.0
}

/// Number and length of a field whose bytes follow.
fn prefix(field: u32, length: usize, out: &mut Vec<u8>) {
    encode_key(field, WireType::LengthDelimited, out);
    encode_varint(length as u64, out);
}

/// The bytes of a `ScopeMetrics`.
struct Metrics(Vec<u8>);

impl Metrics {
    fn push(&mut self, metric: &Metric) {
        message::encode(2, metric, &mut self.0);
    }
}

fn resource(report: &Report) -> Resource {
    let origin = &report.origin;
    let mut attributes = vec![
        text(words::SERVICE, &origin.service),
        text(words::INSTANCE, &origin.instance),
        int(words::SEQUENCE, report.sequence),
        // Repeated here because a report without any data point must still tell its window.
        int("couplet.window.start", report.start),
        int("couplet.window.end", report.end),
    ];
    attributes.extend(origin.version.as_deref().map(|version| text(words::VERSION, version)));
    attributes.extend(origin.inbound.as_deref().map(|inbound| text(words::INBOUND, inbound)));
    Resource { attributes, ..Resource::default() }
}

fn handlings(metrics: &mut Metrics, times: Times, paths: &[PathReport]) {
    let key = |report: &PathReport| vec![text(words::PATH, &report.path.id.to_string())];
    let durations = paths.iter().map(|report| (definition(report), &report.stats.duration));
    push_durations(metrics, times, words::SERVER_DURATION, durations.collect::<Vec<_>>());

    push_outcomes(metrics, times, words::HANDLINGS, paths.iter().map(|report| (key(report), &report.stats.outcomes)));
    push_links(metrics, times, words::HANDLING_LINKS, paths.iter().map(|report| (key(report), report.stats.links)));
    push_links(metrics, times, words::HANDLING_BELOW, paths.iter().map(|report| (key(report), report.stats.below)));
    let origins = paths.iter().flat_map(|report| {
        let point = move |(service, n)| (with(key(report), text(words::ORIGIN, service)), n);
        report.stats.origins.iter().map(point)
    });
    push_sum(metrics, times, words::HANDLING_ORIGINS, "{handling}", origins);
    type Number = fn(&HandlingStats) -> u64;
    let numbers: [(&str, &str, Number); 4] = [
        (words::HANDLING_RETRIES, "{call}", |stats| stats.retries),
        (words::HANDLING_BLOCKED, "ns", |stats| stats.blocked),
        (words::HANDLING_BUSY, "ns", |stats| stats.busy),
        (words::HANDLING_ASYNCHRONOUS, "{call}", |stats| stats.asynchronous),
    ];
    for (name, unit, of) in numbers {
        push_sum(metrics, times, name, unit, paths.iter().map(|report| (key(report), of(&report.stats))));
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
        push_counts(metrics, times, name, paths.iter().map(|report| (key(report), of(&report.stats))));
    }
}

/// The attributes that define a path; they ride on its duration, which every path has, be it empty.
fn definition(report: &PathReport) -> Vec<KeyValue> {
    let path = &report.path;
    let mut attributes = vec![
        text(words::PATH, &path.id.to_string()),
        text(words::ROOT, &path.root.to_string()),
        text(words::ENDPOINT, &path.endpoint),
        int(words::DEPTH, u64::from(path.depth)),
        text(words::KIND, path.kind.as_str()),
        text(words::EVIDENCE, path.evidence.as_str()),
    ];
    attributes.extend(path.parent.map(|parent| text(words::PARENT, &parent.to_string())));
    attributes.extend(path.caller.as_deref().map(|caller| text(words::CALLER, caller)));
    attributes
}

fn calls(metrics: &mut Metrics, times: Times, calls: &[CallReport]) {
    let key = |report: &CallReport| {
        vec![
            text(words::PATH, &report.path.to_string()),
            text(words::PEER, report.callee.service()),
            text(words::PEER_ENDPOINT, report.callee.endpoint()),
        ]
    };
    // As with paths: the duration is there for every pair, be it empty, and makes the pair known.
    let durations = calls.iter().map(|report| (key(report), &report.stats.duration));
    push_durations(metrics, times, words::CLIENT_DURATION, durations.collect::<Vec<_>>());
    let first_bytes = calls.iter().filter(|report| report.stats.first_byte.count() > 0);
    let first_bytes = first_bytes.map(|report| (key(report), &report.stats.first_byte));
    push_durations(metrics, times, words::FIRST_BYTE, first_bytes.collect::<Vec<_>>());

    push_outcomes(metrics, times, words::CALLS, calls.iter().map(|report| (key(report), &report.stats.outcomes)));
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
        push_sum(metrics, times, name, unit, calls.iter().map(|report| (key(report), of(&report.stats))));
    }
    push_counts(
        metrics,
        times,
        words::CALL_PER_HANDLING,
        calls.iter().map(|report| (key(report), &report.stats.per_handling)),
    );

    push_links(metrics, times, words::CALL_LINKS, calls.iter().map(|report| (key(report), report.stats.links)));
    let joint = calls.iter().flat_map(|report| {
        let table = report.stats.joint;
        let cells = [
            (false, false, table.neither),
            (false, true, table.handling_only),
            (true, false, table.call_only),
            (true, true, table.both),
        ];
        cells.into_iter().map(move |(call_failed, handling_failed, n)| {
            let attributes = with(key(report), flag(words::CALL_FAILED, call_failed));
            (with(attributes, flag(words::HANDLING_FAILED, handling_failed)), n)
        })
    });
    push_sum(metrics, times, words::CALL_JOINT, "{handling}", joint);
}

fn opaque(metrics: &mut Metrics, times: Times, opaque: &[OpaqueReport]) {
    let key =
        |report: &OpaqueReport| vec![text(words::PEER, &report.peer), text(words::PROTOCOL, report.protocol.as_str())];
    // There for every peer, be it empty: so a peer of which nothing else is told is known as well.
    let durations = opaque.iter().map(|report| (key(report), &report.stats.duration));
    push_durations(metrics, times, words::OPAQUE_DURATION, durations.collect::<Vec<_>>());
    type Number = fn(&OpaqueStats) -> u64;
    let events: [(&str, Number); 4] = [
        (words::OPENED, |stats| stats.opened),
        (words::CLOSED, |stats| stats.closed),
        (words::FAILED, |stats| stats.failed),
        (words::BROKEN, |stats| stats.broken),
    ];
    let directions: [(&str, Number); 2] =
        [(words::TRANSMIT, |stats| stats.sent), (words::RECEIVE, |stats| stats.received)];
    let mut push = |name, unit, attribute, numbers: &[(&str, Number)]| {
        let points = opaque.iter().flat_map(|report| {
            numbers.iter().map(move |(word, of)| (with(key(report), text(attribute, word)), of(&report.stats)))
        });
        push_sum(metrics, times, name, unit, points);
    };
    push(words::OPAQUE_CONNECTIONS, "{connection}", words::EVENT, &events);
    push(words::OPAQUE_IO, "By", words::DIRECTION, &directions);
}

fn propagation(metrics: &mut Metrics, times: Times, propagation: &Propagation) {
    let headers = propagation.headers.iter().flat_map(|(name, used)| {
        let events = [
            (words::INBOUND_REQUEST, used.inbound),
            (words::OUTBOUND_CALL, used.outbound),
            (words::LINKED_CALL, used.linked),
        ];
        events.into_iter().map(move |(event, n)| (vec![text(words::HEADER, name), text(words::HEADER_EVENT, event)], n))
    });
    push_sum(metrics, times, words::HEADERS, "1", headers);
    let clients =
        propagation.clients.iter().map(|(client, links)| (vec![text(words::CLIENT, client.as_str())], *links));
    push_links(metrics, times, words::CLIENTS, clients);
}

fn breakers(metrics: &mut Metrics, times: Times, breakers: &[BreakerReport]) {
    // There for every breaker: makes it known. Its value is the peak of calls under way.
    let states = breakers.iter().map(|report| NumberDataPoint {
        attributes: vec![
            text(words::PEER, &report.to),
            text(words::BREAKER_STATE, &report.state),
            text(words::BREAKER_MODE, &report.mode),
        ],
        time_unix_nano: times.end,
        value: Some(number_data_point::Value::AsInt(i64::try_from(report.peak).unwrap_or(i64::MAX))),
        ..NumberDataPoint::default()
    });
    let gauge = Gauge { data_points: states.collect() };
    push(metrics, breakers.is_empty(), words::BREAKER_PEAK, "{call}", Data::Gauge(gauge));
    let counts = breakers.iter().flat_map(|report| {
        let key = |count: Count| vec![text(words::PEER, &report.to), text(words::BREAKER_COUNT, count.as_str())];
        report.counts.iter().map(move |(count, n)| (key(count), n))
    });
    push_sum(metrics, times, words::BREAKER_COUNTS, "1", counts);
    let records = breakers.iter().flat_map(|report| report.transitions.iter().map(move |record| (report, record)));
    let records = records.filter_map(|(report, record)| {
        let record = serde_json::to_string(record).ok()?;
        Some((vec![text(words::PEER, &report.to), text(words::BREAKER_RECORD, &record)], 1))
    });
    push_sum(metrics, times, words::BREAKER_TRANSITIONS, "{transition}", records);
}

fn expected(metrics: &mut Metrics, times: Times, expected: &[ExpectedReport]) {
    let points = expected.iter().flat_map(|report| {
        report.stats.parts().into_iter().map(move |(word, n)| {
            let attributes = vec![
                text(words::ENDPOINT, &report.endpoint),
                text(words::PEER, report.callee.service()),
                text(words::PEER_ENDPOINT, report.callee.endpoint()),
                text(words::PART, word),
            ];
            (attributes, n)
        })
    });
    push_sum(metrics, times, words::EXPECTED, "1", points);
}

#[derive(Clone, Copy)]
struct Times {
    start: u64,
    end: u64,
}

fn push_outcomes<'a>(
    metrics: &mut Metrics,
    times: Times,
    name: &str,
    outcomes: impl Iterator<Item = (Vec<KeyValue>, &'a Outcomes)>,
) {
    let points = outcomes.flat_map(|(key, outcomes)| {
        outcomes.iter().map(move |(outcome, n)| (with(key.clone(), text(words::OUTCOME, outcome.as_str())), n))
    });
    push_sum(metrics, times, name, "{request}", points);
}

fn push_links(metrics: &mut Metrics, times: Times, name: &str, links: impl Iterator<Item = (Vec<KeyValue>, Links)>) {
    let points = links.flat_map(|(key, links)| {
        let evidence = |evidence: Evidence| text(words::EVIDENCE, evidence.as_str());
        Evidence::ALL.into_iter().map(move |kind| (with(key.clone(), evidence(kind)), links.get(kind)))
    });
    push_sum(metrics, times, name, "1", points);
}

/// Adds a sum; zeros are left out, since absent means zero.
fn push_sum(
    metrics: &mut Metrics,
    times: Times,
    name: &str,
    unit: &str,
    points: impl Iterator<Item = (Vec<KeyValue>, u64)>,
) {
    let points = points.filter(|(_, n)| *n > 0).map(|(attributes, n)| NumberDataPoint {
        attributes,
        start_time_unix_nano: times.start,
        time_unix_nano: times.end,
        value: Some(number_data_point::Value::AsInt(i64::try_from(n).unwrap_or(i64::MAX))),
        ..NumberDataPoint::default()
    });
    let data_points: Vec<_> = points.collect();
    let empty = data_points.is_empty();
    let sum = Sum { data_points, aggregation_temporality: AggregationTemporality::Delta.into(), is_monotonic: true };
    push(metrics, empty, name, unit, Data::Sum(sum));
}

fn push_counts<'a>(
    metrics: &mut Metrics,
    times: Times,
    name: &str,
    points: impl Iterator<Item = (Vec<KeyValue>, &'a Counts)>,
) {
    let points = points.filter(|(_, counts)| counts.count() > 0).map(|(attributes, counts)| HistogramDataPoint {
        attributes,
        start_time_unix_nano: times.start,
        time_unix_nano: times.end,
        count: counts.count(),
        sum: Some(counts.sum() as f64),
        explicit_bounds: counts.iter().map(|(value, _)| f64::from(value)).collect(),
        // One bucket more than bounds: nothing is above the largest value.
        bucket_counts: counts.iter().map(|(_, times)| times).chain([0]).collect(),
        min: counts.iter().next().map(|(value, _)| f64::from(value)),
        max: Some(f64::from(counts.max())),
        ..HistogramDataPoint::default()
    });
    let data_points: Vec<_> = points.collect();
    let empty = data_points.is_empty();
    let histogram = ExplicitHistogram { data_points, aggregation_temporality: AggregationTemporality::Delta.into() };
    push(metrics, empty, name, "1", Data::Histogram(histogram));
}

fn push_durations(metrics: &mut Metrics, times: Times, name: &str, points: Vec<(Vec<KeyValue>, &Histogram)>) {
    let points = points.into_iter().map(|(attributes, histogram)| {
        let (offset, buckets) = histogram.dense();
        let some = histogram.count() > 0;
        ExponentialHistogramDataPoint {
            attributes,
            start_time_unix_nano: times.start,
            time_unix_nano: times.end,
            count: histogram.count(),
            sum: some.then(|| seconds(histogram.sum())),
            scale: SCALE,
            zero_count: histogram.zeros(),
            positive: some.then(|| Buckets { offset, bucket_counts: buckets.to_vec() }),
            min: some.then(|| seconds(histogram.min())),
            max: some.then(|| seconds(histogram.max())),
            ..ExponentialHistogramDataPoint::default()
        }
    });
    let data_points: Vec<_> = points.collect();
    let empty = data_points.is_empty();
    let histogram = ExponentialHistogram { data_points, aggregation_temporality: AggregationTemporality::Delta.into() };
    push(metrics, empty, name, "s", Data::ExponentialHistogram(histogram));
}

fn push(metrics: &mut Metrics, empty: bool, name: &str, unit: &str, data: Data) {
    if !empty {
        metrics.push(&Metric { name: name.to_owned(), unit: unit.to_owned(), data: Some(data), ..Metric::default() });
    }
}

fn with(mut attributes: Vec<KeyValue>, one_more: KeyValue) -> Vec<KeyValue> {
    attributes.push(one_more);
    attributes
}

fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, any_value::Value::StringValue(value.to_owned()))
}

fn int(key: &str, value: u64) -> KeyValue {
    attribute(key, any_value::Value::IntValue(i64::try_from(value).unwrap_or(i64::MAX)))
}

fn flag(key: &str, value: bool) -> KeyValue {
    attribute(key, any_value::Value::BoolValue(value))
}

fn attribute(key: &str, value: any_value::Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}
