//! OTLP → report the long way: prost builds all messages, and they are taken apart again. Slow, and simple enough to say
//! what the decoder has to say.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, ExponentialHistogramDataPoint, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, exemplar,
    metric::Data, number_data_point,
};
use prost::Message;

use super::super::words;
use super::super::{Bounds, DecodeError, Decoded};
use crate::breaker::{BreakerCounts, BreakerReport, Count, Transition};
use crate::counts::Counts;
use crate::endpoint::truncate;
use crate::example::{Example, Trace};
use crate::expected::ExpectedStats;
use crate::histogram::{Histogram, SCALE};
use crate::names::{MAX_ENDPOINT_BYTES, MAX_SERVICE_BYTES, is_service_name};
use crate::opaque::{OpaqueReport, OpaqueStats, Protocol};
use crate::outcome::{Evidence, Outcome};
use crate::path::PathId;
use crate::propagation::{Client, MAX_HEADERS, Propagation};
use crate::report::{
    CallReport, CallStats, Callee, ExpectedReport, HandlingStats, Origin, PathDefinition, PathKind, PathReport, Report,
};
use crate::window::Loss;

/// Most buckets of one histogram that are read.
const MAX_BUCKETS: usize = 2_048;
/// The sums that are known.
const SUMS: [&str; 26] = [
    words::LOSSES,
    words::HEADERS,
    words::CLIENTS,
    words::HANDLINGS,
    words::HANDLING_LINKS,
    words::HANDLING_BELOW,
    words::HANDLING_RETRIES,
    words::HANDLING_ORIGINS,
    words::HANDLING_BLOCKED,
    words::HANDLING_BUSY,
    words::HANDLING_ASYNCHRONOUS,
    words::CALLS,
    words::CALL_LINKS,
    words::CALL_BLOCKING,
    words::CALL_BLOCKED,
    words::CALL_ATTEMPTS,
    words::CALL_DELAYED,
    words::CALL_ABORTED,
    words::CALL_REQUEST_BYTES,
    words::CALL_RESPONSE_BYTES,
    words::OPAQUE_CONNECTIONS,
    words::OPAQUE_IO,
    words::BREAKER_COUNTS,
    words::BREAKER_TRANSITIONS,
    words::EXPECTED,
    words::CALL_JOINT,
];
/// Longest instance, version and address that is read, in bytes.
const MAX_NAME_BYTES: usize = 256;

/// Most changes of one breaker that are read of one report.
const MAX_TRANSITIONS: usize = 256;

/// Reads an `ExportMetricsServiceRequest`.
///
/// # Errors
/// Where the bytes are no such message, or one of the reports in it cannot be trusted; then nothing of it is used.
pub(super) fn decode(bytes: &[u8], bounds: &Bounds) -> Result<Decoded, DecodeError> {
    let request =
        ExportMetricsServiceRequest::decode(bytes).map_err(|error| DecodeError::Protobuf(error.to_string()))?;
    let mut decoded = Decoded { reports: Vec::new(), ignored: 0 };
    for metrics in &request.resource_metrics {
        match sequence(metrics) {
            Some(sequence) => decoded.reports.push(report(metrics, sequence, bounds)?),
            None => decoded.ignored += points(metrics),
        }
    }
    Ok(decoded)
}

fn sequence(metrics: &ResourceMetrics) -> Option<u64> {
    metrics.resource.as_ref().and_then(|resource| Attributes(&resource.attributes).int(words::SEQUENCE))
}

fn points(metrics: &ResourceMetrics) -> u64 {
    let of = |metric: &Metric| match &metric.data {
        None => 0,
        Some(Data::Gauge(gauge)) => gauge.data_points.len(),
        Some(Data::Sum(sum)) => sum.data_points.len(),
        Some(Data::Histogram(histogram)) => histogram.data_points.len(),
        Some(Data::ExponentialHistogram(histogram)) => histogram.data_points.len(),
        Some(Data::Summary(summary)) => summary.data_points.len(),
    };
    metrics.scope_metrics.iter().flat_map(|scope| &scope.metrics).map(|metric| of(metric) as u64).sum()
}

fn report(metrics: &ResourceMetrics, sequence: u64, bounds: &Bounds) -> Result<Report, DecodeError> {
    let attributes = Attributes(metrics.resource.as_ref().map_or(&[], |resource| &resource.attributes));
    let instance = attributes.text(words::INSTANCE).unwrap_or_default();
    let malformed = |problem: String| {
        let mut instance = instance.to_owned();
        truncate(&mut instance, MAX_NAME_BYTES);
        DecodeError::Malformed { instance, problem }
    };
    let origin = origin(&attributes).map_err(malformed)?;
    let mut parts = Parts {
        bounds: *bounds,
        paths: HashMap::new(),
        calls: HashMap::new(),
        opaque: BTreeMap::new(),
        propagation: Propagation::default(),
        breakers: BTreeMap::new(),
        expected: BTreeMap::new(),
        losses: BTreeMap::new(),
    };
    // Definitions come first, whatever order a Collector on the way left the metrics in.
    let all = || metrics.scope_metrics.iter().flat_map(|scope| &scope.metrics);
    for metric in all().filter(|metric| matches!(metric.name.as_str(), words::SERVER_DURATION | words::CLIENT_DURATION))
    {
        parts.define(metric).map_err(malformed)?;
    }
    for metric in all() {
        parts.fill(metric).map_err(malformed)?;
    }
    let mut paths: Vec<_> = parts.paths.into_values().collect();
    paths.sort_unstable_by_key(|report| report.path.id);
    let mut calls: Vec<_> = parts.calls.into_values().collect();
    calls.sort_unstable_by(|a, b| {
        (a.path, a.callee.service(), a.callee.endpoint()).cmp(&(b.path, b.callee.service(), b.callee.endpoint()))
    });
    let opaque = parts.opaque.into_iter().map(|((peer, protocol), stats)| OpaqueReport { peer, protocol, stats });
    let opaque = opaque.collect();
    let breakers = parts.breakers.into_values().collect();
    let expected = parts.expected.into_iter().map(|((endpoint, service, callee), stats)| ExpectedReport {
        endpoint,
        callee: Arc::new(Callee::new(service, callee)),
        stats,
    });
    let expected = expected.collect();
    let losses = parts.losses.into_iter().collect();
    let start = attributes.int("couplet.window.start").unwrap_or(0);
    let end = attributes.int("couplet.window.end").unwrap_or(start).max(start);
    let propagation = parts.propagation;
    Ok(Report { origin, sequence, start, end, paths, calls, opaque, expected, propagation, breakers, losses })
}

fn example(exemplar: &Exemplar) -> Option<Example> {
    let attributes = Attributes(exemplar.filtered_attributes.get(..8).unwrap_or(&exemplar.filtered_attributes));
    let Some(exemplar::Value::AsDouble(seconds)) = exemplar.value else { return None };
    let id = u128::from_be_bytes(exemplar.trace_id.as_slice().try_into().ok()?);
    let sampled = attributes.flag(words::EXAMPLE_SAMPLED).unwrap_or(false);
    let calls = attributes.int(words::EXAMPLE_CALLS).map_or(0, |calls| u32::try_from(calls).unwrap_or(u32::MAX));
    let trace = Trace { id, sampled, at: exemplar.time_unix_nano };
    Some(Example { trace, duration: whole(seconds * 1e9) as u64, outcome: attributes.outcome().ok()?, calls })
}

fn origin(attributes: &Attributes<'_>) -> Result<Origin, String> {
    let service = attributes.required(words::SERVICE)?;
    if !is_service_name(service) {
        return Err(format!(
            "{} is not a service name (1 to {MAX_SERVICE_BYTES} letters, digits, '.', '_', '-', ':')",
            words::SERVICE
        ));
    }
    let instance = attributes.required(words::INSTANCE)?;
    let optional = |key: &str| attributes.text(key).map(str::to_owned);
    let origin = Origin {
        service: service.to_owned(),
        instance: instance.to_owned(),
        version: optional(words::VERSION),
        inbound: optional(words::INBOUND),
    };
    let longest =
        [Some(instance.len()), origin.version.as_ref().map(String::len), origin.inbound.as_ref().map(String::len)];
    if instance.is_empty() || longest.into_iter().flatten().any(|bytes| bytes > MAX_NAME_BYTES) {
        return Err(format!("instance, version and address must have 1 to {MAX_NAME_BYTES} bytes"));
    }
    Ok(origin)
}

struct Parts {
    bounds: Bounds,
    paths: HashMap<PathId, PathReport>,
    calls: HashMap<(PathId, u64), CallReport>,
    opaque: BTreeMap<(String, Protocol), OpaqueStats>,
    propagation: Propagation,
    breakers: BTreeMap<(String, Option<String>), BreakerReport>,
    expected: BTreeMap<(String, String, String), ExpectedStats>,
    losses: BTreeMap<Loss, u64>,
}

impl Parts {
    fn define(&mut self, metric: &Metric) -> Result<(), String> {
        let Some(Data::ExponentialHistogram(data)) = &metric.data else {
            return Err(format!("{} must be an exponential histogram", metric.name));
        };
        for point in &data.data_points {
            let attributes = Attributes(&point.attributes);
            if metric.name == words::SERVER_DURATION {
                let path = Arc::new(definition(&attributes)?);
                self.paths.entry(path.id).or_insert_with(|| PathReport { path, stats: HandlingStats::default() });
            } else {
                let (path, callee) = (attributes.path(words::PATH)?, callee(&attributes)?);
                let fresh = CallReport { path, callee: Arc::new(callee), stats: CallStats::default() };
                self.calls.entry((path, fresh.callee.key())).or_insert(fresh);
            }
        }
        if self.paths.len() > self.bounds.paths {
            return Err(format!("more than {} paths in one report", self.bounds.paths));
        }
        if self.calls.len() > self.bounds.calls {
            return Err(format!("more than {} callees in one report", self.bounds.calls));
        }
        Ok(())
    }

    /// Adds the points of one metric. A metric that this release does not know is left alone: a newer proxy sent it.
    fn fill(&mut self, metric: &Metric) -> Result<(), String> {
        let name = metric.name.as_str();
        match &metric.data {
            Some(Data::Sum(sum)) => sum.data_points.iter().try_for_each(|point| self.fill_sum(name, point)),
            Some(Data::Histogram(data)) => data.data_points.iter().try_for_each(|point| self.fill_counts(name, point)),
            Some(Data::ExponentialHistogram(data)) => {
                data.data_points.iter().try_for_each(|point| self.fill_durations(name, point))
            }
            Some(Data::Gauge(gauge)) if name == words::BREAKER_PEAK => {
                gauge.data_points.iter().try_for_each(|point| self.fill_breaker(point))
            }
            _ => Ok(()),
        }
    }

    fn fill_sum(&mut self, name: &str, point: &NumberDataPoint) -> Result<(), String> {
        // A metric that this release does not know is left alone, whatever its values are.
        if !SUMS.contains(&name) {
            return Ok(());
        }
        let attributes = Attributes(&point.attributes);
        let n = match point.value {
            Some(number_data_point::Value::AsInt(n)) => {
                u64::try_from(n).map_err(|_| format!("{name}: {n} is negative"))?
            }
            _ => return Err(format!("{name}: not a whole number")),
        };
        if name == words::LOSSES {
            // A loss that this release does not know is a newer proxy's.
            if let Some(loss) = attributes.text(words::LOSS).and_then(Loss::parse).filter(|_| n > 0) {
                add(self.losses.entry(loss).or_default(), n);
            }
            return Ok(());
        }
        match name {
            words::HEADERS => return self.fill_header(&attributes, n),
            words::CLIENTS => {
                let client = Client::parse(attributes.required(words::CLIENT)?);
                self.propagation.clients.entry(client).or_default().add(attributes.evidence()?, n);
            }
            words::HANDLINGS => self.stats(&attributes)?.outcomes.add(attributes.outcome()?, n),
            words::HANDLING_LINKS => self.stats(&attributes)?.links.add(attributes.evidence()?, n),
            words::HANDLING_BELOW => self.stats(&attributes)?.below.add(attributes.evidence()?, n),
            words::HANDLING_RETRIES => add(&mut self.stats(&attributes)?.retries, n),
            words::HANDLING_ORIGINS => self.stats(&attributes)?.origins.add(attributes.required(words::ORIGIN)?, n),
            words::HANDLING_BLOCKED => add(&mut self.stats(&attributes)?.blocked, n),
            words::HANDLING_BUSY => add(&mut self.stats(&attributes)?.busy, n),
            words::HANDLING_ASYNCHRONOUS => add(&mut self.stats(&attributes)?.asynchronous, n),
            words::CALLS => self.call_stats(&attributes)?.outcomes.add(attributes.outcome()?, n),
            words::CALL_LINKS => self.call_stats(&attributes)?.links.add(attributes.evidence()?, n),
            words::CALL_BLOCKING => add(&mut self.call_stats(&attributes)?.blocking, n),
            words::CALL_BLOCKED => add(&mut self.call_stats(&attributes)?.blocked, n),
            words::CALL_ATTEMPTS => add(&mut self.call_stats(&attributes)?.attempts, n),
            words::CALL_DELAYED => add(&mut self.call_stats(&attributes)?.delayed, n),
            words::CALL_ABORTED => add(&mut self.call_stats(&attributes)?.aborted, n),
            words::CALL_REQUEST_BYTES => add(&mut self.call_stats(&attributes)?.request_bytes, n),
            words::CALL_RESPONSE_BYTES => add(&mut self.call_stats(&attributes)?.response_bytes, n),
            words::OPAQUE_CONNECTIONS => {
                let stats = self.opaque(&attributes)?;
                match attributes.required(words::EVENT)? {
                    words::OPENED => add(&mut stats.opened, n),
                    words::CLOSED => add(&mut stats.closed, n),
                    words::FAILED => add(&mut stats.failed, n),
                    words::BROKEN => add(&mut stats.broken, n),
                    // What a newer proxy tells.
                    _ => {}
                }
            }
            words::OPAQUE_IO => {
                let stats = self.opaque(&attributes)?;
                match attributes.required(words::DIRECTION)? {
                    words::TRANSMIT => add(&mut stats.sent, n),
                    words::RECEIVE => add(&mut stats.received, n),
                    other => return Err(format!("{name}: {other:?} is no direction")),
                }
            }
            words::BREAKER_COUNTS => {
                // What a newer proxy counts is left alone.
                if let Some(count) = attributes.text(words::BREAKER_COUNT).and_then(Count::parse) {
                    self.breaker(&attributes)?.counts.add(count, n);
                }
            }
            words::BREAKER_TRANSITIONS => {
                let record = attributes.text(words::BREAKER_RECORD).and_then(Transition::read);
                let transitions = &mut self.breaker(&attributes)?.transitions;
                transitions.extend(record.filter(|_| transitions.len() < MAX_TRANSITIONS));
            }
            words::EXPECTED => {
                let part = attributes.required(words::PART)?;
                if let Some(slot) = self.expected(&attributes)?.part(part) {
                    add(slot, n);
                }
            }
            words::CALL_JOINT => {
                let failed = |key: &str| attributes.flag(key).ok_or_else(|| format!("{name}: {key} is missing"));
                let (call_failed, handling_failed) = (failed(words::CALL_FAILED)?, failed(words::HANDLING_FAILED)?);
                self.call_stats(&attributes)?.joint.add(call_failed, handling_failed, n);
            }
            _ => {}
        }
        Ok(())
    }

    fn fill_header(&mut self, attributes: &Attributes<'_>, n: u64) -> Result<(), String> {
        let used = self.propagation.header(attributes.required(words::HEADER)?);
        let used = used.ok_or_else(|| format!("{} is no header, or the {MAX_HEADERS} are exceeded", words::HEADER))?;
        match attributes.required(words::HEADER_EVENT)? {
            words::INBOUND_REQUEST => add(&mut used.inbound, n),
            words::OUTBOUND_CALL => add(&mut used.outbound, n),
            words::LINKED_CALL => add(&mut used.linked, n),
            // What a newer proxy tells.
            _ => {}
        }
        Ok(())
    }

    fn fill_counts(&mut self, name: &str, point: &HistogramDataPoint) -> Result<(), String> {
        let attributes = Attributes(&point.attributes);
        let slot = match name {
            words::HANDLING_CALLS => &mut self.stats(&attributes)?.calls,
            words::HANDLING_CALLEES => &mut self.stats(&attributes)?.callees,
            words::DEPTH_BELOW => &mut self.stats(&attributes)?.depth_below,
            words::CALLS_BELOW => &mut self.stats(&attributes)?.calls_below,
            words::SERVICES_BELOW => &mut self.stats(&attributes)?.services_below,
            words::CALL_PER_HANDLING => &mut self.call_stats(&attributes)?.per_handling,
            _ => return Ok(()),
        };
        if point.explicit_bounds.len() > MAX_BUCKETS || point.bucket_counts.len() != point.explicit_bounds.len() + 1 {
            return Err(format!("{name}: bounds and counts do not fit one another"));
        }
        let values = point.explicit_bounds.iter().map(|bound| whole(*bound) as u32);
        let counts = Counts::from_parts(
            values.zip(point.bucket_counts.iter().copied()),
            point.sum.map_or(0, |sum| whole(sum) as u64),
            point.max.map_or(0, |max| whole(max) as u32),
        );
        slot.merge(&counts);
        Ok(())
    }

    fn fill_durations(&mut self, name: &str, point: &ExponentialHistogramDataPoint) -> Result<(), String> {
        let attributes = Attributes(&point.attributes);
        let slot = match name {
            words::SERVER_DURATION => &mut self.stats(&attributes)?.duration,
            words::CLIENT_DURATION => &mut self.call_stats(&attributes)?.duration,
            words::FIRST_BYTE => &mut self.call_stats(&attributes)?.first_byte,
            words::OPAQUE_DURATION => &mut self.opaque(&attributes)?.duration,
            _ => return Ok(()),
        };
        if point.scale != SCALE {
            return Err(format!("{name}: scale {} where {SCALE} is expected", point.scale));
        }
        let (offset, buckets) = match &point.positive {
            Some(buckets) if buckets.bucket_counts.len() > MAX_BUCKETS => {
                return Err(format!("{name}: more than {MAX_BUCKETS} buckets"));
            }
            Some(buckets) => (buckets.offset, buckets.bucket_counts.as_slice()),
            None => (0, [].as_slice()),
        };
        let nanos = |seconds: Option<f64>| seconds.map_or(0, |seconds| whole(seconds * 1e9) as u64);
        let sum = nanos(point.sum);
        slot.merge(&Histogram::from_parts(point.zero_count, offset, buckets, sum, nanos(point.min), nanos(point.max)));
        if name == words::SERVER_DURATION {
            let examples = &mut self.stats(&attributes)?.examples;
            point.exemplars.iter().take(8).filter_map(example).for_each(|example| examples.add(&example));
        }
        Ok(())
    }

    fn stats(&mut self, attributes: &Attributes<'_>) -> Result<&mut HandlingStats, String> {
        let path = attributes.path(words::PATH)?;
        let report = self.paths.get_mut(&path).ok_or_else(|| format!("path {path} is not defined"))?;
        Ok(&mut report.stats)
    }

    fn call_stats(&mut self, attributes: &Attributes<'_>) -> Result<&mut CallStats, String> {
        let path = attributes.path(words::PATH)?;
        let (peer, endpoint) = (attributes.required(words::PEER)?, attributes.required(words::PEER_ENDPOINT)?);
        let report = self.calls.get_mut(&(path, Callee::key_of(peer, endpoint)));
        Ok(&mut report.ok_or_else(|| format!("calls of path {path} to {peer:?} are not defined"))?.stats)
    }
}

impl Parts {
    /// What is expected of the pair that the attributes name; the first time it is met it is made known.
    fn expected(&mut self, attributes: &Attributes<'_>) -> Result<&mut ExpectedStats, String> {
        let callee = callee(attributes)?;
        let own = endpoint(attributes, words::ENDPOINT)?;
        let key = (own.to_owned(), callee.service().to_owned(), callee.endpoint().to_owned());
        if self.expected.len() >= self.bounds.calls && !self.expected.contains_key(&key) {
            return Err(format!("more than {} expected pairs in one report", self.bounds.calls));
        }
        Ok(self.expected.entry(key).or_default())
    }

    /// The opaque connections that the attributes name; the first time it is met a peer is made known.
    fn opaque(&mut self, attributes: &Attributes<'_>) -> Result<&mut OpaqueStats, String> {
        let (peer, word) = (attributes.required(words::PEER)?, attributes.required(words::PROTOCOL)?);
        if !is_service_name(peer) {
            return Err(format!("{} is not a service name", words::PEER));
        }
        // A protocol that this release does not know is one that it knows nothing of.
        let key = (peer.to_owned(), Protocol::parse(word).unwrap_or(Protocol::Tcp));
        if self.opaque.len() >= self.bounds.calls && !self.opaque.contains_key(&key) {
            return Err(format!("more than {} peers of opaque connections in one report", self.bounds.calls));
        }
        Ok(self.opaque.entry(key).or_default())
    }
}

fn definition(attributes: &Attributes<'_>) -> Result<PathDefinition, String> {
    let id = attributes.path(words::PATH)?;
    let parent = attributes.text(words::PARENT).map(|_| attributes.path(words::PARENT)).transpose()?;
    let kind = attributes.required(words::KIND)?;
    let caller = attributes.text(words::CALLER);
    if caller.is_some_and(|caller| !is_service_name(caller)) {
        return Err(format!("path {id}: {} is not a service name", words::CALLER));
    }
    Ok(PathDefinition {
        id,
        parent,
        root: attributes.path(words::ROOT)?,
        caller: caller.map(str::to_owned),
        endpoint: endpoint(attributes, words::ENDPOINT)?.to_owned(),
        depth: attributes.int(words::DEPTH).and_then(|depth| u32::try_from(depth).ok()).unwrap_or(0),
        kind: PathKind::parse(kind).ok_or_else(|| format!("path {id}: {kind:?} is no kind of path"))?,
        evidence: attributes.evidence()?,
    })
}

fn callee(attributes: &Attributes<'_>) -> Result<Callee, String> {
    let service = attributes.required(words::PEER)?;
    if !is_service_name(service) {
        return Err(format!("{} is not a service name", words::PEER));
    }
    Ok(Callee::new(service, endpoint(attributes, words::PEER_ENDPOINT)?))
}

fn endpoint<'a>(attributes: &Attributes<'a>, key: &str) -> Result<&'a str, String> {
    let endpoint = attributes.required(key)?;
    if endpoint.len() > MAX_ENDPOINT_BYTES || endpoint.chars().any(char::is_control) {
        return Err(format!("{key} must have at most {MAX_ENDPOINT_BYTES} bytes and no control characters"));
    }
    Ok(endpoint)
}

fn add(slot: &mut u64, n: u64) {
    *slot = slot.saturating_add(n);
}

/// The nearest whole number. Casts from here saturate, and NaN becomes 0.
fn whole(number: f64) -> f64 {
    number.round()
}

struct Attributes<'a>(&'a [KeyValue]);

impl<'a> Attributes<'a> {
    fn value(&self, key: &str) -> Option<&'a any_value::Value> {
        self.0.iter().find(|attribute| attribute.key == key)?.value.as_ref()?.value.as_ref()
    }

    fn text(&self, key: &str) -> Option<&'a str> {
        match self.value(key)? {
            any_value::Value::StringValue(text) => Some(text),
            _ => None,
        }
    }

    fn required(&self, key: &str) -> Result<&'a str, String> {
        self.text(key).ok_or_else(|| format!("{key} is missing"))
    }

    fn int(&self, key: &str) -> Option<u64> {
        match self.value(key)? {
            any_value::Value::IntValue(n) => u64::try_from(*n).ok(),
            _ => None,
        }
    }

    fn flag(&self, key: &str) -> Option<bool> {
        match self.value(key)? {
            any_value::Value::BoolValue(flag) => Some(*flag),
            _ => None,
        }
    }

    fn path(&self, key: &str) -> Result<PathId, String> {
        let text = self.required(key)?;
        PathId::parse(text).ok_or_else(|| format!("{key}: {:?} is no path id", text.get(..16).unwrap_or(text)))
    }

    fn outcome(&self) -> Result<Outcome, String> {
        let word = self.required(words::OUTCOME)?;
        Outcome::parse(word).ok_or_else(|| format!("{word:?} is no outcome"))
    }

    fn evidence(&self) -> Result<Evidence, String> {
        let word = self.required(words::EVIDENCE)?;
        Evidence::parse(word).ok_or_else(|| format!("{word:?} is no evidence"))
    }
}

impl Parts {
    fn fill_breaker(&mut self, point: &NumberDataPoint) -> Result<(), String> {
        let attributes = Attributes(&point.attributes);
        let word = |key: &str| {
            let word = attributes.required(key)?;
            let plain = word.len() <= 40 && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            if plain { Ok(word.to_owned()) } else { Err(format!("{key}: no word")) }
        };
        let (state, mode) = (word(words::BREAKER_STATE)?, word(words::BREAKER_MODE)?);
        let peak = match point.value {
            Some(number_data_point::Value::AsInt(n)) => u64::try_from(n).unwrap_or(0),
            _ => 0,
        };
        let breaker = self.breaker(&attributes)?;
        (breaker.state, breaker.mode, breaker.peak) = (state, mode, peak);
        Ok(())
    }

    /// The breaker that the attributes name; the first time it is met it is made known.
    fn breaker(&mut self, attributes: &Attributes<'_>) -> Result<&mut BreakerReport, String> {
        let to = attributes.required(words::PEER)?;
        if !is_service_name(to) {
            return Err(format!("{} is not a service name", words::PEER));
        }
        let class = attributes.text(words::BREAKER_CLASS);
        if class.is_some_and(|class| !is_service_name(class)) {
            return Err(format!("{} is not a name", words::BREAKER_CLASS));
        }
        let key = (to.to_owned(), class.map(str::to_owned));
        if self.breakers.len() >= self.bounds.calls && !self.breakers.contains_key(&key) {
            return Err(format!("more than {} breakers in one report", self.bounds.calls));
        }
        Ok(self.breakers.entry(key).or_insert_with_key(|(to, class)| BreakerReport {
            to: to.clone(),
            class: class.clone(),
            state: "closed".to_owned(),
            mode: "observe".to_owned(),
            peak: 0,
            counts: BreakerCounts::default(),
            transitions: Vec::new(),
        }))
    }
}
