//! What happened since the proxy began, for `/metrics`: by endpoint and by destination, with a bounded number of each.

use std::collections::BTreeMap;

use couplet_telemetry::histogram::Histogram;
use couplet_telemetry::names::OTHER;
use couplet_telemetry::outcome::{Links, Outcomes};
use couplet_telemetry::report::PathKind;
use couplet_telemetry::window::{Loss, Window};

/// Most series of one family; the rest is counted under [`OTHER`].
const MAX_SERIES: usize = 2_000;

/// Totals since the beginning.
#[derive(Default)]
pub(crate) struct Totals {
    /// Handlings by endpoint.
    pub(crate) endpoints: BTreeMap<String, Total>,
    /// Calls by destination.
    pub(crate) peers: BTreeMap<String, Total>,
    pub(crate) links: Links,
    pub(crate) losses: BTreeMap<Loss, u64>,
    /// Handlings that were counted under [`OTHER`].
    pub(crate) endpoint_overflow: u64,
    /// Calls that were counted under [`OTHER`].
    pub(crate) peer_overflow: u64,
}

/// One series.
#[derive(Default)]
pub(crate) struct Total {
    pub(crate) outcomes: Outcomes,
    pub(crate) duration: Histogram,
}

impl Totals {
    /// Adds one worker's window.
    pub(crate) fn add(&mut self, window: &Window) {
        for report in window.paths().filter(|report| report.path.kind != PathKind::Unlinked) {
            let total =
                series(&mut self.endpoints, &mut self.endpoint_overflow, &report.path.endpoint, &report.stats.outcomes);
            total.outcomes.merge(&report.stats.outcomes);
            total.duration.merge(&report.stats.duration);
        }
        for report in window.calls() {
            let total =
                series(&mut self.peers, &mut self.peer_overflow, report.callee.service(), &report.stats.outcomes);
            total.outcomes.merge(&report.stats.outcomes);
            total.duration.merge(&report.stats.duration);
            self.links.merge(&report.stats.links);
        }
        for (loss, count) in window.losses() {
            *self.losses.entry(loss).or_default() += count;
        }
    }
}

fn series<'a>(
    family: &'a mut BTreeMap<String, Total>,
    overflow: &mut u64,
    name: &str,
    outcomes: &Outcomes,
) -> &'a mut Total {
    if outcomes.total() == 0 || family.contains_key(name) || family.len() < MAX_SERIES {
        return family.entry(name.to_owned()).or_default();
    }
    *overflow += outcomes.total();
    family.entry(OTHER.to_owned()).or_default()
}
