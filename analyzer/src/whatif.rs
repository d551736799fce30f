//! What a cut would gain: one edge or service of the recorded flows changed, and the measures computed again.
//!
//! The rest of the system is taken to behave as recorded. Everything is computed from the flows of the entries: depth,
//! services and calls as they are reached, time as the share that is waited for, availability by tracing failures to
//! where they began. So *before* is computed in the same way as *after*, and not taken from other measures.

mod apply;
mod best;
mod parse;
mod spread;

use couplet_config::{Architecture, FindingThresholds};
use serde::{Deserialize, Serialize};

use crate::coupling::availability::availability;
use crate::coupling::blast;
use crate::coupling::flow::{Flow, Flows};
use crate::coupling::interval::Interval;
use crate::graph::{ServiceIx, Snapshot};
use crate::score::Scorer;
use spread::{Moments, Spread};

pub use best::{BestCut, best_cuts};
pub use parse::{CutError, parse};

/// One change of a system.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cut {
    /// Nobody waits for the calls any more.
    Async(ServiceIx, ServiceIx),
    /// So large a share of the calls is answered without the callee.
    Cache(ServiceIx, ServiceIx, f64),
    /// Calls that a handling repeats become one.
    Batch(ServiceIx, ServiceIx),
    /// The calls that the service makes overlap.
    Parallel(ServiceIx),
    /// Two services become one: calls between them vanish.
    Merge(ServiceIx, ServiceIx),
    /// Failures of the callee become fallbacks.
    Breaker(ServiceIx, ServiceIx),
}

impl Cut {
    /// As it is written: `async orders->billing`.
    #[must_use]
    pub fn write(&self, snapshot: &Snapshot) -> String {
        let name = |service: ServiceIx| &*snapshot[service].name;
        match *self {
            Cut::Async(a, b) => format!("async {}->{}", name(a), name(b)),
            Cut::Cache(a, b, share) => format!("cache {}->{}={share}", name(a), name(b)),
            Cut::Batch(a, b) => format!("batch {}->{}", name(a), name(b)),
            Cut::Parallel(a) => format!("parallel {}", name(a)),
            Cut::Merge(a, b) => format!("merge {},{}", name(a), name(b)),
            Cut::Breaker(a, b) => format!("breaker {}->{}", name(a), name(b)),
        }
    }
}

/// What cuts would make of a system.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WhatIf {
    /// The cuts, as they are written.
    pub cuts: Vec<String>,
    /// Under which assumption the figures hold.
    pub assumption: String,
    /// The score.
    pub score: Change<Option<f64>>,
    /// The largest blast radius that the structure allows, 0 to 1.
    pub blast: Change<f64>,
    /// The entries that are concerned, by the time that they gain.
    pub entries: Vec<EntryChange>,
}

/// A measure before and after.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Change<T> {
    /// As recorded.
    pub before: T,
    /// As it would be.
    pub after: T,
}

/// What cuts would make of the requests of one entry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EntryChange {
    /// Service and endpoint.
    pub entry: String,
    /// Requests that the figures rest on.
    pub requests: u64,
    /// Hops that 1 of 20 requests needs.
    pub depth: Change<u32>,
    /// Other services that 1 of 20 requests needs.
    pub services: Change<u32>,
    /// Calls that are waited for, per request.
    pub calls: Change<f64>,
    /// Median, seconds.
    pub p50: Change<f64>,
    /// 95th percentile, seconds.
    pub p95: Change<f64>,
    /// 99th percentile, seconds.
    pub p99: Change<f64>,
    /// Share of the time that would be saved: at least (where what is cut is fast when the request is slow), at most.
    pub saved: [f64; 2],
    /// Share of the requests that succeed.
    pub availability: Change<f64>,
    /// What the own failures of all services below allow: the worst and the best case.
    pub predicted: Change<[f64; 2]>,
}

const ASSUMPTION: &str = "everything else behaves as recorded";

/// What `cuts`, made one after the other, would make of a system.
#[must_use]
pub fn what_if(
    snapshot: &Snapshot,
    thresholds: &FindingThresholds,
    architecture: &Architecture,
    cuts: &[Cut],
) -> WhatIf {
    let scorer = Scorer::new(snapshot, thresholds, architecture);
    let (before, spread) = (Flows::of(snapshot), Spread::of(snapshot));
    let after = cuts.iter().fold(before.clone(), |flows, cut| apply::apply(&flows, *cut, &spread));
    let radius = |flows: &Flows| {
        let radii = blast::radii(snapshot, flows, thresholds.min_failures);
        radii.values().map(|radius| radius.structural).fold(0.0, f64::max)
    };
    let mut entries: Vec<EntryChange> =
        before.iter().zip(&after).filter_map(|(before, after)| compare(snapshot, &spread, before, after)).collect();
    entries.sort_by(|a, b| {
        let gain = |entry: &EntryChange| (entry.p95.before - entry.p95.after) * entry.requests as f64;
        gain(b).total_cmp(&gain(a)).then_with(|| a.entry.cmp(&b.entry))
    });
    let points = |value: Option<f64>| value.map(|value| (value * 10.0).round() / 10.0);
    WhatIf {
        cuts: cuts.iter().map(|cut| cut.write(snapshot)).collect(),
        assumption: ASSUMPTION.to_owned(),
        score: Change { before: points(scorer.value(&before)), after: points(scorer.value(&after)) },
        blast: Change { before: rounded(radius(&before)), after: rounded(radius(&after)) },
        entries,
    }
}

/// What changed for an entry; none where nothing did.
fn compare(snapshot: &Snapshot, spread: &Spread, before: &Flow, after: &Flow) -> Option<EntryChange> {
    if before.nodes == after.nodes {
        return None;
    }
    let entry = &snapshot[before.entry];
    let recorded = spread::moments(&entry.stats.duration);
    let wall = |flow: &Flow| flow.root().map_or(0.0, |root| root.nanos as f64);
    let saved = if wall(before) > 0.0 { (1.0 - wall(after) / wall(before)).clamp(0.0, 1.0) } else { 0.0 };
    let stretched = stretched(recorded, spread, before, after).unwrap_or(1.0 - saved);
    let time = |q: f64| {
        let before = entry.stats.duration.quantile(q);
        // Moved with the mean, and as far from it as times then vary. No cut makes anybody wait longer.
        let after = recorded.mean * (1.0 - saved) + (before - recorded.mean) * stretched;
        let after = after.clamp(0.0, before);
        Change { before: rounded_time(before / 1e9), after: rounded_time(after / 1e9) }
    };
    let (old, new) = (availability(before)?, availability(after)?);
    let pair = |interval: Interval| [rounded(interval.low), rounded(interval.high)];
    Some(EntryChange {
        entry: snapshot.label(entry.endpoint),
        requests: before.requests,
        depth: Change { before: depth(before), after: depth(after) },
        services: Change { before: services(before), after: services(after) },
        calls: Change { before: rounded(before.awaited_calls()), after: rounded(after.awaited_calls()) },
        p50: time(0.5),
        p95: time(0.95),
        p99: time(0.99),
        saved: [0.0, rounded(saved)],
        availability: Change { before: rounded(old.measured), after: rounded(new.measured) },
        predicted: Change { before: pair(old.predicted), after: pair(new.predicted) },
    })
}

/// By how much the deviation of the requests of an entry is another one; none where nothing varies, or nobody can tell.
fn stretched(recorded: Moments, spread: &Spread, before: &Flow, after: &Flow) -> Option<f64> {
    if before.nodes.len() != after.nodes.len() || recorded.variance <= 0.0 {
        return None;
    }
    let variance = recorded.variance + spread.change(before, after)?;
    Some((variance / recorded.variance).clamp(LEAST_VARIANCE, 1.0 / LEAST_VARIANCE).sqrt())
}

/// What is left of a variance at least: estimates of what makes it may be larger than all of it.
const LEAST_VARIANCE: f64 = 0.04;

/// A node that fewer of the requests reach has no say in their 95th percentile.
const SELDOM: f64 = 0.05;

fn depth(flow: &Flow) -> u32 {
    flow.nodes.iter().filter(|node| node.reach >= SELDOM).map(|node| node.depth).max().unwrap_or(0)
}

fn services(flow: &Flow) -> u32 {
    u32::try_from(flow.reach().iter().filter(|(_, reach)| *reach >= SELDOM).count()).unwrap_or(u32::MAX)
}

fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

/// To a microsecond.
fn rounded_time(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

#[cfg(test)]
mod tests;
