//! OpenTelemetry's own form of spans: as protobuf and as JSON from exporters, as JSON from files.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::{self as proto, ResourceSpans};
use prost::Message;
use serde::{Deserialize, Deserializer};

use super::span::{Kind, Told, Words};

/// One span of an export, and whether a sampler chose its trace: then it stands for others that were not sent.
#[derive(Debug)]
pub(crate) struct Exported {
    pub(super) told: Told,
    pub(super) sampled: bool,
}

impl Exported {
    /// Whether it names its trace and itself.
    pub(crate) fn has_ids(&self) -> bool {
        let is = |id: &Option<String>| id.as_ref().is_some_and(|id| id.bytes().any(|digit| digit != b'0'));
        is(&self.told.trace) && is(&self.told.id)
    }
}

/// Reads an `ExportTraceServiceRequest`; in words why it cannot be read.
pub(crate) fn from_protobuf(bytes: &[u8]) -> Result<Vec<Exported>, String> {
    let request = ExportTraceServiceRequest::decode(bytes).map_err(|error| error.to_string())?;
    Ok(request.resource_spans.into_iter().flat_map(of_resource).collect())
}

/// Reads the JSON form of the same; in words why it cannot be read.
pub(crate) fn from_json(bytes: &[u8]) -> Result<Vec<Exported>, String> {
    let export: Export = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    Ok(export.resource_spans.into_iter().flat_map(JsonResource::exported).collect())
}

/// What is told of a span beside its ids and times.
#[derive(Default)]
struct Facts {
    words: Words,
    peer: Option<String>,
    /// A database, a queue: known by what it is where nobody names it.
    system: Option<String>,
    address: Option<String>,
    port: Option<String>,
    sampled: bool,
}

impl Facts {
    fn take(&mut self, key: &str, value: String) {
        match key {
            "peer.service" | "service.peer.name" => self.peer = Some(value),
            "db.system.name" | "db.system" | "messaging.system" => self.system = Some(value),
            "server.address" | "net.peer.name" => self.address = Some(value),
            "server.port" | "net.peer.port" => self.port = Some(value),
            "http.request.method" | "http.method" if value == "_OTHER" => {}
            // Only Jaeger's sampler that takes everything chooses nothing.
            "sampler.type" => self.sampled |= value != "const",
            _ if key.starts_with("tailsampling.") || key.starts_with("sampling.") => self.sampled = true,
            _ if Words::wants(key) => self.words.take(key, value),
            _ => {}
        }
    }

    fn told(self, span: Span) -> Exported {
        let Self { mut words, peer, system, address, port, sampled } = self;
        if span.failed {
            words.take("error", "true".to_owned());
        }
        let calls = matches!(span.kind, Some(Kind::Client | Kind::Producer));
        let host = address.map(|address| match port {
            Some(port) => format!("{address}:{port}"),
            None => address,
        });
        let told = Told {
            trace: Some(span.trace),
            id: Some(span.id),
            parent: Some(span.parent).filter(|parent| !parent.is_empty()),
            service: span.service,
            name: Some(span.name),
            kind: span.kind,
            shared: false,
            follows: false,
            start: Some(span.start / 1_000),
            duration: Some(span.end.saturating_sub(span.start) / 1_000),
            remote: peer.or(system).or(host).filter(|_| calls),
            words,
        };
        Exported { told, sampled: sampled || is_sampled(&span.state) }
    }
}

/// The ids and times of a span.
struct Span {
    trace: String,
    id: String,
    parent: String,
    service: Option<String>,
    name: String,
    kind: Option<Kind>,
    start: u64,
    end: u64,
    failed: bool,
    state: String,
}

/// Whether a `tracestate` tells of a probability below one: OpenTelemetry's `ot=th:T` with a threshold above zero.
fn is_sampled(state: &str) -> bool {
    let members = state.split(',').filter_map(|member| member.trim().strip_prefix("ot="));
    let threshold = members.flat_map(|value| value.split(';')).find_map(|part| part.strip_prefix("th:"));
    threshold.is_some_and(|threshold| threshold.bytes().any(|digit| digit != b'0'))
}

fn kind(number: i32) -> Option<Kind> {
    match number {
        2 => Some(Kind::Server),
        3 => Some(Kind::Client),
        4 => Some(Kind::Producer),
        5 => Some(Kind::Consumer),
        _ => None,
    }
}

fn of_resource(resource: ResourceSpans) -> impl Iterator<Item = Exported> {
    let attributes = resource.resource.map(|resource| resource.attributes).unwrap_or_default();
    let service = attributes.into_iter().find(|pair| pair.key == "service.name").and_then(text);
    let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
    spans.map(move |span| of_span(span, service.clone()))
}

fn of_span(span: proto::Span, service: Option<String>) -> Exported {
    let mut facts = Facts::default();
    for pair in span.attributes {
        let key = pair.key.clone();
        if let Some(value) = text(pair) {
            facts.take(&key, value);
        }
    }
    facts.told(Span {
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        service,
        name: span.name,
        kind: kind(span.kind),
        start: span.start_time_unix_nano,
        end: span.end_time_unix_nano,
        failed: span.status.is_some_and(|status| status.code == FAILED),
        state: span.trace_state,
    })
}

/// `STATUS_CODE_ERROR`.
const FAILED: i32 = 2;

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes.iter().take(16) {
        let _ = write!(text, "{byte:02x}"); // writing to a string cannot fail
    }
    text
}

fn text(pair: KeyValue) -> Option<String> {
    match pair.value?.value? {
        any_value::Value::StringValue(text) => Some(text),
        any_value::Value::IntValue(number) => Some(number.to_string()),
        any_value::Value::BoolValue(is) => Some(is.to_string()),
        any_value::Value::DoubleValue(number) => Some(number.to_string()),
        _ => None,
    }
}

#[derive(Deserialize)]
struct Export {
    #[serde(rename = "resourceSpans", default)]
    resource_spans: Vec<JsonResource>,
}

/// The spans of one resource, in JSON.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct JsonResource {
    resource: Option<JsonAttributes>,
    #[serde(default)]
    scope_spans: Vec<JsonScope>,
}

#[derive(Debug, Deserialize)]
struct JsonAttributes {
    #[serde(default)]
    attributes: Vec<JsonPair>,
}

#[derive(Debug, Deserialize)]
struct JsonScope {
    #[serde(default)]
    spans: Vec<JsonSpan>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct JsonSpan {
    trace_id: String,
    span_id: String,
    parent_span_id: String,
    trace_state: String,
    name: String,
    #[serde(deserialize_with = "number")]
    kind: u64,
    #[serde(deserialize_with = "number")]
    start_time_unix_nano: u64,
    #[serde(deserialize_with = "number")]
    end_time_unix_nano: u64,
    attributes: Vec<JsonPair>,
    status: JsonStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct JsonStatus {
    #[serde(deserialize_with = "number")]
    code: u64,
}

#[derive(Debug, Deserialize)]
struct JsonPair {
    #[serde(default)]
    key: String,
    #[serde(default)]
    value: serde_json::Map<String, serde_json::Value>,
}

impl JsonPair {
    fn text(&self) -> Option<String> {
        match self.value.values().next()? {
            serde_json::Value::String(text) => Some(text.clone()),
            value @ (serde_json::Value::Number(_) | serde_json::Value::Bool(_)) => Some(value.to_string()),
            _ => None,
        }
    }
}

impl JsonResource {
    pub(super) fn exported(self) -> impl Iterator<Item = Exported> {
        let attributes = self.resource.map(|resource| resource.attributes).unwrap_or_default();
        let service = attributes.iter().find(|pair| pair.key == "service.name").and_then(JsonPair::text);
        let spans = self.scope_spans.into_iter().flat_map(|scope| scope.spans);
        spans.map(move |span| span.exported(service.clone()))
    }
}

impl JsonSpan {
    fn exported(self, service: Option<String>) -> Exported {
        let mut facts = Facts::default();
        for pair in &self.attributes {
            if let Some(value) = pair.text() {
                facts.take(&pair.key, value);
            }
        }
        facts.told(Span {
            trace: self.trace_id,
            id: self.span_id,
            parent: self.parent_span_id,
            service,
            name: self.name,
            kind: kind(i32::try_from(self.kind).unwrap_or(0)),
            start: self.start_time_unix_nano,
            end: self.end_time_unix_nano,
            failed: self.status.code == FAILED as u64,
            state: self.trace_state,
        })
    }
}

/// Numbers of 64 bits come as text in OTLP's JSON; some write them as numbers, and enums by their names.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Number(u64),
        Text(String),
        Other(serde::de::IgnoredAny),
    }
    Ok(match Either::deserialize(deserializer)? {
        Either::Number(number) => number,
        Either::Text(text) => match text.as_str() {
            "SPAN_KIND_SERVER" | "STATUS_CODE_ERROR" => 2,
            "SPAN_KIND_CLIENT" => 3,
            "SPAN_KIND_PRODUCER" => 4,
            "SPAN_KIND_CONSUMER" => 5,
            text => text.parse().unwrap_or(0),
        },
        Either::Other(_) => 0,
    })
}
