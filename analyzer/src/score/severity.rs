//! Severities: where on the way from fine to critical a measure of a flow or service stands.

use std::collections::{BTreeMap, HashMap};

use couplet_config::{FindingThresholds, Levels, ServiceRole, ShareLevels, WarnLevels};

use super::Dimension;
use crate::coupling::blast::{Lambdas, Radius};
use crate::coupling::flow::{EachFlow, Flow, Node};
use crate::coupling::propagation;
use crate::coupling::roles::is_front;
use crate::graph::{ServiceIx, Snapshot};

/// A node that fewer of the requests reach has no say in their 95th percentile.
const SELDOM: f64 = 0.05;
/// The most that may be said of a coupling of which nobody knows what a failure would do.
const UNKNOWN: f64 = 0.25;

/// One severity of one flow or service.
#[derive(Debug, Clone, Copy)]
pub(super) struct Measured<'a> {
    pub(super) dimension: Dimension,
    /// The rule that is about the same.
    pub(super) rule: &'static str,
    /// What it is about; ascending.
    pub(super) services: &'a [ServiceIx],
    /// 0 to 1.
    pub(super) severity: f64,
}

/// Measures flows by the thresholds of the findings.
#[derive(Debug)]
pub(super) struct Scale<'a> {
    thresholds: &'a FindingThresholds,
    roles: Vec<ServiceRole>,
    lambdas: Lambdas,
}

impl<'a> Scale<'a> {
    pub(super) fn new(snapshot: &Snapshot, thresholds: &'a FindingThresholds, roles: Vec<ServiceRole>) -> Self {
        Self { thresholds, roles, lambdas: Lambdas::of(snapshot, thresholds.min_failures) }
    }

    pub(super) fn is_enough(&self, flow: &Flow) -> bool {
        flow.requests >= self.thresholds.min_samples.max(1)
    }

    /// Whether enough failed that it can be said how failures spread.
    pub(super) fn is_observed(&self, failures: u64) -> bool {
        failures >= self.thresholds.min_failures
    }

    pub(super) fn radii(&self, flows: &dyn EachFlow) -> BTreeMap<ServiceIx, Radius> {
        self.lambdas.radii(flows)
    }

    /// Tells everything that makes a flow grave, but its structure.
    pub(super) fn flow(&self, flow: &Flow, radii: &BTreeMap<ServiceIx, Radius>, tell: &mut impl FnMut(Measured<'_>)) {
        let Some(root) = flow.root() else { return };
        self.chain(flow, root, tell);
        self.failure(flow, root, radii, tell);
        // What each node calls: distinct callees, and calls for one handling.
        let mut callees: Vec<(u32, f64)> = vec![(0, 0.0); flow.nodes.len()];
        for node in &flow.nodes {
            let (Some(above), Some(parent)) = (flow.parent(node), node.parent) else { continue };
            if node.reach < SELDOM {
                continue;
            }
            if let Some(slot) = callees.get_mut(parent) {
                slot.0 += 1;
                slot.1 += if above.handlings == 0 { 0.0 } else { node.calls as f64 / above.handlings as f64 };
            }
            let pair = sorted([above.service, node.service]);
            if !is_front(&self.roles, above.service) && above.handlings >= self.thresholds.min_samples {
                let severity = self.temporal(above, node);
                tell(Measured { dimension: Dimension::Temporal, rule: "TC", services: &pair, severity });
            }
            let severity = up_to(self.per_user(node), self.thresholds.repeat.calls);
            tell(Measured { dimension: Dimension::Chattiness, rule: "NP", services: &pair, severity });
        }
        for (node, (distinct, calls)) in flow.nodes.iter().zip(callees).filter(|(_, (distinct, _))| *distinct > 0) {
            let levels = &self.thresholds.fan_out;
            let severity = up_to(f64::from(distinct), levels.callees).max(up_to(calls, levels.calls));
            tell(Measured { dimension: Dimension::Chattiness, rule: "FO", services: &[node.service], severity });
        }
    }

    /// Depth, services and calls of the requests of a flow.
    fn chain(&self, flow: &Flow, root: &Node, tell: &mut impl FnMut(Measured<'_>)) {
        let often = || flow.nodes.iter().filter(|node| node.reach >= SELDOM);
        let depth = often().map(|node| node.depth).max().unwrap_or(0);
        let services = flow.reach().iter().filter(|(_, reach)| *reach >= SELDOM).count();
        let calls = flow.awaited_calls();
        let levels = &self.thresholds.chain;
        let mut severity = over(f64::from(depth), levels.depth);
        // Width alone is no chain.
        if depth >= 2 {
            severity = severity.max(over(services as f64, levels.services)).max(over(calls, levels.calls));
        }
        tell(Measured { dimension: Dimension::Temporal, rule: "SC", services: &[root.service], severity });
    }

    fn failure(
        &self,
        flow: &Flow,
        root: &Node,
        radii: &BTreeMap<ServiceIx, Radius>,
        tell: &mut impl FnMut(Measured<'_>),
    ) {
        let dimension = Dimension::Failure;
        if root.explained >= self.thresholds.min_failures {
            let lost = root.explained as f64 / flow.requests.max(1) as f64;
            let budget = self.thresholds.availability.budget;
            let severity = between(lost, 0.0, budget, budget * 10.0);
            tell(Measured { dimension, rule: "CA", services: &[root.service], severity });
        }
        for (service, _) in flow.reach().into_iter().filter(|(_, reach)| *reach >= SELDOM) {
            let severity = radii.get(&service).map_or(0.0, |radius| share(radius.proven, self.thresholds.blast));
            tell(Measured { dimension, rule: "BR", services: &[service], severity });
        }
    }

    /// TC between a node and the one above it.
    fn temporal(&self, above: &Node, node: &Node) -> f64 {
        let used = node.used(above);
        let blocked = if above.nanos == 0 { 0.0 } else { (node.blocked_on as f64 / above.nanos as f64).min(1.0) };
        match propagation::share(&node.joint, self.thresholds.min_failures) {
            Some(known) => share(used * (1.0 - (1.0 - blocked) * (1.0 - known)), self.thresholds.temporal),
            None => share(used * blocked, self.thresholds.temporal).min(UNKNOWN),
        }
    }

    fn per_user(&self, node: &Node) -> f64 {
        if node.users < self.thresholds.min_samples { 0.0 } else { node.calls as f64 / node.users as f64 }
    }

    /// Tells of circles that requests close, and of hubs.
    pub(super) fn structure(&self, flows: &dyn EachFlow, tell: &mut impl FnMut(Measured<'_>)) {
        let mut circles: BTreeMap<Vec<ServiceIx>, u64> = BTreeMap::new();
        let mut edges: HashMap<(ServiceIx, ServiceIx), u64> = HashMap::new();
        flows.each(&mut |flow| {
            for node in &flow.nodes {
                let Some(above) = flow.parent(node) else { continue };
                *edges.entry((above.service, node.service)).or_default() += node.calls;
                if let Some(circle) = circle(flow, node) {
                    *circles.entry(circle).or_default() += node.calls;
                }
            }
        });
        let dimension = Dimension::Structure;
        let often = |calls: &u64| *calls >= self.thresholds.min_samples;
        for (services, _) in circles.iter().filter(|(_, calls)| often(calls)) {
            tell(Measured { dimension, rule: "CY", services, severity: 0.5 });
        }
        let mut degrees: BTreeMap<ServiceIx, (u64, u64)> = BTreeMap::new();
        for ((source, destination), _) in edges.iter().filter(|(_, calls)| often(calls)) {
            degrees.entry(*source).or_default().1 += 1;
            degrees.entry(*destination).or_default().0 += 1;
        }
        let floor = &self.thresholds.hub;
        for (service, (callers, callees)) in degrees.into_iter().filter(|(at, _)| !is_front(&self.roles, *at)) {
            // As far as its weaker side.
            let far = (callers as f64 / floor.callers as f64).min(callees as f64 / floor.callees as f64);
            let severity = between(far, 0.5, 1.0, 2.0);
            tell(Measured { dimension, rule: "HB", services: &[service], severity });
        }
    }
}

/// The services of the circle that a node closes, if it closes one.
fn circle(flow: &Flow, node: &Node) -> Option<Vec<ServiceIx>> {
    // A circle over more services than these is not looked for.
    let above = || std::iter::successors(flow.parent(node), |at| flow.parent(at)).take(128);
    let length = above().position(|at| at.service == node.service)?;
    let mut services: Vec<ServiceIx> = above().take(length + 1).map(|at| at.service).collect();
    services.sort_unstable();
    services.dedup();
    Some(services)
}

/// 0 up to `fine`, ½ at `warn`, 1 from `critical` on, linear between.
fn between(value: f64, fine: f64, warn: f64, critical: f64) -> f64 {
    let part = |low: f64, high: f64| if high > low { ((value - low) / (high - low)).clamp(0.0, 1.0) } else { 1.0 };
    match value {
        value if value <= fine => 0.0,
        value if value < warn => 0.5 * part(fine, warn),
        _ => 0.5 + 0.5 * part(warn, critical),
    }
}

/// What is below the level of information is fine.
fn over(value: f64, levels: Levels) -> f64 {
    between(value, f64::from(levels.info) - 1.0, levels.warn.into(), levels.critical.into())
}

/// Half of what warns is fine.
fn up_to(value: f64, levels: WarnLevels) -> f64 {
    between(value, f64::from(levels.warn) / 2.0, levels.warn.into(), levels.critical.into())
}

/// Half of what warns is fine.
fn share(value: f64, levels: ShareLevels) -> f64 {
    between(value, levels.warn / 2.0, levels.warn, levels.critical)
}

fn sorted<const N: usize>(mut services: [ServiceIx; N]) -> [ServiceIx; N] {
    services.sort_unstable();
    services
}
