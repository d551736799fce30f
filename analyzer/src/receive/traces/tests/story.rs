//! Words in which the tests tell traces, and in which they see what became of them.

use std::collections::BTreeMap;
use std::io::Write;

use couplet_telemetry::report::{PathKind, PathReport, Report};
use serde_json::{Value, json};

use super::super::{Repair, SetAside, TraceError, TraceSummary, read};

/// A span, told in Zipkin's words. Times in microseconds.
#[derive(Debug, Clone)]
pub(super) struct Telling(Value);

/// A span of `service` with this id; starts at 1 000 000 and lasts 1 000, unless it is told otherwise.
pub(super) fn span(service: &str, id: u64) -> Telling {
    let id = format!("{id:x}");
    Telling(
        json!({"traceId": "a1", "id": id, "name": format!("work of {service}"), "timestamp": 1_000_000, "duration": 1_000,
        "localEndpoint": {"serviceName": service}}),
    )
}

pub(super) fn client(service: &str, id: u64) -> Telling {
    span(service, id).with("kind", "CLIENT")
}

pub(super) fn server(service: &str, id: u64) -> Telling {
    span(service, id).with("kind", "SERVER")
}

impl Telling {
    pub(super) fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.0[key] = value.into();
        self
    }

    pub(super) fn without(mut self, key: &str) -> Self {
        self.0.as_object_mut().unwrap().remove(key);
        self
    }

    pub(super) fn below(self, parent: u64) -> Self {
        self.with("parentId", format!("{parent:x}"))
    }

    pub(super) fn named(self, name: &str) -> Self {
        self.with("name", name)
    }

    /// From and to, in microseconds after the usual start.
    pub(super) fn during(self, from: i64, to: i64) -> Self {
        self.with("timestamp", 1_000_000 + from).with("duration", to - from)
    }

    pub(super) fn to(self, remote: &str) -> Self {
        self.with("remoteEndpoint", json!({"serviceName": remote}))
    }

    pub(super) fn tag(mut self, key: &str, value: &str) -> Self {
        self.0["tags"][key] = value.into();
        self
    }

    pub(super) fn value(&self) -> Value {
        self.0.clone()
    }
}

pub(super) fn zipkin(spans: &[Telling]) -> Value {
    Value::Array(spans.iter().map(Telling::value).collect())
}

/// What became of a file.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) reports: Vec<Report>,
    pub(super) summary: TraceSummary,
}

pub(super) fn see(spans: &[Telling]) -> Seen {
    see_file(zipkin(spans).to_string().as_bytes()).unwrap()
}

pub(super) fn see_file(contents: &[u8]) -> Result<Seen, TraceError> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(contents).unwrap();
    read(&[file.path()]).map(|(reports, summary)| Seen { reports, summary })
}

impl Seen {
    /// `caller>callee` with the number of calls, as the callers saw them.
    pub(super) fn edges(&self) -> BTreeMap<String, u64> {
        let mut edges = BTreeMap::new();
        for report in &self.reports {
            for call in &report.calls {
                let edge = format!("{}>{}", report.origin.service, call.callee.service());
                *edges.entry(edge).or_default() += call.stats.outcomes.total();
            }
        }
        edges
    }

    /// The edges as text: `a>b 1, b>c 2`.
    pub(super) fn graph(&self) -> String {
        self.edges().iter().map(|(edge, calls)| format!("{edge} {calls}")).collect::<Vec<_>>().join(", ")
    }

    /// `service endpoint` of the roots with the number of requests.
    pub(super) fn entries(&self) -> BTreeMap<String, u64> {
        let entry = |(service, path): (&str, &PathReport)| {
            (format!("{service} {}", path.path.endpoint), path.stats.outcomes.total())
        };
        self.handlers().filter(|(_, path)| path.path.parent.is_none()).map(entry).collect()
    }

    fn handlers(&self) -> impl Iterator<Item = (&str, &PathReport)> {
        let all = self.reports.iter();
        let all = all.flat_map(|report| report.paths.iter().map(|path| (report.origin.service.as_str(), path)));
        all.filter(|(_, path)| path.path.kind == PathKind::Handler)
    }

    /// The only path of `service`.
    pub(super) fn path(&self, service: &str) -> &PathReport {
        let mut found = self.handlers().filter(|(name, _)| *name == service).map(|(_, path)| path);
        let first = found.next().unwrap_or_else(|| panic!("no path of {service} in {self:?}"));
        assert!(found.next().is_none(), "several paths of {service}");
        first
    }

    pub(super) fn handlings(&self, service: &str) -> u64 {
        self.handlers().filter(|(name, _)| *name == service).map(|(_, path)| path.stats.outcomes.total()).sum()
    }

    pub(super) fn blocking(&self) -> u64 {
        self.reports.iter().flat_map(|report| &report.calls).map(|call| call.stats.blocking).sum()
    }

    pub(super) fn repaired(&self, repair: Repair) -> u64 {
        self.summary.repaired.get(&repair).copied().unwrap_or(0)
    }

    pub(super) fn set_aside(&self, reason: SetAside) -> u64 {
        self.summary.set_aside.get(&reason).copied().unwrap_or(0)
    }
}
