//! Traffic for tests: trees of calls, written as sentences, folded into reports as proxies fold them.
//!
//! `on("shop", "GET /").takes(5).calls(3, on("stock", "GET /stock/{id}").takes(20))` is a request to `shop` that spends
//! 5 ms by itself and calls `stock` three times, one after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use couplet_config::{Architecture, FindingThresholds};
use couplet_telemetry::outcome::{Evidence, Outcome};
use couplet_telemetry::path::PathId;
use couplet_telemetry::report::{Callee, Origin, PathDefinition, PathKind, Report};
use couplet_telemetry::window::{Call, CalleeUse, Handling, Window, WindowLimits};

use crate::findings::{Finding, Rule, findings};
use crate::graph::{Graph, GraphLimits, Snapshot};

/// A request and what it makes its service do.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    service: String,
    endpoint: String,
    millis: u64,
    calls: Vec<(u32, Request)>,
    at_once: bool,
    outcome: Outcome,
    asynchronous: bool,
    reports: bool,
}

/// A request to an endpoint; it takes 1 ms by itself.
pub(crate) fn on(service: &str, endpoint: &str) -> Request {
    Request {
        service: service.to_owned(),
        endpoint: endpoint.to_owned(),
        millis: 1,
        calls: Vec::new(),
        at_once: false,
        outcome: Outcome::Ok,
        asynchronous: false,
        reports: true,
    }
}

/// A chain of services, each calling the next at `GET /`.
pub(crate) fn chain(services: &[&str]) -> Request {
    let (first, below) = services.split_first().expect("a service");
    match below {
        [] => on(first, "GET /"),
        below => on(first, "GET /").calls(1, chain(below)),
    }
}

impl Request {
    pub(crate) fn takes(mut self, millis: u64) -> Self {
        self.millis = millis;
        self
    }

    pub(crate) fn calls(mut self, times: u32, callee: Request) -> Self {
        self.calls.push((times, callee));
        self
    }

    /// All its calls overlap.
    pub(crate) fn at_once(mut self) -> Self {
        self.at_once = true;
        self
    }

    pub(crate) fn fails(self) -> Self {
        self.ends(Outcome::ServerError)
    }

    pub(crate) fn ends(mut self, outcome: Outcome) -> Self {
        self.outcome = outcome;
        self
    }

    /// Its caller does not wait for it.
    pub(crate) fn later(mut self) -> Self {
        self.asynchronous = true;
        self
    }

    /// It has no proxy.
    pub(crate) fn external(mut self) -> Self {
        self.reports = false;
        self
    }
}

/// All traffic of a system.
#[derive(Debug)]
pub(crate) struct Traffic {
    replicas: u32,
    next: u32,
    windows: BTreeMap<(String, u32), Window>,
}

/// No traffic yet; every service has one replica.
pub(crate) fn traffic() -> Traffic {
    Traffic { replicas: 1, next: 0, windows: BTreeMap::new() }
}

impl Traffic {
    /// Every service has so many replicas, which take turns.
    pub(crate) fn with_replicas(mut self, replicas: u32) -> Self {
        self.replicas = replicas;
        self
    }

    /// So many requests from outside.
    pub(crate) fn of(mut self, times: u32, request: &Request) -> Self {
        for _ in 0..times {
            self.handle(request, None);
        }
        self
    }

    /// So many calls that `caller` makes, nobody knows in which handler.
    pub(crate) fn unlinked(mut self, times: u32, caller: &str, request: &Request) -> Self {
        let path = Arc::new(PathDefinition {
            kind: PathKind::Unlinked,
            evidence: Evidence::Unknown,
            ..definition(caller, "(unlinked)", None)
        });
        let callee = Arc::new(Callee::new(&request.service, &request.endpoint));
        for _ in 0..times {
            let below = self.handle(request, Some((caller, &path)));
            let call = Call { evidence: Evidence::Unknown, ..call(request, below.nanos) };
            self.window(caller).call(&path, &callee, &call);
        }
        self
    }

    /// What the proxies report, ordered by service and replica.
    pub(crate) fn reports(self) -> Vec<Report> {
        let report = |((service, replica), mut window): ((String, u32), Window)| {
            let instance = format!("{service}-{replica}");
            let origin = Origin { service, instance, version: Some("v1".to_owned()), inbound: None };
            window.close(origin, 1, 1_000_000_000, 11_000_000_000)
        };
        self.windows.into_iter().map(report).collect()
    }

    pub(crate) fn snapshot(self) -> Snapshot {
        snapshot_of(&self.reports())
    }

    /// What the default thresholds find.
    pub(crate) fn findings(self) -> Vec<Finding> {
        findings(&self.snapshot(), &FindingThresholds::default(), &Architecture::default())
    }

    /// What the default thresholds find by one rule.
    pub(crate) fn finds(self, rule: Rule) -> Vec<Finding> {
        self.findings().into_iter().filter(|finding| finding.rule == rule).collect()
    }

    fn handle(&mut self, request: &Request, caller: Option<(&str, &Arc<PathDefinition>)>) -> Below {
        let own = request.millis * 1_000_000;
        if !request.reports {
            return Below { nanos: own, ..Below::default() };
        }
        let path = Arc::new(definition(&request.service, &request.endpoint, caller));
        let mut below = Below::default();
        let (mut blocked, mut busy, mut calls, mut asynchronous) = (0, 0, 0, 0);
        let mut failing = None;
        let mut callees = BTreeSet::new();
        let mut uses: BTreeMap<u64, CalleeUse> = BTreeMap::new();
        for (times, child) in &request.calls {
            let callee = Arc::new(Callee::new(&child.service, &child.endpoint));
            for _ in 0..*times {
                let deeper = self.handle(child, Some((&request.service, &path)));
                self.window(&request.service).call(&path, &callee, &call(child, deeper.nanos));
                let fresh = || CalleeUse { callee: Arc::clone(&callee), calls: 0, failed: false, blocked: 0 };
                let used = uses.entry(callee.key()).or_insert_with(fresh);
                used.calls += 1;
                used.failed |= child.outcome.is_failure();
                if child.outcome.is_failure() && !child.asynchronous {
                    failing = Some(deeper.origin.clone().unwrap_or_else(|| child.service.clone()));
                }
                if child.asynchronous {
                    asynchronous += 1;
                    continue;
                }
                calls += 1;
                busy += deeper.nanos;
                let union =
                    |so_far: u64| if request.at_once { so_far.max(deeper.nanos) } else { so_far + deeper.nanos };
                blocked = union(blocked);
                used.blocked = union(used.blocked);
                below.calls += 1 + deeper.calls;
                below.services.extend(deeper.services);
                if child.service != request.service {
                    callees.insert(&child.service);
                    below.services.insert(child.service.clone());
                    below.depth = below.depth.max(deeper.depth + 1);
                } else {
                    below.depth = below.depth.max(deeper.depth);
                }
            }
        }
        below.services.remove(&request.service);
        below.nanos = own + blocked;
        let failed = request.outcome.is_failure();
        below.origin = failed.then(|| failing.unwrap_or_else(|| request.service.clone()));
        let uses: Vec<CalleeUse> = uses.into_values().collect();
        let handling = Handling {
            outcome: request.outcome,
            duration: below.nanos,
            blocked,
            busy,
            asynchronous,
            calls,
            callees: callees.len() as u32,
            depth_below: below.depth,
            calls_below: below.calls,
            services_below: below.services.len() as u32,
            below: Evidence::Exact,
            retries: 0,
            origin: below.origin.as_deref(),
            trace: None,
            uses: &uses,
        };
        self.window(&request.service).handling(&path, &handling);
        below
    }

    fn window(&mut self, service: &str) -> &mut Window {
        self.next = (self.next + 1) % self.replicas;
        let limits = WindowLimits { paths: 100_000, callees: 100_000 };
        self.windows.entry((service.to_owned(), self.next)).or_insert_with(|| Window::new(limits))
    }
}

/// The graph of reports, in their order.
pub(crate) fn snapshot_of(reports: &[Report]) -> Snapshot {
    let mut graph = Graph::new(GraphLimits::default());
    for report in reports {
        graph.apply(report);
    }
    graph.snapshot()
}

#[derive(Debug, Default)]
struct Below {
    nanos: u64,
    depth: u32,
    calls: u32,
    services: BTreeSet<String>,
    /// Where its failure began.
    origin: Option<String>,
}

fn definition(service: &str, endpoint: &str, caller: Option<(&str, &Arc<PathDefinition>)>) -> PathDefinition {
    let id = caller.map_or(PathId::root(service, endpoint), |(_, parent)| parent.id.child(service, endpoint));
    PathDefinition {
        id,
        parent: caller.map(|(_, parent)| parent.id),
        root: caller.map_or(id, |(_, parent)| parent.root),
        caller: caller.map(|(name, _)| name.to_owned()),
        endpoint: endpoint.to_owned(),
        depth: caller.map_or(0, |(_, parent)| parent.depth + 1),
        kind: PathKind::Handler,
        evidence: Evidence::Exact,
    }
}

fn call(request: &Request, nanos: u64) -> Call {
    Call {
        outcome: request.outcome,
        duration: nanos,
        first_byte: Some(nanos),
        blocking: !request.asynchronous,
        evidence: Evidence::Exact,
        attempts: 1,
        request_bytes: 0,
        response_bytes: 0,
    }
}
