//! What rules judge by: the snapshot, what was measured of it once for all of them, thresholds and architecture.

use couplet_config::{Architecture, FindingThresholds, ServiceRole};
use couplet_telemetry::names::OTHER;
use couplet_telemetry::outcome;

use super::finding::{Step, step};
use crate::coupling::flow::EachFlow;
use crate::coupling::roles::{is_front, roles};
use crate::graph::{Edge, EndpointIx, Entry, ServiceIx, Snapshot};

/// One system to be judged.
#[derive(Debug)]
pub(super) struct Case<'a> {
    pub(super) snapshot: &'a Snapshot,
    /// With the budgets of the architecture.
    pub(super) thresholds: FindingThresholds,
    pub(super) architecture: &'a Architecture,
    pub(super) flows: &'a dyn EachFlow,
    roles: Vec<ServiceRole>,
}

impl<'a> Case<'a> {
    pub(super) fn new(
        snapshot: &'a Snapshot,
        flows: &'a dyn EachFlow,
        thresholds: &FindingThresholds,
        architecture: &'a Architecture,
    ) -> Self {
        Self {
            snapshot,
            thresholds: within_budgets(thresholds, architecture),
            architecture,
            flows,
            roles: roles(snapshot, architecture),
        }
    }

    /// Entries with enough requests to say something.
    pub(super) fn entries(&self) -> usize {
        let enough = |entry: &&Entry| entry.stats.outcomes.total() >= self.thresholds.min_samples;
        self.snapshot.entries().iter().filter(enough).count()
    }

    /// Whether being a hub, and waiting, is what the service is for.
    pub(super) fn is_front(&self, service: ServiceIx) -> bool {
        is_front(&self.roles, service)
    }

    /// Whether the service keeps data.
    pub(super) fn is_store(&self, service: ServiceIx) -> bool {
        self.roles.get(service.position()) == Some(&ServiceRole::Store)
    }

    /// Whether this is one service, and not the name for all beyond a limit.
    pub(super) fn is_one(&self, service: ServiceIx) -> bool {
        &*self.snapshot[service].name != OTHER
    }

    /// The name of a service.
    pub(super) fn name(&self, service: ServiceIx) -> String {
        self.snapshot[service].name.to_string()
    }

    /// The edge as a way of two steps: the pair of endpoints with most calls.
    pub(super) fn way(&self, edge: &Edge) -> Vec<Step> {
        let heaviest = edge.pairs.iter().rev().map(|pair| &self.snapshot[*pair]);
        let heaviest = heaviest.max_by_key(|pair| pair.client.total().max(pair.server.total()));
        heaviest.map_or_else(Vec::new, |pair| vec![self.step(pair.source), self.step(pair.destination)])
    }

    fn step(&self, endpoint: EndpointIx) -> Step {
        step(self.snapshot, endpoint)
    }
}

/// What is beyond a budget is a warning at least.
fn within_budgets(thresholds: &FindingThresholds, architecture: &Architecture) -> FindingThresholds {
    let mut all = thresholds.clone();
    let budgets = &architecture.budgets;
    for (budget, levels) in [(budgets.depth, &mut all.chain.depth), (budgets.calls, &mut all.chain.calls)] {
        if let Some(beyond) = budget.map(|budget| budget.saturating_add(1)) {
            levels.info = levels.info.min(beyond);
            levels.warn = beyond;
            levels.critical = levels.critical.max(beyond);
        }
    }
    if let Some(beyond) = budgets.fan_out.map(|budget| budget.saturating_add(1)) {
        all.fan_out.callees.warn = beyond;
        all.fan_out.callees.critical = all.fan_out.callees.critical.max(beyond);
    }
    if let Some(availability) = budgets.availability {
        all.availability.budget = (1.0 - availability).clamp(0.0, 1.0);
    }
    all
}

/// The weakest evidence among links; that of a system without links is as good as the caller's word.
pub(super) fn weakest(links: &outcome::Links) -> outcome::Evidence {
    let seen = |evidence: &outcome::Evidence| links.get(*evidence) > 0;
    outcome::Evidence::ALL.into_iter().rev().find(seen).unwrap_or(outcome::Evidence::Exact)
}
