//! What a proxy says to the analyzer about one window.

use std::collections::BTreeMap;
use std::sync::Arc;

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::breaker::BreakerReport;
use crate::counts::Counts;
use crate::example::Examples;
use crate::expected::ExpectedStats;
use crate::histogram::Histogram;
use crate::loss::Loss;
use crate::names::{OTHER, UNLINKED, is_service_name};
use crate::opaque::OpaqueReport;
use crate::outcome::{Evidence, Links, Outcomes};
use crate::path::PathId;
use crate::propagation::Propagation;

/// One window of one proxy. (`origin.instance`, `sequence`) names it: applied once, however often it is delivered.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Who reports.
    pub origin: Origin,
    /// 1 for the first report of an instance, then one more each.
    pub sequence: u64,
    /// Start of the window, nanoseconds since the Unix epoch.
    pub start: u64,
    /// End of the window, nanoseconds since the Unix epoch.
    pub end: u64,
    /// What was handled, per path; sorted by id.
    pub paths: Vec<PathReport>,
    /// What was called, per path and callee endpoint; sorted by path, then callee.
    pub calls: Vec<CallReport>,
    /// Connections that were passed on untouched, per peer and protocol; sorted by both.
    pub opaque: Vec<OpaqueReport>,
    /// Which headers came, left and linked.
    pub propagation: Propagation,
    /// What breakers did, per destination; sorted by it.
    pub breakers: Vec<BreakerReport>,
    /// What endpoints were found to call by timing; sorted by endpoint, then callee.
    pub expected: Vec<ExpectedReport>,
    /// What limits cost in this window; sorted.
    pub losses: Vec<(Loss, u64)>,
}

impl Report {
    /// One that says nothing but who reports, and when.
    #[must_use]
    pub fn empty(origin: Origin, sequence: u64, start: u64, end: u64) -> Self {
        Self {
            origin,
            sequence,
            start,
            end,
            paths: Vec::new(),
            calls: Vec::new(),
            opaque: Vec::new(),
            propagation: Propagation::default(),
            breakers: Vec::new(),
            expected: Vec::new(),
            losses: Vec::new(),
        }
    }

    /// Cuts a report in two of about half the size that together say the same; `None` where there is nothing to cut.
    ///
    /// Both have the sequence of this one: the sender gives the second the next. Losses and headers stay with the first. The
    /// second repeats the definitions of paths whose calls it has.
    #[must_use]
    pub fn split(&self) -> Option<(Report, Report)> {
        let (mut first, mut second) = (self.clone(), self.clone());
        second.losses.clear();
        second.propagation = Propagation::default();
        second.opaque.clear();
        second.breakers.clear();
        second.expected.clear();
        if self.calls.len() > self.paths.len() / 2 && self.calls.len() > 1 {
            second.calls = first.calls.split_off(self.calls.len() / 2);
            second.paths = self.definitions_for(&second.calls);
        } else if self.paths.len() > 1 {
            second.paths = first.paths.split_off(self.paths.len() / 2);
            // Every half keeps the calls of its own paths: their definitions are there.
            let boundary = second.paths.first().map_or(PathId::OVERFLOW, |report| report.path.id);
            first.calls.retain(|call| call.path < boundary);
            second.calls.retain(|call| call.path >= boundary);
        } else if self.opaque.len() > 1 {
            second.opaque = first.opaque.split_off(self.opaque.len() / 2);
            (second.paths, second.calls) = (Vec::new(), Vec::new());
        } else if self.breakers.len() > 1 {
            second.breakers = first.breakers.split_off(self.breakers.len() / 2);
            (second.paths, second.calls) = (Vec::new(), Vec::new());
        } else if self.expected.len() > 1 {
            second.expected = first.expected.split_off(self.expected.len() / 2);
            (second.paths, second.calls) = (Vec::new(), Vec::new());
        } else {
            return None;
        }
        Some((first, second))
    }

    /// Cuts a report into parts of at most `entries` paths or calls each that together say the same; all have the
    /// sequence of this one. Unlike [`Report::split`] it copies nothing but definitions of paths.
    #[must_use]
    pub fn into_parts(mut self, entries: usize) -> Vec<Report> {
        let entries = entries.max(1);
        let rest = self.opaque.len() + self.expected.len() + self.breakers.len();
        if self.paths.len() + self.calls.len() + rest <= entries {
            return vec![self];
        }
        let losses = std::mem::take(&mut self.losses);
        let propagation = std::mem::take(&mut self.propagation);
        let (origin, sequence, start, end) = (self.origin.clone(), self.sequence, self.start, self.end);
        let part = |paths, calls| {
            let (opaque, expected, breakers, losses) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
            let (origin, propagation) = (origin.clone(), Propagation::default());
            Report { origin, sequence, start, end, paths, calls, opaque, expected, propagation, breakers, losses }
        };
        let mut parts = Vec::new();
        for calls in chunks(std::mem::take(&mut self.calls), entries) {
            parts.push(part(self.definitions_for(&calls), calls));
        }
        for paths in chunks(std::mem::take(&mut self.paths), entries) {
            parts.push(part(paths, Vec::new()));
        }
        for opaque in chunks(std::mem::take(&mut self.opaque), entries) {
            parts.push(Report { opaque, ..part(Vec::new(), Vec::new()) });
        }
        for breakers in chunks(std::mem::take(&mut self.breakers), entries) {
            parts.push(Report { breakers, ..part(Vec::new(), Vec::new()) });
        }
        for expected in chunks(std::mem::take(&mut self.expected), entries) {
            parts.push(Report { expected, ..part(Vec::new(), Vec::new()) });
        }
        if let Some(first) = parts.first_mut() {
            (first.losses, first.propagation) = (losses, propagation);
        }
        parts
    }

    /// The paths of these calls, without what was handled on them.
    fn definitions_for(&self, calls: &[CallReport]) -> Vec<PathReport> {
        let of_a_call = |report: &&PathReport| calls.binary_search_by_key(&report.path.id, |call| call.path).is_ok();
        let definition =
            |report: &PathReport| PathReport { path: Arc::clone(&report.path), stats: HandlingStats::default() };
        self.paths.iter().filter(of_a_call).map(definition).collect()
    }
}

/// Cuts a list into parts of at most this length, from its end.
fn chunks<T>(mut list: Vec<T>, length: usize) -> impl Iterator<Item = Vec<T>> {
    std::iter::from_fn(move || {
        let at = list.len().saturating_sub(length);
        (!list.is_empty()).then(|| list.split_off(at))
    })
}

/// Who reports.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origin {
    /// Name of the service beside which the proxy stands.
    pub service: String,
    /// Unique for every start of every proxy.
    pub instance: String,
    /// Version of the service, where it is known.
    pub version: Option<String>,
    /// Where other sidecars reach this one's inbound listener (`ip:port`), if it wants to be found by name.
    pub inbound: Option<String>,
}

/// What a path is. The same for all its reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathDefinition {
    /// Name of the path.
    pub id: PathId,
    /// The path one hop up; `None` for a root.
    pub parent: Option<PathId>,
    /// The path of the root.
    pub root: PathId,
    /// The service one hop up, as its proxy called itself; `None` for a root.
    pub caller: Option<String>,
    /// The last (or only) endpoint of the chain, at the reporting service.
    pub endpoint: String,
    /// Hops from the root; 0 for the root itself.
    pub depth: u32,
    /// What is behind the path.
    pub kind: PathKind,
    /// The weakest link of the chain.
    pub evidence: Evidence,
}

impl PathDefinition {
    /// Whether another path of the same id is not this one.
    #[must_use]
    pub fn contradicts(&self, told: &Self) -> bool {
        self.kind != told.kind || self.endpoint != told.endpoint || self.parent != told.parent
    }

    /// The path of a root: `service` was called at `endpoint` by somebody who sent no context.
    #[must_use]
    pub fn root(service: &str, endpoint: &str) -> Self {
        let id = PathId::root(service, endpoint);
        Self {
            id,
            parent: None,
            root: id,
            caller: None,
            endpoint: endpoint.to_owned(),
            depth: 0,
            kind: PathKind::Handler,
            evidence: Evidence::Exact,
        }
    }

    /// The path of the calls of `service` that could not be linked to a handler.
    #[must_use]
    pub fn unlinked(service: &str) -> Self {
        Self { kind: PathKind::Unlinked, evidence: Evidence::Unknown, ..Self::root(service, UNLINKED) }
    }

    /// The path of everything beyond the limit of paths; its endpoint and depth mean nothing.
    #[must_use]
    pub fn overflow() -> Self {
        let id = PathId::OVERFLOW;
        Self { id, root: id, kind: PathKind::Overflow, evidence: Evidence::Unknown, ..Self::root("", OTHER) }
    }
}

/// What is behind a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PathKind {
    /// Inbound requests.
    Handler,
    /// No inbound request: outbound calls that could not be linked, background work among them.
    Unlinked,
    /// All that is beyond the limit of paths.
    Overflow,
}

impl PathKind {
    /// The word for the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            PathKind::Handler => "handler",
            PathKind::Unlinked => "unlinked",
            PathKind::Overflow => "overflow",
        }
    }

    /// The kind that [`PathKind::as_str`] prints as `word`.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [PathKind::Handler, PathKind::Unlinked, PathKind::Overflow].into_iter().find(|kind| kind.as_str() == word)
    }
}

/// The handlings of one path in one window.
#[derive(Debug, Clone, PartialEq)]
pub struct PathReport {
    /// Which path.
    pub path: Arc<PathDefinition>,
    /// What was measured.
    pub stats: HandlingStats,
}

/// Measures over handlings. All merge exactly.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HandlingStats {
    /// Handlings by how they ended.
    pub outcomes: Outcomes,
    /// Handlings by how surely the chain above them is known: by its weakest link.
    pub links: Links,
    /// From the last byte of the request's head to the last byte of the response.
    pub duration: Histogram,
    /// Nanoseconds in which at least one blocking call was open: the union of their intervals, summed over handlings.
    pub blocked: u64,
    /// Nanoseconds of all blocking calls added up. `busy / blocked` is the parallelism factor.
    pub busy: u64,
    /// Calls that outlived their handler.
    pub asynchronous: u64,
    /// Blocking calls per handling.
    pub calls: Counts,
    /// Distinct callee services per handling.
    pub callees: Counts,
    /// Longest chain of service changes below, per handling; 0 for a leaf.
    pub depth_below: Counts,
    /// Blocking calls anywhere below, own ones included, per handling.
    pub calls_below: Counts,
    /// Distinct services anywhere below, without the own one, per handling.
    pub services_below: Counts,
    /// Handlings by the weakest link on which what is below them is known.
    pub below: Links,
    /// Calls that were made again after they had failed.
    pub retries: u64,
    /// Failed handlings by the service in which the failure began.
    pub origins: Origins,
    /// Traces of a few of them.
    pub examples: Examples,
}

impl HandlingStats {
    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.outcomes.merge(&other.outcomes);
        self.links.merge(&other.links);
        self.duration.merge(&other.duration);
        self.blocked = self.blocked.saturating_add(other.blocked);
        self.busy = self.busy.saturating_add(other.busy);
        self.asynchronous = self.asynchronous.saturating_add(other.asynchronous);
        self.calls.merge(&other.calls);
        self.callees.merge(&other.callees);
        self.depth_below.merge(&other.depth_below);
        self.calls_below.merge(&other.calls_below);
        self.services_below.merge(&other.services_below);
        self.below.merge(&other.below);
        self.retries = self.retries.saturating_add(other.retries);
        self.origins.merge(&other.origins);
        self.examples.merge(&other.examples);
    }

    /// Adds all of `other`, which is taken over where there is nothing yet.
    pub fn absorb(&mut self, other: Self) {
        if *self == Self::default() {
            *self = other;
        } else {
            self.merge(&other);
        }
    }
}

/// Failures by the service in which they began: the deepest one that failed by itself, and not because of another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins(BTreeMap<String, u64>);

/// Services of one path that are told apart; the rest is counted under [`OTHER`].
const MAX_ORIGINS: usize = 16;

impl Origins {
    /// Counts `times` failures that began in `service`.
    pub fn add(&mut self, service: &str, times: u64) {
        if let Some(known) = self.0.get_mut(service) {
            *known = known.saturating_add(times);
            return;
        }
        let name = if self.0.len() < MAX_ORIGINS && is_service_name(service) { service } else { OTHER };
        let slot = self.0.entry(name.to_owned()).or_default();
        *slot = slot.saturating_add(times);
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        other.iter().for_each(|(service, times)| self.add(service, times));
    }

    /// Services and their counts, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(service, times)| (service.as_str(), *times))
    }
}

/// A callee endpoint, as the caller's proxy names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Callee {
    service: String,
    endpoint: String,
    key: u64,
    service_hash: u64,
}

impl Callee {
    /// The callee endpoint with these names.
    #[must_use]
    pub fn new(service: impl Into<String>, endpoint: impl Into<String>) -> Self {
        let (service, endpoint) = (service.into(), endpoint.into());
        let key = Self::key_of(&service, &endpoint);
        let service_hash = xxh3_64(service.as_bytes());
        Self { service, endpoint, key, service_hash }
    }

    /// The key of a callee endpoint, to look one up without building it.
    #[must_use]
    pub fn key_of(service: &str, endpoint: &str) -> u64 {
        let mut hash = Xxh3::new();
        hash.update(service.as_bytes());
        hash.update(&[0]);
        hash.update(endpoint.as_bytes());
        hash.digest()
    }

    /// Name of the service.
    #[must_use]
    pub fn service(&self) -> &str {
        &self.service
    }

    /// Its endpoint.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// A hash of both.
    #[must_use]
    pub fn key(&self) -> u64 {
        self.key
    }

    /// A hash of the name of the service: XXH3, 64 bits.
    #[must_use]
    pub fn service_hash(&self) -> u64 {
        self.service_hash
    }
}

/// The calls from one path to one callee endpoint in one window.
#[derive(Debug, Clone, PartialEq)]
pub struct CallReport {
    /// The path of the handler that called.
    pub path: PathId,
    /// Who was called.
    pub callee: Arc<Callee>,
    /// What was measured.
    pub stats: CallStats,
}

/// What the handlings of one endpoint were found to call at one callee endpoint by timing, in one window.
#[derive(Debug, Clone, PartialEq)]
pub struct ExpectedReport {
    /// The endpoint of the reporting service; [`UNLINKED`] for calls that no handling made.
    pub endpoint: String,
    /// Who was called.
    pub callee: Arc<Callee>,
    /// What was found.
    pub stats: ExpectedStats,
}

impl ExpectedReport {
    /// Whether these are calls that no handling made.
    #[must_use]
    pub fn is_background(&self) -> bool {
        self.endpoint == UNLINKED
    }

    /// What reports are sorted by.
    pub(crate) fn order(&self) -> (&str, &str, &str) {
        (&self.endpoint, self.callee.service(), self.callee.endpoint())
    }
}

/// Measures over calls, seen from the caller's side. All merge exactly.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CallStats {
    /// Calls by how they ended.
    pub outcomes: Outcomes,
    /// From the request's head to the last byte of the response.
    pub duration: Histogram,
    /// From the request's head to the response's head.
    pub first_byte: Histogram,
    /// Calls that ended before their handler did.
    pub blocking: u64,
    /// How the calls were linked.
    pub links: Links,
    /// Nanoseconds in which at least one blocking call to this callee endpoint was open, summed over handlings.
    pub blocked: u64,
    /// Calls per handling that made at least one.
    pub per_handling: Counts,
    /// The 2×2 table over handlings with at least one call.
    pub joint: Joint,
    /// Attempts on the wire, retries of the proxy included.
    pub attempts: u64,
    /// Requests that a fault injected on purpose held up before they became calls.
    pub delayed: u64,
    /// Requests that a fault injected on purpose answered: they are no calls, and the callee knows nothing of them.
    pub aborted: u64,
    /// Body bytes sent.
    pub request_bytes: u64,
    /// Body bytes received.
    pub response_bytes: u64,
}

impl CallStats {
    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.outcomes.merge(&other.outcomes);
        self.duration.merge(&other.duration);
        self.first_byte.merge(&other.first_byte);
        self.blocking = self.blocking.saturating_add(other.blocking);
        self.links.merge(&other.links);
        self.blocked = self.blocked.saturating_add(other.blocked);
        self.per_handling.merge(&other.per_handling);
        self.joint.merge(&other.joint);
        self.attempts = self.attempts.saturating_add(other.attempts);
        self.delayed = self.delayed.saturating_add(other.delayed);
        self.aborted = self.aborted.saturating_add(other.aborted);
        self.request_bytes = self.request_bytes.saturating_add(other.request_bytes);
        self.response_bytes = self.response_bytes.saturating_add(other.response_bytes);
    }

    /// Adds all of `other`, which is taken over where there is nothing yet.
    pub fn absorb(&mut self, other: Self) {
        if *self == Self::default() {
            *self = other;
        } else {
            self.merge(&other);
        }
    }
}

/// Handlings that made at least one call to a callee endpoint, by whether a call failed and whether the handling did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Joint {
    /// Neither failed.
    pub neither: u64,
    /// Only the handling failed.
    pub handling_only: u64,
    /// A call failed, the handling did not: it coped.
    pub call_only: u64,
    /// Both failed.
    pub both: u64,
}

impl Joint {
    /// Counts `times` handlings.
    pub fn add(&mut self, call_failed: bool, handling_failed: bool, times: u64) {
        let slot = match (call_failed, handling_failed) {
            (false, false) => &mut self.neither,
            (false, true) => &mut self.handling_only,
            (true, false) => &mut self.call_only,
            (true, true) => &mut self.both,
        };
        *slot = slot.saturating_add(times);
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.add(false, false, other.neither);
        self.add(false, true, other.handling_only);
        self.add(true, false, other.call_only);
        self.add(true, true, other.both);
    }
}
