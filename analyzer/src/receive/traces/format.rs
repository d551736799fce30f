//! Which of the formats a document has shows while it is read: a list is Zipkin's, an object with `data` is Jaeger's, one
//! with `resourceSpans` OpenTelemetry's.

use std::fmt;
use std::io::Read;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::jaeger::JaegerTrace;
use super::otlp::JsonResource;
use super::span::{Spans, Told};
use super::zipkin::{self, ZipkinSpan};

/// Reads one document and keeps its spans, one by one.
///
/// # Errors
/// Syntax errors and wrong shapes with line and column, errors of `reader`, and a full `spans`.
pub(super) fn parse(reader: impl Read, spans: &mut Spans) -> Result<(), serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_reader(reader);
    deserializer.deserialize_any(Document(spans))?;
    // Reads to the very end, so that the checksum of a compressed file is verified, too.
    deserializer.end()
}

struct Document<'a>(&'a mut Spans);

impl<'de> Visitor<'de> for Document<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of Zipkin spans, Jaeger's object with `data`, or OTLP's with `resourceSpans`")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Element { spans: self.0, nested: false })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut alone = JaegerTrace::default();
        let mut known = false;
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "data" => map.next_value_seed(JaegerTraces(self.0))?,
                "traceID" => alone.trace = map.next_value()?,
                "spans" => alone.spans = map.next_value()?,
                "processes" => alone.processes = map.next_value()?,
                "resourceSpans" => {
                    let resources: Vec<JsonResource> = map.next_value()?;
                    let exported = resources.into_iter().flat_map(JsonResource::exported);
                    keep(self.0, exported.map(|exported| exported.told))?;
                }
                "traceId" => return Err(A::Error::custom("this is one Zipkin span; a list of spans is expected")),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            }
            known = true;
        }
        if !known {
            return Err(A::Error::custom("an object without `data`; Jaeger's has {\"data\": [...]}"));
        }
        keep(self.0, alone.told())
    }
}

/// A span, or a list of the spans of one trace.
struct Element<'a> {
    spans: &'a mut Spans,
    nested: bool,
}

impl<'de> DeserializeSeed<'de> for Element<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Element<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.nested {
            "a Zipkin span (an object)"
        } else {
            "a Zipkin span (an object) or a list of them"
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        let span = ZipkinSpan::deserialize(MapAccessDeserializer::new(map))?;
        keep(self.spans, [zipkin::told(span).map_err(A::Error::custom)?])
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        if self.nested {
            return Err(A::Error::custom(
                "lists within lists within lists; a list of traces is a list of lists of spans",
            ));
        }
        while seq.next_element_seed(Element { spans: self.spans, nested: true })?.is_some() {}
        Ok(())
    }
}

/// The value of `data`: a list of traces, or null beside an error of Jaeger's.
struct JaegerTraces<'a>(&'a mut Spans);

impl<'de> DeserializeSeed<'de> for JaegerTraces<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for JaegerTraces<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of Jaeger traces")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(trace) = seq.next_element::<JaegerTrace>()? {
            keep(self.0, trace.told())?;
        }
        Ok(())
    }
}

fn keep<E: Error>(spans: &mut Spans, told: impl IntoIterator<Item = Told>) -> Result<(), E> {
    told.into_iter().try_for_each(|span| spans.add(&span)).map_err(|_| E::custom("too many spans"))
}
