//! Folds finished handlings and calls into the measures of a report, in bounded memory.

use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::example::{Example, Trace};
use crate::expected::ExpectedStats;
pub use crate::loss::Loss;
use crate::names::OTHER;
use crate::opaque::{OpaqueReport, OpaqueStats, Protocol};
use crate::outcome::{Evidence, Outcome};
use crate::path::PathId;
use crate::propagation::Propagation;
use crate::report::{
    CallReport, CallStats, Callee, ExpectedReport, HandlingStats, Origin, PathDefinition, PathKind, PathReport, Report,
};

/// One inbound request, finished.
#[derive(Debug, Clone, Copy)]
pub struct Handling<'a> {
    /// How it ended.
    pub outcome: Outcome,
    /// Nanoseconds from the last byte of the request's head to the last byte of the response.
    pub duration: u64,
    /// Nanoseconds in which at least one blocking call was open.
    pub blocked: u64,
    /// Nanoseconds of all blocking calls added up.
    pub busy: u64,
    /// Calls that are still open: asynchronous ones.
    pub asynchronous: u32,
    /// Blocking calls.
    pub calls: u32,
    /// Distinct callee services of the blocking calls.
    pub callees: u32,
    /// Longest chain of service changes below.
    pub depth_below: u32,
    /// Blocking calls anywhere below, own ones included.
    pub calls_below: u32,
    /// Distinct services anywhere below, without the own one.
    pub services_below: u32,
    /// The weakest link on which what is below is known.
    pub below: Evidence,
    /// Calls made again after they had failed; they are no calls of their own above.
    pub retries: u32,
    /// Where a failure began: the deepest service known to have failed by itself. None unless the handling failed.
    pub origin: Option<&'a str>,
    /// Its trace, where it has one.
    pub trace: Option<Trace>,
    /// What it used of each callee endpoint.
    pub uses: &'a [CalleeUse],
}

/// What one handling used of one callee endpoint.
#[derive(Debug, Clone)]
pub struct CalleeUse {
    /// The callee endpoint.
    pub callee: Arc<Callee>,
    /// Calls, blocking or not.
    pub calls: u32,
    /// Whether one of them failed.
    pub failed: bool,
    /// Nanoseconds in which at least one of its blocking calls was open.
    pub blocked: u64,
}

/// One outbound call, finished.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    /// How it ended.
    pub outcome: Outcome,
    /// Nanoseconds from the request's head to the last byte of the response.
    pub duration: u64,
    /// Nanoseconds to the response's head, where there was one.
    pub first_byte: Option<u64>,
    /// Whether it ended before its handler did.
    pub blocking: bool,
    /// How it was linked.
    pub evidence: Evidence,
    /// Attempts on the wire.
    pub attempts: u32,
    /// Body bytes sent.
    pub request_bytes: u64,
    /// Body bytes received.
    pub response_bytes: u64,
}

/// How much a window holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowLimits {
    /// Paths; what is beyond is counted on [`PathId::OVERFLOW`]. The path of unlinked calls has room up to twice this
    /// limit.
    pub paths: usize,
    /// Pairs of path and callee endpoint; what is beyond is counted on one callee endpoint per path and service,
    /// and where that too is beyond twice this limit, on [`PathId::OVERFLOW`] and [`OTHER`]. As many peers of opaque
    /// connections; what is beyond is counted on [`OTHER`].
    pub callees: usize,
}

impl WindowLimits {
    /// Whether another path of this kind may be kept apart, where `paths` are.
    #[must_use]
    pub fn has_room(&self, kind: PathKind, paths: usize) -> bool {
        let limit = match kind {
            PathKind::Handler => self.paths,
            // One per service: many strange paths must not hide the calls of a service that links none.
            PathKind::Unlinked => self.paths.saturating_mul(2),
            PathKind::Overflow => usize::MAX,
        };
        paths < limit
    }

    /// Where calls from an admitted path to `callee` are counted, and whether that is what was asked for. `calls` are kept
    /// apart so far, by path and key of the callee.
    pub fn place<T, S: BuildHasher>(
        &self,
        calls: &HashMap<(PathId, u64), T, S>,
        path: PathId,
        callee: &Arc<Callee>,
    ) -> (PathId, Arc<Callee>, bool) {
        let fits = |path: PathId, key: u64, limit: usize| calls.contains_key(&(path, key)) || calls.len() < limit;
        if fits(path, callee.key(), self.callees) {
            return (path, Arc::clone(callee), true);
        }
        let merged = Callee::new(callee.service(), OTHER);
        // One that came without its endpoint was counted as a loss when it lost it.
        let whole = merged.key() == callee.key();
        if fits(path, merged.key(), self.callees.saturating_mul(2)) {
            return (path, Arc::new(merged), whole);
        }
        (PathId::OVERFLOW, Arc::new(Callee::new(OTHER, OTHER)), whole)
    }
}

/// Looked into for every request. The hash is seeded at random, anew for every map.
type Map<K, V> = HashMap<K, V, RandomState>;

/// Under which path the calls of a merged one are counted: under itself, or the overflow path.
type Admitted = Map<PathId, Arc<PathDefinition>>;

/// Everything that happened since the window opened.
#[derive(Debug)]
pub struct Window {
    limits: WindowLimits,
    /// Boxed, like the calls: a map has up to twice the room that it needs, and three times that while it grows.
    paths: Map<PathId, Box<PathReport>>,
    calls: Map<(PathId, u64), Box<CallReport>>,
    opaque: BTreeMap<Protocol, BTreeMap<String, OpaqueStats>>,
    propagation: Propagation,
    expected: Map<u64, ExpectedReport>,
    losses: BTreeMap<Loss, u64>,
}

impl Window {
    /// An empty window.
    #[must_use]
    pub fn new(limits: WindowLimits) -> Self {
        Self {
            limits,
            paths: Map::default(),
            calls: Map::default(),
            opaque: BTreeMap::new(),
            expected: Map::default(),
            propagation: Propagation::default(),
            losses: BTreeMap::new(),
        }
    }

    /// Whether nothing happened.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let nothing = self.paths.is_empty() && self.calls.is_empty() && self.opaque.is_empty();
        nothing && self.expected.is_empty() && self.propagation.is_empty() && self.losses.is_empty()
    }

    /// The paths so far, in no order.
    pub fn paths(&self) -> impl Iterator<Item = &PathReport> {
        self.paths.values().map(Box::as_ref)
    }

    /// The calls so far, in no order.
    pub fn calls(&self) -> impl Iterator<Item = &CallReport> {
        self.calls.values().map(Box::as_ref)
    }

    /// What limits cost so far.
    pub fn losses(&self) -> impl Iterator<Item = (Loss, u64)> {
        self.losses.iter().map(|(loss, count)| (*loss, *count))
    }

    /// Counts what a limit cost.
    pub fn lose(&mut self, loss: Loss, count: u64) {
        if count > 0 {
            let slot = self.losses.entry(loss).or_default();
            *slot = slot.saturating_add(count);
        }
    }

    /// Folds in one finished handling.
    pub fn handling(&mut self, path: &Arc<PathDefinition>, handling: &Handling<'_>) {
        let evidence = path.evidence;
        let path = self.admit(path, 1);
        let stats = self.stats_of(&path);
        stats.outcomes.add(handling.outcome, 1);
        stats.links.add(evidence, 1);
        stats.duration.record(handling.duration);
        stats.blocked = stats.blocked.saturating_add(handling.blocked);
        stats.busy = stats.busy.saturating_add(handling.busy);
        stats.asynchronous = stats.asynchronous.saturating_add(u64::from(handling.asynchronous));
        stats.calls.record(handling.calls);
        stats.callees.record(handling.callees);
        stats.depth_below.record(handling.depth_below);
        stats.calls_below.record(handling.calls_below);
        stats.services_below.record(handling.services_below);
        stats.below.add(handling.below, 1);
        stats.retries = stats.retries.saturating_add(u64::from(handling.retries));
        if let Some(origin) = handling.origin {
            stats.origins.add(origin, 1);
        }
        if let Some(trace) = handling.trace {
            let Handling { duration, outcome, calls, .. } = *handling;
            stats.examples.add(&Example { trace, duration, outcome, calls });
        }
        for used in handling.uses {
            // What this costs is counted where the calls themselves are, once.
            let (path, callee, _) = self.limits.place(&self.calls, path.id, &used.callee);
            let stats = self.call_stats_of(path, callee);
            stats.blocked = stats.blocked.saturating_add(used.blocked);
            stats.per_handling.record(used.calls);
            stats.joint.add(used.failed, handling.outcome.is_failure(), 1);
        }
    }

    /// Folds in one finished call.
    pub fn call(&mut self, path: &Arc<PathDefinition>, callee: &Arc<Callee>, call: &Call) {
        let path = self.admit(path, 1);
        // A handler that is still running, or one that never was, has no handling yet; the analyzer needs its path.
        self.stats_of(&path);
        let (path, callee, whole) = self.limits.place(&self.calls, path.id, callee);
        self.lose(Loss::Callees, u64::from(!whole));
        let stats = self.call_stats_of(path, callee);
        stats.outcomes.add(call.outcome, 1);
        stats.duration.record(call.duration);
        if let Some(nanos) = call.first_byte {
            stats.first_byte.record(nanos);
        }
        stats.blocking = stats.blocking.saturating_add(u64::from(call.blocking));
        stats.links.add(call.evidence, 1);
        stats.attempts = stats.attempts.saturating_add(u64::from(call.attempts));
        stats.request_bytes = stats.request_bytes.saturating_add(call.request_bytes);
        stats.response_bytes = stats.response_bytes.saturating_add(call.response_bytes);
    }

    /// Counts a request to `callee` that met injected faults. One that was aborted is no call.
    pub fn injected(&mut self, path: &Arc<PathDefinition>, callee: &Arc<Callee>, delayed: bool, aborted: bool) {
        let path = self.admit(path, 1);
        self.stats_of(&path);
        let (path, callee, whole) = self.limits.place(&self.calls, path.id, callee);
        self.lose(Loss::Callees, u64::from(!whole));
        let stats = self.call_stats_of(path, callee);
        stats.delayed = stats.delayed.saturating_add(u64::from(delayed));
        stats.aborted = stats.aborted.saturating_add(u64::from(aborted));
    }

    /// Folds in what became of opaque connections to `peer`.
    pub fn opaque(&mut self, peer: &str, protocol: Protocol, change: &OpaqueStats) {
        let known = self.opaque.values().map(BTreeMap::len).sum::<usize>();
        let peers = self.opaque.entry(protocol).or_default();
        if let Some(stats) = peers.get_mut(peer) {
            return stats.merge(change);
        }
        if known < self.limits.callees || peer == OTHER {
            peers.insert(peer.to_owned(), change.clone());
            return;
        }
        peers.entry(OTHER.to_owned()).or_default().merge(change);
        self.lose(Loss::Opaque, change.asked());
    }

    /// Adds what was seen of headers.
    pub fn propagated(&mut self, propagation: &Propagation) {
        self.propagation.merge(propagation);
    }

    /// Folds in what timing found the handlings of `endpoint` to call at `callee`.
    pub fn expected(&mut self, endpoint: &str, callee: &Arc<Callee>, found: &ExpectedStats) {
        let key = Callee::key_of(endpoint, "") ^ callee.key().rotate_left(1);
        if let Some(known) = self.expected.get_mut(&key) {
            return known.stats.merge(found);
        }
        if self.expected.len() >= self.limits.callees {
            return self.lose(Loss::Expected, found.stated.saturating_add(found.doubtful));
        }
        let (endpoint, callee) = (endpoint.to_owned(), Arc::clone(callee));
        self.expected.insert(key, ExpectedReport { endpoint, callee, stats: *found });
    }

    /// The opaque connections so far, by protocol and peer.
    pub fn opaques(&self) -> impl Iterator<Item = (Protocol, &str, &OpaqueStats)> {
        let peers = self.opaque.iter().flat_map(|(protocol, peers)| peers.iter().map(move |peer| (*protocol, peer)));
        peers.map(|(protocol, (peer, stats))| (protocol, peer.as_str(), stats))
    }

    /// Adds another window: a worker's, or a later one where the earlier could not be delivered. Within the limits.
    pub fn merge(&mut self, other: Window) {
        if self.is_empty() && self.limits == other.limits {
            *self = other;
            return;
        }
        // What is new here moves in as it is: while a report is made, that is most of it, and there are no two copies.
        let mut admitted = Admitted::default();
        for (id, report) in other.paths {
            if !self.paths.contains_key(&id) && self.limits.has_room(report.path.kind, self.paths.len()) {
                admitted.insert(id, Arc::clone(&report.path));
                self.paths.insert(id, report);
            } else {
                self.add_path(*report, &mut admitted);
            }
        }
        for (key, report) in other.calls {
            let at_home = admitted.get(&report.path).is_some_and(|path| path.id == report.path);
            if at_home && !self.calls.contains_key(&key) && self.calls.len() < self.limits.callees {
                self.calls.insert(key, report);
            } else {
                self.add_call(*report, &admitted);
            }
        }
        for (protocol, peers) in other.opaque {
            peers.iter().for_each(|(peer, stats)| self.opaque(peer, protocol, stats));
        }
        self.propagation.merge(&other.propagation);
        for report in other.expected.into_values() {
            self.expected(&report.endpoint, &report.callee, &report.stats);
        }
        for (loss, count) in other.losses {
            self.lose(loss, count);
        }
    }

    /// Adds what another proxy of the same service reports, or the same one later. Within the limits.
    ///
    /// Reports are not trusted: a path that this one defines otherwise than those before it is counted on the overflow
    /// path, and so is a call whose path it does not define.
    pub fn absorb(&mut self, report: Report) {
        // Whoever adds a field to reports is told here that windows have to keep it.
        // What breakers say is of a moment, and no part of a window.
        let Report {
            origin: _,
            sequence: _,
            start: _,
            end: _,
            paths,
            calls,
            opaque,
            expected,
            propagation,
            breakers: _,
            losses,
        } = report;
        let mut admitted = Admitted::default();
        paths.into_iter().for_each(|report| self.add_path(report, &mut admitted));
        calls.into_iter().for_each(|report| self.add_call(report, &admitted));
        for opaque in opaque {
            self.opaque(&opaque.peer, opaque.protocol, &opaque.stats);
        }
        for report in expected {
            self.expected(&report.endpoint, &report.callee, &report.stats);
        }
        self.propagation.merge(&propagation);
        for (loss, count) in losses {
            self.lose(loss, count);
        }
    }

    /// `admitted` is told under which path the calls of this one are counted.
    fn add_path(&mut self, report: PathReport, admitted: &mut Admitted) {
        let PathReport { path: told, stats } = report;
        let total = stats.outcomes.total();
        let path = match self.paths.get(&told.id) {
            Some(known) if known.path.contradicts(&told) => {
                self.lose(Loss::Paths, total);
                overflow()
            }
            _ => self.admit(&told, total),
        };
        self.stats_of(&path).absorb(stats);
        admitted.insert(told.id, path);
    }

    fn add_call(&mut self, report: CallReport, admitted: &Admitted) {
        let CallReport { path, callee, stats } = report;
        let total = stats.outcomes.total();
        let path = admitted.get(&path).cloned().unwrap_or_else(|| {
            self.lose(Loss::Paths, total);
            overflow()
        });
        let (path, callee, whole) = self.limits.place(&self.calls, path.id, &callee);
        self.lose(Loss::Callees, if whole { 0 } else { total });
        self.call_stats_of(path, callee).absorb(stats);
    }

    /// Closes the window: its contents as a report, sorted, and an empty window again.
    pub fn close(&mut self, origin: Origin, sequence: u64, start: u64, end: u64) -> Report {
        // Sorted where they lie, and moved once.
        let mut paths: Vec<_> = std::mem::take(&mut self.paths).into_values().collect();
        paths.sort_unstable_by_key(|report| report.path.id);
        paths.iter_mut().for_each(|report| report.stats.examples.date(end));
        let paths = paths.into_iter().map(|report| *report).collect();
        let mut calls: Vec<_> = std::mem::take(&mut self.calls).into_values().collect();
        calls.sort_unstable_by(|a, b| {
            (a.path, a.callee.service(), a.callee.endpoint()).cmp(&(b.path, b.callee.service(), b.callee.endpoint()))
        });
        let calls = calls.into_iter().map(|report| *report).collect();
        let opaque = std::mem::take(&mut self.opaque).into_iter().flat_map(|(protocol, peers)| {
            peers.into_iter().map(move |(peer, stats)| OpaqueReport { peer, protocol, stats })
        });
        let mut opaque: Vec<_> = opaque.collect();
        opaque.sort_unstable_by(|a, b| (&a.peer, a.protocol).cmp(&(&b.peer, b.protocol)));
        let mut expected: Vec<_> = std::mem::take(&mut self.expected).into_values().collect();
        expected.sort_unstable_by(|a, b| a.order().cmp(&b.order()));
        let propagation = std::mem::take(&mut self.propagation);
        let losses = std::mem::take(&mut self.losses).into_iter().collect();
        // Breakers are no part of a window: whoever reports adds what they say.
        let breakers = Vec::new();
        Report { origin, sequence, start, end, paths, calls, opaque, expected, propagation, breakers, losses }
    }

    /// The path itself where there is room for it; else the overflow path, and the loss is counted.
    fn admit(&mut self, path: &Arc<PathDefinition>, records: u64) -> Arc<PathDefinition> {
        if self.paths.contains_key(&path.id) || self.limits.has_room(path.kind, self.paths.len()) {
            return Arc::clone(path);
        }
        self.lose(Loss::Paths, records);
        overflow()
    }

    fn stats_of(&mut self, path: &Arc<PathDefinition>) -> &mut HandlingStats {
        let fresh = || Box::new(PathReport { path: Arc::clone(path), stats: HandlingStats::default() });
        let report = self.paths.entry(path.id).or_insert_with(fresh);
        if report.path.evidence < path.evidence {
            // A path is as sure as the weakest link on which it was reached.
            report.path = Arc::clone(path);
        }
        &mut report.stats
    }

    fn call_stats_of(&mut self, path: PathId, callee: Arc<Callee>) -> &mut CallStats {
        if path == PathId::OVERFLOW {
            self.stats_of(&overflow());
        }
        let key = (path, callee.key());
        let fresh = || Box::new(CallReport { path, callee, stats: CallStats::default() });
        &mut self.calls.entry(key).or_insert_with(fresh).stats
    }
}

/// The overflow path ([`PathDefinition::overflow`]).
#[must_use]
pub fn overflow() -> Arc<PathDefinition> {
    Arc::new(PathDefinition::overflow())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: WindowLimits = WindowLimits { paths: 10, callees: 10 };

    fn path(endpoint: &str) -> Arc<PathDefinition> {
        Arc::new(PathDefinition::root("shop", endpoint))
    }

    fn handling(uses: &[CalleeUse]) -> Handling<'_> {
        Handling {
            outcome: Outcome::Ok,
            duration: 1_000,
            blocked: 0,
            busy: 0,
            asynchronous: 0,
            calls: 0,
            callees: 0,
            depth_below: 0,
            calls_below: 0,
            services_below: 0,
            below: Evidence::Exact,
            retries: 0,
            origin: None,
            trace: None,
            uses,
        }
    }

    fn call() -> Call {
        Call {
            outcome: Outcome::Ok,
            duration: 10,
            first_byte: Some(5),
            blocking: true,
            evidence: Evidence::Exact,
            attempts: 1,
            request_bytes: 0,
            response_bytes: 2,
        }
    }

    fn report(mut window: Window) -> Report {
        window.close(Origin::default(), 1, 0, 1)
    }

    #[test]
    fn paths_beyond_the_limit_are_counted_exactly_on_one_path() {
        let mut window = Window::new(WindowLimits { paths: 3, callees: 10 });
        for n in 0..10 {
            window.handling(&path(&format!("GET /{n}")), &handling(&[]));
        }
        let report = report(window);
        assert_eq!(report.losses, [(Loss::Paths, 7)]);
        assert_eq!(report.paths.len(), 4);
        assert_eq!(report.paths.iter().map(|p| p.stats.outcomes.total()).sum::<u64>(), 10);
    }

    #[test]
    fn callees_beyond_the_limit_keep_their_service_and_no_call_is_lost() {
        let mut window = Window::new(WindowLimits { paths: 3, callees: 4 });
        for n in 0..100 {
            window.call(&path("GET /"), &Arc::new(Callee::new(format!("s{}", n % 10), format!("GET /{n}"))), &call());
        }
        let report = report(window);
        assert!(report.calls.len() <= 9, "{}", report.calls.len());
        assert_eq!(report.calls.iter().map(|c| c.stats.outcomes.total()).sum::<u64>(), 100);
        assert_eq!(report.losses, [(Loss::Callees, 96)]);
    }

    #[test]
    fn a_path_is_as_sure_as_the_weakest_link_on_which_it_was_reached() {
        let exact = path("GET /");
        let inferred = Arc::new(PathDefinition { evidence: Evidence::Inferred, ..(*exact).clone() });
        let (mut window, mut other) = (Window::new(LIMITS), Window::new(LIMITS));
        window.handling(&exact, &handling(&[]));
        other.handling(&exact, &handling(&[]));
        other.handling(&inferred, &handling(&[]));
        window.merge(other);
        let report = report(window);
        assert_eq!((report.paths.len(), report.paths[0].path.evidence), (1, Evidence::Inferred));
        let links = report.paths[0].stats.links;
        assert_eq!((links.get(Evidence::Exact), links.get(Evidence::Inferred)), (2, 1));
    }

    #[test]
    fn calls_that_are_not_linked_have_their_path_beside_any_number_of_others() {
        let mut window = Window::new(WindowLimits { paths: 3, callees: 10 });
        (0..10).for_each(|n| window.handling(&path(&format!("GET /{n}")), &handling(&[])));
        let unlinked = Arc::new(PathDefinition::unlinked("shop"));
        window.call(&unlinked, &Arc::new(Callee::new("stock", "GET /")), &call());
        let report = report(window);
        assert_eq!(report.losses, [(Loss::Paths, 7)]);
        assert_eq!(report.calls[0].path, unlinked.id);
    }

    #[test]
    fn a_call_that_came_without_its_endpoint_is_not_counted_as_lost_again() {
        let mut window = Window::new(WindowLimits { paths: 3, callees: 1 });
        for callee in [Callee::new("a", "GET /"), Callee::new("b", OTHER), Callee::new("b", OTHER)] {
            window.call(&path("GET /"), &Arc::new(callee), &call());
        }
        assert_eq!(report(window).losses, []);
    }

    #[test]
    fn opaque_peers_beyond_the_limit_are_one_and_no_connection_is_lost() {
        let (mut one, mut other) = (Window::new(WindowLimits { paths: 3, callees: 4 }), None);
        let change = OpaqueStats { opened: 1, sent: 10, ..OpaqueStats::default() };
        for n in 0..10 {
            one.opaque(&format!("10.0.0.{n}:5432"), Protocol::Tcp, &change);
            let more = other.get_or_insert_with(|| Window::new(WindowLimits { paths: 3, callees: 100 }));
            more.opaque(&format!("10.0.1.{n}:443"), Protocol::Tls, &change);
        }
        one.merge(other.unwrap());
        let report = report(one);
        assert_eq!(report.losses, [(Loss::Opaque, 16)]);
        assert_eq!(report.opaque.len(), 6, "four, and one of each protocol for the others");
        assert_eq!(
            report
                .opaque
                .iter()
                .map(|opaque| (opaque.stats.opened, opaque.stats.sent))
                .fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1)),
            (20, 200)
        );
    }

    #[test]
    fn merging_two_windows_is_one_window_with_all_of_it() {
        let callee = Arc::new(Callee::new("stock", "GET /"));
        let uses = [CalleeUse { callee: Arc::clone(&callee), calls: 2, failed: false, blocked: 20 }];
        let limits = WindowLimits { paths: 10, callees: 10 };
        let (mut one, mut left, mut right) = (Window::new(limits), Window::new(limits), Window::new(limits));
        for n in 0..6 {
            let half = if n % 2 == 0 { &mut left } else { &mut right };
            for window in [&mut one, half] {
                window.call(&path("GET /"), &callee, &call());
                window.call(&path("GET /"), &callee, &call());
                window.handling(&path("GET /"), &handling(&uses));
            }
        }
        left.merge(right);
        assert_eq!(report(left), report(one));
    }

    #[test]
    fn merging_beyond_the_limits_loses_no_count_and_tells_what_was_merged() {
        let callee = Arc::new(Callee::new("stock", "GET /"));
        let limits = WindowLimits { callees: 20, ..LIMITS };
        let (mut left, mut right) = (Window::new(limits), Window::new(limits));
        for (window, paths) in [(&mut left, 0..7), (&mut right, 5..15)] {
            for n in paths {
                window.call(&path(&format!("GET /{n}")), &callee, &call());
                window.handling(&path(&format!("GET /{n}")), &handling(&[]));
            }
        }
        left.merge(right);
        let report = report(left);
        // Two of the ten are known already, and three find room.
        assert_eq!(report.losses, [(Loss::Paths, 5)]);
        assert_eq!(report.paths.len(), limits.paths + 1, "and the overflow path");
        assert_eq!(report.paths.iter().map(|path| path.stats.outcomes.total()).sum::<u64>(), 17);
        assert_eq!(report.calls.iter().map(|call| call.stats.outcomes.total()).sum::<u64>(), 17);
        let known = |call: &CallReport| report.paths.iter().any(|path| path.path.id == call.path);
        assert!(report.calls.iter().all(known), "no call without its path");
    }

    #[test]
    fn absorbed_reports_say_the_same_as_the_windows_they_came_from() {
        let callee = Arc::new(Callee::new("stock", "GET /stock/{id}"));
        let (mut first, mut second) = (Window::new(LIMITS), Window::new(LIMITS));
        for window in [&mut first, &mut second] {
            for n in 0..6 {
                window.call(&path(&format!("GET /{n}")), &callee, &call());
                window.handling(&path(&format!("GET /{n}")), &handling(&[]));
            }
            window.lose(Loss::Depth, 1);
        }
        let mut absorbed = Window::new(LIMITS);
        let reports = [&mut first, &mut second].map(|window| window.close(Origin::default(), 1, 0, 1));
        for report in reports {
            assert_eq!(report.paths.len(), 6);
            absorbed.absorb(report);
        }
        let report = self::report(absorbed);
        assert_eq!(report.losses, [(Loss::Depth, 2)]);
        assert!(report.paths.iter().all(|path| path.stats.outcomes.total() == 2));
        assert!(report.calls.iter().all(|call| call.stats.duration.count() == 2));
        assert_eq!((report.paths.len(), report.calls.len()), (6, 6));
    }

    #[test]
    fn a_path_that_a_report_defines_otherwise_is_counted_on_the_overflow_path() {
        let told = |endpoint: &str| {
            let mut window = Window::new(LIMITS);
            let path = PathDefinition { endpoint: endpoint.to_owned(), ..PathDefinition::root("shop", "GET /") };
            window.handling(&Arc::new(path), &handling(&[]));
            report(window)
        };
        let mut window = Window::new(LIMITS);
        window.absorb(told("GET /"));
        window.absorb(told("GET /lies"));
        let report = report(window);
        assert_eq!(report.losses, [(Loss::Paths, 1)]);
        let endpoints: Vec<_> = report.paths.iter().map(|path| path.path.endpoint.as_str()).collect();
        assert_eq!(endpoints, ["GET /", OTHER]);
    }
}
