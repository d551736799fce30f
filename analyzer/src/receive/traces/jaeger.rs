//! Jaeger's JSON, as its page and its query API give it: `{"data": [{"traceID", "spans", "processes"}]}`.

use std::collections::HashMap;

use serde::Deserialize;

use super::scalar::{Micros, Scalar};
use super::span::{Told, Words};

/// One trace as Jaeger writes it.
#[derive(Debug, Default, Deserialize)]
pub(super) struct JaegerTrace {
    #[serde(rename = "traceID")]
    pub(super) trace: Option<String>,
    pub(super) spans: Option<Vec<JaegerSpan>>,
    pub(super) processes: Option<HashMap<String, Process>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct JaegerSpan {
    #[serde(rename = "traceID")]
    trace: Option<String>,
    #[serde(rename = "spanID")]
    id: Option<String>,
    #[serde(rename = "parentSpanID")]
    parent: Option<String>,
    operation_name: Option<String>,
    references: Option<Vec<Reference>>,
    start_time: Option<Micros>,
    duration: Option<Micros>,
    tags: Option<Vec<Tag>>,
    #[serde(rename = "processID")]
    process_id: Option<String>,
    process: Option<Process>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Process {
    service_name: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Reference {
    #[serde(rename = "refType")]
    kind: Option<String>,
    #[serde(rename = "traceID")]
    trace: Option<String>,
    #[serde(rename = "spanID")]
    span: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Tag {
    key: Option<String>,
    value: Option<Scalar>,
}

impl JaegerTrace {
    /// Its spans in the common form.
    pub(super) fn told(self) -> impl Iterator<Item = Told> {
        let (trace, processes) = (self.trace, self.processes.unwrap_or_default());
        self.spans.into_iter().flatten().map(move |span| told(span, trace.as_deref(), &processes))
    }
}

fn told(span: JaegerSpan, trace: Option<&str>, processes: &HashMap<String, Process>) -> Told {
    let trace = span.trace.or_else(|| trace.map(str::to_owned));
    let named = span.process_id.as_ref().and_then(|id| processes.get(id));
    let service = named.or(span.process.as_ref()).and_then(|process| process.service_name.clone());
    let (parent, follows) = parent(span.references.as_deref().unwrap_or_default(), trace.as_deref(), span.parent);
    let mut words = Words::default();
    for tag in span.tags.into_iter().flatten() {
        if let (Some(key), Some(Scalar(Some(value)))) = (tag.key, tag.value) {
            words.take(&key, value);
        }
    }
    Told {
        trace,
        id: span.id,
        parent,
        service,
        name: span.operation_name,
        kind: words.kind,
        shared: false,
        follows,
        start: span.start_time.and_then(|micros| micros.0),
        duration: span.duration.and_then(|micros| micros.0),
        remote: words.peer.clone(),
        words,
    }
}

/// The parent, and whether the span only follows from it. A span that follows from one in another trace is a root here:
/// that reference is a link between two requests, not a call.
fn parent(references: &[Reference], trace: Option<&str>, plain: Option<String>) -> (Option<String>, bool) {
    let here = |reference: &Reference| reference.trace.is_none() || reference.trace.as_deref() == trace;
    let is = |reference: &Reference, kind: &str| reference.kind.as_deref() == Some(kind);
    let best = references
        .iter()
        .find(|reference| is(reference, "CHILD_OF") && here(reference))
        .or_else(|| references.iter().find(|reference| is(reference, "FOLLOWS_FROM") && here(reference)))
        .or_else(|| references.iter().find(|reference| is(reference, "CHILD_OF")));
    match best {
        Some(reference) => (reference.span.clone(), is(reference, "FOLLOWS_FROM")),
        None => (plain, false),
    }
}
