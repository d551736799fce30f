//! Counts handlings and calls in the window of the service that handled and made them, exactly as a proxy does.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use couplet_telemetry::example::Trace;
use couplet_telemetry::names::UNLINKED;
use couplet_telemetry::outcome::Evidence;
use couplet_telemetry::path::PathId;
use couplet_telemetry::report::{
    Callee as Peer, HandlingStats, Origin as Reporter, PathDefinition, PathKind, PathReport, Report,
};
use couplet_telemetry::window::{self, CalleeUse, Loss, Window, WindowLimits};

use super::handlings::{Call, Callee, Handling, Origin};
use super::naming::{Name, Names};

/// What one service keeps apart; what is beyond is counted as the window does.
const LIMITS: WindowLimits = WindowLimits { paths: 65_536, callees: 262_144 };
/// Longest chain that has a path of its own; no recorded system comes near.
const MAX_DEPTH: u32 = 128;

/// The windows of all services.
pub(super) struct Fold<'a> {
    names: &'a Names,
    services: HashMap<Name, Service>,
    paths: HashMap<PathId, Arc<PathDefinition>>,
    peers: HashMap<(Name, Name), Arc<Peer>>,
    start: u64,
    end: u64,
}

struct Service {
    window: Window,
    /// The path above handlings whose caller is unknown, once there is one.
    unlinked: Option<Arc<PathDefinition>>,
    /// Changes with every handling, whatever their order: names this reading of this service.
    digest: u64,
}

/// What is below a handling, over calls that somebody waits for.
#[derive(Debug, Default)]
struct Below {
    depth: u32,
    calls: u32,
    services: HashSet<Name>,
    /// Where a failure of a call began.
    origin: Option<Name>,
}

impl<'a> Fold<'a> {
    pub(super) fn new(names: &'a Names) -> Self {
        let (paths, peers) = (HashMap::new(), HashMap::new());
        Self { names, services: HashMap::new(), paths, peers, start: u64::MAX, end: 0 }
    }

    /// Counts all handlings of one trace, callers before callees, and their calls.
    pub(super) fn add(&mut self, handlings: &[Handling]) {
        let mut paths: Vec<Arc<PathDefinition>> = Vec::with_capacity(handlings.len());
        for handling in handlings {
            let path = self.path(handling, handlings, &paths);
            paths.push(path);
        }
        let mut belows: Vec<Below> = Vec::new();
        belows.resize_with(handlings.len(), Below::default);
        for ((at, handling), path) in handlings.iter().enumerate().zip(&paths).rev() {
            let below = sum_up(handling, handlings, &mut belows);
            self.count(handling, path, &below, handlings);
            if let Some(slot) = belows.get_mut(at) {
                *slot = below;
            }
        }
    }

    /// One report per service, sorted by service.
    pub(super) fn into_reports(self) -> Vec<Report> {
        let (start, end) = (self.start.min(self.end), self.end);
        let report = |(name, mut service): (Name, Service)| {
            let text = self.names.text(name);
            // The same spans give the same instance: read twice, they are recognised as what was applied already.
            let instance = format!("traces-{}", PathId::root(text, &format!("{:016x}", service.digest)));
            let origin = Reporter { service: text.to_owned(), instance, version: None, inbound: None };
            let mut report = service.window.close(origin, 1, start, end);
            if let Some(path) = service.unlinked {
                report.paths.push(PathReport { path, stats: HandlingStats::default() });
                report.paths.sort_unstable_by_key(|report| report.path.id);
            }
            report
        };
        let mut reports: Vec<_> = self.services.into_iter().map(report).collect();
        reports.sort_unstable_by(|a, b| a.origin.service.cmp(&b.origin.service));
        reports
    }

    /// The path of a handling below that of its caller.
    ///
    /// Where the caller is missing, the path hangs below an unlinked path of the same service: so it is no entry, and
    /// no edge is made up.
    fn path(&mut self, handling: &Handling, all: &[Handling], paths: &[Arc<PathDefinition>]) -> Arc<PathDefinition> {
        let names = self.names;
        let (service, endpoint) = (names.text(handling.service), names.text(handling.endpoint));
        let (parent, caller) = match handling.origin {
            Origin::Root => (None, None),
            Origin::Unknown => (Some(self.unlinked(handling.service)), None),
            Origin::Handling(at) => (paths.get(at).cloned(), all.get(at).map(|caller| names.text(caller.service))),
        };
        let id = match &parent {
            Some(parent) if parent.kind == PathKind::Overflow || parent.depth >= MAX_DEPTH => {
                self.service(handling.service).window.lose(Loss::Depth, 1);
                return window::overflow();
            }
            Some(parent) => parent.id.child(service, endpoint),
            None => PathId::root(service, endpoint),
        };
        let fresh = || {
            Arc::new(PathDefinition {
                id,
                parent: parent.as_ref().map(|parent| parent.id),
                root: parent.as_ref().map_or(id, |parent| parent.root),
                caller: caller.map(str::to_owned),
                endpoint: endpoint.to_owned(),
                depth: parent.as_ref().map_or(0, |parent| parent.depth + 1),
                kind: PathKind::Handler,
                evidence: parent.as_ref().map_or(Evidence::Exact, |parent| parent.evidence),
            })
        };
        Arc::clone(self.paths.entry(id).or_insert_with(fresh))
    }

    fn unlinked(&mut self, name: Name) -> Arc<PathDefinition> {
        let path = Arc::new(PathDefinition::unlinked(self.names.text(name)));
        Arc::clone(self.service(name).unlinked.get_or_insert(path))
    }

    fn service(&mut self, name: Name) -> &mut Service {
        let fresh = || Service { window: Window::new(LIMITS), unlinked: None, digest: 0 };
        self.services.entry(name).or_insert_with(fresh)
    }

    fn count(&mut self, handling: &Handling, path: &Arc<PathDefinition>, below: &Below, all: &[Handling]) {
        let names = self.names;
        let peers: Vec<Arc<Peer>> = handling.calls.iter().map(|call| self.peer(call, all)).collect();
        let blocking = || handling.calls.iter().filter(|call| call.blocking);
        let mut callees: Vec<&str> = handling
            .calls
            .iter()
            .zip(&peers)
            .filter(|(call, _)| call.blocking)
            .map(|(_, peer)| peer.service())
            .collect();
        callees.sort_unstable();
        callees.dedup();
        let within = |call: &Call| (call.start.max(handling.start), call.end.min(handling.end));
        let uses = uses(&handling.calls, &peers, &within);
        let measured = window::Handling {
            outcome: handling.outcome,
            duration: handling.end.saturating_sub(handling.start),
            blocked: union(blocking().map(within).collect()),
            busy: blocking().map(within).fold(0, |sum, (start, end)| sum.saturating_add(end.saturating_sub(start))),
            asynchronous: count(handling.calls.iter().filter(|call| !call.blocking).count()),
            calls: count(blocking().count()),
            callees: count(callees.len()),
            depth_below: below.depth,
            calls_below: below.calls,
            services_below: count(below.services.iter().filter(|service| **service != handling.service).count()),
            below: Evidence::Exact,
            retries: 0,
            origin: handling.outcome.is_failure().then(|| names.text(below.origin.unwrap_or(handling.service))),
            trace: handling.trace.map(|id| Trace { id, sampled: true, at: handling.end }),
            uses: &uses,
        };
        if handling.start > 0 {
            self.start = self.start.min(handling.start);
            self.end = self.end.max(handling.end);
        }
        let service = self.service(handling.service);
        service.digest = service.digest.wrapping_add(digest(path.id, handling));
        service.window.handling(path, &measured);
        for (call, peer) in handling.calls.iter().zip(&peers) {
            let measured = window::Call {
                outcome: call.outcome,
                duration: call.end.saturating_sub(call.start),
                first_byte: None,
                blocking: call.blocking,
                evidence: Evidence::Exact,
                attempts: 1,
                request_bytes: 0,
                response_bytes: 0,
            };
            service.window.call(path, peer, &measured);
        }
    }

    fn peer(&mut self, call: &Call, all: &[Handling]) -> Arc<Peer> {
        let called = |at: usize| all.get(at).map(|callee| (callee.service, callee.endpoint));
        let named = match call.callee {
            Callee::External { service, endpoint } => Some((service, endpoint)),
            Callee::Handling(at) => called(at),
        };
        let names = self.names;
        let fresh = |(service, endpoint)| Arc::new(Peer::new(names.text(service), names.text(endpoint)));
        match named {
            Some(name) => Arc::clone(self.peers.entry(name).or_insert_with(|| fresh(name))),
            None => Arc::new(Peer::new(UNLINKED, UNLINKED)),
        }
    }
}

/// Depth, calls and services below `handling`. Takes what its callees have: each has one caller, so a long chain hands
/// one set upwards, and of two sets the smaller is poured into the larger.
fn sum_up(handling: &Handling, all: &[Handling], belows: &mut [Below]) -> Below {
    let mut sum = Below::default();
    let mut failed_last = 0;
    for call in handling.calls.iter().filter(|call| call.blocking) {
        let (mut below, service) = match call.callee {
            Callee::External { service, .. } => (Below::default(), Some(service)),
            Callee::Handling(at) => {
                (belows.get_mut(at).map(std::mem::take).unwrap_or_default(), all.get(at).map(|callee| callee.service))
            }
        };
        if call.outcome.is_failure() && call.end >= failed_last {
            (failed_last, sum.origin) = (call.end, below.origin.or(service));
        }
        sum.depth = sum.depth.max(below.depth.saturating_add(1));
        sum.calls = sum.calls.saturating_add(below.calls).saturating_add(1);
        if below.services.len() > sum.services.len() {
            std::mem::swap(&mut sum.services, &mut below.services);
        }
        sum.services.extend(below.services.into_iter().chain(service));
    }
    sum
}

/// What one handling used of each callee endpoint.
fn uses(calls: &[Call], peers: &[Arc<Peer>], within: &dyn Fn(&Call) -> (u64, u64)) -> Vec<CalleeUse> {
    let mut grouped: BTreeMap<u64, (CalleeUse, Vec<(u64, u64)>)> = BTreeMap::new();
    for (call, peer) in calls.iter().zip(peers) {
        let fresh = || (CalleeUse { callee: Arc::clone(peer), calls: 0, failed: false, blocked: 0 }, Vec::new());
        let (used, intervals) = grouped.entry(peer.key()).or_insert_with(fresh);
        used.calls = used.calls.saturating_add(1);
        used.failed |= call.outcome.is_failure();
        if call.blocking {
            intervals.push(within(call));
        }
    }
    let close = |(used, intervals)| CalleeUse { blocked: union(intervals), ..used };
    grouped.into_values().map(close).collect()
}

/// Length of the union of intervals; such that end before they start count for nothing.
fn union(mut intervals: Vec<(u64, u64)>) -> u64 {
    intervals.sort_unstable();
    let (mut covered, mut length) = (0, 0_u64);
    for (start, end) in intervals {
        length = length.saturating_add(end.saturating_sub(start.max(covered)));
        covered = covered.max(end);
    }
    length
}

fn digest(path: PathId, handling: &Handling) -> u64 {
    let mut hash = DefaultHasher::new();
    (path.get(), handling.start, handling.end, handling.outcome).hash(&mut hash);
    hash.finish()
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlapping_intervals_are_measured_once() {
        assert_eq!(union(vec![(10, 20), (0, 5), (15, 30), (16, 18), (40, 35)]), 25);
    }
}
