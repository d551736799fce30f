//! Zipkin's JSON, version 2: a list of spans. <https://zipkin.io/zipkin-api/#/default/get_trace__traceId_>

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use super::scalar::{Micros, Scalar};
use super::span::{Kind, Told, Words};

/// A span as Zipkin writes it. What is not needed is skipped without being kept.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ZipkinSpan {
    trace_id: Option<String>,
    id: Option<String>,
    parent_id: Option<String>,
    name: Option<String>,
    kind: Option<String>,
    timestamp: Option<Micros>,
    duration: Option<Micros>,
    shared: Option<bool>,
    local_endpoint: Option<Endpoint>,
    remote_endpoint: Option<Endpoint>,
    tags: Option<Tags>,
    /// Only version 1 has it; its spans carry the service name elsewhere.
    binary_annotations: Option<IgnoredAny>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Endpoint {
    service_name: Option<String>,
}

/// The span in the common form, or what is wrong with it.
pub(super) fn told(span: ZipkinSpan) -> Result<Told, &'static str> {
    if span.binary_annotations.is_some() {
        return Err("this is Zipkin version 1 (it has binaryAnnotations); version 2 is expected");
    }
    let words = span.tags.map(|tags| tags.0).unwrap_or_default();
    Ok(Told {
        trace: span.trace_id,
        id: span.id,
        parent: span.parent_id,
        service: span.local_endpoint.and_then(|endpoint| endpoint.service_name),
        name: span.name,
        kind: span.kind.as_deref().and_then(Kind::parse).or(words.kind),
        shared: span.shared.unwrap_or(false),
        follows: false,
        start: span.timestamp.and_then(|micros| micros.0),
        duration: span.duration.and_then(|micros| micros.0),
        remote: span.remote_endpoint.and_then(|endpoint| endpoint.service_name).or_else(|| words.peer.clone()),
        words,
    })
}

#[derive(Debug)]
struct Tags(Words);

impl<'de> Deserialize<'de> for Tags {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(TagsVisitor).map(Tags)
    }
}

struct TagsVisitor;

impl<'de> Visitor<'de> for TagsVisitor {
    type Value = Words;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tags")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Words, A::Error> {
        let mut words = Words::default();
        while let Some(key) = map.next_key::<String>()? {
            if Words::wants(&key) {
                if let Some(value) = map.next_value::<Scalar>()?.0 {
                    words.take(&key, value);
                }
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(words)
    }
}
