//! Sends requests through a system, request by request, and folds what every sidecar would see into its reports. The same
//! requests can be written down as traces.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use couplet_telemetry::outcome::{Evidence, Outcome};
use couplet_telemetry::path::PathId;
use couplet_telemetry::report::{Callee, Origin, PathDefinition, Report};
use couplet_telemetry::window::{Call, CalleeUse, Handling, Window, WindowLimits};

use super::random::Random;
use super::system::{Step, System};

/// Nanoseconds between a caller and its callee, there and back.
const WAY: u64 = 300_000;
/// What comes back to itself more often than this has another problem.
const DEEPEST: u32 = 40;
/// Windows in which the traffic is reported.
const WINDOWS: u64 = 2;
const LIMITS: WindowLimits = WindowLimits { paths: 100_000, callees: 100_000 };
const START: u64 = 1_700_000_000_000_000_000;
const WINDOW: u64 = 5_000_000_000;

/// Everything that the sidecars of a system report of all its requests, once.
pub(crate) fn reports(system: &System, seed: u64) -> Vec<Report> {
    let mut running = Running::new(system, seed);
    let mut reports = Vec::new();
    for number in 0..WINDOWS {
        for entry in &system.entries {
            let all = u64::from(entry.requests);
            for _ in all * number / WINDOWS..all * (number + 1) / WINDOWS {
                running.request(entry.endpoint);
            }
        }
        reports.extend(running.close(number + 1));
    }
    reports
}

/// The same requests as [`reports`] has, as traces: a file in Zipkin's form.
pub(crate) fn traces(system: &System, seed: u64) -> String {
    let mut running = Running::new(system, seed);
    running.spans = Some(Vec::new());
    for number in 0..WINDOWS {
        for entry in &system.entries {
            let all = u64::from(entry.requests);
            for _ in all * number / WINDOWS..all * (number + 1) / WINDOWS {
                running.request(entry.endpoint);
            }
        }
    }
    format!("[{}]", running.spans.unwrap_or_default().join(",\n"))
}

/// What the clients of each entry saw: requests, failures, nanoseconds of each.
pub(crate) type Seen = HashMap<usize, (u64, u64, Vec<u64>)>;

/// What clients see, without anybody reporting it.
pub(crate) fn seen(system: &System, seed: u64) -> Seen {
    let mut running = Running::new(system, seed);
    for entry in &system.entries {
        for _ in 0..entry.requests {
            running.request(entry.endpoint);
        }
    }
    running.ended
}

struct Running<'a> {
    system: &'a System,
    random: Random,
    callees: Vec<Arc<Callee>>,
    windows: BTreeMap<(usize, usize), Window>,
    paths: HashMap<PathId, Arc<PathDefinition>>,
    /// Endpoints that have a bad moment in this request, or have none.
    bad: HashMap<usize, bool>,
    ended: Seen,
    /// Every span as JSON, where they are asked for.
    spans: Option<Vec<String>>,
    ids: u64,
}

/// Who calls, and how it is told: by the path in the context, and by the span.
#[derive(Clone, Copy)]
struct Caller<'a> {
    service: usize,
    path: &'a Arc<PathDefinition>,
    span: u64,
}

/// Where a handling is in time and in its trace.
#[derive(Debug, Clone, Copy)]
struct Place {
    trace: u64,
    begun: u64,
    hops: u32,
}

/// What a caller learns of a handling.
#[derive(Debug, Default)]
struct Ended {
    nanos: u64,
    failed: bool,
    depth: u32,
    calls: u32,
    services: HashSet<usize>,
    origin: Option<usize>,
}

impl<'a> Running<'a> {
    fn new(system: &'a System, seed: u64) -> Self {
        let callee = |at: usize| Arc::new(Callee::new(system.name_of(at), system.endpoints[at].name.as_str()));
        Self {
            system,
            random: Random::new(seed),
            callees: (0..system.endpoints.len()).map(callee).collect(),
            windows: BTreeMap::new(),
            paths: HashMap::new(),
            bad: HashMap::new(),
            ended: HashMap::new(),
            spans: None,
            ids: 0,
        }
    }

    /// One request from outside.
    fn request(&mut self, endpoint: usize) {
        self.bad.clear();
        let trace = self.next_id();
        let ended = self.handle(endpoint, None, Place { trace, begun: START + trace * 1_000_000_000, hops: 0 });
        let (requests, failed, nanos) = self.ended.entry(endpoint).or_default();
        *requests += 1;
        *failed += u64::from(ended.failed);
        nanos.push(ended.nanos);
    }

    fn handle(&mut self, at: usize, caller: Option<Caller<'_>>, place: Place) -> Ended {
        let system = self.system;
        let endpoint = &system.endpoints[at];
        let (service, span) = (endpoint.service, self.next_id());
        let own = (self.random.around(endpoint.own, 1.3) * 1e6) as u64;
        let fails = self.fails(at);
        if !self.system.services[service].reports {
            let origin = fails.then_some(service);
            return Ended { nanos: own, failed: fails, origin, ..Ended::default() };
        }
        let path = self.path(at, caller);
        let replica = self.random.below(self.system.services[service].replicas);
        let mut handling = Open { at_once: endpoint.at_once, ..Open::default() };
        if place.hops < DEEPEST {
            // What nobody waits for is begun last: it is to outlive the handling.
            let (later, now): (Vec<Step>, Vec<Step>) = self.steps(at).into_iter().partition(|step| step.later);
            for step in now.into_iter().chain(later) {
                let begun = match (step.later, handling.at_once) {
                    (true, _) => place.begun + own + handling.blocked - 1_000,
                    (false, true) => place.begun,
                    (false, false) => place.begun + handling.blocked,
                };
                let caller = Caller { service, path: &path, span };
                self.take(&step, replica, caller, &mut handling, Place { begun, ..place });
                if handling.broken.is_some() && !handling.at_once {
                    break;
                }
            }
        }
        let failed = fails || handling.broken.is_some();
        let mut below = handling.below;
        below.services.remove(&service);
        below.nanos = own + handling.blocked;
        below.failed = failed;
        below.origin = if fails { Some(service) } else { handling.broken };
        let uses: Vec<CalleeUse> = handling.uses.into_values().collect();
        let origin = below.origin.map(|service| self.system.services[service].name.as_str());
        let finished = Handling {
            outcome: outcome(failed),
            duration: below.nanos,
            blocked: handling.blocked,
            busy: handling.busy,
            asynchronous: handling.asynchronous,
            calls: handling.calls,
            callees: handling.callees.len() as u32,
            depth_below: below.depth,
            calls_below: below.calls,
            services_below: below.services.len() as u32,
            below: Evidence::Exact,
            retries: 0,
            origin: origin.filter(|_| failed),
            trace: None,
            uses: &uses,
        };
        window(&mut self.windows, (service, replica)).handling(&path, &finished);
        let parent = caller.map(|caller| caller.span);
        self.span((place.trace, span, parent), "SERVER", service, at, (place.begun, below.nanos, failed));
        below
    }

    fn take(&mut self, step: &Step, replica: usize, caller: Caller<'_>, handling: &mut Open, place: Place) {
        let Caller { service, path, .. } = caller;
        if !self.random.chance(step.chance) {
            return;
        }
        let callee = Arc::clone(&self.callees[step.to]);
        let target = self.system.endpoints[step.to].service;
        let mut row = 0;
        for _ in 0..step.times {
            if self.random.chance(step.spared) {
                continue;
            }
            if self.random.chance(self.system.unlinked) {
                self.lose(step, (service, replica), &callee, handling, place.hops);
                continue;
            }
            let (span, begun) = (self.next_id(), place.begun + row);
            let below = Place { begun: begun + WAY / 2, hops: place.hops + 1, ..place };
            let ended = self.handle(step.to, Some(Caller { span, ..caller }), below);
            let nanos = ended.nanos + WAY;
            self.span((place.trace, span, Some(caller.span)), "CLIENT", service, step.to, (begun, nanos, ended.failed));
            let made = call(ended.failed, nanos, !step.later, Evidence::Exact);
            window(&mut self.windows, (service, replica)).call(path, &callee, &made);
            let fresh = || CalleeUse { callee: Arc::clone(&callee), calls: 0, failed: false, blocked: 0 };
            let used = handling.uses.entry(callee.key()).or_insert_with(fresh);
            used.calls += 1;
            used.failed |= ended.failed;
            if step.later {
                handling.asynchronous += 1;
                continue;
            }
            row += nanos;
            used.blocked += nanos;
            handling.blocked = if handling.at_once { handling.blocked.max(row) } else { handling.blocked + nanos };
            handling.busy += nanos;
            handling.calls += 1;
            let below = &mut handling.below;
            below.calls += 1 + ended.calls;
            below.depth = below.depth.max(ended.depth + u32::from(target != service));
            below.services.extend(ended.services);
            if target != service {
                handling.callees.insert(target);
                below.services.insert(target);
            }
            if ended.failed && !step.copes {
                handling.broken = handling.broken.or(ended.origin).or(Some(target));
                if !handling.at_once {
                    return;
                }
            }
        }
    }

    /// A call of which no header says which handling made it. Its caller waits for it all the same.
    fn lose(
        &mut self,
        step: &Step,
        (service, replica): (usize, usize),
        callee: &Arc<Callee>,
        handling: &mut Open,
        hops: u32,
    ) {
        let unlinked = Arc::new(PathDefinition::unlinked(&self.system.services[service].name));
        // Traces know nothing of it: who looks at traces sends no such calls.
        let trace = self.next_id();
        let place = Place { trace, begun: START + trace * 1_000_000_000, hops: hops + 1 };
        let ended = self.handle(step.to, Some(Caller { service, path: &unlinked, span: trace }), place);
        let made = call(ended.failed, ended.nanos + WAY, false, Evidence::Unknown);
        window(&mut self.windows, (service, replica)).call(&unlinked, callee, &made);
        if ended.failed && !step.copes && !step.later {
            handling.broken = handling.broken.or(ended.origin);
        }
    }

    fn fails(&mut self, at: usize) -> bool {
        let endpoint = &self.system.endpoints[at];
        let (together, alone) = (endpoint.fails * endpoint.together, endpoint.fails * (1.0 - endpoint.together));
        let random = &mut self.random;
        *self.bad.entry(at).or_insert_with(|| random.chance(together)) || random.chance(alone)
    }

    fn steps(&mut self, at: usize) -> Vec<Step> {
        let ways = &self.system.endpoints[at].ways;
        let mut drawn = self.random.unit() * ways.iter().map(|way| way.weight).sum::<f64>();
        for way in ways {
            drawn -= way.weight;
            if drawn < 0.0 {
                return way.steps.clone();
            }
        }
        Vec::new()
    }

    fn path(&mut self, at: usize, caller: Option<Caller<'_>>) -> Arc<PathDefinition> {
        let (service, endpoint) = (self.system.name_of(at), &self.system.endpoints[at].name);
        let root = PathDefinition::root(service, endpoint);
        let path = match caller {
            None => root,
            Some(Caller { service: above, path: parent, .. }) => PathDefinition {
                id: parent.id.child(service, endpoint),
                parent: Some(parent.id),
                root: parent.root,
                caller: Some(self.system.services[above].name.clone()),
                depth: parent.depth + 1,
                ..root
            },
        };
        Arc::clone(self.paths.entry(path.id).or_insert_with(|| Arc::new(path)))
    }

    fn next_id(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }

    /// Writes a span down, where anybody wants spans.
    fn span(
        &mut self,
        (trace, id, parent): (u64, u64, Option<u64>),
        kind: &str,
        service: usize,
        endpoint: usize,
        (begun, nanos, failed): (u64, u64, bool),
    ) {
        let Some(spans) = &mut self.spans else { return };
        let (service, endpoint) = (&self.system.services[service].name, &self.system.endpoints[endpoint].name);
        let (method, route) = endpoint.split_once(' ').unwrap_or(("GET", endpoint));
        let parent = parent.map_or_else(String::new, |parent| format!("\"parentId\":\"{parent:016x}\","));
        let (begun, micros, status) = (begun / 1_000, nanos / 1_000, if failed { 500 } else { 200 });
        spans.push(format!(
            "{{\"traceId\":\"{trace:016x}\",\"id\":\"{id:016x}\",{parent}\"kind\":\"{kind}\",\"name\":\"{endpoint}\",\
             \"timestamp\":{begun},\"duration\":{micros},\"localEndpoint\":{{\"serviceName\":\"{service}\"}},\
             \"tags\":{{\"http.method\":\"{method}\",\"http.route\":\"{route}\",\"http.status_code\":\"{status}\"}}}}"
        ));
    }

    fn close(&mut self, sequence: u64) -> Vec<Report> {
        let system = self.system;
        let report = |(&(service, replica), window): (&(usize, usize), &mut Window)| {
            let service = &system.services[service].name;
            let instance = format!("{service}-{replica}");
            let origin =
                Origin { service: service.clone(), instance, version: Some("v1".to_owned()), ..Origin::default() };
            window.close(origin, sequence, START + (sequence - 1) * WINDOW, START + sequence * WINDOW)
        };
        self.windows.iter_mut().map(report).collect()
    }
}

/// A handling while it is under way.
#[derive(Debug, Default)]
struct Open {
    at_once: bool,
    blocked: u64,
    busy: u64,
    calls: u32,
    asynchronous: u32,
    callees: HashSet<usize>,
    uses: BTreeMap<u64, CalleeUse>,
    below: Ended,
    /// Where the failure began that it does not cope with.
    broken: Option<usize>,
}

fn window(windows: &mut BTreeMap<(usize, usize), Window>, of: (usize, usize)) -> &mut Window {
    windows.entry(of).or_insert_with(|| Window::new(LIMITS))
}

fn outcome(failed: bool) -> Outcome {
    if failed { Outcome::ServerError } else { Outcome::Ok }
}

fn call(failed: bool, nanos: u64, blocking: bool, evidence: Evidence) -> Call {
    Call {
        outcome: outcome(failed),
        duration: nanos,
        first_byte: Some(nanos * 9 / 10),
        blocking,
        evidence,
        attempts: 1,
        request_bytes: 200,
        response_bytes: 2_000,
    }
}
