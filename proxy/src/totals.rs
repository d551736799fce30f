//! Totals since the proxy began, for `/metrics`: windows go to the analyzer and are gone, a scrape wants sums.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use couplet_telemetry::histogram::Histogram;
use couplet_telemetry::names::OTHER;
use couplet_telemetry::opaque::OpaqueStats;
use couplet_telemetry::outcome::{Links, Outcomes};
use couplet_telemetry::report::PathKind;
use couplet_telemetry::window::{Loss, Window};

/// Most names of one family that are counted; the rest is counted under [`OTHER`].
const MAX_SERIES: usize = 2_000;

/// Most names of one family whose durations are kept apart: each is eighteen lines of a page that is read every few
/// seconds.
const MAX_DURATIONS: usize = 200;

/// Totals since the beginning.
#[derive(Default)]
pub(crate) struct Totals {
    /// Handlings by endpoint.
    pub(crate) endpoints: Family,
    /// Calls by destination.
    pub(crate) peers: Family,
    /// Attempts on the wire by destination, those of the proxy's own included.
    pub(crate) attempts: BTreeMap<String, u64>,
    pub(crate) links: Links,
    /// Opaque connections by peer.
    pub(crate) opaque: BTreeMap<String, OpaqueStats>,
    pub(crate) losses: BTreeMap<Loss, u64>,
}

/// What is counted by one label. Which names are kept apart is settled when they come, so that no series ever falls.
#[derive(Default)]
pub(crate) struct Family {
    pub(crate) outcomes: BTreeMap<String, Outcomes>,
    pub(crate) durations: BTreeMap<String, Histogram>,
    /// Records that were counted under [`OTHER`].
    pub(crate) overflow: u64,
}

impl Totals {
    /// Adds one worker's window. Where not all of it finds room, what was asked for most does.
    pub(crate) fn add(&mut self, window: &Window) {
        let mut paths: Vec<_> = window.paths().filter(|report| report.path.kind != PathKind::Unlinked).collect();
        paths.sort_unstable_by_key(|report| Reverse(report.stats.outcomes.total()));
        for report in paths {
            self.endpoints.add(&report.path.endpoint, &report.stats.outcomes, &report.stats.duration);
        }
        let mut calls: Vec<_> = window.calls().collect();
        calls.sort_unstable_by_key(|report| Reverse(report.stats.outcomes.total()));
        for report in calls {
            self.peers.add(report.callee.service(), &report.stats.outcomes, &report.stats.duration);
            if report.stats.attempts > 0 {
                *slot(&mut self.attempts, report.callee.service(), MAX_SERIES).0 += report.stats.attempts;
            }
            self.links.merge(&report.stats.links);
        }
        for (_, peer, stats) in window.opaques() {
            slot(&mut self.opaque, peer, MAX_SERIES).0.merge(stats);
        }
        for (loss, count) in window.losses() {
            *self.losses.entry(loss).or_default() += count;
        }
    }
}

impl Family {
    fn add(&mut self, name: &str, outcomes: &Outcomes, duration: &Histogram) {
        // A path that only called so far.
        if outcomes.total() == 0 {
            return;
        }
        let (known, kept) = slot(&mut self.outcomes, name, MAX_SERIES);
        known.merge(outcomes);
        self.overflow += if kept { 0 } else { outcomes.total() };
        slot(&mut self.durations, name, MAX_DURATIONS).0.merge(duration);
    }
}

/// Where `name` is counted, and whether that is under its own name.
fn slot<'a, T: Default>(series: &'a mut BTreeMap<String, T>, name: &str, limit: usize) -> (&'a mut T, bool) {
    let kept = series.contains_key(name) || series.len() < limit;
    (series.entry(if kept { name } else { OTHER }.to_owned()).or_default(), kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use couplet_telemetry::outcome::Outcome;

    #[test]
    fn names_beyond_the_limits_are_counted_exactly_under_one() {
        let mut family = Family::default();
        let (mut outcomes, mut duration) = (Outcomes::default(), Histogram::default());
        outcomes.add(Outcome::Ok, 2);
        duration.record(1_000);
        for n in 0..MAX_SERIES + 50 {
            family.add(&format!("GET /{n}"), &outcomes, &duration);
            family.add("GET /0", &outcomes, &duration);
        }
        assert_eq!((family.outcomes.len(), family.durations.len()), (MAX_SERIES + 1, MAX_DURATIONS + 1));
        assert_eq!((family.overflow, family.outcomes[OTHER].total()), (100, 100));
        let all: u64 = family.outcomes.values().map(Outcomes::total).sum();
        assert_eq!(all, 4 * (MAX_SERIES as u64 + 50));
    }
}
